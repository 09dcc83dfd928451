//! The hub's side of a bus: messages wait for their way there and back, and are stored when they have come
//! back.
//!
//! Shards and the mirror fill the queue and continue. The appender takes messages from it and sends them.
//! The follower gives everything that comes back, from all nodes, to the [`BusStore`], which owns the ring:
//! it appends the messages, sends them to the shards, and acknowledges those of this node. So the order of
//! the bus is the order of the ring and of every stream.
//!
//! Never calls an engine. `outbox` holds the messages on their way.

mod outbox;
mod store;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::Duration;

use self::outbox::Outbox;
pub use self::store::{BusStore, HistoryStart, Shown};
use super::closing::Closing;
use super::commit::Origin;
use super::history::History;
use super::{Batch, Hub, Made, NO_PANIC, NotStored, Outlet, State, Store};
use crate::clock::Now;
use crate::identities::First;
use crate::limits::{
    BUS_APPEND_BYTES_MAX, BUS_APPEND_MESSAGES_MAX, BUS_REPUBLISH_MS, FRAME_OVERHEAD_BYTES_MAX,
};
use crate::message::{Epoch, Fingerprint, Message};
use crate::ring::Ring;
use crate::sse::lineage::Lineage;

/// The longest escape of one byte of content in a frame: `\u0001`.
const ESCAPE_BYTES_MAX: usize = 6;

/// A message for the bus.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The message. The engine replaces its time, unless `keeps_time`.
    pub message: Arc<Message>,
    /// The message has the time of another history.
    pub keeps_time: bool,
}

/// A message that was not appended, because its identity is that of another one in the engine's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// Its number.
    pub number: u64,
    /// The other message.
    pub first: First,
    /// The fingerprint of the other one's body, if it has one and both have the same id.
    pub body: Option<Fingerprint>,
}

/// How webhooks wait for the bus.
#[derive(Debug, Clone, Copy)]
pub struct BusSettings {
    /// How long a webhook waits for its acknowledgement.
    pub timeout_ms: u64,
    /// An acknowledgement waits for replicas.
    pub needs_replicas: bool,
    /// A message is on disk before it is shown.
    pub syncs: bool,
}

/// Messages on their way to the bus and back.
pub(super) struct BusQueue {
    pub(super) settings: BusSettings,
    /// Which run of the bus's threads works on it: those of an earlier run end.
    pub(super) run: u64,
    /// Messages that were acknowledged in a history that another one has replaced. They go first.
    again: Outbox,
    fresh: Outbox,
    /// The number of the message that was sent last. It goes on over runs, as the producer does.
    pub(super) last_number: u64,
    /// The appender waits for messages. Otherwise it needs no wake-up, which is a system call.
    is_awaited: bool,
    /// The deadline thread sleeps up to here.
    watched_ms: u64,
    /// How the follower ends.
    pub(super) closing: Closing,
}

impl BusQueue {
    pub(super) fn new(settings: BusSettings, run: u64, last_number: u64) -> BusQueue {
        BusQueue {
            settings,
            run,
            again: Outbox::default(),
            fresh: Outbox::default(),
            last_number,
            is_awaited: false,
            watched_ms: 0,
            closing: Closing::default(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.fresh.has_room() && !self.closing.is_begun()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.fresh.is_empty()
    }

    fn has_queued(&self) -> bool {
        self.again.has_queued() || self.fresh.has_queued()
    }

    fn outboxes(&mut self) -> [&mut Outbox; 2] {
        [&mut self.again, &mut self.fresh]
    }

    /// Wakes the deadline thread if it would sleep beyond this deadline.
    fn watch(&mut self, deadline_ms: u64, thread: &Condvar) {
        if deadline_ms < self.watched_ms {
            self.watched_ms = deadline_ms;
            thread.notify_all();
        }
    }

    /// Whether an outcome can be sent.
    fn has_over(&self) -> bool {
        self.again.has_over() || self.fresh.has_over()
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        let deadlines = [self.again.next_deadline_ms(), self.fresh.next_deadline_ms()];
        deadlines.into_iter().flatten().min()
    }
}

/// Messages for one append call.
#[derive(Debug, Default)]
pub struct AppendBatch {
    /// The number of the first.
    pub first_number: u64,
    /// In order; each has the next number.
    pub messages: Vec<Outgoing>,
}

/// What the appender is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Messages are queued.
    pub has_queued: bool,
    /// Everything is sent and has come back, and the follower is to close the ring.
    pub is_closing: bool,
    /// The follower has ended.
    pub is_ended: bool,
}

impl Hub {
    /// A hub whose messages are stored when they come back from a bus. `messages` are the newest of the bus,
    /// oldest first: those of the ring and what came before them. The ring has the lineage's epoch.
    pub fn with_bus(
        ring: Ring,
        lineage: Arc<Lineage>,
        messages: Vec<Arc<Message>>,
        outlets: Vec<Outlet>,
        mirror: Option<crossbeam_channel::Sender<()>>,
        settings: BusSettings,
    ) -> (Hub, BusStore) {
        let mut hub = Hub::with_queue(&ring, Vec::new(), outlets, mirror);
        let first_seq = ring.next_seq() - messages.len() as u64;
        hub.is_shared = true;
        let state = hub.state.get_mut().expect(NO_PANIC);
        state.store = Store::Bus(Box::new(BusQueue::new(settings, 1, 0)));
        state.lineage = lineage;
        state.history = History::with_backlog(first_seq, messages);
        (hub, BusStore::new(ring, settings, 1))
    }

