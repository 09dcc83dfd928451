//! Decides when the ring's file is examined and when it is written anew, and logs both.
//!
//! Before each batch one system call checks that the file has a name and its length. Every
//! [`RING_EXAMINE_MS`] its path and contents are checked as well, because another program may have
//! moved, replaced or overwritten the file. A repair writes the whole ring, and fails while the disk
//! is full or broken. So the delay between repairs doubles each time, and webhooks are refused in
//! between.
//!
//! Called by the hub and by its committer with the monotonic time, so that setting the wall clock
//! neither delays nor hastens a repair. Never reads a clock.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::limits::{RING_EXAMINE_MS, RING_REPAIR_MS_MAX, RING_REPAIR_MS_MIN};
use crate::message::Message;
use crate::ring::{Ring, RingError};

/// Whether the ring works, and if not, when the next repair is due.
#[derive(Default)]
pub(super) struct Repairs {
    trouble: Option<Trouble>,
    examined_ms: Option<u64>,
    /// The last examination found a fault, which is not repaired yet.
    is_unsound: bool,
}

/// The last write or repair has failed.
struct Trouble {
    error: Arc<RingError>,
    tried_ms: u64,
    /// The delay from `tried_ms` to the next repair.
    delay_ms: u64,
}

impl Repairs {
    /// Whether a write or repair has failed and none has succeeded since.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// The error with which webhooks are refused until the next repair is due; `None` if it is due.
    pub(super) fn refusal(&self, now_ms: u64) -> Option<Arc<RingError>> {
        let trouble = self.trouble.as_ref()?;
        let waits = now_ms < trouble.tried_ms.saturating_add(trouble.delay_ms);
        waits.then(|| Arc::clone(&trouble.error))
    }

    /// Notes a failure. `what` is logged if it is the first since the ring worked.
    pub(super) fn note_failure(&mut self, error: &Arc<RingError>, now_ms: u64, what: &str) {
        let delay_ms = match &self.trouble {
            Some(trouble) => (trouble.delay_ms * 2).min(RING_REPAIR_MS_MAX),
            None => {
                tracing::error!(%error, "{what}");
                RING_REPAIR_MS_MIN
            }
        };
        self.trouble = Some(Trouble {
            error: Arc::clone(error),
            tried_ms: now_ms,
            delay_ms,
        });
    }

    /// Notes that a write has succeeded.
    pub(super) fn note_success(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the ring is written anew and works; webhooks are accepted again");
        }
    }

    /// Whether the ring's file is unchanged, as far as the checks that are due now can tell.
    pub(super) fn is_sound(&mut self, ring: &Ring, now_ms: u64) -> bool {
        if ring.check().is_err() {
            return false;
        }
        let is_recent = |examined_ms: u64| now_ms < examined_ms.saturating_add(RING_EXAMINE_MS);
        // After a fault the file is examined before every batch, until it is repaired.
        if self.is_unsound || !self.examined_ms.is_some_and(is_recent) {
            self.examined_ms = Some(now_ms);
            self.is_unsound = ring.examine().is_err();
        }
        !self.is_unsound
    }

    /// Writes the ring's file anew from the history, oldest first, if it was truncated, removed,
    /// replaced or overwritten. A write to a truncated page would end the process with a SIGBUS, and
    /// the next start would not find a file that has lost its name.
    pub(super) fn mend<'a>(
        &mut self,
        ring: &mut Ring,
        history: impl IntoIterator<Item = &'a Arc<Message>>,
        now_ms: u64,
    ) -> Result<(), Arc<RingError>> {
        if self.is_sound(ring, now_ms) {
            return Ok(());
        }
        if let Some(error) = self.refusal(now_ms) {
            return Err(error);
        }
        self.mend_now(ring, history)
            .map_err(|error| self.note_unrepaired(error, now_ms))
    }

    /// Writes the ring to disk and marks it as cleanly closed: the last operation on a ring. Repairs
    /// the file first, if need be, without waiting until a repair is due.
    pub(super) fn close<'a>(
        &mut self,
        ring: &mut Ring,
        history: impl IntoIterator<Item = &'a Arc<Message>>,
    ) -> io::Result<()> {
        self.mend_now(ring, history).map_err(io::Error::other)?;
        ring.sync()
    }

    fn mend_now<'a>(
        &mut self,
        ring: &mut Ring,
        history: impl IntoIterator<Item = &'a Arc<Message>>,
    ) -> Result<(), RingError> {
        if let Err(error) = ring.examine() {
            if !self.is_in_trouble() {
                tracing::warn!(%error, "the ring file was changed from outside; writing it anew");
            }
            let aside = ring.repair(history.into_iter().map(|message| &**message))?;
            log_aside(aside.as_deref());
        }
        self.is_unsound = false;
        Ok(())
    }

    /// Notes that a repair has failed.
    pub(super) fn note_unrepaired(&mut self, error: RingError, now_ms: u64) -> Arc<RingError> {
        let error = Arc::new(error);
        let what = "the ring cannot be written anew; webhooks are refused until it can";
        self.note_failure(&error, now_ms, what);
        error
    }
}

/// Logs where another program's file, or its writes into this ring's file, were kept.
pub(super) fn log_aside(aside: Option<&Path>) {
    if let Some(path) = aside {
        let kept = path.display();
        tracing::warn!(%kept, "the file that another program put in place of the ring, or overwrote, is kept");
    }
}

#[cfg(test)]
pub(in crate::hub) mod tests;
