//! What a turn needs of the kernel and of other threads.
//!
//! `net::reactor` implements [`Poller`] with the kernel; tests and the simulation have their own. `turn`
//! calls it. Types and traits only: nothing here acts.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::clock::Now;
use crate::hub::Batch;
use crate::metrics::Counter;
use crate::shard::census::CensusTask;
use crate::shard::judging::{Judged, SourceRequest, SourceTable};
use crate::shard::presence::Question;
use crate::shard::{HandoverConnection, Readiness, Shard, Token, Transport};
use crate::tokens::TokenKeys;

/// An event of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A connection's socket is ready.
    Connection(Token, Readiness),
    /// Connections wait at this listener.
    Listener(usize),
}

/// The events of a poll.
pub trait Ready {
    /// Room for this many events of each poll.
    fn with_room(room: usize) -> Self;

    /// The events, in the kernel's order.
    fn events(&self) -> impl Iterator<Item = Event>;

    /// Whether more sockets may be ready than there was room for.
    fn is_full(&self) -> bool;
}

/// The result of an accept.
pub enum Accepted<S> {
    /// A connection.
    Connection(S),
    /// A connection that was closed at once, and the counter of the reason.
    Refused(Counter),
    /// No connection waits.
    NoneWaiting,
    /// Accepting fails for now.
    Failed,
}

/// A command of another thread to a shard. `S` is a socket, `H` the way to a successor.
pub enum Command<S, H> {
    /// Serve this connection.
    Connection(S),
    /// Serve this connection of a predecessor, with the bytes it has read of the current request.
    TakeOver(S, Vec<u8>),
    /// Stop accepting, answer the requests in progress, end the streams.
    Drain,
    /// Read no further request. Send a unit when nothing of the shard needs the ring.
    Hold(Sender<()>),
    /// End a hold without a successor.
    Resume,
    /// Act on the verdict of a request to a source.
    Judged(Box<Judged>),
    /// Add the streams of this shard to the question of the shard with this number. After the last count, send
    /// it back.
    Count(Arc<Question>, usize),
    /// Answer this question of this shard, to which all counts were added.
    Counted(Arc<Question>),
    /// Do this task of the thread that shares presence with other nodes.
    Census(CensusTask),
    /// Serve these sources. Send a unit then.
    UseSources(Arc<SourceTable>, Sender<()>),
    /// Verify tokens with these keys, and end what a token of another key has opened. Send a unit then.
    UseTokenKeys(Arc<TokenKeys>, Sender<()>),
    /// Stop accepting, pass the connections to the successor, end the streams.
    HandOver(H),
}

/// A finished step of a turn, for [`Poller::note`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A batch of frames is in the log.
    Delivered,
    /// An event of a priority socket was handled.
    Priority(Event),
    /// An event of a standard socket was handled.
    Standard(Event),
    /// A connection was accepted or refused.
    Accepted,
    /// An unfinished connection was read again.
    Resumed,
    /// A step of the work on requests for the history has made this many bytes of answers.
    History(usize),
    /// A command was run.
    Ran,
    /// Webhooks were given to the hub.
    Published,
    /// This many webhooks were answered.
    Answered(usize),
    /// Work that is due by time was done.
    Ticked,
    /// A slice of streams was served.
    Swept,
}

/// The kernel and the other threads, as a turn needs them. No call blocks.
pub trait Poller {
    /// The socket of a connection.
    type Socket: Transport;
    /// The events of a poll.
    type Ready: Ready;
    /// The way to the process that takes over.
    type Successor;

    /// Polls the priority sockets only. False if the poll itself failed.
    fn poll_priority(&mut self, ready: &mut Self::Ready) -> bool;

    /// Begins to poll the socket of a connection, as a standard one. False if that failed.
    fn add(&mut self, socket: &Self::Socket, token: Token) -> bool;

    /// Makes a socket a priority one. If this fails, it is tried again at the socket's next event.
    fn promote(&mut self, socket: &Self::Socket, token: Token);

    /// The next batch of the hub.
    fn next_batch(&mut self) -> Option<Arc<Batch>>;

    /// Gives a request to the thread that judges. False if that thread does not take it.
    fn judge(&mut self, request: SourceRequest) -> bool;

    /// Sends a question to all others that count, and makes it expect a count of each. If one does not take it,
    /// its count is given up.
    fn ask(&mut self, question: &Arc<Question>);

    /// Sends a question with all counts back to the shard that asks.
    fn send_back(&mut self, shard: usize, question: Arc<Question>);

    /// The next command of another thread.
    fn next_command(&mut self) -> Option<Command<Self::Socket, Self::Successor>>;

    /// The number of listeners of this shard; only the first shard has some.
    fn listeners(&self) -> usize;

    /// Records an event of a listener.
    fn set_listener_ready(&mut self, listener: usize);

    /// Whether connections may wait at a listener, and an accept is due.
    fn is_listener_ready(&self, listener: usize, now: Now) -> bool;

    /// Accepts one connection.
    fn accept(&mut self, listener: usize, now: Now) -> Accepted<Self::Socket>;

    /// Accepts nothing from a listener for a while.
    fn postpone(&mut self, listener: usize, now: Now);

    /// Closes all listeners.
    fn stop_accepting(&mut self);

    /// The number of shards, of which the first one accepts for all.
    fn shards(&self) -> usize;

    /// Connections of a shard within the limit, with those on the way to it.
    fn load(&self, shard: usize) -> usize;

    /// The limit of connections, for all shards together.
    fn connections_max(&self) -> usize;

    /// Counts a connection that this shard keeps.
    fn count_opened(&mut self);

    /// Counts closed connections of this shard.
    fn count_closed(&mut self, connections: usize);

    /// Sends a connection to another shard. An error returns the connection.
    fn hand(&mut self, shard: usize, socket: Self::Socket) -> Result<(), Self::Socket>;

    /// Sends a connection to the successor.
    fn hand_over(
        &mut self,
        connection: HandoverConnection<Self::Socket>,
        to: Option<&Self::Successor>,
    );

    /// Called after each step, with the time that the step was given. Simulations check the result
    /// of the step here.
    fn note(&mut self, _shard: &Shard<Self::Socket>, _step: Step, _now: Now) {}
}
