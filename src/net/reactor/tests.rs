//! A reactor with kernel sockets, turn by turn: when priority sockets, standard sockets and streams
//! are served.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::limits::SLICE_WRITES;
use crate::message::Draft;
use crate::net::socket::Stream;
use crate::ring::Ring;
use crate::ring::memory::MemoryMedium;
use crate::shard::tests::settings;

const SUBSCRIBE: &[u8] = b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n";
const ASK: &[u8] = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";

fn webhook(content_bytes: usize) -> Vec<u8> {
    let body = format!(r#"{{"message":"{}"}}"#, "x".repeat(content_bytes));
    let head = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A reactor, its shard and its hub. The test runs each turn.
struct Node {
    reactor: Reactor,
    shard: Shard<LayeredSocket>,
    hub: Hub,
    clock: Clock,
    priority: Ready,
    standard: Ready,
}

impl Node {
    fn new() -> Node {
        let clock = Clock::start();
        let medium = Box::new(MemoryMedium::default());
        let (ring, recovered) = Ring::open_on(medium, 4000).unwrap();
        let (reactor, outlet, _) = Reactor::new().unwrap();
        let hub = Hub::new(ring, recovered.messages, vec![outlet], None);
        let shard = Shard::new(Arc::new(settings()), &hub, 1, clock.now());
        Node {
            reactor,
            shard,
            hub,
            clock,
            priority: Ready::with_room(PRIORITY_EVENTS_PER_TURN),
            standard: Ready::with_room(STANDARD_EVENTS_PER_TURN),
        }
    }

    /// Opens a connection, and returns its peer's nonblocking end.
    fn connect(&mut self) -> (Token, UnixStream) {
        let (socket, peer) = UnixStream::pair().unwrap();
        peer.set_nonblocking(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = LayeredSocket::Plain(Stream::from_fd(OwnedFd::from(socket)).unwrap());
        let now = self.clock.now();
        let token = self
            .reactor
            .take_in(&mut self.shard, socket, Role::Standard, now);
        (token, peer)
    }

    /// Polls both sets of sockets.
    fn poll(&mut self) {
        let now = self.clock.now();
        self.reactor
            .wait(&self.shard, &mut self.priority, now)
            .unwrap();
        self.reactor
            .epoll
            .poll_standard(&mut self.standard)
            .unwrap();
    }

    fn turn(&mut self) {
        let (shard, hub) = (&mut self.shard, &self.hub);
        self.reactor
            .turn(shard, &self.priority, &self.standard, hub, self.clock);
    }

    /// Sends a request and runs turns until its 200 arrives.
    fn ask(&mut self, peer: &mut UnixStream, request: &[u8]) {
        peer.write_all(request).unwrap();
        while !is_answered(peer) {
            self.poll();
            self.turn();
        }
    }

    /// A node with a priority connection, and with more streams than one slice serves, each behind
    /// by one message.
    fn with_streams_behind() -> (Node, UnixStream, Vec<UnixStream>) {
        let mut node = Node::new();
        let (_, mut publisher) = node.connect();
        for _ in 0..2 {
            node.ask(&mut publisher, &webhook(1));
        }
        let streams = (0..=SLICE_WRITES).map(|_| {
            let mut peer = node.connect().1;
            node.ask(&mut peer, SUBSCRIBE);
            peer
        });
        let streams = streams.collect();
        while node.shard.behind_us(node.clock.now()).is_some() {
            node.poll();
            node.turn();
        }
        let (_, mut other) = node.connect();
        other.write_all(&webhook(1)).unwrap();
        node.poll();
        for event in node.standard.iter() {
            let listeners = &mut node.reactor.listeners;
            dispatch(&mut node.shard, listeners, event, node.clock.now());
        }
        publish(&mut node.shard, &node.hub, node.clock.now(), node.clock);
        node.reactor.take_batches(&mut node.shard);
        (node, publisher, streams)
    }

    fn slice_us(&self) -> u64 {
        let slice = Slice::begin(&self.shard, self.clock);
        slice.ends_us - slice.now.mono_us
    }

    fn has_priority_event(&self, token: Token) -> bool {
        let mut tokens = self.priority.iter().map(Event::token);
        tokens.any(|reported| reported == mio_token(token))
    }
}

/// Whether an answer has arrived. It must be a 200.
fn is_answered(peer: &mut UnixStream) -> bool {
    let mut answer = [0; 4096];
    match peer.read(&mut answer) {
        Ok(bytes) => {
            assert!(answer[..bytes].starts_with(b"HTTP/1.1 200 "));
            true
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            false
        }
    }
}

#[test]
fn a_connection_that_publishes_again_has_priority() {
    let mut node = Node::new();
    let (token, mut peer) = node.connect();
    for _ in 0..2 {
        assert!(!node.has_priority_event(token));
        node.ask(&mut peer, &webhook(1));
    }
    peer.write_all(ASK).unwrap();
    node.poll();
    assert!(node.has_priority_event(token));
}

#[test]
fn a_connection_that_does_not_publish_has_no_priority() {
    let mut node = Node::new();
    let (token, mut peer) = node.connect();
    for _ in 0..5 {
        node.ask(&mut peer, ASK);
        assert!(!node.has_priority_event(token));
    }
}

/// The webhook arrives mid-turn, after the poll of the turn's standard sockets.
#[test]
fn a_priority_socket_is_polled_between_standard_sockets() {
    let mut node = Node::new();
    let (_, mut publisher) = node.connect();
    for _ in 0..2 {
        node.ask(&mut publisher, &webhook(1));
    }
    let standard: Vec<UnixStream> = (0..STANDARD_EVENTS_PER_TURN)
        .map(|_| {
            let mut peer = node.connect().1;
            // Together many slices of work.
            peer.write_all(&webhook(3000).repeat(5)).unwrap();
            peer
        })
        .collect();
    node.poll();
    assert_eq!(node.standard.iter().count(), standard.len());
    publisher.write_all(&webhook(1)).unwrap();
    node.turn();
    assert!(is_answered(&mut publisher));
}

/// The time slice for connections in microseconds, after the first slice of a sweep that began at
/// `began_us`.
fn slice_us_of_sweep(began_us: impl Fn(Now) -> u64) -> u64 {
    let (mut node, _publisher, _streams) = Node::with_streams_behind();
    assert_eq!(node.slice_us(), 0, "the sweep has not begun");
    // The clock starts with the process, and no sweep begins before it. This waits until a sweep
    // can be old.
    while node.clock.now().mono_us < SWEEP_YOUNG_US {
        std::hint::spin_loop();
    }
    let now = node.clock.now();
    let mono_us = began_us(now);
    node.shard.sweep(Now { mono_us, ..now });
    let slice_us = node.slice_us();
    node.shard.sweep(now);
    assert_eq!(node.slice_us(), WORK_SLICE_US, "no stream is behind");
    slice_us
}

#[test]
fn connections_get_no_slice_in_a_young_sweep_and_a_short_one_in_an_older_sweep() {
    // The begin is in the future, so the sweep stays young even if this thread is delayed.
    assert_eq!(slice_us_of_sweep(|now| now.mono_us + 1_000_000), 0);
    let old_us = slice_us_of_sweep(|now| now.mono_us - SWEEP_YOUNG_US);
    assert_eq!(old_us, WORK_SLICE_BEHIND_US);
}

#[test]
fn priority_sockets_are_polled_between_the_slices_of_a_young_sweep() {
    let (mut node, mut publisher, _streams) = Node::with_streams_behind();
    node.shard.sweep(node.clock.now());
    publisher.write_all(&webhook(1)).unwrap();
    node.reactor.poll_priority(&mut node.shard, node.clock);
    assert!(node.shard.has_drafts());
}

/// Another shard has stored a message and acknowledged it. Its batch is in the inbox of this one.
#[test]
fn the_inbox_is_read_before_priority_sockets() {
    let mut node = Node::new();
    let (_, mut publisher) = node.connect();
    for _ in 0..2 {
        node.ask(&mut publisher, &webhook(1));
    }
    let mut drafts = VecDeque::from([Draft {
        session: None,
        content: "elsewhere".into(),
    }]);
    let mut outcomes = Vec::new();
    let other = node.hub.new_sender();
    node.hub.publish(other, &mut drafts, 1, &mut outcomes);
    assert!(outcomes[0].is_ok());
    let id = format!("{}-3", node.hub.epoch());
    let ask = format!("GET /api/webhook/messages?since={id} HTTP/1.1\r\nHost: a\r\n\r\n");
    publisher.write_all(ask.as_bytes()).unwrap();
    node.reactor.poll_priority(&mut node.shard, node.clock);
    let mut answer = [0; 4096];
    let length = publisher.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.contains(r#""reset":false"#), "{answer}");
}
