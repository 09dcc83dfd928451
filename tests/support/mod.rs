//! Shared parts of the integration tests: a real server process on a port of its own, a client for raw bytes,
//! and a reader of event streams.
//!
//! Every wait is for an event, and has the same generous deadline, [`PATIENCE`]. Reaching it is a failure,
//! whose message has everything seen so far. No test sleeps instead of waiting, and no port is fixed.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(unused_imports, reason = "each test binary uses its own part of this")]

pub mod alone;
pub mod client;
pub mod events;
pub mod kv;
pub mod loopback;
pub mod memory;
pub mod peer;
pub mod server;
pub mod tls;

use std::time::Duration;

pub use alone::{Alone, alone, paced};
pub use client::{Connection, Response};
pub use events::{Ending, Event, EventStream};
pub use server::{Server, Setup};

/// Deadline of every wait: far above its duration on a busy machine, so that reaching it means that the event
/// never comes.
pub const PATIENCE: Duration = Duration::from_secs(30);
