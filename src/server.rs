//! Puts the parts together: opens the ring, binds, starts the threads, and waits for their end.
//!
//! Called by `main` with a finished configuration and what was passed on to this process. Threads: one
//! per shard, those that wait for signals (`control`), one that waits for the disk if that is asked
//! for, and those of the admin address, the mirror, the watchdog and a predecessor's connections.
//! Never parses a flag, never touches a connection.

mod listening;

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{AllowOrigins, Config, Durability};
use crate::control::Control;
use crate::handover::predecessor::{Inherited, Predecessor};
use crate::http::{Access, AllowOrigin};
use crate::hub::{Committer, Hub, Outlet};
use crate::inherit::Sockets;
use crate::lifecycle::Lifecycle;
use crate::limits::{KV_LAST_SYNC_MS_MIN, LOG_BYTES_MIN, held_bytes_max};
use crate::metrics::{Gauge, Metrics, Tally};
use crate::mirror::{self, MirrorHandle, SpawnError, Stopped};
use crate::ring::{Recovered, Ring, RingError};
use crate::service;
use crate::shard::client::Clients;
use crate::shard::reactor::{Reactor, ShardHandle};
use crate::shard::wire::{Layers, Stream, Wire};
use crate::shard::{Settings, Shard};
use crate::tls::{Tls, TlsError};

/// What was passed on to this process.
#[derive(Debug, Default)]
pub struct Heritage {
    /// Listening sockets, to be used in place of binding.
    pub sockets: Sockets,
    /// The server that this one takes over from: it holds the ring until it is asked for it.
    pub predecessor: Option<Predecessor>,
}

