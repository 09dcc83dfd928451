//! A cluster, small, by the real program with real nodes and faults. `tests/run` sets `REQUIRE_TOOLS`; elsewhere
//! a test is skipped if a program is missing.

use std::process::Command;

use serde_json::Value;

mod hookcast;

/// Runs a cluster; `None` if a program is missing.
fn cluster(arguments: &[&str]) -> Option<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
        .args(["cluster", "--json", "--server"])
        .arg(hookcast::program()?)
        .args(arguments)
        .output()
        .expect("the program of this package starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{errors}", output.status);
    assert!(!errors.contains("eyJ"), "a token is shown: {errors}");
    let json: Value = serde_json::from_str(&text).unwrap();
    for (name, count) in json["faults"].as_object().unwrap() {
        assert_eq!(count, 0, "{name} in {json:#}");
    }
    Some(json)
}

/// Whether the engine of clusters is installed. `tests/run` sets `REQUIRE_TOOLS`, and then it must be.
fn has_redis() -> bool {
    let version = Command::new("redis-server").arg("--version").output();
    if version.is_ok() {
        return true;
    }
    let missing = "redis-server is not installed: apt-get install redis-server";
    assert!(std::env::var_os("REQUIRE_TOOLS").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    false
}

fn count(json: &Value, name: &str) -> u64 {
    json[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {json:#}"))
}

#[test]
fn a_node_that_is_killed_ended_and_replaced_loses_nothing() {
    let faults = "every 500ms: kill-node, end-node, hand-over";
    let load = [
        "--nodes",
        "1",
        "--no-bus",
        "--streams",
        "40",
        "--rate",
        "100",
        "--duration",
        "4s",
        "--faults",
        faults,
    ];
    let Some(json) = cluster(&load) else { return };
    let injected = json["faults_injected"].as_array().unwrap();
    assert!(injected.len() >= 2, "{json:#}");
    assert!(count(&json, "acknowledged") > 100, "{json:#}");
    assert!(count(&json, "resumes") >= 40, "{json:#}");
    assert_eq!(count(&json, "epochs"), 1);
}

/// The engine and the nodes die, a replica with a lost tail takes over, answers vanish: each stream gets each
/// acknowledged message once, in one order.
#[test]
fn a_cluster_loses_nothing_to_faults_of_each_part() {
    if !has_redis() {
        return;
    }
    let faults = "every 1s: kill-node, kill-engine, cut-answers, promote-with-loss, hand-over";
    let load = [
        "--nodes",
        "3",
        "--streams",
        "60",
        "--rate",
        "100",
        "--duration",
        "7s",
        "--wander",
        "1s",
        "--faults",
        faults,
    ];
    let Some(json) = cluster(&load) else { return };
    let injected = json["faults_injected"].as_array().unwrap();
    assert!(injected.len() >= 2, "{json:#}");
    assert!(count(&json, "acknowledged") > 100, "{json:#}");
    assert!(count(&json, "resumes") >= 60, "{json:#}");
}

/// Streams see unions of sessions and end by their tokens, while nodes die, hand over and lose answers.
#[test]
fn streams_with_sessions_and_tokens_lose_nothing_to_faults() {
    if !has_redis() {
        return;
    }
    let load = "--nodes 3 --streams 60 --rate 100 --duration 7s --wander 3s \
                --sessions 7 --sessions-per-stream 3 --token-life 2s --faults";
    let faults = "every 1s: kill-node, hand-over, cut-answers, promote, end-node";
    let arguments: Vec<&str> = load.split_whitespace().chain([faults]).collect();
    let Some(json) = cluster(&arguments) else {
        return;
    };
    let injected = json["faults_injected"].as_array().unwrap();
    assert!(injected.len() >= 2, "{json:#}");
    assert!(count(&json, "acknowledged") > 100, "{json:#}");
    assert!(count(&json["ends"], "by_token") >= 60, "{json:#}");
    assert!(count(&json, "resumes") >= 60, "{json:#}");
    // A stream of three of seven sessions sees a quarter, and three sevenths of the rest.
    let percent = 100 * count(&json, "deliveries") / (60 * count(&json, "acknowledged"));
    assert!((40..75).contains(&percent), "{percent} %: {json:#}");
    // A token begins with the header's first bytes, in base64.
    assert!(!json.to_string().contains("eyJ"), "{json:#}");
}

#[test]
fn impossible_clusters_are_refused_with_the_reason() {
    let refused = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
            .arg("cluster")
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let nodes = refused(&["--no-bus", "--nodes", "2"]);
    assert!(nodes.contains("no common order"), "{nodes}");
    let engine = refused(&[
        "--no-bus",
        "--nodes",
        "1",
        "--faults",
        "every 1s: flush-all",
    ]);
    assert!(engine.contains("needs an engine"), "{engine}");
    let fault = refused(&["--faults", "every 1s: nonsense"]);
    assert!(fault.contains("there are stop-engine"), "{fault}");
}
