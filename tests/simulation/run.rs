//! Runs a seed, and shortens the operations of a failure.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use super::coverage;
use super::operation::{self, Operation, Profile};
use super::world::World;

/// Most runs for shortening a failure.
const ATTEMPTS_MAX: usize = 400;

/// The reason of a failure, and the number of its operation.
struct Failure {
    step: usize,
    reason: String,
}

thread_local! {
    /// The text of the last panic of this thread, which is not printed during a run.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a seed. If it fails, panics with a shortened list of operations.
pub fn check(seed: u64) {
    let (profile, operations) = operation::draw(seed);
    let Err(first) = run(&profile, &operations) else {
        coverage::count("seeds", 1);
        coverage::count("operations", operations.len() as u64);
        return;
    };
    let (operations, failure) = shorten(&profile, operations, first);
    let list: Vec<String> = operations
        .iter()
        .enumerate()
        .map(|(number, operation)| format!("{number:4} {operation:?}"))
        .collect();
    panic!(
        "seed {seed} fails at step {} of {}: {}\n{profile:#?}\n{}\nagain: SIM_SEED={seed} cargo test --test simulation",
        failure.step,
        operations.len(),
        failure.reason,
        list.join("\n"),
    );
}

/// Runs a seed. Returns the reason if it fails, without shortening.
pub fn verdict(seed: u64) -> Result<(), String> {
    let (profile, operations) = operation::draw(seed);
    run(&profile, &operations).map_err(|failure| failure.reason)
}

fn run(profile: &Profile, operations: &[Operation]) -> Result<(), Failure> {
    catch_quietly();
    let step = Cell::new(0);
    IS_CATCHING.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        World::new(profile).run(operations, &step);
    }));
    IS_CATCHING.set(false);
    outcome.map_err(|_| Failure {
        step: step.get(),
        reason: CAUGHT.take().unwrap_or_default(),
    })
}

/// Removes operations that the failure does not need: halves first, then ever smaller parts (delta
/// debugging). Any failure counts, because a fault often shows in more than one way.
fn shorten(
    profile: &Profile,
    mut operations: Vec<Operation>,
    mut failure: Failure,
) -> (Vec<Operation>, Failure) {
    operations.truncate(failure.step + 1);
    let mut attempts = 0;
    let mut part = operations.len().div_ceil(2);
    while part > 0 && attempts < ATTEMPTS_MAX {
        let mut start = 0;
        while start < operations.len() && attempts < ATTEMPTS_MAX {
            let end = (start + part).min(operations.len());
            let mut fewer = operations.clone();
            fewer.drain(start..end);
            attempts += 1;
            match run(profile, &fewer) {
                Err(shorter) => {
                    fewer.truncate(shorter.step + 1);
                    (operations, failure) = (fewer, shorter);
                }
                Ok(()) => start = end,
            }
        }
        part = if part == 1 { 0 } else { part.div_ceil(2) };
    }
    (operations, failure)
}

/// Prevents the panics of runs from being printed.
fn catch_quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_CATCHING.get() {
                CAUGHT.set(Some(info.to_string()));
            } else {
                print(info);
            }
        }));
    });
}
