//! From bytes to decisions: reads requests and decides each. Webhooks are queued for the hub.
//! Others go on to `subscription`, `history` or `answers`.
//!
//! Part of the shard. The path of a webhook: `read_requests` → `handle_request` → (the hub, at the
//! end of the turn) → `answer_webhook` → `send_answer` → `read_next`. A connection has one request
//! at a time: pipelined requests wait in the reader. Never writes to a socket.

use crate::chat;
use crate::clock::Now;
use crate::http::response::CONTINUE;
use crate::http::route::error_before_body;
use crate::http::{
    ErrorAnswer, Phase, Progress, Refusal, ReplyTo, Request, RequestReader, Route, Version, route,
};
use crate::limits::{
    PUBLISHING_BYTES_MAX, READS_PER_TURN, REQUEST_BUFFER_KEEP_BYTES, REQUEST_DEADLINE_MS,
    SMALL_REQUEST_BYTES_MAX,
};
use crate::metrics::{Counter, Endpoint};
use crate::shard::answers::{FULL, text_of};
use crate::shard::connection::{NO_DEADLINE, Role, State, Then};
use crate::shard::subscription::Subscriber;
use crate::shard::transport::{Transfer, Transport};
use crate::shard::waiting::HistoryRequest;
use crate::shard::{Intake, Publisher, Shard};

