//! Every bound of the server, in one place, each with its derivation.
//!
//! Used by all modules; imports none. A bound that an operator may move is a flag in `config`
//! whose default stands here.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Messages in the history: what the ring holds, what a new stream is shown at most.
pub const HISTORY_MESSAGES: usize = 100;

/// Fewest slots in the ring file: one more than the history, so that the slot being overwritten is
/// never one of the last [`HISTORY_MESSAGES`].
pub const RING_SLOTS_MIN: usize = HISTORY_MESSAGES + 1;

/// Most slots: so many messages can be on their way to the disk, none of them in the place of one of
/// the last [`HISTORY_MESSAGES`] that are there already.
pub const RING_SLOTS_MAX: usize = HISTORY_MESSAGES + COMMIT_MESSAGES_MAX;

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
///
/// Escaped content is no longer than it was in its body, with one exception: U+0085, U+2028 and U+2029
/// come as 2 or 3 bytes and take 6. A log for the worst of these bodies would be three times as large
/// for everyone. So the hub bounds a frame by a slot of the ring and this overhead, and a webhook whose
/// frame is larger gets a 413.
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

/// Up to so many bytes of several extents are joined on the stack and sent with send(2), which costs
/// less than writev(2) by more than the copy: a heartbeat that rides along with a message of the
/// usual size.
pub const JOINED_WRITE_BYTES_MAX: usize = 1024;

/// Bytes read from one socket in one call.
pub const READ_BYTES: usize = 16 * 1024;

/// The heartbeat interval is cut into this many phases; a stream's slot says which is its own, so
/// at 20,000 streams and 2 s a phase sends 157 heartbeats every 15.6 ms.
pub const HEARTBEAT_PHASES: usize = 128;

/// Streams in a row that share a heartbeat's phase. What the kernel holds of sockets that were
/// accepted one after the other lies close together: writing to them in that order costs a tenth
/// less than picking every 128th (loadtest/README.md). Small, so that a thousand streams fill half
/// of the phases.
pub const HEARTBEAT_RUN: usize = 16;

/// Stagger that a heartbeat waits for a message to ride along with before it goes out alone: 125 ms
/// at 2 s, which at ten messages a second is every heartbeat.
pub const HEARTBEAT_PATIENCE_PHASES: u64 = 8;

/// A batch of frames is closed when it and its index reach this many bytes, so an inbox of
/// [`INBOX_BATCHES_MAX`] holds at most 32 times this and a largest message each.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Batches that a shard may have waiting. It empties its inbox every turn, so this many turns of
/// the others fit into one of its own; then their webhooks wait.
pub const INBOX_BATCHES_MAX: usize = 32;

/// Accepted connections that a shard may have waiting; when it has more, shard 0 keeps them.
pub const ARRIVALS_MAX: usize = 1024;

/// Regulars that the kernel tells of at once. They are served in their order, so this bounds nothing but
/// the memory for events.
pub const PRIORITY_EVENTS_PER_TURN: usize = 1024;

/// So many newcomers are heard in a turn, and so many who were not done go on: few, as a turn is over
/// before commands and those who are to be accepted are looked at.
pub const STANDARD_EVENTS_PER_TURN: usize = 64;

/// Connections accepted in a turn from each listener. Fewer than are heard: a crowd had better wait in
/// the kernel's queue than be let in to stand in ours, and in the way of those who are in.
pub const ACCEPTS_PER_TURN: usize = 6;

/// Regulars that the kernel tells of at once between two slices of work for newcomers. It is asked again
/// until a slice of that is over, too.
pub const PRIORITY_EVENTS_PER_POLL: usize = 8;

/// Time that a shard works on connections before it hears regulars, publishes what came and serves a
/// slice of streams, in microseconds. Each thing that is done for a connection in one go takes some ten
/// microseconds, a handshake or a long history up to a few milliseconds; looking for regulars takes one.
pub const WORK_SLICE_US: u64 = 80;

/// The same while a sweep goes on: about an eighth of what a slice of streams takes, so that those who
/// come get in although streams never cease to be behind.
pub const WORK_SLICE_BEHIND_US: u64 = 50;

/// A sweep that is younger than this is not held up: between two of its slices one thing is done for
/// connections, and no more. So some 250 streams are served in one go, and no crowd of newcomers comes
/// between them; a sweep over thousands of streams is older nearly all the time.
pub const SWEEP_YOUNG_US: u64 = 2_000;

