//! Every bound of the server, in one place, each with its derivation.
//!
//! Used by all modules; imports none. A bound that an operator may move is a flag in `config`
//! whose default stands here.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Messages in the history: what the ring holds, what a new stream is shown at most.
pub const HISTORY_MESSAGES: usize = 100;

/// Slots in the ring file: one more than the history, so that the slot being overwritten is never
/// one of the last [`HISTORY_MESSAGES`].
pub const RING_SLOTS: usize = HISTORY_MESSAGES + 1;

/// Default limit of a request body in bytes (`--max-body-bytes`).
pub const BODY_BYTES_MAX_DEFAULT: usize = 64 * 1024;

/// The largest value `--max-body-bytes` takes: 101 slots of it still make a ring file under 1.7 GiB.
pub const BODY_BYTES_MAX_LIMIT: usize = 16 * 1024 * 1024;

/// Longest request head in bytes, request line included: four times what browsers and CDNs send.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest request target in bytes (RFC 9110 section 4.1 recommends at least 8000).
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Most header fields in a request head, and most fields in a trailer section.
pub const HEADERS_MAX: usize = 100;

/// Longest `sessionId` in bytes of UTF-8.
pub const SESSION_BYTES_MAX: usize = 256;

/// Longest chunk-size line of a chunked body in bytes, extensions included: 16 hexadecimal digits
/// and room for an extension that is read past and ignored.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Longest trailer section in bytes.
pub const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// Time for a request head, and again for a body, to arrive whole.
pub const REQUEST_DEADLINE_MS: u64 = 10_000;

/// How long a refused request's remaining bytes are read and dropped, so that a reset does not eat
/// the answer (RFC 9112 section 9.6), and how many of them.
pub const LINGER_MS: u64 = 2_000;
/// See [`LINGER_MS`].
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// A stream that takes no byte for this long while data is pending is closed.
pub const STALL_MS: u64 = 30_000;

/// Smallest live log per shard in bytes: some 80,000 small messages to resume from.
pub const LOG_BYTES_MIN: usize = 16 * 1024 * 1024;

/// What the encoded event of a message adds to its JSON-escaped content and session: the event id
/// (16 + 1 + 20 digits), field names, the message id, the timestamp, the chunk framing; rounded up.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 512;

/// Writes of one slice of the sweep. Between two slices the sockets are polled, so an
/// acknowledgement waits for at most this many writes (about 0.4 ms at 6 us each).
pub const SLICE_WRITES: usize = 64;

/// Bytes after which a slice ends as well: streams that are far behind take hundreds of KiB in one
/// write, and copying this much takes the kernel about 1 ms.
pub const SLICE_BYTES: usize = 4 * 1024 * 1024;

/// Streams that one slice looks at: passing one that is caught up costs some ns, so this bounds a
/// slice without writes to some 10 us.
pub const SLICE_VISITS: usize = 1024;

/// Extents of one gathering write: far below the kernel's `IOV_MAX` of 1024, and small enough to
/// live on the stack.
pub const GATHER_EXTENTS_MAX: usize = 64;

/// Bytes read from one socket in one call.
pub const READ_BYTES: usize = 16 * 1024;

/// The heartbeat interval is cut into this many phases; a stream's slot says which is its own, so
/// at 20,000 streams and 2 s a phase sends 157 heartbeats every 15.6 ms.
pub const HEARTBEAT_PHASES: usize = 128;

/// Phases that a heartbeat waits for a message to ride along with before it goes out alone: 125 ms
/// at 2 s, which at ten messages a second is every heartbeat.
pub const HEARTBEAT_PATIENCE_PHASES: u64 = 8;

/// A batch of frames is closed when it reaches this many bytes, so an inbox of
/// [`INBOX_BATCHES_MAX`] holds at most 32 times this and a largest message each.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Batches that a shard may have waiting. It empties its inbox every turn, so this many turns of
/// the others fit into one of its own; then their webhooks wait.
pub const INBOX_BATCHES_MAX: usize = 32;

