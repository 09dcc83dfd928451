//! When a ring in trouble is tried to be written anew, and what the log says of it.
//!
//! A disk that is full or broken fails every try, and each writes the whole ring: so tries are spaced
//! out, further each time, and webhooks are refused in between. Used by the hub and by its committer,
//! each with its own clock: the time comes in as a value.

use std::io;
use std::sync::Arc;

use crate::limits::{RING_REPAIR_MS_MAX, RING_REPAIR_MS_MIN};
use crate::message::Message;
use crate::ring::{Ring, RingError};

/// Whether the ring works, and if not, when it is tried next.
#[derive(Default)]
pub(super) struct Repairs {
    trouble: Option<Trouble>,
}

/// The last try has failed.
struct Trouble {
    error: Arc<RingError>,
    tried_ms: u64,
    /// How long after that the next may be.
    delay_ms: u64,
}

impl Repairs {
    /// Whether a try has failed and nothing has worked since.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Why nothing is to be tried at this time; `None` if it may be.
    pub(super) fn refusal(&self, now_ms: u64) -> Option<Arc<RingError>> {
        let trouble = self.trouble.as_ref()?;
        // A wall clock that was set back to before the try tells nothing: better try.
        let waits =
            (trouble.tried_ms..trouble.tried_ms.saturating_add(trouble.delay_ms)).contains(&now_ms);
        waits.then(|| Arc::clone(&trouble.error))
    }

    /// Notes that a try has failed; `what` is what the log says if it is the first.
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

    /// Notes that the ring works.
    pub(super) fn note_success(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the ring is written anew and works; webhooks are taken again");
        }
    }

    /// Writes the ring's file anew from the history, oldest first, if somebody has cut or removed it:
    /// a write to a page that is gone would end the process.
    pub(super) fn mend<'a>(
        &mut self,
        ring: &mut Ring,
        history: impl IntoIterator<Item = &'a Arc<Message>>,
        now_ms: u64,
    ) -> Result<(), Arc<RingError>> {
        if ring.check().is_ok() {
            return Ok(());
        }
        if let Some(error) = self.refusal(now_ms) {
            return Err(error);
        }
        self.mend_now(ring, history)
            .map_err(|error| self.note_unrepaired(error, now_ms))
    }

    /// The last thing that is done with a ring: sees that its file is whole, whenever that was tried
    /// last, writes it to disk and marks it as cleanly closed.
    pub(super) fn close<'a>(
        &self,
        ring: &mut Ring,
        history: impl IntoIterator<Item = &'a Arc<Message>>,
    ) -> io::Result<()> {
        self.mend_now(ring, history).map_err(io::Error::other)?;
        ring.sync()
    }

    fn mend_now<'a>(
        &self,
        ring: &mut Ring,
        history: impl IntoIterator<Item = &'a Arc<Message>>,
    ) -> Result<(), RingError> {
        let Err(error) = ring.check() else {
            return Ok(());
        };
        if !self.is_in_trouble() {
            tracing::warn!(%error, "the ring file was changed from outside; writing it anew");
        }
        ring.repair(history.into_iter().map(|message| &**message))
    }

    /// Notes that the ring could not be written anew.
    pub(super) fn note_unrepaired(&mut self, error: RingError, now_ms: u64) -> Arc<RingError> {
        let error = Arc::new(error);
        let what = "the ring cannot be written anew; webhooks are refused until it can";
        self.note_failure(&error, now_ms, what);
        error
    }
}

