//! A shard: connections, their streams, and a live log of its own, driven turn by turn.
//!
//! The reactor (`net`) polls the kernel and runs a [`turn`] after each poll. Nothing in a [`Shard`] is
//! shared with another thread, has a clock or knows `mio`, so benches and simulations drive it with
//! sockets of their own.
//!
//! A turn calls [`Shard::ready`] for each event, [`Shard::resume_next`] for connections that had more
//! to read, [`Shard::answer_next_history`] for requests that were put off or have waited,
//! [`Shard::publish`] for the webhooks they brought, [`Shard::deliver`] for the batches the hub sent,
//! [`Shard::answer_webhooks`] for the receipts, [`Shard::tick`] for what is due, [`Shard::sweep`] for
//! one slice of writes, [`Shard::end_turn`]. A long turn runs all from `publish` to `sweep` several
//! times.
//!
//! The parts. Calls run from here downwards, and a part that is done with a connection returns what
//! is to follow; only `close`, the end of every connection, is called from anywhere.
//!
//! - `turn`: the order of all this, its budgets, and commands.
//! - `drain`: how it ends, also in favour of a successor.
//! - `fanout`: from a message to the connections that it concerns.
//! - `requests`: from bytes to decisions.
//! - `subscription`: from frames to bytes; `history`: the same for requests, which may wait for a frame.
//! - `answers`: from decisions to bytes.
//! - `pages`: what requests for the history are answered with.
//! - `membership`: the lists of the connections that a message concerns; `shares`: what connections hold, by
//!   client.
//! - `connection`, `stream`, `waiting`: the state of each.
//! - `sweep`, `stagger`: which stream is served next, and which deadline is due.
//! - `transport`: what a shard needs of a connection's socket; `client`: how a client is named.

mod answers;
pub mod client;
mod connection;
mod drain;
mod fanout;
mod history;
mod membership;
mod pages;
mod requests;
mod shares;
mod stagger;
mod stream;
mod subscription;
mod sweep;
mod transport;
pub mod turn;
mod waiting;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::clock::Now;
use crate::http::{Access, AllowOrigin, RequestReader, Responder};
use crate::hub::{Batch, Hub, NotStored, Receipt, SenderId};
use crate::limits::{
    DEADLINE_SCAN_INTERVAL_MS, DEADLINE_SCAN_PHASES, DEADLINE_SCAN_RUN, FANOUT_RETRY_MS,
    HEARTBEAT_PATIENCE_PHASES, HEARTBEAT_PHASES, HEARTBEAT_RUN, POOLED_READERS_MAX,
    PUBLISHING_BYTES_MAX, READ_BYTES, REQUEST_DEADLINE_MS, SMALL_REQUEST_BYTES_MAX,
};
use crate::live_log::LiveLog;
use crate::message::Draft;
use crate::message::Epoch;
use crate::metrics::{Counter, Gauge, Tally, Timing};
use connection::{Connection, State};
pub use connection::{Role, Token};
pub use drain::HandoverConnection;
use drain::{Drain, Intake};
use pages::Encoded;
use shares::Shares;
use stagger::Stagger;
use sweep::Sweep;
pub use transport::Transport;

/// What a shard is configured with; the same for all shards.
#[derive(Clone)]
pub struct Settings {
    /// Time between two heartbeats on a stream.
    pub heartbeat_interval: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// Longest request body in bytes.
    pub body_bytes_max: usize,
    /// Bytes that the connections of a shard may hold together; see [`Holdings`].
    pub held_bytes_max: usize,
    /// Over how long a drain is spread.
    pub drain: Duration,
    /// The longest life of a stream that a shared cache may give to many clients, if that is so.
    pub fanout_life: Option<Duration>,
    /// Smallest live log in bytes. It is larger where a full history needs more.
    pub log_bytes_min: usize,
    /// The configured secret.
    pub access: Access,
    /// Whose pages may use the API.
    pub allow_origin: AllowOrigin,
}

