//! The end of a shard: a drain, or a hold until a successor has the ring, and then a handover.
//!
//! Part of the shard, called by `turn` on a command. [`Shard::tick`] does what is due in a
//! drain. Never talks to the successor: the turn takes the connections of
//! [`Shard::take_handovers`].

use crate::clock::Now;
use crate::limits::{
    DRAIN_IDLE_MS, DRAIN_LEAST_MS, DRAIN_SPREAD_PERCENT, HANDOVER_SPREAD_MS_MAX, HEARTBEAT_PHASES,
    REQUEST_DEADLINE_MS, RETRY_MS,
};
use crate::metrics::Counter;
use crate::shard::Shard;
use crate::shard::connection::{State, Token};
use crate::shard::exchange::Stage;
use crate::shard::stagger::Stagger;
use crate::shard::transport::Transport;

/// Whether requests are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Intake {
    /// Requests are read.
    Open,
    /// Requests wait in their sockets while a successor takes over the ring.
    Held,
    /// Connections that can leave go to the successor. Others are read and answered; their webhooks are
    /// refused.
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

/// How far the end of a shard is.
pub(super) struct Shutdown<S> {
    /// Whether requests are read.
    pub(super) intake: Intake,
    drain: Option<Drain>,
    /// Connections for the successor.
    handovers: Vec<HandoverConnection<S>>,
}

impl<S> Default for Shutdown<S> {
    fn default() -> Shutdown<S> {
        Shutdown {
            intake: Intake::Open,
            drain: None,
            handovers: Vec::new(),
        }
    }
}

impl<S> Shutdown<S> {
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// When the drain has its next work, in monotonic milliseconds.
    pub(super) fn due_ms(&self, slots: usize) -> Option<u64> {
        self.drain.as_ref().map(|drain| drain.next_ms(slots))
    }
}

/// A drain in progress. Streams are ended phase by phase. Those left at the deadline are cut off.
struct Drain {
    ends: Stagger,
    /// When connections without a request are closed; none after that.
    idle_ends_ms: Option<u64>,
    /// When the ends of all streams should be due; none after that.
    ends_due_ms: Option<u64>,
    deadline_ms: u64,
}

impl Drain {
    /// Extends the deadline if the ends of the streams are late because the thread did not run. So
    /// streams always have the same time for their last bytes.
    fn extend_if_late(&mut self, now_ms: u64) {
        if let Some(ends_due_ms) = self
            .ends_due_ms
            .take_if(|ends_due_ms| now_ms >= *ends_due_ms)
        {
            self.deadline_ms += now_ms - ends_due_ms;
        }
    }

    fn next_ms(&self, slots: usize) -> u64 {
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
        // Without the ring this process has no messages for its streams, and refuses webhooks. After a handover idle
        // connections are closed at once: their clients reconnect to the successor.
        let (idle_ms, spread_ms) = match self.shutdown.intake {
            Intake::Open => (DRAIN_IDLE_MS.min(spread_ms), spread_ms),
            Intake::Held => {
                let spread_ms = spread_ms.min(HANDOVER_SPREAD_MS_MAX);
                (DRAIN_IDLE_MS.min(spread_ms), spread_ms)
            }
            Intake::HandingOver => (0, spread_ms.min(HANDOVER_SPREAD_MS_MAX)),
        };
        self.shutdown.drain = Some(Drain {
            ends: Stagger::new(HEARTBEAT_PHASES, 1, spread_ms.max(1), now.mono_ms),
            ends_due_ms: Some(now.mono_ms + spread_ms),
            idle_ends_ms: Some(now.mono_ms + idle_ms),
            deadline_ms: now.mono_ms + drain_ms.max(DRAIN_LEAST_MS),
        });
    }

