//! From a message to the connections that it concerns, slice by slice.
//!
//! Part of the shard. The path of a frame: `note_behind` (as it enters the log) → `sweep_slice` →
//! `serve`, and from there to the stream (`subscription`). Long polls are only marked as due here.
//! `history` answers them, at its own time. Nothing here loops over all connections for one message.

use crate::clock::Now;
use crate::limits::{SLICE_BYTES, SLICE_VISITS, SLICE_WRITES};
use crate::live_log::SessionKey;
use crate::shard::Shard;
use crate::shard::connection::State;
use crate::shard::membership::{Holder, Place};
use crate::shard::sweep::{Candidate, RoundKind};
use crate::shard::transport::Transport;

impl<S: Transport> Shard<S> {
    /// Marks the connections that may see a frame as behind. Called when the frame has entered the
    /// log.
    pub(super) fn note_behind(&mut self, session: Option<SessionKey>) {
        self.sweep.restart(RoundKind::Everything);
        self.waits.restart(RoundKind::Everything);
        match session {
            None => {
                self.sweep.restart(RoundKind::Filtered);
                self.waits.restart(RoundKind::Filtered);
            }
            Some(key) => {
                if self.log.begin_walk(key) {
                    self.sweep.enqueue_session(key);
                }
            }
        }
    }

    /// Serves connections that are behind, for one slice.
    pub(super) fn sweep_slice(&mut self, now: Now) {
        let (mut writes, mut bytes) = (0, 0);
        for _ in 0..SLICE_VISITS {
            let Some(candidate) = self.sweep.next() else {
                return;
            };
            let Some(slot) = self.slot_of_candidate(candidate, Holder::Stream) else {
                continue;
            };
            if let Some(sent_bytes) = self.serve(slot, now) {
                writes += 1;
                bytes += sent_bytes;
            }
            if writes == SLICE_WRITES || bytes >= SLICE_BYTES {
                return;
            }
        }
    }

    /// The slot of a candidate from the sweep over `holder`; none if its connection is closed, or the
    /// walk along its session is over.
    pub(super) fn slot_of_candidate(
        &mut self,
        candidate: Candidate,
        holder: Holder,
    ) -> Option<usize> {
        match candidate {
            Candidate::InRound(slot) => Some(slot as usize),
            Candidate::Queued(slot) => {
                // By now the slot may belong to another connection, which was not queued.
                let is_queued = |place: &&mut Place| place.queued && place.holder == holder;
                let place = self.place_mut(slot as usize).filter(is_queued)?;
                place.queued = false;
                Some(slot as usize)
            }
            Candidate::OfSession(key) => {
                let slot = self.log.walk_slot(key)?;
                let next = self.place_mut(slot as usize)?.session_next;
                self.log.walk_past(key, slot, next);
                self.sweep.enqueue_session(key);
                Some(slot as usize)
            }
        }
    }

    /// Sends a stream what it lacks. Returns the bytes sent, if there was a write. A long poll of the
    /// same session is queued for its own sweep.
    fn serve(&mut self, slot: usize, now: Now) -> Option<usize> {
        match &self.connections.get(slot)?.state {
            State::Streaming(_) => self.serve_stream(slot, now),
            State::Waiting(_) => {
                self.enqueue(slot);
                None
            }
            _ => None,
        }
    }
}
