//! The mirror: one history for several nodes and for a Pages app, by way of Cloudflare KV.
//!
//! Started by `server` if KV is configured, on a thread of its own. It reads one key of a KV
//! namespace every few seconds, merges it with the ring, hands new messages to the hub and writes
//! the merge where KV lacks something. It never touches a shard or a socket of a client, and
//! nothing waits for it: the hub tells it of publishes through a channel that may be full, and what
//! it missed it finds in the ring.
//!
//! ```text
//!  thread ── reads, writes ──▶ cloudflare ──▶ reply ─┐
//!    │                                               ▼
//!    ├── hub: the ring ──▶ core ─▶ value, entry, merge, seen (what) ──▶ hub: news, shared history
//!    │                          └▶ schedule (when)
//!    └──▶ stats, report (what operators see)
//! ```
//!
//! # What nodes agree on
//!
//! The shared history is the last 100 messages *by time and id* of all that any node knows (see
//! `merge`). A node keeps it in memory and only ever adds to it, so stale answers and lost writes
//! cost time and no message; each node goes on asserting its own messages until it has read them
//! back (see `core`). When nobody publishes, all nodes and KV hold the same 100, each node shows them
//! to new streams, and nobody writes.
//!
//! # Decisions
//!
//! - *Older than what a full history holds*: never enters. The union's last 100 do not contain it.
//! - *A ring evicts by arrival, KV by time*: a remote message that is older than a local one stands
//!   behind it in the ring, which then drops the local one first, though it is still part of the
//!   shared history. It is not put in again, for then streams would see it twice. But new streams
//!   are shown the shared history as long as the live log has it
//!   ([`SharedHistory`](crate::live_log::SharedHistory)): the same 100 on every node.
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
//! - *A message too large*: one whose entry is over a hundredth of a value, 256 KiB, stays on the node
//!   that it was published on; such an entry in KV counts as foreign, unread. One that this node's ring
//!   cannot hold is kept in KV and not shown here.
//! - *The token* is in the configuration's `Secret` and in one request header, whose `Debug` forms
//!   show nothing.

pub mod cloudflare;
pub mod core;
pub mod entry;
pub mod merge;
pub mod reply;
pub mod schedule;
mod seen;
pub mod value;

mod check;
mod report;
mod stats;
mod thread;

pub use self::check::kv_check;
pub use self::cloudflare::ClientError;
pub use self::stats::MirrorStats;
pub use self::thread::{MirrorHandle, SpawnError, Stopped, check_client, spawn};

/// The key that holds the history.
pub const KEY: &str = "webhook:messages";
