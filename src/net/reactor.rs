//! The thread loop of a shard: polls the kernel and runs the shard turn by turn.
//!
//! `server` makes one per shard with [`Reactor::new`] and runs each on a thread of its own.
//! [`turn`](crate::shard::turn) decides what is done, and for how long; the reactor is its [`Poller`].
//! Shard 0 accepts for all shards. An error of one connection never ends the loop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::{Clock, Now};
use crate::handover::successor::HandoverSender;
use crate::hub::{Batch, Hub, Outlet};
use crate::limits::{ARRIVALS_MAX, INBOX_BATCHES_MAX};
use crate::metrics::{Counter, Metrics};
use crate::net::epoll::{self, Epoll};
use crate::net::handle::{Asked, Command, ShardHandle};
use crate::net::judge::JudgeQueue;
use crate::net::listener::{self, Bound, Listener};
use crate::net::socket::{LayeredSocket, Unwanted};
use crate::net::waker::ShardWaker;
use crate::shard::judging::SourceRequest;
use crate::shard::poller::{Accepted, Event, Poller, Ready};
use crate::shard::presence::Question;
use crate::shard::turn::Turns;
use crate::shard::{HandoverConnection, Readiness, Shard, Token};

/// See the module's description.
pub struct Reactor {
    epoll: Epoll,
    waker: Arc<ShardWaker>,
    batches: Receiver<Arc<Batch>>,
    commands: Receiver<Command>,
    load: Arc<AtomicUsize>,
    turns: Arc<AtomicU64>,
    listeners: Vec<Listener>,
    /// The shards that this one accepts for, itself first; empty unless this is shard 0.
    shards: Vec<ShardHandle>,
    connections_max: usize,
    /// All shards, and the number of this one among them.
    all_shards: Vec<ShardHandle>,
    index: usize,
    /// The way to the thread that knows the counts of other nodes, if there are some.
    other_nodes: Option<Sender<Asked>>,
    /// The queue of requests to sources, and this shard's own handle for the verdicts, if there are sources.
    judge: Option<(JudgeQueue, ShardHandle)>,
}

impl Reactor {
    /// A reactor with an empty inbox, its outlet for the hub, and its handle for other threads.
    pub fn new() -> io::Result<(Reactor, Outlet, ShardHandle)> {
        let epoll = Epoll::new()?;
        let waker = Arc::new(ShardWaker::new(epoll.waker()?));
        let (batch_sender, batches) = bounded(INBOX_BATCHES_MAX);
        let (command_sender, commands) = bounded(ARRIVALS_MAX);
        let load = Arc::new(AtomicUsize::new(0));
        let turns = Arc::new(AtomicU64::new(0));
        let outlet = Outlet {
            batches: batch_sender,
            wake: Arc::clone(&waker) as _,
        };
        let handle = ShardHandle {
            commands: command_sender,
            waker: Arc::clone(&waker),
            load: Arc::clone(&load),
            turns: Arc::clone(&turns),
        };
        let reactor = Reactor {
            epoll,
            waker,
            batches,
            commands,
            load,
            turns,
            listeners: Vec::new(),
            shards: Vec::new(),
            connections_max: 0,
            all_shards: Vec::new(),
            index: 0,
            other_nodes: None,
            judge: None,
        };
        Ok((reactor, outlet, handle))
    }

    /// Makes this the shard that accepts. Its own handle is the first of `shards`.
    pub fn accept_from(
        &mut self,
        listeners: Vec<Bound>,
        shards: Vec<ShardHandle>,
        connections_max: usize,
    ) -> io::Result<()> {
        for (index, bound) in listeners.into_iter().enumerate() {
            let listener = Listener::new(bound, self.epoll.registry(), mio::Token(index))?;
            self.listeners.push(listener);
        }
        self.shards = shards;
        self.connections_max = connections_max;
        Ok(())
    }

    /// Makes this the shard with this number, which asks all others how many streams see a session.
    pub fn ask_of(&mut self, shards: Vec<ShardHandle>, index: usize) {
        self.all_shards = shards;
        self.index = index;
    }

