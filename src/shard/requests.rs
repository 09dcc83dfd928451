//! From bytes to decisions: reads requests and decides each. Webhooks are queued for the hub. All other
//! requests continue in `judging`, `presence`, `subscription`, `history` or `answers`.
//!
//! Part of the shard. The path of a webhook: `read_requests` → `proceed` → `read_on` → `read_step` →
//! `handle_request` → (the hub, at the end of the turn) → `answer_webhook` → `send_answer` → `proceed`.
//! A connection has one request at a time: pipelined requests wait in the reader. Never writes to a
//! socket.

use crate::chat;
use crate::clock::Now;
use crate::http::response::CONTINUE;
use crate::http::route::{compares_secret, error_before_body};
use crate::http::{
    ErrorAnswer, Guess, Phase, Progress, Refusal, ReplyTo, Request, RequestReader, Route, Version,
    is_forwarded, route, source_name,
};
use crate::limits::{
    READS_PER_TURN, REQUEST_BUFFER_KEEP_BYTES, REQUEST_DEADLINE_MS, SMALL_REQUEST_BYTES_MAX,
};
use crate::message::{Draft, SessionId};
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::answers::{FULL, text_of};
use crate::shard::client::Client;
use crate::shard::compression::accepts_gzip;
use crate::shard::connection::{NO_DEADLINE, Role, Unfinished};
use crate::shard::drain::Intake;
use crate::shard::exchange::{Exchange, Next, Publication, Stage, Then};
use crate::shard::guesses::{Guesser, Target};
use crate::shard::judging::Lane;
use crate::shard::resumption::SentId;
use crate::shard::subscription::Subscriber;
use crate::shard::transport::{Transfer, Transport};
use crate::shard::waiting::HistoryRequest;

