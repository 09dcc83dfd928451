//! One order on all nodes, and resumption on any of them.

use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, NAME};
use crate::engine::{Engine, Persistence};
use crate::judge::{expect_equal, judge};
use crate::load::{Load, Sender};
use crate::proxy::{Half, Proxy, Way};
use crate::support::loopback::wait_until_read;
use crate::support::{Connection, EventStream};
use crate::watcher::{Route, Watcher, hop_all, see_all, stop_all};

#[test]
fn webhooks_of_any_node_reach_the_streams_of_all_in_one_order() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 3);
    let watchers = cluster.watch_all();
    for node in 0..3 {
        let posted = cluster.post(node, &format!("from {node}"));
        for watcher in &watchers {
            let shown = watcher.wait_for_content(&posted.content);
            assert_eq!(shown.message_id, posted.message_id());
        }
    }
    let load = Load::start(&cluster.roster, 2, Duration::from_millis(1));
    load.wait_for_stored(600);
    let posted = load.stop();
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold_exactly("one order");
    assert_eq!(
        (
            verdict.visits,
            verdict.epochs,
            verdict.refused + verdict.unknown
        ),
        (3, 1, 0)
    );
    expect_equal(&records);
    let histories = cluster.histories();
    expect_equal(&histories);
    assert_eq!(histories[0].messages().count(), 100);
    // The answer has the time that streams show.
    let shown = records[0].messages().next().unwrap();
    let posted = cluster.post(0, "one more");
    let later = cluster.watch(Route::Only(1)).wait_for_content("one more");
    assert!(later.timestamp >= shown.timestamp);
    assert_eq!(
        format!("{:?}", posted.outcome),
        format!(
            "Stored {{ message_id: {:?}, timestamp: {} }}",
            later.message_id, later.timestamp
        )
    );
}

#[test]
fn a_message_reaches_its_session_on_every_node_and_no_other() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    let open = |node, query: &str| {
        Watcher::start(&cluster.roster, Route::Only(node), query, None).connected()
    };
    let (mine, other) = (open(1, "?sessionId=mine"), open(1, "?sessionId=other"));
    let mut sender = Sender::default();
    for (content, session) in [("for mine", Some("mine")), ("for all", None)] {
        let posted = sender.post(&cluster.roster, 0, content, session);
        assert!(posted.is_stored(), "{posted:?}");
    }
    let shown = mine.wait_for_content("for mine");
    assert_eq!(shown.session.as_deref(), Some("mine"));
    let last = mine.wait_for_content("for all");
    other.wait_for_content("for all");
    assert_eq!(other.stop().contents(), ["for all"]);
    // A session resumes on the other node.
    let posted = sender.post(&cluster.roster, 1, "later", Some("mine"));
    assert!(posted.is_stored());
    let resumed = Watcher::start(
        &cluster.roster,
        Route::Only(0),
        "?sessionId=mine",
        Some(last.id),
    );
    resumed.wait_for_content("later");
    assert_eq!(resumed.stop().contents(), ["later"]);
    mine.wait_for_content("later");
    assert_eq!(mine.stop().contents(), ["for mine", "for all", "later"]);
}

