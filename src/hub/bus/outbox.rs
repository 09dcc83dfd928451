//! Messages on their way to the bus and back: until each has come back, or its time is over.
//!
//! Filled by shards and by the mirror, read by the appender and by the follower, all under the hub's lock.
//! Bounded by [`COMMIT_QUEUE_BYTES_MAX`]. Without I/O and without a clock.
//!
//! Messages are sent in their order and come back in it, so the outcomes have it too. A message that was
//! sent is in doubt until it comes back, or a fence shows that it is not in the log.

use std::collections::{HashMap, VecDeque};

use crate::hub::commit::Origin;
use crate::hub::outcome::Outcome;
use crate::hub::{NotStored, Outgoing, Receipt, Repeat};
use crate::limits::{COMMIT_QUEUE_BYTES_MAX, COMMIT_QUEUE_MESSAGE_BYTES};
use crate::message::{Epoch, Message, MessageId};

/// See the module's documentation.
#[derive(Default)]
pub(in crate::hub) struct Outbox {
    /// The oldest first.
    items: VecDeque<Item>,
    /// How many items were removed: the ordinal of the first that is left.
    removed: u64,
    /// All items before this place were sent, or have an outcome.
    taken: usize,
    /// Messages of the mirror whose time was over while they were in doubt, with epoch and number. Until the
    /// doubt is resolved they are not sent again.
    doubted: HashMap<MessageId, (Epoch, u64)>,
    /// Ordinals of the items that were sent.
    sent: HashMap<MessageId, u64>,
    bytes: usize,
}

struct Item {
    /// `None` if it could not be made.
    outgoing: Option<Outgoing>,
    origin: Origin,
    /// When it was queued, by the monotonic clock.
    queued_us: u64,
    deadline_ms: u64,
    /// The message may be in a history that another one has replaced.
    is_doubtful: bool,
    stage: Stage,
}

enum Stage {
    /// Not in the log, and no call is under way that may append it.
    Queued,
    Sent {
        epoch: Epoch,
        number: u64,
        /// Enough replicas have confirmed it.
        is_replicated: bool,
        /// It has come back.
        receipt: Option<Receipt>,
    },
    Over(Outcome),
}

impl Outbox {
    pub(in crate::hub) fn has_room(&self) -> bool {
        self.bytes < COMMIT_QUEUE_BYTES_MAX
    }

    pub(in crate::hub) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many messages have no outcome yet.
    pub(in crate::hub) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether a message waits to be sent.
    pub(in crate::hub) fn has_queued(&self) -> bool {
        self.items.range(self.taken..).any(Item::is_queued)
    }

    /// Adds a message, or the outcome of a draft that becomes none. After `deadline_ms` it has an outcome in any case.
    pub(in crate::hub) fn push(
        &mut self,
        outgoing: Result<Outgoing, Outcome>,
        origin: Origin,
        queued_us: u64,
        deadline_ms: u64,
    ) {
        let (outgoing, stage) = match outgoing {
            Ok(outgoing) if self.doubted.contains_key(&outgoing.message.id) => {
                (None, Stage::Over(Err(NotStored::Busy)))
            }
            Ok(outgoing) => (Some(outgoing), Stage::Queued),
            Err(outcome) => (None, Stage::Over(outcome)),
        };
        let item = Item {
            outgoing,
            origin,
            queued_us,
            deadline_ms,
            is_doubtful: false,
            stage,
        };
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    /// The next messages to send. They get the numbers after `last_number`.
    pub(in crate::hub) fn take(
        &mut self,
        epoch: Epoch,
        last_number: &mut u64,
        messages_max: usize,
        bytes_max: usize,
        needs_replicas: bool,
    ) -> Vec<Outgoing> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while self.taken < self.items.len() && taken.len() < messages_max && bytes < bytes_max {
            let ordinal = self.removed + self.taken as u64;
            let item = &mut self.items[self.taken];
            self.taken += 1;
            let Some(outgoing) = item.outgoing.clone().filter(|_| item.is_queued()) else {
                continue;
            };
            *last_number += 1;
            item.stage = Stage::Sent {
                epoch,
                number: *last_number,
                is_replicated: !needs_replicas,
                receipt: None,
            };
            bytes += item.bytes();
            self.sent.insert(outgoing.message.id, ordinal);
            taken.push(outgoing);
        }
        taken
    }

    /// Queues again what was sent with a number after this one: it is not in the log, and will not be.
    pub(in crate::hub) fn requeue_after(&mut self, last_stored: u64) {
        self.requeue(false, |_, number| number > last_stored);
    }

    /// Queues again what was sent in an earlier epoch and has not come back with this one: the log has
    /// lost it.
    pub(in crate::hub) fn requeue_before(&mut self, current: Epoch) {
        self.requeue(true, |epoch, _| epoch != current);
    }

    fn requeue(&mut self, is_doubtful: bool, is_gone: impl Fn(Epoch, u64) -> bool) {
        self.doubted
            .retain(|_, &mut (epoch, number)| !is_gone(epoch, number));
        for (place, item) in self.items.iter_mut().enumerate() {
            if let Stage::Sent {
                epoch,
                number,
                receipt: None,
                ..
            } = item.stage
                && is_gone(epoch, number)
            {
                item.stage = Stage::Queued;
                item.is_doubtful |= is_doubtful;
                forget(&mut self.sent, item.outgoing.as_ref());
                self.taken = self.taken.min(place);
            }
        }
    }

