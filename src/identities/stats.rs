//! Levels and counters of the identities, for the metrics.
//!
//! Written under the hub's lock, read by the threads that render metrics. Never takes a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::MetricFamily;
use crate::metrics::family::{counters, float, gauge};

/// Levels and counters of the identities.
#[derive(Debug, Default)]
pub struct IdentityStats {
    known: AtomicU64,
    faults: AtomicU64,
}

impl IdentityStats {
    pub(super) fn set_known(&self, known: usize) {
        self.known.store(known as u64, Relaxed);
    }

    pub(super) fn note_fault(&self) {
        self.faults.fetch_add(1, Relaxed);
    }

    /// The levels and counters as metric families.
    pub fn gather(&self) -> Vec<MetricFamily> {
        const NO_LABELS: &[(&str, &str)] = &[];
        let known = gauge(
            "hookcast_identities",
            "Requests whose repeat would be recognised, expired ones included.",
            float(self.known.load(Relaxed)),
        );
        let faults = counters(
            "hookcast_identity_file_faults_total",
            "Faults of the file of identities beside the ring.",
            [(NO_LABELS, self.faults.load(Relaxed))],
        );
        vec![known, faults]
    }

    /// Faults of the file so far.
    #[cfg(test)]
    pub(super) fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }
}
