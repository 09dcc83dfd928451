//! Ingest of a cluster against a bare loop of the engine's append calls, in interleaved rounds.
//!
//! Called by `cluster`. Both post messages of the same size to the same engine; the loop's has as many readers
//! as there are nodes. The ratio says what the nodes add.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use crate::cli::ClusterArgs;
use crate::engine::clock::now_ns;
use crate::engine::cluster::poster::{self, PosterPlan};
use crate::engine::payload::PayloadFormat;
use crate::runs::cluster::bare;
use crate::runs::cluster::parts::{Parts, sleep};
use crate::runs::cluster::start_parts;
use crate::servers::process::directory;

/// Runs the rounds and prints medians.
pub fn run(args: &ClusterArgs, interrupted: &AtomicBool) -> Result<ExitCode, String> {
    let files = directory()?;
    let parts = start_parts(args, files.path())?;
    let (mut nodes, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        nodes.push(through_nodes(args, &parts, interrupted)?);
        let engine = parts.engine.as_ref().ok_or("there is no engine")?;
        let (readers, bytes) = (parts.nodes.len(), args.message_bytes);
        bare.push(bare::run(engine.address, readers, bytes, args.duration)?);
        if interrupted.load(Relaxed) {
            break;
        }
        eprintln!("round {round}: nodes {nodes:.0?}, bare {bare:.0?}");
    }
    let (nodes, bare) = (median(&mut nodes), median(&mut bare));
    let ratio = nodes.zip(bare).map(|(nodes, bare)| nodes / bare);
    if args.json {
        let json = serde_json::json!({"nodes": nodes, "bare": bare, "ratio": ratio});
        println!("{json:#}");
    } else {
        let show =
            |value: Option<f64>| value.map_or("not measured".into(), |one| format!("{one:.2}"));
        println!("ingest, messages/s, medians of {} rounds:", args.rounds);
        println!(
            "  {} nodes, {} publishers: {}",
            args.nodes,
            args.publishers,
            show(nodes)
        );
        println!("  bare loop, {} readers: {}", args.nodes, show(bare));
        println!("  ratio: {}", show(ratio));
    }
    Ok(ExitCode::SUCCESS)
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
