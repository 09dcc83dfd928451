//! The writing side: one thread that posts messages and times their acknowledgements.
//!
//! Open loop: messages are due by a schedule, whatever the server does. They use one pipelined connection, so
//! that their order is certain, and latency counts from the due time. Closed loop: each connection posts its
//! next message when the last one is acknowledged.
//!
//! The thread is separate so that acknowledgements do not wait for reads of streams. It raises its priority if
//! allowed: on a machine with busy CPUs it would otherwise measure the scheduler.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};

use crate::engine::answer;
use crate::engine::clock::now_ns;
use crate::engine::control::Control;
use crate::engine::epoll::{Poll, Readiness};
use crate::engine::latency::{Latency, LatencyOverTime};
use crate::engine::number_set::NumberSet;
use crate::engine::payload::{PayloadFormat, Stamp};
use crate::engine::schedule::Schedule;
use crate::engine::target::{PublishRequest, Target};

/// Requests in flight on the connection of an open loop. Beyond this the schedule waits, which counts as
/// latency.
const PIPELINE_MAX: usize = 256;

/// Bytes of one read; an acknowledgement is a few hundred.
const READ_BYTES: usize = 16 * 1024;

/// Longest wait before the thread checks `Control` again.
const TURN: Duration = Duration::from_millis(20);

/// Time for which the thread stays after its last message.
const LINGER_NS: u64 = 50_000_000;

/// The publisher gives up after this long without an acknowledgement.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Timeout of a connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Time to wait for answers after a cut.
const CUT_PATIENCE_NS: u64 = 1_000_000_000;

/// Reconnects before the publisher gives up.
const RECONNECTS_MAX: u64 = 1_000;

/// Niceness of the thread: above ordinary processes.
const NICENESS: i32 = -10;

/// The timing of messages.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// By a schedule, on one connection (open loop).
    Open(Schedule),
    /// On each connection as soon as its last message is acknowledged (closed loop).
    Closed {
        /// Number of connections.
        connections: usize,
    },
}

/// The task of the publisher.
pub struct PublisherPlan {
    /// The servers: each message of an open loop goes to all, those of a closed loop to the first.
    pub targets: Vec<Target>,
    /// The format of the messages.
    pub format: PayloadFormat,
    /// Message `n` goes to session `n % sessions`; 0: to all.
    pub sessions: u32,
    /// The timing.
    pub pace: Pace,
    /// Number of the first message.
    pub first: u32,
    /// Messages due from here on are not sent.
    pub end_ns: u64,
    /// Length of the measured window.
    pub window: Duration,
    /// The number of messages at most.
    pub messages_max: u32,
    /// Whether the server takes a request before it has answered the last one.
    pub pipelining: bool,
}

/// The results of the publisher.
pub struct PublisherOutcome {
    /// Messages sent.
    pub sent: u32,
    /// Acknowledgements with a 2xx, of all servers.
    pub acked: u64,
    /// Messages without an answer: their connection failed, or the run ended first.
    pub unanswered: u64,
    /// Numbers of all messages without an acknowledgement, for each server: unanswered or refused.
    pub unacknowledged: Vec<NumberSet>,
    /// Latency from the due time to the acknowledgement, within the window.
    pub ack: LatencyOverTime,
    /// Delay of messages after their due times, within the window.
    pub lag: Latency,
    /// Errors, counted by their text.
    pub errors: BTreeMap<String, u64>,
    /// Why no connection is left: the server is lost.
    pub lost: Option<String>,
}

impl PublisherOutcome {
    /// The results before the first message.
    pub fn nothing(window: Duration) -> PublisherOutcome {
        PublisherOutcome {
            sent: 0,
            acked: 0,
            unanswered: 0,
            unacknowledged: Vec::new(),
            ack: LatencyOverTime::new(window),
            lag: Latency::default(),
            errors: BTreeMap::new(),
            lost: None,
        }
    }
}

