//! What the mirror counts, for the metrics endpoint.
//!
//! Written by the mirror thread, read by whoever renders metrics, without locks.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::mirror::reply::FailureKind;

/// Counters and gauges of the mirror.
#[derive(Debug)]
pub struct MirrorStats {
    since: Instant,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) read_failures: [AtomicU64; FailureKind::ALL.len()],
    pub(super) write_failures: [AtomicU64; FailureKind::ALL.len()],
    pub(super) admitted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) lag_messages: AtomicU64,
    pub(super) calls_left: AtomicU64,
    pub(super) foreign_entries: AtomicU64,
    pub(super) unheld_messages: AtomicU64,
    pub(super) value_is_unreadable: AtomicBool,
    pub(super) day_is_used_up: AtomicBool,
    clock_ahead_ms: AtomicI64,
    last_success_ms: AtomicU64,
}

/// Neither a clock's nor a call's time.
const NEVER: u64 = u64::MAX;
/// No clock was seen.
const UNKNOWN: i64 = i64::MIN;

/// The state of the mirror at one moment. Counters count from the start of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorSnapshot {
    /// Counter: reads that succeeded.
    pub reads: u64,
    /// Counter: writes that succeeded.
    pub writes: u64,
    /// Counters: reads that failed, by kind.
    pub read_failures: Vec<(FailureKind, u64)>,
    /// Counters: writes that failed, by kind.
    pub write_failures: Vec<(FailureKind, u64)>,
    /// Counter: messages of others that entered the ring and went live.
    pub admitted: u64,
    /// Counter: times the ring refused messages.
    pub refused: u64,
    /// Gauge: messages of the ring that KV should hold and was never known to.
    pub lag_messages: u64,
    /// Gauge: calls left of what KV allows one user in five minutes, were this the only node.
    pub calls_left: u64,
    /// Gauge: entries of the KV value that are no messages.
    pub foreign_entries: u64,
    /// Gauge: messages of the shared history that this ring cannot hold.
    pub unheld_messages: u64,
    /// Gauge: the KV value is no list; nothing is written.
    pub value_is_unreadable: bool,
    /// Gauge: the last write was refused because the day's allowance is used up.
    pub day_is_used_up: bool,
    /// Gauge: how far KV's clock is ahead of this node's, within a second.
    pub clock_ahead_ms: Option<i64>,
    /// Gauge: time since the last call that succeeded; `None` if none has.
    pub last_success_age: Option<Duration>,
}

impl MirrorStats {
    pub(super) fn new() -> MirrorStats {
        MirrorStats {
            since: Instant::now(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            read_failures: Default::default(),
            write_failures: Default::default(),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            lag_messages: AtomicU64::new(0),
            calls_left: AtomicU64::new(0),
            foreign_entries: AtomicU64::new(0),
            unheld_messages: AtomicU64::new(0),
            value_is_unreadable: AtomicBool::new(false),
            day_is_used_up: AtomicBool::new(false),
            clock_ahead_ms: AtomicI64::new(UNKNOWN),
            last_success_ms: AtomicU64::new(NEVER),
        }
    }

    /// All of it, as of now.
    pub fn snapshot(&self) -> MirrorSnapshot {
        let by_kind = |counters: &[AtomicU64]| {
            FailureKind::ALL
                .into_iter()
                .zip(counters.iter().map(|counter| counter.load(Relaxed)))
                .collect()
        };
        let last_success_ms = Some(self.last_success_ms.load(Relaxed)).filter(|ms| *ms != NEVER);
        MirrorSnapshot {
            reads: self.reads.load(Relaxed),
            writes: self.writes.load(Relaxed),
            read_failures: by_kind(&self.read_failures),
            write_failures: by_kind(&self.write_failures),
            admitted: self.admitted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            lag_messages: self.lag_messages.load(Relaxed),
            calls_left: self.calls_left.load(Relaxed),
            foreign_entries: self.foreign_entries.load(Relaxed),
            unheld_messages: self.unheld_messages.load(Relaxed),
            value_is_unreadable: self.value_is_unreadable.load(Relaxed),
            day_is_used_up: self.day_is_used_up.load(Relaxed),
            clock_ahead_ms: Some(self.clock_ahead_ms.load(Relaxed)).filter(|ms| *ms != UNKNOWN),
            last_success_age: last_success_ms.map(|ms| {
                self.since
                    .elapsed()
                    .saturating_sub(Duration::from_millis(ms))
            }),
        }
    }

    pub(super) fn note_success(&self) {
        self.last_success_ms
            .store(self.since.elapsed().as_millis() as u64, Relaxed);
    }

    pub(super) fn set_clock_ahead(&self, ahead_ms: Option<i64>) {
        self.clock_ahead_ms
            .store(ahead_ms.unwrap_or(UNKNOWN), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_is_none_and_not_nought() {
        let stats = MirrorStats::new();
        let snapshot = stats.snapshot();
        assert_eq!(
            (snapshot.last_success_age, snapshot.clock_ahead_ms),
            (None, None)
        );
        stats.note_success();
        stats.set_clock_ahead(Some(-3));
        stats.write_failures[FailureKind::DailyLimit.index()].fetch_add(2, Relaxed);
        let snapshot = stats.snapshot();
        assert!(snapshot.last_success_age.is_some());
        assert_eq!(snapshot.clock_ahead_ms, Some(-3));
        assert!(
            snapshot
                .write_failures
                .contains(&(FailureKind::DailyLimit, 2))
        );
    }
}
