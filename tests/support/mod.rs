//! What the integration tests share: a real server process on a port of its own, a client that
//! sends and sees raw bytes, and a reader of event streams.
//!
//! Every wait is for an event and has the same generous deadline, [`PATIENCE`]; reaching it is a
//! failure, with what was seen so far. Nothing sleeps and no port is fixed.

#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(unused_imports, reason = "each test binary uses its own part of this")]

pub mod client;
pub mod events;
pub mod loopback;
pub mod peer;
pub mod server;
pub mod tls;

use std::time::Duration;

pub use client::{Connection, Response};
pub use events::{Ending, Event, EventStream};
pub use server::{Server, Setup};

/// How long any one thing may take before the test fails: far above what it takes on a loaded
/// machine, so that reaching it means that the thing does not happen.
pub const PATIENCE: Duration = Duration::from_secs(30);
