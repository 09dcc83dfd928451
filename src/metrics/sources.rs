//! Figures of sources: requests by source and result, the time of verdicts, the queue.
//!
//! The judging thread and the shards count, the admin address reads. The number of sources in a file is
//! bounded, and so is that of the results, so the labels are too. Never contains a part of a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Durations;
use super::family::{MetricFamily, counters, gauges};

/// The counts of one source.
#[derive(Debug, Default)]
pub struct SourceCounts {
    published: AtomicU64,
    repeats: AtomicU64,
    not_stored: AtomicU64,
    /// Requests that publish nothing: by a name of the reason.
    others: Mutex<BTreeMap<&'static str, u64>>,
}

impl SourceCounts {
    /// Counts a message that was stored.
    pub fn count_published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request whose message was published before.
    pub fn count_repeat(&self) {
        self.repeats.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a message that could not be stored.
    pub fn count_not_stored(&self) {
        self.not_stored.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that publishes nothing.
    pub fn count_other(&self, result: &'static str) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        *others.entry(result).or_default() += 1;
    }

    /// The results and their counts. The three of messages are always there.
    pub fn results(&self) -> Vec<(&'static str, u64)> {
        let total = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = [
            ("published", total(&self.published)),
            ("repeat", total(&self.repeats)),
            ("not_stored", total(&self.not_stored)),
        ];
        let others = others.iter().map(|(result, count)| (*result, *count));
        messages.into_iter().chain(others).collect()
    }
}

/// The figures of all sources.
#[derive(Debug, Default)]
pub struct SourceStats {
    by_name: Mutex<BTreeMap<String, Arc<SourceCounts>>>,
    seconds: Durations,
    queue: AtomicUsize,
}

impl SourceStats {
    /// Keeps the counts of these sources, and begins those of new ones.
    pub fn set_names<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *by_name);
        for name in names {
            let counts = before.remove(name).unwrap_or_default();
            by_name.insert(name.to_owned(), counts);
        }
    }

    /// The counts of a source.
    pub fn of(&self, name: &str) -> Option<Arc<SourceCounts>> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.get(name).cloned()
    }

    /// Counts the time that a verdict took.
    pub fn observe(&self, took: Duration) {
        self.seconds.observe(took);
    }

    /// Counts a request that is added to the queue.
    pub fn note_queued(&self) {
        self.queue.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that has left the queue.
    pub fn note_judged(&self) {
        self.queue.fetch_sub(1, Ordering::Relaxed);
    }

    /// All figures.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let results: Vec<_> = by_name
            .iter()
            .flat_map(|(name, counts)| {
                let results = counts.results().into_iter();
                results.map(move |(result, count)| (name.as_str(), result, count))
            })
            .collect();
        let labels: Vec<_> = results
            .iter()
            .map(|(name, result, count)| ([("source", *name), ("result", *result)], *count))
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let queue = self.queue.load(Ordering::Relaxed) as f64;
        vec![
            counters(
                "hookcast_source_requests_total",
                "Requests to sources, by source and result. Results other than published, repeat, unwanted and \
                 handshake are faults of the request or of a template.",
                labels.iter().map(|(labels, count)| (&labels[..], *count)),
            ),
            gauges(
                "hookcast_source_queue",
                "Requests to sources that wait for their verdict.",
                [(&[][..], queue)],
            ),
            self.seconds.family(
                "hookcast_source_seconds",
                "Time in which a source verifies a request and renders its message.",
            ),
        ]
    }
}
