//! Every scenario, small, by the real program against its own floor: figures are printed and plausible, and a
//! server that loses messages is detected.

use std::process::{Command, Output};

use serde_json::Value;

mod schema;

/// Exit code of `hookcast-load` when a stream had faults.
const EXIT_UNCLEAN: i32 = 3;

fn load(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
        .args(arguments.split(' '))
        .output()
        .expect("the program of this package starts")
}

/// Runs a scenario against the floor for a few hundred milliseconds.
fn on_floor(scenario: &str) -> (Value, i32) {
    let common = "--target floor --warmup 100ms --json --heartbeat 100ms";
    let output = load(&format!("{scenario} {common}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!(
            "{scenario}: {error}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    schema::assert_holds(&json);
    (json, output.status.code().unwrap_or(-1))
}

fn number(json: &Value, path: &str) -> f64 {
    json.pointer(path)
        .and_then(Value::as_f64)
        .unwrap_or_else(|| panic!("{path} in {json:#}"))
}

fn assert_no_faults(json: &Value) {
    for fault in ["/missing", "/duplicate", "/out_of_order", "/misdelivered"] {
        assert!(
            number(json, fault).abs() < f64::EPSILON,
            "{fault} in {json:#}"
        );
    }
}

#[test]
fn fanout_delivers_every_message_to_every_stream() {
    let (json, code) = on_floor("fanout --streams 60 --rate 50 --duration 400ms");
    assert_eq!(code, 0);
    assert_no_faults(&json);
    let messages = number(&json, "/messages");
    assert!(
        (messages - 25.0).abs() < f64::EPSILON,
        "0.5 s at 50/s: {messages}"
    );
    assert!((number(&json, "/deliveries") - 60.0 * messages).abs() < f64::EPSILON);
    assert!((number(&json, "/acked") - messages).abs() < f64::EPSILON);
    let p50 = number(&json, "/delivery/p50_us");
    assert!(p50 > 0.0 && p50 <= number(&json, "/delivery/max_us"));
    assert!(number(&json, "/ack/count") > 0.0);
    assert!(number(&json, "/cost/cpu_us_per_delivery") > 0.0);
    assert!(number(&json, "/cost/memory_open") > 100_000.0);
    assert!(
        json["series"]
            .as_array()
            .is_some_and(|series| series.len() >= 3)
    );
}

#[test]
fn saturate_posts_as_fast_as_it_is_answered() {
    let (json, code) = on_floor("saturate --streams 20 --duration 300ms");
    assert_eq!(code, 0);
    assert_no_faults(&json);
    assert!(json["rate"].is_null());
    assert!(number(&json, "/deliveries") >= 20.0 * number(&json, "/acked"));
    assert!(number(&json, "/deliveries_per_second") > 1_000.0);
}

#[test]
fn ingest_needs_no_streams() {
    let (json, code) = on_floor("ingest --connections 8 --duration 300ms");
    assert_eq!(code, 0);
    assert!(number(&json, "/acks_per_second") > 100.0);
    assert!(json["delivery"].is_null());
}

#[test]
fn idle_counts_heartbeats() {
    let (json, code) = on_floor("idle --streams 40 --duration 500ms");
    assert_eq!(code, 0);
    // 40 streams with a heartbeat every 100 ms each.
    assert!(number(&json, "/heartbeats_per_second") > 100.0, "{json:#}");
    assert!(number(&json, "/messages").abs() < f64::EPSILON);
}

#[test]
fn stalled_is_compared_with_a_run_without_stalled_readers() {
    let (json, code) = on_floor("stalled --streams 50 --rate 40 --duration 300ms");
    assert_eq!(code, 0);
    let outcomes = json.as_array().expect("two outcomes");
    assert_eq!(outcomes[0]["scenario"], "healthy");
    assert_eq!(outcomes[1]["stalled"], 5);
    assert_no_faults(&outcomes[1]);
    assert!(number(&outcomes[1], "/figures/p99, ratio to healthy") > 0.0);
    assert!(number(&outcomes[1], "/deliveries") < number(&outcomes[0], "/deliveries"));
}

#[test]
fn a_ladder_has_a_step_for_each_rate() {
    let (json, code) = on_floor("ladder --rates 20,80 --streams 10 --duration 300ms");
    assert_eq!(code, 0);
    let steps = json.as_array().expect("one outcome for each rate");
    let rates: Vec<f64> = steps.iter().map(|step| number(step, "/rate")).collect();
    assert_eq!(rates, [20.0, 80.0]);
}

/// The floor has no sessions, sends each message to all streams, and resumes nothing. Without these faults in
/// its report, the tool would check nothing.
#[test]
fn a_server_that_loses_messages_is_detected() {
    let churn = "churn --streams 20 --rate 200 --churn-rate 400 --duration 600ms";
    let (json, code) = on_floor(churn);
    assert!(number(&json, "/churned") > 10.0, "{json:#}");
    assert!(number(&json, "/missing") > 0.0, "{json:#}");
    assert_eq!(code, EXIT_UNCLEAN);
}

#[test]
fn a_server_that_sends_targeted_messages_to_all_is_detected() {
    let (json, code) = on_floor("targeted --streams 10 --rate 100 --duration 300ms");
    let messages = number(&json, "/messages");
    assert!(
        (number(&json, "/misdelivered") - 9.0 * messages).abs() < f64::EPSILON,
        "{json:#}"
    );
    assert_eq!(code, EXIT_UNCLEAN);
}

/// The floor sends each message to all streams. A stream of two sessions may have one in ten of them.
#[test]
fn a_stream_of_several_sessions_expects_the_messages_of_each_and_no_others() {
    let (json, code) =
        on_floor("targeted --streams 10 --sessions-per-stream 2 --rate 100 --duration 300ms");
    assert!((number(&json, "/sessions") - 20.0).abs() < f64::EPSILON);
    let messages = number(&json, "/messages");
    assert!(
        (number(&json, "/misdelivered") - 9.0 * messages).abs() < f64::EPSILON,
        "{json:#}"
    );
    assert!(number(&json, "/missing").abs() < f64::EPSILON, "{json:#}");
    assert_eq!(code, EXIT_UNCLEAN);
    for (run, reason) in [
        ("fanout", "has no sessions"),
        ("targeted --sessions 9", "not a multiple"),
        (
            "targeted --yes --url http://127.0.0.1:1 --stream-url http://127.0.0.1:1/{session} \
             --publish-body {\"m\":\"{message}\",\"to\":\"{session}\"}",
            "into the query",
        ),
    ] {
        let output = load(&format!("{run} --sessions-per-stream 2"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_report_is_one_file_with_charts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.html");
    let run = "fanout --target floor --streams 5 --warmup 50ms --duration 200ms --report";
    assert!(load(&format!("{run} {}", path.display())).status.success());
    let html = std::fs::read_to_string(path).unwrap();
    assert_eq!(html.matches("<svg").count(), 5);
    assert!(html.contains("fanout on floor"));
}

#[test]
fn a_comparison_shows_medians_and_ratios() {
    let directory = tempfile::tempdir().unwrap();
    let charts = directory.path().join("charts");
    let run = "compare --quick --servers floor --only fanout,ingest --rounds 2 --streams 20 \
               --warmup 50ms --duration 200ms --charts";
    let output = load(&format!("{run} {}", charts.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("| floor "), "{text}");
    assert!(
        text.contains("| 1.00 |") || text.contains(" 1.00 |"),
        "{text}"
    );
    assert_eq!(
        std::fs::read_to_string(charts.join("comparison.md")).unwrap(),
        text
    );
}
