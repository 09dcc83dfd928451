//! A shard with sockets in memory, turn by turn: regressions and likely faults.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::rc::Rc;

use super::*;
use crate::hub::{NotStored, Receipt};
use crate::limits::{
    DRAIN_IDLE_MS, HISTORY_MESSAGES, HISTORY_TURN_BYTES, READS_PER_TURN, SLICE_VISITS, SLICE_WRITES,
};
use crate::live_log::SharedHistory;
use crate::message::{Draft, Identity, SessionId};
use crate::metrics::Metrics;
use crate::shard::client::Client;
use crate::shard::exchange::Exchange;
use crate::shard::poller::Event;
use crate::shard::publishing::Publisher;
use crate::shard::tests::poller::{FakePoller, Polled};
use crate::shard::turn::Turns;
use crate::testkit::{hub_in_memory, hub_with_commits, now_at, settings};

mod begin;
mod census;
mod compression;
mod deadlines;
mod drain;
mod judging;
pub(in crate::shard) mod poller;
mod polls;
mod presence;
mod resets;
mod resumption;
mod sessions;
mod shares;
mod streams;
mod tokens;

const STREAM: &[u8] = b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n";

/// How the end of a peer's bytes is noticed.
#[derive(Default, PartialEq)]
enum EndNotice {
    /// By an event of the poller.
    #[default]
    Event,
    /// With the last bytes, as with TLS.
    LastBytes,
}

/// Both ends of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    /// What the shard has not read.
    sent: Vec<u8>,
    has_ended: bool,
    end_notice: EndNotice,
    /// Bytes that the shard may still write.
    room: usize,
    written: Vec<u8>,
    is_shut: bool,
    is_closed: bool,
    /// Calls of `handle_writable` until the socket has no unsent bytes, as with TLS.
    held_back: u32,
    /// The client's address, if a test has several clients.
    address: Option<IpAddr>,
}

#[derive(Clone, Default)]
pub(super) struct Peer(Rc<RefCell<Pipe>>);

impl Transport for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        if pipe.sent.is_empty() && !pipe.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(pipe.sent.len());
        buffer[..count].copy_from_slice(&pipe.sent[..count]);
        pipe.sent.drain(..count);
        Ok(count)
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = self.0.borrow_mut();
        let bytes: Vec<u8> = extents.iter().flat_map(|extent| extent.to_vec()).collect();
        let count = bytes.len().min(pipe.room);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.room -= count;
        pipe.written.extend(&bytes[..count]);
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.borrow_mut().is_shut = true;
        Ok(())
    }

    fn handle_writable(&mut self) -> io::Result<()> {
        let mut pipe = self.0.borrow_mut();
        pipe.held_back = pipe.held_back.saturating_sub(1);
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        self.0.borrow().held_back > 0
    }

    fn has_end(&self) -> bool {
        let pipe = self.0.borrow();
        pipe.end_notice == EndNotice::LastBytes && pipe.has_ended && pipe.sent.is_empty()
    }

    fn client(&self) -> Client {
        let address = self.0.borrow().address;
        address.map_or(Client::Unknown, Client::Address)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The test holds the other of two handles.
        self.0.borrow_mut().is_closed |= Rc::strong_count(&self.0) == 2;
    }
}

impl Peer {
    pub(super) fn with_room(room: usize) -> Peer {
        let peer = Peer::default();
        peer.0.borrow_mut().room = room;
        peer
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        self.0.borrow_mut().sent.extend(bytes);
    }

    /// Sends bytes that are received together with the end, as a `close_notify` may be.
    fn send_last(&self, bytes: &[u8]) {
        self.send(bytes);
        let mut pipe = self.0.borrow_mut();
        pipe.has_ended = true;
        pipe.end_notice = EndNotice::LastBytes;
    }

    fn make_room(&self, bytes: usize) {
        self.0.borrow_mut().room += bytes;
    }

    /// What has been written since the last call.
    pub(super) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut self.0.borrow_mut().written)).unwrap()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.borrow().is_closed
    }
}

/// A shard with its hub, its turns and its poller. A step takes no time.
struct Node {
    hub: Hub,
    shard: Shard<Peer>,
    turns: Turns<Polled, &'static str>,
    poller: FakePoller,
    now: Now,
}

pub(super) const READABLE: Readiness = Readiness {
    readable: true,
    writable: false,
    hung_up: false,
};

const HUNG_UP: Readiness = Readiness {
    readable: true,
    writable: false,
    hung_up: true,
};

const WRITABLE: Readiness = Readiness {
    readable: false,
    writable: true,
    hung_up: false,
};

impl Node {
    fn new() -> Node {
        Node::with(|_| {})
    }

