//! A seeded simulator of several nodes and Pages-style writers on one KV that is eventually consistent, stale,
//! lossy, rate-limited and sometimes down. It runs the mirror's own core (`hookcast::mirror::core`) under a
//! virtual clock and checks it against a shadow model.
//!
//! Every run has an active phase with all kinds of events, and a quiet phase without publishing, in which
//! calls succeed and reads may be stale. Checked throughout: no message goes live twice on a node, no ring
//! holds a message twice, and writes keep their interval.
//!
//! Checked at the end: all nodes have the same history, KV holds it in order, and every ring holds all of it.
//! It is complete: no acknowledged message of the last N is missing. Every node has shown all of it, and no
//! node has written in the last minutes.
//!
//! `HOOKCAST_SEEDS=100000 cargo test --test mirror_simulation -- --nocapture` runs more seeds,
//! `HOOKCAST_SEED=17 ...` only that one. A failure prints its seed.

mod kv;
mod node;
mod world;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::world::{Tally, World};

/// Seeds of a plain `cargo test`.
const SEEDS_DEFAULT: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
    )
}

struct NamedOnPanic(u64);

impl Drop for NamedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0} failed; this one alone: HOOKCAST_SEED={0}", self.0);
        }
    }
}

#[test]
fn every_seed_converges() {
    let seeds = match number("HOOKCAST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOOKCAST_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    let count = seeds.end - seeds.start;
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut tally = Tally::default();
                    loop {
                        let seed = next.fetch_add(1, Relaxed);
                        if seed >= seeds.end {
                            return tally;
                        }
                        let _named = NamedOnPanic(seed);
                        tally.add(&World::new(seed).run());
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("a seed failed, see above"))
            .collect()
    });
    let mut total = Tally::default();
    for tally in &tallies {
        total.add(tally);
    }
    // Written to the stream itself: the figures of a passing run are wanted, whose output `cargo test` hides.
    let steps = total.steps;
    let written = writeln!(
        std::io::stderr(),
        "mirror simulation: {count} seeds, {steps} steps, all converged: {total:?}"
    );
    written.expect("standard error is open");
    total.check_coverage(count);
}
