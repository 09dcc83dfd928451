//! Requests to sources that wait for their verdict.

use super::{BODY_VALUES_BYTES_MAX, HEAD_BYTES_MAX, READ_BYTES, two_requests_bytes};

/// Largest body in bytes that is judged by the thread for small ones. With eight secrets its verification is
/// 2 MiB of hashing: some 5 ms, for which a request of another source waits. Webhooks are seldom larger.
pub const JUDGING_SMALL_BODY_BYTES_MAX: usize = 256 * 1024;

/// Threads that judge: for small bodies, and for larger ones.
pub const JUDGING_LANES: usize = 2;

/// Requests to sources of one shard in the queue of a thread that judges them. A verdict takes some
/// 50 us, so a full queue is 3 ms of work. Further requests wait in their connections.
pub const JUDGING_REQUESTS_MAX: usize = 64;

/// Bytes of requests in these queues, of all shards together. A shard whose part of a queue is full adds no
/// request to it. With the part of one shard a queue holds bodies of 1 MiB for some 50 ms of work.
pub const JUDGING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The part of [`JUDGING_BYTES_MAX`] of one shard in one queue. One request more may be added to it, of any
/// size. Never zero, so that an empty queue takes a request.
pub const fn judging_bytes_max(shards: usize) -> usize {
    let bytes = JUDGING_BYTES_MAX / JUDGING_LANES / shards;
    if bytes == 0 { 1 } else { bytes }
}

/// Longest wait for a verdict in milliseconds, then the answer is a 503. A full queue of the most
/// expensive requests takes about 1 s. Shorter than [`HANDOVER_RING_MS`](super::HANDOVER_RING_MS),
/// because a handover waits for verdicts.
pub const VERDICT_MS_MAX: u64 = 8_000;

const _: () = assert!(VERDICT_MS_MAX < super::HANDOVER_RING_MS);

/// Pause between two log lines about refusals of one source for one reason, in milliseconds.
pub const REFUSAL_LOG_INTERVAL_MS: u64 = 60_000;

/// Time in which the shards begin to use sources or keys of tokens that were read again, in milliseconds. A
/// shard does so in its next turn.
pub const RELOAD_IN_USE_MS_MAX: u64 = 2_000;

/// The most memory that sources add if the largest body that one takes has so many bytes: the queues,
/// with one request more in each for each shard; what connections hold beyond their usual part; and the
/// requests that are being judged, with their decoded bytes, their texts, and the values of their JSON. A
/// request counts twice, because its buffer doubles as it grows.
pub const fn sources_memory_bytes_max(shards: usize, body_bytes_max: usize) -> usize {
    let request = 2 * (HEAD_BYTES_MAX + body_bytes_max + READ_BYTES);
    let held = two_requests_bytes(body_bytes_max);
    let small = 2 * (HEAD_BYTES_MAX + JUDGING_SMALL_BODY_BYTES_MAX + READ_BYTES);
    JUDGING_BYTES_MAX
        + shards * (small + request + held)
        + JUDGING_LANES * (2 * request + BODY_VALUES_BYTES_MAX)
}