/// How long to wait after accept(2) found no descriptor or no memory.
pub const ACCEPT_RETRY_MS: u64 = 100;

/// Reads from one connection, or requests of it, before it is somebody else's turn. Who has more goes
/// on when those who have just come had their turn. An ordinary request takes a read, itself, and a look
/// for the next.
pub const READS_PER_TURN: usize = 3;

/// Connections over `--max-connections` that are let in to be told so; further ones wait in the
/// listen queue.
pub const SURPLUS_CONNECTIONS_MAX: usize = 64;

/// Stagger in which all slots are looked at for deadlines that have passed, once a second.
pub const DEADLINE_SCAN_PHASES: usize = 8;
/// See [`DEADLINE_SCAN_PHASES`]: a deadline is met up to this much late.
pub const DEADLINE_SCAN_INTERVAL_MS: u64 = 1_000;

/// Slots in a row that share one of them: whoever looks at every eighth has most of them in no cache,
/// which made a thirtieth of what heartbeats cost to idle streams.
pub const DEADLINE_SCAN_RUN: usize = 256;

/// Parse buffers that are kept for the next request; more are made, and freed, when more requests
/// are on their way at once.
pub const POOLED_READERS_MAX: usize = 64;

/// What a new stream is told to wait before it reconnects, jittered so that a restart is not
/// followed by everyone at once.
pub const RETRY_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;
const _: () = assert!(
    *RETRY_MS.end() <= u16::MAX as u64,
    "a stream keeps it in 16 bits"
);

/// What a stream is told when the server is full: 30 s, jittered by a fifth.
pub const RETRY_FULL_MS: std::ops::RangeInclusive<u64> = 24_000..=36_000;

/// `Retry-After` of a webhook that came when the server was full, in seconds.
pub const RETRY_AFTER_S: u32 = 5;

/// The shortest drain: also one of 0 s tells every stream when to come back.
pub const DRAIN_LEAST_MS: u64 = 200;

/// The part of a drain, in percent, over which streams are ended; the rest is for their last bytes.
pub const DRAIN_SPREAD_PERCENT: u64 = 80;

/// How long a drain leaves a connection open that has no request: one may be on its way, from a proxy
/// that keeps connections or on a connection that is new, and closing would lose it without an
/// answer. Some round trips around the earth; no longer than the streams are given to end.
pub const DRAIN_IDLE_MS: u64 = 500;

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

/// Descriptors that are not connections: three per shard for what it watches and its waker, the
/// listeners, and some 20 for the ring, its lock, the log, signals, the admin address and the mirror's
/// sockets. The rest, some 90 at the most shards and listeners, is for connections beyond the limit
/// that are accepted only to be told so.
pub const FILES_RESERVED: u64 = 320;
const _: () = assert!(
    FILES_RESERVED as usize >= 3 * SHARDS_MAX + LISTEN_ADDRESSES_MAX + 20 + SURPLUS_CONNECTIONS_MAX
);

/// The largest `--max-connections`, and its default where the file limit allows more: the slots of
/// a million connections take 256 MiB when all are open.
pub const CONNECTIONS_MAX_LIMIT: usize = 1 << 20;

/// Longest secret in bytes: it has to fit into a request head with other headers beside it.
pub const SECRET_BYTES_MAX: usize = 4 * 1024;

/// Most characters of a server's or a variable's text that one of ours quotes: two lines of a
/// terminal.
pub const FOREIGN_TEXT_CHARS_MAX: usize = 160;

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

/// Symbolic links on the way to the ring file: as many as the kernel follows (`path_resolution(7)`).
pub const RING_PATH_LINKS_MAX: usize = 40;

/// Time between two examinations of the ring file while webhooks arrive. One takes about 100 reads
/// of a few bytes; a message that is acknowledged in between may be in a file that has lost its name.
pub const RING_EXAMINE_MS: u64 = 1_000;

/// Bytes written at a time where the file system cannot allocate without writing zeros, and where a
/// ring that was not closed is written once more before commits go to it.
pub const RING_ZERO_BYTES: usize = 1024 * 1024;

