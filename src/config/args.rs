//! The command line as `clap` sees it. Parsing, `--help` and the table of settings on the operator's
//! page are generated from this one definition.
//!
//! Used by the parent module, which resolves the settings that depend on more than one flag, on a file
//! or on the machine. Never reads a secret: a secret has no flag.

#![expect(
    clippy::doc_markdown,
    reason = "the fields' doc comments are the text of --help"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory, Parser, Subcommand};
use ipnet::IpNet;

use super::bus_address::BusAddress;
use super::listen::{self, Listen};
use super::value::{
    self, Color, Count, Durability, Endpoint, HeaderName, LogFormat, LogLevel, Origin,
};
use crate::limits;

const ABOUT: &str = "Webhooks in, Server-Sent Events out: one small, fast server";

const LONG_ABOUT: &str = "\
Webhooks in, Server-Sent Events out: one small, fast server.

A message that is sent to POST /api/webhook is stored in a ring of the last 100 and reaches every
client of GET /api/webhook/stream at once. With three Cloudflare variables set, several nodes share
one history through a KV namespace, seconds apart. With --bus they share one order of messages, at once.";

pub(super) const AFTER_HELP: &str = "\
Set by variables only, because the list of processes shows the values of flags:
  WEBHOOK_SECRET         The secret that webhooks must carry in X-Webhook-Secret (or use --secret-file)
  CLOUDFLARE_ACCOUNT_ID  Cloudflare account; with the next two, the history is shared through KV
  CLOUDFLARE_API_TOKEN   A token that may read and write Workers KV
  WEBHOOK_KV             The id of the KV namespace: 32 hexadecimal digits
  STATE_DIRECTORY        Directory of the ring, unless --ring is given; systemd sets it

Every other flag has its variable, shown beside it; where both are given, the flag wins. Lists are
separated by commas. Durations read 2s, 500ms, 1m30s.

Examples:
  Start it, listen, and send (each in a terminal of its own):
    hookcast
    curl -N http://localhost:3000/api/webhook/stream
    curl http://localhost:3000/api/webhook -d '{\"message\":\"Hello\"}'

  To one session only:
    curl -N 'http://localhost:3000/api/webhook/stream?sessionId=alice'
    curl http://localhost:3000/api/webhook -d '{\"message\":\"Hi\",\"sessionId\":\"alice\"}'

  With a secret, on all interfaces, with metrics on loopback:
    hookcast --listen 0.0.0.0:3000 --secret-file /etc/hookcast/secret --admin 127.0.0.1:9000
    curl http://localhost:3000/api/webhook -H \"X-Webhook-Secret: $SECRET\" -d '{\"message\":\"Hello\"}'
    curl http://localhost:9000/metrics

  Try a configuration without starting:
    hookcast --heartbeat 1s --check-config";

/// The headings of `--help`, in order.
const LISTENING: &str = "Listening";
const MESSAGES: &str = "Messages and streams";
const ACCESS: &str = "Access";
const KV: &str = "Cloudflare KV";
const BUS: &str = "Bus";
const LOGS: &str = "Logs and metrics";

