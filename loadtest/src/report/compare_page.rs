//! Renders a comparison: tables as Markdown, charts as SVG, all of it as one page.

use std::path::Path;

use crate::engine::outcome::Outcome;
use crate::report::chart::{Axes, Bar, Line, bars, lines};
use crate::report::page::{Page, Table};
use crate::report::run_page::{percentile_axes, percentile_line};
use crate::report::table::grouped;
use crate::scenarios::cases::{GROWTH_SHARES, LADDER_RATES};
use crate::scenarios::claims::CLAIMS;
use crate::scenarios::comparison::{CaseResult, Comparison, Metric, Row};
use crate::scenarios::metrics::{CPU_PER_DELIVERY, DELIVERY_P50, DELIVERY_P99};
use crate::servers::ServerKind;

/// The tables and notes as Markdown, also for the terminal.
pub fn markdown(comparison: &Comparison) -> String {
    let mut text = format!("{}\n\n", comparison.machine);
    let mut add = |part: String| text.push_str(&part);
    for case in &comparison.cases {
        add(format!("**{}**: {}\n\n", case.key, case.title));
        add(case_table(case).markdown() + "\n");
    }
    let claims = claims_table(comparison);
    if !claims.rows.is_empty() {
        add(format!("**claims**\n\n{}\n", claims.markdown()));
    }
    for (server, version) in &comparison.versions {
        add(format!("- {server}: {version}\n"));
    }
    for note in &comparison.notes {
        add(format!("- note: {note}\n"));
    }
    add(format!("\n`{}`\n", comparison.command));
    text
}

/// One self-contained page.
pub fn page(comparison: &Comparison) -> String {
    let mut page = Page::new("hookcast and its peers");
    page.paragraph(&comparison.machine.to_string());
    page.preformatted(&comparison.command);
    let claims = claims_table(comparison);
    if !claims.rows.is_empty() {
        page.heading("Claims");
        page.table(&claims);
    }
    let across: Vec<String> = [ladder_chart(comparison), growth_chart(comparison)]
        .into_iter()
        .flatten()
        .map(|chart| chart.svg)
        .collect();
    if !across.is_empty() {
        page.heading("Against load and size");
        page.charts(&across);
    }
    for case in &comparison.cases {
        page.heading(&format!("{}: {}", case.key, case.title));
        page.table(&case_table(case));
        let charts: Vec<String> = case_charts(case)
            .into_iter()
            .map(|chart| chart.svg)
            .collect();
        page.charts(&charts);
    }
    page.heading("Servers");
    let versions = comparison.versions.iter();
    page.list(
        &versions
            .map(|(server, version)| format!("{server}: {version}"))
            .collect::<Vec<_>>(),
    );
    if !comparison.notes.is_empty() {
        page.heading("Notes");
        page.list(&comparison.notes);
    }
    page.html()
}

/// Writes every chart as an SVG file, and the tables as `comparison.md`.
pub fn write_charts(comparison: &Comparison, directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let of_cases = comparison.cases.iter().flat_map(case_charts);
    let across = [ladder_chart(comparison), growth_chart(comparison)]
        .into_iter()
        .flatten();
    for chart in of_cases.chain(across) {
        std::fs::write(directory.join(format!("{}.svg", chart.name)), chart.svg)?;
    }
    std::fs::write(directory.join("comparison.md"), markdown(comparison))
}

struct Chart {
    name: String,
    svg: String,
}

/// Medians, and the first figure as a ratio to the floor's.
fn case_table(case: &CaseResult) -> Table {
    let floor = case.row(ServerKind::Floor);
    let primary = case.metrics.first().copied();
    let mut head = vec!["server".to_owned()];
    head.extend(case.metrics.iter().map(|metric| metric.name.to_owned()));
    head.push("ratio to floor".into());
    let row = |row: &Row| {
        let mut cells = vec![row.server.to_owned()];
        cells.extend(
            case.metrics
                .iter()
                .map(|&metric| show(row.median(metric), metric)),
        );
        let ratio = primary
            .zip(floor)
            .and_then(|(metric, floor)| row.ratio(metric, floor));
        cells.push(ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.2}")));
        cells
    };
    Table {
        head,
        rows: case.rows.iter().map(row).collect(),
    }
}

fn show(figure: Option<f64>, metric: Metric) -> String {
    match figure {
        None => "-".into(),
        Some(figure) if metric.digits == 0 => grouped(figure),
        Some(figure) => format!("{figure:.*}", metric.digits),
    }
}

/// The claims that were measured.
fn claims_table(comparison: &Comparison) -> Table {
    let rows = CLAIMS.iter().filter_map(|claim| {
        let figure = (claim.figure)(comparison)?;
        let holds = if claim.bound.holds(figure) {
            "yes"
        } else {
            "NO"
        };
        Some(vec![
            claim.text.to_owned(),
            format!("{figure:.3}"),
            claim.bound.to_string(),
            holds.to_owned(),
        ])
    });
    let head = ["claim", "measured", "bound", "holds"]
        .map(str::to_owned)
        .to_vec();
    Table {
        head,
        rows: rows.collect(),
    }
}

