//! Memory under load: the bound of each part, and that of the whole process.
//!
//! `MEMORY.md` lists every collection that a peer, a file or KV can grow, with its bound.

use super::{
    ANSWER_KEEP_BYTES, BATCH_BYTES_MAX, BUS_APPEND_BYTES_MAX, BUS_HISTORY_BYTES_MAX,
    BUS_READ_BYTES_MAX, COMMIT_QUEUE_BYTES_MAX, FRAME_OVERHEAD_BYTES_MAX, HEAD_BYTES_MAX,
    HISTORY_ANSWER_BYTES_MAX, HISTORY_MESSAGES, IDENTITIES_BYTES_MAX, INBOX_BATCHES_MAX,
    LOG_BYTES_MIN, MESSAGE_EXTRA_BYTES_MAX, POOLED_EXCHANGES_MAX, PRESENCE_CHANGE_BYTES,
    PRESENCE_CHANGES_MAX, READ_BYTES, REQUEST_BUFFER_KEEP_BYTES, SESSION_BYTES_MAX,
    SURPLUS_CONNECTIONS_MAX, TLS_HANDSHAKE_BYTES_MAX, TLS_INCOMING_BYTES_MAX, TLS_RECORD_BYTES_MAX,
};

/// Bytes of incomplete requests, of unsent answers, and of the own bytes of streams, over all
/// connections: 1,000 uploads of the default size. Each client is sure of an equal share.
/// Connections that hold at most [`SMALL_REQUEST_BYTES_MAX`] are not counted.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that a connection may always hold: the head of a browser's request, with a cookie.
pub const SMALL_REQUEST_BYTES_MAX: usize = 2 * 1024;

/// Bytes that a connection counts beside what it holds: its entries in four B-trees, 24 to 64 bytes
/// each, and twice as much in half-full nodes.
pub const SHARE_ENTRY_BYTES: usize = 320;

/// Time without progress after which a connection may be ended for another one of its client.
/// Longer than the stall of a healthy connection after two lost packets (RFC 6298: 1 s at first).
pub const SHARE_STALLED_MS_MIN: u64 = 2_000;

/// Most connections that are ended at once to make room for another: about 1 ms of work. Each frees
/// at least [`SMALL_REQUEST_BYTES_MAX`], so this is enough for an upload of the default size.
pub const SHARE_ENDED_MAX: usize = 64;

/// The part of [`HELD_BYTES_MAX`] of one shard. It has room for at least two requests of the
/// largest size.
pub const fn held_bytes_max(shards: usize, body_bytes_max: usize) -> usize {
    let two = two_requests_bytes(body_bytes_max);
    let part = HELD_BYTES_MAX / shards;
    if part > two { part } else { two }
}

/// Bytes of two requests of the largest size, each counted twice because a buffer doubles as it grows.
pub const fn two_requests_bytes(body_bytes_max: usize) -> usize {
    4 * (HEAD_BYTES_MAX + body_bytes_max + READ_BYTES)
}

/// Bytes of unanswered webhooks and their readers at which a shard stops reading requests until the
/// hub has stored some. Thousands of large webhooks reach it in one turn. With `--durability disk`
/// it is reached by webhooks that wait for the disk.
pub const PUBLISHING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most memory of one connection beside the counted bytes: a small request, answer or beginning
/// of a stream, its reader, its slot, the identity of its webhook, and its entries in the shard's lists,
/// which double as they grow.
pub const CONNECTION_BYTES_MAX: usize = SMALL_REQUEST_BYTES_MAX + 1280;

/// The most memory that TLS adds to a connection: keys or the state of a handshake, the client's certificates,
/// received bytes that are not processed and content that the shard has not read (together as much as is read at
/// once), and a record that waits for the socket. The last two twice, because a buffer doubles.
pub const TLS_CONNECTION_BYTES_MAX: usize =
    8 * 1024 + TLS_HANDSHAKE_BYTES_MAX + 2 * TLS_INCOMING_BYTES_MAX + 2 * TLS_RECORD_BYTES_MAX;

