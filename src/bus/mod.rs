//! The bus: many nodes, one order, through an engine such as Redis.
//!
//! Started by `server` with `--bus`. A message is appended to the engine's log and shown by every node when
//! it comes back from there, also by the node that took it: the log is the order. Every event id is the
//! place of an entry in the log, equal on all nodes.
//!
//! - `engine`: what a node needs of an engine, as a writer and a reader.
//! - `appender`: sends, and begins an epoch when the engine has forgotten something.
//! - `follower`: reads, and gives what comes back to the hub.
//! - `course`, `recent`: where this node is in the log, and what it holds of it.
//! - `log`: the log as a node that joins reads it.
//! - `start`: how a node takes its place in the log.
//! - `census`: how many streams see a session on each node.
//! - `run`: the threads; `stats`: counters and log lines.
//! - `redis`: Redis and Valkey as an engine.
//!
//! Never touches a shard or a client's socket: it calls only the hub.

pub mod appender;
pub mod census;
pub mod course;
pub mod engine;
pub mod follower;
mod joining;
pub mod log;
pub mod recent;
pub mod redis;
pub mod run;
pub mod start;
pub mod stats;
