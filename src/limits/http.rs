//! The HTTP core and requests: bytes and fields of a request, its deadlines, its refusal.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Default limit of a request body in bytes (`--max-body-bytes`).
pub const BODY_BYTES_MAX_DEFAULT: usize = 64 * 1024;

/// Smallest value of `--max-body-bytes`: a short message with a session id.
pub const BODY_BYTES_MAX_LEAST: usize = 1024;

/// Largest value of `--max-body-bytes`: 101 slots of this size make a ring file under 1.7 GiB.
pub const BODY_BYTES_MAX_LIMIT: usize = 16 * 1024 * 1024;

/// Longest request head in bytes, with its request line: four times the heads of browsers and CDNs.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest request target in bytes (RFC 9110 section 4.1 recommends at least 8000).
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Longest method in bytes: about twice `UPDATEREDIRECTREF`, the longest registered one (RFC 9110
/// section 16.1.1).
pub const METHOD_BYTES_MAX: usize = 32;

/// Most header fields in a request head, and most fields in a trailer section.
pub const HEADERS_MAX: usize = 100;

/// Longest chunk-size line of a chunked body in bytes: 16 hexadecimal digits, and room for an
/// extension, which is ignored.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Longest trailer section in bytes.
pub const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// Longest secret in bytes: it has to fit into a request head together with other fields.
pub const SECRET_BYTES_MAX: usize = 4 * 1024;

/// Longest `Idempotency-Key` in bytes, without quotation marks: as the services that coined it allow.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Bytes read from one socket in one call.
pub const READ_BYTES: usize = 16 * 1024;

/// Bytes to which a larger request buffer is shrunk before its next use: the head of a request, and
/// the bytes of one more read.
pub const REQUEST_BUFFER_KEEP_BYTES: usize = HEAD_BYTES_MAX + READ_BYTES;

/// Time for a complete request head, and the same again for its body.
pub const REQUEST_DEADLINE_MS: u64 = 10_000;

/// For how long further bytes of a refused request are read and dropped. Unread bytes would cause a
/// reset, which can destroy the answer (RFC 9112 section 9.6).
pub const LINGER_MS: u64 = 2_000;

/// Most bytes that are read and dropped in [`LINGER_MS`].
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Default of `--keep-alive`: above the 60 s of common load balancers. So the load balancer closes
/// an idle connection, and never sends a request on one that the server is closing.
pub const KEEP_ALIVE_DEFAULT: &str = "75s";

/// Values of `--keep-alive`. Some CDNs require more than 900 s of their origin.
pub const KEEP_ALIVE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// `Retry-After` in the answer to a webhook when the server is full, in seconds.
pub const RETRY_AFTER_S: u32 = 5;

/// Longest wait of a long poll in seconds: below the 30 s that some CDNs wait for a first byte.
pub const HISTORY_WAIT_S_MAX: u64 = 25;

/// Bytes of messages at which an answer with history ends, unless it would be empty. A client that
/// does not read binds that much memory for [`STALL_MS`](super::STALL_MS). A hundred messages of
/// 10 KiB.
pub const HISTORY_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Capacity above which the buffer for answers is freed after a page of the history. The files of
/// the chat window fit below it.
pub const ANSWER_KEEP_BYTES: usize = 128 * 1024;