#[cfg(test)]
pub(in crate::hub) mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::hub::{Hub, SenderId};
    use crate::message::Draft;
    use crate::metrics;
    use crate::ring::RingStats;
    use crate::ring::memory::MemoryMedium;

    /// When the clock starts, in ms: a wall clock's.
    const EPOCH_MS: u64 = 1_700_000_000_000;

    /// The most tries in so many milliseconds: one at each delay below the longest, then one per
    /// longest delay.
    pub(in crate::hub) fn tries_max(ms: u64) -> u64 {
        let delays_below = u64::from((RING_REPAIR_MS_MAX / RING_REPAIR_MS_MIN).ilog2() + 1);
        1 + delays_below + ms / RING_REPAIR_MS_MAX
    }

    /// How often the ring was written anew, and how often in vain.
    pub(in crate::hub) fn repairs(stats: &RingStats) -> [u64; 2] {
        let text = metrics::encode(&stats.gather());
        ["done", "failed"].map(|result| {
            let name = format!("hookcast_ring_repairs_total{{result=\"{result}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(&name));
            count.unwrap().parse().unwrap()
        })
    }

    /// What is logged meanwhile.
    pub(in crate::hub) fn log_of(run: impl FnOnce()) -> Vec<String> {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, run);
        let bytes = lines.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    struct Node {
        medium: MemoryMedium,
        hub: Hub,
        sender: SenderId,
        stats: Arc<RingStats>,
    }

    fn start() -> Node {
        let medium = MemoryMedium::default();
        let (ring, _) = Ring::open_on(Box::new(medium.clone()), 100).unwrap();
        let stats = ring.stats();
        let hub = Hub::new(ring, Vec::new(), Vec::new(), None);
        let sender = hub.new_sender();
        Node {
            medium,
            hub,
            sender,
            stats,
        }
    }

    impl Node {
        /// Publishes three webhooks at a time; whether they were stored.
        fn publish(&self, ms: u64) -> bool {
            let draft = Draft {
                session: None,
                content: "x".into(),
            };
            let mut outcomes = Vec::new();
            let mut drafts = VecDeque::from(vec![draft; 3]);
            self.hub
                .publish(self.sender, &mut drafts, EPOCH_MS + ms, &mut outcomes);
            assert_eq!(outcomes.len(), 3, "each is answered");
            let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert!(stored == 0 || stored == 3);
            stored == 3
        }
    }

    #[test]
    fn a_ring_that_cannot_be_written_anew_is_tried_ever_more_seldom_and_soon_enough() {
        const BROKEN_MS: u64 = 120_000;
        let node = start();
        let log = log_of(|| {
            assert!(node.publish(0));
            node.medium.remove();
            node.medium.fail_in(0);
            for ms in (0..BROKEN_MS).step_by(10) {
                assert!(!node.publish(ms), "{ms} ms");
            }
            let [done, failed] = repairs(&node.stats);
            assert_eq!(done, 0);
            let (least, most) = (BROKEN_MS / RING_REPAIR_MS_MAX, tries_max(BROKEN_MS));
            assert!(
                (least..=most).contains(&failed),
                "{failed} of {least} to {most}"
            );
            node.medium.heal();
            let works_ms = (BROKEN_MS..).step_by(10).find(|ms| node.publish(*ms));
            assert!(works_ms.unwrap() <= BROKEN_MS + RING_REPAIR_MS_MAX);
            assert_eq!(repairs(&node.stats), [1, failed]);
        });
        let says = |what: &str| log.iter().filter(|line| line.contains(what)).count();
        assert_eq!(says("cannot be written anew"), 1, "{log:#?}");
        assert_eq!(says("works"), 1, "{log:#?}");
        assert!(log.len() <= 3, "{log:#?}");
        assert_eq!(node.hub.ring_view().messages.len(), 6);
        // The next trouble begins with the shortest delay.
        node.medium.remove();
        node.medium.fail_in(0);
        assert!(!node.publish(2 * BROKEN_MS));
        node.medium.heal();
        assert!(!node.publish(2 * BROKEN_MS + RING_REPAIR_MS_MIN - 1));
        assert!(node.publish(2 * BROKEN_MS + RING_REPAIR_MS_MIN));
    }

    #[test]
    fn what_is_refused_in_between_is_told_of_the_last_try() {
        let mut repairs = Repairs::default();
        assert!(repairs.refusal(0).is_none());
        let errors = [
            RingError::Removed,
            RingError::Storage(io::Error::other("x")),
        ]
        .map(Arc::new);
        repairs.note_failure(&errors[0], 0, "");
        assert!(Arc::ptr_eq(&repairs.refusal(1).unwrap(), &errors[0]));
        repairs.note_failure(&errors[1], 2, "");
        assert!(Arc::ptr_eq(&repairs.refusal(3).unwrap(), &errors[1]));
        repairs.note_success();
        assert!(repairs.refusal(4).is_none());
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_put_a_try_off() {
        let node = start();
        node.medium.remove();
        node.medium.fail_in(0);
        assert!(!node.publish(10_000_000));
        node.medium.heal();
        assert!(node.publish(0));
    }

    #[test]
    fn a_close_does_not_wait_for_the_next_try() {
        let node = start();
        node.medium.remove();
        node.medium.fail_in(0);
        assert!(!node.publish(0));
        assert!(node.hub.close().is_err());
        node.medium.heal();
        node.hub.close().unwrap();
    }
}
