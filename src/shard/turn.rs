//! The turn of a shard: its order, its budgets, and which work is first when time is short.
//!
//! A thread loop polls and calls [`Turns::run`]. In the server the loop is `net::reactor`; tests and the
//! simulation have loops with pollers and clocks of their own. Never waits. Reads only the given clock.
//!
//! Requests to sources leave after each slice for the thread that judges them. Their verdicts are commands,
//! and so are questions of other shards.
//!
//! A turn delivers the batches of the hub, handles events, accepts, reads unfinished connections again,
//! answers requests for the history and runs commands. At its end it publishes the webhooks that were
//! read, answers them, and serves a slice of streams.
//!
//! Work for connections runs in slices of time. After each slice the shard publishes, answers and serves
//! streams as at the end of the turn. Priority sockets are polled after each slice of work for standard
//! ones, so a flood of short connections does not delay a publisher.

use crossbeam_channel::Sender;

use crate::clock::Now;
use crate::hub::Hub;
use crate::limits::{
    ACCEPTS_PER_TURN, HISTORY_TURN_BYTES, INBOX_BATCHES_MAX, PRIORITY_EVENTS_PER_POLL,
    PRIORITY_EVENTS_PER_TURN, STANDARD_EVENTS_PER_TURN, SURPLUS_CONNECTIONS_MAX, SWEEP_YOUNG_US,
    WORK_SLICE_BEHIND_US, WORK_SLICE_US,
};
use crate::metrics::{Counter, Timing};
use crate::shard::judging::Judged;
use crate::shard::poller::{Accepted, Command, Event, Poller, Ready, Step};
use crate::shard::{Role, Shard, Token, Transport};

/// A slice of time for connections. Streams are served after it.
#[derive(Debug, Clone, Copy)]
struct Slice {
    now: Now,
    ends_us: u64,
}

impl Slice {
    /// A slice that begins now. It is short while streams are behind. If they have been behind for less
    /// than [`SWEEP_YOUNG_US`], it ends after one step.
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

/// The state of a shard's loop between two turns. `R` are events of a poll, `H` is the way to a successor.
pub struct Turns<R, H> {
    /// Filled by the loop before a turn: events of priority sockets and of listeners.
    pub priority: R,
    /// Filled by the loop before a turn: events of standard sockets.
    pub standard: R,
    /// Events of priority sockets after a slice.
    interim: R,
    /// Where the shard reports that it no longer needs the ring.
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
    /// Runs one turn, after the loop has polled. At its end all webhooks that were read are published,
    /// unless the hub had no room.
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

/// A turn in progress.
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
        // The inbox is first: requests of this turn see all messages that were acknowledged before it,
        // and the hub has room.
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
        self.poller.count_closed(self.shard.take_removed());
    }

    // Time.

    fn begin_slice(&self) -> Slice {
        Slice::begin(self.shard, (self.clock)())
    }

    /// Reads the clock, and returns whether the slice is over.
    fn is_slice_over(&mut self) -> bool {
        self.slice.now = (self.clock)();
        self.slice.now.mono_us >= self.slice.ends_us
    }

    /// After a slice, polls priority sockets and serves streams. So standard connections delay them by
    /// one slice at most.
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
            // As at the beginning of the turn: a client may have seen a message on another shard, and
            // request the messages after it.
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

    /// Publishes and answers the webhooks that were read, does what is due, and serves a slice of streams.
    fn serve(&mut self, now: Now) {
        self.publish(now);
        self.take_batches();
        self.answer_webhooks(now);
        // Also those that were pipelined behind an answered webhook.
        self.judge(now);
        self.ask(now);
        self.shard.tick(now);
        self.poller.note(self.shard, Step::Ticked, now);
        self.sweep(now);
    }

    // Between two slices.

    fn take_batches(&mut self) {
        for _ in 0..INBOX_BATCHES_MAX {
            let Some(batch) = self.poller.next_batch() else {
                return;
            };
            self.shard.deliver(&batch);
            self.note(Step::Delivered);
        }
    }

