//! The reading side: one thread that opens up to 20,000 streams, reads all of them and checks each.
//!
//! It must cost less than the server: edge-triggered epoll, one `recv` for each readiness into one shared
//! buffer, one clock read for each `recv`, and a scanner that touches a few bytes of each event. A read that
//! does not fill the buffer has emptied the socket (epoll(7)), but for the end of the stream.
//!
//! Run by `measurement` on a thread of its own. Publishes its counters through `control`, and everything else
//! at its end.

mod opening;

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use crate::engine::check::Checker;
use crate::engine::clock::now_ns;
use crate::engine::control::{Control, TOTAL_UNKNOWN};
use crate::engine::epoll::{Poll, Readiness};
use crate::engine::event::{Event, ScanError, Shape};
use crate::engine::gzip::Pieces;
use crate::engine::observed::{Fields, Observer};
use crate::engine::payload::PayloadFormat;
use crate::engine::scanner::Scanner;
use crate::engine::stream::{Phase, Stream, place, remember_event_id};
use crate::engine::streams_outcome::StreamsOutcome;
use crate::engine::target::Target;

/// Bytes of the shared read buffer: more than one read returns by default, and an eighth of a level 2 cache.
const READ_BYTES: usize = 128 * 1024;

/// Interval of the figures on a terminal, in nanoseconds.
const LIVE_INTERVAL_NS: u64 = 250_000_000;

/// Longest wait before the thread checks `Control` again.
const TURN: Duration = Duration::from_millis(20);

/// The task of the streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StreamsPlan {
    /// The server.
    pub target: Target,
    /// Its place among the servers of the run.
    pub target_at: usize,
    /// The format of the messages.
    pub format: PayloadFormat,
    /// Number of streams.
    pub count: usize,
    /// The place of the first among those of all processes.
    pub first: usize,
    /// Where messages of another publisher have their fields; `None`: the publisher is this tool's.
    pub observed: Option<Fields>,
    /// Message `n` is for session `n % sessions`; 0: no sessions.
    pub sessions: u32,
    /// Sessions of each stream; a divisor of `sessions`.
    pub sessions_per_stream: u32,
    /// Handshakes and requests in progress at once.
    pub opening_max: usize,
    /// How often a stream that fails before messages flow is opened again.
    pub open_retries: u32,
    /// This many streams, the first ones, stop reading once they are open.
    pub stalled: usize,
    /// Streams closed and opened again per second while messages flow.
    pub churn_per_second: f64,
    /// Messages of this run that were published before.
    pub published_before: u32,
    /// The last of these, which a new stream gets as its replay.
    pub replayed: u32,
    /// Length of the measured window.
    pub window: Duration,
}

impl StreamsPlan {
    /// A stream gets every so many-th message.
    fn stride(&self) -> u32 {
        (self.sessions / self.sessions_per_stream).max(1)
    }

    /// The sessions of the stream at a place. They are as far apart as possible, so that their messages are
    /// an arithmetic progression, too.
    fn sessions_of(&self, place: usize) -> impl Iterator<Item = u32> {
        let stride = self.stride();
        (place as u32 % stride..self.sessions).step_by(stride as usize)
    }
}

/// Opens, reads and checks streams until all are complete or `control` stops it.
pub fn run(plan: StreamsPlan, control: &Control) -> io::Result<StreamsOutcome> {
    control
        .streams_tid
        .store(rustix::thread::gettid().as_raw_nonzero().get(), Relaxed);
    Reader::new(plan, control)?.run()
}

struct Reader<'a> {
    plan: StreamsPlan,
    control: &'a Control,
    poll: Poll,
    shape: Shape,
    buffer: Vec<u8>,
    /// Decrypted bytes of `buffer`.
    plain: Vec<u8>,
    /// Decompressed bytes of `plain` or `buffer`.
    text: Vec<u8>,
    pieces: Pieces,
    streams: Vec<Stream>,
    /// Streams before this index have been opened.
    next_to_open: usize,
    /// Failed streams to open again.
    to_reopen: Vec<usize>,
    /// Opened streams without a response head.
    opening: usize,
    opened: usize,
    failed: usize,
    churn_next: usize,
    churn_due_ns: u64,
    /// The first message of another publisher that all streams should read: known when the window begins.
    observed_from: Option<u32>,
    /// The number of all messages, once it is known.
    total: Option<u32>,
    live_due_ns: u64,
    outcome: StreamsOutcome,
}

