//! Runs one load against one server and measures it: opens streams, publishes, samples, drains.
//!
//! Called by `single`, `compare` and `overload`. This thread samples, `streams` reads, `publisher` writes. A
//! signal or the loss of the server ends a run early, with the figures up to then. Every run ends in `finish`.

mod finishing;
mod opening;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::engine::clock::now_ns;
use crate::engine::control::Control;
use crate::engine::ending::{Moment, Phase};
use crate::engine::load::{Load, LoadError, Rate};
use crate::engine::observed::Fields;
use crate::engine::outcome::{Outcome, ServerCost};
use crate::engine::payload::PayloadFormat;
use crate::engine::proc_stats;
use crate::engine::progress::Progress;
use crate::engine::publisher::{self, Pace, PublisherOutcome, PublisherPlan};
use crate::engine::reading::Spawn;
use crate::engine::record;
use crate::engine::replay;
use crate::engine::schedule::Schedule;
use crate::engine::streams_outcome::StreamsOutcome;
use crate::engine::target::Target;
use crate::engine::window::{self, Snapshot, per_second, seconds};

/// Time between two samples of the time series.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Time between two checks for the end of a thread.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Time between two checks for an early end during the window.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// Without progress for this long, opening and draining are given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Upper limit of a drain that makes progress.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Messages that a server with a history keeps.
const HISTORY_MESSAGES: u64 = 100;

/// The servers of a measurement, and the processes that read their streams.
pub struct Setup<'a> {
    /// The servers. Streams are spread over them.
    pub targets: &'a [Target],
    /// Reading processes: 1 is this process. At least as many as there are servers.
    pub processes: usize,
    /// Starts a reading process.
    pub spawn: &'a Spawn<'a>,
    /// Where messages of another publisher have their fields.
    pub observed: Option<Fields>,
}

/// Runs `load` against `target`. `interrupted` ends it early.
pub fn run(
    load: &Load,
    target: &Target,
    interrupted: &Arc<AtomicBool>,
) -> Result<Outcome, LoadError> {
    run_with(load, target, interrupted, &mut |_| {})
}

/// Runs `load` against several servers, or with several reading processes.
pub fn run_on(
    load: &Load,
    setup: &Setup<'_>,
    interrupted: &Arc<AtomicBool>,
) -> Result<Outcome, LoadError> {
    run_setup(load, setup, interrupted, &mut |_| {})
}

/// As [`run`]. Calls `begin` when all streams are open and the publisher is connected, before the window.
pub fn run_with(
    load: &Load,
    target: &Target,
    interrupted: &Arc<AtomicBool>,
    begin: &mut dyn FnMut(&Control),
) -> Result<Outcome, LoadError> {
    let setup = Setup {
        targets: std::slice::from_ref(target),
        processes: 1,
        spawn: &|| Err("one process reads".into()),
        observed: None,
    };
    run_setup(load, &setup, interrupted, begin)
}

fn run_setup(
    load: &Load,
    setup: &Setup<'_>,
    interrupted: &Arc<AtomicBool>,
    begin: &mut dyn FnMut(&Control),
) -> Result<Outcome, LoadError> {
    let [target, ..] = setup.targets else {
        return Err(LoadError("no server".into()));
    };
    let run_id = (std::process::id() << 12) ^ (now_ns() / 1_000) as u32;
    let mut run = Run {
        load,
        target,
        setup,
        pids: setup
            .targets
            .iter()
            .flat_map(|target| &target.pids)
            .copied()
            .collect(),
        interrupted,
        format: PayloadFormat::of(run_id, load.message_bytes, &target.protocol.message)
            .map_err(LoadError)?,
        control: Arc::new(Control::default()),
        progress: Progress::new(&format!("{} {}", load.scenario, target.name)),
        start_ns: now_ns(),
        phase: Phase::Opening,
        early: None,
        outcome: Outcome {
            scenario: load.scenario.clone(),
            server: target.name.clone(),
            streams: load.streams,
            sessions: load.sessions,
            stalled: load.stalled,
            replay_messages: load.replayed,
            ..Outcome::default()
        },
    };
    run.control
        .live
        .is_on
        .store(run.progress.is_shown(), Relaxed);
    let result = run.measure(begin);
    run.control.stop.store(true, Relaxed);
    result.map(|()| run.outcome)
}

struct Run<'a> {
    load: &'a Load,
    /// The first server, or the only one.
    target: &'a Target,
    setup: &'a Setup<'a>,
    /// The processes of all servers.
    pids: Vec<u32>,
    interrupted: &'a Arc<AtomicBool>,
    format: PayloadFormat,
    control: Arc<Control>,
    progress: Progress,
    start_ns: u64,
    /// The phase, until the window is known.
    phase: Phase,
    early: Option<Early>,
    outcome: Outcome,
}

/// The reason and the time of an early end.
enum Early {
    Interrupted(Moment),
    Lost(Moment),
}

