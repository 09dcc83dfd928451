//! The load tester of hookcast. `hookcast-load --help` documents its commands.
//!
//! Imports run downwards:
//!
//! - `runs`: the commands that measure.
//! - `report`: results for readers.
//! - `scenarios`: loads by name, and the cases, rounds and claims of a comparison.
//! - `servers`: starts and stops the measured servers.
//! - `engine`: one measurement.
//!
//! Beside them, for all: `exit` has the exit statuses, `console` writes stdout and stderr.

#![cfg_attr(
    not(test),
    deny(
        clippy::print_stdout,
        clippy::print_stderr,
        reason = "`console` survives a closed pipe"
    )
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "figures are shown with three digits; nothing here comes near 2^52"
)]

mod cli;
mod console;
mod engine;
mod exit;
mod report;
mod runs;
mod scenarios;
mod servers;
mod signals;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{Cli, Command, FloorArgs};
use crate::engine::reading;
use crate::exit::{Failure, Status};
use crate::runs::{cluster, compare, overload, single};
use crate::servers::floor::{self, FloorOptions};
use crate::servers::grip_backend;

fn main() -> ExitCode {
    let cli = Cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let interrupted = Arc::new(AtomicBool::new(false));
    let is_server = matches!(
        cli.command,
        Command::Floor(_) | Command::GripBackend(_) | Command::Streams | Command::ClusterStreams
    );
    if let Err(error) = signals::watch(&interrupted, !is_server) {
        console::note(format!("hookcast-load: no signal handler: {error}"));
    }
    let status = run(&cli.command, &interrupted).unwrap_or_else(|failure| {
        if !failure.text.is_empty() {
            console::note(format!("hookcast-load: {failure}"));
        }
        failure.status
    });
    if interrupted.load(Relaxed) && !is_server {
        return Status::CutOff.into();
    }
    status.into()
}

fn run(command: &Command, interrupted: &Arc<AtomicBool>) -> Result<Status, Failure> {
    if let Some((scenario, args)) = command.scenario() {
        return single::scenario(scenario, args, interrupted);
    }
    match command {
        Command::Watch(args) => single::watch(args, interrupted),
        Command::Streams => {
            raise_descriptor_limit();
            reading::serve()?;
            Ok(Status::Success)
        }
        Command::Ladder(args) => single::ladder(args, interrupted),
        Command::Overload(args) => overload::run(args, interrupted),
        Command::Compare(args) => compare::run_and_show(args, interrupted),
        Command::Cluster(args) => cluster::run_and_show(args, interrupted),
        Command::ClusterStreams => {
            raise_descriptor_limit();
            cluster::reading::serve()?;
            Ok(Status::Success)
        }
        Command::Floor(args) => {
            serve_floor(args, interrupted)?;
            Ok(Status::Success)
        }
        Command::GripBackend(args) => {
            let served = grip_backend::run(args.heartbeat);
            served.map_err(|error| format!("backend: {error}"))?;
            Ok(Status::Success)
        }
        // All other commands are scenarios.
        _ => Ok(Status::Success),
    }
}

fn serve_floor(args: &FloorArgs, stop: &Arc<AtomicBool>) -> Result<(), String> {
    raise_descriptor_limit();
    let heartbeat = Some(args.heartbeat).filter(|interval| !interval.is_zero());
    let options = FloorOptions {
        listen: args.listen,
        heartbeat,
    };
    floor::run(&options, stop).map_err(|error| format!("floor on {}: {error}", args.listen))
}

/// Raises the soft limit of open descriptors to the hard one; returns the limit then.
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
