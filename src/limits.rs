//! Every bound of the server, in one place, each with its derivation.
//!
//! Used by all modules; imports none. A bound that an operator may move is a flag in `config`
//! whose default stands here.

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

/// Extents of one gathering write: far below the kernel's `IOV_MAX` of 1024, and small enough to
/// live on the stack.
pub const GATHER_EXTENTS_MAX: usize = 64;

/// Bytes read from one socket in one call.
pub const READ_BYTES: usize = 16 * 1024;

/// The heartbeat interval is cut into this many phases; a stream's slot says which is its own, so
/// at 20,000 streams and 2 s a phase sends 157 heartbeats every 15.6 ms.
pub const HEARTBEAT_PHASES: usize = 128;

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
