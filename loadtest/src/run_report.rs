//! The page and the charts of single runs: latency percentiles, and what happened over time.

use crate::chart::{Axes, Line, lines, percentile_place};
use crate::latency::LatencySummary;
use crate::machine::Machine;
use crate::outcome::{Outcome, Sample};
use crate::page::Page;
use crate::table;

/// One self-contained page about all outcomes of a run.
pub fn page(outcomes: &[Outcome]) -> String {
    let name = outcomes
        .first()
        .map_or("nothing", |outcome| outcome.scenario.as_str());
    let mut page = Page::new(&format!("hookcast-load: {name}"));
    page.paragraph(&Machine::this().to_string());
    if outcomes.len() > 1 {
        page.charts(&[rate_chart(outcomes)]);
    }
    for outcome in outcomes {
        let rate = outcome
            .rate
            .map_or_else(String::new, |rate| format!(" at {rate}/s"));
        page.heading(&format!("{} on {}{rate}", outcome.scenario, outcome.server));
        page.preformatted(&table::describe(outcome));
        page.charts(&[
            percentile_chart(outcome),
            over_time(
                outcome,
                "Deliveries over time",
                "deliveries per second",
                &[("deliveries", |sample| sample.deliveries_per_second)],
            ),
            over_time(
                outcome,
                "CPU over time",
                "percent of one CPU",
                &[
                    ("server", |sample| sample.server_cpu_percent),
                    ("generator", |sample| sample.generator_cpu_percent),
                ],
            ),
            over_time(
                outcome,
                "Server memory over time",
                "MiB",
                &[("server", |sample| {
                    sample.server_memory as f64 / f64::from(1 << 20)
                })],
            ),
        ]);
    }
    page.html()
}

fn percentile_chart(outcome: &Outcome) -> String {
    let kinds = [
        ("delivery", &outcome.delivery),
        ("acknowledgement", &outcome.ack),
        ("open", &outcome.open),
        ("replay", &outcome.replay),
    ];
    let curves: Vec<Line> = kinds
        .into_iter()
        .filter_map(|(name, summary)| Some(percentile_line(name, summary.as_ref()?)))
        .collect();
    lines(&percentile_axes("Latency by percentile"), &curves)
}

/// Axes on which percentiles up to p99.99 are told apart.
pub fn percentile_axes(title: &str) -> Axes {
    Axes::linear(title, "percentile", "milliseconds")
        .with_x_percentiles()
        .with_y_log()
}

/// A latency distribution on those axes.
pub fn percentile_line(name: &str, summary: &LatencySummary) -> Line {
    let points = summary.curve.iter().filter(|(quantile, _)| *quantile < 1.0);
    let points = points.map(|&(quantile, us)| (percentile_place(quantile), us as f64 / 1e3));
    Line {
        name: name.to_owned(),
        points: points.collect(),
    }
}

type Figure = (&'static str, fn(&Sample) -> f64);

fn over_time(outcome: &Outcome, title: &str, unit: &str, figures: &[Figure]) -> String {
    let curves: Vec<Line> = figures
        .iter()
        .map(|(name, figure)| Line {
            name: (*name).to_owned(),
            points: outcome
                .series
                .iter()
                .map(|sample| (sample.at_s, figure(sample)))
                .collect(),
        })
        .collect();
    lines(
        &Axes::linear(title, "seconds, from the window's start", unit),
        &curves,
    )
}

/// Latency against load, of several fan-outs.
fn rate_chart(outcomes: &[Outcome]) -> String {
    let line = |name: &str, of: fn(&LatencySummary) -> u64| Line {
        name: name.to_owned(),
        points: outcomes
            .iter()
            .filter_map(|outcome| {
                Some((outcome.rate?, of(outcome.delivery.as_ref()?) as f64 / 1e3))
            })
            .collect(),
    };
    let axes = Axes::linear(
        "Latency against load",
        "messages per second",
        "milliseconds",
    );
    let curves = [
        line("p50", |latency| latency.p50_us),
        line("p99", |latency| latency.p99_us),
        line("max", |latency| latency.max_us),
    ];
    lines(&axes.with_x_log().with_y_log(), &curves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::Latency;

    #[test]
    fn a_page_shows_every_outcome_with_four_charts() {
        let mut latency = Latency::default();
        (1..100).for_each(|ms| latency.record_ns(ms * 1_000_000));
        let sample = Sample {
            at_s: 0.1,
            deliveries_per_second: 5.0,
            acks_per_second: 1.0,
            server_cpu_percent: 3.0,
            generator_cpu_percent: 2.0,
            server_memory: 1 << 20,
        };
        let outcome = |rate: f64| Outcome {
            scenario: "fanout".into(),
            server: "floor".into(),
            rate: Some(rate),
            delivery: latency.summary(),
            series: vec![sample.clone(), sample.clone()],
            ..Outcome::default()
        };
        let html = page(&[outcome(10.0), outcome(100.0)]);
        assert_eq!(html.matches("<svg").count(), 1 + 2 * 4);
        assert!(html.contains("fanout on floor at 100/s"));
    }
}
