//! Runs a cluster: an engine, nodes and streams over all of them, posts to all of them, faults by a plan, and
//! a verdict.
//!
//! Called by `main`. `options` refuses what cannot run, `reading` has the processes that read, `parts` those that are measured, `ingest` and
//! `bare` the comparison with bare calls of the engine.

mod bare;
mod ingest;
mod options;
mod parts;
pub mod reading;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::ClusterArgs;
use crate::console;
use crate::engine::answer;
use crate::engine::clock::{SECOND_NS, now_ns};
use crate::engine::cluster::plan::{Plan, Request, TokenPlan};
use crate::engine::cluster::poster::{self, Posted, PosterPlan, Requests};
use crate::engine::cluster::verdict::{self, Verdict};
use crate::engine::cluster::views::Views;
use crate::engine::payload::{PayloadFormat, Stamp};
use crate::engine::proc_stats;
use crate::engine::progress::Progress;
use crate::engine::tokens;
use crate::exit::{Failure, Status};
use crate::report::cluster::{ClusterRun, FaultReport, describe};
use crate::runs::cluster::parts::{Parts, PartsPlan, sleep};
use crate::runs::cluster::reading::Readers;
use crate::scenarios::faults::{Fault, FaultPlan};
use crate::servers::cluster::node::{Node, NodeOptions};
use crate::servers::process::directory;
use crate::servers::{self, ServerKind, workspace};

/// Time for all streams to open.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time for the first and for the last message to reach all streams.
const MARK_PATIENCE: Duration = Duration::from_secs(30);

/// Time for the last message to be acknowledged, after the last fault.
const ACK_PATIENCE: Duration = Duration::from_secs(60);

/// Time for a single answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);

/// Time for messages that are published again after the last one.
const LINGER: Duration = Duration::from_secs(2);

/// Handshakes under way at once in each reading process.
const OPENING_MAX: usize = 256;

/// How often streams move by default, under faults.
const WANDER: Duration = Duration::from_secs(10);

/// Runs it and prints the result.
pub fn run_and_show(args: &ClusterArgs, interrupted: &AtomicBool) -> Result<Status, Failure> {
    options::check(args)?;
    if args.ingest {
        return ingest::run(args, interrupted);
    }
    let run = run(args, interrupted)?;
    if args.json {
        let json = serde_json::to_string_pretty(&run).map_err(|error| error.to_string())?;
        console::put(&(json + "\n"))?;
    } else {
        console::put(&describe(&run))?;
    }
    Ok(if run.verdict.faults.is_clean() {
        Status::Success
    } else {
        Status::Unclean
    })
}

/// Starts the parts in a directory.
fn start_parts(args: &ClusterArgs, directory: &Path) -> Result<Parts, String> {
    if !args.node.is_empty() {
        return Ok(Parts::default());
    }
    if args.server.is_none() {
        workspace::build(
            &servers::package(ServerKind::Hookcast)
                .into_iter()
                .collect::<Vec<_>>(),
        )?;
    }
    // A node's successor after a handover becomes a child of this process.
    let own = rustix::process::getpid();
    let _ = rustix::process::set_child_subreaper(Some(own));
    let faults = || args.faults.iter().flat_map(|plan| &plan.faults);
    let has_replica = args.replica || faults().any(|fault| fault.needs_replica());
    Parts::start(&PartsPlan {
        nodes: args.nodes as usize,
        node: NodeOptions {
            program: program(args),
            directory: directory.to_owned(),
            shards: args.shards,
            arguments: node_arguments(args, directory),
        },
        directory,
        engine: (!args.no_bus).then_some(args.appendonly),
        has_replica,
        has_forwarders: has_replica || faults().any(|fault| fault.needs_engine()),
    })
}

/// The file of the key of tokens.
fn key_file(directory: &Path) -> PathBuf {
    directory.join("token.key")
}

/// Makes the key of tokens, if streams have some.
fn token_plan(args: &ClusterArgs, directory: &Path) -> Result<Option<TokenPlan>, String> {
    let Some(life) = args.token_life else {
        return Ok(None);
    };
    let key = key_file(directory);
    tokens::write_key(&key).map_err(|error| format!("{}: {error}", key.display()))?;
    let life_ms = life.as_millis() as u64;
    Ok(Some(TokenPlan { key, life_ms }))
}

