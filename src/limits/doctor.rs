//! `hookcast doctor`.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Default of `doctor --watch`: seven heartbeats.
pub const DOCTOR_WATCH_DEFAULT: &str = "15s";

/// Values of `doctor --watch`. A shorter time shows no rhythm. Some CDNs cut streams after minutes.
pub const DOCTOR_WATCH_RANGE: RangeInclusive<Duration> =
    Duration::from_secs(5)..=Duration::from_secs(600);

/// Messages that the doctor posts: enough for a median, and few compared with a history of 100.
pub const DOCTOR_MESSAGES: usize = 4;

/// For how long the doctor waits for an answer, or for the beginning of a stream.
pub const DOCTOR_PATIENCE_MS: u64 = 5_000;

/// An event that is later than the answer to its post by this much was held back. Distance explains
/// at most half a second.
pub const DOCTOR_HELD_BACK_MS: u64 = 1_000;

/// Events that are always later than the answers to their posts by this much are delayed. Both come
/// the same way, so distance does not explain it.
pub const DOCTOR_DELAYED_MS: u64 = 100;

/// Most bytes of a stream that the doctor reads.
pub const DOCTOR_STREAM_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Most heartbeats of a stream that the doctor records: those of the longest watch at the shortest
/// interval ([`HEARTBEAT_INTERVAL_RANGE`](super::HEARTBEAT_INTERVAL_RANGE)).
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
