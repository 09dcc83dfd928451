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

/// How long before its end in the engine a node no longer relies on the lease. A call to KV ends by then. The time-out of
/// a call is late by some milliseconds, and the clocks of two machines drift by less than a millisecond.
pub const BUS_LEASE_MARGIN_MS: u64 = 1_000;

/// Time between two renewals of that lease, and between two attempts of other nodes to take it.
pub const BUS_LEASE_RENEWAL_MS: u64 = BUS_LEASE_MS / 3;

/// For how long a node tries to publish its acknowledged messages again, after another history has
/// replaced the one with them. Until then its end and a handover wait for them.
pub const BUS_REPUBLISH_MS: u64 = 60_000;

/// For how long a node that joins waits for other nodes to begin an epoch in an engine that has forgotten
/// something. They notice it at their next probe. They hold more of the history than this node's ring.
pub const BUS_BEGIN_PATIENCE_MS: u64 = 2 * BUS_PROBE_INTERVAL_MS + BUS_RETRY_MS_MAX;

/// For how long a start waits for its place in the log, and for one call of the engine. Then the node serves with its
/// ring, and reads the history meanwhile. With one call that begins at the last moment a start is still shorter than
/// the time of a handover ([`HANDOVER_RING_MS`](super::HANDOVER_RING_MS)) and the 90 s of systemd.
pub const BUS_START_MS_MAX: u64 = super::HANDOVER_RING_MS * 2 / 5;

/// Time between two log lines about a node that has not joined yet.
pub const BUS_JOINING_LOG_MS: u64 = 60_000;

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

/// Arrays in arrays of an answer. The answer to XREAD has five: keys, key, entries, entry, fields. The decoder recurses
/// as deep.
pub const BUS_ANSWER_DEPTH_MAX: usize = 8;

/// Values of one answer: a thousand for each of the [`BUS_READ_ENTRIES_MAX`] entries of a read, and an entry of the bus
/// has 12. A value may take 3 bytes of an answer and 60 of memory, so the bound on bytes alone would allow 350 MB.
pub const BUS_ANSWER_VALUES_MAX: usize = 1024 * BUS_READ_ENTRIES_MAX;

/// The least space for a read from the socket: with 128 small messages an answer fits into one.
pub const BUS_ANSWER_READ_BYTES_MIN: usize = 16 * 1024;

/// The space that is kept for later answers. Those without large messages fit; the space of a long one is freed.
pub const BUS_ANSWER_KEPT_BYTES_MAX: usize = BUS_ANSWER_OVERHEAD_BYTES;

/// Bytes of text that one read may return. Fewer entries are read at once if the largest body is so large
/// that they could exceed it.
pub const BUS_READ_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Fingerprints in each of the engine's two hashes of identities. A message has up to two, so one hash has at least
/// those of the last 50,000 messages, as a node's own file. Together they take up to about 30 MB of the engine.
pub const BUS_FINGERPRINTS_MAX: usize = 100_000;

/// Entries of the probes' stream. A reader takes them at once, so a few seconds of 64 nodes are enough.
pub const BUS_PROBES_MAX: usize = 64;

/// Producers in the record from which on idle ones are removed. Each takes about 60 bytes.
pub const BUS_PRODUCERS_MAX: usize = 256;

/// How long a producer has appended nothing when it is removed. Nothing of its calls is under way then.
pub const BUS_PRODUCER_IDLE_MS: u64 = 3_600_000;
