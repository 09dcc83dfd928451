//! Every bound of the server, in one place, each with its derivation.
//!
//! Used by all modules; imports none. A bound that an operator may change is a flag in `config`. Its
//! default and its range are here.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Messages in the history: those of the ring, and the most that a new stream gets.
pub const HISTORY_MESSAGES: usize = 100;

/// Fewest slots in the ring file: one more than the history. So an append never overwrites one of the
/// last [`HISTORY_MESSAGES`].
pub const RING_SLOTS_MIN: usize = HISTORY_MESSAGES + 1;

/// Most slots in the ring file: the history, and a whole commit of messages on their way to the
/// disk. So a commit never overwrites one of the last [`HISTORY_MESSAGES`].
pub const RING_SLOTS_MAX: usize = HISTORY_MESSAGES + COMMIT_MESSAGES_MAX;

/// Default limit of a request body in bytes (`--max-body-bytes`).
pub const BODY_BYTES_MAX_DEFAULT: usize = 64 * 1024;

/// Largest value of `--max-body-bytes`: 101 slots of this size make a ring file under 1.7 GiB.
pub const BODY_BYTES_MAX_LIMIT: usize = 16 * 1024 * 1024;

/// Longest request head in bytes, with its request line: four times the heads of browsers and CDNs.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest request target in bytes (RFC 9110 section 4.1 recommends at least 8000).
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Most header fields in a request head, and most fields in a trailer section.
pub const HEADERS_MAX: usize = 100;

/// Longest `sessionId` in bytes of UTF-8.
pub const SESSION_BYTES_MAX: usize = 256;

/// Longest chunk-size line of a chunked body in bytes: 16 hexadecimal digits, and room for an
/// extension, which is ignored.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// Longest trailer section in bytes.
pub const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// Time for a complete request head, and the same again for its body.
pub const REQUEST_DEADLINE_MS: u64 = 10_000;

/// For how long further bytes of a refused request are read and dropped. Unread bytes would cause a
/// reset, which can destroy the answer (RFC 9112 section 9.6).
pub const LINGER_MS: u64 = 2_000;
/// Most bytes that are read and dropped in [`LINGER_MS`].
pub const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// A stream or an answer is closed if its peer takes no byte for this long while data is pending.
pub const STALL_MS: u64 = 30_000;

/// Smallest live log of a shard in bytes: a stream can resume from the last 80,000 small messages.
pub const LOG_BYTES_MIN: usize = 16 * 1024 * 1024;

/// Bytes of an encoded event beside its JSON-escaped content and session, rounded up: the event id
/// (16 + 1 + 20 digits), field names, the message id, the timestamp, the chunk framing.
///
/// Escaped content is no longer than in its body, except U+0085, U+2028 and U+2029: 2 or 3 bytes
/// become 6. A log for the worst of these bodies would have to be three times as large. So the hub
/// bounds a frame by a slot of the ring and this overhead. A webhook with a larger frame gets a
/// 413.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 512;

/// Writes of one slice of the sweep. Sockets are polled between two slices, so an acknowledgement
/// waits for at most this many writes: about 0.4 ms at 6 us each.
pub const SLICE_WRITES: usize = 64;

/// Bytes after which a slice of the sweep ends too. Streams that are far behind take hundreds of
/// KiB in one write. The kernel copies this many bytes in about 1 ms.
pub const SLICE_BYTES: usize = 4 * 1024 * 1024;

/// Streams that one slice visits. A visit to a stream that is not behind costs some nanoseconds, so
/// this bounds a slice without writes to some 10 us.
pub const SLICE_VISITS: usize = 1024;

/// Extents of one gathering write: far below the kernel's `IOV_MAX` of 1024, and small enough for the
/// stack.
pub const GATHER_EXTENTS_MAX: usize = 64;

/// Extents of at most this many bytes are copied to the stack and sent with send(2). The call is
/// cheaper than writev(2) by more than the copy. Enough for a usual message with a heartbeat.
pub const JOINED_WRITE_BYTES_MAX: usize = 1024;

/// Bytes read from one socket in one call.
pub const READ_BYTES: usize = 16 * 1024;

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

