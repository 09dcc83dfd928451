//! Failing writes and syncs, and files that another program has changed.

use super::super::{Found, Ring, RingError};
use super::{Epoch, disk_with, last_100, message, nth, numbers, open};
use crate::testkit::MemoryMedium;

#[test]
fn after_a_failed_append_the_next_reuses_its_seq_and_slot() {
    for count in [0, 1, 100, 130] {
        // Each write of an append fails in turn: open word, head, session, content, done word.
        for operations in 0..6 {
            let (medium, epoch) = disk_with(count);
            let (mut ring, _) = open(&medium);
            medium.fail_in(operations);
            let failed = message(count + 2 - count % 2, 40);
            match ring.append(&failed) {
                Err(RingError::Storage(_)) => {
                    assert_eq!(ring.next_seq(), count + 1);
                    let kept = ring.history();
                    let kept = kept
                        .iter()
                        .map(|(_, message)| nth(message))
                        .collect::<Vec<_>>();
                    assert_eq!(kept, last_100(count));
                }
                Ok(seq) => {
                    // An append has four writes, with a session five.
                    assert!(operations >= 4, "{operations}");
                    assert_eq!(seq, count + 1);
                    continue;
                }
                Err(error) => panic!("{error}"),
            }
            medium.heal();
            assert_eq!(ring.append(&message(count + 1, 30)).unwrap(), count + 1);
            assert_eq!(ring.append(&message(count + 2, 50)).unwrap(), count + 2);
            let (ring, recovered) = open(&medium);
            assert_eq!(numbers(&recovered), last_100(count + 2));
            assert_eq!(ring.epoch(), epoch);
        }
    }
}

/// A ring whose sync of message 11 has failed. The disk works again.
fn with_a_sync_that_failed() -> (MemoryMedium, Epoch, Ring) {
    let (medium, epoch) = disk_with(10);
    let (mut ring, _) = open(&medium);
    ring.append(&message(11, 40)).unwrap();
    medium.fail_in(0);
    assert!(ring.sync().is_err());
    medium.heal();
    (medium, epoch, ring)
}

#[test]
fn a_failed_sync_is_an_error_and_no_clean_close() {
    let (medium, epoch, _ring) = with_a_sync_that_failed();
    medium.reboot();
    assert_ne!(open(&medium).0.epoch(), epoch);
}

/// After a failed sync the kernel regards its pages as clean. A sync of the next process would succeed
/// without writing them.
#[test]
fn a_ring_for_commits_that_was_not_closed_is_rewritten_at_the_start() {
    let (medium, _) = disk_with(10);
    let open_for_commits = || Ring::open_with(Box::new(medium.clone()), 100, 5).unwrap();
    let (mut ring, _) = open_for_commits();
    ring.append(&message(11, 40)).unwrap();
    medium.fail_in(0);
    assert!(ring.commit().is_err());
    medium.heal();
    drop(ring);
    let (ring, recovered) = open_for_commits();
    assert!(matches!(recovered.report.found, Found::Intact));
    assert_eq!(numbers(&recovered), last_100(11), "it survives a kill");
    drop(ring);
    medium.lose_power(|_, _| 0);
    let (mut ring, recovered) = open_for_commits();
    assert_eq!(numbers(&recovered), last_100(11), "it was shown");
    ring.sync().unwrap();
    drop(ring);
    assert!(matches!(open_for_commits().1.report.found, Found::Intact));
}

/// As above, within one process: the first close fails, and the second must write the pages again
/// before the mark.
#[test]
fn a_close_after_a_failed_sync_writes_every_page_before_the_mark() {
    let (medium, epoch, mut ring) = with_a_sync_that_failed();
    ring.sync().unwrap();
    drop(ring);
    medium.lose_power(|_, _| 0);
    let (ring, recovered) = open(&medium);
    assert_eq!(numbers(&recovered), last_100(11));
    assert_eq!(ring.epoch(), epoch);
}

#[test]
fn a_failed_open_leaves_the_old_file() {
    let (medium, _) = disk_with(10);
    let image = medium.image();
    medium.fail_in(0);
    assert!(Ring::open_on(Box::new(medium.clone()), 100_000).is_err());
    assert_eq!(medium.image(), image);
    medium.heal();
    assert_eq!(numbers(&open(&medium).1), last_100(10));
}

#[test]
fn a_truncated_or_deleted_file_is_noticed_and_repaired() {
    let history = (1..=130).map(|nth| message(nth, 40)).collect::<Vec<_>>();
    let harms: [fn(&MemoryMedium); 4] = [
        |medium| medium.truncate(0),
        |medium| medium.truncate(100_000),
        |medium| medium.truncate(102 * 4096 - 1),
        |medium| medium.remove(),
    ];
    for harm in harms {
        let (medium, epoch) = disk_with(130);
        let (mut ring, _) = open(&medium);
        ring.check().unwrap();
        harm(&medium);
        let error = ring.check().unwrap_err();
        assert!(
            matches!(error, RingError::Truncated { .. } | RingError::Removed),
            "{error}"
        );
        medium.fail_in(0);
        assert!(ring.repair(&history).is_err());
        assert!(ring.check().is_err());
        medium.heal();
        ring.repair(&history).unwrap();
        ring.check().unwrap();
        assert_eq!(ring.append(&message(131, 40)).unwrap(), 131);
        drop(ring);
        let (ring, recovered) = open(&medium);
        assert!(
            matches!(recovered.report.found, Found::Intact),
            "{}",
            recovered.report
        );
        assert_eq!(numbers(&recovered), last_100(131));
        assert_eq!((ring.epoch(), ring.next_seq()), (epoch, 132));
    }
}

#[test]
fn the_largest_message_fits_and_one_byte_more_does_not() {
    let (medium, _) = disk_with(1);
    let (mut ring, _) = open(&medium);
    let bytes_max = ring.message_bytes_max();
    // Message 3 has a session, "s3", message 2 has none.
    let error = ring.append(&message(3, bytes_max - 1)).unwrap_err();
    assert!(
        matches!(error, RingError::MessageTooLarge { .. }),
        "{error}"
    );
    assert!(ring.append(&message(2, bytes_max + 1)).is_err());
    assert_eq!(ring.append(&message(2, bytes_max)).unwrap(), 2);
    assert_eq!(ring.append(&message(3, bytes_max - 2)).unwrap(), 3);
    assert_eq!(numbers(&open(&medium).1), [1, 2, 3]);
}

#[test]
fn a_message_limit_above_the_largest_slot_is_an_error() {
    let Err(error) = Ring::open_on(Box::new(MemoryMedium::default()), usize::MAX) else {
        panic!("opened");
    };
    assert!(matches!(error, RingError::SlotsTooLarge { .. }));
}
