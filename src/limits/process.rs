//! The process: log, admin address, service manager, health check, handover to a successor.

use super::{BODY_BYTES_MAX_LIMIT, HEAD_BYTES_MAX, READ_BYTES};

/// Most characters that a log line or an error quotes of foreign text, such as a server's answer or a
/// variable: two lines of a terminal.
pub const FOREIGN_TEXT_CHARS_MAX: usize = 160;

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

/// Longest time for the request of `hookcast health`: a local answer takes a millisecond, and a server
/// that is busy for this long does not serve. Below the 3 s that the container's health check allows.
pub const HEALTH_PATIENCE_MS: u64 = 2_000;

/// Checks of the shards in each watchdog interval of the service manager. With four, the manager is
/// notified at least twice, as `sd_watchdog_enabled(3)` recommends, even if a check finds a shard
/// asleep.
pub const WATCHDOG_LOOKS: u32 = 4;

/// Shortest watchdog interval that is supported, in microseconds: 100 ms, far below any sensible one.
pub const WATCHDOG_USEC_MIN: u64 = 100_000;

/// Time until a successor has everything but the ring. It reads its configuration and the
/// files named there. Long, because the predecessor still serves.
pub const HANDOVER_PREPARE_MS: u64 = 30_000;

/// Time for a successor to open the ring and to begin to serve. Webhooks wait meanwhile. It usually
/// takes two writes of 7 MB to disk, some 10 ms. A busy disk may take seconds.
pub const HANDOVER_RING_MS: u64 = 10_000;

/// Time for a successor to take a connection.
pub const HANDOVER_SEND_MS: u64 = 5_000;

/// Most bytes that are handed over with a connection: a request of the largest size, and bytes read
/// after it.
pub const HANDOVER_BYTES_MAX: usize = HEAD_BYTES_MAX + BODY_BYTES_MAX_LIMIT + 2 * READ_BYTES;
