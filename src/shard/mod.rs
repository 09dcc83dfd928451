//! A shard: connections, their streams, and a live log of its own, driven turn by turn.
//!
//! The reactor (`net`) polls the kernel and runs a [`turn`] after each poll. Nothing in a [`Shard`] is
//! shared with another thread, has a clock or knows `mio`, so benches and simulations drive it with
//! sockets of their own.
//!
//! A turn calls [`Shard::ready`] for each event, [`Shard::resume_next`] for connections with more to
//! read, [`Shard::answer_next_history`] for requests that were put off or have waited,
//! [`Shard::take_source_requests`] for requests to sources, [`Shard::take_verdict`] for their verdicts,
//! [`Shard::take_questions`] for questions to other shards, [`Shard::take_count`] for their answers,
//! [`Shard::publish`] for webhooks that were read, [`Shard::deliver`] for batches of the hub,
//! [`Shard::answer_webhooks`] for outcomes, [`Shard::tick`] for what is due, [`Shard::sweep`] for one
//! slice of writes, and [`Shard::end_turn`]. A long turn runs all from `publish` to `sweep` several
//! times.
//!
//! Parts that own their fields:
//!
//! - `connections`: connections by slot, and what they hold, by client (`shares`).
//! - `connection`, `exchange`, `stream`, `waiting`: the state of one connection, and a pool of exchanges.
//! - `publishing`: drafts for the hub, and its outcomes.
//! - `judging`: requests to sources, and their verdicts.
//! - `presence`: questions how many streams see a session; `census`: the counts for other nodes.
//! - `scheduler`: what is due by time (`stagger`), and which connections are read again.
//! - `membership`, `sweep`: which streams and long polls a message concerns, and which is next.
//! - `history`: requests for the history that were put off, and the turn's budget for them.
//! - `compression`: the compressor, and the checksums of compressed streams.
//! - `resumption`: which event ids name a place in this node's history.
//! - `drain`: how far the end of the shard is.
//!
//! What a shard does:
//!
//! - `turn`: the order of all this, its budgets, and commands; `poller`: what it needs of the kernel.
//! - `requests`: from bytes to decisions.
//! - `fanout`, `subscription`: from a message to its streams, and from frames to bytes.
//! - `history`, `pages`: the history by request.
//! - `turnover`: the beginning of an epoch, for which streams may have to end.
//! - `answers`: from decisions to bytes.
//! - `drain`: the end of a shard, with or without a successor.
//!
//! `transport` is what a shard needs of a socket, and `client` the identity of a client.

mod answers;
pub mod census;
pub mod client;
mod compression;
mod connection;
mod connections;
mod drain;
mod exchange;
mod expiry;
mod fanout;
pub mod guesses;
mod history;
pub mod judging;
mod links;
mod membership;
mod pages;
pub mod poller;
pub mod presence;
mod publishing;
mod requests;
mod resumption;
mod scheduler;
mod shares;
mod stagger;
mod stream;
mod subscription;
mod sweep;
mod transport;
pub mod turn;
mod turnover;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::http::{Access, AllowOrigin, Responder};
use crate::hub::{Batch, Hub};
use crate::limits::{READ_BYTES, REQUEST_DEADLINE_MS};
use crate::live_log::LiveLog;
use crate::metrics::{Counter, Gauge, Tally};
use compression::Compression;
use connection::{Connection, State};
pub use connection::{Role, Token};
use connections::Connections;
pub use connections::Holdings;
pub use drain::HandoverConnection;
use drain::Shutdown;
use exchange::{ExchangePool, Stage};
use expiry::Expiry;
use guesses::Guesses;
use history::Histories;
use judging::Docket;
use links::Links;
use membership::Sweeps;
use presence::Presence;
use publishing::Publishing;
use resumption::Resumption;
use scheduler::Scheduler;
pub use transport::Transport;

