//! From bytes to answers: reads requests, decides, answers; hands webhooks to the hub's queue and
//! subscriptions to `streams`.
//!
//! Part of the shard. The path of a webhook: `read_requests` → `handle_request` → (the hub, at the
//! end of the turn) → `answer_webhook` → `send_answer`. One request at a time per connection: what
//! is pipelined behind it waits in the reader.

use std::io::IoSlice;

use crate::clock::Now;
use crate::http::response::CONTINUE;
use crate::http::route::{MESSAGES_PATH, STREAM_PATH, WEBHOOK_PATH, error_before_body};
use crate::http::{ErrorAnswer, Phase, Progress, Refusal, ReplyTo, Request, RequestReader};
use crate::http::{Route, Status, Version, route};
use crate::hub::{NotStored, Receipt};
use crate::limits::{
    LINGER_BYTES_MAX, LINGER_MS, PUBLISHING_BYTES_MAX, READS_PER_TURN, REQUEST_DEADLINE_MS,
    RETRY_AFTER_S, RETRY_FULL_MS, RETRY_MS, SMALL_REQUEST_BYTES_MAX, STALL_MS,
};
use crate::metrics::{Counter, Endpoint};
use crate::shard::connection::{Answering, NO_DEADLINE, Role, State, Then};
use crate::shard::history::HistoryRequest;
use crate::shard::socket::{Socket, Transfer};
use crate::shard::streams::Subscriber;
use crate::shard::{Intake, Publisher, Shard};
use crate::sse::frame::{self, Framing};
use crate::window;

/// What a whole request comes to.
enum Handled {
    /// The answer is in `Shard::answer`.
    Answered(Then),
    /// The answer will come from the hub.
    Publishing(ReplyTo),
    /// The connection becomes a stream.
    Subscribed(Subscriber),
    /// The history is to be sent, or waited for.
    History(HistoryRequest),
}

/// What a webhook is told when the server is full, or has given the ring away.
const FULL: ErrorAnswer = ErrorAnswer::Unavailable {
    retry_after_s: RETRY_AFTER_S,
};

/// What a read from the socket came to.
enum Read {
    Some,
    None,
    Over,
}

impl<S: Socket> Shard<S> {
    /// Reads and answers requests until the socket has no more bytes, an answer has to wait, or
    /// it is somebody else's turn.
    pub(super) fn read_requests(&mut self, slot: usize, now: Now) {
        if self.publishing_bytes > PUBLISHING_BYTES_MAX {
            return self.go_on_later(slot);
        }
        match self.take_state(slot) {
            State::Reading(reader, phase) => self.read_on(slot, reader, Some(phase), now),
            State::Idle => {
                let reader = self.take_reader();
                self.read_on(slot, reader, None, now);
            }
            busy => self.set_state(slot, busy),
        }
    }

    /// The same with a reader that holds bytes from elsewhere.
    pub(super) fn read_from(&mut self, slot: usize, reader: Box<RequestReader>, now: Now) {
        if self.publishing_bytes > PUBLISHING_BYTES_MAX {
            self.go_on_later(slot);
            return self.wait_for_bytes(slot, reader, None, now);
        }
        self.read_on(slot, reader, None, now);
    }

    /// The same with the reader at hand. `timed` is what the connection's deadline is for: a phase
    /// of a request, or, between two requests, none.
    pub(super) fn read_on(
        &mut self,
        slot: usize,
        mut reader: Box<RequestReader>,
        mut timed: Option<Phase>,
        now: Now,
    ) {
        for _ in 0..READS_PER_TURN {
            match self.intake {
                Intake::Open => {}
                Intake::Held => return self.wait_for_bytes(slot, reader, timed, now),
                Intake::Departing => {
                    if self.can_leave(slot)
                        && let Some(bytes) = reader.unanswered()
                    {
                        self.give_reader(reader);
                        return self.leave(slot, bytes);
                    }
                }
            }
            match reader.poll() {
                // It is whole now, and leaves with the next look.
                Ok(Progress::Complete)
                    if self.intake == Intake::Departing && self.can_leave(slot) =>
                {
                    continue;
                }
                Ok(Progress::Complete) => {
                    let Some(answered) = self.handle_request(slot, reader, now) else {
                        return;
                    };
                    (reader, timed) = (answered, None);
                    continue;
                }
                Ok(Progress::WantsContinue) => {
                    let then = self.answer_expectation(slot, &reader);
                    let Some(told) = self.send_answer(slot, reader, then, now) else {
                        return;
                    };
                    (reader, timed) = (told, None);
                }
                Ok(Progress::Incomplete) => {}
                Err(refusal) => return self.refuse(slot, reader, refusal, now),
            }
            match self.read_more(slot, &mut reader) {
                Read::Some => {}
                Read::None => return self.wait_for_bytes(slot, reader, timed, now),
                Read::Over => {
                    self.give_reader(reader);
                    return self.close(slot);
                }
            }
        }
        self.go_on_later(slot);
        self.wait_for_bytes(slot, reader, timed, now);
    }

