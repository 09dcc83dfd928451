//! How many streams see a session, over all nodes: with nodes that come and go, and an engine that is away, empty or
//! another one.

use std::time::{Duration, Instant};

use hookcast::limits::{PRESENCE_LIFE_MS, PRESENCE_SETTLE_MS};
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, NAME, Node};
use crate::engine::{Engine, Persistence, free_port};
use crate::proxy::{Half, Proxy, Way};
use crate::resp::Reply;
use crate::support::{Connection, EventStream, PATIENCE};

/// The name of a session, which nothing but requests may have.
const SESSION: &str = "a-session-that-nobody-may-read";

/// The tables of counts of all nodes.
const TABLES: &str = "{rig}:c*";

fn open(cluster: &Cluster, node: usize, name: &str) -> EventStream {
    let query = format!("?sessionId={name}");
    let mut stream = EventStream::open(cluster.node(node).server().address, &query, "");
    stream.connected();
    stream
}

/// The answer of a node; `None` is a 503.
fn ask(node: &Node, name: &str) -> Option<u64> {
    let mut connection = Connection::open(node.server().address);
    let target = format!("/api/webhook/sessions/{name}");
    let answer = connection.get(&target, "Connection: close\r\n");
    if answer.status == 503 {
        assert!(answer.header("retry-after").is_some());
        return None;
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    answer.json()["streams"].as_u64()
}

/// Waits until every node answers so, and returns the time that it took.
pub fn wait_for(cluster: &Cluster, what: &str, name: &str, expected: u64) -> Duration {
    let since = Instant::now();
    for node in cluster.nodes() {
        node.poll(what, |node| {
            (ask(node, name) == Some(expected)).then_some(())
        });
    }
    println!("{what}: {expected} after {:?}", since.elapsed());
    since.elapsed()
}

/// Asks all nodes until each has answered with a count again, after it had none. Every count is the right one.
fn expect_no_wrong_count(cluster: &Cluster, what: &str, has_refused: bool, expected: u64) {
    let since = Instant::now();
    let mut has_refused = vec![has_refused; cluster.len()];
    let mut is_back = vec![false; cluster.len()];
    let mut counts = 0;
    while is_back.contains(&false) {
        for (nth, node) in cluster.nodes().enumerate() {
            match ask(node, SESSION) {
                Some(counted) => {
                    assert_eq!(
                        counted,
                        expected,
                        "{what}: node {nth}, {:?}",
                        since.elapsed()
                    );
                    is_back[nth] |= has_refused[nth];
                    counts += 1;
                }
                None => has_refused[nth] = true,
            }
        }
        assert!(since.elapsed() < PATIENCE, "{what}: {is_back:?}");
    }
    println!(
        "{what}: back after {:?}, {counts} counts on the way",
        since.elapsed()
    );
}

/// The lines about presence in the log of a node, after the first `from`.
fn lines(node: &Node, from: usize) -> Vec<String> {
    let log = node.log();
    let messages = log.iter().skip(from).map(|line| &line["message"]);
    let messages = messages.filter_map(Value::as_str).map(str::to_owned);
    messages
        .filter(|message| message.contains("counts of streams"))
        .collect()
}

fn start(engine: &Engine, count: usize) -> Cluster {
    let cluster = Cluster::start(engine, count);
    wait_for(&cluster, "the beginning", SESSION, 0);
    cluster
}

#[test]
fn the_streams_of_all_nodes_are_counted_and_no_name_leaves_them() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = start(&engine, 3);
    let mut streams: Vec<EventStream> =
        (0..7).map(|nth| open(&cluster, nth % 3, SESSION)).collect();
    let _others = [open(&cluster, 0, "other"), open(&cluster, 1, "other")];
    // A node counts its own streams at once.
    assert!(ask(cluster.node(0), SESSION) >= Some(3));
    wait_for(&cluster, "streams on all nodes", SESSION, 7);
    wait_for(&cluster, "another session", "other", 2);
    streams.truncate(2);
    wait_for(&cluster, "streams have ended", SESSION, 2);

    let Reply::List(keys) = engine.command(&format!("KEYS {TABLES}")) else {
        panic!("no keys");
    };
    assert_eq!(keys.len(), 4, "a list and a table of each node: {keys:?}");
    for key in keys {
        let table = format!(
            "{key:?} {:?}",
            engine.command(&format!("HGETALL {}", key.text()))
        );
        assert!(!table.contains("session"), "{table}");
    }
    for node in cluster.nodes() {
        let metrics = String::from_utf8(node.get("/metrics").body).unwrap();
        let page = String::from_utf8(node.get("/").body).unwrap();
        let log = format!("{:?}", node.log());
        for text in [&metrics, &page, &log] {
            assert!(!text.contains(SESSION));
        }
        let route = "route=\"/api/webhook/sessions\",status=\"200\"";
        assert!(metrics.contains(route), "{metrics}");
    }

    // A node that ends takes its table with it. A new one has no streams.
    let _third = open(&cluster, 2, SESSION);
    wait_for(&cluster, "one more", SESSION, 3);
    cluster.end(2);
    assert_eq!(engine.command("HLEN {rig}:c"), Reply::Number(4));
    for node in 0..2 {
        assert_eq!(ask(cluster.node(node), SESSION), Some(2));
    }
    cluster.restart(2);
    cluster.node(2).wait_until_ready();
    wait_for(&cluster, "a node is back", SESSION, 2);
}

