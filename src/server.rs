//! Puts the parts together: opens the ring, binds, starts the threads, and waits for their end.
//!
//! Called by `main` with a finished configuration and what was passed on to this process. Threads: one
//! per shard, those that wait for signals (`control`), one that waits for the disk if that is asked
//! for, and those of the admin address, the mirror, the watchdog and a predecessor's connections.
//! Never parses a flag, never touches a connection.
//!
//! [`run`] is the life of the process from top to bottom; the steps follow in their order.
//!
//! - `listening`: the sockets, bound or passed on.
//! - `rehearsal`: a start without its effects, for `--check-config`.
//! - `settings`: what the shards know of the configuration.
//! - `takeover`: a predecessor's connections.

mod error;
mod listening;
mod rehearsal;
mod settings;
mod takeover;

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use self::listening::Listening;
use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{Config, Durability};
use crate::control::{Control, OpenRing, StartCommits};
use crate::handover::predecessor::Predecessor;
use crate::hub::{Committer, Hub, Outlet};
use crate::inherit::{Passed, Sockets};
use crate::lifecycle::Lifecycle;
use crate::limits::KV_LAST_SYNC_MS_MIN;
use crate::metrics::{Gauge, Metrics, Tally};
use crate::mirror::{self, MirrorHandle, Stopped};
use crate::net::handle::ShardHandle;
use crate::net::listener::Bound;
use crate::net::peers::Peers;
use crate::net::reactor::Reactor;
use crate::net::socket::LayeredSocket;
use crate::ring::{self, Made, Recovered, Report, Ring};
use crate::service;
use crate::shard::Shard;
use crate::tls::Tls;

pub use self::error::ServerError;
pub use self::rehearsal::rehearse;

/// What was passed on to this process.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Listening sockets, to be used in place of binding.
    pub sockets: Sockets,
    /// The server that this one takes over from: it holds the ring until it is asked for it.
    pub predecessor: Option<Predecessor>,
}

/// Serves until a signal ends it.
pub fn run(
    config: &Config,
    metrics: &Arc<Metrics>,
    inherited: Inherited,
) -> Result<(), ServerError> {
    let Inherited {
        sockets,
        predecessor,
    } = inherited;
    if predecessor.is_none() {
        listening::check(config, &sockets)?;
    }
    warn(config, &sockets);
    let start = Start::begin(config, metrics, sockets.admin)?;
    if predecessor.is_none() {
        // First of all, so that it can tell of the start. A predecessor's answers until we serve.
        start.open_admin()?;
    }
    // What may be missing or taken comes before the ring: a start that fails leaves no file behind.
    let tls = load_tls(config)?;
    let doors = Doors::open(config, sockets.serving, tls)?;
    if let Some(predecessor) = &predecessor {
        predecessor.await_ring().map_err(ServerError::Predecessor)?;
    }
    let store = open_store(config)?;
    let mut server = start.start_threads(store, doors)?;
    start.lifecycle.set_ready();
    match predecessor {
        Some(predecessor) => {
            start.open_admin()?;
            server.take_over(predecessor)?;
        }
        None => service::ready(),
    }
    server.listening.log(config, server.history);
    server.wait()?;
    server.close(config)
}

/// What the steps of the start share.
struct Start<'a> {
    config: &'a Config,
    metrics: &'a Arc<Metrics>,
    clock: Clock,
    lifecycle: Arc<Lifecycle>,
    admin: Admin,
    admin_socket: Option<TcpListener>,
}

