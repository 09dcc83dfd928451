//! The reading side: one thread that keeps streams open over all nodes, and checks each of them.
//!
//! A stream that ends connects again with its last event id, to any node. Like `streams` it uses
//! edge-triggered epoll and one shared buffer, and most messages are compared, not parsed. Run in processes of
//! their own, since a process may open too few descriptors for all streams. `opening` connects streams, `summary` counts at
//! the end.

mod flow;
mod foreign;
mod opening;
mod summary;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::Socket;

use crate::engine::clock::{SECOND_NS, now_ns};
use crate::engine::cluster::lives::{Ends, Life};
use crate::engine::cluster::order::{Order, Place};
use crate::engine::cluster::plan::{Outcome, Plan, Report, Request, Status};
use crate::engine::cluster::reader::flow::Flow;
use crate::engine::cluster::reader::foreign::check_view;
use crate::engine::cluster::trail::{Tally, Trail};
use crate::engine::epoll::{Poll, Readiness};
use crate::engine::event::{Event, ScanError, Shape};
use crate::engine::scanner::{Scanner, whole_chunk};
use crate::engine::stream::{Phase, place};
use crate::engine::target::Target;
use crate::engine::tokens::{Issuer, unix_ms};

/// Bytes of the shared read buffer.
const READ_BYTES: usize = 128 * 1024;

/// Longest wait before due connects and requests are looked for.
const TURN: Duration = Duration::from_millis(5);

/// Interval of a [`Status`].
const STATUS_INTERVAL_NS: u64 = 100_000_000;

/// A longer turn is a pause of this process, and no node is late meanwhile.
const PAUSE_NS: u64 = SECOND_NS / 2;

struct Stream {
    socket: Option<Socket>,
    phase: Phase,
    /// Distinguishes this connection from earlier ones.
    generation: u32,
    node: usize,
    opened_at_ns: u64,
    has_been_open: bool,
    scanner: Scanner,
    trail: Trail,
    /// That of the present connection, if it has a token.
    life: Option<Life>,
}

struct Reader {
    plan: Plan,
    targets: Vec<Target>,
    issuer: Option<Issuer>,
    poll: Poll,
    shape: Shape,
    order: Order,
    buffer: Vec<u8>,
    streams: Vec<Stream>,
    /// Closed streams, by the time at which they connect.
    waiting: BinaryHeap<Reverse<(u64, usize)>>,
    /// Streams without a response head.
    opening: usize,
    open: usize,
    opened: usize,
    /// Since when this process reads without a pause, in Unix milliseconds.
    awake_ms: u64,
    random: u64,
    mark: Option<u32>,
    wander_at: usize,
    wander_due_ns: u64,
    flow: Flow,
    tally: Tally,
    outcome: Outcome,
}

/// Keeps streams open until a request or the end of requests stops it.
pub fn run(
    plan: Plan,
    requests: &Receiver<Request>,
    report: &mut dyn FnMut(Report),
) -> io::Result<()> {
    Reader::new(plan)?.run(requests, report)
}

impl Reader {
    fn new(plan: Plan) -> io::Result<Reader> {
        let format = plan.format.clone();
        let target = |&address: &SocketAddr| Target::hookcast("node", address, Vec::new());
        let tokens = plan.tokens.as_ref();
        let issuer = tokens.map(|tokens| Issuer::read(&tokens.key)).transpose()?;
        let trail = if plan.views.are_partial() {
            Trail::in_part()
        } else {
            Trail::default()
        };
        let streams = (0..plan.streams).map(|at| Stream {
            socket: None,
            phase: Phase::Closed,
            generation: 0,
            node: (plan.first + at) % plan.nodes.len(),
            opened_at_ns: 0,
            has_been_open: false,
            scanner: Scanner::default(),
            trail: trail.clone(),
            life: None,
        });
        Ok(Reader {
            targets: plan.nodes.iter().map(target).collect(),
            issuer,
            poll: Poll::new()?,
            shape: Shape::without_history(format),
            order: Order::default(),
            buffer: vec![0; READ_BYTES],
            streams: streams.collect(),
            waiting: (0..plan.streams).map(|at| Reverse((0, at))).collect(),
            opening: 0,
            open: 0,
            opened: 0,
            awake_ms: 0,
            random: plan.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            mark: None,
            wander_at: 0,
            wander_due_ns: 0,
            flow: Flow::new(plan.nodes.len()),
            tally: Tally::default(),
            outcome: Outcome::default(),
            plan,
        })
    }

