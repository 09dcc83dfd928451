//! Families of samples, and their text in the Prometheus format (version 0.0.4).
//!
//! Called by all modules that have metrics, at each scrape. The `prometheus` crate defines and encodes
//! families. Its counters and registry are not used: a shard counts without atomics, into a
//! [`Tally`](super::Tally), so families are built from totals. Never counts.

use std::borrow::Cow;

use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, Metric, MetricType};

pub use prometheus::proto::MetricFamily;

/// The content type of what [`encode`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels of a sample: names and values, all from tables of this crate.
pub(crate) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A counter without labels.
pub(crate) fn counter(name: &str, help: &str, total: u64) -> MetricFamily {
    counters(name, help, [(&[][..], total)])
}

/// A counter for each set of labels.
pub(crate) fn counters<'a>(
    name: &str,
    help: &str,
    totals: impl IntoIterator<Item = (Labels<'a>, u64)>,
) -> MetricFamily {
    let samples = totals.into_iter().map(|(labels, total)| {
        let mut counter = proto::Counter::default();
        counter.set_value(float(total));
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_counter(counter);
        metric
    });
    family(MetricType::COUNTER, name, help, samples.collect())
}

/// A counter of seconds, which is not a whole number.
pub(crate) fn counter_of_seconds(name: &str, help: &str, total: f64) -> MetricFamily {
    let mut counter = proto::Counter::default();
    counter.set_value(total);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    family(MetricType::COUNTER, name, help, vec![metric])
}

/// A gauge without labels.
pub(crate) fn gauge(name: &str, help: &str, level: f64) -> MetricFamily {
    gauges(name, help, [(&[][..], level)])
}

/// A gauge for each set of labels.
pub(crate) fn gauges<'a>(
    name: &str,
    help: &str,
    levels: impl IntoIterator<Item = (Labels<'a>, f64)>,
) -> MetricFamily {
    let samples = levels.into_iter().map(|(labels, level)| {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(level);
        let mut metric = Metric::from_label(pairs(labels));
        metric.set_gauge(gauge);
        metric
    });
    family(MetricType::GAUGE, name, help, samples.collect())
}

/// A histogram. `buckets`: the upper bound of each in seconds, and its count, not cumulative. `above`: the
/// count above all bounds. `sum_s`: the sum of all observations in seconds.
pub(crate) fn histogram(
    name: &str,
    help: &str,
    buckets: impl IntoIterator<Item = (f64, u64)>,
    above: u64,
    sum_s: f64,
) -> MetricFamily {
    let mut count = 0;
    let cumulated = buckets.into_iter().map(|(upper_bound, observed)| {
        count += observed;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(upper_bound);
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    // The encoder adds the bucket without a bound.
    histogram.set_bucket(cumulated.collect());
    histogram.set_sample_count(count + above);
    histogram.set_sample_sum(sum_s);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(MetricType::HISTOGRAM, name, help, vec![metric])
}

/// The families in the text format, without those that have no sample.
pub fn encode(families: &[MetricFamily]) -> String {
    let full: Cow<'_, [MetricFamily]> = if families.iter().all(has_samples) {
        families.into()
    } else {
        families
            .iter()
            .filter(|f| has_samples(f))
            .cloned()
            .collect()
    };
    TextEncoder::new()
        .encode_to_string(&full)
        .expect("every family has a name and a sample, as the encoder requires")
}

fn has_samples(family: &MetricFamily) -> bool {
    !family.get_metric().is_empty()
}

/// A whole number as a float, the format's only type. Exact up to 2^53, which ten million deliveries a
/// second reach after 28 years.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

fn family(kind: MetricType, name: &str, help: &str, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_field_type(kind);
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_metric(samples);
    family
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_line_by_line() {
        let text = encode(&[
            counter("a_total", "Counted.", 12_345_678_901),
            counters("none_total", "Not yet.", []),
            gauges("b", "Levels.", [(&[("x", "1"), ("y", "2")][..], -0.5)]),
            histogram("c_seconds", "Times.", [(0.000_01, 2), (1.0, 3)], 4, 7.25),
        ]);
        assert_eq!(
            text,
            "# HELP a_total Counted.\n# TYPE a_total counter\na_total 12345678901\n\
             # HELP b Levels.\n# TYPE b gauge\nb{x=\"1\",y=\"2\"} -0.5\n\
             # HELP c_seconds Times.\n# TYPE c_seconds histogram\n\
             c_seconds_bucket{le=\"0.00001\"} 2\nc_seconds_bucket{le=\"1\"} 5\n\
             c_seconds_bucket{le=\"+Inf\"} 9\nc_seconds_sum 7.25\nc_seconds_count 9\n"
        );
    }
}
