//! The turn of a shard: its order, its budgets, and which work goes first when time is short.
//!
//! A thread loop polls and calls [`Turns::run`]. The loop is `net::reactor` in the server, which
//! implements [`Poller`] with the kernel; tests and the simulation bring pollers and clocks of their
//! own. Never waits, knows no `mio`, reads no clock but the one it is given.
//!
//! A turn takes what other shards have published, works on events, accepts, goes on with unfinished
//! connections, answers requests for the history and runs commands. At its end it publishes the
//! webhooks that it read, answers them and serves a slice of streams.
//!
//! Work for connections runs in slices of time. After each, the shard does what otherwise comes at the
//! end: it publishes, answers, and serves streams. Priority sockets are polled after each slice of work
//! for the others, so that no flood of short connections delays a publisher.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::clock::Now;
use crate::hub::{Batch, Hub};
use crate::limits::{
    ACCEPTS_PER_TURN, HISTORY_TURN_BYTES, INBOX_BATCHES_MAX, PRIORITY_EVENTS_PER_POLL,
    PRIORITY_EVENTS_PER_TURN, STANDARD_EVENTS_PER_TURN, SURPLUS_CONNECTIONS_MAX, SWEEP_YOUNG_US,
    WORK_SLICE_BEHIND_US, WORK_SLICE_US,
};
use crate::metrics::{Counter, Timing};
use crate::shard::{HandoverConnection, Readiness, Role, Shard, Token, Transport};

/// What a poll says of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Of a connection.
    Connection(Token, Readiness),
    /// This listener has connections waiting.
    Listener(usize),
}

/// The events of a poll.
pub trait Ready {
    /// Takes up to this many events from each poll.
    fn with_room(room: usize) -> Self;

    /// The events, in the kernel's order.
    fn events(&self) -> impl Iterator<Item = Event>;

    /// Whether there may be more than there was room for.
    fn is_full(&self) -> bool;
}

/// What an accept came to.
pub enum Accepted<S> {
    /// A connection.
    Connection(S),
    /// A connection that was closed at once, and what counts it.
    Refused(Counter),
    /// Nothing waits.
    Nothing,
    /// Accepting fails for now.
    Failed,
}

/// A command of another thread to a shard. `S` is a socket, `H` the way to a successor.
pub enum Command<S, H> {
    /// Take in this connection.
    Connection(S),
    /// Take in this connection of a predecessor, and these bytes of its current request.
    TakeOver(S, Vec<u8>),
    /// Stop accepting, answer what is in flight, end the streams.
    Drain,
    /// Read no further request; tell when nothing needs the ring any more.
    Hold(Sender<()>),
    /// Go on after a hold: there is no successor after all.
    Resume,
    /// Stop accepting, give the connections to the successor, end the streams.
    HandOver(H),
}

/// A step of a turn that is over, for a poller that looks on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A batch of frames is in the log.
    Delivered,
    /// A priority socket's event was acted upon.
    Priority(Event),
    /// The same of any other socket.
    Standard(Event),
    /// A connection was accepted, or refused.
    Accepted,
    /// An unfinished connection had its turn.
    Resumed,
    /// A request for the history had its turn, which made so many bytes of answers.
    History(usize),
    /// A command was run.
    Ran,
    /// Webhooks were given to the hub.
    Published,
    /// So many webhooks were answered.
    Answered(usize),
    /// What is due was done.
    Ticked,
    /// A slice of streams was served.
    Swept,
}

/// The kernel and the other threads, as a turn needs them. No call blocks.
pub trait Poller {
    /// A connection's.
    type Socket: Transport;
    /// Events of a poll.
    type Ready: Ready;
    /// The way to the process that takes over.
    type Successor;

    /// Polls priority sockets only. False if the poll itself failed.
    fn poll_priority(&mut self, ready: &mut Self::Ready) -> bool;

    /// Polls a connection's socket from now on, as a standard one. False if that failed.
    fn add(&mut self, socket: &Self::Socket, token: Token) -> bool;

    /// Makes a socket a priority one. Where this fails, it is tried again at its next event.
    fn promote(&mut self, socket: &Self::Socket, token: Token);

    /// The next batch that the hub has sent.
    fn next_batch(&mut self) -> Option<Arc<Batch>>;

    /// The next command of another thread.
    fn next_command(&mut self) -> Option<Command<Self::Socket, Self::Successor>>;

    /// How many listeners this shard has: none unless it is the first.
    fn listeners(&self) -> usize;

    /// A listener has an event.
    fn set_listener_ready(&mut self, listener: usize);

