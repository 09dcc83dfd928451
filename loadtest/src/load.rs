//! Runs one load against one server and measures it: opens streams, publishes, samples, drains.
//!
//! Every scenario is a [`Load`] with other figures in it, and perhaps a few of its own at the end
//! (`scenarios`). Threads: this one samples, `streams` reads, `publisher` writes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{SECOND_NS, now_ns};
use crate::control::Control;
use crate::outcome::{GeneratorCost, Outcome, Sample, ServerCost};
use crate::payload::PayloadFormat;
use crate::proc_stats::{self, SchedStat};
use crate::progress::Progress;
use crate::publisher::{self, Pace, PublisherOutcome, PublisherPlan};
use crate::replay;
use crate::schedule::Schedule;
use crate::streams::{self, StreamsOutcome, StreamsPlan};
use crate::target::{Dialect, Target};

/// Between two samples of the time series.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks at threads that come to their end.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Without any progress for this long, opening streams or draining is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A drain takes no longer than this even while it goes on.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Messages that a server with a history keeps.
const HISTORY_MESSAGES: u64 = 100;

/// How long a server may take to close the descriptors of streams that are gone.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// From this share of a CPU on a thread has no time left.
const SATURATED_PERCENT: f64 = 92.0;

/// Work of others, in percent of the machine, that is worth a note. The kernel's own part stays
/// below it.
const OTHERS_PERCENT: f64 = 15.0;

/// Lag behind the schedule that is worth a note.
const LAG_US_MAX: u64 = 2_000;

/// How messages are paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// So many a second, whatever the server does.
    Open(f64),
    /// So many connections, each posting again once it is answered.
    Closed(usize),
    /// None at all: streams are open and idle.
    Idle,
}

/// One load.
#[derive(Debug, Clone)]
pub struct Load {
    /// As shown in results.
    pub scenario: String,
    /// How many streams.
    pub streams: usize,
    /// Targets of messages in turn; 0: everyone.
    pub sessions: u32,
    /// Bytes of each message's text.
    pub message_bytes: usize,
    /// How messages are paced.
    pub rate: Rate,
    /// Time before the window.
    pub warmup: Duration,
    /// The measured window.
    pub window: Duration,
    /// Handshakes under way at once.
    pub opening_max: usize,
    /// Streams that stop reading.
    pub stalled: usize,
    /// Streams closed and opened again per second.
    pub churn_per_second: f64,
    /// Messages published before the first stream is opened.
    pub published_before: u32,
    /// The last so many of them are shown to every stream when it opens.
    pub replayed: u32,
}

/// A run cannot go on.
#[derive(Debug)]
pub struct LoadError(pub String);

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> LoadError {
        LoadError(error.to_string())
    }
}

/// Runs `load` against `target`. `interrupted` ends it early.
pub fn run(
    load: &Load,
    target: &Target,
    interrupted: &Arc<AtomicBool>,
) -> Result<Outcome, LoadError> {
    run_with(load, target, interrupted, &mut |_| {})
}

/// The same, and calls `begin` when all streams are open and the publisher has its connection, before
/// the window.
pub fn run_with(
    load: &Load,
    target: &Target,
    interrupted: &Arc<AtomicBool>,
    begin: &mut dyn FnMut(&Control),
) -> Result<Outcome, LoadError> {
    let run_id = (std::process::id() << 12) ^ (now_ns() / 1_000) as u32;
    let mut run = Run {
        load,
        target,
        interrupted,
        format: PayloadFormat::new(run_id, load.message_bytes),
        control: Arc::new(Control::default()),
        progress: Progress::new(&format!("{} {}", load.scenario, target.name)),
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
    let result = run.measure(begin);
    run.control.stop.store(true, Relaxed);
    result.map(|()| run.outcome)
}

struct Run<'a> {
    load: &'a Load,
    target: &'a Target,
    interrupted: &'a Arc<AtomicBool>,
    format: PayloadFormat,
    control: Arc<Control>,
    progress: Progress,
    outcome: Outcome,
}

/// What is read at both ends of the window.
struct Snapshot {
    at_ns: u64,
    server_cpu_ns: u64,
    machine_busy_ns: u64,
    deliveries: u64,
    heartbeats: u64,
    acked: u64,
    reader: SchedStat,
    publisher: SchedStat,
}

