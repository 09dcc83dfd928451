//! Group commit: a message reaches the disk before anybody is told of it (`--durability disk`).
//!
//! Shards and the mirror leave messages in the hub's [`CommitQueue`] and go on with their turns. The
//! [`Committer`], on a thread of its own, has the ring to itself: it takes what is queued, appends
//! it, waits for the disk once, and only then gives it to the hub to be shown to the streams and
//! acknowledged to its senders. So nothing that a stream has seen or a sender was told goes away
//! when the power does; the messages that come meanwhile are the next commit. When the disk fails,
//! the ring is written anew without what it did not take: that was shown to nobody, its senders get
//! an error, its seqs are given again. The only code of the hub that waits for a disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::repair::{Repairs, tell_aside};
use super::{Batch, Hub, NotStored, Receipt, SenderId};
use crate::clock::{Clock, Now};
use crate::limits::{BATCH_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MESSAGE_BYTES};
use crate::message::Message;
use crate::metrics::{Counter, Metrics, Tally, Timing};
use crate::ring::{Ring, RingError};

/// Who is told what became of a message.
#[derive(Clone)]
pub(super) enum Origin {
    /// A shard, through the batch that shows the message.
    Shard(SenderId),
    /// Somebody who waits for it.
    Waiting(Sender<Result<Receipt, NotStored>>),
}

/// A message that waits for its commit. One that could not even be made waits as well, so that
/// outcomes keep the order of what they are of.
pub(super) struct Queued {
    pub(super) message: Result<Arc<Message>, NotStored>,
    pub(super) origin: Origin,
}

impl Queued {
    fn bytes(&self) -> usize {
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

/// What the next commits are made of.
#[derive(Default)]
pub(super) struct CommitQueue {
    queued: VecDeque<Queued>,
    bytes: usize,
    /// The seq behind the newest message that was committed.
    pub(super) next_seq: u64,
    course: Course,
    /// How the close of the ring went, once it has.
    pub(super) closed: Option<io::Result<()>>,
}

/// What the committer does with its ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Course {
    /// It commits what is queued.
    #[default]
    Committing,
    /// It commits the rest, closes the ring and ends.
    Closing,
    /// The same, for another process; if the close fails, it keeps the ring and goes on.
    Releasing,
    /// It has ended: the report of the close follows.
    Ended,
}

impl CommitQueue {
    pub(super) fn new(next_seq: u64) -> CommitQueue {
        CommitQueue {
            next_seq,
            ..CommitQueue::default()
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < COMMIT_QUEUE_BYTES_MAX && self.course == Course::Committing
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.bytes += queued.bytes();
        self.queued.push_back(queued);
    }

    /// Takes nothing more; what is there is committed, then the ring is closed.
    pub(super) fn begin_closing(&mut self) {
        if self.course != Course::Ended {
            self.course = Course::Closing;
        }
    }

    /// The same for a ring that is given away: if its close fails, it stays here.
    pub(super) fn begin_release(&mut self) {
        self.course = Course::Releasing;
    }

    /// Commits go on: the ring is not given away. False if it is too late for that.
    pub(super) fn give_up_release(&mut self) -> bool {
        if self.course == Course::Ended {
            return false;
        }
        self.course = Course::Committing;
        true
    }

    pub(super) fn is_closing(&self) -> bool {
        self.course != Course::Committing
    }

    pub(super) fn has_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    fn take(&mut self, messages_max: usize) -> Vec<Queued> {
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
        taken
    }
}

/// The owner of the ring where commits wait for the disk.
pub struct Committer {
    ring: Ring,
    /// The disk has failed a commit, and the ring holds messages that were refused.
    holds_refused: bool,
    /// In trouble from a commit that failed, or a repair, until a commit succeeds. By the monotonic
    /// clock.
    repairs: Repairs,
    tally: Tally,
}

/// What a commit has come to so far.
#[derive(Default)]
struct Group {
    batch: Batch,
    messages: Vec<Arc<Message>>,
    outcomes: Vec<(Origin, Result<Receipt, NotStored>)>,
}

impl Group {
    /// Nothing of it is on disk.
    fn fail(&mut self, error: &Arc<RingError>) {
        self.batch = Batch::default();
        self.messages.clear();
        for (_, outcome) in self.outcomes.iter_mut().filter(|(_, o)| o.is_ok()) {
            *outcome = Err(NotStored::Ring(Arc::clone(error)));
        }
    }
}

impl Committer {
    pub(super) fn new(ring: Ring) -> Committer {
        Committer {
            ring,
            holds_refused: false,
            repairs: Repairs::default(),
            tally: Tally::new(),
        }
    }

    /// Commits until the hub is closed or gives the ring away, then closes the ring, unlocks it, and
    /// tells the hub how that went.
    pub fn run(mut self, hub: &Hub, metrics: &Metrics, clock: Clock) {
        loop {
            while hub.await_queued() {
                self.commit(hub, metrics, || clock.now());
            }
            let closed = self.close(hub);
            if let Some(closed) = hub.settle_close(closed) {
                // Unlocked before the report: then another process may open it.
                drop(self);
                return hub.report_closed(closed);
            }
        }
    }

