//! Puts the parts together: opens the ring, binds, starts the threads, and waits for their end.
//!
//! Called by `main` with a finished configuration and the sockets passed to this process. Threads: one
//! per shard, those that wait for signals (`control`), one for commits with `--durability disk`, and those
//! of the admin address, the mirror, the watchdog and a predecessor's connections. Never parses a flag,
//! never touches a connection.
//!
//! [`run`] calls the steps of the process in order. The functions below follow the same order.
//!
//! - `bus`: the hub on a bus.
//! - `in_use`: the wait until all shards use what was read again.
//! - `listening`: the listening sockets, bound here or passed.
//! - `presence`: the counts of streams on a bus.
//! - `rehearsal`: the dry run of a start, for `--check-config`.
//! - `settings`: the shards' part of the configuration.
//! - `source_command`: the commands that print what sources are, and what they make of a request.
//! - `sources`: the file of sources, and the thread that judges their requests.
//! - `takeover`: a predecessor's connections.
//! - `tokens`: the files of the keys of tokens.

mod bus;
mod error;
mod in_use;
mod listening;
mod presence;
mod rehearsal;
mod settings;
mod source_command;
mod sources;
mod takeover;
mod tokens;

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use self::bus::OnBus;
use self::listening::Listening;
use self::sources::Judges;
use crate::admin::{Admin, Parts};
use crate::bus::run::Bus;
use crate::clock::Clock;
use crate::config::{Config, Durability, Listen};
use crate::control::{
    Control, KeptReloads, OpenRing, ReloadSources, ReloadTokenKeys, StartRingThread,
};
use crate::handover::predecessor::Predecessor;
use crate::hub::{Hub, Outlet, RingThread};
use crate::identities::{Identities, IdentityFile};
use crate::inherit::{Passed, Sockets};
use crate::lifecycle::Lifecycle;
use crate::limits::{KV_LAST_SYNC_MS_MIN, PRESENCE_END_MS_MAX};
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
use crate::sources::Sources;
use crate::tls::Tls;
use crate::tokens::TokenKeys;

pub use self::error::ServerError;
pub use self::rehearsal::rehearse;
pub use self::source_command::{Printout, run_source_command};

/// The sockets and the predecessor that this process starts with.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Passed listening sockets, used instead of binding.
    pub sockets: Sockets,
    /// The server that this one takes over from. It holds the ring until this one requests it.
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
    let (listen, _) = listening::addresses(config, &sockets);
    let can_reload = config.tls.is_some() || config.sources.is_some() || config.tokens.is_some();
    let kept_reloads = KeptReloads::begin(can_reload).map_err(no_signals)?;
    let start = Start::begin(config, metrics, sockets.admin)?;
    if predecessor.is_none() {
        // First, so that it reports the start. A predecessor's admin address answers until this one serves.
        start.open_admin()?;
    }
    // Certificates and addresses come before the ring: if they fail, the start leaves no file behind.
    let tls = load_tls(config)?;
    let files = Files {
        token_keys: load_token_keys(config)?,
        sources: load_sources(config, &listen)?,
    };
    let network = Network::open(config, sockets.serving, tls)?;
    if let Some(predecessor) = &predecessor {
        predecessor.await_ring().map_err(ServerError::Predecessor)?;
    }
    let store = open_store(config)?;
    let mut server = start.start_threads(store, network, files, kept_reloads)?;
    if server.is_ready {
        start.lifecycle.set_ready();
    }
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

/// The state that the steps of a start share.
struct Start<'a> {
    config: &'a Config,
    metrics: &'a Arc<Metrics>,
    clock: Clock,
    lifecycle: Arc<Lifecycle>,
    admin: Admin,
    admin_socket: Option<TcpListener>,
}

impl<'a> Start<'a> {
    /// Makes the shared state, and binds the admin address.
    fn begin(
        config: &'a Config,
        metrics: &'a Arc<Metrics>,
        admin_socket: Option<TcpListener>,
    ) -> Result<Start<'a>, ServerError> {
        crate::chat::prepare();
        set_limit_gauges(config, metrics);
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

