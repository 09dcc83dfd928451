//! The thread loop of a shard: polls the kernel, accepts, and drives the shard turn by turn.
//!
//! `server` makes one per shard with [`Reactor::new`] and runs each on a thread of its own. Shard 0
//! accepts, and hands each connection to the shard that has the fewest. An error of one connection
//! never ends the loop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use mio::event::Event;

use crate::clock::{Clock, Now};
use crate::handover::successor::HandoverSender;
use crate::hub::{Batch, Hub, Outlet};
use crate::limits::{
    ACCEPTS_PER_TURN, ARRIVALS_MAX, HISTORY_TURN_BYTES, INBOX_BATCHES_MAX,
    PRIORITY_EVENTS_PER_POLL, PRIORITY_EVENTS_PER_TURN, STANDARD_EVENTS_PER_TURN,
    SURPLUS_CONNECTIONS_MAX, SWEEP_YOUNG_US, WORK_SLICE_BEHIND_US, WORK_SLICE_US,
};
use crate::metrics::{Counter, Metrics, Timing};
use crate::net::epoll::{Epoll, Ready};
use crate::net::handle::{Command, ShardHandle};
use crate::net::listener::{Accepted, Bound, Listener};
use crate::net::socket::{LayeredSocket, Unwanted};
use crate::net::waker::ShardWaker;
use crate::shard::{Readiness, Role, Shard, Token};

/// See the module's description.
pub struct Reactor {
    epoll: Epoll,
    /// Regulars who are ready after a slice.
    interim: Ready,
    waker: Arc<ShardWaker>,
    batches: Receiver<Arc<Batch>>,
    commands: Receiver<Command>,
    load: Arc<AtomicUsize>,
    turns: Arc<AtomicU64>,
    listeners: Vec<Listener>,
    acceptor: Acceptor,
    /// To be told when nothing needs the ring any more.
    held: Option<Sender<()>>,
    /// Who gets the connections.
    handover_sender: Option<Arc<HandoverSender>>,
}

/// Who gets in, and where to. Shard 0's.
#[derive(Default)]
struct Acceptor {
    shards: Vec<ShardHandle>,
    connections_max: usize,
}

/// Time for connections, until it is the streams' turn.
struct Slice {
    now: Now,
    ends_us: u64,
}

