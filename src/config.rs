//! The settings: flags, environment variables and the files that they name, parsed into one typed
//! [`Config`].
//!
//! Called by `main` once, before anything is started. The other modules take their settings as plain
//! values. Nothing here listens, connects, logs or writes a file. Each flag is defined once, in `args`:
//! `--help`, the environment variables and the operator's table ([`markdown_table`]) follow from it.

mod addresses;
mod args;
mod bus;
mod bus_address;
mod doctor;
mod document;
mod error;
mod health;
mod hints;
mod kv;
mod listen;
mod manual;
mod pem_files;
mod secret;
mod source_command;
mod table;
mod tokens;
mod value;
mod warnings;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::args::{Args, Subcommands};
use self::kv::{ACCOUNT_VARIABLE, NAMESPACE_VARIABLE, TOKEN_VARIABLE};
use self::pem_files::tls;
use self::value::{Count, Origin};
use crate::foreign_text::Secrets;
use crate::limits;

pub use self::bus::{BusConfig, BusIdentity};
pub use self::bus_address::{BusAddress, HostPort};
pub use self::doctor::DoctorConfig;
pub use self::error::ConfigError;
pub use self::kv::KvConfig;
pub use self::listen::{Listen, ListenAddress};
pub use self::secret::Secret;
pub use self::source_command::{SourceCheck, SourceCommand};
pub use self::table::markdown_table;
pub use self::tokens::TokenConfig;
pub use self::value::{
    Color, Durability, Endpoint, HeaderName, LogFormat, LogLevel, is_loopback_host,
};

/// The variable with the secret of the webhooks.
const SECRET_VARIABLE: &str = "WEBHOOK_SECRET";

/// The file name of the ring without `--ring`.
const RING_FILE_DEFAULT: &str = "hookcast.ring";

/// Everything that can be configured, valid and complete.
#[derive(Debug, Clone)]
pub struct Config {
    /// The listeners: 1 to [`limits::LISTEN_ADDRESSES_MAX`].
    pub listen: Vec<Listen>,
    /// Whether they were given, by the flag or the variable.
    pub listen_is_given: bool,
    /// The ring file.
    pub ring: PathBuf,
    /// The failures that an acknowledged message survives.
    pub durability: Durability,
    /// Reactor threads: 1 to [`limits::SHARDS_MAX`].
    pub shards: usize,
    /// Connections served at once, over all shards.
    pub connections_max: usize,
    /// Connections that one client address may have, if that is limited.
    pub connections_per_address_max: Option<u32>,
    /// Networks of the proxies whose client addresses are trusted; at most
    /// [`limits::TRUSTED_PROXIES_MAX`].
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which these proxies give the client address.
    pub client_address_header: HeaderName,
    /// The files of TLS listeners, if there are such listeners.
    pub tls: Option<TlsFiles>,
    /// The limit of open files, from which [`Config::connections_max`] derives by default.
    pub file_limit: u64,
    /// How long an idle connection is kept between two requests.
    pub keep_alive: Duration,
    /// The time over which streams are ended after SIGTERM.
    pub drain: Duration,
    /// Longest request body in bytes.
    pub body_bytes_max: usize,
    /// Time between two heartbeats on a stream.
    pub heartbeat_interval: Duration,
    /// The longest life of a stream that a CDN may share among clients; `None`: streams are not shared.
    pub fanout_life: Option<Duration>,
    /// Whether streams are compressed for clients that accept gzip.
    pub compress_streams: bool,
    /// The origins whose pages may read answers.
    pub allow_origins: AllowOrigins,
    /// The secret that webhooks must carry in `X-Webhook-Secret`, if there is one.
    pub secret: Option<Secret>,
    /// The keys of tokens, if there are some.
    pub tokens: Option<TokenConfig>,
    /// Wrong secrets and tokens of a client in a minute, after which it is refused; 0: no limit.
    pub auth_failures_max: u32,
    /// The file of sources, if there is one.
    pub sources: Option<PathBuf>,
    /// The address of metrics and health, if they are served.
    pub admin: Option<SocketAddr>,
    /// The namespace to mirror the ring to, if any.
    pub kv: Option<KvConfig>,
    /// The bus of this node, if it has one.
    pub bus: Option<BusConfig>,
    /// The command about sources, if that is the command.
    pub source_command: Option<SourceCommand>,
    /// The settings of `doctor`, if that is the command.
    pub doctor: Option<DoctorConfig>,
    /// The URL of the health check, if that is the command.
    pub health: Option<String>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// The least important lines to log.
    pub log_level: LogLevel,
    /// The part of [`Config::warnings`] that concerns no address.
    warnings: Vec<String>,
}

