//! The hub: the one owner of the ring and of `seq`.
//!
//! Shards bring the webhooks of a turn, the mirror brings messages of other nodes; both get them
//! numbered, committed to the ring, encoded once, and sent to every shard, in that order and under
//! one lock, so the order of appends is the order everywhere. Never touches a socket and never
//! waits: when a shard's inbox is full, what is left stays with the caller, who tries again.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::limits::{BATCH_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, HISTORY_MESSAGES};
use crate::log::SharedHistory;
use crate::message::{Draft, Message, MessageId, SessionId};
use crate::ring::{Ring, RingError};
use crate::sse::event_id::Epoch;
use crate::sse::frame::{self, Chunk};

/// The frames of one turn, shared by all shards.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: Vec<BatchFrame>,
    shared_history: Option<SharedHistory>,
}

struct BatchFrame {
    seq: u64,
    session: Option<SessionId>,
    chunk: Chunk,
}

/// One frame of a batch.
pub struct FrameRef<'a> {
    /// The message's number.
    pub seq: u64,
    /// The session it is for.
    pub session: Option<&'a SessionId>,
    /// Its bytes, chunk framing included.
    pub bytes: &'a [u8],
    /// Where the payload lies in them.
    pub chunk: Chunk,
}

impl Batch {
    /// The frames in the order of their seqs.
    pub fn frames(&self) -> impl Iterator<Item = FrameRef<'_>> {
        let mut rest = self.bytes.as_slice();
        self.frames.iter().map(move |frame| {
            let (bytes, after) = rest.split_at(frame.chunk.bytes as usize);
            rest = after;
            FrameRef {
                seq: frame.seq,
                session: frame.session.as_ref(),
                bytes,
                chunk: frame.chunk,
            }
        })
    }

    /// What new streams are to be shown from now on, if that has changed.
    pub fn shared_history(&self) -> Option<&SharedHistory> {
        self.shared_history.as_ref()
    }

    fn push(&mut self, epoch: Epoch, seq: u64, message: &Message) -> Chunk {
        let chunk = frame::push_message(&mut self.bytes, epoch, seq, message);
        self.frames.push(BatchFrame {
            seq,
            session: message.session.clone(),
            chunk,
        });
        chunk
    }

    fn pop(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.bytes
                .truncate(self.bytes.len() - frame.chunk.bytes as usize);
        }
    }
}

/// What a sender is told of a message that is in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub id: MessageId,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

/// Why a message is not in the ring. Nothing of it was delivered.
#[derive(Debug)]
pub enum NotStored {
    /// The ring could not take it.
    Ring(RingError),
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
        matches!(
            self,
            NotStored::FrameTooLarge(_) | NotStored::Ring(RingError::MessageTooLarge { .. })
        )
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

/// See the module's description.
pub struct Hub {
    state: Mutex<State>,
    outlets: Vec<Outlet>,
    /// Told after local messages, when there is a mirror; holds one unit.
    mirror: Option<Sender<()>>,
    epoch: Epoch,
    frame_bytes_max: usize,
}

struct State {
    custody: Custody,
    /// What the ring holds, oldest first.
    history: VecDeque<Arc<Message>>,
    ids: MessageIds,
}

/// Who holds the ring.
enum Custody {
    Ours(Ring),
    /// Another process, which goes on from this seq. Nothing is published here.
    Released {
        next_seq: u64,
    },
}

impl Hub {
    /// Takes over an opened ring and the history that was found in it, oldest first.
    pub fn new(
        ring: Ring,
        history: Vec<(u64, Message)>,
        outlets: Vec<Outlet>,
        mirror: Option<Sender<()>>,
    ) -> Hub {
        let epoch = ring.epoch();
        let frame_bytes_max = ring.message_bytes_max() + FRAME_OVERHEAD_BYTES_MAX;
        let history = history.into_iter().map(|(_, message)| Arc::new(message));
        Hub {
            state: Mutex::new(State {
                custody: Custody::Ours(ring),
                history: history.collect(),
                ids: MessageIds::new(),
            }),
            outlets,
            mirror,
            epoch,
            frame_bytes_max,
        }
    }

    /// The epoch of the event ids that this hub gives out.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the frames of [`HISTORY_MESSAGES`] messages of any size take at most, in bytes: a live
    /// log has to be this large.
    pub fn history_bytes_max(&self) -> usize {
        HISTORY_MESSAGES * self.frame_bytes_max
    }

    /// The history as a batch, and the seq of its first message: what a shard's live log begins
    /// with. Called before the first message is published.
    pub fn history_batch(&self) -> (u64, Batch) {
        let state = self.lock();
        let first_seq = state.next_seq() - state.history.len() as u64;
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
            first_seq: state.next_seq() - state.history.len() as u64,
            messages: state.history.iter().cloned().collect(),
        }
    }

