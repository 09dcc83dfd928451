//! Repeats of a request, on whichever node they come.

use std::thread;

use serde_json::{Value, json};

use crate::cluster::{Cluster, Node};
use crate::engine::{Engine, Persistence};
use crate::judge::expect_equal_seqs;
use crate::watcher::Record;

/// Sends a webhook with a key. Returns the status and the answer.
fn post(node: &Node, key: &str, content: &str) -> (u16, Value) {
    let field = format!("Idempotency-Key: {key}\r\n");
    let body = json!({ "message": content }).to_string();
    let response = (node.server()).request("POST", "/api/webhook", &field, body.as_bytes());
    (response.status, response.json())
}

/// The same, until it is stored: an engine may be away.
fn post_eventually(node: &Node, key: &str, content: &str) -> Value {
    node.poll("a webhook that is stored", |node| {
        let (status, answer) = post(node, key, content);
        (status == 200).then_some(answer)
    })
}

/// Publishes a last message and waits for it on every node. Fails unless all of them then have these messages before
/// it, and no others.
fn expect_history(cluster: &Cluster, expected: &[String]) {
    cluster.publish(0, "the end");
    let is_complete = |record: &Record| {
        let last = record.messages().last();
        last.is_some_and(|message| message.content == "the end")
    };
    let histories: Vec<Record> = (0..cluster.len())
        .map(|nth| {
            cluster.node(nth).poll("the last message", |_| {
                Some(cluster.history(nth)).filter(is_complete)
            })
        })
        .collect();
    expect_equal_seqs(&histories);
    let messages = histories[0].messages();
    let contents: Vec<String> = messages.map(|message| message.content.clone()).collect();
    assert_eq!(contents, [expected, &["the end".to_owned()]].concat());
}

#[test]
fn a_repeat_gets_the_first_answer_on_every_node() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 3);
    let (status, first) = post(cluster.node(0), "order-1", "once");
    assert_eq!(status, 200);
    // The third node may not have read the first message yet: the engine knows it.
    for nth in [2, 1, 0, 2] {
        assert_eq!(
            post(cluster.node(nth), "order-1", "once"),
            (200, first.clone())
        );
    }
    let (status, refused) = post(cluster.node(1), "order-1", "another body");
    assert_eq!(status, 422, "{refused}");
    expect_history(&cluster, &["once".to_owned()]);
}

/// Senders that do not wait for each other, on all nodes.
#[test]
fn of_many_attempts_at_the_same_time_one_is_published() {
    let engine = Engine::start(Persistence::None);
    let cluster = Cluster::start(&engine, 3);
    for round in 0..10 {
        let key = format!("order-{round}");
        let answers: Vec<(u16, Value)> = thread::scope(|scope| {
            let attempts: Vec<_> = (0..9)
                .map(|nth| {
                    let (node, key) = (cluster.node(nth % 3), &key);
                    scope.spawn(move || post(node, key, key))
                })
                .collect();
            let answers = attempts.into_iter().map(|attempt| attempt.join().unwrap());
            answers.collect()
        });
        for answer in &answers {
            assert_eq!((answer.0, &answer.1), (200, &answers[0].1), "{answers:#?}");
        }
    }
    let expected: Vec<String> = (0..10).map(|round| format!("order-{round}")).collect();
    expect_history(&cluster, &expected);
}

/// What the nodes have put back is recognised, too, also by a node that has joined since.
#[test]
fn a_repeat_is_recognised_after_the_engine_has_forgotten_everything() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 2);
    let (_, first) = post(cluster.node(0), "order-1", "once");
    cluster.publish(1, "between");
    _ = engine.command("FLUSHALL");
    let again = post_eventually(cluster.node(1), "order-1", "once");
    assert_eq!(again, first);
    cluster.publish_eventually(0, "after");
    let joined = cluster.join(&[]);
    cluster.node(joined).wait_until_ready();
    assert_eq!(
        post_eventually(cluster.node(joined), "order-1", "once"),
        first
    );
    expect_history(&cluster, &["once", "between", "after 0"].map(str::to_owned));
}

/// The sender had no answer, because its node was killed; it sends again to another one.
#[test]
fn a_sender_whose_node_is_killed_sends_again_to_another_one() {
    let engine = Engine::start(Persistence::None);
    let mut cluster = Cluster::start(&engine, 2);
    for round in 0..5 {
        let key = format!("order-{round}");
        let first = post_eventually(cluster.node(0), &key, &key);
        cluster.kill(0);
        assert_eq!(post_eventually(cluster.node(1), &key, &key), first);
        cluster.restart_behind_balancer(0);
        cluster.node(0).wait_until_ready();
        assert_eq!(post_eventually(cluster.node(0), &key, &key), first);
    }
    let expected: Vec<String> = (0..5).map(|round| format!("order-{round}")).collect();
    expect_history(&cluster, &expected);
}