    /// Starts the threads. Those of the shards come last, since they need the others.
    fn start_threads(
        &self,
        store: Store,
        network: Network,
        files: Files,
        kept_reloads: KeptReloads,
    ) -> Result<Server, ServerError> {
        let Network {
            mut reactors,
            mut listening,
            peers,
            tls,
        } = network;
        let (mut store, made) = store.take_made();
        let identities = std::mem::take(&mut store.identities);
        let history = store.recovered.messages.len();
        let ring_stats = store.ring.stats();
        let (publish_signal, published) = bounded(1);
        let publish_signal = self.config.kv.is_some().then_some(publish_signal);

        let outlets = std::mem::take(&mut reactors.outlets);
        let made_hub = self.make_hub(store, outlets, publish_signal)?;
        let MadeHub {
            hub,
            owner,
            bus,
            is_ready,
        } = made_hub;
        hub.set_identities(identities);
        // All live logs begin with the same history, so no message may be published before the last is made.
        let mut shards = self.make_shards(&hub, files.token_keys);
        hub.drop_backlog();
        self.start_ring_owner(owner, bus.as_ref(), &hub)?;
        let mirror = self.start_mirror(&hub, bus.as_ref(), published)?;
        let judges = self.start_judge(files.sources, &mut reactors, &mut shards)?;
        let presence_ended = self.start_presence(bus.as_ref(), &mut reactors, &mut shards)?;
        self.admin.add_parts(Parts {
            ring: ring_stats,
            identities: hub.identity_stats(),
            mirror: mirror.as_ref().map(MirrorHandle::stats),
            sources: judges.as_ref().map(|judges| Arc::clone(&judges.stats)),
        });
        let reload_sources =
            judges.and_then(|judges| self.source_reloader(judges, &reactors.handles));
        let handover_sockets = listening.take_sockets(self.admin_socket.as_ref());
        let drain_began = handover_sockets
            .and_then(|sockets| {
                let parts = ControlParts {
                    kept_reloads,
                    tls,
                    reload_sources,
                    reload_token_keys: self.token_key_reloader(&reactors.handles),
                };
                self.start_control(sockets, &reactors.handles, &hub, bus, parts)
            })
            .map_err(no_signals)?;
        if let Some(made) = made {
            // From now on the file may hold acknowledged messages.
            made.keep();
        }
        let ended = self.run_shards(reactors.threads, shards, &hub)?;
        service::start_watchdog(reactors.handles.clone())
            .map_err(|error| ServerError::Start("the watchdog", error))?;
        Ok(Server {
            history,
            is_ready,
            hub,
            shards: reactors.handles,
            ended,
            presence_ended,
            mirror,
            listening,
            peers,
            drain_began,
        })
    }

    /// Starts the thread that judges requests to sources, if there are some.
    fn start_judge(
        &self,
        sources: Option<Sources>,
        reactors: &mut Reactors,
        shards: &mut [Shard<LayeredSocket>],
    ) -> Result<Option<Judges>, ServerError> {
        let Some(sources) = sources else {
            return Ok(None);
        };
        let judges = sources::start(sources, shards.len(), self.clock)
            .map_err(|error| ServerError::Start("a thread", error))?;
        for (reactor, handle) in reactors.threads.iter_mut().zip(&reactors.handles) {
            reactor.judge_by(judges.queue.clone(), handle.clone());
        }
        for shard in shards {
            shard.use_sources(Arc::clone(&judges.table));
        }
        Ok(Some(judges))
    }

    /// Starts the thread that shares presence, if there is a bus. The receiver is disconnected when it has ended.
    fn start_presence(
        &self,
        bus: Option<&Arc<Bus>>,
        reactors: &mut Reactors,
        shards: &mut [Shard<LayeredSocket>],
    ) -> Result<Option<Receiver<()>>, ServerError> {
        let (Some(bus), Some(config)) = (bus, &self.config.bus) else {
            return Ok(None);
        };
        let thread = presence::start(config, bus, &reactors.handles)
            .map_err(|error| ServerError::Start("a thread", error))?;
        for reactor in &mut reactors.threads {
            reactor.ask_other_nodes(thread.questions.clone());
        }
        for shard in shards {
            shard.note_changes();
        }
        Ok(Some(thread.ended))
    }

    fn source_reloader(&self, judges: Judges, shards: &[ShardHandle]) -> Option<ReloadSources> {
        let path = self.config.sources.as_deref()?;
        let body_bytes_max = self.config.body_bytes_max;
        Some(sources::reloader(
            path,
            body_bytes_max,
            sources::Exposure::of(self.config, &self.config.listen),
            judges.queue,
            shards.to_vec(),
        ))
    }

    fn token_key_reloader(&self, shards: &[ShardHandle]) -> Option<ReloadTokenKeys> {
        let tokens = self.config.tokens.as_ref()?;
        Some(tokens::reloader(tokens, shards.to_vec()))
    }

