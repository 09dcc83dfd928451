//! A connection: its socket, and one enum that says what it is doing.
//!
//! Owned by the shard. Beyond its slot, a connection costs only what its state holds: an idle one
//! has no buffer, a stream is a cursor. Never acts by itself.

use crate::http::{Phase, ReplyTo, RequestReader};
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
    /// It is in the shard's list of connections with more to read.
    pub(super) is_unfinished: bool,
    /// The deadline of the state, in monotonic milliseconds.
    pub(super) deadline_ms: u64,
    pub(super) state: State,
}

pub(super) enum State {
    /// Between two requests.
    Idle,
    /// A request is incomplete.
    Reading(Box<RequestReader>, Phase),
    /// A complete webhook waits for its outcome from the hub.
    Publishing(Box<RequestReader>, ReplyTo),
    /// A part of the answer is not sent.
    Answering(Box<Answering>),
    /// A request for the history waits for a message.
    Waiting(Box<Waiting>),
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
            State::Waiting(waiting) => Some(&mut waiting.place),
            _ => None,
        }
    }
}

pub(super) struct Answering {
    pub(super) bytes: Vec<u8>,
    pub(super) sent: usize,
    /// Present only if it holds bytes, or the rest of the request's body is still to be read.
    pub(super) reader: Option<Box<RequestReader>>,
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

impl State {
    /// Bytes allocated beyond the slot while the connection waits for its peer. A webhook that
    /// waits for the hub counts in the shard's `publishing_bytes` instead.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            State::Idle | State::Publishing(..) | State::Lingering { .. } => 0,
            State::Reading(reader, _) => reader.held_bytes(),
            State::Answering(answering) => {
                let reader = answering.reader.as_ref();
                answering.bytes.capacity() + reader.map_or(0, |reader| reader.held_bytes())
            }
            State::Waiting(waiting) => waiting.held_bytes(),
            State::Streaming(stream) => stream.own_bytes(),
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
            is_unfinished: false,
            deadline_ms,
            state: State::Idle,
        }
    }
}
