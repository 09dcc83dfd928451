//! The result of a cluster's run, as text and as JSON.
//!
//! Called by `runs`.

use std::fmt::Write;

use serde::Serialize;

use crate::engine::cluster::lives::LATE_MAX_MS;
use crate::engine::cluster::verdict::Verdict;
use crate::engine::latency::LatencySummary;
use crate::report::table::grouped;

/// A fault and what followed.
#[derive(Debug, Clone, Serialize)]
pub struct FaultReport {
    /// The fault.
    pub fault: String,
    /// Its node, if it concerns one.
    pub node: Option<usize>,
    /// Seconds since the first message.
    pub at_s: f64,
    /// Seconds until what was stopped ran again, or was replaced.
    pub back_after_s: f64,
    /// Seconds until streams of every node showed messages that were due after the fault; `None`: never.
    pub resumed_after_s: Option<f64>,
    /// The longest time until the next fault in which streams of a node showed nothing newer, in seconds: of
    /// its node, or of any. Not for a fault that moves streams to other nodes.
    pub silence_s: Option<f64>,
}

/// The result of a run.
#[derive(Debug, Default, Serialize)]
pub struct ClusterRun {
    /// Nodes.
    pub nodes: usize,
    /// Streams.
    pub streams: usize,
    /// Sessions, if there are some.
    pub sessions: Option<u32>,
    /// Sessions of each stream.
    pub sessions_per_stream: Option<u32>,
    /// The life of tokens in seconds, if streams have some; varies by a quarter.
    pub token_life_s: Option<f64>,
    /// Messages a second.
    pub rate: f64,
    /// Time in which messages were posted, in seconds.
    pub duration_s: f64,
    /// The seed of the faults, if they were taken at random.
    pub seed: Option<u64>,
    /// Whether a signal cut the run off.
    pub cut_off: bool,
    /// Resident memory of all nodes before the streams, in bytes.
    pub memory_before: u64,
    /// With all streams open.
    pub memory_open: u64,
    /// Faults, in order.
    pub faults_injected: Vec<FaultReport>,
    /// Everything else.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The text of a result.
pub fn describe(run: &ClusterRun) -> String {
    let verdict = &run.verdict;
    let mut text = format!(
        "cluster: {} nodes, {} streams, {} messages/s, {:.0} s, {} faults{}{}\n",
        run.nodes,
        grouped(run.streams as f64),
        run.rate,
        run.duration_s,
        run.faults_injected.len(),
        run.seed
            .map_or_else(String::new, |seed| format!(" (seed {seed})")),
        if run.cut_off { ", CUT OFF" } else { "" },
    );
    describe_views(&mut text, run);
    for (name, latency) in [
        ("other node", &verdict.cross),
        ("same node", &verdict.own),
        ("ack", &verdict.ack),
    ] {
        line(&mut text, name, &describe_latency(latency.as_ref()));
    }
    let posts = format!(
        "{} acknowledged, {} refused (503), {} unknown, of which {} delivered; {} left out; slowest answer \
         {:.0} ms",
        grouped(verdict.acknowledged as f64),
        verdict.refused,
        verdict.unknown,
        verdict.unknown_seen,
        verdict.left_out,
        verdict.slowest_answer_ms,
    );
    line(&mut text, "posts", &posts);
    line(&mut text, "answers", &describe_counts(&verdict.answers));
    let streams = format!(
        "{} deliveries on {} connections; {} moved, {} ended in order, {} broke",
        grouped(verdict.deliveries as f64),
        grouped(verdict.connections as f64),
        grouped(verdict.moves as f64),
        grouped(verdict.ended as f64),
        grouped(verdict.broken as f64),
    );
    line(&mut text, "streams", &streams);
    let resumes = format!(
        "{} exact, {} replays with {} known messages; {} gap events for {} messages; {} epochs",
        grouped(verdict.resumes as f64),
        grouped(verdict.replays as f64),
        grouped(verdict.replayed_messages as f64),
        verdict.gaps,
        grouped(verdict.gap_messages as f64),
        verdict.epochs,
    );
    line(&mut text, "resumes", &resumes);
    let missed = format!(
        "{} by an announced gap, {} by a replay that began later",
        grouped(verdict.missed_by_gap as f64),
        grouped(verdict.missed_by_replay as f64)
    );
    line(&mut text, "missed", &missed);
    if !verdict.refused_connections.is_empty() {
        let refused = describe_counts(&verdict.refused_connections);
        line(&mut text, "refused", &refused);
    }
    let bytes = run.memory_open.saturating_sub(run.memory_before);
    let memory = format!(
        "nodes {:.1} MiB with streams, {} bytes a stream; readers {:.1} s of CPU",
        run.memory_open as f64 / f64::from(1 << 20),
        bytes / run.streams.max(1) as u64,
        verdict.reader_cpu_s,
    );
    line(&mut text, "cost", &memory);
    describe_faults(&mut text, &run.faults_injected);
    text.push_str("must be 0:\n");
    for (name, count) in verdict.faults.counts() {
        let _ = writeln!(text, "  {name:<40} {count:>8}");
    }
    for detail in &verdict.details {
        let _ = writeln!(text, "  {detail}");
    }
    text
}

/// Sessions and tokens, if the run has some.
fn describe_views(text: &mut String, run: &ClusterRun) {
    if let Some(sessions) = run.sessions {
        let each = run.sessions_per_stream.unwrap_or(1);
        let views = format!("{sessions} sessions, {each} of each stream");
        line(text, "views", &views);
    }
    if let Some(life_s) = run.token_life_s {
        let ends = &run.verdict.ends;
        let tokens = format!(
            "lives of {life_s:.1} s; {} ends by token, {} warned before, the latest {} ms late (allowed: {LATE_MAX_MS})",
            grouped(ends.by_token as f64),
            grouped(ends.warned as f64),
            ends.late_max_ms,
        );
        line(text, "tokens", &tokens);
    }
}

fn describe_faults(text: &mut String, faults: &[FaultReport]) {
    if faults.is_empty() {
        return;
    }
    text.push_str(
        "faults:       at   what                        back after   resumed after   longest silence\n",
    );
    for fault in faults {
        let node = fault
            .node
            .map_or_else(String::new, |node| format!(" ({node})"));
        let name = format!("{}{node}", fault.fault);
        let seconds = |value: Option<f64>, none: &str| {
            value.map_or_else(|| none.to_owned(), |seconds| format!("{seconds:.3} s"))
        };
        let resumed = seconds(fault.resumed_after_s, "never");
        let silence = seconds(fault.silence_s, "");
        let (at, back) = (fault.at_s, fault.back_after_s);
        let _ = writeln!(
            text,
            "  {at:>12.2} s {name:<28} {back:>8.3} s      {resumed:>10}        {silence:>10}"
        );
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<12} {value}");
}

fn describe_counts(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let counts = counts
        .iter()
        .map(|(name, count)| format!("{name}: {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

fn describe_latency(summary: Option<&LatencySummary>) -> String {
    summary.map_or_else(
        || "none".into(),
        |summary| {
            let ms = |us: u64| us as f64 / 1e3;
            format!(
                "p50 {:.2}, p99 {:.2}, max {:.1} ms",
                ms(summary.p50_us),
                ms(summary.p99_us),
                ms(summary.max_us)
            )
        },
    )
}
