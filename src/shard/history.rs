//! The history by request: answers at once, or when there is something to tell.
//!
//! Part of the shard, called by `requests`, for clients that no stream reaches. The path of a request:
//! `read_history` → (`wait`, with a place in a sweep → visited after a message, or due by a deadline,
//! a hang-up or the drain → `answer_waiting`) → `send_answer`.
//!
//! An answer may be a MiB where its request is a hundred bytes, and thousands may wait for the same
//! message. So history has turns of its own ([`Shard::answer_next_history`]), of requests that were
//! put off and of those that wait, with a budget of bytes in each turn of the shard. Never reads a
//! request.

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
    /// The client has this very body.
    is_known: bool,
    /// It tells nothing new.
    is_idle: bool,
}

/// What everyone may see is the same for everyone: a shared cache in front answers most polls, and is
/// at most a second late.
const PUBLIC: &str = "public, max-age=0, s-maxage=1";
const PRIVATE: &str = "private, no-store";

impl<S: Transport> Shard<S> {
    /// Answers a request for the history, or lets it wait. Returns the reader when the next request
    /// may follow.
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
            // Others may end for this room, so it is for what is kept, and for nothing else.
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

    /// Answers a request that waits: there is something to tell, or it is time to say that there is
    /// not. Returns the reader when the next request may follow.
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

    /// Makes a request that waits due, if that is what the connection does.
    pub(super) fn wake(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && let State::Waiting(waiting) = &mut connection.state
        {
            waiting.is_due = true;
            self.enqueue(slot);
        }
    }

    /// Whether a request for the history is not to be answered in this turn any more.
    pub(super) fn is_history_put_off(&self) -> bool {
        self.history_bytes >= HISTORY_TURN_BYTES
    }

    /// Leaves a connection, whose next request is for the history, to
    /// [`Shard::answer_next_history`].
    pub(super) fn put_off_history(&mut self, slot: usize) {
        let token = self.token_of(slot);
        if !std::mem::replace(&mut self.connections[slot].is_unfinished, true) {
            self.put_off.push_back(token);
        }
    }

    /// Whether requests for the history are put off, or some that wait are to be looked at.
    pub(super) fn has_history_work(&self) -> bool {
        !self.put_off.is_empty() || !self.waits.is_idle()
    }

    /// Goes on with one request for the history: the first that was put off, or the next of those
    /// that wait and may be answered now, by turns. Tells how many bytes of answers that made, or
    /// `None` when there is nothing to do. One that is put off again is not tried twice in a turn, as
    /// long as the caller stops at [`HISTORY_TURN_BYTES`].
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

    /// Answers the next request that waits, if one of the next few may be answered.
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

    /// Whether a request waits no longer.
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

    /// What a request is to be answered with. Encodes nothing.
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

    /// Puts the answer into `Shard::answer`. An empty one after a wait is not to be stored: it would
    /// be served to the next wait at once, and the client would ask as fast as it can.
    fn answer_history(&mut self, request: &HistoryRequest, answer: &Answer) {
        let status = if answer.is_known { 304 } else { 200 };
        self.tally.count_request(Endpoint::Messages, status);
        let is_shared = request.is_public && !(answer.is_idle && request.wait_ms > 0);
        let cache_control = if is_shared { PUBLIC } else { PRIVATE };
        let fields = [
            ("ETag", answer.etag.as_str()),
            ("Access-Control-Expose-Headers", "ETag"),
            ("Cache-Control", cache_control),
            // One that presents a secret must not be given what was stored for one that did not.
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

    /// Sends the answer, and gives back the room that a long one took.
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
