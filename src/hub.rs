//! The hub: the one owner of the ring and of `seq`.
//!
//! Shards bring the webhooks of a turn, the mirror brings messages of other nodes; both get them
//! numbered, committed to the ring, encoded once, and sent to every shard, in that order and under
//! one lock, so the order of appends is the order everywhere. Where a commit is to wait for the disk,
//! they are queued instead, and [`commit`] does the same with them on its own thread. Never touches
//! a socket and never waits for one: when a shard's inbox is full, what is left stays with the
//! caller, who tries again.

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

/// What a sender is told of a message that is in the ring.
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
    /// The ring could not take it, or the disk.
    Ring(Arc<RingError>),
    /// The kernel gave no random bytes for its id.
    Entropy(getrandom::Error),
    /// Its frame would be larger than this many bytes.
    FrameTooLarge(usize),
    /// The shards did not make room in time.
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
    /// Whether it will not fit another time either.
    pub fn is_too_large(&self) -> bool {
        match self {
            NotStored::FrameTooLarge(_) => true,
            NotStored::Ring(error) => matches!(**error, RingError::MessageTooLarge { .. }),
            NotStored::Entropy(_) | NotStored::Busy => false,
        }
    }
}

/// The messages that the ring holds.
#[derive(Debug, Clone, Default)]
pub struct RingView {
    /// The seq of the first.
    pub first_seq: u64,
    /// The oldest first, without holes.
    pub messages: Vec<Arc<Message>>,
}

/// Wakes a thread that waits for what was put into its inbox; does nothing when it is awake.
pub trait Wake: Send + Sync {
    /// Called after every batch that was sent.
    fn wake(&self);
}

/// A shard as the hub sees it.
pub struct Outlet {
    /// Where the shard takes its batches from; bounded.
    pub batches: Sender<Arc<Batch>>,
    /// Wakes the shard.
    pub wake: Arc<dyn Wake>,
}

const NO_PANIC: &str = "a panic under this lock ends the process";

/// See the module's description.
pub struct Hub {
    state: Mutex<State>,
    outlets: Vec<Outlet>,
    /// Told after local messages, when there is a mirror; holds one unit.
    mirror: Option<Sender<()>>,
    epoch: Epoch,
    frame_bytes_max: usize,
    senders: AtomicU32,
    /// Told when something is queued for a commit, and when the hub is being closed.
    queued: Condvar,
    /// Told when the ring is closed.
    closed: Condvar,
}

struct State {
    store: Store,
    /// What the ring holds and was shown, oldest first.
    history: VecDeque<Arc<Message>>,
    ids: MessageIds,
    repairs: Repairs,
}

/// Where messages go.
enum Store {
    /// Into the ring, at once: a kill cannot lose them.
    Ring(Ring),
    /// To the next commit: a power failure cannot lose them.
    Queue(CommitQueue),
    /// Nowhere: another process holds the ring.
    Released(Released),
}

/// A ring that another process holds.
struct Released {
    /// Where that process goes on.
    next_seq: u64,
    /// Messages waited for the disk here.
    has_commits: bool,
}

impl Hub {
    /// Takes over an opened ring and the history that was found in it, oldest first.
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

    /// The same where messages wait for the disk: nothing is published before the committer, whom
    /// the caller gives a thread, has committed it. The ring is best opened for commits.
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

    /// A name for one who publishes.
    pub fn new_sender(&self) -> SenderId {
        SenderId(self.senders.fetch_add(1, Ordering::Relaxed))
    }

    /// The epoch of the event ids that this hub gives out.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the frames of [`HISTORY_MESSAGES`] messages of any size take at most, in bytes: a live
    /// log has to be this large. `history` is what it begins with ([`Hub::history_batch`]): a ring that an
    /// earlier version has written may hold messages that would be too large today, because fewer
    /// characters were escaped.
    pub fn history_bytes_max(&self, history: &Batch) -> usize {
        let held_bytes_max = history.frames().map(|frame| frame.bytes.len()).max();
        HISTORY_MESSAGES * self.frame_bytes_max.max(held_bytes_max.unwrap_or(0))
    }

    /// The history as a batch, and the seq of its first message: what a shard's live log begins
    /// with. Called before the first message is published.
    pub fn history_batch(&self) -> (u64, Batch) {
        let state = self.lock();
        let first_seq = state.first_seq();
        let mut batch = Batch::default();
        for (seq, message) in (first_seq..).zip(&state.history) {
            batch.push(self.epoch, seq, message);
        }
        (first_seq, batch)
    }

    /// The messages that the ring holds.
    pub fn ring_view(&self) -> RingView {
        let state = self.lock();
        RingView {
            first_seq: state.first_seq(),
            messages: state.history.iter().cloned().collect(),
        }
    }

