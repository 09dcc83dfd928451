//! The measuring tool of hookcast. `hookcast-load --help` says what it does.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "figures are shown with three digits; nothing here comes near 2^52"
)]

mod check;
mod cli;
mod clock;
mod control;
mod floor;
mod latency;
mod load;
mod outcome;
mod payload;
mod poll;
mod proc_stats;
mod progress;
mod publisher;
mod scanner;
mod scenarios;
mod schedule;
mod server_process;
mod streams;
mod table;
mod target;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::{Cli, Command, FloorArgs, RunArgs};
use crate::floor::FloorOptions;
use crate::scenarios::Scenario;
use crate::server_process::{ServerKind, ServerOptions, ServerProcess};
use crate::target::Target;

/// Descriptors for anything but streams: standard streams, epolls, publishers, `/proc` files.
const DESCRIPTORS_RESERVED: usize = 200;

/// Exit code when a stream did not get what it was to get: 1 is for runs that could not be made.
const EXIT_UNCLEAN: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends the process the hard way.
        let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&interrupted));
        let _ = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    }
    let result = match (&cli.command, cli.command.scenario()) {
        (Command::Floor(args), _) => serve_floor(args, &interrupted),
        (_, Some((scenario, args))) => run_scenario(scenario, args, &interrupted),
        (_, None) => Ok(ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("hookcast-load: {error}");
        ExitCode::FAILURE
    })
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

fn run_scenario(
    scenario: Scenario,
    args: &RunArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<ExitCode, String> {
    let limit = raise_descriptor_limit();
    let load = scenario.load(&args.sizes());
    let room = limit.saturating_sub(DESCRIPTORS_RESERVED);
    if load.streams > room {
        return Err(format!(
            "{} streams do not fit: this process may open {limit} descriptors, which leaves {room} \
             for streams (raise the hard limit: ulimit -Hn)",
            load.streams
        ));
    }
    let server = start(args)?;
    let target = match &server {
        Some(server) => server.target.clone(),
        None => remote(args)?,
    };
    if load.sessions > 0 && !target.has_sessions() {
        return Err(format!("{} has no sessions to target", target.name));
    }
    let outcome = load::run(&load, &target, interrupted).map_err(|error| error.0)?;
    drop(server);
    if args.json {
        let json = serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?;
        println!("{json}");
    } else {
        print!("{}", table::describe(&outcome));
    }
    Ok(if outcome.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_UNCLEAN)
    })
}

fn start(args: &RunArgs) -> Result<Option<ServerProcess>, String> {
    if args.url.is_some() {
        return Ok(None);
    }
    let options = ServerOptions {
        program: args.server.clone(),
        shards: args.shards,
        heartbeat: args.heartbeat,
        arguments: args.server_arg.clone(),
    };
    match args.target {
        ServerKind::Hookcast => server_process::start_hookcast(&options),
        ServerKind::Floor => server_process::start_floor(&options),
        other => Err(format!("{} cannot be started yet", other.name())),
    }
    .map(Some)
}

fn remote(args: &RunArgs) -> Result<Target, String> {
    let url = args.url.as_deref().unwrap_or_default();
    let mut target = Target::parse(url, args.i_own_this_host)?;
    target.secret.clone_from(&args.secret);
    target.pids = args.pid.map(proc_stats::family).unwrap_or_default();
    Ok(target)
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
