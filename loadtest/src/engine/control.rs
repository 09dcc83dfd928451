//! The state that the threads of a run share: counters and times as atomics. Each has one writer; the sampler
//! reads them.
//!
//! The reading thread stores its counters once a turn, so sampling costs it nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::engine::number_set::NumberSet;

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
    /// Complete streams; counted only once the total is known.
    pub complete: AtomicUsize,
    /// Messages acknowledged.
    pub acked: AtomicU64,
    /// Latency is recorded for messages that are due from here …
    pub window_start_ns: AtomicU64,
    /// … to here.
    pub window_end_ns: AtomicU64,
    /// Messages published in all, `u32::MAX` until the publisher is done.
    pub total: AtomicU32,
    /// Stop sending, whatever the schedule; answers are still read.
    pub cut: AtomicBool,
    /// The reason is a signal: messages in flight are not lost.
    pub interrupted: AtomicBool,
    /// All threads must end now.
    pub stop: AtomicBool,
    /// The first unexpected end of a stream; `u64::MAX`: none.
    pub first_end_ns: AtomicU64,
    /// The server that was lost, by its place among the targets.
    pub lost_target: AtomicUsize,
    /// The time at which the server was lost: half of the streams ended, or no connection for messages could
    /// be made. `u64::MAX`: not lost.
    pub lost_ns: AtomicU64,
    /// Messages sent and not acknowledged, for each target, known once the publisher is done.
    pub unacknowledged: Mutex<Vec<NumberSet>>,
    /// Messages of another publisher, in the order in which they were first read.
    pub observed: AtomicU32,
    /// What a terminal shows.
    pub live: Live,
    /// Reading threads, in this process or others.
    pub readers: AtomicUsize,
    /// CPU time of reading threads in other processes.
    pub readers_run_ns: AtomicU64,
    /// The time in which they were ready and had no CPU.
    pub readers_wait_ns: AtomicU64,
    /// Kernel ids of the threads, 0 until they run.
    pub streams_tid: AtomicI32,
    /// See [`Control::streams_tid`].
    pub publisher_tid: AtomicI32,
}

/// Figures of the last moment, for a terminal.
#[derive(Default)]
pub struct Live {
    /// Whether there is a terminal.
    pub is_on: AtomicBool,
    /// Median latency of deliveries in microseconds.
    pub p50_us: AtomicU64,
    /// Its 99th percentile.
    pub p99_us: AtomicU64,
    /// Faults of all streams so far.
    pub faults: AtomicU64,
}

/// The value of [`Control::total`] while it is not known.
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
            lost_target: AtomicUsize::new(0),
            unacknowledged: Mutex::default(),
            observed: AtomicU32::new(0),
            live: Live::default(),
            readers: AtomicUsize::new(1),
            readers_run_ns: AtomicU64::new(0),
            readers_wait_ns: AtomicU64::new(0),
            streams_tid: AtomicI32::new(0),
            publisher_tid: AtomicI32::new(0),
        }
    }
}

impl Control {
    /// The due times of the measured window; empty until it is known.
    #[inline]
    pub fn window_ns(&self) -> std::ops::Range<u64> {
        self.window_start_ns.load(Ordering::Relaxed)..self.window_end_ns.load(Ordering::Relaxed)
    }

    /// Whether a message due at `due_ns` belongs to the measured window.
    #[inline]
    pub fn in_window(&self, due_ns: u64) -> bool {
        self.window_ns().contains(&due_ns)
    }

    /// The time at which the server was lost, if it was.
    pub fn lost_ns(&self) -> Option<u64> {
        Some(self.lost_ns.load(Ordering::Relaxed)).filter(|&ns| ns != u64::MAX)
    }

    /// Records that a server was lost at `at_ns`; the earliest counts.
    pub fn note_loss(&self, at_ns: u64, target: usize) {
        if self.lost_ns.fetch_min(at_ns, Ordering::Relaxed) > at_ns {
            self.lost_target.store(target, Ordering::Relaxed);
        }
    }

    /// Whether all threads must end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