    /// Sends questions to the thread that knows the counts of other nodes, too.
    pub fn ask_other_nodes(&mut self, questions: Sender<Asked>) {
        self.other_nodes = Some(questions);
    }

    /// Gives requests to sources to this queue. `own` is the handle of this reactor.
    pub fn judge_by(&mut self, queue: JudgeQueue, own: ShardHandle) {
        self.judge = Some((queue, own));
    }

    /// Runs the shard until it is drained. An error means that the kernel's poll itself failed.
    pub fn run(
        mut self,
        mut shard: Shard<LayeredSocket>,
        hub: &Hub,
        metrics: &Metrics,
        clock: Clock,
    ) -> io::Result<()> {
        let ended = self.run_turns(&mut shard, hub, metrics, clock);
        hub.close_inbox(self.batches);
        ended
    }

    fn run_turns(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        hub: &Hub,
        metrics: &Metrics,
        clock: Clock,
    ) -> io::Result<()> {
        let mut turns = Turns::default();
        while !(shard.is_drained() && self.commands.is_empty()) {
            self.poll(shard, &mut turns, clock.now())?;
            self.turns.fetch_add(1, Ordering::Relaxed);
            turns.run(self, shard, hub, || clock.now());
            hub.announce_room();
            shard.tally_mut().flush(metrics);
        }
        Ok(())
    }

    /// Waits until a socket is ready, another thread wakes the shard or work is due. Polls both sets of
    /// sockets.
    fn poll(
        &mut self,
        shard: &Shard<LayeredSocket>,
        turns: &mut Turns<epoll::Ready, Arc<HandoverSender>>,
        now: Now,
    ) -> io::Result<()> {
        self.wait(shard, &mut turns.priority, now)?;
        self.epoll.poll_standard(&mut turns.standard)
    }

    fn wait(
        &mut self,
        shard: &Shard<LayeredSocket>,
        priority: &mut epoll::Ready,
        now: Now,
    ) -> io::Result<()> {
        let accept_ms = self.listeners.iter().filter_map(Listener::due_ms).min();
        let accept_ms = accept_ms.map(|due_ms| due_ms.saturating_sub(now.mono_ms));
        let mut idle_ms = [shard.idle_ms(now), accept_ms].into_iter().flatten().min();
        if idle_ms != Some(0) {
            self.waker.announce_sleep();
            if !self.batches.is_empty() || !self.commands.is_empty() {
                idle_ms = Some(0);
            }
        }
        let polled = self
            .epoll
            .wait(priority, idle_ms.map(Duration::from_millis));
        self.waker.wake_up();
        polled
    }
}

impl Ready for epoll::Ready {
    fn with_room(room: usize) -> epoll::Ready {
        epoll::Ready::with_room(room)
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.iter().map(event_of)
    }

    fn is_full(&self) -> bool {
        epoll::Ready::is_full(self)
    }
}

impl Poller for Reactor {
    type Socket = LayeredSocket;
    type Ready = epoll::Ready;
    type Successor = Arc<HandoverSender>;

    fn poll_priority(&mut self, ready: &mut epoll::Ready) -> bool {
        self.epoll.wait(ready, Some(Duration::ZERO)).is_ok()
    }

    fn add(&mut self, socket: &LayeredSocket, token: Token) -> bool {
        let added = self.epoll.add(socket, mio_token(token));
        if let Err(error) = &added {
            tracing::warn!(%error, "cannot poll a connection's socket");
        }
        added.is_ok()
    }

    fn promote(&mut self, socket: &LayeredSocket, token: Token) {
        let _ = self.epoll.promote(socket, mio_token(token));
    }

    fn next_batch(&mut self) -> Option<Arc<Batch>> {
        self.batches.try_recv().ok()
    }

    fn judge(&mut self, request: SourceRequest) -> bool {
        let judge = self.judge.as_ref();
        judge.is_some_and(|(queue, own)| queue.judge(request, own))
    }

    fn ask(&mut self, question: &Arc<Question>) {
        let shards = self.all_shards.iter().enumerate();
        for (_, shard) in shards.filter(|(index, _)| *index != self.index) {
            shard.ask(question, self.index);
        }
        if let Some(others) = &self.other_nodes {
            question.expect();
            let asked = (Arc::clone(question), self.index);
            let is_last = others.try_send(asked).is_err() && question.give_up();
            debug_assert!(!is_last, "the shard that asks adds its count after this");
        }
    }

