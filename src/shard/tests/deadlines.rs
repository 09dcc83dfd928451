//! Deadlines of connections, and what extends them.

use super::*;
use crate::limits::{DEADLINE_SCAN_INTERVAL_MS, LINGER_MS, STALL_MS};

const ASK: &[u8] = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";

/// Bytes of an upload: twice what one turn reads of a connection.
const UPLOAD_BYTES: usize = 2 * READS_PER_TURN * READ_BYTES;

#[test]
fn bytes_of_empty_lines_do_not_extend_the_deadline() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    let mut passed_ms = 0;
    for half in [b"\r", b"\n"].iter().cycle() {
        node.pass(REQUEST_DEADLINE_MS / 2 - 1);
        passed_ms += REQUEST_DEADLINE_MS / 2 - 1;
        peer.send(*half);
        node.turn(&[(token, READABLE)]);
        // The deadline scan may be up to a second late.
        if passed_ms > REQUEST_DEADLINE_MS + DEADLINE_SCAN_INTERVAL_MS {
            break;
        }
    }
    assert!(peer.0.borrow().is_shut || peer.is_closed());
}

#[test]
fn an_empty_line_does_not_shorten_the_deadline_of_the_request_behind_it() {
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

/// A failed handover may take longer than the deadline of a request.
#[test]
fn a_hold_does_not_use_up_the_deadline_of_a_request() {
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

/// With TLS, the last part of an answer may be encrypted and unsent, because the kernel has no room.
#[test]
fn a_connection_stays_open_until_its_socket_has_sent_the_answer() {
    let ask_and_close = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for is_kept in [false, true] {
        let mut node = Node::new();
        let peer = Peer::with_room(10_000);
        peer.0.borrow_mut().held_back = 2;
        let token = node.ask(&peer, if is_kept { ASK } else { ask_and_close });
        assert!(peer.take().starts_with("HTTP/1.1 200 "));
        if is_kept {
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
fn a_peer_that_never_takes_the_rest_of_its_answer_is_closed() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    peer.0.borrow_mut().held_back = 1;
    node.ask(&peer, ASK);
    node.pass(STALL_MS + DEADLINE_SCAN_INTERVAL_MS);
    node.turn(&[]);
    assert!(peer.is_closed());
}

/// The thread was stopped, and checks deadlines before it reads the events of that time.
#[test]
fn a_stream_whose_socket_has_room_is_not_stalled_before_its_event_is_read() {
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
fn an_answer_whose_socket_has_room_is_not_stalled_before_its_event_is_read() {
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

/// The first byte of a request is read with the requests before it, and parsed a turn later.
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

/// The shard has read these requests, and parses the last of them in its next turn. The thread was stopped.
#[test]
fn requests_that_were_read_and_not_parsed_are_not_too_slow() {
    let mut node = Node::with(|settings| settings.keep_alive = Duration::from_secs(1));
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(&ASK.repeat(READS_PER_TURN + 2));
    node.shard.ready(token, READABLE, node.now);
    assert_eq!(node.shard.unfinished(), 1);
    node.pass(REQUEST_DEADLINE_MS + DEADLINE_SCAN_INTERVAL_MS);
    node.shard.tick(node.now);
    node.rest();
    assert_eq!(
        peer.take().matches("HTTP/1.1 200 ").count(),
        READS_PER_TURN + 2
    );
    assert!(!peer.0.borrow().is_shut);
}

/// A flood of empty lines is always read in part only.
#[test]
fn a_flood_of_empty_lines_ends_at_its_deadline() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(&b"\r\n".repeat(READS_PER_TURN * READ_BYTES));
    node.shard.ready(token, READABLE, node.now);
    assert_eq!(node.shard.unfinished(), 1);
    node.pass(REQUEST_DEADLINE_MS + DEADLINE_SCAN_INTERVAL_MS);
    node.shard.tick(node.now);
    assert!(peer.0.borrow().is_shut || peer.is_closed());
}
