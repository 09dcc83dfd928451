//! Counters, gauges and log lines of the bus.
//!
//! Written by the appender and the follower, read by the threads that render metrics. A lock is taken
//! only where a state may have changed; the log has lines about such changes, not about every fault.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::engine::{Fault, FaultKind, Producer};
pub use super::joining::Joining;
use super::joining::Progress;
use crate::clock::Now;
use crate::hub::Shown;
use crate::limits::{BUS_DENIED_LOG_MS, BUS_PROOF_MS_MAX};
use crate::message::Message;
use crate::metrics::family::{counter, counters, float, gauge};
use crate::metrics::{Durations, MetricFamily};
use crate::sse::event_id::EventId;

/// What a follower reports once.
#[derive(Debug)]
pub enum Event {
    /// The node has found its place in the log.
    Joined,
    /// An epoch has begun, and the history goes on.
    Epoch,
    /// Another history has replaced that of this node.
    Reset {
        /// Own acknowledged messages that are published again.
        again: usize,
    },
    /// Entries are missing in the log.
    Hole {
        /// How many.
        missing: u64,
    },
    /// An entry is not one of hookcast's.
    Foreign {
        /// Its id.
        id: EventId,
        /// What is wrong with it.
        what: String,
    },
    /// The engine removes keys when its memory is full.
    Evicts {
        /// How it chooses them.
        policy: String,
    },
    /// Both halves work, and nothing of what this node sends comes back.
    NothingReturns,
    /// Other nodes accept larger bodies.
    BodyLimit {
        /// Their limit.
        bytes: u64,
    },
}

/// See the module's documentation.
#[derive(Debug)]
pub struct BusStats {
    producer: Producer,
    write: Half,
    read: Half,
    /// The counts of streams.
    presence: Half,
    is_joined: AtomicBool,
    joining: Progress,
    written: AtomicU64,
    shown: AtomicU64,
    own_shown: AtomicU64,
    /// Of this node's messages, from the queue until they have come back.
    publishing: Durations,
    epochs: AtomicU64,
    begun: AtomicU64,
    put_back: AtomicU64,
    resets: AtomicU64,
    again: AtomicU64,
    holes: AtomicU64,
    foreign: AtomicU64,
    /// When this node last saw that what it sends comes back, in monotonic milliseconds.
    proven_ms: AtomicU64,
    /// The last probe: its number, and when it was sent.
    probe: Mutex<(u64, Now)>,
    round_trip_us: AtomicU64,
    /// Messages on their way; set at a scrape.
    outgoing: AtomicU64,
}

/// The state of one half.
#[derive(Debug, Default)]
struct Half {
    works: AtomicBool,
    faults: [AtomicU64; FaultKind::ALL.len()],
    reconnects: AtomicU64,
    /// The fault since which it does not work, and how often it was logged.
    fault: Mutex<Option<Logged>>,
}

#[derive(Debug)]
struct Logged {
    kind: FaultKind,
    text: String,
    at: Instant,
}

impl Half {
    /// Counts a fault. True if it is to be logged.
    fn note_fault(&self, fault: &Fault) -> bool {
        self.works.store(false, Relaxed);
        let place = FaultKind::ALL.iter().position(|kind| *kind == fault.kind);
        if let Some(place) = place {
            self.faults[place].fetch_add(1, Relaxed);
        }
        let mut logged = self.fault.lock().expect(NO_PANIC);
        let is_new = match &*logged {
            None => true,
            // A broken connection is followed by failed connects: the same state.
            Some(last) if is_outage(last.kind) && is_outage(fault.kind) => false,
            Some(last) if last.kind != fault.kind => true,
            Some(last) => {
                let again = fault.kind == FaultKind::Denied;
                again && last.at.elapsed().as_millis() as u64 > BUS_DENIED_LOG_MS
            }
        };
        if is_new {
            *logged = Some(Logged {
                kind: fault.kind,
                text: fault.text.clone(),
                at: Instant::now(),
            });
        }
        is_new
    }

    /// The fault since which it does not work, if there was one.
    fn fault_text(&self) -> Option<String> {
        let logged = self.fault.lock().expect(NO_PANIC);
        logged.as_ref().map(|logged| logged.text.clone())
    }