/// See the module's description.
pub struct Shard<S> {
    settings: Arc<Settings>,
    epoch: Epoch,
    log: LiveLog,
    connections: Slab<Connection<S>>,
    /// Slots at or above this one were never used.
    slots_used: usize,
    last_generation: u32,
    /// Connections over the limit.
    surplus: usize,
    /// What the connections hold, as [`State::held_bytes`] has it.
    shares: Shares,
    /// Connections within it that are gone, since the last look.
    standard_closed: usize,
    /// Streams that are behind.
    sweep: Sweep,
    /// Requests for the history that wait, and may be answered now.
    waits: Sweep,
    /// When a stream's heartbeat may go out with a message, and when it goes out by itself.
    heartbeats_due: Stagger,
    heartbeats_last: Stagger,
    deadline_scan: Stagger,
    drain: Option<Drain>,
    intake: Intake,
    /// Connections that are to go to the successor.
    handovers: Vec<HandoverConnection<S>>,
    responder: Responder,
    /// The second that the responder's date shows.
    date_s: u64,
    rng: fastrand::Rng,
    /// Webhooks of this turn, and which connection each came from.
    drafts: VecDeque<Draft>,
    publishers: VecDeque<Publisher>,
    outcomes: Vec<Result<Receipt, NotStored>>,
    /// Bytes of the webhooks that are not answered, and of their readers.
    publishing_bytes: usize,
    /// What the hub knows this shard by when it brings outcomes later.
    sender: SenderId,
    /// When the webhooks were read that this turn has answered, in monotonic microseconds.
    answered_us: Vec<u64>,
    /// Bytes of answers with history that were made in this turn.
    history_bytes: usize,
    /// Connections whose next request is for the history, and was put off.
    put_off: VecDeque<Token>,
    /// Whose turn it was last: of requests that wait, or of those that were put off.
    is_turn_of_waits: bool,
    /// The page of the history that was encoded last.
    encoded: Encoded,
    /// How many publishers the metrics know of.
    waiting_told: i64,
    storage_fails: bool,
    /// The hub left drafts behind, because a shard's inbox was full.
    hub_was_full: bool,
    /// When the sweep that is under way began.
    sweep_began_us: Option<u64>,
    /// Connections that had more to read when their turn was over, or whose end was told of.
    unfinished: VecDeque<Token>,
    /// Readers for requests to come; boxed, as a connection's state holds them.
    #[expect(
        clippy::vec_box,
        reason = "a connection's state takes the box as it is"
    )]
    readers: Vec<Box<RequestReader>>,
    read_buffer: Box<[u8]>,
    /// Where answers are put together.
    answer: Vec<u8>,
    tally: Tally,
}

/// Where a webhook came from.
#[derive(Debug, Clone, Copy)]
struct Publisher {
    token: Token,
    /// When it was read, in monotonic microseconds.
    read_us: u64,
    /// What it counts in [`Shard::publishing_bytes`].
    bytes: usize,
}

/// What the kernel says of a connection's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// There are bytes to read, or their end.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The peer has ended its side, or the connection is over.
    pub hung_up: bool,
}

/// What connections hold beyond their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Readers of requests that are on their way or not answered yet.
    pub readers: usize,
    /// Bytes allocated for answers that were not taken whole.
    pub answer_bytes: usize,
    /// Bytes allocated for what is a stream's own: its first events, a gap, its end.
    pub own_bytes: usize,
}

