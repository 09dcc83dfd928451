//! Starts the servers under load: hookcast, the floor, and the peers. Each peer is configured as its own
//! documentation recommends for one channel, many subscribers, and a replay of the last 100 messages.
//!
//! Used by `main` and `compare`. If a peer lacks a feature, the comparison leaves it out of that scenario:
//! Pushpin keeps no history.

pub mod cluster;
pub mod floor;
pub mod grip_backend;
pub mod process;
pub mod workspace;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::engine::protocol::Preset;
use crate::engine::target::{CHANNEL, Place, Target};
use crate::engine::tls;
use crate::servers::process::{ServerProcess, directory, free_port, sibling};

/// Connection limit of a peer.
const CONNECTIONS_MAX: usize = 19_900;

/// Debian's path of the module of `libnginx-mod-nchan`.
const NCHAN_MODULE: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// Pushpin's processes: the runner, condure, zurl, proxy, handler.
const PUSHPIN_PROCESSES: usize = 5;

/// Debian's path of the file that `pushpin.conf` includes.
const PUSHPIN_LIBDIRS: [&str; 2] = ["/usr/lib/pushpin", "/usr/share/pushpin"];

/// The servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum ServerKind {
    /// hookcast itself.
    Hookcast,
    /// The built-in server that does only the kernel's part of the work.
    Floor,
    /// A small axum and tokio server (crate `hookcast-peer-axum`).
    Axum,
    /// nginx with the Nchan module.
    Nchan,
    /// Pushpin with a minimal backend.
    Pushpin,
}

impl ServerKind {
    /// The name in results.
    pub fn name(self) -> &'static str {
        match self {
            ServerKind::Hookcast => "hookcast",
            ServerKind::Floor => "floor",
            ServerKind::Axum => "axum",
            ServerKind::Nchan => "nchan",
            ServerKind::Pushpin => "pushpin",
        }
    }
}

/// Options of a server: the same for all, as far as each supports them.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The program, if it is not the default.
    pub program: Option<PathBuf>,
    /// Threads that serve streams.
    pub shards: usize,
    /// Interval of heartbeats; zero: none, if the server allows it.
    pub heartbeat: Duration,
    /// Streams over TLS (hookcast only).
    pub tls: bool,
    /// Compressed streams (hookcast only).
    pub gzip: bool,
    /// More arguments (hookcast only).
    pub arguments: Vec<String>,
}

/// Starts a server.
pub fn start(kind: ServerKind, options: &ServerOptions) -> Result<ServerProcess, String> {
    match kind {
        ServerKind::Hookcast => start_hookcast(options),
        ServerKind::Floor => start_floor(options),
        ServerKind::Axum => start_axum(options),
        ServerKind::Nchan => start_nchan(options),
        ServerKind::Pushpin => start_pushpin(options),
    }
}

/// Starts hookcast.
fn start_hookcast(options: &ServerOptions) -> Result<ServerProcess, String> {
    let program = options
        .program
        .clone()
        .unwrap_or_else(|| usual_program(ServerKind::Hookcast));
    let directory = directory()?;
    let mut command = Command::new(program);
    command
        .env_clear()
        .current_dir(directory.path())
        .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
        .arg("--ring")
        .arg(directory.path().join("load.ring"))
        .args(["--shards", &options.shards.to_string()])
        .args(["--heartbeat", &milliseconds(options.heartbeat)])
        .args(&options.arguments);
    if options.gzip {
        command.arg("--compress-streams");
    }
    if !options.tls {
        let mut server = ServerProcess::start_announcing("hookcast", command, 1, directory)?;
        server.target.gzip = options.gzip;
        return Ok(server);
    }
    let made = tls::certificate(directory.path())?;
    command
        .args(["--listen", "127.0.0.1:0+tls"])
        .arg("--tls-cert")
        .arg(made.chain)
        .arg("--tls-key")
        .arg(made.key);
    let mut server = ServerProcess::start_announcing("hookcast", command, 2, directory)?;
    server.target.tls = Some(made.client);
    server.target.gzip = options.gzip;
    Ok(server)
}

