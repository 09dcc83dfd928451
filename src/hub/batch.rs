//! A batch: the frames that the hub sends to every shard at once.
//!
//! Made by the hub and by the committer, read by the shards. Never changes after it was sent.

use std::sync::Arc;

use super::{NotStored, Receipt};
use crate::live_log::SharedHistory;
use crate::message::{Epoch, Message, SessionId};
use crate::sse::frame::{self, Chunk};
use crate::sse::lineage::Lineage;

/// The frames of one publish, shared by all shards.
#[derive(Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) frames: Vec<BatchFrame>,
    pub(super) shared_history: Option<SharedHistory>,
    pub(super) turnover: Option<Turnover>,
    /// Outcomes of webhooks that waited for a commit, in the order in which each shard sent them.
    pub(super) outcomes: Vec<(SenderId, Result<Receipt, NotStored>)>,
}

/// The beginning of an epoch, which concerns the frames of its batch and of later ones.
#[derive(Debug, Clone)]
pub struct Turnover {
    /// The lineage from now on.
    pub lineage: Arc<Lineage>,
    /// Another history replaces that of the live log: the log begins anew with the frame of this seq. Open
    /// streams have shown messages that are gone, so they end.
    pub replaced_from: Option<u64>,
}

/// Identifies a shard to the hub, and the shard's outcomes in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderId(pub(super) u32);

pub(super) struct BatchFrame {
    seq: u64,
    session: Option<SessionId>,
    chunk: Chunk,
}

/// One frame of a batch.
pub struct FrameRef<'a> {
    /// The message's seq.
    pub seq: u64,
    /// The session that the message is for; `None`: for all.
    pub session: Option<&'a SessionId>,
    /// The frame's bytes, chunk framing included.
    pub bytes: &'a [u8],
    /// The position of the payload in `bytes`.
    pub chunk: Chunk,
}

impl Batch {
    /// The frames, in the order of their seqs.
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

    /// The shared history that new streams replay from now on, if it has changed.
    pub fn shared_history(&self) -> Option<&SharedHistory> {
        self.shared_history.as_ref()
    }

    /// The beginning of an epoch. A shard acts on it before the frames.
    pub fn turnover(&self) -> Option<&Turnover> {
        self.turnover.as_ref()
    }

    /// Outcomes of this sender's webhooks that waited for the disk, in order. Their messages are in
    /// this batch or an earlier one.
    pub fn outcomes_for(
        &self,
        sender: SenderId,
    ) -> impl Iterator<Item = &Result<Receipt, NotStored>> {
        let own = self.outcomes.iter().filter(move |(to, _)| *to == sender);
        own.map(|(_, outcome)| outcome)
    }

    pub(super) fn push(&mut self, epoch: Epoch, seq: u64, message: &Message) -> Chunk {
        let chunk = frame::push_message(&mut self.bytes, epoch, seq, message);
        self.frames.push(BatchFrame {
            seq,
            session: message.session.clone(),
            chunk,
        });
        chunk
    }

    /// Bytes of the frames and of their index.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len() + self.frames.len() * size_of::<BatchFrame>()
    }

    pub(super) fn pop(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.bytes
                .truncate(self.bytes.len() - frame.chunk.bytes as usize);
        }
    }
}

#[cfg(any(test, feature = "testkit"))]
impl Batch {
    /// A batch with the frames of these messages, as the bus would send it.
    pub fn of_messages(
        epoch: Epoch,
        messages: &[(u64, Message)],
        turnover: Option<Turnover>,
    ) -> Batch {
        let mut batch = Batch::default();
        for (seq, message) in messages {
            batch.push(epoch, *seq, message);
        }
        batch.turnover = turnover;
        batch
    }
}
