//! The server's metrics, and their exposition in the Prometheus text format (version 0.0.4).
//!
//! Called by shards, committer and mirror. Each counts into a [`Tally`] of its own, plain integers, and
//! flushes it into the shared [`Metrics`], a shard once per turn. So counting costs an addition, and
//! shards share cache lines only during flushes. The admin address calls [`Metrics::gather`] and
//! [`encode`]. Never does I/O, except that gathering reads `/proc/self`.
//!
//! - `series`: tables of all series.
//! - `family`: samples and their text, encoded by the `prometheus` crate.
//! - `process`: the kernel's figures of this process.
//! - `sources`: requests to sources, by source and result.
//!
//! Only the crate's encoder is used. Its histograms take one observation at a time, but a flush has those of
//! a whole turn. Its counters are atomics that all shards would share. The other library, prometheus-client,
//! writes only `OpenMetrics`, which the `promtool check metrics` of Debian 12 does not read.

pub(crate) mod family;
mod process;
mod series;
mod sources;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::family::{CONTENT_TYPE, MetricFamily, encode};
pub use self::series::{Counter, Endpoint, Gauge, Timing};
pub use self::sources::{SourceCounts, SourceStats};

use self::family::{Labels, counter, counters, gauges, histogram};
use self::series::{BUCKETS, COUNTERS, ENDPOINTS, EXPECTED, GAUGES, Row, STATUSES, TIMINGS};

/// The numbers of requests by endpoint and status.
type Requests<T> = [[T; STATUSES.len()]; ENDPOINTS.len()];

/// The durations of one [`Timing`].
#[derive(Debug, Default)]
struct Histogram<T> {
    /// Observations per bucket, not cumulative. The last bucket is for those above every bound.
    buckets: [T; BUCKETS.len() + 1],
    sum_ns: T,
}

/// The counts of one thread since its last flush.
#[derive(Debug)]
pub struct Tally {
    counters: [u64; COUNTERS.len()],
    gauges: [i64; GAUGES.len()],
    requests: Requests<u64>,
    timings: [Histogram<u64>; TIMINGS.len()],
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            counters: [0; COUNTERS.len()],
            gauges: [0; GAUGES.len()],
            requests: Default::default(),
            timings: Default::default(),
        }
    }
}

/// A histogram that a part of the server keeps itself, because it exists only if the part does.
#[derive(Debug, Default)]
pub struct Durations(Histogram<AtomicU64>);

impl Durations {
    /// Counts a duration.
    pub fn observe(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let place = BUCKETS.partition_point(|&(bound_ns, _)| bound_ns < ns);
        self.0.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// The durations as a metric family.
    pub fn family(&self, name: &str, help: &str) -> MetricFamily {
        of_histogram(name, help, &self.0)
    }
}

impl Tally {
    /// An empty tally.
    pub fn new() -> Tally {
        Tally::default()
    }

    /// Adds `events` to a counter.
    pub fn count(&mut self, counter: Counter, events: u64) {
        self.counters[counter as usize] += events;
    }

    /// Adds `by`, which may be negative, to a gauge.
    pub fn shift(&mut self, gauge: Gauge, by: i64) {
        self.gauges[gauge as usize] += by;
    }

    /// Counts an answered request.
    pub fn count_request(&mut self, endpoint: Endpoint, status: u16) {
        let other = STATUSES.len() - 1;
        let column = STATUSES
            .iter()
            .position(|&(known, _)| known == status)
            .unwrap_or(other);
        self.requests[endpoint as usize][column] += 1;
    }

    /// Observes a duration.
    pub fn observe(&mut self, timing: Timing, duration: Duration) {
        self.observe_times(timing, duration, 1);
    }

    /// Observes a duration `times` times.
    pub fn observe_times(&mut self, timing: Timing, duration: Duration, times: u64) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let histogram = &mut self.timings[timing as usize];
        histogram.buckets[BUCKETS.partition_point(|&(bound_ns, _)| bound_ns < ns)] += times;
        histogram.sum_ns = histogram.sum_ns.saturating_add(ns.saturating_mul(times));
    }

    /// Adds all counts to `metrics` and resets them.
    pub fn flush(&mut self, metrics: &Metrics) {
        add_all(&mut self.counters, &metrics.counters);
        for (tallied, total) in self.gauges.iter_mut().zip(&metrics.gauges) {
            if *tallied != 0 {
                total.fetch_add(std::mem::take(tallied), Ordering::Relaxed);
            }
        }
        for (tallied, total) in self.requests.iter_mut().zip(&metrics.requests) {
            add_all(tallied, total);
        }
        for (tallied, total) in self.timings.iter_mut().zip(&metrics.timings) {
            add_all(&mut tallied.buckets, &total.buckets);
            add_all(
                std::slice::from_mut(&mut tallied.sum_ns),
                std::slice::from_ref(&total.sum_ns),
            );
        }
    }
}

