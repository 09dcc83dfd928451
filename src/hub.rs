//! The hub: the one owner of the ring and of `seq`.
//!
//! Called by the shards with the webhooks of a turn, and by the mirror with messages of other nodes.
//! The hub numbers each message, encodes it once, commits it to the ring and sends it to every shard.
//! All of that happens under one lock, so the order of appends is the order on every stream. With
//! `--durability disk` messages are queued instead, and [`commit`] does the same on its own thread.
//!
//! Never touches a socket and never waits for one. When a shard's inbox is full, the remaining webhooks
//! stay with their shard, which retries. Other threads wait for [`room`], without the lock.
//!
//! A webhook whose identity is known becomes no message: it gets the receipt of the first one.

mod batch;
mod bus;
mod closing;
mod commit;
mod history;
mod identified;
mod ids;
mod outcome;
mod outlets;
mod release;
mod repair;
mod room;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

pub use self::batch::{Batch, FrameRef, SenderId, Turnover};
use self::bus::BusQueue;
pub use self::bus::{
    AppendBatch, BusSettings, BusStore, Demand, HistoryStart, Outgoing, Repeat, Shown,
};
use self::closing::Closing;
pub use self::commit::Committer;
use self::commit::{CommitQueue, Origin, Queued};
use self::history::History;
pub use self::history::RingView;
use self::ids::MessageIds;
pub use self::ids::{Stamp, StampRandom, Stamps};
pub use self::outcome::{NotStored, Receipt};
use self::outcome::{Outcome, outcome_of};
use self::outlets::Outlets;
pub use self::outlets::{Outlet, Wake};
use self::release::Owner;
pub use self::release::RingThread;
use self::repair::Repairs;
use self::room::Room;
use crate::clock::Now;
use crate::identities::Identities;
use crate::limits::{BATCH_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, HISTORY_MESSAGES};
use crate::live_log::SharedHistory;
use crate::message::{Draft, Epoch, Message};
use crate::ring::Ring;
use crate::sse::lineage::Lineage;

const NO_PANIC: &str = "a panic under this lock ends the process";

/// The owner of the ring; see the module's documentation.
pub struct Hub {
    state: Mutex<State>,
    outlets: Outlets,
    /// Where threads wait for room in the inboxes and in the commit queue.
    room: Room,
    /// Wakes the mirror, if there is one, after local messages. Capacity 1.
    mirror: Option<Sender<()>>,
    /// Other nodes give out event ids of the same epochs, by a bus.
    is_shared: bool,
    frame_bytes_max: usize,
    senders: AtomicU32,
    /// Notified when a message is queued for a commit, and when a close begins.
    queued: Condvar,
    /// Notified when the first message is queued for a bus, and when the bus ends: a deadline may be near.
    deadlines: Condvar,
    /// Notified when the ring is closed.
    closed: Condvar,
}

struct State {
    store: Store,
    /// The epoch of the history's event ids, and the earlier ones.
    lineage: Arc<Lineage>,
    history: History,
    ids: MessageIds,
    repairs: Repairs,
    /// Those of messages in the ring, and of earlier ones.
    identities: Identities,
}

/// A message to be stored, or the outcome of a draft that becomes none.
type Made = Result<Arc<Message>, Outcome>;

/// Where messages are stored.
enum Store {
    /// In the ring, at once: they survive a kill.
    Ring(Ring),
    /// In the queue of the next commit: they survive a power failure.
    Queue(CommitQueue),
    /// In the queue for the bus: they are stored when they come back from there.
    Bus(Box<BusQueue>),
    /// Nowhere: another process has the ring.
    Released(Owner),
}

impl Hub {
    /// Makes a hub of an opened ring and the history that recovery found in it, oldest first.
    pub fn new(
        ring: Ring,
        history: Vec<(u64, Message)>,
        outlets: Vec<Outlet>,
        mirror: Option<Sender<()>>,
    ) -> Hub {
        let hub = Hub::with_queue(&ring, history, outlets, mirror);
        hub.lock().store = Store::Ring(ring);
        hub
    }

    /// [`Hub::new`] for `--durability disk`: a message is published only after the committer has
    /// committed it. The caller runs the committer on a thread. Open the ring with
    /// [`Ring::open_for_commits`].
    pub fn with_commits(
        ring: Ring,
        history: Vec<(u64, Message)>,
        outlets: Vec<Outlet>,
        mirror: Option<Sender<()>>,
    ) -> (Hub, Committer) {
        let hub = Hub::with_queue(&ring, history, outlets, mirror);
        (hub, Committer::new(ring))
    }