/// Bytes at which a batch of frames, with its index, is closed. So an inbox of
/// [`INBOX_BATCHES_MAX`] holds at most 32 times this, and 32 of the largest messages.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Batches in the inbox of a shard. A shard empties its inbox every turn. So in one turn of a slow
/// shard, another shard may have this many turns before its webhooks wait.
pub const INBOX_BATCHES_MAX: usize = 32;

/// Commands, mostly accepted connections, in the channel to a shard. When it is full, shard 0 keeps
/// further connections.
pub const ARRIVALS_MAX: usize = 1024;

/// Events of priority sockets that a turn reads in one poll. All are handled, so this bounds only the
/// memory for events.
pub const PRIORITY_EVENTS_PER_TURN: usize = 1024;

/// Events of standard sockets in a turn, and connections with more to read that a turn continues.
/// Low, because accepts and commands run only after them.
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

/// Age in microseconds up to which a sweep is young. Between two slices of a young sweep, only one
/// operation for connections runs. So some 250 streams are served almost without interruption. A
/// sweep over thousands of streams is older nearly all the time.
pub const SWEEP_YOUNG_US: u64 = 2_000;

/// Delay of the next accept(2) after one that found no descriptor or no memory.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Steps of one connection before it waits for the others. A step is a read or a request. A
/// connection with more to read continues after the new events of the turn. A usual request takes
/// three steps: a read, the request, and the check for another one.
pub const READS_PER_TURN: usize = 3;

/// Connections over `--max-connections` that are accepted so that their requests can be refused.
/// Further ones wait in the listen queue.
pub const SURPLUS_CONNECTIONS_MAX: usize = 64;

/// Phases of the deadline scan.
pub const DEADLINE_SCAN_PHASES: usize = 8;
/// Interval in which every slot is checked for an expired deadline: deadlines are up to this much
/// late.
pub const DEADLINE_SCAN_INTERVAL_MS: u64 = 1_000;

/// Adjacent slots that share a phase of the deadline scan. Checking every eighth slot missed the
/// cache: for idle streams it cost 3 % of the work for heartbeats.
pub const DEADLINE_SCAN_RUN: usize = 256;

/// Readers that are kept for further requests. More are allocated and freed while more requests are
/// incomplete.
pub const POOLED_READERS_MAX: usize = 64;

/// Reconnect delay that a stream sends in `retry`. Random, so that clients do not all reconnect at
/// once after a restart.
pub const RETRY_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;
const _: () = assert!(
    *RETRY_MS.end() <= u16::MAX as u64,
    "a stream stores it in 16 bits"
);

/// Reconnect delay when the server is full: 30 s, plus or minus a fifth at random.
pub const RETRY_FULL_MS: std::ops::RangeInclusive<u64> = 24_000..=36_000;

/// `Retry-After` in the answer to a webhook when the server is full, in seconds.
pub const RETRY_AFTER_S: u32 = 5;

/// Shortest drain: even with `--drain 0s`, streams have this long to receive their `retry`.
pub const DRAIN_LEAST_MS: u64 = 200;

/// Part of a drain, in percent, over which the ends of streams are spread. The rest is for their last
/// bytes.
pub const DRAIN_SPREAD_PERCENT: u64 = 80;

/// For how long a drain leaves connections without a request open. A request of a proxy may be on its
/// way, on a kept or a new connection, and closing would lose it without an answer. Some round trips
/// around the earth. At most the part of the drain over which streams end.
pub const DRAIN_IDLE_MS: u64 = 500;

// Configuration: the defaults and ranges of the flags.

/// Default of `--listen`: loopback, so nothing is public by accident.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:3000";

/// Most `--listen` addresses: each takes a descriptor of [`FILES_RESERVED`].
pub const LISTEN_ADDRESSES_MAX: usize = 16;

/// Most shards: far more than one accepting thread can supply with connections.
pub const SHARDS_MAX: usize = 64;

