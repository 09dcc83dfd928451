//! One request and its answer, and the order of their steps.
//!
//! Part of the shard. A connection has an exchange while a request is read and until its answer is sent.
//! That of a subscription ends when the stream begins. `requests`, `judging`, `presence`, `answers` and `history`
//! make its steps. A step works on an exchange that
//! is out of its connection, and returns what follows ([`Next`]); [`Shard::proceed`] acts on that.
//! Never reads or writes a socket.

use std::sync::Arc;

use crate::clock::Now;
use crate::http::{Phase, ReplyTo, RequestReader};
use crate::limits::POOLED_EXCHANGES_MAX;
use crate::metrics::Endpoint;
use crate::shard::Shard;
use crate::shard::connection::State;
use crate::shard::judging::{SourceGuesser, Ticket};
use crate::shard::membership::Holder;
use crate::shard::presence::Question;
use crate::shard::transport::Transport;
use crate::shard::waiting::Waiting;
use crate::sources::Success;

/// See the module's description.
pub(super) struct Exchange {
    /// The bytes of the request, and of pipelined ones behind it.
    pub(super) reader: RequestReader,
    /// The phase of the request to which the connection's deadline belongs; none between two requests.
    pub(super) timed: Option<Phase>,
    /// The head was judged. If it alone decided an error, that was answered.
    pub(super) is_judged: bool,
    pub(super) stage: Stage,
}

/// What an exchange waits for.
pub(super) enum Stage {
    /// The request is incomplete.
    Reading,
    /// A complete request to a source waits for its verdict.
    Judging(Box<Judging>),
    /// A complete question waits for the counts of others.
    Counting(Box<Counting>),
    /// A complete webhook waits for its outcome from the hub.
    Publishing(Publication),
    /// A part of the answer is not sent.
    Answering(Box<Unsent>),
    /// A request for the history waits for a message.
    Waiting(Box<Waiting>),
}

/// A request to a source that waits for its verdict.
#[derive(Debug)]
pub(super) struct Judging {
    pub(super) ticket: Ticket,
    pub(super) to: ReplyTo,
    /// Bytes of the request, which the queue of the judging thread holds.
    pub(super) bytes: usize,
    /// Whose guess a wrong secret is, if the source's secret is sent.
    pub(super) guesser: Option<SourceGuesser>,
}

/// A question how many streams see a session, which waits for its answer.
pub(super) struct Counting {
    pub(super) to: ReplyTo,
    pub(super) question: Arc<Question>,
}

impl Counting {
    /// The bytes allocated for it.
    pub(super) fn held_bytes(&self) -> usize {
        let session_bytes = self.question.session().as_str().len();
        size_of::<Counting>() + size_of::<Question>() + session_bytes
    }
}

/// A message on its way to the hub, as its sender sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publication {
    pub(super) to: ReplyTo,
    /// The answer if it is stored.
    pub(super) success: Success,
    /// What its request counts as.
    pub(super) endpoint: Endpoint,
}

impl Publication {
    /// Of a native webhook.
    pub(super) fn native(to: ReplyTo) -> Publication {
        Publication {
            to,
            success: Success::Receipt,
            endpoint: Endpoint::Webhook,
        }
    }
}

/// An answer of which the socket has taken a part.
pub(super) struct Unsent {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
    pub(super) then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Another request may follow.
    Continue,
    /// The end of the connection.
    Close,
}

impl Then {
    pub(super) fn after(to: ReplyTo) -> Then {
        if to.keep_alive {
            Then::Continue
        } else {
            Then::Close
        }
    }
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Next {
    /// More of the request, or the next one, is read at once.
    Read,
    /// The exchange waits in its connection.
    Wait,
    /// The exchange is over. The connection is idle, a stream, lingering, or closed.
    Over,
}

impl Exchange {
    fn new(reader: RequestReader) -> Exchange {
        Exchange {
            reader,
            timed: None,
            is_judged: false,
            stage: Stage::Reading,
        }
    }

    /// Prepares for the next request. Pipelined bytes stay.
    pub(super) fn restart(&mut self) {
        self.timed = None;
        self.is_judged = false;
        self.stage = Stage::Reading;
    }

    pub(super) fn waiting_mut(&mut self) -> Option<&mut Waiting> {
        match &mut self.stage {
            Stage::Waiting(waiting) => Some(waiting),
            _ => None,
        }
    }

    /// Frees what the reader does not need until the answer is sent.
    pub(super) fn shrink_reader(&mut self, then: Then) {
        if then == Then::Close || self.reader.is_between_requests() {
            self.reader.reset();
        } else {
            self.reader.shrink();
        }
    }

    /// Bytes allocated while the connection waits for its peer. A webhook that waits for the hub
    /// counts in `publishing` instead.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.stage {
            Stage::Publishing(_) => 0,
            Stage::Reading => self.reader.held_bytes(),
            Stage::Judging(judging) => {
                self.reader.held_bytes() + size_of::<Judging>() + judging.bytes
            }
            Stage::Answering(unsent) => {
                self.reader.held_bytes() + size_of::<Unsent>() + unsent.bytes.capacity()
            }
            Stage::Counting(counting) => self.reader.held_bytes() + counting.held_bytes(),
            Stage::Waiting(waiting) => self.reader.held_bytes() + waiting.held_bytes(),
        }
    }
}

/// Exchanges that are over, with their buffers, for the next requests.
pub(super) struct ExchangePool {
    #[expect(
        clippy::vec_box,
        reason = "a connection's state takes the box as it is"
    )]
    free: Vec<Box<Exchange>>,
    body_bytes_max: usize,
}

impl ExchangePool {
    pub(super) fn new(body_bytes_max: usize) -> ExchangePool {
        ExchangePool {
            free: Vec::new(),
            body_bytes_max,
        }
    }

    /// An exchange before its first byte.
    pub(super) fn take(&mut self) -> Box<Exchange> {
        let free = self.free.pop();
        free.unwrap_or_else(|| {
            let reader = RequestReader::new(Vec::new(), self.body_bytes_max);
            Box::new(Exchange::new(reader))
        })
    }

    /// An exchange with the bytes that another process has read of its request.
    pub(super) fn with_bytes(&self, bytes: Vec<u8>) -> Box<Exchange> {
        let reader = RequestReader::resume(bytes, self.body_bytes_max);
        Box::new(Exchange::new(reader))
    }

    pub(super) fn give(&mut self, mut exchange: Box<Exchange>) {
        if self.free.len() < POOLED_EXCHANGES_MAX {
            exchange.reader.recycle();
            exchange.restart();
            self.free.push(exchange);
        }
    }
}

impl<S: Transport> Shard<S> {
    /// Continues an exchange, which is out of its connection, after a step.
    pub(super) fn proceed(
        &mut self,
        slot: usize,
        mut exchange: Box<Exchange>,
        next: Next,
        now: Now,
    ) {
        let next = match next {
            Next::Read => self.read_on(slot, &mut exchange, now),
            next => next,
        };
        match next {
            // `read_on` does not return `Read`.
            Next::Wait | Next::Read => self.keep(slot, exchange, now),
            Next::Over => self.exchanges.give(exchange),
        }
    }

    /// Puts an exchange back into its connection. A long poll takes its place in the lists.
    fn keep(&mut self, slot: usize, mut exchange: Box<Exchange>, now: Now) {
        let view = exchange.waiting_mut().map(|waiting| waiting.place.view);
        self.connections
            .set_state(slot, State::Exchange(exchange), now);
        if let Some(view) = view {
            self.take_place(slot, view, Holder::Wait);
        }
    }
}
