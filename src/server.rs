//! Puts the parts together: opens the ring, binds, starts the threads, and waits for their end.
//!
//! Called by `main` with a finished configuration and what was passed on to this process. Threads: one
//! per shard, those that wait for signals (`control`), and those of the admin address, the mirror, the
//! watchdog and a predecessor's connections. Never parses a flag, never touches a connection.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use mio::net::TcpStream;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{AllowOrigins, Config};
use crate::control::Control;
use crate::handover::predecessor::Predecessor;
use crate::http::{Access, AllowOrigin};
use crate::hub::Hub;
use crate::inherit::Sockets;
use crate::limits::{KV_LAST_SYNC_MS_MIN, LOG_BYTES_MIN};
use crate::metrics::{Gauge, Metrics, Tally};
use crate::mirror::{self, MirrorHandle, SpawnError, Stopped};
use crate::ring::{Ring, RingError};
use crate::service;
use crate::shard::accept::{adopt, listen};
use crate::shard::reactor::{Reactor, ShardHandle};
use crate::shard::{Settings, Shard};

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
    Listen(SocketAddr, io::Error),
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
    let clock = Clock::start();
    tell_limits(config, metrics);
    let Heritage {
        sockets,
        predecessor,
    } = heritage;
    if let Some(predecessor) = &predecessor {
        predecessor.await_ring().map_err(ServerError::Predecessor)?;
    }
    let (ring, recovered) = Ring::open(&config.ring, config.body_bytes_max)
        .map_err(|error| ServerError::Ring(config.ring.clone(), error))?;
    log_ring(config, &recovered.report);
    let history = recovered.messages.len();
    let ring_stats = ring.stats();

    let sockets = bind(config, sockets)?;
    let addresses = sockets.addresses();
    let to_pass_on = sockets
        .try_clone()
        .map_err(|error| ServerError::Start("listening", error))?;
    let made: Vec<_> = (0..config.shards)
        .map(|_| Reactor::new())
        .collect::<io::Result<_>>()
        .map_err(|error| ServerError::Start("a shard", error))?;
    let (mut reactors, outlets, handles): (Vec<_>, Vec<_>, Vec<_>) = made.into_iter().collect();
    reactors[0]
        .accept_from(sockets.serving, handles.clone(), config.connections_max)
        .map_err(|error| ServerError::Start("accepting", error))?;
    let (publish_bell, published) = bounded(1);
    let publish_bell = config.kv.is_some().then_some(publish_bell);
    let hub = Arc::new(Hub::new(ring, recovered.messages, outlets, publish_bell));
    let settings = Arc::new(settings(config));
    // All logs begin with the same history, so nothing may publish before the last is made.
    let shards: Vec<_> = reactors
        .iter()
        .map(|_| Shard::new(Arc::clone(&settings), &hub, fastrand::u64(..), clock.now()))
        .collect();
    let start_mirror =
        |kv| mirror::spawn(kv, Arc::clone(&hub), published, Arc::clone(metrics), clock);
    let mirror = config
        .kv
        .clone()
        .map(start_mirror)
        .transpose()
        .map_err(ServerError::Mirror)?;

    let is_draining = Arc::new(AtomicBool::new(false));
    let drain_began = Arc::new(OnceLock::new());
    let start_admin = |socket: TcpListener| {
        let address = socket.local_addr()?;
        let mirror = mirror.as_ref().map(MirrorHandle::stats);
        let admin = Admin::new(
            Arc::clone(metrics),
            ring_stats,
            mirror,
            Arc::clone(&is_draining),
        );
        let handle = admin.start(socket)?;
        tracing::info!(%address, "metrics and health");
        Ok(handle)
    };
    let admin = sockets
        .admin
        .map(start_admin)
        .transpose()
        .map_err(|error| ServerError::Start("the admin address", error))?;
    let control = Control {
        shards: handles.clone(),
        hub: Arc::clone(&hub),
        ring: (config.ring.clone(), config.body_bytes_max),
        admin,
        is_draining,
        drain_began: Arc::clone(&drain_began),
    };
    control
        .start(to_pass_on)
        .map_err(|error| ServerError::Start("waiting for signals", error))?;
    let ended = run_shards(reactors, shards, &hub, metrics, clock)?;
    service::start_watchdog(handles.clone())
        .map_err(|error| ServerError::Start("the watchdog", error))?;
    log_listening(config, &addresses, history);
    match predecessor {
        Some(predecessor) => spawn("predecessor".into(), move || {
            inherit(&predecessor, &handles);
        })?,
        None => service::ready(),
    }
    // A shard that cannot go on ends the server: half a server is worse than a restart.
    for result in ended {
        result.map_err(ServerError::Shard)?;
    }
    if let Some(mirror) = mirror {
        let began = drain_began.get().copied().unwrap_or_else(Instant::now);
        stop_mirror(mirror, began + config.drain);
    }
    close(config, &hub)
}

