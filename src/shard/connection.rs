//! A connection: its socket, and one enum that says what it is doing.
//!
//! Owned by the shard. What a state holds is all that the connection costs while it is in it: an
//! idle connection has no buffer, a stream is a cursor. Never acts by itself.

use crate::http::{Phase, ReplyTo, RequestReader};
use crate::shard::membership::Place;
use crate::shard::stream::Stream;
use crate::shard::waiting::Waiting;

/// Names a connection. The generation tells it from another one that had the same slot before, so
/// that a stale event or receipt is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// Where the shard keeps it.
    pub slot: u32,
    /// Never zero.
    pub generation: u32,
}

/// Why a connection was taken in, which decides what it may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Within the limit of connections.
    Standard,
    /// The same, and a webhook of it was stored.
    Priority,
    /// Over the limit: it is told so, and closed.
    Surplus,
}

pub(super) const NO_DEADLINE: u64 = u64::MAX;

pub(super) struct Connection<S> {
    pub(super) socket: S,
    pub(super) generation: u32,
    pub(super) role: Role,
    /// The socket may hold bytes, or the end of them, that were not read. Readiness is told once
    /// per edge (epoll(7)), so it has to be remembered while the connection does something else.
    pub(super) readable: bool,
    /// The peer has ended its side: reading goes on until the end is reached.
    pub(super) hung_up: bool,
    /// It is in the shard's list of those who had more to read when their turn was over.
    pub(super) is_unfinished: bool,
    /// When the state has lasted too long, in monotonic milliseconds.
    pub(super) deadline_ms: u64,
    pub(super) state: State,
}

pub(super) enum State {
    /// Between two requests.
    Idle,
    /// A request is on its way.
    Reading(Box<RequestReader>, Phase),
    /// A whole webhook waits for the hub, at the end of this turn.
    Publishing(Box<RequestReader>, ReplyTo),
    /// The peer has not taken its answer whole.
    Answering(Box<Answering>),
    /// A request for the history waits for a message.
    Waiting(Box<Waiting>),
    /// An open SSE response.
    Streaming(Stream),
    /// Our side is ended; what the peer still sends is read and dropped for a while, so that a
    /// reset does not eat the answer (RFC 9112 section 9.6).
    Lingering { bytes_left: usize },
}

impl State {
    /// Its place among those that a message wakes.
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
    /// There only if more of this request or of the next has come, or is still to come.
    pub(super) reader: Option<Box<RequestReader>>,
    pub(super) then: Then,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request.
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
    /// Bytes allocated for what the connection is doing, beyond its slot, while it waits for its peer.
    /// A webhook that waits for the hub is counted with those that are being published.
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