impl<S: Transport> Shard<S> {
    /// A shard with no connection, and the history in its log. `seed` is for jitter.
    pub fn new(settings: Arc<Settings>, hub: &Hub, seed: u64, now: Now) -> Shard<S> {
        let heartbeat_interval_ms = settings.heartbeat_interval.as_millis() as u64;
        let patience_ms =
            heartbeat_interval_ms * HEARTBEAT_PATIENCE_PHASES / HEARTBEAT_PHASES as u64;
        let last_ms = now.mono_ms + patience_ms;
        let (first_seq, history) = hub.history_batch();
        let log_bytes = settings.log_bytes_min.max(hub.history_bytes_max(&history));
        let responder = Responder::new(settings.allow_origin.clone(), now.wall());
        let shares = Shares::new(settings.held_bytes_max);
        let mut shard = Shard {
            settings,
            epoch: hub.epoch(),
            log: LiveLog::new(first_seq, log_bytes),
            connections: Slab::new(),
            slots_used: 0,
            last_generation: 0,
            surplus: 0,
            shares,
            standard_closed: 0,
            sweep: Sweep::default(),
            waits: Sweep::default(),
            heartbeats_due: Stagger::new(
                HEARTBEAT_PHASES,
                HEARTBEAT_RUN,
                heartbeat_interval_ms,
                now.mono_ms,
            ),
            heartbeats_last: Stagger::new(
                HEARTBEAT_PHASES,
                HEARTBEAT_RUN,
                heartbeat_interval_ms,
                last_ms,
            ),
            deadline_scan: Stagger::new(
                DEADLINE_SCAN_PHASES,
                DEADLINE_SCAN_RUN,
                DEADLINE_SCAN_INTERVAL_MS,
                now.mono_ms,
            ),
            drain: None,
            intake: Intake::Open,
            handovers: Vec::new(),
            responder,
            date_s: now.unix_ms / 1000,
            rng: fastrand::Rng::with_seed(seed),
            drafts: VecDeque::new(),
            publishers: VecDeque::new(),
            outcomes: Vec::new(),
            publishing_bytes: 0,
            sender: hub.new_sender(),
            answered_us: Vec::new(),
            history_bytes: 0,
            put_off: VecDeque::new(),
            is_turn_of_waits: false,
            encoded: Encoded::default(),
            waiting_told: 0,
            storage_fails: false,
            hub_was_full: false,
            sweep_began_us: None,
            unfinished: VecDeque::new(),
            readers: Vec::new(),
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            answer: Vec::new(),
            tally: Tally::default(),
        };
        shard.deliver(&history);
        shard
    }

    /// Takes in a connection. The reactor registers `socket` under the token that is returned.
    pub fn open(&mut self, socket: S, role: Role, now: Now) -> Token {
        self.last_generation = self.last_generation.wrapping_add(1).max(1);
        let generation = self.last_generation;
        let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
        let connection = Connection::new(socket, generation, role, deadline_ms);
        self.surplus += usize::from(role == Role::Surplus);
        self.tally.count(Counter::Accepts, 1);
        self.tally.shift(Gauge::Connections, 1);
        let slot = self.connections.insert(connection);
        self.slots_used = self.slots_used.max(slot + 1);
        Token {
            slot: u32::try_from(slot).expect("connections are bounded by file descriptors"),
            generation,
        }
    }

    /// The socket of a connection, for the reactor to register.
    pub fn socket(&self, token: Token) -> Option<&S> {
        let slot = self.slot_of(token)?;
        Some(&self.connections[slot].socket)
    }

    /// Whether this is somebody who has brought a webhook and may now come with the next.
    pub fn has_priority(&self, token: Token) -> bool {
        self.slot_of(token).is_some_and(|slot| {
            let connection = &self.connections[slot];
            connection.role == Role::Priority && matches!(connection.state, State::Idle)
        })
    }

    /// Lets go of a connection that the reactor could not register.
    pub fn abandon(&mut self, token: Token) {
        if let Some(slot) = self.slot_of(token) {
            self.close(slot);
        }
    }

