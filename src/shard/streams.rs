//! From frames to bytes: opens streams, keeps track of who is behind, serves them slice by slice,
//! ends them.
//!
//! Part of the shard. The path of a frame: `note_behind` (as it enters the log) → `sweep_slice` →
//! `serve`. Nothing here loops over all streams for one message.

use crate::clock::Now;
use crate::http::{self, ReplyTo, Subscription, Version};
use crate::limits::{READS_PER_TURN, RETRY_MS, SLICE_BYTES, SLICE_VISITS, SLICE_WRITES, STALL_MS};
use crate::log::{NO_SLOT, SessionKey, View};
use crate::metrics::{Counter, Gauge};
use crate::shard::connection::{NO_DEADLINE, State};
use crate::shard::socket::{Socket, Transfer};
use crate::shard::stream::{Ending, Sent, Served, Stream};
use crate::shard::sweep::{Candidate, LapKind};
use crate::shard::{Readiness, Shard};
use crate::sse::event_id::{Epoch, EventId};
use crate::sse::frame::{self, Framing};

/// A subscription, free of its request's bytes.
pub(super) struct Subscriber {
    view: http::View,
    /// The message to resume after, if the stream's last event id is one of ours.
    resume_after: Option<u64>,
    to: ReplyTo,
}

impl Subscriber {
    pub(super) fn new(subscription: Subscription<'_>, epoch: Epoch, to: ReplyTo) -> Subscriber {
        let id = subscription
            .last_event_id
            .and_then(|id| EventId::parse(id.as_bytes()));
        Subscriber {
            view: subscription.view,
            resume_after: id.filter(|id| id.epoch == epoch).map(|id| id.seq),
            to,
        }
    }
}

impl LapKind {
    fn of(view: View) -> LapKind {
        match view {
            View::Everything => LapKind::Everything,
            View::Public | View::Session(_) => LapKind::Filtered,
        }
    }
}

impl<S: Socket> Shard<S> {
    /// Turns a connection into a stream. Nothing is sent yet: the sweep sends the head, the first
    /// events and the replay in one write.
    pub(super) fn subscribe(&mut self, slot: usize, subscriber: Subscriber, now: Now) {
        let framing = match subscriber.to.version {
            Version::Http11 => Framing::Chunked,
            Version::Http10 => Framing::Bare,
        };
        let view = match subscriber.view {
            http::View::Everything => View::Everything,
            http::View::Public => View::Public,
            http::View::Session(name) => View::Session(self.log.hold_session(&name)),
        };
        let start = self.log.catch_up(view, subscriber.resume_after);

        let mut first_bytes = Vec::new();
        self.responder.stream_head(subscriber.to, &mut first_bytes);
        let retry_ms = self.rng.u64(RETRY_MS);
        frame::push_connected(
            &mut first_bytes,
            framing,
            retry_ms,
            now.unix_ms,
            start.replay,
        );
        if start.missed > 0 {
            self.tally.count(Counter::Gaps, 1);
            frame::push_gap(&mut first_bytes, framing, start.missed);
        }
        for &seq in &start.ahead {
            self.log.copy_message(seq, framing, &mut first_bytes);
        }

        let mut stream = Stream::new(view, framing, start.cursor, first_bytes);
        stream.lap_index = self.sweep.join(LapKind::of(view), slot as u32);
        stream.queued = true;
        let connection = &mut self.connections[slot];
        connection.deadline_ms = NO_DEADLINE;
        connection.state = State::Streaming(stream);
        self.sweep.enqueue(slot as u32);
        let opened = match subscriber.resume_after {
            Some(_) => Counter::StreamsResumed,
            None => Counter::StreamsReplayed,
        };
        self.tally.count(opened, 1);
        self.tally.shift(Gauge::Streams, 1);
        if let View::Session(key) = view {
            self.link_session(slot, key);
        }
        if self.connections[slot].readable {
            // It was told of while the connection did something else, and will not be again.
            self.drop_input(slot);
        }
    }

