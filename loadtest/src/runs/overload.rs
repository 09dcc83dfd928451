//! The overload scenario: what floods, slow uploads and unread answers cost healthy streams.
//!
//! Called by `main`. Each round measures the same fan-out three times, each on a fresh server: quiet, under attack,
//! and beside busy loops. The busy loops take as much CPU as the attackers just did, and do not touch the server.
//! The difference between attack and busy loops is due to the server. The difference between busy loops and quiet
//! is due to the machine, whose CPUs the attackers, clients and server share.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::cli::OverloadArgs;
use crate::console;
use crate::engine::control::Control;
use crate::engine::latency::LatencySummary;
use crate::engine::load::{Load, Rate};
use crate::engine::measurement;
use crate::engine::outcome::Outcome;
use crate::engine::proc_stats;
use crate::exit::{Failure, Status};
use crate::report::table;
use crate::runs::single::{check_program, check_room, find_out_about_loss};
use crate::scenarios::attack::{WorkDone, Workers};
use crate::scenarios::comparison::median;
use crate::scenarios::{REPLAYED, Scenario, Sizes};
use crate::servers::process::ServerProcess;
use crate::servers::workspace;
use crate::servers::{self, ServerKind, ServerOptions};

/// Real-time priority (sched(7)) of the threads that publish and read streams. Healthy clients run on machines
/// of their own; here their latency must not include waits for a CPU that attackers use.
const FIFO_PRIORITY: &str = "1";

/// Time for the attackers to connect before the streams (`--attack-first`). A few thousand connections take less.
const HEAD_START: Duration = Duration::from_secs(2);

/// What runs at the same time as the healthy streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Background {
    Nothing,
    Attackers,
    BusyLoops,
}

impl Background {
    fn name(self) -> &'static str {
        match self {
            Background::Nothing => "quiet",
            Background::Attackers => "attack",
            Background::BusyLoops => "busy loops",
        }
    }
}

/// Share of the time that the server waits for a CPU, above which a note is printed: the ratios then show other
/// work on that CPU, not the server. A quiet machine showed 3 % under attack; beside compilers it was 19 to 90 %.
const WAITED_PERCENT: f64 = 8.0;

/// Name of the figure: share of the time in which the server was ready to run and had no CPU.
const WAITED: &str = "server waited for a CPU (%)";

const ORDER: [Background; 3] = [
    Background::Nothing,
    Background::Attackers,
    Background::BusyLoops,
];

/// The result for one background, as medians over the rounds.
#[derive(Debug, Serialize)]
struct Figures {
    background: &'static str,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    ack_p99_us: f64,
    server_cpu_percent: f64,
    server_waited_percent: f64,
    background_cpu_percent: f64,
    memory_max: u64,
    attempts: u64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    streams: usize,
    connections: usize,
    /// Complete rounds.
    rounds: usize,
    pinned: bool,
    figures: Vec<Figures>,
    p99_attacked_by_quiet: f64,
    p99_attacked_by_busy: f64,
    faults: u64,
    /// The measurement that a signal or the end of the server cut short. No other figure includes it.
    unfinished: Option<Outcome>,
}

/// Runs all rounds and prints the report.
pub fn run(args: &OverloadArgs, interrupted: &Arc<AtomicBool>) -> Result<Status, Failure> {
    let sizes = Sizes {
        streams: Some(args.streams),
        rate: Some(args.rate),
        duration: Some(args.duration),
        message_bytes: args.message_bytes,
        ..Sizes::default()
    };
    let load = Load {
        scenario: "overload".into(),
        published_before: args.history,
        replayed: args.history.min(REPLAYED),
        ..Scenario::Fanout.load(&sizes)
    };
    debug_assert!(matches!(load.rate, Rate::Open(_)));
    check_room(load.streams + args.connections * 2).map_err(Failure::usage)?;
    check_program(args.server.as_deref())?;
    if args.server.is_none() {
        workspace::build(&Vec::from_iter(servers::package(ServerKind::Hookcast)))?;
    }
    let mut seen: [Vec<(Outcome, WorkDone)>; 3] = Default::default();
    let unfinished = run_rounds(&load, args, &mut seen, interrupted)?;
    show(&report(args, &seen, unfinished), args.json)
}

/// Runs the rounds. If a signal or the loss of the server ends a measurement early, returns that measurement.
fn run_rounds(
    load: &Load,
    args: &OverloadArgs,
    seen: &mut [Vec<(Outcome, WorkDone)>; 3],
    interrupted: &Arc<AtomicBool>,
) -> Result<Option<Outcome>, String> {
    for _ in 0..args.rounds {
        let mut attacked = WorkDone::default();
        for (background, seen) in ORDER.into_iter().zip(seen.iter_mut()) {
            let (mut outcome, done) = measure(load, args, background, &attacked, interrupted)?;
            if background == Background::Attackers {
                attacked = done.clone();
            }
            if !outcome.is_whole() {
                outcome.scenario = format!("overload, {}", background.name());
                return Ok(Some(outcome));
            }
            seen.push((outcome, done));
        }
    }
    Ok(None)
}