/// Messages that one commit to disk takes at most (`--durability disk`). A solid-state disk syncs
/// this many scattered pages in about 1 ms, and the next commit is made up meanwhile: some 100,000
/// messages a second. Each costs a slot of the ring file.
pub const COMMIT_MESSAGES_MAX: usize = 128;

/// Bytes of slots that a ring file has for messages on their way to the disk: what the most of them
/// take at the default limit of a body, and room for 4 of the largest.
pub const COMMIT_SLOTS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of messages that may wait for their commit, in all; then webhooks wait unread with their
/// shard. Also the most messages, by what one takes at least.
pub const COMMIT_QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// See [`COMMIT_QUEUE_BYTES_MAX`]: what a message in the queue counts beside its text.
pub const COMMIT_QUEUE_MESSAGE_BYTES: usize = 256;

/// How long webhooks are refused outright after the ring could not be written anew the first time;
/// twice as long after each further time. Long enough that a try of some megabytes is little of it.
pub const RING_REPAIR_MS_MIN: u64 = 250;
/// The longest that gets: how much later than the disk webhooks work again at most.
pub const RING_REPAIR_MS_MAX: u64 = 8_000;

/// Connections that the kernel keeps while they wait for accept(2); it cuts this to
/// `net.core.somaxconn`. A storm of 10,000 clients fills it, and those retry within a second.
pub const LISTEN_BACKLOG: i32 = 4096;

/// The send buffer of a connection in bytes (`SO_SNDBUF`, which the kernel doubles): what a reader
/// that has stopped can bind of the kernel's memory.
pub const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// A socket counts as writable when it has less than this not yet sent (`TCP_NOTSENT_LOWAT`).
pub const UNSENT_BYTES_LOW: u32 = 128 * 1024;

/// How far the clock may be set back while the times of new messages stand still instead. As much as KV's
/// clock may be passed ([`KV_AHEAD_MS_MAX`]): what is stamped further ahead ranks behind all others
/// anyway, so following the clock keeps the order then, and standing still would put new messages behind
/// all others too.
pub const CLOCK_SET_BACK_MS_MAX: u64 = KV_AHEAD_MS_MAX;

// The log.

/// Bytes of log lines that wait to be written; more are dropped and counted. Some 5,000 lines:
/// what a slow reader of standard error may fall behind before it misses any.
pub const LOG_QUEUE_BYTES_MAX: usize = 1024 * 1024;

/// How long the end of the process waits for queued log lines.
pub const LOG_FLUSH_MS: u64 = 1_000;

/// Time for a whole request on the admin address, and for its answer: a thread serves one at a time.
pub const ADMIN_DEADLINE_MS: u64 = 1_000;

/// Threads of the admin address: a health check is answered at once while a scraper, a browser that
/// connects ahead of its next request, and one more are waited for.
pub const ADMIN_THREADS: usize = 4;

/// Longest body of an admin request in bytes; none needs one.
pub const ADMIN_BODY_BYTES_MAX: usize = 1024;

// --- The KV mirror ---

/// Largest value KV holds in bytes (Cloudflare's limits page).
pub const KV_VALUE_BYTES_MAX: usize = 25 * 1024 * 1024;

/// Largest message in the KV value, in bytes of its JSON: a full history of such entries, with its
/// brackets and commas, still fits a value. It is 256 KiB less 2; a message that came in a body of the
/// default limit is at most 64 KiB and its fixed fields. A larger entry is not looked into.
pub const KV_ENTRY_BYTES_MAX: usize =
    (KV_VALUE_BYTES_MAX - (HISTORY_MESSAGES + 1)) / HISTORY_MESSAGES;

/// What the mirror takes at most in bytes: four values, and sixteen entries. Entries are never longer
/// than the text they are read from.
///
/// - While a value is read: the history (one), the value's bytes (one), and what is made of them, which is
///   entries (one) and the stack of a parser that passes over nesting, a byte for each open bracket in a
///   buffer that doubles (two if no bracket is closed, which makes no entry; else one).
/// - After that: the history that was, and the entries; the new history shares both (two).
/// - When new messages go live: the history, and their contents (two). Then the hub has them.
/// - While a value is written: the history, and the value (two).
/// - While one entry is read: its members, 32 bytes for five of its text in a list that doubles, and its
///   content and its new text, twice each (sixteen entries).
///
/// Between two cycles it keeps the history, one value at most, and what the allocator keeps of the rest.
pub const KV_MEMORY_BYTES_MAX: usize = 4 * KV_VALUE_BYTES_MAX + 16 * KV_ENTRY_BYTES_MAX;

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
/// outage's end is noticed soon.
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

