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

mod queue;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::queue::{CommitQueue, Origin, Queued};
use super::outcome::Outcome;
use super::repair::{Repairs, log_aside};
use super::{Batch, Hub, NO_PANIC, NotStored, Receipt, State};
use crate::clock::{Clock, Now};
use crate::message::Message;
use crate::metrics::{Counter, Metrics, Tally, Timing};
use crate::ring::{Ring, RingError};

/// The owner of the ring with `--durability disk`.
pub struct Committer {
    ring: Ring,
    /// A sync has failed, and the ring still holds messages that were refused.
    holds_refused: bool,
    /// When repairs are due, from a failed commit or repair until a commit succeeds.
    repairs: Repairs,
    tally: Tally,
}

/// The messages and outcomes of one commit.
#[derive(Default)]
struct Group {
    batch: Batch,
    messages: Vec<Arc<Message>>,
    outcomes: Vec<(Origin, Outcome)>,
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
                hub.close_identities();
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
        let Now {
            mono_ms, unix_ms, ..
        } = clock();
        let readied = self.make_ready(hub, mono_ms);
        let first_seq = self.ring.next_seq();
        let mut group = Group::default();
        for Queued { message, origin } in taken {
            let stored = match &readied {
                Ok(()) => match message {
                    Ok(message) => self.append(hub, &mut group, message, unix_ms),
                    Err(outcome) => outcome,
                },
                Err(error) => Err(NotStored::Ring(Arc::clone(error))),
            };
            group.outcomes.push((origin, stored));
        }
        if !group.messages.is_empty() {
            hub.sync_identities(self.ring.next_seq());
            match self.sync(&clock) {
                Ok(()) => {
                    self.repairs.note_success();
                    hub.keep_identities();
                    // A large commit may push its own first messages out of the last 100.
                    hub.sync_identities(self.ring.next_seq());
                }
                Err(error) => {
                    hub.take_back_identities(first_seq);
                    self.fail(hub, &mut group, error, clock().mono_ms);
                }
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
        unix_ms: u64,
    ) -> Outcome {
        if let Some(outcome) = hub.outcome_of_repeat(&message, unix_ms) {
            return outcome;
        }
        let (epoch, seq) = (self.ring.epoch(), self.ring.next_seq());
        hub.encode(&mut group.batch, epoch, seq, &message)?;
        if let Err(error) = self.ring.append(&message) {
            group.batch.pop();
            return Err(NotStored::Ring(Arc::new(error)));
        }
        hub.note_identity(seq, &message);
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
    /// Waits until a message is queued and the inboxes have room. False when the queue is empty and
    /// closed.
    fn await_queued(&self) -> bool {
        let is_idle = |state: &mut State| {
            let queue = state.queue();
            queue.is_some_and(|queue| !queue.has_queued() && !queue.closing.is_begun())
        };
        let state = self
            .queued
            .wait_while(self.lock(), is_idle)
            .expect(NO_PANIC);
        // Without a deadline: the committer has nothing else to do, and the queue is bounded.
        let is_blocked = |state: &mut State| state.has_queued() && !self.outlets.have_room();
        let (mut state, _) = self.room.wait(state, Duration::MAX, is_blocked);
        state.has_queued()
    }

    /// Takes the messages of the next commit. `None` if none is queued, or an inbox is full.
    fn take_queued(&self, messages_max: usize) -> Option<Vec<Queued>> {
        let mut state = self.lock();
        if !self.outlets.have_room() {
            return None;
        }
        let taken = state.queue()?.take(messages_max);
        if taken.is_empty() {
            return None;
        }
        self.room.announce_locked();
        Some(taken)
    }

    /// Sends committed messages to the shards, and outcomes to the senders. The inboxes have room
    /// since the messages were taken ([`CommitQueue::places_kept`]).
    fn show(
        &self,
        mut batch: Batch,
        messages: Vec<Arc<Message>>,
        outcomes: Vec<(Origin, Outcome)>,
    ) {
        let mut has_local = false;
        let mut waiting = Vec::new();
        for (origin, outcome) in outcomes {
            match origin {
                Origin::Shard(sender) => {
                    has_local |= outcome.is_ok();
                    batch.outcomes.push((sender, outcome));
                }
                Origin::Waiting(sender) => waiting.push((sender, outcome)),
                Origin::Again => {}
            }
        }
        let mut state = self.lock();
        if let Some(queue) = state.queue() {
            queue.end_commit();
        }
        for message in messages {
            state.history.push(message);
        }
        self.outlets.send(batch);
        drop(state);
        self.outlets.wake();
        for (sender, outcome) in waiting {
            // The channel has room for every outcome. It is closed if the caller has given up.
            let _ = sender.try_send(outcome);
        }
        if has_local {
            self.wake_mirror();
        }
    }
}

#[cfg(test)]
mod tests;
