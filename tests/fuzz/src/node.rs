//! A node in the simulation of `tests/simulation`, with operations from the fuzzer: connects, partial reads
//! and writes, resets, slow readers, failing disks, kills.

use std::cell::Cell;

use arbitrary::{Result, Unstructured};
use fastrand::Rng;

use crate::simulation::operation::{Action, Operation, Profile, WEIGHTS};
use crate::simulation::world::World;

/// Many shorter runs find the same faults sooner than longer ones.
const OPERATIONS_MAX: usize = 150;

pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(seed) = input.arbitrary::<u16>() else {
        return;
    };
    let mut profile = Profile::draw(&mut Rng::with_seed(u64::from(seed)));
    profile.draw_sources(u64::from(seed));
    profile.draw_tokens(u64::from(seed));
    let operations = std::iter::from_fn(|| draw(&mut input).ok());
    let operations: Vec<Operation> = operations.take(OPERATIONS_MAX).collect();
    // If there is a shared history, the model must allow for the copies in streams.
    profile.has_shared_history |= operations.iter().any(|one| one.action == Action::Share);
    World::new(&profile).run(&operations, &Cell::new(0));
}

/// Three bytes for each operation, so that adding or removing one leaves the others unchanged.
fn draw(input: &mut Unstructured<'_>) -> Result<Operation> {
    if input.len() < 3 {
        return Err(arbitrary::Error::NotEnoughData);
    }
    let (kind, salt) = (input.arbitrary::<u8>()?, input.arbitrary::<u16>()?);
    Ok(Operation {
        action: WEIGHTS[usize::from(kind) % WEIGHTS.len()].0,
        salt: u64::from(salt),
    })
}
