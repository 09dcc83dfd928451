//! Thresholds of a run: `--fail-if 'p99>50ms'`.
//!
//! Used by `single` after a measurement. Pure: an outcome goes in, a verdict comes out.

use std::str::FromStr;

use crate::engine::latency::LatencySummary;
use crate::engine::outcome::{Outcome, ThresholdOutcome};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    P50,
    P90,
    P99,
    P999,
    Max,
    Lost,
    Repeated,
    Disorder,
    Rate,
    Errors,
}

/// The metrics by their names.
const METRICS: [(&str, Metric); 10] = [
    ("p50", Metric::P50),
    ("p90", Metric::P90),
    ("p99", Metric::P99),
    ("p999", Metric::P999),
    ("max", Metric::Max),
    ("lost", Metric::Lost),
    ("repeated", Metric::Repeated),
    ("disorder", Metric::Disorder),
    ("rate", Metric::Rate),
    ("errors", Metric::Errors),
];

/// How a value is compared with a bound.
type Comparison = fn(&f64, &f64) -> bool;

/// The comparisons; longer ones first.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", f64::ge),
    ("<=", f64::le),
    (">", f64::gt),
    ("<", f64::lt),
];

/// Units of latencies in microseconds.
const UNITS: [(&str, f64); 3] = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];

/// A threshold: the run fails if it is true.
#[derive(Debug, Clone)]
pub struct Threshold {
    text: String,
    metric: Metric,
    compare: Comparison,
    bound: f64,
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Threshold, String> {
        let of = |(sign, compare)| text.split_once(sign).map(|parts| (parts, compare));
        let (name, value, compare) = COMPARISONS
            .into_iter()
            .find_map(of)
            .map(|((name, value), compare)| (name.trim(), value.trim(), compare))
            .ok_or("a threshold has the form 'p99>50ms', with >, >=, < or <=")?;
        let known = METRICS.iter().find(|(known, _)| *known == name);
        let (_, metric) = *known.ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|(name, _)| *name).collect();
            format!(
                "{name:?} is no metric; the metrics are {}",
                names.join(", ")
            )
        })?;
        let bound = metric.bound(value)?;
        let text = text.to_owned();
        Ok(Threshold {
            text,
            metric,
            compare,
            bound,
        })
    }
}

impl Metric {
    fn is_time(self) -> bool {
        matches!(
            self,
            Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 | Metric::Max
        )
    }

    fn bound(self, text: &str) -> Result<f64, String> {
        let (number, unit) = if self.is_time() {
            let of = |(name, us)| text.strip_suffix(name).map(|number: &str| (number, us));
            let found = UNITS.into_iter().find_map(of);
            found.ok_or_else(|| format!("{text:?} lacks a unit: us, ms or s"))?
        } else if self == Metric::Rate {
            (text.strip_suffix("/s").unwrap_or(text), 1.0)
        } else {
            (text, 1.0)
        };
        match number.trim().parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Ok(number * unit),
            _ => Err(format!("{text:?} is not a number of 0 or more")),
        }
    }

    /// The value of an outcome; `None` if it was not measured.
    fn of(self, outcome: &Outcome) -> Option<f64> {
        let us = |of: fn(&LatencySummary) -> u64| {
            outcome.delivery.as_ref().map(|latency| of(latency) as f64)
        };
        match self {
            Metric::P50 => us(|latency| latency.p50_us),
            Metric::P90 => us(|latency| latency.p90_us),
            Metric::P99 => us(|latency| latency.p99_us),
            Metric::P999 => us(|latency| latency.p999_us),
            Metric::Max => us(|latency| latency.max_us),
            Metric::Lost => Some(outcome.missing as f64),
            Metric::Repeated => Some(outcome.duplicate as f64),
            Metric::Disorder => Some(outcome.out_of_order as f64),
            Metric::Rate => (outcome.window_s > 0.0).then_some(outcome.deliveries_per_second),
            Metric::Errors => Some(outcome.errors.values().sum::<u64>() as f64),
        }
    }
}

/// Compares an outcome with all thresholds, and records the results in it.
pub fn judge(outcome: &mut Outcome, thresholds: &[Threshold]) {
    let judge = |threshold: &Threshold| {
        let value = threshold.metric.of(outcome);
        ThresholdOutcome {
            fail_if: threshold.text.clone(),
            value,
            crossed: value.is_none_or(|value| (threshold.compare)(&value, &threshold.bound)),
        }
    };
    outcome.thresholds = thresholds.iter().map(judge).collect();
}

/// Faults that no threshold names: each of them fails a run.
pub fn other_faults(outcome: &Outcome, thresholds: &[Threshold]) -> u64 {
    let is_named = |metric| {
        thresholds
            .iter()
            .any(|threshold| threshold.metric == metric)
    };
    let counts = [
        (Metric::Lost, outcome.missing),
        (Metric::Repeated, outcome.duplicate),
        (Metric::Disorder, outcome.out_of_order),
        (Metric::Errors, outcome.errors.values().sum()),
    ];
    let others = counts.into_iter().filter(|&(metric, _)| !is_named(metric));
    others.map(|(_, count)| count).sum::<u64>() + outcome.misdelivered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::latency::Latency;

    fn outcome() -> Outcome {
        let mut latency = Latency::default();
        latency.record_ns(20_000_000);
        Outcome {
            delivery: latency.summary(),
            window_s: 1.0,
            deliveries_per_second: 100.0,
            missing: 3,
            ..Outcome::default()
        }
    }

    fn crossed(text: &str) -> bool {
        let mut outcome = outcome();
        judge(&mut outcome, &[text.parse().unwrap()]);
        outcome.thresholds[0].crossed
    }

    #[test]
    fn a_threshold_is_crossed_when_it_is_true() {
        for (text, expected) in [
            ("p99>50ms", false),
            ("p99 > 19ms", true),
            ("p999>=0.1s", false),
            ("max<1s", true),
            ("p50>19000us", true),
            ("rate<100", false),
            ("rate<=100/s", true),
            ("rate<101/s", true),
            ("lost>2", true),
            ("lost>3", false),
            ("repeated>0", false),
        ] {
            assert_eq!(crossed(text), expected, "{text}");
        }
        let mut idle = Outcome::default();
        judge(&mut idle, &["p99>50ms".parse().unwrap()]);
        assert!(idle.thresholds[0].crossed, "not measured");
    }

    #[test]
    fn what_is_no_threshold_is_refused() {
        for text in [
            "p99", "p99>50", "p98>5ms", "lost>x", "p99>-1ms", "", ">", "rate<1ms",
        ] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fault_fails_a_run_unless_a_threshold_names_it() {
        let thresholds: Vec<Threshold> = ["lost>10", "p99>1s"]
            .map(|text| text.parse().unwrap())
            .into();
        assert_eq!(other_faults(&outcome(), &thresholds), 0);
        assert_eq!(other_faults(&outcome(), &thresholds[1..]), 3);
        let mut wrong = outcome();
        wrong.misdelivered = 1;
        assert_eq!(other_faults(&wrong, &thresholds), 1);
    }
}
