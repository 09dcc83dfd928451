//! The history: the ring file, its commits and repairs, and the time of messages.

use super::KV_AHEAD_MS_MAX;

/// Messages in the history: those of the ring, and the most that a new stream gets.
pub const HISTORY_MESSAGES: usize = 100;

/// Fewest slots in the ring file: one more than the history. So an append never overwrites one of the
/// last [`HISTORY_MESSAGES`].
pub const RING_SLOTS_MIN: usize = HISTORY_MESSAGES + 1;

/// Most slots in the ring file: the history, and a whole commit of messages on their way to the
/// disk. So a commit never overwrites one of the last [`HISTORY_MESSAGES`].
pub const RING_SLOTS_MAX: usize = HISTORY_MESSAGES + COMMIT_MESSAGES_MAX;

/// Attempts to open the ring file if it was renamed between opening and locking. Each rename is a
/// complete rewrite by another process, which happens once per start.
pub const RING_OPEN_ATTEMPTS: usize = 8;

/// Most symbolic links in the path of the ring file: as many as the kernel follows
/// (`path_resolution(7)`).
pub const RING_PATH_LINKS_MAX: usize = 40;

/// Time between two examinations of the ring file while webhooks arrive. An examination takes about
/// 100 reads of a few bytes. A message acknowledged between two may be in a file that has lost its
/// name.
pub const RING_EXAMINE_MS: u64 = 1_000;

/// Bytes of one write when a whole file is written: with zeros, if the file system cannot allocate
/// otherwise; or again, if the ring was not closed, before new commits.
pub const RING_ZERO_BYTES: usize = 1024 * 1024;

/// Delay between the first failed repair of the ring and the next attempt. It doubles after each
/// further failure. Webhooks are refused meanwhile. An attempt writes some megabytes, which takes
/// far less time.
pub const RING_REPAIR_MS_MIN: u64 = 250;

/// Longest delay between two repairs of the ring: webhooks work again at most this long after the
/// disk.
pub const RING_REPAIR_MS_MAX: u64 = 8_000;

/// Time between two attempts to open the ring again after a successor has failed.
pub const RING_RETRY_MS: u64 = 50;

/// Most messages of one commit to disk (`--durability disk`). A solid-state disk syncs this many
/// scattered pages in about 1 ms, while the next commit is collected: some 100,000 messages a
/// second. Each message needs a slot of the ring file.
pub const COMMIT_MESSAGES_MAX: usize = 128;

/// Bytes of slots in a ring file for messages on their way to the disk. Enough for
/// [`COMMIT_MESSAGES_MAX`] messages at the default limit of a body, and for 4 of the largest.
pub const COMMIT_SLOTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of all messages that wait for their commit. When it is reached, shards leave webhooks
/// unread. [`COMMIT_QUEUE_MESSAGE_BYTES`] makes this a bound of their number too.
pub const COMMIT_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that a message in the commit queue counts beside its text.
pub const COMMIT_QUEUE_MESSAGE_BYTES: usize = 256;

/// Most identities that are known, so that a repeated request is recognised: the newest ones. At a webhook a
/// second they reach back 18 hours; at one a minute, 45 days, which is beyond every provider's last retry.
/// A power of two, so that the tables that double as they grow are full.
pub const IDENTITIES_MAX: usize = 65_536;

/// Bytes of an identity in memory at most: its record (88) and two fingerprints with their numbers (25 each),
/// in tables that double as they grow, while the old and the new one exist.
pub const IDENTITY_BYTES_MAX: usize = 288;

/// The most memory of all identities, with one part of the file while it is read or written.
pub const IDENTITIES_BYTES_MAX: usize = IDENTITIES_MAX * IDENTITY_BYTES_MAX + 1024 * 1024;

/// Time between two attempts to write the file of identities after a fault. An attempt writes up to 8 MiB.
pub const IDENTITIES_RETRY_MS: u64 = 60_000;

/// How long an `Idempotency-Key` is known: a day, as most services with such a key promise.
pub const IDEMPOTENCY_WINDOW_S: u32 = 24 * 60 * 60;

/// If the clock is set back by no more than this, the time of new messages stands still. After a
/// larger step it follows the clock. If it stood still, new messages would be ahead by more than
/// [`KV_AHEAD_MS_MAX`], and so rank behind all others.
pub const CLOCK_SET_BACK_MS_MAX: u64 = KV_AHEAD_MS_MAX;
