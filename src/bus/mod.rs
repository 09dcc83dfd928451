//! The bus: many nodes, one order, through an engine such as Redis.
//!
//! Started by `server` with `--bus`. A message is appended to the engine's log and shown by every node when
//! it comes back from there, also by the node that took it: the log is the order. Every event id is the
//! place of an entry in the log, equal on all nodes.
//!
//! - `engine`: what a node needs of an engine, as a writer and a reader.
//! - `redis`: Redis and Valkey as an engine.
//!
//! Never touches a shard or a client's socket: it calls only the hub.

pub mod engine;
pub mod redis;
