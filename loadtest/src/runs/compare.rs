//! Runs a comparison: every case with every server of it, in interleaved rounds. Each measurement starts a
//! server of its own and stops it afterwards.
//!
//! Rounds are interleaved because a machine's speed changes within minutes: compared figures are measured
//! close together, and the order changes from round to round. Called by `main`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::cli::CompareArgs;
use crate::console;
use crate::engine::load::Load;
use crate::engine::machine::Machine;
use crate::engine::measurement;
use crate::engine::outcome::Outcome;
use crate::exit::{Failure, Status};
use crate::report::compare_page;
use crate::runs::single;
use crate::scenarios::cases::{Extent, cases};
use crate::scenarios::claims::missed as missed_claims;
use crate::scenarios::comparison::{Case, CaseResult, Comparison, Row};
use crate::servers::workspace;
use crate::servers::{self, ServerKind, ServerOptions};

/// Rounds of a slow server in a quick comparison: one that takes many times as long as the others to open its
/// streams.
const SLOW_ROUNDS_QUICK: usize = 1;

/// Runs the comparison of the command line, and writes and prints it.
pub fn run_and_show(args: &CompareArgs, interrupted: &Arc<AtomicBool>) -> Result<Status, Failure> {
    args.output.check().map_err(Failure::usage)?;
    single::check_program(args.server.as_deref())?;
    if let Some(path) = &args.charts {
        std::fs::create_dir_all(path)
            .map_err(|error| Failure::usage(format!("--charts {}: {error}", path.display())))?;
    }
    let (comparison, is_lost) = run(args, interrupted)?;
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    if let Some(path) = &args.output.report {
        std::fs::write(path, compare_page::page(&comparison))
            .map_err(|error| failed(path, error))?;
    }
    if let Some(path) = &args.charts {
        compare_page::write_charts(&comparison, path).map_err(|error| failed(path, error))?;
    }
    if args.output.json {
        let json = serde_json::to_string_pretty(&comparison);
        console::put(&(json.map_err(|error| error.to_string())? + "\n"))?;
    } else {
        console::put(&compare_page::markdown(&comparison))?;
    }
    if interrupted.load(Relaxed) {
        // Claims are not judged on incomplete rounds.
        return Ok(Status::CutOff);
    }
    let missed = missed_claims(&comparison);
    for claim in &missed {
        console::note(format!("missed: {}, bound {}", claim.text, claim.bound));
    }
    Ok(if is_lost {
        Status::Lost
    } else if missed.is_empty() {
        Status::Success
    } else {
        Status::ClaimMissed
    })
}

/// Also returns whether a server was lost.
fn run(args: &CompareArgs, interrupted: &Arc<AtomicBool>) -> Result<(Comparison, bool), Failure> {
    let mut notes = Vec::new();
    let servers = available(args, &mut notes)?;
    let mut cases = cases(&extent(args));
    if !args.only.is_empty() {
        let unknown = args
            .only
            .iter()
            .find(|key| !cases.iter().any(|case| case.key == **key));
        if let Some(key) = unknown {
            let keys: Vec<&str> = cases.iter().map(|case| case.key).collect();
            return Err(Failure::usage(format!(
                "--only {key}: no such case; the cases are {}",
                keys.join(", ")
            )));
        }
        cases.retain(|case| args.only.iter().any(|key| key == case.key));
    }
    for (_, load) in cases.iter().flat_map(|case| &case.entries) {
        single::check_room(load.streams).map_err(Failure::usage)?;
    }
    let own = servers
        .iter()
        .filter(|&&server| program(args, server).is_none());
    workspace::build(
        &own.filter_map(|&server| servers::package(server))
            .collect::<Vec<_>>(),
    )?;
    for case in &mut cases {
        case.entries.retain(|(server, _)| servers.contains(server));
    }
    if args.quick && servers.contains(&ServerKind::Pushpin) {
        notes.push(format!(
            "--quick: pushpin takes part in {SLOW_ROUNDS_QUICK} of the rounds"
        ));
    }
    let mut results: Vec<CaseResult> = cases.iter().map(empty_result).collect();
    let mut is_lost = false;
    'rounds: for round in 0..usize::from(args.rounds) {
        for (case, result) in cases.iter().zip(&mut results) {
            run_round(
                args,
                case,
                round,
                result,
                &mut notes,
                &mut is_lost,
                interrupted,
            );
            if interrupted.load(Relaxed) {
                notes.push(format!(
                    "cut off by a signal in round {} of {}, in {}: complete measurements up to then",
                    round + 1,
                    args.rounds,
                    case.key
                ));
                break 'rounds;
            }
        }
    }
    let comparison = Comparison {
        machine: Machine::this(),
        versions: servers
            .iter()
            .map(|&server| (server.name(), version(args, server)))
            .collect(),
        command: std::env::args()
            .skip(1)
            .fold("hookcast-load".into(), |all, arg| all + " " + &arg),
        cases: results,
        notes,
    };
    Ok((comparison, is_lost))
}