    fn can_leave(&self, slot: usize) -> bool {
        self.connections[slot].socket.can_leave()
    }

    /// Answers a webhook, now that the hub has spoken, and goes on with its connection.
    pub(super) fn answer_webhook(
        &mut self,
        slot: usize,
        outcome: &Result<Receipt, NotStored>,
        now: Now,
    ) {
        let (reader, to) = match self.take_state(slot) {
            State::Publishing(reader, to) => (reader, to),
            other => {
                debug_assert!(false, "only a webhook is published");
                self.set_state(slot, other);
                return;
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
            }
            Err(_) => {
                self.tally.count(Counter::RingErrors, 1);
                self.tally.count(Counter::RefusedStorage, 1);
                self.tally.count_request(Endpoint::Webhook, 500);
                self.responder
                    .error(to, ErrorAnswer::Internal, &mut self.answer);
            }
        }
        if let Some(reader) = self.send_answer(slot, reader, Then::after(to), now) {
            self.read_on(slot, reader, None, now);
        }
    }

    /// Goes on with an answer that the socket did not take whole.
    pub(super) fn resume_answer(&mut self, slot: usize, now: Now) {
        let connection = &mut self.connections[slot];
        let State::Answering(answering) = &mut connection.state else {
            return;
        };
        let rest = [IoSlice::new(&answering.bytes[answering.sent..])];
        match Transfer::of(|| connection.socket.write(&rest)) {
            Transfer::Bytes(bytes) => {
                self.tally.count(Counter::BytesSent, bytes as u64);
                answering.sent += bytes;
                connection.deadline_ms = now.mono_ms + STALL_MS;
            }
            Transfer::WouldBlock => return,
            Transfer::Failed => return self.close(slot),
        }
        if answering.sent < answering.bytes.len() {
            return;
        }
        if let State::Answering(answering) = self.take_state(slot) {
            let answered = self.after_answer(slot, answering.reader, answering.then, now);
            if let Some(reader) = answered {
                self.read_on(slot, reader, None, now);
            }
        }
    }

