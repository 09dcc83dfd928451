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

// Ring.

/// How often opening the ring file is tried anew because it was renamed between opening and
/// locking: each time, another process has completed a rewrite, which it does once per start.
pub const RING_OPEN_ATTEMPTS: usize = 8;

/// Bytes of zeros written at a time where the file system cannot allocate without writing.
pub const RING_ZERO_BYTES: usize = 1024 * 1024;
