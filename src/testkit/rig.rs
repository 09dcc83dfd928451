//! A hub in memory with the inbox of one shard, and what a shard needs beside it.
//!
//! Nothing here runs: a test calls the hub and the shard, and reads the inbox.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::MemoryMedium;
use crate::clock::Now;
use crate::http::{Access, AllowOrigin};
use crate::hub::{Batch, Committer, Hub, Outlet, Wake};
use crate::limits::COMMIT_MESSAGES_MAX;
use crate::message::Draft;
use crate::ring::{Recovered, Ring};
use crate::shard::Settings;
use crate::shard::guesses::Guesses;

/// Batches that the inbox of [`hub_in_memory`] holds.
pub const INBOX_BATCHES: usize = 8;

/// The wall clock's time when the monotonic clock starts.
pub const UNIX_MS: u64 = 1_700_000_000_000;

/// Both clocks, so many milliseconds after the start.
pub const fn now_at(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        mono_us: mono_ms * 1000,
        unix_ms: UNIX_MS + mono_ms,
    }
}

/// For a shard that does not sleep: the test reads its inbox.
pub struct NoWake;

impl Wake for NoWake {
    fn wake(&self) {}
}

/// A draft without a session.
pub fn draft(content: impl Into<String>) -> Draft {
    Draft {
        session: None,
        content: content.into(),
        label: None,
        identity: None,
    }
}

/// An empty ring, on a disk of its own.
pub fn ring_in_memory(message_bytes_max: usize) -> (Ring, Recovered) {
    let medium = Box::new(MemoryMedium::default());
    Ring::open_on(medium, message_bytes_max).expect("an empty disk has room")
}

/// A shard as a hub sees it, and its inbox for so many batches.
pub fn outlet(batches: usize) -> (Outlet, Receiver<Arc<Batch>>) {
    let (batches, inbox) = bounded(batches);
    let wake = Arc::new(NoWake);
    (Outlet { batches, wake }, inbox)
}

/// A hub with an empty ring, and the inbox of its one shard.
pub fn hub_in_memory(message_bytes_max: usize) -> (Hub, Receiver<Arc<Batch>>) {
    let (ring, recovered) = ring_in_memory(message_bytes_max);
    let (outlet, inbox) = outlet(INBOX_BATCHES);
    let hub = Hub::new(ring, recovered.messages, vec![outlet], None);
    (hub, inbox)
}

/// [`hub_in_memory`] with commits to disk, which happen when the test calls the committer.
pub fn hub_with_commits(message_bytes_max: usize) -> (Hub, Committer, Receiver<Arc<Batch>>) {
    let medium = Box::new(MemoryMedium::default());
    let opened = Ring::open_with(medium, message_bytes_max, COMMIT_MESSAGES_MAX);
    let (ring, recovered) = opened.expect("an empty disk has room");
    let (outlet, inbox) = outlet(INBOX_BATCHES);
    let (hub, committer) = Hub::with_commits(ring, recovered.messages, vec![outlet], None);
    (hub, committer, inbox)
}

/// Settings of a shard with the smallest possible log. No secret is configured.
pub fn settings() -> Settings {
    Settings {
        heartbeat_interval: Duration::from_secs(2),
        keep_alive: Duration::from_secs(75),
        body_bytes_max: 4000,
        drain: Duration::from_secs(5),
        shards: 1,
        held_bytes_max: 20_000,
        fanout_life: None,
        compress_streams: false,
        log_bytes_min: 0,
        access: Access::new(None),
        guesses: Arc::new(Guesses::new(0)),
        allow_origin: AllowOrigin::Any,
    }
}
