//! A batch: the frames that the hub sends to every shard at once.
//!
//! Made by the hub and by the committer, read by the shards. Never changes after it was sent.

use std::sync::{Arc, OnceLock};

use super::{NotStored, Receipt};
use crate::live_log::{CompressedFrame, SharedHistory};
use crate::message::{Epoch, Message, SessionId};
use crate::sse::frame::{self, CHUNK_TAIL_BYTES, Chunk};
use crate::sse::gzip::{Compressor, Piece};
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
    /// The frames once more, compressed by the first shard that needs them.
    pub(super) compressed: OnceLock<CompressedBatch>,
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
    timestamp_ms: u64,
    session: Option<SessionId>,
    chunk: Chunk,
}

/// One frame of a batch.
pub struct FrameRef<'a> {
    /// The message's seq.
    pub seq: u64,
    /// The message's time, in Unix milliseconds.
    pub timestamp_ms: u64,
    /// The session that the message is for; `None`: for all.
    pub session: Option<&'a SessionId>,
    /// The frame's bytes, chunk framing included.
    pub bytes: &'a [u8],
    /// The position of the payload in `bytes`.
    pub chunk: Chunk,
}

/// The compressed frames of a batch, one behind the other, and the length and the piece of each.
#[derive(Default)]
pub(super) struct CompressedBatch {
    bytes: Vec<u8>,
    frames: Vec<(u32, Piece)>,
}

/// About what a frame has beside a short text. With too little the bytes are moved once.
const FRAME_OVERHEAD_BYTES: usize = 192;

impl Batch {
    /// An empty batch with room for these messages.
    pub(super) fn with_room(messages: &[Arc<Message>]) -> Batch {
        let bytes = |message: &Arc<Message>| message.text_bytes() + FRAME_OVERHEAD_BYTES;
        Batch {
            bytes: Vec::with_capacity(messages.iter().map(bytes).sum()),
            frames: Vec::with_capacity(messages.len()),
            ..Batch::default()
        }
    }

    /// The frames, in the order of their seqs.
    pub fn frames(&self) -> impl Iterator<Item = FrameRef<'_>> {
        let mut rest = self.bytes.as_slice();
        self.frames.iter().map(move |frame| {
            let (bytes, after) = rest.split_at(frame.chunk.bytes as usize);
            rest = after;
            FrameRef {
                seq: frame.seq,
                timestamp_ms: frame.timestamp_ms,
                session: frame.session.as_ref(),
                bytes,
                chunk: frame.chunk,
            }
        })
    }

    /// The compressed frames, in the order of [`Batch::frames`]. The first call compresses them, on the thread of
    /// one shard and without the hub's lock; calls of other shards wait for it. The flag is true for that call.
    pub fn compressed<'a>(
        &'a self,
        compressor: &mut Compressor,
    ) -> (bool, impl Iterator<Item = CompressedFrame<'a>> + use<'a>) {
        let mut is_first = false;
        let compressed = self.compressed.get_or_init(|| {
            is_first = true;
            self.compress(compressor)
        });
        let mut rest = compressed.bytes.as_slice();
        let frames = compressed.frames.iter().map(move |(length, piece)| {
            let (bytes, after) = rest.split_at(*length as usize);
            rest = after;
            CompressedFrame {
                bytes,
                piece: *piece,
            }
        });
        (is_first, frames)
    }

    fn compress(&self, compressor: &mut Compressor) -> CompressedBatch {
        let mut compressed = CompressedBatch::default();
        for FrameRef { bytes, chunk, .. } in self.frames() {
            let event = &bytes[usize::from(chunk.head_bytes)..bytes.len() - CHUNK_TAIL_BYTES];
            let start = compressed.bytes.len();
            let piece = frame::push_compressed(&mut compressed.bytes, compressor, event);
            let length = compressed.bytes.len() - start;
            compressed.frames.push((length as u32, piece));
        }
        compressed
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
            timestamp_ms: message.timestamp_ms,
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