    /// What the kernel says of a connection. An event for one that is gone is ignored.
    pub fn ready(&mut self, token: Token, readiness: Readiness, now: Now) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        let connection = &mut self.connections[slot];
        if readiness.writable && connection.socket.handle_writable().is_err() {
            return match connection.state {
                State::Streaming(_) => self.close_stream(slot, Counter::StreamsEndedByPeer),
                _ => self.close(slot),
            };
        }
        connection.hung_up |= readiness.hung_up;
        connection.readable |= readiness.readable || readiness.hung_up;
        if readiness.hung_up && !matches!(connection.state, State::Waiting(_)) {
            // Ends come by the hundred when a crowd leaves: whoever wants something goes first.
            return self.go_on_later(slot);
        }
        match &connection.state {
            State::Idle | State::Reading(..) if connection.readable => {
                self.read_requests(slot, now);
            }
            State::Answering(_) if readiness.writable => self.answer_on(slot, now),
            // A peer that has ended its side may still read; if not, the answer will show it.
            State::Waiting(_) if connection.hung_up => self.wake(slot),
            State::Idle
            | State::Reading(..)
            | State::Publishing(..)
            | State::Answering(_)
            | State::Waiting(_) => {}
            State::Streaming(_) => self.stream_ready(slot, readiness),
            State::Lingering { .. } => self.linger(slot),
        }
    }

    /// Appends the frames of a batch to the log, and notes who may be behind now, and which of this
    /// shard's webhooks are on disk.
    pub fn deliver(&mut self, batch: &Batch) {
        for frame in batch.frames() {
            let session = self
                .log
                .append(frame.seq, frame.session, frame.bytes, frame.chunk);
            self.note_behind(session);
        }
        self.encoded.forget();
        self.outcomes
            .extend(batch.outcomes_for(self.sender).cloned());
        if let Some(shared) = batch.shared_history() {
            self.log.set_shared_history(shared.clone());
        }
    }

    /// Whether webhooks of this turn wait to be published.
    pub fn has_drafts(&self) -> bool {
        !self.drafts.is_empty()
    }

    /// Hands the webhooks of this turn to the hub, in one go. What the hub has no room for stays
    /// until the next turn.
    pub fn publish(&mut self, hub: &Hub, now: Now) {
        hub.publish(self.sender, &mut self.drafts, now, &mut self.outcomes);
        self.hub_was_full = !self.drafts.is_empty();
        self.tally
            .count(Counter::PublishWaits, u64::from(self.hub_was_full));
    }

    /// Answers the webhooks that the hub has spoken on, and returns how many. Called when the
    /// frames it sent have been delivered: who has an answer finds the message in this log.
    pub fn answer_webhooks(&mut self, now: Now) -> usize {
        self.note_storage_fault();
        let mut outcomes = std::mem::take(&mut self.outcomes);
        let answered = outcomes.len();
        for outcome in outcomes.drain(..) {
            let Some(publisher) = self.publishers.pop_front() else {
                debug_assert!(false, "an outcome of nobody's webhook");
                break;
            };
            let Publisher { token, read_us, .. } = publisher;
            self.publishing_bytes -= publisher.bytes;
            self.answered_us.push(read_us);
            if let Some(slot) = self.slot_of(token) {
                let answered = self.answer_webhook(slot, &outcome, now);
                self.read_next(slot, answered, now);
            }
        }
        self.outcomes = outcomes;
        let waiting = i64::try_from(self.publishers.len()).unwrap_or(i64::MAX);
        self.tally
            .shift(Gauge::WebhooksWaiting, waiting - self.waiting_told);
        self.waiting_told = waiting;
        answered
    }

    /// Counts how long the webhooks took that were answered since the last call.
    pub fn observe_answers(&mut self, now: Now) {
        for read_us in self.answered_us.drain(..) {
            let took = Duration::from_micros(now.mono_us - read_us);
            self.tally.observe(Timing::Publish, took);
        }
    }

    /// How many connections' turns were over before their bytes were, or whose peers have ended them.
    pub fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Goes on with the one of them that has waited longest; if it is not done then, it is the last.
    pub fn resume_next(&mut self, now: Now) {
        if let Some(token) = self.unfinished.pop_front() {
            self.take_up(token, now);
        }
    }

    /// Goes on with a connection that was left for later.
    fn take_up(&mut self, token: Token, now: Now) {
        let Some(slot) = self.slot_of(token) else {
            return;
        };
        let connection = &mut self.connections[slot];
        connection.is_unfinished = false;
        match connection.state {
            State::Streaming(_) if connection.hung_up => {
                self.close_stream(slot, Counter::StreamsEndedByPeer);
            }
            State::Streaming(_) => self.drop_input(slot),
            State::Lingering { .. } => self.linger(slot),
            State::Answering(_) => self.answer_on(slot, now),
            _ => self.read_requests(slot, now),
        }
    }

    /// Does what is due: heartbeats, deadlines, the ends of streams in a drain.
    pub fn tick(&mut self, now: Now) {
        if now.unix_ms / 1000 != self.date_s {
            self.date_s = now.unix_ms / 1000;
            self.responder.set_time(now.wall());
        }
        let slots = self.slots_used;
        for slot in self.heartbeats_due.turn(now.mono_ms, slots) {
            self.heartbeat_due(slot);
        }
        for slot in self.heartbeats_last.turn(now.mono_ms, slots) {
            self.heartbeat_alone(slot);
        }
        for slot in self.deadline_scan.turn(now.mono_ms, slots) {
            self.check_deadline(slot, now);
        }
        if let Some(drain) = &mut self.drain {
            drain.note_told(now.mono_ms);
            let is_over = now.mono_ms >= drain.deadline_ms;
            let is_idle_over = drain
                .idle_ends_ms
                .is_some_and(|ends_ms| now.mono_ms >= ends_ms);
            drain.idle_ends_ms = drain.idle_ends_ms.filter(|_| !is_idle_over);
            for slot in drain.ends.turn(now.mono_ms, slots) {
                self.end_stream(slot);
            }
            if is_idle_over {
                self.close_idle(now);
            }
            if is_over {
                self.close_all();
            }
        }
    }

    /// One slice of the sweep: up to [`SLICE_WRITES`](crate::limits::SLICE_WRITES) writes.
    pub fn sweep(&mut self, now: Now) {
        if self.sweep_began_us.is_none() && !self.sweep.is_idle() {
            self.sweep_began_us = Some(now.mono_us);
        }
        self.sweep_slice(now);
    }

    /// Ends a turn: the next may make as much history again.
    pub fn end_turn(&mut self) {
        self.history_bytes = 0;
    }

    /// For how long streams have waited to be served, in microseconds: since the sweep began that is
    /// under way, or since now.
    pub fn behind_us(&self, now: Now) -> Option<u64> {
        let began_us = self.sweep_began_us.unwrap_or(now.mono_us);
        (!self.sweep.is_idle()).then(|| now.mono_us.saturating_sub(began_us))
    }

    /// Whether a sweep has been under way since the last [`Shard::end_sweep`].
    pub fn is_sweeping(&self) -> bool {
        self.sweep_began_us.is_some()
    }

    /// Counts how long the sweep took, if the slice before this was its last.
    pub fn end_sweep(&mut self, now: Now) {
        if self.sweep.is_idle()
            && let Some(began_us) = self.sweep_began_us.take()
        {
            let took = Duration::from_micros(now.mono_us.saturating_sub(began_us));
            self.tally.observe(Timing::Sweep, took);
        }
    }

    /// How long there is nothing to do unless something becomes ready, in milliseconds; `None` for
    /// as long as that takes.
    pub fn idle_ms(&self, now: Now) -> Option<u64> {
        // Webhooks that came with an answer, pipelined behind another, are for the next turn.
        let has_fresh_drafts = self.has_drafts() && !self.hub_was_full;
        // Connections that are not read before the hub has spoken would only be put off again.
        let is_put_off = self.publishing_bytes > PUBLISHING_BYTES_MAX;
        let has_unfinished = !self.unfinished.is_empty() && !is_put_off;
        if !self.sweep.is_idle() || has_unfinished || has_fresh_drafts || self.has_history_work() {
            return Some(0);
        }
        // The other shards make room every turn.
        let retry_ms = self.has_drafts().then_some(now.mono_ms + 1);
        let streams = if self.streams() > 0 {
            self.slots_used
        } else {
            0
        };
        let slots = if self.connections.is_empty() {
            0
        } else {
            self.slots_used
        };
        let due_ms = [
            retry_ms,
            self.heartbeats_last.due_ms(streams),
            self.deadline_scan.due_ms(slots),
            self.drain.as_ref().map(|drain| drain.next_ms(slots)),
        ];
        let next_ms = due_ms.into_iter().flatten().min()?;
        Some(next_ms.saturating_sub(now.mono_ms))
    }

    /// What has been counted since the last flush.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Connections over the limit.
    pub fn surplus(&self) -> usize {
        self.surplus
    }

    /// How many connections within the limit are gone since the last call.
    pub fn take_closed(&mut self) -> usize {
        std::mem::take(&mut self.standard_closed)
    }

    /// Connections, in whatever state.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.sweep.members()
    }

    /// Sessions that have a stream here or a frame in the live log.
    pub fn sessions(&self) -> usize {
        self.log.sessions()
    }

    /// What the connections hold beyond their slots. Looks at every one of them.
    pub fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::default();
        let mut holding = 0;
        for (slot, connection) in &self.connections {
            let held_bytes = connection.state.held_bytes();
            let is_small = held_bytes <= SMALL_REQUEST_BYTES_MAX;
            let counted_bytes = if is_small { 0 } else { held_bytes };
            debug_assert_eq!(self.shares.held_bytes(slot), counted_bytes);
            holding += usize::from(!is_small);
            match &connection.state {
                State::Idle | State::Lingering { .. } => {}
                State::Reading(..) | State::Publishing(..) => holdings.readers += 1,
                State::Answering(answering) => {
                    holdings.readers += usize::from(answering.reader.is_some());
                    holdings.answer_bytes += answering.bytes.capacity();
                }
                State::Waiting(waiting) => {
                    holdings.readers += usize::from(waiting.reader.is_some());
                }
                State::Streaming(stream) => holdings.own_bytes += stream.own_bytes(),
            }
        }
        debug_assert_eq!(self.shares.connections(), holding);
        holdings
    }

    /// Puts a connection, which was idle, into a state, and reports what it holds there.
    fn set_state(&mut self, slot: usize, state: State, now: Now) {
        self.connections[slot].state = state;
        self.note_held(slot, now);
    }

    /// Takes a connection out of its state.
    fn take_state(&mut self, slot: usize) -> State {
        let state = std::mem::replace(&mut self.connections[slot].state, State::Idle);
        self.release_held(slot, &state);
        state
    }

    /// What a connection held in a state, it holds no more.
    fn release_held(&mut self, slot: usize, state: &State) {
        if state.held_bytes() > SMALL_REQUEST_BYTES_MAX {
            self.shares.release(slot as u32);
        }
    }

    fn slot_of(&self, token: Token) -> Option<usize> {
        let slot = token.slot as usize;
        let connection = self.connections.get(slot)?;
        (connection.generation == token.generation).then_some(slot)
    }

    fn token_of(&self, slot: usize) -> Token {
        Token {
            slot: slot as u32,
            generation: self.connections[slot].generation,
        }
    }

    /// Its turn is over before its bytes are: [`Shard::resume_next`] goes on with them.
    fn go_on_later(&mut self, slot: usize) {
        let token = self.token_of(slot);
        if !std::mem::replace(&mut self.connections[slot].is_unfinished, true) {
            self.unfinished.push_back(token);
        }
    }

    /// Acts on a deadline that has passed: an unfinished request is told so, everything else ends.
    fn check_deadline(&mut self, slot: usize, now: Now) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if let State::Streaming(stream) = &connection.state
            && now.mono_ms >= stream.life_ends_ms
        {
            // Who takes nothing does not take the end either: its deadline still holds.
            self.tell_end(slot, FANOUT_RETRY_MS);
        }
        let connection = &self.connections[slot];
        if now.mono_ms < connection.deadline_ms {
            return;
        }
        match &connection.state {
            // It was us who did not read.
            State::Idle | State::Reading(..) if self.intake == Intake::Held => {}
            State::Reading(..) => self.refuse_slow(slot, now),
            State::Waiting(_) => self.wake(slot),
            State::Streaming(_) => self.close_stalled_stream(slot, now),
            State::Answering(_) => self.close_stalled_answer(slot, now),
            _ => self.close(slot),
        }
    }

    /// Closes a stream whose socket still takes nothing. It may take bytes again although no event has
    /// said so yet: the thread may have slept for longer than the peer.
    fn close_stalled_stream(&mut self, slot: usize, now: Now) {
        if let State::Streaming(stream) = &mut self.connections[slot].state {
            stream.blocked = false;
        }
        self.serve_stream(slot, now);
        if let Some(connection) = self.connections.get(slot)
            && let State::Streaming(stream) = &connection.state
            && stream.blocked
            && now.mono_ms >= connection.deadline_ms
        {
            self.close_stream(slot, Counter::StreamsStalled);
        }
    }

    /// The same for a peer that has not taken its answer.
    fn close_stalled_answer(&mut self, slot: usize, now: Now) {
        self.answer_on(slot, now);
        if let Some(connection) = self.connections.get(slot)
            && matches!(connection.state, State::Answering(_))
            && now.mono_ms >= connection.deadline_ms
        {
            self.close(slot);
        }
    }

    /// Logs when storing begins to fail and when it works again, not every failure.
    fn note_storage_fault(&mut self) {
        let Some(last) = self.outcomes.last() else {
            return;
        };
        match (self.storage_fails, last) {
            (false, Err(error)) => {
                tracing::error!(%error, "webhooks cannot be stored and are answered with 500");
            }
            (true, Ok(_)) => tracing::info!("webhooks can be stored again"),
            _ => {}
        }
        self.storage_fails = last.is_err();
    }

    /// The one way in which a connection ends here; the other way out is [`Shard::leave`].
    fn close(&mut self, slot: usize) {
        self.take_out(slot);
    }

    /// Takes out a connection that goes to the successor.
    fn leave(&mut self, slot: usize, bytes: Vec<u8>) {
        let socket = self.take_out(slot).socket;
        self.handovers.push(HandoverConnection { socket, bytes });
    }

    fn take_out(&mut self, slot: usize) -> Connection<S> {
        let mut connection = self.connections.remove(slot);
        let state = std::mem::replace(&mut connection.state, State::Idle);
        self.release_held(slot, &state);
        let reader = match state {
            State::Streaming(stream) => {
                self.forget_stream(slot, &stream);
                None
            }
            State::Reading(reader, _) | State::Publishing(reader, _) => Some(reader),
            State::Answering(answering) => answering.reader,
            State::Waiting(waiting) => {
                self.forget_place(slot, &waiting.place);
                waiting.reader
            }
            State::Idle | State::Lingering { .. } => None,
        };
        if let Some(reader) = reader {
            self.give_reader(reader);
        }
        self.tally.shift(Gauge::Connections, -1);
        match connection.role {
            Role::Standard | Role::Priority => self.standard_closed += 1,
            Role::Surplus => self.surplus -= 1,
        }
        if self.connections.is_empty() {
            self.slots_used = 0;
        }
        connection
    }

    fn take_reader(&mut self) -> Box<RequestReader> {
        let body_bytes_max = self.settings.body_bytes_max;
        self.readers
            .pop()
            .unwrap_or_else(|| Box::new(RequestReader::new(Vec::new(), body_bytes_max)))
    }

    fn give_reader(&mut self, mut reader: Box<RequestReader>) {
        if self.readers.len() < POOLED_READERS_MAX {
            let used = std::mem::replace(&mut *reader, RequestReader::new(Vec::new(), 0));
            *reader = RequestReader::new(used.into_buffer(), self.settings.body_bytes_max);
            self.readers.push(reader);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
