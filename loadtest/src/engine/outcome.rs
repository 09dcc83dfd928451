//! The result of one measurement: the content of `--json`, the table and the report.
//!
//! Plain data, filled in by `measurement`. A figure that was not measured is absent, never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::ending::{CutOff, Lost};
use crate::engine::latency::{LatencyPoint, LatencySummary};
use crate::engine::streams_outcome::StreamsOutcome;

/// One measurement of one server.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// Name of the scenario: `fanout`, `saturate`, …
    pub scenario: String,
    /// Name of the server.
    pub server: String,
    /// Open streams.
    pub streams: usize,
    /// Sessions that messages were targeted at in turn; 0: none.
    pub sessions: u32,
    /// Bytes of each message's text.
    pub message_bytes: usize,
    /// Scheduled messages per second; absent in a closed loop.
    pub rate: Option<f64>,
    /// Seconds of the measured window.
    pub window_s: f64,
    /// Messages sent and acknowledged, warm-up included.
    pub messages: u32,
    /// See [`Outcome::messages`].
    pub acked: u64,
    /// Messages read by all streams, warm-up included.
    pub deliveries: u64,
    /// The expected number of them.
    pub deliveries_expected: u64,
    /// Messages read within the window, per second.
    pub deliveries_per_second: f64,
    /// Messages acknowledged within the window, per second.
    pub acks_per_second: f64,
    /// Acknowledged, and never arrived.
    pub missing: u64,
    /// Arrived more than once.
    pub duplicate: u64,
    /// Arrived after a later one.
    pub out_of_order: u64,
    /// Arrived at another session's stream.
    pub misdelivered: u64,
    /// `gap` events.
    pub gaps: u64,
    /// Messages lost according to `gap` events.
    pub gap_messages: u64,
    /// Comments read, in total.
    pub heartbeats: u64,
    /// Comments read within the window, per second.
    pub heartbeats_per_second: f64,
    /// Bytes read by all streams.
    pub bytes: u64,
    /// From the intended send time to the read.
    pub delivery: Option<LatencySummary>,
    /// From the intended send time to the acknowledgement.
    pub ack: Option<LatencySummary>,
    /// From the connect call to the response head.
    pub open: Option<LatencySummary>,
    /// From the connect call to the last replayed message.
    pub replay: Option<LatencySummary>,
    /// Seconds from the first connect call until all streams were open.
    pub open_all_s: f64,
    /// Length of the replay that a new stream was to get.
    pub replay_messages: u32,
    /// Seconds from the first connect call until all streams had the whole replay.
    pub replay_all_s: Option<f64>,
    /// The server's cost; absent when its processes are not known.
    pub cost: Option<ServerCost>,
    /// This tool's own cost.
    pub generator: GeneratorCost,
    /// Busy share of all CPUs within the window, in percent.
    pub machine_busy_percent: f64,
    /// The part of it that neither the server nor this tool used; includes the kernel's own work. Absent when
    /// the server's part is not known.
    pub others_percent: Option<f64>,
    /// Streams closed and opened again.
    pub churned: u64,
    /// Streams that failed before messages flowed and were opened again.
    pub reopened: u64,
    /// Stalled streams.
    pub stalled: usize,
    /// Stalled streams that the server closed.
    pub stalled_closed: u64,
    /// Figures of one scenario only, by name.
    pub figures: BTreeMap<String, f64>,
    /// Errors, counted by their text.
    pub errors: BTreeMap<String, u64>,
    /// Notes for the interpretation of the figures.
    pub notes: Vec<String>,
    /// Messages of another publisher, in a run that only reads.
    pub observed: Option<Observed>,
    /// What each reading process read; empty if this one did.
    pub processes: Vec<ProcessOutcome>,
    /// The thresholds of the run.
    pub thresholds: Vec<ThresholdOutcome>,
    /// Set if a signal cut the run off.
    pub cut_off: Option<CutOff>,
    /// Set if the server was lost in the middle of the run.
    pub lost: Option<Lost>,
    /// Delivery latency by the time at which messages were due.
    pub delivery_over_time: Vec<LatencyPoint>,
    /// Acknowledgement latency by the time at which messages were due.
    pub ack_over_time: Vec<LatencyPoint>,
    /// The time series, ten samples a second.
    pub series: Vec<Sample>,
}

/// Messages of another publisher.
#[derive(Debug, Clone, Serialize)]
pub struct Observed {
    /// Different messages.
    pub messages: u32,
    /// The least time from a message's own time to its read, in microseconds; below zero if the publisher's
    /// clock is ahead of this one. Latencies are not corrected. Absent without a message in the window.
    pub earliest_us: Option<i64>,
    /// Events without the fields that messages have.
    pub untimed_events: u64,
}

