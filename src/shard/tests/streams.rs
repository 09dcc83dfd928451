//! Streams: their beginning, order of service, input, and end of life.

use super::*;
use crate::limits::SLICE_WRITES;
use crate::live_log::SharedHistory;

/// A process that was stopped for a minute finds its sockets writable again. It has to write before
/// it may close a stream as stalled.
#[test]
fn a_stream_whose_socket_is_writable_again_is_not_stalled() {
    let mut node = Node::new();
    let peer = Peer::with_room(700);
    let token = node.ask(&peer, STREAM);
    node.publish(1, 1000);
    node.turn(&[]);
    assert_eq!(node.shard.streams(), 1);
    node.pass(60_000);
    peer.make_room(10_000);
    node.turn(&[(token, WRITABLE)]);
    assert!(!peer.is_closed());
    assert!(peer.take().contains(&"x".repeat(1000)));

    peer.0.borrow_mut().room = 0;
    node.publish(1, 1000);
    node.turn(&[]);
    node.pass(31_000);
    node.turn(&[]);
    assert!(peer.is_closed(), "it has taken nothing for 31 s");
}

/// The end of the peer's side ends its stream, even if it arrives with the request. Epoll reports
/// both in one event, and repeats neither.
#[test]
fn a_stream_is_not_opened_for_a_peer_that_has_disconnected() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(STREAM);
    peer.0.borrow_mut().has_ended = true;
    node.turn(&[(token, HUNG_UP)]);
    assert!(peer.is_closed());
    assert_eq!(peer.take(), "", "nothing is sent");
    assert_eq!((node.shard.streams(), node.shard.connections()), (0, 0));
}

/// If the shared history is not in the order of arrival, a new stream gets copies of its first
/// messages. They have the framing of the stream: in HTTP/1.0 there is none.
#[test]
fn messages_copied_for_a_stream_have_its_framing() {
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 20);
    node.publish(130, 10);
    // All messages before 41 are copied.
    let seqs: Vec<u64> = (29..131).filter(|seq| ![40, 41].contains(seq)).collect();
    assert!(node.hub.set_shared_history(SharedHistory {
        seqs,
        until_seq: 131,
    }));
    node.take_batches();
    for is_chunked in [true, false] {
        let peer = Peer::with_room(100_000);
        let version = if is_chunked { "1.1" } else { "1.0" };
        let request = format!("GET /api/webhook/stream HTTP/{version}\r\nHost: a\r\n\r\n");
        node.ask(&peer, request.as_bytes());
        let answer = peer.take();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let message = "data: {\"type\":\"webhook_message\"";
        let is_message = |event: &&str| match event.trim_start().split_once("\r\n") {
            Some((_, event)) => is_chunked && event.starts_with(message),
            None => !is_chunked && event.starts_with(message),
        };
        let messages = body.split_inclusive("\n\n").filter(is_message);
        assert_eq!(messages.count(), 100, "{body}");
    }
}

/// Input on a stream is read and dropped to its end: the end of the peer's side follows the last byte.
#[test]
fn input_on_a_stream_is_read_to_its_end() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.ask(&peer, STREAM);
    peer.send(&vec![b'x'; 3 * READS_PER_TURN * READ_BYTES]);
    peer.0.borrow_mut().has_ended = true;
    node.turn(&[(token, READABLE)]);
    assert_eq!(node.shard.idle_ms(node.now), Some(0));
    node.turn(&[]);
    node.turn(&[]);
    assert!(peer.is_closed(), "the peer has ended its side");
}

/// Epoll reports an edge once. Bytes that arrive while a webhook waits for the hub are input on the
/// stream that the next request opens.
#[test]
fn input_that_arrived_before_the_stream_began_is_read() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\":\"a\"}",
    );
    peer.send(STREAM);
    node.shard.ready(token, READABLE, node.now);
    peer.send(b"x");
    node.shard.ready(token, READABLE, node.now);
    node.turn(&[]);
    assert_eq!(node.shard.streams(), 1);
    assert!(peer.0.borrow().sent.is_empty(), "it is left unread");
}

/// Epoll reports the end of the peer's side once as well. It may be behind bytes that the stream
/// drops.
#[test]
fn a_peer_that_disconnected_before_its_stream_began_is_closed() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\":\"a\"}",
    );
    peer.send(STREAM);
    node.shard.ready(token, READABLE, node.now);
    peer.send(b"x");
    peer.0.borrow_mut().has_ended = true;
    node.shard.ready(token, HUNG_UP, node.now);
    for _ in 0..4 {
        node.turn(&[]);
    }
    assert!(peer.is_closed(), "there is no further event");
}

/// No event follows for an end that was received with the last bytes.
#[test]
fn a_stream_ends_with_the_last_bytes_of_its_peer() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(STREAM);
    node.turn(&[(token, READABLE)]);
    assert_eq!(node.shard.streams(), 1);
    peer.send_last(b"x");
    node.turn(&[(token, READABLE)]);
    assert!(peer.is_closed());
}