impl Slice {
    /// Short while streams wait, and over with the first thing done if they began to just now.
    fn begin(shard: &Shard<LayeredSocket>, clock: Clock) -> Slice {
        let now = clock.now();
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

    /// Reads the clock.
    fn is_over(&mut self, clock: Clock) -> bool {
        self.now = clock.now();
        self.now.mono_us >= self.ends_us
    }
}

impl Reactor {
    /// A reactor with an empty inbox, what the hub needs of it, and what others do.
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
            interim: Ready::with_room(PRIORITY_EVENTS_PER_POLL),
            waker,
            batches,
            commands,
            load,
            turns,
            listeners: Vec::new(),
            acceptor: Acceptor::default(),
            held: None,
            handover_sender: None,
        };
        Ok((reactor, outlet, handle))
    }

    /// Makes this the accepting shard: its own handle is the first of `shards`.
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
        self.acceptor = Acceptor {
            shards,
            connections_max,
        };
        Ok(())
    }

    /// Runs the shard until it is drained. An error means that the kernel's poll itself failed.
    pub fn run(
        mut self,
        mut shard: Shard<LayeredSocket>,
        hub: &Hub,
        metrics: &Metrics,
        clock: Clock,
    ) -> io::Result<()> {
        let mut priority = Ready::with_room(PRIORITY_EVENTS_PER_TURN);
        let mut standard = Ready::with_room(STANDARD_EVENTS_PER_TURN);
        while !(shard.is_drained() && self.commands.is_empty()) {
            self.wait(&shard, &mut priority, clock.now())?;
            self.epoll.poll_standard(&mut standard)?;
            self.turn(&mut shard, &priority, &standard, hub, clock);
            shard.tally_mut().flush(metrics);
        }
        Ok(())
    }

    /// One turn: what others have sent, what the kernel tells, who asks for something; and at its end,
    /// and in between when that takes long, what the streams wait for.
    fn turn(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        priority: &Ready,
        standard: &Ready,
        hub: &Hub,
        clock: Clock,
    ) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        // The inbox first: what was answered anywhere before this is seen by who connects now,
        // and the hub finds room.
        self.take_batches(shard);
        let mut slice = Slice::begin(shard, clock);
        for event in priority.iter() {
            dispatch(shard, &mut self.listeners, event, slice.now);
            if slice.is_over(clock) {
                slice = self.next_slice(shard, hub, clock);
            }
        }
        for event in standard.iter() {
            self.promote(shard, event);
            dispatch(shard, &mut self.listeners, event, slice.now);
            self.pause(shard, hub, clock, &mut slice);
        }
        self.accept(shard, hub, clock, &mut slice);
        self.resume_unfinished(shard, hub, clock, &mut slice);
        self.answer_histories(shard, hub, clock, &mut slice);
        self.run_commands(shard, hub, clock, &mut slice);
        self.serve(shard, hub, clock, slice.now);
        self.tell_held(shard);
        self.give_away(shard);
        shard.end_turn();
        self.load.fetch_sub(shard.take_closed(), Ordering::Relaxed);
    }

    fn wait(
        &mut self,
        shard: &Shard<LayeredSocket>,
        priority: &mut Ready,
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

    /// Lets somebody who comes again be among the regulars from now on.
    fn promote(&self, shard: &Shard<LayeredSocket>, event: &Event) {
        let Some(token) =
            connection_token(event.token()).filter(|&token| shard.has_priority(token))
        else {
            return;
        };
        if let Some(socket) = shard.socket(token) {
            // Where the kernel refuses, the next time it comes is as good.
            let _ = self.epoll.promote(socket, event.token());
        }
    }

    /// Hears regulars, and serves the streams, if it is time for that: whatever newcomers want, and
    /// however many, these wait for one slice of it.
    fn pause(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        hub: &Hub,
        clock: Clock,
        slice: &mut Slice,
    ) {
        if slice.is_over(clock) {
            self.poll_priority(shard, clock);
            *slice = self.next_slice(shard, hub, clock);
        }
    }

    /// Serves the streams between two slices.
    fn next_slice(&mut self, shard: &mut Shard<LayeredSocket>, hub: &Hub, clock: Clock) -> Slice {
        self.serve(shard, hub, clock, clock.now());
        Slice::begin(shard, clock)
    }

    /// Hears regulars for a slice, a few at a time, and these at least.
    fn poll_priority(&mut self, shard: &mut Shard<LayeredSocket>, clock: Clock) {
        let mut slice = Slice::begin(shard, clock);
        loop {
            let looked = self.epoll.wait(&mut self.interim, Some(Duration::ZERO));
            if looked.is_err() {
                // The wait at the turn's end fails as well, and ends the loop.
                break;
            }
            // As at the turn's beginning: whoever was shown a message elsewhere may ask for what follows.
            self.take_batches(shard);
            for event in self.interim.iter() {
                dispatch(shard, &mut self.listeners, event, slice.now);
            }
            if !self.interim.is_full() || slice.is_over(clock) {
                break;
            }
        }
    }

    /// Publishes what has come, answers it, does what is due, and serves a slice of streams.
    fn serve(&mut self, shard: &mut Shard<LayeredSocket>, hub: &Hub, clock: Clock, now: Now) {
        publish(shard, hub, now, clock);
        self.take_batches(shard);
        answer_webhooks(shard, now, clock);
        shard.tick(now);
        sweep(shard, now, clock);
    }

    /// Goes on with connections that had more to read.
    fn resume_unfinished(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        hub: &Hub,
        clock: Clock,
        slice: &mut Slice,
    ) {
        for _ in 0..shard.unfinished().min(STANDARD_EVENTS_PER_TURN) {
            shard.resume_next(slice.now);
            self.pause(shard, hub, clock, slice);
        }
    }

    /// Answers requests for the history that were put off or have waited, with a budget for the turn.
    fn answer_histories(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        hub: &Hub,
        clock: Clock,
        slice: &mut Slice,
    ) {
        let mut bytes = 0;
        for _ in 0..STANDARD_EVENTS_PER_TURN {
            let Some(made) = shard.answer_next_history(slice.now) else {
                return;
            };
            self.pause(shard, hub, clock, slice);
            bytes += made;
            if bytes >= HISTORY_TURN_BYTES {
                return;
            }
        }
    }

    /// Accepts from every listener that has somebody waiting.
    fn accept(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        hub: &Hub,
        clock: Clock,
        slice: &mut Slice,
    ) {
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.accept_one(index, shard, slice.now) {
                    break;
                }
                self.pause(shard, hub, clock, slice);
            }
        }
    }

    /// Accepts somebody. Whether there may be more.
    fn accept_one(&mut self, index: usize, shard: &mut Shard<LayeredSocket>, now: Now) -> bool {
        let listener = &mut self.listeners[index];
        if !listener.is_ready(now.mono_ms) {
            return false;
        }
        if self.acceptor.is_shut(shard.surplus()) {
            listener.postpone(now.mono_ms);
            return false;
        }
        match listener.accept(now.mono_ms) {
            Accepted::Connection(stream, peer) => {
                match listener.layers.wrap(stream, peer) {
                    Ok(connection) => self.admit(shard, connection, now),
                    Err((why, _closed)) => shard.tally_mut().count(why.counter(), 1),
                }
                true
            }
            Accepted::Nobody => false,
            Accepted::Failed(reason) => {
                shard.tally_mut().count(Counter::AcceptErrors, 1);
                if let Some(error) = reason {
                    tracing::warn!(%error, "cannot accept connections for now; raise the limit of open files (ulimit -n, LimitNOFILE=) if this repeats");
                }
                false
            }
        }
    }

    fn admit(&mut self, shard: &mut Shard<LayeredSocket>, connection: LayeredSocket, now: Now) {
        if self.acceptor.is_full() {
            self.take_in(shard, connection, Role::Surplus, now);
            return;
        }
        let emptiest = self.acceptor.shards.iter().skip(1).min_by_key(|s| s.load());
        let connection = match emptiest {
            Some(other) if other.load() < self.load.load(Ordering::Relaxed) => {
                match other.hand(connection) {
                    Ok(()) => return,
                    Err(connection) => connection,
                }
            }
            _ => connection,
        };
        self.load.fetch_add(1, Ordering::Relaxed);
        self.take_in(shard, connection, Role::Standard, now);
    }

    fn take_in(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        connection: LayeredSocket,
        role: Role,
        now: Now,
    ) -> Token {
        let token = shard.open(connection, role, now);
        let registered = shard
            .socket(token)
            .map(|socket| self.epoll.add(socket, mio_token(token)));
        if let Some(Err(error)) = registered {
            tracing::warn!(%error, "cannot watch a connection");
            shard.abandon(token);
        }
        token
    }

    fn run_commands(
        &mut self,
        shard: &mut Shard<LayeredSocket>,
        hub: &Hub,
        clock: Clock,
        slice: &mut Slice,
    ) {
        while let Ok(command) = self.commands.try_recv() {
            let now = slice.now;
            match command {
                Command::Connection(connection) => {
                    let token = self.take_in(shard, connection, Role::Standard, now);
                    shard.see_out(token, now);
                }
                Command::TakeOver(connection, bytes) => {
                    let token = self.take_in(shard, connection, Role::Standard, now);
                    shard.go_on_with(token, bytes, now);
                }
                Command::Drain => {
                    self.stop_accepting();
                    shard.start_drain(now);
                }
                Command::Hold(held) => {
                    shard.hold();
                    self.held = Some(held);
                }
                Command::Resume => shard.resume(now),
                Command::HandOver(handover_sender) => {
                    self.stop_accepting();
                    self.handover_sender = Some(handover_sender);
                    shard.hand_over(now);
                }
            }
            self.pause(shard, hub, clock, slice);
        }
    }

    /// Tells whoever has asked for a hold when nothing of the shard needs the ring any more.
    fn tell_held(&mut self, shard: &Shard<LayeredSocket>) {
        if !shard.has_drafts()
            && let Some(held) = self.held.take()
        {
            // Whoever asked may have given up.
            let _ = held.send(());
        }
    }

    /// A listening socket may live on in another process: closing ours would not end the poll's
    /// interest in it (epoll(7)).
    fn stop_accepting(&mut self) {
        for mut listener in self.listeners.drain(..) {
            let _ = listener.deregister(self.epoll.registry());
        }
    }

    /// Sends connections to the successor.
    fn give_away(&mut self, shard: &mut Shard<LayeredSocket>) {
        for handover in shard.take_handovers() {
            // As with listening sockets.
            self.epoll.remove(&handover.socket);
            let given = match &self.handover_sender {
                Some(handover_sender) => handover_sender.give(&handover.socket, &handover.bytes),
                None => Err(io::ErrorKind::NotConnected.into()),
            };
            if let Err(error) = given {
                tracing::warn!(%error, "a connection is lost: the successor does not take it");
            }
        }
    }

    fn take_batches(&mut self, shard: &mut Shard<LayeredSocket>) {
        for batch in self.batches.try_iter().take(INBOX_BATCHES_MAX) {
            shard.deliver(&batch);
        }
    }
}

