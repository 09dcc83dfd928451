//! The poller of the simulation: the kernel and the other threads for a turn, and the budget of a
//! turn.
//!
//! The shards run the turn of the server with this poller. It supplies events, batches, commands
//! and connections. After each step it checks the clients and the budget of the turn, and may kill
//! the process. The network may move bytes between two steps. Work takes time, so that slices end.

use std::panic;
use std::rc::Rc;
use std::sync::Arc;

use hookcast::clock::Now;
use hookcast::hub::Batch;
use hookcast::limits::{
    ACCEPT_RETRY_MS, ACCEPTS_PER_TURN, HISTORY_TURN_BYTES, PRIORITY_EVENTS_PER_POLL,
    REQUEST_DEADLINE_MS, STANDARD_EVENTS_PER_TURN, SURPLUS_CONNECTIONS_MAX, SWEEP_YOUNG_US,
    WORK_SLICE_BEHIND_US, WORK_SLICE_US,
};
use hookcast::shard::judging::SourceRequest;
use hookcast::shard::poller::{Accepted, Command, Event, Poller, Ready, Step};
use hookcast::shard::presence::Question;
use hookcast::shard::turn::Turns;
use hookcast::shard::{HandoverConnection, Readiness, Role, Shard, Token};

use super::client::Client;
use super::coverage;
use super::kernel::{SharedLink, SimSocket};
use super::operation::pick;
use super::world::World;

pub type SimCommand = Command<SimSocket, Successor>;
pub type SimTurns = Turns<SimReady, Successor>;

/// The process that takes connections over.
pub struct Successor;

/// The payload of the panic by which a process is killed.
pub struct Killed;

/// When a process is killed in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fuse {
    Never,
    /// After this number of steps.
    Steps(usize),
    /// After the hub has stored webhooks, before they are answered.
    Published,
}

/// Events of a poll.
pub struct SimReady {
    room: usize,
    events: Vec<Event>,
}

impl Ready for SimReady {
    fn with_room(room: usize) -> SimReady {
        let events = Vec::new();
        SimReady { room, events }
    }

    fn events(&self) -> impl Iterator<Item = Event> {
        self.events.iter().copied()
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.room
    }
}

/// A listening socket and its queue.
#[derive(Default)]
pub struct Listening {
    pub queue: std::collections::VecDeque<SharedLink>,
    /// An event that epoll has not reported.
    pub edge: bool,
    /// There may be connections waiting.
    is_ready: bool,
    retry_ms: Option<u64>,
}

impl Listening {
    /// When to accept next; `None` if the queue is known to be empty.
    pub fn due_ms(&self) -> Option<u64> {
        self.is_ready.then(|| self.retry_ms.unwrap_or(0))
    }

    /// Whether the next accept waits for its time.
    pub fn is_postponed(&self) -> bool {
        self.retry_ms.is_some()
    }
}

/// The limits of a turn, and what it has done.
struct Budget {
    listeners: usize,
    standard: usize,
    resumed: usize,
    accepted: usize,
    history_bytes: usize,
    /// When streams were last served, or the turn began; and the slice for connections since then.
    served_us: u64,
    slice_us: u64,
    /// Steps for connections since then, and the end of the last one.
    items: usize,
    done_us: u64,
    /// A standard connection had a step since priority sockets were polled.
    owes_poll: bool,
    /// As `owes_poll`, when streams were last served.
    owed_poll: bool,
    /// The first poll of priority sockets since streams were last served.
    polling_since_us: Option<u64>,
}

impl Budget {
    fn new(listeners: usize, now_us: u64) -> Budget {
        Budget {
            listeners,
            standard: 0,
            resumed: 0,
            accepted: 0,
            history_bytes: 0,
            served_us: now_us,
            slice_us: WORK_SLICE_US,
            items: 0,
            done_us: now_us,
            owes_poll: false,
            owed_poll: false,
            polling_since_us: None,
        }
    }

    /// Begins a slice for connections: the time for which they may delay streams.
    fn begin_slice(&mut self, behind_us: Option<u64>, now_us: u64) {
        self.slice_us = match behind_us {
            None => WORK_SLICE_US,
            Some(..SWEEP_YOUNG_US) => 0,
            Some(_) => WORK_SLICE_BEHIND_US,
        };
        self.served_us = now_us;
        self.done_us = now_us;
        self.items = 0;
    }