// The history by request.

/// Longest time in seconds that a request for the history may wait for a message: below the 30 s
/// after which the first CDNs give up on a first byte.
pub const HISTORY_WAIT_S_MAX: u64 = 25;

/// Bytes of messages after which an answer with history ends, unless it would be empty: a client
/// that does not read binds as much of our memory, for [`STALL_MS`]. A hundred messages of 10 KiB.
pub const HISTORY_ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of answers with history that a turn makes for requests as they come, and again for those that
/// were put off or have waited for a message. A request costs its client a hundred bytes and the server
/// up to a MiB (some 0.5 ms), so a flood of them would make turns long: new connections and large
/// uploads have to wait for a turn or two. Streams and priority sockets are served in between.
pub const HISTORY_TURN_BYTES: usize = HISTORY_ANSWER_BYTES_MAX;

/// Requests that wait and are looked at, without an answer, before streams may have their turn: some
/// 0.1 us each.
pub const WAITS_PER_LOOK: usize = 64;

/// The buffer for answers is given up where a page of the history made it larger than this: the files of
/// the chat window fit.
pub const ANSWER_KEEP_BYTES: usize = 128 * 1024;

// Streams that a shared cache gives to many clients.

/// What `--cdn-fanout` takes. Below 5 s the reconnects outweigh the streams; a stream of ten minutes
/// at 100 messages of 300 bytes a second stays below the 20 MB that the smallest caches hold.
pub const FANOUT_LIFE_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(600);

/// The shortest life of such a stream in percent of the longest, so that the streams of several
/// caches do not end together.
pub const FANOUT_LIFE_LEAST_PERCENT: u64 = 80;

/// What such a stream is told to wait before it reconnects: little, since the cache makes one
/// request of all that come, and everything that is sent meanwhile is late by as much.
pub const FANOUT_RETRY_MS: RangeInclusive<u64> = 250..=750;

// `hookcast doctor`.

/// Default of `doctor --watch`: seven heartbeats.
pub const DOCTOR_WATCH_DEFAULT: &str = "15s";
/// What `doctor --watch` takes: less shows no rhythm; some CDNs cut streams after minutes.
pub const DOCTOR_WATCH_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(600);

/// Messages that the doctor posts: enough for a median, few beside a history of 100.
pub const DOCTOR_MESSAGES: usize = 4;

/// How long the doctor waits for an answer, or for the beginning of a stream.
pub const DOCTOR_PATIENCE_MS: u64 = 5_000;

/// Longest time for the request of `hookcast health`: a local answer takes a millisecond, and a server
/// that is busy for this long does not serve. Below the 3 s that the container's health check allows.
pub const HEALTH_PATIENCE_MS: u64 = 2_000;

/// An event that comes this long after its post's answer was held back: between continents, half a
/// second is what distance and handshakes may take.
pub const DOCTOR_HELD_BACK_MS: u64 = 1_000;

/// An event that always comes this much later than the answer to its post is delayed: both take
/// the same way back.
pub const DOCTOR_DELAYED_MS: u64 = 100;

/// Bytes of a stream that the doctor reads before it has seen enough.
pub const DOCTOR_STREAM_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most heartbeats of a stream that the doctor writes down: the longest watch at the shortest interval,
/// [`HEARTBEAT_INTERVAL_RANGE`].
pub const DOCTOR_HEARTBEATS_MAX: usize = 6_000;

/// What a stream has brought and the doctor has not looked at yet, in events: more than come while a
/// message is posted, at the shortest interval. The reading waits while there are as many.
pub const DOCTOR_EVENTS_QUEUED_MAX: usize = 256;

/// Longest event id that the doctor keeps, in bytes; hookcast's have 37 at most.
pub const DOCTOR_EVENT_ID_BYTES_MAX: usize = 256;

/// Longest line of a stream that the doctor takes in, in bytes; longer ones are passed over in parts.
pub const DOCTOR_LINE_BYTES_MAX: u64 = 1024 * 1024;

// --- Listeners and clients ---

