//! The streams of a shard: opens them, serves one at a time, ends them.
//!
//! Part of the shard. `requests` opens streams, `fanout` serves them, and [`Shard::ready`] reports events
//! of their sockets. `stream` holds the state of one stream and its writes. Nothing here
//! loops over all streams.

use std::ops::RangeInclusive;

use crate::clock::Now;
use crate::http::{self, Begin, ReplyTo, SharedFor, Subscription, TokenLife, Version};
use crate::limits::{
    FANOUT_LIFE_LEAST_PERCENT, FANOUT_RETRY_MS, READS_PER_TURN, REPLAY_COPY_BYTES_MAX, RETRY_MS,
    SMALL_REQUEST_BYTES_MAX, STALL_MS,
};
use crate::live_log::{CatchUp, View};
use crate::metrics::{Counter, Gauge};
use crate::shard::connection::{NO_DEADLINE, State};
use crate::shard::exchange::{Exchange, Next, Then};
use crate::shard::membership::Holder;
use crate::shard::resumption::{ResumePoint, SentId};
use crate::shard::stream::{EndReason, Ending, FirstBytes, Life, Sent, Served, Stream};
use crate::shard::transport::{Transfer, Transport};
use crate::shard::waiting::AheadRequest;
use crate::shard::{Readiness, Shard};
use crate::sse::event_id::EventId;
use crate::sse::frame::{self, Framing};
use crate::sse::gzip::Checksum;

/// A subscription that borrows nothing from the reader.
pub(super) struct Subscriber {
    pub(super) view: http::View,
    /// Looked up when the stream begins.
    pub(super) last_id: SentId,
    /// Where the stream begins if the client has sent no id.
    begin: Begin,
    /// The life of the stream, if a cache may share it among clients.
    shared_ms: Option<u64>,
    framing: Framing,
    /// The token that has opened it.
    pub(super) token: Option<TokenLife>,
    pub(super) to: ReplyTo,
}

impl Subscriber {
    /// The parameters of a subscription. A shared stream always begins with the whole history: other
    /// clients of the cache have seen other messages than the first one.
    pub(super) fn new(
        subscription: Subscription<'_>,
        shared_ms: Option<u64>,
        framing: Framing,
        mut to: ReplyTo,
    ) -> Subscriber {
        let last_id = subscription.last_event_id.filter(|_| shared_ms.is_none());
        // The connection ends with the stream, and the response says so. Otherwise a proxy could
        // reuse it, and send a webhook just when it is closed.
        to.keep_alive = false;
        Subscriber {
            view: subscription.view,
            last_id: SentId::parse(last_id.as_deref()),
            begin: subscription.begin,
            shared_ms,
            framing,
            token: subscription.token,
            to,
        }
    }
}

/// The seconds for which a cache may share a stream: one less than its life. After the end of the
/// stream, the cache would replay the recorded response to every client that reconnects.
fn shared_s(life_ms: u64) -> u64 {
    (life_ms / 1000).saturating_sub(1)
}

impl<S: Transport> Shard<S> {
    /// Opens a stream, or lets its request wait until this node has reached its event id.
    pub(super) fn open_stream(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        subscriber: Subscriber,
        now: Now,
    ) -> Next {
        if self.resume_point(subscriber.last_id) == ResumePoint::Ahead
            && self.may_wait(
                slot,
                exchange,
                subscriber.view.held_bytes(),
                Then::Close,
                now,
            )
        {
            return self.await_reach(slot, exchange, AheadRequest::Stream(subscriber), now);
        }
        self.begin_stream(slot, exchange, &subscriber, now)
    }

    /// Opens a stream, whose request may have waited. In a drain it is declined: the client keeps its event id,
    /// and resumes at another node. So is a stream for whose sessions there is no room.
    pub(super) fn begin_stream(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        subscriber: &Subscriber,
        now: Now,
    ) -> Next {
        if self.shutdown.is_draining() {
            self.answer.clear();
            self.decline_stream(subscriber.last_id, subscriber.to, false);
            return self.send_answer(slot, exchange, Then::Close, now);
        }
        let view_bytes = subscriber.view.held_bytes();
        if view_bytes > SMALL_REQUEST_BYTES_MAX && !self.make_room(slot, view_bytes, now) {
            self.tally.count(Counter::RefusedOverload, 1);
            self.answer.clear();
            self.decline_stream(subscriber.last_id, subscriber.to, true);
            return self.send_answer(slot, exchange, Then::Close, now);
        }
        self.subscribe(slot, subscriber, now);
        Next::Over
    }

