//! What tests of several kinds share.
//!
//! Used by unit tests. Never part of the server.

use crate::clock::Now;

/// The wall clock's time when the monotonic clock starts.
pub const UNIX_MS: u64 = 1_700_000_000_000;

/// Both clocks, so many milliseconds after the start.
pub fn now_at(mono_ms: u64) -> Now {
    Now {
        mono_ms,
        mono_us: mono_ms * 1000,
        unix_ms: UNIX_MS + mono_ms,
    }
}
