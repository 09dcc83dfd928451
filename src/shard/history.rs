//! The history by request: an answer at once, or after a wait for news (a long poll).
//!
//! Part of the shard, called by `requests`, for clients behind proxies that hold streams back. The
//! path of a request: `read_history` → (`wait`, with a place in a sweep → visited after a message,
//! or due by a deadline, a hang-up or the drain → `answer_waiting`) → `send_answer`.
//!
//! A request of a hundred bytes may cause an answer of 1 MiB, and thousands of long polls may wait
//! for the same message. So these answers are made one by one ([`Shard::answer_next_history`]),
//! with a budget of bytes in each turn of the shard. They alternate between requests that were put
//! off and long polls that are due. Never reads a request.

use crate::clock::Now;
use crate::http::{RequestReader, etag};
use crate::limits::{
    ANSWER_KEEP_BYTES, HISTORY_ANSWER_BYTES_MAX, HISTORY_TURN_BYTES, WAITS_PER_LOOK,
};
use crate::live_log::View;
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::connection::{State, Then};
use crate::shard::membership::{Holder, Place};
use crate::shard::pages::Representation;
use crate::shard::transport::Transport;
use crate::shard::waiting::{HistoryRequest, Since, Waiting};

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
    /// Answers a request for the history, or lets it wait as a long poll. Returns the reader when the
    /// next request may follow.
    pub(super) fn read_history(
        &mut self,
        slot: usize,
        mut reader: Box<RequestReader>,
        mut request: HistoryRequest,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        let view = self.hold_view(&request.view);
        let answer = self.look_up(view, &request);
        let may_wait = request.wait_ms > 0 && self.drain.is_none();
        if answer.is_idle && may_wait && !self.connections[slot].hung_up {
            let waiting = Box::new(Waiting {
                place: Place::new(view, Holder::Wait),
                end: self.log.end(view),
                is_due: false,
                request,
                reader: self.keep_reader(reader, Then::Continue),
            });
            // This may end other connections, so it asks only for the bytes that are kept.
            if self.make_room(slot, waiting.held_bytes(), now) {
                self.wait(slot, waiting, now);
                return None;
            }
            request = waiting.request;
            reader = waiting.reader.unwrap_or_else(|| self.take_reader());
        }
        self.release_view(view);
        self.answer_history(&request, &answer);
        self.send_history(slot, reader, Then::after(request.to), now)
    }

    /// Answers a long poll, because there is news or because its wait is over. Returns the reader
    /// when the next request may follow.
    pub(super) fn answer_waiting(&mut self, slot: usize, now: Now) -> Option<Box<RequestReader>> {
        let mut waiting = match self.take_state(slot) {
            State::Waiting(waiting) => *waiting,
            other => {
                self.set_state(slot, other, now);
                return None;
            }
        };
        waiting.request.to.keep_alive &= self.drain.is_none();
        let answer = self.look_up(waiting.place.view, &waiting.request);
        self.forget_place(slot, &waiting.place);
        self.answer_history(&waiting.request, &answer);
        let reader = waiting.reader.unwrap_or_else(|| self.take_reader());
        let then = Then::after(waiting.request.to);
        self.send_history(slot, reader, then, now)
    }

    /// Marks the long poll of a connection as due, if it has one.
    pub(super) fn wake(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && let State::Waiting(waiting) = &mut connection.state
        {
            waiting.is_due = true;
            self.enqueue(slot);
        }
    }

    /// Whether this turn answers no further request for the history.
    pub(super) fn is_history_put_off(&self) -> bool {
        self.history_bytes >= HISTORY_TURN_BYTES
    }

    /// Puts off a connection whose next request is for the history:
    /// [`Shard::answer_next_history`] continues with it.
    pub(super) fn put_off_history(&mut self, slot: usize) {
        let token = self.token_of(slot);
        if !std::mem::replace(&mut self.connections[slot].is_unfinished, true) {
            self.put_off.push_back(token);
        }
    }

    /// Whether requests for the history are put off, or long polls may be due.
    pub(super) fn has_history_work(&self) -> bool {
        !self.put_off.is_empty() || !self.waits.is_idle()
    }

    /// Continues one request for the history: alternately the first that was put off and the next
    /// long poll that is due. Returns the bytes of answers that this made, or `None` when there
    /// is nothing to do. A request that is put off again is not tried twice in a turn, as long as
    /// the caller stops at [`HISTORY_TURN_BYTES`].
    pub fn answer_next_history(&mut self, now: Now) -> Option<usize> {
        if !self.has_history_work() {
            return None;
        }
        let spent = std::mem::take(&mut self.history_bytes);
        self.is_turn_of_waits = !self.is_turn_of_waits;
        if self.put_off.is_empty() || (self.is_turn_of_waits && !self.waits.is_idle()) {
            self.answer_next_wait(now);
        } else if let Some(token) = self.put_off.pop_front() {
            self.take_up(token, now);
        }
        Some(std::mem::replace(&mut self.history_bytes, spent))
    }

    /// Answers one of the next [`WAITS_PER_LOOK`] long polls in the sweep, if one is due.
    fn answer_next_wait(&mut self, now: Now) {
        for _ in 0..WAITS_PER_LOOK {
            let Some(candidate) = self.waits.next() else {
                return;
            };
            let slot = self.slot_of_candidate(candidate, Holder::Wait);
            if let Some(slot) = slot.filter(|&slot| self.may_answer(slot)) {
                return self.end_wait(slot, now);
            }
        }
    }

    /// Whether the wait of a long poll is over.
    fn may_answer(&self, slot: usize) -> bool {
        match self
            .connections
            .get(slot)
            .map(|connection| &connection.state)
        {
            Some(State::Waiting(waiting)) => {
                waiting.is_due || self.log.has_news(waiting.place.view, &waiting.end)
            }
            _ => false,
        }
    }

    fn wait(&mut self, slot: usize, waiting: Box<Waiting>, now: Now) {
        let view = waiting.place.view;
        self.connections[slot].deadline_ms = now.mono_ms + waiting.request.wait_ms;
        self.set_state(slot, State::Waiting(waiting), now);
        self.take_place(slot, view, Holder::Wait);
    }

    /// Decides the answer to a request, without encoding it.
    fn look_up(&self, view: View, request: &HistoryRequest) -> Answer {
        let after = match request.since {
            Since::Start | Since::Unknown => None,
            Since::Seq(seq) => Some(seq),
        };
        let page = self
            .log
            .page(view, after, request.limit, HISTORY_ANSWER_BYTES_MAX);
        let representation = Representation::new(self.epoch, page, request.since);
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
            // A cache must not answer a request with a secret by a response to one without.
            ("Vary", "X-Webhook-Secret"),
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
            let (body, is_new) = self.encoded.body(&answer.representation, &self.log);
            self.tally
                .count(Counter::HistoryEncodings, u64::from(is_new));
            self.responder.representation(to, false, fields, body, out);
        }
        self.history_bytes += self.answer.len();
    }

    /// Sends the answer, and frees the buffer of a large one.
    fn send_history(
        &mut self,
        slot: usize,
        reader: Box<RequestReader>,
        then: Then,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        let reader = self.send_answer(slot, reader, then, now);
        if self.answer.capacity() > ANSWER_KEEP_BYTES {
            self.answer = Vec::new();
        }
        reader
    }
}