/// Default of `--heartbeat`. The shortest idle timeout found in CDNs and proxies is 10 s between two
/// bytes. A third of that is 3 s, so 2 s allows for one late heartbeat.
pub const HEARTBEAT_INTERVAL_DEFAULT: &str = "2s";
/// Values of `--heartbeat`. Below 100 ms a phase would be under 1 ms. Above 60 s, a usual idle
/// timeout, load balancers close the stream.
pub const HEARTBEAT_INTERVAL_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(60);

/// Smallest value of `--max-body-bytes`: a short message with a session id.
pub const BODY_BYTES_MAX_LEAST: usize = 1024;

/// Default of `--keep-alive`: above the 60 s of common load balancers. So the load balancer closes
/// an idle connection, and never sends a request on one that the server is closing.
pub const KEEP_ALIVE_DEFAULT: &str = "75s";
/// Values of `--keep-alive`. Some CDNs require more than 900 s of their origin.
pub const KEEP_ALIVE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Default of `--drain`: service managers usually wait 10 s (containers) or 90 s (systemd).
pub const DRAIN_DEFAULT: &str = "5s";
/// Values of `--drain`; 0 ends every stream at once.
pub const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

/// Descriptors that are not connections: three for each shard (two epoll sets and a waker), the
/// listeners, and some 20 others. The others are the ring, its lock, the log, signals, the admin
/// address and the mirror's sockets. With the most shards and listeners some 90 are left, more than
/// [`SURPLUS_CONNECTIONS_MAX`].
pub const FILES_RESERVED: u64 = 320;
const _: () = assert!(
    FILES_RESERVED as usize >= 3 * SHARDS_MAX + LISTEN_ADDRESSES_MAX + 20 + SURPLUS_CONNECTIONS_MAX
);

/// Largest value of `--max-connections`, and its default if the file limit allows more. The slots
/// of a million open connections take 256 MiB.
pub const CONNECTIONS_MAX_LIMIT: usize = 1 << 20;

/// Longest secret in bytes: it has to fit into a request head together with other fields.
pub const SECRET_BYTES_MAX: usize = 4 * 1024;

/// Most characters that a log line or an error quotes of foreign text, such as a server's answer or a
/// variable: two lines of a terminal.
pub const FOREIGN_TEXT_CHARS_MAX: usize = 160;

/// Largest `--kv-ca-file` in bytes. The certificates of all public authorities take 220 KiB.
pub const CA_FILE_BYTES_MAX: usize = 4 * 1024 * 1024;

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

/// The public base URL of Cloudflare's REST API.
pub const KV_ENDPOINT_DEFAULT: &str = "https://api.cloudflare.com/client/v4";

// The HTTP core.

/// Longest method in bytes: about twice `UPDATEREDIRECTREF`, the longest registered one (RFC 9110
/// section 16.1.1).
pub const METHOD_BYTES_MAX: usize = 32;

/// Bytes to which a larger request buffer is shrunk before its next use: the head of a request, and
/// the bytes of one read behind it.
pub const REQUEST_BUFFER_KEEP_BYTES: usize = HEAD_BYTES_MAX + READ_BYTES;

// Ring.

/// Attempts to open the ring file if it was renamed between opening and locking. Each rename is a
/// complete rewrite by another process, which happens once per start.
pub const RING_OPEN_ATTEMPTS: usize = 8;

/// Most symbolic links in the path of the ring file: as many as the kernel follows
/// (`path_resolution(7)`).
pub const RING_PATH_LINKS_MAX: usize = 40;

/// Time between two examinations of the ring file while webhooks arrive. An examination takes about
/// 100 reads of a few bytes. A message acknowledged between two may be in a file that has lost its
/// name.
pub const RING_EXAMINE_MS: u64 = 1_000;

/// Bytes of one write when a ring file is filled with zeros, because the file system cannot allocate
/// otherwise. Also of one write when a ring that was not closed is written once more before new
/// commits.
pub const RING_ZERO_BYTES: usize = 1024 * 1024;

/// Most messages of one commit to disk (`--durability disk`). A solid-state disk syncs this many
/// scattered pages in about 1 ms, while the next commit is collected: some 100,000 messages a
/// second. Each message needs a slot of the ring file.
pub const COMMIT_MESSAGES_MAX: usize = 128;