#[test]
fn the_streams_of_a_killed_node_are_soon_gone() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = start(&engine, 2);
    let _streams = [0, 0, 1, 1, 1].map(|node| open(&cluster, node, SESSION));
    wait_for(&cluster, "both nodes", SESSION, 5);
    cluster.kill(1);
    let since = Instant::now();
    let node = cluster.node(0);
    node.poll("the end of a dead node", |node| match ask(node, SESSION) {
        Some(2) => Some(()),
        other => {
            assert_eq!(other, Some(5));
            None
        }
    });
    println!("gone after {:?}, of {PRESENCE_LIFE_MS} ms", since.elapsed());
    cluster.restart(1);
    cluster.node(1).wait_until_ready();
    let _more = open(&cluster, 1, SESSION);
    wait_for(&cluster, "the node is back", SESSION, 3);
}

/// Streams stay open, the log has a line for each change of state, and no count is wrong.
#[test]
fn without_the_engine_questions_are_refused_and_then_all_is_counted_again() {
    for persistence in [Persistence::None, Persistence::Everysec] {
        let mut engine = Engine::start(persistence);
        let cluster = start(&engine, 2);
        let mut streams = [0, 0, 1].map(|node| open(&cluster, node, SESSION));
        wait_for(&cluster, "before", SESSION, 3);
        let from = cluster.node(0).log().len();
        engine.kill();
        for node in cluster.nodes() {
            node.poll("a refusal", |node| {
                ask(node, SESSION).is_none().then_some(())
            });
            // From then on they come at once, also after the next attempts.
            node.poll("errors", |node| {
                assert_eq!(ask(node, SESSION), None);
                let errors = "hookcast_bus_errors_total{half=\"presence\",kind=\"unreachable\"}";
                (node.metric(errors) >= Some(2.0)).then_some(())
            });
        }
        for stream in &mut streams {
            assert!(
                stream
                    .next_event()
                    .is_some_and(|event| event.is_heartbeat())
            );
        }
        // A change meanwhile is part of the table.
        let _fourth = open(&cluster, 1, SESSION);
        engine.restart();
        let what = format!("a restart, {persistence:?}");
        expect_no_wrong_count(&cluster, &what, true, 4);
        let expected = [
            "the counts of streams cannot be shared on the bus; questions for them are refused until they can",
            "the counts of streams are shared on the bus again",
        ];
        assert_eq!(lines(cluster.node(0), from), expected);
    }
}