/// The PEM files of TLS listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by its chain without the root.
    pub cert: PathBuf,
    /// Its private key (PKCS #8, PKCS #1 or SEC 1).
    pub key: PathBuf,
    /// The authorities of client certificates; `None`: clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// The origins whose pages may read answers (CORS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowOrigins {
    /// Every origin: `*`.
    Any,
    /// These and no others, each as a browser sends it in `Origin`; at least one.
    Exactly(Vec<String>),
}

/// The action that the command line requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run the server.
    Serve,
    /// Check access to the KV namespace; [`Config::kv`] is set.
    KvCheck,
    /// Check the engine of the bus; [`Config::bus`] is set.
    BusCheck,
    /// Examine a public address; [`Config::doctor`] is set.
    Doctor,
    /// Check the health of a running server; [`Config::health`] is set.
    Health,
    /// Print what [`Config::source_command`] asks for; that is set, and so is [`Config::sources`].
    Sources,
    /// Check the configuration and print a summary (`--check-config`).
    CheckConfig {
        /// Whether it is the configuration of the server, not of a command.
        of_server: bool,
    },
}

impl Config {
    /// Warnings about settings that are valid but probably unintended. Each is a sentence with the remedy.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_on(&self.listen, self.admin)
    }

    /// The same for a process that was passed its listening sockets: these addresses replace the
    /// configured ones.
    pub fn warnings_on(&self, listen: &[Listen], admin: Option<SocketAddr>) -> Vec<String> {
        let mut warnings = warnings::of_addresses(listen, admin, self.is_open());
        warnings.extend_from_slice(&self.warnings);
        warnings
    }

    /// Whether every client may send and read everything. With keys of tokens it may not; see
    /// [`Config::accepts_any_webhook`].
    fn is_open(&self) -> bool {
        self.secret.is_none() && self.tokens.is_none()
    }

    /// Whether tokens restrict what clients read, and nothing restricts what they send.
    fn accepts_any_webhook(&self) -> bool {
        let is_required = self.tokens.as_ref().map(|tokens| tokens.is_required);
        self.secret.is_none() && is_required == Some(false)
    }

    /// The configuration in one line, without secrets.
    pub fn summary(&self) -> String {
        let listen: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        format!(
            "listen {}, ring {}, {} shards, at most {} connections, secret {}, tokens {}, sources {}, admin {}, kv {}, bus {}",
            listen.join(" "),
            self.ring.display(),
            self.shards,
            self.connections_max,
            if self.secret.is_some() { "set" } else { "none" },
            self.tokens.as_ref().map_or("none", TokenConfig::summary),
            self.sources
                .as_ref()
                .map_or("none".into(), |path| path.display().to_string()),
            self.admin
                .map_or("off".into(), |address| address.to_string()),
            self.kv.as_ref().map_or("off", |kv| kv.endpoint.as_str()),
            self.bus
                .as_ref()
                .map_or("off".into(), |bus| bus.address.to_string()),
        )
    }
}

/// Reads this process's command line and environment, after raising its file limit.
///
/// Prints help, the version and documents itself; see [`NoConfig`].
pub fn from_command_line() -> Result<(Action, Config), NoConfig> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let environment = Environment::of_process();
    match parse(&arguments, &environment, raise_file_limit()) {
        Ok(Parsed { action, config }) => Ok((action, config)),
        Err(Stop::Help(help)) => {
            let _ = help.print();
            Err(NoConfig::Printed(Ok(())))
        }
        Err(Stop::Document(document)) => {
            let printed = std::io::stdout().write_all(&document);
            Err(NoConfig::Printed(printed))
        }
        Err(Stop::Error(error)) => Err(NoConfig::Wrong(error)),
    }
}

/// Raises the soft limit of open files to the hard limit and returns the resulting soft limit
/// (getrlimit(2), `RLIMIT_NOFILE`).
///
/// If the kernel refuses, the limit is unchanged, and the old value is returned.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(u64::MAX)
}