    fn make_shards(
        &self,
        hub: &Hub,
        token_keys: Option<Arc<TokenKeys>>,
    ) -> Vec<Shard<LayeredSocket>> {
        let settings = Arc::new(settings::of(self.config, token_keys));
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

    /// Starts the thread that owns the ring, if the hub does not.
    fn start_ring_owner(
        &self,
        owner: Option<RingThread>,
        bus: Option<&Arc<Bus>>,
        hub: &Arc<Hub>,
    ) -> Result<(), ServerError> {
        let started = match (owner, bus) {
            (Some(RingThread::Bus(store)), Some(bus)) => bus.start(hub, store),
            (Some(owner), _) => self.ring_thread_starter(hub, None)(owner),
            (None, _) => Ok(()),
        };
        started.map_err(|error| ServerError::Start("a thread", error))
    }

    fn ring_thread_starter(&self, hub: &Arc<Hub>, bus: Option<Arc<Bus>>) -> StartRingThread {
        let (hub, metrics, clock) = (Arc::clone(hub), Arc::clone(self.metrics), self.clock);
        Box::new(move |owner| {
            let (hub, metrics) = (Arc::clone(&hub), Arc::clone(&metrics));
            match (owner, &bus) {
                (RingThread::Commits(committer), _) => {
                    let run = move || committer.run(&hub, &metrics, clock);
                    let thread = thread::Builder::new().name("commit".into()).spawn(run);
                    thread.map(drop)
                }
                (RingThread::Bus(store), Some(bus)) => bus.start_again(&hub, store),
                (RingThread::Bus(_), None) => Err(io::ErrorKind::NotFound.into()),
            }
        })
    }

    /// Makes the hub of an opened ring.
    fn make_hub(
        &self,
        store: Store,
        outlets: Vec<Outlet>,
        publish_signal: Option<Sender<()>>,
    ) -> Result<MadeHub, ServerError> {
        if let Some(config) = &self.config.bus {
            let OnBus {
                hub,
                store,
                bus,
                is_joined,
            } = bus::make_hub(self, config, store, outlets, publish_signal)?;
            return Ok(MadeHub {
                hub: Arc::new(hub),
                owner: Some(RingThread::Bus(store)),
                bus: Some(bus),
                is_ready: is_joined,
            });
        }
        let Store {
            ring, recovered, ..
        } = store;
        let messages = recovered.messages;
        let (hub, owner) = match self.config.durability {
            Durability::Process => (Hub::new(ring, messages, outlets, publish_signal), None),
            Durability::Disk => {
                let (hub, committer) = Hub::with_commits(ring, messages, outlets, publish_signal);
                (hub, Some(RingThread::Commits(committer)))
            }
        };
        Ok(MadeHub {
            hub: Arc::new(hub),
            owner,
            bus: None,
            is_ready: true,
        })
    }

    fn start_mirror(
        &self,
        hub: &Arc<Hub>,
        bus: Option<&Arc<Bus>>,
        published: Receiver<()>,
    ) -> Result<Option<MirrorHandle>, ServerError> {
        let Some(kv) = self.config.kv.clone() else {
            return Ok(None);
        };
        let lease = bus.map(bus::lease).transpose()?;
        let (hub, metrics) = (Arc::clone(hub), Arc::clone(self.metrics));
        mirror::spawn(kv, lease, hub, published, metrics, self.clock)
            .map(Some)
            .map_err(ServerError::Mirror)
    }

    /// Starts `control`. The returned cell is set when a drain begins.
    fn start_control(
        &self,
        handover_sockets: Sockets,
        shards: &[ShardHandle],
        hub: &Arc<Hub>,
        bus: Option<Arc<Bus>>,
        parts: ControlParts,
    ) -> io::Result<Arc<OnceLock<Instant>>> {
        let drain_began = Arc::new(OnceLock::new());
        let control = Control {
            shards: shards.to_vec(),
            hub: Arc::clone(hub),
            open_ring: ring_opener(self.config),
            start_ring_thread: self.ring_thread_starter(hub, bus),
            admin: self.admin.clone(),
            tls: parts.tls,
            reload_sources: parts.reload_sources,
            reload_token_keys: parts.reload_token_keys,
            lifecycle: Arc::clone(&self.lifecycle),
            drain_began: Arc::clone(&drain_began),
        };
        control.start(parts.kept_reloads, handover_sockets)?;
        Ok(drain_began)
    }

    /// Runs each shard on a thread of its own. The receiver yields the result of each.
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
                // The receiver is dropped only at the end of the process.
                let _ = ended.send(reactor.run(shard, &hub, &metrics, clock));
            })?;
        }
        Ok(ended)
    }
}