impl<'a> Reader<'a> {
    fn new(plan: StreamsPlan, control: &'a Control) -> io::Result<Reader<'a>> {
        let stride = plan.stride();
        let first = plan.published_before - plan.replayed;
        let streams = (0..plan.count).map(|at| Stream {
            socket: None,
            tls: None,
            gzip: None,
            phase: Phase::Closed,
            generation: 0,
            stalled: at < plan.stalled,
            awaits_replay: plan.replayed > 0,
            retries_left: plan.open_retries,
            opened_at_ns: 0,
            scanner: Scanner::default(),
            checker: match plan.observed {
                Some(_) => Checker::joining(0, 1),
                None => Checker::from(first, (plan.first + at) as u32 % stride, stride),
            },
            last_event_id: Vec::new(),
        });
        Ok(Reader {
            control,
            poll: Poll::new()?,
            shape: match &plan.observed {
                Some(fields) => Shape::observing(plan.format.clone(), fields.clone()),
                None => Shape::new(plan.format.clone()),
            },
            buffer: vec![0; READ_BYTES],
            plain: Vec::new(),
            text: Vec::new(),
            pieces: Pieces::default(),
            streams: streams.collect(),
            next_to_open: 0,
            to_reopen: Vec::new(),
            opening: 0,
            opened: 0,
            failed: 0,
            churn_next: plan.stalled,
            churn_due_ns: 0,
            observed_from: None,
            total: None,
            live_due_ns: 0,
            outcome: StreamsOutcome::nothing(plan.window),
            plan,
        })
    }

    fn run(mut self) -> io::Result<StreamsOutcome> {
        let mut checked_ns = 0;
        while !self.control.stopped() {
            self.open_more();
            self.churn();
            self.poll.wait(TURN)?;
            for at in 0..self.poll.len() {
                let readiness = self.poll.get(at);
                self.handle(readiness);
            }
            self.control
                .deliveries
                .store(self.outcome.deliveries, Relaxed);
            self.control
                .heartbeats
                .store(self.outcome.heartbeats, Relaxed);
            self.control.opened.store(self.opened, Relaxed);
            self.control.failed.store(self.failed, Relaxed);
            let now_ns = now_ns();
            self.note_observed(now_ns);
            self.show(now_ns);
            if let Some(total) = self.total_now()
                && now_ns > checked_ns + TURN.as_nanos() as u64
            {
                checked_ns = now_ns;
                let complete = self
                    .streams
                    .iter()
                    .filter(|stream| stream.is_complete(total));
                let complete = complete.count();
                self.control.complete.store(complete, Relaxed);
                if complete == self.streams.len() {
                    break;
                }
            }
        }
        Ok(self.finish())
    }

    /// Publishes how many messages of another publisher were read, and notes the first of the window.
    fn note_observed(&mut self, now_ns: u64) {
        let Some(observer) = &self.shape.observer else {
            return;
        };
        self.control.observed.store(observer.next(), Relaxed);
        if self.observed_from.is_none() && now_ns >= self.control.window_start_ns.load(Relaxed) {
            self.observed_from = Some(observer.next());
        }
    }

    /// The number of all messages. Of another publisher's, what was read when this run stopped counting.
    fn total_now(&mut self) -> Option<u32> {
        if self.total.is_none() {
            let total = self.control.total.load(Relaxed);
            let observed = self.shape.observer.as_ref().map(Observer::next);
            self.total = (total != TOTAL_UNKNOWN).then(|| observed.unwrap_or(total));
        }
        self.total
    }

    /// Fills in what a terminal shows.
    fn show(&mut self, now_ns: u64) {
        let live = &self.control.live;
        if !live.is_on.load(Relaxed) || now_ns < self.live_due_ns {
            return;
        }
        self.live_due_ns = now_ns + LIVE_INTERVAL_NS;
        let (p50_us, p99_us) = self.outcome.delivery.last_interval().p50_p99_us();
        live.p50_us.store(p50_us, Relaxed);
        live.p99_us.store(p99_us, Relaxed);
        let faults = self.streams.iter().filter(|stream| !stream.stalled);
        let faults: u64 = faults
            .map(|stream| stream.checker.faults_so_far().sum())
            .sum();
        let errors: u64 = self.outcome.errors.values().sum();
        live.faults.store(faults + errors, Relaxed);
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
        let stream = &self.streams[at];
        if stream.stalled && stream.phase == Phase::Open {
            if readiness.closed {
                self.outcome.stalled_closed += 1;
                self.close(at);
            }
        } else if readiness.readable || readiness.closed {
            self.read(at, readiness.closed);
        }
    }

    /// The end of a stream may be in the same event as its last bytes.
    #[inline]
    fn read(&mut self, at: usize, is_closed: bool) {
        loop {
            let stream = &self.streams[at];
            let Some(socket) = &stream.socket else { return };
            match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return self.ended(at),
                Ok((length, _)) => {
                    self.outcome.bytes += length as u64;
                    if let Err(error) = self.decrypt(at, length) {
                        return self.fail(at, format!("TLS: {error}"));
                    }
                    let read = self.decompress(at, length);
                    if let Err(error) = read.and_then(|()| self.scan(at, length)) {
                        return self.unreadable(at, &error);
                    }
                    if length < READ_BYTES && !is_closed {
                        return;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return self.fail(at, error.to_string()),
            }
        }
    }

    /// Decrypts the bytes of a stream, and sends what TLS has to send.
    #[inline]
    fn decrypt(&mut self, at: usize, length: usize) -> io::Result<()> {
        let stream = &mut self.streams[at];
        let Some((tls, socket)) = stream.tls.as_mut().zip(stream.socket.as_ref()) else {
            return Ok(());
        };
        self.plain.clear();
        tls.incoming(&self.buffer[..length], &mut self.plain)?;
        let mut out = Vec::new();
        tls.outgoing(&mut out)?;
        // Only handshakes need an answer: a few hundred bytes.
        if !out.is_empty() && rustix::net::send(socket, &out, SendFlags::NOSIGNAL)? < out.len() {
            return Err(io::Error::other("a handshake did not fit into its socket"));
        }
        Ok(())
    }

    /// Decompresses the bytes of a stream.
    #[inline]
    fn decompress(&mut self, at: usize, length: usize) -> Result<(), ScanError> {
        let Stream { gzip, tls, .. } = &mut self.streams[at];
        let Some(gzip) = gzip else {
            return Ok(());
        };
        let bytes = match tls {
            None => &self.buffer[..length],
            Some(_) => &self.plain[..],
        };
        self.text.clear();
        gzip.incoming(bytes, &mut self.pieces, &mut self.text)
    }

    #[inline]
    fn scan(&mut self, at: usize, length: usize) -> Result<(), ScanError> {
        let now_ns = now_ns();
        let stream = &mut self.streams[at];
        let Stream {
            scanner,
            checker,
            last_event_id,
            tls,
            gzip,
            ..
        } = stream;
        let bytes = match (gzip, tls) {
            (Some(_), _) => &self.text[..],
            (None, Some(_)) => &self.plain[..],
            (None, None) => &self.buffer[..length],
        };
        let (control, outcome, plan) = (self.control, &mut self.outcome, &self.plan);
        let window_ns = control.window_ns();
        let mut opened = false;
        scanner.feed(bytes, &mut self.shape, &mut |event| match event {
            Event::Messages { stamps, bytes } => {
                let count = stamps.len() as u32;
                outcome.deliveries += u64::from(count);
                checker.arrived_in_a_row(stamps[0].number, count);
                if plan.observed.is_some() {
                    outcome.record_observed(stamps, now_ns, &window_ns);
                    return;
                }
                for stamp in stamps
                    .iter()
                    .filter(|stamp| window_ns.contains(&stamp.sent_ns))
                {
                    let latency_ns = now_ns.saturating_sub(stamp.sent_ns);
                    let due_ns = stamp.sent_ns - window_ns.start;
                    outcome.delivery.record_ns(due_ns, latency_ns);
                }
                if plan.churn_per_second > 0.0 {
                    remember_event_id(bytes, last_event_id);
                }
            }
            Event::Heartbeat => outcome.heartbeats += 1,
            Event::Opened => opened = true,
            Event::Gap { missed } => {
                outcome.gaps += 1;
                outcome.gap_messages += missed;
            }
            Event::Other | Event::TokenExpiring | Event::TokenExpired => outcome.others += 1,
            Event::Connected { .. } | Event::Ended => {}
        })?;
        if opened {
            self.opened += 1;
            self.opening -= 1;
            outcome.open.record_ns(now_ns - stream.opened_at_ns);
            stream.phase = Phase::Open;
        }
        if stream.awaits_replay && stream.checker.reached(plan.published_before) {
            stream.awaits_replay = false;
            outcome.replay.record_ns(now_ns - stream.opened_at_ns);
        }
        Ok(())
    }

    /// Handles the end of a connection.
    fn ended(&mut self, at: usize) {
        let in_order = self.streams[at].scanner.may_end();
        let how = if in_order {
            "ended by the server"
        } else {
            "cut off by the server"
        };
        self.fail(at, how.into());
    }

    fn fail(&mut self, at: usize, error: String) {
        let flowing = self.control.window_end_ns.load(Relaxed) != u64::MAX;
        let stream = &mut self.streams[at];
        if stream.retries_left > 0 && !flowing {
            stream.retries_left -= 1;
            self.outcome.reopened += 1;
            self.close(at);
            self.to_reopen.push(at);
            return;
        }
        if stream.phase == Phase::Open {
            self.note_end();
        }
        self.give_up(at, error);
    }

    /// Handles bytes that make no stream, or not this one any longer.
    fn unreadable(&mut self, at: usize, error: &ScanError) {
        if self.streams[at].phase == Phase::Open {
            self.give_up(at, error.to_string());
        } else {
            self.fail(at, error.to_string());
        }
    }

    /// Closes a stream without a fault of its connection: the server is not lost.
    fn give_up(&mut self, at: usize, error: String) {
        *self.outcome.errors.entry(error).or_default() += 1;
        self.failed += 1;
        self.close(at);
    }

    /// An open stream has ended. Once half of them have, the server is lost.
    fn note_end(&mut self) {
        let now_ns = now_ns();
        self.outcome.ended += 1;
        self.control.first_end_ns.fetch_min(now_ns, Relaxed);
        let healthy = self.streams.len() - self.plan.stalled;
        if self.outcome.ended * 2 >= healthy as u64 {
            self.control.note_loss(now_ns, self.plan.target_at);
        }
    }

    fn close(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        match stream.phase {
            Phase::Connecting | Phase::Requested => self.opening -= 1,
            Phase::Open => self.opened -= 1,
            Phase::Closed => {}
        }
        stream.phase = Phase::Closed;
        stream.socket = None;
        stream.tls = None;
        stream.gzip = None;
    }

    fn finish(mut self) -> StreamsOutcome {
        let total = self.total_now().unwrap_or(0);
        let stride = self.plan.stride();
        let first = self.plan.published_before - self.plan.replayed;
        let unacknowledged = self.control.unacknowledged.lock();
        let unacknowledged = unacknowledged.unwrap_or_else(PoisonError::into_inner);
        // A reading process has one server, and gets its numbers alone.
        let unacknowledged = unacknowledged.first().cloned().unwrap_or_default();
        let is_cut = self.control.interrupted.load(Relaxed);
        let outcome = &mut self.outcome;
        for (at, stream) in self
            .streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| !stream.stalled)
        {
            let place = self.plan.first + at;
            let all = Checker::from(first, place as u32 % stride, stride);
            outcome.expected += all.outstanding(total, &unacknowledged);
            outcome.faults.add(stream.checker.faults(&unacknowledged));
            let mut outstanding = stream.checker.outstanding(total, &unacknowledged);
            if let Some(first) = self.observed_from {
                outstanding += stream.checker.lacks_all_from(first, total);
            }
            if is_cut && stream.generation == 0 {
                // The stream was not opened yet.
            } else if is_cut && stream.phase != Phase::Closed {
                outcome.in_flight += outstanding;
            } else {
                outcome.faults.missing += outstanding;
            }
        }
        if let Some(observer) = &self.shape.observer {
            let faults = outcome.faults;
            outcome.observed = observer.count();
            outcome.untimed = observer.untimed;
            outcome.expected =
                (outcome.deliveries + faults.missing).saturating_sub(faults.duplicate);
        }
        self.outcome
    }
}