    /// Does what is due in a drain.
    pub(super) fn tick_drain(&mut self, now: Now) {
        let Some(drain) = &mut self.shutdown.drain else {
            return;
        };
        drain.extend_if_late(now.mono_ms);
        let is_over = now.mono_ms >= drain.deadline_ms;
        let is_idle_over = drain
            .idle_ends_ms
            .take_if(|ends_ms| now.mono_ms >= *ends_ms)
            .is_some();
        for slot in drain.ends.turn(now.mono_ms, self.connections.slots()) {
            self.end_stream(slot);
        }
        if is_idle_over {
            self.close_idle(now);
        }
        if is_over {
            self.close_all();
        }
    }

    /// Whether connections without a request are to be closed.
    pub(super) fn closes_idle(&self) -> bool {
        let drain = self.shutdown.drain.as_ref();
        drain.is_some_and(|drain| drain.idle_ends_ms.is_none())
    }

    fn close_idle(&mut self, now: Now) {
        for slot in 0..self.connections.slots() {
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
        self.shutdown.intake = Intake::Held;
    }

    /// Ends a [`Shard::hold`]. Requests that were not read meanwhile get a full deadline again.
    pub fn resume(&mut self, now: Now) {
        self.shutdown.intake = Intake::Open;
        let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
        self.connections.extend_deadlines(deadline_ms, now);
        self.read_all_requests(now);
    }

    /// Ends a [`Shard::hold`] with a handover. Connections that [`can_leave`](Transport::can_leave)
    /// and are no streams go to the successor, at once or after their answer
    /// ([`Shard::take_handovers`]). All others end as in a drain.
    pub fn hand_over(&mut self, now: Now) {
        self.shutdown.intake = Intake::HandingOver;
        self.start_drain(now);
        self.read_all_requests(now);
    }

    /// Reads a connection that arrived during a drain. It is handed over, or answered and closed, and
    /// does not stay for the rest of the drain.
    pub fn read_if_draining(&mut self, token: Token, now: Now) {
        let slot = self.connections.slot_of(token);
        if let Some(slot) = slot.filter(|_| self.shutdown.is_draining()) {
            self.connections[slot].readable = true;
            self.read_requests(slot, now);
        }
    }

    /// Connections for the successor since the last call.
    pub fn take_handovers(&mut self) -> Vec<HandoverConnection<S>> {
        std::mem::take(&mut self.shutdown.handovers)
    }

    /// Continues a request with the bytes that the predecessor has read of it.
    pub fn continue_request(&mut self, token: Token, bytes: Vec<u8>, now: Now) {
        if let Some(slot) = self.connections.slot_of(token) {
            self.connections[slot].readable = true;
            self.read_from(slot, bytes, now);
        }
    }

    /// Removes a connection that goes to the successor, with the bytes read of its request.
    pub(super) fn leave(&mut self, slot: usize, bytes: Vec<u8>) {
        let socket = self.remove(slot).socket;
        self.shutdown
            .handovers
            .push(HandoverConnection { socket, bytes });
    }

    fn read_all_requests(&mut self, now: Now) {
        for slot in 0..self.connections.slots() {
            if let Some(connection) = self.connections.get_mut(slot) {
                // Bytes that arrived during the hold cause no further event.
                connection.readable = true;
                self.read_requests(slot, now);
            }
        }
    }

    /// Ends a stream or a long poll whose phase of the drain is due.
    fn end_stream(&mut self, slot: usize) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        match &connection.state {
            State::Exchange(exchange) if matches!(exchange.stage, Stage::Waiting(_)) => {
                self.wake(slot);
            }
            // Cut off without a last chunk: a cache would keep a complete response, and replay it to
            // clients that reconnect at once.
            State::Streaming(stream) if stream.is_shared() => {
                self.close_stream(slot, Counter::StreamsDrained);
            }
            State::Streaming(_) => self.begin_end(slot, RETRY_MS),
            _ => {}
        }
    }

    /// Whether a drain is complete.
    pub fn is_drained(&self) -> bool {
        self.shutdown.is_draining() && self.connections.is_empty()
    }

    pub(super) fn close_all(&mut self) {
        for slot in 0..self.connections.slots() {
            if self.connections.get(slot).is_some() {
                self.close(slot);
            }
        }
    }
}
