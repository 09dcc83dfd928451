//! The page and the charts of single runs: latency percentiles, and figures over time.

use crate::engine::ending::Moment;
use crate::engine::latency::{LatencyPoint, LatencySummary};
use crate::engine::machine::Machine;
use crate::engine::outcome::{Outcome, Sample};
use crate::report::chart::{Axes, Line, lines, percentile_place};
use crate::report::page::Page;
use crate::report::table;

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
        let ending = ending(outcome).map_or_else(String::new, |(what, _)| format!(", {what}"));
        page.heading(&format!(
            "{} on {}{rate}{ending}",
            outcome.scenario, outcome.server
        ));
        page.preformatted(&table::describe(outcome));
        page.charts(&charts(outcome));
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
    lines(
        &percentile_axes(&titled(outcome, "Latency by percentile")),
        &curves,
    )
}

/// The charts of one outcome. Charts of unknown figures are left out, such as those of a server that was not
/// started here.
fn charts(outcome: &Outcome) -> Vec<String> {
    let generator: Figure = ("generator", |sample| sample.generator_cpu_percent);
    let server: Figure = ("server", |sample| sample.server_cpu_percent);
    let is_known = outcome.series.iter().any(|sample| sample.server_memory > 0);
    let cpu = if is_known {
        vec![generator, server]
    } else {
        vec![generator]
    };
    let deliveries: Figure = ("deliveries", |sample| sample.deliveries_per_second);
    let mut charts = vec![
        percentile_chart(outcome),
        latency_over_time(outcome),
        over_time(
            outcome,
            "Deliveries over time",
            "deliveries per second",
            &[deliveries],
        ),
        over_time(outcome, "CPU over time", "percent of one CPU", &cpu),
    ];
    if is_known {
        let memory: Figure = ("server", |sample| {
            sample.server_memory as f64 / f64::from(1 << 20)
        });
        charts.push(over_time(
            outcome,
            "Server memory over time",
            "MiB",
            &[memory],
        ));
    }
    charts
}

/// The early end of a run, as a label in charts.
fn ending(outcome: &Outcome) -> Option<(&'static str, &Moment)> {
    let cut_off = outcome.cut_off.as_ref();
    let cut_off = cut_off.map(|cut_off| ("cut off", &cut_off.moment));
    let lost = outcome.lost.as_ref();
    lost.map(|lost| ("server lost", &lost.moment)).or(cut_off)
}

/// A title that says whether the run is complete.
fn titled(outcome: &Outcome, title: &str) -> String {
    match ending(outcome) {
        Some((what, moment)) => format!("{title} ({what} after {:.1} s)", moment.at_s),
        None => title.into(),
    }
}

/// Axes of a chart over time, with a mark at an early end.
fn time_axes(outcome: &Outcome, title: &str, unit: &str) -> Axes {
    let mark = ending(outcome).and_then(|(what, moment)| Some((moment.window_at_s?, what.into())));
    let title = titled(outcome, title);
    Axes::linear(&title, "seconds, from the window's start", unit).with_mark(mark)
}

type Quantile = (&'static str, fn(&LatencyPoint) -> u64);

/// Latency by the due time of messages, so that a pause shows at its time.
fn latency_over_time(outcome: &Outcome) -> String {
    let kinds = [
        ("delivery", &outcome.delivery_over_time),
        ("acknowledgement", &outcome.ack_over_time),
    ];
    let quantiles: [Quantile; 2] = [("p99", |point| point.p99_us), ("p50", |point| point.p50_us)];
    let mut curves = Vec::new();
    for (kind, points) in kinds.into_iter().filter(|(_, points)| !points.is_empty()) {
        for (quantile, of) in quantiles {
            let points = points.iter();
            curves.push(Line {
                name: format!("{kind} {quantile}"),
                points: points
                    .map(|point| (point.at_s, of(point) as f64 / 1e3))
                    .collect(),
            });
        }
    }
    let axes = time_axes(outcome, "Latency over time", "milliseconds");
    lines(&axes.with_y_log(), &curves)
}

/// Axes that show percentiles up to p99.99.
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
    lines(&time_axes(outcome, title, unit), &curves)
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
    use std::time::Duration;

    use super::*;
    use crate::engine::ending::{CutOff, Phase};
    use crate::engine::latency::{Latency, LatencyOverTime};

    #[test]
    fn a_page_shows_every_outcome_with_five_charts() {
        let mut latency = Latency::default();
        let mut over_time = LatencyOverTime::new(Duration::from_secs(1));
        for ms in 1..100 {
            latency.record_ns(ms * 1_000_000);
            over_time.record_ns(10 * ms * 1_000_000, ms * 1_000_000);
        }
        let sample = Sample {
            at_s: 0.1,
            deliveries_per_second: 5.0,
            acks_per_second: 1.0,
            server_cpu_percent: 3.0,
            generator_cpu_percent: 2.0,
            server_memory: 1 << 20,
        };
        let unknown = Outcome {
            series: vec![Sample {
                server_memory: 0,
                ..sample.clone()
            }],
            ..Outcome::default()
        };
        assert_eq!(charts(&unknown).len(), 4);
        let outcome = |rate: f64| Outcome {
            scenario: "fanout".into(),
            server: "floor".into(),
            rate: Some(rate),
            delivery: latency.summary(),
            delivery_over_time: over_time.points(),
            cut_off: (rate > 50.0).then_some(CutOff {
                moment: Moment {
                    at_s: 2.25,
                    window_at_s: Some(1.0),
                    phase: Phase::Window,
                },
                unanswered: 1,
                in_flight: 2,
            }),
            series: vec![sample.clone(), sample.clone()],
            ..Outcome::default()
        };
        let html = page(&[outcome(10.0), outcome(100.0)]);
        assert_eq!(html.matches("<svg").count(), 1 + 2 * 5);
        assert!(html.contains("fanout on floor at 10/s</h2>"));
        assert!(html.contains("fanout on floor at 100/s, cut off</h2>"));
        assert_eq!(html.matches("delivery p99").count(), 2);
        // In the title of each chart of the second outcome; four of them have a time axis.
        assert_eq!(html.matches("(cut off after 2.2 s)").count(), 5);
        assert_eq!(
            html.lines().filter(|text| text.trim() == "cut off").count(),
            4
        );
    }
}
