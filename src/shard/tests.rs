//! A shard with sockets in memory, turn by turn: what once went wrong, or easily could.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::rc::Rc;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::hub::{Outlet, Wake};
use crate::limits::{
    DRAIN_IDLE_MS, HISTORY_MESSAGES, HISTORY_TURN_BYTES, READS_PER_TURN, SLICE_VISITS, SLICE_WRITES,
};
use crate::live_log::SharedHistory;
use crate::message::SessionId;
use crate::metrics::Metrics;
use crate::ring::Ring;
use crate::ring::memory::MemoryMedium;
use crate::shard::client::Client;

mod deadlines;
mod polls;
mod shares;

const STREAM: &[u8] = b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n";

/// Both ends of a connection.
#[derive(Default)]
pub(super) struct Pipe {
    /// What the shard has not read.
    sent: Vec<u8>,
    has_ended: bool,
    /// How much the shard may still write.
    room: usize,
    written: Vec<u8>,
    is_shut: bool,
    is_closed: bool,
    /// What was written stays in the socket, as encrypted bytes may, until there was room so often.
    held_back: u32,
    /// Where it comes from, if a test has several clients.
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

    fn client(&self) -> Client {
        let address = self.0.borrow().address;
        address.map_or(Client::Unknown, Client::Address)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The test's own handle is the other of two.
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

pub(super) struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// One shard and all that it needs.
struct Node {
    hub: Hub,
    inbox: Receiver<Arc<Batch>>,
    shard: Shard<Peer>,
    now: Now,
}

pub(super) const READABLE: Readiness = Readiness {
    readable: true,
    writable: false,
    hung_up: false,
};

const WRITABLE: Readiness = Readiness {
    readable: false,
    writable: true,
    hung_up: false,
};

/// Plain ones, with a log that is as small as it can be.
pub(crate) fn settings() -> Settings {
    Settings {
        heartbeat_interval: Duration::from_secs(2),
        keep_alive: Duration::from_secs(75),
        body_bytes_max: 4000,
        drain: Duration::from_secs(5),
        held_bytes_max: 20_000,
        fanout_life: None,
        log_bytes_min: 0,
        access: Access::new(None),
        allow_origin: AllowOrigin::Any,
    }
}

impl Node {
    fn new() -> Node {
        Node::with(|_| {})
    }

    /// With other settings.
    fn with(set: impl FnOnce(&mut Settings)) -> Node {
        let medium = Box::new(MemoryMedium::default());
        let (ring, recovered) = Ring::open_on(medium, 4000).unwrap();
        let (batches, inbox) = bounded(8);
        let wake = Arc::new(NoWake);
        let hub = Hub::new(
            ring,
            recovered.messages,
            vec![Outlet { batches, wake }],
            None,
        );
        let now = Now {
            mono_ms: 0,
            mono_us: 0,
            unix_ms: 1_700_000_000_000,
        };
        let mut settings = settings();
        set(&mut settings);
        let shard = Shard::new(Arc::new(settings), &hub, 1, now);
        Node {
            hub,
            inbox,
            shard,
            now,
        }
    }

    fn open(&mut self, peer: &Peer) -> Token {
        self.shard.open(peer.clone(), Role::Standard, self.now)
    }

    /// Opens a connection and sends `bytes` on it, all in one turn.
    fn ask(&mut self, peer: &Peer, bytes: &[u8]) -> Token {
        let token = self.open(peer);
        peer.send(bytes);
        self.turn(&[(token, READABLE)]);
        token
    }

    /// A turn as the reactor runs it.
    fn turn(&mut self, events: &[(Token, Readiness)]) {
        for &(token, readiness) in events {
            self.shard.ready(token, readiness, self.now);
        }
        for _ in 0..self.shard.unfinished() {
            self.shard.resume_next(self.now);
        }
        let mut bytes = 0;
        while bytes < HISTORY_TURN_BYTES
            && let Some(made) = self.shard.answer_next_history(self.now)
        {
            bytes += made;
        }
        self.take_batches();
        self.shard.publish(&self.hub, self.now);
        self.take_batches();
        self.shard.answer_webhooks(self.now);
        self.shard.tick(self.now);
        self.shard.sweep(self.now);
        self.shard.end_sweep(self.now);
        self.shard.end_turn();
    }

    fn take_batches(&mut self) {
        while let Ok(batch) = self.inbox.try_recv() {
            self.shard.deliver(&batch);
        }
    }

    /// Publishes messages of so many bytes and delivers them, without a turn.
    fn publish(&mut self, messages: usize, bytes: usize) {
        self.publish_to(None, messages, bytes);
    }

    /// The same, to a session.
    fn publish_to(&mut self, session: Option<&str>, messages: usize, bytes: usize) {
        let draft = Draft {
            session: session.and_then(|name| SessionId::parse(name).unwrap()),
            content: "x".repeat(bytes),
        };
        let mut drafts = VecDeque::from(vec![draft; messages]);
        let mut outcomes = Vec::new();
        let sender = self.hub.new_sender();
        self.hub
            .publish(sender, &mut drafts, self.now.unix_ms, &mut outcomes);
        assert!(drafts.is_empty() && outcomes.iter().all(Result::is_ok));
        self.take_batches();
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.mono_us += ms * 1000;
        self.now.unix_ms += ms;
    }
}

/// What the bound of the memory is derived from: beside a small request, what is there once for each
/// connection.
#[test]
fn a_connection_takes_no_more_than_is_reckoned_with() {
    use crate::limits::{
        CONNECTION_BYTES_MAX, LOG_SESSION_BUCKET_BYTES, LOG_SESSION_BYTES, LOG_SESSION_OWN_BYTES,
        SMALL_REQUEST_BYTES_MAX,
    };
    /// What the allocator adds to each piece at most.
    const PIECE: usize = 16;
    // Places in queues of slots or tokens: round, sweep, unfinished, put off, answered.
    let queues = 2 * size_of::<u32>() + 2 * size_of::<Token>() + size_of::<u64>();
    let webhook =
        size_of::<Draft>() + size_of::<Publisher>() + size_of::<Result<Receipt, NotStored>>();
    let slot = size_of::<Connection<crate::net::socket::LayeredSocket>>();
    let layers = size_of::<crate::net::socket::Layered>() + PIECE;
    let reader = size_of::<RequestReader>() + 2 * PIECE;
    let session = LOG_SESSION_BYTES + 4 * LOG_SESSION_BUCKET_BYTES + LOG_SESSION_OWN_BYTES;
    let each = slot + layers + reader + session + 2 * (queues + webhook);
    println!(
        "{slot} bytes for the slot, {layers} for layers, {reader} for the reader, {each} in all"
    );
    assert!(
        each <= CONNECTION_BYTES_MAX - SMALL_REQUEST_BYTES_MAX,
        "{each}"
    );
}

/// A process that was stopped for a minute finds its sockets writable again: it has to write before
/// it may say that nobody reads.
#[test]
fn a_stream_whose_socket_takes_bytes_again_is_not_stalled() {
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
    assert!(peer.is_closed(), "one that takes nothing is");
}

/// The end of the peer's side ends its stream, also when it comes with the request: epoll tells of
/// both at once, and of neither again.
#[test]
fn a_stream_of_a_peer_that_has_left_is_not_opened() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.open(&peer);
    peer.send(STREAM);
    peer.0.borrow_mut().has_ended = true;
    let hung_up = Readiness {
        hung_up: true,
        ..READABLE
    };
    node.turn(&[(token, hung_up)]);
    assert!(peer.is_closed());
    assert_eq!(peer.take(), "", "it is told nothing");
    assert_eq!((node.shard.streams(), node.shard.connections()), (0, 0));
}

/// Where the order that the nodes share is not that of arrival, the first messages of a stream are copies
/// of its own: in its framing, which in HTTP/1.0 is none.
#[test]
fn what_is_copied_for_a_stream_has_its_framing() {
    let mut node = Node::with(|settings| settings.held_bytes_max = 1 << 20);
    node.publish(130, 10);
    // All that stands before 41 is copied.
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

/// What a peer sends to its stream is dropped, all of it: where it fills the socket, the end of the
/// peer's side stands behind it.
#[test]
fn what_is_sent_to_a_stream_is_read_to_its_end() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    let token = node.ask(&peer, STREAM);
    peer.send(&vec![b'x'; 3 * READS_PER_TURN * READ_BYTES]);
    peer.0.borrow_mut().has_ended = true;
    node.turn(&[(token, READABLE)]);
    assert_eq!(node.shard.idle_ms(node.now), Some(0));
    node.turn(&[]);
    node.turn(&[]);
    assert!(peer.is_closed(), "it has said that it leaves");
}

/// Readiness is told once. Bytes that come while a webhook waits for the hub belong to the stream
/// that is asked for behind it.
#[test]
fn what_came_before_a_stream_began_is_read_too() {
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

/// The end of the peer's side is told of once as well, and may stand behind bytes that the stream drops.
#[test]
fn a_peer_that_left_before_its_stream_began_is_let_go() {
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
    let hung_up = Readiness {
        hung_up: true,
        ..READABLE
    };
    node.shard.ready(token, hung_up, node.now);
    for _ in 0..4 {
        node.turn(&[]);
    }
    assert!(peer.is_closed(), "nothing will tell of it again");
}

/// A client that pipelines may have filled its socket with answers when it is to be told to go on.
#[test]
fn a_100_that_does_not_fit_waits_for_room() {
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

/// 20,000 bytes are for all connections of the node: slow uploads take them up, and give them back.
#[test]
fn slow_uploads_are_bounded_together_and_what_comes_in_one_piece_is_served() {
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

    // In one piece; and small, in two.
    let whole = Peer::with_room(10_000);
    node.ask(&whole, request.as_bytes());
    assert!(whole.take().starts_with("HTTP/1.1 200 "));
    let small = Peer::with_room(10_000);
    let token = node.ask(&small, b"GET /api/webhook HTTP/1.1\r\n");
    assert_eq!(small.take(), "");
    small.send(b"Host: a\r\n\r\n");
    node.turn(&[(token, READABLE)]);
    assert!(small.take().starts_with("HTTP/1.1 200 "));

    // Those that were let in are served, and then there is room again.
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

/// How many answers a peer got.
fn answers(peer: &Peer) -> usize {
    peer.take().matches("HTTP/1.1 ").count()
}

/// Peers that ask and read nothing.
#[test]
fn answers_that_nobody_takes_are_bounded_together() {
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
        (node.shard.shares.connections(), node.shard.connections()),
        (0, 0)
    );
}

/// 3,000 webhooks of 3,000 bytes, all there at once, take more than may wait for the hub.
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
    let waiting = node.shard.drafts.len();
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
    assert_eq!(
        (node.shard.drafts.len(), node.shard.publishing_bytes),
        (0, 0)
    );
}

/// What passes before the next turn, in which nobody is behind, is no part of a sweep.
#[test]
fn the_time_of_a_sweep_ends_with_its_last_slice() {
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

/// The walk along a session's streams takes two slices, and a message comes between them.
#[test]
fn a_message_that_comes_while_a_session_is_walked_along_reaches_all_of_it() {
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

fn fanned_out() -> Node {
    Node::with(|settings| {
        settings.fanout_life = Some(Duration::from_secs(10));
        settings.access = Access::new(None).fanned_out();
    })
}

/// The life in seconds that the head of a shared stream gives a cache.
fn shared_s(text: &str) -> u64 {
    let (_, rest) = text.split_once("s-maxage=").expect(text);
    rest.split_once(',').unwrap().0.parse().unwrap()
}

/// What a cache may still give out must not have ended: it would be a recording.
#[test]
fn a_shared_stream_outlives_its_freshness_and_ends_in_good_order_by_its_life() {
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

/// Its end is told once, and its peer may never take it.
#[test]
fn a_shared_stream_that_takes_nothing_is_closed_though_its_life_is_over() {
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

#[test]
fn a_shared_stream_is_cut_off_by_a_drain_and_others_are_not() {
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

/// A thread that did not run for a while comes back behind the deadline of the drain.
#[test]
fn a_drain_that_tells_streams_late_leaves_them_the_time_for_their_last_bytes() {
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
    assert!(!slow.is_closed(), "it was told just now");
    slow.make_room(10_000);
    node.turn(&[(slow_token, WRITABLE)]);
    assert!(slow.take().ends_with("0\r\n\r\n"));
    // That is for once: what takes nothing is cut off.
    node.pass(1000);
    node.turn(&[]);
    assert!(slow.is_closed());
}

/// A proxy sends a request on a connection that it has kept, or has just opened, while the drain
/// begins: neither side can know.
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

/// Else a proxy sends a webhook on the connection of a stream that has ended, while we close it.
#[test]
fn a_stream_says_that_its_connection_ends_with_it() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    node.ask(&peer, STREAM);
    assert!(peer.take().contains("Connection: close\r\n"));
}