/// The largest frame of a message, in bytes: JSON escapes may double a body.
pub const fn frame_bytes_max(body_bytes_max: usize) -> usize {
    2 * body_bytes_max + FRAME_OVERHEAD_BYTES_MAX
}

/// Bytes of the smallest targeted frame.
pub const FRAME_BYTES_MIN: usize = 160;

/// Bytes of the smallest frame without a session.
pub const BROADCAST_BYTES_MIN: usize = 144;

/// Bytes of a frame in the log's index: its position, and its time.
pub const LOG_ENTRY_BYTES: usize = 40;

/// Further bytes in the index for a frame without a session: its seq.
pub const LOG_BROADCAST_BYTES: usize = 8;

/// Bytes of a session's record in the log's index.
pub const LOG_SESSION_BYTES: usize = 72;

/// Bytes of a session's bucket in the hash table by name: a pointer to the name, its length, its hash, the
/// index of the record, a control byte.
pub const LOG_SESSION_BUCKET_BYTES: usize = 25;

/// Bytes allocated by a session with one frame: its name, and the list of its frames with room for
/// four. A name of more than 24 bytes takes more, but then its frame is larger too.
pub const LOG_SESSION_OWN_BYTES: usize = 64 + 48;

/// Bytes of a session of a stream that has several, beside its name: its record and its bucket in tables that
/// double as they grow, its link in the list of the session (24, doubled), its key, and the name's allocation.
/// Such a stream holds these bytes as others hold unsent answers. A stream of six sessions with names of a UUID
/// is within [`SMALL_REQUEST_BYTES_MAX`].
pub const UNION_SESSION_BYTES: usize =
    2 * LOG_SESSION_BYTES + 3 * LOG_SESSION_BUCKET_BYTES + 48 + 4 + 32;

/// Most capacity of a session's list of frames, as a multiple of its length. Above it the list is
/// shrunk to half of that multiple. Many frames are added or removed before the next resize, so each
/// is copied only once or twice.
pub const SESSION_FRAMES_SPREAD: usize = 4;

/// Smallest capacity of a session's list: that with which a `VecDeque` of numbers begins.
pub const SESSION_FRAMES_LEAST: usize = 4;

/// The frames of a live log: 100 of the largest, or more.
const fn log_ring_bytes(body_bytes_max: usize) -> usize {
    let history_bytes = HISTORY_MESSAGES * frame_bytes_max(body_bytes_max);
    if history_bytes > LOG_BYTES_MIN {
        history_bytes
    } else {
        LOG_BYTES_MIN
    }
}

/// The most memory of a shard's live log with its index. The tables never shrink, so each counts
/// with the messages that make it largest: small ones without a session, then small ones for one
/// session each. Tables double as they grow. The hash map doubles when it is seven eighths full,
/// or at half of that if names are added and removed.
pub const fn log_bytes_max(body_bytes_max: usize) -> usize {
    let frames_bytes = log_ring_bytes(body_bytes_max);
    let broadcasts = frames_bytes / BROADCAST_BYTES_MIN;
    let frames = frames_bytes / FRAME_BYTES_MIN;
    frames_bytes
        + broadcasts.next_power_of_two() * (LOG_ENTRY_BYTES + LOG_BROADCAST_BYTES)
        + frames.next_power_of_two() * LOG_SESSION_BYTES
        + (frames * 16 / 7).next_power_of_two() * LOG_SESSION_BUCKET_BYTES
        + frames * LOG_SESSION_OWN_BYTES
}

/// Bytes of a message in the index of compressed frames: its position, and what it adds to a checksum.
pub const LOG_COMPRESSED_ENTRY_BYTES: usize = 24;