    /// Publishes webhooks, in order. Drafts that are left in `drafts` found no room. For every one
    /// that it takes it appends an outcome to `outcomes`, or, where messages wait for the disk, a
    /// batch will bring that to `sender`.
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
            self.tell_mirror();
        }
    }

    /// Publishes messages of other nodes, in order, and tells of each whether it was stored. Waits
    /// up to `patience` in all for shards to make room, and for the disk where messages do, so this
    /// is not for a shard's thread.
    pub fn admit(
        &self,
        messages: &[Arc<Message>],
        unix_ms: u64,
        patience: Duration,
    ) -> Vec<Result<Receipt, NotStored>> {
        let deadline = Instant::now() + patience;
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
        // Ends when the committer has let go of the last of them.
        drop(origin);
        outcomes.extend(committed);
        outcomes.extend(left.drain(..).map(|_| Err(NotStored::Busy)));
        outcomes
    }

    /// Tells the shards what new streams are to be shown. False when a shard has no room for it;
    /// then it is to be said again.
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

    /// Writes the ring to disk and marks it as cleanly closed, after the commits that are on their
    /// way. The last thing in a drain. Nothing happens to a ring that was released.
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

    /// Numbers, commits and encodes what `next` yields, and sends it to the shards, a batch at a
    /// time, until nothing is left or an inbox is full.
    fn publish_batches<T>(
        &self,
        mut state: MutexGuard<'_, State>,
        next: &mut dyn FnMut() -> Option<T>,
        mut message: impl FnMut(&mut State, T) -> Result<Arc<Message>, NotStored>,
        unix_ms: u64,
        outcomes: &mut Vec<Result<Receipt, NotStored>>,
    ) {
        let mut sent = false;
        // Only the holder of the lock sends, so room that is seen here stays.
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

    /// Waits until something is to be committed; false when nothing is and nothing will be.
    fn await_queued(&self) -> bool {
        let mut state = self.lock();
        loop {
            match state.queue() {
                Some(queue) if queue.has_queued() && !self.is_full() => return true,
                Some(queue) if queue.has_queued() => {
                    // The shards make room every turn, and tell nobody.
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

    /// Shows messages that are on disk now, and tells their senders, and those of others, what
    /// became of them. Waits for shards to make room.
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
            // As many fit as were asked for; who no longer waits does not want to know.
            let _ = sender.try_send(outcome);
        }
        if has_local {
            self.tell_mirror();
        }
    }

    /// Encodes first, commits last: what cannot be delivered is not stored, and what cannot be
    /// stored is not delivered.
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
        // Whether the file is still what it was is looked at once per batch.
        let looked = if batch.frames.len() == 1 {
            repairs.mend(ring, &*history, unix_ms)
        } else {
            Ok(())
        };
        if let Err(error) = looked.and_then(|()| ring.append(&message).map_err(Arc::new)) {
            batch.pop();
            return Err(NotStored::Ring(error));
        }
        repairs.note_success();
        let receipt = Receipt::of(&message);
        state.remember(message);
        Ok(receipt)
    }

    /// Appends the frame of a message to a batch, unless it is too large.
    fn encode(&self, batch: &mut Batch, seq: u64, message: &Message) -> Result<(), NotStored> {
        let chunk = batch.push(self.epoch, seq, message);
        if chunk.bytes as usize > self.frame_bytes_max {
            batch.pop();
            return Err(NotStored::FrameTooLarge(self.frame_bytes_max));
        }
        Ok(())
    }

    /// Whether a shard's inbox is.
    fn is_full(&self) -> bool {
        self.outlets.iter().any(|outlet| outlet.batches.is_full())
    }

    fn wake_shards(&self) {
        self.outlets.iter().for_each(|outlet| outlet.wake.wake());
    }

    fn tell_mirror(&self) {
        if let Some(mirror) = &self.mirror {
            // A full channel holds a unit already: the mirror will look at the ring all the same.
            let _ = mirror.try_send(());
        }
    }

    fn send(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for outlet in &self.outlets {
            // Full it is not, as was seen under this lock; a shard that has ended needs nothing.
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

    /// The seq behind the newest message of the history.
    fn next_seq(&self) -> u64 {
        match &self.store {
            Store::Ring(ring) => ring.next_seq(),
            Store::Queue(queue) => queue.next_seq,
            Store::Released(released) => released.next_seq,
        }
    }

    /// The queue, where messages wait for the disk.
    fn queue(&mut self) -> Option<&mut CommitQueue> {
        match &mut self.store {
            Store::Ring(_) | Store::Released(_) => None,
            Store::Queue(queue) => Some(queue),
        }
    }

    /// Leaves messages for the next commit, as far as there is room.
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