    /// Drops what the live logs needed for their first contents.
    pub fn drop_backlog(&self) {
        self.lock().history.drop_backlog();
    }

    /// Queues messages, as far as there is room. Returns whether the appender waits for them and is to be woken.
    pub(super) fn queue_for_bus<T>(
        &self,
        state: &mut State,
        items: &mut VecDeque<T>,
        mut message: impl FnMut(&mut State, T) -> Made,
        origin: &Origin,
        wait_ms: Option<u64>,
        now: Now,
    ) -> bool {
        while state.bus().is_some_and(|queue| queue.has_room())
            && let Some(item) = items.pop_front()
        {
            let outgoing = message(state, item).and_then(|message| {
                self.check_frame(&message).map_err(Err)?;
                Ok(Outgoing {
                    message,
                    keeps_time: matches!(origin, Origin::Waiting(_)),
                })
            });
            if let Some(queue) = state.bus() {
                let deadline_ms = now.mono_ms + wait_ms.unwrap_or(queue.settings.timeout_ms);
                queue
                    .fresh
                    .push(outgoing, origin.clone(), now.mono_us, deadline_ms);
                // The outcome of one that cannot be sent is due at once.
                let is_over = queue.has_over();
                queue.watch(if is_over { 0 } else { deadline_ms }, &self.deadlines);
            }
        }
        state.bus().is_some_and(|queue| queue.is_awaited)
    }

    /// Whether this node has room for a message, also for its frame. Other nodes may accept larger ones.
    pub fn takes(&self, message: &Message) -> bool {
        let bytes_max = self.frame_bytes_max - FRAME_OVERHEAD_BYTES_MAX;
        message.text_bytes() <= bytes_max && self.check_frame(message).is_ok()
    }

    /// Checks that a message's frame is not too large, before other nodes get it.
    fn check_frame(&self, message: &Message) -> Result<(), NotStored> {
        let bytes_max = ESCAPE_BYTES_MAX * message.text_bytes() + FRAME_OVERHEAD_BYTES_MAX;
        if bytes_max <= self.frame_bytes_max {
            return Ok(());
        }
        self.encode(&mut Batch::default(), Epoch(0), 0, message)
    }

    /// Waits until messages are queued, the end begins, or the time is over.
    pub fn await_demand(&self, run: u64, timeout: Duration) -> Demand {
        let is_idle = |state: &mut State| {
            let demand = state.demand(run);
            !demand.has_queued && !demand.is_closing && !demand.is_ended
        };
        let mut state = self.lock();
        state.set_awaited(run, true);
        let waited = self.queued.wait_timeout_while(state, timeout, is_idle);
        let mut state = waited.expect(NO_PANIC).0;
        state.set_awaited(run, false);
        state.demand(run)
    }

    /// What the appender is to do now.
    pub fn demand(&self, run: u64) -> Demand {
        self.lock().demand(run)
    }

    /// Waits for a time, or until the follower is to close the ring.
    pub fn await_close(&self, run: u64, timeout: Duration) -> Demand {
        self.await_end(run, timeout, false)
    }

    /// Waits for a time, or until the follower has closed the ring.
    pub fn await_closed(&self, run: u64, timeout: Duration) -> Demand {
        self.await_end(run, timeout, true)
    }