/// Runs each shard on a thread of its own; what is returned yields how each has ended.
fn run_shards(
    reactors: Vec<Reactor>,
    shards: Vec<Shard<TcpStream>>,
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

fn close(config: &Config, hub: &Hub) -> Result<(), ServerError> {
    hub.close()
        .map_err(|error| ServerError::Close(config.ring.clone(), error))?;
    tracing::info!("drained, ring on disk, bye");
    Ok(())
}

fn log_listening(config: &Config, addresses: &[SocketAddr], history: usize) {
    for address in addresses {
        tracing::info!(
            %address,
            window = %format_args!("http://{address}/"),
            ring = %config.ring.display(),
            history,
            shards = config.shards,
            connections_max = config.connections_max,
            body_bytes_max = config.body_bytes_max,
            file_limit = config.file_limit,
            secret = config.secret.is_some(),
            kv = config.kv.is_some(),
            version = env!("CARGO_PKG_VERSION"),
            "listening"
        );
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

/// What the levels in the metrics are to be compared with.
fn tell_limits(config: &Config, metrics: &Metrics) {
    let mut tally = Tally::new();
    tally.shift(
        Gauge::ConnectionsMax,
        config.connections_max.cast_signed() as i64,
    );
    tally.shift(Gauge::Shards, config.shards.cast_signed() as i64);
    tally.flush(metrics);
}

fn log_ring(config: &Config, report: &crate::ring::Report) {
    let ring = config.ring.display();
    if report.is_warning() {
        tracing::warn!(%ring, "{report}");
    } else {
        tracing::info!(%ring, "{report}");
    }
}

/// Binds what was not passed on. Sockets that were take the place of `--listen` and `--admin`.
fn bind(config: &Config, passed: Sockets) -> Result<Sockets, ServerError> {
    let bind = |&address| listen(address).map_err(|error| ServerError::Listen(address, error));
    let serving = if passed.serving.is_empty() {
        config.listen.iter().map(bind).collect::<Result<_, _>>()?
    } else {
        let adopted = passed.serving.into_iter().map(adopt);
        adopted
            .collect::<io::Result<_>>()
            .map_err(|error| ServerError::Start("listening on a passed socket", error))?
    };
    let admin = match (passed.admin, config.admin) {
        (Some(socket), _) => Some(socket),
        (None, Some(address)) => {
            Some(TcpListener::bind(address).map_err(|error| ServerError::Listen(address, error))?)
        }
        (None, None) => None,
    };
    Ok(Sockets { serving, admin })
}

/// Begins to serve in the place of the predecessor, and takes its connections as it gives them away.
fn inherit(predecessor: &Predecessor, shards: &[ShardHandle]) {
    let mut connections: u64 = 0;
    let mut take_all = || {
        predecessor.take_over()?;
        while let Some(inherited) = predecessor.next_connection()? {
            let emptiest = shards.iter().min_by_key(|shard| shard.load());
            if let Some(shard) = emptiest {
                let connection = TcpStream::from_std(inherited.connection);
                shard.inherit(connection, inherited.bytes);
                connections += 1;
            }
        }
        io::Result::Ok(())
    };
    match take_all() {
        Ok(()) => tracing::info!(connections, "the predecessor has ended"),
        Err(error) => tracing::warn!(%error, connections, "the predecessor is lost"),
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        heartbeat_interval: config.heartbeat_interval,
        keep_alive: config.keep_alive,
        body_bytes_max: config.body_bytes_max,
        drain: config.drain,
        log_bytes_min: LOG_BYTES_MIN,
        access: Access::new(
            config
                .secret
                .as_ref()
                .map(|secret| secret.expose().as_bytes()),
        ),
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

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<(), ServerError> {
    let thread = thread::Builder::new().name(name).spawn(run);
    thread
        .map(drop)
        .map_err(|error| ServerError::Start("a thread", error))
}
