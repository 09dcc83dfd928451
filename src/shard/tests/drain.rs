//! Drains: which connections end, how, and when.

use super::*;
use crate::limits::DRAIN_IDLE_MS;

#[test]
fn a_drain_cuts_off_shared_streams_and_ends_others_in_order() {
    let mut node = fanned_out();
    let (shared, private) = (Peer::with_room(10_000), Peer::with_room(10_000));
    node.ask(&shared, STREAM);
    let head = "GET /api/webhook/stream?sessionId=a HTTP/1.1\r\nHost: a\r\n\r\n";
    node.ask(&private, head.as_bytes());
    shared.take();
    assert!(private.take().contains("no-store"));
    node.shard.start_drain(node.now);
    node.pass(4000);
    node.turn(&[]);
    assert_eq!(shared.take(), "");
    assert!(shared.is_closed());
    assert!(private.take().ends_with("0\r\n\r\n"));
}

/// A thread that did not run for a while continues after the deadline of the drain.
#[test]
fn a_drain_that_ends_streams_late_leaves_them_the_time_for_their_last_bytes() {
    let mut node = Node::new();
    let (quick, slow) = (Peer::with_room(10_000), Peer::with_room(10_000));
    let (_, slow_token) = (node.ask(&quick, STREAM), node.ask(&slow, STREAM));
    slow.take();
    quick.take();
    slow.0.borrow_mut().room = 0;
    node.shard.start_drain(node.now);
    node.pass(60_000);
    node.turn(&[]);
    assert!(quick.take().ends_with("0\r\n\r\n"));
    assert!(!slow.is_closed(), "its end was due just now");
    slow.make_room(10_000);
    node.turn(&[(slow_token, WRITABLE)]);
    assert!(slow.take().ends_with("0\r\n\r\n"));
    // The deadline moves only once, so a stream that takes nothing is cut off now.
    node.pass(1000);
    node.turn(&[]);
    assert!(slow.is_closed());
}

/// A proxy sends a request on a kept or a new connection before it can know of the drain.
#[test]
fn a_request_that_crosses_the_beginning_of_a_drain_is_answered() {
    let mut node = Node::new();
    let (kept, fresh, unused) = (
        Peer::with_room(10_000),
        Peer::with_room(10_000),
        Peer::with_room(10_000),
    );
    let status = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
    let kept_token = node.ask(&kept, status);
    node.ask(&unused, status);
    let fresh_token = node.open(&fresh);
    kept.take();
    node.shard.start_drain(node.now);
    node.turn(&[]);
    node.pass(DRAIN_IDLE_MS - 1);
    node.turn(&[]);
    let webhook =
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\":\"a\"}";
    for (peer, token) in [(&kept, kept_token), (&fresh, fresh_token)] {
        assert!(!peer.is_closed());
        peer.send(webhook.as_bytes());
        node.turn(&[(token, READABLE)]);
        let answer = peer.take();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    }
    assert!(!unused.is_closed());
    assert_eq!(node.shard.idle_ms(node.now), Some(1));
    node.pass(1);
    node.turn(&[]);
    assert!(unused.is_closed());
}
