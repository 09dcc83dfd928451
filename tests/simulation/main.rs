//! A whole node in a deterministic simulation: shards, hub, live logs and ring, with faulty
//! clients, a faulty network, disk and clock.
//!
//! A seed determines a run of some hundred operations. Each step is checked against a model of the
//! expected state. A failure prints its seed, its step, and a shortened list of operations that
//! still fails.
//!
//! - `SIM_SEED=7 cargo test --test simulation` runs one seed.
//! - `SIM_SEEDS=100000` runs the first 100,000 seeds. `SIM_SECONDS=600` runs seeds for ten minutes,
//!   from a random first seed that is printed.
//! - `SIM_SURVEY=500` runs 500 seeds and prints how many fail and why. It is for deliberate faults
//!   in the server: see `MUTANTS.md`.
//!
//! The parts: `operation` draws operations and `world` applies them. `turn` runs the turns of the
//! shards and checks idle shards. `poller` stands in for the kernel and other threads, `kernel` for
//! the sockets. `client` and `stream` check what is received, against the expected state in
//! `model`. `node` is the server, and `sources` its thread that judges requests to sources.

mod client;
mod coverage;
mod kernel;
mod model;
mod node;
mod operation;
mod poller;
mod request;
mod run;
mod sources;
mod stream;
mod turn;
mod world;

use std::time::{Duration, Instant};

/// Seeds of a plain `cargo test`; `tests/simulation/run` takes more.
const SEEDS: u64 = 1_000;

/// Seeds after which every counted event must have happened, however rare.
const SEEDS_FOR_ALL: u64 = 3_000;

#[test]
fn every_message_reaches_the_streams_that_may_see_it_and_no_others() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name} is not a number")),
        )
    };
    if let Some(seed) = number("SIM_SEED") {
        run::check(seed);
        return coverage::report(false);
    }
    if let Some(seeds) = number("SIM_SURVEY") {
        return survey(seeds);
    }
    let Some(seconds) = number("SIM_SECONDS") else {
        let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
        (0..seeds).for_each(run::check);
        return coverage::report(seeds >= SEEDS_FOR_ALL);
    };
    let first = fastrand::u64(..) >> 1;
    println!("seeds from {first}");
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut seed = first;
    while Instant::now() < deadline {
        run::check(seed);
        seed += 1;
    }
    coverage::report(false);
}

/// Counts the seeds that fail, and prints the first three reasons.
fn survey(seeds: u64) {
    let mut failed = 0;
    for seed in 0..seeds {
        if let Err(reason) = run::verdict(seed) {
            failed += 1;
            if failed <= 3 {
                println!("seed {seed}: {reason}");
            }
        }
    }
    println!("{failed} of {seeds} seeds fail");
    assert_eq!(failed, 0);
}
