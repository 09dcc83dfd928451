//! Nodes on a bus in a deterministic simulation: the real hub, ring, appender and follower of each node,
//! with an engine in memory that restarts, fails over with a lost tail, is emptied, loses calls and
//! executes them late.
//!
//! A seed determines a run of some hundred steps. `judge` holds what is expected: one order for each epoch
//! on all nodes, no message twice or out of order on a connection, nothing lost that was acknowledged, nothing
//! shown that was certainly refused. Clients see everything, one session or several. The streams of most end by
//! time, with their tokens, and resume at another node.
//!
//! - `SIM_SEED=7 cargo test --test cluster` runs one seed and prints its steps.
//! - `SIM_SEEDS=100000` runs the first 100,000 seeds.
//! - `SIM_SURVEY=500` runs 500 seeds and prints how many fail and why, for deliberate faults in the server.

mod client;
mod judge;
mod mends;
mod node;
mod world;

use std::panic::{self, AssertUnwindSafe};

/// Seeds of a plain `cargo test`; `tests/simulation/run` takes more.
const SEEDS: u64 = 1_000;

#[test]
fn every_acknowledged_message_reaches_every_node_once_and_in_one_order() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        let number = text.parse::<u64>();
        Some(number.unwrap_or_else(|_| panic!("{name} is not a number")))
    };
    if let Some(seed) = number("SIM_SEED") {
        return world::run(seed, true);
    }
    if let Some(seeds) = number("SIM_SURVEY") {
        return survey(seeds);
    }
    for seed in 0..number("SIM_SEEDS").unwrap_or(SEEDS) {
        let ran = panic::catch_unwind(|| world::run(seed, false));
        assert!(
            ran.is_ok(),
            "seed {seed} fails; again: SIM_SEED={seed} cargo test --test cluster"
        );
    }
    world::report();
}

/// Counts the seeds that fail, and prints the first three reasons.
fn survey(seeds: u64) {
    let mut failed = 0;
    panic::set_hook(Box::new(|_| {}));
    for seed in 0..seeds {
        let ran = panic::catch_unwind(AssertUnwindSafe(|| world::run(seed, false)));
        if let Err(reason) = ran {
            failed += 1;
            if failed <= 3 {
                let text = reason.downcast_ref::<String>();
                println!("seed {seed}: {}", text.map_or("", String::as_str));
            }
        }
    }
    let _ = panic::take_hook();
    println!("{failed} of {seeds} seeds fail");
    assert_eq!(failed, 0);
}
