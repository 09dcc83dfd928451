//! Runs one scenario against one server, started for it or already running, and prints the result.
//!
//! Called by `main`. Each measurement of a scenario has a fresh server, so that none is affected by an earlier
//! one.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::cli::{LadderArgs, RunArgs, WatchArgs};
use crate::console;
use crate::engine::clock;
use crate::engine::load::{Load, Rate};
use crate::engine::measurement::{self, Setup};
use crate::engine::observed::Fields;
use crate::engine::outcome::{Outcome, Sample};
use crate::engine::proc_stats;
use crate::engine::target::Target;
use crate::exit::{Failure, Status};
use crate::report::run_page;
use crate::report::table;
use crate::runs::{prior_use, readers, remote};
use crate::scenarios::{Scenario, thresholds};
use crate::servers::process::{ServerProcess, directory};
use crate::servers::workspace;
use crate::servers::{self, ServerKind, ServerOptions};

/// Descriptors other than streams: standard streams, epolls, publishers, `/proc` files.
const DESCRIPTORS_RESERVED: usize = 200;

/// Lines of a lost server's stderr in the output.
const LAST_LINES: usize = 3;

/// Time in which a lost server that was not started here may take connections again.
const RETURN_PATIENCE: Duration = Duration::from_secs(2);

/// Runs a scenario.
pub fn scenario(
    scenario: Scenario,
    args: &RunArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<Status, Failure> {
    check_sessions(scenario, args)?;
    let load = scenario.load(&args.sizes());
    let mut loads = vec![load.clone()];
    if scenario == Scenario::Stalled {
        // The reference for the healthy readers: the same load without stalled ones.
        loads.insert(
            0,
            Load {
                stalled: 0,
                scenario: "healthy".into(),
                ..load
            },
        );
    }
    let mut outcomes = measure(&loads, args, interrupted)?;
    match scenario {
        Scenario::Stalled => add_stalled_figures(&mut outcomes),
        Scenario::Soak => outcomes.iter_mut().for_each(add_soak_figures),
        _ => {}
    }
    show(&mut outcomes, args)
}

/// Refuses sessions that a scenario has not, and a number of them that its streams cannot share.
fn check_sessions(scenario: Scenario, args: &RunArgs) -> Result<(), Failure> {
    if args.sessions == Some(0) {
        return Err(Failure::usage(
            "--sessions 0: no message would have a stream",
        ));
    }
    let sizes = args.sizes();
    if args.sessions.is_some() && !scenario.has_sessions(&sizes) {
        return Err(Failure::usage(if scenario == Scenario::Idle {
            "--sessions: streams of idle have sessions only with --sessions-per-stream".to_owned()
        } else {
            format!(
                "--sessions: messages of {} are for everyone; targeted and cluster have sessions",
                scenario.name()
            )
        }));
    }
    let Some(each) = args.sessions_per_stream else {
        return Ok(());
    };
    if !scenario.has_sessions(&sizes) {
        return Err(Failure::usage(format!(
            "--sessions-per-stream: {} has no sessions; targeted and idle have",
            scenario.name()
        )));
    }
    let sessions = scenario.load(&sizes).sessions;
    if !sessions.is_multiple_of(each) {
        return Err(Failure::usage(format!(
            "--sessions {sessions}: not a multiple of --sessions-per-stream {each}"
        )));
    }
    Ok(())
}

/// Runs fan-outs at rising rates.
pub fn ladder(args: &LadderArgs, interrupted: &Arc<AtomicBool>) -> Result<Status, Failure> {
    let sizes = |rate: &f64| crate::scenarios::Sizes {
        rate: Some(*rate),
        ..args.run.sizes()
    };
    let loads: Vec<Load> = args
        .rates
        .iter()
        .map(|rate| Scenario::Fanout.load(&sizes(rate)))
        .collect();
    let mut outcomes = measure(&loads, &args.run, interrupted)?;
    show(&mut outcomes, &args.run)
}

/// Reads what others publish.
pub fn watch(args: &WatchArgs, interrupted: &Arc<AtomicBool>) -> Result<Status, Failure> {
    let load = Scenario::Watch.load(&args.run.sizes());
    let fields = Fields {
        time: args.time_in.clone(),
        id: args.id_in.clone(),
        number: args.number_in.clone(),
        clock_offset_ns: clock::unix_offset_ns(),
    };
    if !args.run.remote.is_running() {
        return Err(Failure::usage(
            "name the server to watch by --url or --stream-url",
        ));
    }
    let mut outcomes = measure_with(&[load], &args.run, Some(&fields), interrupted)?;
    for outcome in &mut outcomes {
        add_observed_notes(outcome, &fields);
    }
    show(&mut outcomes, &args.run)
}

fn measure(
    loads: &[Load],
    args: &RunArgs,
    interrupted: &Arc<AtomicBool>,
) -> Result<Vec<Outcome>, Failure> {
    measure_with(loads, args, None, interrupted)
}

/// Measures loads, each on a fresh server or on those that run already.
fn measure_with(
    loads: &[Load],
    args: &RunArgs,
    observed: Option<&Fields>,
    interrupted: &Arc<AtomicBool>,
) -> Result<Vec<Outcome>, Failure> {
    args.output.check().map_err(Failure::usage)?;
    check_program(args.server.as_deref())?;
    let mut running = if args.remote.is_running() {
        let is_idle = loads.iter().all(|load| matches!(load.rate, Rate::Idle));
        remote::targets(&args.remote, observed.is_none() && !is_idle)?
    } else {
        Vec::new()
    };
    for target in &mut running {
        target.gzip = args.gzip;
    }
    for load in loads {
        check_routes(load, &running)?;
    }
    let processes = processes(loads, args, running.len())?;
    if !running.is_empty() {
        prior_use::agree(&running, loads, args)?;
    } else if args.server.is_none() {
        let package = servers::package(args.target);
        workspace::build(&package.into_iter().collect::<Vec<_>>())?;
    }
    let files = directory()?;
    let log = files.path().join("readers.log");
    let mut outcomes = Vec::new();
    for load in loads {
        let mut server = match running.first() {
            Some(_) => None,
            None => Some(start(args)?),
        };
        let started = server.as_ref().map(|server| server.target.clone());
        let targets = started.map_or_else(|| running.clone(), |target| vec![target]);
        check_routes(load, &targets)?;
        let setup = Setup {
            targets: &targets,
            processes,
            spawn: &|| readers::start(&log),
            observed: observed.cloned(),
        };
        let mut outcome =
            measurement::run_on(load, &setup, interrupted).map_err(|error| error.0)?;
        find_out_about_loss(&mut outcome, server.as_mut(), &targets[0]);
        let is_whole = outcome.is_whole();
        outcomes.push(outcome);
        if !is_whole || interrupted.load(Relaxed) {
            break;
        }
    }
    Ok(outcomes)
}

/// Refuses a load whose sessions have no place in the requests of a server.
fn check_routes(load: &Load, targets: &[Target]) -> Result<(), Failure> {
    if load.sessions == 0 {
        return Ok(());
    }
    if let Some(target) = targets.iter().find(|target| !target.has_sessions()) {
        return Err(Failure::usage(format!(
            "{} has no sessions to target: put {{session}} into --stream-url, and into --publish-url \
             or --publish-body",
            target.name
        )));
    }
    if load.sessions_per_stream > 1 && !targets.iter().all(Target::repeats_session) {
        return Err(Failure::usage(
            "--sessions-per-stream: put {session} into the query of --stream-url",
        ));
    }
    Ok(())
}

/// The number of reading processes; an error if the loads need more, or something else.
fn processes(loads: &[Load], args: &RunArgs, servers: usize) -> Result<usize, Failure> {
    let processes = args.processes.unwrap_or(servers).max(1);
    if processes < servers {
        return Err(Failure::usage(format!(
            "--processes {processes}: {servers} servers need at least {servers}, one for each"
        )));
    }
    if processes > 1 && args.tls {
        return Err(Failure::usage(
            "--processes: only one process can read streams over TLS",
        ));
    }
    for load in loads {
        let is_closed = matches!(load.rate, Rate::Closed(_)) || load.published_before > 0;
        if servers > 1 && is_closed {
            let text = format!(
                "{} publishes as it is answered, so it loads one server only: leave out the others",
                load.scenario
            );
            return Err(Failure::usage(text));
        }
        if load.streams > 0 && load.streams < processes {
            return Err(Failure::usage(format!(
                "--streams {}: {processes} processes need at least one stream each",
                load.streams
            )));
        }
        let hint = "; --processes spreads them over several";
        check_room(load.streams.div_ceil(processes))
            .map_err(|error| Failure::usage(error + hint))?;
    }
    Ok(processes)
}

/// Adds the state of a lost server's process.
pub fn find_out_about_loss(
    outcome: &mut Outcome,
    server: Option<&mut ServerProcess>,
    target: &Target,
) {
    let Some(lost) = &mut outcome.lost else {
        return;
    };
    lost.process = Some(match server {
        Some(server) => {
            let exit = server.exit();
            lost.last_lines = server.last_lines(LAST_LINES);
            exit.map_or("its process still runs".into(), |status| {
                format!("its process ended with {status}")
            })
        }
        None => {
            let process = match target.pids.first() {
                Some(&pid) if proc_stats::is_running(pid) => {
                    format!("process {pid} still runs; ")
                }
                Some(pid) => format!("process {pid} is gone; "),
                None => String::new(),
            };
            process + &describe_return(target.publish.address)
        }
    });
}

/// Whether a lost server takes connections again: then it was restarted.
fn describe_return(address: SocketAddr) -> String {
    let began = Instant::now();
    loop {
        match TcpStream::connect_timeout(&address, RETURN_PATIENCE) {
            Ok(_) if began.elapsed().as_millis() < 10 => return "it takes connections".into(),
            Ok(_) => {
                let after_s = began.elapsed().as_secs_f64();
                return format!("it takes connections again, {after_s:.1} s after the run");
            }
            Err(_) if began.elapsed() < RETURN_PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return format!("no connection after the run: {error}"),
        }
    }
}

/// Fails at once if `--server` names no program.
pub fn check_program(server: Option<&Path>) -> Result<(), Failure> {
    match server {
        // A name alone is looked for in $PATH.
        Some(path) if path.components().count() > 1 && !path.is_file() => Err(Failure::usage(
            format!("--server {}: there is no such file", path.display()),
        )),
        _ => Ok(()),
    }
}

/// Fails at once if there are too few descriptors for the streams.
pub fn check_room(streams: usize) -> Result<(), String> {
    let limit = crate::raise_descriptor_limit();
    let room = limit.saturating_sub(DESCRIPTORS_RESERVED);
    if streams <= room {
        return Ok(());
    }
    Err(format!(
        "{streams} streams do not fit: a process may open {limit} descriptors (ulimit -Hn), which leaves \
         {room} for streams"
    ))
}

fn start(args: &RunArgs) -> Result<ServerProcess, Failure> {
    for (flag, is_set) in [("--tls", args.tls), ("--gzip", args.gzip)] {
        if is_set && args.target != ServerKind::Hookcast {
            return Err(Failure::usage(format!(
                "{flag} is for hookcast, not for {}",
                args.target.name()
            )));
        }
    }
    if let Some(missing) = servers::missing(args.target) {
        return Err(missing.into());
    }
    let options = ServerOptions {
        program: args.server.clone(),
        shards: args.shards,
        heartbeat: args.heartbeat,
        tls: args.tls,
        gzip: args.gzip,
        arguments: args.server_arg.clone(),
    };
    let mut server = servers::start(args.target, &options)?;
    if let Some(path) = &args.remote.token_file {
        remote::add_token(&mut server.target.protocol, path).map_err(Failure::usage)?;
    }
    Ok(server)
}

fn show(outcomes: &mut [Outcome], args: &RunArgs) -> Result<Status, Failure> {
    let (output, fail_if) = (&args.output, &args.fail_if);
    for outcome in outcomes.iter_mut() {
        thresholds::judge(outcome, fail_if);
    }
    let outcomes = &*outcomes;
    if let Some(path) = &output.report {
        let page = run_page::page(outcomes);
        std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if output.json {
        let json = match outcomes {
            [outcome] => serde_json::to_string_pretty(outcome),
            several => serde_json::to_string_pretty(several),
        };
        console::put(&(json.map_err(|error| error.to_string())? + "\n"))?;
    } else {
        for outcome in outcomes {
            console::put(&table::describe(outcome))?;
        }
    }
    Ok(if outcomes.iter().any(|outcome| outcome.lost.is_some()) {
        Status::Lost
    } else if outcomes
        .iter()
        .any(|outcome| thresholds::other_faults(outcome, fail_if) > 0)
    {
        Status::Unclean
    } else if outcomes
        .iter()
        .flat_map(|outcome| &outcome.thresholds)
        .any(|one| one.crossed)
    {
        Status::Threshold
    } else {
        Status::Success
    })
}

/// Says what the times of another publisher mean.
fn add_observed_notes(outcome: &mut Outcome, fields: &Fields) {
    let Some(observed) = &outcome.observed else {
        return;
    };
    if observed.messages == 0 {
        let error = format!(
            "no event had a message's fields (--time-in {:?}); {} events lacked them",
            fields.time, observed.untimed_events
        );
        outcome.errors.insert(error, 1);
        return;
    }
    if let Some(earliest_us) = observed.earliest_us.filter(|&us| us < 0) {
        outcome.notes.push(format!(
            "a message was read {:.1} ms before its own time: the publisher's clock is ahead by that or more; \
             latencies are not corrected, and none is below 0",
            -earliest_us as f64 / 1e3
        ));
    }
}

/// Adds the cost of the stalled readers to the healthy ones, within this run.
fn add_stalled_figures(outcomes: &mut [Outcome]) {
    let [healthy, stalled] = outcomes else { return };
    let p99 = |outcome: &Outcome| {
        outcome
            .delivery
            .as_ref()
            .map(|latency| latency.p99_us as f64)
    };
    if let Some((healthy, with_stalled)) = p99(healthy).zip(p99(stalled)) {
        let figures = &mut stalled.figures;
        figures.insert(
            "p99, ratio to healthy".into(),
            with_stalled / healthy.max(1.0),
        );
    }
}

/// Adds figures of growth: the slope of memory over the second half, and leaked descriptors.
fn add_soak_figures(outcome: &mut Outcome) {
    let Some(cost) = &outcome.cost else { return };
    if let Some(end) = cost.descriptors_end {
        let left = end as f64 - cost.descriptors_start as f64;
        outcome.figures.insert("descriptors left".into(), left);
    }
    let half = &outcome.series[outcome.series.len() / 2..];
    if let Some(slope) = memory_slope_bytes_per_second(half) {
        outcome
            .figures
            .insert("memory slope (KiB/min)".into(), slope * 60.0 / 1024.0);
    }
}

/// Least squares through the memory of the samples.
fn memory_slope_bytes_per_second(samples: &[Sample]) -> Option<f64> {
    let count = samples.len() as f64;
    let mean = |of: fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (mean_s, mean_bytes) = (mean(|s| s.at_s), mean(|s| s.server_memory as f64));
    let spread: f64 = samples.iter().map(|s| (s.at_s - mean_s).powi(2)).sum();
    let product = |s: &Sample| (s.at_s - mean_s) * (s.server_memory as f64 - mean_bytes);
    (spread > 0.0).then(|| samples.iter().map(product).sum::<f64>() / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: fn(u64) -> u64) -> Vec<Sample> {
        let sample = |at: u64| Sample {
            at_s: at as f64,
            deliveries_per_second: 0.0,
            acks_per_second: 0.0,
            server_cpu_percent: 0.0,
            generator_cpu_percent: 0.0,
            server_memory: memory(at),
        };
        (0..100).map(sample).collect()
    }

    #[test]
    fn a_slope_is_measured_and_a_flat_line_has_none() {
        let slope = memory_slope_bytes_per_second(&samples(|at| 1_000_000 + 512 * at)).unwrap();
        assert!((slope - 512.0).abs() < 1e-6, "{slope}");
        let slope = memory_slope_bytes_per_second(&samples(|at| 1_000 + at % 2)).unwrap();
        assert!(slope.abs() < 0.01, "{slope}");
        assert_eq!(memory_slope_bytes_per_second(&[]), None);
    }
}
