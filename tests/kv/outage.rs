//! KV hangs, fails or is down, while the node runs, drains or is killed.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::kv::{Kv, Relay, World, short_or_full, wait_for};
use crate::support::{Connection, PATIENCE};

/// While a call to KV hangs, webhooks are answered and streamed, and memory does not grow.
#[test]
fn a_hanging_kv_affects_neither_webhooks_nor_streams_nor_memory() {
    let world = World::new(&["node"]);
    let node = world.setup("node", &["--kv-timeout", "60s"]).start();
    let mut stream = node.stream("", "");
    stream.connected();
    let mut connection = node.connect();
    let body = json!({ "message": "x".repeat(1_000) }).to_string();
    let round = |connection: &mut Connection, stream: &mut crate::support::EventStream| {
        let mut acknowledged = Vec::new();
        let mut delivered = Vec::new();
        for _ in 0..2_000 {
            let begin = Instant::now();
            connection.send_request("POST", "/api/webhook", "", body.as_bytes());
            assert_eq!(connection.read_response().status, 200);
            acknowledged.push(begin.elapsed());
            stream.next();
            delivered.push(begin.elapsed());
        }
        acknowledged.sort();
        delivered.sort();
        [
            acknowledged[1_000],
            acknowledged[1_980],
            delivered[1_000],
            delivered[1_980],
        ]
    };
    // Enough to fill the live log, so that later growth is not the log's.
    for _ in 0..10 {
        round(&mut connection, &mut stream);
    }
    let healthy = round(&mut connection, &mut stream);

    world.set(&json!({ "fault": { "hang_ms": 30_000 } }));
    wait_for(PATIENCE, "a hanging call", || {
        (world.state()["hanging"] == 1).then_some(())
    });
    let before_kib = node.proc_status("VmRSS");
    let hanging = round(&mut connection, &mut stream);
    for _ in 0..5 {
        round(&mut connection, &mut stream);
    }
    let after_kib = node.proc_status("VmRSS");
    // All of this happened during one call.
    assert_eq!(world.state()["hanging"], 1);
    println!("acknowledged p50, p99; delivered p50, p99: healthy {healthy:?}, hanging {hanging:?}");
    println!("memory before and after 12,000 messages: {before_kib} KiB, {after_kib} KiB");
    assert!(
        after_kib < before_kib + 2_048,
        "{before_kib} KiB before, {after_kib} KiB after"
    );
    world.set(&json!({ "fault": null }));
}

