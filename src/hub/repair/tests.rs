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
