//! The queue of messages that wait for their commit, and how the committer's work ends.
//!
//! Filled by shards and by the mirror, emptied by the committer, all under the hub's lock. Bounded by
//! [`COMMIT_QUEUE_BYTES_MAX`]. Without I/O; never waits.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::hub::{NotStored, Receipt, SenderId};
use crate::limits::{BATCH_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MESSAGE_BYTES};
use crate::message::Message;

/// Where the outcome of a message goes.
#[derive(Clone)]
pub(in crate::hub) enum Origin {
    /// To a shard, in a batch.
    Shard(SenderId),
    /// To a thread that waits in [`Hub::publish_from_peers`](crate::hub::Hub::publish_from_peers).
    Waiting(Sender<Result<Receipt, NotStored>>),
}

/// A message that waits for its commit. An error is queued as well, so that the outcomes keep the
/// order of the messages.
pub(in crate::hub) struct Queued {
    pub(in crate::hub) message: Result<Arc<Message>, NotStored>,
    pub(in crate::hub) origin: Origin,
}

impl Queued {
    /// Its part of [`COMMIT_QUEUE_BYTES_MAX`].
    pub(super) fn bytes(&self) -> usize {
        let text = |message: &Arc<Message>| {
            let session = message
                .session
                .as_ref()
                .map_or(0, |name| name.as_str().len());
            message.content.len() + session
        };
        COMMIT_QUEUE_MESSAGE_BYTES + self.message.as_ref().map_or(0, text)
    }
}

/// The messages of the next commits.
#[derive(Default)]
pub(in crate::hub) struct CommitQueue {
    queued: VecDeque<Queued>,
    bytes: usize,
    course: Course,
    /// The committer has taken messages, and will send a batch of them.
    is_committing: bool,
    /// The result of closing the ring, once there is one.
    pub(in crate::hub) closed: Option<io::Result<()>>,
}

/// What the committer does with its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Course {
    /// It commits what is queued.
    #[default]
    Committing,
    /// It commits the rest, closes the ring and ends.
    Closing,
    /// It commits the rest and closes the ring for another process. If the close fails, it continues.
    Releasing,
    /// It has ended: the report of the close follows.
    Ended,
}

impl CommitQueue {
    pub(in crate::hub) fn has_room(&self) -> bool {
        self.bytes < COMMIT_QUEUE_BYTES_MAX && self.course == Course::Committing
    }

    pub(in crate::hub) fn push(&mut self, queued: Queued) {
        self.bytes += queued.bytes();
        self.queued.push_back(queued);
    }

    /// Accepts no more messages. The queued ones are committed, then the ring is closed.
    pub(in crate::hub) fn begin_closing(&mut self) {
        if self.course != Course::Ended {
            self.course = Course::Closing;
        }
    }

    /// [`CommitQueue::begin_closing`] for a handover: if the close fails, this process keeps the ring.
    pub(in crate::hub) fn begin_release(&mut self) {
        self.course = Course::Releasing;
    }

    /// Continues with commits after a release that took too long. False if the committer has ended.
    pub(in crate::hub) fn give_up_release(&mut self) -> bool {
        if self.course == Course::Ended {
            return false;
        }
        self.course = Course::Committing;
        true
    }

    pub(in crate::hub) fn is_closing(&self) -> bool {
        self.course != Course::Committing
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

    /// Decides what follows a close. The result is returned if the committer is to end. `None` if it is
    /// to continue: a release has failed or took too long, or messages were queued in the meantime.
    pub(in crate::hub) fn settle_close(
        &mut self,
        closed: io::Result<()>,
    ) -> Option<io::Result<()>> {
        match self.course {
            Course::Releasing if closed.is_err() => {
                self.course = Course::Committing;
                self.closed = Some(closed);
                None
            }
            Course::Closing | Course::Releasing if !self.has_queued() => {
                self.course = Course::Ended;
                Some(closed)
            }
            _ => None,
        }
    }
}
