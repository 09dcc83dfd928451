//! How long a connection may take, and what puts that off.

use super::*;
use crate::limits::{LINGER_MS, STALL_MS};

const ASK: &[u8] = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";

/// Bytes of an upload that one turn of a connection does not read whole.
const UPLOAD_BYTES: usize = 2 * READS_PER_TURN * READ_BYTES;

#[test]
fn half_an_empty_line_now_and_then_does_not_keep_a_connection() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    let mut passed_ms = 0;
    for half in [b"\r", b"\n"].iter().cycle() {
        node.pass(REQUEST_DEADLINE_MS / 2 - 1);
        passed_ms += REQUEST_DEADLINE_MS / 2 - 1;
        peer.send(*half);
        node.turn(&[(token, READABLE)]);
        // What is late may be looked for a second later.
        if passed_ms > REQUEST_DEADLINE_MS + DEADLINE_SCAN_INTERVAL_MS {
            break;
        }
    }
    assert!(peer.0.borrow().is_shut || peer.is_closed());
}

#[test]
fn an_empty_line_takes_no_time_from_the_request_behind_it() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    for bytes in [b"\r".as_slice(), b"\n", b"GET /api/webhook HTTP/1.1\r\n"] {
        node.pass(REQUEST_DEADLINE_MS / 4);
        peer.send(bytes);
        node.turn(&[(token, READABLE)]);
    }
    node.pass(REQUEST_DEADLINE_MS - 1);
    peer.send(b"Host: a\r\n\r\n");
    node.turn(&[(token, READABLE)]);
    assert!(peer.take().starts_with("HTTP/1.1 200 "));
}

/// A hand-over that fails may take longer than a request may.
#[test]
fn who_was_not_heard_while_the_shard_held_is_not_late() {
    let mut node = Node::with(|settings| {
        settings.body_bytes_max = 2 * UPLOAD_BYTES;
        settings.held_bytes_max = 1 << 20;
    });
    let peer = Peer::with_room(10_000);
    let body = format!(r#"{{"message":"x"{}}}"#, " ".repeat(UPLOAD_BYTES));
    let head = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let token = node.ask(&peer, head.as_bytes());
    node.shard.hold();
    peer.send(body.as_bytes());
    node.turn(&[(token, READABLE)]);
    node.pass(3 * REQUEST_DEADLINE_MS);
    node.shard.resume(node.now);
    node.shard.tick(node.now);
    assert_eq!(peer.take(), "", "there is more to read");
    while node.shard.unfinished() > 0 {
        node.turn(&[]);
    }
    let answer = peer.take();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// With TLS: the last part of an answer is encrypted, and the kernel has no room for it.
#[test]
fn an_answer_that_the_socket_holds_back_is_not_over() {
    let ask = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for keeps in [false, true] {
        let mut node = Node::new();
        let peer = Peer::with_room(10_000);
        peer.0.borrow_mut().held_back = 2;
        let token = node.ask(&peer, if keeps { ASK } else { ask });
        assert!(peer.take().starts_with("HTTP/1.1 200 "));
        if keeps {
            node.shard.start_drain(node.now);
        }
        node.pass(LINGER_MS + DRAIN_IDLE_MS + DEADLINE_SCAN_INTERVAL_MS);
        for events in [&[][..], &[(token, WRITABLE)]] {
            node.turn(events);
            assert!(!peer.0.borrow().is_shut && !peer.is_closed());
        }
        node.turn(&[(token, WRITABLE)]);
        assert!(peer.0.borrow().is_shut || peer.is_closed());
    }
}

#[test]
fn a_peer_that_never_takes_what_the_socket_holds_back_is_let_go() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    peer.0.borrow_mut().held_back = 1;
    node.ask(&peer, ASK);
    node.pass(STALL_MS + DEADLINE_SCAN_INTERVAL_MS);
    node.turn(&[]);
    assert!(peer.is_closed());
}

/// The thread has slept, and looks at deadlines before the events that have come meanwhile.
#[test]
fn a_stream_is_not_stalled_whose_socket_has_room_that_no_event_has_told_of() {
    let mut node = Node::new();
    let peer = Peer::with_room(700);
    node.ask(&peer, STREAM);
    node.publish(1, 1000);
    node.turn(&[]);
    peer.make_room(10_000);
    node.pass(2 * STALL_MS);
    node.turn(&[]);
    assert!(!peer.is_closed());
    assert!(peer.take().contains(&"x".repeat(1000)));
}

#[test]
fn an_answer_is_not_stalled_whose_socket_has_room_that_no_event_has_told_of() {
    let mut node = Node::new();
    let peer = Peer::with_room(50);
    node.ask(&peer, ASK);
    peer.make_room(10_000);
    node.pass(2 * STALL_MS);
    node.turn(&[]);
    assert!(!peer.is_closed());
    let answer = peer.take();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}'),
        "{answer}"
    );
}

/// The first byte of a request is read with the requests before it, and is looked at a turn later.
#[test]
fn a_request_that_begins_behind_others_has_all_of_its_time() {
    let mut node = Node::with(|settings| settings.keep_alive = Duration::from_secs(1));
    let peer = Peer::with_room(10_000);
    let mut bytes = ASK.repeat(READS_PER_TURN - 1);
    bytes.push(b'G');
    let token = node.ask(&peer, &bytes);
    node.pass(REQUEST_DEADLINE_MS - 1);
    node.turn(&[]);
    peer.take();
    peer.send(&ASK[1..]);
    node.turn(&[(token, READABLE)]);
    assert!(peer.take().starts_with("HTTP/1.1 200 "));
}