fn extent(args: &CompareArgs) -> Extent {
    let window = if args.quick {
        Duration::from_secs(3)
    } else {
        Duration::from_secs(10)
    };
    Extent {
        streams: args.streams,
        window: args.duration.unwrap_or(window),
        warmup: args.warmup,
        heartbeat: args.heartbeat,
        quick: args.quick,
    }
}

/// The chosen servers that can be started here, and a note for each that cannot.
fn available(args: &CompareArgs, notes: &mut Vec<String>) -> Result<Vec<ServerKind>, String> {
    let mut servers = Vec::new();
    for &server in &args.servers {
        match servers::missing(server) {
            None => servers.push(server),
            Some(missing) if args.require_peers => return Err(missing),
            Some(missing) => {
                console::note(&missing);
                notes.push(missing);
            }
        }
    }
    Ok(servers)
}

fn empty_result(case: &Case) -> CaseResult {
    let row = |entry: &(ServerKind, Load)| Row {
        server: entry.0.name(),
        rounds: BTreeMap::new(),
    };
    CaseResult {
        key: case.key,
        title: case.title.clone(),
        rows: case.entries.iter().map(row).collect(),
        metrics: case.metrics,
    }
}

fn run_round(
    args: &CompareArgs,
    case: &Case,
    round: usize,
    result: &mut CaseResult,
    notes: &mut Vec<String>,
    is_lost: &mut bool,
    interrupted: &Arc<AtomicBool>,
) {
    let count = case.entries.len();
    for turn in 0..count {
        let at = (turn + round) % count;
        let (server, load) = &case.entries[at];
        let slow = *server == ServerKind::Pushpin;
        if args.quick && slow && round >= SLOW_ROUNDS_QUICK {
            continue;
        }
        console::note(format!(
            "round {} of {}: {} on {}",
            round + 1,
            args.rounds,
            case.key,
            server.name()
        ));
        match measure(args, case, *server, load, interrupted) {
            Ok(outcome) if outcome.cut_off.is_some() => return,
            Ok(outcome) => {
                notes.extend(worth_a_note(case, *server, round, &outcome));
                // Figures of an incomplete window cannot be compared.
                if let Some(lost) = &outcome.lost {
                    console::note(format!("{} on {}: {lost}", case.key, server.name()));
                    *is_lost = true;
                } else {
                    result.rows[at].rounds.insert(round, outcome);
                }
            }
            Err(error) => {
                let note = format!("{} on {}: {error}", case.key, server.name());
                console::note(&note);
                notes.push(note);
            }
        }
        if interrupted.load(Relaxed) {
            return;
        }
    }
}

fn measure(
    args: &CompareArgs,
    case: &Case,
    server: ServerKind,
    load: &Load,
    interrupted: &Arc<AtomicBool>,
) -> Result<Outcome, String> {
    let options = ServerOptions {
        program: program(args, server),
        shards: if case.shards > 0 {
            case.shards
        } else {
            args.shards
        },
        heartbeat: case.heartbeat.unwrap_or(args.heartbeat),
        tls: case.tls,
        gzip: case.gzip,
        arguments: Vec::new(),
    };
    let mut process = servers::start(server, &options)?;
    let target = process.target.clone();
    let mut outcome = measurement::run(load, &target, interrupted).map_err(|error| error.0)?;
    single::find_out_about_loss(&mut outcome, Some(&mut process), &target);
    Ok(outcome)
}

fn program(args: &CompareArgs, server: ServerKind) -> Option<PathBuf> {
    args.server
        .clone()
        .filter(|_| server == ServerKind::Hookcast)
}

/// Notes on one measurement for readers of the medians.
fn worth_a_note(case: &Case, server: ServerKind, round: usize, outcome: &Outcome) -> Vec<String> {
    let place = format!("{} on {}, round {}", case.key, server.name(), round + 1);
    let notes = outcome.notes.iter().map(|note| format!("{place}: {note}"));
    let errors = outcome
        .errors
        .iter()
        .map(|(error, count)| format!("{place}: {count} x {error}"));
    let reopened = (outcome.reopened > 0)
        .then(|| format!("{place}: {} streams were opened again", outcome.reopened));
    let lost = outcome.lost.as_ref();
    let lost = lost.map(|lost| format!("{place}: left out, {lost}"));
    notes.chain(errors).chain(reopened).chain(lost).collect()
}

/// The version that the server prints.
fn version(args: &CompareArgs, server: ServerKind) -> String {
    if server == ServerKind::Floor {
        return concat!("built-in, ", env!("CARGO_PKG_VERSION")).into();
    }
    let program = program(args, server).unwrap_or_else(|| servers::usual_program(server));
    let flag = if server == ServerKind::Nchan {
        "-v"
    } else {
        "--version"
    };
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "unknown".into();
    };
    let said = if output.stdout.is_empty() {
        output.stderr
    } else {
        output.stdout
    };
    let said = String::from_utf8_lossy(&said);
    said.lines().next().unwrap_or("unknown").trim().to_owned()
}
