//! From bytes to decisions: reads requests and decides each. Webhooks are queued for the hub. All other
//! requests continue in `subscription`, `history` or `answers`.
//!
//! Part of the shard. The path of a webhook: `read_requests` → `proceed` → `read_on` → `read_step` →
//! `handle_request` → (the hub, at the end of the turn) → `answer_webhook` → `send_answer` → `proceed`.
//! A connection has one request at a time: pipelined requests wait in the reader. Never writes to a
//! socket.

use crate::chat;
use crate::clock::Now;
use crate::http::response::CONTINUE;
use crate::http::route::error_before_body;
use crate::http::{
    ErrorAnswer, Phase, Progress, Refusal, ReplyTo, Request, RequestReader, Route, Version, route,
};
use crate::limits::{
    READS_PER_TURN, REQUEST_BUFFER_KEEP_BYTES, REQUEST_DEADLINE_MS, SMALL_REQUEST_BYTES_MAX,
};
use crate::message::Draft;
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::answers::{FULL, text_of};
use crate::shard::connection::{NO_DEADLINE, Role, Unfinished};
use crate::shard::drain::Intake;
use crate::shard::exchange::{Exchange, Next, Stage, Then};
use crate::shard::resumption::SentId;
use crate::shard::subscription::Subscriber;
use crate::shard::transport::{Transfer, Transport};
use crate::shard::waiting::HistoryRequest;

/// The decision on a complete request.
enum Handled {
    /// The answer is in `Shard::answer`.
    Answered(Then),
    /// The answer follows the outcome from the hub.
    Publishing(Draft, ReplyTo),
    /// The connection becomes a stream.
    Subscribed(Subscriber),
    /// The answer is the history, perhaps after a wait.
    History(HistoryRequest),
}

/// The result of a read from the socket.
enum Read {
    /// Bytes.
    Some,
    /// No bytes for now.
    None,
    /// The end of the peer's bytes, or an error.
    Over,
}

impl<S: Transport> Shard<S> {
    /// Reads and answers requests until the socket has no more bytes, an answer has to wait, or
    /// [`READS_PER_TURN`] is reached.
    pub(super) fn read_requests(&mut self, slot: usize, now: Now) {
        if !self.connections[slot].state.awaits_bytes() {
            return;
        }
        let is_published = self.connections[slot].role != Role::Surplus;
        if self.publishing.is_full() && is_published {
            return self.put_off_for_hub(slot, now);
        }
        let reading = self.connections.take_exchange(slot);
        let exchange = reading.unwrap_or_else(|| self.exchanges.take());
        self.proceed(slot, exchange, Next::Read, now);
    }

    /// Reads and answers requests, beginning with bytes that another process has read.
    pub(super) fn read_from(&mut self, slot: usize, bytes: Vec<u8>, now: Now) {
        let mut exchange = self.exchanges.with_bytes(bytes);
        let next = if self.publishing.is_full() {
            self.put_off_for_hub(slot, now);
            self.wait_for_bytes(slot, &mut exchange, now)
        } else {
            Next::Read
        };
        self.proceed(slot, exchange, next, now);
    }

    /// Reads a connection later, when the hub has stored more webhooks.
    fn put_off_for_hub(&mut self, slot: usize, now: Now) {
        self.resume_later(slot);
        self.connections[slot].unfinished = Unfinished::PutOff;
        if !self.connections[slot].hung_up {
            self.extend_deadline(slot, now);
        }
    }

    /// Gives a request that the shard does not read for now a full deadline again.
    pub(super) fn extend_deadline(&mut self, slot: usize, now: Now) {
        let connection = &mut self.connections[slot];
        let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
        connection.deadline_ms = connection.deadline_ms.max(deadline_ms);
        self.connections.note_progress(slot, now);
    }

    /// Makes steps of an exchange until it waits or is over. Never returns [`Next::Read`].
    pub(super) fn read_on(&mut self, slot: usize, exchange: &mut Exchange, now: Now) -> Next {
        for _ in 0..READS_PER_TURN {
            match self.read_step(slot, exchange, now) {
                Next::Read => {}
                next => return next,
            }
        }
        self.resume_later(slot);
        self.wait_for_bytes(slot, exchange, now)
    }