/// The ring of compressed frames beside a log of so many bytes. A frame that does not shrink has one digit more
/// in its size line, 5 bytes more for each 64 KiB, and 5 at its end: of the smallest, 11 of 144 bytes. So the ring
/// has room for all messages of the log.
pub const fn compressed_log_ring_bytes(log_bytes: usize) -> usize {
    log_bytes + log_bytes.div_ceil(BROADCAST_BYTES_MIN / 11)
}

/// The compressor of a shard: zlib's window, hash chains and buffers (about 300 KiB).
pub const COMPRESSOR_BYTES_MAX: usize = 512 * 1024;

/// The most memory that compressed streams add to a server: for each shard a compressor, and the compressed
/// frames with their index; for each batch in the inboxes its compressed frames, if none of them shrinks; for
/// each connection the checksum of its stream, in a table that doubles as it grows.
pub const fn compression_memory_bytes_max(
    shards: usize,
    connections: usize,
    body_bytes_max: usize,
) -> usize {
    let log_bytes = log_ring_bytes(body_bytes_max);
    let messages = log_bytes / BROADCAST_BYTES_MIN;
    let log = compressed_log_ring_bytes(log_bytes)
        + messages.next_power_of_two() * LOG_COMPRESSED_ENTRY_BYTES;
    let batch = compressed_log_ring_bytes(BATCH_BYTES_MAX + frame_bytes_max(body_bytes_max));
    shards * (log + COMPRESSOR_BYTES_MAX)
        + INBOX_BATCHES_MAX * batch
        + (connections + SURPLUS_CONNECTIONS_MAX) * 2 * STREAM_CHECKSUM_BYTES
}

/// The checksum of a compressed stream.
pub const STREAM_CHECKSUM_BYTES: usize = 8;

/// Bytes of a message in memory beside its content: its fields, the name of its session, its label and its
/// identity, which are allocated by themselves.
pub const MESSAGE_OWN_BYTES_MAX: usize = 448 + SESSION_BYTES_MAX + MESSAGE_EXTRA_BYTES_MAX;

/// Memory of a shard without connections: the pool of readers, the buffer for answers, its events,
/// its channels, and the stack of its thread.
pub const SHARD_BYTES_MAX: usize =
    POOLED_EXCHANGES_MAX * REQUEST_BUFFER_KEEP_BYTES + ANSWER_KEEP_BYTES + 1024 * 1024;

/// The most memory of a shard for pages of the history: the page that is kept, the answer with it,
/// and the message that is being copied.
pub const fn pages_bytes_max(body_bytes_max: usize) -> usize {
    let frame = frame_bytes_max(body_bytes_max);
    let page = if frame > HISTORY_ANSWER_BYTES_MAX {
        frame
    } else {
        HISTORY_ANSWER_BYTES_MAX
    };
    // 1 KiB for the head of the answer, and for the JSON around the messages.
    2 * (page + 1024) + frame
}

/// Memory of the server beside shards: threads, the queue of log lines, the chat window, and the
/// queue of messages that wait for the disk.
pub const BASE_BYTES_MAX: usize = 8 * 1024 * 1024 + COMMIT_QUEUE_BYTES_MAX;

/// The most memory of the process, whatever its peers do. The ring, which is a file, and the
/// kernel's socket buffers are not included.
///
/// The hub holds the history as messages. Each shard holds its live log, the bytes of its
/// connections, the webhooks of a turn, and the frames of the last one. The inboxes share their
/// batches. A mirror adds [`KV_MEMORY_BYTES_MAX`](super::KV_MEMORY_BYTES_MAX), a bus [`bus_memory_bytes_max`].
pub const fn memory_bytes_max(
    shards: usize,
    connections: usize,
    tls_connections: usize,
    body_bytes_max: usize,
) -> usize {
    let frame = frame_bytes_max(body_bytes_max);
    let inbox_bytes = INBOX_BATCHES_MAX * (BATCH_BYTES_MAX + frame);
    BASE_BYTES_MAX
        + IDENTITIES_BYTES_MAX
        + HISTORY_MESSAGES * (body_bytes_max + MESSAGE_OWN_BYTES_MAX)
        + shards
            * (SHARD_BYTES_MAX
                + log_bytes_max(body_bytes_max)
                + pages_bytes_max(body_bytes_max)
                + held_bytes_max(shards, body_bytes_max)
                + PUBLISHING_BYTES_MAX
                + 2 * frame)
        + inbox_bytes
        + (connections + SURPLUS_CONNECTIONS_MAX) * CONNECTION_BYTES_MAX
        + tls_connections * TLS_CONNECTION_BYTES_MAX
}

