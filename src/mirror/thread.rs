//! The mirror's thread: runs cycles when they are due, until it is stopped.
//!
//! Started by `server`. All blocking of the mirror is here: calls to KV, which are bounded in time, and
//! waiting for the next cycle. Never holds the hub's lock during a call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, at, bounded, never, select};
use fastrand::Rng;

use crate::clock::{Clock, Now};
use crate::config::KvConfig;
use crate::hub::Hub;
use crate::limits::{HISTORY_MESSAGES, KV_ADMIT_PATIENCE_MS};
use crate::message::Message;
use crate::metrics::{Counter, Metrics, Tally};
use crate::mirror::KEY;
use crate::mirror::cloudflare::{Client, ClientError, Interrupt};
use crate::mirror::core::{Condition, Mirror};
use crate::mirror::reply::{FailureKind, Reply};
use crate::mirror::report::{Level, Line, Reporter};
use crate::mirror::schedule::Pace;
use crate::mirror::stats::MirrorStats;
use crate::mirror::turn::{Change, Lease, Turn};

/// Time after the deadline in which a stopping mirror may still report its result.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// The running mirror.
#[derive(Debug)]
pub struct MirrorHandle {
    stats: Arc<MirrorStats>,
    stop: Sender<Instant>,
    stopped: Receiver<Stopped>,
    interrupt: Interrupt,
}

/// How the mirror ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// KV holds all messages of this node that it should hold.
    Synced,
    /// KV lacks this many of this node's messages. They are in the ring and follow at the next start.
    Behind(usize),
    /// Another node of the bus mirrors.
    Elsewhere,
    /// The mirror did not end in time; its thread may still run.
    Overdue,
}

/// Why the mirror could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// A setting is invalid.
    Client(ClientError),
    /// The thread cannot be started.
    Thread(std::io::Error),
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpawnError::Client(error) => error.fmt(f),
            SpawnError::Thread(error) => write!(f, "cannot start the mirror's thread: {error}"),
        }
    }
}

impl std::error::Error for SpawnError {}

/// Makes the client of a configuration and drops it, without a call to KV. Its errors are those of
/// [`spawn`].
pub fn check_client(config: &KvConfig) -> Result<(), SpawnError> {
    Client::new(config).map(drop).map_err(SpawnError::Client)
}

/// Starts the mirror. `published` receives a unit for every turn in which messages were published on this
/// node. A capacity of 1 is enough: a full channel loses nothing. With `lease` this node mirrors only while it
/// has it.
pub fn spawn(
    config: KvConfig,
    lease: Option<Box<dyn Lease>>,
    hub: Arc<Hub>,
    published: Receiver<()>,
    metrics: Arc<Metrics>,
    clock: Clock,
) -> Result<MirrorHandle, SpawnError> {
    let client = Client::new(&config).map_err(SpawnError::Client)?;
    let interrupt = client.interrupt_handle();
    let stats = Arc::new(MirrorStats::new());
    let (stop, stop_requested) = bounded(1);
    let (report_stopped, stopped) = bounded(1);
    let pace = Pace {
        poll_ms: config.poll_interval.as_millis() as u64,
        write_interval_ms: config.write_interval.as_millis() as u64,
    };
    let worker = Worker {
        mirror: Mirror::new(
            pace,
            HISTORY_MESSAGES,
            &hub.ring_view(),
            clock.now(),
            Rng::new(),
        ),
        pace,
        turn: Turn::new(lease),
        config,
        client,
        hub,
        published,
        stop: stop_requested,
        stats: Arc::clone(&stats),
        reporter: Reporter::default(),
        metrics,
        tally: Tally::new(),
        clock,
    };
    // The receiver is gone if the handle was dropped.
    let run = move || {
        let _ = report_stopped.send(worker.run());
    };
    thread::Builder::new()
        .name("mirror".into())
        .spawn(run)
        .map_err(SpawnError::Thread)?;
    Ok(MirrorHandle {
        stats,
        stop,
        stopped,
        interrupt,
    })
}

impl MirrorHandle {
    /// The mirror's counters and gauges. They stay valid after the handle is dropped.
    pub fn stats(&self) -> Arc<MirrorStats> {
        Arc::clone(&self.stats)
    }

    /// Stops the mirror after a last sync, at `deadline` at the latest. Nothing may be published
    /// after this call. A call to KV in progress may hang, so it is aborted and repeated.
    pub fn stop(self, deadline: Instant) -> Stopped {
        // If the worker has ended, the other channel is closed, which is checked next.
        let _ = self.stop.send(deadline);
        self.interrupt.interrupt();
        match self.stopped.recv_deadline(deadline + STOP_GRACE) {
            Ok(stopped) => stopped,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Stopped::Overdue,
        }
    }
}