fn measure(
    load: &Load,
    args: &OverloadArgs,
    background: Background,
    attackers: &WorkDone,
    interrupted: &Arc<AtomicBool>,
) -> Result<(Outcome, WorkDone), String> {
    let mut server = start(args)?;
    let target = server.target.clone();
    let start_background = || match background {
        Background::Nothing => None,
        Background::Attackers => Some(Workers::attack(
            target.streams.address,
            &args.attacks,
            args.connections,
        )),
        Background::BusyLoops => Some(Workers::busy(&attackers.cpu_shares)),
    };
    let mut workers = None;
    if args.attack_first {
        workers = start_background();
        thread::sleep(HEAD_START);
    }
    let mut has_priority = true;
    let mut on_open = |control: &Control| {
        // Both threads run before `run_with` calls this.
        for tid in [&control.streams_tid, &control.publisher_tid] {
            has_priority &= raise_priority(tid.load(Relaxed));
        }
        if !args.attack_first {
            workers = start_background();
        }
    };
    let began = Instant::now();
    let outcome = measurement::run_with(load, &target, interrupted, &mut on_open);
    let waited_ns = proc_stats::waiting_ns(&target.pids) as f64;
    let waited = waited_ns / began.elapsed().as_nanos() as f64;
    let done = workers.map(Workers::stop).unwrap_or_default();
    let mut outcome = outcome.map_err(|error| error.0)?;
    find_out_about_loss(&mut outcome, Some(&mut server), &target);
    outcome.figures.insert(WAITED.into(), 100.0 * waited);
    if !has_priority {
        console::note(
            "no real-time priority (needs chrt and CAP_SYS_NICE): latencies include waits of this tool's threads for a CPU",
        );
    }
    Ok((outcome, done))
}

/// Gives a thread real-time priority; returns whether that was allowed.
fn raise_priority(tid: i32) -> bool {
    let chrt = Command::new("chrt")
        .args(["--fifo", "--pid", FIFO_PRIORITY, &tid.to_string()])
        .stderr(Stdio::null())
        .status();
    chrt.is_ok_and(|status| status.success())
}

/// Starts the server. With `--pin` it gets the first CPU, and this process the second.
fn start(args: &OverloadArgs) -> Result<ServerProcess, String> {
    // The 1 is the publisher.
    let mut connections = args.streams + 1 + args.connections;
    if args.attack_first {
        // Attackers hold up to 1.5 times `connections`; the streams must still find places.
        connections += args.connections;
    }
    let mut arguments = vec!["--max-connections".into(), connections.to_string()];
    arguments.extend(args.server_arg.iter().cloned());
    let options = ServerOptions {
        program: args.server.clone(),
        shards: args.shards,
        heartbeat: args.heartbeat,
        tls: false,
        gzip: false,
        arguments,
    };
    if args.pin {
        pin_to(0)?;
    }
    let server = servers::start(ServerKind::Hookcast, &options)?;
    if args.pin {
        pin_to(1)?;
    }
    Ok(server)
}

/// Pins this thread. Later threads and child processes inherit the mask.
fn pin_to(cpu: usize) -> Result<(), String> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(|error| format!("cannot pin to CPU {cpu}: {error}"))
}

fn report(
    args: &OverloadArgs,
    seen: &[Vec<(Outcome, WorkDone)>; 3],
    unfinished: Option<Outcome>,
) -> Report {
    let figures: Vec<Figures> = ORDER
        .into_iter()
        .zip(seen)
        .map(|(background, seen)| figures(background.name(), seen))
        .collect();
    let ratio = |by: usize| figures[1].p99_us / figures[by].p99_us.max(1.0);
    Report {
        streams: args.streams,
        connections: args.connections,
        rounds: seen[0].len(),
        pinned: args.pin,
        p99_attacked_by_quiet: ratio(0),
        p99_attacked_by_busy: ratio(2),
        faults: seen
            .iter()
            .flatten()
            .map(|(outcome, _)| outcome.faults() + outcome.gaps)
            .sum(),
        figures,
        unfinished,
    }
}

fn figures(background: &'static str, seen: &[(Outcome, WorkDone)]) -> Figures {
    let over_rounds = |of: &dyn Fn(&Outcome, &WorkDone) -> f64| {
        let seen = seen.iter().map(|(outcome, done)| of(outcome, done));
        median(seen.collect()).unwrap_or(f64::NAN)
    };
    let delivery = |of: fn(&LatencySummary) -> u64| {
        over_rounds(&|outcome, _| outcome.delivery.as_ref().map_or(f64::NAN, |l| of(l) as f64))
    };
    Figures {
        background,
        p50_us: delivery(|latency| latency.p50_us),
        p99_us: delivery(|latency| latency.p99_us),
        p999_us: delivery(|latency| latency.p999_us),
        ack_p99_us: over_rounds(&|outcome, _| {
            outcome
                .ack
                .as_ref()
                .map_or(f64::NAN, |ack| ack.p99_us as f64)
        }),
        server_cpu_percent: over_rounds(&|outcome, _| {
            outcome
                .cost
                .as_ref()
                .map_or(f64::NAN, |cost| cost.cpu_percent)
        }),
        server_waited_percent: over_rounds(&|outcome, _| {
            outcome.figures.get(WAITED).copied().unwrap_or(f64::NAN)
        }),
        background_cpu_percent: over_rounds(&|_, done| 100.0 * done.cpu_shares.iter().sum::<f64>()),
        memory_max: seen
            .iter()
            .filter_map(|(outcome, _)| Some(outcome.cost.as_ref()?.memory_max))
            .max()
            .unwrap_or(0),
        attempts: seen.iter().map(|(_, done)| done.attempts).sum(),
    }
}