    fn send_back(&mut self, shard: usize, question: Arc<Question>) {
        self.all_shards[shard].counted(question);
    }

    fn next_command(&mut self) -> Option<Command> {
        self.commands.try_recv().ok()
    }

    fn listeners(&self) -> usize {
        self.listeners.len()
    }

    fn set_listener_ready(&mut self, listener: usize) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.set_ready();
        }
    }

    fn is_listener_ready(&self, listener: usize, now: Now) -> bool {
        self.listeners[listener].is_ready(now.mono_ms)
    }

    fn accept(&mut self, listener: usize, now: Now) -> Accepted<LayeredSocket> {
        let listener = &mut self.listeners[listener];
        match listener.accept(now.mono_ms) {
            listener::Accepted::Connection(stream, peer) => {
                match listener.layers.wrap(stream, peer) {
                    Ok(socket) => Accepted::Connection(socket),
                    Err((why, _closed)) => Accepted::Refused(why.counter()),
                }
            }
            listener::Accepted::NoneWaiting => Accepted::NoneWaiting,
            listener::Accepted::Failed(reason) => {
                if let Some(error) = reason {
                    tracing::warn!(%error, "cannot accept connections for now; raise the limit of open files (ulimit -n, LimitNOFILE=) if this repeats");
                }
                Accepted::Failed
            }
        }
    }

    fn postpone(&mut self, listener: usize, now: Now) {
        self.listeners[listener].postpone(now.mono_ms);
    }

    /// Deregisters the sockets, because another process may have them too: then closing them here does
    /// not end epoll's interest (epoll(7)).
    fn stop_accepting(&mut self) {
        for mut listener in self.listeners.drain(..) {
            let _ = listener.deregister(self.epoll.registry());
        }
    }

    fn shards(&self) -> usize {
        self.shards.len()
    }

    fn load(&self, shard: usize) -> usize {
        self.shards[shard].load()
    }

    fn connections_max(&self) -> usize {
        self.connections_max
    }

    fn count_opened(&mut self) {
        self.load.fetch_add(1, Ordering::Relaxed);
    }

    fn count_closed(&mut self, connections: usize) {
        self.load.fetch_sub(connections, Ordering::Relaxed);
    }

    fn hand(&mut self, shard: usize, socket: LayeredSocket) -> Result<(), LayeredSocket> {
        self.shards[shard].hand(socket)
    }

    fn hand_over(
        &mut self,
        connection: HandoverConnection<LayeredSocket>,
        to: Option<&Arc<HandoverSender>>,
    ) {
        // The successor has the same socket; see `stop_accepting`.
        self.epoll.remove(&connection.socket);
        let given = match to {
            Some(sender) => sender.give(&connection.socket, &connection.bytes),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        if let Err(error) = given {
            tracing::warn!(%error, "a connection is lost: it cannot be sent to the successor");
        }
    }
}

fn event_of(event: &mio::event::Event) -> Event {
    match connection_token(event.token()) {
        Some(token) => Event::Connection(
            token,
            Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                hung_up: event.is_read_closed() || event.is_error(),
            },
        ),
        None => Event::Listener(event.token().0),
    }
}

/// Tokens of connections have their generation, which is never zero, in the upper half.
fn mio_token(token: Token) -> mio::Token {
    mio::Token((token.generation as usize) << 32 | token.slot as usize)
}

impl Unwanted {
    fn counter(self) -> Counter {
        match self {
            Unwanted::NoProxy => Counter::RefusedNoProxy,
            Unwanted::Over => Counter::RefusedAtLimit,
            Unwanted::NoSession => Counter::AcceptErrors,
        }
    }
}

fn connection_token(token: mio::Token) -> Option<Token> {
    let generation = (token.0 >> 32) as u32;
    (generation > 0).then_some(Token {
        slot: token.0 as u32,
        generation,
    })
}

#[cfg(test)]
mod tests;
