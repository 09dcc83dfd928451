//! Which options of `cluster` cannot be met, and why.

use std::time::Duration;

use crate::cli::ClusterArgs;
use crate::exit::Failure;
use crate::runs::single::{check_program, check_room};
use crate::servers::cluster::redis;

/// The shortest life of a token.
const TOKEN_LIFE_MIN: Duration = Duration::from_secs(1);

/// Refuses a cluster that cannot be, before anything is started.
pub fn check(args: &ClusterArgs) -> Result<(), Failure> {
    check_program(args.server.as_deref())?;
    if args.no_bus && args.nodes > 1 {
        return Err(Failure::usage(
            "--no-bus is for one node: without a bus, nodes have no common order",
        ));
    }
    let faults = args.faults.iter().flat_map(|plan| &plan.faults);
    if let Some(fault) = faults
        .into_iter()
        .find(|fault| args.no_bus && fault.needs_engine())
    {
        return Err(Failure::usage(format!(
            "{fault} needs an engine, and --no-bus has none"
        )));
    }
    check_room(args.streams.min(args.streams_per_process)).map_err(|error| {
        Failure::usage(error + "; --streams-per-process spreads them over several")
    })?;
    check_views(args)?;
    if let Some(far) = args.node.iter().find(|node| !node.ip().is_loopback()) {
        return Err(Failure::usage(format!("--node {far} is not this machine")));
    }
    if !args.no_bus && args.node.is_empty() && !redis::is_installed() {
        return Err(redis::MISSING.to_owned().into());
    }
    Ok(())
}

/// Refuses views that no stream can have, and tokens that end before a stream is open.
fn check_views(args: &ClusterArgs) -> Result<(), Failure> {
    let (sessions, each) = (args.sessions, args.sessions_per_stream);
    if let (Some(sessions), Some(each)) = (sessions, each)
        && each > sessions
    {
        return Err(Failure::usage(format!(
            "--sessions-per-stream {each}: there are only --sessions {sessions}"
        )));
    }
    let nodes = match args.node.len() {
        0 => args.nodes as usize,
        given => given,
    };
    // Each node has streams of every view, so that a message of a session has readers.
    let sessions_max = args.streams / nodes;
    if let Some(sessions) = sessions.filter(|&sessions| sessions as usize > sessions_max) {
        return Err(Failure::usage(format!(
            "--sessions {sessions}: with {} streams on {nodes} nodes at most {sessions_max} have a stream on each",
            args.streams
        )));
    }
    match args.token_life {
        Some(life) if life < TOKEN_LIFE_MIN => Err(Failure::usage(
            "--token-life: at least 1s, so that a stream opens before its token ends",
        )),
        _ => Ok(()),
    }
}
