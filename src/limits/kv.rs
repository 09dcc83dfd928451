//! The mirror: the flags for Cloudflare KV, the limits of its API, and back-off.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::HISTORY_MESSAGES;

/// The public base URL of Cloudflare's REST API.
pub const KV_ENDPOINT_DEFAULT: &str = "https://api.cloudflare.com/client/v4";

/// Default of `--kv-poll`: 60 reads per 5 minutes of the API's 1,200, and 17,280 of the free
/// plan's 100,000 a day.
pub const KV_POLL_INTERVAL_DEFAULT: &str = "5s";

/// Values of `--kv-poll`.
pub const KV_POLL_INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Default of `--kv-write-interval`.
pub const KV_WRITE_INTERVAL_DEFAULT: &str = "5s";

/// Values of `--kv-write-interval`. KV allows one write a second to one key.
pub const KV_WRITE_INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Default of `--kv-timeout`.
pub const KV_TIMEOUT_DEFAULT: &str = "10s";

/// Values of `--kv-timeout`.
pub const KV_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(120);

/// Largest `--kv-ca-file` in bytes. The certificates of all public authorities take 220 KiB.
pub const CA_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest value KV holds in bytes (Cloudflare's limits page).
pub const KV_VALUE_BYTES_MAX: usize = 25 * 1024 * 1024;

/// Largest entry in the KV value, in bytes of its JSON. A full history of such entries, with
/// brackets and commas, fits into a value: 256 KiB less 2. A message from a body of the default
/// limit has at most 64 KiB and fixed fields. Larger entries are not parsed.
pub const KV_ENTRY_BYTES_MAX: usize =
    (KV_VALUE_BYTES_MAX - (HISTORY_MESSAGES + 1)) / HISTORY_MESSAGES;

/// The most memory of the mirror in bytes: four values and sixteen entries. An entry is never
/// longer than the text it is read from. The numbers in parentheses count values, or entries where
/// that is said:
///
/// - While a value is read: the history (one), the bytes of the value (one), its entries (one), and
///   the stack of the parser (one). The stack has a byte for each open bracket, in a buffer that
///   doubles. If no bracket is closed the stack is two, but then there are no entries.
/// - After that: the old history and the entries (two). The new history shares both.
/// - When new messages go live: the history and their contents (two). Then the hub has them.
/// - While a value is written: the history and the value (two).
/// - While one entry is read: its members, which take 32 bytes for every 5 bytes of text in a list
///   that doubles, and its content and its new text, twice each (sixteen entries).
///
/// Between two cycles the mirror keeps the history, at most one value, and the allocator's reserve.
pub const KV_MEMORY_BYTES_MAX: usize = 4 * KV_VALUE_BYTES_MAX + 16 * KV_ENTRY_BYTES_MAX;

/// An entry stamped further ahead of KV's clock than this ranks behind all others. More than the
/// drift of an unsynchronised clock, less than a wrong time zone.
pub const KV_AHEAD_MS_MAX: u64 = 10 * 60 * 1000;

/// Time until a write to KV is visible (Cloudflare: "60 seconds or more").
pub const KV_PROPAGATION_MS: u64 = 60_000;

/// Most API calls of one user in [`KV_CALLS_WINDOW_MS`]. After one more, the API refuses all
/// calls for the same time.
pub const KV_CALLS_MAX: usize = 1_200;

/// The window of [`KV_CALLS_MAX`].
pub const KV_CALLS_WINDOW_MS: u64 = 5 * 60 * 1000;

/// Shortest time between two writes of one key: KV refuses more than one a second.
pub const KV_WRITE_GAP_MS_MIN: u64 = 1_000;

/// First upper bound of the back-off after a failed call. It doubles up to [`KV_BACKOFF_MS_MAX`].
/// The delay is random below the bound (full jitter), but at least [`KV_BACKOFF_MS_MIN`].
pub const KV_BACKOFF_MS_BASE: u64 = 1_000;

/// Shortest back-off after a failed call.
pub const KV_BACKOFF_MS_MIN: u64 = 200;

/// Longest back-off after a failed call: a minute, so that the end of an outage is noticed soon.
pub const KV_BACKOFF_MS_MAX: u64 = 60_000;

/// Longest `Retry-After` that is followed. The API's own block lasts five minutes.
pub const KV_RETRY_AFTER_MS_MAX: u64 = 60 * 60 * 1000;

/// Ids of delivered messages that the mirror remembers, as a multiple of the history. The oldest
/// are forgotten first, but never while their message is in the shared history. So nine of the ten
/// are reserve.
pub const KV_SEEN_HISTORIES: usize = 10;

/// Earlier values that the mirror recognises by a hash when KV returns a stale one: a minute of
/// polls at the default interval, and four more.
pub const KV_STALE_VALUES: usize = 16;

/// Most bytes read of an error's body. The JSON envelope has a few hundred; the rest is HTML.
pub const KV_ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// For how long the mirror waits until inboxes have room for messages of other nodes. A shard
/// empties its inbox every turn, so this is hundreds of turns. Messages without room are offered
/// again.
pub const KV_ADMIT_PATIENCE_MS: u64 = 1_000;

/// Least time for the mirror's last sync, even if the streams have used up the drain: a read and a
/// write, which KV answers in some 100 ms, and [`KV_WRITE_GAP_MS_MIN`] between two writes.
pub const KV_LAST_SYNC_MS_MIN: u64 = 1_500;