    /// Whether connections may wait at a listener, and it may be asked now.
    fn is_listener_ready(&self, listener: usize, now: Now) -> bool;

    /// Accepts one connection.
    fn accept(&mut self, listener: usize, now: Now) -> Accepted<Self::Socket>;

    /// Leaves the connections that wait at a listener there for a while.
    fn postpone(&mut self, listener: usize, now: Now);

    /// Closes all listeners.
    fn stop_accepting(&mut self);

    /// How many shards the first one accepts for, itself included.
    fn shards(&self) -> usize;

    /// Connections of a shard within the limit, those on their way to it included.
    fn load(&self, shard: usize) -> usize;

    /// The most that all shards may have together.
    fn connections_max(&self) -> usize;

    /// Counts a connection that this shard keeps.
    fn count_opened(&mut self);

    /// Counts connections of this shard that are gone.
    fn count_closed(&mut self, connections: usize);

    /// Sends a connection to another shard, or gives it back.
    fn hand(&mut self, shard: usize, socket: Self::Socket) -> Result<(), Self::Socket>;

    /// Sends a connection to the successor.
    fn hand_over(
        &mut self,
        connection: HandoverConnection<Self::Socket>,
        to: Option<&Self::Successor>,
    );

    /// A step is over, and this is when it took place for the shard. For simulations, which look at
    /// what has come of it; the server has nothing to do.
    fn note(&mut self, _shard: &Shard<Self::Socket>, _step: Step, _now: Now) {}
}

/// Time for connections, until streams are served.
#[derive(Debug, Clone, Copy)]
struct Slice {
    now: Now,
    ends_us: u64,
}

impl Slice {
    /// Short while streams wait. Over with the first thing done if they began to just now.
    fn begin<S: Transport>(shard: &Shard<S>, now: Now) -> Slice {
        let slice_us = match shard.behind_us(now) {
            None => WORK_SLICE_US,
            Some(..SWEEP_YOUNG_US) => 0,
            Some(SWEEP_YOUNG_US..) => WORK_SLICE_BEHIND_US,
        };
        Slice {
            now,
            ends_us: now.mono_us + slice_us,
        }
    }
}

/// What a shard keeps from turn to turn: `R` are events of a poll, `H` is the way to a successor.
pub struct Turns<R, H> {
    /// Filled by the loop before a turn: events of priority sockets and of listeners.
    pub priority: R,
    /// The same of standard sockets.
    pub standard: R,
    /// Events of priority sockets after a slice.
    interim: R,
    /// To be told when nothing needs the ring any more.
    held: Option<Sender<()>>,
    successor: Option<H>,
}

impl<R: Ready, H> Default for Turns<R, H> {
    fn default() -> Turns<R, H> {
        Turns {
            priority: R::with_room(PRIORITY_EVENTS_PER_TURN),
            standard: R::with_room(STANDARD_EVENTS_PER_TURN),
            interim: R::with_room(PRIORITY_EVENTS_PER_POLL),
            held: None,
            successor: None,
        }
    }
}

impl<R: Ready, H> Turns<R, H> {
    /// Runs one turn. The loop has polled; when it polls again, nothing that was read before is left
    /// unpublished, unless the hub had no room.
    pub fn run<P: Poller<Ready = R, Successor = H>>(
        &mut self,
        poller: &mut P,
        shard: &mut Shard<P::Socket>,
        hub: &Hub,
        clock: impl Fn() -> Now,
    ) {
        let now = clock();
        let mut turn = Turn {
            slice: Slice { now, ends_us: 0 },
            poller,
            shard,
            hub,
            clock,
            interim: &mut self.interim,
            held: &mut self.held,
            successor: &mut self.successor,
        };
        turn.run(&self.priority, &self.standard);
    }
}

/// A turn that is under way.
struct Turn<'a, P: Poller, C> {
    poller: &'a mut P,
    shard: &'a mut Shard<P::Socket>,
    hub: &'a Hub,
    clock: C,
    slice: Slice,
    interim: &'a mut P::Ready,
    held: &'a mut Option<Sender<()>>,
    successor: &'a mut Option<P::Successor>,
}