/// The parsed command line. Where a default depends on the machine, the field says `auto`.
#[derive(Debug, Parser)]
#[command(
    name = "hookcast",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = "Try --help for examples and for the settings that are variables only.",
    after_long_help = AFTER_HELP,
    disable_help_subcommand = true,
    mut_args(|argument| argument.hide_env_values(true)),
    max_term_width = 100,
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub command: Option<Subcommands>,

    /// Address to serve: ADDRESS:PORT or unix:PATH, with +proxy, +tls, +mode=660; may be repeated
    ///
    /// Port 0 picks a free one. [::]:PORT is only IPv6; give 0.0.0.0:PORT too for both. +proxy
    /// expects the PROXY protocol from --trusted-proxy, +tls serves TLS with --tls-cert, +mode=660
    /// sets the permissions of a Unix socket. The server removes the file of a Unix socket when it
    /// ends, and replaces the file that a dead server has left.
    #[arg(long, env = "HOOKCAST_LISTEN", value_name = "ADDRESS", help_heading = LISTENING)]
    #[arg(value_delimiter = ',', default_value = limits::LISTEN_DEFAULT, value_parser = listen::listen)]
    pub listen: Vec<Listen>,

    /// Threads that serve connections, 1 to 64; auto: one per CPU
    #[arg(long, env = "HOOKCAST_SHARDS", value_name = "N", help_heading = LISTENING)]
    #[arg(default_value = "auto", value_parser = value::count(1, limits::SHARDS_MAX))]
    pub shards: Count,

    /// Connections served at once; auto: what the file limit allows, less a reserve
    ///
    /// Further requests are refused, with a time to retry after. The server raises its soft file
    /// limit to the hard limit. For more connections, raise the hard limit (LimitNOFILE in
    /// systemd).
    #[arg(long, env = "HOOKCAST_MAX_CONNECTIONS", value_name = "N", help_heading = LISTENING)]
    #[arg(default_value = "auto", value_parser = value::count(1, limits::CONNECTIONS_MAX_LIMIT))]
    pub max_connections: Count,

    /// Connections that one client address may have [default: no limit]
    ///
    /// IPv6 addresses of one /64 network count as one. Behind --trusted-proxy, the address that the
    /// proxy gives counts: for the whole connection if it is in a PROXY protocol header, for one
    /// request or stream if it is in an HTTP header.
    #[arg(long, env = "HOOKCAST_MAX_CONNECTIONS_PER_IP", value_name = "N", help_heading = LISTENING)]
    #[arg(value_parser = value::whole(1, limits::CONNECTIONS_PER_ADDRESS_MAX_LIMIT))]
    pub max_connections_per_ip: Option<usize>,

    /// Network of proxies from which client addresses are taken; may be repeated
    #[arg(long, env = "HOOKCAST_TRUSTED_PROXY", value_name = "CIDR", help_heading = LISTENING)]
    #[arg(value_delimiter = ',', value_parser = value::network)]
    pub trusted_proxy: Vec<IpNet>,

    /// Header in which trusted proxies give the client address, such as CF-Connecting-IP or Forwarded
    ///
    /// In a list, the rightmost address that is not a trusted proxy counts. From other peers the
    /// header is ignored.
    #[arg(long, env = "HOOKCAST_CLIENT_ADDRESS_HEADER", value_name = "NAME")]
    #[arg(help_heading = LISTENING, default_value = "X-Forwarded-For", value_parser = value::header_name)]
    pub client_address_header: HeaderName,

    /// PEM file of the certificate and its chain for listeners with +tls; read again on SIGHUP
    #[arg(long, env = "HOOKCAST_TLS_CERT", value_name = "PATH", help_heading = LISTENING)]
    #[arg(requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file of the private key of --tls-cert; read again on SIGHUP
    #[arg(long, env = "HOOKCAST_TLS_KEY", value_name = "PATH", help_heading = LISTENING)]
    #[arg(requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// PEM file of authorities; TLS clients must have a certificate of one (authenticated pulls)
    #[arg(long, env = "HOOKCAST_TLS_CLIENT_CA", value_name = "PATH", help_heading = LISTENING)]
    #[arg(requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// How long an idle connection stays open between two requests, 1s to 1h
    ///
    /// Behind a proxy or CDN, set it above the proxy's own idle time. Otherwise the proxy may send a
    /// request on a connection that is being closed. Over 60s behind an AWS load balancer, over 900s
    /// behind Cloudflare.
    #[arg(long, env = "HOOKCAST_KEEP_ALIVE", value_name = "DURATION", help_heading = LISTENING)]
    #[arg(default_value = limits::KEEP_ALIVE_DEFAULT)]
    #[arg(value_parser = value::duration(limits::KEEP_ALIVE_RANGE))]
    pub keep_alive: Duration,

    /// After SIGTERM, the time over which streams are ended one by one, 0s to 5m
    #[arg(long, env = "HOOKCAST_DRAIN", value_name = "DURATION", help_heading = LISTENING)]
    #[arg(default_value = limits::DRAIN_DEFAULT)]
    #[arg(value_parser = value::duration(limits::DRAIN_RANGE))]
    pub drain: Duration,

    /// File of the last 100 messages, created if missing; in $STATE_DIRECTORY by default
    ///
    /// The default name is taken relative to $STATE_DIRECTORY where that is set, else to the
    /// working directory. One process at a time may use a ring.
    #[arg(long, env = "HOOKCAST_RING", value_name = "PATH", help_heading = MESSAGES)]
    #[arg(default_value = super::RING_FILE_DEFAULT)]
    pub ring: PathBuf,

    /// What an acknowledged message survives: the end of the process, or also a power failure
    ///
    /// With disk, a message is neither acknowledged nor sent before it is on disk. Messages that
    /// arrive while the disk is busy share one write. The ring file takes about twice the space.
    #[arg(long, env = "HOOKCAST_DURABILITY", value_name = "LEVEL", help_heading = MESSAGES)]
    #[arg(value_enum, ignore_case = true, default_value = "process")]
    pub durability: Durability,

    /// Largest body of a webhook in bytes, 1024 to 16777216
    ///
    /// An event's data is one line, about as long as the body. That can exceed a client's fixed
    /// buffer: Go's bufio.Scanner has 64 KiB by default. With 60000 every line is shorter.
    #[arg(long, env = "HOOKCAST_MAX_BODY_BYTES", value_name = "BYTES", help_heading = MESSAGES)]
    #[arg(default_value_t = limits::BODY_BYTES_MAX_DEFAULT)]
    #[arg(value_parser = value::whole(limits::BODY_BYTES_MAX_LEAST, limits::BODY_BYTES_MAX_LIMIT))]
    pub max_body_bytes: usize,

    /// Time between two heartbeat comments on a stream, 100ms to 1m
    #[arg(long, env = "HOOKCAST_HEARTBEAT", value_name = "DURATION", help_heading = MESSAGES)]
    #[arg(default_value = limits::HEARTBEAT_INTERVAL_DEFAULT)]
    #[arg(value_parser = value::duration(limits::HEARTBEAT_INTERVAL_RANGE))]
    pub heartbeat: Duration,

    /// Let a CDN share one stream among many clients; longest life of a stream, 5s to 10m [default: off]
    ///
    /// Streams without sessionId and secret become cacheable for a little less than their life. They
    /// carry only untargeted messages, and always begin with the whole history. A CDN that collapses
    /// requests then opens one stream for all its clients. See the page on proxies and CDNs first.
    #[arg(long, env = "HOOKCAST_CDN_FANOUT", value_name = "LIFE", help_heading = MESSAGES)]
    #[arg(value_parser = value::duration(limits::FANOUT_LIFE_RANGE))]
    pub cdn_fanout: Option<Duration>,

    /// Send streams as gzip to clients that accept it; each message is compressed once for all of them
    ///
    /// Messages of providers take an eighth to a quarter of their bytes on the wire, those of 128 bytes
    /// three quarters. Each shard needs as much memory again for its log. A few clients ask for gzip and
    /// do not decode it, and Varnish needs a setting. See the page on proxies and CDNs first.
    #[arg(long, env = "HOOKCAST_COMPRESS_STREAMS", help_heading = MESSAGES)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub compress_streams: bool,

    /// TOML file of sources: webhooks of providers such as GitHub or Stripe; read again on SIGHUP
    ///
    /// Each table is a source, and is served at POST /api/webhook/in/NAME. Its requests are verified by
    /// the secrets that its table names, and published as readable texts. See source-list for the
    /// addresses, and source-check to try a request.
    #[arg(long, env = "HOOKCAST_SOURCES", value_name = "FILE", help_heading = MESSAGES, global = true)]
    pub sources: Option<PathBuf>,

    /// Origin whose pages may read answers, such as https://app.example; may be repeated, * is all
    ///
    /// A browser hides answers from pages of other origins, but it sends a simple POST from any page:
    /// only a secret keeps webhooks out. Pages of a named origin may send credentials, such as the
    /// cookie of a proxy's log-in; with * the browser refuses that.
    #[arg(long, env = "HOOKCAST_ALLOW_ORIGIN", value_name = "ORIGIN", help_heading = ACCESS)]
    #[arg(value_delimiter = ',', default_value = "*", value_parser = value::origin)]
    pub allow_origin: Vec<Origin>,

    /// File with the secret that webhooks must send; one trailing newline is ignored
    #[arg(long, env = "HOOKCAST_SECRET_FILE", value_name = "PATH", help_heading = ACCESS, global = true)]
    pub secret_file: Option<PathBuf>,

    /// File of keys for tokens: PEM, JWKS or HS256 secret; may be repeated; read again on SIGHUP
    ///
    /// A token is a JSON Web Token that says which sessions its holder may see, and until when. For EdDSA
    /// with Ed25519, ES256 and RS256 give the issuer's public key, in PEM form or in a JWKS; for HS256 a
    /// secret of 32 bytes or more: openssl rand -base64 32. A stream without a token sees only
    /// untargeted messages. To change a key, give the old and the new one until the last old token has
    /// expired.
    #[arg(long, env = "HOOKCAST_TOKEN_KEY", value_name = "FILE", help_heading = ACCESS)]
    #[arg(value_delimiter = ',')]
    pub token_key: Vec<PathBuf>,

    /// Name that tokens must have in aud; without it, tokens with an aud are refused
    ///
    /// An issuer that makes tokens for several servers tells them apart by this name.
    #[arg(long, env = "HOOKCAST_TOKEN_AUDIENCE", value_name = "NAME", help_heading = ACCESS)]
    #[arg(value_parser = value::audience)]
    pub token_audience: Option<String>,

    /// Refuse streams, history and webhooks that have neither a token nor the secret
    ///
    /// A webhook needs a token with "publish" then. Requests to sources are not affected: each source
    /// has its own verification.
    #[arg(long, env = "HOOKCAST_REQUIRE_TOKEN", help_heading = ACCESS)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub require_token: bool,

    /// Wrong secrets, or wrong tokens, of a client in a minute, after which it gets 429; 0: no limit
    ///
    /// Each is counted apart, and so are the secrets of each source. Until the minute is over, every secret of the
    /// client is refused, right or wrong. After wrong tokens only wrong tokens are. IPv6 addresses of one /64
    /// network are one client. Behind a proxy, set --trusted-proxy: otherwise all clients are one.
    #[arg(long, env = "HOOKCAST_AUTH_FAILURES_MAX", value_name = "N", help_heading = ACCESS)]
    #[arg(default_value_t = limits::AUTH_FAILURES_MAX_DEFAULT as usize)]
    #[arg(value_parser = value::whole(0, limits::AUTH_FAILURES_MAX_LIMIT))]
    pub auth_failures_max: usize,

    /// Base URL of the KV REST API
    #[arg(long, env = "HOOKCAST_KV_ENDPOINT", value_name = "URL", help_heading = KV, global = true)]
    #[arg(default_value = limits::KV_ENDPOINT_DEFAULT, value_parser = value::endpoint)]
    pub kv_endpoint: Endpoint,

    /// Time between two reads of KV, 1s to 1h
    #[arg(long, env = "HOOKCAST_KV_POLL", value_name = "DURATION", help_heading = KV, global = true)]
    #[arg(default_value = limits::KV_POLL_INTERVAL_DEFAULT)]
    #[arg(value_parser = value::duration(limits::KV_POLL_INTERVAL_RANGE))]
    pub kv_poll: Duration,

    /// Least time between two writes to KV, 1s to 1h
    #[arg(long, env = "HOOKCAST_KV_WRITE_INTERVAL", value_name = "DURATION", help_heading = KV)]
    #[arg(global = true, default_value = limits::KV_WRITE_INTERVAL_DEFAULT)]
    #[arg(value_parser = value::duration(limits::KV_WRITE_INTERVAL_RANGE))]
    pub kv_write_interval: Duration,

    /// Longest time for one call to KV, 100ms to 2m
    #[arg(long, env = "HOOKCAST_KV_TIMEOUT", value_name = "DURATION", help_heading = KV)]
    #[arg(global = true, default_value = limits::KV_TIMEOUT_DEFAULT)]
    #[arg(value_parser = value::duration(limits::KV_TIMEOUT_RANGE))]
    pub kv_timeout: Duration,

    /// PEM file of the authorities to trust for KV instead of the public ones
    #[arg(long, env = "HOOKCAST_KV_CA_FILE", value_name = "PATH", help_heading = KV, global = true)]
    pub kv_ca_file: Option<PathBuf>,

    /// Redis or Valkey 7.0 or later, through which many nodes have one order [default: off]
    ///
    /// redis://HOST:PORT/NAME, rediss:// with TLS, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/NAME;
    /// with USER@ in front of the host, and the password in --bus-password-file. NAME begins the keys:
    /// it is the same on all nodes of a bus. It is no database number; the database is always 0.
    #[arg(long, env = "HOOKCAST_BUS", value_name = "URL", help_heading = BUS, global = true)]
    #[arg(value_parser = BusAddress::parse)]
    pub bus: Option<BusAddress>,

    /// File with the password of the engine; one trailing newline is ignored
    #[arg(long, env = "HOOKCAST_BUS_PASSWORD_FILE", value_name = "PATH", help_heading = BUS)]
    #[arg(global = true)]
    pub bus_password_file: Option<PathBuf>,

    /// PEM file of the authorities to trust for the engine instead of the public ones
    #[arg(long, env = "HOOKCAST_BUS_CA_FILE", value_name = "PATH", help_heading = BUS, global = true)]
    pub bus_ca_file: Option<PathBuf>,

    /// PEM file of this node's certificate, for an engine that asks for one
    #[arg(long, env = "HOOKCAST_BUS_CERT", value_name = "PATH", help_heading = BUS, global = true)]
    #[arg(requires = "bus_key")]
    pub bus_cert: Option<PathBuf>,

    /// PEM file of the private key of --bus-cert
    #[arg(long, env = "HOOKCAST_BUS_KEY", value_name = "PATH", help_heading = BUS, global = true)]
    #[arg(requires = "bus_cert")]
    pub bus_key: Option<PathBuf>,

    /// Longest time that a webhook waits for the engine, 100ms to 1m
    ///
    /// Then it is answered with 503 if it was certainly not stored, else with 504.
    #[arg(long, env = "HOOKCAST_BUS_TIMEOUT", value_name = "DURATION", help_heading = BUS)]
    #[arg(global = true, default_value = limits::BUS_TIMEOUT_DEFAULT)]
    #[arg(value_parser = value::duration(limits::BUS_TIMEOUT_RANGE))]
    pub bus_timeout: Duration,

    /// Replicas of the engine that must confirm a message before it is acknowledged, 0 to 8
    #[arg(long, env = "HOOKCAST_BUS_REPLICAS", value_name = "N", help_heading = BUS, global = true)]
    #[arg(default_value = "0", value_parser = value::whole(0, limits::BUS_REPLICAS_MAX))]
    pub bus_replicas: usize,

    /// Messages that the engine keeps, 100 to 100000
    ///
    /// At most 64 MiB of text; then fewer, but never under 100. A client resumes exactly from as far
    /// back as a node has read, and a node restores as many into an engine that has lost them.
    #[arg(long, env = "HOOKCAST_BUS_HISTORY", value_name = "N", help_heading = BUS, global = true)]
    #[arg(default_value_t = limits::BUS_HISTORY_MESSAGES_DEFAULT)]
    #[arg(value_parser = value::whole(*limits::BUS_HISTORY_MESSAGES_RANGE.start(), *limits::BUS_HISTORY_MESSAGES_RANGE.end()))]
    pub bus_history: usize,

    /// Address for metrics and health; has no access control, so keep it private [default: off]
    #[arg(long, env = "HOOKCAST_ADMIN", value_name = "ADDRESS:PORT", help_heading = LOGS)]
    #[arg(value_parser = value::address)]
    pub admin: Option<SocketAddr>,

    /// How log lines are written to standard error
    #[arg(long, env = "HOOKCAST_LOG_FORMAT", value_name = "FORMAT", help_heading = LOGS)]
    #[arg(global = true, value_enum, ignore_case = true, default_value = "text")]
    pub log_format: LogFormat,

    /// The least important lines to log
    #[arg(long, env = "HOOKCAST_LOG_LEVEL", value_name = "LEVEL", help_heading = LOGS)]
    #[arg(global = true, value_enum, ignore_case = true, default_value = "info")]
    pub log_level: LogLevel,

    /// Try all that a start needs, print the configuration, and exit: 0 if it would start, else 2
    ///
    /// Listens on each address for a moment, and tries the certificates and the directory of the ring.
    /// Nothing is changed; Cloudflare and the engine of the bus are not called (kv-check and bus-check do
    /// that). If a running server uses
    /// the same ring, addresses in use are assumed to be that server's.
    #[arg(long)]
    pub check_config: bool,
}

