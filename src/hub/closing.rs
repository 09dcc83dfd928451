//! The end of the thread that owns the ring, for a drain or for a handover.
//!
//! A field of the commit queue and of the queue for the bus, under the hub's lock. Without I/O; never waits.

use std::io;

/// How far the end is, and the result of closing the ring.
#[derive(Default)]
pub(super) struct Closing {
    phase: Phase,
    /// Once there is one.
    pub(super) closed: Option<io::Result<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// The queue takes messages.
    #[default]
    Open,
    /// The rest of the queue is worked off, then the ring is closed and the thread ends.
    Closing,
    /// The same for another process, which gets the ring. If the close fails, the thread continues.
    Releasing,
    /// The thread has ended: the report of the close follows.
    Ended,
}

impl Closing {
    /// Accepts no more messages. The ring is closed after the queued ones.
    pub(super) fn begin(&mut self) {
        if self.phase != Phase::Ended {
            self.phase = Phase::Closing;
        }
    }

    /// [`Closing::begin`] for a handover: if the close fails, this process keeps the ring.
    pub(super) fn begin_release(&mut self) {
        self.phase = Phase::Releasing;
    }

    /// Continues after a release that took too long. False if the thread has ended.
    pub(super) fn give_up_release(&mut self) -> bool {
        if self.phase == Phase::Ended {
            return false;
        }
        self.phase = Phase::Open;
        true
    }

    pub(super) fn is_begun(&self) -> bool {
        self.phase != Phase::Open
    }

    pub(super) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Decides what follows a close. The result is returned if the thread is to end. `None` if it is to
    /// continue: a release has failed or took too long, or messages were queued in the meantime.
    pub(super) fn settle(
        &mut self,
        closed: io::Result<()>,
        has_queued: bool,
    ) -> Option<io::Result<()>> {
        match self.phase {
            Phase::Releasing if closed.is_err() => {
                self.phase = Phase::Open;
                self.closed = Some(closed);
                None
            }
            Phase::Closing | Phase::Releasing if !has_queued => {
                self.phase = Phase::Ended;
                Some(closed)
            }
            _ => None,
        }
    }
}
