//! The hub: the one owner of the ring and of `seq`.
//!
//! Called by the shards with the webhooks of a turn, and by the mirror with messages of other nodes.
//! The hub numbers each message, encodes it once, commits it to the ring and sends it to every shard.
//! All of that happens under one lock, so the order of appends is the order on every stream. With
//! `--durability disk` messages are queued instead, and [`commit`] does the same on its own thread.
//!
//! Never touches a socket and never waits for one. When a shard's inbox is full, the remaining
//! messages stay with the caller, which retries.

mod batch;
mod commit;
mod ids;
mod release;
mod repair;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

pub use self::batch::{Batch, FrameRef, SenderId};
pub use self::commit::Committer;
use self::commit::{CommitQueue, Origin, Queued};
use self::ids::MessageIds;
pub use self::ids::{Stamp, StampRandom, Stamps};
use self::repair::Repairs;
use crate::limits::{BATCH_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, HISTORY_MESSAGES};
use crate::live_log::SharedHistory;
use crate::message::Epoch;
use crate::message::{Draft, Message, MessageId};
use crate::ring::{Ring, RingError};

/// The acknowledgement of a message that is in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub id: MessageId,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

impl Receipt {
    fn of(message: &Message) -> Receipt {
        Receipt {
            id: message.id,
            timestamp_ms: message.timestamp_ms,
        }
    }
}

/// Why a message is not in the ring. Nothing of it was delivered.
#[derive(Debug, Clone)]
pub enum NotStored {
    /// The ring or the disk failed.
    Ring(Arc<RingError>),
    /// The kernel returned no random bytes for its id.
    Entropy(getrandom::Error),
    /// Its frame would be larger than this many bytes.
    FrameTooLarge(usize),
    /// A shard's inbox stayed full until the deadline.
    Busy,
}

impl std::fmt::Display for NotStored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotStored::Ring(error) => write!(f, "{error}"),
            NotStored::Entropy(error) => write!(f, "no random bytes for a message id: {error}"),
            NotStored::FrameTooLarge(limit) => write!(f, "its event is over {limit} bytes"),
            NotStored::Busy => f.write_str("the shards are busy"),
        }
    }
}

impl std::error::Error for NotStored {}

impl NotStored {
    /// Whether the message is too large, so that a retry fails as well.
    pub fn is_too_large(&self) -> bool {
        match self {
            NotStored::FrameTooLarge(_) => true,
            NotStored::Ring(error) => matches!(**error, RingError::MessageTooLarge { .. }),
            NotStored::Entropy(_) | NotStored::Busy => false,
        }
    }
}

/// A copy of the history: the messages in the ring.
#[derive(Debug, Clone, Default)]
pub struct RingView {
    /// The seq of the first.
    pub first_seq: u64,
    /// The oldest first, without holes.
    pub messages: Vec<Arc<Message>>,
}

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

const NO_PANIC: &str = "a panic under this lock ends the process";

/// The owner of the ring; see the module's documentation.
pub struct Hub {
    state: Mutex<State>,
    outlets: Vec<Outlet>,
    /// Wakes the mirror, if there is one, after local messages. Capacity 1.
    mirror: Option<Sender<()>>,
    epoch: Epoch,
    frame_bytes_max: usize,
    senders: AtomicU32,
    /// Notified when a message is queued for a commit, and when a close begins.
    queued: Condvar,
    /// Notified when the ring is closed.
    closed: Condvar,
}

struct State {
    store: Store,
    /// The messages that are in the ring and were sent to the shards, oldest first.
    history: VecDeque<Arc<Message>>,
    ids: MessageIds,
    repairs: Repairs,
}

/// Where messages are stored.
enum Store {
    /// In the ring, at once: they survive a kill.
    Ring(Ring),
    /// In the queue of the next commit: they survive a power failure.
    Queue(CommitQueue),
    /// Nowhere: another process has the ring.
    Released(Released),
}

/// A ring that another process has.
struct Released {
    /// The first seq that the other process gives out.
    next_seq: u64,
    /// Messages waited for the disk in this process.
    has_commits: bool,
}

