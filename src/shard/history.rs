//! The history by request: an answer at once, or after a wait for news (a long poll).
//!
//! Part of the shard. Called by `requests`, and by `turn` for requests that were put off and long polls
//! that are due. For clients behind proxies that hold streams back. The path of a request: `read_history` →
//! (`wait` and `keep`, which enter the request into a sweep → after a message, a turnover, a deadline, a hang-up
//! or in a drain: `answer_waiting`) → `send_answer`. A stream whose event id is ahead of this node waits in
//! the same way, and `answer_waiting` opens it.
//!
//! A request of a hundred bytes may cause an answer of 1 MiB, and thousands of long polls may wait
//! for the same message. So these answers are made one by one ([`Shard::answer_next_history`]),
//! with a budget of bytes in each turn of the shard. They alternate between requests that were put
//! off and long polls that are due. Never reads a request.

use std::collections::VecDeque;

use crate::clock::Now;
use crate::http::{ErrorAnswer, Moment, etag};
use crate::limits::{
    ANSWER_KEEP_BYTES, HISTORY_ANSWER_BYTES_MAX, HISTORY_TURN_BYTES, WAITS_PER_LOOK,
};
use crate::live_log::View;
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::connection::{State, Token, Unfinished};
use crate::shard::exchange::{Exchange, Next, Stage, Then};
use crate::shard::membership::Holder;
use crate::shard::pages::{Encoded, Representation};
use crate::shard::resumption::ResumePoint;
use crate::shard::transport::Transport;
use crate::shard::waiting::{AheadRequest, Awaited, HistoryRequest, Waiting};
use crate::tokens::TokenFault;

/// The work of a shard on requests for the history, with its budget.
#[derive(Default)]
pub(super) struct Histories {
    /// Bytes of the answers that were made in this turn.
    turn_bytes: usize,
    /// Connections whose next request is for the history, and was put off.
    put_off: VecDeque<Token>,
    /// The next answer is for a long poll, if one is due, before a request that was put off.
    prefers_long_polls: bool,
    /// The page that was encoded last.
    pub(super) encoded: Encoded,
}

/// An answer, before its body is encoded.
struct Answer {
    representation: Representation,
    etag: String,
    /// The client has this body already.
    is_known: bool,
    /// It contains nothing new for the client.
    is_idle: bool,
}

/// For answers that all clients may see. A shared cache in front answers most polls, at most one
/// second late.
const PUBLIC: &str = "public, max-age=0, s-maxage=1";
const PRIVATE: &str = "private, no-store";

impl<S: Transport> Shard<S> {
    /// Answers a request for the history, or lets it wait until this node has reached its event id.
    pub(super) fn read_history(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        mut request: HistoryRequest,
        now: Now,
    ) -> Next {
        // A wait does not move a relative time.
        request.from = request
            .from
            .map(|moment| Moment::At(moment.unix_ms(now.unix_ms)));
        if self.resume_point(request.since) == ResumePoint::Ahead
            && !request.to.head_only
            && self.may_wait(slot, exchange, request.held_bytes(), Then::Continue, now)
        {
            return self.await_reach(slot, exchange, AheadRequest::History(request), now);
        }
        self.read_reached(slot, exchange, request, now)
    }

    /// Answers a request for the history, or lets it wait as a long poll. An event id that is still ahead
    /// counts as unknown.
    fn read_reached(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        request: HistoryRequest,
        now: Now,
    ) -> Next {
        let view = self.hold_view(&request.view);
        let held_bytes = request.held_bytes() + view.held_bytes();
        let answer = self.look_up(view, &request);
        if answer.is_idle
            && request.wait_ms > 0
            && self.may_wait(slot, exchange, held_bytes, Then::Continue, now)
        {
            let life_ms = request
                .token
                .map_or(u64::MAX, |life| life.expires_ms.saturating_sub(now.unix_ms));
            let deadline_ms = now.mono_ms + request.wait_ms.min(life_ms);
            let end = self.log.end(view);
            let awaited = Awaited::News { end, request };
            return self.wait(slot, exchange, view, awaited, deadline_ms);
        }
        self.release_view(view);
        self.answer_history(&request, &answer);
        self.send_history(slot, exchange, Then::after(request.to), now)
    }