    /// Publishes webhooks, in order. For every draft that it takes from the front of `drafts` it
    /// appends an outcome to `outcomes`; drafts that are left found a shard's inbox full.
    pub fn publish(
        &self,
        drafts: &mut VecDeque<Draft>,
        unix_ms: u64,
        outcomes: &mut Vec<Result<Receipt, NotStored>>,
    ) {
        if drafts.is_empty() {
            return;
        }
        let taken = outcomes.len();
        self.publish_batches(
            &mut || drafts.pop_front(),
            |state, draft| {
                let id = state.ids.next().map_err(NotStored::Entropy);
                id.map(|id| {
                    Arc::new(Message {
                        id,
                        timestamp_ms: unix_ms,
                        session: draft.session,
                        content: draft.content,
                    })
                })
            },
            outcomes,
        );
        if let (Some(mirror), true) = (&self.mirror, outcomes.len() > taken) {
            // A full channel holds a unit already: the mirror will look at the ring all the same.
            let _ = mirror.try_send(());
        }
    }

    /// Publishes messages of other nodes, in order, and tells of each whether it was stored. Waits
    /// up to `patience` in all for shards to make room, so this is not for a shard's thread.
    pub fn admit(
        &self,
        messages: &[Arc<Message>],
        patience: Duration,
    ) -> Vec<Result<Receipt, NotStored>> {
        let deadline = Instant::now() + patience;
        let mut left: VecDeque<Arc<Message>> = messages.iter().cloned().collect();
        let mut outcomes = Vec::new();
        loop {
            self.publish_batches(
                &mut || left.pop_front(),
                |_, message| Ok(message),
                &mut outcomes,
            );
            if left.is_empty() {
                return outcomes;
            }
            if Instant::now() >= deadline {
                outcomes.extend(left.drain(..).map(|_| Err(NotStored::Busy)));
                return outcomes;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Tells the shards what new streams are to be shown. False when a shard has no room for it;
    /// then it is to be said again.
    pub fn set_shared_history(&self, shared: SharedHistory) -> bool {
        let state = self.lock();
        if self.outlets.iter().any(|outlet| outlet.batches.is_full()) {
            return false;
        }
        self.send(Batch {
            shared_history: Some(shared),
            ..Batch::default()
        });
        drop(state);
        self.outlets.iter().for_each(|outlet| outlet.wake.wake());
        true
    }

    /// Writes the ring to disk and marks it as cleanly closed. The last thing in a drain. Nothing
    /// happens to a ring that was released.
    pub fn close(&self) -> io::Result<()> {
        self.lock().close()
    }

    /// Closes the ring and unlocks it, so that another process may open it. Until
    /// [`Hub::take_back`] drafts stay where they are. On an error the ring is kept.
    pub fn release(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.close()?;
        let next_seq = state.next_seq();
        state.custody = Custody::Released { next_seq };
        Ok(())
    }

    /// Goes on with the ring, opened again, after [`Hub::release`]. What another process has appended
    /// to it meanwhile goes to the streams. It has to be the ring of this hub's epoch.
    pub fn take_back(&self, ring: Ring, history: Vec<(u64, Message)>) {
        assert_eq!(ring.epoch(), self.epoch, "the caller has looked");
        let mut state = self.lock();
        let known_seq = state.next_seq();
        state.custody = Custody::Ours(ring);
        let mut batch = Batch::default();
        for (seq, message) in history {
            if seq >= known_seq {
                batch.push(self.epoch, seq, &message);
                state.remember(Arc::new(message));
            }
        }
        let has_news = !batch.frames.is_empty();
        if has_news {
            // They empty their inboxes every turn, and only the holder of the lock fills them.
            while self.outlets.iter().any(|outlet| outlet.batches.is_full()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            self.send(batch);
        }
        drop(state);
        if has_news {
            self.outlets.iter().for_each(|outlet| outlet.wake.wake());
        }
    }

    /// Numbers, commits and encodes what `next` yields, and sends it to the shards, a batch at a
    /// time, until nothing is left or an inbox is full.
    fn publish_batches<T>(
        &self,
        next: &mut dyn FnMut() -> Option<T>,
        mut message: impl FnMut(&mut State, T) -> Result<Arc<Message>, NotStored>,
        outcomes: &mut Vec<Result<Receipt, NotStored>>,
    ) {
        let mut state = self.lock();
        let mut sent = false;
        // Only the holder of the lock sends, so room that is seen here stays.
        while state.has_ring() && !self.outlets.iter().any(|outlet| outlet.batches.is_full()) {
            let mut batch = Batch::default();
            while batch.bytes.len() < BATCH_BYTES_MAX
                && let Some(item) = next()
            {
                let stored =
                    message(&mut state, item).and_then(|m| self.store(&mut state, &mut batch, m));
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
            self.outlets.iter().for_each(|outlet| outlet.wake.wake());
        }
    }

    /// Encodes first, commits last: what cannot be delivered is not stored, and what cannot be
    /// stored is not delivered.
    fn store(
        &self,
        state: &mut State,
        batch: &mut Batch,
        message: Arc<Message>,
    ) -> Result<Receipt, NotStored> {
        let chunk = batch.push(self.epoch, state.next_seq(), &message);
        if chunk.bytes as usize > self.frame_bytes_max {
            batch.pop();
            return Err(NotStored::FrameTooLarge(self.frame_bytes_max));
        }
        if let Err(error) = state.append(&message, batch.frames.len() == 1) {
            batch.pop();
            return Err(NotStored::Ring(error));
        }
        let receipt = Receipt {
            id: message.id,
            timestamp_ms: message.timestamp_ms,
        };
        state.remember(message);
        Ok(receipt)
    }

    fn send(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for outlet in &self.outlets {
            // Full it is not, as was seen under this lock; a shard that has ended needs nothing.
            let _ = outlet.batches.try_send(Arc::clone(&batch));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("a panic under this lock ends the process")
    }
}

impl State {
    fn next_seq(&self) -> u64 {
        match &self.custody {
            Custody::Ours(ring) => ring.next_seq(),
            Custody::Released { next_seq } => *next_seq,
        }
    }

    fn has_ring(&self) -> bool {
        matches!(self.custody, Custody::Ours(_))
    }

    fn remember(&mut self, message: Arc<Message>) {
        if self.history.len() == HISTORY_MESSAGES {
            self.history.pop_front();
        }
        self.history.push_back(message);
    }

    fn close(&mut self) -> io::Result<()> {
        self.mend().map_err(io::Error::other)?;
        match &mut self.custody {
            Custody::Ours(ring) => ring.sync(),
            Custody::Released { .. } => Ok(()),
        }
    }

    /// Appends to the ring; `look` first whether the file is still what it was, once per batch.
    fn append(&mut self, message: &Message, look: bool) -> Result<u64, RingError> {
        if look {
            self.mend()?;
        }
        match &mut self.custody {
            Custody::Ours(ring) => ring.append(message),
            // Not reached: publishing looks first.
            Custody::Released { .. } => Err(RingError::Removed),
        }
    }

    /// Writes the file anew from the history if somebody has cut or removed it: a write to a page
    /// that is gone would end the process.
    fn mend(&mut self) -> Result<(), RingError> {
        let Custody::Ours(ring) = &mut self.custody else {
            return Ok(());
        };
        let Err(error) = ring.check() else {
            return Ok(());
        };
        tracing::warn!(%error, "the ring file was changed from outside; writing it anew");
        ring.repair(self.history.iter().map(|message| &**message))
    }
}

/// Random (version 4) ids, a page of the kernel's random bytes at a time: a system call for each
/// would cost more than the rest of a publish.
struct MessageIds {
    bytes: [u8; MessageIds::BYTES],
    used: usize,
}

impl MessageIds {
    const BYTES: usize = 4096;
    const ID_BYTES: usize = 16;

    fn new() -> MessageIds {
        MessageIds {
            bytes: [0; Self::BYTES],
            used: Self::BYTES,
        }
    }

    fn next(&mut self) -> Result<MessageId, getrandom::Error> {
        if self.used == Self::BYTES {
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        let mut random = [0; Self::ID_BYTES];
        random.copy_from_slice(&self.bytes[self.used..self.used + Self::ID_BYTES]);
        self.used += Self::ID_BYTES;
        Ok(uuid::Builder::from_random_bytes(random).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::memory::MemoryMedium;

    /// The mark of a clean close goes to the beginning of the file: where that is gone, the write
    /// would be the end of the process.
    #[test]
    fn a_ring_file_that_was_cut_is_whole_again_when_it_is_closed() {
        let medium = MemoryMedium::default();
        let open = || Ring::open_on(Box::new(medium.clone()), 100).unwrap();
        let (ring, recovered) = open();
        let hub = Hub::new(ring, recovered.messages, Vec::new(), None);
        let draft = Draft {
            session: None,
            content: "kept".into(),
        };
        let mut outcomes = Vec::new();
        hub.publish(&mut VecDeque::from([draft]), 1, &mut outcomes);
        assert!(outcomes[0].is_ok());
        for damage in [|m: &MemoryMedium| m.truncate(100), MemoryMedium::remove] {
            damage(&medium);
            hub.close().unwrap();
        }
        drop(hub);
        let (_, recovered) = open();
        assert!(!recovered.report.is_warning(), "{}", recovered.report);
        assert_eq!(recovered.messages[0].1.content, "kept");
    }
}