    /// Notes that a message repeats another one, which is in the log. It is acknowledged with the receipt of that one,
    /// or refused if another body has had its key.
    pub(in crate::hub) fn note_repeat(&mut self, repeat: &Repeat) {
        let is_it = |item: &&mut Item| matches!(item.stage, Stage::Sent { number, .. } if number == repeat.number);
        let Some(item) = self.items.iter_mut().take(self.taken).find(is_it) else {
            return;
        };
        forget(&mut self.sent, item.outgoing.as_ref());
        let identity = item
            .outgoing
            .as_ref()
            .and_then(|outgoing| outgoing.message.identity.as_ref());
        let body = identity.and_then(|identity| identity.body);
        if body
            .zip(repeat.body)
            .is_some_and(|(own, first)| own != first)
        {
            item.stage = Stage::Over(Err(NotStored::KeyReused));
        } else if let Stage::Sent { receipt, .. } = &mut item.stage {
            *receipt = Some(Receipt::of_first(repeat.first));
            item.settle();
        }
    }

    /// Notes that replicas have confirmed everything that was sent.
    pub(in crate::hub) fn note_replicated(&mut self) {
        for item in &mut self.items {
            if let Stage::Sent { is_replicated, .. } = &mut item.stage {
                *is_replicated = true;
            }
            item.settle();
        }
    }

    /// Whether a message has come back, or is stored, and waits for replicas.
    pub(in crate::hub) fn awaits_replicas(&self) -> bool {
        let is_waiting = |item: &Item| {
            matches!(
                item.stage,
                Stage::Sent {
                    is_replicated: false,
                    ..
                }
            )
        };
        self.items.iter().take(self.taken).any(is_waiting)
    }

    /// Notes that a message has come back. Returns when it was queued; `None` if it is none of this outbox, or its
    /// time was over.
    pub(in crate::hub) fn note_shown(&mut self, message: &Message) -> Option<u64> {
        // Most messages are those of other nodes, and most outboxes that are asked are empty.
        if !self.doubted.is_empty() {
            self.doubted.remove(&message.id);
        }
        if self.sent.is_empty() {
            return None;
        }
        let ordinal = self.sent.remove(&message.id)?;
        let place = (ordinal - self.removed) as usize;
        let item = &mut self.items[place];
        if let Stage::Sent { receipt, .. } = &mut item.stage {
            *receipt = Some(Receipt::of(message));
        }
        item.settle();
        Some(item.queued_us)
    }

    /// Ends the wait of messages whose time is over.
    pub(in crate::hub) fn expire(&mut self, now_ms: u64) {
        for item in &mut self.items {
            if item.deadline_ms > now_ms {
                break;
            }
            let error = match item.stage {
                Stage::Queued if !item.is_doubtful => NotStored::NoBus,
                Stage::Queued | Stage::Sent { .. } => NotStored::InDoubt,
                Stage::Over(_) => continue,
            };
            if let (Stage::Sent { epoch, number, .. }, Origin::Waiting(_), Some(outgoing)) =
                (&item.stage, &item.origin, &item.outgoing)
            {
                let sent = (*epoch, *number);
                self.doubted.insert(outgoing.message.id, sent);
            }
            forget(&mut self.sent, item.outgoing.as_ref());
            item.stage = Stage::Over(Err(error));
        }
    }

    /// Ends the wait of messages that are certainly not in the log.
    pub(in crate::hub) fn refuse(&mut self) {
        for item in self.items.range_mut(self.taken..) {
            let is_kept = matches!(item.origin, Origin::Again) || item.is_doubtful;
            if item.is_queued() && !is_kept {
                item.stage = Stage::Over(Err(NotStored::NoBus));
            }
        }
    }

    /// When the next message's time is over.
    pub(in crate::hub) fn next_deadline_ms(&self) -> Option<u64> {
        let is_open = |item: &&Item| !matches!(item.stage, Stage::Over(_));
        self.items.iter().find(is_open).map(|item| item.deadline_ms)
    }

    /// Whether [`Outbox::take_over`] has something.
    pub(in crate::hub) fn has_over(&self) -> bool {
        let first = self.items.front();
        first.is_some_and(|item| matches!(item.stage, Stage::Over(_)))
    }

    /// Removes the oldest messages that have an outcome, in order.
    pub(in crate::hub) fn take_over(&mut self) -> Vec<(Origin, Outcome)> {
        let mut over = Vec::new();
        while self.has_over()
            && let Some(item) = self.items.pop_front()
        {
            self.removed += 1;
            self.taken = self.taken.saturating_sub(1);
            self.bytes -= item.bytes();
            if let Stage::Over(outcome) = item.stage {
                over.push((item.origin, outcome));
            }
        }
        over
    }
}

fn forget(sent: &mut HashMap<MessageId, u64>, outgoing: Option<&Outgoing>) {
    if let Some(outgoing) = outgoing {
        sent.remove(&outgoing.message.id);
    }
}

impl Item {
    fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued)
    }

    /// Its part of [`COMMIT_QUEUE_BYTES_MAX`].
    fn bytes(&self) -> usize {
        let text = |outgoing: &Outgoing| outgoing.message.text_bytes();
        COMMIT_QUEUE_MESSAGE_BYTES + self.outgoing.as_ref().map_or(0, text)
    }

    /// Gives it its receipt, once it has come back and replicas have confirmed it.
    fn settle(&mut self) {
        if let Stage::Sent {
            is_replicated: true,
            receipt: Some(receipt),
            ..
        } = self.stage
        {
            self.stage = Stage::Over(Ok(receipt));
        }
    }
}

#[cfg(test)]
mod tests;