/// Commands, and the global flags that each uses.
const USED_GLOBALS: [(&str, &[&str]); 3] = [
    ("doctor", &["secret_file"]),
    ("source-check", &["sources"]),
    ("source-list", &["sources"]),
];

/// The whole command line. The help of these commands lists no flag that they do not use.
pub(super) fn command() -> Command {
    let mut command = Args::command();
    for (name, used) in USED_GLOBALS {
        let is_unused =
            |flag: &&Arg| flag.is_global_set() && !used.contains(&flag.get_id().as_str());
        let unused: Vec<Arg> = command
            .get_arguments()
            .filter(is_unused)
            .map(|flag| flag.clone().hide(true))
            .collect();
        // clap does not propagate a global flag to a command with a flag of the same name.
        command = command.mut_subcommand(name, |command| command.args(unused));
    }
    command
}

/// The commands; without one, the server runs.
#[derive(Debug, Subcommand)]
pub(super) enum Subcommands {
    /// Check access to the Cloudflare KV namespace: account, token, namespace, reading, writing
    KvCheck,

    /// Check the engine of the bus: address, TLS, user, permissions, version, memory, persistence, replicas
    ///
    /// Needs --bus. Writes only the key that ends in :check, and deletes it. Exit status: 0 if no check
    /// failed (notes are risks, and no failures), 1 if one failed, 2 if a setting is wrong.
    BusCheck,