/// The decision on a complete request.
pub(super) enum Handled {
    /// The answer is in `Shard::answer`.
    Answered(Then),
    /// The answer follows the verdict of the source with this name.
    Judging(Box<str>, Lane, ReplyTo),
    /// The answer follows the outcome from the hub.
    Publishing(Draft, ReplyTo),
    /// The answer is the number of streams of a session, for which other shards are asked.
    Counting(SessionId, ReplyTo),
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
        let progress = self.poll_reader(exchange);
        match progress {
            // The request is complete: the next step hands it over.
            Ok(Progress::Complete) if self.may_leave(slot) => return Next::Read,
            Ok(Progress::Complete) => return self.handle_request(slot, exchange, now),
            Ok(Progress::WantsContinue | Progress::Incomplete) if !exchange.is_judged => {
                let wants_continue = progress == Ok(Progress::WantsContinue);
                if let Some(then) =
                    self.answer_head(slot, &mut exchange.reader, wants_continue, now)
                {
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
            Some(request) => self.decide(slot, &request, now),
            None => return Next::Read,
        };
        if matches!(handled, Handled::History(_)) && self.is_history_put_off() {
            // The request stays in the reader until the requests put off before it are answered.
            self.put_off_history(slot);
            exchange.timed = None;
            return self.wait_for_bytes(slot, exchange, now);
        }
        let handled = match handled {
            Handled::Judging(name, lane, to) => {
                return self.judge(slot, exchange, (name, lane), to, now);
            }
            handled => handled,
        };
        exchange.reader.consume();
        match handled {
            // Returned above.
            Handled::Judging(..) => Next::Wait,
            Handled::Answered(then) => self.send_answer(slot, exchange, then, now),
            Handled::History(request) => self.read_history(slot, exchange, request, now),
            Handled::Counting(session, to) => self.ask_presence(slot, exchange, session, to, now),
            Handled::Publishing(draft, to) => {
                self.wait_for_hub(slot, exchange, draft, now);
                exchange.stage = Stage::Publishing(Publication::native(to));
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

    fn decide(&mut self, slot: usize, request: &Request<'_>, now: Now) -> Handled {
        let connection = &mut self.connections[slot];
        let is_surplus = connection.role == Role::Surplus || !connection.socket.admit(request.head);
        let is_leaving = is_surplus || self.shutdown.is_draining();
        let mut to = self.responder.reply_to(request);
        to.keep_alive &= !is_leaving;
        if let Some(name) = source_name(request.path) {
            return self.decide_source(slot, request, name, to, is_surplus, now);
        }
        match self.route(slot, request, now) {
            Route::Subscribe(subscription) if subscription.head_only => {
                to.keep_alive &= to.version == Version::Http11;
                self.tally.count_request(Endpoint::Stream, 200);
                let shared_ms = self.shared_ms(&subscription, to);
                let framing = self.framing(to, accepts_gzip(request), shared_ms.is_some());
                self.answer_stream_head(to, framing, shared_ms);
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
                let framing = self.framing(to, accepts_gzip(request), shared_ms.is_some());
                let subscriber = Subscriber::new(subscription, shared_ms, framing, to);
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
            Route::ListSources => {
                self.tally.count_request(Endpoint::Sources, 200);
                self.answer_list_of_sources(to);
            }
            Route::Presence(session) => return Handled::Counting(session, to),
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
        now: Now,
    ) -> Option<Then> {
        self.answer.clear();
        let head = reader.head()?;
        let Some(error) = self.error_of_head(slot, &head, now) else {
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
    fn error_of_head(&mut self, slot: usize, head: &Request<'_>, now: Now) -> Option<ErrorAnswer> {
        let connection = &mut self.connections[slot];
        if connection.role == Role::Surplus || !connection.socket.admit(head.head) {
            return Some(FULL);
        }
        if let Some(name) = source_name(head.path) {
            return self.error_of_source_head(slot, head, name, now);
        }
        self.error_of_guesser(slot, head, now).or_else(|| {
            let error = error_before_body(head, &self.access, now.unix_ms, chat::exists);
            error.map(|error| self.note_guess(slot, head, error, now))
        })
    }

    /// The route of a complete request, unless its client has guessed too often.
    fn route<'a>(&mut self, slot: usize, request: &Request<'a>, now: Now) -> Route<'a> {
        if let Some(error) = self.error_of_guesser(slot, request, now) {
            return Route::Error(error);
        }
        match route(request, &self.access, now.unix_ms, chat::exists) {
            Route::Error(error) => Route::Error(self.note_guess(slot, request, error, now)),
            route => route,
        }
    }

    /// The refusal of a request with a secret, right or wrong, if its client has guessed too often. A token is
    /// verified instead: its signature cannot be guessed, so a valid one need not be refused.
    fn error_of_guesser(
        &self,
        slot: usize,
        request: &Request<'_>,
        now: Now,
    ) -> Option<ErrorAnswer> {
        let target = Target::Server(Guess::Secret);
        if !self.settings.guesses.refuses_any() || !compares_secret(request, &self.access) {
            return None;
        }
        self.error_of_refused(target, self.guesser(slot, request), now)
    }

    /// The refusal of a client that has guessed too often.
    pub(super) fn error_of_refused(
        &self,
        target: Target<'_>,
        guesser: Guesser,
        now: Now,
    ) -> Option<ErrorAnswer> {
        let table = &self.settings.guesses;
        let retry_after_s = table.refused_s(target, guesser.client, now)?;
        Some(ErrorAnswer::TooManyGuesses {
            guess: target.guess(),
            retry_after_s,
        })
    }

    /// The answer to a request that gets this error. A guess is counted, or refused as one too many.
    fn note_guess(
        &self,
        slot: usize,
        request: &Request<'_>,
        error: ErrorAnswer,
        now: Now,
    ) -> ErrorAnswer {
        let Some(guess) = error.guess() else {
            return error;
        };
        let guesser = self.guesser(slot, request);
        let refusal = self.note_guess_of(Target::Server(guess), guesser, now);
        refusal.unwrap_or(error)
    }

    /// Counts a guess. Returns the refusal if it is one too many.
    pub(super) fn note_guess_of(
        &self,
        target: Target<'_>,
        guesser: Guesser,
        now: Now,
    ) -> Option<ErrorAnswer> {
        if let Some(refusal) = self.error_of_refused(target, guesser, now) {
            return Some(refusal);
        }
        let table = &self.settings.guesses;
        let Guesser {
            client,
            is_forwarded,
        } = guesser;
        if table.note(target, client, now) {
            // One line for an attack, however many clients take part.
            let hint = if is_forwarded {
                "; if it is a proxy, name it with --trusted-proxy"
            } else {
                ""
            };
            tracing::warn!(%client, "too many wrong {target}; refused for a minute{hint}");
        }
        if is_forwarded && client == Client::Unknown && table.note_unnamed() {
            tracing::warn!(
                "a wrong secret or token, whose client no trusted proxy names: such guesses are not limited; name the proxy with --trusted-proxy"
            );
        }
        None
    }

    /// The client that a guess counts for. A proxy on this machine that is not a trusted one must not lock out
    /// all its clients.
    pub(super) fn guesser(&self, slot: usize, request: &Request<'_>) -> Guesser {
        let is_forwarded = is_forwarded(request.head);
        let client = match self.connections[slot].socket.limited_client() {
            Client::Address(address) if is_forwarded && address.to_canonical().is_loopback() => {
                Client::Unknown
            }
            client => client,
        };
        Guesser {
            client,
            is_forwarded,
        }
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
        let error = head.and_then(|head| Some((self.error_of_head(slot, &head, now)?, head)));
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
                // After a hang-up no event follows for the end of the peer's bytes, nor for one that TLS has
                // received.
                connection.readable = bytes == self.read_buffer.len()
                    || connection.hung_up
                    || connection.socket.has_end();
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
    pub(super) fn wait_for_bytes(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        now: Now,
    ) -> Next {
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
