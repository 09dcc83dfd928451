//! The overload scenario: what floods, slow uploads and readers that read nothing do to streams that
//! behave.
//!
//! Called by `main`. Each round measures the same fan-out on a fresh server three times: quiet, under
//! attack, and beside busy loops that take as much CPU as the attackers just did but leave the server
//! alone. What the attack adds to the busy loops is the server's own doing; what those add to the
//! quiet is the machine's, on which attackers, clients and server share the CPUs.

use std::fmt::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::attack::{Crowd, Deeds};
use crate::cli::OverloadArgs;
use crate::comparison::median;
use crate::control::Control;
use crate::latency::LatencySummary;
use crate::load::{Load, Rate};
use crate::measurement;
use crate::outcome::Outcome;
use crate::proc_stats;
use crate::scenarios::{REPLAYED, Scenario, Sizes};
use crate::server_process::ServerProcess;
use crate::servers::{self, ServerKind, ServerOptions};
use crate::signals::EXIT_CUT_OFF;
use crate::single::{EXIT_LOST, EXIT_UNCLEAN, check_room, find_out_about_loss};
use crate::table;
use crate::workspace;

/// Priority (sched(7)) of the threads that publish and that read the streams: those who behave are
/// elsewhere, and their latency is not to show that this machine is full of attackers.
const FIFO_PRIORITY: &str = "1";

/// How long attackers have to connect where they come first. Some thousand connections take less.
const ARRIVAL: Duration = Duration::from_secs(2);

/// What goes on beside the healthy streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Attackers,
    BusyLoops,
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Beside::Nothing => "quiet",
            Beside::Attackers => "attack",
            Beside::BusyLoops => "busy loops",
        }
    }
}

/// Share of the time that the server waits for a CPU beyond which a ratio says more about other work
/// on that CPU than about the server. A quiet machine showed 3 % under attack, compilers beside it 19 to 90 %.
const WAITED_PERCENT: f64 = 8.0;

/// The figure of how long the server was ready to run and had no CPU, in percent of the time.
const WAITED: &str = "server waited for a CPU (%)";

const ORDER: [Beside; 3] = [Beside::Nothing, Beside::Attackers, Beside::BusyLoops];

/// What came of one of the three, as medians over the rounds.
#[derive(Debug, Serialize)]
struct Figures {
    beside: &'static str,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    ack_p99_us: f64,
    server_cpu_percent: f64,
    server_waited_percent: f64,
    beside_cpu_percent: f64,
    memory_max: u64,
    blows: u64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    streams: usize,
    connections: usize,
    /// Those of which something was measured.
    rounds: usize,
    pinned: bool,
    figures: Vec<Figures>,
    p99_attacked_by_quiet: f64,
    p99_attacked_by_busy: f64,
    faults: u64,
    /// The measurement that a signal or the server's end has cut short; in no other figure.
    unfinished: Option<Outcome>,
}

/// Runs all rounds and shows what came of them.
pub fn run(args: &OverloadArgs, interrupted: &Arc<AtomicBool>) -> Result<ExitCode, String> {
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
    check_room(&Load {
        streams: load.streams + args.connections * 2,
        ..load.clone()
    })?;
    if args.server.is_none() {
        workspace::build(&Vec::from_iter(servers::package(ServerKind::Hookcast)))?;
    }
    let mut seen: [Vec<(Outcome, Deeds)>; 3] = Default::default();
    let unfinished = run_rounds(&load, args, &mut seen, interrupted)?;
    show(&report(args, &seen, unfinished), args.json)
}