impl Run<'_> {
    fn measure(&mut self, begin: &mut dyn FnMut(&Control)) -> Result<(), LoadError> {
        let mut cost = ServerCost {
            memory_start: proc_stats::memory_bytes(&self.target.pids),
            descriptors_start: proc_stats::descriptors(&self.target.pids),
            ..ServerCost::default()
        };
        if self.load.published_before > 0 {
            self.publish_history()?;
        }
        let kernel_before = proc_stats::kernel_bytes();
        let readers = self.open_streams()?;
        cost.memory_open = proc_stats::memory_bytes(&self.target.pids);
        cost.kernel_open = proc_stats::kernel_bytes() as i64 - kernel_before as i64;

        let start_ns = now_ns() + 20_000_000;
        let window_ns = (start_ns + self.load.warmup.as_nanos() as u64)
            ..(start_ns + (self.load.warmup + self.load.window).as_nanos() as u64);
        self.control.window_start_ns.store(window_ns.start, Relaxed);
        self.control.window_end_ns.store(window_ns.end, Relaxed);
        let publisher = self.start_publisher(start_ns, window_ns.end)?;
        if publisher.is_some() {
            self.await_first_ack(window_ns.start);
        }
        begin(&self.control);
        let (before, after) = self.watch(&window_ns, &mut cost);
        let posted = match publisher {
            Some(publisher) => self.join_publisher(publisher)?,
            None => PublisherOutcome::default(),
        };
        self.control
            .total
            .store(self.load.published_before + posted.sent, Relaxed);
        self.drain(&readers);
        cost.memory_end = proc_stats::memory_bytes(&self.target.pids);
        cost.memory_max = cost.memory_max.max(cost.memory_open).max(cost.memory_end);
        let seen = join(readers)??;
        cost.descriptors_end = self.await_closed(cost.descriptors_start);

        if self.load.streams == 0 && self.target.has_history {
            self.check_history(posted.acked);
        }
        self.record_window(&before, &after, cost);
        self.record_published(posted);
        self.record_seen(seen);
        self.judge_generator();
        if self.interrupted.load(Relaxed) {
            let note = "interrupted: the window is shorter, and nothing was waited for";
            self.outcome.notes.push(note.into());
        }
        Ok(())
    }

    /// Without streams nobody has seen the messages: the last of them are to be in the history.
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

    /// Publishes what streams find when they open.
    fn publish_history(&mut self) -> Result<(), LoadError> {
        let plan = PublisherPlan {
            target: self.target.clone(),
            format: self.format.clone(),
            sessions: 0,
            pace: Pace::Closed { connections: 1 },
            first: 0,
            end_ns: u64::MAX,
            messages_max: self.load.published_before,
            pipelining: false,
        };
        let outcome = publisher::run(plan, &Control::default())?;
        if outcome.acked == u64::from(self.load.published_before) {
            return Ok(());
        }
        Err(LoadError(format!(
            "the history was not taken: {:?}",
            outcome.errors
        )))
    }

    fn open_streams(&mut self) -> Result<JoinHandle<io::Result<StreamsOutcome>>, LoadError> {
        let plan = StreamsPlan {
            target: self.target.clone(),
            format: self.format.clone(),
            count: self.load.streams,
            sessions: self.load.sessions,
            opening_max: self.target.dialect.opening_max(self.load.opening_max),
            open_retries: self.target.dialect.open_retries(),
            stalled: self.load.stalled,
            churn_per_second: self.load.churn_per_second,
            published_before: self.load.published_before,
            replayed: self.load.replayed,
        };
        let control = Arc::clone(&self.control);
        let start_ns = now_ns();
        let reader = thread::Builder::new()
            .name("streams".into())
            .spawn(move || streams::run(plan, &control))?;
        let all = self.load.streams;
        let mut patience = Patience::new(now_ns(), Duration::MAX);
        loop {
            let opened = self.control.opened.load(Relaxed);
            let failed = self.control.failed.load(Relaxed);
            self.progress.update(
                opened as f64 / all as f64,
                &format!("{opened} streams open"),
            );
            if opened + failed >= all {
                self.outcome.open_all_s = seconds(now_ns() - start_ns);
                break;
            }
            if reader.is_finished() || self.interrupted.load(Relaxed) {
                break;
            }
            if patience.is_over(opened + failed, now_ns()) {
                let note = format!("only {opened} of {all} streams opened");
                self.outcome.notes.push(note);
                break;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        if self.load.replayed > 0 {
            self.await_replay(start_ns);
        }
        Ok(reader)
    }

    /// Waits until every stream has been shown the whole history.
    fn await_replay(&mut self, start_ns: u64) {
        let due = self.load.streams as u64 * u64::from(self.load.replayed);
        let mut patience = Patience::new(now_ns(), DRAIN_MAX);
        loop {
            let deliveries = self.control.deliveries.load(Relaxed);
            if deliveries >= due {
                self.outcome.replay_all_s = Some(seconds(now_ns() - start_ns));
                return;
            }
            if patience.is_over(deliveries as usize, now_ns()) || self.interrupted.load(Relaxed) {
                self.outcome
                    .notes
                    .push(format!("only {deliveries} of {due} messages replayed"));
                return;
            }
            thread::sleep(LOOK_INTERVAL);
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
            Rate::Idle => return Ok(None),
        };
        let plan = PublisherPlan {
            target: self.target.clone(),
            format: self.format.clone(),
            sessions: self.load.sessions,
            pace,
            first: self.load.published_before,
            end_ns,
            messages_max: u32::MAX / 2,
            pipelining: self.target.dialect != Dialect::Pushpin,
        };
        let control = Arc::clone(&self.control);
        let publisher = thread::Builder::new()
            .name("publisher".into())
            .spawn(move || publisher::run(plan, &control))?;
        Ok(Some(publisher))
    }

    /// Waits until the publisher has been answered once, but not into the window.
    fn await_first_ack(&self, window_start_ns: u64) {
        while self.control.acked.load(Relaxed) == 0 && now_ns() < window_start_ns {
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Samples until the window's end; returns what was read at its two ends.
    fn watch(
        &mut self,
        window_ns: &std::ops::Range<u64>,
        cost: &mut ServerCost,
    ) -> (Snapshot, Snapshot) {
        let mut last = self.snapshot();
        let mut before = None;
        let mut due_ns = last.at_ns;
        loop {
            due_ns += SAMPLE_INTERVAL.as_nanos() as u64;
            if before.is_none() {
                due_ns = due_ns.min(window_ns.start);
            }
            due_ns = due_ns.min(window_ns.end);
            sleep_until(due_ns);
            let now = self.snapshot();
            let memory = proc_stats::memory_bytes(&self.target.pids);
            cost.memory_max = cost.memory_max.max(memory);
            self.outcome
                .series
                .push(sample(&last, &now, window_ns.start, memory));
            self.show(&now, &last, window_ns);
            let ends = now.at_ns >= window_ns.end || self.interrupted.load(Relaxed);
            last = now;
            if before.is_none() && last.at_ns >= window_ns.start {
                before = Some(self.snapshot());
            }
            if ends {
                return (before.unwrap_or_else(|| self.snapshot()), last);
            }
        }
    }

    fn show(&mut self, now: &Snapshot, last: &Snapshot, window_ns: &std::ops::Range<u64>) {
        let share = 1.0
            - window_ns.end.saturating_sub(now.at_ns) as f64
                / (self.load.warmup + self.load.window).as_nanos().max(1) as f64;
        let rate = per_second(now.deliveries - last.deliveries, now.at_ns - last.at_ns);
        let text = format!(
            "{} deliveries, {rate:.0}/s, {} acks",
            now.deliveries, now.acked
        );
        self.progress.update(share, &text);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            at_ns: now_ns(),
            server_cpu_ns: proc_stats::cpu_ns(&self.target.pids),
            machine_busy_ns: proc_stats::machine_busy_ns(),
            deliveries: self.control.deliveries.load(Relaxed),
            heartbeats: self.control.heartbeats.load(Relaxed),
            acked: self.control.acked.load(Relaxed),
            reader: proc_stats::thread(self.control.streams_tid.load(Relaxed)),
            publisher: proc_stats::thread(self.control.publisher_tid.load(Relaxed)),
        }
    }

    fn join_publisher(
        &mut self,
        publisher: JoinHandle<io::Result<PublisherOutcome>>,
    ) -> Result<PublisherOutcome, LoadError> {
        while !publisher.is_finished() {
            if self.interrupted.load(Relaxed) {
                self.control.stop.store(true, Relaxed);
            }
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(join(publisher)??)
    }

    /// Waits until every stream has everything, as long as that goes on.
    fn drain(&mut self, reader: &JoinHandle<io::Result<StreamsOutcome>>) {
        let mut patience = Patience::new(now_ns(), DRAIN_MAX);
        while !reader.is_finished() {
            let deliveries = self.control.deliveries.load(Relaxed);
            let complete = self.control.complete.load(Relaxed);
            let share = complete as f64 / self.load.streams.max(1) as f64;
            self.progress
                .update(share, &format!("draining, {complete} streams complete"));
            if patience.is_over(deliveries as usize, now_ns()) || self.interrupted.load(Relaxed) {
                break;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        self.control.stop.store(true, Relaxed);
    }

    fn record_window(&mut self, before: &Snapshot, after: &Snapshot, mut cost: ServerCost) {
        let span_ns = (after.at_ns - before.at_ns).max(1);
        let deliveries = after.deliveries - before.deliveries;
        let heartbeats = after.heartbeats - before.heartbeats;
        let acked = after.acked - before.acked;
        let per = |ns: u64, count: u64| (count > 0).then(|| ns as f64 / 1e3 / count as f64);
        let percent = |ns: u64| 100.0 * ns as f64 / span_ns as f64;
        let cpu_ns = after.server_cpu_ns.saturating_sub(before.server_cpu_ns);
        cost.cpu_s = seconds(cpu_ns);
        cost.cpu_percent = percent(cpu_ns);
        cost.cpu_us_per_delivery = per(cpu_ns, deliveries);
        cost.cpu_us_per_ack = per(cpu_ns, acked);
        let idle = deliveries == 0 && acked == 0;
        cost.cpu_us_per_heartbeat = per(cpu_ns, heartbeats).filter(|_| idle);
        let reader = after.reader.since(before.reader);
        let publisher = after.publisher.since(before.publisher);
        let outcome = &mut self.outcome;
        outcome.window_s = seconds(span_ns);
        outcome.deliveries_per_second = per_second(deliveries, span_ns);
        outcome.heartbeats_per_second = per_second(heartbeats, span_ns);
        outcome.acks_per_second = per_second(acked, span_ns);
        let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let busy_ns = after.machine_busy_ns.saturating_sub(before.machine_busy_ns);
        outcome.machine_busy_percent = percent(busy_ns) / cpus;
        if !self.target.pids.is_empty() {
            let known_ns = cpu_ns + reader.run_ns + publisher.run_ns;
            outcome.others_percent = Some(percent(busy_ns.saturating_sub(known_ns)) / cpus);
            outcome.cost = Some(cost);
        }
        outcome.generator = GeneratorCost {
            reader_percent: percent(reader.run_ns),
            reader_waiting_percent: percent(reader.wait_ns),
            reader_us_per_delivery: per(reader.run_ns, deliveries),
            publisher_percent: percent(publisher.run_ns),
            publisher_waiting_percent: percent(publisher.wait_ns),
            schedule_lag: None,
            saturated: false,
        };
    }

    fn record_published(&mut self, published: PublisherOutcome) {
        let outcome = &mut self.outcome;
        outcome.messages = published.sent;
        outcome.acked = published.acked;
        outcome.ack = published.ack.summary();
        outcome.message_bytes = self.format.message_bytes();
        if let Rate::Open(rate) = self.load.rate {
            outcome.rate = Some(rate);
            outcome.generator.schedule_lag = published.lag.summary();
        }
        outcome.errors.extend(published.errors);
    }

    fn record_seen(&mut self, seen: StreamsOutcome) {
        let outcome = &mut self.outcome;
        outcome.deliveries = seen.deliveries;
        outcome.deliveries_expected = seen.expected;
        outcome.missing += seen.faults.missing;
        outcome.duplicate = seen.faults.duplicate;
        outcome.out_of_order = seen.faults.out_of_order;
        outcome.misdelivered = seen.faults.misdelivered;
        outcome.gaps = seen.gaps;
        outcome.gap_messages = seen.gap_messages;
        outcome.heartbeats = seen.heartbeats;
        outcome.bytes = seen.bytes;
        outcome.delivery = seen.delivery.summary();
        outcome.open = seen.open.summary();
        outcome.replay = seen.replay.summary();
        outcome.churned = seen.churned;
        outcome.reopened = seen.reopened;
        outcome.stalled_closed = seen.stalled_closed;
        outcome.errors.extend(seen.errors);
    }

    /// Says so when the figures are this tool's, or somebody else's, and not the server's.
    fn judge_generator(&mut self) {
        let outcome = &mut self.outcome;
        let server_percent = outcome.cost.as_ref().map(|cost| cost.cpu_percent);
        let generator = &mut outcome.generator;
        let busiest = generator.reader_percent.max(generator.publisher_percent);
        // A server that is itself out of CPU is not waiting for the generator.
        generator.saturated = busiest >= SATURATED_PERCENT
            && server_percent.is_none_or(|cpu| cpu < SATURATED_PERCENT);
        if generator.saturated {
            let note = format!(
                "the generator was at its limit ({busiest:.0} % of a CPU) and the server was not: \
                 the figures are the generator's"
            );
            outcome.notes.push(note);
        }
        if let Some(others) = outcome
            .others_percent
            .filter(|&others| others > OTHERS_PERCENT)
        {
            outcome.notes.push(format!(
                "{others:.0} % of the machine went to other work: compare with care"
            ));
        }
        let lag = outcome.generator.schedule_lag.as_ref();
        if let Some(lag) = lag.filter(|lag| lag.p99_us > LAG_US_MAX) {
            outcome.notes.push(format!(
                "messages went out late, p99 {:.1} ms behind schedule; latencies count from the \
                 schedule",
                lag.p99_us as f64 / 1e3
            ));
        }
    }

    /// Waits a moment for the server to notice that its streams are gone; returns the descriptors
    /// that it has open then.
    fn await_closed(&self, descriptors_start: u64) -> u64 {
        let end_ns = now_ns() + CLOSE_PATIENCE.as_nanos() as u64;
        loop {
            let descriptors = proc_stats::descriptors(&self.target.pids);
            if descriptors <= descriptors_start || now_ns() > end_ns {
                return descriptors;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn sample(last: &Snapshot, now: &Snapshot, window_start_ns: u64, memory: u64) -> Sample {
    let span_ns = (now.at_ns - last.at_ns).max(1);
    let percent = |ns: u64| 100.0 * ns as f64 / span_ns as f64;
    let reader = now.reader.since(last.reader);
    let publisher = now.publisher.since(last.publisher);
    Sample {
        at_s: (now.at_ns as f64 - window_start_ns as f64) / SECOND_NS as f64,
        deliveries_per_second: per_second(now.deliveries - last.deliveries, span_ns),
        acks_per_second: per_second(now.acked - last.acked, span_ns),
        server_cpu_percent: percent(now.server_cpu_ns.saturating_sub(last.server_cpu_ns)),
        generator_cpu_percent: percent(reader.run_ns + publisher.run_ns),
        server_memory: memory,
    }
}

/// Ends a wait in which nothing moves any more.
struct Patience {
    seen: usize,
    moved_ns: u64,
    end_ns: u64,
}

impl Patience {
    fn new(now_ns: u64, longest: Duration) -> Patience {
        let longest_ns = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Patience {
            seen: 0,
            moved_ns: now_ns,
            end_ns: now_ns.saturating_add(longest_ns),
        }
    }

    fn is_over(&mut self, seen: usize, now_ns: u64) -> bool {
        if seen != self.seen {
            self.seen = seen;
            self.moved_ns = now_ns;
        }
        now_ns > self.end_ns || now_ns > self.moved_ns + PATIENCE.as_nanos() as u64
    }
}

fn join<T>(thread: JoinHandle<T>) -> Result<T, LoadError> {
    thread
        .join()
        .map_err(|_| LoadError("a thread of the generator panicked".into()))
}

fn sleep_until(due_ns: u64) {
    thread::sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns())));
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND_NS as f64
}

fn per_second(count: u64, span_ns: u64) -> f64 {
    count as f64 / seconds(span_ns.max(1))
}