    fn await_end(&self, run: u64, timeout: Duration, is_to_be_closed: bool) -> Demand {
        let is_open = |state: &mut State| {
            let demand = state.demand(run);
            !demand.is_ended && (is_to_be_closed || !demand.is_closing)
        };
        let waited = self
            .queued
            .wait_timeout_while(self.lock(), timeout, is_open);
        waited.expect(NO_PANIC).0.demand(run)
    }

    /// The messages of the next append call; none if none is queued. `None` if this run is over.
    pub fn take_outgoing(&self, run: u64, epoch: Epoch) -> Option<AppendBatch> {
        let mut state = self.lock();
        let queue = state.bus_of(run)?;
        let first_number = queue.last_number + 1;
        let mut messages = Vec::new();
        let mut last_number = queue.last_number;
        let needs_replicas = queue.settings.needs_replicas;
        for outbox in queue.outboxes() {
            let room = BUS_APPEND_MESSAGES_MAX - messages.len();
            messages.extend(outbox.take(
                epoch,
                &mut last_number,
                room,
                BUS_APPEND_BYTES_MAX,
                needs_replicas,
            ));
        }
        queue.last_number = last_number;
        Some(AppendBatch {
            first_number,
            messages,
        })
    }

    /// The number of the message that was sent last. `None` if this run is over.
    pub fn last_number(&self, run: u64) -> Option<u64> {
        self.lock().bus_of(run).map(|queue| queue.last_number)
    }

    /// Queues again what was sent with a number after this one: it is not in the log, and will not be.
    pub fn requeue_after(&self, run: u64, last_stored: u64) {
        self.change_outboxes(run, |outbox| outbox.requeue_after(last_stored));
    }

    /// Queues again what was sent in an earlier epoch and has not come back.
    pub fn requeue_before(&self, run: u64, current: Epoch) {
        self.change_outboxes(run, |outbox| outbox.requeue_before(current));
    }

    /// Whether messages wait for replicas.
    pub fn awaits_replicas(&self, run: u64) -> bool {
        let mut state = self.lock();
        let outboxes = state.bus_of(run).map(BusQueue::outboxes);
        outboxes.is_some_and(|outboxes| outboxes.iter().any(|outbox| outbox.awaits_replicas()))
    }

    /// Acknowledges messages that repeat others, with the receipts of those. They will not come back.
    pub fn note_repeats(&self, run: u64, repeats: &[Repeat]) {
        self.change_outboxes(run, |outbox| {
            for repeat in repeats {
                outbox.note_repeat(repeat);
            }
        });
        self.send_outcomes();
    }

    /// Notes that replicas have confirmed everything that was sent, and acknowledges what has come back.
    pub fn note_replicated(&self, run: u64) {
        self.change_outboxes(run, Outbox::note_replicated);
        self.send_outcomes();
    }

    /// Publishes acknowledged messages again. After a minute that is given up.
    pub fn publish_again(&self, messages: Vec<Arc<Message>>, now: Now) {
        let mut state = self.lock();
        if let Some(queue) = state.bus() {
            for message in messages {
                let outgoing = Outgoing {
                    message,
                    keeps_time: false,
                };
                let deadline_ms = now.mono_ms + BUS_REPUBLISH_MS;
                queue
                    .again
                    .push(Ok(outgoing), Origin::Again, now.mono_us, deadline_ms);
                queue.watch(deadline_ms, &self.deadlines);
            }
        }
        drop(state);
        self.queued.notify_all();
    }

    /// Messages of this node without an outcome.
    pub fn outgoing(&self) -> usize {
        let mut state = self.lock();
        let outboxes = state.bus().map(BusQueue::outboxes);
        outboxes.map_or(0, |outboxes| {
            outboxes.iter().map(|outbox| outbox.len()).sum()
        })
    }

    /// Messages that are published again and have not come back.
    pub fn outgoing_again(&self) -> usize {
        self.lock().bus().map_or(0, |queue| queue.again.len())
    }

    /// Ends the wait of webhooks that are certainly not in the log: the engine does not take them.
    pub fn refuse_outgoing(&self, run: u64) {
        self.change_outboxes(run, Outbox::refuse);
        self.send_outcomes();
    }