    /// Turns a connection into a stream. Nothing is sent yet: the sweep sends the head, the first
    /// events and the replay in one write.
    pub(super) fn subscribe(&mut self, slot: usize, subscriber: &Subscriber, now: Now) {
        let framing = subscriber.framing;
        let view = self.hold_view(&subscriber.view);
        let point = self.resume_point(subscriber.last_id);
        let mut start = self.start(view, point, subscriber.begin, now);
        if !start.ahead.is_empty() && !self.make_room(slot, REPLAY_COPY_BYTES_MAX, now) {
            // Without room the messages to copy are left out of the replay. They are the oldest.
            start.replay -= start.ahead.len() as u64;
            start.ahead.clear();
        }

        let mut sum = Checksum::default();
        let first_bytes = self.first_bytes(subscriber, &start, &mut sum, now);
        if framing == Framing::Gzip {
            self.compression.begin(slot, sum);
            self.tally.shift(Gauge::StreamsCompressed, 1);
        }
        self.connections[slot].deadline_ms = NO_DEADLINE;
        let shared_until_ms = subscriber.shared_ms.map(|life_ms| now.mono_ms + life_ms);
        let stream = Stream::new(view, framing, start.cursor, first_bytes, shared_until_ms);
        self.connections
            .set_state(slot, State::Streaming(stream), now);
        let opened = match point {
            ResumePoint::After(_) => Counter::StreamsResumed,
            ResumePoint::Start | ResumePoint::Ahead | ResumePoint::Unknown => {
                Counter::StreamsReplayed
            }
        };
        self.tally.count(opened, 1);
        self.tally.shift(Gauge::Streams, 1);
        self.take_place(slot, view, Holder::Stream);
        if let Some(life) = subscriber.token {
            self.expire_later(slot, life, now);
        }
        if self.connections[slot].readable {
            // An edge arrived while the connection did something else, and epoll does not repeat it.
            // There are bytes, or the end of the peer's side.
            self.drop_input(slot);
        }
        self.enqueue(slot);
    }

    /// Where a stream begins. An id that the client has sent wins over the beginning that it asks for. This also
    /// holds for an unknown id: the client may have missed any message, so it gets the whole history.
    fn start(&self, view: View, point: ResumePoint, begin: Begin, now: Now) -> CatchUp {
        let since = begin
            .since
            .map(|moment| self.log.seq_at(moment.unix_ms(now.unix_ms)));
        match (point, begin.replay_max, since) {
            (ResumePoint::After(seq), ..) => self.log.catch_up(view, Some(seq)),
            (ResumePoint::Start, Some(count_max), since) => {
                self.log
                    .catch_up_newest(view, count_max, since.unwrap_or(0))
            }
            (ResumePoint::Start, None, Some(since)) => {
                self.log.catch_up(view, since.checked_sub(1))
            }
            (ResumePoint::Start | ResumePoint::Ahead | ResumePoint::Unknown, ..) => {
                self.log.catch_up(view, None)
            }
        }
    }

