//! From decisions to bytes: encodes, counts and sends answers, and closes a connection after its last
//! one.
//!
//! Part of the shard. Called by `requests` and `history`, for each outcome from the hub, and when a
//! socket is writable again. The connection keeps what its socket does not take at once. Never
//! decides a request, and never reads the next one: the caller that gets a reader back does.
//! `subscription` handles streams.

use std::io::IoSlice;

use crate::chat;
use crate::clock::Now;
use crate::http::route::{MESSAGES_PATH, STREAM_PATH, WEBHOOK_PATH, canonical};
use crate::http::{
    ErrorAnswer, Phase, Refusal, ReplyTo, Request, RequestReader, Status, Subscription,
};
use crate::hub::{NotStored, Receipt};
use crate::limits::{
    LINGER_BYTES_MAX, LINGER_MS, RETRY_AFTER_S, RETRY_FULL_MS, RETRY_MS, STALL_MS,
};
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::connection::{Answering, Role, State, Then};
use crate::shard::transport::{Transfer, Transport};
use crate::sse::event_id::EventId;
use crate::sse::frame::{self, Framing};

/// The answer to a webhook when the server is full, or has handed over its ring.
pub(super) const FULL: ErrorAnswer = ErrorAnswer::Unavailable {
    retry_after_s: RETRY_AFTER_S,
};

impl<S: Transport> Shard<S> {
    /// Answers a webhook with its outcome from the hub. Returns the reader when the next request may
    /// follow.
    pub(super) fn answer_webhook(
        &mut self,
        slot: usize,
        outcome: &Result<Receipt, NotStored>,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        let (reader, to) = match self.take_state(slot) {
            State::Publishing(reader, to) => (reader, to),
            other => {
                debug_assert!(false, "only a webhook is published");
                self.set_state(slot, other, now);
                return None;
            }
        };
        self.answer.clear();
        match outcome {
            Ok(Receipt { id, timestamp_ms }) => {
                self.tally.count(Counter::MessagesLocal, 1);
                self.tally.count(Counter::RingAppends, 1);
                self.tally.count_request(Endpoint::Webhook, 200);
                self.responder
                    .published(to, *id, *timestamp_ms, &mut self.answer);
                let role = &mut self.connections[slot].role;
                if *role == Role::Standard {
                    *role = Role::Priority;
                }
            }
            Err(error) if error.is_too_large() => {
                let error = ErrorAnswer::MessageTooLarge;
                self.tally.count(Counter::of_error(error), 1);
                self.tally
                    .count_request(Endpoint::Webhook, error.status().code());
                self.responder.error(to, error, &mut self.answer);
            }
            Err(_) => {
                self.tally.count(Counter::RingErrors, 1);
                self.tally.count(Counter::RefusedStorage, 1);
                self.tally.count_request(Endpoint::Webhook, 500);
                self.responder
                    .error(to, ErrorAnswer::Internal, &mut self.answer);
            }
        }
        self.send_answer(slot, reader, Then::after(to), now)
    }

    pub(super) fn answer_error(
        &mut self,
        slot: usize,
        to: ReplyTo,
        request: &Request<'_>,
        error: ErrorAnswer,
    ) {
        self.log_error(slot, error.status(), "request answered by an error");
        self.tally.count(Counter::of_error(error), 1);
        self.tally
            .count_request(Endpoint::of(request.path), error.status().code());
        self.responder.error(to, error, &mut self.answer);
    }

    /// Answers a subscription with a stream that ends at once and names the delay of the next
    /// attempt. Any status but 200 would make a browser's `EventSource` stop for good (HTML
    /// standard, 9.2.3).
    pub(super) fn decline_stream(
        &mut self,
        subscription: &Subscription<'_>,
        to: ReplyTo,
        is_surplus: bool,
    ) {
        self.tally.count_request(Endpoint::Stream, 200);
        if is_surplus {
            self.tally.count(Counter::RefusedAtLimit, 1);
        }
        let retry_ms = self
            .rng
            .u64(if is_surplus { RETRY_FULL_MS } else { RETRY_MS });
        let last_id = subscription.last_event_id.as_deref();
        let last_id = last_id.and_then(|id| EventId::parse(id.as_bytes()));
        let mut events = Vec::new();
        frame::push_farewell(&mut events, Framing::Bare, retry_ms, last_id);
        self.responder.ended_stream(to, &events, &mut self.answer);
    }