    /// A node with changed settings.
    fn with(set: impl FnOnce(&mut Settings)) -> Node {
        let (hub, inbox) = hub_in_memory(4000);
        let now = now_at(0);
        let mut settings = settings();
        set(&mut settings);
        let shard = Shard::new(Arc::new(settings), &hub, 1, now);
        Node {
            hub,
            shard,
            turns: Turns::default(),
            poller: FakePoller::new(inbox, Rc::default()),
            now,
        }
    }

    fn open(&mut self, peer: &Peer) -> Token {
        self.poller.loads[0] += 1;
        self.shard.open(peer.clone(), Role::Standard, self.now)
    }

    /// Opens a connection and sends `bytes` on it, all in one turn.
    fn ask(&mut self, peer: &Peer, bytes: &[u8]) -> Token {
        let token = self.open(peer);
        peer.send(bytes);
        self.turn(&[(token, READABLE)]);
        token
    }

    /// Runs one turn with these events.
    fn turn(&mut self, events: &[(Token, Readiness)]) {
        let events = events.iter();
        let events = events.map(|&(token, readiness)| Event::Connection(token, readiness));
        self.poller.standard.extend(events);
        self.turns.standard.fill(&mut self.poller.standard);
        let now = self.now;
        self.turns
            .run(&mut self.poller, &mut self.shard, &self.hub, || now);
    }

    /// Runs turns until no work is left.
    fn rest(&mut self) {
        while self.shard.idle_ms(self.now) == Some(0) {
            self.turn(&[]);
        }
    }

    fn take_batches(&mut self) {
        while let Ok(batch) = self.poller.inbox.try_recv() {
            self.shard.deliver(&batch);
        }
    }

    /// Publishes messages with `bytes` of content and delivers them, without a turn.
    fn publish(&mut self, messages: usize, bytes: usize) {
        self.publish_to(None, messages, bytes);
    }

    /// Publishes to a session, or to all.
    fn publish_to(&mut self, session: Option<&str>, messages: usize, bytes: usize) {
        let draft = Draft {
            session: session.and_then(|name| SessionId::parse(name).unwrap()),
            content: "x".repeat(bytes),
            label: None,
            identity: None,
        };
        let mut drafts = VecDeque::from(vec![draft; messages]);
        let mut outcomes = Vec::new();
        let sender = self.hub.new_sender();
        self.hub
            .publish(sender, &mut drafts, self.now, &mut outcomes);
        assert!(drafts.is_empty() && outcomes.iter().all(Result::is_ok));
        self.take_batches();
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.mono_us += ms * 1000;
        self.now.unix_ms += ms;
    }
}

/// The derivation of the bound: a connection has a small request, and these parts once.
#[test]
fn a_connection_takes_no_more_than_connection_bytes_max() {
    use crate::limits::{
        CONNECTION_BYTES_MAX, LOG_SESSION_BUCKET_BYTES, LOG_SESSION_BYTES, LOG_SESSION_OWN_BYTES,
        SMALL_REQUEST_BYTES_MAX,
    };
    /// The most that the allocator adds to each allocation, in bytes.
    const OVERHEAD: usize = 16;
    // Entries in queues of slots or tokens: round, sweep, unfinished, put off, answered.
    let queues = 2 * size_of::<u32>() + 2 * size_of::<Token>() + size_of::<u64>();
    let webhook =
        size_of::<Draft>() + size_of::<Publisher>() + size_of::<Result<Receipt, NotStored>>();
    let slot = size_of::<Connection<crate::net::socket::LayeredSocket>>();
    let layers = size_of::<crate::net::socket::Layered>() + OVERHEAD;
    let reader = size_of::<Exchange>() + 2 * OVERHEAD;
    // The number of the session's long polls, in a table that doubles.
    let polls = 4 * (2 * size_of::<u32>() + 1);
    let session = LOG_SESSION_BYTES + 4 * LOG_SESSION_BUCKET_BYTES + LOG_SESSION_OWN_BYTES + polls;
    // Shared by the draft and the message.
    let identity = size_of::<Identity>() + 2 * size_of::<usize>() + OVERHEAD;
    // A B-tree is at least half full.
    let expiry = 2 * (size_of::<(u64, u32)>() + super::expiry::DUE_BYTES);
    let each = expiry + slot + layers + reader + session + identity + 2 * (queues + webhook);
    println!(
        "{slot} bytes for the slot, {layers} for layers, {reader} for the reader, {each} in all"
    );
    assert!(
        each <= CONNECTION_BYTES_MAX - SMALL_REQUEST_BYTES_MAX,
        "{each}"
    );
}