    /// The first bytes of a stream: its head, its first events, and messages of the replay that
    /// have to be copied. Adds the events and messages to the checksum of a compressed stream.
    fn first_bytes(
        &mut self,
        subscriber: &Subscriber,
        start: &CatchUp,
        sum: &mut Checksum,
        now: Now,
    ) -> FirstBytes {
        let mut first_bytes = Vec::new();
        let (framing, shared_ms) = (subscriber.framing, subscriber.shared_ms);
        let (coding, shared) = (self.stream_coding(framing), self.shared_for(shared_ms));
        self.responder
            .stream_head(subscriber.to, coding, shared, &mut first_bytes);
        frame::push_body_start(&mut first_bytes, framing);
        let events_start = first_bytes.len();
        let retry_ms = self.rng.u64(match shared_ms {
            Some(_) => FANOUT_RETRY_MS,
            None => RETRY_MS,
        });
        frame::push_connected(
            &mut first_bytes,
            framing,
            retry_ms,
            now.unix_ms,
            start.replay,
            start.after.map(|seq| EventId {
                epoch: self.resumption.lineage.epoch(),
                seq,
            }),
        );
        if start.missed > 0 {
            self.tally.count(Counter::Gaps, 1);
            frame::push_gap(&mut first_bytes, framing, start.missed);
        }
        let copies_start = first_bytes.len();
        frame::add_events(sum, framing, &first_bytes[events_start..]);
        for &seq in &start.ahead {
            self.log.copy_message(seq, framing, &mut first_bytes);
            if framing == Framing::Gzip {
                self.log.add_frame(seq, sum);
            }
        }
        FirstBytes {
            copies: copies_start..first_bytes.len(),
            bytes: first_bytes,
        }
    }

    /// The life of a new stream in milliseconds, if a cache may share it. HTTP/1.0 has no last
    /// chunk, so a cache could keep a response that was cut off: such a stream is not shared.
    pub(super) fn shared_ms(
        &mut self,
        subscription: &Subscription<'_>,
        to: ReplyTo,
    ) -> Option<u64> {
        let is_shared = subscription.is_public && to.version == Version::Http11;
        let life = self.settings.fanout_life.filter(|_| is_shared)?;
        let longest_ms = life.as_millis() as u64;
        let shortest_ms = longest_ms * FANOUT_LIFE_LEAST_PERCENT / 100;
        Some(self.rng.u64(shortest_ms..=longest_ms))
    }

    fn shared_for(&self, life_ms: Option<u64>) -> Option<SharedFor> {
        life_ms.map(|life_ms| SharedFor {
            seconds: shared_s(life_ms),
            vary: self.access.vary(),
        })
    }

    /// Appends the head of a stream to `Shard::answer`. It is the whole answer to a `HEAD`.
    pub(super) fn answer_stream_head(
        &mut self,
        to: ReplyTo,
        framing: Framing,
        shared_ms: Option<u64>,
    ) {
        let (coding, shared) = (self.stream_coding(framing), self.shared_for(shared_ms));
        self.responder
            .stream_head(to, coding, shared, &mut self.answer);
    }

    /// Acts on an event of a stream's socket.
    pub(super) fn stream_ready(&mut self, slot: usize, readiness: Readiness) {
        let connection = &mut self.connections[slot];
        let State::Streaming(stream) = &mut connection.state else {
            return;
        };
        if readiness.writable && stream.blocked {
            stream.blocked = false;
            self.enqueue(slot);
        }
        if readiness.readable {
            self.drop_input(slot);
        }
    }

    /// Marks a heartbeat as due: it is sent with the next message. A blocked stream has data
    /// pending, and needs none.
    pub(super) fn heartbeat_due(&mut self, slot: usize) {
        if let Some(stream) = self.connections.stream_mut(slot) {
            stream.heartbeat_due |= !stream.blocked;
        }
    }

    /// Queues a stream whose heartbeat was not sent with a message.
    pub(super) fn heartbeat_alone(&mut self, slot: usize) {
        if self
            .connections
            .stream_mut(slot)
            .is_some_and(|stream| stream.heartbeat_due)
        {
            self.enqueue(slot);
        }
    }

    /// Ends a stream in order: its last event names the delay until the client reconnects.
    pub(super) fn begin_end(&mut self, slot: usize, retry_ms: RangeInclusive<u64>) {
        let retry_ms = self.rng.u64(retry_ms) as u16;
        if let Some(stream) = self.connections.stream_mut(slot)
            && stream.ending == Ending::No
        {
            stream.ending = Ending::Due { retry_ms };
            self.enqueue(slot);
        }
    }

