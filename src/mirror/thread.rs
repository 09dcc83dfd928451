//! The mirror's thread: runs cycles when they are due, until it is told to stop.
//!
//! Started by `main`. All blocking of the mirror is here: in calls to KV, which are bounded in time,
//! and in waiting. It takes the hub's lock only through [`History`], and never while it calls.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, at, bounded, never, select};
use fastrand::Rng;

use crate::limits::HISTORY_MESSAGES;
use crate::message::Message;
use crate::mirror::cloudflare::{Client, ClientError, Interrupt};
use crate::mirror::core::{Condition, Mirror, Now};
use crate::mirror::reply::{FailureKind, Reply};
use crate::mirror::report::{Level, Line, Reporter};
use crate::mirror::schedule::Pace;
use crate::mirror::stats::MirrorStats;
use crate::mirror::{History, KEY, MirrorConfig};

/// Time beyond its deadline that a stopping mirror gets to say how it went.
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
    /// KV holds all of this node's history that it should.
    Synced,
    /// KV lacks this many of this node's messages; they are in the ring and follow at the next
    /// start.
    Behind(usize),
    /// It did not end in time; its thread is left behind.
    Overdue,
}

/// Why the mirror could not be started.
#[derive(Debug)]
pub enum SpawnError {
    /// A setting cannot work.
    Client(ClientError),
    /// There is no thread to be had.
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

/// Starts the mirror. `published`: a unit for every turn in which messages were published on this
/// node; one place is enough, and a full channel loses nothing.
pub fn spawn(
    config: MirrorConfig,
    history: Arc<dyn History>,
    published: Receiver<()>,
) -> Result<MirrorHandle, SpawnError> {
    let client = Client::new(&config).map_err(SpawnError::Client)?;
    let interrupt = client.interrupt_handle();
    let stats = Arc::new(MirrorStats::new());
    let (stop, stop_requested) = bounded(1);
    let (report_stopped, stopped) = bounded(1);
    let worker_stats = Arc::clone(&stats);
    let run = move || {
        let worker = Worker::new(
            config,
            client,
            history,
            published,
            stop_requested,
            worker_stats,
        );
        // Nobody waits for it if the handle is gone.
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
    /// The mirror's counters and gauges; they outlive the handle.
    pub fn stats(&self) -> Arc<MirrorStats> {
        Arc::clone(&self.stats)
    }

    /// Stops the mirror after a last sync, at `deadline` at the latest. A call in flight is cut
    /// short, for it may hang, and made again. Publishes must have ended.
    pub fn stop(self, deadline: Instant) -> Stopped {
        // A worker that is gone leaves the other channel closed, which is looked at next.
        let _ = self.stop.send(deadline);
        self.interrupt.interrupt();
        match self.stopped.recv_deadline(deadline + STOP_GRACE) {
            Ok(stopped) => stopped,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Stopped::Overdue,
        }
    }
}

struct Worker {
    config: MirrorConfig,
    client: Client,
    history: Arc<dyn History>,
    published: Receiver<()>,
    stop: Receiver<Instant>,
    stats: Arc<MirrorStats>,
    mirror: Mirror,
    reporter: Reporter,
    began: Instant,
}

enum Due {
    Cycle,
    Stop(Instant),
}

impl Worker {
    fn new(
        config: MirrorConfig,
        client: Client,
        history: Arc<dyn History>,
        published: Receiver<()>,
        stop: Receiver<Instant>,
        stats: Arc<MirrorStats>,
    ) -> Worker {
        let began = Instant::now();
        let pace = Pace {
            poll_ms: config.poll.as_millis() as u64,
            write_interval_ms: config.write_interval.as_millis() as u64,
        };
        let mirror = Mirror::new(
            pace,
            HISTORY_MESSAGES,
            &history.ring(),
            now_since(began),
            Rng::new(),
        );
        let reporter = Reporter::default();
        Worker {
            config,
            client,
            history,
            published,
            stop,
            stats,
            mirror,
            reporter,
            began,
        }
    }

    fn run(mut self) -> Stopped {
        loop {
            match self.wait() {
                Due::Cycle => self.cycle(self.config.request_timeout),
                Due::Stop(deadline) => return self.close(deadline),
            }
        }
    }

    fn wait(&mut self) -> Due {
        loop {
            // Publishes are no news while a write is wanted anyway.
            let is_news = !self.mirror.write_is_wanted();
            let published = if is_news {
                self.published.clone()
            } else {
                never()
            };
            select! {
                // A handle that was dropped cannot ask for a last sync.
                recv(self.stop) -> deadline => return Due::Stop(deadline.unwrap_or_else(|_| Instant::now())),
                recv(published) -> unit => match unit {
                    Ok(()) => self.mirror.handle_publish(),
                    Err(_) => self.published = never(),
                },
                recv(at(self.due())) -> _ => return Due::Cycle,
            }
        }
    }

    /// One read, and one write if it is called for.
    fn cycle(&mut self, timeout: Duration) {
        if self.published.try_recv().is_ok() {
            self.mirror.handle_publish();
        }
        self.mirror.begin_read(self.now());
        let reply = self.client.read(KEY, timeout);
        if self.is_stopping() {
            return;
        }
        self.handle_read(reply);
        if let Some(value) = self.mirror.begin_write(self.now()) {
            let reply = self.client.write(KEY, &value, timeout);
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
        say(self.reporter.read(reply.result.as_ref().map(|_| ())));
        let is_ok = reply.result.is_ok();

        let now = self.now();
        let history = Arc::clone(&self.history);
        let ring = history.ring();
        let news = self
            .mirror
            .handle_read(now, reply, &ring, |message| history.can_hold(message));
        self.admit(now, &news);
        if let Some(replay) = self.mirror.take_replay() {
            history.set_replay(replay);
        }

        if is_ok {
            say(self.reporter.condition(self.mirror.condition()));
            say(self.reporter.unheld(self.mirror.unheld()));
            say(self.reporter.clock(self.mirror.clock_ahead_ms()));
        }
    }

    /// Puts news into the ring, half a ring at a time and with a look at it in between: so what is
    /// published meanwhile is seen before it is overwritten.
    fn admit(&mut self, now: Now, news: &[Arc<Message>]) {
        for some in news.chunks(HISTORY_MESSAGES / 2) {
            let admission = self.history.admit(some);
            self.stats
                .admitted
                .fetch_add(admission.admitted as u64, Relaxed);
            self.stats
                .refused
                .fetch_add(u64::from(admission.refusal.is_some()), Relaxed);
            say(self.reporter.refused(admission.refusal.as_deref()));
            let ring = self.history.ring();
            self.mirror
                .handle_admitted(now, &some[..admission.admitted], &ring);
            if admission.refusal.is_some() {
                break;
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
        say(self.reporter.write(reply.result.as_ref().copied()));
        self.mirror.handle_write(self.now(), reply);
    }

    fn publish_gauges(&self) {
        let stats = &self.stats;
        let lag = self.mirror.lag(&self.history.ring());
        stats.lag_messages.store(lag as u64, Relaxed);
        stats
            .calls_left
            .store(self.mirror.calls_left(self.now()) as u64, Relaxed);
        stats
            .unheld_messages
            .store(self.mirror.unheld() as u64, Relaxed);
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

    /// The last sync: cycles until nothing is to be written or there is no time left.
    fn close(mut self, deadline: Instant) -> Stopped {
        // The calls of the client so far were interrupted for good.
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
            self.cycle(left.min(self.config.request_timeout));
            if !self.mirror.write_is_wanted() {
                break;
            }
        }
        match self.mirror.lag(&self.history.ring()) {
            0 => Stopped::Synced,
            lag => Stopped::Behind(lag),
        }
    }

    fn is_stopping(&self) -> bool {
        !self.stop.is_empty()
    }

    fn due(&self) -> Instant {
        self.began + Duration::from_millis(self.mirror.next_cycle_ms())
    }

    fn now(&self) -> Now {
        now_since(self.began)
    }
}

fn now_since(began: Instant) -> Now {
    // A clock before 1970 is as wrong as one that stands at it.
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        mono_ms: began.elapsed().as_millis() as u64,
        wall_ms: wall.as_millis() as u64,
    }
}

fn say(line: Option<Line>) {
    let Some(Line { level, text }) = line else {
        return;
    };
    match level {
        Level::Info => tracing::info!("{text}"),
        Level::Warn => tracing::warn!("{text}"),
        Level::Error => tracing::error!("{text}"),
    }
}
