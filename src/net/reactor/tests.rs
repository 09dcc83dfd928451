//! A reactor with sockets of the kernel, turn by turn: which of them it polls first.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::limits::STANDARD_EVENTS_PER_TURN;
use crate::net::socket::Stream;
use crate::shard::Role;
use crate::testkit::{ring_in_memory, settings};

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
    turns: Turns<epoll::Ready, Arc<HandoverSender>>,
}

impl Node {
    fn new() -> Node {
        let clock = Clock::start();
        let (ring, recovered) = ring_in_memory(4000);
        let (reactor, outlet, _) = Reactor::new().unwrap();
        let hub = Hub::new(ring, recovered.messages, vec![outlet], None);
        let shard = Shard::new(Arc::new(settings()), &hub, 1, clock.now());
        Node {
            reactor,
            shard,
            hub,
            clock,
            turns: Turns::default(),
        }
    }

    /// Opens a connection and returns its peer, which never blocks.
    fn connect(&mut self) -> (Token, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = LayeredSocket::Plain(Stream::from_fd(OwnedFd::from(ours)).unwrap());
        let token = self.shard.open(socket, Role::Standard, self.clock.now());
        let socket = self.shard.socket(token).unwrap();
        assert!(self.reactor.add(socket, token));
        (token, theirs)
    }

    /// Polls the kernel.
    fn poll(&mut self) {
        let now = self.clock.now();
        let (shard, turns) = (&self.shard, &mut self.turns);
        self.reactor.poll(shard, turns, now).unwrap();
    }

    fn turn(&mut self) {
        let (reactor, shard, clock) = (&mut self.reactor, &mut self.shard, self.clock);
        self.turns.run(reactor, shard, &self.hub, || clock.now());
    }

    /// Sends a request and runs turns until a 200 arrives.
    fn ask(&mut self, peer: &mut UnixStream, request: &[u8]) {
        peer.write_all(request).unwrap();
        while !is_answered(peer) {
            self.poll();
            self.turn();
        }
    }

    fn has_priority_event(&self, token: Token) -> bool {
        let mut tokens = self.turns.priority.iter().map(mio::event::Event::token);
        tokens.any(|polled| polled == mio_token(token))
    }
}

/// Whether a 200 has arrived. Any other answer panics.
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
fn a_connection_that_only_asks_has_none() {
    let mut node = Node::new();
    let (token, mut peer) = node.connect();
    for _ in 0..5 {
        node.ask(&mut peer, ASK);
        assert!(!node.has_priority_event(token));
    }
}

/// Its webhook arrives after both polls, and is served in the same turn.
#[test]
fn a_priority_socket_is_served_between_many_standard_ones() {
    let mut node = Node::new();
    let (_, mut priority) = node.connect();
    for _ in 0..2 {
        node.ask(&mut priority, &webhook(1));
    }
    let standard: Vec<UnixStream> = (0..STANDARD_EVENTS_PER_TURN)
        .map(|_| {
            let mut peer = node.connect().1;
            // Together they are many slices of work.
            peer.write_all(&webhook(3000).repeat(5)).unwrap();
            peer
        })
        .collect();
    node.poll();
    assert_eq!(node.turns.standard.iter().count(), standard.len());
    priority.write_all(&webhook(1)).unwrap();
    node.turn();
    assert!(is_answered(&mut priority));
}