#[test]
fn an_engine_that_is_emptied_gives_no_wrong_count() {
    let engine = Engine::start(Persistence::None);
    let cluster = start(&engine, 3);
    let _streams = [0, 1, 1, 2].map(|node| open(&cluster, node, SESSION));
    wait_for(&cluster, "before", SESSION, 4);
    for _ in 0..3 {
        engine.command("FLUSHALL");
        expect_no_wrong_count(&cluster, "FLUSHALL", false, 4);
    }
    engine.command("DEL {rig}:c");
    expect_no_wrong_count(&cluster, "the list is deleted", false, 4);
    assert_eq!(lines(cluster.node(0), 0), [""; 0]);
}

#[test]
fn an_engine_that_hangs_is_waited_for_no_longer_than_a_question_may_take() {
    let engine = Engine::start(Persistence::None);
    let cluster = start(&engine, 2);
    let _streams = [0, 1].map(|node| open(&cluster, node, SESSION));
    wait_for(&cluster, "before", SESSION, 2);
    engine.freeze();
    for _ in 0..2 {
        for node in cluster.nodes() {
            assert_eq!(ask(node, SESSION), None);
        }
    }
    // Longer than the life of the tables, which are all gone then.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(PRESENCE_LIFE_MS) {
        assert_eq!(ask(cluster.node(0), SESSION), None);
    }
    engine.thaw();
    expect_no_wrong_count(&cluster, "a hang", true, 2);
}

/// The replica lacks the last changes: the nodes write their tables anew.
#[test]
fn a_fail_over_with_a_lost_tail_is_made_good() {
    let mut primary = Engine::start(Persistence::None);
    let between = Proxy::to(primary.address);
    let replica = Engine::replica_of(between.address);
    let mut cluster = start(&primary, 2);
    let mut streams = vec![open(&cluster, 0, SESSION), open(&cluster, 1, SESSION)];
    wait_for(&cluster, "before", SESSION, 2);
    primary.wait_for_replicas(1);
    between.close();
    streams.extend([0, 0, 1].map(|node| open(&cluster, node, SESSION)));
    wait_for(&cluster, "the tail", SESSION, 5);
    streams.remove(1);
    wait_for(&cluster, "the tail", SESSION, 4);
    primary.kill();
    replica.command("REPLICAOF NO ONE");
    cluster.lead_to(replica.address);
    expect_no_wrong_count(&cluster, "a fail-over", false, 4);
}

#[test]
fn nodes_follow_the_sentinels_with_their_counts() {
    let mut primary = Engine::start(Persistence::None);
    let replica = Engine::replica_of(primary.address);
    let sentinels = Engine::sentinels_of(primary.address);
    let hosts = sentinels
        .iter()
        .map(|sentinel| sentinel.address.to_string());
    let mut hosts: Vec<String> = hosts.collect();
    hosts.insert(0, format!("127.0.0.1:{}", free_port()));
    let url = format!("redis+sentinel://{}/rig/{NAME}", hosts.join(","));
    let mut cluster = Cluster::empty(primary.address);
    for nth in 0..2 {
        let unused = Proxy::to(primary.address);
        cluster.launch_on(unused, &["--bus", &url], |setup| setup);
        cluster.node(nth).wait_until_ready();
    }
    let _streams = [0, 1, 1].map(|node| open(&cluster, node, SESSION));
    wait_for(&cluster, "before", SESSION, 3);
    primary.kill();
    replica.wait_for_info("replication", "role:master");
    expect_no_wrong_count(&cluster, "a fail-over by sentinels", false, 3);
}

/// Its connections break, its answers are late. The other node counts the streams of the last table.
#[test]
fn a_node_whose_connections_break_is_counted_again() {
    let engine = Engine::start(Persistence::None);
    let cluster = start(&engine, 2);
    let mut streams = vec![open(&cluster, 0, SESSION), open(&cluster, 1, SESSION)];
    wait_for(&cluster, "before", SESSION, 2);
    for round in 0..5 {
        let proxy = &cluster.node(1).proxy;
        match round % 2 {
            0 => proxy.cut(Half::Both),
            _ => proxy.stall(Way::Down, Half::Both),
        }
        streams.push(open(&cluster, 1, SESSION));
        if round % 2 == 1 {
            cluster.node(1).poll("a refusal", |node| {
                ask(node, SESSION).is_none().then_some(())
            });
            proxy.flow();
        }
        wait_for(&cluster, "after a break", SESSION, streams.len() as u64);
    }
}