/// Starts the floor: another process of this program.
fn start_floor(options: &ServerOptions) -> Result<ServerProcess, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["floor", "--heartbeat", &milliseconds(options.heartbeat)]);
    let mut server = ServerProcess::start_announcing("floor", command, 1, directory()?)?;
    server.target.protocol.shows_history = false;
    Ok(server)
}

/// Starts the axum peer, with as many workers as the other servers have threads.
pub fn start_axum(options: &ServerOptions) -> Result<ServerProcess, String> {
    let program = options
        .program
        .clone()
        .unwrap_or_else(|| usual_program(ServerKind::Axum));
    let mut command = Command::new(program);
    command
        .args(["--workers", &options.shards.to_string()])
        .args(["--heartbeat", &milliseconds(options.heartbeat)]);
    ServerProcess::start_announcing("axum", command, 1, directory()?)
}

/// Starts nginx with Nchan: as many workers as the other servers have threads, no access log, messages in
/// memory.
pub fn start_nchan(options: &ServerOptions) -> Result<ServerProcess, String> {
    let program = options
        .program
        .clone()
        .unwrap_or_else(|| usual_program(ServerKind::Nchan));
    let files = directory()?;
    let address = free_port()?;
    let config = files.path().join("nginx.conf");
    let text = nchan_config(address, options, files.path());
    std::fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(files.path())
        .arg("-c")
        .arg(config)
        .args(["-g", "daemon off;"]);
    let target = Target::local(
        "nchan",
        Preset::Nchan.protocol(CHANNEL),
        address,
        Vec::new(),
    );
    // The master and its workers.
    ServerProcess::start_listening(target, command, 1 + options.shards, files)
}

/// The configuration of nginx. From Nchan's README: memory storage, `nchan_message_buffer_length` for the
/// history, `nchan_subscriber_first_message oldest` for the replay, comments as pings. From nginx's: one
/// worker for each thread, `worker_connections` for all streams.
fn nchan_config(address: SocketAddr, options: &ServerOptions, files: &Path) -> String {
    let directory = files.display();
    let heartbeat = if options.heartbeat.is_zero() {
        String::new()
    } else {
        let seconds = options.heartbeat.as_secs().max(1);
        format!(
            "nchan_eventsource_ping_event \"\";\n      \
             nchan_eventsource_ping_comment heartbeat;\n      \
             nchan_eventsource_ping_interval {seconds};"
        )
    };
    format!(
        "load_module {NCHAN_MODULE};
worker_processes {workers};
worker_rlimit_nofile {CONNECTIONS_MAX};
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{
  worker_connections {CONNECTIONS_MAX};
  multi_accept on;
}}
http {{
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  nchan_shared_memory_size 256M;
  nchan_message_buffer_length 100;
  nchan_message_timeout 0;
  server {{
    listen {address} backlog=4096;
    location = /pub {{
      nchan_publisher http;
      nchan_channel_id $arg_id;
    }}
    location = /sub {{
      nchan_subscriber eventsource;
      nchan_channel_id $arg_id;
      nchan_subscriber_first_message oldest;
      nchan_subscriber_timeout 0;
      {heartbeat}
    }}
  }}
}}
",
        workers = options.shards,
    )
}

