//! Ingest of a cluster against two bare loops of the engine's append calls, in interleaved rounds.
//!
//! Called by `cluster`. All post messages of the same size to the same engine, with as many readers as there are
//! nodes. One loop has as many writers as there are nodes, and as many messages under way as there are publishers:
//! its ratio says what HTTP and the nodes add. The other appends the largest batches: its ratio says what more
//! publishers could gain.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use crate::cli::ClusterArgs;
use crate::console;
use crate::engine::clock::now_ns;
use crate::engine::cluster::poster::{self, PosterPlan};
use crate::engine::cluster::views::Views;
use crate::engine::payload::PayloadFormat;
use crate::exit::{Failure, Status};
use crate::runs::cluster::bare::{self, BarePlan};
use crate::runs::cluster::parts::{Parts, sleep};
use crate::runs::cluster::start_parts;
use crate::servers::process::directory;

/// Runs the rounds and prints medians.
pub fn run(args: &ClusterArgs, interrupted: &AtomicBool) -> Result<Status, Failure> {
    let files = directory()?;
    let parts = start_parts(args, files.path())?;
    let mut rounds = Rounds::default();
    for round in 1..=args.rounds {
        rounds.nodes.push(through_nodes(args, &parts, interrupted)?);
        let engine = parts
            .engine
            .as_ref()
            .ok_or("there is no engine".to_owned())?;
        let (nodes, bytes) = (parts.nodes.len(), args.message_bytes);
        let same = BarePlan::of_nodes(nodes, args.publishers, bytes, args.duration);
        rounds.same.push(bare::run(engine.address, same)?);
        let full = BarePlan::full(nodes, bytes, args.duration);
        rounds.full.push(bare::run(engine.address, full)?);
        if interrupted.load(Relaxed) {
            break;
        }
        console::note(format!("round {round}: {rounds:.0?}"));
    }
    console::put(&rounds.describe(args))?;
    Ok(Status::Success)
}

/// Messages a second of each round.
#[derive(Debug, Default)]
struct Rounds {
    nodes: Vec<f64>,
    /// The loop with as many messages under way.
    same: Vec<f64>,
    /// The loop with the largest batches.
    full: Vec<f64>,
}

impl Rounds {
    fn describe(&mut self, args: &ClusterArgs) -> String {
        let [nodes, same, full] =
            [&mut self.nodes, &mut self.same, &mut self.full].map(|rates| median(rates));
        let ratio = |bare: Option<f64>| nodes.zip(bare).map(|(nodes, bare)| nodes / bare);
        if args.json {
            let json = serde_json::json!({
                "nodes": nodes,
                "bare_same": same,
                "bare_full": full,
                "ratio_same": ratio(same),
                "ratio_full": ratio(full),
            });
            return format!("{json:#}\n");
        }
        let show = |value: Option<f64>, digits: usize| {
            value.map_or("-".into(), |value| format!("{value:.digits$}"))
        };
        let (count, publishers) = (args.nodes, args.publishers);
        let row = |name: &str, rate, ratio: Option<f64>| {
            format!("{name:<36}{:>9}{:>7}\n", show(rate, 0), show(ratio, 2))
        };
        let head = format!(
            "ingest, medians of {} rounds   messages/s  ratio\n",
            args.rounds
        );
        let through = format!("{count} nodes, {publishers} publishers");
        let bare = format!("bare, {count} writers, {publishers} under way");
        head + &row(&through, nodes, None)
            + &row(&bare, same, ratio(same))
            + &row("bare, 1 writer, batches of 128", full, ratio(full))
    }
}

/// Acknowledged messages a second.
fn through_nodes(
    args: &ClusterArgs,
    parts: &Parts,
    interrupted: &AtomicBool,
) -> Result<f64, String> {
    let plan = PosterPlan {
        nodes: parts.nodes.iter().map(|node| node.address).collect(),
        format: PayloadFormat::new(now_ns() as u32, args.message_bytes),
        views: Views::new(parts.nodes.len(), 0, 1),
        connections: args.publishers,
        rate: None,
    };
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let posted = thread::scope(|scope| {
        let poster = scope.spawn(|| poster::run(plan, &stop, &count));
        sleep(args.duration, interrupted);
        stop.store(true, Relaxed);
        poster.join()
    });
    let posted = posted.map_err(|_| "the poster has failed")?;
    let posted = posted.map_err(|error| error.to_string())?;
    let failed = posted.refused.len() + posted.unknown.len();
    if failed > 0 {
        return Err(format!(
            "{failed} messages were not acknowledged: {:?}",
            posted.answers
        ));
    }
    Ok(posted.acknowledged.len() as f64 / (posted.elapsed_ns as f64 / 1e9))
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
