//! Results as text: a short list for each measurement.

use crate::engine::latency::LatencySummary;
use crate::engine::outcome::{Outcome, ServerCost};

/// Names and values, in order.
type Lines = Vec<(String, String)>;

/// The lines of one measurement.
pub fn describe(outcome: &Outcome) -> String {
    let mut lines = vec![("load".to_owned(), load(outcome))];
    add_ending(outcome, &mut lines);
    add_opening(outcome, &mut lines);
    add_deliveries(outcome, &mut lines);
    add_observed(outcome, &mut lines);
    add_processes(outcome, &mut lines);
    add_acks(outcome, &mut lines);
    if let Some(cost) = &outcome.cost {
        add_cost(outcome, cost, &mut lines);
    }
    if outcome.window_s > 0.0 {
        add_generator(outcome, &mut lines);
    }
    for (name, value) in &outcome.figures {
        add(&mut lines, name, format!("{value:.3}"));
    }
    for (error, count) in &outcome.errors {
        add(&mut lines, "error", format!("{count} x {error}"));
    }
    for note in &outcome.notes {
        add(&mut lines, "note", note.clone());
    }
    add_thresholds(outcome, &mut lines);
    let lines = lines
        .iter()
        .map(|(name, value)| format!("  {name:<22} {value}\n"));
    format!(
        "{} on {}\n{}",
        outcome.scenario,
        outcome.server,
        lines.collect::<String>()
    )
}

fn add(lines: &mut Lines, name: &str, value: String) {
    lines.push((name.to_owned(), value));
}

fn load(outcome: &Outcome) -> String {
    let rate = outcome
        .rate
        .map_or_else(String::new, |rate| format!(" at {rate}/s"));
    let window = if outcome.window_s > 0.0 {
        format!("window {:.1} s", outcome.window_s)
    } else {
        "no window".into()
    };
    let messages = match outcome.observed {
        Some(_) => "messages of another publisher".into(),
        None => {
            let (messages, bytes) = (outcome.messages, outcome.message_bytes);
            format!("{messages} messages of {bytes} bytes{rate}")
        }
    };
    format!("{} streams, {messages}, {window}", outcome.streams)
}

/// A rate within the window, if there was one.
fn rate(outcome: &Outcome, per_second: f64) -> String {
    if outcome.window_s > 0.0 {
        format!(", {} per second", grouped(per_second))
    } else {
        String::new()
    }
}

/// The reason of an early end.
fn add_ending(outcome: &Outcome, lines: &mut Lines) {
    if let Some(cut_off) = &outcome.cut_off {
        add(lines, "CUT OFF", cut_off.to_string());
        add(lines, "figures", "up to then".into());
        add(
            lines,
            "in flight",
            format!(
                "{} answers, {} deliveries, not lost",
                cut_off.unanswered, cut_off.in_flight
            ),
        );
    }
    if let Some(lost) = &outcome.lost {
        add(lines, "LOST", lost.to_string());
        add(lines, "figures", "up to then".into());
        add(
            lines,
            "lost with it",
            format!(
                "{} streams, {} answers, {} deliveries of acknowledged messages",
                lost.streams_cut, lost.unanswered, lost.deliveries_missing
            ),
        );
        for line in &lost.last_lines {
            add(lines, "its last lines", line.clone());
        }
    }
}

fn add_opening(outcome: &Outcome, lines: &mut Lines) {
    if outcome.open.is_none() {
        return;
    }
    let all = |seconds: f64, each: Option<&LatencySummary>| {
        format!("all within {seconds:.2} s; {}", latency(each))
    };
    let opening = if outcome.open_all_s > 0.0 {
        all(outcome.open_all_s, outcome.open.as_ref())
    } else {
        let opened = outcome.open.as_ref().map_or(0, |open| open.count);
        format!(
            "{opened} of {}; {}",
            outcome.streams,
            latency(outcome.open.as_ref())
        )
    };
    add(lines, "open", opening);
    if let Some(seconds) = outcome.replay_all_s {
        add(lines, "replay", all(seconds, outcome.replay.as_ref()));
    }
    if outcome.reopened > 0 {
        add(
            lines,
            "reopened",
            format!("{} streams failed to open at first", outcome.reopened),
        );
    }
}

fn add_deliveries(outcome: &Outcome, lines: &mut Lines) {
    if outcome.deliveries_expected == 0 {
        return;
    }
    let rate = rate(outcome, outcome.deliveries_per_second);
    add(
        lines,
        "deliveries",
        format!("{} in all{rate}", outcome.deliveries),
    );
    if outcome.delivery.is_some() {
        add(
            lines,
            "delivery latency",
            latency(outcome.delivery.as_ref()),
        );
    }
    let check = format!(
        "{} missing, {} duplicate, {} out of order, {} misdelivered",
        outcome.missing, outcome.duplicate, outcome.out_of_order, outcome.misdelivered
    );
    add(lines, "check", check);
    if outcome.gaps > 0 {
        let gaps = format!("{} events, {} messages", outcome.gaps, outcome.gap_messages);
        add(lines, "gaps", gaps);
    }
    if outcome.churned > 0 {
        add(
            lines,
            "churn",
            format!("{} streams closed and opened again", outcome.churned),
        );
    }
    if outcome.stalled > 0 {
        let closed = outcome.stalled_closed;
        add(
            lines,
            "stalled",
            format!("{} streams, {closed} closed by the server", outcome.stalled),
        );
    }
}

