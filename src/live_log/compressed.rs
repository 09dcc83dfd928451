//! The compressed frames of a live log: a second byte ring, for the same messages.
//!
//! Called by the live log of a server that compresses streams, which appends to and evicts from both rings at
//! once. Never compresses: the frames arrive compressed.

use std::collections::VecDeque;

use super::bytes::ByteRing;
use crate::limits::{HISTORY_MESSAGES, compressed_log_ring_bytes};
use crate::sse::gzip::{Checksum, Piece, TabledPiece};

/// A frame as compressed streams send it.
#[derive(Debug, Clone, Copy)]
pub struct CompressedFrame<'a> {
    /// Its bytes, chunk framing included.
    pub bytes: &'a [u8],
    /// What it adds to the checksum of a stream.
    pub piece: Piece,
}

struct Entry {
    start: u64,
    piece: Piece,
}

pub(super) struct CompressedFrames {
    bytes: ByteRing,
    /// The frames of the same seqs as in the log.
    entries: VecDeque<Entry>,
    /// The piece of the newest frame, which almost every stream adds.
    newest: Option<TabledPiece>,
}

/// Bytes of a frame in this index.
#[cfg(test)]
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();

impl CompressedFrames {
    /// Room for the frames of a log of so many bytes, if none of them shrinks.
    pub(super) fn new(log_bytes: usize) -> CompressedFrames {
        CompressedFrames {
            bytes: ByteRing::new(compressed_log_ring_bytes(log_bytes)),
            entries: VecDeque::new(),
            newest: None,
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.newest = None;
    }

    pub(super) fn has_room(&self, frame: &CompressedFrame<'_>) -> bool {
        self.bytes.free() >= frame.bytes.len()
    }

    pub(super) fn push(&mut self, frame: &CompressedFrame<'_>) {
        assert!(
            frame.bytes.len() <= self.bytes.capacity() / HISTORY_MESSAGES,
            "a compressed frame is hardly longer than a plain one"
        );
        self.entries.push_back(Entry {
            start: self.bytes.head(),
            piece: frame.piece,
        });
        self.bytes.push(frame.bytes);
        self.newest = Some(TabledPiece::new(frame.piece));
    }

    pub(super) fn evict_oldest(&mut self) {
        self.entries.pop_front();
        let tail = self.extent(0).0;
        self.bytes.forget_before(tail);
    }

    /// The start and end offsets of a frame, by its place in the log. Behind the last one both are the head.
    pub(super) fn extent(&self, place: usize) -> (u64, u64) {
        let start = |place: usize| {
            let entry = self.entries.get(place);
            entry.map_or(self.bytes.head(), |entry| entry.start)
        };
        (start(place), start(place + 1))
    }

    /// Adds a frame, by its place in the log, to the checksum of a stream.
    pub(super) fn add(&self, place: usize, sum: &mut Checksum) {
        match &self.newest {
            Some(newest) if place + 1 == self.entries.len() => sum.add_tabled(newest),
            _ => sum.add(&self.entries[place].piece),
        }
    }

    pub(super) fn ring(&self) -> &ByteRing {
        &self.bytes
    }
}
