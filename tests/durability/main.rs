//! What is kept: acknowledged messages after a kill, on disk, in a ring file that other programs change, and in KV.

mod disk;
mod identities;
mod mirror;
mod ring_file;
mod ring_kill;
#[path = "../support/mod.rs"]
mod support;