/// What one reading process read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessOutcome {
    /// Its server.
    pub server: String,
    /// Its streams.
    pub streams: usize,
    /// Those that were opened, those opened again included.
    pub opened: u64,
    /// Messages read by them.
    pub deliveries: u64,
    /// See [`Outcome::missing`].
    pub missing: u64,
    /// See [`Outcome::duplicate`].
    pub duplicate: u64,
    /// See [`Outcome::out_of_order`].
    pub out_of_order: u64,
    /// See [`Outcome::misdelivered`].
    pub misdelivered: u64,
    /// Other errors.
    pub errors: u64,
    /// Median latency of deliveries within the window, in microseconds.
    pub p50_us: Option<u64>,
    /// Its 99th percentile.
    pub p99_us: Option<u64>,
    /// The longest.
    pub max_us: Option<u64>,
}

impl ProcessOutcome {
    /// The results of one process.
    pub fn of(seen: &StreamsOutcome, server: String, streams: usize) -> ProcessOutcome {
        let delivery = seen.delivery.summary();
        let us = |of: fn(&LatencySummary) -> u64| delivery.as_ref().map(of);
        ProcessOutcome {
            server,
            streams,
            opened: seen.open.summary().map_or(0, |open| open.count),
            deliveries: seen.deliveries,
            missing: seen.faults.missing,
            duplicate: seen.faults.duplicate,
            out_of_order: seen.faults.out_of_order,
            misdelivered: seen.faults.misdelivered,
            errors: seen.errors.values().sum(),
            p50_us: us(|delivery| delivery.p50_us),
            p99_us: us(|delivery| delivery.p99_us),
            max_us: us(|delivery| delivery.max_us),
        }
    }
}

/// A threshold and what it was compared with.
#[derive(Debug, Clone, Serialize)]
pub struct ThresholdOutcome {
    /// The threshold as given: the run fails if it is true.
    pub fail_if: String,
    /// The measured value, in microseconds if it is a time; absent if it was not measured.
    pub value: Option<f64>,
    /// Whether it is crossed. A value that was not measured counts as crossed.
    pub crossed: bool,
}

/// The cost of the server.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ServerCost {
    /// CPU time within the window in seconds.
    pub cpu_s: f64,
    /// The same as a share of one CPU, in percent.
    pub cpu_percent: f64,
    /// CPU time per delivery in microseconds; absent without deliveries.
    pub cpu_us_per_delivery: Option<f64>,
    /// CPU time per heartbeat in microseconds; only of runs without messages.
    pub cpu_us_per_heartbeat: Option<f64>,
    /// CPU time per acknowledged message in microseconds; absent without any.
    pub cpu_us_per_ack: Option<f64>,
    /// Memory before the first stream, in bytes.
    pub memory_start: u64,
    /// Memory with all streams open and idle.
    pub memory_open: u64,
    /// Memory at the end, streams still open.
    pub memory_end: u64,
    /// Highest memory sampled.
    pub memory_max: u64,
    /// The kernel's socket and slab memory for the streams, both ends, in bytes.
    pub kernel_open: i64,
    /// Descriptors before the first stream.
    pub descriptors_start: u64,
    /// Descriptors a moment after the last stream was closed; absent after an early end.
    pub descriptors_end: Option<u64>,
}

/// The cost of this tool: shows whether a figure is its limit or the server's.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GeneratorCost {
    /// The reading thread's share of one CPU within the window, in percent.
    pub reader_percent: f64,
    /// The share of time in which it was ready to run and had no CPU.
    pub reader_waiting_percent: f64,
    /// Its CPU time per delivery in microseconds.
    pub reader_us_per_delivery: Option<f64>,
    /// The publishing thread's share of one CPU.
    pub publisher_percent: f64,
    /// See [`GeneratorCost::reader_waiting_percent`].
    pub publisher_waiting_percent: f64,
    /// Delay of messages after their due times.
    pub schedule_lag: Option<LatencySummary>,
    /// Whether the figures show this tool's limit and not the server's.
    pub saturated: bool,
}

/// One point of the time series.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Seconds since the window's start; below zero during warm-up.
    pub at_s: f64,
    /// Deliveries since the last sample.
    pub deliveries_per_second: f64,
    /// Acknowledgements since the last sample.
    pub acks_per_second: f64,
    /// The server's share of one CPU since the last sample.
    pub server_cpu_percent: f64,
    /// This tool's share of one CPU since the last sample, all threads.
    pub generator_cpu_percent: f64,
    /// The server's memory in bytes.
    pub server_memory: u64,
}

impl Outcome {
    /// Whether the run went on to its end.
    pub fn is_whole(&self) -> bool {
        self.cut_off.is_none() && self.lost.is_none()
    }

    /// Messages missing, repeated, out of order or on another session's stream, and other failures.
    pub fn faults(&self) -> u64 {
        self.missing
            + self.duplicate
            + self.out_of_order
            + self.misdelivered
            + self.errors.values().sum::<u64>()
    }
}