impl Acceptor {
    fn is_full(&self) -> bool {
        self.shards.iter().map(ShardHandle::load).sum::<usize>() >= self.connections_max
    }

    /// Whether not even those get in who are only told that it is full.
    fn is_shut(&self, surplus: usize) -> bool {
        surplus >= SURPLUS_CONNECTIONS_MAX && self.is_full()
    }
}

/// Acts on an event.
fn dispatch(shard: &mut Shard<LayeredSocket>, listeners: &mut [Listener], event: &Event, now: Now) {
    match connection_token(event.token()) {
        Some(token) => {
            let readiness = Readiness {
                readable: event.is_readable(),
                writable: event.is_writable(),
                hung_up: event.is_read_closed() || event.is_error(),
            };
            shard.ready(token, readiness, now);
        }
        None => {
            if let Some(listener) = listeners.get_mut(event.token().0) {
                listener.set_ready();
            }
        }
    }
}

/// Publishes the webhooks that have come, and counts how long that took.
fn publish(shard: &mut Shard<LayeredSocket>, hub: &Hub, now: Now, clock: Clock) {
    if shard.has_drafts() {
        let began = clock.now();
        shard.publish(hub, now);
        let took = clock.now().since(began);
        shard.tally_mut().observe(Timing::Append, took);
    }
}

/// Answers what the hub has spoken on, and counts how long it all took.
fn answer_webhooks(shard: &mut Shard<LayeredSocket>, now: Now, clock: Clock) {
    if shard.answer_webhooks(now) > 0 {
        shard.observe_answers(clock.now());
    }
}

fn sweep(shard: &mut Shard<LayeredSocket>, now: Now, clock: Clock) {
    shard.sweep(now);
    if shard.is_sweeping() {
        shard.end_sweep(clock.now());
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