/// Why a command line yields no configuration.
#[derive(Debug)]
pub enum NoConfig {
    /// It requests a text, such as the help. This is the result of printing it.
    Printed(io::Result<()>),
    /// The configuration is invalid.
    Wrong(ConfigError),
}

/// A valid command line.
struct Parsed {
    action: Action,
    config: Config,
}

/// Why parsing ended without a configuration. Nothing is printed yet.
enum Stop {
    /// The text of `--help` or `--version`.
    Help(clap::Error),
    /// The man page or completions.
    Document(Vec<u8>),
    Error(ConfigError),
}

impl From<ConfigError> for Stop {
    fn from(error: ConfigError) -> Stop {
        Stop::Error(error)
    }
}

/// The variables of a process.
///
/// `clap` reads the variables of flags itself; this type is for all others.
struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    fn of_process() -> Environment {
        Environment(std::env::vars_os().collect())
    }

    /// A variable's text, if it is set.
    fn text(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.0.get(OsStr::new(name)) else {
            return Ok(None);
        };
        match value.to_str() {
            Some(text) => Ok(Some(text)),
            None => Err(ConfigError::new(format!("{name} is not UTF-8"))),
        }
    }

    /// The secrets among the variables, which error texts must not contain. They are found by name,
    /// because no variable is parsed yet.
    fn secrets(&self) -> Secrets {
        let lossy = |name: &str| {
            let value = self.0.get(OsStr::new(name))?;
            Some(value.to_string_lossy().into_owned())
        };
        [SECRET_VARIABLE, TOKEN_VARIABLE]
            .into_iter()
            .filter_map(lossy)
            .fold(Secrets::default(), |secrets, secret| secrets.with(&secret))
            .with_proxies(lossy)
    }
}

/// Parses a command line (program name first) for a process that may open `file_limit` files.
fn parse(
    arguments: &[OsString],
    environment: &Environment,
    file_limit: u64,
) -> Result<Parsed, Stop> {
    let outcome = args::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Ok((Args::from_arg_matches(&matches)?, matches)));
    let (args, matches) = match outcome {
        Ok(both) => both,
        Err(error) if !error.use_stderr() => return Err(Stop::Help(error)),
        Err(error) => return Err(error::one_line(error, arguments, environment).into()),
    };
    let action = match &args.command {
        None => Action::Serve,
        Some(Subcommands::KvCheck) => Action::KvCheck,
        Some(Subcommands::BusCheck) => Action::BusCheck,
        Some(Subcommands::Man { command }) => {
            return Err(Stop::Document(document::man_page(command.as_deref())));
        }
        Some(Subcommands::Completions { shell }) => {
            return Err(Stop::Document(document::completions(*shell)));
        }
        Some(Subcommands::Doctor(_)) => Action::Doctor,
        Some(Subcommands::Health { .. }) => Action::Health,
        Some(Subcommands::SourceCheck(_) | Subcommands::SourceList { .. }) => Action::Sources,
    };
    let check_only = args.check_config;
    let config = build(args, &matches, environment, file_limit)?;
    if action == Action::KvCheck && config.kv.is_none() {
        return Err(ConfigError::new(format!(
            "kv-check needs {ACCOUNT_VARIABLE}, {TOKEN_VARIABLE} and {NAMESPACE_VARIABLE} in the environment"
        ))
        .into());
    }
    if action == Action::BusCheck && config.bus.is_none() {
        return Err(ConfigError::new("bus-check needs --bus").into());
    }
    Ok(Parsed {
        action: if check_only {
            Action::CheckConfig {
                of_server: action == Action::Serve,
            }
        } else {
            action
        },
        config,
    })
}