/// KV is down for a while. Afterwards the last hundred messages arrive without intervention.
#[test]
fn after_an_outage_the_last_hundred_arrive() {
    let directory = tempfile::tempdir().unwrap();
    let options = json!({ "persist": directory.path() });
    let kv = Kv::start(&options);
    let relay = Relay::to(&kv);
    let mut world = World::named(&kv, "outage", &["a", "b"]);
    world.endpoint.clone_from(&relay.url);
    let (a, b) = (world.node("a"), world.node("b"));
    let mut on_b = b.stream("", "");
    on_b.connected();
    a.publish("before");
    assert_eq!(on_b.contents(1), ["before"]);

    relay.lead_to(None);
    drop(world);
    kv.kill();
    let begin = Instant::now();
    let outage = Duration::from_secs(short_or_full(3, 60));
    let mut posted = Vec::new();
    while begin.elapsed() < outage || posted.len() < 150 {
        let content = format!("during {}", posted.len());
        a.publish(&content);
        posted.push(content);
        std::thread::sleep(outage / 200);
    }
    a.wait_for_log("reading from KV fails");
    let kv = Kv::start(&options);
    let world = World::named(&kv, "outage", &["a", "b"]);
    relay.lead_to(Some(&kv));
    let back = Instant::now();
    let last: HashSet<String> = posted[posted.len() - 100..].iter().cloned().collect();
    wait_for(Duration::from_secs(150), "the last hundred in KV", || {
        (world.contents().into_iter().collect::<HashSet<_>>() == last).then_some(())
    });
    println!(
        "{} messages in an outage of {outage:?}; KV has the last 100 {:?} after its end",
        posted.len(),
        back.elapsed()
    );
    let mut seen = HashSet::new();
    wait_for(
        Duration::from_secs(150),
        "the last hundred on the other node",
        || {
            // Heartbeats too, so that each wait stays within its bound.
            let event = on_b.next_event().expect("the stream continues");
            if !event.is_heartbeat() {
                seen.insert(event.content());
            }
            last.is_subset(&seen).then_some(())
        },
    );
    println!(
        "the other node's stream has them after {:?}",
        back.elapsed()
    );
    a.wait_for_log("reading from KV works");
    let lines = |start: &str| {
        let log = a.log();
        log.iter()
            .filter(|line| {
                line["message"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with(start)
            })
            .count()
    };
    assert_eq!(
        lines("reading from KV"),
        3,
        "works, fails, works: {:?}",
        a.log()
    );
}

#[test]
fn the_last_sync_of_a_drain_writes_the_newest_messages() {
    let world = World::new(&["node"]);
    let mut node = world
        .setup_at("node", &["--kv-poll", "1h", "--kv-write-interval", "1h"])
        .start();
    node.publish("first");
    world.wait_for_contents(&["first".into()]);
    // The next scheduled write is in an hour.
    node.publish("last words");
    node.signal(Signal::TERM);
    assert_eq!(node.wait().code(), Some(0));
    node.wait_for_log("KV holds this node's history");
    assert_eq!(world.contents(), ["first", "last words"]);
}

#[test]
fn a_hanging_kv_does_not_delay_the_end() {
    let world = World::new(&["node"]);
    world.set(&json!({ "fault": { "hang_ms": 60_000 } }));
    let mut node = world
        .setup("node", &["--kv-timeout", "2m", "--drain", "1s"])
        .start();
    node.publish("unheard");
    wait_for(PATIENCE, "a hanging call", || {
        (world.state()["hanging"] == 1).then_some(())
    });
    node.signal(Signal::TERM);
    // The call would hang longer than this wait.
    assert_eq!(node.wait().code(), Some(0));
    let log = format!("{:?}", node.log());
    assert!(
        log.contains("KV lacks messages") || log.contains("did not end in time"),
        "{log}"
    );

    // The restart sends what the first process could not.
    world.set(&json!({ "fault": null }));
    let _node = node.restart();
    world.wait_for_contents(&["unheard".into()]);
}

#[test]
fn a_killed_node_reads_before_it_writes_and_repeats_nothing() {
    let world = World::new(&["a", "b"]);
    let mut a = world.node("a");
    let b = world.node("b");
    let mut on_b = b.stream("", "");
    on_b.connected();
    a.publish("before");
    assert_eq!(on_b.contents(1), ["before"]);
    a.publish("unwritten");
    a.kill();
    b.publish("meanwhile");
    let has_meanwhile = || world.contents().contains(&"meanwhile".into()).then_some(());
    wait_for(PATIENCE, "the other's message in KV", has_meanwhile);
    let before = world.calls().len();

    let a = a.restart();
    let mut on_a = a.stream("", "");
    let replayed = on_a.connected();
    let mut contents = on_a.contents(usize::try_from(replayed).unwrap());
    let calls = wait_for(PATIENCE, "a call of the restarted node", || {
        let calls: Vec<_> = world.calls().split_off(before);
        calls.iter().any(|call| call.token == "a").then_some(calls)
    });
    assert!(
        !calls
            .iter()
            .find(|call| call.token == "a")
            .unwrap()
            .is_write,
        "{calls:?}"
    );
    if replayed == 2 {
        contents.extend(on_a.contents(1));
    }
    contents.sort();
    assert_eq!(contents, ["before", "meanwhile", "unwritten"]);
    assert_eq!(on_b.contents(2), ["meanwhile", "unwritten"]);
    world.wait_for_contents(&["before".into(), "meanwhile".into(), "unwritten".into()]);
}
