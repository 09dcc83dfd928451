//! The command line.

mod cluster;
mod remote;

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::cluster::ClusterArgs;
pub use self::remote::RemoteArgs;

use crate::scenarios::attack::Kind;
use crate::scenarios::thresholds::Threshold;
use crate::scenarios::{Scenario, Sizes};
use crate::servers::ServerKind;

/// Measures servers of Server-Sent Events: deliveries, latencies, CPU and memory, and checks that every
/// stream got every message, once, in order.
#[derive(Debug, Parser)]
#[command(version, after_help = EXITS)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXITS: &str = "\
Exit status:
  0    all is well
  1    a run could not be made: a server or the machine failed before its window
  2    the command line is wrong (a flag, a URL, a file that it names, more streams than a process may open), or
       loading a server in use was not confirmed
  3    a stream lacked a message, or got one twice or out of order, or something failed
  4    compare missed a claim
  5    the server was lost in the middle of a run
  6    a --fail-if was true
  130  SIGINT (Ctrl-C), SIGTERM or SIGHUP cut the run off: the figures up to then are printed and marked;
       a second signal ends at once, without figures
  141  stdout was closed before all was written, as by `| head -1`";

const EXAMPLES: &str = "\
Examples:
  hookcast-load run --url http://127.0.0.1:3000 --streams 1000 --yes --fail-if 'p99>50ms'
  hookcast-load run --preset nchan --url http://127.0.0.1:8080 --channel news --yes
  hookcast-load run --preset mercure --url http://127.0.0.1:3000 --publish-header @jwt.txt --yes
  hookcast-load run --stream-url http://127.0.0.1:8000/events \\
      --publish-url http://127.0.0.1:8000/send --publish-method PUT --publish-header @key.txt \\
      --publish-body '{\"id\":\"{id}\",\"at\":{time},\"text\":\"{filler}\"}' --yes
  hookcast-load run --processes 2 --streams 30000 --yes \\
      --url http://127.0.0.1:3001 --url http://127.0.0.1:3002

Fields of --publish-url and --publish-body:
  {message}  the whole text of a message: its id, its time, and filler up to --message-bytes
  {id}       its id: 17 characters, unique in all runs
  {time}     the time at which it is due: microseconds since 1970, 16 digits
  {filler}   letters up to --message-bytes
  {session}  its session (`targeted`); in --stream-url, that of the stream";

const WATCH_EXAMPLES: &str = "\
Examples:
  hookcast-load watch --stream-url http://127.0.0.1:8000/events --time-in /sentAt --duration 1m
  hookcast-load watch --url http://127.0.0.1:3000 --time-in /timestamp --id-in /id
  hookcast-load watch --preset centrifugo --url http://127.0.0.1:8000 --channel news \\
      --time-in /pub/data/at --number-in /pub/offset --fail-if 'p99>1s'";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every message to every stream, at a constant rate
    #[command(after_help = EXAMPLES)]
    Fanout(RunArgs),
    /// The same as `fanout`: the usual name for a server that runs already
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// Every message to every stream; one publisher posts as soon as it is answered
    Saturate(RunArgs),
    /// Messages on many connections, no streams
    Ingest(RunArgs),
    /// Open streams, only heartbeats: memory and CPU
    Idle(RunArgs),
    /// All streams connect at once and get the last 100 messages
    Storm(RunArgs),
    /// A session for each stream, each message for one session
    Targeted(RunArgs),
    /// A tenth of the readers stop reading
    Stalled(RunArgs),
    /// Streams come and go, and resume by their last event id
    Churn(RunArgs),
    /// Churn for a long time: memory and descriptors must not grow
    Soak(RunArgs),
    /// Only streams: messages of a publisher that is not this tool, by their own time
    Watch(WatchArgs),
    /// Fan-outs at rising rates: latency against load
    Ladder(LadderArgs),
    /// Latency of healthy streams under floods, slow uploads and unread answers
    Overload(OverloadArgs),
    /// hookcast, the floor and the peers in interleaved rounds: medians, ratios, charts
    Compare(CompareArgs),
    /// Several nodes with one order, under faults: each message once and in order on each stream
    Cluster(ClusterArgs),
    /// The built-in server that does only the kernel's part of the work
    Floor(FloorArgs),
    /// The backend of Pushpin; started beside it
    #[command(hide = true)]
    GripBackend(GripBackendArgs),
    /// Reads streams; started by a run with --processes
    #[command(hide = true)]
    Streams,
    /// Reads streams of a cluster; started by `cluster`
    #[command(hide = true)]
    ClusterStreams,
}

