//! The measuring tool of hookcast. `hookcast-load --help` says what it does.
//!
//! How it hangs together, from the bottom up: `payload`, `scanner` with its `history`, `check`, `schedule`, `latency`
//! know no I/O. `streams` reads, `publisher` writes, `load` runs both against a `target` and makes
//! an `outcome` of it. `scenarios` are loads with names; `server_process` and `servers` start what
//! is measured. `single` runs one scenario, `compare` runs `cases` in rounds and makes a
//! `comparison`; `run_report` and `compare_report` show them. `overload` runs a load while `attack`
//! goes on.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "figures are shown with three digits; nothing here comes near 2^52"
)]

mod attack;
mod cases;
mod chart;
mod check;
mod claims;
mod cli;
mod clock;
mod compare;
mod compare_report;
mod comparison;
mod control;
mod floor;
mod grip_backend;
mod history;
mod latency;
mod load;
mod machine;
mod metrics;
mod outcome;
mod overload;
mod page;
mod payload;
mod poll;
mod polls;
mod proc_stats;
mod progress;
mod publisher;
mod replay;
mod run_report;
mod scanner;
mod scenarios;
mod schedule;
mod server_process;
mod servers;
mod single;
mod streams;
mod table;
mod target;
mod tls;
mod workspace;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{Cli, Command, FloorArgs};
use crate::floor::FloorOptions;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // Registered in this order, a second signal ends the process the hard way.
        let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted));
        let _ = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    }
    run(&cli.command, &interrupted).unwrap_or_else(|error| {
        eprintln!("hookcast-load: {error}");
        ExitCode::FAILURE
    })
}

fn run(command: &Command, interrupted: &Arc<AtomicBool>) -> Result<ExitCode, String> {
    if let Some((scenario, args)) = command.scenario() {
        return single::scenario(scenario, args, interrupted);
    }
    match command {
        Command::Ladder(args) => single::ladder(args, interrupted),
        Command::Overload(args) => overload::run(args, interrupted),
        Command::Compare(args) => compare::run_and_show(args, interrupted),
        Command::Floor(args) => serve_floor(args, interrupted),
        Command::GripBackend(args) => grip_backend::run(args.heartbeat)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| format!("backend: {error}")),
        // All others are scenarios.
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn serve_floor(args: &FloorArgs, stop: &Arc<AtomicBool>) -> Result<ExitCode, String> {
    raise_descriptor_limit();
    let heartbeat = Some(args.heartbeat).filter(|interval| !interval.is_zero());
    let options = FloorOptions {
        listen: args.listen,
        heartbeat,
    };
    floor::run(&options, stop).map_err(|error| format!("floor on {}: {error}", args.listen))?;
    Ok(ExitCode::SUCCESS)
}

/// Raises the soft limit of open descriptors to the hard one; returns what holds then.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    );
    let current = getrlimit(Resource::Nofile).current;
    current.map_or(usize::MAX, |current| {
        usize::try_from(current).unwrap_or(usize::MAX)
    })
}
