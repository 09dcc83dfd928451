//! The rate of requests to KV.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::kv::{World, short_or_full, wait_for};
use crate::support::PATIENCE;

/// A thousand messages a second: at most one write for each interval, and no refusal.
#[test]
fn writes_keep_their_interval_at_any_rate() {
    let world = World::new(&["node"]);
    let (interval_s, seconds) = short_or_full((2, 10), (5, 60));
    let pace = [
        "--kv-poll",
        short_or_full("2s", "5s"),
        "--kv-write-interval",
        short_or_full("2s", "5s"),
    ];
    let node = world.setup_at("node", &pace).start();
    let mut connection = node.connect();
    let begin = Instant::now();
    let mut posted = 0_u32;
    while begin.elapsed() < Duration::from_secs(seconds) {
        // Ten pipelined messages, then a wait until the next ten are due.
        for n in 0..10 {
            let body = json!({ "message": format!("message {}", posted + n) }).to_string();
            connection.send_request("POST", "/api/webhook", "", body.as_bytes());
        }
        for _ in 0..10 {
            assert_eq!(connection.read_response().status, 200);
        }
        posted += 10;
        let due = begin + Duration::from_millis(u64::from(posted));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let writes = world.writes();
    let calls = world.calls();
    println!(
        "{posted} messages in {:?}: {} writes, {} reads",
        begin.elapsed(),
        writes.len(),
        calls.len() - writes.len()
    );
    let most = usize::try_from(seconds / interval_s + 1).unwrap();
    assert!(
        writes.len() <= most,
        "{} writes in {seconds} s",
        writes.len()
    );
    assert!(writes.len() >= 2, "fewer than two writes show no interval");
    assert!(
        calls
            .iter()
            .all(|call| call.status.is_none_or(|status| status != 429)),
        "{calls:?}"
    );
    let last = format!("message {}", posted - 1);
    wait_for(PATIENCE, "the last message in KV", || {
        world.contents().contains(&last).then_some(())
    });
    assert_eq!(world.history().len(), 100);
}

#[test]
fn an_isolated_message_is_written_at_once_and_once() {
    let world = World::new(&["node"]);
    // Polls are so rare that only the message can cause the write.
    let node = world.setup_at("node", &["--kv-poll", "1h"]).start();
    wait_for(PATIENCE, "the first read", || {
        (!world.calls().is_empty()).then_some(())
    });
    node.publish("alone");
    world.wait_for_contents(&["alone".into()]);
    assert_eq!(world.writes().len(), 1);
}

#[test]
fn retry_after_is_respected() {
    let world = World::new(&["node"]);
    let node = world.node("node");
    world.wait_for_reads(&["node"], 1);
    world.set(&json!({ "fault": { "status": 429, "code": 971, "retry_after": 4, "times": 1 } }));
    let refused_ms = wait_for(PATIENCE, "the refusal", || {
        let calls = world.calls();
        calls
            .iter()
            .find(|call| call.status == Some(429))
            .map(|call| call.at_ms)
    });
    node.publish("meanwhile");
    world.wait_for_contents(&["meanwhile".into()]);
    let calls = world.calls();
    let next = calls.iter().find(|call| call.at_ms > refused_ms).unwrap();
    assert!(next.at_ms >= refused_ms + 4_000, "{calls:?}");
}

#[test]
fn the_daily_limit_stops_writes_and_reads_continue() {
    let world = World::new(&["node", "other"]);
    let node = world.node("node");
    let mut stream = node.stream("", "");
    stream.connected();
    world.wait_for_reads(&["node"], 1);
    world.set(&json!({ "daily_writes": 0 }));
    node.publish("too late today");
    let line = node.wait_for_log("writing to KV fails");
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("after 00:00 UTC"),
        "{line}"
    );
    assert_eq!(stream.contents(1), ["too late today"]);

    // A write of another node still arrives, and no second write is tried.
    world.set(&json!({ "daily_writes": null }));
    world.put(r#"[{"id":"10000000-0000-4000-8000-000000000000","content":"from elsewhere","timestamp":1}]"#);
    assert_eq!(stream.contents(1), ["from elsewhere"]);
    world.wait_for_reads(&["node"], 5);
    assert_eq!(world.writes().len(), 1);
}