/// Permissions of a Unix socket unless `+mode=` says so: its owner and its group, which the proxy
/// in front joins.
pub const UNIX_MODE_DEFAULT: u32 = 0o660;

/// Longest path of a Unix socket in bytes: `sun_path` has 108, the last a NUL (unix(7)).
pub const UNIX_PATH_BYTES_MAX: usize = 107;

/// An idle connection is probed after this long without a word from its peer, and then every
/// [`KEEPALIVE_INTERVAL_S`] (tcp(7), `TCP_KEEPIDLE`, `TCP_KEEPINTVL`): one whose peer has vanished
/// ends within a minute and a half even where `--keep-alive` is an hour. Streams have heartbeats.
pub const KEEPALIVE_IDLE_S: u64 = 60;
/// See [`KEEPALIVE_IDLE_S`]; three probes go out before `TCP_USER_TIMEOUT`, the time of
/// [`STALL_MS`], ends it.
pub const KEEPALIVE_INTERVAL_S: u64 = 10;

/// Longest PROXY protocol header that is read: version 2 with two Unix addresses is 232 bytes, and
/// what load balancers add (ids, TLS names) some hundred.
pub const PROXY_HEADER_BYTES_MAX: usize = 2048;

/// The largest value `--max-connections-per-ip` takes: all there may be.
pub const CONNECTIONS_PER_ADDRESS_MAX_LIMIT: usize = CONNECTIONS_MAX_LIMIT;

/// Connections of one address over its limit that are let in to be told so; more are closed at
/// once. A browser's six, and two more.
pub const ADDRESS_SURPLUS_MAX: u32 = 8;

/// Most `--trusted-proxy` networks: the public lists of CDNs have some twenty to some hundred.
pub const TRUSTED_PROXIES_MAX: usize = 1024;

// --- Memory under load ---
//
// `limits/MEMORY.md` lists every collection that a peer, a file or KV can grow, with what bounds it.

/// Bytes of requests that have not come whole, of answers that were not taken whole, and of what is
/// a stream's own, over all connections: 1,000 uploads of the default size at once. Each client is
/// sure of an equal part. Connections that hold little ([`SMALL_REQUEST_BYTES_MAX`]) are not counted.
pub const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a connection may hold whatever others hold: the head that a browser sends, with a cookie.
pub const SMALL_REQUEST_BYTES_MAX: usize = 2 * 1024;

/// What a connection that holds more counts beside that: its places in four B-trees, which take 24 to
/// 64 bytes each and twice as much in nodes that are half full.
pub const SHARE_ENTRY_BYTES: usize = 320;

/// How long a connection has to have made no progress to end in favour of another of the same client.
/// Longer than two lost packets stop a healthy connection (RFC 6298: 1 s at first).
pub const SHARE_STALLED_MS_MIN: u64 = 2_000;

/// Connections that one other may end at once to have room: about 1 ms of work. Each frees
/// [`SMALL_REQUEST_BYTES_MAX`] at least, so these are enough for an upload of the default size.
pub const SHARE_ENDED_MAX: usize = 64;

/// The part of [`HELD_BYTES_MAX`] that is one shard's. Each has room for two requests of the largest
/// size, twice over, since a buffer doubles as it grows.
pub const fn held_bytes_max(shards: usize, body_bytes_max: usize) -> usize {
    let two = 4 * (HEAD_BYTES_MAX + body_bytes_max + READ_BYTES);
    let part = HELD_BYTES_MAX / shards;
    if part > two { part } else { two }
}

/// Bytes of webhooks that are not answered, and of their readers, after which a shard reads no further
/// requests until the hub has stored some: so many come in a turn when thousands of large ones are
/// sent at once, and with `--durability disk` they wait for the disk.
pub const PUBLISHING_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What one connection adds at most to that: a small request, answer or beginning of a stream, its
/// reader, its slot, and its places in the lists of the shard, which double as they grow.
pub const CONNECTION_BYTES_MAX: usize = SMALL_REQUEST_BYTES_MAX + 1024;

/// What a TLS connection adds: keys and state (some 4 KiB), what of a handshake or a record has come
/// (as much again while a buffer grows), and ciphertext that waits.
pub const TLS_CONNECTION_BYTES_MAX: usize =
    8 * 1024 + 2 * TLS_HANDSHAKE_BYTES_MAX + 2 * TLS_BUFFER_BYTES;

