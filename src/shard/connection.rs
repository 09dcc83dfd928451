//! A connection: its socket, and one enum for its state.
//!
//! Owned by `connections`. Beyond its slot, a connection costs only what its state holds: an idle one
//! has no buffer, a stream is a cursor. Never acts by itself.

use crate::shard::exchange::{Exchange, Stage};
use crate::shard::membership::Place;
use crate::shard::stream::Stream;
use crate::shard::waiting::Waiting;

/// Identifies a connection. The generation differs from that of earlier connections in the same slot,
/// so stale events and receipts are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Its index in the shard's slab.
    pub slot: u32,
    /// Never zero.
    pub generation: u32,
}

/// The standing of a connection, which decides its priority and what it may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Within the limit of connections.
    Standard,
    /// Within the limit, and a webhook of it was stored.
    Priority,
    /// Over the limit: its request is refused, and the connection is closed.
    Surplus,
}

pub(super) const NO_DEADLINE: u64 = u64::MAX;

pub(super) struct Connection<S> {
    pub(super) socket: S,
    pub(super) generation: u32,
    pub(super) role: Role,
    /// The socket may hold unread bytes, or their end. Epoll reports each edge once (epoll(7)), so
    /// the readiness is kept while the connection does something else.
    pub(super) readable: bool,
    /// The peer has ended its side. Reading continues until the end.
    pub(super) hung_up: bool,
    /// Whether it is in a queue of connections that are read again.
    pub(super) unfinished: Unfinished,
    /// The deadline of the state, in monotonic milliseconds.
    pub(super) deadline_ms: u64,
    /// Replaced only by `connections`, which counts what a state holds.
    pub(super) state: State,
}

/// Whether a connection is in a queue of connections that are read again, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// It is in no queue.
    No,
    /// It had more to read, or its peer has hung up.
    More,
    /// The shard does not read it for now, so its deadline does not count.
    PutOff,
}

pub(super) enum State {
    /// Between two requests.
    Idle,
    /// A request is incomplete, or not fully answered.
    Exchange(Box<Exchange>),
    /// An open SSE response.
    Streaming(Stream),
    /// Our side has ended. Further bytes of the peer are read and dropped for a while: unread ones
    /// would cause a reset, which can destroy the answer (RFC 9112 section 9.6).
    Lingering { bytes_left: usize },
}

impl State {
    /// Its place in the lists of connections that messages concern.
    pub(super) fn place_mut(&mut self) -> Option<&mut Place> {
        match self {
            State::Streaming(stream) => Some(&mut stream.place),
            State::Exchange(exchange) => exchange.waiting_mut().map(|waiting| &mut waiting.place),
            State::Idle | State::Lingering { .. } => None,
        }
    }

    /// The stage of its exchange.
    pub(super) fn stage(&self) -> Option<&Stage> {
        match self {
            State::Exchange(exchange) => Some(&exchange.stage),
            _ => None,
        }
    }

    /// Its long poll.
    pub(super) fn waiting(&self) -> Option<&Waiting> {
        match self.stage() {
            Some(Stage::Waiting(waiting)) => Some(waiting),
            _ => None,
        }
    }

    /// Whether the connection waits for a request, or for the rest of one.
    pub(super) fn awaits_bytes(&self) -> bool {
        matches!(self, State::Idle) || matches!(self.stage(), Some(Stage::Reading))
    }

    /// Whether its reader holds a complete request, or bytes that may complete one. The shard has read
    /// them, and continues with them later.
    pub(super) fn has_request(&self) -> bool {
        match self {
            State::Exchange(exchange) => exchange.reader.may_be_complete(),
            _ => false,
        }
    }

    /// Bytes allocated beyond the slot while the connection waits for its peer.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            State::Idle | State::Lingering { .. } => 0,
            State::Exchange(exchange) => exchange.held_bytes(),
            State::Streaming(stream) => stream.held_bytes(),
        }
    }
}

impl<S> Connection<S> {
    pub(super) fn new(socket: S, generation: u32, role: Role, deadline_ms: u64) -> Connection<S> {
        Connection {
            socket,
            generation,
            role,
            readable: false,
            hung_up: false,
            unfinished: Unfinished::No,
            deadline_ms,
            state: State::Idle,
        }
    }
}
