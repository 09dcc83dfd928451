//! What the server counts, and its exposition in the Prometheus text format (version 0.0.4).
//!
//! Each shard counts into a [`Tally`] of its own, plain integers, and flushes it into the shared
//! [`Metrics`] once per turn: counting costs an addition, and the shards meet in the same cache
//! lines only at flushes. The admin thread calls [`Metrics::render`]. Nothing here does I/O but the
//! look at `/proc/self` when rendering.
//!
//! Every series is a row of a table below, so their number is fixed: no label takes its value from
//! a peer. The official client library (prometheus-client 0.25) does not fit: it writes `OpenMetrics`
//! alone, which `promtool check metrics` does not read, and its histograms take one observation at a
//! time, under a lock, where a flush has a turn's worth.

mod series;
pub(crate) mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::series::{Counter, Gauge, Route, Timing};

use self::series::{BUCKETS, COUNTERS, GAUGES, ROUTES, Row, STATUSES, TIMINGS};
use self::text::{Family, Kind};

/// The requests by route and status.
type Requests<T> = [[T; STATUSES.len()]; ROUTES.len()];

/// The durations of one [`Timing`].
#[derive(Debug, Default)]
struct Histogram<T> {
    /// Observations per bucket, not cumulated; the last is for those above every bound.
    buckets: [T; BUCKETS.len() + 1],
    sum_ns: T,
}

/// What one shard counted since its last flush.
#[derive(Debug, Default)]
pub struct Tally {
    counters: [u64; COUNTERS.len()],
    gauges: [i64; GAUGES.len()],
    requests: Requests<u64>,
    timings: [Histogram<u64>; TIMINGS.len()],
}

impl Tally {
    /// A tally of nothing.
    pub fn new() -> Tally {
        Tally::default()
    }

    /// Counts `events` more of a kind.
    pub fn count(&mut self, counter: Counter, events: u64) {
        self.counters[counter as usize] += events;
    }

    /// Moves a level up, or down by a negative number.
    pub fn shift(&mut self, gauge: Gauge, by: i64) {
        self.gauges[gauge as usize] += by;
    }

    /// Counts an answered request.
    pub fn count_request(&mut self, route: Route, status: u16) {
        let other = STATUSES.len() - 1;
        let column = STATUSES
            .iter()
            .position(|&(known, _)| known == status)
            .unwrap_or(other);
        self.requests[route as usize][column] += 1;
    }

    /// Counts a duration.
    pub fn observe(&mut self, timing: Timing, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let histogram = &mut self.timings[timing as usize];
        histogram.buckets[BUCKETS.partition_point(|&(bound_ns, _)| bound_ns < ns)] += 1;
        histogram.sum_ns = histogram.sum_ns.saturating_add(ns);
    }

    /// Adds everything to `metrics` and starts again at nothing.
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

/// Moves what was tallied to the totals; what is zero costs no write to shared memory.
fn add_all(tallied: &mut [u64], totals: &[AtomicU64]) {
    for (tallied, total) in tallied.iter_mut().zip(totals) {
        if *tallied != 0 {
            total.fetch_add(std::mem::take(tallied), Ordering::Relaxed);
        }
    }
}

/// The totals of all shards since the start.
///
/// All accesses are relaxed: the numbers are independent of each other, and a scrape sees each as
/// it was at some moment of the scrape.
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
    /// The content type of [`Metrics::render`]'s text.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Totals of nothing yet; `log_lines_dropped` is counted by the log.
    pub fn new(log_lines_dropped: Arc<AtomicU64>) -> Metrics {
        Metrics {
            counters: Default::default(),
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

    /// A level as it is now.
    pub fn level(&self, gauge: Gauge) -> i64 {
        self.gauges[gauge as usize].load(Ordering::Relaxed)
    }

    /// All metrics in the text format, this process's open files and memory among them.
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        self.render_build(&mut text);
        render_rows(&mut text, Kind::Counter, &COUNTERS, |counter| {
            self.total(counter)
        });
        render_rows(&mut text, Kind::Gauge, &GAUGES, |gauge| self.level(gauge));
        self.render_requests(&mut text);
        for (timing, name, _, help) in TIMINGS {
            render_histogram(&mut text, name, help, &self.timings[timing as usize]);
        }
        self.render_process(&mut text);
        text
    }

    fn render_build(&self, text: &mut String) {
        Family::new(
            text,
            Kind::Gauge,
            "hookcast_build_info",
            "The version that runs; always 1.",
        )
        .sample(
            "",
            concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""),
            1,
        );
        let dropped = self.log_lines_dropped.load(Ordering::Relaxed);
        let help = "Log lines lost because standard error was read too slowly or is closed.";
        Family::new(
            text,
            Kind::Counter,
            "hookcast_log_lines_dropped_total",
            help,
        )
        .sample("", "", dropped);
    }

