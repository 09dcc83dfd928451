//! The one time base of a run: nanoseconds since the process first asked.
//!
//! Used by every thread that stamps or compares times. Never goes back (`CLOCK_MONOTONIC`).

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since the first call in this process.
pub fn now_ns() -> u64 {
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// One second in nanoseconds.
pub const SECOND_NS: u64 = 1_000_000_000;
