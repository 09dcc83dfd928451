//! Puts the parts together: opens the ring, binds, starts the threads, and waits for their end.
//!
//! Called by `main` with a finished configuration. Threads: one per shard, one that waits for
//! signals, one that waits for the disk if that is asked for, and those of the admin address and
//! the mirror. Never parses a flag, never touches a connection.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{AllowOrigins, Config, Durability};
use crate::http::{Access, AllowOrigin};
use crate::hub::Hub;
use crate::lifecycle::Lifecycle;
use crate::limits::{KV_LAST_SYNC_MS_MIN, LOG_BYTES_MIN};
use crate::metrics::{Gauge, Metrics, Tally};
use crate::mirror::{self, MirrorHandle, SpawnError, Stopped};
use crate::ring::{Recovered, Ring, RingError};
use crate::shard::accept::listen;
use crate::shard::reactor::{Reactor, ShardHandle};
use crate::shard::{Settings, Shard};

/// Why the server could not start, or had to stop.
#[derive(Debug)]
pub enum ServerError {
    /// An address could not be listened on.
    Listen(SocketAddr, io::Error),
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
pub fn run(config: &Config, metrics: &Arc<Metrics>) -> Result<(), ServerError> {
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    crate::window::prepare();
    let lifecycle = Arc::new(Lifecycle::new());
    let admin = start_admin(config, metrics, &lifecycle)?;
    let clock = Clock::start();
    let (ring, recovered) = open_ring(config)?;
    let history = recovered.messages.len();
    let ring_stats = ring.stats();

    let listeners = bind(config)?;
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .filter_map(|l| l.local_addr().ok())
        .collect();
    let mut reactors = Vec::new();
    let mut outlets = Vec::new();
    let mut handles = Vec::new();
    for _ in 0..config.shards {
        let (reactor, outlet, handle) =
            Reactor::new().map_err(|error| ServerError::Start("a shard", error))?;
        reactors.push(reactor);
        outlets.push(outlet);
        handles.push(handle);
    }
    reactors[0]
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
    let shards: Vec<_> = reactors
        .iter()
        .map(|_| Shard::new(Arc::clone(&settings), &hub, fastrand::u64(..), clock.now()))
        .collect();
    if let Some(committer) = committer {
        let (hub, metrics) = (Arc::clone(&hub), Arc::clone(metrics));
        spawn("commit".into(), move || {
            committer.run(&hub, &metrics, clock);
        })?;
    }
    let start_mirror =
        |kv| mirror::spawn(kv, Arc::clone(&hub), published, Arc::clone(metrics), clock);
    let mirror = config
        .kv
        .clone()
        .map(start_mirror)
        .transpose()
        .map_err(ServerError::Mirror)?;

    admin.tell_of(ring_stats, mirror.as_ref().map(MirrorHandle::stats));
    let drain_began = Arc::new(OnceLock::new());
    await_signals(handles, Arc::clone(&lifecycle), Arc::clone(&drain_began))
        .map_err(|error| ServerError::Start("waiting for signals", error))?;
    let (ended_sender, ended) = bounded(config.shards);
    for (index, (reactor, shard)) in reactors.into_iter().zip(shards).enumerate() {
        let (hub, metrics) = (Arc::clone(&hub), Arc::clone(metrics));
        let ended = ended_sender.clone();
        spawn(format!("shard {index}"), move || {
            // The receiver is gone only when the process ends anyway.
            let _ = ended.send(reactor.run(shard, &hub, &metrics, clock));
        })?;
    }
    drop(ended_sender);
    lifecycle.set_ready();
    for address in &addresses {
        log_listening(config, *address, history);
    }

    // A shard that cannot go on ends the server: half a server is worse than a restart.
    for result in ended {
        result.map_err(ServerError::Shard)?;
    }
    if let Some(mirror) = mirror {
        let began = drain_began.get().copied().unwrap_or_else(Instant::now);
        stop_mirror(mirror, began + config.drain);
    }
    hub.close()
        .map_err(|error| ServerError::Close(config.ring.clone(), error))?;
    tracing::info!("drained, ring on disk, bye");
    Ok(())
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

/// The admin address first of all, so that it can tell of the start.
fn start_admin(
    config: &Config,
    metrics: &Arc<Metrics>,
    lifecycle: &Arc<Lifecycle>,
) -> Result<Admin, ServerError> {
    let mut tally = Tally::new();
    tally.shift(
        Gauge::ConnectionsMax,
        config.connections_max.cast_signed() as i64,
    );
    tally.shift(Gauge::Shards, config.shards.cast_signed() as i64);
    tally.flush(metrics);
    let admin = Admin::new(Arc::clone(metrics), Arc::clone(lifecycle));
    if let Some(address) = config.admin {
        let address = admin
            .start(address)
            .map_err(|error| ServerError::Listen(address, error))?;
        tracing::info!(%address, "metrics and health");
    }
    Ok(admin)
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

fn log_ring(config: &Config, report: &crate::ring::Report) {
    let ring = config.ring.display();
    if report.is_warning() {
        tracing::warn!(%ring, "{report}");
    } else {
        tracing::info!(%ring, "{report}");
    }
}

fn log_listening(config: &Config, address: SocketAddr, history: usize) {
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

fn bind(config: &Config) -> Result<Vec<std::net::TcpListener>, ServerError> {
    let bind = |&address| listen(address).map_err(|error| ServerError::Listen(address, error));
    config.listen.iter().map(bind).collect()
}

fn settings(config: &Config) -> Settings {
    Settings {
        heartbeat_interval: config.heartbeat_interval,
        keep_alive: config.keep_alive,
        body_bytes_max: config.body_bytes_max,
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

/// The first SIGTERM or SIGINT starts the drain, the second ends the process.
fn await_signals(
    shards: Vec<ShardHandle>,
    lifecycle: Arc<Lifecycle>,
    drain_began: Arc<OnceLock<Instant>>,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        for _ in &mut signals {
            if !lifecycle.start_drain() {
                tracing::warn!("second signal: ending at once");
                std::process::exit(0);
            }
            drain_began.get_or_init(Instant::now);
            tracing::info!("draining: streams end one by one; a second signal ends at once");
            shards.iter().for_each(ShardHandle::drain);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
