//! The options of `cluster`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::scenarios::faults::FaultPlan;
use crate::servers::cluster::redis::Persistence;

const EXAMPLES: &str = "\
Examples:
  hookcast-load cluster --duration 10m --faults full
  hookcast-load cluster --sessions 40 --sessions-per-stream 3 --token-life 5s --faults full
  hookcast-load cluster --nodes 1 --no-bus --token-life 3s

Every stream is checked for each message of its view: once, in order, over all its connections. What must be 0
is printed last; any other count ends the run with status 3.";

/// Options of the cluster.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ClusterArgs {
    /// Nodes to start
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub nodes: u32,
    /// Streams, spread over all nodes
    #[arg(long, default_value_t = 3_000)]
    pub streams: usize,
    /// Sessions: three of four messages are for these in turn, the fourth is for everyone, and each stream sees what
    /// is for its own sessions and for everyone [default: all messages are for everyone]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sessions: Option<u32>,
    /// Sessions of each stream; unions of streams overlap [default: 1]
    #[arg(long, value_name = "N", requires = "sessions", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub sessions_per_stream: Option<u32>,
    /// Each stream has a token that lives this long, more or less by a quarter: it must end then, after
    /// a `token_expired`, and continues with a new token. The tool makes the key [default: no tokens]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub token_life: Option<Duration>,
    /// Messages per second, spread over all nodes
    #[arg(long, value_parser = super::positive, default_value = "500")]
    pub rate: f64,
    /// Connections that post, spread over all nodes
    #[arg(long, default_value_t = 64)]
    pub publishers: usize,
    /// Bytes of each message's text
    #[arg(long, default_value_t = 128)]
    pub message_bytes: usize,
    /// Time in which messages are posted
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s")]
    pub duration: Duration,
    /// Faults in turn: full, or as 'every 10s: kill-node, kill-engine, stop-engine 1s'. There are kill-node,
    /// end-node, hand-over, kill-engine, stop-engine TIME, flush-all, delete-log, delete-record, promote,
    /// promote-with-loss, cut, cut-requests, cut-answers, halve-answer, delay-request
    #[arg(long, value_name = "PLAN")]
    pub faults: Option<FaultPlan>,
    /// Take faults and their nodes at random, by this seed
    #[arg(long)]
    pub seed: Option<u64>,
    /// Each stream moves to another node at this interval; 0s: never [default: 10s with faults, else 0s]
    #[arg(long, value_parser = humantime::parse_duration)]
    pub wander: Option<Duration>,
    /// Time until a stream that has ended connects again; varies by half
    #[arg(long, value_parser = humantime::parse_duration, default_value = "50ms")]
    pub reconnect: Duration,
    /// When the engine syncs its log of commands
    #[arg(long, value_enum, default_value = "everysec")]
    pub appendonly: Persistence,
    /// Start a replica of the engine, too [default: if a fault needs one]
    #[arg(long)]
    pub replica: bool,
    /// Nodes without an engine, each with a history of its own: only for a single node
    #[arg(long, conflicts_with_all = ["replica", "ingest"])]
    pub no_bus: bool,
    /// Instead of streams and faults: messages a second, against a bare loop of the engine's append calls
    #[arg(long, conflicts_with_all = ["faults", "sessions", "token_life"])]
    pub ingest: bool,
    /// Interleaved rounds of --ingest
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Streams of each reading process of this tool, below the limit of open descriptors
    #[arg(long, default_value_t = 15_000, value_parser = super::at_least_one)]
    pub streams_per_process: usize,
    /// Program of hookcast [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// Threads of each node that serve streams (hookcast --shards)
    #[arg(long, default_value_t = 1)]
    pub shards: usize,
    /// Further argument for each node; may be given several times
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub server_arg: Vec<String>,
    /// Load these nodes instead; for the tests of this tool
    #[arg(long, hide = true, conflicts_with_all = ["faults", "ingest", "no_bus", "replica"])]
    pub node: Vec<SocketAddr>,
    /// Print the result as JSON on stdout, instead of text
    #[arg(long)]
    pub json: bool,
}