    /// Takes a closed stream out of all lists.
    pub(super) fn forget_stream(&mut self, slot: usize, stream: &Stream) {
        self.tally.shift(Gauge::Streams, -1);
        if stream.framing == Framing::Gzip {
            self.tally.shift(Gauge::StreamsCompressed, -1);
        }
        if stream.life == Life::Token {
            self.expiry.remove(slot, stream.life_ms);
        }
        self.forget_place(slot, &stream.place);
    }

    /// Sends a stream what it lacks. Returns the bytes sent, if there was a write.
    pub(super) fn serve_stream(&mut self, slot: usize, now: Now) -> Option<usize> {
        let connection = self.connections.get_mut(slot)?;
        let State::Streaming(stream) = &mut connection.state else {
            return None;
        };
        if stream.blocked && stream.ending != Ending::Cut {
            return None;
        }
        let had_deadline = connection.deadline_ms != NO_DEADLINE;
        let (mut gaps, mut none) = (0, Checksum::default());
        let sum = self.compression.sum_of(slot, &mut none);
        let held_bytes = stream.held_bytes();
        let served = stream.serve(&mut connection.socket, &self.log, sum, &mut gaps);
        if held_bytes.max(stream.held_bytes()) > SMALL_REQUEST_BYTES_MAX {
            self.note_held_bytes(slot, served, now);
        }
        self.tally.count(Counter::Gaps, gaps);
        let bytes = match served {
            Served::CaughtUp => return None,
            Served::Wrote(sent, more) => {
                self.connections[slot].deadline_ms = NO_DEADLINE;
                self.count_sent(sent);
                if more {
                    self.enqueue(slot);
                }
                sent.bytes
            }
            Served::Blocked(sent) => {
                // A stream without progress until this deadline is closed as stalled.
                if sent.bytes > 0 || !had_deadline {
                    self.connections[slot].deadline_ms = now.mono_ms + STALL_MS;
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
            Served::Cut => {
                self.close_stream(slot, Counter::StreamsReset);
                0
            }
            Served::Failed => {
                self.close_stream(slot, Counter::StreamsEndedByPeer);
                0
            }
        };
        Some(bytes)
    }

    /// Updates the shares after serving a stream that held, or holds, more than
    /// [`SMALL_REQUEST_BYTES_MAX`].
    fn note_held_bytes(&mut self, slot: usize, served: Served, now: Now) {
        let has_progress = match served {
            Served::Wrote(sent, _) | Served::Blocked(sent) => sent.bytes > 0,
            _ => false,
        };
        self.connections.note_change(slot, has_progress, now);
    }

    /// Closes a stream without an `end` event, and counts the reason.
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

    /// Ends the connection of a stream whose last byte is sent.
    fn end_connection(&mut self, slot: usize, now: Now) {
        if let State::Streaming(stream) = self.connections.take_state(slot) {
            let reason = match stream.ending {
                Ending::Begun {
                    reason: EndReason::Reset,
                } => Counter::StreamsReset,
                Ending::Begun {
                    reason: EndReason::Token,
                } => Counter::StreamsTokenEnded,
                _ if stream.is_shared() => Counter::StreamsExpired,
                _ => Counter::StreamsDrained,
            };
            self.tally.count(reason, 1);
            self.forget_stream(slot, &stream);
        }
        self.half_close(slot, now);
    }

    /// Reads and drops bytes that the client of a stream sends.
    pub(super) fn drop_input(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        for _ in 0..READS_PER_TURN {
            match Transfer::of(|| connection.socket.read(&mut self.read_buffer)) {
                Transfer::Bytes(bytes) if bytes == self.read_buffer.len() => {}
                Transfer::Bytes(0) | Transfer::Failed => {
                    return self.close_stream(slot, Counter::StreamsEndedByPeer);
                }
                // The end of the peer's bytes follows these.
                Transfer::Bytes(_) if connection.hung_up || connection.socket.has_end() => {
                    return self.close_stream(slot, Counter::StreamsEndedByPeer);
                }
                Transfer::Bytes(_) | Transfer::WouldBlock => {
                    connection.readable = false;
                    return;
                }
            }
        }
        // More is to be read. A peer with a full socket cannot even send its end, so no further edge
        // would follow.
        self.resume_later(slot);
    }
}