/// Returns the measurement that was cut off or lost its server, if one was.
fn run_rounds(
    load: &Load,
    args: &OverloadArgs,
    seen: &mut [Vec<(Outcome, Deeds)>; 3],
    interrupted: &Arc<AtomicBool>,
) -> Result<Option<Outcome>, String> {
    for _ in 0..args.rounds {
        let mut deeds = Deeds::default();
        for (beside, seen) in ORDER.into_iter().zip(seen.iter_mut()) {
            let (mut outcome, done) = measure(load, args, beside, &deeds, interrupted)?;
            if beside == Beside::Attackers {
                deeds = done.clone();
            }
            if !outcome.is_whole() {
                outcome.scenario = format!("overload, {}", beside.name());
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
    beside: Beside,
    attackers: &Deeds,
    interrupted: &Arc<AtomicBool>,
) -> Result<(Outcome, Deeds), String> {
    let mut server = start(args)?;
    let target = server.target.clone();
    let bring = || match beside {
        Beside::Nothing => None,
        Beside::Attackers => Some(Crowd::attack(
            target.streams,
            &args.attacks,
            args.connections,
        )),
        Beside::BusyLoops => Some(Crowd::busy(&attackers.cpu_shares)),
    };
    let mut crowd = None;
    if args.attack_first {
        crowd = bring();
        thread::sleep(ARRIVAL);
    }
    let mut is_first = true;
    let mut bring_crowd = |control: &Control| {
        // Both run by now (`run_with`).
        for tid in [&control.streams_tid, &control.publisher_tid] {
            is_first &= put_first(tid.load(Relaxed));
        }
        if !args.attack_first {
            crowd = bring();
        }
    };
    let began = Instant::now();
    let outcome = measurement::run_with(load, &target, interrupted, &mut bring_crowd);
    let waited_ns = proc_stats::waiting_ns(&target.pids) as f64;
    let waited = waited_ns / began.elapsed().as_nanos() as f64;
    let deeds = crowd.map(Crowd::stop).unwrap_or_default();
    let mut outcome = outcome.map_err(|error| error.0)?;
    find_out_about_loss(&mut outcome, Some(&mut server), &target);
    outcome.figures.insert(WAITED.into(), 100.0 * waited);
    if !is_first {
        eprintln!(
            "no real-time priority here (chrt, CAP_SYS_NICE): latencies include waits of the load's own threads for a CPU"
        );
    }
    Ok((outcome, deeds))
}

/// Lets a thread run whenever it is ready; returns whether that was allowed.
fn put_first(tid: i32) -> bool {
    let chrt = Command::new("chrt")
        .args(["--fifo", "--pid", FIFO_PRIORITY, &tid.to_string()])
        .stderr(Stdio::null())
        .status();
    chrt.is_ok_and(|status| status.success())
}

/// With `--pin`, the server has the first CPU and everybody else the second.
fn start(args: &OverloadArgs) -> Result<ServerProcess, String> {
    // One for the publisher.
    let mut connections = args.streams + 1 + args.connections;
    if args.attack_first {
        // They hold half as many more, and are not to take the places of the streams.
        connections += args.connections;
    }
    let mut arguments = vec!["--max-connections".into(), connections.to_string()];
    arguments.extend(args.server_arg.iter().cloned());
    let options = ServerOptions {
        program: args.server.clone(),
        shards: args.shards,
        heartbeat: args.heartbeat,
        tls: false,
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

/// Threads and processes inherit it.
fn pin_to(cpu: usize) -> Result<(), String> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).map_err(|error| format!("cannot pin to CPU {cpu}: {error}"))
}

fn report(
    args: &OverloadArgs,
    seen: &[Vec<(Outcome, Deeds)>; 3],
    unfinished: Option<Outcome>,
) -> Report {
    let figures: Vec<Figures> = ORDER
        .into_iter()
        .zip(seen)
        .map(|(beside, seen)| figures(beside.name(), seen))
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

fn figures(beside: &'static str, seen: &[(Outcome, Deeds)]) -> Figures {
    let over_rounds = |of: &dyn Fn(&Outcome, &Deeds) -> f64| {
        let seen = seen.iter().map(|(outcome, deeds)| of(outcome, deeds));
        median(seen.collect()).unwrap_or(f64::NAN)
    };
    let delivery = |of: fn(&LatencySummary) -> u64| {
        over_rounds(&|outcome, _| outcome.delivery.as_ref().map_or(f64::NAN, |l| of(l) as f64))
    };
    Figures {
        beside,
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
        beside_cpu_percent: over_rounds(&|_, deeds| 100.0 * deeds.cpu_shares.iter().sum::<f64>()),
        memory_max: seen
            .iter()
            .filter_map(|(outcome, _)| Some(outcome.cost.as_ref()?.memory_max))
            .max()
            .unwrap_or(0),
        blows: seen.iter().map(|(_, deeds)| deeds.blows).sum(),
    }
}

fn show(report: &Report, json: bool) -> Result<ExitCode, String> {
    if json {
        let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        print!("{}", describe(report));
    }
    let unfinished = report.unfinished.as_ref();
    Ok(
        if unfinished.is_some_and(|outcome| outcome.lost.is_some()) {
            ExitCode::from(EXIT_LOST)
        } else if unfinished.is_some() {
            ExitCode::from(EXIT_CUT_OFF)
        } else if report.faults == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_UNCLEAN)
        },
    )
}

fn describe(report: &Report) -> String {
    let pinned = if report.pinned {
        ", server and the rest each on a CPU of its own"
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
        "beside CPU",
        "MiB max",
        "blows",
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
            row.beside,
            ms(row.p50_us),
            ms(row.p99_us),
            ms(row.p999_us),
            ms(row.ack_p99_us),
            row.server_cpu_percent,
            row.server_waited_percent,
            row.beside_cpu_percent,
            row.memory_max as f64 / f64::from(1 << 20),
            row.blows,
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

/// Says so when other work had the server's CPU.
fn waited_note(report: &Report) -> Option<String> {
    let waited = report.figures.iter().map(|row| row.server_waited_percent);
    let waited = waited.fold(0.0, f64::max);
    (waited > WAITED_PERCENT).then(|| {
        format!(
            "the server waited for its CPU for {waited:.0} % of the time: the ratios show what else \
             runs on this machine, not what the attack does to the server"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::{CutOff, Moment, Phase};

    fn report_of(waited: f64, unfinished: Option<Outcome>) -> Report {
        let row = |beside: Beside| Figures {
            beside: beside.name(),
            p50_us: 700.0,
            p99_us: f64::NAN,
            p999_us: 2_000.0,
            ack_p99_us: 900.0,
            server_cpu_percent: 90.0,
            server_waited_percent: waited,
            beside_cpu_percent: 80.0,
            memory_max: 20 << 20,
            blows: 5,
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
    fn a_shared_cpu_is_said_to_make_the_ratios() {
        assert!(describe(&report_of(50.0, None)).contains("waited for its CPU for 50 %"));
        let calm = describe(&report_of(3.0, None));
        assert!(!calm.contains("note:") && !calm.contains("NaN"), "{calm}");
    }

    #[test]
    fn a_measurement_that_was_cut_off_is_shown_by_itself() {
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