    /// Notes a success. True if it is the first after a fault.
    fn note_success(&self) -> bool {
        if self.works.swap(true, Relaxed) {
            return false;
        }
        let had_fault = self.fault.lock().expect(NO_PANIC).take().is_some();
        if had_fault {
            self.reconnects.fetch_add(1, Relaxed);
        }
        had_fault
    }
}

const NO_PANIC: &str = "a panic under this lock ends the process";

fn is_outage(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::Unreachable | FaultKind::Lost)
}

impl BusStats {
    /// Counters of a node.
    pub fn new(producer: Producer, now: Now) -> BusStats {
        BusStats {
            producer,
            write: Half::default(),
            read: Half::default(),
            presence: Half::default(),
            is_joined: AtomicBool::new(false),
            joining: Progress::default(),
            written: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            own_shown: AtomicU64::new(0),
            publishing: Durations::default(),
            epochs: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            put_back: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            again: AtomicU64::new(0),
            holes: AtomicU64::new(0),
            foreign: AtomicU64::new(0),
            proven_ms: AtomicU64::new(now.mono_ms),
            probe: Mutex::new((0, now)),
            round_trip_us: AtomicU64::new(0),
            outgoing: AtomicU64::new(0),
        }
    }

    /// Counts and logs a fault of the writing half.
    pub fn note_write_fault(&self, fault: &Fault) {
        if self.write.note_fault(fault) {
            tracing::error!(kind = fault.kind.name(), %fault, "the bus does not take messages; webhooks are refused until it does");
        }
    }

    /// Counts and logs a fault of the reading half.
    pub fn note_read_fault(&self, fault: &Fault) {
        if self.read.note_fault(fault) {
            tracing::error!(kind = fault.kind.name(), %fault, "the bus cannot be read; streams stay open and get no new messages");
        }
    }

    /// Notes that the engine has answered an append call.
    pub fn note_written(&self) {
        self.written.fetch_add(1, Relaxed);
        if self.write.note_success() {
            tracing::info!("the bus takes messages again");
        }
    }

    /// Notes that the engine has answered a read.
    pub fn note_read(&self) {
        if self.read.note_success() {
            tracing::info!("the bus can be read again");
        }
    }

    /// Counts and logs a fault of the counts of streams.
    pub fn note_presence_fault(&self, fault: &Fault) {
        if self.presence.note_fault(fault) {
            tracing::warn!(kind = fault.kind.name(), %fault, "the counts of streams cannot be shared on the bus; questions for them are refused until they can");
        }
    }

    /// Notes that the engine has the counts of this node's streams.
    pub fn note_presence_works(&self) {
        if self.presence.note_success() {
            tracing::info!("the counts of streams are shared on the bus again");
        }
    }

    /// Whether the node has once found its place in the log.
    pub fn has_joined(&self) -> bool {
        self.is_joined.load(Relaxed)
    }

    /// Notes that messages were shown; those of this node prove that what it sends comes back.
    pub fn note_shown(&self, messages: &[Arc<Message>], shown: &Shown, now: Now) {
        self.shown.fetch_add(messages.len() as u64, Relaxed);
        if !shown.own.is_empty() {
            self.own_shown.fetch_add(shown.own.len() as u64, Relaxed);
            self.proven_ms.store(now.mono_ms, Relaxed);
        }
        for queued_us in &shown.queued_us {
            let took_us = now.mono_us.saturating_sub(*queued_us);
            self.publishing.observe(Duration::from_micros(took_us));
        }
    }

    /// Notes that this node has sent a probe.
    pub fn note_probe_sent(&self, probe: u64, now: Now) {
        *self.probe.lock().expect(NO_PANIC) = (probe, now);
    }

    /// Notes a probe that came back.
    pub fn note_probe_seen(&self, producer: Producer, probe: u64, now: Now) {
        if producer != self.producer {
            return;
        }
        self.proven_ms.store(now.mono_ms, Relaxed);
        let (sent, at) = *self.probe.lock().expect(NO_PANIC);
        if sent == probe {
            let took = now.since(at);
            self.round_trip_us.store(took.as_micros() as u64, Relaxed);
        }
    }

    /// Notes that this node has begun an epoch.
    pub fn note_begun(&self, put_back: usize) {
        self.begun.fetch_add(1, Relaxed);
        self.put_back.fetch_add(put_back as u64, Relaxed);
        tracing::warn!(
            put_back,
            "the engine of the bus was restarted, replaced or emptied: an epoch begins, and what this node \
             holds and the engine lacks is put back"
        );
    }