    /// Examine a public address: what proxies and CDNs on the way do to posts and streams
    ///
    /// Opens streams and posts four messages through the address, to a session of its own with a random
    /// name. They take four of the 100 places in the server's history, and only streams that see
    /// everything show them; --read-only posts nothing. Each check names the party at fault and the
    /// setting that corrects it.
    ///
    /// The secret of the webhooks, if there is one, is read from WEBHOOK_SECRET or --secret-file, and sent
    /// to this address alone: by https, or to this machine.
    ///
    /// Exit status: 0 if no check failed (notes are no failures), 1 if one failed, 2 if the command line
    /// or a setting is wrong.
    Doctor(DoctorArgs),

    /// Check that a running server serves: exits with 0 if it does, else with 1
    ///
    /// For the health check of a container, which has the server's variables. Requests /readyz from the
    /// address of HOOKCAST_ADMIN, or else /api/webhook from the first plain address of HOOKCAST_LISTEN.
    Health {
        /// Another server instead, such as https://hooks.example
        #[arg(value_name = "URL", value_parser = value::public_url)]
        url: Option<Endpoint>,
    },

    /// Show step by step what a source makes of a request: exits with 0 if it would be taken, else with 1
    ///
    /// Needs --sources. Verifies the request, finds its event and its identity, and renders its text as the
    /// server does. Publishes nothing, and contacts no server.
    ///
    /// hookcast source-check github --body push.json --header "X-GitHub-Event: push"
    /// --header "X-Hub-Signature-256: sha256=..."
    SourceCheck(SourceCheckArgs),