    fn with_queue(
        ring: &Ring,
        history: Vec<(u64, Message)>,
        outlets: Vec<Outlet>,
        mirror: Option<Sender<()>>,
    ) -> Hub {
        let mut ids = MessageIds::new();
        let times_ms = history.iter().map(|(_, message)| message.timestamp_ms);
        ids.continue_after(times_ms);
        let mut identities = Identities::default();
        identities.reopen(&history, ring.next_seq());
        Hub {
            state: Mutex::new(State {
                store: Store::Queue(CommitQueue::default()),
                lineage: Arc::new(Lineage::new(ring.epoch())),
                history: History::new(history, ring.next_seq()),
                ids,
                repairs: Repairs::default(),
                identities,
            }),
            outlets: Outlets::new(outlets),
            room: Room::default(),
            mirror,
            is_shared: false,
            frame_bytes_max: ring.message_bytes_max() + FRAME_OVERHEAD_BYTES_MAX,
            senders: AtomicU32::new(0),
            queued: Condvar::new(),
            deadlines: Condvar::new(),
            closed: Condvar::new(),
        }
    }

    /// A new id for a shard that publishes.
    pub fn new_sender(&self) -> SenderId {
        SenderId(self.senders.fetch_add(1, Ordering::Relaxed))
    }

    /// The epoch of this hub's event ids, and the earlier ones. Later ones follow in batches
    /// ([`Batch::turnover`]).
    pub fn lineage(&self) -> Arc<Lineage> {
        Arc::clone(&self.lock().lineage)
    }

    /// Whether other nodes give out event ids of the same epochs, so that one may be ahead of this node.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// The largest size of the frames of [`HISTORY_MESSAGES`] messages, in bytes. A live log needs
    /// this capacity. `history` ([`Hub::history_batch`]) counts as well: an earlier version escaped
    /// fewer characters, so its ring may hold messages whose frames are over today's limit.
    pub fn history_bytes_max(&self, history: &Batch) -> usize {
        let held_bytes_max = history.frames().map(|frame| frame.bytes.len()).max();
        HISTORY_MESSAGES * self.frame_bytes_max.max(held_bytes_max.unwrap_or(0))
    }

    /// The seq of the first message of the history, and the history as a batch: the initial contents
    /// of each live log. Called before the first message is published.
    pub fn history_batch(&self) -> (u64, Batch) {
        let state = self.lock();
        let epoch = state.lineage.epoch();
        state.history.batch(epoch)
    }

    /// A copy of the history.
    pub fn ring_view(&self) -> RingView {
        self.lock().history.view()
    }

    /// Publishes webhooks, in order. Drafts for which there is no room stay in `drafts`. For each of
    /// the others an outcome is appended to `outcomes`. With `--durability disk` the outcome is in a
    /// later batch instead ([`Batch::outcomes_for`]).
    pub fn publish(
        &self,
        sender: SenderId,
        drafts: &mut VecDeque<Draft>,
        now: Now,
        outcomes: &mut Vec<Result<Receipt, NotStored>>,
    ) {
        if drafts.is_empty() {
            return;
        }
        let message = |state: &mut State, draft| state.message_of(draft, now.unix_ms);
        let mut state = self.lock();
        match state.store {
            Store::Queue(_) => {
                state.queue_all(drafts, message, &Origin::Shard(sender));
                drop(state);
                return self.queued.notify_all();
            }
            Store::Bus(_) => {
                let origin = Origin::Shard(sender);
                let wakes = self.queue_for_bus(&mut state, drafts, message, &origin, None, now);
                drop(state);
                if wakes {
                    self.queued.notify_all();
                }
                return;
            }
            Store::Ring(_) | Store::Released(_) => {}
        }
        let taken = outcomes.len();
        self.publish_batches(
            state,
            &mut || drafts.pop_front(),
            message,
            now.mono_ms,
            outcomes,
        );
        if outcomes.len() > taken {
            self.wake_mirror();
        }
    }

    /// Publishes messages of other nodes, in order, and returns the outcome of each. Not for a
    /// shard's thread: it waits for room, for up to `timeout` in all. With `--durability disk` it
    /// waits for the commit as well.
    pub fn publish_from_peers(
        &self,
        messages: &[Arc<Message>],
        now: Now,
        timeout: Duration,
    ) -> Vec<Result<Receipt, NotStored>> {
        let deadline = Instant::now() + timeout;
        let mut left: VecDeque<Arc<Message>> = messages.iter().cloned().collect();
        let mut outcomes = Vec::new();
        let (sender, committed) = bounded(messages.len());
        let origin = Origin::Waiting(sender);
        loop {
            let mut state = self.lock();
            let message = |_: &mut State, message| -> Made { Ok(message) };
            match state.store {
                Store::Queue(_) => {
                    state.queue_all(&mut left, message, &origin);
                    drop(state);
                    self.queued.notify_all();
                }
                Store::Bus(_) => {
                    let wait_ms = Some(timeout.as_millis() as u64);
                    let wakes =
                        self.queue_for_bus(&mut state, &mut left, message, &origin, wait_ms, now);
                    drop(state);
                    if wakes {
                        self.queued.notify_all();
                    }
                }
                Store::Ring(_) | Store::Released(_) => {
                    let next = &mut || left.pop_front();
                    self.publish_batches(state, next, message, now.mono_ms, &mut outcomes);
                }
            }
            if left.is_empty() || !self.await_room(deadline) {
                break;
            }
        }
        // The iteration ends when the committer has dropped the last sender.
        drop(origin);
        outcomes.extend(committed);
        outcomes.extend(left.drain(..).map(|_| Err(NotStored::Busy)));
        outcomes
    }

