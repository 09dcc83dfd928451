//! The stage of the process, for health checks and metrics.
//!
//! Advanced by `server` and `control`, read by the admin address. Never goes back to an earlier stage.

use std::sync::atomic::{AtomicU8, Ordering};

/// A stage in the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The ring is being opened, or the threads are being started.
    Starting,
    /// Connections are served.
    Ready,
    /// New connections should go elsewhere; open ones are being ended.
    Draining,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Stage; 3] = [Stage::Starting, Stage::Ready, Stage::Draining];

    /// The stage as a metric's label, and as the answer to a health check.
    pub fn label(self) -> &'static str {
        match self {
            Stage::Starting => "starting",
            Stage::Ready => "ready",
            Stage::Draining => "draining",
        }
    }
}

/// The stage, shared between threads.
#[derive(Debug)]
pub struct Lifecycle(AtomicU8);

impl Lifecycle {
    /// The stage of a process that starts.
    #[expect(clippy::new_without_default, reason = "there is no neutral stage")]
    pub fn new() -> Lifecycle {
        Lifecycle(AtomicU8::new(Stage::Starting as u8))
    }

    /// The current stage.
    pub fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.0.load(Ordering::Relaxed))]
    }

    /// Advances to ready, unless the drain has begun.
    pub fn set_ready(&self) {
        self.0.fetch_max(Stage::Ready as u8, Ordering::Relaxed);
    }

    /// Advances to draining. Returns false if the drain had begun before.
    pub fn start_drain(&self) -> bool {
        let before = self.0.swap(Stage::Draining as u8, Ordering::Relaxed);
        before != Stage::Draining as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_never_goes_back() {
        let life = Lifecycle::new();
        assert_eq!(life.stage(), Stage::Starting);
        life.set_ready();
        assert_eq!(life.stage(), Stage::Ready);
        assert!(life.start_drain());
        assert!(!life.start_drain());
        life.set_ready();
        assert_eq!(life.stage(), Stage::Draining);
    }
}
