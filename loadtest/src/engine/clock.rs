//! The one time base of a run: nanoseconds of `CLOCK_MONOTONIC`, equal in all processes of this machine.
//!
//! Used by every thread that stamps or compares times. Never goes back.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * SECOND_NS + now.tv_nsec as u64
}

/// One second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The unix time at which [`now_ns`] was zero, in whole microseconds. It moves when the clock is set, so that one
/// process of a run takes it for all.
pub fn unix_offset_ns() -> u64 {
    let unix = clock_gettime(ClockId::Realtime);
    let unix_ns = unix.tv_sec as u64 * SECOND_NS + unix.tv_nsec as u64;
    unix_ns.saturating_sub(now_ns()) / 1_000 * 1_000
}
