//! The mirror of real servers on a minimal KV: the order of messages.
//!
//! Tests that need KV's own behaviour are in `tests/kv`, which needs Node. The memory of a node is in
//! `tests/capacity/kv_values.rs`.

use hookcast::limits::HISTORY_MESSAGES;
use serde_json::Value;

use crate::support::Server;
use crate::support::kv::Kv;

/// Sends pipelined webhooks on several connections. Each connection sends all of its share before the next begins.
fn publish_all(node: &Server, contents: &[String], connections: usize) {
    let mut connections: Vec<_> = (0..connections).map(|_| node.connect()).collect();
    let posts = contents.iter().map(|content| {
        let body = format!(r#"{{"message":"{content}"}}"#);
        let length = body.len();
        format!("POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
    });
    let posts: Vec<String> = posts.collect();
    let share = posts.len().div_ceil(connections.len());
    for (connection, posts) in connections.iter_mut().zip(posts.chunks(share)) {
        connection.send(posts.concat().as_bytes());
    }
    for (connection, posts) in connections.iter_mut().zip(posts.chunks(share)) {
        for _ in posts {
            assert_eq!(connection.read_response().status, 200);
        }
    }
}

#[test]
fn a_burst_keeps_its_order_in_kv_and_on_other_nodes_and_after_a_restart() {
    let kv = Kv::start();
    let mut node = kv.setup(&["--shards", "2"]).start();
    let other = kv.setup(&["--shards", "1"]).start();
    let contents: Vec<String> = (0..130).map(|n| format!("message {n}")).collect();
    publish_all(&node, &contents, 2);
    // Two shards publish at the same time, so the order is that of a stream.
    let mut order = node.history();
    assert_eq!(order.len(), HISTORY_MESSAGES);
    kv.wait_until("the burst in KV", |state| {
        let mut found = Kv::contents(state);
        found.sort();
        let mut expected = order.clone();
        expected.sort();
        found == expected
    });
    assert_eq!(Kv::contents(&kv.lock()), order);

    // A killed process stored no counter, and the next one starts within milliseconds.
    for round in 0..3 {
        node.kill();
        node = node.restart();
        let more: Vec<String> = (0..10).map(|n| format!("restart {round}.{n}")).collect();
        publish_all(&node, &more, 1);
        order.extend(more);
    }
    let last = order.split_off(order.len() - HISTORY_MESSAGES);
    assert_eq!(node.history(), last);
    kv.wait_until("the restarts' messages in KV", |state| {
        Kv::contents(state).contains(&"restart 2.9".into())
    });
    assert_eq!(Kv::contents(&kv.lock()), last);
    kv.wait_for_reads(4);
    assert_eq!(other.history(), last);

    // Sorting by id gives the same order: the ids are UUIDs by time.
    let entries: Vec<Value> = serde_json::from_slice(&kv.lock().value).unwrap();
    let id = |entry: &Value| uuid::Uuid::parse_str(entry["id"].as_str().unwrap()).unwrap();
    let ids: Vec<uuid::Uuid> = entries.iter().map(id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(ids.iter().all(|id| id.get_version_num() == 7), "{ids:?}");
}