struct Worker {
    config: KvConfig,
    pace: Pace,
    turn: Turn,
    client: Client,
    hub: Arc<Hub>,
    published: Receiver<()>,
    stop: Receiver<Instant>,
    stats: Arc<MirrorStats>,
    mirror: Mirror,
    reporter: Reporter,
    /// The server's metrics, for the mirror's appends to the ring.
    metrics: Arc<Metrics>,
    tally: Tally,
    clock: Clock,
}

enum Due {
    Cycle,
    Renewal,
    Stop(Instant),
}

impl Worker {
    fn run(mut self) -> Stopped {
        loop {
            match self.wait() {
                Due::Cycle => self.cycle(self.config.timeout),
                Due::Renewal => self.renew(),
                Due::Stop(deadline) => return self.close(deadline),
            }
        }
    }

    fn wait(&mut self) -> Due {
        loop {
            // While a write is wanted, further publishes cause no other action.
            let is_held = self.turn.is_held();
            let is_news = is_held && !self.mirror.write_is_wanted();
            let published = if is_news {
                self.published.clone()
            } else {
                never()
            };
            select! {
                // If the handle was dropped, there is no last sync.
                recv(self.stop) -> deadline => return Due::Stop(deadline.unwrap_or_else(|_| Instant::now())),
                recv(published) -> unit => match unit {
                    Ok(()) => self.mirror.handle_publish(),
                    Err(_) => self.published = never(),
                },
                recv(self.turn.renewal().map_or(never(), at)) -> _ => return Due::Renewal,
                recv(if is_held { at(self.due()) } else { never() }) -> _ => return Due::Cycle,
            }
        }
    }

    /// Takes or renews the lease. A node that begins to mirror knows what it has shown, and KV only by its
    /// next read.
    fn renew(&mut self) {
        match self.turn.renew() {
            Change::None => {}
            Change::Ended => tracing::info!("another node of the bus mirrors to KV"),
            Change::Begun(shown) => {
                tracing::info!("this node mirrors the bus to KV");
                let view = self.hub.ring_view();
                let (now, rng) = (self.now(), Rng::new());
                self.mirror = Mirror::new(self.pace, HISTORY_MESSAGES, &view, now, rng);
                self.mirror.note_shown(shown);
            }
        }
    }

    /// Renews the lease if that is due. False if it is no longer this node's turn: what it has read may be that of
    /// another node by now.
    fn keep_turn(&mut self) -> bool {
        if self
            .turn
            .renewal()
            .is_some_and(|renewal| renewal <= Instant::now())
        {
            self.renew();
        }
        self.turn.is_held()
    }

    /// One read, and one write if it is due. No call lasts longer than the lease.
    fn cycle(&mut self, timeout: Duration) {
        if !self.keep_turn() {
            return;
        }
        if self.published.try_recv().is_ok() {
            self.mirror.handle_publish();
        }
        self.mirror.begin_read(self.now());
        let reply = self.client.read(KEY, timeout.min(self.turn.left()));
        if self.is_stopping() || !self.keep_turn() {
            return;
        }
        self.handle_read(reply);
        if self.keep_turn()
            && let Some(value) = self.mirror.begin_write(self.now())
        {
            let reply = self
                .client
                .write(KEY, &value, timeout.min(self.turn.left()));
            if self.is_stopping() {
                return;
            }
            self.handle_write(&reply);
        }
        self.publish_gauges();
    }

    fn handle_read(&mut self, reply: Reply<Option<Vec<u8>>>) {
        match &reply.result {
            Ok(_) => {
                self.stats.reads.fetch_add(1, Relaxed);
                self.stats.note_success();
            }
            Err(failure) => {
                self.stats.read_failures[failure.kind.index()].fetch_add(1, Relaxed);
            }
        }
        log(self.reporter.read(reply.result.as_ref().map(|_| ())));
        let is_ok = reply.result.is_ok();

        let news = self
            .mirror
            .handle_read(self.now(), reply, &self.hub.ring_view());
        self.publish(&news);
        // With a bus, the order of the history is that of the bus.
        if let Some(shared) = self.mirror.shared_history()
            && !self.turn.is_shared()
            && self.hub.set_shared_history(shared.clone())
        {
            self.mirror.handle_shared_history(shared);
        }

        if is_ok {
            log(self.reporter.condition(self.mirror.condition()));
            log(self.reporter.unheld(self.mirror.unheld()));
            log(self.reporter.unshared(self.mirror.unshared()));
            log(self.reporter.clock(self.mirror.clock_ahead_ms()));
        }
    }

