//! From decisions to bytes: puts answers together, counts them, sends them, and ends connections that
//! get no other.
//!
//! Part of the shard, called by `requests` and `history`, and when the hub has spoken or a socket has
//! room again. What a socket does not take at once waits in the connection. Never decides what a
//! request comes to, and never reads the next one: whoever gets a reader back does. Streams are the
//! matter of `streams`.

use std::io::IoSlice;

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
use crate::window;

/// What a webhook is told when the server is full, or has given the ring away.
pub(super) const FULL: ErrorAnswer = ErrorAnswer::Unavailable {
    retry_after_s: RETRY_AFTER_S,
};

impl<S: Transport> Shard<S> {
    /// Answers a webhook, now that the hub has spoken. Returns the reader when the next request may
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

    /// Answers a subscription by a stream that ends at once and says when to come back. Anything
    /// but a 200 would make a browser's `EventSource` give up for good (HTML standard, 9.2.3).
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
        let place = subscription.last_event_id.as_deref();
        let place = place.and_then(|id| EventId::parse(id.as_bytes()));
        let mut events = Vec::new();
        frame::push_farewell(&mut events, Framing::Bare, retry_ms, place);
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
        match window::answer(path, accept_encoding, if_none_match) {
            Some(file) => {
                let status = if file.not_modified { 304 } else { 200 };
                self.tally.count_request(Endpoint::Window, status);
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
            // It has its answer: a second one would be taken for that of the next request.
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

    /// Sends what is in `Shard::answer`. Returns the reader when all of it has gone out and the
    /// next request may follow.
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
            // It reads nothing, and there is no room to wait for it.
            self.tally.count(Counter::RefusedOverload, 1);
            self.close(slot);
        }
        None
    }

    /// Keeps a reader for as long as an answer or its request waits, if anything is left for it to do.
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

    /// Goes on with an answer that the socket did not take whole. Returns the reader when the next
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
        // What the socket took and could not send yet would be lost if the connection ended now.
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
                // After a `100 Continue` or an early answer, the body is still to come.
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

    /// A request is answered and read to its end, and the connection goes on.
    pub(super) fn end_request(&mut self, slot: usize, now: Now) {
        let keep_alive_ms = self.settings.keep_alive.as_millis() as u64;
        let connection = &mut self.connections[slot];
        connection.deadline_ms = now.mono_ms + keep_alive_ms;
        connection.socket.end_request();
    }

    /// Ends our side, and leaves the peer some time to read its answer.
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
    /// What a path is counted as; the window's files are one.
    pub(super) fn of(path: &str) -> Endpoint {
        match canonical(path) {
            WEBHOOK_PATH => Endpoint::Webhook,
            STREAM_PATH => Endpoint::Stream,
            MESSAGES_PATH => Endpoint::Messages,
            _ if window::exists(path) => Endpoint::Window,
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
