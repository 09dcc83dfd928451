//! Puts the parts together: opens the ring, binds, starts the threads, and waits for their end.
//!
//! Called by `main` with a finished configuration. Threads: one per shard, one that waits for
//! signals, one that waits for the disk if that is asked for, and those of the admin address and
//! the mirror. Never parses a flag, never touches a connection.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::admin::Admin;
use crate::clock::Clock;
use crate::config::{AllowOrigins, Config, Durability, Listen, ListenAddress};
use crate::http::{Access, AllowOrigin};
use crate::hub::Hub;
use crate::lifecycle::Lifecycle;
use crate::limits::{KV_LAST_SYNC_MS_MIN, LOG_BYTES_MIN, held_bytes_max};
use crate::metrics::{Gauge, Metrics, Tally};
use crate::mirror::{self, MirrorHandle, SpawnError, Stopped};
use crate::ring::{Recovered, Ring, RingError};
use crate::shard::accept::{self, Bound, BoundSocket, SocketFile};
use crate::shard::client::Clients;
use crate::shard::reactor::{Reactor, ShardHandle};
use crate::shard::wire::Layers;
use crate::shard::{Settings, Shard};
use crate::tls::{Tls, TlsError};

/// Why the server could not start, or had to stop.
#[derive(Debug)]
pub enum ServerError {
    /// An address could not be listened on.
    Listen(String, io::Error),
    /// A certificate, a key or an authority could not be loaded.
    Tls(TlsError),
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

    let tls = config.tls.clone().map(Tls::load).transpose();
    let tls = tls.map_err(ServerError::Tls)?.map(Arc::new);
    let (listeners, listening) = bind(config, tls.as_ref())?;
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
    let messages = recovered.messages;
    let (hub, committer) = match config.durability {
        Durability::Process => (Hub::new(ring, messages, outlets, publish_bell), None),
        Durability::Disk => {
            let (hub, committer) = Hub::with_commits(ring, messages, outlets, publish_bell);
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
    await_signals(
        handles,
        tls,
        Arc::clone(&lifecycle),
        Arc::clone(&drain_began),
    )
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
    log_listening(config, &listening, history);

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
            .map_err(|error| ServerError::Listen(address.to_string(), error))?;
        tracing::info!(%address, "metrics and health");
    }
    Ok(admin)
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

/// What is listened on, and the files that go with the server.
#[derive(Default)]
struct Listening {
    /// As bound: with the port that was free, and the options.
    addresses: Vec<Listen>,
    files: Vec<SocketFile>,
}

fn bind(config: &Config, tls: Option<&Arc<Tls>>) -> Result<(Vec<Bound>, Listening), ServerError> {
    let clients = Arc::new(clients(config));
    let mut listeners = Vec::new();
    let mut listening = Listening::default();
    for listen in &config.listen {
        let failed = |error| ServerError::Listen(listen.address.to_string(), error);
        let mut address = listen.clone();
        let socket = match &listen.address {
            ListenAddress::Tcp(wanted) => {
                let socket = accept::listen(*wanted).map_err(failed)?;
                address.address = ListenAddress::Tcp(socket.local_addr().map_err(failed)?);
                BoundSocket::Tcp(socket)
            }
            ListenAddress::Unix { path, mode } => {
                let (socket, file) = accept::listen_unix(path, *mode).map_err(failed)?;
                listening.files.push(file);
                BoundSocket::Unix(socket)
            }
        };
        listening.addresses.push(address);
        let layers = Layers {
            proxy: listen.proxy,
            tls: tls.filter(|_| listen.tls).cloned(),
            clients: Arc::clone(&clients),
        };
        listeners.push(Bound { socket, layers });
    }
    Ok((listeners, listening))
}

fn clients(config: &Config) -> Clients {
    let has_unix = config.listen.iter().any(|l| l.socket_address().is_none());
    let has_proxies = has_unix || !config.trusted_proxies.is_empty();
    Clients::new(
        config.trusted_proxies.clone(),
        has_proxies.then(|| config.client_address_header.as_str().to_owned()),
        config.connections_per_address_max,
    )
}

fn log_listening(config: &Config, listening: &Listening, history: usize) {
    for address in &listening.addresses {
        tracing::info!(
            address = %address.address,
            window = window_url(address),
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

/// Where a browser finds the chat window.
fn window_url(listen: &Listen) -> Option<String> {
    let scheme = if listen.tls { "https" } else { "http" };
    let address = listen.socket_address()?;
    Some(format!("{scheme}://{address}/"))
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

fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(()) => tracing::info!("new connections get the new certificate"),
        Err(error) => tracing::error!(%error, "the certificate stays the one it was"),
    }
}

/// The first SIGTERM or SIGINT starts the drain, the second ends the process. Where TLS is spoken,
/// SIGHUP loads its files anew.
fn await_signals(
    shards: Vec<ShardHandle>,
    tls: Option<Arc<Tls>>,
    lifecycle: Arc<Lifecycle>,
    drain_began: Arc<OnceLock<Instant>>,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    if tls.is_some() {
        signals.add_signal(SIGHUP)?;
    }
    let wait = move || {
        for signal in &mut signals {
            if signal == SIGHUP {
                if let Some(tls) = &tls {
                    reload(tls);
                }
                continue;
            }
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