/// Moves counts to the totals. A zero count costs no write to shared memory.
fn add_all(tallied: &mut [u64], totals: &[AtomicU64]) {
    for (tallied, total) in tallied.iter_mut().zip(totals) {
        if *tallied != 0 {
            total.fetch_add(std::mem::take(tallied), Ordering::Relaxed);
        }
    }
}

/// The totals of all shards since the start.
///
/// All accesses are relaxed: the numbers are independent, and a scrape sees each as it was at some moment
/// of the scrape.
#[derive(Debug)]
pub struct Metrics {
    counters: [AtomicU64; COUNTERS.len()],
    gauges: [AtomicI64; GAUGES.len()],
    requests: Requests<AtomicU64>,
    timings: [Histogram<AtomicU64>; TIMINGS.len()],
    log_lines_dropped: Arc<AtomicU64>,
    started: SystemTime,
}

impl Metrics {
    /// Totals of 0. The log counts `log_lines_dropped`.
    pub fn new(log_lines_dropped: Arc<AtomicU64>) -> Metrics {
        Metrics {
            counters: std::array::from_fn(|_| AtomicU64::default()),
            gauges: Default::default(),
            requests: Default::default(),
            timings: Default::default(),
            log_lines_dropped,
            started: SystemTime::now(),
        }
    }

    /// The total of a counter.
    pub fn total(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// The present level of a gauge.
    pub fn level(&self, gauge: Gauge) -> i64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    /// All totals, and the kernel's figures of this process.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let mut families = vec![
            gauges(
                "hookcast_build_info",
                "The running version, as a label; always 1.",
                [(&version[..], 1.0)],
            ),
            counter(
                "hookcast_log_lines_dropped_total",
                "Log lines dropped because standard error is closed or read too slowly.",
                self.log_lines_dropped.load(Ordering::Relaxed),
            ),
        ];
        families.extend(of_rows(&COUNTERS, counters, |row| self.total(row)));
        #[expect(clippy::cast_precision_loss, reason = "levels are far below 2^53")]
        families.extend(of_rows(&GAUGES, gauges, |row| self.level(row) as f64));
        families.push(self.requests());
        families.extend(TIMINGS.map(|(timing, name, _, help)| {
            of_histogram(name, help, &self.timings[timing as usize])
        }));
        let started = self.started.duration_since(UNIX_EPOCH);
        families.extend(process::families(started.unwrap_or_default().as_secs()));
        families
    }

    fn requests(&self) -> MetricFamily {
        let mut shown = Vec::new();
        for (endpoint, route) in ENDPOINTS {
            let totals = &self.requests[endpoint as usize];
            for ((status, label), total) in STATUSES.into_iter().zip(totals) {
                let total = total.load(Ordering::Relaxed);
                if total > 0 || EXPECTED.contains(&(endpoint, status)) {
                    shown.push(([("route", route), ("status", label)], total));
                }
            }
        }
        counters(
            "hookcast_requests_total",
            "Requests answered, by route and status.",
            shown.iter().map(|(labels, total)| (&labels[..], *total)),
        )
    }
}