fn node_arguments(args: &ClusterArgs, directory: &Path) -> Vec<String> {
    let key = args.token_life.map(|_| key_file(directory));
    let of_key = key.map(|key| ["--token-key".to_owned(), key.display().to_string()]);
    let of_key = of_key.into_iter().flatten();
    of_key.chain(args.server_arg.iter().cloned()).collect()
}

/// The program of the nodes, with its whole path: they run in another directory.
fn program(args: &ClusterArgs) -> PathBuf {
    let given = args.server.as_ref();
    given.map_or_else(
        || servers::usual_program(ServerKind::Hookcast),
        |path| path.canonicalize().unwrap_or_else(|_| path.clone()),
    )
}

fn run(args: &ClusterArgs, interrupted: &AtomicBool) -> Result<ClusterRun, String> {
    let files = directory()?;
    let tokens = token_plan(args, files.path())?;
    let mut parts = start_parts(args, files.path())?;
    let started = parts.nodes.iter().map(|node| node.address);
    let nodes: Vec<SocketAddr> = args.node.iter().copied().chain(started).collect();
    let run_id = (std::process::id() << 12) ^ (now_ns() / 1_000) as u32;
    let mut load = Load {
        args,
        interrupted,
        format: PayloadFormat::new(run_id, args.message_bytes),
        progress: Progress::new("cluster"),
        views: Views::new(
            nodes.len(),
            args.sessions.unwrap_or(0),
            args.sessions_per_stream.unwrap_or(1),
        ),
        tokens,
        nodes,
    };
    let mut run = ClusterRun {
        nodes: load.nodes.len(),
        streams: args.streams,
        sessions: args.sessions,
        sessions_per_stream: args.sessions.and(args.sessions_per_stream.or(Some(1))),
        token_life_s: args.token_life.map(|life| life.as_secs_f64()),
        rate: args.rate,
        seed: args.seed.filter(|_| args.faults.is_some()),
        memory_before: memory(&parts),
        ..ClusterRun::default()
    };
    let plan = load.plan();
    let log = files.path().join("readers.log");
    let mut readers = Readers::start(&plan, args.streams_per_process, &log)?;
    load.await_open(&readers)?;
    run.memory_open = memory(&parts);
    let mut first = Posted::default();
    let marked = load.post_marker(&mut first, &mut readers)?;
    if marked < args.streams {
        return Err(format!(
            "the first message reached only {marked} of {} streams",
            args.streams
        ));
    }
    readers.request(&Request::Mark(None))?;
    let start_ns = now_ns();
    let (mut posted, mut faults) = load.post_under_faults(&mut parts, &readers)?;
    let end_ns = now_ns();
    run.duration_s = (end_ns - start_ns) as f64 / 1e9;
    let marked = load.post_marker(&mut posted, &mut readers)?;
    if !faults.is_empty() {
        sleep(LINGER, interrupted);
    }
    posted.acknowledged.extend(&first.acknowledged);
    posted.unknown.extend(&first.unknown);
    posted.refused.extend(&first.refused);
    let numbers = posted
        .acknowledged
        .iter()
        .map(|(number, _)| format!("{number}\n"));
    let list = files.path().join("acknowledged");
    std::fs::write(&list, numbers.collect::<String>())
        .map_err(|error| format!("{}: {error}", list.display()))?;
    let outcomes = readers.finish(&list)?;
    run.verdict = verdict::judge(&outcomes, &posted, load.nodes.len());
    run.verdict.faults.stuck += (args.streams - marked.min(args.streams)) as u64;
    if faults.is_empty() {
        run.verdict.expect_quiet();
    }
    add_times(&mut faults, &run.verdict, start_ns, end_ns);
    run.faults_injected = faults.into_iter().map(|one| one.report).collect();
    run.cut_off = interrupted.load(Relaxed);
    Ok(run)
}

fn memory(parts: &Parts) -> u64 {
    let pids: Vec<u32> = parts.nodes.iter().flat_map(Node::pids).collect();
    proc_stats::memory_bytes(&pids)
}

