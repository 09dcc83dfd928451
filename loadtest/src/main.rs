//! The load tester of hookcast. `hookcast-load --help` documents its commands.
//!
//! Imports run downwards:
//!
//! - `runs`: the commands that measure.
//! - `report`: results for readers.
//! - `scenarios`: loads by name, and the cases, rounds and claims of a comparison.
//! - `servers`: starts and stops the measured servers.
//! - `engine`: one measurement.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "figures are shown with three digits; nothing here comes near 2^52"
)]

mod cli;
mod engine;
mod report;
mod runs;
mod scenarios;
mod servers;
mod signals;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{Cli, Command, FloorArgs};
use crate::engine::reading;
use crate::runs::{cluster, compare, overload, single};
use crate::servers::floor::{self, FloorOptions};
use crate::servers::grip_backend;

/// Exit code when a run could not be made.
const EXIT_FAILED: u8 = 1;

/// Exit code of a wrong command line, as `clap` has it.
const EXIT_WRONG: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let interrupted = Arc::new(AtomicBool::new(false));
    let is_server = matches!(
        cli.command,
        Command::Floor(_) | Command::GripBackend(_) | Command::Streams | Command::ClusterStreams
    );
    if let Err(error) = signals::watch(&interrupted, !is_server) {
        eprintln!("hookcast-load: no signal handler: {error}");
    }
    let result = run(&cli.command, &interrupted);
    if let Err(error) = &result {
        eprintln!("hookcast-load: {error}");
    }
    if interrupted.load(Relaxed) && !is_server {
        return ExitCode::from(signals::EXIT_CUT_OFF);
    }
    result.unwrap_or_else(|error| ExitCode::from(error.code))
}

/// A command that ends without a result.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    /// A wrong combination of flags.
    fn wrong(text: impl Into<String>) -> Failure {
        Failure {
            text: text.into(),
            code: EXIT_WRONG,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure {
            text,
            code: EXIT_FAILED,
        }
    }
}

fn run(command: &Command, interrupted: &Arc<AtomicBool>) -> Result<ExitCode, Failure> {
    if let Some((scenario, args)) = command.scenario() {
        return single::scenario(scenario, args, interrupted);
    }
    match command {
        Command::Watch(args) => single::watch(args, interrupted),
        Command::Streams => {
            raise_descriptor_limit();
            Ok(reading::serve().map(|()| ExitCode::SUCCESS)?)
        }
        Command::Ladder(args) => single::ladder(args, interrupted),
        Command::Overload(args) => Ok(overload::run(args, interrupted)?),
        Command::Compare(args) => Ok(compare::run_and_show(args, interrupted)?),
        Command::Cluster(args) => Ok(cluster::run_and_show(args, interrupted)?),
        Command::ClusterStreams => {
            raise_descriptor_limit();
            Ok(cluster::reading::serve()?)
        }
        Command::Floor(args) => Ok(serve_floor(args, interrupted)?),
        Command::GripBackend(args) => Ok(grip_backend::run(args.heartbeat)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| format!("backend: {error}"))?),
        // All other commands are scenarios.
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