/// Bytes of slots in a ring file for messages on their way to the disk. Enough for
/// [`COMMIT_MESSAGES_MAX`] messages at the default limit of a body, and for 4 of the largest.
pub const COMMIT_SLOTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of all messages that wait for their commit. When it is reached, shards leave webhooks
/// unread. [`COMMIT_QUEUE_MESSAGE_BYTES`] makes this a bound of their number too.
pub const COMMIT_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes that a message in the commit queue counts beside its text.
pub const COMMIT_QUEUE_MESSAGE_BYTES: usize = 256;

/// Delay between the first failed repair of the ring and the next attempt. It doubles after each
/// further failure. Webhooks are refused meanwhile. An attempt writes some megabytes, which takes
/// far less time.
pub const RING_REPAIR_MS_MIN: u64 = 250;
/// Longest delay between two repairs of the ring: webhooks work again at most this long after the
/// disk.
pub const RING_REPAIR_MS_MAX: u64 = 8_000;

/// Connections in the kernel's queue for accept(2), which `net.core.somaxconn` may lower. A storm
/// of 10,000 clients fills it; their connects retry within a second.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Send buffer of a connection in bytes (`SO_SNDBUF`, which the kernel doubles). It bounds the
/// kernel's memory for a reader that has stopped.
pub const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Unsent bytes below which a socket is writable (`TCP_NOTSENT_LOWAT`).
pub const UNSENT_BYTES_LOW: u32 = 128 * 1024;

/// If the clock is set back by no more than this, the time of new messages stands still. After a
/// larger step it follows the clock. The bound is [`KV_AHEAD_MS_MAX`]: entries further ahead rank
/// behind all others. If the time stood still there, new messages would rank behind all others too.
pub const CLOCK_SET_BACK_MS_MAX: u64 = KV_AHEAD_MS_MAX;

// The log.

/// Bytes of log lines that wait to be written, some 5,000 lines. If standard error is read more
/// slowly, further lines are dropped and counted.
pub const LOG_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// Time for queued log lines at the end of the process.
pub const LOG_FLUSH_MS: u64 = 1_000;

/// Time for a complete request on the admin address and its answer. A thread serves one at a time.
pub const ADMIN_DEADLINE_MS: u64 = 1_000;

/// Threads of the admin address. A health check is answered at once while three others wait: a
/// scraper, a browser that connects ahead of its next request, and one more.
pub const ADMIN_THREADS: usize = 4;

/// Longest body of an admin request in bytes. No admin request needs a body.
pub const ADMIN_BODY_BYTES_MAX: usize = 1024;

// --- The KV mirror ---

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

/// Ids of shown messages that the mirror remembers, as a multiple of the history. The oldest are
/// forgotten first, but never while their message is in the shared history. So nine of the ten are
/// reserve.
pub const KV_SEEN_HISTORIES: usize = 10;

/// Earlier values that the mirror recognises by a hash when KV returns a stale one: a minute of
/// polls at the default interval, and four more.
pub const KV_STALE_VALUES: usize = 16;

/// Most bytes read of an error's body. The JSON envelope has a few hundred; the rest is HTML.
pub const KV_ERROR_BODY_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of messages that are copied for a new stream. They are copied because the log has
/// messages behind them that the stream does not get. Four of the largest messages at the default
/// limit. The copies are a stream's own memory until they are sent, so older messages beyond this
/// are left out.
pub const REPLAY_COPY_BYTES_MAX: usize = 256 * 1024;

/// For how long the mirror waits until inboxes have room for messages of other nodes. A shard
/// empties its inbox every turn, so this is hundreds of turns. Messages without room are offered
/// again.
pub const KV_ADMIT_PATIENCE_MS: u64 = 1_000;

/// Least time for the mirror's last sync, even if the streams have used up the drain: a read and a
/// write, which KV answers in some 100 ms, and [`KV_WRITE_GAP_MS_MIN`] between two writes.
pub const KV_LAST_SYNC_MS_MIN: u64 = 1_500;