impl Hub {
    /// Makes a hub of an opened ring and the history that recovery found in it, oldest first.
    pub fn new(
        ring: Ring,
        history: Vec<(u64, Message)>,
        outlets: Vec<Outlet>,
        mirror: Option<Sender<()>>,
    ) -> Hub {
        let (epoch, message_bytes_max) = (ring.epoch(), ring.message_bytes_max());
        let hub = Hub::with_store(Store::Ring(ring), epoch, message_bytes_max);
        hub.connected_to(history, outlets, mirror)
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
        let (epoch, message_bytes_max) = (ring.epoch(), ring.message_bytes_max());
        let store = Store::Queue(CommitQueue::new(ring.next_seq()));
        let hub = Hub::with_store(store, epoch, message_bytes_max);
        let hub = hub.connected_to(history, outlets, mirror);
        (hub, Committer::new(ring))
    }

    fn with_store(store: Store, epoch: Epoch, message_bytes_max: usize) -> Hub {
        Hub {
            state: Mutex::new(State {
                store,
                history: VecDeque::new(),
                ids: MessageIds::new(),
                repairs: Repairs::default(),
            }),
            outlets: Vec::new(),
            mirror: None,
            epoch,
            frame_bytes_max: message_bytes_max + FRAME_OVERHEAD_BYTES_MAX,
            senders: AtomicU32::new(0),
            queued: Condvar::new(),
            closed: Condvar::new(),
        }
    }

    fn connected_to(
        self,
        history: Vec<(u64, Message)>,
        outlets: Vec<Outlet>,
        mirror: Option<Sender<()>>,
    ) -> Hub {
        let mut state = self.lock();
        let times_ms = history.iter().map(|(_, message)| message.timestamp_ms);
        state.ids.go_on_after(times_ms);
        let history = history.into_iter().map(|(_, message)| Arc::new(message));
        state.history = history.collect();
        drop(state);
        Hub {
            outlets,
            mirror,
            ..self
        }
    }

    /// A new id for a shard that publishes.
    pub fn new_sender(&self) -> SenderId {
        SenderId(self.senders.fetch_add(1, Ordering::Relaxed))
    }

    /// The epoch of this hub's event ids.
    pub fn epoch(&self) -> Epoch {
        self.epoch
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
        let first_seq = state.first_seq();
        let mut batch = Batch::default();
        for (seq, message) in (first_seq..).zip(&state.history) {
            batch.push(self.epoch, seq, message);
        }
        (first_seq, batch)
    }

    /// A copy of the history.
    pub fn ring_view(&self) -> RingView {
        let state = self.lock();
        RingView {
            first_seq: state.first_seq(),
            messages: state.history.iter().cloned().collect(),
        }
    }

    /// Publishes webhooks, in order. Drafts for which there is no room stay in `drafts`. For each of
    /// the others an outcome is appended to `outcomes`. With `--durability disk` the outcome is in a
    /// later batch instead ([`Batch::outcomes_for`]).
    pub fn publish(
        &self,
        sender: SenderId,
        drafts: &mut VecDeque<Draft>,
        unix_ms: u64,
        outcomes: &mut Vec<Result<Receipt, NotStored>>,
    ) {
        if drafts.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.queue().is_some() {
            let made = |state: &mut State, draft| state.message_of(draft, unix_ms);
            state.queue_all(drafts, made, &Origin::Shard(sender));
            drop(state);
            self.queued.notify_one();
            return;
        }
        let taken = outcomes.len();
        self.publish_batches(
            state,
            &mut || drafts.pop_front(),
            |state, draft| state.message_of(draft, unix_ms),
            unix_ms,
            outcomes,
        );
        if outcomes.len() > taken {
            self.wake_mirror();
        }
    }

