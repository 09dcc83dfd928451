//! The end of a shard: a drain, or a hold until a successor has the ring, and then a handover.
//!
//! Part of the shard, called by the reactor on a command. [`Shard::tick`] does what is due in a
//! drain. Never talks to the successor: the reactor sends it the connections of
//! [`Shard::take_handovers`].

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
    /// Requests are read.
    Open,
    /// Requests wait in their sockets while a successor takes over the ring.
    Held,
    /// No further requests are read: the successor answers them.
    HandingOver,
}

/// A connection for the successor, with the bytes read of its current request.
#[derive(Debug)]
pub struct HandoverConnection<S> {
    /// Its socket.
    pub socket: S,
    /// The first bytes for the successor's reader.
    pub bytes: Vec<u8>,
}

/// A drain in progress. Streams are ended phase by phase. Those left at the deadline are cut off.
pub(super) struct Drain {
    pub(super) ends: Stagger,
    /// When connections without a request are closed; none after that.
    pub(super) idle_ends_ms: Option<u64>,
    /// When the ends of all streams should be due; none after that.
    pub(super) ends_due_ms: Option<u64>,
    pub(super) deadline_ms: u64,
}

impl Drain {
    /// Extends the deadline if the ends of the streams are late because the thread did not run. So
    /// streams always have the same time for their last bytes.
    pub(super) fn note_told(&mut self, now_ms: u64) {
        if let Some(ends_due_ms) = self
            .ends_due_ms
            .take_if(|ends_due_ms| now_ms >= *ends_due_ms)
        {
            self.deadline_ms += now_ms - ends_due_ms;
        }
    }

    /// When the drain has its next work, in monotonic milliseconds.
    pub(super) fn next_ms(&self, slots: usize) -> u64 {
        let ends_ms = self.ends.due_ms(slots).unwrap_or(self.deadline_ms);
        let idle_ends_ms = self.idle_ends_ms.unwrap_or(self.deadline_ms);
        let ends_due_ms = self.ends_due_ms.unwrap_or(self.deadline_ms);
        ends_ms
            .min(idle_ends_ms)
            .min(ends_due_ms)
            .min(self.deadline_ms)
    }
}

impl<S: Transport> Shard<S> {
    /// Starts the drain. Requests in flight, and those of the next [`DRAIN_IDLE_MS`], are answered.
    /// Then connections without a request are closed. Streams are ended phase by phase.
    pub fn start_drain(&mut self, now: Now) {
        let drain_ms = self.settings.drain.as_millis() as u64;
        let spread_ms = drain_ms * DRAIN_SPREAD_PERCENT / 100;
        // After a handover this process refuses webhooks, so idle connections are closed at once:
        // their clients reconnect to the successor.
        let idle_ms = match self.intake {
            Intake::HandingOver => 0,
            Intake::Open | Intake::Held => DRAIN_IDLE_MS.min(spread_ms),
        };
        self.drain = Some(Drain {
            ends: Stagger::new(HEARTBEAT_PHASES, 1, spread_ms.max(1), now.mono_ms),
            ends_due_ms: Some(now.mono_ms + spread_ms),
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
                // A request may have arrived whose event was not read yet. Without one, this
                // closes the connection.
                connection.readable = true;
                self.read_requests(slot, now);
            }
        }
    }

    /// Reads no further request until [`Shard::resume`] or [`Shard::hand_over`]. Webhooks that were
    /// read are still published. When none is left ([`Shard::has_drafts`]), this shard no longer
    /// needs the ring.
    pub fn hold(&mut self) {
        self.intake = Intake::Held;
    }

    /// Ends a [`Shard::hold`]. Requests that were not read meanwhile get a full deadline again.
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

    /// Ends a [`Shard::hold`] with a handover. Connections that [`can_leave`](Transport::can_leave)
    /// and are no streams go to the successor, at once or after their answer
    /// ([`Shard::take_handovers`]). All others end as in a drain.
    pub fn hand_over(&mut self, now: Now) {
        self.intake = Intake::HandingOver;
        self.start_drain(now);
        self.read_all_requests(now);
    }

    /// Reads a connection that arrived during a drain. It is handed over, or answered and closed, and
    /// does not stay for the rest of the drain.
    pub fn see_out(&mut self, token: Token, now: Now) {
        if let Some(slot) = self.slot_of(token).filter(|_| self.drain.is_some()) {
            self.connections[slot].readable = true;
            self.read_requests(slot, now);
        }
    }

    /// Connections for the successor since the last call.
    pub fn take_handovers(&mut self) -> Vec<HandoverConnection<S>> {
        std::mem::take(&mut self.handovers)
    }

    /// Continues a request with the bytes that the predecessor has read of it.
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
                // Bytes that arrived during the hold cause no further event.
                connection.readable = true;
                self.read_requests(slot, now);
            }
        }
    }

    /// Ends a stream or a long poll whose phase of the drain is due.
    pub(super) fn end_stream(&mut self, slot: usize) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        match &connection.state {
            State::Waiting(_) => self.wake(slot),
            // Cut off without a last chunk: a cache would keep a complete response, and replay it to
            // clients that reconnect at once.
            State::Streaming(stream) if stream.is_shared() => {
                self.close_stream(slot, Counter::StreamsDrained);
            }
            State::Streaming(_) => self.tell_end(slot, RETRY_MS),
            _ => {}
        }
    }

    /// Whether a drain is complete.
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