    /// Sends the shared history, which new streams replay, to the shards. False when an inbox is
    /// full: then the caller retries.
    pub fn set_shared_history(&self, shared: SharedHistory) -> bool {
        let mut state = self.lock();
        let kept = state.queue().map_or(0, |queue| queue.places_kept());
        if !self.outlets.have_room_for(1 + kept) {
            return false;
        }
        self.outlets.send(Batch {
            shared_history: Some(shared),
            ..Batch::default()
        });
        drop(state);
        self.outlets.wake();
        true
    }

    /// Continues the threads that wait for room. Called by a shard after each turn, because a turn
    /// empties its inbox.
    pub fn announce_room(&self) {
        self.room.announce(&self.state);
    }

    /// Closes the inbox of a shard that ends. It is emptied under the lock, because a closed inbox keeps
    /// what it holds: a full one would block all publishing for good.
    pub fn close_inbox(&self, inbox: Receiver<Arc<Batch>>) {
        let state = self.lock();
        inbox.try_iter().for_each(drop);
        drop(inbox);
        self.room.announce_locked();
        drop(state);
    }

    /// Finishes pending commits, writes the ring to disk and marks it as cleanly closed: the last
    /// step of a drain. Does nothing if the ring was released.
    pub fn close(&self) -> io::Result<()> {
        let mut state = self.lock();
        let State {
            store,
            history,
            repairs,
            identities,
            ..
        } = &mut *state;
        match store {
            Store::Ring(ring) => {
                identities.close();
                return repairs.close(ring, history.messages());
            }
            Store::Released(_) => return Ok(()),
            Store::Queue(queue) => queue.closing.begin(),
            Store::Bus(queue) => queue.closing.begin(),
        }
        self.queued.notify_all();
        loop {
            if let Some(closed) = state.closing().and_then(|closing| closing.closed.take()) {
                return closed;
            }
            state = self.closed.wait(state).expect(NO_PANIC);
        }
    }

    /// See [`Closing::settle`].
    fn settle_close(&self, closed: io::Result<()>) -> Option<io::Result<()>> {
        let mut state = self.lock();
        let has_queued = match &state.store {
            Store::Queue(queue) => queue.has_queued(),
            Store::Bus(queue) => !queue.is_empty(),
            Store::Ring(_) | Store::Released(_) => false,
        };
        let ended = state.closing()?.settle(closed, has_queued);
        // A release may have failed, so that messages are queued again.
        self.room.announce_locked();
        drop(state);
        if ended.is_none() {
            self.closed.notify_all();
        }
        ended
    }

    /// Reports the result of a close to the thread that waits for it.
    fn report_closed(&self, closed: io::Result<()>) {
        if let Some(closing) = self.lock().closing() {
            closing.closed = Some(closed);
        }
        self.closed.notify_all();
    }