/// The configuration of the shards; the same for all of them.
#[derive(Clone)]
pub struct Settings {
    /// Time between two heartbeats on a stream.
    pub heartbeat_interval: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// Longest request body in bytes.
    pub body_bytes_max: usize,
    /// The number of shards.
    pub shards: usize,
    /// Bytes that the connections of a shard may hold together; see [`Holdings`].
    pub held_bytes_max: usize,
    /// Over how long a drain is spread.
    pub drain: Duration,
    /// The longest life of a stream that a shared cache may give to many clients; `None` if none may.
    pub fanout_life: Option<Duration>,
    /// Whether streams are compressed for clients that accept gzip.
    pub compress_streams: bool,
    /// Smallest live log in bytes. It is larger where a full history needs more.
    pub log_bytes_min: usize,
    /// The configured secret, and the keys of tokens at the start.
    pub access: Access,
    /// Guesses at secrets and tokens, for all shards.
    pub guesses: Arc<Guesses>,
    /// Whose pages may use the API.
    pub allow_origin: AllowOrigin,
}

/// See the module's description. Each part owns its fields.
pub struct Shard<S> {
    settings: Arc<Settings>,
    /// That of the settings, with the present keys of tokens.
    access: Access,
    resumption: Resumption,
    log: LiveLog,
    compression: Compression,
    connections: Connections<S>,
    exchanges: ExchangePool,
    publishing: Publishing,
    docket: Docket,
    presence: Presence,
    histories: Histories,
    sweeps: Sweeps,
    links: Links,
    /// When the sweep in progress over the streams began.
    sweep_began_us: Option<u64>,
    scheduler: Scheduler,
    expiry: Expiry,
    shutdown: Shutdown<S>,
    responder: Responder,
    /// The answer that is being encoded and sent.
    answer: Vec<u8>,
    read_buffer: Box<[u8]>,
    rng: fastrand::Rng,
    tally: Tally,
}

/// The readiness of a connection's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readiness {
    /// There are bytes to read, or their end.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The peer has ended its side, or the connection is broken.
    pub hung_up: bool,
}

impl<S: Transport> Shard<S> {
    /// A shard without connections, with the history in its log. `seed` is for jitter.
    pub fn new(settings: Arc<Settings>, hub: &Hub, seed: u64, now: Now) -> Shard<S> {
        let (first_seq, history) = hub.history_batch();
        let log_bytes = settings.log_bytes_min.max(hub.history_bytes_max(&history));
        let mut shard = Shard {
            access: settings.access.clone(),
            resumption: Resumption::new(hub),
            log: if settings.compress_streams {
                LiveLog::with_compression(first_seq, log_bytes)
            } else {
                LiveLog::new(first_seq, log_bytes)
            },
            compression: Compression::new(settings.compress_streams),
            connections: Connections::new(settings.held_bytes_max),
            exchanges: ExchangePool::new(settings.body_bytes_max),
            publishing: Publishing::new(hub.new_sender()),
            docket: Docket::new(settings.shards),
            presence: Presence::default(),
            histories: Histories::default(),
            sweeps: Sweeps::default(),
            links: Links::default(),
            sweep_began_us: None,
            scheduler: Scheduler::new(&settings, now),
            expiry: Expiry::default(),
            shutdown: Shutdown::default(),
            responder: Responder::new(settings.allow_origin.clone(), now.wall()),
            answer: Vec::new(),
            read_buffer: vec![0; READ_BYTES].into_boxed_slice(),
            rng: fastrand::Rng::with_seed(seed),
            tally: Tally::default(),
            settings,
        };
        shard.deliver(&history);
        shard
    }

    /// Adds a connection. The reactor registers its socket under the returned token.
    pub fn open(&mut self, socket: S, role: Role, now: Now) -> Token {
        self.tally.count(Counter::Accepts, 1);
        self.tally.shift(Gauge::Connections, 1);
        let deadline_ms = now.mono_ms + REQUEST_DEADLINE_MS;
        self.connections.insert(socket, role, deadline_ms)
    }

    /// The socket of a connection, for the reactor to register.
    pub fn socket(&self, token: Token) -> Option<&S> {
        let slot = self.connections.slot_of(token)?;
        Some(&self.connections[slot].socket)
    }

