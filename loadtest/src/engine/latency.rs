//! Latency histograms: microseconds, three significant digits, up to ten minutes; in total and over time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Highest value in a histogram, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Latencies of one kind.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latency(Histogram<u64>);

impl From<Latency> for Vec<(u64, u64)> {
    fn from(latency: Latency) -> Vec<(u64, u64)> {
        latency.counts()
    }
}

impl From<Vec<(u64, u64)>> for Latency {
    fn from(counts: Vec<(u64, u64)>) -> Latency {
        let mut latency = Latency::default();
        latency.add_counts(&counts);
        latency
    }
}

impl Default for Latency {
    fn default() -> Latency {
        // The bounds are constants that the library accepts: 1 <= low, 2 * low <= high, 3 digits.
        Latency(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constant bounds"))
    }
}

impl Latency {
    /// Adds one value, in nanoseconds.
    #[inline]
    pub fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record(ns / 1_000);
    }

    /// Each value in microseconds, and how often it was recorded.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        let values = self.0.iter_recorded();
        values
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect()
    }

    /// Adds what [`Latency::counts`] of another process returned.
    pub fn add_counts(&mut self, counts: &[(u64, u64)]) {
        for &(us, count) in counts {
            self.0.saturating_record_n(us, count);
        }
    }

    /// Adds the values of another one.
    pub fn add(&mut self, other: &Latency) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// Median and 99th percentile in microseconds; zero when nothing was recorded.
    pub fn p50_p99_us(&self) -> (u64, u64) {
        (
            self.0.value_at_quantile(0.5),
            self.0.value_at_quantile(0.99),
        )
    }

    /// The summary; `None` when nothing was recorded.
    pub fn summary(&self) -> Option<LatencySummary> {
        let at = |quantile: f64| self.0.value_at_quantile(quantile);
        (!self.0.is_empty()).then(|| LatencySummary {
            count: self.0.len(),
            mean_us: self.0.mean(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max(),
            curve: CURVE
                .iter()
                .map(|&quantile| (quantile, at(quantile)))
                .collect(),
        })
    }
}

/// Points of a chart over time: enough to see changes, with enough messages for each.
const POINTS: u32 = 40;

/// The shortest interval that gets a point of its own.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Latencies of one kind by the due times of messages. Recording costs as much as in one histogram, because
/// messages arrive nearly in the order of their due times.
#[derive(Clone, Serialize, Deserialize)]
pub struct LatencyOverTime {
    interval_ns: u64,
    intervals: Vec<Latency>,
    /// The interval of the last value.
    at: usize,
    starts_ns: u64,
}

impl LatencyOverTime {
    /// No values yet, for a window of this length.
    pub fn new(window: Duration) -> LatencyOverTime {
        let interval = (window / POINTS).max(INTERVAL_MIN);
        LatencyOverTime {
            interval_ns: interval.as_nanos() as u64,
            intervals: vec![Latency::default()],
            at: 0,
            starts_ns: 0,
        }
    }

    /// Adds the latency of a message that was due `due_ns` after the start of the window, in nanoseconds.
    #[inline]
    pub fn record_ns(&mut self, due_ns: u64, latency_ns: u64) {
        if due_ns.wrapping_sub(self.starts_ns) >= self.interval_ns {
            self.seek(due_ns);
        }
        self.intervals[self.at].record_ns(latency_ns);
    }

    #[cold]
    fn seek(&mut self, due_ns: u64) {
        // The last interval takes all later values.
        self.at = (due_ns / self.interval_ns).min(u64::from(POINTS)) as usize;
        self.starts_ns = self.at as u64 * self.interval_ns;
        while self.intervals.len() <= self.at {
            self.intervals.push(Latency::default());
        }
    }

    /// Adds the values of another one for the same window.
    pub fn add(&mut self, other: &LatencyOverTime) {
        while self.intervals.len() < other.intervals.len() {
            self.intervals.push(Latency::default());
        }
        for (own, other) in self.intervals.iter_mut().zip(&other.intervals) {
            own.add(other);
        }
    }

    /// The latencies in the interval of the last value.
    pub fn last_interval(&self) -> &Latency {
        &self.intervals[self.at]
    }

    /// The summary of everything; `None` when nothing was recorded.
    pub fn summary(&self) -> Option<LatencySummary> {
        let mut all = Latency::default();
        for interval in &self.intervals {
            all.add(interval);
        }
        all.summary()
    }