/// Options of a scenario.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Server to start: hookcast or a peer
    #[arg(long, value_enum, default_value = "hookcast")]
    pub target: ServerKind,
    /// Program of the server [default: the one beside this program]
    #[arg(long, value_name = "PATH", conflicts_with = "running")]
    pub server: Option<PathBuf>,
    /// Threads that serve streams (hookcast --shards, nginx workers, tokio workers)
    #[arg(long, default_value_t = 1, conflicts_with = "running")]
    pub shards: usize,
    /// Heartbeat interval of the started server
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2s", conflicts_with = "running")]
    pub heartbeat: Duration,
    /// Streams over TLS, with a certificate made for the run; posts stay plain (hookcast only)
    #[arg(long, conflicts_with = "running")]
    pub tls: bool,
    /// Streams ask for gzip and must get it; a started server has --compress-streams (hookcast only)
    #[arg(long)]
    pub gzip: bool,
    /// Further argument for the started hookcast; may be given several times
    #[arg(
        long,
        value_name = "ARG",
        allow_hyphen_values = true,
        conflicts_with = "running"
    )]
    pub server_arg: Vec<String>,
    /// Streams to open [default: by scenario]
    #[arg(long)]
    pub streams: Option<usize>,
    /// Sessions to target in turn (targeted; idle with --sessions-per-stream) [default: each stream has its own]
    #[arg(long)]
    pub sessions: Option<u32>,
    /// Sessions of each stream, which gets the messages of all (targeted, idle) [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub sessions_per_stream: Option<u32>,
    /// Bytes of each message's text [default: 128]
    #[arg(long)]
    pub message_bytes: Option<usize>,
    /// Messages per second of a paced scenario [default: by scenario]
    #[arg(long, value_parser = positive)]
    pub rate: Option<f64>,
    /// Publishing connections in a closed loop [default: by scenario]
    #[arg(long)]
    pub connections: Option<usize>,
    /// Length of the measured window [default: by scenario]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Time under load before the window [default: 1s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub warmup: Option<Duration>,
    /// Handshakes under way at once [default: 256, in a storm 2048]
    #[arg(long)]
    pub opening_max: Option<usize>,
    /// Processes that read streams, with an equal share each [default: 1; with several servers, one for each]
    #[arg(long, value_parser = at_least_one)]
    pub processes: Option<usize>,
    /// Streams closed and opened again per second [default: by scenario]
    #[arg(long, value_parser = positive)]
    pub churn_rate: Option<f64>,
    /// Fail the run if this is true, as 'p99>50ms'; may be given several times. Metrics: p50, p90, p99, p999,
    /// max (of deliveries; us, ms, s), lost, repeated, disorder, errors, rate (deliveries a second)
    #[arg(long, value_name = "THRESHOLD")]
    pub fail_if: Vec<Threshold>,
    /// Where results go besides the terminal.
    #[command(flatten)]
    pub output: OutputArgs,
    /// A server that runs already.
    #[command(flatten)]
    pub remote: RemoteArgs,
}

/// Where results go.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print the result as JSON on stdout, instead of text
    #[arg(long)]
    pub json: bool,
    /// Write a self-contained page with charts
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl OutputArgs {
    /// Fails at once if the report cannot be written: a run may take many minutes.
    pub fn check(&self) -> Result<(), String> {
        let Some(path) = &self.report else {
            return Ok(());
        };
        let is_new = !path.exists();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|error| format!("--report {}: {error}", path.display()))?;
        if is_new {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }
}

