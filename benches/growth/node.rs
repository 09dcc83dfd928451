//! A node with one shard, driven by the server's own turns, with sockets and a kernel in memory.
//!
//! Time stands still but for [`Node::beat`]. A socket takes every byte and keeps 8 bytes of its own, so that
//! what is measured is the shard. The hub publishes outside of what is timed: its cost does not depend on the
//! number of streams.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use hookcast::clock::Now;
use hookcast::hub::{Batch, Hub};
use hookcast::limits::{HELD_BYTES_MAX, LOG_BYTES_MIN};
use hookcast::message::{Draft, SessionId};
use hookcast::ring::Ring;
use hookcast::shard::judging::SourceRequest;
use hookcast::shard::poller::{Accepted, Command, Event, Poller, Ready};
use hookcast::shard::presence::Question;
use hookcast::shard::turn::Turns;
use hookcast::shard::{HandoverConnection, Readiness, Settings, Shard, Token, Transport};
use hookcast::testkit::{draft, now_at, outlet, settings};

/// Bytes of a message's text.
const CONTENT_BYTES: usize = 128;

/// Messages of a batch that is published for sessions.
pub const TARGETED_BATCH: usize = 64;

/// Bytes that the live log holds of each message at least. A log is full after so many messages.
const FRAME_BYTES_LEAST: usize = 256;

/// The time between two heartbeats of a stream, in milliseconds: the server's default.
pub const HEARTBEAT_MS: u64 = 2_000;