/// Starts a thread that publishes.
pub fn start(
    plan: PublisherPlan,
    control: &Arc<Control>,
) -> io::Result<JoinHandle<io::Result<PublisherOutcome>>> {
    let control = Arc::clone(control);
    thread::Builder::new()
        .name("publisher".into())
        .spawn(move || run(plan, &control))
}

/// Publishes until the plan ends and all acknowledgements are in, the server is lost, or `control` stops it.
/// After a cut it sends nothing more and ends with the last answer, or a moment later.
fn run(plan: PublisherPlan, control: &Control) -> io::Result<PublisherOutcome> {
    let tid = rustix::thread::gettid();
    control
        .publisher_tid
        .store(tid.as_raw_nonzero().get(), Relaxed);
    // Raising it needs a privilege. Without it acknowledgements include some of the scheduler's delay.
    let _ = rustix::process::setpriority_process(Some(tid), NICENESS);
    Publisher::new(plan, control)?.run()
}

/// A message in flight.
struct Waiting {
    number: u32,
    due_ns: u64,
}

struct Connection {
    socket: TcpStream,
    /// The place of its server.
    target: usize,
    /// Bytes to send, from `out_at` on.
    out: Vec<u8>,
    out_at: usize,
    /// An incomplete acknowledgement.
    input: Vec<u8>,
    /// Messages without an acknowledgement, oldest first.
    waiting: VecDeque<Waiting>,
}

struct Publisher<'a> {
    plan: PublisherPlan,
    control: &'a Control,
    poll: Poll,
    /// One for each server.
    requests: Vec<PublishRequest>,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    waiting: usize,
    last_answer_ns: u64,
    reconnects: u64,
    outcome: PublisherOutcome,
}