    /// Continues with a request that has waited, because there is news or because its wait is over.
    pub(super) fn answer_waiting(&mut self, slot: usize, now: Now) {
        let Some(mut exchange) = self.connections.take_exchange(slot) else {
            return;
        };
        let next = match std::mem::replace(&mut exchange.stage, Stage::Reading) {
            Stage::Waiting(waiting) => self.end_wait(slot, &mut exchange, *waiting, now),
            stage => {
                exchange.stage = stage;
                Next::Wait
            }
        };
        self.proceed(slot, exchange, next, now);
    }

    /// Answers a request whose token has ended during its wait, or whose key is gone.
    fn refuse_token(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        waiting: &Waiting,
        fault: TokenFault,
        now: Now,
    ) -> Next {
        let (mut to, endpoint) = waiting.reply_to();
        to.keep_alive &= !self.shutdown.is_draining();
        self.answer.clear();
        let error = ErrorAnswer::TokenRefused(fault);
        self.write_refusal(to, endpoint, error, Counter::RefusedUnauthorized);
        self.send_answer(slot, exchange, Then::after(to), now)
    }

    fn end_wait(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        waiting: Waiting,
        now: Now,
    ) -> Next {
        let fault = waiting.token().and_then(|life| self.token_fault(life, now));
        if let Some(fault) = fault {
            self.forget_place(slot, &waiting.place);
            return self.refuse_token(slot, exchange, &waiting, fault, now);
        }
        let is_draining = self.shutdown.is_draining();
        match waiting.awaited {
            Awaited::News { mut request, .. } => {
                request.to.keep_alive &= !is_draining;
                let answer = self.look_up(waiting.place.view, &request);
                self.forget_place(slot, &waiting.place);
                self.answer_history(&request, &answer);
                self.send_history(slot, exchange, Then::after(request.to), now)
            }
            Awaited::Reach(AheadRequest::History(mut request)) => {
                self.forget_place(slot, &waiting.place);
                self.count_reach(slot, request.since, now);
                request.to.keep_alive &= !is_draining;
                if request.wait_ms > 0 {
                    let waited_ms = self.waited_ms(slot, now);
                    // Never zero: a cache must not keep the empty answer to a long poll.
                    request.wait_ms = request.wait_ms.saturating_sub(waited_ms).max(1);
                }
                self.read_reached(slot, exchange, request, now)
            }
            Awaited::Reach(AheadRequest::Stream(subscriber)) => {
                self.forget_place(slot, &waiting.place);
                self.count_reach(slot, subscriber.last_id, now);
                self.begin_stream(slot, exchange, &subscriber, now)
            }
        }
    }

    /// Marks the request of a connection as due, if it waits.
    pub(super) fn wake(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && let State::Exchange(exchange) = &mut connection.state
            && let Some(waiting) = exchange.waiting_mut()
        {
            waiting.is_due = true;
            self.enqueue(slot);
        }
    }

    /// Whether this turn answers no further request for the history.
    pub(super) fn is_history_put_off(&self) -> bool {
        self.histories.turn_bytes >= HISTORY_TURN_BYTES
    }

    /// Puts off a connection whose next request is for the history:
    /// [`Shard::answer_next_history`] continues with it.
    pub(super) fn put_off_history(&mut self, slot: usize) {
        let token = self.connections.token_of(slot);
        let was = std::mem::replace(&mut self.connections[slot].unfinished, Unfinished::PutOff);
        if was == Unfinished::No {
            self.histories.put_off.push_back(token);
        }
    }

    /// Whether requests for the history are put off, or long polls may be due.
    pub(super) fn has_history_work(&self) -> bool {
        !self.histories.put_off.is_empty() || !self.sweeps.waits.is_idle()
    }

    /// Continues one request for the history: alternately the first that was put off and the next
    /// long poll that is due. Returns the bytes of answers that this made, or `None` when there
    /// is nothing to do. A request that is put off again is not tried twice in a turn, as long as
    /// the caller stops at [`HISTORY_TURN_BYTES`].
    pub fn answer_next_history(&mut self, now: Now) -> Option<usize> {
        if !self.has_history_work() {
            return None;
        }
        let histories = &mut self.histories;
        let spent = std::mem::take(&mut histories.turn_bytes);
        histories.prefers_long_polls = !histories.prefers_long_polls;
        let is_for_long_poll = histories.prefers_long_polls && !self.sweeps.waits.is_idle();
        if histories.put_off.is_empty() || is_for_long_poll {
            self.answer_next_wait(now);
        } else if let Some(token) = histories.put_off.pop_front() {
            self.resume_connection(token, now);
        }
        Some(std::mem::replace(&mut self.histories.turn_bytes, spent))
    }