    /// A point for each interval in which a message was due.
    pub fn points(&self) -> Vec<LatencyPoint> {
        let point = |(at, latency): (usize, &Latency)| {
            let histogram = &latency.0;
            (!histogram.is_empty()).then(|| LatencyPoint {
                at_s: (at as f64 + 0.5) * self.interval_ns as f64 / 1e9,
                count: histogram.len(),
                p50_us: histogram.value_at_quantile(0.5),
                p99_us: histogram.value_at_quantile(0.99),
                max_us: histogram.max(),
            })
        };
        self.intervals
            .iter()
            .enumerate()
            .filter_map(point)
            .collect()
    }
}

/// Latencies of the messages that were due in one interval, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct LatencyPoint {
    /// Its middle, in seconds since the window's start.
    pub at_s: f64,
    /// Values recorded.
    pub count: u64,
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// The highest.
    pub max_us: u64,
}

/// Quantiles of the percentile chart.
const CURVE: [f64; 18] = [
    0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999,
    1.0,
];

/// Summary of latencies, in microseconds.
#[derive(Debug, Clone, Serialize)]
pub struct LatencySummary {
    /// Values recorded.
    pub count: u64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// The highest.
    pub max_us: u64,
    /// (quantile, latency in microseconds), for the chart.
    pub curve: Vec<(f64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_shows_at_its_time() {
        const MS: u64 = 1_000_000;
        let mut latency = LatencyOverTime::new(Duration::from_secs(10));
        assert!(latency.summary().is_none() && latency.points().is_empty());
        // A message a millisecond, 2 ms late. Those of the fifth second arrive at its end.
        for due_ms in (0..10_000).chain(std::iter::once(4_000)) {
            let late = if due_ms / 1_000 == 4 {
                5_000 - due_ms
            } else {
                2
            };
            latency.record_ns(due_ms * MS, late * MS);
        }
        let points = latency.points();
        assert_eq!(points.len(), 40);
        assert_eq!(points.iter().map(|point| point.count).sum::<u64>(), 10_001);
        for point in &points {
            let is_paused = (4.0..5.0).contains(&point.at_s);
            assert_eq!(point.p99_us > 2_100, is_paused, "{point:?}");
        }
        assert!((points[16].at_s - 4.125).abs() < 1e-9, "{:?}", points[16]);
        assert!(
            points[16].max_us.abs_diff(1_000_000) < 1_000,
            "{:?}",
            points[16]
        );
        assert_eq!(latency.summary().unwrap().count, 10_001);
        latency.record_ns(u64::MAX, 2 * MS);
        assert!(latency.intervals.len() <= 41);
    }

    #[test]
    fn merged_histograms_have_the_percentiles_of_all_values() {
        const MS: u64 = 1_000_000;
        let window = Duration::from_secs(10);
        let (mut all, mut merged) = (LatencyOverTime::new(window), LatencyOverTime::new(window));
        for part in 0..3_u64 {
            let mut one = LatencyOverTime::new(window);
            for at in 0..1_000 {
                // The third part is slow: an average of percentiles would hide it.
                let latency = (at % 50 + 1) * if part == 2 { 100 } else { 1 };
                one.record_ns(at * 10 * MS, latency * MS);
                all.record_ns(at * 10 * MS, latency * MS);
            }
            let line = serde_json::to_string(&one).unwrap();
            merged.add(&serde_json::from_str(&line).unwrap());
        }
        let all = serde_json::to_value(all.summary().unwrap()).unwrap();
        let merged = serde_json::to_value(merged.summary().unwrap()).unwrap();
        for figure in [
            "count", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "curve",
        ] {
            assert_eq!(all[figure], merged[figure], "{figure}");
        }
    }

    #[test]
    fn percentiles_are_those_of_the_recorded_values() {
        let mut latency = Latency::default();
        assert!(latency.summary().is_none());
        (1..=1000).for_each(|ms: u64| latency.record_ns(ms * 1_000_000));
        latency.record_ns(u64::MAX);
        let summary = latency.summary().unwrap();
        assert_eq!(summary.count, 1001);
        let about = |us: u64, ms: u64| us.abs_diff(ms * 1_000) <= ms;
        assert!(
            about(summary.p50_us, 501) && about(summary.p99_us, 991),
            "{summary:?}"
        );
        assert!(summary.max_us >= LATENCY_US_MAX);
    }
}
