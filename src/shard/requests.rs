//! From bytes to answers: reads requests, decides, answers; hands webhooks to the hub's queue and
//! subscriptions to `streams`.
//!
//! Part of the shard. The path of a webhook: [`Shard::read_requests`] → [`Shard::handle_request`] →
//! (the hub, at the end of the turn) → [`Shard::answer_webhook`] → [`Shard::send_answer`]. One
//! request at a time per connection: what is pipelined behind it waits in the reader.

use crate::clock::Now;
use crate::http::response::CONTINUE;
use crate::http::route::error_before_body;
use crate::http::{ErrorAnswer, Phase, Progress, Refusal, ReplyTo, RequestReader, Route, route};
use crate::hub::{NotStored, Receipt};
use crate::limits::{
    LINGER_BYTES_MAX, LINGER_MS, READS_PER_TURN, REQUEST_DEADLINE_MS, RETRY_AFTER_S, STALL_MS,
};
use crate::shard::connection::{Answering, NO_DEADLINE, Role, State, Then};
use crate::shard::socket::{Socket, Transfer};
use crate::shard::streams::Subscriber;
use crate::shard::{Shard, Token};
use crate::window;

/// What a request that is whole comes to.
enum Handled {
    /// The answer is in `Shard::answer`.
    Answered(Then),
    /// The answer comes from the hub.
    Published(ReplyTo),
    /// The connection becomes a stream.
    Subscribed(Subscriber),
}

impl<S: Socket> Shard<S> {
    /// Reads and answers requests until the socket has no more bytes, an answer has to wait, or
    /// it is somebody else's turn.
    pub(super) fn read_requests(&mut self, slot: usize, now: Now) {
        let connection = &mut self.connections[slot];
        let (mut reader, phase) = match std::mem::replace(&mut connection.state, State::Idle) {
            State::Reading(reader, phase) => (reader, phase),
            State::Idle => (self.take_reader(), Phase::Head),
            other => {
                // Not the time to read: an edge is remembered, and comes back to here later.
                connection.state = other;
                return;
            }
        };
        for _ in 0..READS_PER_TURN {
            match reader.poll() {
                Ok(Progress::Complete) => match self.handle_request(slot, &mut reader, now) {
                    Some(after) => reader = after,
                    None => return,
                },
                Ok(progress) => {
                    if progress == Progress::WantsContinue && !self.invite_body(slot, &mut reader) {
                        return self.send_answer(slot, reader, Then::Close, now);
                    }
                    match self.read_more(slot, &mut reader) {
                        Read::Some => {}
                        Read::None => return self.wait_for_bytes(slot, reader, phase, now),
                        Read::Over => {
                            self.give_reader(reader);
                            return self.close(slot);
                        }
                    }
                }
                Err(refusal) => return self.refuse(slot, reader, refusal, now),
            }
        }
        self.unfinished.push(self.token_of(slot));
        self.wait_for_bytes(slot, reader, phase, now);
    }

    /// Answers a webhook, now that the hub has spoken, and goes on with the connection.
    pub(super) fn answer_webhook(
        &mut self,
        slot: usize,
        outcome: &Result<Receipt, NotStored>,
        now: Now,
    ) {
        let connection = &mut self.connections[slot];
        let (reader, to) = match std::mem::replace(&mut connection.state, State::Idle) {
            State::Publishing(reader, to) => (reader, to),
            other => {
                debug_assert!(false, "only a webhook is published");
                connection.state = other;
                return;
            }
        };
        self.answer.clear();
        match outcome {
            Ok(receipt) => {
                let timestamp_ms = receipt.timestamp_ms;
                self.responder.published(to, receipt.id, timestamp_ms, &mut self.answer);
                self.tally.webhooks += 1;
            }
            Err(error) => {
                self.tally.webhooks_failed += 1;
                tracing::error!(%error, "a webhook could not be stored");
                self.responder.error(to, ErrorAnswer::Internal, &mut self.answer);
            }
        }
        self.send_answer(slot, reader, Then::after(to), now);
    }

    /// Goes on with an answer that the socket did not take whole.
    pub(super) fn resume_answer(&mut self, slot: usize, now: Now) {
        let connection = &mut self.connections[slot];
        let State::Answering(answering) = &mut connection.state else {
            return;
        };
        let rest = &answering.bytes[answering.sent..];
        match Transfer::of(|| connection.socket.write(&[std::io::IoSlice::new(rest)])) {
            Transfer::Bytes(bytes) => {
                self.tally.bytes_sent += bytes as u64;
                answering.sent += bytes;
                connection.deadline_ms = now.mono_ms + STALL_MS;
            }
            Transfer::WouldBlock => return,
            Transfer::Failed => return self.close(slot),
        }
        if answering.sent < answering.bytes.len() {
            return;
        }
        if let State::Answering(answering) = std::mem::replace(&mut connection.state, State::Idle) {
            self.after_answer(slot, answering.reader, answering.then, now);
        }
    }

    /// The head or the body has not come in time (408).
    pub(super) fn refuse_slow(&mut self, slot: usize, now: Now) {
        let state = &mut self.connections[slot].state;
        if let State::Reading(reader, _) = std::mem::replace(state, State::Idle) {
            self.refuse(slot, reader, Refusal::TooSlow, now);
        }
    }

    /// Reads and drops what a refused peer still sends.
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

    /// Decides on a whole request and acts on it. Gives the reader back when the next request can
    /// be read straight away.
    fn handle_request(
        &mut self,
        slot: usize,
        reader: &mut Box<RequestReader>,
        now: Now,
    ) -> Option<Box<RequestReader>> {
        let handled = self.decide(slot, reader, now);
        reader.consume();
        let reader = std::mem::take(reader);
        match handled {
            Handled::Answered(then) => self.send_answer_and_go_on(slot, reader, then, now),
            Handled::Published(to) => {
                self.publishers.push_back(self.token_of(slot));
                let connection = &mut self.connections[slot];
                connection.deadline_ms = NO_DEADLINE;
                connection.state = State::Publishing(reader, to);
                None
            }
            Handled::Subscribed(subscriber) => {
                // Whatever is pipelined behind a stream would have to wait for its end: for ever.
                self.give_reader(reader);
                self.subscribe(slot, subscriber, now);
                None
            }
        }
    }
}
