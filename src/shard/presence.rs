//! Presence: how many open streams see a session. Counts those of this shard, and asks the others.
//!
//! Part of the shard. The path of a question: `requests` → [`Shard::ask_presence`] →
//! [`Shard::take_questions`], from where the turn sends it to the other shards, and with a bus to the thread that knows
//! the counts of other nodes. Each adds its count
//! ([`Shard::count_streams`]), and the last one sends the question back: [`Shard::take_count`] → `send_answer`.
//! Only streams of the session count: long polls do not, nor do streams that see everything. A stream costs
//! nothing for this. Never waits, never shows the name of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::clock::Now;
use crate::http::{ErrorAnswer, ReplyTo, Status};
use crate::limits::{PRESENCE_QUESTIONS_MAX, PRESENCE_WAIT_MS_MAX, RETRY_AFTER_S};
use crate::message::SessionId;
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::census::Changes;
use crate::shard::connection::Token;
use crate::shard::exchange::{Counting, Exchange, Next, Stage, Then};
use crate::shard::transport::Transport;

/// The answer to a question that not all have answered, or that there is no room for.
const NO_COUNT: ErrorAnswer = ErrorAnswer::Unavailable {
    retry_after_s: RETRY_AFTER_S,
};

/// A question for the number of streams of a session, shared by all that count.
#[derive(Debug)]
pub struct Question {
    session: SessionId,
    /// The connection that asks.
    token: Token,
    /// Counts that are missing. That of the shard that asks is one until it adds its own.
    missing: AtomicU32,
    streams: AtomicU64,
    /// A count will never be added.
    is_incomplete: AtomicBool,
}

impl Question {
    fn new(session: SessionId, token: Token) -> Question {
        Question {
            session,
            token,
            missing: AtomicU32::new(1),
            streams: AtomicU64::new(0),
            is_incomplete: AtomicBool::new(false),
        }
    }

    /// The session.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Makes the question wait for one count more. Called before it is sent, and before the shard that asks
    /// adds its count.
    pub fn expect(&self) {
        self.missing.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds a count. Returns whether it was the last.
    #[must_use]
    pub fn add(&self, streams: u64) -> bool {
        self.streams.fetch_add(streams, Ordering::Relaxed);
        self.missing.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Notes that an expected count is not known. Returns whether it was the last.
    #[must_use]
    pub fn give_up(&self) -> bool {
        self.is_incomplete.store(true, Ordering::Relaxed);
        self.add(0)
    }

    /// The sum, once the last count was added; none if one is not known.
    fn streams(&self) -> Option<u64> {
        let is_complete = !self.is_incomplete.load(Ordering::Relaxed);
        is_complete.then(|| self.streams.load(Ordering::Relaxed))
    }
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Presence {
    /// Questions that the turn has not yet sent.
    outgoing: Vec<Arc<Question>>,
    /// Connections whose question waits for counts.
    waiting: usize,
    /// Sessions that have changed; only with a bus.
    pub(super) changes: Option<Changes>,
}

impl Presence {
    /// Whether the turn has yet to send questions.
    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Forgets a connection whose question has waited.
    pub(super) fn forget(&mut self) {
        self.waiting -= 1;
    }

    /// Questions that wait for counts.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

impl<S: Transport> Shard<S> {
    /// Asks for the number of streams of a session. The exchange waits for it.
    pub(super) fn ask_presence(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        session: SessionId,
        to: ReplyTo,
        now: Now,
    ) -> Next {
        exchange.shrink_reader(Then::after(to));
        let question = Question::new(session, self.connections.token_of(slot));
        let counting = Counting {
            to,
            question: Arc::new(question),
        };
        let held_bytes = exchange.reader.held_bytes() + counting.held_bytes();
        if self.presence.waiting >= PRESENCE_QUESTIONS_MAX || !self.make_room(slot, held_bytes, now)
        {
            self.write_refusal(to, Endpoint::Presence, NO_COUNT, Counter::RefusedOverload);
            return self.send_answer(slot, exchange, Then::after(to), now);
        }
        self.presence.waiting += 1;
        self.presence.outgoing.push(Arc::clone(&counting.question));
        self.connections[slot].deadline_ms = now.mono_ms + PRESENCE_WAIT_MS_MAX;
        exchange.stage = Stage::Counting(Box::new(counting));
        Next::Wait
    }

    /// Questions for the other shards since the last call.
    pub fn take_questions(&mut self) -> Vec<Arc<Question>> {
        std::mem::take(&mut self.presence.outgoing)
    }

    /// Adds the streams of this shard to a question. Returns whether its count was the last.
    pub fn count_streams(&self, question: &Question) -> bool {
        question.add(self.log.streams_of(&question.session).into())
    }

    /// Answers a question to which all counts were added. The connection may have closed meanwhile, and the
    /// wait may be over.
    pub fn take_count(&mut self, question: &Arc<Question>, now: Now) {
        let Some(slot) = self.connections.slot_of(question.token) else {
            return;
        };
        if let Some(Stage::Counting(counting)) = self.connections[slot].state.stage()
            && Arc::ptr_eq(&counting.question, question)
        {
            self.answer_presence(slot, question.streams(), now);
        }
    }

    /// Ends the wait of a question to which a count is still missing.
    pub(super) fn give_up_presence(&mut self, slot: usize, now: Now) {
        self.answer_presence(slot, None, now);
    }

    fn answer_presence(&mut self, slot: usize, streams: Option<u64>, now: Now) {
        let Some(mut exchange) = self.connections.take_exchange(slot) else {
            return;
        };
        let Stage::Counting(counting) = std::mem::replace(&mut exchange.stage, Stage::Reading)
        else {
            debug_assert!(false, "only a question is answered with a count");
            return;
        };
        self.presence.forget();
        let mut to = counting.to;
        to.keep_alive &= !self.shutdown.is_draining();
        self.answer.clear();
        match streams {
            Some(streams) => self.write_presence(to, streams),
            None => {
                self.write_refusal(to, Endpoint::Presence, NO_COUNT, Counter::RefusedOverload);
            }
        }
        let next = self.send_answer(slot, &mut exchange, Then::after(to), now);
        self.proceed(slot, exchange, next, now);
    }

    fn write_presence(&mut self, to: ReplyTo, streams: u64) {
        self.tally.count_request(Endpoint::Presence, 200);
        let mut digits = itoa::Buffer::new();
        let body = ["{\"streams\":", digits.format(streams), "}"].concat();
        let fields = [
            ("Content-Type", "application/json"),
            ("Cache-Control", "private, no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        self.responder
            .document(to, Status::Ok, fields, body.as_bytes(), &mut self.answer);
    }
}
