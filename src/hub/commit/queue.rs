//! The queue of messages that wait for their commit, and how the committer's work ends.
//!
//! Filled by shards and by the mirror, emptied by the committer, all under the hub's lock. Bounded by
//! [`COMMIT_QUEUE_BYTES_MAX`]. Without I/O; never waits.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::hub::closing::Closing;
use crate::hub::outcome::Outcome;
use crate::hub::{Made, SenderId};
use crate::limits::{BATCH_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MESSAGE_BYTES};
use crate::message::Message;

/// Where the outcome of a message goes.
#[derive(Clone)]
pub(in crate::hub) enum Origin {
    /// To a shard, in a batch.
    Shard(SenderId),
    /// To a thread that waits in [`Hub::publish_from_peers`](crate::hub::Hub::publish_from_peers).
    Waiting(Sender<Outcome>),
    /// Nowhere: it was acknowledged before, and is published again.
    Again,
}

/// A message that waits for its commit. The outcome of a draft that becomes none is queued as well, so that
/// the outcomes keep the order of the drafts.
pub(in crate::hub) struct Queued {
    pub(in crate::hub) message: Made,
    pub(in crate::hub) origin: Origin,
}

impl Queued {
    /// Its part of [`COMMIT_QUEUE_BYTES_MAX`].
    pub(super) fn bytes(&self) -> usize {
        let text = |message: &Arc<Message>| message.text_bytes();
        COMMIT_QUEUE_MESSAGE_BYTES + self.message.as_ref().map_or(0, text)
    }
}

/// The messages of the next commits.
#[derive(Default)]
pub(in crate::hub) struct CommitQueue {
    queued: VecDeque<Queued>,
    bytes: usize,
    /// How the committer ends.
    pub(in crate::hub) closing: Closing,
    /// The committer has taken messages, and will send a batch of them.
    is_committing: bool,
}

impl CommitQueue {
    pub(in crate::hub) fn has_room(&self) -> bool {
        self.bytes < COMMIT_QUEUE_BYTES_MAX && !self.closing.is_begun()
    }

    pub(in crate::hub) fn push(&mut self, queued: Queued) {
        self.bytes += queued.bytes();
        self.queued.push_back(queued);
    }

    pub(in crate::hub) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Places in each inbox that others leave free. The committer has found one free when it took
    /// messages. After the sync, when it may not fail any more, it sends its batch there.
    pub(in crate::hub) fn places_kept(&self) -> usize {
        usize::from(self.is_committing)
    }

    /// Takes the messages of the next commit. Keeps a place for their batch until
    /// [`CommitQueue::end_commit`].
    pub(in crate::hub) fn take(&mut self, messages_max: usize) -> Vec<Queued> {
        let mut bytes = 0;
        let mut taken = Vec::new();
        while taken.len() < messages_max && bytes < BATCH_BYTES_MAX {
            let Some(queued) = self.queued.pop_front() else {
                break;
            };
            bytes += queued.bytes();
            taken.push(queued);
        }
        self.bytes -= bytes;
        self.is_committing = !taken.is_empty();
        taken
    }

    /// The batch of the messages that were taken is sent now.
    pub(in crate::hub) fn end_commit(&mut self) {
        self.is_committing = false;
    }
}