impl<'a> Publisher<'a> {
    fn new(plan: PublisherPlan, control: &'a Control) -> io::Result<Publisher<'a>> {
        let count = match plan.pace {
            Pace::Open(_) => plan.targets.len(),
            Pace::Closed { connections } => connections,
        };
        let poll = Poll::new()?;
        let mut outcome = PublisherOutcome::nothing(plan.window);
        let mut connections = Vec::with_capacity(count);
        for at in 0..count {
            let target = if let Pace::Open(_) = plan.pace { at } else { 0 };
            match connect(&plan.targets, target, &poll, at as u64) {
                Ok(connection) => connections.push(connection),
                Err(error) => {
                    control.note_loss(now_ns(), target);
                    outcome.lost = Some(error.to_string());
                    break;
                }
            }
        }
        outcome.unacknowledged = vec![NumberSet::default(); plan.targets.len()];
        let request = |target: &Target| target.publish_request(&plan.format, plan.sessions > 0);
        let requests = plan.targets.iter().map(request).collect();
        Ok(Publisher {
            plan,
            control,
            poll,
            requests,
            connections,
            buffer: vec![0; READ_BYTES],
            waiting: 0,
            last_answer_ns: now_ns(),
            reconnects: 0,
            outcome,
        })
    }

    fn run(mut self) -> io::Result<PublisherOutcome> {
        if let (Pace::Closed { .. }, None) = (self.plan.pace, &self.outcome.lost) {
            for at in 0..self.connections.len() {
                self.send_now(at)?;
            }
        }
        let mut cut_ns = None;
        while !self.control.stopped() && self.outcome.lost.is_none() {
            if self.control.cut.load(Relaxed) {
                let cut_ns = *cut_ns.get_or_insert_with(now_ns);
                if now_ns() > cut_ns + CUT_PATIENCE_NS {
                    break;
                }
            }
            let pause = self.send_due()?;
            if self.waiting == 0 && self.may_leave(now_ns()) {
                break;
            }
            if now_ns() > self.last_answer_ns + PATIENCE_NS && self.waiting > 0 {
                self.note("no acknowledgement for 30 s".into());
                break;
            }
            self.poll.wait(pause)?;
            for at in 0..self.poll.len() {
                let readiness = self.poll.get(at);
                self.handle(readiness)?;
            }
            self.control.acked.store(self.outcome.acked, Relaxed);
        }
        for at in 0..self.connections.len() {
            self.give_up_waiting(at);
        }
        Ok(self.outcome)
    }

    fn is_done(&self, now_ns: u64) -> bool {
        if self.outcome.sent >= self.plan.messages_max || self.control.cut.load(Relaxed) {
            return true;
        }
        match self.plan.pace {
            Pace::Open(schedule) => schedule.due_ns(self.outcome.sent) >= self.plan.end_ns,
            Pace::Closed { .. } => now_ns >= self.plan.end_ns,
        }
    }

    /// Waits a moment, so that the sampler still finds this thread when the window closes.
    fn may_leave(&self, now_ns: u64) -> bool {
        self.outcome.sent >= self.plan.messages_max
            || self.control.cut.load(Relaxed)
            || (self.is_done(now_ns) && now_ns >= self.plan.end_ns + LINGER_NS)
    }

    /// Sends the messages that are due; returns the time until the next one.
    fn send_due(&mut self) -> io::Result<Duration> {
        let Pace::Open(schedule) = self.plan.pace else {
            return Ok(TURN);
        };
        let depth = if self.plan.pipelining {
            PIPELINE_MAX
        } else {
            1
        };
        let has_room = |connection: &Connection| connection.waiting.len() < depth;
        while self.connections.iter().all(has_room) && self.outcome.lost.is_none() {
            let now_ns = now_ns();
            if self.is_done(now_ns) {
                return Ok(TURN);
            }
            let due_ns = schedule.due_ns(self.outcome.sent);
            if due_ns > now_ns {
                return Ok(Duration::from_nanos(due_ns - now_ns).min(TURN));
            }
            let number = self.next_number();
            for at in 0..self.connections.len() {
                self.send(at, number, due_ns, now_ns)?;
            }
            if self.control.in_window(due_ns) {
                self.outcome.lag.record_ns(now_ns - due_ns);
            }
        }
        Ok(TURN)
    }

    fn send_now(&mut self, at: usize) -> io::Result<()> {
        let now_ns = now_ns();
        if self.is_done(now_ns) {
            Ok(())
        } else {
            let number = self.next_number();
            if self.control.in_window(now_ns) {
                self.outcome.lag.record_ns(0);
            }
            self.send(at, number, now_ns, now_ns)
        }
    }

    fn next_number(&mut self) -> u32 {
        self.outcome.sent += 1;
        self.plan.first + self.outcome.sent - 1
    }

    fn send(&mut self, at: usize, number: u32, due_ns: u64, now_ns: u64) -> io::Result<()> {
        let session = number % self.plan.sessions.max(1);
        let connection = &mut self.connections[at];
        let stamp = Stamp {
            number,
            sent_ns: due_ns,
        };
        self.requests[connection.target].write(&mut connection.out, stamp, session);
        connection.waiting.push_back(Waiting { number, due_ns });
        if self.waiting == 0 {
            self.last_answer_ns = now_ns;
        }
        self.waiting += 1;
        self.flush(at)
    }

    fn flush(&mut self, at: usize) -> io::Result<()> {
        let connection = &mut self.connections[at];
        while connection.out_at < connection.out.len() {
            let rest = &connection.out[connection.out_at..];
            match rustix::net::send(&connection.socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => connection.out_at += sent,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return self.reconnect(at, &error.to_string()),
            }
        }
        connection.out.clear();
        connection.out_at = 0;
        Ok(())
    }

    fn handle(&mut self, readiness: Readiness) -> io::Result<()> {
        let at = readiness.token as usize;
        if self.outcome.lost.is_some() {
            return Ok(());
        }
        if readiness.writable {
            self.flush(at)?;
        }
        if readiness.readable || readiness.closed {
            self.read(at)?;
        }
        Ok(())
    }

    fn read(&mut self, at: usize) -> io::Result<()> {
        loop {
            let socket = &self.connections[at].socket;
            match rustix::net::recv(socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return self.reconnect(at, "closed by the server"),
                Ok((length, _)) => {
                    self.connections[at]
                        .input
                        .extend_from_slice(&self.buffer[..length]);
                    self.take_acks(at)?;
                    if length < READ_BYTES {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return self.reconnect(at, &error.to_string()),
            }
        }
    }

    /// Processes all complete answers in the buffer.
    fn take_acks(&mut self, at: usize) -> io::Result<()> {
        let now_ns = now_ns();
        self.last_answer_ns = now_ns;
        loop {
            let connection = &mut self.connections[at];
            let answer = match answer::parse(&connection.input) {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ok(()),
                Err(error) => return self.reconnect(at, error),
            };
            let target = connection.target;
            connection.input.drain(..answer.length);
            let Some(Waiting { number, due_ns }) = connection.waiting.pop_front() else {
                return self.reconnect(at, "an answer without a request");
            };
            self.waiting -= 1;
            if (200..300).contains(&answer.status) {
                self.outcome.acked += 1;
                let window_ns = self.control.window_ns();
                if window_ns.contains(&due_ns) {
                    let ack = &mut self.outcome.ack;
                    ack.record_ns(due_ns - window_ns.start, now_ns - due_ns);
                }
            } else {
                self.outcome.unacknowledged[target].insert(number);
                self.note(format!("a message was answered with {}", answer.status));
            }
            if answer.closes {
                // Pushpin's control port ends each connection after one answer.
                self.replace(at);
            }
            if self.outcome.lost.is_some() {
                return Ok(());
            }
            if let Pace::Closed { .. } = self.plan.pace {
                self.send_now(at)?;
            }
            if answer.closes {
                return Ok(());
            }
        }
    }

    /// Replaces an old connection by a new one and gives up its messages in flight. If the server takes no
    /// connection, it is lost.
    fn replace(&mut self, at: usize) {
        self.give_up_waiting(at);
        let target = self.connections[at].target;
        match connect(&self.plan.targets, target, &self.poll, at as u64) {
            Ok(connection) => self.connections[at] = connection,
            Err(error) => self.lose(error.to_string(), target),
        }
    }

    fn give_up_waiting(&mut self, at: usize) {
        let target = self.connections[at].target;
        let waiting = std::mem::take(&mut self.connections[at].waiting);
        self.waiting -= waiting.len();
        self.outcome.unanswered += waiting.len() as u64;
        for message in waiting {
            self.outcome.unacknowledged[target].insert(message.number);
        }
    }

    fn lose(&mut self, error: String, target: usize) {
        self.control.note_loss(now_ns(), target);
        self.outcome.lost = Some(error);
    }

    /// Replaces a failed connection; its messages in flight count as failed.
    fn reconnect(&mut self, at: usize, error: &str) -> io::Result<()> {
        if !self.connections[at].waiting.is_empty() {
            self.note(format!("{error}, with messages in flight"));
        }
        self.reconnects += 1;
        if self.reconnects > RECONNECTS_MAX {
            let target = self.connections[at].target;
            self.lose(format!("too many failed connections: {error}"), target);
            return Ok(());
        }
        self.replace(at);
        if let (Pace::Closed { .. }, None) = (self.plan.pace, &self.outcome.lost) {
            return self.send_now(at);
        }
        Ok(())
    }

    fn note(&mut self, error: String) {
        *self.outcome.errors.entry(error).or_default() += 1;
    }
}

fn connect(targets: &[Target], target: usize, poll: &Poll, token: u64) -> io::Result<Connection> {
    let socket = TcpStream::connect_timeout(&targets[target].publish.address, CONNECT)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    poll.add(&socket, token)?;
    Ok(Connection {
        socket,
        target,
        out: Vec::new(),
        out_at: 0,
        input: Vec::new(),
        waiting: VecDeque::new(),
    })
}
