//! What unit tests, simulation, fuzz targets and benches share: a disk, a bus and hubs in memory, times.
//!
//! Compiled for unit tests and with the feature `testkit`, which integration tests, benches and fuzz
//! targets turn on. Never part of the server.

mod engine;
mod medium;
mod rig;

pub use self::engine::{Link, LinkFault, MemoryEngine};
pub use self::medium::{MemoryMedium, SECTOR_BYTES, Write};
pub use self::rig::{
    INBOX_BATCHES, NoWake, UNIX_MS, draft, hub_in_memory, hub_with_commits, now_at, outlet,
    ring_in_memory, settings,
};
