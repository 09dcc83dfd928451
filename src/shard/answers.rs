//! From decisions to bytes: encodes, counts and sends answers, and closes a connection after its last
//! one.
//!
//! Part of the shard. Called by `requests` and `history`, for each outcome from the hub, and when a
//! socket is writable again. The exchange keeps what the socket does not take at once. Never decides a
//! request. `subscription` handles streams.

use std::io::IoSlice;

use crate::chat;
use crate::clock::Now;
use crate::http::route::{MESSAGES_PATH, SOURCES_PATH, STREAM_PATH, WEBHOOK_PATH, canonical};
use crate::http::{
    ErrorAnswer, Phase, Refusal, ReplyTo, Request, Status, is_presence, source_name,
};
use crate::hub::{NotStored, Receipt};
use crate::limits::{
    LINGER_BYTES_MAX, LINGER_MS, RETRY_AFTER_S, RETRY_FULL_MS, RETRY_MS, STALL_MS,
};
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::connection::State;
use crate::shard::exchange::{Exchange, Next, Publication, Stage, Then, Unsent};
use crate::shard::resumption::SentId;
use crate::shard::transport::{Transfer, Transport};
use crate::sources::Success;
use crate::sse::frame::{self, Framing};

/// The answer to a webhook when the server is full, or has handed over its ring.
pub(super) const FULL: ErrorAnswer = ErrorAnswer::Unavailable {
    retry_after_s: RETRY_AFTER_S,
};

/// The answer to a webhook that the bus has not taken in time.
const NO_BUS: ErrorAnswer = ErrorAnswer::NoBus {
    retry_after_s: RETRY_AFTER_S,
};

impl<S: Transport> Shard<S> {
    /// Answers a webhook with its outcome from the hub, and reads the next request.
    pub(super) fn answer_webhook(
        &mut self,
        slot: usize,
        outcome: &Result<Receipt, NotStored>,
        now: Now,
    ) {
        let Some(Stage::Publishing(publication)) = self.connections[slot].state.stage() else {
            debug_assert!(false, "only a webhook has an outcome");
            return;
        };
        let (publication, to) = (*publication, publication.to);
        self.write_outcome(slot, publication, outcome);
        if let Some(mut exchange) = self.connections.take_exchange(slot) {
            let next = self.send_answer(slot, &mut exchange, Then::after(to), now);
            self.proceed(slot, exchange, next, now);
        }
    }

    /// Encodes and counts the answer to a webhook.
    fn write_outcome(
        &mut self,
        slot: usize,
        publication: Publication,
        outcome: &Result<Receipt, NotStored>,
    ) {
        let Publication {
            to,
            success,
            endpoint,
        } = publication;
        self.answer.clear();
        match outcome {
            Ok(receipt) => {
                self.count_receipt(receipt);
                match success {
                    Success::Receipt => {
                        self.tally.count_request(endpoint, 200);
                        let (id, timestamp_ms) = (receipt.id, receipt.timestamp_ms);
                        self.responder
                            .published(to, id, timestamp_ms, &mut self.answer);
                    }
                    success => self.write_reply(to, endpoint, &success.reply()),
                }
                self.connections.note_published(slot);
            }
            Err(error) if error.is_too_large() => {
                let error = ErrorAnswer::MessageTooLarge;
                self.write_refusal(to, endpoint, error, Counter::RefusedTooLarge);
            }
            Err(NotStored::NoBus) => {
                self.write_refusal(to, endpoint, NO_BUS, Counter::RefusedBus);
            }
            Err(NotStored::KeyReused) => {
                let error = ErrorAnswer::KeyReused;
                self.write_refusal(to, endpoint, error, Counter::RefusedInvalidMessage);
            }
            Err(NotStored::InDoubt) => {
                self.write_refusal(to, endpoint, ErrorAnswer::InDoubt, Counter::RefusedBus);
            }
            Err(_) => {
                self.tally.count(Counter::RingErrors, 1);
                self.tally.count(Counter::RefusedStorage, 1);
                self.tally.count_request(endpoint, 500);
                self.responder
                    .error(to, ErrorAnswer::Internal, &mut self.answer);
            }
        }
    }

    /// Counts the message of a receipt, or the repeat.
    fn count_receipt(&mut self, receipt: &Receipt) {
        if receipt.is_repeat {
            return self.tally.count(Counter::Repeats, 1);
        }
        self.tally.count(Counter::MessagesLocal, 1);
        // With a bus the follower counts the messages of all nodes.
        let appends = u64::from(!self.resumption.is_shared);
        self.tally.count(Counter::RingAppends, appends);
    }