    /// The head or the body has not come in time.
    pub(super) fn refuse_slow(&mut self, slot: usize, now: Now) {
        if let State::Reading(reader, _) = self.take_state(slot) {
            self.refuse(slot, reader, Refusal::TooSlow, now);
        }
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

    /// Decides on a whole request and acts on it. Returns the reader when the next request may be
    /// read straight away.
    fn handle_request(
        &mut self,
        slot: usize,
        mut reader: Box<RequestReader>,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        self.answer.clear();
        let handled = match reader.request() {
            Some(request) => self.decide(slot, &request),
            None => return Some(reader),
        };
        if matches!(handled, Handled::History(_)) && self.is_history_put_off() {
            // It stays in the reader until streams have been served.
            self.go_on_later(slot);
            self.wait_for_bytes(slot, reader, None, now);
            return None;
        }
        reader.consume();
        match handled {
            Handled::Answered(then) => self.send_answer(slot, reader, then, now),
            Handled::Publishing(to) => {
                self.publishers.push_back(Publisher {
                    token: self.token_of(slot),
                    read_us: now.mono_us,
                });
                self.connections[slot].deadline_ms = NO_DEADLINE;
                self.publishing_bytes += reader.held_bytes();
                self.set_state(slot, State::Publishing(reader, to));
                None
            }
            Handled::History(request) => self.read_history(slot, reader, request, now),
            Handled::Subscribed(subscriber) => {
                // What is pipelined behind a stream would wait for its end: for ever.
                self.give_reader(reader);
                if self.connections[slot].hung_up {
                    // As it would be a moment later: nobody will tell of this end again.
                    self.close_stream(slot, Counter::StreamsEndedByPeer);
                } else {
                    self.subscribe(slot, &subscriber, now);
                }
                None
            }
        }
    }

    fn decide(&mut self, slot: usize, request: &Request<'_>) -> Handled {
        let connection = &mut self.connections[slot];
        let is_surplus = connection.role == Role::Surplus || !connection.socket.admit(request.head);
        let is_leaving = is_surplus || self.drain.is_some();
        let mut to = self.responder.reply_to(request);
        to.keep_alive &= !is_leaving;
        match route(request, &self.settings.access, window::exists) {
            Route::Subscribe(subscription) if subscription.head_only => {
                to.keep_alive &= to.version == Version::Http11;
                self.tally.count_request(Endpoint::Stream, 200);
                let shared_ms = self.shared_ms(&subscription, to);
                self.answer_stream_head(to, shared_ms);
            }
            Route::Subscribe(_) if is_leaving => self.decline_stream(to, is_surplus),
            Route::Subscribe(subscription) => {
                self.tally.count_request(Endpoint::Stream, 200);
                let shared_ms = self.shared_ms(&subscription, to);
                let subscriber = Subscriber::new(subscription, self.epoch, shared_ms, to);
                return Handled::Subscribed(subscriber);
            }
            _ if is_surplus => self.answer_error(slot, to, request, FULL),
            // The ring is the successor's, and this connection cannot be.
            Route::Publish(_) if self.intake == Intake::Departing => {
                self.answer_error(slot, to, request, FULL);
            }
            Route::Publish(draft) => {
                self.publishing_bytes += draft.content.len();
                self.drafts.push_back(draft);
                return Handled::Publishing(to);
            }
            Route::History(query) => {
                let known = request.if_none_match.and_then(text_of);
                let request = HistoryRequest::new(query, known, self.epoch, to);
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

    fn answer_error(
        &mut self,
        slot: usize,
        to: ReplyTo,
        request: &Request<'_>,
        error: ErrorAnswer,
    ) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let client = self.connections[slot].socket.client();
            tracing::debug!(%client, status = error.status().code(), "request answered by an error");
        }
        self.tally.count(Counter::of_error(error), 1);
        self.tally
            .count_request(Endpoint::of(request.path), error.status().code());
        self.responder.error(to, error, &mut self.answer);
    }

    /// Answers a subscription by a stream that ends at once and says when to come back. Anything
    /// but a 200 would make a browser's `EventSource` give up for good (HTML standard, 9.2.3).
    fn decline_stream(&mut self, to: ReplyTo, is_surplus: bool) {
        self.tally.count_request(Endpoint::Stream, 200);
        if is_surplus {
            self.tally.count(Counter::RefusedAtLimit, 1);
        }
        let retry_ms = self
            .rng
            .u64(if is_surplus { RETRY_FULL_MS } else { RETRY_MS });
        let mut events = Vec::new();
        frame::push_retry(&mut events, Framing::Bare, retry_ms);
        self.responder.ended_stream(to, &events, &mut self.answer);
    }

    fn answer_asset(&mut self, slot: usize, to: ReplyTo, path: &str, request: &Request<'_>) {
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

    /// Tells a peer that waits before it sends its body to go on (RFC 9110 section 10.1.1), or the
    /// error that it gets whatever the body is. Puts either into `Shard::answer`.
    fn answer_expectation(&mut self, slot: usize, reader: &RequestReader) -> Then {
        self.answer.clear();
        let Some(head) = reader.head() else {
            return Then::Continue;
        };
        let connection = &mut self.connections[slot];
        let error = match connection.role {
            Role::Surplus => Some(FULL),
            Role::Guest if !connection.socket.admit(head.head) => Some(FULL),
            Role::Guest => error_before_body(&head, &self.settings.access, window::exists),
        };
        match error {
            Some(error) => {
                let mut to = self.responder.reply_to(&head);
                to.keep_alive = false;
                self.answer_error(slot, to, &head, error);
                Then::Close
            }
            None => {
                self.answer.extend_from_slice(CONTINUE);
                Then::Continue
            }
        }
    }

    fn read_more(&mut self, slot: usize, reader: &mut RequestReader) -> Read {
        let connection = &mut self.connections[slot];
        if !connection.readable {
            return Read::None;
        }
        match Transfer::of(|| connection.socket.read(&mut self.read_buffer)) {
            Transfer::Bytes(0) | Transfer::Failed => Read::Over,
            Transfer::Bytes(bytes) => {
                // A short read means that there is no more, and that more will be a new edge
                // (epoll(7)); unless what is there is the end.
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

    fn wait_for_bytes(
        &mut self,
        slot: usize,
        mut reader: Box<RequestReader>,
        timed: Option<Phase>,
        now: Now,
    ) {
        if reader.is_between_requests() {
            if self.closes_idle() {
                self.close(slot);
            }
            return self.give_reader(reader);
        }
        if !self.has_room_for(reader.held_bytes()) {
            // What came in one piece was never held, and what is small always may be.
            reader.shrink();
            if reader.held_bytes() > SMALL_REQUEST_BYTES_MAX {
                return self.refuse(slot, reader, Refusal::Overloaded, now);
            }
        }
        let phase = reader.phase();
        let connection = &mut self.connections[slot];
        if timed != Some(phase) {
            connection.deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
        }
        self.set_state(slot, State::Reading(reader, phase));
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
        if sent == self.answer.len() {
            return self.after_answer(slot, reader, then, now);
        }
        connection.deadline_ms = now.mono_ms + STALL_MS;
        let rest = &self.answer[sent..];
        if !self.has_room_for(rest.len() + reader.held_bytes()) {
            // It reads nothing, and there is no room to wait for it.
            self.tally.count(Counter::RefusedOverload, 1);
            self.give_reader(reader);
            self.close(slot);
            return None;
        }
        let answering = Answering {
            bytes: rest.to_vec(),
            sent: 0,
            reader,
            then,
        };
        self.set_state(slot, State::Answering(Box::new(answering)));
        None
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
                let keep_alive_ms = self.settings.keep_alive.as_millis() as u64;
                let connection = &mut self.connections[slot];
                connection.deadline_ms = now.mono_ms + keep_alive_ms;
                connection.socket.end_request();
                Some(reader)
            }
            Then::Close => {
                self.give_reader(reader);
                self.half_close(slot, now);
                None
            }
        }
    }

    fn refuse(&mut self, slot: usize, reader: Box<RequestReader>, refusal: Refusal, now: Now) {
        if tracing::enabled!(tracing::Level::DEBUG) {
            let client = self.connections[slot].socket.client();
            tracing::debug!(%client, status = refusal.status().code(), "request refused");
        }
        self.tally.count(Counter::of_refusal(refusal), 1);
        self.tally
            .count_request(Endpoint::None, refusal.status().code());
        self.answer.clear();
        self.responder
            .refusal(reader.head().as_ref(), refusal, &mut self.answer);
        let reader = self.send_answer(slot, reader, Then::Close, now);
        debug_assert!(reader.is_none());
    }

    /// Ends our side, and leaves the peer some time to read its answer.
    pub(super) fn half_close(&mut self, slot: usize, now: Now) {
        let connection = &mut self.connections[slot];
        if connection.socket.shutdown_write().is_err() {
            return self.close(slot);
        }
        connection.deadline_ms = now.mono_ms + LINGER_MS;
        connection.state = State::Lingering {
            bytes_left: LINGER_BYTES_MAX,
        };
        self.linger(slot);
    }
}

fn text_of(field: &[u8]) -> Option<&str> {
    str::from_utf8(field).ok()
}

impl Endpoint {
    /// What a path is counted as; the window's files are one.
    fn of(path: &str) -> Endpoint {
        match path {
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
            Status::InternalServerError => Counter::RefusedStorage,
            _ => Counter::RefusedInvalidMessage,
        }
    }
}