fn add_observed(outcome: &Outcome, lines: &mut Lines) {
    let Some(observed) = &outcome.observed else {
        return;
    };
    let clock = observed.earliest_us.map_or_else(
        || "no message in the window".into(),
        |us| format!("the earliest {:.1} ms after its own time", us as f64 / 1e3),
    );
    add(
        lines,
        "messages",
        format!(
            "{}, {clock}; {} other events",
            observed.messages, observed.untimed_events
        ),
    );
}

fn add_processes(outcome: &Outcome, lines: &mut Lines) {
    let ms = |us: Option<u64>| us.map_or("none".into(), milliseconds);
    for (at, process) in outcome.processes.iter().enumerate() {
        let text = format!(
            "{} streams on {}: {} deliveries, p50 {}, p99 {}, max {} ms; {} missing, {} duplicate, {} out of \
             order, {} misdelivered, {} errors",
            process.opened,
            process.server,
            process.deliveries,
            ms(process.p50_us),
            ms(process.p99_us),
            ms(process.max_us),
            process.missing,
            process.duplicate,
            process.out_of_order,
            process.misdelivered,
            process.errors
        );
        add(lines, &format!("process {}", at + 1), text);
    }
}

fn add_thresholds(outcome: &Outcome, lines: &mut Lines) {
    for threshold in &outcome.thresholds {
        let verdict = match (threshold.crossed, threshold.value) {
            (_, None) => "was not measured: FAILED",
            (true, _) => "is true: FAILED",
            (false, _) => "is false: passed",
        };
        add(lines, "fail if", format!("{} {verdict}", threshold.fail_if));
    }
}

fn add_acks(outcome: &Outcome, lines: &mut Lines) {
    if outcome.messages > 0 {
        let rate = rate(outcome, outcome.acks_per_second);
        add(lines, "acks", format!("{} in all{rate}", outcome.acked));
        if outcome.ack.is_some() {
            add(lines, "ack latency", latency(outcome.ack.as_ref()));
        }
    }
}

fn add_cost(outcome: &Outcome, cost: &ServerCost, lines: &mut Lines) {
    let per = |value: Option<f64>, what: &str| {
        value.map_or_else(String::new, |us| format!(", {us:.2} us per {what}"))
    };
    let cpu = format!(
        "{:.1} % of one{}{}{}",
        cost.cpu_percent,
        per(cost.cpu_us_per_delivery, "delivery"),
        per(cost.cpu_us_per_ack, "ack"),
        per(cost.cpu_us_per_heartbeat, "heartbeat"),
    );
    add(lines, "server CPU", cpu);
    let memory = format!(
        "{} before, {} with streams, {} at the end, {} at most",
        mebibytes(cost.memory_start),
        mebibytes(cost.memory_open),
        mebibytes(cost.memory_end),
        mebibytes(cost.memory_max),
    );
    add(lines, "server memory", memory);
    if outcome.streams > 0 {
        let bytes = cost.memory_open.saturating_sub(cost.memory_start) / outcome.streams as u64;
        let kernel = cost.kernel_open / outcome.streams as i64;
        add(
            lines,
            "per stream",
            format!("{bytes} bytes; kernel {kernel} bytes, both ends"),
        );
    }
}

fn add_generator(outcome: &Outcome, lines: &mut Lines) {
    let generator = &outcome.generator;
    let per_delivery = generator
        .reader_us_per_delivery
        .map_or_else(String::new, |us| format!(", {us:.2} us per delivery"));
    let cpu = format!(
        "reader {:.0} % of one CPU{per_delivery} (and {:.0} % waiting for one), publisher {:.0} %; \
         machine {:.0} % busy",
        generator.reader_percent,
        generator.reader_waiting_percent,
        generator.publisher_percent,
        outcome.machine_busy_percent,
    );
    add(lines, "generator", cpu);
    if let Some(lag) = &generator.schedule_lag {
        add(lines, "schedule lag", latency(Some(lag)));
    }
}

fn latency(summary: Option<&LatencySummary>) -> String {
    let Some(summary) = summary else {
        return "none".into();
    };
    let [p50, p90, p99, max] = [
        summary.p50_us,
        summary.p90_us,
        summary.p99_us,
        summary.max_us,
    ]
    .map(milliseconds);
    format!("p50 {p50}, p90 {p90}, p99 {p99}, max {max} ms")
}

/// Microseconds as milliseconds with three significant digits.
fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1e3;
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A whole number with thousands separators.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_separators_and_three_significant_digits() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(11_234_567.0), "11,234,567");
        assert_eq!(milliseconds(1_234), "1.23");
        assert_eq!(milliseconds(12_345), "12.3");
        assert_eq!(milliseconds(123_456), "123");
    }

    #[test]
    fn figures_that_were_not_measured_are_left_out() {
        let text = describe(&Outcome {
            scenario: "idle".into(),
            ..Outcome::default()
        });
        for name in [
            "deliver",
            "ack",
            "server CPU",
            "gaps",
            "replay",
            "generator",
            "LOST",
            "CUT",
            "window 0",
        ] {
            assert!(!text.contains(name), "{name} in {text}");
        }
        let early = describe(&Outcome {
            messages: 5,
            deliveries: 50,
            deliveries_expected: 50,
            ..Outcome::default()
        });
        assert!(
            early.contains("no window") && !early.contains("per second"),
            "{early}"
        );
    }
}