// --- Handover to a successor ---

/// Time until a successor has everything but the ring. It reads its configuration and the
/// files named there. Long, because the predecessor still serves.
pub const HANDOVER_PREPARE_MS: u64 = 30_000;

/// Time for a successor to open the ring and to begin to serve. Webhooks wait meanwhile. It usually
/// takes two writes of 7 MB to disk, some 10 ms. A busy disk may take seconds.
pub const HANDOVER_RING_MS: u64 = 10_000;

/// Time between two attempts to open the ring again after a successor has failed.
pub const RING_RETRY_MS: u64 = 50;

/// Time for a successor to take a connection.
pub const HANDOVER_SEND_MS: u64 = 5_000;

/// Most bytes that are handed over with a connection: a request of the largest size, and bytes read
/// behind it.
pub const HANDOVER_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX_LIMIT + 2 * READ_BYTES;

// --- The service manager ---

/// Checks of the shards in each watchdog interval of the service manager. With four, the manager is
/// notified at least twice, as `sd_watchdog_enabled(3)` recommends, even if a check finds a shard
/// asleep.
pub const WATCHDOG_LOOKS: u32 = 4;

/// Shortest watchdog interval that is supported, in microseconds: 100 ms, far below any sensible one.
pub const WATCHDOG_USEC_MIN: u64 = 100_000;

// The history by request.

/// Longest wait of a long poll in seconds: below the 30 s that some CDNs wait for a first byte.
pub const HISTORY_WAIT_S_MAX: u64 = 25;

/// Bytes of messages at which an answer with history ends, unless it would be empty. A client that
/// does not read binds that much memory for [`STALL_MS`]. A hundred messages of 10 KiB.
pub const HISTORY_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of answers with history in a turn: for new requests, and the same again for long polls and
/// requests that were put off. A request of a hundred bytes can cost the server 1 MiB (some 0.5 ms),
/// so a flood of them would make turns long. New connections and large uploads wait a turn or two.
/// Streams and priority sockets are served in between.
pub const HISTORY_TURN_BYTES: usize = HISTORY_ANSWER_BYTES_MAX;

/// Long polls without news that one step visits before other work may run: some 0.1 us each.
pub const WAITS_PER_LOOK: usize = 64;

/// Capacity above which the buffer for answers is freed after a page of the history. The files of
/// the chat window fit below it.
pub const ANSWER_KEEP_BYTES: usize = 128 * 1024;

// Streams that a shared cache gives to many clients.

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

// `hookcast doctor`.

/// Default of `doctor --watch`: seven heartbeats.
pub const DOCTOR_WATCH_DEFAULT: &str = "15s";
/// Values of `doctor --watch`. A shorter time shows no rhythm. Some CDNs cut streams after minutes.
pub const DOCTOR_WATCH_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(600);

/// Messages that the doctor posts: enough for a median, and few compared with a history of 100.
pub const DOCTOR_MESSAGES: usize = 4;

/// For how long the doctor waits for an answer, or for the beginning of a stream.
pub const DOCTOR_PATIENCE_MS: u64 = 5_000;

/// Longest time for the request of `hookcast health`: a local answer takes a millisecond, and a server
/// that is busy for this long does not serve. Below the 3 s that the container's health check allows.
pub const HEALTH_PATIENCE_MS: u64 = 2_000;

/// An event this much later than the answer to its post was held back. Distance and handshakes
/// between continents explain half a second.
pub const DOCTOR_HELD_BACK_MS: u64 = 1_000;

/// Events that are always this much later than the answers to their posts are delayed: both have
/// the same way back.
pub const DOCTOR_DELAYED_MS: u64 = 100;

/// Most bytes of a stream that the doctor reads.
pub const DOCTOR_STREAM_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most heartbeats of a stream that the doctor records: those of the longest watch at the shortest
/// interval ([`HEARTBEAT_INTERVAL_RANGE`]).
pub const DOCTOR_HEARTBEATS_MAX: usize = 6_000;

/// Events of a stream that wait for the doctor: more than arrive while a message is posted, at the
/// shortest interval. Reading pauses at this number.
pub const DOCTOR_EVENTS_QUEUED_MAX: usize = 256;