    /// Answers one of the next [`WAITS_PER_LOOK`] long polls in the sweep, if one is due.
    fn answer_next_wait(&mut self, now: Now) {
        for _ in 0..WAITS_PER_LOOK {
            let Some(candidate) = self.sweeps.waits.next() else {
                return;
            };
            let slot = self.slot_of_candidate(candidate, Holder::Wait);
            if let Some(slot) = slot.filter(|&slot| self.may_answer(slot)) {
                return self.answer_waiting(slot, now);
            }
        }
    }

    /// Whether the wait of a request is over.
    fn may_answer(&self, slot: usize) -> bool {
        let connection = self.connections.get(slot);
        let waiting = connection.and_then(|connection| connection.state.waiting());
        waiting.is_some_and(|waiting| waiting.is_due || self.has_arrived(waiting))
    }

    /// Whether what a request waits for has arrived.
    fn has_arrived(&self, waiting: &Waiting) -> bool {
        match &waiting.awaited {
            Awaited::News { end, .. } => self.log.has_news(waiting.place.view, end),
            Awaited::Reach(request) => self.resume_point(request.sent_id()) != ResumePoint::Ahead,
        }
    }

    /// Ends the turn's budget; the next turn may make as many bytes again.
    pub fn end_turn(&mut self) {
        self.histories.turn_bytes = 0;
    }

    /// Decides the answer to a request, without encoding it.
    fn look_up(&self, view: View, request: &HistoryRequest) -> Answer {
        let point = match request.from {
            Some(moment) => self.point_of_time(moment.unix_ms(0)),
            None => self.resume_point(request.since),
        };
        let after = match point {
            ResumePoint::After(seq) => Some(seq),
            ResumePoint::Start | ResumePoint::Ahead | ResumePoint::Unknown => None,
        };
        let page = self
            .log
            .page(view, after, request.limit, HISTORY_ANSWER_BYTES_MAX);
        let place = match request.from {
            // Otherwise the id would tell when messages came that the client may not see.
            Some(_) if page.seqs.is_empty() => {
                after.and_then(|seq| self.log.last_visible(view, seq))
            }
            _ => after,
        };
        let epoch = self.resumption.lineage.epoch();
        let representation = Representation::new(epoch, page, point, place);
        let etag = representation.etag();
        let known = request.if_none_match.as_deref();
        let is_known = known.is_some_and(|tags| etag::any_matches(tags, &etag));
        Answer {
            is_idle: is_known || representation.is_empty(),
            representation,
            etag,
            is_known,
        }
    }

    /// Encodes the answer into `Shard::answer`. An empty answer after a wait must not be cached:
    /// the cache would answer the next wait at once, and the client would poll without a pause.
    fn answer_history(&mut self, request: &HistoryRequest, answer: &Answer) {
        let status = if answer.is_known { 304 } else { 200 };
        self.tally.count_request(Endpoint::Messages, status);
        let is_shared = request.is_public && !(answer.is_idle && request.wait_ms > 0);
        let cache_control = if is_shared { PUBLIC } else { PRIVATE };
        let fields = [
            ("ETag", answer.etag.as_str()),
            ("Access-Control-Expose-Headers", "ETag"),
            ("Cache-Control", cache_control),
            // A cache must not answer a request with a secret or a token by a response to one without.
            ("Vary", self.access.vary()),
            ("X-Content-Type-Options", "nosniff"),
        ];
        let content = (!answer.is_known).then_some(("Content-Type", "application/json"));
        let fields = fields.into_iter().chain(content);
        self.answer.clear();
        let (to, out) = (request.to, &mut self.answer);
        if answer.is_known {
            self.responder.representation(to, true, fields, &[], out);
        } else if to.head_only {
            let body_bytes = answer.representation.body_bytes(&self.log);
            self.responder
                .representation_head(to, fields, body_bytes, out);
        } else {
            let (body, is_new) = self
                .histories
                .encoded
                .body(&answer.representation, &self.log);
            self.tally
                .count(Counter::HistoryEncodings, u64::from(is_new));
            self.responder.representation(to, false, fields, body, out);
        }
        self.histories.turn_bytes += self.answer.len();
    }

    /// Sends the answer, and frees the buffer of a large one.
    fn send_history(&mut self, slot: usize, exchange: &mut Exchange, then: Then, now: Now) -> Next {
        let next = self.send_answer(slot, exchange, then, now);
        if self.answer.capacity() > ANSWER_KEEP_BYTES {
            self.answer = Vec::new();
        }
        next
    }
}