/// Why the server could not start, or had to stop.
#[derive(Debug)]
pub enum ServerError {
    /// An address could not be listened on.
    Listen(String, io::Error),
    /// A certificate, a key or an authority could not be loaded.
    Tls(TlsError),
    /// The predecessor did not let go of the ring.
    Predecessor(io::Error),
    /// The ring could not be opened.
    Ring(PathBuf, RingError),
    /// A thread, a poll or a signal handler could not be made.
    Start(&'static str, io::Error),
    /// A shard's poll failed.
    Shard(io::Error),
    /// The mirror could not be started.
    Mirror(SpawnError),
    /// The ring could not be written to disk at the end.
    Close(PathBuf, io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Listen(address, error) => {
                write!(f, "cannot listen on {address}: {error}")
            }
            ServerError::Tls(error) => write!(f, "cannot set up TLS: {error}"),
            ServerError::Predecessor(error) => {
                write!(f, "cannot take over from the running server: {error}")
            }
            ServerError::Ring(path, error) => {
                write!(f, "cannot open the ring {}: {error}", path.display())
            }
            ServerError::Start(what, error) => write!(f, "cannot start {what}: {error}"),
            ServerError::Shard(error) => write!(f, "a shard cannot poll: {error}"),
            ServerError::Mirror(error) => write!(f, "cannot mirror to KV: {error}"),
            ServerError::Close(path, error) => {
                write!(
                    f,
                    "cannot write the ring {} to disk: {error}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for ServerError {}

/// Serves until a signal ends it.
pub fn run(config: &Config, metrics: &Arc<Metrics>, heritage: Heritage) -> Result<(), ServerError> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    crate::window::prepare();
    let lifecycle = Arc::new(Lifecycle::new());
    let clock = Clock::start();
    let Heritage {
        sockets,
        predecessor,
    } = heritage;
    tell_limits(config, metrics);
    let admin = Admin::new(Arc::clone(metrics), Arc::clone(&lifecycle));
    let admin_socket = listening::bind_admin(config, sockets.admin)?;
    if predecessor.is_none() {
        // First of all, so that it can tell of the start. A predecessor's answers until we serve.
        start_admin(&admin, admin_socket.as_ref())?;
    }
    let tls = config.tls.clone().map(Tls::load).transpose();
    let tls = tls.map_err(ServerError::Tls)?.map(Arc::new);
    if let Some(predecessor) = &predecessor {
        predecessor.await_ring().map_err(ServerError::Predecessor)?;
    }
    let (ring, recovered) = open_ring(config)?;
    let history = recovered.messages.len();
    let ring_stats = ring.stats();

    let clients = Arc::new(listening::clients(config));
    let (listeners, mut listening) =
        listening::bind(config, sockets.serving, tls.as_ref(), &clients)?;
    let Reactors {
        mut threads,
        outlets,
        handles,
    } = make_reactors(config).map_err(|error| ServerError::Start("a shard", error))?;
    threads[0]
        .accept_from(listeners, handles.clone(), config.connections_max)
        .map_err(|error| ServerError::Start("accepting", error))?;
    let (publish_bell, published) = bounded(1);
    let publish_bell = config.kv.is_some().then_some(publish_bell);
    let (hub, committer) = match config.durability {
        Durability::Process => (
            Hub::new(ring, recovered.messages, outlets, publish_bell),
            None,
        ),
        Durability::Disk => {
            let (hub, committer) =
                Hub::with_commits(ring, recovered.messages, outlets, publish_bell);
            (hub, Some(committer))
        }
    };
    let hub = Arc::new(hub);
    let settings = Arc::new(settings(config));
    // All logs begin with the same history, so nothing may publish before the last is made.
    let shards: Vec<_> = threads
        .iter()
        .map(|_| Shard::new(Arc::clone(&settings), &hub, fastrand::u64(..), clock.now()))
        .collect();
    if let Some(committer) = committer {
        start_commits(committer, &hub, metrics, clock)?;
    }
    let start_mirror =
        |kv| mirror::spawn(kv, Arc::clone(&hub), published, Arc::clone(metrics), clock);
    let mirror = config.kv.clone().map(start_mirror).transpose();
    let mirror = mirror.map_err(ServerError::Mirror)?;

    admin.tell_of(ring_stats, mirror.as_ref().map(MirrorHandle::stats));
    let drain_began = Arc::new(OnceLock::new());
    let control = Control {
        shards: handles.clone(),
        hub: Arc::clone(&hub),
        ring: (config.ring.clone(), config.body_bytes_max),
        admin: admin.clone(),
        tls,
        lifecycle: Arc::clone(&lifecycle),
        drain_began: Arc::clone(&drain_began),
    };
    let to_pass_on = listening.take_sockets(admin_socket.as_ref());
    to_pass_on
        .and_then(|sockets| control.start(sockets))
        .map_err(|error| ServerError::Start("waiting for signals", error))?;
    let ended = run_shards(threads, shards, &hub, metrics, clock)?;
    service::start_watchdog(handles.clone())
        .map_err(|error| ServerError::Start("the watchdog", error))?;
    lifecycle.set_ready();
    match predecessor {
        Some(predecessor) => {
            start_admin(&admin, admin_socket.as_ref())?;
            predecessor.take_over().map_err(ServerError::Predecessor)?;
            listening.set_files_ours(true);
            spawn("predecessor".into(), move || {
                inherit(&predecessor, &handles, &clients);
            })?;
        }
        None => service::ready(),
    }
    listening.log(config, history);
    // A shard that cannot go on ends the server: half a server is worse than a restart.
    let ended: io::Result<()> = ended.into_iter().collect();
    if hub.is_released() {
        listening.set_files_ours(false);
    }
    ended.map_err(ServerError::Shard)?;
    let drain_began = drain_began.get().copied().unwrap_or_else(Instant::now);
    close(config, &hub, mirror, drain_began + config.drain)
}

fn close(
    config: &Config,
    hub: &Hub,
    mirror: Option<MirrorHandle>,
    drain_ends: Instant,
) -> Result<(), ServerError> {
    if let Some(mirror) = mirror {
        stop_mirror(mirror, drain_ends);
    }
    hub.close()
        .map_err(|error| ServerError::Close(config.ring.clone(), error))?;
    tracing::info!("drained, ring on disk, bye");
    Ok(())
}

fn start_commits(
    committer: Committer,
    hub: &Arc<Hub>,
    metrics: &Arc<Metrics>,
    clock: Clock,
) -> Result<(), ServerError> {
    let (hub, metrics) = (Arc::clone(hub), Arc::clone(metrics));
    spawn("commit".into(), move || {
        committer.run(&hub, &metrics, clock);
    })
}

/// The shards' threads to be, and what others need of them.
struct Reactors {
    threads: Vec<Reactor>,
    outlets: Vec<Outlet>,
    handles: Vec<ShardHandle>,
}

fn make_reactors(config: &Config) -> io::Result<Reactors> {
    let made: io::Result<Vec<_>> = (0..config.shards).map(|_| Reactor::new()).collect();
    let (threads, outlets, handles) = made?.into_iter().collect();
    Ok(Reactors {
        threads,
        outlets,
        handles,
    })
}

/// Runs each shard on a thread of its own; what is returned yields how each has ended.
fn run_shards(
    reactors: Vec<Reactor>,
    shards: Vec<Shard<Wire>>,
    hub: &Arc<Hub>,
    metrics: &Arc<Metrics>,
    clock: Clock,
) -> Result<Receiver<io::Result<()>>, ServerError> {
    let (ended_sender, ended) = bounded(shards.len());
    for (index, (reactor, shard)) in reactors.into_iter().zip(shards).enumerate() {
        let (hub, metrics) = (Arc::clone(hub), Arc::clone(metrics));
        let ended = ended_sender.clone();
        spawn(format!("shard {index}"), move || {
            // The receiver is gone only when the process ends anyway.
            let _ = ended.send(reactor.run(shard, &hub, &metrics, clock));
        })?;
    }
    Ok(ended)
}

fn open_ring(config: &Config) -> Result<(Ring, Recovered), ServerError> {
    let open = match config.durability {
        Durability::Process => Ring::open,
        Durability::Disk => Ring::open_for_commits,
    };
    let (ring, recovered) = open(&config.ring, config.body_bytes_max)
        .map_err(|error| ServerError::Ring(config.ring.clone(), error))?;
    log_ring(config, &recovered.report);
    Ok((ring, recovered))
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

fn tell_limits(config: &Config, metrics: &Metrics) {
    let mut tally = Tally::new();
    tally.shift(
        Gauge::ConnectionsMax,
        config.connections_max.cast_signed() as i64,
    );
    tally.shift(Gauge::Shards, config.shards.cast_signed() as i64);
    tally.flush(metrics);
}

fn start_admin(admin: &Admin, socket: Option<&TcpListener>) -> Result<(), ServerError> {
    let Some(socket) = socket else {
        return Ok(());
    };
    let start = || {
        admin.start(socket)?;
        socket.local_addr()
    };
    let address = start().map_err(|error| ServerError::Start("the admin address", error))?;
    tracing::info!(%address, "metrics and health");
    Ok(())
}

fn log_ring(config: &Config, report: &crate::ring::Report) {
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
}

/// Takes the predecessor's connections as it gives them away.
fn inherit(predecessor: &Predecessor, shards: &[ShardHandle], clients: &Arc<Clients>) {
    let mut connections: u64 = 0;
    let mut take_all = || {
        while let Some(inherited) = predecessor.next_connection()? {
            connections += u64::from(take_in(inherited, shards, clients)?);
        }
        io::Result::Ok(())
    };
    match take_all() {
        Ok(()) => tracing::info!(connections, "the predecessor has ended"),
        Err(error) => tracing::warn!(%error, connections, "the predecessor is lost"),
    }
}

/// Gives a connection to the emptiest shard; false if it may not come in. It has neither TLS nor a
/// PROXY header, or it would not have left its predecessor.
fn take_in(
    inherited: Inherited,
    shards: &[ShardHandle],
    clients: &Arc<Clients>,
) -> io::Result<bool> {
    let layers = Layers {
        proxy: false,
        tls: None,
        clients: Arc::clone(clients),
    };
    let stream = Stream::from_fd(inherited.connection)?;
    // Its peer may have hung up meanwhile.
    let wire = stream
        .address()
        .ok()
        .and_then(|peer| layers.wrap(stream, peer).ok());
    let emptiest = shards.iter().min_by_key(|shard| shard.load());
    let (Some(wire), Some(shard)) = (wire, emptiest) else {
        return Ok(false);
    };
    shard.inherit(wire, inherited.bytes);
    Ok(true)
}

fn settings(config: &Config) -> Settings {
    Settings {
        heartbeat_interval: config.heartbeat_interval,
        keep_alive: config.keep_alive,
        body_bytes_max: config.body_bytes_max,
        held_bytes_max: held_bytes_max(config.shards, config.body_bytes_max),
        drain: config.drain,
        fanout_life: config.fanout_life,
        log_bytes_min: LOG_BYTES_MIN,
        access: access(config),
        allow_origin: match &config.allow_origins {
            AllowOrigins::Any => AllowOrigin::Any,
            AllowOrigins::Exactly(origins) => AllowOrigin::Listed(
                origins
                    .iter()
                    .map(|origin| origin.as_str().into())
                    .collect(),
            ),
        },
    }
}

fn access(config: &Config) -> Access {
    let secret = config.secret.as_ref();
    let access = Access::new(secret.map(|secret| secret.expose().as_bytes()));
    match config.fanout_life {
        Some(_) => access.fanned_out(),
        None => access,
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), ServerError> {
    let thread = thread::Builder::new().name(name).spawn(run);
    thread
        .map(drop)
        .map_err(|error| ServerError::Start("a thread", error))
}
