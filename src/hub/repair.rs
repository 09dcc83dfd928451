//! When the ring's file is examined, when a ring in trouble is written anew, and what the log says of
//! it.
//!
//! Before each batch one system call tells whether the file is still there. Now and then the path is
//! followed as well, and the contents are compared: another program may have moved the file, put
//! another in its place, or written into it. A disk that is full or broken fails every repair, and
//! each writes the whole ring. So repairs are spaced out, further each time, and webhooks are refused
//! in between. Used by the hub and by its committer, each with its own clock: the time is a value.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::limits::{RING_EXAMINE_MS, RING_REPAIR_MS_MAX, RING_REPAIR_MS_MIN};
use crate::message::Message;
use crate::ring::{Ring, RingError};

/// Whether the ring works, and if not, when it is tried next.
#[derive(Default)]
pub(super) struct Repairs {
    trouble: Option<Trouble>,
    examined_ms: Option<u64>,
    /// The last examination found a fault, which is not repaired yet.
    is_unsound: bool,
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

    /// Whether the ring's file is what it should be, as far as that is known at this time.
    pub(super) fn is_sound(&mut self, ring: &Ring, now_ms: u64) -> bool {
        if ring.check().is_err() {
            return false;
        }
        let is_recent = |examined_ms: u64| {
            (examined_ms..examined_ms.saturating_add(RING_EXAMINE_MS)).contains(&now_ms)
        };
        // Once a fault is known, every batch waits for its end.
        if self.is_unsound || !self.examined_ms.is_some_and(is_recent) {
            self.examined_ms = Some(now_ms);
            self.is_unsound = ring.examine().is_err();
        }
        !self.is_unsound
    }

    /// Writes the ring's file anew from the history, oldest first, if it was cut, removed, replaced or
    /// overwritten: a write to a page that is gone would end the process, and a file without its name
    /// is not found at the next start.
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

    /// The last thing that is done with a ring: sees that its file is whole and in place, whenever
    /// that was tried last, writes it to disk and marks it as cleanly closed.
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
            tell_aside(aside.as_deref());
        }
        self.is_unsound = false;
        Ok(())
    }

    /// Notes that the ring could not be written anew.
    pub(super) fn note_unrepaired(&mut self, error: RingError, now_ms: u64) -> Arc<RingError> {
        let error = Arc::new(error);
        let what = "the ring cannot be written anew; webhooks are refused until it can";
        self.note_failure(&error, now_ms, what);
        error
    }
}

/// Says where another program's file, or what it has written into ours, is kept.
pub(super) fn tell_aside(aside: Option<&Path>) {
    if let Some(path) = aside {
        let kept = path.display();
        tracing::warn!(%kept, "what another program has put in the ring's place is kept");
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

    /// What every batch is asked costs one system call; the rest is examined now and then.
    #[test]
    fn a_ring_that_was_overwritten_is_soon_written_anew_with_all_that_was_acknowledged() {
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
        // As after a kill: what is in the file is what counts.
        let (_, recovered) = Ring::open_on(Box::new(node.medium.clone()), 100).unwrap();
        assert!(!recovered.report.is_warning(), "{}", recovered.report);
        let kept = recovered.messages.iter().map(|(_, message)| message);
        assert!(kept.eq(shown.iter().map(|message| &**message)));
    }

    /// While it cannot be written anew no webhook is taken, whenever it was examined last.
    #[test]
    fn an_overwritten_ring_that_cannot_be_written_anew_takes_nothing() {
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
        // It was put back: nothing has to be repaired.
        node.medium.heal();
        node.medium.overwrite(whole);
        assert!(node.publish(RING_EXAMINE_MS + RING_REPAIR_MS_MIN / 2));
        assert_eq!(repairs(&node.stats), [0, 1]);
        // And at the end, whenever that is.
        node.medium.overwrite(Vec::from(*b"other"));
        node.hub.close().unwrap();
        assert_eq!(repairs(&node.stats), [1, 1]);
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