/// A family for each run of rows with one name.
fn of_rows<T: Copy, V>(
    rows: &'static [Row<T>],
    family: fn(&str, &str, Vec<(Labels<'static>, V)>) -> MetricFamily,
    value: impl Fn(T) -> V,
) -> impl Iterator<Item = MetricFamily> {
    rows.chunk_by(|(_, a, ..), (_, b, ..)| a == b)
        .map(move |rows| {
            let (_, name, _, help) = rows[0];
            let sample = |(row, _, label, _): &'static Row<T>| (label.as_slice(), value(*row));
            family(name, help, rows.iter().map(sample).collect())
        })
}

fn of_histogram(name: &str, help: &str, timing: &Histogram<AtomicU64>) -> MetricFamily {
    let [buckets @ .., above] = &timing.buckets;
    let observed = buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
    let bounds = BUCKETS.iter().map(|(_, bound_s)| *bound_s);
    let sum = Duration::from_nanos(timing.sum_ns.load(Ordering::Relaxed));
    let above = above.load(Ordering::Relaxed);
    histogram(name, help, bounds.zip(observed), above, sum.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Arc::new(AtomicU64::new(0)))
    }

    fn text_of(metrics: &Metrics) -> String {
        encode(&metrics.gather())
    }

    /// The value of a series in a text.
    fn value(text: &str, series: &str) -> Option<String> {
        text.lines().find_map(|line| {
            line.strip_prefix(series)?
                .strip_prefix(' ')
                .map(str::to_owned)
        })
    }

    #[test]
    fn every_row_is_at_the_position_of_its_variant() {
        for (position, (counter, ..)) in COUNTERS.iter().enumerate() {
            assert_eq!(*counter as usize, position);
        }
        for (position, (gauge, ..)) in GAUGES.iter().enumerate() {
            assert_eq!(*gauge as usize, position);
        }
        for (position, (timing, ..)) in TIMINGS.iter().enumerate() {
            assert_eq!(*timing as usize, position);
        }
        for (position, (endpoint, _)) in ENDPOINTS.iter().enumerate() {
            assert_eq!(*endpoint as usize, position);
        }
        assert!(BUCKETS.is_sorted());
        for (ns, bound_s) in BUCKETS {
            assert_eq!(Duration::from_nanos(ns), Duration::from_secs_f64(bound_s));
        }
        for (_, status) in EXPECTED {
            assert!(STATUSES.iter().any(|(known, _)| *known == status));
        }
    }

    #[test]
    fn tallies_add_up_and_a_flush_resets_them() {
        let metrics = metrics();
        let mut shards = [Tally::new(), Tally::new()];
        for shard in &mut shards {
            shard.count(Counter::Deliveries, 7);
            shard.shift(Gauge::Streams, 2);
            shard.flush(&metrics);
            shard.shift(Gauge::Streams, -1);
            shard.flush(&metrics);
            shard.flush(&metrics);
        }
        assert_eq!(metrics.total(Counter::Deliveries), 14);
        assert_eq!(metrics.level(Gauge::Streams), 2);
        assert_eq!(
            value(&text_of(&metrics), "hookcast_streams").as_deref(),
            Some("2")
        );
    }

    #[test]
    fn requests_are_counted_by_route_and_known_status() {
        let metrics = metrics();
        let mut tally = Tally::new();
        tally.count_request(Endpoint::Webhook, 200);
        tally.count_request(Endpoint::None, 404);
        tally.count_request(Endpoint::None, 418);
        tally.count_request(Endpoint::None, 999);
        tally.flush(&metrics);
        let text = text_of(&metrics);
        for (series, expected) in [
            (
                r#"hookcast_requests_total{route="/api/webhook",status="200"}"#,
                Some("1"),
            ),
            (
                r#"hookcast_requests_total{route="none",status="404"}"#,
                Some("1"),
            ),
            (
                r#"hookcast_requests_total{route="none",status="other"}"#,
                Some("2"),
            ),
            (
                r#"hookcast_requests_total{route="/",status="200"}"#,
                Some("0"),
            ),
            (r#"hookcast_requests_total{route="/",status="405"}"#, None),
        ] {
            assert_eq!(value(&text, series).as_deref(), expected, "{series}");
        }
    }

    #[test]
    fn a_duration_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let metrics = metrics();
        let mut tally = Tally::new();
        for duration in [
            Duration::ZERO,
            Duration::from_micros(50),
            Duration::from_nanos(50_001),
            Duration::MAX,
        ] {
            tally.observe(Timing::Publish, duration);
        }
        tally.flush(&metrics);
        let text = text_of(&metrics);
        for (bound, expected) in [
            ("0.00001", "1"),
            ("0.00005", "2"),
            ("0.0001", "3"),
            ("1", "3"),
            ("+Inf", "4"),
        ] {
            let series = format!(r#"hookcast_publish_seconds_bucket{{le="{bound}"}}"#);
            assert_eq!(value(&text, &series).as_deref(), Some(expected), "{bound}");
        }
        assert_eq!(
            value(&text, "hookcast_publish_seconds_count").as_deref(),
            Some("4")
        );
        assert_eq!(
            value(&text, "hookcast_sweep_seconds_count").as_deref(),
            Some("0")
        );
    }

    #[test]
    fn a_duration_observed_several_times_counts_for_each() {
        let metrics = metrics();
        let mut tally = Tally::new();
        tally.observe_times(Timing::Append, Duration::from_millis(250), 4);
        tally.flush(&metrics);
        let text = text_of(&metrics);
        let number = |series| value(&text, series);
        assert_eq!(
            number("hookcast_append_seconds_count").as_deref(),
            Some("4")
        );
        assert_eq!(number("hookcast_append_seconds_sum").as_deref(), Some("1"));
    }

    #[test]
    fn dropped_log_lines_and_the_version_are_exposed() {
        let dropped = Arc::new(AtomicU64::new(0));
        let metrics = Metrics::new(Arc::clone(&dropped));
        dropped.store(3, Ordering::Relaxed);
        let text = text_of(&metrics);
        assert_eq!(
            value(&text, "hookcast_log_lines_dropped_total").as_deref(),
            Some("3")
        );
        let version = format!(
            r#"hookcast_build_info{{version="{}"}}"#,
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(value(&text, &version).as_deref(), Some("1"));
    }
}