    /// Publishes remote messages, half a ring at a time. In between the mirror takes a view of the ring, so
    /// that it sees each local message before the ring overwrites it.
    fn publish(&mut self, news: &[Arc<Message>]) {
        for some in news.chunks(HISTORY_MESSAGES / 2) {
            if !self.keep_turn() {
                return;
            }
            let timeout = Duration::from_millis(KV_ADMIT_PATIENCE_MS);
            let outcomes = self.hub.publish_from_peers(some, self.now(), timeout);
            let mut admitted = Vec::new();
            let mut refusal = None;
            for (message, outcome) in some.iter().zip(outcomes) {
                match outcome {
                    Ok(_) => admitted.push(message.id),
                    Err(error) if error.is_too_large() => self.mirror.handle_too_large(message.id),
                    Err(error) => refusal = Some(error),
                }
            }
            let count = admitted.len() as u64;
            self.tally.count(Counter::MessagesRemote, count);
            self.tally.count(Counter::RingAppends, count);
            self.tally
                .count(Counter::RingErrors, u64::from(refusal.is_some()));
            self.tally.flush(&self.metrics);
            self.mirror
                .handle_admitted(self.now(), &admitted, &self.hub.ring_view());
            log(self.reporter.refused(refusal.as_ref()));
            if refusal.is_some() {
                // The remaining messages are published after the next read.
                return;
            }
        }
    }

    fn handle_write(&mut self, reply: &Reply<()>) {
        match &reply.result {
            Ok(()) => {
                self.stats.writes.fetch_add(1, Relaxed);
                self.stats.note_success();
            }
            Err(failure) => {
                self.stats.write_failures[failure.kind.index()].fetch_add(1, Relaxed);
            }
        }
        let is_limit =
            matches!(&reply.result, Err(failure) if failure.kind == FailureKind::DailyLimit);
        self.stats.day_is_used_up.store(is_limit, Relaxed);
        log(self.reporter.write(reply.result.as_ref().copied()));
        self.mirror.handle_write(self.now(), reply);
    }

    fn publish_gauges(&self) {
        let stats = &self.stats;
        let lag = self.mirror.lag(&self.hub.ring_view());
        stats.lag_messages.store(lag as u64, Relaxed);
        stats
            .calls_left
            .store(self.mirror.calls_left(self.now()) as u64, Relaxed);
        stats
            .unheld_messages
            .store(self.mirror.unheld() as u64, Relaxed);
        stats
            .unshared_messages
            .store(self.mirror.unshared() as u64, Relaxed);
        stats.set_clock_ahead(self.mirror.clock_ahead_ms());
        let condition = self.mirror.condition();
        let foreign = if let Condition::Foreign { count, .. } = condition {
            count as u64
        } else {
            0
        };
        stats.foreign_entries.store(foreign, Relaxed);
        stats
            .value_is_unreadable
            .store(condition == Condition::Unreadable, Relaxed);
    }

    /// The last sync: runs cycles until no write is wanted or the deadline has passed.
    fn close(mut self, deadline: Instant) -> Stopped {
        if !self.turn.is_held() {
            return Stopped::Elsewhere;
        }
        // A new client, because the interrupted one fails all further calls.
        match Client::new(&self.config) {
            Ok(client) => self.client = client,
            Err(error) => tracing::warn!("no last sync with KV: {error}"),
        }
        self.mirror.begin_closing(self.now());
        loop {
            let due = self.due();
            if due >= deadline {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let left = deadline.saturating_duration_since(Instant::now());
            self.cycle(left.min(self.config.timeout));
            if !self.turn.is_held() {
                return Stopped::Elsewhere;
            }
            if !self.mirror.write_is_wanted() {
                break;
            }
        }
        self.turn.release();
        match self.mirror.lag(&self.hub.ring_view()) {
            0 => Stopped::Synced,
            lag => Stopped::Behind(lag),
        }
    }

    fn is_stopping(&self) -> bool {
        !self.stop.is_empty()
    }

    fn due(&self) -> Instant {
        let left_ms = self
            .mirror
            .next_cycle_ms()
            .saturating_sub(self.now().mono_ms);
        Instant::now() + Duration::from_millis(left_ms)
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}

fn log(line: Option<Line>) {
    let Some(Line { level, text }) = line else {
        return;
    };
    match level {
        Level::Info => tracing::info!("{text}"),
        Level::Warn => tracing::warn!("{text}"),
        Level::Error => tracing::error!("{text}"),
    }
}
