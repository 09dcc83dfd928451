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
pub(in crate::hub) mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::clock::Now;
    use crate::hub::{Hub, SenderId};
    use crate::metrics;
    use crate::ring::RingStats;
    use crate::testkit::{MemoryMedium, UNIX_MS, draft, now_at};

    /// The largest number of repairs in `ms` milliseconds: one for each delay below the longest,
    /// then one for each longest delay.
    pub(in crate::hub) fn tries_max(ms: u64) -> u64 {
        let delays_below = u64::from((RING_REPAIR_MS_MAX / RING_REPAIR_MS_MIN).ilog2() + 1);
        1 + delays_below + ms / RING_REPAIR_MS_MAX
    }

    /// The counts of successful and failed repairs.
    pub(in crate::hub) fn repairs(stats: &RingStats) -> [u64; 2] {
        let text = metrics::encode(&stats.gather());
        ["done", "failed"].map(|result| {
            let name = format!("hookcast_ring_repairs_total{{result=\"{result}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(&name));
            count.unwrap().parse().unwrap()
        })
    }

    /// Runs `run` and returns the lines that it logs.
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
        /// Publishes three webhooks at a time and returns whether they were stored.
        fn publish(&self, ms: u64) -> bool {
            self.publish_at(now_at(ms))
        }

        fn publish_at(&self, now: Now) -> bool {
            let mut outcomes = Vec::new();
            let mut drafts = VecDeque::from(vec![draft("x"); 3]);
            self.hub
                .publish(self.sender, &mut drafts, now, &mut outcomes);
            assert_eq!(outcomes.len(), 3, "each is answered");
            let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            assert!(stored == 0 || stored == 3);
            stored == 3
        }
    }

    #[test]
    fn failed_repairs_are_retried_with_growing_delays_up_to_the_longest() {
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
        // After a success the delays begin with the shortest again.
        node.medium.remove();
        node.medium.fail_in(0);
        assert!(!node.publish(2 * BROKEN_MS));
        node.medium.heal();
        assert!(!node.publish(2 * BROKEN_MS + RING_REPAIR_MS_MIN - 1));
        assert!(node.publish(2 * BROKEN_MS + RING_REPAIR_MS_MIN));
    }

    #[test]
    fn between_repairs_webhooks_are_refused_with_the_error_of_the_last() {
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

    /// Repairs and examinations are due by the monotonic clock.
    #[test]
    fn setting_the_wall_clock_neither_delays_nor_hastens_a_repair() {
        const DAY_MS: u64 = 86_400_000;
        let at = |mono_ms, unix_ms| Now {
            unix_ms,
            ..now_at(mono_ms)
        };
        let node = start();
        assert!(node.publish(0));
        let older = node.medium.image();
        assert!(node.publish(1));
        node.medium.overwrite(older);
        for unix_ms in [UNIX_MS + DAY_MS, UNIX_MS - DAY_MS] {
            assert!(node.publish_at(at(RING_EXAMINE_MS - 1, unix_ms)));
            assert_eq!(repairs(&node.stats), [0, 0], "no examination is due");
        }
        assert!(node.publish_at(at(RING_EXAMINE_MS, UNIX_MS - DAY_MS)));
        assert_eq!(repairs(&node.stats), [1, 0]);

        let broken_ms = 2 * RING_EXAMINE_MS;
        node.medium.remove();
        node.medium.fail_in(0);
        assert!(!node.publish_at(at(broken_ms, UNIX_MS)));
        node.medium.heal();
        for unix_ms in [UNIX_MS + DAY_MS, UNIX_MS - DAY_MS] {
            let early_ms = broken_ms + RING_REPAIR_MS_MIN - 1;
            assert!(!node.publish_at(at(early_ms, unix_ms)));
        }
        assert!(node.publish_at(at(broken_ms + RING_REPAIR_MS_MIN, UNIX_MS - DAY_MS)));
    }

    /// Each batch checks only name and length, in one system call. The contents are examined every
    /// [`RING_EXAMINE_MS`].
    #[test]
    fn an_overwritten_ring_is_written_anew_at_the_next_examination() {
        let node = start();
        assert!(node.publish(0));
        let older = node.medium.image();
        assert!(node.publish(1));
        node.medium.overwrite(older.clone());
        let log = log_of(|| {
            for ms in [2, RING_EXAMINE_MS - 1] {
                assert!(node.publish(ms), "{ms} ms");
            }
            assert_eq!(repairs(&node.stats), [0, 0]);
            assert!(node.publish(RING_EXAMINE_MS));
            assert_eq!(repairs(&node.stats), [1, 0]);
            assert!(node.publish(2 * RING_EXAMINE_MS));
        });
        assert_eq!(repairs(&node.stats), [1, 0]);
        assert_eq!(log.len(), 1, "{log:#?}");
        assert!(log[0].contains("overwritten"), "{log:#?}");
        assert_eq!(node.medium.aside().len(), 1);
        let shown = node.hub.ring_view().messages;
        // Opened as after a kill: the file holds all messages that were acknowledged.
        let (_, recovered) = Ring::open_on(Box::new(node.medium.clone()), 100).unwrap();
        assert!(!recovered.report.is_warning(), "{}", recovered.report);
        let kept = recovered.messages.iter().map(|(_, message)| message);
        assert!(kept.eq(shown.iter().map(|message| &**message)));
    }

    /// Webhooks are refused until the repair succeeds, however long ago the file was examined.
    #[test]
    fn webhooks_are_refused_while_an_overwritten_ring_cannot_be_repaired() {
        let node = start();
        let image = node.medium.image();
        assert!(node.publish(0));
        let whole = node.medium.image();
        node.medium.overwrite(image);
        node.medium.fail_in(0);
        for ms in RING_EXAMINE_MS..RING_EXAMINE_MS + RING_REPAIR_MS_MIN {
            assert!(!node.publish(ms), "{ms} ms");
        }
        assert_eq!(repairs(&node.stats), [0, 1]);
        // The original contents are back: no repair is needed.
        node.medium.heal();
        node.medium.overwrite(whole);
        assert!(node.publish(RING_EXAMINE_MS + RING_REPAIR_MS_MIN / 2));
        assert_eq!(repairs(&node.stats), [0, 1]);
        // A close repairs the file at once.
        node.medium.overwrite(Vec::from(*b"other"));
        node.hub.close().unwrap();
        assert_eq!(repairs(&node.stats), [1, 1]);
    }

    #[test]
    fn a_close_does_not_wait_until_a_repair_is_due() {
        let node = start();
        node.medium.remove();
        node.medium.fail_in(0);
        assert!(!node.publish(0));
        assert!(node.hub.close().is_err());
        node.medium.heal();
        node.hub.close().unwrap();
    }
}
