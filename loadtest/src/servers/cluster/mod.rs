//! The processes of a cluster: an engine, perhaps with a replica, and nodes, with forwarders between them that
//! cut connections.
//!
//! Used by `runs` with the faults of `scenarios`. Every process is in a group of its own and ends when its
//! value is dropped.

pub mod forwarder;
pub mod member;
pub mod node;
pub mod redis;