/// Accepted connections that a shard may have waiting; when it has more, shard 0 keeps them.
pub const ARRIVALS_MAX: usize = 1024;

/// Readiness events taken from the kernel in one call.
pub const EVENTS_PER_POLL: usize = 1024;

/// Connections accepted between two polls.
pub const ACCEPTS_PER_TURN: usize = 128;

/// How long to wait after accept(2) found no descriptor or no memory.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Reads from one connection before it is somebody else's turn.
pub const READS_PER_TURN: usize = 16;

/// Connections over `--max-connections` that are let in to be told so; further ones wait in the
/// listen queue.
pub const SURPLUS_CONNECTIONS_MAX: usize = 64;

/// Phases in which all slots are looked at for deadlines that have passed, once a second.
pub const PATROL_PHASES: usize = 8;
/// See [`PATROL_PHASES`]: a deadline is met up to this much late.
pub const PATROL_INTERVAL_MS: u64 = 1_000;

/// Parse buffers that are kept for the next request; more are made, and freed, when more requests
/// are on their way at once.
pub const POOLED_READERS_MAX: usize = 64;

/// What a new stream is told to wait before it reconnects, jittered so that a restart is not
/// followed by everyone at once.
pub const RETRY_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;

/// What a stream is told when the server is full: 30 s, jittered by a fifth.
pub const RETRY_FULL_MS: std::ops::RangeInclusive<u64> = 24_000..=36_000;

/// `Retry-After` of a webhook that came when the server was full, in seconds.
pub const RETRY_AFTER_S: u32 = 5;

/// The shortest drain: also one of 0 s tells every stream when to come back.
pub const DRAIN_LEAST_MS: u64 = 200;

/// The part of a drain, in percent, over which streams are ended; the rest is for their last bytes.
pub const DRAIN_SPREAD_PERCENT: u64 = 80;

// Configuration: the defaults and ranges of the flags.

/// Address that is listened on unless told otherwise: loopback, so nothing is public by accident.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:3000";

/// Most `--listen` addresses: each costs a listening socket of the reserve below.
pub const LISTEN_ADDRESSES_MAX: usize = 16;

/// Most shards: far more cores than one accepting thread can feed.
pub const SHARDS_MAX: usize = 64;

/// Default of `--heartbeat`: a third of the shortest idle timeout met in CDNs and proxies is 3 s
/// (10 s between two bytes), so 2 s survives one heartbeat that comes late.
pub const HEARTBEAT_INTERVAL_DEFAULT: &str = "2s";
/// What `--heartbeat` takes: below 100 ms a phase of the wheel is under 1 ms, above a minute
/// load balancers close the stream (60 s is a usual idle timeout).
pub const HEARTBEAT_INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60);

/// The smallest value `--max-body-bytes` takes: room for a short message and a session id.
pub const BODY_BYTES_MAX_LEAST: usize = 1024;

/// Default of `--keep-alive`: above the 60 s of common load balancers, so that it is they who
/// close an idle connection and no request is sent into one that is being closed.
pub const KEEP_ALIVE_DEFAULT: &str = "75s";
/// What `--keep-alive` takes: some CDNs want their origin to wait for more than 900 s.
pub const KEEP_ALIVE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Default of `--drain`: service managers usually wait 10 s (containers) or 90 s (systemd).
pub const DRAIN_DEFAULT: &str = "5s";
/// What `--drain` takes; 0 ends every stream at once.
pub const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

/// Descriptors that are not connections: two per shard for its poll and its waker (128 at the most
/// shards), 16 listeners, and some 20 for the ring, its lock, the log, signals, the admin address
/// and the mirror's sockets. The rest, some 90, is for connections beyond the limit that are
/// accepted only to be told so.
pub const FILES_RESERVED: u64 = 256;

/// The largest `--max-connections`, and its default where the file limit allows more: the slots of
/// a million connections take 256 MiB when all are open.
pub const CONNECTIONS_MAX_LIMIT: usize = 1 << 20;