impl Run<'_> {
    fn measure(&mut self, begin: &mut dyn FnMut(&Control)) -> Result<(), LoadError> {
        let mut cost = ServerCost {
            memory_start: proc_stats::memory_bytes(&self.pids),
            descriptors_start: proc_stats::descriptors(&self.pids),
            ..ServerCost::default()
        };
        if self.load.published_before > 0 {
            self.phase = Phase::History;
            let published = self.publish_history()?;
            if self.early.is_some() {
                self.outcome.streams = 0;
                return self.finish(None, None, published, cost);
            }
        }
        self.phase = Phase::Opening;
        let kernel_before = proc_stats::kernel_bytes();
        let readers = self.open_streams()?;
        cost.memory_open = proc_stats::memory_bytes(&self.pids);
        cost.kernel_open = proc_stats::kernel_bytes() as i64 - kernel_before as i64;
        if self.ends_early() {
            let nothing = PublisherOutcome::nothing(self.load.window);
            return self.finish(Some(readers), None, nothing, cost);
        }
        // Times in messages are whole microseconds: so is the start of the window. Reading processes learn it
        // before the first message.
        let lead_ns = if self.setup.processes > 1 {
            200_000_000
        } else {
            20_000_000
        };
        let start_ns = now_ns() / 1_000 * 1_000 + lead_ns;
        let window_ns = (start_ns + self.load.warmup.as_nanos() as u64)
            ..(start_ns + (self.load.warmup + self.load.window).as_nanos() as u64);
        self.control.window_start_ns.store(window_ns.start, Relaxed);
        self.control.window_end_ns.store(window_ns.end, Relaxed);
        let publisher = self.start_publisher(start_ns, window_ns.end)?;
        if publisher.is_some() {
            self.await_first_ack(window_ns.start);
        }
        begin(&self.control);
        let window = self.watch(&window_ns, &mut cost);
        let posted = match publisher {
            Some(publisher) => self.join_publisher(publisher)?,
            None => PublisherOutcome::nothing(self.load.window),
        };
        self.finish(Some(readers), window.as_ref(), posted, cost)
    }

    /// Waits for messages in flight and records everything.
    fn finish(
        &mut self,
        readers: Option<JoinHandle<io::Result<StreamsOutcome>>>,
        window: Option<&(Snapshot, Snapshot)>,
        posted: PublisherOutcome,
        mut cost: ServerCost,
    ) -> Result<(), LoadError> {
        if let Ok(mut unacknowledged) = self.control.unacknowledged.lock() {
            unacknowledged.clone_from(&posted.unacknowledged);
        }
        self.control
            .total
            .store(self.load.published_before + posted.sent, Relaxed);
        if let Some(readers) = &readers {
            self.drain(readers);
        }
        if !self.is_lost() {
            cost.memory_end = proc_stats::memory_bytes(&self.pids);
        }
        cost.memory_max = cost.memory_max.max(cost.memory_open).max(cost.memory_end);
        let seen = readers.map(join).transpose()?.transpose()?;
        if self.early.is_none() {
            cost.descriptors_end = Some(self.await_closed(cost.descriptors_start));
        }
        if self.load.streams == 0 && self.target.protocol.shows_history && !self.is_lost() {
            self.check_history(posted.acked);
        }
        if let Some((before, after)) = window {
            window::record(&mut self.outcome, &self.pids, (before, after), cost);
        }
        self.record_early(&posted, seen.as_ref());
        let bytes = self.format.message_bytes();
        record::published(&mut self.outcome, posted, self.load.rate, bytes);
        if let Some(seen) = seen {
            if self.load.rate == Rate::Elsewhere {
                self.outcome.observed = Some(record::observed(&seen));
            }
            record::seen(&mut self.outcome, seen);
        }
        window::judge_generator(&mut self.outcome, self.control.readers.load(Relaxed));
        Ok(())
    }

    /// Whether the run must end before its window does. If so, the first call records the moment and stops the
    /// publisher.
    fn ends_early(&mut self) -> bool {
        if self.early.is_some() {
            return true;
        }
        let early = if let Some(lost_ns) = self.control.lost_ns() {
            Early::Lost(self.moment(lost_ns))
        } else if self.interrupted.load(Relaxed) {
            self.control.interrupted.store(true, Relaxed);
            Early::Interrupted(self.moment(now_ns()))
        } else {
            return false;
        };
        self.early = Some(early);
        self.control.cut.store(true, Relaxed);
        // Messages due from now on belong to no window.
        if self.control.window_end_ns.load(Relaxed) != u64::MAX {
            self.control.window_end_ns.fetch_min(now_ns(), Relaxed);
        }
        true
    }

    fn is_lost(&self) -> bool {
        matches!(self.early, Some(Early::Lost(_)))
    }

    fn moment(&self, at_ns: u64) -> Moment {
        let window_ns = self.control.window_ns();
        let has_window = window_ns.end != u64::MAX;
        Moment {
            at_s: seconds(at_ns.saturating_sub(self.start_ns)),
            window_at_s: has_window.then(|| (at_ns as f64 - window_ns.start as f64) / 1e9),
            phase: match () {
                () if !has_window => self.phase,
                () if at_ns < window_ns.start => Phase::WarmUp,
                () if at_ns < window_ns.end => Phase::Window,
                () => Phase::Drain,
            },
        }
    }

    /// Without streams no message was read. Instead, the last messages must be in the history.
    fn check_history(&mut self, acked: u64) {
        let due = acked.min(HISTORY_MESSAGES);
        match replay::shown(self.target, &self.format) {
            Ok(shown) => {
                self.outcome
                    .figures
                    .insert("in the history".into(), shown as f64);
                self.outcome.missing += due.saturating_sub(shown as u64);
            }
            Err(error) => {
                self.outcome
                    .errors
                    .insert(format!("the history: {error}"), 1);
            }
        }
    }

    fn start_publisher(
        &self,
        start_ns: u64,
        end_ns: u64,
    ) -> Result<Option<JoinHandle<io::Result<PublisherOutcome>>>, LoadError> {
        let pace = match self.load.rate {
            Rate::Open(rate) => Pace::Open(Schedule::new(start_ns, rate)),
            Rate::Closed(connections) => Pace::Closed { connections },
            Rate::Idle | Rate::Elsewhere => return Ok(None),
        };
        let plan = PublisherPlan {
            targets: self.setup.targets.to_vec(),
            format: self.format.clone(),
            sessions: self.load.sessions,
            pace,
            first: self.load.published_before,
            end_ns,
            window: self.load.window,
            messages_max: u32::MAX / 2,
            pipelining: self.target.protocol.pipelining,
        };
        Ok(Some(publisher::start(plan, &self.control)?))
    }

    /// Waits for the first acknowledgement, at most until the window begins.
    fn await_first_ack(&mut self, window_start_ns: u64) {
        while self.control.acked.load(Relaxed) == 0
            && now_ns() < window_start_ns
            && !self.ends_early()
        {
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Samples until the window ends. Returns the snapshots at its two ends, if it began. After the loss of a
    /// server its last sample counts, because a process that has ended reads as zero.
    fn watch(
        &mut self,
        window_ns: &std::ops::Range<u64>,
        cost: &mut ServerCost,
    ) -> Option<(Snapshot, Snapshot)> {
        let mut last = self.snapshot();
        let mut before = None;
        let mut due_ns = last.at_ns;
        loop {
            due_ns += SAMPLE_INTERVAL.as_nanos() as u64;
            if before.is_none() {
                due_ns = due_ns.min(window_ns.start);
            }
            due_ns = due_ns.min(window_ns.end);
            let ends_early = self.sleep_until(due_ns);
            let now = self.snapshot();
            let memory = proc_stats::memory_bytes(&self.pids);
            if self.is_lost() {
                // Without a sample since the window began there are no figures of it.
                let has_sample = |before: &Snapshot| before.at_ns < last.at_ns;
                return before.filter(has_sample).map(|before| (before, last));
            }
            cost.memory_max = cost.memory_max.max(memory);
            cost.memory_end = memory;
            self.outcome
                .series
                .push(window::sample(&last, &now, window_ns.start, memory));
            self.show(&now, &last, window_ns);
            if ends_early || now.at_ns >= window_ns.end {
                return before.map(|before| (before, now));
            }
            last = now;
            if before.is_none() && last.at_ns >= window_ns.start {
                before = Some(self.snapshot());
            }
        }
    }

    /// Returns whether the run must end before that.
    fn sleep_until(&mut self, due_ns: u64) -> bool {
        loop {
            if self.ends_early() {
                return true;
            }
            let left = Duration::from_nanos(due_ns.saturating_sub(now_ns()));
            if left.is_zero() {
                return false;
            }
            thread::sleep(left.min(WATCH_INTERVAL));
        }
    }

    fn show(&mut self, now: &Snapshot, last: &Snapshot, window_ns: &std::ops::Range<u64>) {
        let share = 1.0
            - window_ns.end.saturating_sub(now.at_ns) as f64
                / (self.load.warmup + self.load.window).as_nanos().max(1) as f64;
        let rate = per_second(now.deliveries - last.deliveries, now.at_ns - last.at_ns);
        let live = &self.control.live;
        let [p50_ms, p99_ms] = [&live.p50_us, &live.p99_us].map(|us| us.load(Relaxed) as f64 / 1e3);
        let latency = if p99_ms > 0.0 {
            format!("p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms")
        } else {
            "no latency yet".into()
        };
        let faults = live.faults.load(Relaxed);
        let text = format!(
            "{rate:.0}/s, {latency}, {faults} faults, {} deliveries",
            now.deliveries
        );
        self.progress.update(share, &text);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.control, &self.pids)
    }

    fn join_publisher(
        &mut self,
        publisher: JoinHandle<io::Result<PublisherOutcome>>,
    ) -> Result<PublisherOutcome, LoadError> {
        while !publisher.is_finished() {
            self.ends_early();
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(join(publisher)??)
    }
}

fn join<T>(thread: JoinHandle<T>) -> Result<T, LoadError> {
    thread
        .join()
        .map_err(|_| LoadError("a thread of the generator panicked".into()))
}
