//! What is due by time, and which connections are read again later.
//!
//! Part of the shard. A turn calls [`Shard::tick`] for heartbeats, deadlines, tokens and the drain, and
//! [`Shard::resume_next`] for connections with more to read. The loop asks [`Shard::idle_ms`] how long
//! it may sleep. Never reads a clock, and never loops over all connections at once.

use std::collections::VecDeque;

use crate::clock::Now;
use crate::http::Refusal;
use crate::limits::{
    DEADLINE_SCAN_INTERVAL_MS, DEADLINE_SCAN_PHASES, DEADLINE_SCAN_RUN, FANOUT_RETRY_MS,
    HEARTBEAT_PATIENCE_PHASES, HEARTBEAT_PHASES, HEARTBEAT_RUN,
};
use crate::metrics::Counter;
use crate::shard::connection::{State, Token, Unfinished};
use crate::shard::drain::Intake;
use crate::shard::exchange::Stage;
use crate::shard::stagger::Stagger;
use crate::shard::stream::Life;
use crate::shard::transport::Transport;
use crate::shard::{Settings, Shard};

/// See the module's description.
pub(super) struct Scheduler {
    /// When a heartbeat may be sent with a message.
    heartbeats_due: Stagger,
    /// When a heartbeat that was not sent with a message is sent alone.
    heartbeats_last: Stagger,
    deadline_scan: Stagger,
    /// The Unix second that the `Date` of answers shows.
    date_s: u64,
    /// Connections to read again: with more to read after [`READS_PER_TURN`](crate::limits::READS_PER_TURN)
    /// steps, put off while the hub was behind, or whose peer has hung up.
    unfinished: VecDeque<Token>,
}

impl Scheduler {
    pub(super) fn new(settings: &Settings, now: Now) -> Scheduler {
        let heartbeat_interval_ms = settings.heartbeat_interval.as_millis() as u64;
        let patience_ms =
            heartbeat_interval_ms * HEARTBEAT_PATIENCE_PHASES / HEARTBEAT_PHASES as u64;
        let heartbeats = |begin_ms| {
            Stagger::new(
                HEARTBEAT_PHASES,
                HEARTBEAT_RUN,
                heartbeat_interval_ms,
                begin_ms,
            )
        };
        Scheduler {
            heartbeats_due: heartbeats(now.mono_ms),
            heartbeats_last: heartbeats(now.mono_ms + patience_ms),
            deadline_scan: Stagger::new(
                DEADLINE_SCAN_PHASES,
                DEADLINE_SCAN_RUN,
                DEADLINE_SCAN_INTERVAL_MS,
                now.mono_ms,
            ),
            date_s: now.unix_ms / 1000,
            unfinished: VecDeque::new(),
        }
    }

    /// Updates the date. Returns whether it has changed.
    fn update_date(&mut self, now: Now) -> bool {
        let date_s = now.unix_ms / 1000;
        std::mem::replace(&mut self.date_s, date_s) != date_s
    }
}

impl<S: Transport> Shard<S> {
    /// The number of connections that [`Shard::resume_next`] continues with.
    pub fn unfinished(&self) -> usize {
        self.scheduler.unfinished.len()
    }

    /// Continues with the connection that has waited longest. If it is not finished then, it becomes
    /// the last.
    pub fn resume_next(&mut self, now: Now) {
        if let Some(token) = self.scheduler.unfinished.pop_front() {
            self.resume_connection(token, now);
        }
    }

    /// Continues with a connection that was put off, if it is still open.
    pub(super) fn resume_put_off(&mut self, token: Token) {
        if let Some(slot) = self.connections.slot_of(token) {
            let unfinished = &mut self.connections[slot].unfinished;
            if *unfinished == Unfinished::PutOff {
                *unfinished = Unfinished::More;
                self.scheduler.unfinished.push_back(token);
            }
        }
    }

    /// Leaves the rest of a connection's work to [`Shard::resume_next`].
    pub(super) fn resume_later(&mut self, slot: usize) {
        let token = self.connections.token_of(slot);
        let unfinished = &mut self.connections[slot].unfinished;
        if *unfinished == Unfinished::No {
            *unfinished = Unfinished::More;
            self.scheduler.unfinished.push_back(token);
        }
    }

    /// Continues with a connection that was left for later.
    pub(super) fn resume_connection(&mut self, token: Token, now: Now) {
        let Some(slot) = self.connections.slot_of(token) else {
            return;
        };
        let connection = &mut self.connections[slot];
        connection.unfinished = Unfinished::No;
        match &connection.state {
            State::Streaming(_) if connection.hung_up => {
                self.close_stream(slot, Counter::StreamsEndedByPeer);
            }
            State::Streaming(_) => self.drop_input(slot),
            State::Lingering { .. } => self.linger(slot),
            State::Exchange(exchange) if matches!(exchange.stage, Stage::Answering(_)) => {
                self.resume_answer(slot, now);
            }
            State::Exchange(_) | State::Idle => self.read_requests(slot, now),
        }
    }

