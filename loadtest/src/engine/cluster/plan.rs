//! What the tool and its reading processes tell each other, as lines of JSON.
//!
//! The tool writes a [`Plan`], then [`Request`]s; the reading process writes a [`Status`] at an interval, and an
//! [`Outcome`] as its last line. Used by `reader`, `verdict` and `runs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::cluster::lives::Ends;
use crate::engine::cluster::trail::Tally;
use crate::engine::cluster::views::Views;
use crate::engine::payload::PayloadFormat;

/// The task of a reading process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// The nodes. Message `n` is posted to node `n % nodes.len()`.
    pub nodes: Vec<SocketAddr>,
    /// The messages.
    pub format: PayloadFormat,
    /// Sessions of messages and streams.
    pub views: Views,
    /// Tokens of streams; `None`: they have none.
    pub tokens: Option<TokenPlan>,
    /// Streams to open, spread over the nodes.
    pub streams: usize,
    /// Number of the first one among those of all processes.
    pub first: usize,
    /// How often each stream moves to another node, in milliseconds; zero: never.
    pub wander_ms: u64,
    /// Time until a stream that has ended connects again, in milliseconds.
    pub reconnect_ms: u64,
    /// Handshakes under way at once.
    pub opening_max: usize,
    /// The seed of its choices.
    pub seed: u64,
}

/// How streams get their tokens: each connection gets a new one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenPlan {
    /// The file of the key. The key itself is not in the plan, which may be shown.
    pub key: PathBuf,
    /// How long a token lives, in milliseconds; varies by a quarter.
    pub life_ms: u64,
}

/// What a reading process is to do next.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Count the streams that have this message, and move none meanwhile.
    Mark(Option<u32>),
    /// End; the file lists the acknowledged messages.
    Finish(PathBuf),
}

/// The state of a reading process.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Open streams.
    pub open: usize,
    /// Streams that have been open.
    pub opened: usize,
    /// Streams that have the message of the last [`Request::Mark`].
    pub marked: usize,
    /// Messages read.
    pub deliveries: u64,
}

/// A line of a reading process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// At an interval.
    Status(Status),
    /// The last line.
    Outcome(Box<Outcome>),
}

/// A message at its place: epoch, seq, number, message id.
pub type Seen = (u64, u64, u32, u128);

/// How late the newest message was that streams of one node had read: a point of time, and the due time of
/// the newest message read until then.
pub type Progress = (u64, u64);

/// The results of a reading process.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Messages read.
    pub deliveries: u64,
    /// Faults, gaps and resumes.
    pub tally: Tally,
    /// Ends of streams by their tokens.
    pub ends: Ends,
    /// Acknowledged messages that a stream lacks, summed over streams.
    pub lost: u64,
    /// Acknowledged messages that a stream lacks and that `gap` events had announced.
    pub missed_by_gap: u64,
    /// Acknowledged messages that a stream lacks because its last event id was no longer valid.
    pub missed_by_replay: u64,
    /// Messages that a stream had on an earlier connection and read again.
    pub replayed_messages: u64,
    /// Events that differ from another one with the same event id.
    pub differing: u64,
    /// Connections made.
    pub connections: u64,
    /// Moves to another node.
    pub moves: u64,
    /// Connections that the server ended in good order.
    pub ended: u64,
    /// Connections that broke.
    pub broken: u64,
    /// Connections that were not made or not answered with a stream, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// Errors on streams, by their text.
    pub errors: BTreeMap<String, u64>,
    /// Every event seen.
    pub seen: Vec<Seen>,
    /// Latencies of messages posted to another node: microseconds and their number.
    pub cross: Vec<(u64, u64)>,
    /// Latencies of messages posted to the same node.
    pub own: Vec<(u64, u64)>,
    /// For each node, when streams of it read newer messages.
    pub progress: Vec<Vec<Progress>>,
    /// CPU time of the process in nanoseconds.
    pub cpu_ns: u64,
}
