//! A reactor with sockets of the kernel, turn by turn: who is heard when.

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

/// A shard in its loop, which the test turns by hand.
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

    /// Takes in a connection. The other end of it never blocks.
    fn connect(&mut self) -> (Token, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = LayeredSocket::Plain(Stream::from_fd(OwnedFd::from(ours)).unwrap());
        let now = self.clock.now();
        let token = self
            .reactor
            .take_in(&mut self.shard, socket, Role::Standard, now);
        (token, theirs)
    }

    /// Asks the kernel who is ready.
    fn look(&mut self) {
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

    /// Sends something and lets turns pass until it is answered with 200.
    fn ask(&mut self, peer: &mut UnixStream, request: &[u8]) {
        peer.write_all(request).unwrap();
        while !is_answered(peer) {
            self.look();
            self.turn();
        }
    }

    /// A regular, and more streams than one slice serves, all of them behind by a message.
    fn with_streams_behind() -> (Node, UnixStream, Vec<UnixStream>) {
        let mut node = Node::new();
        let (_, mut regular) = node.connect();
        for _ in 0..2 {
            node.ask(&mut regular, &webhook(1));
        }
        let streams = (0..=SLICE_WRITES).map(|_| {
            let mut peer = node.connect().1;
            node.ask(&mut peer, SUBSCRIBE);
            peer
        });
        let streams = streams.collect();
        while node.shard.behind_us(node.clock.now()).is_some() {
            node.look();
            node.turn();
        }
        let (_, mut other) = node.connect();
        other.write_all(&webhook(1)).unwrap();
        node.look();
        for event in node.standard.iter() {
            let listeners = &mut node.reactor.listeners;
            dispatch(&mut node.shard, listeners, event, node.clock.now());
        }
        publish(&mut node.shard, &node.hub, node.clock.now(), node.clock);
        node.reactor.take_batches(&mut node.shard);
        (node, regular, streams)
    }

    fn slice_us(&self) -> u64 {
        let slice = Slice::begin(&self.shard, self.clock);
        slice.ends_us - slice.now.mono_us
    }

    fn is_told_of_as_regular(&self, token: Token) -> bool {
        let mut tokens = self.priority.iter().map(Event::token);
        tokens.any(|told| told == mio_token(token))
    }
}

/// Whether a 200 has come, and nothing else.
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
fn who_has_brought_webhooks_is_a_regular() {
    let mut node = Node::new();
    let (token, mut peer) = node.connect();
    for _ in 0..2 {
        assert!(!node.is_told_of_as_regular(token));
        node.ask(&mut peer, &webhook(1));
    }
    peer.write_all(ASK).unwrap();
    node.look();
    assert!(node.is_told_of_as_regular(token));
}

#[test]
fn who_only_asks_is_none() {
    let mut node = Node::new();
    let (token, mut peer) = node.connect();
    for _ in 0..5 {
        node.ask(&mut peer, ASK);
        assert!(!node.is_told_of_as_regular(token));
    }
}

/// In the middle of a turn, that is: its webhook came when the turn's newcomers were known.
#[test]
fn a_regular_is_heard_amid_a_crowd() {
    let mut node = Node::new();
    let (_, mut regular) = node.connect();
    for _ in 0..2 {
        node.ask(&mut regular, &webhook(1));
    }
    let crowd: Vec<UnixStream> = (0..STANDARD_EVENTS_PER_TURN)
        .map(|_| {
            let mut peer = node.connect().1;
            // Many slices of work, all of them together.
            peer.write_all(&webhook(3000).repeat(5)).unwrap();
            peer
        })
        .collect();
    node.look();
    assert_eq!(node.standard.iter().count(), crowd.len());
    regular.write_all(&webhook(1)).unwrap();
    node.turn();
    assert!(is_answered(&mut regular));
}

/// What is left of time for newcomers after the first slice of a sweep that began at this time.
fn slice_us_of_sweep(began_us: impl Fn(Now) -> u64) -> u64 {
    let (mut node, _regular, _streams) = Node::with_streams_behind();
    assert_eq!(node.slice_us(), 0, "it has not begun");
    // It begins with the process, and is to be older than a young sweep.
    while node.clock.now().mono_us < SWEEP_YOUNG_US {
        std::hint::spin_loop();
    }
    let now = node.clock.now();
    let mono_us = began_us(now);
    node.shard.sweep(Now { mono_us, ..now });
    let slice_us = node.slice_us();
    node.shard.sweep(now);
    assert_eq!(node.slice_us(), WORK_SLICE_US, "nobody is behind any more");
    slice_us
}

#[test]
fn newcomers_do_not_hold_up_a_young_sweep_and_have_their_part_of_an_older_one() {
    // In the future, so that it stays young however long this thread is kept waiting.
    assert_eq!(slice_us_of_sweep(|now| now.mono_us + 1_000_000), 0);
    let old_us = slice_us_of_sweep(|now| now.mono_us - SWEEP_YOUNG_US);
    assert_eq!(old_us, WORK_SLICE_BEHIND_US);
}

#[test]
fn regulars_are_heard_between_the_slices_of_a_young_sweep() {
    let (mut node, mut regular, _streams) = Node::with_streams_behind();
    node.shard.sweep(node.clock.now());
    regular.write_all(&webhook(1)).unwrap();
    node.reactor.poll_priority(&mut node.shard, node.clock);
    assert!(node.shard.has_drafts());
}

/// Two shards: what the other has stored, and told its sender of, lies in the inbox of this one.
#[test]
fn a_regular_is_heard_when_what_others_have_stored_is_known() {
    let mut node = Node::new();
    let (_, mut regular) = node.connect();
    for _ in 0..2 {
        node.ask(&mut regular, &webhook(1));
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
    regular.write_all(ask.as_bytes()).unwrap();
    node.reactor.poll_priority(&mut node.shard, node.clock);
    let mut answer = [0; 4096];
    let length = regular.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]);
    assert!(answer.contains(r#""reset":false"#), "{answer}");
}