    /// Print the address of each source to enter at its provider, and what it expects
    ///
    /// Needs --sources.
    SourceList {
        /// The server as providers see it, such as https://hooks.example; without it, paths are printed
        #[arg(value_name = "URL", value_parser = value::public_url)]
        public_url: Option<Endpoint>,
    },

    /// Print a man page, in roff: hookcast man | man -l -
    Man {
        /// The command whose page it is, instead of hookcast itself
        #[arg(value_parser = [
            "kv-check", "bus-check", "doctor", "health", "source-check", "source-list",
        ])]
        command: Option<String>,
    },

    /// Print the completions of a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// The arguments of `source-check`.
#[derive(Debug, clap::Args)]
pub(super) struct SourceCheckArgs {
    /// The source's name in the file of sources
    pub name: String,

    /// File with the body, byte for byte as the provider sent it; - is standard input
    #[arg(long, value_name = "FILE")]
    pub body: PathBuf,

    /// Header field of the request, such as "X-GitHub-Event: push"; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,

    /// What follows ? in the address
    #[arg(long, value_name = "QUERY")]
    pub query: Option<String>,

    /// When the request arrives, in seconds since 1970, for an earlier request with a time [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub at: Option<u64>,
}

/// The arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// The public address, such as https://hooks.example
    #[arg(value_name = "URL", value_parser = value::public_url)]
    pub url: Endpoint,

    /// How long to watch a stream, 5s to 10m
    #[arg(long, value_name = "DURATION", default_value = limits::DOCTOR_WATCH_DEFAULT)]
    #[arg(value_parser = value::duration(limits::DOCTOR_WATCH_RANGE))]
    pub watch: Duration,

    /// Post nothing: check all that needs no message of its own
    ///
    /// The secret is then checked by reads, and resumption by the messages in the history. Delays of
    /// events and the handling of POST are not checked.
    #[arg(long)]
    pub read_only: bool,

    /// Print a JSON object in each line, for scripts
    ///
    /// First one of type "start" (url, watch_ms, posts, history_places), then one of type "check" for
    /// each check (check, verdict, seen, at_fault, remedy), and finally one of type "end" (failed, noted,
    /// exit_status). A verdict is ok, note, failed or skipped; at_fault is command, network,
    /// certificate, proxy, hookcast, unknown or null.
    #[arg(long)]
    pub json: bool,

    /// When to use colours: auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub color: Color,

    /// PEM file of the authorities to trust instead of the public ones
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,

    /// File with a token, for a server with keys of tokens; - is standard input
    ///
    /// Its "sessions" and its "publish" must both have a session whose name begins with doctor. A token for
    /// everything, with "publish" for all, does as well. It is sent to this address alone.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// Send secret and token over plain http:// to another machine, where they can be read in transit
    #[arg(long)]
    pub send_secret_unencrypted: bool,
}