    pub(super) fn answer_asset(
        &mut self,
        slot: usize,
        to: ReplyTo,
        path: &str,
        request: &Request<'_>,
    ) {
        let accept_encoding = request.accept_encoding.and_then(text_of);
        let if_none_match = request.if_none_match.and_then(text_of);
        match chat::answer(path, accept_encoding, if_none_match) {
            Some(file) => {
                let status = if file.not_modified { 304 } else { 200 };
                self.tally.count_request(Endpoint::Chat, status);
                let (fields, is_known) = (file.headers(), file.not_modified);
                self.responder
                    .representation(to, is_known, fields, file.body, &mut self.answer);
            }
            None => self.answer_error(slot, to, request, ErrorAnswer::NotFound),
        }
    }

    pub(super) fn refuse(
        &mut self,
        slot: usize,
        reader: Box<RequestReader>,
        refusal: Refusal,
        now: Now,
    ) {
        if reader.is_skipping() {
            // The request is answered: a second answer would count as that of the next request.
            self.give_reader(reader);
            return self.half_close(slot, now);
        }
        self.log_error(slot, refusal.status(), "request refused");
        self.tally.count(Counter::of_refusal(refusal), 1);
        self.tally
            .count_request(Endpoint::None, refusal.status().code());
        self.answer.clear();
        self.responder
            .refusal(reader.head().as_ref(), refusal, &mut self.answer);
        let reader = self.send_answer(slot, reader, Then::Close, now);
        debug_assert!(reader.is_none());
    }