    /// The kernel has news of a stream's socket.
    pub(super) fn stream_ready(&mut self, slot: usize, readiness: Readiness) {
        let connection = &mut self.connections[slot];
        let State::Streaming(stream) = &mut connection.state else {
            return;
        };
        if readiness.hung_up {
            return self.close_stream(slot, Counter::StreamsEndedByPeer);
        }
        if readiness.writable && stream.blocked {
            stream.blocked = false;
            self.enqueue(slot);
        }
        if readiness.readable {
            self.drop_input(slot);
        }
    }

    /// A frame has entered the log: whoever may see it may be behind.
    pub(super) fn note_behind(&mut self, session: Option<SessionKey>) {
        self.sweep.restart(LapKind::Everything);
        match session {
            None => self.sweep.restart(LapKind::Filtered),
            Some(key) => {
                if self.log.begin_walk(key) {
                    self.sweep.enqueue_session(key);
                }
            }
        }
    }

    /// Serves streams that are behind, for one slice.
    pub(super) fn sweep_slice(&mut self, now: Now) {
        let (mut writes, mut bytes) = (0, 0);
        for _ in 0..SLICE_VISITS {
            let Some(candidate) = self.sweep.next() else {
                return;
            };
            let Some(slot) = self.slot_of_candidate(candidate) else {
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

    /// The stream that the sweep means; none if it is gone, or a walk is over.
    fn slot_of_candidate(&mut self, candidate: Candidate) -> Option<usize> {
        match candidate {
            Candidate::Lapped(slot) => Some(slot as usize),
            Candidate::Queued(slot) => {
                // The slot may have another tenant by now, whose turn this is not.
                let stream = self
                    .stream_mut(slot as usize)
                    .filter(|stream| stream.queued)?;
                stream.queued = false;
                Some(slot as usize)
            }
            Candidate::OfSession(key) => {
                let slot = self.log.walk_slot(key)?;
                let next = self.stream_mut(slot as usize)?.session_next;
                self.log.walk_past(key, slot, next);
                self.sweep.enqueue_session(key);
                Some(slot as usize)
            }
        }
    }

    /// A heartbeat is due: it goes out with the next message. A stream that waits for its socket
    /// has data pending, and needs none.
    pub(super) fn heartbeat_due(&mut self, slot: usize) {
        if let Some(stream) = self.stream_mut(slot) {
            stream.heartbeat_due |= !stream.blocked;
        }
    }

    /// A heartbeat that no message has taken along goes out alone.
    pub(super) fn heartbeat_alone(&mut self, slot: usize) {
        if self
            .stream_mut(slot)
            .is_some_and(|stream| stream.heartbeat_due)
        {
            self.enqueue(slot);
        }
    }

    /// A stream's turn to end has come.
    pub(super) fn end_stream(&mut self, slot: usize) {
        let retry_ms = self.rng.u64(RETRY_MS) as u32;
        if let Some(stream) = self.stream_mut(slot)
            && stream.ending == Ending::No
        {
            stream.ending = Ending::Due { retry_ms };
            self.enqueue(slot);
        }
    }

    /// Takes a closed stream out of all lists.
    pub(super) fn forget_stream(&mut self, slot: usize, stream: &Stream) {
        self.tally.shift(Gauge::Streams, -1);
        let moved = self.sweep.leave(LapKind::of(stream.view), stream.lap_index);
        if let Some(moved) = moved
            && let Some(other) = self.stream_mut(moved as usize)
        {
            other.lap_index = stream.lap_index;
            // It may have moved to where the sweep has already been.
            self.enqueue(moved as usize);
        }
        if let View::Session(key) = stream.view {
            self.unlink_session(slot, stream, key);
        }
    }

    /// Sends a stream what it lacks, and tells how many bytes went out if that took a write.
    fn serve(&mut self, slot: usize, now: Now) -> Option<usize> {
        let connection = self.connections.get_mut(slot)?;
        let State::Streaming(stream) = &mut connection.state else {
            return None;
        };
        if stream.blocked {
            return None;
        }
        let had_deadline = connection.deadline_ms != NO_DEADLINE;
        let mut gaps = 0;
        let served = stream.serve(&mut connection.socket, &self.log, &mut gaps);
        self.tally.count(Counter::Gaps, gaps);
        let bytes = match served {
            Served::CaughtUp => return None,
            Served::Wrote(sent, more) => {
                connection.deadline_ms = NO_DEADLINE;
                self.count_sent(sent);
                if more {
                    self.enqueue(slot);
                }
                sent.bytes
            }
            Served::Blocked(sent) => {
                // No progress for this long with data pending is the end.
                if sent.bytes > 0 || !had_deadline {
                    connection.deadline_ms = now.mono_ms + STALL_MS;
                }
                self.count_sent(sent);
                sent.bytes
            }
            Served::Ended(sent) => {
                self.count_sent(sent);
                self.end_connection(slot, now);
                sent.bytes
            }
            Served::Torn => {
                self.close_stream(slot, Counter::StreamsOverrun);
                0
            }
            Served::Failed => {
                self.close_stream(slot, Counter::StreamsEndedByPeer);
                0
            }
        };
        Some(bytes)
    }

    /// A stream ends without a word, for a reason.
    pub(super) fn close_stream(&mut self, slot: usize, reason: Counter) {
        self.tally.count(reason, 1);
        self.close(slot);
    }

    fn count_sent(&mut self, sent: Sent) {
        self.tally.count(Counter::BytesSent, sent.bytes as u64);
        self.tally.count(Counter::Deliveries, sent.messages);
        self.tally
            .count(Counter::Heartbeats, u64::from(sent.heartbeat));
    }

    /// The stream has ended in an orderly way: so does the connection.
    fn end_connection(&mut self, slot: usize, now: Now) {
        let state = &mut self.connections[slot].state;
        if let State::Streaming(stream) = std::mem::replace(state, State::Idle) {
            self.forget_stream(slot, &stream);
        }
        self.tally.count(Counter::StreamsDrained, 1);
        self.half_close(slot, now);
    }

    /// A stream's client has nothing to say; what it sends all the same is dropped.
    pub(super) fn drop_input(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        for _ in 0..READS_PER_TURN {
            match Transfer::of(|| connection.socket.read(&mut self.read_buffer)) {
                Transfer::Bytes(bytes) if bytes == self.read_buffer.len() => {}
                Transfer::Bytes(0) | Transfer::Failed => {
                    return self.close_stream(slot, Counter::StreamsEndedByPeer);
                }
                Transfer::Bytes(_) | Transfer::WouldBlock => {
                    connection.readable = false;
                    return;
                }
            }
        }
        // A peer whose bytes fill its socket can send no more, and so not its end either: no edge
        // would follow.
        self.go_on_later(slot);
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(stream) = self.stream_mut(slot)
            && !stream.queued
        {
            stream.queued = true;
            self.sweep.enqueue(slot as u32);
        }
    }

    fn stream_mut(&mut self, slot: usize) -> Option<&mut Stream> {
        match &mut self.connections.get_mut(slot)?.state {
            State::Streaming(stream) => Some(stream),
            _ => None,
        }
    }

    fn link_session(&mut self, slot: usize, key: SessionKey) {
        let first = self.log.first_slot(key);
        if let Some(neighbour) = self.stream_mut(first as usize) {
            neighbour.session_previous = slot as u32;
        }
        if let Some(stream) = self.stream_mut(slot) {
            stream.session_next = first;
        }
        self.log.set_first_slot(key, slot as u32);
    }

    fn unlink_session(&mut self, slot: usize, stream: &Stream, key: SessionKey) {
        let (previous, next) = (stream.session_previous, stream.session_next);
        self.log.walk_past(key, slot as u32, next);
        match self.stream_mut(previous as usize) {
            Some(neighbour) => neighbour.session_next = next,
            None => self.log.set_first_slot(key, next),
        }
        if let Some(neighbour) = self.stream_mut(next as usize) {
            neighbour.session_previous = previous;
        }
        debug_assert!(previous != NO_SLOT || self.log.first_slot(key) != slot as u32);
        self.log.release_session(key);
    }
}