/// Logs the warnings about the configuration. The addresses of passed sockets replace the configured ones.
fn warn(config: &Config, passed: &Sockets) {
    let (listen, admin) = listening::addresses(config, passed);
    for warning in config.warnings_on(&listen, admin) {
        tracing::warn!("{warning}");
    }
}

fn set_limit_gauges(config: &Config, metrics: &Metrics) {
    let mut tally = Tally::new();
    tally.shift(
        Gauge::ConnectionsMax,
        config.connections_max.cast_signed() as i64,
    );
    tally.shift(Gauge::Shards, config.shards.cast_signed() as i64);
    tally.flush(metrics);
}

/// What SIGHUP reads again.
struct ControlParts {
    kept_reloads: KeptReloads,
    tls: Option<Arc<Tls>>,
    reload_sources: Option<ReloadSources>,
    reload_token_keys: Option<ReloadTokenKeys>,
}

/// What a start has read from files, beside the certificate and the ring.
struct Files {
    token_keys: Option<Arc<TokenKeys>>,
    sources: Option<Sources>,
}

fn load_token_keys(config: &Config) -> Result<Option<Arc<TokenKeys>>, ServerError> {
    let Some(loaded) = tokens::load(config).map_err(ServerError::TokenKeys)? else {
        return Ok(None);
    };
    for note in loaded.notes {
        tracing::warn!("{note}");
    }
    tracing::info!(keys = loaded.keys.count(), "the keys of tokens are in use");
    Ok(Some(Arc::new(loaded.keys)))
}

fn load_sources(config: &Config, listen: &[Listen]) -> Result<Option<Sources>, ServerError> {
    let Some(loaded) = sources::load(config, listen).map_err(ServerError::Sources)? else {
        return Ok(None);
    };
    for note in loaded.notes {
        tracing::warn!("{note}");
    }
    let count = loaded.sources.iter().count();
    tracing::info!(sources = count, "the file of sources is in use");
    Ok(Some(loaded.sources))
}

fn no_signals(error: io::Error) -> ServerError {
    ServerError::Start("waiting for signals", error)
}

fn load_tls(config: &Config) -> Result<Option<Arc<Tls>>, ServerError> {
    let tls = config.tls.clone().map(Tls::load).transpose();
    let tls = tls.map_err(ServerError::Tls)?;
    for warning in tls.iter().flat_map(Tls::warnings) {
        tracing::warn!("{warning}");
    }
    Ok(tls.map(Arc::new))
}

/// The ring and its recovered content.
struct Store {
    ring: Ring,
    recovered: Recovered,
    identities: Identities,
}

impl Store {
    /// Separates the file, if this start has created it.
    fn take_made(mut self) -> (Store, Option<Made>) {
        let made = self.ring.take_made();
        (self, made)
    }
}

fn open_store(config: &Config) -> Result<Store, ServerError> {
    let (mut ring, recovered) =
        ring_opener(config)().map_err(|error| ServerError::Ring(config.ring.clone(), error))?;
    log_ring(config, &recovered.report);
    if config.bus.is_none() && ring.is_shared() {
        let history = recovered.messages.iter().map(|(_, message)| message);
        ring.end_sharing(history)
            .map_err(|error| ServerError::Ring(config.ring.clone(), error))?;
        tracing::warn!("the ring was one of a bus; without --bus its event ids begin a new epoch");
    }
    let file = Box::new(IdentityFile::of_ring(&config.ring));
    let identities = Identities::open(file, &recovered.messages, ring.next_seq());
    Ok(Store {
        ring,
        recovered,
        identities,
    })
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
    // hookcast creates the file for its owner alone, but a copy may have another mode.
    let is_exposed = |file: std::fs::Metadata| file.permissions().mode() & 0o006 != 0;
    if std::fs::metadata(&config.ring).is_ok_and(is_exposed) {
        tracing::warn!(%ring, "every user of this machine may read or write the ring; chmod o-rw it");
    }
    if ring::is_mounted_alone(&config.ring) {
        tracing::warn!(
            %ring,
            "the ring is a mount point, so it cannot be replaced by a new file, which is needed after a \
             power failure, after damage, and for larger messages; mount its directory instead of the file"
        );
    }
}

/// The listening sockets, and the reactors that will serve their connections.
struct Network {
    reactors: Reactors,
    listening: Listening,
    peers: Arc<Peers>,
    tls: Option<Arc<Tls>>,
}

