//! Counters and gauges of the mirror, for the metrics.
//!
//! Written by the mirror thread, read by the threads that render metrics. Never takes a lock.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::metrics::MetricFamily;
use crate::metrics::family::{counters, float, gauge};
use crate::mirror::reply::FailureKind;

/// Counters and gauges of the mirror.
#[derive(Debug)]
pub struct MirrorStats {
    since: Instant,
    pub(super) reads: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) read_failures: [AtomicU64; FailureKind::ALL.len()],
    pub(super) write_failures: [AtomicU64; FailureKind::ALL.len()],
    pub(super) lag_messages: AtomicU64,
    pub(super) calls_left: AtomicU64,
    pub(super) foreign_entries: AtomicU64,
    pub(super) unheld_messages: AtomicU64,
    pub(super) unshared_messages: AtomicU64,
    pub(super) value_is_unreadable: AtomicBool,
    pub(super) day_is_used_up: AtomicBool,
    clock_ahead_ms: AtomicI64,
    last_success_ms: AtomicU64,
}

/// No call has succeeded yet.
const NEVER: u64 = u64::MAX;
/// No answer had a date yet.
const UNKNOWN: i64 = i64::MIN;

impl MirrorStats {
    pub(crate) fn new() -> MirrorStats {
        MirrorStats {
            since: Instant::now(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            read_failures: Default::default(),
            write_failures: Default::default(),
            lag_messages: AtomicU64::new(0),
            calls_left: AtomicU64::new(0),
            foreign_entries: AtomicU64::new(0),
            unheld_messages: AtomicU64::new(0),
            unshared_messages: AtomicU64::new(0),
            value_is_unreadable: AtomicBool::new(false),
            day_is_used_up: AtomicBool::new(false),
            clock_ahead_ms: AtomicI64::new(UNKNOWN),
            last_success_ms: AtomicU64::new(NEVER),
        }
    }

    /// The counters and gauges as metric families.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let calls = [
            ("read", &self.reads, &self.read_failures),
            ("write", &self.writes, &self.write_failures),
        ];
        let succeeded = calls.map(|(call, succeeded, _)| ([("call", call)], succeeded));
        let failed: Vec<_> = calls
            .into_iter()
            .flat_map(|(call, _, failed)| {
                let kinds = FailureKind::ALL.into_iter().zip(failed);
                kinds.map(move |(kind, count)| ([("call", call), ("kind", kind.label())], count))
            })
            .collect();
        let mut families = vec![
            counters(
                "hookcast_kv_calls_total",
                "Calls to KV that succeeded.",
                succeeded
                    .iter()
                    .map(|(l, count)| (&l[..], count.load(Relaxed))),
            ),
            counters(
                "hookcast_kv_errors_total",
                "Calls to KV that failed, by kind.",
                failed
                    .iter()
                    .map(|(l, count)| (&l[..], count.load(Relaxed))),
            ),
        ];
        families.extend(self.numbers());
        // Unknown values are left out: 0 would be wrong.
        let clock_ahead_ms = self.clock_ahead_ms.load(Relaxed);
        if clock_ahead_ms != UNKNOWN {
            let ahead_s = Duration::from_millis(clock_ahead_ms.unsigned_abs()).as_secs_f64();
            families.push(gauge(
                "hookcast_kv_clock_ahead_seconds",
                "KV's clock minus this node's, exact to a second.",
                if clock_ahead_ms < 0 {
                    -ahead_s
                } else {
                    ahead_s
                },
            ));
        }
        let last_success_ms = self.last_success_ms.load(Relaxed);
        if last_success_ms != NEVER {
            let last_success = Duration::from_millis(last_success_ms);
            families.push(gauge(
                "hookcast_kv_last_success_age_seconds",
                "Time since the last call to KV that succeeded.",
                self.since
                    .elapsed()
                    .saturating_sub(last_success)
                    .as_secs_f64(),
            ));
        }
        families
    }

    fn numbers(&self) -> impl Iterator<Item = MetricFamily> {
        #[rustfmt::skip]
        let numbers = [
            ("hookcast_kv_lag_messages", "Messages of this node that were never seen in KV.", &self.lag_messages),
            ("hookcast_kv_calls_left", "Calls left of KV's limit per user in five minutes, if this is the user's only node.", &self.calls_left),
            ("hookcast_kv_foreign_entries", "Entries of the KV value that are not messages.", &self.foreign_entries),
            ("hookcast_kv_unheld_messages", "Messages of the shared history that are too large for this ring.", &self.unheld_messages),
            ("hookcast_kv_unshared_messages", "Messages of this ring that are too large to be shared.", &self.unshared_messages),
        ];
        #[rustfmt::skip]
        let states = [
            ("hookcast_kv_value_unreadable", "1 while the KV value is not a list, and is not overwritten.", &self.value_is_unreadable),
            ("hookcast_kv_daily_limit_reached", "1 while KV's daily limit of writes is reached.", &self.day_is_used_up),
        ];
        let numbers = numbers.map(|(name, help, n)| (name, help, n.load(Relaxed)));
        let states = states.map(|(name, help, is)| (name, help, u64::from(is.load(Relaxed))));
        let all = numbers.into_iter().chain(states);
        all.map(|(name, help, number)| gauge(name, help, float(number)))
    }

    pub(crate) fn note_success(&self) {
        self.last_success_ms
            .store(self.since.elapsed().as_millis() as u64, Relaxed);
    }

    pub(crate) fn set_clock_ahead(&self, ahead_ms: Option<i64>) {
        self.clock_ahead_ms
            .store(ahead_ms.unwrap_or(UNKNOWN), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics;

    #[test]
    fn unknown_values_are_left_out() {
        let stats = MirrorStats::new();
        let render = || metrics::encode(&stats.gather());
        assert!(!render().contains("clock_ahead") && !render().contains("last_success"));
        stats.note_success();
        stats.set_clock_ahead(Some(-1500));
        stats.write_failures[FailureKind::DailyLimit.index()].fetch_add(2, Relaxed);
        let text = render();
        for line in [
            "hookcast_kv_clock_ahead_seconds -1.5\n",
            "hookcast_kv_errors_total{call=\"write\",kind=\"daily_limit\"} 2\n",
            "hookcast_kv_last_success_age_seconds 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
