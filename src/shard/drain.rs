//! How a shard ends: it drains; or it holds until a successor has the ring, and departs.
//!
//! Part of the shard, called by the reactor when it is told so; what is due in a drain is done by
//! [`Shard::tick`]. Never talks to the successor: departures are taken by the reactor.

use crate::clock::Now;
use crate::http::RequestReader;
use crate::limits::{
    DRAIN_IDLE_MS, DRAIN_LEAST_MS, DRAIN_SPREAD_PERCENT, HEARTBEAT_PHASES, REQUEST_DEADLINE_MS,
    RETRY_MS,
};
use crate::metrics::Counter;
use crate::shard::connection::State;
use crate::shard::stagger::Stagger;
use crate::shard::transport::Transport;
use crate::shard::{Shard, Token};

/// Whether requests are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    /// They are.
    Open,
    /// Not for now: the ring is on its way to a successor. What arrives waits in its socket.
    Held,
    /// Not here any more: the successor answers them.
    HandingOver,
}

/// A connection that goes to the successor, and the bytes of its current request that were read.
#[derive(Debug)]
pub struct HandoverConnection<S> {
    /// Its socket.
    pub socket: S,
    /// What a reader there goes on from.
    pub bytes: Vec<u8>,
}

/// Streams are ended phase by phase; what is left at the deadline is cut off.
pub(super) struct Drain {
    pub(super) ends: Stagger,
    /// From when on connections without a request are closed; none when they have been.
    pub(super) idle_ends_ms: Option<u64>,
    /// When all streams should have been told of their end; none when they have been.
    pub(super) told_ms: Option<u64>,
    pub(super) deadline_ms: u64,
}

impl Drain {
    /// Streams that were told late, because the thread did not run, have the same time for their last
    /// bytes as on time.
    pub(super) fn note_told(&mut self, now_ms: u64) {
        if let Some(told_ms) = self.told_ms.take_if(|told_ms| now_ms >= *told_ms) {
            self.deadline_ms += now_ms - told_ms;
        }
    }

    /// When there is something to do for it, at the latest.
    pub(super) fn next_ms(&self, slots: usize) -> u64 {
        let ends_ms = self.ends.due_ms(slots).unwrap_or(self.deadline_ms);
        let idle_ends_ms = self.idle_ends_ms.unwrap_or(self.deadline_ms);
        ends_ms.min(idle_ends_ms).min(self.deadline_ms)
    }
}

impl<S: Transport> Shard<S> {
    /// Starts the drain: what is in flight, or comes within a moment, is answered, connections
    /// without a request are closed then, streams are ended one after the other.
    pub fn start_drain(&mut self, now: Now) {
        let drain_ms = self.settings.drain.as_millis() as u64;
        let spread_ms = drain_ms * DRAIN_SPREAD_PERCENT / 100;
        // Where webhooks can be taken no more, whoever waits to send one is better off without us.
        let idle_ms = match self.intake {
            Intake::HandingOver => 0,
            Intake::Open | Intake::Held => DRAIN_IDLE_MS.min(spread_ms),
        };
        self.drain = Some(Drain {
            ends: Stagger::new(HEARTBEAT_PHASES, 1, spread_ms.max(1), now.mono_ms),
            told_ms: Some(now.mono_ms + spread_ms),
            idle_ends_ms: Some(now.mono_ms + idle_ms),
            deadline_ms: now.mono_ms + drain_ms.max(DRAIN_LEAST_MS),
        });
    }

    /// Whether connections without a request are to be closed.
    pub(super) fn closes_idle(&self) -> bool {
        let drain = self.drain.as_ref();
        drain.is_some_and(|drain| drain.idle_ends_ms.is_none())
    }

    pub(super) fn close_idle(&mut self, now: Now) {
        for slot in 0..self.slots_used {
            let Some(connection) = self.connections.get_mut(slot) else {
                continue;
            };
            if matches!(connection.state, State::Idle) {
                // A request may have come that no event has told of yet; else this closes it.
                connection.readable = true;
                self.read_requests(slot, now);
            }
        }
    }

    /// Reads no further request until [`Shard::resume`] or [`Shard::hand_over`]. Webhooks that were read
    /// are still published; when there are none left ([`Shard::has_drafts`]), nothing of this shard
    /// needs the ring.
    pub fn hold(&mut self) {
        self.intake = Intake::Held;
    }

    /// Goes on after [`Shard::hold`] as if nothing had been: who could not be heard meanwhile is not late.
    pub fn resume(&mut self, now: Now) {
        self.intake = Intake::Open;
        let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
        for (slot, connection) in &mut self.connections {
            if matches!(connection.state, State::Idle | State::Reading(..)) {
                connection.deadline_ms = connection.deadline_ms.max(deadline_ms);
                self.shares.note_progress(slot as u32, now.mono_ms);
            }
        }
        self.read_all_requests(now);
    }

    /// Goes on after [`Shard::hold`] by giving away every connection that is no stream and
    /// [`can_leave`](Transport::can_leave), at once or when it has its answer
    /// ([`Shard::take_handovers`]), and ends all others like a drain.
    pub fn hand_over(&mut self, now: Now) {
        self.intake = Intake::HandingOver;
        self.start_drain(now);
        self.read_all_requests(now);
    }

    /// Looks at a connection that came when this shard was about to end: it leaves, or is answered
    /// and closed, and does not stay for the rest of the drain.
    pub fn see_out(&mut self, token: Token, now: Now) {
        if let Some(slot) = self.slot_of(token).filter(|_| self.drain.is_some()) {
            self.connections[slot].readable = true;
            self.read_requests(slot, now);
        }
    }

    /// Connections that have left since the last call.
    pub fn take_handovers(&mut self) -> Vec<HandoverConnection<S>> {
        std::mem::take(&mut self.handovers)
    }

    /// Goes on with the bytes of a request that were read before the connection came here.
    pub fn go_on_with(&mut self, token: Token, bytes: Vec<u8>, now: Now) {
        if let Some(slot) = self.slot_of(token) {
            self.connections[slot].readable = true;
            let reader = RequestReader::resume(bytes, self.settings.body_bytes_max);
            self.read_from(slot, Box::new(reader), now);
        }
    }

    fn read_all_requests(&mut self, now: Now) {
        for slot in 0..self.slots_used {
            if let Some(connection) = self.connections.get_mut(slot) {
                // No event tells of what came while nobody looked.
                connection.readable = true;
                self.read_requests(slot, now);
            }
        }
    }

    /// A stream's turn to end has come, or that of a request that waits.
    pub(super) fn end_stream(&mut self, slot: usize) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        match &connection.state {
            State::Waiting(_) => self.wake(slot),
            // Cut off: what ends in good order before its time would be kept by a cache, and played
            // to clients that come back at once.
            State::Streaming(stream) if stream.is_shared() => {
                self.close_stream(slot, Counter::StreamsDrained);
            }
            State::Streaming(_) => self.tell_end(slot, RETRY_MS),
            _ => {}
        }
    }

    /// Whether nothing is left to do in a drain.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.connections.is_empty()
    }

    pub(super) fn close_all(&mut self) {
        for slot in 0..self.slots_used {
            if self.connections.contains(slot) {
                self.close(slot);
            }
        }
    }
}