    /// Counts and logs what a follower reports.
    pub fn note(&self, event: &Event) {
        match event {
            Event::Joined => {
                self.note_joining(Joining::Joined);
                if !self.is_joined.swap(true, Relaxed) {
                    tracing::info!("joined the bus");
                }
            }
            Event::Epoch => {
                self.epochs.fetch_add(1, Relaxed);
                tracing::info!("the bus has begun an epoch; the history goes on");
            }
            Event::Reset { again } => {
                self.resets.fetch_add(1, Relaxed);
                self.again.fetch_add(*again as u64, Relaxed);
                tracing::warn!(
                    again,
                    "another history of the bus replaces that of this node: its streams end and resume, and \
                     acknowledged messages of its own are published again"
                );
            }
            Event::Hole { missing } => {
                self.holes.fetch_add(1, Relaxed);
                tracing::error!(
                    missing,
                    "entries of the bus are missing: another program has removed them, or --bus-history is too \
                     short for this node; its history begins after them"
                );
            }
            Event::Foreign { id, what } => {
                self.foreign.fetch_add(1, Relaxed);
                tracing::error!(
                    %id, what,
                    "an entry of the bus is not hookcast's, or of a later version; the history begins after it. \
                     Give each group of nodes a NAME of its own"
                );
            }
            Event::Evicts { policy } => {
                tracing::warn!(
                    policy,
                    "the engine of the bus removes keys when its memory is full, the bus among them: set \
                     maxmemory-policy to noeviction"
                );
            }
            Event::NothingReturns => {
                tracing::warn!(
                    "the bus takes messages and can be read, and what this node sends does not come back: its \
                     two connections may lead to two engines, so both are made anew"
                );
            }
            Event::BodyLimit { bytes } => {
                tracing::error!(
                    bytes,
                    "other nodes of the bus accept larger bodies; start this node with the same --max-body-bytes"
                );
            }
        }
    }

    /// Notes what the node does to join. Logs it each minute.
    pub fn note_joining(&self, joining: Joining) {
        if self.joining.set(joining, Instant::now())
            && let Some(reason) = self.why_not_joined()
        {
            tracing::warn!("this node has not joined the bus yet: {reason}");
        }
    }

    /// Why the node has no place in the log, if it has none.
    pub fn why_not_joined(&self) -> Option<String> {
        let fault = self.read.fault_text();
        self.joining.get().reason(fault.as_deref())
    }

    /// Notes that the node has joined at its start.
    pub fn set_joined(&self) {
        self.note_joining(Joining::Joined);
        self.is_joined.store(true, Relaxed);
        self.read.works.store(true, Relaxed);
    }

    /// Notes how many messages of this node have no outcome yet.
    pub fn set_outgoing(&self, messages: usize) {
        self.outgoing.store(messages as u64, Relaxed);
    }

    /// Whether the engine has answered the last call of each half.
    pub fn halves_work(&self) -> bool {
        self.write.works.load(Relaxed) && self.read.works.load(Relaxed)
    }

    /// When this node last saw that what it sends comes back, in monotonic milliseconds; at first its start.
    pub fn proven_ms(&self) -> u64 {
        self.proven_ms.load(Relaxed)
    }

    /// Why the bus does not work: a half fails, or what this node sends does not come back.
    pub fn trouble(&self, now: Now) -> Option<String> {
        if !self.is_joined.load(Relaxed) {
            let joining = self.why_not_joined();
            return Some(joining.unwrap_or_else(|| "the node joins it".into()));
        }
        let halves = [
            (&self.write, "it does not take messages"),
            (&self.read, "it cannot be read"),
        ];
        for (half, what) in halves {
            if !half.works.load(Relaxed) {
                let fault = half.fault_text();
                return Some(fault.map_or(what.into(), |fault| format!("{what}: {fault}")));
            }
        }
        let age_ms = now.mono_ms.saturating_sub(self.proven_ms());
        if age_ms <= BUS_PROOF_MS_MAX {
            return None;
        }
        let nothing = || format!("nothing has come back for {} s", age_ms / 1_000);
        Some(self.why_not_joined().unwrap_or_else(nothing))
    }

    /// The counters and gauges as metric families.
    pub fn gather(&self, now: Now) -> Vec<MetricFamily> {
        let mut families = self.levels(now);
        families.push(self.publishing.family(
            "hookcast_bus_publish_seconds",
            "Time from queueing a message of this node until it has come back from the bus.",
        ));
        families.extend(self.faults());
        families.extend(self.totals());
        families
    }