    /// One step: acts on what the reader has, and reads more if that is not enough.
    fn read_step(&mut self, slot: usize, exchange: &mut Exchange, now: Now) -> Next {
        if self.shutdown.intake == Intake::Held {
            return self.wait_for_bytes(slot, exchange, now);
        }
        if self.may_leave(slot)
            && let Some(bytes) = exchange.reader.unanswered()
        {
            self.leave(slot, bytes);
            return Next::Over;
        }
        match exchange.reader.skip() {
            Ok(true) => {
                self.end_request(slot, now);
                exchange.restart();
            }
            Ok(false) => {}
            Err(_) => {
                self.half_close(slot, now);
                return Next::Over;
            }
        }
        let progress = exchange.reader.poll();
        match progress {
            // The request is complete: the next step hands it over.
            Ok(Progress::Complete) if self.may_leave(slot) => return Next::Read,
            Ok(Progress::Complete) => return self.handle_request(slot, exchange, now),
            Ok(Progress::WantsContinue | Progress::Incomplete) if !exchange.is_judged => {
                let wants_continue = progress == Ok(Progress::WantsContinue);
                if let Some(then) = self.answer_head(slot, &mut exchange.reader, wants_continue) {
                    let next = self.send_answer(slot, exchange, then, now);
                    if next != Next::Read {
                        return next;
                    }
                }
                exchange.is_judged = exchange.reader.phase() == Phase::Body;
            }
            Ok(Progress::WantsContinue | Progress::Incomplete) => {}
            Err(refusal) => return self.refuse_request(slot, exchange, refusal, now),
        }
        match self.read_more(slot, &mut exchange.reader) {
            Read::Some => Next::Read,
            Read::None => self.wait_for_bytes(slot, exchange, now),
            Read::Over => {
                self.close(slot);
                Next::Over
            }
        }
    }

    /// Whether a connection goes to the successor once no answer is pending.
    fn may_leave(&self, slot: usize) -> bool {
        self.shutdown.intake == Intake::HandingOver && self.connections[slot].socket.can_leave()
    }

    /// Refuses the incomplete request of a connection.
    pub(super) fn refuse_upload(&mut self, slot: usize, refusal: Refusal, now: Now) {
        if let Some(mut exchange) = self.connections.take_exchange(slot) {
            let next = self.refuse(slot, &mut exchange, refusal, now);
            self.proceed(slot, exchange, next, now);
        }
    }

    /// Decides a complete request and acts on the decision.
    fn handle_request(&mut self, slot: usize, exchange: &mut Exchange, now: Now) -> Next {
        self.answer.clear();
        let handled = match exchange.reader.request() {
            Some(request) => self.decide(slot, &request),
            None => return Next::Read,
        };
        if matches!(handled, Handled::History(_)) && self.is_history_put_off() {
            // The request stays in the reader until the requests put off before it are answered.
            self.put_off_history(slot);
            exchange.timed = None;
            return self.wait_for_bytes(slot, exchange, now);
        }
        exchange.reader.consume();
        match handled {
            Handled::Answered(then) => self.send_answer(slot, exchange, then, now),
            Handled::History(request) => self.read_history(slot, exchange, request, now),
            Handled::Publishing(draft, to) => {
                self.wait_for_hub(slot, exchange, draft, now);
                exchange.stage = Stage::Publishing(to);
                Next::Wait
            }
            Handled::Subscribed(subscriber) => {
                // The reader may hold pipelined requests. A stream never answers them.
                self.open_stream(slot, exchange, subscriber, now)
            }
        }
    }

    /// Queues a draft for the hub.
    fn wait_for_hub(&mut self, slot: usize, exchange: &mut Exchange, draft: Draft, now: Now) {
        let reader = &mut exchange.reader;
        if reader.held_bytes() > REQUEST_BUFFER_KEEP_BYTES {
            reader.shrink();
        }
        let token = self.connections.token_of(slot);
        self.publishing.add(draft, token, reader.held_bytes(), now);
        self.connections[slot].deadline_ms = NO_DEADLINE;
    }

    fn decide(&mut self, slot: usize, request: &Request<'_>) -> Handled {
        let connection = &mut self.connections[slot];
        let is_surplus = connection.role == Role::Surplus || !connection.socket.admit(request.head);
        let is_leaving = is_surplus || self.shutdown.is_draining();
        let mut to = self.responder.reply_to(request);
        to.keep_alive &= !is_leaving;
        match route(request, &self.settings.access, chat::exists) {
            Route::Subscribe(subscription) if subscription.head_only => {
                to.keep_alive &= to.version == Version::Http11;
                self.tally.count_request(Endpoint::Stream, 200);
                let shared_ms = self.shared_ms(&subscription, to);
                self.answer_stream_head(to, shared_ms);
            }
            Route::Subscribe(subscription) if is_leaving => {
                self.tally.count_request(Endpoint::Stream, 200);
                if is_surplus {
                    self.tally.count(Counter::RefusedAtLimit, 1);
                }
                let last_id = SentId::parse(subscription.last_event_id.as_deref());
                self.decline_stream(last_id, to, is_surplus);
            }
            Route::Subscribe(subscription) => {
                self.tally.count_request(Endpoint::Stream, 200);
                let shared_ms = self.shared_ms(&subscription, to);
                let subscriber = Subscriber::new(subscription, shared_ms, to);
                return Handled::Subscribed(subscriber);
            }
            _ if is_surplus => self.answer_error(slot, to, request, FULL),
            // The successor has the ring, and cannot take this connection.
            Route::Publish(_) if self.shutdown.intake == Intake::HandingOver => {
                self.answer_error(slot, to, request, FULL);
            }
            Route::Publish(draft) => {
                return Handled::Publishing(draft, to);
            }
            Route::History(query) => {
                let known = request.if_none_match.and_then(text_of);
                let request = HistoryRequest::new(query, known, to);
                return Handled::History(request);
            }
            Route::Status => {
                self.tally.count_request(Endpoint::Webhook, 200);
                self.responder.status_ok(to, &mut self.answer);
            }
            Route::Preflight(allow) => {
                self.tally.count_request(Endpoint::of(request.path), 204);
                self.responder.preflight(to, allow, &mut self.answer);
            }
            Route::Asset(path) => self.answer_asset(slot, to, path, request),
            Route::Error(error) => self.answer_error(slot, to, request, error),
        }
        Handled::Answered(Then::after(to))
    }

