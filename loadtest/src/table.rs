//! Results as text: one measurement as a short list.

use std::fmt::Write;

use crate::latency::LatencySummary;
use crate::outcome::Outcome;

/// One measurement, several lines.
pub fn describe(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name:<22} {value}");
    };
    line(
        "load",
        format!(
            "{} streams, {} messages of {} bytes{}, window {:.1} s",
            outcome.streams,
            outcome.messages,
            outcome.message_bytes,
            outcome
                .rate
                .map_or_else(String::new, |rate| format!(" at {rate}/s")),
            outcome.window_s,
        ),
    );
    if outcome.streams > 0 {
        line(
            "open",
            format!(
                "all within {:.2} s; {}",
                outcome.open_all_s,
                latency(outcome.open.as_ref())
            ),
        );
    }
    if outcome.reopened > 0 {
        line(
            "reopened",
            format!("{} streams failed to open at first", outcome.reopened),
        );
    }
    if let Some(seconds) = outcome.replay_all_s {
        line(
            "replay",
            format!(
                "all within {seconds:.2} s; {}",
                latency(outcome.replay.as_ref())
            ),
        );
    }
    if outcome.deliveries_expected > 0 {
        line(
            "deliveries",
            format!(
                "{} in all, {} per second",
                outcome.deliveries,
                grouped(outcome.deliveries_per_second)
            ),
        );
        line("delivery latency", latency(outcome.delivery.as_ref()));
        line(
            "check",
            format!(
                "{} missing, {} duplicate, {} out of order, {} misdelivered",
                outcome.missing, outcome.duplicate, outcome.out_of_order, outcome.misdelivered
            ),
        );
    }
    if outcome.messages > 0 {
        line(
            "acks",
            format!(
                "{} in all, {} per second",
                outcome.acked,
                grouped(outcome.acks_per_second)
            ),
        );
        line("ack latency", latency(outcome.ack.as_ref()));
    }
    if outcome.gaps > 0 {
        line(
            "gaps",
            format!("{} events, {} messages", outcome.gaps, outcome.gap_messages),
        );
    }
    if outcome.churned > 0 {
        line(
            "churn",
            format!("{} streams closed and opened again", outcome.churned),
        );
    }
    if outcome.stalled > 0 {
        line(
            "stalled",
            format!(
                "{} streams, {} closed by the server",
                outcome.stalled, outcome.stalled_closed
            ),
        );
    }
    if let Some(cost) = &outcome.cost {
        let per = |value: Option<f64>, what: &str| {
            value.map_or_else(String::new, |us| format!(", {us:.2} us per {what}"))
        };
        line(
            "server CPU",
            format!(
                "{:.1} % of one{}{}",
                cost.cpu_percent,
                per(cost.cpu_us_per_delivery, "delivery"),
                per(cost.cpu_us_per_ack, "ack"),
            ),
        );
        line(
            "server memory",
            format!(
                "{} before, {} with streams, {} at the end, {} at most",
                mebibytes(cost.memory_start),
                mebibytes(cost.memory_open),
                mebibytes(cost.memory_end),
                mebibytes(cost.memory_max),
            ),
        );
        if outcome.streams > 0 {
            let bytes = cost.memory_open.saturating_sub(cost.memory_start) / outcome.streams as u64;
            let kernel = cost.kernel_open / outcome.streams as i64;
            line(
                "per stream",
                format!("{bytes} bytes; kernel {kernel} bytes, both ends"),
            );
        }
    }
    let generator = &outcome.generator;
    line(
        "generator",
        format!(
            "reader {:.0} % of one CPU{} (and {:.0} % waiting for one), publisher {:.0} %; machine {:.0} % busy",
            generator.reader_percent,
            generator
                .reader_us_per_delivery
                .map_or_else(String::new, |us| format!(", {us:.2} us per delivery")),
            generator.reader_waiting_percent,
            generator.publisher_percent,
            outcome.machine_busy_percent,
        ),
    );
    if let Some(lag) = &generator.schedule_lag {
        line("schedule lag", latency(Some(lag)));
    }
    for (name, value) in &outcome.figures {
        line(name, format!("{value:.3}"));
    }
    for (error, count) in &outcome.errors {
        line("error", format!("{count} x {error}"));
    }
    for note in &outcome.notes {
        line("note", note.clone());
    }
    format!("{} on {}\n{text}", outcome.scenario, outcome.server)
}

fn latency(summary: Option<&LatencySummary>) -> String {
    summary.map_or_else(
        || "none".into(),
        |summary| {
            let [p50, p90, p99, max] = [
                summary.p50_us,
                summary.p90_us,
                summary.p99_us,
                summary.max_us,
            ]
            .map(milliseconds);
            format!("p50 {p50}, p90 {p90}, p99 {p99}, max {max} ms")
        },
    )
}

/// Microseconds as milliseconds with three digits that say something.
pub fn milliseconds(us: u64) -> String {
    let ms = us as f64 / 1e3;
    if ms < 10.0 {
        format!("{ms:.2}")
    } else if ms < 100.0 {
        format!("{ms:.1}")
    } else {
        format!("{ms:.0}")
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A whole number with its thousands apart.
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
    fn numbers_read_well() {
        assert_eq!(grouped(0.4), "0");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(11_234_567.0), "11,234,567");
        assert_eq!(milliseconds(1_234), "1.23");
        assert_eq!(milliseconds(12_345), "12.3");
        assert_eq!(milliseconds(123_456), "123");
    }
}