    /// Whether a connection has published and may now send its next request.
    pub fn has_priority(&self, token: Token) -> bool {
        self.connections.slot_of(token).is_some_and(|slot| {
            let connection = &self.connections[slot];
            connection.role == Role::Priority && matches!(connection.state, State::Idle)
        })
    }

    /// Closes a connection that the reactor could not register.
    pub fn abandon(&mut self, token: Token) {
        if let Some(slot) = self.connections.slot_of(token) {
            self.close(slot);
        }
    }

    /// Acts on an event of a connection's socket. An event of a closed connection is ignored.
    pub fn ready(&mut self, token: Token, readiness: Readiness, now: Now) {
        let Some(slot) = self.connections.slot_of(token) else {
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
        let is_readable = connection.readable;
        if readiness.hung_up {
            return match connection.state.stage() {
                // A long poll is answered now: its peer may still read.
                Some(Stage::Waiting(_)) => self.wake(slot),
                // Hundreds of connections may end at once: requests of others go first.
                _ => self.resume_later(slot),
            };
        }
        match &connection.state {
            State::Streaming(_) => self.stream_ready(slot, readiness),
            State::Lingering { .. } => self.linger(slot),
            State::Idle if is_readable => self.read_requests(slot, now),
            State::Idle => {}
            State::Exchange(exchange) => match exchange.stage {
                Stage::Reading if is_readable => self.read_requests(slot, now),
                Stage::Answering(_) if readiness.writable => self.resume_answer(slot, now),
                _ => {}
            },
        }
    }

    /// Begins the epoch of a batch, if it begins one. Appends the frames to the log, marks the streams that
    /// may see them as behind, and keeps the outcomes of this shard's webhooks.
    pub fn deliver(&mut self, batch: &Batch) {
        if let Some(turnover) = batch.turnover() {
            self.turn_over(turnover);
        }
        if self.settings.compress_streams {
            self.log_both(batch);
        } else {
            for frame in batch.frames() {
                let session = self.log.append(
                    frame.seq,
                    frame.timestamp_ms,
                    frame.session,
                    frame.bytes,
                    frame.chunk,
                );
                self.note_behind(session);
            }
        }
        self.histories.encoded.forget();
        self.publishing.take_outcomes(batch);
        if let Some(shared) = batch.shared_history() {
            self.log.set_shared_history(shared.clone());
        }
    }

    /// Closes a connection.
    fn close(&mut self, slot: usize) {
        self.remove(slot);
    }

    /// Removes a connection and takes it out of all lists: the only way in which one leaves the shard.
    fn remove(&mut self, slot: usize) -> Connection<S> {
        let mut connection = self.connections.remove(slot);
        self.tally.shift(Gauge::Connections, -1);
        match std::mem::replace(&mut connection.state, State::Idle) {
            State::Idle | State::Lingering { .. } => {}
            State::Streaming(stream) => self.forget_stream(slot, &stream),
            State::Exchange(exchange) => {
                match &exchange.stage {
                    Stage::Waiting(waiting) => self.forget_place(slot, &waiting.place),
                    Stage::Counting(_) => self.presence.forget(),
                    _ => {}
                }
                self.exchanges.give(exchange);
            }
        }
        connection
    }

    // For the turn, the metrics and tests.

    /// What was counted since the last flush.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// The number of connections within the limit that were closed or handed over since the last call.
    pub fn take_removed(&mut self) -> usize {
        self.connections.take_removed()
    }

    /// Open connections over the limit.
    pub fn surplus(&self) -> usize {
        self.connections.surplus()
    }

    /// Open connections, in any state.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Open streams.
    pub fn streams(&self) -> usize {
        self.sweeps.streams.members()
    }

    /// Sessions that have a stream here or a frame in the live log.
    pub fn sessions(&self) -> usize {
        self.log.sessions()
    }

    /// What the connections hold beyond their slots. Looks at every connection.
    pub fn holdings(&self) -> Holdings {
        self.connections.holdings()
    }
}

#[cfg(test)]
pub(crate) mod tests;
