//! What the threads of a run tell each other: counters and times as atomics, written by one thread
//! each, read by the sampler.
//!
//! The reading thread stores its counters once a turn, so watching it costs it nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::number_set::NumberSet;

/// Shared by all threads of a run.
pub struct Control {
    /// Streams whose response head has arrived.
    pub opened: AtomicUsize,
    /// Streams that failed to open or ended too early.
    pub failed: AtomicUsize,
    /// Messages read by all streams.
    pub deliveries: AtomicU64,
    /// Comments read by all streams.
    pub heartbeats: AtomicU64,
    /// Streams that have everything; kept only once the total is known.
    pub complete: AtomicUsize,
    /// Messages acknowledged.
    pub acked: AtomicU64,
    /// Latency is recorded for what was due from here ...
    pub window_start_ns: AtomicU64,
    /// ... to here.
    pub window_end_ns: AtomicU64,
    /// Messages published in all, `u32::MAX` until the publisher is done.
    pub total: AtomicU32,
    /// No further message is sent, whatever the schedule; answers are still read.
    pub cut: AtomicBool,
    /// A signal is the reason for that: what is on its way is not lost.
    pub interrupted: AtomicBool,
    /// All threads are to end now.
    pub stop: AtomicBool,
    /// When the first stream ended that should not have; `u64::MAX`: none has.
    pub first_end_ns: AtomicU64,
    /// When the server was lost: half of the streams ended, or no connection for messages could be
    /// made; `u64::MAX`: it was not.
    pub lost_ns: AtomicU64,
    /// Messages sent and not acknowledged, known once the publisher is done.
    pub unacknowledged: Mutex<NumberSet>,
    /// Kernel ids of the threads, 0 until they run.
    pub streams_tid: AtomicI32,
    /// See [`Control::streams_tid`].
    pub publisher_tid: AtomicI32,
}

/// While [`Control::total`] is not known.
pub const TOTAL_UNKNOWN: u32 = u32::MAX;

impl Default for Control {
    fn default() -> Control {
        Control {
            opened: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            deliveries: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            complete: AtomicUsize::new(0),
            acked: AtomicU64::new(0),
            window_start_ns: AtomicU64::new(u64::MAX),
            window_end_ns: AtomicU64::new(u64::MAX),
            total: AtomicU32::new(TOTAL_UNKNOWN),
            cut: AtomicBool::new(false),
            interrupted: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            first_end_ns: AtomicU64::new(u64::MAX),
            lost_ns: AtomicU64::new(u64::MAX),
            unacknowledged: Mutex::default(),
            streams_tid: AtomicI32::new(0),
            publisher_tid: AtomicI32::new(0),
        }
    }
}

impl Control {
    /// When what is measured is due; empty until it is known.
    #[inline]
    pub fn window_ns(&self) -> std::ops::Range<u64> {
        self.window_start_ns.load(Ordering::Relaxed)..self.window_end_ns.load(Ordering::Relaxed)
    }

    /// Whether what was due at `due_ns` belongs to the measured window.
    #[inline]
    pub fn in_window(&self, due_ns: u64) -> bool {
        self.window_ns().contains(&due_ns)
    }

    /// When the server was lost, if it was.
    pub fn lost_ns(&self) -> Option<u64> {
        Some(self.lost_ns.load(Ordering::Relaxed)).filter(|&ns| ns != u64::MAX)
    }

    /// Notes that the server was lost at `at_ns`, unless that was noted before.
    pub fn note_loss(&self, at_ns: u64) {
        self.lost_ns.fetch_min(at_ns, Ordering::Relaxed);
    }

    /// Whether to come to an end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
