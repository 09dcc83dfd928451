//! What unit tests, simulation, fuzz targets and benches share: a disk, a bus and hubs in memory, times.
//!
//! Compiled for unit tests and with the feature `testkit`, which integration tests, benches and fuzz
//! targets turn on. Never part of the server.

mod backing;
mod engine;
mod link;
mod medium;
mod rig;
mod sources;
mod tokens;

pub use self::backing::MemoryBacking;
pub use self::engine::MemoryEngine;
pub use self::link::{Link, LinkFault, LinkState};
pub use self::medium::{MemoryMedium, SECTOR_BYTES, Write};
pub use self::rig::{
    INBOX_BATCHES, NoWake, UNIX_MS, draft, hub_in_memory, hub_with_commits, now_at, outlet,
    ring_in_memory, settings,
};
pub use self::sources::{source_request, source_table, source_table_of};
pub use self::tokens::{TOKEN_SECRET, encode_token, sign_token, sign_token_with, token_keys};