    fn note_poll(&mut self, now_us: u64) {
        self.owes_poll = false;
        let since_us = *self.polling_since_us.get_or_insert(now_us);
        assert!(
            since_us == now_us || now_us - since_us < WORK_SLICE_US,
            "polls of priority sockets take more than a slice"
        );
    }

    fn note(&mut self, step: Step, behind_us: Option<u64>, now_us: u64) {
        match step {
            Step::Standard(_) => self.standard += 1,
            Step::Resumed => self.resumed += 1,
            Step::Accepted => self.accepted += 1,
            Step::History(bytes) => {
                assert!(
                    self.history_bytes < HISTORY_TURN_BYTES,
                    "a turn answers with more history than its budget"
                );
                self.history_bytes += bytes;
                coverage::count("bytes of history", bytes as u64);
            }
            Step::Priority(_) | Step::Ran => {}
            Step::Delivered if self.items == 0 && self.polling_since_us.is_none() => {
                return self.begin_slice(behind_us, now_us);
            }
            Step::Delivered | Step::Published | Step::Answered(_) | Step::Ticked => return,
            Step::Swept => {
                self.begin_slice(behind_us, now_us);
                self.owed_poll = self.owes_poll;
                self.polling_since_us = None;
                return;
            }
        }
        assert!(
            self.standard <= STANDARD_EVENTS_PER_TURN && self.resumed <= STANDARD_EVENTS_PER_TURN,
            "a turn exceeds its quota"
        );
        assert!(
            self.accepted <= ACCEPTS_PER_TURN * self.listeners,
            "{} accepted in a turn",
            self.accepted
        );
        if self.polling_since_us.is_some() {
            return;
        }
        assert!(
            self.items == 0 || self.done_us - self.served_us < self.slice_us,
            "{step:?} after the end of the slice"
        );
        if !matches!(step, Step::Priority(_)) {
            assert!(
                !std::mem::take(&mut self.owed_poll),
                "priority sockets are not polled after a slice"
            );
            self.owes_poll = true;
        }
        self.items += 1;
        self.done_us = now_us;
    }
}

/// The poller of one turn; see the module.
pub struct SimPoller<'a> {
    pub world: &'a mut World,
    index: usize,
    fuse: Fuse,
    budget: Budget,
    /// Open streams at the last step.
    streams: usize,
    /// `Kernel::progress` at the last step.
    progress: u64,
    pub has_news: bool,
}

impl<'a> SimPoller<'a> {
    pub fn new(
        world: &'a mut World,
        index: usize,
        shard: &Shard<SimSocket>,
        fuse: Fuse,
    ) -> SimPoller<'a> {
        let now = world.now();
        let mut budget = Budget::new(world.listeners.len(), now.mono_us);
        budget.begin_slice(shard.behind_us(now), now.mono_us);
        SimPoller {
            budget,
            index,
            fuse,
            streams: shard.streams(),
            progress: world.kernel.progress(),
            has_news: false,
            world,
        }
    }

    /// The events that `epoll_wait(2)` reports of one of the two sets, in random order.
    pub fn poll(&mut self, ready: &mut SimReady, is_priority: bool) {
        ready.events.clear();
        if is_priority && self.index == 0 {
            for (number, listener) in self.world.listeners.iter_mut().enumerate() {
                if std::mem::take(&mut listener.edge) {
                    ready.events.push(Event::Listener(number));
                }
            }
        }
        ready.events.extend(self.stale_event());
        let index = self.index;
        let start = self.world.rng.usize(..self.world.clients.len().max(1));
        let (before, after) = self.world.clients.split_at(start);
        for client in after.iter().chain(before) {
            if ready.is_full() {
                break;
            }
            let mut link = client.link.borrow_mut();
            if client.shard == index && link.is_priority == is_priority {
                let event = link.take_event();
                let event = event.map(|readiness| Event::Connection(client.token, readiness));
                ready.events.extend(event);
            }
        }
        self.has_news |= !ready.events.is_empty();
    }

    /// Sometimes returns an event of a closed connection, whose slot may have been reused.
    fn stale_event(&mut self) -> Option<Event> {
        let gone = &self.world.node.shards[self.index].gone;
        if gone.is_empty() || self.world.rng.u8(..16) > 0 {
            return None;
        }
        let token = *pick(&mut self.world.rng, gone);
        let readiness = Readiness {
            readable: self.world.rng.bool(),
            writable: self.world.rng.bool(),
            hung_up: self.world.rng.bool(),
        };
        Some(Event::Connection(token, readiness))
    }

    fn is_full(&self) -> bool {
        let load: usize = self.world.node.shards.iter().map(|shard| shard.load).sum();
        load >= self.world.profile.connections_max
    }

    fn client_of(&mut self, link: &SharedLink) -> Option<usize> {
        let mut clients = self.world.clients.iter();
        clients.position(|client| Rc::ptr_eq(&client.link, link))
    }

    /// Checks a handled event: promotion, and that events of closed connections had no effect.
    fn check_event(&self, event: Event, is_standard: bool) {
        let Event::Connection(token, _) = event else {
            return;
        };
        let shard = &self.world.node.shards[self.index];
        let is_own = |client: &&Client| client.shard == self.index && client.token == token;
        match self.world.clients.iter().find(is_own) {
            Some(client) if is_standard && client.may_publish_again => {
                coverage::count("events of connections that had published", 1);
                assert!(
                    client.link.borrow().is_priority,
                    "a connection that has published has no priority: {}",
                    client.describe()
                );
            }
            None if shard.gone.contains(&token) => assert_eq!(
                self.world.kernel.progress(),
                self.progress,
                "an event of a closed connection has an effect"
            ),
            _ => {}
        }
    }
}