impl Network {
    fn open(
        config: &Config,
        passed: Vec<Passed>,
        tls: Option<Arc<Tls>>,
    ) -> Result<Network, ServerError> {
        let peers = Arc::new(listening::peers(config, &passed));
        let (listeners, listening) = listening::bind(config, passed, tls.as_ref(), &peers)?;
        Ok(Network {
            reactors: Reactors::make(config, listeners)?,
            listening,
            peers,
            tls,
        })
    }
}

/// The reactors of the shards, and the ends of their channels for other threads.
struct Reactors {
    threads: Vec<Reactor>,
    outlets: Vec<Outlet>,
    handles: Vec<ShardHandle>,
}

impl Reactors {
    /// Makes one reactor for each shard. The first accepts connections.
    fn make(config: &Config, listeners: Vec<Bound>) -> Result<Reactors, ServerError> {
        let made: io::Result<Vec<_>> = (0..config.shards).map(|_| Reactor::new()).collect();
        let made = made.map_err(|error| ServerError::Start("a shard", error))?;
        let (mut threads, outlets, handles): (Vec<Reactor>, _, Vec<ShardHandle>) =
            made.into_iter().collect();
        threads[0]
            .accept_from(listeners, handles.clone(), config.connections_max)
            .map_err(|error| ServerError::Start("accepting", error))?;
        for (index, reactor) in threads.iter_mut().enumerate() {
            reactor.ask_of(handles.clone(), index);
        }
        Ok(Reactors {
            threads,
            outlets,
            handles,
        })
    }
}

/// The hub, and who owns its ring.
struct MadeHub {
    hub: Arc<Hub>,
    /// The owner of the ring, if the hub is not.
    owner: Option<RingThread>,
    bus: Option<Arc<Bus>>,
    /// The history is that of the bus, if there is one.
    is_ready: bool,
}

/// The parts of a running server that its end needs.
struct Server {
    /// Messages that were in the ring at the start.
    history: usize,
    /// The history is that of the bus, if there is one.
    is_ready: bool,
    hub: Arc<Hub>,
    shards: Vec<ShardHandle>,
    /// Yields the result of each shard. Once it is disconnected, all shards have ended.
    ended: Receiver<io::Result<()>>,
    /// Disconnected once the thread that shares presence has ended, which it does after the shards.
    presence_ended: Option<Receiver<()>>,
    mirror: Option<MirrorHandle>,
    listening: Listening,
    peers: Arc<Peers>,
    /// Set by `control`.
    drain_began: Arc<OnceLock<Instant>>,
}

impl Server {
    /// Reports to the predecessor that this process serves, and takes over its connections on a
    /// thread.
    fn take_over(&mut self, predecessor: Predecessor) -> Result<(), ServerError> {
        predecessor.take_over().map_err(ServerError::Predecessor)?;
        self.listening.set_files_ours(true);
        let (shards, peers) = (self.shards.clone(), Arc::clone(&self.peers));
        spawn("predecessor".into(), move || {
            takeover::take_connections(&predecessor, &shards, &peers);
        })
    }

    /// Waits until every shard has drained. The failure of one ends the server: a restart is better than
    /// a server without one of its shards.
    fn wait(&mut self) -> Result<(), ServerError> {
        let ended: io::Result<()> = self.ended.iter().collect();
        if self.hub.is_released() {
            self.listening.set_files_ours(false);
        }
        ended.map_err(ServerError::Shard)
    }

    /// Syncs with KV a last time, then closes the ring.
    fn close(self, config: &Config) -> Result<(), ServerError> {
        let drain_began = self.drain_began.get().copied();
        let drain_ends = drain_began.unwrap_or_else(Instant::now) + config.drain;
        if let Some(mirror) = self.mirror {
            stop_mirror(mirror, drain_ends);
        }
        if let Some(ended) = self.presence_ended {
            let _ = ended.recv_timeout(Duration::from_millis(PRESENCE_END_MS_MAX));
        }
        self.hub
            .close()
            .map_err(|error| ServerError::Close(config.ring.clone(), error))?;
        tracing::info!("drained, ring on disk");
        Ok(())
    }
}

/// Stops the mirror. Its last sync may take the rest of the drain, and at least [`KV_LAST_SYNC_MS_MIN`].
fn stop_mirror(mirror: MirrorHandle, drain_ends: Instant) {
    let moment = Instant::now() + Duration::from_millis(KV_LAST_SYNC_MS_MIN);
    match mirror.stop(drain_ends.max(moment)) {
        Stopped::Synced => tracing::info!("KV holds this node's history"),
        Stopped::Elsewhere => tracing::info!("another node of the bus mirrors to KV"),
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