/// A client that pipelines may have filled its socket with answers before its `100 Continue`.
#[test]
fn a_100_continue_that_does_not_fit_waits_for_room() {
    let mut node = Node::new();
    let peer = Peer::with_room(12);
    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    let token = node.ask(
        &peer,
        format!("{head}Content-Length: 15\r\n\r\n").as_bytes(),
    );
    assert_eq!(peer.take(), "HTTP/1.1 100");
    peer.make_room(1000);
    node.turn(&[(token, WRITABLE)]);
    assert_eq!(peer.take(), " Continue\r\n\r\n");
    peer.send(b"{\"message\":\"a\"}");
    node.turn(&[(token, READABLE)]);
    assert!(peer.take().starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(!peer.0.borrow().is_shut);
}

/// All connections of the node share 20,000 bytes. Slow uploads fill them, and free them again.
#[test]
fn slow_uploads_are_bounded_together_and_whole_requests_are_served() {
    let mut node = Node::new();
    let content = "x".repeat(3000);
    let body = format!("{{\"message\":\"{content}\"}}");
    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length:";
    let request = format!("{head} {}\r\n\r\n{body}", body.len());
    let (most, last) = request.split_at(request.len() - 1);
    let mut answers = Vec::new();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let peer = Peer::with_room(10_000);
        let token = node.ask(&peer, most.as_bytes());
        answers.push(peer.take());
        slow.push((peer, token));
    }
    let admitted = answers.iter().filter(|answer| answer.is_empty()).count();
    assert!((3..=6).contains(&admitted), "{answers:?}");
    let refused = &answers[19];
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(
        refused.contains("\r\nRetry-After: ") && refused.contains("close"),
        "{refused}"
    );

    // A large request in one piece, and a small one in two.
    let whole = Peer::with_room(10_000);
    node.ask(&whole, request.as_bytes());
    assert!(whole.take().starts_with("HTTP/1.1 200 "));
    let small = Peer::with_room(10_000);
    let token = node.ask(&small, b"GET /api/webhook HTTP/1.1\r\n");
    assert_eq!(small.take(), "");
    small.send(b"Host: a\r\n\r\n");
    node.turn(&[(token, READABLE)]);
    assert!(small.take().starts_with("HTTP/1.1 200 "));

    // The admitted uploads are served, and then there is room again.
    for (peer, token) in slow.iter().take(admitted) {
        peer.send(last.as_bytes());
        node.turn(&[(*token, READABLE)]);
        assert!(peer.take().starts_with("HTTP/1.1 200 "));
    }
    let later = Peer::with_room(10_000);
    node.ask(&later, most.as_bytes());
    assert_eq!(later.take(), "");
    node.shard.holdings();
}

/// The number of answers to a peer since the last call.
fn answers(peer: &Peer) -> usize {
    peer.take().matches("HTTP/1.1 ").count()
}

#[test]
fn unread_answers_are_bounded_together() {
    let mut node = Node::new();
    let peers: Vec<Peer> = (0..20)
        .map(|_| {
            let peer = Peer::with_room(0);
            node.ask(&peer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            peer
        })
        .collect();
    let closed = peers.iter().filter(|peer| peer.is_closed()).count();
    assert!(
        closed > 0,
        "20 pages of the window were held in 20,000 bytes"
    );
    assert!(node.shard.holdings().answer_bytes <= 20_000);
    node.shard.close_all();
    assert_eq!(
        (node.shard.connections.holding(), node.shard.connections()),
        (0, 0)
    );
}

/// 3,000 webhooks of 3,500 bytes that arrive together exceed what may wait for the hub.
#[test]
fn a_burst_of_webhooks_is_read_no_faster_than_the_hub_takes_it() {
    let mut node = Node::new();
    let body = format!("{{\"message\":\"{}\"}}", "x".repeat(3500));
    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length:";
    let request = format!("{head} {}\r\n\r\n{body}", body.len());
    let peers: Vec<(Peer, Token)> = (0..3000)
        .map(|_| {
            let peer = Peer::with_room(1000);
            let token = node.open(&peer);
            peer.send(request.as_bytes());
            (peer, token)
        })
        .collect();
    for (_, token) in &peers {
        node.shard.ready(*token, READABLE, node.now);
    }
    let [waiting, ..] = node.shard.publishing.counts();
    assert!(
        (1500..3000).contains(&waiting),
        "{waiting} are read at once"
    );
    for _ in 0..100 {
        node.turn(&[]);
    }
    for (peer, _) in &peers {
        assert!(peer.take().starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(node.shard.publishing.counts(), [0; 3]);
}

fn fanned_out() -> Node {
    Node::with(|settings| {
        settings.fanout_life = Some(Duration::from_secs(10));
        settings.access = Access::new(None).fanned_out();
    })
}