/// Longest secret in bytes: it has to fit into a request head with other headers beside it.
pub const SECRET_BYTES_MAX: usize = 4 * 1024;

/// Largest `--kv-ca-file` in bytes: the certificates of all public authorities take 220 KiB.
pub const CA_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Default of `--kv-poll`: 60 reads per 5 minutes of the API's 1,200, and 17,280 of the free
/// plan's 100,000 a day.
pub const KV_POLL_INTERVAL_DEFAULT: &str = "5s";
/// What `--kv-poll` takes.
pub const KV_POLL_INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Default of `--kv-write-interval`.
pub const KV_WRITE_INTERVAL_DEFAULT: &str = "5s";
/// What `--kv-write-interval` takes: KV allows one write a second to one key.
pub const KV_WRITE_INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Default of `--kv-timeout`.
pub const KV_TIMEOUT_DEFAULT: &str = "10s";
/// What `--kv-timeout` takes.
pub const KV_TIMEOUT_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(120);

/// The public base URL of Cloudflare's REST API.
pub const KV_ENDPOINT_DEFAULT: &str = "https://api.cloudflare.com/client/v4";

// The HTTP core.

/// Longest method in bytes: about twice `UPDATEREDIRECTREF`, the longest that is registered
/// (RFC 9110 section 16.1.1).
pub const METHOD_BYTES_MAX: usize = 32;

/// A request buffer that grew beyond this is shrunk to it before it is used again: the head of one
/// request and what one read brings behind it.
pub const REQUEST_BUFFER_KEEP_BYTES: usize = HEAD_BYTES_MAX + READ_BYTES;

// Ring.

/// How often opening the ring file is tried anew because it was renamed between opening and
/// locking: each time, another process has completed a rewrite, which it does once per start.
pub const RING_OPEN_ATTEMPTS: usize = 8;

/// Bytes of zeros written at a time where the file system cannot allocate without writing.
pub const RING_ZERO_BYTES: usize = 1024 * 1024;

/// Connections that the kernel keeps while they wait for accept(2); it cuts this to
/// `net.core.somaxconn`. A storm of 10,000 clients fills it, and those retry within a second.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The send buffer of a connection in bytes (`SO_SNDBUF`, which the kernel doubles): what a reader
/// that has stopped can bind of the kernel's memory.
pub const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// A socket counts as writable when it has less than this not yet sent (`TCP_NOTSENT_LOWAT`).
pub const UNSENT_BYTES_LOW: u32 = 128 * 1024;

// The log.

/// Bytes of log lines that wait to be written; more are dropped and counted. Some 5,000 lines:
/// what a slow reader of standard error may fall behind before it misses any.
pub const LOG_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// How long the end of the process waits for queued log lines.
pub const LOG_FLUSH_MS: u64 = 1_000;

/// Time for a whole request on the admin address, and for its answer: one waits for the other.
pub const ADMIN_DEADLINE_MS: u64 = 1_000;

/// Longest body of an admin request in bytes; none needs one.
pub const ADMIN_BODY_BYTES_MAX: usize = 1024;

// --- The KV mirror ---

/// Largest value KV holds in bytes (Cloudflare's limits page).
pub const KV_VALUE_BYTES_MAX: usize = 25 * 1024 * 1024;

/// Largest first-class entry of the KV value in bytes of JSON: a full history of such entries, with
/// its brackets and commas, still fits a value. It is 256 KiB less 2; a message that came in a body
/// of the default limit is at most 64 KiB and its fixed fields.
pub const KV_ENTRY_BYTES_MAX: usize =
    (KV_VALUE_BYTES_MAX - (HISTORY_MESSAGES + 1)) / HISTORY_MESSAGES;

/// An entry stamped further ahead of the KV's own clock than this ranks behind every other: well
/// beyond an unsynchronised clock's drift, and below a mistaken time zone.
pub const KV_AHEAD_MS_MAX: u64 = 10 * 60 * 1000;

