//! Latency histograms: microseconds, three significant digits, up to ten minutes.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Highest latency told apart, in microseconds.
const LATENCY_US_MAX: u64 = 600_000_000;

/// Latencies of one kind.
pub struct Latency(Histogram<u64>);

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

/// Quantiles of the percentile chart.
const CURVE: [f64; 18] = [
    0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999,
    1.0,
];

/// What is told of latencies, in microseconds.
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
    fn percentiles_are_of_what_was_recorded() {
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