/// Most bytes of an answer's body that the doctor keeps: more than a history of its own messages.
pub const DOCTOR_BODY_BYTES_MAX: u64 = 256 * 1024;

/// Longest event id that the doctor keeps, in bytes. Those of hookcast have at most 37.
pub const DOCTOR_EVENT_ID_BYTES_MAX: usize = 256;

/// Longest line of a stream that the doctor parses, in bytes. Longer lines are skipped in parts.
pub const DOCTOR_LINE_BYTES_MAX: u64 = 1024 * 1024;

// --- Listeners and clients ---

/// Mode of a Unix socket without `+mode=`: for its owner and its group, which includes the proxy in
/// front.
pub const UNIX_MODE_DEFAULT: u32 = 0o660;

/// Longest path of a Unix socket in bytes. `sun_path` has 108 with a final NUL (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// Seconds without a byte from the peer until the kernel probes a connection, and then every
/// [`KEEPALIVE_INTERVAL_S`] (tcp(7), `TCP_KEEPIDLE`, `TCP_KEEPINTVL`). So the connection of a
/// vanished peer ends within 90 s even if `--keep-alive` is an hour. Streams have heartbeats.
pub const KEEPALIVE_IDLE_S: u64 = 60;
/// Seconds between two probes. Three are sent before `TCP_USER_TIMEOUT`, which is [`STALL_MS`],
/// ends the connection.
pub const KEEPALIVE_INTERVAL_S: u64 = 10;

/// Longest PROXY protocol header in bytes. Version 2 with two Unix addresses has 232. The fields of
/// load balancers (ids, TLS names) add some hundred.
pub const PROXY_HEADER_BYTES_MAX: usize = 2048;

/// Largest value of `--max-connections-per-ip`: all connections.
pub const CONNECTIONS_PER_ADDRESS_MAX_LIMIT: usize = CONNECTIONS_MAX_LIMIT;

/// Connections of one address over its limit that are accepted so that their requests can be refused.
/// Further ones are closed at once. The six connections of a browser, and two more.
pub const ADDRESS_SURPLUS_MAX: u32 = 8;

/// Most `--trusted-proxy` networks. The public lists of CDNs have twenty to some hundred.
pub const TRUSTED_PROXIES_MAX: usize = 1024;

// --- Memory under load ---
//
// `limits/MEMORY.md` lists every collection that a peer, a file or KV can grow, with its bound.

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
/// largest size, each counted twice because a buffer doubles as it grows.
pub const fn held_bytes_max(shards: usize, body_bytes_max: usize) -> usize {
    let two = 4 * (HEAD_BYTES_MAX + body_bytes_max + READ_BYTES);
    let part = HELD_BYTES_MAX / shards;
    if part > two { part } else { two }
}

/// Bytes of unanswered webhooks and their readers at which a shard stops reading requests until the
/// hub has stored some. Thousands of large webhooks reach it in one turn. With `--durability disk`
/// it is reached by webhooks that wait for the disk.
pub const PUBLISHING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most memory of one connection beside the counted bytes: a small request, answer or beginning
/// of a stream, its reader, its slot, and its entries in the shard's lists, which double as they
/// grow.
pub const CONNECTION_BYTES_MAX: usize = SMALL_REQUEST_BYTES_MAX + 1024;

/// The most memory that TLS adds to a connection: keys and state (some 4 KiB), an incomplete
/// handshake or record (twice while a buffer grows), and ciphertext that waits.
pub const TLS_CONNECTION_BYTES_MAX: usize =
    8 * 1024 + 2 * TLS_HANDSHAKE_BYTES_MAX + 2 * TLS_BUFFER_BYTES;

/// The largest frame of a message, in bytes: JSON escapes may double a body.
pub const fn frame_bytes_max(body_bytes_max: usize) -> usize {
    2 * body_bytes_max + FRAME_OVERHEAD_BYTES_MAX
}

/// Bytes of the smallest targeted frame.
pub const FRAME_BYTES_MIN: usize = 160;
/// Bytes of the smallest frame without a session.
pub const BROADCAST_BYTES_MIN: usize = 144;

