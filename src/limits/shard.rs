//! The turn of a shard: slices, events, accepts, batches and scans.

use super::HISTORY_ANSWER_BYTES_MAX;

/// Most shards: far more than one accepting thread can supply with connections.
pub const SHARDS_MAX: usize = 64;

/// Bytes at which a batch of frames, with its index, is closed. So an inbox of
/// [`INBOX_BATCHES_MAX`] holds at most 32 times this, and 32 of the largest messages.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Batches in the inbox of a shard. A shard empties its inbox every turn. During one turn of a slow
/// shard, another shard can make this many turns before its webhooks wait.
pub const INBOX_BATCHES_MAX: usize = 32;

/// Commands, mostly accepted connections, in the channel to a shard. When it is full, shard 0 keeps
/// further connections.
pub const ARRIVALS_MAX: usize = 1024;

/// Events of priority sockets that a turn reads in one poll. All are handled, so this bounds only the
/// memory for events.
pub const PRIORITY_EVENTS_PER_TURN: usize = 1024;

/// Most events of standard sockets in a turn, and most connections with more to read that a turn
/// continues. Low, because accepts and commands run only after these.
pub const STANDARD_EVENTS_PER_TURN: usize = 64;

/// Connections accepted in a turn from each listener. Lower than [`STANDARD_EVENTS_PER_TURN`], so
/// that a flood of connections waits in the kernel's queue and does not delay accepted ones.
pub const ACCEPTS_PER_TURN: usize = 6;

/// Events of priority sockets read at once between two slices of other work. The poll repeats until
/// the set is empty or a slice is over.
pub const PRIORITY_EVENTS_PER_POLL: usize = 8;

/// Slice of work for connections in microseconds. After it the shard polls priority sockets,
/// publishes, and serves a slice of streams. One operation for a connection takes some 10 us; a
/// handshake or a long history takes up to a few milliseconds. A poll of the priority sockets takes
/// 1 us.
pub const WORK_SLICE_US: u64 = 80;

/// Slice of work for connections during a sweep: about an eighth of a slice of streams. So new
/// connections are served even if streams are behind all the time.
pub const WORK_SLICE_BEHIND_US: u64 = 50;

/// Steps of one connection before it waits for the others. A step is a read or a request. A
/// connection with more to read continues after the new events of the turn. A usual request takes
/// three steps: a read, the request, and the check for another one.
pub const READS_PER_TURN: usize = 3;

/// Age in microseconds up to which a sweep is young. Between two slices of a young sweep, only one
/// operation for connections runs. So some 250 streams are served almost without interruption. A
/// sweep over thousands of streams is older nearly all the time.
pub const SWEEP_YOUNG_US: u64 = 2_000;

/// Writes of one slice of the sweep. Sockets are polled between two slices, so an acknowledgement
/// waits for at most this many writes: about 0.4 ms at 6 us each.
pub const SLICE_WRITES: usize = 64;

/// Bytes after which a slice of the sweep ends too. Streams that are far behind take hundreds of
/// KiB in one write. The kernel copies this many bytes in about 1 ms.
pub const SLICE_BYTES: usize = 4 * 1024 * 1024;

/// Streams that one slice visits. A visit to a stream that is not behind costs some nanoseconds, so
/// this bounds a slice without writes to some 10 us.
pub const SLICE_VISITS: usize = 1024;

/// Streams whose state the sweep loads at once, before it serves them. Their cache lines, three each, are about
/// those that a processor loads at a time. They are still in its second cache when they are served, after up to 16
/// writes of the kernel.
pub const VISITS_AHEAD: usize = 16;

/// Bytes of answers with history in a turn: for new requests, and the same again for long polls and
/// requests that were put off. A request of a hundred bytes can cost the server 1 MiB (some 0.5 ms),
/// so a flood of them would make turns long. New connections and large uploads wait a turn or two.
/// Streams and priority sockets are served in between.
pub const HISTORY_TURN_BYTES: usize = HISTORY_ANSWER_BYTES_MAX;

/// Long polls without news that one step visits before other work may run: some 0.1 us each.
pub const WAITS_PER_LOOK: usize = 64;

/// Phases of the deadline scan.
pub const DEADLINE_SCAN_PHASES: usize = 8;

/// Interval in which every slot is checked for an expired deadline: deadlines are up to this much
/// late.
pub const DEADLINE_SCAN_INTERVAL_MS: u64 = 1_000;

/// Adjacent slots that share a phase of the deadline scan. Checking every eighth slot missed the
/// cache: for idle streams it cost 3 % of the work for heartbeats.
pub const DEADLINE_SCAN_RUN: usize = 256;

/// Exchanges that are kept, with their readers, for further requests. More are allocated and freed while
/// more requests are incomplete.
pub const POOLED_EXCHANGES_MAX: usize = 64;