    /// Ends the wait of webhooks whose time is over. Returns when the next one's is.
    pub fn expire_outgoing(&self, run: u64, now_ms: u64) -> Option<u64> {
        self.change_outboxes(run, |outbox| outbox.expire(now_ms));
        self.send_outcomes();
        self.lock()
            .bus_of(run)
            .and_then(|queue| queue.next_deadline_ms())
    }

    /// Waits until a message's time may be over, or an outcome can be sent. False when the follower has ended.
    pub fn await_deadline(&self, run: u64, deadline_ms: Option<u64>, now_ms: u64) -> bool {
        const LONG_MS: u64 = 60_000;
        let until_ms = deadline_ms.unwrap_or(u64::MAX);
        let mut state = self.lock();
        if let Some(queue) = state.bus() {
            // A message may have been queued since the caller looked.
            queue.watched_ms = until_ms.min(queue.next_deadline_ms().unwrap_or(u64::MAX));
        }
        let is_early = |state: &mut State| {
            let watched_ms = state.bus().map_or(u64::MAX, |queue| queue.watched_ms);
            watched_ms >= until_ms
                && !state.bus().is_some_and(|queue| queue.has_over())
                && !state.demand(run).is_ended
        };
        let left_ms = until_ms.saturating_sub(now_ms).min(LONG_MS);
        let timeout = Duration::from_millis(left_ms);
        let waited = self.deadlines.wait_timeout_while(state, timeout, is_early);
        !waited.expect(NO_PANIC).0.demand(run).is_ended
    }

    /// Changes the outboxes, unless this run is over: numbers of its calls mean nothing to the next run.
    fn change_outboxes(&self, run: u64, mut change: impl FnMut(&mut Outbox)) {
        if let Some(queue) = self.lock().bus_of(run) {
            queue.outboxes().into_iter().for_each(&mut change);
        }
    }

    /// Sends outcomes that no message of the bus carries.
    fn send_outcomes(&self) {
        let has_none = |state: &mut State| {
            let queue = state.bus();
            !queue.is_some_and(|queue| queue.has_over())
        };
        let is_blocked = |state: &mut State| !has_none(state) && !self.outlets.have_room();
        let (mut state, _) = self.room.wait(self.lock(), Duration::MAX, is_blocked);
        if !has_none(&mut state) {
            self.send_to_shards(state, Batch::default());
        }
    }

    /// Sends a batch with all outcomes that are known. The inboxes have room.
    fn send_to_shards(&self, mut state: MutexGuard<'_, State>, mut batch: Batch) {
        let mut waiting = Vec::new();
        let over = state
            .bus()
            .map(|queue| queue.outboxes().map(Outbox::take_over));
        for (origin, outcome) in over.into_iter().flatten().flatten() {
            match origin {
                Origin::Shard(sender) => batch.outcomes.push((sender, outcome)),
                Origin::Waiting(sender) => waiting.push((sender, outcome)),
                Origin::Again => {}
            }
        }
        self.outlets.send(batch);
        self.room.announce_locked();
        drop(state);
        self.outlets.wake();
        for (sender, outcome) in waiting {
            // The channel has room for every outcome. It is closed if the caller has given up.
            let _ = sender.try_send(outcome);
        }
    }
}

impl State {
    /// The queue for the bus, if there is one.
    pub(super) fn bus(&mut self) -> Option<&mut BusQueue> {
        match &mut self.store {
            Store::Bus(queue) => Some(queue),
            Store::Ring(_) | Store::Queue(_) | Store::Released(_) => None,
        }
    }

    /// The queue, if the threads of this run work on it.
    fn bus_of(&mut self, run: u64) -> Option<&mut BusQueue> {
        self.bus().filter(|queue| queue.run == run)
    }

    /// Notes whether the appender of a run waits for messages.
    fn set_awaited(&mut self, run: u64, is_awaited: bool) {
        if let Some(queue) = self.bus_of(run) {
            queue.is_awaited = is_awaited;
        }
    }

    /// What the threads of a run are to do.
    fn demand(&mut self, run: u64) -> Demand {
        match self.bus_of(run) {
            Some(queue) => Demand {
                has_queued: queue.has_queued(),
                is_closing: queue.closing.is_begun() && queue.is_empty(),
                is_ended: queue.closing.is_ended(),
            },
            // The ring was released, or this run is over.
            None => Demand {
                has_queued: false,
                is_closing: false,
                is_ended: true,
            },
        }
    }
}

#[cfg(test)]
mod tests;