/// Bytes of a frame in the log's index: its position.
pub const LOG_ENTRY_BYTES: usize = 32;
/// Further bytes in the index for a frame without a session: its seq.
pub const LOG_BROADCAST_BYTES: usize = 8;

/// Bytes of a session's record in the log's index.
pub const LOG_SESSION_BYTES: usize = 72;
/// Bytes of a session's bucket in the hash map by name: a pointer to the name, its length, the
/// index of the record, a control byte.
pub const LOG_SESSION_BUCKET_BYTES: usize = 25;

/// Bytes allocated by a session with one frame: its name, and the list of its frames with room for
/// four. A name of more than 24 bytes takes more, but then its frame is larger too.
pub const LOG_SESSION_OWN_BYTES: usize = 64 + 48;

/// Most capacity of a session's list of frames, as a multiple of its length. Above it the list is
/// shrunk to half of that multiple. Many frames are added or removed before the next resize, so each
/// is copied only once or twice.
pub const SESSION_FRAMES_SPREAD: usize = 4;
/// Smallest capacity of a session's list: that with which a `VecDeque` of numbers begins.
pub const SESSION_FRAMES_LEAST: usize = 4;

/// The most memory of a shard's live log with its index. The tables never shrink, so each counts
/// with the messages that make it largest: small ones without a session, then small ones for one
/// session each. Tables double as they grow. The hash map doubles when it is seven eighths full,
/// or at half of that if names are added and removed.
pub const fn log_bytes_max(body_bytes_max: usize) -> usize {
    let history_bytes = HISTORY_MESSAGES * frame_bytes_max(body_bytes_max);
    let frames_bytes = if history_bytes > LOG_BYTES_MIN {
        history_bytes
    } else {
        LOG_BYTES_MIN
    };
    let broadcasts = frames_bytes / BROADCAST_BYTES_MIN;
    let frames = frames_bytes / FRAME_BYTES_MIN;
    frames_bytes
        + broadcasts.next_power_of_two() * (LOG_ENTRY_BYTES + LOG_BROADCAST_BYTES)
        + frames.next_power_of_two() * LOG_SESSION_BYTES
        + (frames * 16 / 7).next_power_of_two() * LOG_SESSION_BUCKET_BYTES
        + frames * LOG_SESSION_OWN_BYTES
}

/// Bytes of a message in memory beside its content: its fields, and the name of its session.
pub const MESSAGE_OWN_BYTES_MAX: usize = 256 + SESSION_BYTES_MAX;

/// Memory of a shard without connections: the pool of readers, the buffer for answers, its events,
/// its channels, and the stack of its thread.
pub const SHARD_BYTES_MAX: usize =
    POOLED_READERS_MAX * REQUEST_BUFFER_KEEP_BYTES + ANSWER_KEEP_BYTES + 1024 * 1024;

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
/// batches. A mirror adds [`KV_MEMORY_BYTES_MAX`].
pub const fn memory_bytes_max(
    shards: usize,
    connections: usize,
    tls_connections: usize,
    body_bytes_max: usize,
) -> usize {
    let frame = frame_bytes_max(body_bytes_max);
    let inbox_bytes = INBOX_BATCHES_MAX * (BATCH_BYTES_MAX + frame);
    BASE_BYTES_MAX
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

// --- TLS at the origin ---

/// Largest PEM file of a certificate, a key or authorities in bytes. A chain has some 10 KiB, a
/// list of public authorities 220 KiB.
pub const TLS_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Most ciphertext of one connection that waits for its socket, in bytes: two records. Enough to
/// refill the kernel's send buffer, which keeps the line busy.
pub const TLS_BUFFER_BYTES: usize = 32 * 1024;

/// Most bytes that a peer may send in a handshake. A hello has less than 2 KiB, a client's chain of
/// certificates some 6 KiB.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Most reads in a row without content. A flight of a handshake takes up to eight reads of 4 KiB.
pub const TLS_READS_WITHOUT_CONTENT_MAX: usize = 16;
