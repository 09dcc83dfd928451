//! The mirror: one history for several nodes and for a Pages app, by way of Cloudflare KV.
//!
//! Started by `server` if KV is configured, on a thread of its own. It reads one key of a KV namespace
//! every few seconds, merges the value with the ring, and publishes new messages through the hub. If KV
//! lacks messages, it writes the merged value. Never touches a shard or a client's socket, and no other
//! thread waits for it. The hub wakes it after publishes through a channel that may be full; the messages
//! themselves are in the ring.
//!
//! ```text
//!  thread ── reads, writes ──▶ cloudflare ──▶ reply ─┐
//!    │                                               ▼
//!    ├── hub: the ring ──▶ core ─▶ value, entry, merge, seen (what) ──▶ hub: news, shared history
//!    │                          └▶ schedule (when)
//!    └──▶ stats, report (what operators see)
//! ```
//!
//! # The shared history
//!
//! The shared history is the last 100 messages *by time and id* of all that any node knows (see
//! `merge`). A node keeps it in memory and only adds to it, so stale answers and lost writes cost time
//! but no message. Each node writes its own messages again until it has read them back (see `core`).
//! When publishing stops, all nodes and KV hold the same 100, each node replays them to new streams, and
//! no node writes.
//!
//! # Decisions
//!
//! - *Old messages*: a message that is older than all 100 of a full history is dropped. It is not among the
//!   last 100 of the union.
//! - *A ring evicts by arrival, KV by time.* A remote message may be older than a local one and arrive
//!   later. Then the ring evicts the local one first, although it is still part of the shared history. It
//!   is not appended again, because streams would get it twice. New streams get the shared history as far
//!   as the live log has it ([`SharedHistory`](crate::live_log::SharedHistory)): the same 100 on every
//!   node.
//! - *A restart* reads KV before it writes, as every cycle does. The new process does not know
//!   which messages were delivered. If a message had left the ring before the restart and is still
//!   among KV's last 100, it goes live once more. So a message goes live once within a process, and
//!   at least once over a restart; clients recognise it by its id.
//! - *Clock differences*: the order is by the publisher's clock. On a node whose clock is behind, messages
//!   go further back into the history. On a busy day they go beyond its end, and other nodes never see
//!   them. The `Date` of KV's answers is the clock that all nodes share. A difference of more than some
//!   seconds is logged. A message more than ten minutes ahead of it ranks behind all others; otherwise it
//!   would stay the newest until its time comes.
//! - *Foreign entries* (not messages) are kept unchanged, never delivered, and ranked behind
//!   messages. They stay while the history has fewer than 100 messages.
//! - *A value that is not a list* is logged and never overwritten. After it was deleted or replaced by a
//!   list, writes continue. An empty value and `null` count as an empty list.
//! - *Large messages*: a message whose entry is over a hundredth of a value, 256 KiB, stays on the
//!   node that published it. Such an entry in KV counts as foreign and is not parsed. A message
//!   that is too large for this node's ring stays in KV and is not delivered here.
//! - *The token* is in the configuration's `Secret` and in one request header. The `Debug` form of
//!   neither shows it.

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
mod turn;

pub use self::check::kv_check;
pub use self::cloudflare::ClientError;
pub use self::stats::MirrorStats;
pub use self::thread::{MirrorHandle, SpawnError, Stopped, check_client, spawn};
pub use self::turn::Lease;

/// The key that holds the history.
pub const KEY: &str = "webhook:messages";
