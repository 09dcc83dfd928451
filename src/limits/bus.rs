//! Bounds of the bus.

use std::ops::RangeInclusive;
use std::time::Duration;

/// How many epochs before the current one a lineage knows. An epoch ends when the engine restarts or
/// another one is promoted; a client that has slept through 16 of these gets the whole history.
pub const LINEAGE_EPOCHS_MAX: usize = 16;

/// Messages that the engine keeps by default; the number for `--bus-history`. A node holds the same ones in
/// memory, to put them back into an engine that has lost them.
pub const BUS_HISTORY_MESSAGES_DEFAULT: usize = 10_000;

/// The range of `--bus-history`. The replay of a new stream needs the lower bound. At the upper one the
/// messages of 128 bytes take about 40 MB of the engine.
pub const BUS_HISTORY_MESSAGES_RANGE: RangeInclusive<usize> = super::HISTORY_MESSAGES..=100_000;

/// Bytes of text in the messages that the engine and each node keep. Beyond it the oldest are dropped, but
/// never one of the last 100.
pub const BUS_HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The default of `--bus-timeout`.
pub const BUS_TIMEOUT_DEFAULT: &str = "2s";

/// The range of `--bus-timeout`. Below, a fork of the engine for a snapshot already fails webhooks; above,
/// senders have given up.
pub const BUS_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60);

/// Messages of one append call. With 128 small messages a call holds up the engine for 1.4 ms.
pub const BUS_APPEND_MESSAGES_MAX: usize = 128;

/// Bytes of text after which an append call takes no further message.
pub const BUS_APPEND_BYTES_MAX: usize = 1024 * 1024;

/// How long a read waits in the engine for an entry.
pub const BUS_READ_WAIT_MS: u64 = 1_000;

/// Entries of one read. With 256 the reader is at most two append calls behind a full one.
pub const BUS_READ_ENTRIES_MAX: usize = 256;

/// Time between two probes of a node while it publishes nothing. It is also the longest time until a
/// loss of the engine's keys is noticed.
pub const BUS_PROBE_INTERVAL_MS: u64 = 500;

/// The delay before the first retry after a fault of the engine. It doubles up to [`BUS_RETRY_MS_MAX`].
pub const BUS_RETRY_MS_MIN: u64 = 50;

/// The longest delay between two retries.
pub const BUS_RETRY_MS_MAX: u64 = 500;

/// How long a stream whose event id is ahead of this node waits for the node to reach it.
pub const RESUME_AHEAD_MS_MAX: u64 = 1_000;

/// The time of the lease of the node that mirrors to KV.
pub const BUS_LEASE_MS: u64 = 15_000;

/// Time between two renewals of that lease, and between two attempts of other nodes to take it.
pub const BUS_LEASE_RENEWAL_MS: u64 = BUS_LEASE_MS / 3;

/// For how long a node keeps its acknowledged messages to publish them again, if another history
/// replaces the one with them.
pub const BUS_REPUBLISH_MS: u64 = 60_000;

/// For how long a node that joins waits for other nodes to begin an epoch in an engine that has forgotten
/// something. They notice it at their next probe. They hold more of the history than this node's ring.
pub const BUS_BEGIN_PATIENCE_MS: u64 = 2 * BUS_PROBE_INTERVAL_MS + BUS_RETRY_MS_MAX;

/// A fault of the credentials is logged again after this time.
pub const BUS_DENIED_LOG_MS: u64 = 60_000;

/// If nothing that a node sends has come back for so long, its bus does not work. Probes are sent every
/// [`BUS_PROBE_INTERVAL_MS`].
pub const BUS_PROOF_MS_MAX: u64 = 5_000;

/// Bytes of the name in `--bus`. It stands in front of every key.
pub const BUS_NAME_BYTES_MAX: usize = 64;

/// Sentinels in `--bus`. Three or five are usual.
pub const BUS_HOSTS_MAX: usize = 16;

/// How long one append call waits in the engine for replicas. The next messages wait behind it; while
/// replicas are missing, the call is repeated until the webhook's time is over.
pub const BUS_REPLICAS_WAIT_MS: u64 = 100;

/// The range of `--bus-replicas`.
pub const BUS_REPLICAS_MAX: usize = 8;

/// The longest time to connect, for name resolution, TCP, TLS and the first command together. Within a
/// data centre it takes a few milliseconds.
pub const BUS_CONNECT_MS_MAX: u64 = 1_000;

/// How much longer than the engine's own wait a read waits for the answer.
pub const BUS_READ_GRACE_MS: u64 = 1_000;

/// The shortest time for the beginning of an epoch, which puts back up to 64 MiB.
pub const BUS_BEGIN_MS_MIN: u64 = 10_000;

/// How often a connection follows the address that a node of a cluster names for the keys.
pub const BUS_REDIRECTS_MAX: usize = 3;

/// Bytes of an answer beside the texts of messages: ids, times, sessions and lengths of the entries of a
/// read, about 400 bytes each, and the engine's own facts, about 8 KiB.
pub const BUS_ANSWER_OVERHEAD_BYTES: usize = 256 * 1024;

/// Bytes of text that one read may return. Fewer entries are read at once if the largest body is so large
/// that they could exceed it.
pub const BUS_READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Entries of the probes' stream. A reader takes them at once, so a few seconds of 64 nodes are enough.
pub const BUS_PROBES_MAX: usize = 64;

/// Producers in the record from which on idle ones are removed. Each takes about 60 bytes.
pub const BUS_PRODUCERS_MAX: usize = 256;

/// How long a producer has appended nothing when it is removed. Nothing of its calls is under way then.
pub const BUS_PRODUCER_IDLE_MS: u64 = 3_600_000;