/// Fills in when faults happened and when delivery resumed. Posts end at `end_ns`.
fn add_times(faults: &mut [Injected], verdict: &Verdict, start_ns: u64, end_ns: u64) {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut next_ns = end_ns;
    for injected in faults.iter_mut().rev() {
        let (began_ns, report) = (injected.began_ns, &mut injected.report);
        report.at_s = seconds(began_ns - start_ns);
        let resumed = verdict::resumed_ns(&verdict.progress, began_ns);
        report.resumed_after_s = resumed.map(|at_ns| seconds(at_ns - began_ns));
        if !injected.fault.moves_streams() {
            let nodes = match report.node {
                Some(node) => &verdict.progress[node..=node],
                None => &verdict.progress,
            };
            let silence = verdict::silence_ns(nodes, &(began_ns..next_ns));
            report.silence_s = silence.map(seconds);
        }
        next_ns = began_ns;
    }
}

/// A fault that has been injected.
struct Injected {
    fault: Fault,
    began_ns: u64,
    report: FaultReport,
}

/// The load on a cluster.
struct Load<'a> {
    args: &'a ClusterArgs,
    interrupted: &'a AtomicBool,
    format: PayloadFormat,
    views: Views,
    tokens: Option<TokenPlan>,
    progress: Progress,
    nodes: Vec<SocketAddr>,
}