    /// Judges a complete head before its body. If the head alone decides an error, `Shard::answer`
    /// becomes that error, and the body is skipped. Otherwise a peer that waits before its body gets
    /// a `100 Continue` (RFC 9110 section 10.1.1). Returns `None` if there is nothing to send.
    fn answer_head(
        &mut self,
        slot: usize,
        reader: &mut RequestReader,
        wants_continue: bool,
    ) -> Option<Then> {
        self.answer.clear();
        let head = reader.head()?;
        let Some(error) = self.error_of_head(slot, &head) else {
            if wants_continue {
                self.answer.extend_from_slice(CONTINUE);
            }
            return wants_continue.then_some(Then::Continue);
        };
        let to = self.answer_error_of_head(slot, &head, error, wants_continue);
        reader.skip_body();
        Some(Then::after(to))
    }

    /// The error that the head alone decides.
    fn error_of_head(&mut self, slot: usize, head: &Request<'_>) -> Option<ErrorAnswer> {
        let connection = &mut self.connections[slot];
        if connection.role == Role::Surplus || !connection.socket.admit(head.head) {
            return Some(FULL);
        }
        error_before_body(head, &self.settings.access, chat::exists)
    }

    fn answer_error_of_head(
        &mut self,
        slot: usize,
        head: &Request<'_>,
        error: ErrorAnswer,
        wants_continue: bool,
    ) -> ReplyTo {
        let mut to = self.responder.reply_to(head);
        // A peer that waits may never send its body, so no request can follow.
        let is_last = wants_continue || error == FULL || self.shutdown.is_draining();
        to.keep_alive &= !is_last;
        self.answer_error(slot, to, head, error);
        to
    }

    /// Answers a malformed request and ends the connection. If the head is valid and alone decides an
    /// error, that is the answer.
    fn refuse_request(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        refusal: Refusal,
        now: Now,
    ) -> Next {
        self.answer.clear();
        let head = exchange.reader.head_of_refused_body();
        let error = head.and_then(|head| Some((self.error_of_head(slot, &head)?, head)));
        let Some((error, head)) = error else {
            return self.refuse(slot, exchange, refusal, now);
        };
        self.answer_error_of_head(slot, &head, error, false);
        self.send_answer(slot, exchange, Then::Close, now)
    }

    fn read_more(&mut self, slot: usize, reader: &mut RequestReader) -> Read {
        let connection = &mut self.connections[slot];
        if !connection.readable {
            return Read::None;
        }
        match Transfer::of(|| connection.socket.read(&mut self.read_buffer)) {
            Transfer::Bytes(0) | Transfer::Failed => Read::Over,
            Transfer::Bytes(bytes) => {
                // After a short read the socket is empty, and more bytes cause a new event (epoll(7)).
                // After a hang-up no event follows for the end of the peer's bytes.
                connection.readable = bytes == self.read_buffer.len() || connection.hung_up;
                self.tally.count(Counter::BytesReceived, bytes as u64);
                reader.push(&self.read_buffer[..bytes]);
                Read::Some
            }
            Transfer::WouldBlock => {
                connection.readable = false;
                Read::None
            }
        }
    }

    /// Keeps an exchange until its peer has sent more. Between two requests it keeps nothing.
    fn wait_for_bytes(&mut self, slot: usize, exchange: &mut Exchange, now: Now) -> Next {
        let reader = &mut exchange.reader;
        if reader.is_between_requests() {
            if self.closes_idle() {
                self.close(slot);
            }
            return Next::Over;
        }
        // Small requests always have room, so the spare capacity of their buffers must not count.
        if reader.unanswered_bytes() <= SMALL_REQUEST_BYTES_MAX {
            reader.shrink();
        }
        if !self.connections.has_room_for(reader.held_bytes()) {
            // Making room may end other connections. Spare capacity is no reason for that.
            reader.shrink();
        }
        if !self.make_room(slot, reader.held_bytes(), now) {
            return self.refuse(slot, exchange, Refusal::Overloaded, now);
        }
        let phase = reader.phase();
        let connection = &mut self.connections[slot];
        if exchange.timed != Some(phase) {
            let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
            connection.deadline_ms = if reader.has_begun() {
                deadline_ms
            } else {
                // Before a request the deadline only shrinks: parts of empty lines must not extend it.
                deadline_ms.min(connection.deadline_ms)
            };
        }
        // Unparsed bytes do not begin a request.
        exchange.timed = reader.has_begun().then_some(phase);
        exchange.is_judged = exchange.timed == Some(Phase::Body);
        Next::Wait
    }
}