    /// Does what is due: heartbeats, deadlines, the ends of streams in a drain.
    pub fn tick(&mut self, now: Now) {
        if self.scheduler.update_date(now) {
            self.responder.set_time(now.wall());
        }
        let slots = self.connections.slots();
        for slot in self.scheduler.heartbeats_due.turn(now.mono_ms, slots) {
            self.heartbeat_due(slot);
        }
        for slot in self.scheduler.heartbeats_last.turn(now.mono_ms, slots) {
            self.heartbeat_alone(slot);
        }
        for slot in self.scheduler.deadline_scan.turn(now.mono_ms, slots) {
            self.check_deadline(slot, now);
        }
        self.tick_tokens(now);
        self.tick_drain(now);
    }

    /// How long the loop may sleep if no event wakes it, in milliseconds; `None` if without a limit.
    pub fn idle_ms(&self, now: Now) -> Option<u64> {
        // Connections that are not read before the hub has stored webhooks would be put off again.
        let has_unfinished = self.unfinished() > 0 && !self.publishing.is_full();
        if !self.sweeps.streams.is_idle()
            || has_unfinished
            || self.publishing.has_fresh_drafts()
            || self.docket.has_outgoing()
            || self.presence.has_outgoing()
            || self.has_history_work()
        {
            return Some(0);
        }
        // The other shards make room every turn.
        let retry_ms = self.has_drafts().then_some(now.mono_ms + 1);
        let slots = self.connections.slots();
        let stream_slots = if self.streams() > 0 { slots } else { 0 };
        let due_ms = [
            retry_ms,
            self.scheduler.heartbeats_last.due_ms(stream_slots),
            self.scheduler.deadline_scan.due_ms(slots),
            self.shutdown.due_ms(slots),
            self.expiry
                .left_ms(now)
                .map(|left_ms| now.mono_ms + left_ms),
        ];
        let next_ms = due_ms.into_iter().flatten().min()?;
        Some(next_ms.saturating_sub(now.mono_ms))
    }

    /// Acts on a passed deadline: refuses an incomplete request, answers a long poll, closes all else.
    /// Delays of the server do not count.
    fn check_deadline(&mut self, slot: usize, now: Now) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if let State::Streaming(stream) = &connection.state
            && stream.life == Life::Shared
            && now.mono_ms >= stream.life_ms
        {
            // A blocked stream cannot send its end. Its deadline still holds.
            self.begin_end(slot, FANOUT_RETRY_MS);
        }
        let connection = &self.connections[slot];
        if now.mono_ms < connection.deadline_ms {
            return;
        }
        let has_request = connection.state.has_request();
        // A peer that has ended its side still reads the answer to a complete request.
        let is_owed = !connection.hung_up || has_request;
        let is_put_off = connection.unfinished == Unfinished::PutOff && is_owed;
        // The request is parsed before it is refused as too slow.
        let is_next = connection.unfinished == Unfinished::More && has_request;
        if connection.state.awaits_bytes() {
            if is_next || self.shutdown.intake == Intake::Held {
                return;
            }
            if is_put_off {
                return self.extend_deadline(slot, now);
            }
        }
        match &connection.state {
            State::Idle | State::Lingering { .. } => self.close(slot),
            State::Streaming(_) => self.close_stalled_stream(slot, now),
            State::Exchange(exchange) => match exchange.stage {
                Stage::Reading => self.refuse_upload(slot, Refusal::TooSlow, now),
                Stage::Judging(_) => self.give_up_verdict(slot, now),
                Stage::Counting(_) => self.give_up_presence(slot, now),
                Stage::Publishing(_) => self.close(slot),
                Stage::Answering(_) => self.close_stalled_answer(slot, now),
                Stage::Waiting(_) => self.wake(slot),
            },
        }
    }

    /// Closes a stream whose socket still takes nothing. It may take bytes although no event has been
    /// read yet: this thread may have been stopped for longer than the peer.
    fn close_stalled_stream(&mut self, slot: usize, now: Now) {
        if let Some(stream) = self.connections.stream_mut(slot) {
            stream.blocked = false;
        }
        self.serve_stream(slot, now);
        if let Some(connection) = self.connections.get(slot)
            && let State::Streaming(stream) = &connection.state
            && stream.blocked
            && now.mono_ms >= connection.deadline_ms
        {
            self.close_stream(slot, Counter::StreamsStalled);
        }
    }

    /// Closes a connection whose socket still takes nothing of an answer.
    fn close_stalled_answer(&mut self, slot: usize, now: Now) {
        self.resume_answer(slot, now);
        if let Some(connection) = self.connections.get(slot)
            && matches!(connection.state.stage(), Some(Stage::Answering(_)))
            && now.mono_ms >= connection.deadline_ms
        {
            self.close(slot);
        }
    }
}