    /// Encodes and counts the refusal of a webhook.
    pub(super) fn write_refusal(
        &mut self,
        to: ReplyTo,
        endpoint: Endpoint,
        error: ErrorAnswer,
        reason: Counter,
    ) {
        self.tally.count(reason, 1);
        self.tally.count_request(endpoint, error.status().code());
        self.responder.error(to, error, &mut self.answer);
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
    pub(super) fn decline_stream(&mut self, last_id: SentId, to: ReplyTo, is_surplus: bool) {
        let retry_ms = self
            .rng
            .u64(if is_surplus { RETRY_FULL_MS } else { RETRY_MS });
        let mut events = Vec::new();
        frame::push_farewell(&mut events, Framing::Bare, retry_ms, last_id.id());
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
        exchange: &mut Exchange,
        refusal: Refusal,
        now: Now,
    ) -> Next {
        if exchange.reader.is_skipping() {
            // The request is answered: a second answer would count as that of the next request.
            self.half_close(slot, now);
            return Next::Over;
        }
        self.log_error(slot, refusal.status(), "request refused");
        self.tally.count(Counter::of_refusal(refusal), 1);
        self.tally
            .count_request(Endpoint::None, refusal.status().code());
        self.answer.clear();
        let head = exchange.reader.head();
        self.responder
            .refusal(head.as_ref(), refusal, &mut self.answer);
        self.send_answer(slot, exchange, Then::Close, now)
    }

    fn log_error(&self, slot: usize, status: Status, what: &str) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let client = self.connections[slot].socket.client();
            tracing::debug!(%client, status = status.code(), "{what}");
        }
    }

    /// Sends `Shard::answer`, and keeps what the socket does not take.
    pub(super) fn send_answer(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        then: Then,
        now: Now,
    ) -> Next {
        let connection = &mut self.connections[slot];
        let extents = [IoSlice::new(&self.answer)];
        let sent = match Transfer::of(|| connection.socket.write(&extents)) {
            Transfer::Bytes(bytes) => bytes,
            Transfer::WouldBlock => 0,
            Transfer::Failed => {
                self.close(slot);
                return Next::Over;
            }
        };
        self.tally.count(Counter::BytesSent, sent as u64);
        if sent == self.answer.len() && !connection.socket.has_unsent() {
            return self.after_answer(slot, exchange, then, now);
        }
        connection.deadline_ms = now.mono_ms + STALL_MS;
        exchange.shrink_reader(then);
        exchange.stage = Stage::Answering(Box::new(Unsent {
            bytes: self.answer[sent..].to_vec(),
            sent: 0,
            then,
        }));
        if self.make_room(slot, exchange.held_bytes(), now) {
            return Next::Wait;
        }
        // The peer does not read, and there is no room to keep the rest.
        self.tally.count(Counter::RefusedOverload, 1);
        self.close(slot);
        Next::Over
    }

    /// Sends more of an answer that the socket did not take whole, and then reads the next request.
    pub(super) fn resume_answer(&mut self, slot: usize, now: Now) {
        let Some(then) = self.send_rest(slot, now) else {
            return;
        };
        if let Some(mut exchange) = self.connections.take_exchange(slot) {
            let next = self.after_answer(slot, &mut exchange, then, now);
            self.proceed(slot, exchange, next, now);
        }
    }

    /// Sends more of an answer. Returns what follows when all of it is sent.
    fn send_rest(&mut self, slot: usize, now: Now) -> Option<Then> {
        let connection = &mut self.connections[slot];
        let State::Exchange(exchange) = &mut connection.state else {
            return None;
        };
        let Stage::Answering(unsent) = &mut exchange.stage else {
            return None;
        };
        let rest = &unsent.bytes[unsent.sent..];
        let mut has_progress = false;
        if !rest.is_empty() {
            match Transfer::of(|| connection.socket.write(&[IoSlice::new(rest)])) {
                Transfer::Bytes(bytes) => {
                    self.tally.count(Counter::BytesSent, bytes as u64);
                    unsent.sent += bytes;
                    connection.deadline_ms = now.mono_ms + STALL_MS;
                    has_progress = true;
                }
                Transfer::WouldBlock => return None,
                Transfer::Failed => {
                    self.close(slot);
                    return None;
                }
            }
        }
        // Closing now would lose what the layers of the socket have taken and not sent.
        let is_sent = unsent.sent == unsent.bytes.len() && !connection.socket.has_unsent();
        let then = unsent.then;
        if has_progress {
            self.connections.note_progress(slot, now);
        }
        is_sent.then_some(then)
    }

    /// Ends the request, or the connection, after an answer that is sent whole.
    fn after_answer(&mut self, slot: usize, exchange: &mut Exchange, then: Then, now: Now) -> Next {
        match then {
            Then::Continue => {
                // After a `100 Continue` or an early answer, the body still follows.
                if exchange.reader.phase() == Phase::Head {
                    self.end_request(slot, now);
                }
                exchange.restart();
                Next::Read
            }
            Then::Close => {
                self.half_close(slot, now);
                Next::Over
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
        let bytes_left = LINGER_BYTES_MAX;
        self.connections
            .set_state(slot, State::Lingering { bytes_left }, now);
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
            SOURCES_PATH => Endpoint::Sources,
            _ if source_name(path).is_some() => Endpoint::Source,
            _ if is_presence(path) => Endpoint::Presence,
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
            Status::Forbidden => Counter::RefusedForbidden,
            Status::TooManyRequests => Counter::RefusedGuessing,
            Status::NotFound | Status::MethodNotAllowed => Counter::RefusedUnknown,
            Status::ServiceUnavailable => Counter::RefusedAtLimit,
            Status::ContentTooLarge => Counter::RefusedTooLarge,
            Status::InternalServerError => Counter::RefusedStorage,
            _ => Counter::RefusedInvalidMessage,
        }
    }
}