/// Options of a run that only reads.
#[derive(Debug, Args)]
#[command(after_help = WATCH_EXAMPLES)]
pub struct WatchArgs {
    /// JSON pointer to a message's time in the data of its event: a unix time in s, ms, us or ns, or RFC 3339
    #[arg(long, value_name = "POINTER", value_parser = pointer)]
    pub time_in: String,
    /// JSON pointer to what is equal for the same message only [default: the event's id, or all of its data]
    #[arg(long, value_name = "POINTER", value_parser = pointer, conflicts_with = "number_in")]
    pub id_in: Option<String>,
    /// JSON pointer to a number that counts up by one: a hole is a loss, even on all streams
    #[arg(long, value_name = "POINTER", value_parser = pointer)]
    pub number_in: Option<String>,
    /// Options of a run, without those of [`MEANINGLESS`]
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of the ladder.
#[derive(Debug, Args)]
pub struct LadderArgs {
    /// Rates in messages per second, rising
    #[arg(long, value_parser = positive, value_delimiter = ',', default_value = "20,100,500,2000")]
    pub rates: Vec<f64>,
    /// Options of a fan-out, without --rate
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of the overload.
#[derive(Debug, Args)]
pub struct OverloadArgs {
    /// Healthy streams
    #[arg(long, default_value_t = 100)]
    pub streams: usize,
    /// Places of the server beyond these; the attackers hold up to 1.5 times as many connections
    #[arg(long, default_value_t = 1_000)]
    pub connections: usize,
    /// Messages per second
    #[arg(long, value_parser = positive, default_value = "100")]
    pub rate: f64,
    /// Bytes of each message's text [default: 128]
    #[arg(long)]
    pub message_bytes: Option<usize>,
    /// Messages published before the first stream opens: the history that attackers request
    #[arg(long, default_value_t = 0)]
    pub history: u32,
    /// Start the attackers before the streams
    #[arg(long)]
    pub attack_first: bool,
    /// Kinds of attack, one thread for each
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "connect,touch,upload,unread,stall,request,reuse"
    )]
    pub attacks: Vec<Kind>,
    /// Rounds of quiet, attack and busy loops; figures are medians over them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// Length of each measured window
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5s")]
    pub duration: Duration,
    /// Pin the server to the first CPU, attackers and clients to the second
    #[arg(long)]
    pub pin: bool,
    /// Threads of the server that serve streams
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
    /// Heartbeat interval of the server
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2s")]
    pub heartbeat: Duration,
    /// Program of hookcast [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Further argument for hookcast; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of a comparison.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Only the cases of the README's table, with short windows: under ten minutes
    #[arg(long)]
    pub quick: bool,
    /// Servers to compare
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "hookcast,floor,axum,nchan,pushpin"
    )]
    pub servers: Vec<ServerKind>,
    /// Cases to run, by key [default: all]
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Rounds; figures are medians over them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// Streams of the fan-out cases; other cases follow
    #[arg(long, default_value_t = 10_000)]
    pub streams: usize,
    /// Length of each measured window [default: 10s, with --quick 3s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Time under load before each window
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1s")]
    pub warmup: Duration,
    /// Threads that serve streams (hookcast --shards, nginx workers, tokio workers)
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
    /// Heartbeat interval of all servers
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2s")]
    pub heartbeat: Duration,
    /// Program of hookcast [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Fail if a peer is not installed, instead of leaving it out
    #[arg(long)]
    pub require_peers: bool,
    /// Write the charts as SVG, and the tables as Markdown, into this directory
    #[arg(long, value_name = "DIR")]
    pub charts: Option<PathBuf>,
    /// Where results go besides the terminal
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Options of the floor.
#[derive(Debug, Args)]
pub struct FloorArgs {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Interval of heartbeats on every stream; 0s: none
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub heartbeat: Duration,
}

/// Options of Pushpin's backend.
#[derive(Debug, Args)]
pub struct GripBackendArgs {
    /// Interval of heartbeats on every stream; 0s: none
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub heartbeat: Duration,
}