    /// Publishes the items of `next` batch by batch, until there are none or an inbox is full.
    fn publish_batches<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        next: &mut dyn FnMut() -> Option<T>,
        mut message: impl FnMut(&mut State, T) -> Made,
        now_ms: u64,
        outcomes: &mut Vec<Result<Receipt, NotStored>>,
    ) {
        let mut sent = false;
        while matches!(state.store, Store::Ring(_)) && self.outlets.have_room() {
            let mut batch = Batch::default();
            while batch.held_bytes() < BATCH_BYTES_MAX
                && let Some(item) = next()
            {
                outcomes.push(match message(&mut state, item) {
                    Ok(message) => self.store(&mut state, &mut batch, message, now_ms),
                    Err(outcome) => outcome,
                });
            }
            if batch.frames.is_empty() {
                break;
            }
            self.outlets.send(batch);
            sent = true;
        }
        drop(state);
        if sent {
            self.outlets.wake();
        }
    }

    /// Encodes a message, then appends it to the ring. In this order a message that cannot be
    /// encoded is not stored. If the append fails, the frame is removed, so it is not delivered.
    fn store(
        &self,
        state: &mut State,
        batch: &mut Batch,
        message: Arc<Message>,
        now_ms: u64,
    ) -> Result<Receipt, NotStored> {
        let State {
            store,
            history,
            repairs,
            identities,
            ..
        } = &mut *state;
        let Store::Ring(ring) = store else {
            return Err(NotStored::Busy);
        };
        self.encode(batch, ring.epoch(), ring.next_seq(), &message)?;
        // The file is checked once per batch.
        let checked = if batch.frames.len() == 1 {
            repairs.mend(ring, history.messages(), now_ms)
        } else {
            Ok(())
        };
        match checked.and_then(|()| ring.append(&message).map_err(Arc::new)) {
            Ok(seq) => identities.note_kept(seq, &message),
            Err(error) => {
                batch.pop();
                return Err(NotStored::Ring(error));
            }
        }
        repairs.note_success();
        let receipt = Receipt::of(&message);
        history.push(message);
        debug_assert_eq!(history.next_seq(), ring.next_seq());
        Ok(receipt)
    }

    /// Appends a message's frame to a batch, unless the frame is too large.
    fn encode(
        &self,
        batch: &mut Batch,
        epoch: Epoch,
        seq: u64,
        message: &Message,
    ) -> Result<(), NotStored> {
        let chunk = batch.push(epoch, seq, message);
        if chunk.bytes as usize > self.frame_bytes_max {
            batch.pop();
            return Err(NotStored::FrameTooLarge(self.frame_bytes_max));
        }
        Ok(())
    }

    /// Waits until messages can be stored or queued. False when that is not so by the deadline.
    fn await_room(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_blocked = |state: &mut State| match &state.store {
            Store::Ring(_) => !self.outlets.have_room(),
            Store::Queue(queue) => !queue.has_room(),
            Store::Bus(queue) => !queue.has_room(),
            Store::Released(_) => true,
        };
        self.room.wait(self.lock(), left, is_blocked).1
    }

    /// Locks the hub as soon as the inboxes have room, or after a time: then the result is false.
    fn lock_with_room(&self, timeout: Duration) -> (MutexGuard<'_, State>, bool) {
        let is_blocked = |_: &mut State| !self.outlets.have_room();
        self.room.wait(self.lock(), timeout, is_blocked)
    }

    fn wake_mirror(&self) {
        if let Some(mirror) = &self.mirror {
            // If the channel is full, the mirror has not taken the last wake-up yet: one is enough.
            let _ = mirror.try_send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

impl State {
    /// The commit queue, with `--durability disk`.
    fn queue(&mut self) -> Option<&mut CommitQueue> {
        match &mut self.store {
            Store::Queue(queue) => Some(queue),
            Store::Ring(_) | Store::Bus(_) | Store::Released(_) => None,
        }
    }

    /// The end of the thread that owns the ring, if there is one.
    fn closing(&mut self) -> Option<&mut Closing> {
        match &mut self.store {
            Store::Queue(queue) => Some(&mut queue.closing),
            Store::Bus(queue) => Some(&mut queue.closing),
            Store::Ring(_) | Store::Released(_) => None,
        }
    }

    /// Whether messages wait for their commit.
    fn has_queued(&mut self) -> bool {
        self.queue().is_some_and(|queue| queue.has_queued())
    }

    /// Queues messages for the next commit, as far as there is room.
    fn queue_all<T>(
        &mut self,
        items: &mut VecDeque<T>,
        mut message: impl FnMut(&mut State, T) -> Made,
        origin: &Origin,
    ) {
        while self.queue().is_some_and(|queue| queue.has_room())
            && let Some(item) = items.pop_front()
        {
            let queued = Queued {
                message: message(self, item),
                origin: origin.clone(),
            };
            if let Some(queue) = self.queue() {
                queue.push(queued);
            }
        }
    }

    /// Gives a draft its id and time, unless it is a repeat. With `--durability disk` the committer
    /// recognises repeats: the first may be in the same commit.
    fn message_of(&mut self, draft: Draft, unix_ms: u64) -> Made {
        if let (Some(identity), false) = (&draft.identity, matches!(self.store, Store::Queue(_)))
            && let Some(outcome) = outcome_of(self.identities.find(identity, unix_ms))
        {
            return Err(outcome);
        }
        let stamp = self.ids.next(unix_ms);
        let Stamp { timestamp_ms, id } = stamp.map_err(|error| Err(NotStored::Entropy(error)))?;
        Ok(Arc::new(Message {
            id,
            timestamp_ms,
            session: draft.session,
            content: draft.content,
            label: draft.label,
            identity: draft.identity,
        }))
    }
}

#[cfg(test)]
mod tests;
