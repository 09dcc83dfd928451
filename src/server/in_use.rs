//! The wait until all shards use what was read again.
//!
//! Called on SIGHUP, by the reloaders of sources and of the keys of tokens. Never blocks a shard.

use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::limits::RELOAD_IN_USE_MS_MAX;
use crate::net::handle::ShardHandle;

/// Sends a command to every shard, and waits until each has acted on it and used its sender.
pub(super) fn by_all(shards: &[ShardHandle], send: impl Fn(&ShardHandle, Sender<()>)) {
    let (in_use, all_in_use) = bounded(shards.len());
    for shard in shards {
        send(shard, in_use.clone());
    }
    let deadline = Instant::now() + Duration::from_millis(RELOAD_IN_USE_MS_MAX);
    for _ in shards {
        // A shard that has ended, or is very slow, does not matter here.
        let _ = all_in_use.recv_deadline(deadline);
    }
}