/// The most memory of a message that the bus holds, beside its text: its record, its entries in two lists
/// that double as they grow, and what allocating a label and an identity takes.
pub const BUS_MESSAGE_OWN_BYTES: usize = 448;

/// Copies of an answer of the engine while it is read: the socket's buffer, the decoded texts, the records of
/// its values (60 bytes for each of at most 256 Ki), its messages.
const BUS_ANSWER_COPIES: usize = 4;

/// Bytes of a frame for a byte of text, at most: control characters are written as `\u0001`.
const ESCAPE_BYTES_MAX: usize = 6;

/// The texts of the newest messages of the bus, as the engine and each node hold them.
const fn bus_texts_bytes_max(body_bytes_max: usize) -> usize {
    let newest = HISTORY_MESSAGES * body_bytes_max;
    let limited = BUS_HISTORY_BYTES_MAX + body_bytes_max;
    if newest > limited { newest } else { limited }
}

/// The most memory that a bus adds to a node which holds so many messages (`--bus-history`).
///
/// The node holds the newest messages; its own acknowledged ones of the last minute that have left them; and, while
/// it joins, those of the log. At the beginning of an epoch all may be written into one call, as arguments and as
/// bytes. A reset encodes the first contents of the live logs. Beside these: an answer that is read, an append
/// call, and as much of the queue again, because small messages take more than they count there; and the sessions
/// whose streams have changed.
pub const fn bus_memory_bytes_max(messages: usize, body_bytes_max: usize) -> usize {
    let texts = bus_texts_bytes_max(body_bytes_max);
    let held = texts + messages * BUS_MESSAGE_OWN_BYTES;
    let reset = HISTORY_MESSAGES * frame_bytes_max(body_bytes_max);
    let escaped = ESCAPE_BYTES_MAX * LOG_BYTES_MIN;
    3 * held
        + 2 * texts
        + if reset > escaped { reset } else { escaped }
        + BUS_ANSWER_COPIES * (BUS_READ_BYTES_MAX + body_bytes_max)
        + 2 * (BUS_APPEND_BYTES_MAX + body_bytes_max)
        + COMMIT_QUEUE_BYTES_MAX
        + PRESENCE_CHANGES_MAX * PRESENCE_CHANGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BODY_BYTES_MAX_DEFAULT, BUS_HISTORY_MESSAGES_DEFAULT};

    #[test]
    fn the_memory_of_a_bus_follows_its_history_and_the_largest_body() {
        let bound = |messages| bus_memory_bytes_max(messages, BODY_BYTES_MAX_DEFAULT);
        let default = bound(BUS_HISTORY_MESSAGES_DEFAULT);
        let texts = 5 * BUS_HISTORY_BYTES_MAX;
        assert!(default > texts && default < 2 * texts, "{default}");
        let further = bound(BUS_HISTORY_MESSAGES_DEFAULT + 1_000) - default;
        assert_eq!(further, 3 * 1_000 * BUS_MESSAGE_OWN_BYTES);
        // The last 100 are never dropped, however large they are.
        let largest = 16 * 1024 * 1024;
        assert!(bus_memory_bytes_max(100, largest) > 5 * HISTORY_MESSAGES * largest);
    }
}