/// The time KV may take to show a write (Cloudflare: "60 seconds or more").
pub const KV_PROPAGATION_MS: u64 = 60_000;

/// Calls one user may make in [`KV_CALLS_WINDOW_MS`]; one more and all are refused for as long.
pub const KV_CALLS_MAX: usize = 1_200;
/// See [`KV_CALLS_MAX`].
pub const KV_CALLS_WINDOW_MS: u64 = 5 * 60 * 1000;

/// Shortest time between two writes of one key: KV refuses more than one a second.
pub const KV_WRITE_GAP_MS_MIN: u64 = 1_000;

/// First and longest upper bound of the back-off after a failed call; the delay itself is drawn
/// below it (full jitter), but never under [`KV_BACKOFF_MS_MIN`]. A minute at most, so that an
/// outage's end is noticed soon; a minute always after an error that only an operator can mend.
pub const KV_BACKOFF_MS_BASE: u64 = 1_000;
/// See [`KV_BACKOFF_MS_BASE`].
pub const KV_BACKOFF_MS_MIN: u64 = 200;
/// See [`KV_BACKOFF_MS_BASE`].
pub const KV_BACKOFF_MS_MAX: u64 = 60_000;

/// The longest `Retry-After` that is believed: the API's own block lasts five minutes.
pub const KV_RETRY_AFTER_MS_MAX: u64 = 60 * 60 * 1000;

/// How many histories' worth of message ids the mirror remembers having shown. Ids are forgotten
/// oldest first and never while their message is in the shared history, so the rest is reserve.
pub const KV_SEEN_HISTORIES: usize = 10;

/// How many earlier values the mirror recognises, by a hash, when KV answers stale: a minute of
/// polls at the default interval, and four more.
pub const KV_STALE_VALUES: usize = 16;

/// Most bytes read of an error's body: the JSON envelope is a few hundred; the rest is HTML.
pub const KV_ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of messages that are copied for a new stream because they stand in the log before
/// others that it is not shown: four of the largest messages at the default limit. They are a
/// stream's own memory until it has taken them, so older ones beyond this are left out.
pub const REPLAY_COPY_BYTES_MAX: usize = 256 * 1024;

/// How long the mirror waits for the shards to make room for messages of other nodes. A shard
/// empties its inbox every turn, so this is hundreds of turns; what finds none is offered again.
pub const KV_ADMIT_PATIENCE_MS: u64 = 1_000;

/// Least time for the mirror's last sync when the streams took all of the drain: a read and a write,
/// which KV answers in some 100 ms, and the distance that two writes have to keep.
pub const KV_LAST_SYNC_MS_MIN: u64 = 1_500;

// --- Handing over to a successor ---

/// How long a successor may take until it has everything but the ring. It reads its configuration
/// and the files that this names; the predecessor serves on meanwhile, so it may be long.
pub const HANDOVER_PREPARE_MS: u64 = 30_000;

/// How long a successor may take to open the ring and begin to serve; webhooks wait meanwhile.
/// It takes as long as two writes of 7 MB to disk, some ten milliseconds; a disk that is busy may
/// take seconds.
pub const HANDOVER_RING_MS: u64 = 10_000;

/// Time between two attempts to open the ring again after a successor has failed.
pub const RING_RETRY_MS: u64 = 50;

/// How long a predecessor waits for its successor to take a connection.
pub const HANDOVER_SEND_MS: u64 = 5_000;

/// Most bytes that are handed over with a connection: a request of the largest size, and what was
/// read behind it.
pub const HANDOVER_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX_LIMIT + 2 * READ_BYTES;

// --- The service manager ---

/// Looks of the watchdog in the manager's interval: it is fed at least twice, as
/// `sd_watchdog_enabled(3)` recommends, although a look may find a shard still asleep.
pub const WATCHDOG_LOOKS: u32 = 4;

/// The shortest watchdog interval that is kept, in microseconds: 100 ms, far below any sensible one.
pub const WATCHDOG_USEC_MIN: u64 = 100_000;
