//! Invalid answers and values.

use serde_json::json;

use crate::kv::{World, namespace_id, own_rights, wait_for};
use crate::support::PATIENCE;

const UUID: &str = "10000000-0000-4000-8000-000000000000";

#[test]
fn every_kind_of_failure_is_survived_and_logged_once() {
    let world = World::new(&["node"]);
    let node = world.node("node");
    let mut stream = node.stream("", "");
    stream.connected();
    world.wait_for_reads(&["node"], 1);
    for fault in [
        json!({ "status": 502 }),
        json!({ "status": 500, "text": "" }),
        json!({ "status": 503, "text": "{\"errors\":" }),
        json!({ "status": 520, "code": 1 }),
    ] {
        let mut fault = fault;
        fault["times"] = json!(1);
        world.set(&json!({ "fault": fault }));
        wait_for(PATIENCE, "the fault's answer", || {
            world.state()["fault"].is_null().then_some(())
        });
        world.wait_for_reads(&["node"], 1);
    }
    node.publish("still here");
    assert_eq!(stream.contents(1), ["still here"]);
    world.wait_for_contents(&["still here".into()]);
}

#[test]
fn a_value_that_is_not_a_list_is_not_overwritten() {
    let world = World::new(&["node"]);
    world.put("<!DOCTYPE html>");
    let node = world.node("node");
    node.wait_for_log("the KV value is not a list of messages");
    node.publish("waits");
    world.wait_for_reads(&["node"], 4);
    assert_eq!(world.value().unwrap(), "<!DOCTYPE html>");
    assert!(world.writes().is_empty());
    world.delete();
    world.wait_for_contents(&["waits".into()]);
    node.wait_for_log("every entry of the KV value is a message again");
}

#[test]
fn invalid_entries_are_kept_and_valid_ones_shown() {
    let world = World::new(&["node"]);
    let odd = r#"{"id": "no uuid", "content":"odd", "timestamp":1}"#;
    let good = json!({ "id": UUID, "content": "good", "timestamp": 5, "author": "x" });
    world.put(&format!("[{odd}, 7, {good}]"));
    let node = world.node("node");
    let line = node.wait_for_log("2 entries of the KV value are no messages");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("its id is not a UUID"),
        "{line}"
    );
    let mut stream = node.stream("", "");
    stream.connected();
    assert_eq!(stream.contents(1), ["good"]);
    node.publish("ours");
    let value = wait_for(PATIENCE, "our message in KV", || {
        world.value().filter(|text| text.contains("ours"))
    });
    assert!(value.contains(odd), "{value}");
    let list: Vec<serde_json::Value> = serde_json::from_str(&value).unwrap();
    assert_eq!(list.len(), 4);
    assert_eq!(
        list.iter().find(|entry| entry["id"] == UUID).unwrap()["author"],
        "x"
    );
}

#[test]
fn a_read_only_token_still_receives_messages_of_other_nodes() {
    let world = World::new(&["node"]);
    world.set(&json!({ "tokens": {
        "node": { "read": true, "write": false },
        "own-token": own_rights(),
    } }));
    let node = world.node("node");
    let mut stream = node.stream("", "");
    stream.connected();
    node.publish("stays here");
    let line = node.wait_for_log("writing to KV fails");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("the token CLOUDFLARE_API_TOKEN is not accepted"),
        "{line}"
    );
    assert_eq!(line["level"], "ERROR", "{line}");
    world.put(&json!([{ "id": UUID, "content": "comes in", "timestamp": 5 }]).to_string());
    assert_eq!(stream.contents(2), ["stays here", "comes in"]);
}

#[test]
fn a_namespace_is_found_once_it_exists() {
    let mut world = World::new(&["node"]);
    let name = std::mem::replace(&mut world.namespace, namespace_id("made-later"));
    let node = world.node("node");
    let line = node.wait_for_log("reading from KV fails");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("no namespace with the id WEBHOOK_KV"),
        "{line}"
    );
    node.publish("served all the same");
    world.namespace = name;
}

#[test]
fn neither_log_nor_metrics_show_the_token() {
    let token = "very-secret-token-0123456789";
    let world = World::new(&[token]);
    let node = world
        .setup(token, &["--admin", "127.0.0.1:0", "--log-level", "trace"])
        .start();
    let admin = node.wait_for_log("metrics and health")["address"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    node.publish("x");
    world.wait_for_contents(&["x".into()]);
    world
        .set(&json!({ "fault": { "status": 403, "text": format!("Bearer {token}"), "times": 1 } }));
    node.wait_for_log("reading from KV fails");

    let mut connection = crate::support::Connection::open(admin);
    connection.send_request("GET", "/metrics", "", b"");
    let metrics = String::from_utf8(connection.read_response().body).unwrap();
    for line in [
        "hookcast_kv_calls_total{call=\"write\"} 1",
        "hookcast_kv_errors_total{call=\"read\",kind=\"credentials\"}",
        "hookcast_kv_lag_messages 0",
        "hookcast_kv_calls_left ",
        "hookcast_kv_last_success_age_seconds ",
        "hookcast_kv_clock_ahead_seconds ",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let log = format!("{:?}", node.log());
    assert!(!metrics.contains(token) && !log.contains(token), "{log}");
}

#[test]
fn a_wrong_clock_is_logged() {
    let world = World::new(&["node"]);
    world.set(&json!({ "clock_ahead_ms": 3_600_000 }));
    let node = world.node("node");
    let line = node.wait_for_log("this node's clock is");
    assert!(
        line["message"].as_str().unwrap().contains("behind KV's"),
        "{line}"
    );
}

/// Outages answer 403, too. A wait of a minute after each would be longer than the patience of this test.
#[test]
fn a_temporary_refusal_is_retried_within_seconds() {
    let world = World::new(&["node"]);
    let node = world.node("node");
    let mut stream = node.stream("", "");
    stream.connected();
    world.wait_for_reads(&["node"], 1);
    world.set(&json!({ "fault": { "status": 403, "code": 10000, "times": 2 } }));
    wait_for(PATIENCE, "both refusals", || {
        world.state()["fault"].is_null().then_some(())
    });
    world.put(&json!([{ "id": UUID, "content": "comes in", "timestamp": 5 }]).to_string());
    assert_eq!(stream.contents(1), ["comes in"]);
}

/// JavaScript can cut a text between the halves of a surrogate pair; `JSON.stringify` writes a lone half as an
/// escape.
#[test]
fn half_a_surrogate_pair_is_shown_as_a_replacement_character() {
    let world = World::new(&["node"]);
    world.put(&format!(
        r#"[{{"id":"{UUID}","content":"cut \ud83d","timestamp":5,"by":"\udc00"}}]"#
    ));
    let node = world.node("node");
    let mut stream = node.stream("", "");
    stream.connected();
    assert_eq!(stream.contents(1), ["cut \u{fffd}"]);
    node.publish("ours");
    let value = wait_for(PATIENCE, "our message in KV", || {
        world.value().filter(|text| text.contains("ours"))
    });
    assert!(value.contains("cut \u{fffd}"), "{value}");
    assert!(value.contains(r#""by":"\udc00""#), "{value}");
}