#[test]
fn a_long_poll_and_the_history_are_those_of_the_bus() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    cluster.publish(0, "first");
    let address = cluster.node(1).server().address;
    cluster.watch(Route::Only(1)).wait_for_content("first");
    let page = Connection::open(address)
        .get("/api/webhook/messages", "")
        .json();
    let last = page["lastEventId"].as_str().unwrap();
    let mut poll = Connection::open(address);
    poll.send_request(
        "GET",
        &format!("/api/webhook/messages?since={last}&wait=25"),
        "",
        b"",
    );
    cluster.publish(0, "second");
    let answer = poll.read_response().json();
    let contents = |page: &Value| -> Vec<String> {
        let messages = page["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| message["content"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(contents(&answer), ["second"]);
    // The page of one node continues on the other.
    let of_first = cluster.node(0).server().address;
    let target = format!("/api/webhook/messages?since={last}");
    let page = Connection::open(of_first).get(&target, "").json();
    assert_eq!(
        (contents(&page), page["reset"].as_bool()),
        (vec!["second".into()], Some(false))
    );
}

#[test]
fn a_stream_that_moves_between_nodes_loses_and_repeats_nothing() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 3);
    let watchers: Vec<Watcher> = (0..6).map(|nth| cluster.watch(Route::Any(nth))).collect();
    let load = Load::start(&cluster.roster, 1, Duration::from_millis(1));
    for _ in 0..10 {
        load.wait_for_stored(20);
        hop_all(&watchers);
    }
    let posted = load.stop();
    see_all(&watchers, &posted);
    let records = stop_all(watchers);
    let verdict = judge(&posted, &records).hold_exactly("moving streams");
    assert!(verdict.visits >= 66, "{verdict}");
    assert_eq!(verdict.refused + verdict.unknown, 0);
}

/// A node whose connection to the engine stalls lags behind.
#[test]
fn an_id_ahead_of_a_lagging_node_waits_for_it_and_resumes_exactly() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    let ahead = cluster.watch(Route::Only(0));
    let lagging = cluster.watch(Route::Only(1));
    cluster.publish(0, "seen by both");
    lagging.wait_for_content("seen by both");
    cluster.node(1).proxy.stall(Way::Down, Half::Both);
    cluster.publish(0, "ahead");
    let id = ahead.wait_for_content("ahead").id;
    let server = cluster.node(1).server();
    let mut request = server.connect();
    let last = format!("Last-Event-ID: {id}\r\n");
    request.send_request("GET", "/api/webhook/stream", &last, b"");
    wait_until_read(server.address.port());
    cluster.node(1).proxy.flow();
    cluster.publish(0, "after");
    let mut resumed = EventStream::read(request);
    // The node may have the last message already when the stream begins.
    assert!(resumed.connected() <= 1);
    assert_eq!(resumed.contents(1), ["after"]);
    lagging.wait_for_content("after");
    assert_eq!(
        lagging.stop().contents(),
        ["seen by both", "ahead", "after"]
    );
}

#[test]
fn an_id_ahead_of_a_node_that_stays_behind_gets_the_history() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 2);
    let ahead = cluster.watch(Route::Only(0));
    let lagging = cluster.watch(Route::Only(1));
    cluster.publish(0, "seen by both");
    lagging.wait_for_content("seen by both");
    cluster.node(1).proxy.stall(Way::Down, Half::Both);
    cluster.publish(0, "ahead");
    let id = ahead.wait_for_content("ahead").id;
    // Far beyond the head, and never reached.
    let unreachable = crate::watcher::Id {
        seq: id.seq + 1_000,
        ..id
    };
    let (resumed, never) = (cluster.resume(1, id), cluster.resume(1, unreachable));
    for watcher in [&resumed, &never] {
        watcher.wait_for("the replay", |record| record.visits.first()?.replay);
        watcher.wait_for_content("seen by both");
        assert!(!watcher.record().current().continues);
    }
    cluster.node(1).proxy.flow();
    resumed.wait_for_content("ahead");
    assert_eq!(resumed.stop().contents(), ["seen by both", "ahead"]);
}

#[test]
fn buses_with_two_names_on_one_engine_do_not_mix() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 1);
    let url = format!("redis://{}/other", engine.address);
    let other = cluster.launch_on(Proxy::to(engine.address), &["--bus", &url], |setup| setup);
    cluster.node(other).wait_until_ready();
    let watchers = cluster.watch_all();
    cluster.publish(0, NAME);
    cluster.publish(other, "other");
    for (watcher, content) in watchers.into_iter().zip([NAME, "other"]) {
        watcher.wait_for_content(content);
        assert_eq!(watcher.stop().contents(), [content]);
    }
}