/// The decision on a complete request.
enum Handled {
    /// The answer is in `Shard::answer`.
    Answered(Then),
    /// The answer follows the outcome from the hub.
    Publishing(ReplyTo),
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
        if self.publishing_bytes > PUBLISHING_BYTES_MAX {
            return self.put_off(slot, now);
        }
        match self.connections[slot].state {
            State::Idle => {
                let reader = self.take_reader();
                self.read_on(slot, reader, None, now);
            }
            State::Reading(..) => {
                if let State::Reading(reader, phase) = self.take_state(slot) {
                    // Bytes that are not parsed yet have not begun a request.
                    let timed = reader.has_begun().then_some(phase);
                    self.read_on(slot, reader, timed, now);
                }
            }
            _ => {}
        }
    }

    /// Reads and answers requests, beginning with bytes that the reader already holds.
    pub(super) fn read_from(&mut self, slot: usize, reader: Box<RequestReader>, now: Now) {
        if self.publishing_bytes > PUBLISHING_BYTES_MAX {
            self.put_off(slot, now);
            return self.wait_for_bytes(slot, reader, None, now);
        }
        self.read_on(slot, reader, None, now);
    }

    /// Reads and answers further requests, if the last answer has returned the reader.
    pub(super) fn read_next(
        &mut self,
        slot: usize,
        answered: Option<Box<RequestReader>>,
        now: Now,
    ) {
        if let Some(reader) = answered {
            self.read_on(slot, reader, None, now);
        }
    }

    /// Sends more of an answer that the socket did not take whole, and then reads the next request.
    pub(super) fn answer_on(&mut self, slot: usize, now: Now) {
        let answered = self.resume_answer(slot, now);
        self.read_next(slot, answered, now);
    }

    /// Answers the long poll of a connection, if it has one, and then reads the next request.
    pub(super) fn end_wait(&mut self, slot: usize, now: Now) {
        let answered = self.answer_waiting(slot, now);
        self.read_next(slot, answered, now);
    }

    /// Reads a connection later, when the hub has stored more webhooks. Its request gets a full
    /// deadline again.
    fn put_off(&mut self, slot: usize, now: Now) {
        let connection = &mut self.connections[slot];
        let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
        connection.deadline_ms = connection.deadline_ms.max(deadline_ms);
        self.shares.note_progress(slot as u32, now.mono_ms);
        self.go_on_later(slot);
    }

    /// Reads and answers requests with a given reader. `timed` is the phase of a request that the
    /// connection's deadline is for; none between two requests.
    fn read_on(
        &mut self,
        slot: usize,
        mut reader: Box<RequestReader>,
        mut timed: Option<Phase>,
        now: Now,
    ) {
        // A request in its body phase has a judged head.
        let mut is_judged = timed == Some(Phase::Body);
        for _ in 0..READS_PER_TURN {
            if self.intake == Intake::Held {
                return self.wait_for_bytes(slot, reader, timed, now);
            }
            if self.may_leave(slot)
                && let Some(bytes) = reader.unanswered()
            {
                self.give_reader(reader);
                return self.leave(slot, bytes);
            }
            match reader.skip() {
                Ok(true) => {
                    self.end_request(slot, now);
                    (timed, is_judged) = (None, false);
                }
                Ok(false) => {}
                Err(_) => {
                    self.give_reader(reader);
                    return self.half_close(slot, now);
                }
            }
            let progress = reader.poll();
            match progress {
                // The request is complete: the next iteration hands it over.
                Ok(Progress::Complete) if self.may_leave(slot) => continue,
                Ok(Progress::Complete) => {
                    let Some(answered) = self.handle_request(slot, reader, now) else {
                        return;
                    };
                    (reader, timed, is_judged) = (answered, None, false);
                    continue;
                }
                Ok(Progress::WantsContinue | Progress::Incomplete) if !is_judged => {
                    let wants_continue = progress == Ok(Progress::WantsContinue);
                    if let Some(then) = self.answer_head(slot, &mut reader, wants_continue) {
                        let Some(answered) = self.send_answer(slot, reader, then, now) else {
                            return;
                        };
                        (reader, timed) = (answered, None);
                    }
                    is_judged = reader.phase() == Phase::Body;
                }
                Ok(Progress::WantsContinue | Progress::Incomplete) => {}
                Err(refusal) => return self.refuse_request(slot, reader, refusal, now),
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

    /// Whether a connection goes to the successor once no answer is pending.
    fn may_leave(&self, slot: usize) -> bool {
        self.intake == Intake::HandingOver && self.connections[slot].socket.can_leave()
    }

    /// Refuses a request whose head or body was not complete in time.
    pub(super) fn refuse_slow(&mut self, slot: usize, now: Now) {
        if let State::Reading(reader, _) = self.take_state(slot) {
            self.refuse(slot, reader, Refusal::TooSlow, now);
        }
    }

    /// Decides a complete request and acts on the decision. Returns the reader when the next request
    /// may be read at once.
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
            // The request stays in the reader until the requests put off before it are answered.
            self.put_off_history(slot);
            self.wait_for_bytes(slot, reader, None, now);
            return None;
        }
        reader.consume();
        match handled {
            Handled::Answered(then) => self.send_answer(slot, reader, then, now),
            Handled::History(request) => self.read_history(slot, reader, request, now),
            Handled::Publishing(to) => {
                self.wait_for_hub(slot, reader, to, now);
                None
            }
            Handled::Subscribed(subscriber) => {
                // The reader may hold pipelined requests. A stream never answers them.
                self.give_reader(reader);
                self.subscribe(slot, &subscriber, now);
                None
            }
        }
    }

    /// Records the publisher of the draft that was queued last. Outcomes arrive in the same order.
    fn wait_for_hub(&mut self, slot: usize, mut reader: Box<RequestReader>, to: ReplyTo, now: Now) {
        if reader.held_bytes() > REQUEST_BUFFER_KEEP_BYTES {
            reader.shrink();
        }
        let draft_bytes = self.drafts.back().map_or(0, |draft| draft.content.len());
        let publisher = Publisher {
            token: self.token_of(slot),
            read_us: now.mono_us,
            bytes: draft_bytes + reader.held_bytes(),
        };
        self.publishing_bytes += publisher.bytes;
        self.publishers.push_back(publisher);
        self.connections[slot].deadline_ms = NO_DEADLINE;
        self.set_state(slot, State::Publishing(reader, to), now);
    }

    fn decide(&mut self, slot: usize, request: &Request<'_>) -> Handled {
        let connection = &mut self.connections[slot];
        let is_surplus = connection.role == Role::Surplus || !connection.socket.admit(request.head);
        let is_leaving = is_surplus || self.drain.is_some();
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
                self.decline_stream(&subscription, to, is_surplus);
            }
            Route::Subscribe(subscription) => {
                self.tally.count_request(Endpoint::Stream, 200);
                let shared_ms = self.shared_ms(&subscription, to);
                let subscriber = Subscriber::new(subscription, self.epoch, shared_ms, to);
                return Handled::Subscribed(subscriber);
            }
            _ if is_surplus => self.answer_error(slot, to, request, FULL),
            // The successor has the ring, and cannot take this connection.
            Route::Publish(_) if self.intake == Intake::HandingOver => {
                self.answer_error(slot, to, request, FULL);
            }
            Route::Publish(draft) => {
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
        let is_last = wants_continue || error == FULL || self.drain.is_some();
        to.keep_alive &= !is_last;
        self.answer_error(slot, to, head, error);
        to
    }

    /// Answers a malformed request and ends the connection. If the head is valid and alone decides an
    /// error, that is the answer.
    fn refuse_request(
        &mut self,
        slot: usize,
        reader: Box<RequestReader>,
        refusal: Refusal,
        now: Now,
    ) {
        self.answer.clear();
        let head = reader.head_of_refused_body();
        let error = head.and_then(|head| Some((self.error_of_head(slot, &head)?, head)));
        let Some((error, head)) = error else {
            return self.refuse(slot, reader, refusal, now);
        };
        self.answer_error_of_head(slot, &head, error, false);
        let reader = self.send_answer(slot, reader, Then::Close, now);
        debug_assert!(reader.is_none());
    }

    fn read_more(&mut self, slot: usize, reader: &mut RequestReader) -> Read {
        let connection = &mut self.connections[slot];
        if !connection.readable {
            return Read::None;
        }
        match Transfer::of(|| connection.socket.read(&mut self.read_buffer)) {
            Transfer::Bytes(0) | Transfer::Failed => Read::Over,
            Transfer::Bytes(bytes) => {
                // After a short read the socket is empty, and more bytes are a new edge (epoll(7)).
                // The end of a peer that has hung up is no new edge.
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
        // Small requests always have room, so the spare capacity of their buffers must not count.
        if reader.unanswered_bytes() <= SMALL_REQUEST_BYTES_MAX {
            reader.shrink();
        }
        if !self.shares.has_room_for(reader.held_bytes()) {
            // Making room may end other connections, which must not be for spare capacity.
            reader.shrink();
        }
        if !self.make_room(slot, reader.held_bytes(), now) {
            return self.refuse(slot, reader, Refusal::Overloaded, now);
        }
        let phase = reader.phase();
        let connection = &mut self.connections[slot];
        if timed != Some(phase) {
            let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
            connection.deadline_ms = if reader.has_begun() {
                deadline_ms
            } else {
                // Otherwise parts of empty lines could keep a connection open for ever.
                deadline_ms.min(connection.deadline_ms)
            };
        }
        self.set_state(slot, State::Reading(reader, phase), now);
    }
}