    fn run(
        mut self,
        requests: &Receiver<Request>,
        report: &mut dyn FnMut(Report),
    ) -> io::Result<()> {
        let (mut status_due_ns, mut turn_ns) = (0, now_ns());
        loop {
            match requests.try_recv() {
                Ok(Request::Mark(number)) => self.mark = number,
                Ok(Request::Finish(acknowledged)) => {
                    let outcome = self.finish(&acknowledged)?;
                    report(Report::Outcome(Box::new(outcome)));
                    return Ok(());
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            self.open_due();
            self.wander();
            self.poll.wait(TURN)?;
            for at in 0..self.poll.len() {
                let readiness = self.poll.get(at);
                self.handle(readiness);
            }
            let now_ns = now_ns();
            if now_ns > turn_ns + PAUSE_NS {
                self.awake_ms = unix_ms();
            }
            turn_ns = now_ns;
            if now_ns >= status_due_ns {
                status_due_ns = now_ns + STATUS_INTERVAL_NS;
                self.give_up_slow(now_ns);
                self.give_up_overdue();
                report(Report::Status(self.status()));
            }
        }
    }

    fn status(&self) -> Status {
        let places = self.mark.map(|number| self.order.places_of(number));
        let places: Vec<_> = places.into_iter().flatten().collect();
        let has_mark = |stream: &&Stream| stream.trail.has(&places);
        Status {
            open: self.open,
            opened: self.opened,
            marked: self.streams.iter().filter(has_mark).count(),
            deliveries: self.flow.deliveries,
        }
    }

    /// Moves the next few streams to other nodes, each once in the interval.
    fn wander(&mut self) {
        if self.plan.wander_ms == 0 || self.plan.nodes.len() < 2 || self.mark.is_some() {
            self.wander_due_ns = now_ns();
            return;
        }
        let interval_ns = self.plan.wander_ms * 1_000_000 / self.streams.len().max(1) as u64;
        let now_ns = now_ns();
        while self.wander_due_ns <= now_ns {
            self.wander_due_ns += interval_ns.max(1_000);
            let at = self.wander_at;
            self.wander_at = (at + 1) % self.streams.len();
            if self.streams[at].phase == Phase::Open {
                self.outcome.moves += 1;
                self.close(at);
                self.move_on(at);
                self.waiting.push(Reverse((now_ns, at)));
            }
        }
    }

    /// Takes another node than the present one.
    fn move_on(&mut self, at: usize) {
        let others = self.plan.nodes.len() - 1;
        if others > 0 {
            let step = 1 + self.random_below(others as u64) as usize;
            let stream = &mut self.streams[at];
            stream.node = (stream.node + step) % self.plan.nodes.len();
        }
    }

    fn random_below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % end.max(1)
    }

    #[inline]
    fn handle(&mut self, readiness: Readiness) {
        let (at, generation) = place(readiness.token);
        let stream = &self.streams[at];
        if stream.generation != generation || stream.socket.is_none() {
            return;
        }
        if stream.phase == Phase::Connecting && readiness.writable {
            self.request(at);
        }
        if readiness.readable || readiness.closed {
            self.read(at, readiness.closed);
        }
    }

    /// Reads until the socket is empty: after a read that does not fill the buffer (epoll(7)), or at the end of
    /// the stream, which may be in the same event as its last bytes.
    #[inline]
    fn read(&mut self, at: usize, is_closed: bool) {
        loop {
            let Some(socket) = &self.streams[at].socket else {
                return;
            };
            match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return self.ended(at),
                Ok((length, _)) => {
                    if let Err(error) = self.scan(at, length) {
                        return self.failed(at, &error);
                    }
                    if length < READ_BYTES && !is_closed {
                        return;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return self.broken(at, io::Error::from(error).kind().to_string()),
            }
        }
    }

    /// Checks the bytes of one read.
    #[inline]
    fn scan(&mut self, at: usize, length: usize) -> Result<(), ScanError> {
        let stream = &mut self.streams[at];
        let mut check = Check {
            shape: &mut self.shape,
            order: &mut self.order,
            flow: &mut self.flow,
            tally: &mut self.tally,
            ends: &mut self.outcome.ends,
            plan: &self.plan,
            at: self.plan.first + at,
            awake_ms: self.awake_ms,
            now_ns: now_ns(),
            has_opened: false,
            without_id: 0,
        };
        let result = check.read(stream, &self.buffer[..length]);
        let (has_opened, without_id) = (check.has_opened, check.without_id);
        if without_id > 0 {
            let errors = &mut self.outcome.errors;
            *errors
                .entry("a message without an event id".into())
                .or_default() += without_id;
        }
        if has_opened && stream.phase == Phase::Requested {
            stream.phase = Phase::Open;
            self.opening -= 1;
            self.open += 1;
            self.opened += usize::from(!stream.has_been_open);
            stream.has_been_open = true;
        }
        result
    }

    fn ended(&mut self, at: usize) {
        if self.streams[at].phase != Phase::Open {
            return self.refused(at, "closed before the response head".into());
        }
        if self.streams[at].scanner.may_end() {
            self.outcome.ended += 1;
            self.end_life(at, true);
            self.again(at);
        } else {
            self.broken(at, "cut off".into());
        }
    }

    fn failed(&mut self, at: usize, error: &ScanError) {
        if let ScanError::Status(status) = error {
            if let Some(life) = &self.streams[at].life {
                life.refused(*status, unix_ms(), &mut self.outcome.ends);
            }
            return self.refused(at, error.to_string());
        }
        *self.outcome.errors.entry(error.to_string()).or_default() += 1;
        self.again(at);
    }

    fn broken(&mut self, at: usize, error: String) {
        if self.streams[at].phase != Phase::Open {
            return self.refused(at, error);
        }
        self.outcome.broken += 1;
        self.end_life(at, false);
        self.again(at);
    }

    /// A node has ended an open stream.
    fn end_life(&mut self, at: usize, in_order: bool) {
        if let Some(life) = self.streams[at].life.take() {
            life.closed(unix_ms(), in_order, &mut self.outcome.ends);
        }
    }

    fn refused(&mut self, at: usize, reason: String) {
        *self.outcome.refused.entry(reason).or_default() += 1;
        self.again(at);
    }

    /// Connects again a moment later: to any node after an open stream, else to another one.
    fn again(&mut self, at: usize) {
        let was_open = self.streams[at].phase == Phase::Open;
        self.close(at);
        let nodes = self.plan.nodes.len() as u64;
        if !was_open || self.random_below(nodes) > 0 {
            self.move_on(at);
        }
        let delay_ns = self.plan.reconnect_ms * 1_000_000;
        let due_ns = now_ns() + delay_ns / 2 + self.random_below(delay_ns.max(1));
        self.waiting.push(Reverse((due_ns, at)));
    }

    fn close(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        match stream.phase {
            Phase::Connecting | Phase::Requested => self.opening -= 1,
            Phase::Open => self.open -= 1,
            Phase::Closed => {}
        }
        stream.phase = Phase::Closed;
        stream.socket = None;
    }
}

/// The parts of the reader that the bytes of a stream concern.
struct Check<'a> {
    shape: &'a mut Shape,
    order: &'a mut Order,
    flow: &'a mut Flow,
    tally: &'a mut Tally,
    ends: &'a mut Ends,
    plan: &'a Plan,
    /// The number of the stream among those of all processes.
    at: usize,
    awake_ms: u64,
    now_ns: u64,
    has_opened: bool,
    /// Messages without an event id.
    without_id: u64,
}

impl Check<'_> {
    #[inline]
    fn read(&mut self, stream: &mut Stream, mut bytes: &[u8]) -> Result<(), ScanError> {
        while !bytes.is_empty() {
            if !stream.scanner.is_between_chunks() {
                // After a lagging read most reads begin within a chunk.
                let end = stream.scanner.bytes_to_boundary(bytes);
                let (part, rest) = bytes.split_at(end);
                self.parse(stream, part, None)?;
                bytes = rest;
                continue;
            }
            if stream.trail.may_advance()
                && let Some((at, used)) = self.order.recognise(stream.trail.last(), bytes)
            {
                if self.order.has_twin(at) {
                    stream.trail.arrive(self.order, at, self.tally);
                } else {
                    stream.trail.advance(at);
                }
                if let Some(life) = &mut stream.life {
                    life.message();
                }
                self.note(stream, at);
                bytes = &bytes[used..];
                continue;
            }
            let Some(unit) = whole_chunk(bytes) else {
                return self.parse(stream, bytes, None);
            };
            let (chunk, rest) = bytes.split_at(unit.end);
            self.parse(stream, chunk, Some(unit.data.len()))?;
            bytes = rest;
        }
        Ok(())
    }

