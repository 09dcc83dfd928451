//! The mirror: one history for several nodes and for a Pages app, by way of Cloudflare KV.
//!
//! Started by `main` if KV is configured, on a thread of its own. It reads one key of a KV
//! namespace every few seconds, merges it with the ring, hands new messages to the hub and writes
//! the merge where KV lacks something. It never touches a shard or a socket of a client, and
//! nothing waits for it: the hub tells it of publishes through a channel that may be full, and what
//! it missed it finds in the ring.
//!
//! ```text
//!  thread ── reads, writes ──▶ cloudflare ──▶ reply ─┐
//!    │                                               ▼
//!    ├── ring (History) ──▶ core ─▶ value, merge, seen (what)  ─▶ arrivals ─▶ ring (History)
//!    │                           └▶ schedule (when)
//!    └──▶ stats, report (what operators see)
//! ```
//!
//! # What nodes agree on
//!
//! The shared history is the last 100 messages *by time and id* of all that any node knows (see
//! `merge`). A node keeps it in memory and only ever adds to it, so stale answers and lost writes
//! cost time and no message; each node goes on asserting its own messages until it has read them
//! back (see `core`). When nobody publishes, all nodes, their rings and KV hold the same 100, and
//! nobody writes.
//!
//! # Decisions
//!
//! - *Older than what a full history holds*: never enters. The union's last 100 do not contain it.
//! - *A ring evicts by arrival, KV by time*: a remote message that is older than a local one stands
//!   behind it in the ring, which then drops the local one first, though it is still part of the
//!   shared history. It is not put in again, for then streams would see it twice. But new streams
//!   are shown the shared history as long as the live log has it ([`Replay`]), so they are shown
//!   the same 100 on every node.
//! - *A restart* reads KV before it writes: there is no write without a read before it. It forgets
//!   what was shown: a message that had left the ring before the restart and is still among KV's
//!   last 100 goes live once more. Within a process a message goes live once; over a restart at
//!   least once, and clients know it by its id.
//! - *Skewed clocks*: the order is by the publisher's clock. A node that is behind has its messages
//!   further back in the history, and on a busy day beyond its end: other nodes then never see them.
//!   The `Date` of KV's answers is the clock all nodes share: a difference of some seconds is
//!   reported, and a message stamped more than ten minutes ahead of it ranks behind all others
//!   instead of sitting on top until that day comes.
//! - *Entries that are no messages*: kept word for word, never shown, and ranked behind messages, so
//!   they stay while there is room. The list of a hundred is full of messages otherwise, and the
//!   layout says a hundred: then they go.
//! - *A value that is no list*: not written over, whatever it is. It is reported, and all is well
//!   again once it is a list or deleted. Empty and `null` hold nothing and count as no messages.
//! - *A message too large*: one that makes more than its hundredth of a value ranks behind all others;
//!   one that this node's ring cannot hold is kept in KV and not shown here.
//! - *The token* is in a [`Token`], whose `Debug` form is empty, and in one request header.

pub mod cloudflare;
pub mod core;
pub mod merge;
pub mod reply;
pub mod schedule;
mod seen;
pub mod value;

mod check;
mod report;
mod stats;
mod thread;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::check::{Check, Verdict, kv_check};
pub use self::cloudflare::ClientError;
pub use self::stats::{MirrorSnapshot, MirrorStats};
pub use self::thread::{MirrorHandle, SpawnError, Stopped, spawn};

use crate::message::Message;

/// The key that holds the history.
pub const KEY: &str = "webhook:messages";

/// The API's base URL unless `--kv-endpoint` says otherwise.
pub const ENDPOINT_DEFAULT: &str = "https://api.cloudflare.com/client/v4";
/// Default of `--kv-poll`.
pub const POLL_DEFAULT: Duration = Duration::from_secs(5);
/// Default of `--kv-write-interval`.
pub const WRITE_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// Default of `--kv-timeout`, the time for a whole call.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The settings of the mirror.
#[derive(Debug, Clone)]
pub struct MirrorConfig {
    /// The API's base URL, `http` or `https`, with or without a slash at its end.
    pub endpoint: String,
    /// The account's id.
    pub account: String,
    /// The namespace's id.
    pub namespace: String,
    /// An API token that may read and write the namespace.
    pub token: Token,
    /// Longest time between two reads while KV works.
    pub poll: Duration,
    /// Shortest time between two writes; KV takes one a second at most.
    pub write_interval: Duration,
    /// Time for name resolution, and again for TCP and TLS.
    pub connect_timeout: Duration,
    /// Time for a whole call.
    pub request_timeout: Duration,
    /// A PEM file of the only certificate authorities to trust, instead of the built-in ones.
    pub ca_file: Option<PathBuf>,
}

/// A secret: its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Wraps a token.
    pub fn new(token: String) -> Token {
        Token(token)
    }

    fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// The node's history, as the mirror sees it: a window on the hub.
pub trait History: Send + Sync {
    /// The messages that the ring holds. Called a few times per cycle; must not wait for anything
    /// but a short lock.
    fn ring(&self) -> Ring;

    /// Whether the ring can hold a message of this size.
    fn can_hold(&self, message: &Message) -> bool;

    /// Appends messages of the shared history to the ring, in this order, and shows them to the
    /// streams. There are at most 100, and each passes [`History::can_hold`].
    fn admit(&self, messages: &[Arc<Message>]) -> Admission;

    /// Says what streams that connect from now on are to be shown from before `until_seq`.
    fn set_replay(&self, replay: Replay);
}

/// The last messages of a ring.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    /// The seq of the first.
    pub first_seq: u64,
    /// The oldest arrival first, without holes.
    pub messages: Vec<Arc<Message>>,
}

/// What became of messages that were to enter the ring.
#[derive(Debug, Default)]
pub struct Admission {
    /// How many of them are in; the first ones.
    pub admitted: usize,
    /// Why the others are not.
    pub refusal: Option<String>,
}

/// Which messages a new stream is shown: of those numbered before `until_seq` these, and all from
/// `until_seq` on; 100 at most, so the oldest make way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// The seqs of the shared history, ascending. Some may be further back than the ring reaches.
    pub seqs: Vec<u64>,
    /// The seq behind the newest message that was taken into account.
    pub until_seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_show_no_token() {
        let config = MirrorConfig {
            endpoint: ENDPOINT_DEFAULT.into(),
            account: "account".into(),
            namespace: "namespace".into(),
            token: Token::new("topsecret".into()),
            poll: POLL_DEFAULT,
            write_interval: WRITE_INTERVAL_DEFAULT,
            connect_timeout: REQUEST_TIMEOUT_DEFAULT,
            request_timeout: REQUEST_TIMEOUT_DEFAULT,
            ca_file: None,
        };
        assert!(!format!("{config:?}").contains("topsecret"));
        let client = cloudflare::Client::new(&config).unwrap();
        assert!(!format!("{client:?}").contains("topsecret"));
    }
}