/// The time between the last slice and the next turn does not count.
#[test]
fn the_duration_of_a_sweep_ends_with_its_last_slice() {
    let mut node = Node::new();
    let peers: Vec<Peer> = (0..=SLICE_WRITES)
        .map(|_| Peer::with_room(10_000))
        .collect();
    for peer in &peers {
        node.ask(peer, STREAM);
    }
    *node.shard.tally_mut() = Tally::new();
    node.publish(1, 10);
    node.turn(&[]);
    assert!(node.shard.is_sweeping());
    node.pass(3);
    node.turn(&[]);
    assert!(!node.shard.is_sweeping());
    // Before the first heartbeat.
    node.pass(100);
    node.turn(&[]);
    let metrics = Metrics::new(Arc::default());
    node.shard.tally_mut().flush(&metrics);
    let text = crate::metrics::encode(&metrics.gather());
    assert!(
        text.contains("hookcast_sweep_seconds_sum 0.003\nhookcast_sweep_seconds_count 1\n"),
        "{text}"
    );
}

/// The walk along a session's streams takes two slices. A second message is published between them.
#[test]
fn a_message_published_during_a_session_walk_reaches_the_whole_session() {
    let mut node = Node::new();
    let request = b"GET /api/webhook/stream?sessionId=a HTTP/1.1\r\nHost: a\r\n\r\n";
    let peers: Vec<Peer> = (0..SLICE_WRITES + 10)
        .map(|_| Peer::with_room(10_000))
        .collect();
    for peer in &peers {
        node.ask(peer, request);
        peer.take();
    }
    node.publish_to(Some("a"), 1, 100);
    node.turn(&[]);
    assert!(
        node.shard.behind_us(node.now).is_some(),
        "the walk is not over"
    );
    node.publish_to(Some("a"), 1, 100);
    while node.shard.behind_us(node.now).is_some() {
        node.turn(&[]);
    }
    for peer in &peers {
        assert_eq!(peer.take().matches("id: ").count(), 2);
    }
}

/// The life in seconds that the head of a shared stream gives a cache.
fn shared_s(text: &str) -> u64 {
    let (_, rest) = text.split_once("s-maxage=").expect(text);
    rest.split_once(',').unwrap().0.parse().unwrap()
}

/// A stream must not end while a cache may still share it: the cache would replay a recording.
#[test]
fn a_shared_stream_outlives_its_freshness_and_ends_within_its_life() {
    let mut node = fanned_out();
    let peers: Vec<Peer> = (0..50).map(|_| Peer::with_room(10_000)).collect();
    let mut fresh_s = Vec::new();
    for peer in &peers {
        node.ask(peer, STREAM);
        fresh_s.push(shared_s(&peer.take()));
    }
    assert!(fresh_s.iter().all(|s| (7..=9).contains(s)), "{fresh_s:?}");
    assert!(
        fresh_s.iter().any(|s| *s != fresh_s[0]),
        "spread: {fresh_s:?}"
    );
    for second in 1..=11 {
        node.pass(1000);
        node.turn(&[]);
        node.turn(&[]);
        for (peer, fresh_s) in peers.iter().zip(&fresh_s) {
            let has_ended = peer.take().ends_with("0\r\n\r\n");
            assert!(
                !has_ended || second > *fresh_s,
                "after {second} s: {fresh_s}"
            );
        }
    }
    assert_eq!(node.shard.streams(), 0);
}

/// The end event is queued once, and the peer may never take it.
#[test]
fn a_stalled_shared_stream_is_closed_even_after_its_life() {
    let mut node = fanned_out();
    let peer = Peer::with_room(700);
    node.ask(&peer, STREAM);
    node.publish(1, 1000);
    node.turn(&[]);
    for _ in 0..32 {
        node.pass(1000);
        node.turn(&[]);
    }
    assert!(peer.is_closed(), "it has taken nothing for 32 s");
}

/// A proxy must not reuse the connection of a stream: its webhook could arrive just when the server
/// closes the connection.
#[test]
fn a_stream_response_announces_that_its_connection_closes() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    node.ask(&peer, STREAM);
    assert!(peer.take().contains("Connection: close\r\n"));
}

/// The last stream of a round takes the index of one that leaves, which the sweep may have passed.
#[test]
fn a_stream_that_moves_in_its_round_is_served() {
    let mut node = Node::new();
    let peers: Vec<Peer> = (0..2 * SLICE_WRITES)
        .map(|_| Peer::with_room(10_000))
        .collect();
    let tokens: Vec<Token> = peers.iter().map(|peer| node.ask(peer, STREAM)).collect();
    node.rest();
    for peer in &peers {
        peer.take();
    }
    node.publish(1, 100);
    node.turn(&[]);
    assert!(node.shard.is_sweeping());
    peers[5].0.borrow_mut().has_ended = true;
    // Without a turn, which would sweep before.
    node.shard.ready(tokens[5], HUNG_UP, node.now);
    node.shard.resume_next(node.now);
    assert!(peers[5].is_closed());
    node.rest();
    for (_, peer) in peers.iter().enumerate().filter(|(number, _)| *number != 5) {
        assert_eq!(peer.take().matches("id: ").count(), 1);
    }
}