impl<P: Poller, C: Fn() -> Now> Turn<'_, P, C> {
    fn run(&mut self, priority: &P::Ready, standard: &P::Ready) {
        // The inbox first: a connection that is served now sees what was acknowledged before, and the
        // hub finds room.
        self.take_batches();
        self.slice = self.begin_slice();
        for event in priority.events() {
            self.dispatch(event);
            self.note(Step::Priority(event));
            if self.is_slice_over() {
                self.next_slice();
            }
        }
        for event in standard.events() {
            self.promote(event);
            self.dispatch(event);
            self.note(Step::Standard(event));
            self.pause();
        }
        self.accept();
        self.resume_unfinished();
        self.answer_histories();
        self.run_commands();
        self.serve(self.slice.now);
        self.report_held();
        self.hand_over();
        self.shard.end_turn();
        self.poller.count_closed(self.shard.take_closed());
    }

    // Time.

    fn begin_slice(&self) -> Slice {
        Slice::begin(self.shard, (self.clock)())
    }

    /// Reads the clock.
    fn is_slice_over(&mut self) -> bool {
        self.slice.now = (self.clock)();
        self.slice.now.mono_us >= self.slice.ends_us
    }

    /// Polls priority sockets and serves streams, if it is time for that: other connections delay
    /// them by one slice.
    fn pause(&mut self) {
        if self.is_slice_over() {
            self.poll_priority();
            self.next_slice();
        }
    }

    fn next_slice(&mut self) {
        self.serve((self.clock)());
        self.slice = self.begin_slice();
    }

    /// Polls priority sockets for one slice of time, a few events at a time, at least once.
    fn poll_priority(&mut self) {
        self.slice = self.begin_slice();
        loop {
            if !self.poller.poll_priority(self.interim) {
                // The loop's next poll fails as well, and ends it.
                return;
            }
            // As at the turn's beginning: a client that was shown a message elsewhere may ask for what
            // follows.
            self.take_batches();
            let now = self.slice.now;
            for event in self.interim.events() {
                act_on(self.shard, self.poller, event, now);
                self.poller.note(self.shard, Step::Priority(event), now);
            }
            if !self.interim.is_full() || self.is_slice_over() {
                return;
            }
        }
    }

    /// Publishes what was read, answers it, does what is due, and serves a slice of streams.
    fn serve(&mut self, now: Now) {
        self.publish(now);
        self.take_batches();
        self.answer_webhooks(now);
        self.shard.tick(now);
        self.poller.note(self.shard, Step::Ticked, now);
        self.sweep(now);
    }

    // What is done between two slices.

    fn take_batches(&mut self) {
        for _ in 0..INBOX_BATCHES_MAX {
            let Some(batch) = self.poller.next_batch() else {
                return;
            };
            self.shard.deliver(&batch);
            self.note(Step::Delivered);
        }
    }

    /// Publishes the webhooks that were read, and counts how long that took.
    fn publish(&mut self, now: Now) {
        if self.shard.has_drafts() {
            let began = (self.clock)();
            self.shard.publish(self.hub, now);
            let took = (self.clock)().since(began);
            self.shard.tally_mut().observe(Timing::Append, took);
            self.poller.note(self.shard, Step::Published, now);
        }
    }

    /// Answers the webhooks with an outcome, and counts how long it all took.
    fn answer_webhooks(&mut self, now: Now) {
        let answered = self.shard.answer_webhooks(now);
        if answered > 0 {
            self.shard.observe_answers((self.clock)());
            self.poller.note(self.shard, Step::Answered(answered), now);
        }
    }

    fn sweep(&mut self, now: Now) {
        self.shard.sweep(now);
        if self.shard.is_sweeping() {
            self.shard.end_sweep((self.clock)());
        }
        self.poller.note(self.shard, Step::Swept, now);
    }

    // Connections.

    fn dispatch(&mut self, event: Event) {
        act_on(self.shard, self.poller, event, self.slice.now);
    }

    /// Makes a connection that publishes again a priority one.
    fn promote(&mut self, event: Event) {
        if let Event::Connection(token, _) = event
            && self.shard.has_priority(token)
            && let Some(socket) = self.shard.socket(token)
        {
            self.poller.promote(socket, token);
        }
    }

    /// Goes on with connections that had more to read.
    fn resume_unfinished(&mut self) {
        for _ in 0..self.shard.unfinished().min(STANDARD_EVENTS_PER_TURN) {
            self.shard.resume_next(self.slice.now);
            self.note(Step::Resumed);
            self.pause();
        }
    }

    /// Answers requests for the history that were put off or have waited, with a budget for the turn.
    fn answer_histories(&mut self) {
        let mut bytes = 0;
        for _ in 0..STANDARD_EVENTS_PER_TURN {
            let Some(made) = self.shard.answer_next_history(self.slice.now) else {
                return;
            };
            self.note(Step::History(made));
            self.pause();
            bytes += made;
            if bytes >= HISTORY_TURN_BYTES {
                return;
            }
        }
    }

    /// Accepts a few connections from every listener.
    fn accept(&mut self) {
        for listener in 0..self.poller.listeners() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.accept_one(listener) {
                    break;
                }
                self.note(Step::Accepted);
                self.pause();
            }
        }
    }

    /// Accepts a connection. Whether there may be more.
    fn accept_one(&mut self, listener: usize) -> bool {
        let now = self.slice.now;
        if !self.poller.is_listener_ready(listener, now) {
            return false;
        }
        if self.is_shut() {
            self.poller.postpone(listener, now);
            return false;
        }
        match self.poller.accept(listener, now) {
            Accepted::Connection(socket) => {
                self.place(socket);
                true
            }
            Accepted::Refused(counter) => {
                self.shard.tally_mut().count(counter, 1);
                true
            }
            Accepted::Nothing => false,
            Accepted::Failed => {
                self.shard.tally_mut().count(Counter::AcceptErrors, 1);
                false
            }
        }
    }

    /// Keeps a connection or gives it to the shard with the fewest. One too many is kept, to be told
    /// so.
    fn place(&mut self, socket: P::Socket) {
        if self.is_full() {
            self.take_in(socket, Role::Surplus);
            return;
        }
        let others = 1..self.poller.shards();
        let fewest = others.min_by_key(|&shard| self.poller.load(shard));
        let has_fewer = |&shard: &usize| self.poller.load(shard) < self.poller.load(0);
        let kept = match fewest.filter(has_fewer) {
            Some(shard) => self.poller.hand(shard, socket).err(),
            None => Some(socket),
        };
        if let Some(socket) = kept {
            self.poller.count_opened();
            self.take_in(socket, Role::Standard);
        }
    }

    fn is_full(&self) -> bool {
        let shards = 0..self.poller.shards();
        let connections: usize = shards.map(|shard| self.poller.load(shard)).sum();
        connections >= self.poller.connections_max()
    }

    /// Whether there is no room even for connections that are only told that it is full.
    fn is_shut(&self) -> bool {
        self.shard.surplus() >= SURPLUS_CONNECTIONS_MAX && self.is_full()
    }

    fn take_in(&mut self, socket: P::Socket, role: Role) -> Token {
        let token = self.shard.open(socket, role, self.slice.now);
        let socket = self.shard.socket(token);
        if !socket.is_some_and(|socket| self.poller.add(socket, token)) {
            self.shard.abandon(token);
        }
        token
    }

    // Commands.

    fn run_commands(&mut self) {
        while let Some(command) = self.poller.next_command() {
            self.run_command(command);
            self.note(Step::Ran);
            self.pause();
        }
    }

    fn run_command(&mut self, command: Command<P::Socket, P::Successor>) {
        let now = self.slice.now;
        match command {
            Command::Connection(socket) => {
                let token = self.take_in(socket, Role::Standard);
                self.shard.read_if_draining(token, now);
            }
            Command::TakeOver(socket, bytes) => {
                let token = self.take_in(socket, Role::Standard);
                self.shard.continue_request(token, bytes, now);
            }
            Command::Drain => {
                self.poller.stop_accepting();
                self.shard.start_drain(now);
            }
            Command::Hold(held) => {
                self.shard.hold();
                *self.held = Some(held);
            }
            Command::Resume => self.shard.resume(now),
            Command::HandOver(successor) => {
                self.poller.stop_accepting();
                *self.successor = Some(successor);
                self.shard.hand_over(now);
            }
        }
    }

    /// Answers a hold when nothing of the shard needs the ring any more.
    fn report_held(&mut self) {
        if !self.shard.has_drafts()
            && let Some(held) = self.held.take()
        {
            // The thread that asked may have given up.
            let _ = held.send(());
        }
    }

    /// Sends connections that have left the shard to the successor.
    fn hand_over(&mut self) {
        for connection in self.shard.take_handovers() {
            self.poller.hand_over(connection, self.successor.as_ref());
        }
    }

    fn note(&mut self, step: Step) {
        self.poller.note(self.shard, step, self.slice.now);
    }
}

/// Acts on an event.
fn act_on<P: Poller>(shard: &mut Shard<P::Socket>, poller: &mut P, event: Event, now: Now) {
    match event {
        Event::Connection(token, readiness) => shard.ready(token, readiness, now),
        Event::Listener(listener) => poller.set_listener_ready(listener),
    }
}

#[cfg(test)]
mod tests;
