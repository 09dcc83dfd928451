//! Streams: their log, heartbeats, reconnect delays and ends.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest `sessionId` in bytes of UTF-8.
pub const SESSION_BYTES_MAX: usize = 256;

/// Most sessions of one stream, or of one request for the history. A write looks into a list of frames for each.
pub const SESSIONS_PER_STREAM_MAX: usize = 16;

/// The largest name of a source, in bytes: it is a part of an address and of a metric's label.
pub const SOURCE_NAME_BYTES_MAX: usize = 64;

/// The largest type of a source's event, in bytes. The longest of the known providers has 60
/// (`com.example.object.verb` of `CloudEvents` has no bound, and is cut).
pub const EVENT_TYPE_BYTES_MAX: usize = 128;

/// Bytes of a fingerprint: half a SHA-256 digest. Two of 65,536 requests have the same one with a
/// probability of 2^-97.
pub const FINGERPRINT_BYTES: usize = 16;

/// Most bytes of a message in the ring beside its content and its session: the two texts of a label, and
/// the three fingerprints of an identity. Slots are made for the largest body and these, so that the
/// largest webhook may have an `Idempotency-Key`.
pub const MESSAGE_EXTRA_BYTES_MAX: usize =
    SOURCE_NAME_BYTES_MAX + EVENT_TYPE_BYTES_MAX + 3 * FINGERPRINT_BYTES;

/// Smallest live log of a shard in bytes: a stream can resume from the last 80,000 small messages.
pub const LOG_BYTES_MIN: usize = 16 * 1024 * 1024;

/// Bytes of an encoded event beside its JSON-escaped content and session, rounded up: the event id
/// (16 + 1 + 20 digits), field names, the message id, the timestamp, the chunk framing, together 195.
/// A label adds 23 of names and 384 of texts: of the characters that it may have, quotation marks,
/// backslashes, U+2028 and U+2029 take twice their bytes.
///
/// Escaped content is no longer than in its body, except U+0085, U+2028 and U+2029: 2 or 3 bytes
/// become 6. A log for the worst of these bodies would have to be three times as large. So the hub
/// bounds a frame by a slot of the ring and this overhead. A webhook with a larger frame gets a
/// 413.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 640;

/// Most bytes of messages that are copied for a new stream, if it does not replay all messages of
/// the log: four of the largest at the default limit. The copies are memory of this stream alone
/// until they are sent. Older messages beyond this are omitted.
pub const REPLAY_COPY_BYTES_MAX: usize = 256 * 1024;

/// A stream or an answer is closed if its peer takes no byte for this long while data is pending.
pub const STALL_MS: u64 = 30_000;

/// Default of `--heartbeat`. The shortest idle timeout found in CDNs and proxies is 10 s between two
/// bytes. A third of that is 3 s, so 2 s allows for one late heartbeat.
pub const HEARTBEAT_INTERVAL_DEFAULT: &str = "2s";

/// Values of `--heartbeat`. Below 100 ms a phase would be under 1 ms. Above 60 s, a usual idle
/// timeout, load balancers close the stream.
pub const HEARTBEAT_INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60);

/// Phases of the heartbeat interval. The slot of a stream determines its phase. With 20,000 streams
/// and 2 s, a phase sends 157 heartbeats every 15.6 ms.
pub const HEARTBEAT_PHASES: usize = 128;

/// Adjacent slots that share a heartbeat phase. The kernel's data of sockets accepted in sequence is
/// adjacent in memory: writes in that order cost a tenth less than to every 128th socket
/// (loadtest/README.md). Small, so that a thousand streams fill half of the phases.
pub const HEARTBEAT_RUN: usize = 16;

/// Phases that a due heartbeat waits to be sent together with a message: 125 ms at 2 s. At ten
/// messages a second, no heartbeat is sent alone.
pub const HEARTBEAT_PATIENCE_PHASES: u64 = 8;

/// Reconnect delay that a stream sends in `retry`. Random, so that clients do not all reconnect at
/// once after a restart.
pub const RETRY_MS: RangeInclusive<u64> = 1_000..=3_000;
const _: () = assert!(
    *RETRY_MS.end() <= u16::MAX as u64,
    "a stream stores it in 16 bits"
);

/// Reconnect delay when the server is full: 30 s, plus or minus a fifth at random.
pub const RETRY_FULL_MS: RangeInclusive<u64> = 24_000..=36_000;

/// Values of `--cdn-fanout`. Below 5 s, reconnects cost more than the streams. A stream of ten
/// minutes with 100 messages of 300 bytes a second is below 20 MB, the most that the smallest
/// caches hold.
pub const FANOUT_LIFE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(600);

/// Shortest life of a shared stream in percent of the longest. Lives are random, so that the
/// streams of several caches do not end together.
pub const FANOUT_LIFE_LEAST_PERCENT: u64 = 80;

/// Reconnect delay of a shared stream. Short, because messages sent meanwhile are late by as much.
/// The cache merges the reconnects into one request.
pub const FANOUT_RETRY_MS: RangeInclusive<u64> = 250..=750;

/// Default of `--drain`: service managers usually wait 10 s (containers) or 90 s (systemd).
pub const DRAIN_DEFAULT: &str = "5s";

/// Values of `--drain`; 0 ends every stream at once.
pub const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

/// Shortest drain: even with `--drain 0s`, streams have this long to receive their `retry`.
pub const DRAIN_LEAST_MS: u64 = 200;

/// Part of a drain, in percent, over which the ends of streams are spread. The rest is for their last
/// bytes.
pub const DRAIN_SPREAD_PERCENT: u64 = 80;

/// The longest time over which a process that hands over ends its streams, however long `--drain` is. They get no
/// messages any more: the successor has the ring. As long as the range of [`RETRY_MS`], which spreads their returns
/// as well.
pub const HANDOVER_SPREAD_MS_MAX: u64 = 2_000;

/// For how long a drain leaves connections without a request open: some round trips around the
/// earth. A proxy may have sent a request on such a connection, and closing would lose it without
/// an answer. If the part of the drain over which streams end is shorter, that counts.
pub const DRAIN_IDLE_MS: u64 = 500;