/// Starts Pushpin, its zurl, and its backend.
pub fn start_pushpin(options: &ServerOptions) -> Result<ServerProcess, String> {
    let program = options
        .program
        .clone()
        .unwrap_or_else(|| usual_program(ServerKind::Pushpin));
    let libdir = pushpin_libdir().ok_or("pushpin: its internal.conf is not at Debian's path")?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command.args([
        "grip-backend",
        "--heartbeat",
        &milliseconds(options.heartbeat),
    ]);
    let backend = ServerProcess::start_announcing("pushpin's backend", command, 1, directory()?)?;

    let files = directory()?;
    let protocol = Preset::Pushpin.protocol(CHANNEL);
    let mut target = Target::local("pushpin", protocol, free_port()?, Vec::new());
    target.publish = Place::at(free_port()?);
    let write = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    let internal = std::fs::read_to_string(libdir.join("internal.conf"));
    let internal = internal.map_err(|error| format!("{}: {error}", libdir.display()))?;
    // Debian runs one zurl for the machine; this Pushpin starts its own.
    write(
        "internal.conf",
        internal.replace("/var/run/zurl/", "{rundir}/{ipc_prefix}"),
    )?;
    write("routes", format!("* {}\n", backend.target.streams.address))?;
    write("pushpin.conf", pushpin_config(&target, files.path()))?;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(files.path().join("pushpin.conf"));
    let mut server = ServerProcess::start_listening(target, command, PUSHPIN_PROCESSES, files)?;
    server.attach(backend);
    Ok(server)
}

/// The configuration of Pushpin, from Debian's `pushpin.conf` and the project's description of a million
/// connections. It has the defaults, allows all streams, and lifts the limits on message rate, which would
/// drop most of a broadcast.
fn pushpin_config(target: &Target, files: &Path) -> String {
    let directory = files.display();
    let (streams, publish) = (target.streams.address.port(), target.publish.address.port());
    format!(
        "[global]
include={directory}/internal.conf
rundir={directory}
ipc_prefix=p-
stats_connection_ttl=600

[runner]
services=condure,zurl,pushpin-proxy,pushpin-handler
http_port=127.0.0.1:{streams}
logdir={directory}
log_level=2
client_buffer_size=4096
client_maxconn={CONNECTIONS_MAX}

[proxy]
routesfile={directory}/routes
updates_check=off

[handler]
push_in_spec=ipc://{{rundir}}/{{ipc_prefix}}push
push_in_sub_specs=ipc://{{rundir}}/{{ipc_prefix}}push-sub
push_in_http_addr=127.0.0.1
push_in_http_port={publish}
command_spec=ipc://{{rundir}}/{{ipc_prefix}}command
message_rate=0
message_hwm=0
"
    )
}

/// A duration in the notation of every server's flags.
pub fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

/// The program of a server, unless another is given.
pub fn usual_program(server: ServerKind) -> PathBuf {
    match server {
        ServerKind::Hookcast => sibling("hookcast"),
        ServerKind::Floor => std::env::current_exe().unwrap_or_default(),
        ServerKind::Axum => sibling("hookcast-peer-axum"),
        ServerKind::Nchan => "/usr/sbin/nginx".into(),
        ServerKind::Pushpin => "/usr/bin/pushpin".into(),
    }
}

/// The reason why a server cannot be started here, and the remedy.
pub fn missing(server: ServerKind) -> Option<String> {
    let program = usual_program(server).exists();
    match server {
        ServerKind::Nchan if !program || !Path::new(NCHAN_MODULE).exists() => {
            Some("nchan is not installed: apt-get install nginx libnginx-mod-nchan".into())
        }
        ServerKind::Pushpin if !program || pushpin_libdir().is_none() => {
            Some("pushpin is not installed: apt-get install pushpin".into())
        }
        _ => None,
    }
}

/// The workspace packages of a server.
pub fn package(server: ServerKind) -> Option<&'static str> {
    match server {
        ServerKind::Hookcast => Some("hookcast"),
        ServerKind::Axum => Some("hookcast-peer-axum"),
        ServerKind::Floor | ServerKind::Nchan | ServerKind::Pushpin => None,
    }
}

fn pushpin_libdir() -> Option<PathBuf> {
    let candidates = PUSHPIN_LIBDIRS.iter().map(PathBuf::from);
    candidates
        .into_iter()
        .find(|path| path.join("internal.conf").exists())
}