    /// Gives the requests to sources that were read to the thread that judges.
    fn judge(&mut self, now: Now) {
        for request in self.shard.take_source_requests() {
            let ticket = request.ticket;
            if !self.poller.judge(request) {
                self.shard.take_verdict(Judged::unavailable(ticket), now);
            }
        }
    }

    /// Sends the questions that were read to the other shards, and adds the count of this one.
    fn ask(&mut self, now: Now) {
        for question in self.shard.take_questions() {
            self.poller.ask(&question);
            if self.shard.count_streams(&question) {
                self.shard.take_count(&question, now);
            }
        }
    }

    /// Publishes the webhooks that were read, and counts the time.
    fn publish(&mut self, now: Now) {
        if self.shard.has_drafts() {
            let began = (self.clock)();
            self.shard.publish(self.hub, now);
            let took = (self.clock)().since(began);
            self.shard.tally_mut().observe(Timing::Append, took);
            self.poller.note(self.shard, Step::Published, now);
        }
    }

    /// Answers the webhooks that have an outcome, and counts the time since they were read.
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

    /// Makes the socket of a connection that publishes again a priority one.
    fn promote(&mut self, event: Event) {
        if let Event::Connection(token, _) = event
            && self.shard.has_priority(token)
            && let Some(socket) = self.shard.socket(token)
        {
            self.poller.promote(socket, token);
        }
    }

    /// Reads connections again that had more to read.
    fn resume_unfinished(&mut self) {
        for _ in 0..self.shard.unfinished().min(STANDARD_EVENTS_PER_TURN) {
            self.shard.resume_next(self.slice.now);
            self.note(Step::Resumed);
            self.pause();
        }
    }

    /// Answers requests for the history that were put off or have waited, within the turn's budget.
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

    /// Accepts a connection. Returns whether more may wait.
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
                self.assign(socket);
                true
            }
            Accepted::Refused(counter) => {
                self.shard.tally_mut().count(counter, 1);
                true
            }
            Accepted::NoneWaiting => false,
            Accepted::Failed => {
                self.shard.tally_mut().count(Counter::AcceptErrors, 1);
                false
            }
        }
    }

    /// Keeps a connection, or sends it to the shard with the fewest. A connection over the limit is kept,
    /// to refuse its request.
    fn assign(&mut self, socket: P::Socket) {
        if self.is_full() {
            self.open(socket, Role::Surplus);
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
            self.open(socket, Role::Standard);
        }
    }

    fn is_full(&self) -> bool {
        let shards = 0..self.poller.shards();
        let connections: usize = shards.map(|shard| self.poller.load(shard)).sum();
        connections >= self.poller.connections_max()
    }

    /// Whether there is no room even for connections whose requests are refused.
    fn is_shut(&self) -> bool {
        self.shard.surplus() >= SURPLUS_CONNECTIONS_MAX && self.is_full()
    }

    fn open(&mut self, socket: P::Socket, role: Role) -> Token {
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
                let token = self.open(socket, Role::Standard);
                self.shard.read_if_draining(token, now);
            }
            Command::TakeOver(socket, bytes) => {
                let token = self.open(socket, Role::Standard);
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
            Command::Judged(judged) => self.shard.take_verdict(*judged, now),
            Command::Count(question, shard) => {
                if self.shard.count_streams(&question) {
                    self.poller.send_back(shard, question);
                }
            }
            Command::Counted(question) => self.shard.take_count(&question, now),
            Command::Census(task) => self.shard.run_census(&task),
            Command::UseSources(table, in_use) => {
                self.shard.use_sources(table);
                // The thread that asked may have given up.
                let _ = in_use.send(());
            }
            Command::UseTokenKeys(keys, in_use) => {
                self.shard.use_token_keys(keys);
                let _ = in_use.send(());
            }
            Command::HandOver(successor) => {
                self.poller.stop_accepting();
                *self.successor = Some(successor);
                self.shard.hand_over(now);
            }
        }
    }

    /// Reports the end of [`Command::Hold`] once the shard no longer needs the ring.
    fn report_held(&mut self) {
        if !self.shard.needs_ring()
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
