//! A reactor with sockets of the kernel, turn by turn: who is heard when.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::ring::Ring;
use crate::ring::memory::MemoryMedium;
use crate::shard::tests::settings;
use crate::shard::wire::Stream;

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
    shard: Shard<Wire>,
    hub: Hub,
    clock: Clock,
    regulars: Ready,
    newcomers: Ready,
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
            regulars: Ready::with_room(REGULARS_PER_TURN),
            newcomers: Ready::with_room(NEWCOMERS_PER_TURN),
        }
    }

    /// Takes in a connection. The other end of it never blocks.
    fn connect(&mut self) -> (Token, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        ours.set_nonblocking(true).unwrap();
        let wire = Wire::Plain(Stream::from_fd(OwnedFd::from(ours)).unwrap());
        let now = self.clock.now();
        let token = self
            .reactor
            .take_in(&mut self.shard, wire, Role::Guest, now);
        (token, theirs)
    }

    /// Asks the kernel who is ready.
    fn look(&mut self) {
        let now = self.clock.now();
        self.reactor
            .wait(&self.shard, &mut self.regulars, now)
            .unwrap();
        self.reactor
            .watch
            .look_for_newcomers(&mut self.newcomers)
            .unwrap();
    }

    fn turn(&mut self) {
        let (shard, hub) = (&mut self.shard, &self.hub);
        self.reactor
            .turn(shard, &self.regulars, &self.newcomers, hub, self.clock);
    }

    /// Sends something and lets turns pass until it is answered with 200.
    fn ask(&mut self, peer: &mut UnixStream, request: &[u8]) {
        peer.write_all(request).unwrap();
        while !is_answered(peer) {
            self.look();
            self.turn();
        }
    }

    fn is_told_of_as_regular(&self, token: Token) -> bool {
        let mut tokens = self.regulars.iter().map(Event::token);
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
    let crowd: Vec<UnixStream> = (0..NEWCOMERS_PER_TURN)
        .map(|_| {
            let mut peer = node.connect().1;
            // Many slices of work, all of them together.
            peer.write_all(&webhook(3000).repeat(5)).unwrap();
            peer
        })
        .collect();
    node.look();
    assert_eq!(node.newcomers.iter().count(), crowd.len());
    regular.write_all(&webhook(1)).unwrap();
    node.turn();
    assert!(is_answered(&mut regular));
}