/// Resolves the settings that depend on more than one flag, on a file or on the machine.
fn build(
    args: Args,
    matches: &ArgMatches,
    environment: &Environment,
    file_limit: u64,
) -> Result<Config, ConfigError> {
    addresses::check(&args)?;
    let tls = tls(&args)?;
    let (secret, secret_is_public) = secret(args.secret_file.as_deref(), environment)?;
    let serves_openly = secret.is_none() && args.command.is_none();
    if let (true, Some((name, meant))) = (serves_openly, hints::misnamed_secret(environment)) {
        return Err(ConfigError::new(format!(
            "{name} is not read: the variable is {meant}; without it the server would have no secret"
        )));
    }
    let ring = match matches.value_source("ring") {
        Some(ValueSource::DefaultValue) => default_ring(environment),
        _ => args.ring.clone(),
    };
    let kv = kv::settings(&args, environment)?;
    let (bus, password_is_public) = bus::settings(&args)?;
    let doctor = doctor::settings(&args, secret.is_some())?;
    let health = health::url(&args)?;
    let source_command = source_command::settings(&args)?;
    let tokens = tokens::settings(&args)?;
    let mut config = Config {
        ring,
        shards: shards(args.shards),
        connections_max: connections_max(args.max_connections, file_limit),
        connections_per_address_max: args.max_connections_per_ip.map(|most| most as u32),
        trusted_proxies: args.trusted_proxy,
        client_address_header: args.client_address_header,
        tls,
        file_limit,
        keep_alive: args.keep_alive,
        drain: args.drain,
        body_bytes_max: args.max_body_bytes,
        heartbeat_interval: args.heartbeat,
        fanout_life: args.cdn_fanout,
        compress_streams: args.compress_streams,
        allow_origins: allow_origins(&args.allow_origin)?,
        secret,
        tokens,
        auth_failures_max: args.auth_failures_max as u32,
        sources: args.sources,
        admin: args.admin,
        doctor,
        health,
        source_command,
        kv,
        bus,
        durability: args.durability,
        log_format: args.log_format,
        log_level: args.log_level,
        listen: args.listen,
        listen_is_given: matches.value_source("listen") != Some(ValueSource::DefaultValue),
        warnings: Vec::new(),
    };
    if secret_is_public {
        config
            .warnings
            .push("every user of this machine may read --secret-file; chmod o-r it".into());
    }
    if password_is_public {
        config
            .warnings
            .push("every user of this machine may read --bus-password-file; chmod o-r it".into());
    }
    config
        .warnings
        .extend(warnings::of(&config, matches, environment));
    Ok(config)
}

fn shards(count: Count) -> usize {
    match count {
        Count::Exactly(shards) => shards,
        Count::Auto => std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(limits::SHARDS_MAX),
    }
}

/// Files reserved for other uses than connections: at most half of the limit.
fn files_reserved(file_limit: u64) -> u64 {
    limits::FILES_RESERVED.min(file_limit / 2)
}

fn connections_max(count: Count, file_limit: u64) -> usize {
    match count {
        Count::Exactly(connections) => connections,
        Count::Auto => usize::try_from(file_limit - files_reserved(file_limit))
            .unwrap_or(usize::MAX)
            .clamp(1, limits::CONNECTIONS_MAX_LIMIT),
    }
}

/// The default path of the ring: in the first state directory (systemd.exec(5), `StateDirectory=`),
/// else in the working directory.
fn default_ring(environment: &Environment) -> PathBuf {
    environment
        .0
        .get(OsStr::new("STATE_DIRECTORY"))
        .and_then(|directories| std::env::split_paths(directories).next())
        .unwrap_or_default()
        .join(RING_FILE_DEFAULT)
}

fn allow_origins(origins: &[Origin]) -> Result<AllowOrigins, ConfigError> {
    let exact: Vec<String> = origins
        .iter()
        .filter_map(|origin| match origin {
            Origin::Any => None,
            Origin::Exact(origin) => Some(origin.clone()),
        })
        .collect();
    match (exact.is_empty(), exact.len() == origins.len()) {
        (true, _) => Ok(AllowOrigins::Any),
        (false, true) => Ok(AllowOrigins::Exactly(exact)),
        (false, false) => Err(ConfigError::new(
            "--allow-origin * already allows every other origin given",
        )),
    }
}

/// The webhooks' secret, and whether it comes from a file that every user may read.
fn secret(
    file: Option<&Path>,
    environment: &Environment,
) -> Result<(Option<Secret>, bool), ConfigError> {
    match (file, environment.text(SECRET_VARIABLE)?) {
        (Some(_), Some(_)) => Err(ConfigError::new(
            "--secret-file and WEBHOOK_SECRET are both given; keep one of them",
        )),
        (Some(file), None) => {
            Secret::read(file).map(|(secret, is_public)| (Some(secret), is_public))
        }
        (None, Some(text)) => Ok((Some(Secret::parse(text, SECRET_VARIABLE)?), false)),
        (None, None) => Ok((None, false)),
    }
}

#[cfg(test)]
mod tests;
