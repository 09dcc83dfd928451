//! Group commit (`--durability disk`): a message is on disk before it is sent or acknowledged.
//!
//! Shards and the mirror put messages into the hub's [`CommitQueue`] and continue. The
//! [`Committer`], on its own thread, owns the ring. It takes the queued messages, appends them, syncs
//! once, and then passes them to the hub, which sends them to the shards and acknowledges them. So a
//! power failure loses no message that a stream or a sender has seen. Messages that arrive during a
//! sync form the next commit.
//!
//! When a sync fails, the ring is written anew without the messages of that commit. They were sent
//! to no stream; their senders get an error, and their seqs are reused.
//!
//! Apart from repairs and closes, this is the only code of the hub that waits for a disk.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::repair::{Repairs, log_aside};
use super::{Batch, Hub, NotStored, Receipt, SenderId};
use crate::clock::{Clock, Now};
use crate::limits::{BATCH_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MESSAGE_BYTES};
use crate::message::Message;
use crate::metrics::{Counter, Metrics, Tally, Timing};
use crate::ring::{Ring, RingError};

/// Where the outcome of a message goes.
#[derive(Clone)]
pub(super) enum Origin {
    /// To a shard, in a batch.
    Shard(SenderId),
    /// To a thread that waits in [`Hub::admit`].
    Waiting(Sender<Result<Receipt, NotStored>>),
}

/// A message that waits for its commit. An error is queued as well, so that the outcomes keep the
/// order of the messages.
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

/// The messages of the next commits.
#[derive(Default)]
pub(super) struct CommitQueue {
    queued: VecDeque<Queued>,
    bytes: usize,
    /// One more than the seq of the newest committed message.
    pub(super) next_seq: u64,
    course: Course,
    /// The result of closing the ring, once there is one.
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

    /// Accepts no more messages. The queued ones are committed, then the ring is closed.
    pub(super) fn begin_closing(&mut self) {
        if self.course != Course::Ended {
            self.course = Course::Closing;
        }
    }

    /// [`CommitQueue::begin_closing`] for a handover: if the close fails, this process keeps the ring.
    pub(super) fn begin_release(&mut self) {
        self.course = Course::Releasing;
    }

    /// Continues with commits after a release that took too long. False if the committer has ended.
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

/// The owner of the ring with `--durability disk`.
pub struct Committer {
    ring: Ring,
    /// A sync has failed, and the ring still holds messages that were refused.
    holds_refused: bool,
    /// In trouble from a failed commit or repair until a commit succeeds. On the monotonic clock.
    repairs: Repairs,
    tally: Tally,
}

/// The messages and outcomes of one commit.
#[derive(Default)]
struct Group {
    batch: Batch,
    messages: Vec<Arc<Message>>,
    outcomes: Vec<(Origin, Result<Receipt, NotStored>)>,
}

impl Group {
    /// Turns every receipt into this error: no message of the group is stored.
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

    /// Commits until the hub closes or releases the ring. Then closes the ring, unlocks it, and
    /// reports the result to the hub.
    pub fn run(mut self, hub: &Hub, metrics: &Metrics, clock: Clock) {
        loop {
            while hub.await_queued() {
                self.commit(hub, metrics, || clock.now());
            }
            let closed = self.close(hub);
            if let Some(closed) = hub.settle_close(closed) {
                // Unlocked before the report, because after it another process may open the ring.
                drop(self);
                return hub.report_closed(closed);
            }
        }
    }

    /// Makes one commit of queued messages. False if there are none, or a shard's inbox is full.
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
        // Flushed before the outcomes are sent: after an answer the metrics include its commit.
        self.tally.flush(metrics);
        hub.show(group.batch, group.messages, group.outcomes);
        true
    }

    /// Commits what is still queued and marks the ring as cleanly closed.
    pub fn close(&mut self, hub: &Hub) -> io::Result<()> {
        if self.holds_refused {
            // The file holds messages that were refused, so it must not be marked as cleanly closed.
            self.rewind(hub).map_err(io::Error::other)?;
        }
        self.repairs
            .close(&mut self.ring, &hub.ring_view().messages)
    }

    /// Fails a group whose sync has failed. After the first failure in a row the ring is written anew
    /// at once; after a further one, when a repair is due.
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
            // A failure is retried when a repair is due.
            let _ = self.rewind(hub);
        }
    }

    /// Checks the ring before messages are appended, and repairs it if that is needed and due.
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

    /// Removes every message from the ring that was not shown.
    fn rewind(&mut self, hub: &Hub) -> Result<(), RingError> {
        let view = hub.ring_view();
        let next_seq = view.first_seq + view.messages.len() as u64;
        let history = view.messages.iter().map(|message| &**message);
        log_aside(self.ring.rewind(next_seq, history)?.as_deref());
        self.holds_refused = false;
        Ok(())
    }

    /// Encodes a message, then appends it, as `Hub::store` does.
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
    /// Returns the result of the close if the committer is to end. `None` if it is to continue: a
    /// release has failed or took too long, or messages were queued in the meantime.
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

    /// Reports the result of a close to the thread that waits for it.
    pub(super) fn report_closed(&self, closed: io::Result<()>) {
        if let Some(queue) = self.lock().queue() {
            queue.closed = Some(closed);
        }
        self.closed.notify_all();
    }

    /// Takes the messages of the next commit. `None` if none is queued, or an inbox is full.
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
