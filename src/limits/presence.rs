//! Questions how many streams see a session.

/// Questions of one shard that wait for the counts of others; further ones get a 503. A count takes a shard
/// about 1 us, and each shard gets all of them, so they are less than a slice of its time. Fewer than
/// [`ARRIVALS_MAX`](super::ARRIVALS_MAX), so that one shard never fills the channel to another.
pub const PRESENCE_QUESTIONS_MAX: usize = 256;

const _: () = assert!(PRESENCE_QUESTIONS_MAX < super::ARRIVALS_MAX);

/// Longest wait of a question in milliseconds, then the answer is a 503. Deadlines are checked once a second,
/// so the wait ends within two. Shards answer in a turn.
pub const PRESENCE_WAIT_MS_MAX: u64 = 1_000;

/// Changed sessions that the shards note between two beats, together; if there are more, the node writes its whole
/// table. More than a node opens streams in that time when all clients come back at once.
pub const PRESENCE_CHANGES_MAX: usize = 8_192;

/// The part of one shard.
pub const fn presence_changes_max(shards: usize) -> usize {
    PRESENCE_CHANGES_MAX / shards
}

/// Bytes of such a note: the longest name, its places in a table that doubles and in the list that is counted.
pub const PRESENCE_CHANGE_BYTES: usize = super::SESSION_BYTES_MAX + 64;

/// Slots of a shard's table of sessions that are looked at for one command: some 10 us.
pub const PRESENCE_PAGE_SLOTS: usize = 512;

/// Sessions of one call of the engine. A call of so many holds it up for some 0.3 ms.
pub const PRESENCE_CALL_SESSIONS_MAX: usize = 512;

/// Questions that one call of the engine answers. More wait for the next call.
pub const PRESENCE_CALL_QUESTIONS_MAX: usize = 64;

/// Time between two writes of a node's counts to the engine of a bus. With the reading of the engine, an answer is
/// then no older than a second.
pub const PRESENCE_BEAT_MS: u64 = 500;

/// When the engine drops the counts of a node that gives no sign of life: after six beats.
pub const PRESENCE_LIFE_MS: u64 = 6 * PRESENCE_BEAT_MS;

/// The age of the first counts in an engine from which on they are complete: until then other nodes may not have
/// noticed that the engine has forgotten theirs. They do at their next beat, and connect anew.
pub const PRESENCE_SETTLE_MS: u64 = PRESENCE_BEAT_MS + super::BUS_CONNECT_MS_MAX;

/// How long the shards may take to answer the thread that shares presence.
pub const PRESENCE_SHARDS_MS_MAX: u64 = PRESENCE_BEAT_MS;

/// How long the end of a server waits for the removal of its counts from the engine.
pub const PRESENCE_END_MS_MAX: u64 = 500;