/// Options that a command shares with others and that mean nothing to it: hidden in its help, and refused.
const MEANINGLESS: [(&str, &str, &[&str]); 2] = [
    (
        "watch",
        "`watch` starts no server and publishes nothing: it reads what others publish; `run` publishes",
        &[
            "target",
            "server",
            "shards",
            "heartbeat",
            "tls",
            "server_arg",
            "sessions",
            "message_bytes",
            "rate",
            "connections",
            "churn_rate",
            "publish_url",
            "publish_method",
            "publish_header",
            "publish_body",
            "publish_pipelining",
            "message_in",
            "admin",
            "yes",
        ],
    ),
    ("ladder", "`ladder` takes its rates from --rates", &["rate"]),
];

impl Cli {
    /// Reads the command line. The error of a wrong one ends the program with status 2.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(words)?;
        refuse_meaningless(&mut command, &matches)?;
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }
}

fn command() -> clap::Command {
    let mut command = Cli::command();
    for (name, _, options) in MEANINGLESS {
        command = command.mut_subcommand(name, |command| {
            let hide = |command: clap::Command, option: &&'static str| {
                command.mut_arg(option, |option| option.hide(true))
            };
            options.iter().fold(command, hide)
        });
    }
    command
}

fn refuse_meaningless(
    command: &mut clap::Command,
    matches: &ArgMatches,
) -> Result<(), clap::Error> {
    for (name, why, options) in MEANINGLESS {
        let Some(matches) = matches.subcommand_matches(name) else {
            continue;
        };
        let is_given =
            |option: &&&str| matches.value_source(option) == Some(ValueSource::CommandLine);
        if let Some(option) = options.iter().find(is_given) {
            let flag = option.replace('_', "-");
            let text = format!("the argument '--{flag}' means nothing to `{name}`\n\n  tip: {why}");
            return Err(command.error(ErrorKind::ArgumentConflict, text));
        }
    }
    Ok(())
}

impl RunArgs {
    /// The sizes on the command line.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            streams: self.streams,
            sessions: self.sessions,
            sessions_per_stream: self.sessions_per_stream,
            message_bytes: self.message_bytes,
            rate: self.rate,
            connections: self.connections,
            duration: self.duration,
            warmup: self.warmup,
            opening_max: self.opening_max,
            churn_per_second: self.churn_rate,
        }
    }
}

impl Command {
    /// The scenario and its options; `None` for other commands.
    pub fn scenario(&self) -> Option<(Scenario, &RunArgs)> {
        Some(match self {
            Command::Fanout(args) | Command::Run(args) => (Scenario::Fanout, args),
            Command::Saturate(args) => (Scenario::Saturate, args),
            Command::Ingest(args) => (Scenario::Ingest, args),
            Command::Idle(args) => (Scenario::Idle, args),
            Command::Storm(args) => (Scenario::Storm, args),
            Command::Targeted(args) => (Scenario::Targeted, args),
            Command::Stalled(args) => (Scenario::Stalled, args),
            Command::Churn(args) => (Scenario::Churn, args),
            Command::Soak(args) => (Scenario::Soak, args),
            _ => return None,
        })
    }
}

/// A JSON pointer (RFC 6901).
fn pointer(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("a JSON pointer begins with a slash, such as /data/time; an empty one is all of the data".into())
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let value = text.parse().ok().filter(|&value| value > 0);
    value.ok_or_else(|| "not a number above 0".into())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value <= 1e6 => Ok(value),
        _ => Err("not a number above 0, up to 1000000".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_exit_status_of_the_help_is_in_the_readme() {
        let readme = include_str!("../README.md");
        let statuses = EXITS.lines().filter_map(|line| {
            let status = line.split_whitespace().next()?;
            status.parse::<u8>().ok()
        });
        let statuses: Vec<u8> = statuses.collect();
        assert_eq!(statuses, [0, 1, 2, 3, 4, 5, 6, 130, 141]);
        for status in statuses {
            assert!(readme.contains(&format!("\n| {status} | ")), "{status}");
        }
    }
}