    /// Every route with every status would be mostly zeros; a pair appears once it has happened.
    fn render_requests(&self, text: &mut String) {
        let help = "Requests answered, by route and status.";
        let mut family = Family::new(text, Kind::Counter, "hookcast_requests_total", help);
        for (route, route_label) in ROUTES {
            for ((_, status_label), total) in STATUSES.iter().zip(&self.requests[route as usize]) {
                let total = total.load(Ordering::Relaxed);
                if total > 0 {
                    family.sample(
                        "",
                        &format!(r#"route="{route_label}",status="{status_label}""#),
                        total,
                    );
                }
            }
        }
    }

    /// The names are those of every Prometheus client; what `/proc` does not tell is left out.
    fn render_process(&self, text: &mut String) {
        if let Some(files) = open_files() {
            Family::new(
                text,
                Kind::Gauge,
                "process_open_fds",
                "Open file descriptors.",
            )
            .sample("", "", files);
        }
        if let Some(bytes) = resident_bytes() {
            Family::new(
                text,
                Kind::Gauge,
                "process_resident_memory_bytes",
                "Resident memory in bytes.",
            )
            .sample("", "", bytes);
        }
        let started = self
            .started
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let help = "Start of the process in seconds since the Unix epoch.";
        Family::new(text, Kind::Gauge, "process_start_time_seconds", help).sample("", "", started);
    }
}

/// Writes rows that stand together by name as families.
fn render_rows<T: Copy, V: std::fmt::Display>(
    text: &mut String,
    kind: Kind,
    rows: &[Row<T>],
    value: impl Fn(T) -> V,
) {
    for family in rows.chunk_by(|(_, a, ..), (_, b, ..)| a == b) {
        let (_, name, _, help) = family[0];
        let mut lines = Family::new(text, kind, name, help);
        for &(row, _, labels, _) in family {
            lines.sample("", labels, value(row));
        }
    }
}

fn render_histogram(text: &mut String, name: &str, help: &str, histogram: &Histogram<AtomicU64>) {
    let mut family = Family::new(text, Kind::Histogram, name, help);
    let bounds = BUCKETS.iter().map(|(_, bound)| *bound).chain(["+Inf"]);
    let mut count = 0;
    for (bound, bucket) in bounds.zip(&histogram.buckets) {
        count += bucket.load(Ordering::Relaxed);
        family.sample("_bucket", &format!(r#"le="{bound}""#), count);
    }
    let sum = Duration::from_nanos(histogram.sum_ns.load(Ordering::Relaxed));
    family.sample("_sum", "", sum.as_secs_f64());
    family.sample("_count", "", count);
}

/// Open file descriptors of this process, less the one that counts them (proc(5), `/proc/self/fd`).
fn open_files() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd")
        .ok()
        .map(|files| files.count().saturating_sub(1))
}

/// Resident memory of this process in bytes (proc(5), `VmRSS`, which is in KiB).
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new(Arc::new(AtomicU64::new(0)))
    }

    /// The value of a series in a rendered text.
    fn value(text: &str, series: &str) -> Option<String> {
        text.lines().find_map(|line| {
            line.strip_prefix(series)?
                .strip_prefix(' ')
                .map(str::to_owned)
        })
    }

    #[test]
    fn every_row_stands_at_its_own_position() {
        for (position, (counter, ..)) in COUNTERS.iter().enumerate() {
            assert_eq!(*counter as usize, position);
        }
        for (position, (gauge, ..)) in GAUGES.iter().enumerate() {
            assert_eq!(*gauge as usize, position);
        }
        for (position, (timing, ..)) in TIMINGS.iter().enumerate() {
            assert_eq!(*timing as usize, position);
        }
        for (position, (route, _)) in ROUTES.iter().enumerate() {
            assert_eq!(*route as usize, position);
        }
        assert!(BUCKETS.is_sorted());
        for (ns, label) in BUCKETS {
            assert_eq!(Duration::from_nanos(ns).as_secs_f64().to_string(), label);
        }
    }

    #[test]
    fn tallies_add_up_and_a_flush_starts_again() {
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
            value(&metrics.render(), "hookcast_streams").as_deref(),
            Some("2")
        );
    }

    #[test]
    fn requests_are_told_apart_by_route_and_known_status() {
        let metrics = metrics();
        let mut tally = Tally::new();
        tally.count_request(Route::Webhook, 200);
        tally.count_request(Route::None, 404);
        tally.count_request(Route::None, 418);
        tally.count_request(Route::None, 999);
        tally.flush(&metrics);
        let text = metrics.render();
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
            (r#"hookcast_requests_total{route="/",status="200"}"#, None),
        ] {
            assert_eq!(value(&text, series).as_deref(), expected, "{series}");
        }
    }

    #[test]
    fn a_duration_falls_into_the_bucket_that_still_holds_it() {
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
        let text = metrics.render();
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
    fn the_process_is_described() {
        let dropped = Arc::new(AtomicU64::new(0));
        let metrics = Metrics::new(Arc::clone(&dropped));
        dropped.store(3, Ordering::Relaxed);
        let held: Vec<_> = (0..50)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        let text = metrics.render();
        let number = |series| value(&text, series).unwrap().parse::<f64>().unwrap();
        assert!(number("process_open_fds") > 50.0);
        drop(held);
        assert!(number("process_resident_memory_bytes") > 100_000.0);
        assert!(number("process_start_time_seconds") > 1.6e9);
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