fn show(report: &Report, json: bool) -> Result<Status, Failure> {
    if json {
        let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        console::put(&(text + "\n"))?;
    } else {
        console::put(&describe(report))?;
    }
    let unfinished = report.unfinished.as_ref();
    Ok(
        if unfinished.is_some_and(|outcome| outcome.lost.is_some()) {
            Status::Lost
        } else if unfinished.is_some() {
            Status::CutOff
        } else if report.faults == 0 {
            Status::Success
        } else {
            Status::Unclean
        },
    )
}

fn describe(report: &Report) -> String {
    let pinned = if report.pinned {
        ", server on one CPU, all else on another"
    } else {
        ""
    };
    let mut text = format!(
        "overload: {} healthy streams, {} further connections, {} rounds{pinned}; ms, medians\n\
         {:<12}{:>8}{:>8}{:>8}{:>9}{:>12}{:>12}{:>12}{:>10}{:>10}\n",
        report.streams,
        report.connections,
        report.rounds,
        "",
        "p50",
        "p99",
        "p99.9",
        "ack p99",
        "server CPU",
        "waited",
        "other CPU",
        "MiB max",
        "attempts",
    );
    for row in &report.figures {
        let ms = |us: f64| match us {
            us if us.is_nan() => "-".into(),
            us => format!("{:.2}", us / 1e3),
        };
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{:<12}{:>8}{:>8}{:>8}{:>9}{:>10.0} %{:>10.0} %{:>10.0} %{:>10.1}{:>10}",
            row.background,
            ms(row.p50_us),
            ms(row.p99_us),
            ms(row.p999_us),
            ms(row.ack_p99_us),
            row.server_cpu_percent,
            row.server_waited_percent,
            row.background_cpu_percent,
            row.memory_max as f64 / f64::from(1 << 20),
            row.attempts,
        );
    }
    let _ = writeln!(
        text,
        "p99 under attack: {:.2} x quiet, {:.2} x busy loops; {} faults",
        report.p99_attacked_by_quiet, report.p99_attacked_by_busy, report.faults
    );
    if let Some(note) = waited_note(report) {
        let _ = writeln!(text, "note: {note}");
    }
    if let Some(outcome) = &report.unfinished {
        text.push_str(&table::describe(outcome));
    }
    text
}

/// The note that other work used the server's CPU.
fn waited_note(report: &Report) -> Option<String> {
    let waited = report.figures.iter().map(|row| row.server_waited_percent);
    let waited = waited.fold(0.0, f64::max);
    (waited > WAITED_PERCENT).then(|| {
        format!(
            "the server waited for its CPU for {waited:.0} % of the time: the ratios show the other work \
             on this machine, not what the attack costs"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ending::{CutOff, Moment, Phase};

    fn report_of(waited: f64, unfinished: Option<Outcome>) -> Report {
        let row = |background: Background| Figures {
            background: background.name(),
            p50_us: 700.0,
            p99_us: f64::NAN,
            p999_us: 2_000.0,
            ack_p99_us: 900.0,
            server_cpu_percent: 90.0,
            server_waited_percent: waited,
            background_cpu_percent: 80.0,
            memory_max: 20 << 20,
            attempts: 5,
        };
        Report {
            streams: 100,
            connections: 1_000,
            rounds: 1,
            pinned: true,
            figures: ORDER.into_iter().map(row).collect(),
            p99_attacked_by_quiet: 1.2,
            p99_attacked_by_busy: 1.3,
            faults: 0,
            unfinished,
        }
    }

    #[test]
    fn a_note_is_printed_if_other_work_used_the_servers_cpu() {
        assert!(describe(&report_of(50.0, None)).contains("waited for its CPU for 50 %"));
        let calm = describe(&report_of(3.0, None));
        assert!(!calm.contains("note:") && !calm.contains("NaN"), "{calm}");
    }

    #[test]
    fn a_measurement_that_was_cut_off_is_shown_apart() {
        let moment = Moment {
            at_s: 1.5,
            window_at_s: Some(0.5),
            phase: Phase::Window,
        };
        let outcome = Outcome {
            scenario: "overload, attack".into(),
            cut_off: Some(CutOff {
                moment,
                unanswered: 0,
                in_flight: 3,
            }),
            ..Outcome::default()
        };
        let text = describe(&report_of(0.0, Some(outcome)));
        assert!(text.contains("overload, attack on"), "{text}");
        assert!(text.contains("CUT OFF"), "{text}");
    }
}