impl<'a> Start<'a> {
    /// What costs nothing; and the admin address, if it can be had.
    fn begin(
        config: &'a Config,
        metrics: &'a Arc<Metrics>,
        admin_socket: Option<TcpListener>,
    ) -> Result<Start<'a>, ServerError> {
        crate::window::prepare();
        tell_limits(config, metrics);
        let lifecycle = Arc::new(Lifecycle::new());
        Ok(Start {
            config,
            metrics,
            clock: Clock::start(),
            admin: Admin::new(Arc::clone(metrics), Arc::clone(&lifecycle)),
            lifecycle,
            admin_socket: listening::bind_admin(config, admin_socket)?,
        })
    }

    fn open_admin(&self) -> Result<(), ServerError> {
        let Some(socket) = &self.admin_socket else {
            return Ok(());
        };
        let start = || {
            self.admin.start(socket)?;
            socket.local_addr()
        };
        let address = start().map_err(|error| ServerError::Start("the admin address", error))?;
        tracing::info!(%address, "metrics and health");
        Ok(())
    }

    /// Starts all that runs: the shards are the last, when there is everything that they need.
    fn start_threads(&self, store: Store, doors: Doors) -> Result<Server, ServerError> {
        let Doors {
            reactors,
            mut listening,
            peers,
            tls,
        } = doors;
        let (store, made) = store.take_made();
        let history = store.recovered.messages.len();
        let ring_stats = store.ring.stats();
        let (publish_bell, published) = bounded(1);
        let publish_bell = self.config.kv.is_some().then_some(publish_bell);

        let (hub, committer) = make_hub(self.config, store, reactors.outlets, publish_bell);
        // All logs begin with the same history, so nothing may publish before the last is made.
        let shards = self.make_shards(&hub);
        if let Some(committer) = committer {
            self.start_commits(committer, &hub)?;
        }
        let mirror = self.start_mirror(&hub, published)?;
        self.admin
            .tell_of(ring_stats, mirror.as_ref().map(MirrorHandle::stats));
        let to_pass_on = listening.take_sockets(self.admin_socket.as_ref());
        let drain_began = to_pass_on
            .and_then(|sockets| self.start_control(sockets, &reactors.handles, &hub, tls))
            .map_err(|error| ServerError::Start("waiting for signals", error))?;
        if let Some(made) = made {
            // From here on it may hold messages that were acknowledged.
            made.keep();
        }
        let ended = self.run_shards(reactors.threads, shards, &hub)?;
        service::start_watchdog(reactors.handles.clone())
            .map_err(|error| ServerError::Start("the watchdog", error))?;
        Ok(Server {
            history,
            hub,
            shards: reactors.handles,
            ended,
            mirror,
            listening,
            peers,
            drain_began,
        })
    }

    fn make_shards(&self, hub: &Hub) -> Vec<Shard<LayeredSocket>> {
        let settings = Arc::new(settings::of(self.config));
        let shard = |_| {
            Shard::new(
                Arc::clone(&settings),
                hub,
                fastrand::u64(..),
                self.clock.now(),
            )
        };
        (0..self.config.shards).map(shard).collect()
    }

    fn start_commits(&self, committer: Committer, hub: &Arc<Hub>) -> Result<(), ServerError> {
        let start = self.commits_starter(hub);
        start(committer).map_err(|error| ServerError::Start("a thread", error))
    }

    fn commits_starter(&self, hub: &Arc<Hub>) -> StartCommits {
        let (hub, metrics, clock) = (Arc::clone(hub), Arc::clone(self.metrics), self.clock);
        Box::new(move |committer| {
            let (hub, metrics) = (Arc::clone(&hub), Arc::clone(&metrics));
            let run = move || committer.run(&hub, &metrics, clock);
            let thread = thread::Builder::new().name("commit".into()).spawn(run);
            thread.map(drop)
        })
    }

    fn start_mirror(
        &self,
        hub: &Arc<Hub>,
        published: Receiver<()>,
    ) -> Result<Option<MirrorHandle>, ServerError> {
        let Some(kv) = self.config.kv.clone() else {
            return Ok(None);
        };
        let (hub, metrics) = (Arc::clone(hub), Arc::clone(self.metrics));
        mirror::spawn(kv, hub, published, metrics, self.clock)
            .map(Some)
            .map_err(ServerError::Mirror)
    }

    /// What is returned is set to when the drain began.
    fn start_control(
        &self,
        to_pass_on: Sockets,
        shards: &[ShardHandle],
        hub: &Arc<Hub>,
        tls: Option<Arc<Tls>>,
    ) -> io::Result<Arc<OnceLock<Instant>>> {
        let drain_began = Arc::new(OnceLock::new());
        let control = Control {
            shards: shards.to_vec(),
            hub: Arc::clone(hub),
            open_ring: ring_opener(self.config),
            start_commits: self.commits_starter(hub),
            admin: self.admin.clone(),
            tls,
            lifecycle: Arc::clone(&self.lifecycle),
            drain_began: Arc::clone(&drain_began),
        };
        control.start(to_pass_on)?;
        Ok(drain_began)
    }

    /// Runs each shard on a thread of its own; what is returned yields how each has ended.
    fn run_shards(
        &self,
        reactors: Vec<Reactor>,
        shards: Vec<Shard<LayeredSocket>>,
        hub: &Arc<Hub>,
    ) -> Result<Receiver<io::Result<()>>, ServerError> {
        let clock = self.clock;
        let (ended_sender, ended) = bounded(shards.len());
        for (index, (reactor, shard)) in reactors.into_iter().zip(shards).enumerate() {
            let (hub, metrics) = (Arc::clone(hub), Arc::clone(self.metrics));
            let ended = ended_sender.clone();
            spawn(format!("shard {index}"), move || {
                // The receiver is gone only when the process ends anyway.
                let _ = ended.send(reactor.run(shard, &hub, &metrics, clock));
            })?;
        }
        Ok(ended)
    }
}

