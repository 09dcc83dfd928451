//! The inboxes of the shards, as the hub sends to them.
//!
//! Called by the hub and by the committer. Batches are sent only under the hub's lock. So an inbox that
//! has room under the lock keeps it until the lock is released, and a send after a check cannot fail.
//! Never waits; see [`room`](super::room).

use std::sync::Arc;

use crossbeam_channel::{Sender, TrySendError};

use super::Batch;

/// Wakes a thread that sleeps until its inbox has something. Does nothing if the thread is awake.
pub trait Wake: Send + Sync {
    /// Called after every batch.
    fn wake(&self);
}

/// A shard as the hub sees it.
pub struct Outlet {
    /// The shard's inbox of batches; bounded.
    pub batches: Sender<Arc<Batch>>,
    /// Wakes the shard.
    pub wake: Arc<dyn Wake>,
}

/// All shards.
pub(super) struct Outlets(Vec<Outlet>);

impl Outlets {
    pub(super) fn new(outlets: Vec<Outlet>) -> Outlets {
        Outlets(outlets)
    }

    /// Whether every inbox has room for a batch. So has that of an
    /// ended shard ([`Hub::close_inbox`](super::Hub::close_inbox)).
    pub(super) fn have_room(&self) -> bool {
        self.have_room_for(1)
    }

    /// Whether every inbox has room for so many batches.
    pub(super) fn have_room_for(&self, batches: usize) -> bool {
        self.0.iter().all(|outlet| {
            let capacity = outlet.batches.capacity().unwrap_or(usize::MAX);
            outlet.batches.len().saturating_add(batches) <= capacity
        })
    }

    /// Sends a batch to every shard. The inboxes have room, as the caller has checked under the same
    /// lock. The shards are woken afterwards, without the lock.
    pub(super) fn send(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for outlet in &self.0 {
            // An inbox is closed if its shard has ended.
            let sent = outlet.batches.try_send(Arc::clone(&batch));
            debug_assert!(
                !matches!(sent, Err(TrySendError::Full(_))),
                "an inbox is full, and its shard misses a batch"
            );
        }
    }

    pub(super) fn wake(&self) {
        self.0.iter().for_each(|outlet| outlet.wake.wake());
    }
}
