//! A shard with sockets in memory, turn by turn: regressions and likely faults.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::rc::Rc;

use crossbeam_channel::Receiver;

use super::*;
use crate::limits::{
    DRAIN_IDLE_MS, HISTORY_MESSAGES, HISTORY_TURN_BYTES, READS_PER_TURN, SLICE_VISITS, SLICE_WRITES,
};
use crate::live_log::SharedHistory;
use crate::message::SessionId;
use crate::metrics::Metrics;
use crate::shard::client::Client;
use crate::testkit::{hub_in_memory, hub_with_commits, now_at, settings};

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

/// A shard, its hub and its inbox.
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

    /// One turn, in the reactor's order.
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

    /// Publishes messages with `bytes` of content and delivers them, without a turn.
    fn publish(&mut self, messages: usize, bytes: usize) {
        self.publish_to(None, messages, bytes);
    }

    /// Publishes to a session, or to all.
    fn publish_to(&mut self, session: Option<&str>, messages: usize, bytes: usize) {
        let draft = Draft {
            session: session.and_then(|name| SessionId::parse(name).unwrap()),
            content: "x".repeat(bytes),
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
    let reader = size_of::<RequestReader>() + 2 * OVERHEAD;
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
    let hung_up = Readiness {
        hung_up: true,
        ..READABLE
    };
    node.turn(&[(token, hung_up)]);
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

/// Input on a stream is read and dropped to its end. If it fills the socket, the end of the peer's
/// side is behind it.
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
/// stream that is requested behind it.
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
    let hung_up = Readiness {
        hung_up: true,
        ..READABLE
    };
    node.shard.ready(token, hung_up, node.now);
    for _ in 0..4 {
        node.turn(&[]);
    }
    assert!(peer.is_closed(), "there is no further event");
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
        (node.shard.shares.connections(), node.shard.connections()),
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

/// A proxy must not reuse the connection of a stream: its webhook could arrive just when the server
/// closes the connection.
#[test]
fn a_stream_response_announces_that_its_connection_closes() {
    let mut node = Node::new();
    let peer = Peer::with_room(10_000);
    node.ask(&peer, STREAM);
    assert!(peer.take().contains("Connection: close\r\n"));
}