/// Warns of what is probably not meant. Where sockets were passed, it is their addresses that count.
fn warn(config: &Config, passed: &Sockets) {
    let (listen, admin) = listening::addresses(config, passed);
    for warning in config.warnings_on(&listen, admin) {
        tracing::warn!("{warning}");
    }
}

fn tell_limits(config: &Config, metrics: &Metrics) {
    let mut tally = Tally::new();
    tally.shift(
        Gauge::ConnectionsMax,
        config.connections_max.cast_signed() as i64,
    );
    tally.shift(Gauge::Shards, config.shards.cast_signed() as i64);
    tally.flush(metrics);
}

fn load_tls(config: &Config) -> Result<Option<Arc<Tls>>, ServerError> {
    let tls = config.tls.clone().map(Tls::load).transpose();
    let tls = tls.map_err(ServerError::Tls)?;
    for warning in tls.iter().flat_map(Tls::warnings) {
        tracing::warn!("{warning}");
    }
    Ok(tls.map(Arc::new))
}

/// The ring, and what was in it.
struct Store {
    ring: Ring,
    recovered: Recovered,
}

impl Store {
    /// Splits off the file, if it was made by this start.
    fn take_made(mut self) -> (Store, Option<Made>) {
        let made = self.ring.take_made();
        (self, made)
    }
}

fn open_store(config: &Config) -> Result<Store, ServerError> {
    let (ring, recovered) =
        ring_opener(config)().map_err(|error| ServerError::Ring(config.ring.clone(), error))?;
    log_ring(config, &recovered.report);
    Ok(Store { ring, recovered })
}

fn ring_opener(config: &Config) -> OpenRing {
    let open = match config.durability {
        Durability::Process => Ring::open,
        Durability::Disk => Ring::open_for_commits,
    };
    let (path, body_bytes_max) = (config.ring.clone(), config.body_bytes_max);
    Box::new(move || open(&path, body_bytes_max))
}

fn log_ring(config: &Config, report: &Report) {
    let ring = config.ring.display();
    if report.is_warning() {
        tracing::warn!(%ring, "{report}");
    } else {
        tracing::info!(%ring, "{report}");
    }
    // One that is made here is for its owner alone; a copy has the mode of any file.
    let is_exposed = |file: std::fs::Metadata| file.permissions().mode() & 0o006 != 0;
    if std::fs::metadata(&config.ring).is_ok_and(is_exposed) {
        tracing::warn!(%ring, "every user of this machine may read or write the ring; chmod o-rw it");
    }
    if ring::is_mounted_alone(&config.ring) {
        tracing::warn!(
            %ring,
            "the ring is a mount point: a new file cannot take its place, as it must after a power \
             failure, after damage, and for larger messages; mount its directory instead of the file"
        );
    }
}

/// Where connections come in, and what will serve them.
struct Doors {
    reactors: Reactors,
    listening: Listening,
    peers: Arc<Peers>,
    tls: Option<Arc<Tls>>,
}

impl Doors {
    fn open(
        config: &Config,
        passed: Vec<Passed>,
        tls: Option<Arc<Tls>>,
    ) -> Result<Doors, ServerError> {
        let peers = Arc::new(listening::peers(config, &passed));
        let (listeners, listening) = listening::bind(config, passed, tls.as_ref(), &peers)?;
        Ok(Doors {
            reactors: Reactors::make(config, listeners)?,
            listening,
            peers,
            tls,
        })
    }
}