    /// Makes one commit of what is queued. False if nothing was, or a shard's inbox is full.
    pub fn commit(&mut self, hub: &Hub, metrics: &Metrics, clock: impl Fn() -> Now) -> bool {
        let Some(taken) = hub.take_queued(self.ring.unsynced_max()) else {
            return false;
        };
        let readied = self.make_ready(hub, clock().mono_ms);
        let mut group = Group::default();
        for Queued { message, origin } in taken {
            let stored = match &readied {
                Ok(()) => message.and_then(|message| self.append(hub, &mut group, message)),
                Err(error) => Err(NotStored::Ring(Arc::clone(error))),
            };
            group.outcomes.push((origin, stored));
        }
        if !group.messages.is_empty() {
            match self.sync(&clock) {
                Ok(()) => self.repairs.note_success(),
                Err(error) => self.fail(hub, &mut group, error, clock().mono_ms),
            }
        }
        // Before anybody is told: who has an answer finds its commit counted.
        self.tally.flush(metrics);
        hub.show(group.batch, group.messages, group.outcomes);
        true
    }

    /// Commits what is still queued and marks the ring as cleanly closed.
    pub fn close(&mut self, hub: &Hub) -> io::Result<()> {
        if self.holds_refused {
            // What is in the file is not what was acknowledged: no mark may vouch for it.
            self.rewind(hub).map_err(io::Error::other)?;
        }
        self.repairs
            .close(&mut self.ring, &hub.ring_view().messages)
    }

    /// Nothing of the group is on disk. The first time in a row the ring is written anew at once;
    /// where that does not help, with the next commit that is due.
    fn fail(&mut self, hub: &Hub, group: &mut Group, error: io::Error, now_ms: u64) {
        let error = Arc::new(RingError::Unsynced(error));
        self.tally.count(Counter::RingSyncErrors, 1);
        group.fail(&error);
        self.holds_refused = true;
        let is_first = !self.repairs.is_in_trouble();
        let what =
            "a commit has failed; webhooks are refused until the ring is written anew without it";
        self.repairs.note_failure(&error, now_ms, what);
        if is_first {
            // If it fails, it is tried again when it is due.
            let _ = self.rewind(hub);
        }
    }

    /// Sees that the ring is what it should be before it is appended to.
    fn make_ready(&mut self, hub: &Hub, now_ms: u64) -> Result<(), Arc<RingError>> {
        if self.holds_refused {
            return match self.repairs.refusal(now_ms) {
                Some(error) => Err(error),
                None => self
                    .rewind(hub)
                    .map_err(|error| self.repairs.note_unrepaired(error, now_ms)),
            };
        }
        if self.repairs.is_sound(&self.ring, now_ms) {
            return Ok(());
        }
        let history = hub.ring_view().messages;
        self.repairs.mend(&mut self.ring, &history, now_ms)
    }

    /// Takes back everything that is in the ring and was not shown.
    fn rewind(&mut self, hub: &Hub) -> Result<(), RingError> {
        let view = hub.ring_view();
        let next_seq = view.first_seq + view.messages.len() as u64;
        let history = view.messages.iter().map(|message| &**message);
        tell_aside(self.ring.rewind(next_seq, history)?.as_deref());
        self.holds_refused = false;
        Ok(())
    }

    /// Encodes first, appends last, as every publish does.
    fn append(
        &mut self,
        hub: &Hub,
        group: &mut Group,
        message: Arc<Message>,
    ) -> Result<Receipt, NotStored> {
        hub.encode(&mut group.batch, self.ring.next_seq(), &message)?;
        if let Err(error) = self.ring.append(&message) {
            group.batch.pop();
            return Err(NotStored::Ring(Arc::new(error)));
        }
        let receipt = Receipt::of(&message);
        group.messages.push(message);
        Ok(receipt)
    }

    fn sync(&mut self, clock: &impl Fn() -> Now) -> io::Result<()> {
        let began_us = clock().mono_us;
        let synced = self.ring.commit();
        let took = Duration::from_micros(clock().mono_us - began_us);
        self.tally.observe(Timing::RingSync, took);
        synced
    }
}

impl Hub {
    /// Returns how the close went if the committer is to end. It goes on where the ring was to be
    /// given away and that failed or took too long, or where messages came meanwhile.
    pub(super) fn settle_close(&self, closed: io::Result<()>) -> Option<io::Result<()>> {
        let mut state = self.lock();
        let queue = state.queue()?;
        match queue.course {
            Course::Releasing if closed.is_err() => {
                queue.course = Course::Committing;
                queue.closed = Some(closed);
                drop(state);
                self.closed.notify_all();
                None
            }
            Course::Closing | Course::Releasing if !queue.has_queued() => {
                queue.course = Course::Ended;
                Some(closed)
            }
            _ => None,
        }
    }

    /// Tells who closes the hub how it went.
    pub(super) fn report_closed(&self, closed: io::Result<()>) {
        if let Some(queue) = self.lock().queue() {
            queue.closed = Some(closed);
        }
        self.closed.notify_all();
    }

    /// Takes what the next commit is of; `None` if nothing waits, or a shard has no room for it.
    fn take_queued(&self, messages_max: usize) -> Option<Vec<Queued>> {
        let mut state = self.lock();
        if self.is_full() {
            return None;
        }
        let taken = state.queue()?.take(messages_max);
        (!taken.is_empty()).then_some(taken)
    }
}

#[cfg(test)]
mod tests;
