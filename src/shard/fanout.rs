//! From a message to the connections that it concerns, slice by slice.
//!
//! Part of the shard. The path of a frame: `note_behind` (as it enters the log) → `sweep` → `serve`, and
//! from there to the stream (`subscription`). Long polls are only queued here.
//! `history` answers them, at its own time. Nothing here loops over all connections for one message.

use std::hint::black_box;
use std::time::Duration;

use crate::clock::Now;
use crate::limits::{SLICE_BYTES, SLICE_VISITS, SLICE_WRITES, VISITS_AHEAD};
use crate::live_log::SessionKey;
use crate::metrics::Timing;
use crate::shard::Shard;
use crate::shard::connection::State;
use crate::shard::exchange::Stage;
use crate::shard::membership::{Holder, Place, Sweeps};
use crate::shard::sweep::{Candidate, RoundKind};
use crate::shard::transport::Transport;

impl<S: Transport> Shard<S> {
    /// Marks the connections that may see a frame as behind. Called when the frame has entered the
    /// log.
    pub(super) fn note_behind(&mut self, session: Option<SessionKey>) {
        let Sweeps { streams, waits } = &mut self.sweeps;
        streams.restart(RoundKind::Everything);
        waits.restart(RoundKind::Everything);
        match session {
            None => {
                streams.restart(RoundKind::Filtered);
                waits.restart(RoundKind::Filtered);
            }
            Some(key) => {
                if self.log.begin_walk(key) {
                    streams.enqueue_session(key);
                }
            }
        }
    }

    /// One slice of the sweep: serves up to [`SLICE_WRITES`] streams that are behind.
    pub fn sweep(&mut self, now: Now) {
        if self.sweep_began_us.is_none() && !self.sweeps.streams.is_idle() {
            self.sweep_began_us = Some(now.mono_us);
        }
        let (mut writes, mut bytes) = (0, 0);
        for visit in 0..SLICE_VISITS {
            if visit % VISITS_AHEAD == 0 {
                self.load_ahead();
            }
            let Some(candidate) = self.sweeps.streams.next() else {
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

    /// Reads the next streams of the rounds, so that the processor loads them into its caches at once. Streams are
    /// served by age, which is no order in memory, so each visit would wait for the memory.
    fn load_ahead(&self) {
        let upcoming = self.sweeps.streams.upcoming(VISITS_AHEAD);
        let read = upcoming.map(|slot| self.connections.read_through(slot as usize));
        black_box(read.fold(0, |all, one| all ^ one));
    }

    /// How long streams have waited to be served, in microseconds: since the sweep in progress began, or
    /// 0 if it has not. `None` if no stream is behind.
    pub fn behind_us(&self, now: Now) -> Option<u64> {
        let began_us = self.sweep_began_us.unwrap_or(now.mono_us);
        (!self.sweeps.streams.is_idle()).then(|| now.mono_us.saturating_sub(began_us))
    }

    /// Whether a sweep has been in progress since the last [`Shard::end_sweep`].
    pub fn is_sweeping(&self) -> bool {
        self.sweep_began_us.is_some()
    }

    /// Counts the time that the sweep took, if the slice before was its last.
    pub fn end_sweep(&mut self, now: Now) {
        if self.sweeps.streams.is_idle()
            && let Some(began_us) = self.sweep_began_us.take()
        {
            let took = Duration::from_micros(now.mono_us.saturating_sub(began_us));
            self.tally.observe(Timing::Sweep, took);
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
                let place = self
                    .connections
                    .place_mut(slot as usize)
                    .filter(is_queued)?;
                place.queued = false;
                Some(slot as usize)
            }
            Candidate::OfSession(key) => {
                let node = self.log.walk_slot(key)?;
                let (slot, next) = self.at_node(node)?;
                self.log.walk_past(key, node, next);
                self.sweeps.streams.enqueue_session(key);
                Some(slot)
            }
        }
    }

    /// Sends a stream what it lacks. Returns the bytes sent, if there was a write. A long poll of the
    /// same session is queued for its own sweep.
    fn serve(&mut self, slot: usize, now: Now) -> Option<usize> {
        match &self.connections.get(slot)?.state {
            State::Streaming(_) => self.serve_stream(slot, now),
            State::Exchange(exchange) if matches!(exchange.stage, Stage::Waiting(_)) => {
                self.enqueue(slot);
                None
            }
            _ => None,
        }
    }
}
