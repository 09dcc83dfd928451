//! The measured window: snapshots at its ends and in between, and the figures computed from them.
//!
//! Used by `measurement`, which decides the times.

use std::thread;

use crate::engine::clock::{SECOND_NS, now_ns};
use crate::engine::control::Control;
use crate::engine::outcome::{GeneratorCost, Outcome, Sample, ServerCost};
use crate::engine::proc_stats::{self, SchedStat};
use std::sync::atomic::Ordering::Relaxed;

/// From this share of a CPU on, a thread is saturated.
const SATURATED_PERCENT: f64 = 92.0;

/// Share of the machine used by other work, in percent, that gets a note. The kernel's own part stays below
/// it.
const OTHERS_PERCENT: f64 = 15.0;

/// Lag behind the schedule that gets a note.
const LAG_US_MAX: u64 = 2_000;

/// Counters at one moment.
pub struct Snapshot {
    /// The time.
    pub at_ns: u64,
    server_cpu_ns: u64,
    machine_busy_ns: u64,
    /// Messages read so far.
    pub deliveries: u64,
    heartbeats: u64,
    /// Messages acknowledged so far.
    pub acked: u64,
    reader: SchedStat,
    publisher: SchedStat,
}

impl Snapshot {
    /// Reads all counters now.
    pub fn take(control: &Control, pids: &[u32]) -> Snapshot {
        Snapshot {
            at_ns: now_ns(),
            server_cpu_ns: proc_stats::cpu_ns(pids),
            machine_busy_ns: proc_stats::machine_busy_ns(),
            deliveries: control.deliveries.load(Relaxed),
            heartbeats: control.heartbeats.load(Relaxed),
            acked: control.acked.load(Relaxed),
            reader: reader(control),
            publisher: proc_stats::thread(control.publisher_tid.load(Relaxed)),
        }
    }
}

/// The CPU time of the reading threads.
fn reader(control: &Control) -> SchedStat {
    match control.streams_tid.load(Relaxed) {
        0 => SchedStat {
            run_ns: control.readers_run_ns.load(Relaxed),
            wait_ns: control.readers_wait_ns.load(Relaxed),
        },
        tid => proc_stats::thread(tid),
    }
}

/// The point of the time series between two snapshots.
pub fn sample(last: &Snapshot, now: &Snapshot, window_start_ns: u64, memory: u64) -> Sample {
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

/// Records the difference between two snapshots.
pub fn record(
    outcome: &mut Outcome,
    pids: &[u32],
    (before, after): (&Snapshot, &Snapshot),
    mut cost: ServerCost,
) {
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
    outcome.window_s = seconds(span_ns);
    outcome.deliveries_per_second = per_second(deliveries, span_ns);
    outcome.heartbeats_per_second = per_second(heartbeats, span_ns);
    outcome.acks_per_second = per_second(acked, span_ns);
    let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let busy_ns = after.machine_busy_ns.saturating_sub(before.machine_busy_ns);
    outcome.machine_busy_percent = percent(busy_ns) / cpus;
    if !pids.is_empty() {
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

/// Notes figures that show this tool's limit, or other work, instead of the server.
pub fn judge_generator(outcome: &mut Outcome, readers: usize) {
    let server_percent = outcome.cost.as_ref().map(|cost| cost.cpu_percent);
    let generator = &mut outcome.generator;
    let reader_percent = generator.reader_percent / readers as f64;
    let busiest = reader_percent.max(generator.publisher_percent);
    // A saturated server does not wait for the generator.
    generator.saturated =
        busiest >= SATURATED_PERCENT && server_percent.is_none_or(|cpu| cpu < SATURATED_PERCENT);
    if generator.saturated {
        let note = format!(
            "the generator was saturated ({busiest:.0} % of a CPU) and the server was not: \
             the figures are the generator's"
        );
        outcome.notes.push(note);
    }
    if let Some(others) = outcome
        .others_percent
        .filter(|&others| others > OTHERS_PERCENT)
    {
        outcome.notes.push(format!(
            "other work used {others:.0} % of the machine: compare with care"
        ));
    }
    let lag = outcome.generator.schedule_lag.as_ref();
    if let Some(lag) = lag.filter(|lag| lag.p99_us > LAG_US_MAX) {
        outcome.notes.push(format!(
            "messages were sent late, p99 {:.1} ms behind schedule; latencies count from the \
             schedule",
            lag.p99_us as f64 / 1e3
        ));
    }
}

/// Nanoseconds as seconds.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND_NS as f64
}

/// A count as a rate.
pub fn per_second(count: u64, span_ns: u64) -> f64 {
    count as f64 / seconds(span_ns.max(1))
}
