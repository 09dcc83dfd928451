//! The exposition of metrics and the alert rules, checked by Prometheus's own tool.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hookcast::metrics::{Counter, Endpoint, Gauge, Metrics, Tally, Timing, encode};

/// Runs `promtool` with these arguments and this input; returns its output and whether it found no fault.
///
/// `tests/run` installs the tool and sets `REQUIRE_TOOLS`, so that the tests fail without it. Elsewhere the
/// result is `None`.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let promtool = Command::new("promtool")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) if std::env::var_os("REQUIRE_TOOLS").is_none() => {
            eprintln!("not checked: promtool (Debian package prometheus) cannot be run: {error}");
            return None;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    Some((output.status.success(), text))
}

#[test]
fn promtool_accepts_the_metrics() {
    let metrics = Metrics::new(Arc::new(AtomicU64::new(0)));
    let mut tally = Tally::new();
    tally.count(Counter::Accepts, 3);
    tally.shift(Gauge::Streams, 2);
    tally.count_request(Endpoint::Webhook, 200);
    tally.count_request(Endpoint::None, 999);
    tally.observe(Timing::Publish, Duration::from_millis(3));
    tally.flush(&metrics);
    let text = encode(&metrics.gather());
    if let Some((is_valid, output)) = promtool(&["check", "metrics"], &text) {
        assert!(is_valid && output.is_empty(), "{output}");
    }
}

#[test]
fn the_alert_rules_are_valid_and_fire_as_tested() {
    for arguments in [
        ["check", "rules", "src/packaging/alerts.yml"],
        ["test", "rules", "tests/prometheus/alerts_test.yml"],
    ] {
        if let Some((is_valid, output)) = promtool(&arguments, "") {
            assert!(is_valid && output.contains("SUCCESS"), "{output}");
        }
    }
}
