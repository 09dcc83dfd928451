//! How far the process is in its life, for those who ask whether to send it work.
//!
//! Moved on by `server` and `control`, read by the admin address. Goes one way only.

use std::sync::atomic::{AtomicU8, Ordering};

/// See [`Lifecycle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The ring is being opened, or the threads are being started.
    Starting,
    /// Connections are served.
    Ready,
    /// New ones are no longer wanted, open ones are brought to their end.
    Draining,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Stage; 3] = [Stage::Starting, Stage::Ready, Stage::Draining];

    /// The name as a metric's label, and as the answer to a health check.
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
    /// A process that starts.
    #[expect(
        clippy::new_without_default,
        reason = "a stage of no process means nothing"
    )]
    pub fn new() -> Lifecycle {
        Lifecycle(AtomicU8::new(Stage::Starting as u8))
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        Stage::ALL[usize::from(self.0.load(Ordering::Relaxed))]
    }

    /// Everything runs; unless the drain has begun already.
    pub fn set_ready(&self) {
        self.0.fetch_max(Stage::Ready as u8, Ordering::Relaxed);
    }

    /// The drain begins. False if it had begun before.
    pub fn start_drain(&self) -> bool {
        let before = self.0.swap(Stage::Draining as u8, Ordering::Relaxed);
        before != Stage::Draining as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_one_way() {
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