/// The largest frame of a message, in bytes: JSON escapes may double a body.
pub const fn frame_bytes_max(body_bytes_max: usize) -> usize {
    2 * body_bytes_max + FRAME_OVERHEAD_BYTES_MAX
}

/// Bytes of the smallest frame that is of a session.
pub const FRAME_BYTES_MIN: usize = 160;
/// The same of one without a session.
pub const BROADCAST_BYTES_MIN: usize = 144;

/// What the log's index has for a frame in bytes: its place.
pub const LOG_ENTRY_BYTES: usize = 32;
/// What it has in addition for a frame without a session: its seq.
pub const LOG_BROADCAST_BYTES: usize = 8;

/// What the log's index has for a session in bytes: its record, and a bucket of the hash map that finds
/// it by its name.
pub const LOG_SESSION_BYTES: usize = 72;
/// See [`LOG_SESSION_BYTES`]: a pointer to the name, its length, the record's place, a control byte.
pub const LOG_SESSION_BUCKET_BYTES: usize = 25;

/// What a session with one frame has allocated for itself, in bytes: its name, and the list of its
/// frames, which has room for four. A name of more than 24 bytes takes more, and so does its frame.
pub const LOG_SESSION_OWN_BYTES: usize = 64 + 48;

/// How many times as many places as frames a session's list has at most. It is shrunk to half of that:
/// as many frames come or go before the next change, so each costs a copy or two of itself.
pub const SESSION_FRAMES_SPREAD: usize = 4;
/// The fewest places: what a `VecDeque` of numbers begins with.
pub const SESSION_FRAMES_LEAST: usize = 4;

/// The most memory that a shard's live log takes, its index included. Its tables stay as large as they
/// ever were, so each counts with the messages that make it largest: small ones without a session, then
/// small ones to a session each. They double as they grow; the hash map is at most seven eighths full,
/// and doubles at half of that where names come and go.
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

/// What a message in memory takes beside its content: its fields, and its session's name.
pub const MESSAGE_OWN_BYTES_MAX: usize = 256 + SESSION_BYTES_MAX;

/// What a shard has for itself whatever it serves: the pool of readers, its events, its channels, its
/// thread's stack.
pub const SHARD_BYTES_MAX: usize =
    POOLED_READERS_MAX * REQUEST_BUFFER_KEEP_BYTES + ANSWER_KEEP_BYTES + 1024 * 1024;

/// What a shard needs to answer with a page of the history: the page as it is kept, its answer, and the
/// message that is being copied.
pub const fn pages_bytes_max(body_bytes_max: usize) -> usize {
    let frame = frame_bytes_max(body_bytes_max);
    let page = if frame > HISTORY_ANSWER_BYTES_MAX {
        frame
    } else {
        HISTORY_ANSWER_BYTES_MAX
    };
    // The kilobyte is for the head, and for what stands around the messages.
    2 * (page + 1024) + frame
}

/// What the server itself needs: threads, the queue of its log, the chat window; and the queue of
/// messages that wait for the disk.
pub const BASE_BYTES_MAX: usize = 8 * 1024 * 1024 + COMMIT_QUEUE_BYTES_MAX;

/// The most memory that the process takes, whatever its peers do; the ring, which is a file, and the
/// kernel's socket buffers come on top.
///
/// The hub has the history as messages. Each shard has its live log, what its connections hold, and the
/// webhooks of a turn with the frames that are made of the last. The inboxes share their batches. A
/// mirror, if there is one, adds [`KV_MEMORY_BYTES_MAX`].
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

/// Longest PEM file of a certificate, a key or authorities in bytes: a chain is some 10 KiB, a list
/// of public authorities 220 KiB.
pub const TLS_FILE_BYTES_MAX: usize = 1024 * 1024;

/// Ciphertext of one connection that waits for its socket, in bytes: two records. The kernel's send
/// buffer keeps the line busy; this only has to fill it up.
pub const TLS_BUFFER_BYTES: usize = 32 * 1024;

/// Bytes that a peer may send in a handshake: a hello is under 2 KiB, a client's chain of
/// certificates some 6 KiB.
pub const TLS_HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// Reads in a row that bring nothing but protocol: a handshake's flight takes up to eight of 4 KiB.
pub const TLS_READS_WITHOUT_CONTENT_MAX: usize = 16;