    /// Parses bytes: one chunk with this many bytes of data, or any.
    fn parse(
        &mut self,
        stream: &mut Stream,
        bytes: &[u8],
        data_bytes: Option<usize>,
    ) -> Result<(), ScanError> {
        stream
            .scanner
            .feed(bytes, self.shape, &mut |event| match event {
                Event::Opened => self.has_opened = true,
                Event::Connected { id, .. } => stream.trail.begin(id.and_then(Place::parse)),
                Event::TokenExpiring => {
                    if let Some(life) = &mut stream.life {
                        life.warned();
                    }
                }
                Event::TokenExpired => {
                    if let Some(life) = &mut stream.life {
                        life.expired(unix_ms(), self.awake_ms, self.ends);
                    }
                }
                Event::Gap { missed } => stream.trail.gap(missed, self.tally),
                Event::Messages {
                    stamps,
                    bytes: frame,
                } => {
                    let unit = (data_bytes == Some(frame.len())).then_some(bytes);
                    let stamp = stamps.first();
                    let met = stamp.and_then(|&stamp| self.order.meet(stamp, frame, unit).ok());
                    let Some(at) = met else {
                        self.without_id += 1;
                        return;
                    };
                    if let Some(life) = &mut stream.life {
                        life.message();
                    }
                    if !check_view(self.plan.views, self.at, self.order.get(at), self.tally) {
                        return;
                    }
                    stream.trail.arrive(self.order, at, self.tally);
                    let entry = self.order.get(at);
                    self.flow
                        .note(entry, stream.node, stream.opened_at_ns, self.now_ns);
                }
                _ => {}
            })
    }

    #[inline]
    fn note(&mut self, stream: &Stream, at: u32) {
        let entry = self.order.get(at);
        self.flow
            .note(entry, stream.node, stream.opened_at_ns, self.now_ns);
    }
}