/// The shards' threads to be, and what others need of them.
struct Reactors {
    threads: Vec<Reactor>,
    outlets: Vec<Outlet>,
    handles: Vec<ShardHandle>,
}

impl Reactors {
    /// One for each shard, of which the first accepts.
    fn make(config: &Config, listeners: Vec<Bound>) -> Result<Reactors, ServerError> {
        let made: io::Result<Vec<_>> = (0..config.shards).map(|_| Reactor::new()).collect();
        let made = made.map_err(|error| ServerError::Start("a shard", error))?;
        let (mut threads, outlets, handles): (Vec<Reactor>, _, Vec<ShardHandle>) =
            made.into_iter().collect();
        threads[0]
            .accept_from(listeners, handles.clone(), config.connections_max)
            .map_err(|error| ServerError::Start("accepting", error))?;
        Ok(Reactors {
            threads,
            outlets,
            handles,
        })
    }
}

fn make_hub(
    config: &Config,
    store: Store,
    outlets: Vec<Outlet>,
    publish_bell: Option<Sender<()>>,
) -> (Arc<Hub>, Option<Committer>) {
    let Store { ring, recovered } = store;
    match config.durability {
        Durability::Process => {
            let hub = Hub::new(ring, recovered.messages, outlets, publish_bell);
            (Arc::new(hub), None)
        }
        Durability::Disk => {
            let (hub, committer) =
                Hub::with_commits(ring, recovered.messages, outlets, publish_bell);
            (Arc::new(hub), Some(committer))
        }
    }
}

/// What runs, and what its end needs.
struct Server {
    /// Messages that were in the ring at the start.
    history: usize,
    hub: Arc<Hub>,
    shards: Vec<ShardHandle>,
    /// Yields how each shard has ended; all of them have when nothing more comes.
    ended: Receiver<io::Result<()>>,
    mirror: Option<MirrorHandle>,
    listening: Listening,
    peers: Arc<Peers>,
    /// Set by `control`.
    drain_began: Arc<OnceLock<Instant>>,
}

impl Server {
    /// Tells the predecessor that it is not needed any more, and takes what it gives away.
    fn take_over(&mut self, predecessor: Predecessor) -> Result<(), ServerError> {
        predecessor.take_over().map_err(ServerError::Predecessor)?;
        self.listening.set_files_ours(true);
        let (shards, peers) = (self.shards.clone(), Arc::clone(&self.peers));
        spawn("predecessor".into(), move || {
            takeover::take_connections(&predecessor, &shards, &peers);
        })
    }

    /// Waits until every shard has drained. One that cannot go on ends the server: half a server is
    /// worse than a restart.
    fn wait(&mut self) -> Result<(), ServerError> {
        let ended: io::Result<()> = self.ended.iter().collect();
        if self.hub.is_released() {
            self.listening.set_files_ours(false);
        }
        ended.map_err(ServerError::Shard)
    }

    /// The last sync with KV, and then the ring's end.
    fn close(self, config: &Config) -> Result<(), ServerError> {
        let drain_began = self.drain_began.get().copied();
        let drain_ends = drain_began.unwrap_or_else(Instant::now) + config.drain;
        if let Some(mirror) = self.mirror {
            stop_mirror(mirror, drain_ends);
        }
        self.hub
            .close()
            .map_err(|error| ServerError::Close(config.ring.clone(), error))?;
        tracing::info!("drained, ring on disk, bye");
        Ok(())
    }
}

/// Gives the mirror what is left of the drain, and a moment at least, for its last sync.
fn stop_mirror(mirror: MirrorHandle, drain_ends: Instant) {
    let moment = Instant::now() + Duration::from_millis(KV_LAST_SYNC_MS_MIN);
    match mirror.stop(drain_ends.max(moment)) {
        Stopped::Synced => tracing::info!("KV holds this node's history"),
        Stopped::Behind(messages) => tracing::warn!(
            messages,
            "KV lacks messages of this node; they are in the ring and follow at the next start"
        ),
        Stopped::Overdue => tracing::warn!("the last sync with KV did not end in time"),
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), ServerError> {
    let thread = thread::Builder::new().name(name).spawn(run);
    thread
        .map(drop)
        .map_err(|error| ServerError::Start("a thread", error))
}