    fn levels(&self, now: Now) -> Vec<MetricFamily> {
        let is_connected = self.halves_work() && self.is_joined.load(Relaxed);
        let age_ms = now.mono_ms.saturating_sub(self.proven_ms.load(Relaxed));
        let lag_us = self.round_trip_us.load(Relaxed);
        #[rustfmt::skip]
        let levels = [
            ("hookcast_bus_connected", "1 if both connections to the engine work and this node has joined.", float(u64::from(is_connected))),
            ("hookcast_bus_probe_age_seconds", "Time since this node last saw that what it sends comes back from the bus.", float(age_ms) / 1e3),
            ("hookcast_bus_lag_seconds", "Time from sending the last probe until all nodes' earlier messages were shown here.", float(lag_us) / 1e6),
            ("hookcast_bus_queue_messages", "Webhooks on their way to the bus and back.", float(self.outgoing.load(Relaxed))),
        ];
        let gauges = levels.map(|(name, help, level)| gauge(name, help, level));
        gauges.into()
    }

    /// Failed calls of each half, and how often it has worked again.
    fn faults(&self) -> [MetricFamily; 2] {
        let halves = [
            ("write", &self.write),
            ("read", &self.read),
            ("presence", &self.presence),
        ];
        let faults = halves.into_iter().flat_map(|(name, half)| {
            let kinds = FaultKind::ALL.iter().zip(&half.faults);
            kinds.map(move |(kind, count)| {
                ([("half", name), ("kind", kind.name())], count.load(Relaxed))
            })
        });
        let faults: Vec<_> = faults.collect();
        let again = halves.map(|(name, half)| ([("half", name)], half.reconnects.load(Relaxed)));
        [
            counters(
                "hookcast_bus_errors_total",
                "Failed calls of the engine, by half and kind.",
                faults.iter().map(|(labels, count)| (&labels[..], *count)),
            ),
            counters(
                "hookcast_bus_reconnects_total",
                "How often a half has worked again after a fault.",
                again.iter().map(|(labels, count)| (&labels[..], *count)),
            ),
        ]
    }

    fn totals(&self) -> Vec<MetricFamily> {
        #[rustfmt::skip]
        let totals = [
            ("hookcast_bus_messages_total", "Messages that came from the bus, of all nodes.", &self.shown),
            ("hookcast_bus_messages_own_total", "Messages of this node that came back from the bus.", &self.own_shown),
            ("hookcast_bus_calls_total", "Append calls that the engine has answered.", &self.written),
            ("hookcast_bus_epochs_total", "Epochs that began while this node was joined.", &self.epochs),
            ("hookcast_bus_epochs_begun_total", "Epochs that this node has begun.", &self.begun),
            ("hookcast_bus_put_back_total", "Messages that this node has put back into the engine.", &self.put_back),
            ("hookcast_bus_resets_total", "How often another history has replaced that of this node.", &self.resets),
            ("hookcast_bus_republished_total", "Acknowledged messages of this node that were published again.", &self.again),
            ("hookcast_bus_holes_total", "How often entries were missing in the log.", &self.holes),
            ("hookcast_bus_foreign_total", "Entries of the log that are not hookcast's.", &self.foreign),
        ];
        let totals = totals.map(|(name, help, total)| counter(name, help, total.load(Relaxed)));
        totals.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::metrics;

    #[test]
    fn the_time_of_publishing_counts_own_messages_from_the_queue_until_they_are_back() {
        let mut now = Clock::start().now();
        now.mono_us = 10_000;
        let stats = BusStats::new(Producer(1), now);
        let shown = Shown {
            own: vec![0, 1],
            queued_us: vec![9_000, 6_000],
        };
        stats.note_shown(&[], &shown, now);
        stats.note_shown(&[], &Shown::default(), now);
        let text = metrics::encode(&stats.gather(now));
        for line in [
            "hookcast_bus_publish_seconds_bucket{le=\"0.0005\"} 0\n",
            "hookcast_bus_publish_seconds_bucket{le=\"0.001\"} 1\n",
            "hookcast_bus_publish_seconds_bucket{le=\"0.005\"} 2\n",
            "hookcast_bus_publish_seconds_sum 0.005\n",
            "hookcast_bus_messages_own_total 2\n",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