    /// Publishes messages of other nodes, in order, and returns the outcome of each. Not for a
    /// shard's thread: it waits until the inboxes have room, for up to `timeout` in all. With
    /// `--durability disk` it waits for the commit as well.
    pub fn admit(
        &self,
        messages: &[Arc<Message>],
        unix_ms: u64,
        timeout: Duration,
    ) -> Vec<Result<Receipt, NotStored>> {
        let deadline = Instant::now() + timeout;
        let mut left: VecDeque<Arc<Message>> = messages.iter().cloned().collect();
        let mut outcomes = Vec::new();
        let (sender, committed) = bounded(messages.len());
        let origin = Origin::Waiting(sender);
        loop {
            let mut state = self.lock();
            if state.queue().is_some() {
                state.queue_all(&mut left, |_, message| Ok(message), &origin);
                drop(state);
                self.queued.notify_one();
            } else {
                self.publish_batches(
                    state,
                    &mut || left.pop_front(),
                    |_, message| Ok(message),
                    unix_ms,
                    &mut outcomes,
                );
            }
            if left.is_empty() || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
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
        let state = self.lock();
        if self.is_full() {
            return false;
        }
        self.send(Batch {
            shared_history: Some(shared),
            ..Batch::default()
        });
        drop(state);
        self.wake_shards();
        true
    }

    /// Finishes pending commits, writes the ring to disk and marks it as cleanly closed: the last
    /// step of a drain. Does nothing if the ring was released.
    pub fn close(&self) -> io::Result<()> {
        let mut state = self.lock();
        let State {
            store,
            history,
            repairs,
            ..
        } = &mut *state;
        match store {
            Store::Ring(ring) => return repairs.close(ring, &*history),
            Store::Released(_) => return Ok(()),
            Store::Queue(queue) => queue.begin_closing(),
        }
        self.queued.notify_one();
        loop {
            if let Some(closed) = state.queue().and_then(|queue| queue.closed.take()) {
                return closed;
            }
            state = self.closed.wait(state).expect(NO_PANIC);
        }
    }

    /// Publishes the items of `next` batch by batch, until there are none or an inbox is full.
    fn publish_batches<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        next: &mut dyn FnMut() -> Option<T>,
        mut message: impl FnMut(&mut State, T) -> Result<Arc<Message>, NotStored>,
        unix_ms: u64,
        outcomes: &mut Vec<Result<Receipt, NotStored>>,
    ) {
        let mut sent = false;
        // Batches are sent only under the lock, so an inbox that has room here keeps it.
        while matches!(state.store, Store::Ring(_)) && !self.is_full() {
            let mut batch = Batch::default();
            while batch.held_bytes() < BATCH_BYTES_MAX
                && let Some(item) = next()
            {
                let stored = message(&mut state, item)
                    .and_then(|m| self.store(&mut state, &mut batch, m, unix_ms));
                outcomes.push(stored);
            }
            if batch.frames.is_empty() {
                break;
            }
            self.send(batch);
            sent = true;
        }
        drop(state);
        if sent {
            self.wake_shards();
        }
    }

    /// Waits until a message is queued and the inboxes have room. False when the queue is empty and
    /// closed.
    fn await_queued(&self) -> bool {
        let mut state = self.lock();
        loop {
            match state.queue() {
                Some(queue) if queue.has_queued() && !self.is_full() => return true,
                Some(queue) if queue.has_queued() => {
                    // A shard empties its inbox every turn, but does not notify.
                    let retry = Duration::from_millis(1);
                    state = self.queued.wait_timeout(state, retry).expect(NO_PANIC).0;
                }
                Some(queue) if !queue.is_closing() => {
                    state = self.queued.wait(state).expect(NO_PANIC);
                }
                _ => return false,
            }
        }
    }