/// The CPU time of this thread: other processes do not count. Zero if no time is taken.
pub fn cpu_time() -> Duration {
    if !IS_TIMED.get() {
        return Duration::ZERO;
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The CPU time since an earlier one.
pub fn since(began: Duration) -> Duration {
    cpu_time().saturating_sub(began)
}

/// Takes no time from now on. A simulator of the processor has no such clock.
pub fn stop_clock() {
    IS_TIMED.set(false);
}

thread_local! {
    /// What all sockets have taken: writes and bytes.
    static TAKEN: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    static IS_TIMED: Cell<bool> = const { Cell::new(true) };
}

/// The writes to all sockets, and their bytes.
pub fn taken() -> (u64, u64) {
    TAKEN.get()
}

/// Which messages the streams of a node see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Each stream sees every message.
    Everyone,
    /// Each stream has a session of its own.
    Sessions,
}

/// A client that subscribes and takes every byte.
pub struct Sink {
    /// The number of its session, if it has one.
    session: u32,
    has_subscribed: bool,
}

/// The session of a client without one.
const NO_SESSION: u32 = u32::MAX;

/// The bytes that a socket takes of a connection's memory. They are not the shard's.
pub const SINK_BYTES: usize = size_of::<Sink>();

impl Transport for Sink {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const ALL: &[u8] = b"GET /api/webhook/stream HTTP/1.1\r\nHost: bench\r\n\r\n";
        const ONE: &[u8] =
            b"GET /api/webhook/stream?sessionId=00000000 HTTP/1.1\r\nHost: bench\r\n\r\n";
        const DIGITS_AT: usize = 34;
        if std::mem::replace(&mut self.has_subscribed, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.session == NO_SESSION {
            buffer[..ALL.len()].copy_from_slice(ALL);
            return Ok(ALL.len());
        }
        buffer[..ONE.len()].copy_from_slice(ONE);
        buffer[DIGITS_AT..DIGITS_AT + 8].copy_from_slice(&digits(self.session));
        Ok(ONE.len())
    }

    fn write(&mut self, extents: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes = extents.iter().map(|extent| extent.len()).sum();
        let (writes, taken) = TAKEN.get();
        TAKEN.set((writes + 1, taken + bytes as u64));
        Ok(bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The name of a session: eight hexadecimal digits.
fn digits(session: u32) -> [u8; 8] {
    std::array::from_fn(|at| b"0123456789abcdef"[(session >> (28 - 4 * at)) as usize & 15])
}

fn session_id(session: u32) -> SessionId {
    let name = digits(session);
    let name = std::str::from_utf8(&name).expect("digits are ASCII");
    SessionId::parse(name)
        .expect("it is short")
        .expect("it is not empty")
}

/// The events of a poll.
struct Polled {
    room: usize,
    events: Vec<Event>,
}

impl Ready for Polled {
    fn with_room(room: usize) -> Polled {
        let events = Vec::with_capacity(room);
        Polled { room, events }
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter().copied()
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.room
    }
}

/// The kernel: a listen queue and an event queue.
struct Kernel {
    waiting: VecDeque<Sink>,
    events: VecDeque<Event>,
    inbox: Receiver<Arc<Batch>>,
    /// Connections that were added since they were last taken, with their sessions.
    opened: Vec<(Token, u32)>,
}

/// There is no process that takes connections over.
enum Nobody {}

impl Poller for Kernel {
    type Socket = Sink;
    type Ready = Polled;
    type Successor = Nobody;

    fn poll_priority(&mut self, ready: &mut Polled) -> bool {
        ready.events.clear();
        true
    }

    fn add(&mut self, socket: &Sink, token: Token) -> bool {
        self.opened.push((token, socket.session));
        let readiness = Readiness {
            readable: true,
            ..Readiness::default()
        };
        self.events.push_back(Event::Connection(token, readiness));
        true
    }

    fn promote(&mut self, _: &Sink, _: Token) {}

    fn next_batch(&mut self) -> Option<Arc<Batch>> {
        self.inbox.try_recv().ok()
    }

    fn judge(&mut self, _: SourceRequest) -> bool {
        false
    }

    fn ask(&mut self, _: &Arc<Question>) {}

    fn send_back(&mut self, _: usize, _: Arc<Question>) {}

    fn next_command(&mut self) -> Option<Command<Sink, Nobody>> {
        None
    }

    fn listeners(&self) -> usize {
        1
    }

    fn set_listener_ready(&mut self, _: usize) {}

    fn is_listener_ready(&self, _: usize, _: Now) -> bool {
        !self.waiting.is_empty()
    }

    fn accept(&mut self, _: usize, _: Now) -> Accepted<Sink> {
        let sink = self.waiting.pop_front();
        sink.map_or(Accepted::NoneWaiting, Accepted::Connection)
    }

    fn postpone(&mut self, _: usize, _: Now) {}

    fn stop_accepting(&mut self) {}

    fn shards(&self) -> usize {
        1
    }

    fn load(&self, _: usize) -> usize {
        0
    }

    fn connections_max(&self) -> usize {
        usize::MAX
    }

    fn count_opened(&mut self) {}

    fn count_closed(&mut self, _: usize) {}

    fn hand(&mut self, _: usize, sink: Sink) -> Result<(), Sink> {
        Err(sink)
    }

    fn hand_over(&mut self, _: HandoverConnection<Sink>, _: Option<&Nobody>) {}
}

/// See the module's description.
pub struct Node {
    audience: Audience,
    hub: Hub,
    shard: Shard<Sink>,
    kernel: Kernel,
    turns: Turns<Polled, Nobody>,
    /// Monotonic milliseconds.
    now_ms: u64,
    /// The open streams and their sessions.
    streams: Vec<(Token, u32)>,
    sessions: u32,
    rng: fastrand::Rng,
    _directory: tempfile::TempDir,
}

impl Node {
    /// A node with a full history and a full live log. It will have so many streams.
    pub fn new(audience: Audience, streams: usize) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let (ring, recovered) = Ring::open(&directory.path().join("ring"), 65_536).unwrap();
        let (outlet, inbox) = outlet(64);
        let hub = Hub::new(ring, recovered.messages, vec![outlet], None);
        let settings = Settings {
            heartbeat_interval: Duration::from_millis(HEARTBEAT_MS),
            body_bytes_max: 65_536,
            held_bytes_max: HELD_BYTES_MAX,
            log_bytes_min: LOG_BYTES_MIN,
            ..settings()
        };
        let shard = Shard::new(Arc::new(settings), &hub, 1, now_at(0));
        let mut node = Node {
            audience,
            hub,
            shard,
            kernel: Kernel {
                waiting: VecDeque::with_capacity(streams),
                events: VecDeque::with_capacity(64),
                inbox,
                opened: Vec::with_capacity(streams),
            },
            turns: Turns::default(),
            now_ms: 0,
            // Written to, so that it is resident before memory is measured.
            streams: vec![
                (
                    Token {
                        slot: 1,
                        generation: 1
                    },
                    1
                );
                streams + streams / 10 + 1
            ],
            sessions: 0,
            rng: fastrand::Rng::with_seed(streams as u64),
            _directory: directory,
        };
        node.streams.clear();
        node.fill_log();
        node
    }

    fn fill_log(&mut self) {
        for _ in 0..LOG_BYTES_MIN / FRAME_BYTES_LEAST / TARGETED_BATCH {
            self.publish(TARGETED_BATCH);
            self.settle();
        }
    }

    /// Fills the log again, with messages for sessions that have a stream.
    pub fn fill_log_with_targeted(&mut self) {
        for _ in 0..LOG_BYTES_MIN / FRAME_BYTES_LEAST / TARGETED_BATCH {
            self.publish_targeted(TARGETED_BATCH);
            self.settle();
        }
    }

    pub fn audience(&self) -> Audience {
        self.audience
    }

    /// Open streams.
    pub fn len(&self) -> usize {
        assert_eq!(self.streams.len(), self.shard.streams());
        self.streams.len()
    }

    /// Publishes messages for every stream. The next turn takes them.
    pub fn publish(&mut self, messages: usize) {
        let draft = draft("x".repeat(CONTENT_BYTES));
        self.give_to_hub(vec![draft; messages].into());
    }

    /// Publishes messages, each for the session of one of the streams.
    pub fn publish_targeted(&mut self, messages: usize) {
        let drafts = (0..messages).map(|_| {
            let (_, session) = self.streams[self.rng.usize(..self.streams.len())];
            Draft {
                session: Some(session_id(session)),
                ..draft("x".repeat(CONTENT_BYTES))
            }
        });
        let drafts = drafts.collect();
        self.give_to_hub(drafts);
    }

    fn give_to_hub(&self, mut drafts: VecDeque<Draft>) {
        let mut outcomes = Vec::new();
        let sender = self.hub.new_sender();
        self.hub
            .publish(sender, &mut drafts, self.now(), &mut outcomes);
        assert!(drafts.is_empty() && outcomes.iter().all(Result::is_ok));
    }

    /// So many clients connect. The next turns accept them.
    pub fn connect(&mut self, clients: usize) {
        for _ in 0..clients {
            let session = match self.audience {
                Audience::Everyone => NO_SESSION,
                Audience::Sessions => self.sessions,
            };
            self.sessions += 1;
            self.kernel.waiting.push_back(Sink {
                session,
                has_subscribed: false,
            });
        }
    }

    /// Notes the streams that connects have opened.
    pub fn note_opened(&mut self) {
        self.streams.append(&mut self.kernel.opened);
    }

    /// So many of the streams, taken at random, are hung up by their peers.
    pub fn hang_up(&mut self, streams: usize) {
        let readiness = Readiness {
            readable: true,
            hung_up: true,
            ..Readiness::default()
        };
        for _ in 0..streams {
            let at = self.rng.usize(..self.streams.len());
            let (token, _) = self.streams.swap_remove(at);
            let event = Event::Connection(token, readiness);
            self.kernel.events.push_back(event);
        }
    }

    /// Runs turns until nothing is left to do, and returns how long they took.
    #[inline(never)]
    pub fn timed(&mut self) -> Duration {
        let began = cpu_time();
        self.settle();
        since(began)
    }

    /// Lets an interval of heartbeats pass, and returns how long its turns took.
    #[inline(never)]
    pub fn timed_beat(&mut self) -> Duration {
        let began = cpu_time();
        self.beat();
        since(began)
    }

    /// Runs turns until nothing is left to do. Returns how long the longest took.
    pub fn longest_turn(&mut self) -> Duration {
        let mut longest = Duration::ZERO;
        while self.has_work() {
            let began = cpu_time();
            self.run_turn();
            longest = longest.max(since(began));
        }
        longest
    }

    fn beat(&mut self) {
        let end_ms = self.now_ms + HEARTBEAT_MS;
        while let Some(idle_ms) = self.shard.idle_ms(self.now())
            && self.now_ms + idle_ms <= end_ms
        {
            self.now_ms += idle_ms;
            self.run_turn();
        }
        self.now_ms = end_ms;
        self.settle();
    }

    /// Runs turns until nothing is left to do.
    pub fn settle(&mut self) {
        while self.has_work() {
            self.run_turn();
        }
    }

    fn has_work(&self) -> bool {
        !self.kernel.inbox.is_empty()
            || !self.kernel.events.is_empty()
            || !self.kernel.waiting.is_empty()
            || self.shard.idle_ms(self.now()) == Some(0)
    }

    fn run_turn(&mut self) {
        let standard = &mut self.turns.standard;
        let count = self.kernel.events.len().min(standard.room);
        standard.events.clear();
        standard.events.extend(self.kernel.events.drain(..count));
        let now = now_at(self.now_ms);
        self.turns
            .run(&mut self.kernel, &mut self.shard, &self.hub, || now);
    }

    fn now(&self) -> Now {
        now_at(self.now_ms)
    }
}