/// The first figure of a case as bars, and latency percentiles if there are several servers.
fn case_charts(case: &CaseResult) -> Vec<Chart> {
    let mut charts = Vec::new();
    if let Some(&metric) = case.metrics.first() {
        let bar = |row: &Row| {
            Some(Bar {
                name: row.server.into(),
                value: row.median(metric)?,
            })
        };
        let figures: Vec<Bar> = case.rows.iter().filter_map(bar).collect();
        if figures.len() > 1 {
            let title = format!("{}: {}", case.title, metric.name);
            charts.push(Chart {
                name: case.key.to_owned(),
                svg: bars(&title, &figures),
            });
        }
    }
    let curves: Vec<Line> = case
        .rows
        .iter()
        .filter_map(median_round_percentiles)
        .collect();
    if curves.len() > 1 {
        let axes = percentile_axes(&format!("{}: delivery latency", case.title));
        let name = format!("{}-latency", case.key);
        charts.push(Chart {
            name,
            svg: lines(&axes, &curves),
        });
        let over_time = case.rows.iter().filter_map(median_round_over_time);
        let axes = Axes::linear(
            &format!("{}: delivery p99 over time", case.title),
            "seconds, from the window's start",
            "milliseconds",
        );
        charts.push(Chart {
            name: format!("{}-latency-over-time", case.key),
            svg: lines(&axes.with_y_log(), &over_time.collect::<Vec<_>>()),
        });
    }
    charts
}

/// The round with the median p99.
fn median_round(row: &Row) -> Option<&Outcome> {
    let p99_us = |outcome: &&Outcome| Some(outcome.delivery.as_ref()?.p99_us);
    let mut outcomes: Vec<&Outcome> = row
        .rounds
        .values()
        .filter(|outcome| outcome.delivery.is_some())
        .collect();
    outcomes.sort_by_key(p99_us);
    outcomes.get(outcomes.len().checked_sub(1)? / 2).copied()
}

fn median_round_percentiles(row: &Row) -> Option<Line> {
    let summary = median_round(row)?.delivery.as_ref()?;
    Some(percentile_line(row.server, summary))
}

fn median_round_over_time(row: &Row) -> Option<Line> {
    let points = median_round(row)?.delivery_over_time.iter();
    Some(Line {
        name: row.server.to_owned(),
        points: points
            .map(|point| (point.at_s, point.p99_us as f64 / 1e3))
            .collect(),
    })
}

/// Latency against load, if the ladder was measured.
fn ladder_chart(comparison: &Comparison) -> Option<Chart> {
    let line = |server: ServerKind, name: &str, metric: Metric| {
        let points = LADDER_RATES
            .iter()
            .filter_map(|&(key, rate)| Some((rate, comparison.median((key, server), metric)?)));
        Line {
            name: format!("{} {name}", server.name()),
            points: points.collect(),
        }
    };
    let servers = [ServerKind::Hookcast, ServerKind::Axum];
    let curves = servers.into_iter().flat_map(|server| {
        [
            line(server, "p50", DELIVERY_P50),
            line(server, "p99", DELIVERY_P99),
        ]
    });
    let curves: Vec<Line> = curves.filter(|line| line.points.len() > 2).collect();
    let axes = Axes::linear(
        "Latency against load",
        "messages per second",
        "milliseconds",
    );
    let svg = || lines(&axes.with_x_log().with_y_log(), &curves);
    (!curves.is_empty()).then(|| Chart {
        name: "latency-by-load".into(),
        svg: svg(),
    })
}

/// Cost per delivery against the number of streams, if it was measured.
fn growth_chart(comparison: &Comparison) -> Option<Chart> {
    let line = |server: ServerKind| {
        let points = GROWTH_SHARES.iter().filter_map(|&(key, _)| {
            let row = comparison.case(key)?.row(server)?;
            let streams = row.rounds.values().next()?.streams as f64;
            Some((streams, row.median(CPU_PER_DELIVERY)?))
        });
        Line {
            name: server.name().to_owned(),
            points: points.collect(),
        }
    };
    let curves: Vec<Line> = [ServerKind::Hookcast, ServerKind::Floor]
        .into_iter()
        .map(line)
        .filter(|line| line.points.len() > 2)
        .collect();
    let axes = Axes::linear(
        "Server CPU per delivery against streams",
        "streams",
        "microseconds",
    );
    let svg = || lines(&axes.with_x_log(), &curves);
    (!curves.is_empty()).then(|| Chart {
        name: "cost-by-streams".into(),
        svg: svg(),
    })
}