    fn log_error(&self, slot: usize, status: Status, what: &str) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let client = self.connections[slot].socket.client();
            tracing::debug!(%client, status = status.code(), "{what}");
        }
    }

    /// Sends `Shard::answer`. Returns the reader when all of it is sent and the next request may
    /// follow.
    pub(super) fn send_answer(
        &mut self,
        slot: usize,
        reader: Box<RequestReader>,
        then: Then,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        let connection = &mut self.connections[slot];
        let extents = [IoSlice::new(&self.answer)];
        let sent = match Transfer::of(|| connection.socket.write(&extents)) {
            Transfer::Bytes(bytes) => bytes,
            Transfer::WouldBlock => 0,
            Transfer::Failed => {
                self.give_reader(reader);
                self.close(slot);
                return None;
            }
        };
        self.tally.count(Counter::BytesSent, sent as u64);
        if sent == self.answer.len() && !connection.socket.has_unsent() {
            return self.after_answer(slot, reader, then, now);
        }
        connection.deadline_ms = now.mono_ms + STALL_MS;
        let answering = Answering {
            bytes: self.answer[sent..].to_vec(),
            sent: 0,
            reader: self.keep_reader(reader, then),
            then,
        };
        let state = State::Answering(Box::new(answering));
        if self.make_room(slot, state.held_bytes(), now) {
            self.set_state(slot, state, now);
        } else {
            // Its peer does not read, and there is no room to keep the rest.
            self.tally.count(Counter::RefusedOverload, 1);
            self.close(slot);
        }
        None
    }

    /// Keeps the reader of a connection that waits, if it holds bytes or its request has more to
    /// read. Otherwise the reader returns to the pool.
    pub(super) fn keep_reader(
        &mut self,
        mut reader: Box<RequestReader>,
        then: Then,
    ) -> Option<Box<RequestReader>> {
        if then == Then::Close || reader.is_between_requests() {
            self.give_reader(reader);
            return None;
        }
        reader.shrink();
        Some(reader)
    }

    /// Sends more of an answer that the socket did not take whole. Returns the reader when the next
    /// request may follow.
    pub(super) fn resume_answer(&mut self, slot: usize, now: Now) -> Option<Box<RequestReader>> {
        let connection = &mut self.connections[slot];
        let State::Answering(answering) = &mut connection.state else {
            return None;
        };
        let rest = &answering.bytes[answering.sent..];
        if !rest.is_empty() {
            match Transfer::of(|| connection.socket.write(&[IoSlice::new(rest)])) {
                Transfer::Bytes(bytes) => {
                    self.tally.count(Counter::BytesSent, bytes as u64);
                    answering.sent += bytes;
                    connection.deadline_ms = now.mono_ms + STALL_MS;
                    self.shares.note_progress(slot as u32, now.mono_ms);
                }
                Transfer::WouldBlock => return None,
                Transfer::Failed => {
                    self.close(slot);
                    return None;
                }
            }
        }
        // Closing now would lose what the layers of the socket have taken and not sent.
        if answering.sent < answering.bytes.len() || connection.socket.has_unsent() {
            return None;
        }
        let State::Answering(answered) = self.take_state(slot) else {
            return None;
        };
        let reader = answered.reader.unwrap_or_else(|| self.take_reader());
        self.after_answer(slot, reader, answered.then, now)
    }

    fn after_answer(
        &mut self,
        slot: usize,
        reader: Box<RequestReader>,
        then: Then,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        match then {
            Then::Continue => {
                // After a `100 Continue` or an early answer, the body still follows.
                if reader.phase() == Phase::Head {
                    self.end_request(slot, now);
                }
                Some(reader)
            }
            Then::Close => {
                self.give_reader(reader);
                self.half_close(slot, now);
                None
            }
        }
    }

    /// Ends a request that is answered and read to its end. The connection stays open.
    pub(super) fn end_request(&mut self, slot: usize, now: Now) {
        let keep_alive_ms = self.settings.keep_alive.as_millis() as u64;
        let connection = &mut self.connections[slot];
        connection.deadline_ms = now.mono_ms + keep_alive_ms;
        connection.socket.end_request();
    }

    /// Ends our side of the connection, and leaves the peer some time to read its answer.
    pub(super) fn half_close(&mut self, slot: usize, now: Now) {
        let connection = &mut self.connections[slot];
        connection.socket.end_request();
        if connection.socket.shutdown_write().is_err() {
            return self.close(slot);
        }
        connection.deadline_ms = now.mono_ms + LINGER_MS;
        connection.state = State::Lingering {
            bytes_left: LINGER_BYTES_MAX,
        };
        self.linger(slot);
    }

    /// Reads and drops what the peer still sends after its last answer.
    pub(super) fn linger(&mut self, slot: usize) {
        let connection = &mut self.connections[slot];
        let State::Lingering { bytes_left } = &mut connection.state else {
            return;
        };
        loop {
            match Transfer::of(|| connection.socket.read(&mut self.read_buffer)) {
                Transfer::Bytes(bytes) if bytes > 0 && bytes < *bytes_left => *bytes_left -= bytes,
                Transfer::WouldBlock => return,
                Transfer::Bytes(_) | Transfer::Failed => return self.close(slot),
            }
        }
    }
}

pub(super) fn text_of(field: &[u8]) -> Option<&str> {
    str::from_utf8(field).ok()
}

impl Endpoint {
    /// The endpoint that a path is counted as. All files of the chat window are one.
    pub(super) fn of(path: &str) -> Endpoint {
        match canonical(path) {
            WEBHOOK_PATH => Endpoint::Webhook,
            STREAM_PATH => Endpoint::Stream,
            MESSAGES_PATH => Endpoint::Messages,
            _ if chat::exists(path) => Endpoint::Chat,
            _ => Endpoint::None,
        }
    }
}

impl Counter {
    fn of_refusal(refusal: Refusal) -> Counter {
        match refusal.status() {
            Status::RequestTimeout => Counter::RefusedTooSlow,
            Status::ServiceUnavailable => Counter::RefusedOverload,
            Status::ContentTooLarge | Status::UriTooLong | Status::RequestHeaderFieldsTooLarge => {
                Counter::RefusedTooLarge
            }
            _ => Counter::RefusedMalformed,
        }
    }

    fn of_error(error: ErrorAnswer) -> Counter {
        match error.status() {
            Status::Unauthorized => Counter::RefusedUnauthorized,
            Status::NotFound | Status::MethodNotAllowed => Counter::RefusedUnknown,
            Status::ServiceUnavailable => Counter::RefusedAtLimit,
            Status::ContentTooLarge => Counter::RefusedTooLarge,
            Status::InternalServerError => Counter::RefusedStorage,
            _ => Counter::RefusedInvalidMessage,
        }
    }
}
