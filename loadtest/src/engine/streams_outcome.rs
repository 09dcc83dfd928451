//! What the reading side has seen: the results of one reading thread, or merged ones of several processes.
//!
//! `streams` fills it in, `reading` passes it between processes, `record` copies it into a run's outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::check::Faults;
use crate::engine::latency::{Latency, LatencyOverTime};
use crate::engine::outcome::ProcessOutcome;
use crate::engine::payload::Stamp;

/// The results of all streams.
#[derive(Serialize, Deserialize)]
pub struct StreamsOutcome {
    /// Latency from the connect call to the response head.
    pub open: Latency,
    /// Latency from the connect call to the last replayed message.
    pub replay: Latency,
    /// Latency from the intended send time to the read, within the window.
    pub delivery: LatencyOverTime,
    /// Messages read.
    pub deliveries: u64,
    /// Acknowledged messages that streams should have read, stalled ones left out.
    pub expected: u64,
    /// Those of them that had not arrived when the run was cut off: not losses.
    pub in_flight: u64,
    /// Bytes read, heads and framing included.
    pub bytes: u64,
    /// Comments read.
    pub heartbeats: u64,
    /// Events that are none of this run's messages.
    pub others: u64,
    /// `gap` events read.
    pub gaps: u64,
    /// Messages lost according to `gap` events.
    pub gap_messages: u64,
    /// Faults of all streams, stalled ones left out.
    pub faults: Faults,
    /// Streams closed and opened again.
    pub churned: u64,
    /// Streams that failed before messages flowed and were opened again.
    pub reopened: u64,
    /// Stalled streams that the server closed.
    pub stalled_closed: u64,
    /// Streams that ended after they had opened.
    pub ended: u64,
    /// All other errors, counted by their text.
    pub errors: BTreeMap<String, u64>,
    /// Messages of another publisher; zero with this tool's.
    pub observed: u32,
    /// The least time from a message's own time to its read, within the window, if the publisher is not this
    /// tool's. Below zero if its clock is ahead.
    pub earliest_ns: Option<i64>,
    /// Events of another publisher without the fields that messages have.
    pub untimed: u64,
    /// What each process read; empty if it was this one.
    pub processes: Vec<ProcessOutcome>,
}

impl StreamsOutcome {
    /// The results before the first stream.
    pub fn nothing(window: Duration) -> StreamsOutcome {
        StreamsOutcome {
            open: Latency::default(),
            replay: Latency::default(),
            delivery: LatencyOverTime::new(window),
            deliveries: 0,
            expected: 0,
            in_flight: 0,
            bytes: 0,
            heartbeats: 0,
            others: 0,
            gaps: 0,
            gap_messages: 0,
            faults: Faults::default(),
            churned: 0,
            reopened: 0,
            stalled_closed: 0,
            ended: 0,
            errors: BTreeMap::new(),
            observed: 0,
            earliest_ns: None,
            untimed: 0,
            processes: Vec::new(),
        }
    }

    /// Adds the results of another process.
    pub fn add(&mut self, other: StreamsOutcome) {
        self.open.add(&other.open);
        self.replay.add(&other.replay);
        self.delivery.add(&other.delivery);
        self.deliveries += other.deliveries;
        self.expected += other.expected;
        self.in_flight += other.in_flight;
        self.bytes += other.bytes;
        self.heartbeats += other.heartbeats;
        self.others += other.others;
        self.gaps += other.gaps;
        self.gap_messages += other.gap_messages;
        self.faults.add(other.faults);
        self.churned += other.churned;
        self.reopened += other.reopened;
        self.stalled_closed += other.stalled_closed;
        self.ended += other.ended;
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.observed = self.observed.max(other.observed);
        let earliest = [self.earliest_ns, other.earliest_ns];
        self.earliest_ns = earliest.into_iter().flatten().min();
        self.untimed += other.untimed;
        self.processes.extend(other.processes);
    }

    /// Records when messages of another publisher arrived. Its clock may differ: the window is that of arrivals.
    pub fn record_observed(
        &mut self,
        stamps: &[Stamp],
        now_ns: u64,
        window_ns: &std::ops::Range<u64>,
    ) {
        if !window_ns.contains(&now_ns) {
            return;
        }
        for stamp in stamps {
            let latency_ns = now_ns as i64 - stamp.sent_ns as i64;
            let earliest = self
                .earliest_ns
                .map_or(latency_ns, |other| other.min(latency_ns));
            self.earliest_ns = Some(earliest);
            let latency_ns = latency_ns.max(0) as u64;
            self.delivery
                .record_ns(now_ns - window_ns.start, latency_ns);
        }
    }
}
