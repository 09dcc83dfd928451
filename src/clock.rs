//! The time. Each thread's loop reads it once per turn and passes it down as a value.
//!
//! Used by the loops of shards, mirror and committer. Never called below them, so that tests and the
//! simulation control the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process started; never decreases (`CLOCK_MONOTONIC`).
    pub mono_ms: u64,
    /// The same in microseconds, for measurements.
    pub mono_us: u64,
    /// Milliseconds since the Unix epoch; jumps when the clock is set.
    pub unix_ms: u64,
}

impl Now {
    /// The time since an earlier reading, by the monotonic clock.
    pub fn since(&self, earlier: Now) -> Duration {
        Duration::from_micros(self.mono_us.saturating_sub(earlier.mono_us))
    }

    /// The wall clock's reading.
    pub fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.unix_ms)
    }
}

/// Reads the clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts now.
    pub fn start() -> Clock {
        Clock {
            started: Instant::now(),
        }
    }

    /// Reads both clocks. A wall clock before 1970 reads as 1970.
    pub fn now(&self) -> Now {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mono_us = self.started.elapsed().as_micros() as u64;
        Now {
            mono_ms: mono_us / 1000,
            mono_us,
            unix_ms: unix.as_millis() as u64,
        }
    }
}
