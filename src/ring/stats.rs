//! Levels and counters of the ring, for the metrics.
//!
//! Written by the ring's owner, read by the threads that render metrics. Never takes a lock, so the
//! metrics work while the ring's disk hangs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::HISTORY_MESSAGES;
use crate::metrics::MetricFamily;
use crate::metrics::family::{counters, float, gauge};

/// Levels and counters of a ring.
#[derive(Debug)]
pub struct RingStats {
    file_bytes: u64,
    messages: AtomicU64,
    next_seq: AtomicU64,
    repairs: AtomicU64,
    failed_repairs: AtomicU64,
}

impl RingStats {
    pub(super) fn new(file_bytes: u64, messages: usize, next_seq: u64) -> RingStats {
        RingStats {
            file_bytes,
            messages: AtomicU64::new(messages as u64),
            next_seq: AtomicU64::new(next_seq),
            repairs: AtomicU64::new(0),
            failed_repairs: AtomicU64::new(0),
        }
    }

    /// Load and store suffice, because only the ring's owner writes.
    pub(super) fn note_append(&self, next_seq: u64) {
        let messages = self.messages.load(Relaxed) + 1;
        self.messages
            .store(messages.min(HISTORY_MESSAGES as u64), Relaxed);
        self.next_seq.store(next_seq, Relaxed);
    }

    pub(super) fn note_history(&self, messages: usize, next_seq: u64) {
        self.messages.store(messages as u64, Relaxed);
        self.next_seq.store(next_seq, Relaxed);
    }

    pub(super) fn note_repair(&self, is_done: bool) {
        let count = if is_done {
            &self.repairs
        } else {
            &self.failed_repairs
        };
        count.fetch_add(1, Relaxed);
    }

    /// The levels and counters as metric families.
    pub fn gather(&self) -> Vec<MetricFamily> {
        #[rustfmt::skip]
        let levels = [
            ("hookcast_ring_messages", "Messages in the ring.", self.messages.load(Relaxed)),
            ("hookcast_ring_last_seq", "The seq of the last message: the second part of its event id. 0 before the first.", self.next_seq.load(Relaxed) - 1),
            ("hookcast_ring_file_bytes", "Size of the ring's file in bytes.", self.file_bytes),
        ];
        let repairs = [
            ([("result", "done")], self.repairs.load(Relaxed)),
            ([("result", "failed")], self.failed_repairs.load(Relaxed)),
        ];
        let levels = levels.map(|(name, help, level)| gauge(name, help, float(level)));
        let repairs = counters(
            "hookcast_ring_repairs_total",
            "Rewrites of the ring's file after another program changed it.",
            repairs.iter().map(|(labels, count)| (&labels[..], *count)),
        );
        levels.into_iter().chain([repairs]).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::message::{Message, MessageId};
    use crate::metrics;
    use crate::ring::Ring;
    use crate::testkit::MemoryMedium;

    #[test]
    fn the_metrics_are_those_of_the_ring() {
        let medium = MemoryMedium::default();
        let (mut ring, _) = Ring::open_on(Box::new(medium.clone()), 100).unwrap();
        let stats = ring.stats();
        let expect = |line: &str| {
            let text = metrics::encode(&stats.gather());
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        };
        expect("hookcast_ring_messages 0");
        expect("hookcast_ring_last_seq 0");
        let message = Message {
            id: MessageId::from_u128(1),
            timestamp_ms: 1,
            session: None,
            content: "x".into(),
            label: None,
            identity: None,
        };
        for _ in 0..130 {
            ring.append(&message).unwrap();
        }
        expect("hookcast_ring_messages 100");
        expect("hookcast_ring_last_seq 130");
        medium.remove();
        assert!(ring.check().is_err());
        ring.repair([&message; 100]).unwrap();
        expect(r#"hookcast_ring_repairs_total{result="done"} 1"#);
        expect(r#"hookcast_ring_repairs_total{result="failed"} 0"#);
        drop(ring);
        let (ring, _) = Ring::open_on(Box::new(medium), 100).unwrap();
        let text = metrics::encode(&ring.stats().gather());
        assert!(text.contains("\nhookcast_ring_last_seq 130\n"), "{text}");
    }
}