impl Load<'_> {
    fn plan(&self) -> Plan {
        let by_default = if self.args.faults.is_some() {
            WANDER
        } else {
            Duration::ZERO
        };
        Plan {
            nodes: self.nodes.clone(),
            format: self.format.clone(),
            views: self.views,
            tokens: self.tokens.clone(),
            streams: self.args.streams,
            first: 0,
            wander_ms: self.args.wander.unwrap_or(by_default).as_millis() as u64,
            reconnect_ms: self.args.reconnect.as_millis() as u64,
            opening_max: OPENING_MAX,
            seed: self.args.seed.unwrap_or(self.format.run().into()),
        }
    }

    fn await_open(&mut self, readers: &Readers) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // With tokens that end soon, hardly ever all are open at once.
            let open = readers.status()?.opened;
            if open == self.args.streams {
                return Ok(());
            }
            if self.interrupted.load(Relaxed) || Instant::now() > deadline {
                return Err(format!(
                    "only {open} of {} streams opened",
                    self.args.streams
                ));
            }
            self.progress.update(0.0, &format!("{open} streams open"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Posts a message, and waits until all streams have it. Returns how many do.
    fn post_marker(&mut self, posted: &mut Posted, readers: &mut Readers) -> Result<usize, String> {
        let deadline = Instant::now() + ACK_PATIENCE;
        let number = loop {
            let number = self.views.next_for_everyone(posted.next);
            posted.next = number + 1;
            let before = posted.acknowledged.len();
            self.post_one(number, posted);
            if posted.acknowledged.len() > before {
                break number;
            }
            if Instant::now() > deadline {
                let answers = posted
                    .answers
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(", ");
                return Err(format!("no node acknowledges a message: {answers}"));
            }
            thread::sleep(Duration::from_millis(100));
        };
        readers.request(&Request::Mark(Some(number)))?;
        let deadline = Instant::now() + MARK_PATIENCE;
        loop {
            let marked = readers.status()?.marked;
            if marked == self.args.streams || Instant::now() > deadline {
                return Ok(marked);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn post_one(&self, number: u32, posted: &mut Posted) {
        let address = self.nodes[number as usize % self.nodes.len()];
        let mut request = Vec::new();
        let stamp = Stamp {
            number,
            sent_ns: now_ns(),
        };
        Requests::new(address, &self.format).write(&mut request, stamp, self.views);
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut connection = TcpStream::connect_timeout(&address, ANSWER_PATIENCE)?;
            connection.set_read_timeout(Some(ANSWER_PATIENCE))?;
            connection.write_all(&request)?;
            let mut input = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(None) = answer::parse(&input) {
                match connection.read(&mut buffer)? {
                    0 => break,
                    length => input.extend_from_slice(&buffer[..length]),
                }
            }
            Ok(input)
        };
        match exchange() {
            Ok(input) => match answer::parse(&input) {
                Ok(Some(answer)) => posted.note(number, answer.status, &input[..answer.length]),
                _ => posted.lose(number, "connection lost"),
            },
            Err(error) => posted.lose(number, &error.kind().to_string()),
        }
    }

    /// Posts for the duration of the run, while faults happen. Returns them.
    fn post_under_faults(
        &mut self,
        parts: &mut Parts,
        readers: &Readers,
    ) -> Result<(Posted, Vec<Injected>), String> {
        let plan = PosterPlan {
            nodes: self.nodes.clone(),
            format: self.format.clone(),
            views: self.views,
            connections: self.args.publishers,
            rate: Some(self.args.rate),
        };
        let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let (args, interrupted) = (self.args, self.interrupted);
        thread::scope(|scope| {
            let poster = scope.spawn(|| poster::run(plan, &stop, &count));
            let faults = scope.spawn(|| match &args.faults {
                Some(plan) => inject(plan, args, parts, interrupted),
                None => Ok(Vec::new()),
            });
            let start_ns = now_ns();
            let watched = self.watch(readers, start_ns, &count, || faults.is_finished());
            let faults = faults
                .join()
                .map_err(|_| "the injector has failed".to_owned());
            stop.store(true, Relaxed);
            let outcome = poster
                .join()
                .map_err(|_| "the poster has failed".to_owned())?;
            watched?;
            Ok((outcome.map_err(|error| error.to_string())?, faults??))
        })
    }

    fn watch(
        &mut self,
        readers: &Readers,
        start_ns: u64,
        count: &AtomicU64,
        mut have_faults_ended: impl FnMut() -> bool,
    ) -> Result<(), String> {
        let duration_ns = self.args.duration.as_nanos() as u64;
        loop {
            let elapsed_ns = now_ns() - start_ns;
            let is_over = elapsed_ns >= duration_ns || self.interrupted.load(Relaxed);
            if is_over && have_faults_ended() {
                return Ok(());
            }
            let status = readers.status()?;
            let (acked, open) = (count.load(Relaxed), status.open);
            let text = format!(
                "{acked} acks, {} deliveries, {open} streams",
                status.deliveries
            );
            let share = elapsed_ns as f64 / duration_ns.max(1) as f64;
            self.progress.update(share, &text);
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Injects faults until the last interval of the run.
fn inject(
    plan: &FaultPlan,
    args: &ClusterArgs,
    parts: &mut Parts,
    interrupted: &AtomicBool,
) -> Result<Vec<Injected>, String> {
    let start = Instant::now();
    let mut reports = Vec::new();
    let mut random = args.seed.unwrap_or(0).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut nodes = 0;
    for nth in 0.. {
        // A fault that takes longer than the interval leaves the next ones out.
        let due = plan.interval * (nth + 1);
        if due + plan.interval.min(Duration::from_secs(5)) > args.duration {
            break;
        }
        if start.elapsed() > due {
            continue;
        }
        sleep(due.saturating_sub(start.elapsed()), interrupted);
        if interrupted.load(Relaxed) {
            break;
        }
        let (at, node) = if args.seed.is_some() {
            (step(&mut random) as usize, step(&mut random) as usize)
        } else {
            (reports.len(), nodes)
        };
        let fault: Fault = plan.faults[at % plan.faults.len()];
        let node = node % parts.nodes.len();
        nodes += usize::from(fault.has_node());
        let began_ns = now_ns();
        let back_ns = parts
            .inject(fault, node, interrupted)
            .map_err(|error| format!("{fault}: {error}"))?;
        let report = FaultReport {
            fault: fault.to_string(),
            node: fault.has_node().then_some(node),
            at_s: 0.0,
            back_after_s: (back_ns - began_ns) as f64 / SECOND_NS as f64,
            resumed_after_s: None,
            silence_s: None,
        };
        reports.push(Injected {
            fault,
            began_ns,
            report,
        });
    }
    Ok(reports)
}

/// xorshift.
fn step(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random >> 16
}
