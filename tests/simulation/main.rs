//! A whole node under a deterministic simulation: shards, hub, live logs and ring, with clients, a
//! network, a disk and a clock that do the worst they may.
//!
//! Every seed is a run of some hundred operations, checked at every step against a model that knows
//! what ought to be true. What fails prints its seed, the step, and the shortest list of operations
//! that was found to fail in the same way.
//!
//! - `SIM_SEED=7 cargo test --test simulation` runs one seed.
//! - `SIM_SEEDS=100000` runs so many from the first, `SIM_SECONDS=600` as many as fit, from one
//!   that is drawn and printed.
//! - `SIM_SURVEY=500` runs so many and says how many fail and why, which is for breaking the server
//!   on purpose: see `MUTANTS.md`.
//!
//! The parts: `operation` says what may happen, `world` lets it happen, `turn` runs the turns of the
//! shards and checks them at rest, `poller` is what a turn sees of the kernel and of other threads,
//! `kernel` is the sockets, `client` and `stream` check what is received, `model` knows what ought to
//! be, `node` is the server.

mod client;
mod coverage;
mod kernel;
mod model;
mod node;
mod operation;
mod poller;
mod request;
mod run;
mod stream;
mod turn;
mod world;

use std::time::{Duration, Instant};

/// Seeds of a plain `cargo test`; `tests/simulation/run` takes more.
const SEEDS: u64 = 1_000;

/// So many bring about everything that is counted, however rare.
const SEEDS_FOR_ALL: u64 = 3_000;

#[test]
fn every_message_reaches_those_who_may_see_it_and_nobody_else() {
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

/// How many seeds fail, and the reasons of the first few.
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