    /// Sends committed messages to the shards, and outcomes to the senders. Waits until the inboxes
    /// have room.
    fn show(
        &self,
        mut batch: Batch,
        messages: Vec<Arc<Message>>,
        outcomes: Vec<(Origin, Result<Receipt, NotStored>)>,
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
            }
        }
        let mut state = self.lock();
        while self.is_full() {
            drop(state);
            std::thread::sleep(Duration::from_millis(1));
            state = self.lock();
        }
        if let Some(queue) = state.queue() {
            queue.next_seq += messages.len() as u64;
        }
        for message in messages {
            state.remember(message);
        }
        self.send(batch);
        drop(state);
        self.wake_shards();
        for (sender, outcome) in waiting {
            // The channel has room for every outcome. It is closed if the caller has given up.
            let _ = sender.try_send(outcome);
        }
        if has_local {
            self.wake_mirror();
        }
    }

    /// Encodes a message, then appends it to the ring. In this order a message that cannot be
    /// encoded is not stored. If the append fails, the frame is removed, so it is not delivered.
    fn store(
        &self,
        state: &mut State,
        batch: &mut Batch,
        message: Arc<Message>,
        unix_ms: u64,
    ) -> Result<Receipt, NotStored> {
        let State {
            store,
            history,
            repairs,
            ..
        } = &mut *state;
        let Store::Ring(ring) = store else {
            return Err(NotStored::Busy);
        };
        self.encode(batch, ring.next_seq(), &message)?;
        // The file is checked once per batch.
        let checked = if batch.frames.len() == 1 {
            repairs.mend(ring, &*history, unix_ms)
        } else {
            Ok(())
        };
        if let Err(error) = checked.and_then(|()| ring.append(&message).map_err(Arc::new)) {
            batch.pop();
            return Err(NotStored::Ring(error));
        }
        repairs.note_success();
        let receipt = Receipt::of(&message);
        state.remember(message);
        Ok(receipt)
    }

    /// Appends a message's frame to a batch, unless the frame is too large.
    fn encode(&self, batch: &mut Batch, seq: u64, message: &Message) -> Result<(), NotStored> {
        let chunk = batch.push(self.epoch, seq, message);
        if chunk.bytes as usize > self.frame_bytes_max {
            batch.pop();
            return Err(NotStored::FrameTooLarge(self.frame_bytes_max));
        }
        Ok(())
    }

    /// Whether the inbox of any shard is full.
    fn is_full(&self) -> bool {
        self.outlets.iter().any(|outlet| outlet.batches.is_full())
    }

    fn wake_shards(&self) {
        self.outlets.iter().for_each(|outlet| outlet.wake.wake());
    }

    fn wake_mirror(&self) {
        if let Some(mirror) = &self.mirror {
            // If the channel is full, the mirror has not taken the last wake-up yet: one is enough.
            let _ = mirror.try_send(());
        }
    }

    fn send(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for outlet in &self.outlets {
            // The inbox has room, as was checked under this lock. If it is closed, its shard has
            // ended.
            let _ = outlet.batches.try_send(Arc::clone(&batch));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(NO_PANIC)
    }
}

impl State {
    /// The seq of the first message of the history.
    fn first_seq(&self) -> u64 {
        self.next_seq() - self.history.len() as u64
    }

    /// One more than the seq of the newest message of the history.
    fn next_seq(&self) -> u64 {
        match &self.store {
            Store::Ring(ring) => ring.next_seq(),
            Store::Queue(queue) => queue.next_seq,
            Store::Released(released) => released.next_seq,
        }
    }

    /// The commit queue, with `--durability disk`.
    fn queue(&mut self) -> Option<&mut CommitQueue> {
        match &mut self.store {
            Store::Ring(_) | Store::Released(_) => None,
            Store::Queue(queue) => Some(queue),
        }
    }

    /// Queues messages for the next commit, as far as there is room.
    fn queue_all<T>(
        &mut self,
        items: &mut VecDeque<T>,
        mut message: impl FnMut(&mut State, T) -> Result<Arc<Message>, NotStored>,
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

    fn message_of(&mut self, draft: Draft, unix_ms: u64) -> Result<Arc<Message>, NotStored> {
        let Stamp { timestamp_ms, id } = self.ids.next(unix_ms).map_err(NotStored::Entropy)?;
        Ok(Arc::new(Message {
            id,
            timestamp_ms,
            session: draft.session,
            content: draft.content,
        }))
    }

    fn remember(&mut self, message: Arc<Message>) {
        if self.history.len() == HISTORY_MESSAGES {
            self.history.pop_front();
        }
        self.history.push_back(message);
    }
}

#[cfg(test)]
mod tests;