/// The old process ends its streams, and counts them until then. The new one counts its own.
#[test]
fn a_handover_leaves_the_counts_to_the_new_process() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = start(&engine, 2);
    let old = [0, 0, 1].map(|node| open(&cluster, node, SESSION));
    wait_for(&cluster, "before", SESSION, 3);
    cluster.hand_over(0);
    let _new = open(&cluster, 0, SESSION);
    wait_for(&cluster, "a handover", SESSION, 2);
    drop(old);
}

/// Two nodes may run on one machine, from one configuration: each process has a number of its own.
#[test]
fn two_nodes_with_the_same_settings_are_two() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::empty(engine.address);
    let proxy = Proxy::to(engine.address);
    let url = format!("redis://{}/{NAME}", proxy.address);
    cluster.launch_on(proxy, &["--bus", &url], |setup| setup);
    let unused = Proxy::to(engine.address);
    cluster.launch_on(unused, &["--bus", &url], |setup| setup);
    for node in cluster.nodes() {
        node.wait_until_ready();
    }
    let _streams = [0, 1, 1].map(|node| open(&cluster, node, SESSION));
    wait_for(&cluster, "two processes", SESSION, 3);
}

/// The first write, and the one after a loss, go in parts.
#[test]
fn ten_thousand_sessions_of_a_node_are_written_in_parts() {
    const SESSIONS: usize = 10_000;
    let mut engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 1);
    let flags = ["--max-connections", "12000"];
    cluster.join(&flags);
    wait_for(&cluster, "the beginning", SESSION, 0);
    let address = cluster.node(1).server().address;
    let _streams: Vec<Connection> = (0..SESSIONS)
        .map(|nth| {
            let mut connection = Connection::open(address);
            let target = format!("/api/webhook/stream?sessionId=s{nth}");
            connection.send_request("GET", &target, "", b"");
            assert_eq!(connection.read_head().status, 200);
            connection
        })
        .collect();
    let wait = |what: &str| {
        for nth in [0, 5_000, SESSIONS - 1] {
            wait_for(&cluster, what, &format!("s{nth}"), 1);
        }
    };
    wait("changes");
    engine.kill();
    engine.restart();
    wait("a whole table");
    let Reply::List(keys) = engine.command(&format!("KEYS {TABLES}")) else {
        panic!("no keys");
    };
    let sizes = keys.iter().map(|key| {
        let size = engine.command(&format!("HLEN {}", key.text()));
        let bytes = engine.command(&format!("MEMORY USAGE {} SAMPLES 0", key.text()));
        println!("{}: {size:?} fields, {bytes:?} bytes", key.text());
        size
    });
    let sizes: Vec<Reply> = sizes.collect();
    let expected = Reply::Number(SESSIONS.cast_signed() as i64 + 1);
    assert!(sizes.contains(&expected), "{sizes:?}");
}

/// A node that stops for longer than its table lives is not counted meanwhile, and no longer than that.
#[test]
fn a_node_that_hangs_loses_its_table_and_writes_it_again() {
    let engine = Engine::start(Persistence::None);
    let cluster = start(&engine, 2);
    let _streams = [0, 1].map(|node| open(&cluster, node, SESSION));
    wait_for(&cluster, "before", SESSION, 2);
    cluster.node(1).server().signal(Signal::STOP);
    let node = cluster.node(0);
    node.poll("the loss", |node| {
        (ask(node, SESSION) == Some(1)).then_some(())
    });
    cluster.node(1).server().signal(Signal::CONT);
    let took = wait_for(&cluster, "the node goes on", SESSION, 2);
    println!("{took:?}; the list is as old as before, so {PRESENCE_SETTLE_MS} ms do not count");
}