/// Kills the process.
fn kill() -> ! {
    panic::resume_unwind(Box::new(Killed))
}

impl Poller for SimPoller<'_> {
    type Socket = SimSocket;
    type Ready = SimReady;
    type Successor = Successor;

    fn poll_priority(&mut self, ready: &mut SimReady) -> bool {
        assert!(ready.room <= PRIORITY_EVENTS_PER_POLL);
        let now_us = self.world.now().mono_us;
        self.budget.note_poll(now_us);
        self.poll(ready, true);
        coverage::count("priority events after a slice", ready.events.len() as u64);
        true
    }

    fn add(&mut self, socket: &SimSocket, token: Token) -> bool {
        let Some(place) = self.client_of(&socket.0) else {
            return false;
        };
        if std::mem::take(&mut self.world.fails_add) {
            self.world.clients.swap_remove(place);
            return false;
        }
        let now_ms = self.world.mono_ms;
        self.world.clients[place].begin(self.index, token, now_ms);
        true
    }

    fn promote(&mut self, socket: &SimSocket, _: Token) {
        let mut link = socket.0.borrow_mut();
        link.is_priority = true;
        // EPOLL_CTL_ADD reports the present state at once.
        link.nudge();
    }

    fn next_batch(&mut self) -> Option<Arc<Batch>> {
        let batch = self.world.node.shards[self.index].next_batch();
        self.has_news |= batch.is_some();
        batch
    }

    fn judge(&mut self, request: SourceRequest) -> bool {
        let (index, now_ms) = (self.index, self.world.mono_ms);
        self.world.take_source_request(index, request, now_ms);
        self.has_news = true;
        true
    }

    fn ask(&mut self, question: &Arc<Question>) {
        let asker = self.index;
        for (index, shard) in self.world.node.shards.iter_mut().enumerate() {
            if index != asker {
                question.expect();
                shard.send(Command::Count(Arc::clone(question), asker));
            }
        }
        self.has_news = true;
    }

    fn send_back(&mut self, shard: usize, question: Arc<Question>) {
        self.world.node.shards[shard].send(Command::Counted(question));
        self.has_news = true;
    }

    fn next_command(&mut self) -> Option<SimCommand> {
        let now_ms = self.world.mono_ms;
        let drain_ms = self.world.profile.drain_ms;
        let node = &mut self.world.node.shards[self.index];
        let command = node.commands.pop_front()?;
        self.has_news = true;
        match &command {
            Command::Drain => node.begin_drain(now_ms, drain_ms, false),
            Command::HandOver(_) => {
                node.held_until_ms = now_ms;
                node.begin_drain(now_ms, drain_ms, true);
            }
            Command::UseTokenKeys(..) => {
                node.key = 1 - node.key;
                node.key_since_ms = Some(now_ms);
            }
            Command::Resume => node.held_until_ms = now_ms + REQUEST_DEADLINE_MS,
            _ => {}
        }
        Some(command)
    }

    fn listeners(&self) -> usize {
        if self.index == 0 {
            self.world.listeners.len()
        } else {
            0
        }
    }

    fn set_listener_ready(&mut self, listener: usize) {
        if let Some(listener) = self.world.listeners.get_mut(listener) {
            listener.is_ready = true;
        }
    }

    fn is_listener_ready(&self, listener: usize, now: Now) -> bool {
        let listener = &self.world.listeners[listener];
        let is_over = |retry_ms| retry_ms <= now.mono_ms;
        listener.is_ready && listener.retry_ms.is_none_or(is_over)
    }

    fn accept(&mut self, listener: usize, now: Now) -> Accepted<SimSocket> {
        let fails = self.world.kernel.is_mischievous() && self.world.rng.u8(..8) == 0;
        let listener = &mut self.world.listeners[listener];
        if fails {
            coverage::count("accepts that failed", 1);
            listener.retry_ms = Some(now.mono_ms + ACCEPT_RETRY_MS);
            return Accepted::Failed;
        }
        listener.retry_ms = None;
        let Some(link) = listener.queue.pop_front() else {
            listener.is_ready = false;
            return Accepted::NoneWaiting;
        };
        self.has_news = true;
        let role = if self.is_full() {
            Role::Surplus
        } else {
            Role::Standard
        };
        if let Some(place) = self.client_of(&link) {
            self.world.clients[place].role = role;
        }
        Accepted::Connection(SimSocket(link))
    }

    fn postpone(&mut self, listener: usize, now: Now) {
        self.world.listeners[listener].retry_ms = Some(now.mono_ms + ACCEPT_RETRY_MS);
    }

    fn stop_accepting(&mut self) {
        if self.index == 0 {
            self.world.stop_listening();
        }
    }

    fn shards(&self) -> usize {
        self.world.node.shards.len()
    }

    fn load(&self, shard: usize) -> usize {
        self.world.node.shards[shard].load
    }

    fn connections_max(&self) -> usize {
        self.world.profile.connections_max
    }

    fn count_opened(&mut self) {
        self.world.node.shards[self.index].load += 1;
    }

    fn count_closed(&mut self, connections: usize) {
        self.world.node.shards[self.index].load -= connections;
    }

    fn hand(&mut self, shard: usize, socket: SimSocket) -> Result<(), SimSocket> {
        let is_full = self.world.kernel.is_mischievous();
        let node = &mut self.world.node.shards[shard];
        if is_full || node.has_ended() {
            return Err(socket);
        }
        coverage::count("connections handed to another shard", 1);
        node.load += 1;
        node.send(Command::Connection(socket));
        Ok(())
    }

    fn hand_over(&mut self, connection: HandoverConnection<SimSocket>, to: Option<&Successor>) {
        assert!(
            to.is_some(),
            "a connection is handed over, and there is no successor"
        );
        coverage::count("connections handed over", 1);
        if let Some(place) = self.client_of(&connection.socket.0) {
            self.world.clients[place].leave_shard();
        }
        self.world.in_transit.push(connection);
    }

    fn note(&mut self, shard: &Shard<SimSocket>, step: Step, now: Now) {
        if self.fuse == Fuse::Published && step == Step::Published {
            kill();
        }
        match step {
            Step::Published => {
                assert!(!self.world.is_held, "a shard publishes during a hold");
                self.world.accepted_ms.insert(now.unix_ms);
                self.world.observe();
            }
            Step::Answered(_) => self.has_news = true,
            Step::Priority(event) => self.check_event(event, false),
            Step::Standard(event) => self.check_event(event, true),
            _ => {}
        }
        self.world.kernel.work(self.world.profile.step_us);
        assert!(shard.surplus() <= SURPLUS_CONNECTIONS_MAX);
        self.world.node.shards[self.index].note_subscribed(self.streams, shard.streams(), now);
        self.streams = shard.streams();
        self.world.audit(self.index);
        let at = self.world.now();
        self.budget.note(step, shard.behind_us(at), at.mono_us);
        if let Fuse::Steps(left) = &mut self.fuse {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => kill(),
            }
        }
        self.world.stir();
        self.progress = self.world.kernel.progress();
    }
}
