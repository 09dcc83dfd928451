//! Recovery of files after a kill in the middle of an append, and after a power failure.

use proptest::test_runner::{Config, TestRunner};

use super::super::recovery::Survey;
use super::super::{Found, Ring};
use super::{disk_with, last_100, message, nth, numbers, open, open_image};
use crate::testkit::{MemoryMedium, Write};

/// The largest store that a kill cannot divide, in bytes.
const CHUNK_BYTES: usize = 8;

/// The chunks of the writes before the next word. A kill may leave any combination of them.
fn chunks(writes: &[Write]) -> Vec<(usize, Vec<u8>)> {
    let chunks = writes
        .iter()
        .take_while(|write| !write.is_word)
        .flat_map(|write| {
            let offsets = (write.offset..).step_by(CHUNK_BYTES);
            offsets.zip(write.bytes.chunks(CHUNK_BYTES).map(<[u8]>::to_vec))
        });
    chunks.collect()
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn recovered_numbers(image: &[u8]) -> Vec<u64> {
    let survey = Survey::of(&image);
    assert!(survey.damage.is_none(), "{:?}", survey.damage);
    assert_eq!(survey.lost_max, Some(0));
    survey
        .messages
        .iter()
        .map(|(_, message)| nth(message))
        .collect()
}

/// Appends a message to a ring with `count` messages. Recovers every image that a kill during the
/// append can leave. Of the chunks written between two words, a kill may leave any subset.
fn kill_at_every_point(count: u64, content_bytes: usize) -> usize {
    let (medium, _) = disk_with(count);
    let (mut ring, _) = open(&medium);
    let mut image = medium.image();
    assert!(medium.unsynced().is_empty());
    let next = count + 1;
    ring.append(&message(next, content_bytes)).unwrap();
    let mut writes = &medium.unsynced()[..];
    let (mut images, mut is_committed) = (0, false);
    while !writes.is_empty() {
        let chunks = chunks(writes);
        for subset in 0_u32..1 << chunks.len() {
            let mut torn = image.clone();
            let chosen = chunks
                .iter()
                .enumerate()
                .filter(|(bit, _)| subset & (1 << bit) != 0);
            for (_, (offset, bytes)) in chosen {
                put(&mut torn, *offset, bytes);
            }
            let expected = last_100(if is_committed { next } else { count });
            assert_eq!(
                recovered_numbers(&torn),
                expected,
                "subset {subset:b} of {chunks:?}"
            );
            images += 1;
        }
        let words = writes.iter().position(|write| write.is_word).unwrap();
        for write in &writes[..=words] {
            put(&mut image, write.offset, &write.bytes);
        }
        writes = &writes[words + 1..];
        is_committed = recovered_numbers(&image) == last_100(next);
    }
    assert!(is_committed);
    assert_eq!(image, medium.image());
    images
}

#[test]
fn a_kill_at_any_point_of_an_append_loses_no_message_and_tears_none() {
    for (count, content_bytes) in [
        (0, 40),
        (1, 1),
        (2, 40),
        (99, 33),
        (100, 40),
        (101, 7),
        (250, 40),
    ] {
        let images = kill_at_every_point(count, content_bytes);
        assert!(images > 100, "{images} images at {count}");
    }
}

#[test]
fn after_a_kill_in_an_append_the_epoch_stays() {
    for count in [1, 100, 101, 250] {
        let (medium, epoch) = disk_with(count);
        let (mut ring, _) = open(&medium);
        // The slot is open, with half of the payload; then another process opens the ring.
        medium.fail_in(3);
        assert!(ring.append(&message(count + 1, 40)).is_err());
        medium.heal();
        drop(ring);
        let (mut ring, recovered) = open(&medium);
        assert!(
            matches!(recovered.report.found, Found::Intact),
            "{}",
            recovered.report
        );
        assert_eq!(ring.epoch(), epoch);
        assert_eq!(ring.append(&message(count + 1, 30)).unwrap(), count + 1);
        assert_eq!(numbers(&open(&medium).1), last_100(count + 1));
    }
}

/// Appends, syncs, appends and loses power. Each sector is left as it was at some moment in between.
fn lose_power(synced: u64, unsynced: u64, mut random: impl FnMut(usize) -> usize) {
    let (medium, old_epoch) = disk_with(synced);
    let (mut ring, _) = open(&medium);
    assert!(medium.unsynced().is_empty(), "an opened ring is synced");
    for nth in synced + 1..=synced + unsynced {
        // Long enough for several sectors.
        ring.append(&message(nth, 700)).unwrap();
    }
    medium.lose_power(|_, writes| random(writes + 1));
    let (mut ring, recovered) = open(&medium);
    let found = numbers(&recovered);
    assert!(found.is_sorted_by(|one, next| one < next), "{found:?}");
    assert!(found.iter().all(|nth| *nth <= synced + unsynced));
    let untouched = last_100(synced + unsynced)
        .into_iter()
        .filter(|nth| *nth <= synced);
    for nth in untouched {
        assert!(found.contains(&nth), "{nth} was on disk: {found:?}");
    }
    if unsynced > 0 {
        assert_ne!(
            ring.epoch(),
            old_epoch,
            "seqs may be given out twice: {}",
            recovered.report
        );
        assert!(recovered.report.is_warning());
    }
    // The recovered ring works.
    ring.append(&message(9999, 40)).unwrap();
    let (_, again) = open(&medium);
    assert!(
        matches!(again.report.found, Found::Intact),
        "{}",
        again.report
    );
    assert_eq!(again.messages.len(), (found.len() + 1).min(100));
}

#[test]
fn a_power_failure_loses_only_unsynced_messages() {
    use proptest::prelude::*;
    let mut runner = TestRunner::new(Config::default());
    let strategy = (0_u64..240, 0_u64..220, any::<u64>());
    runner
        .run(&strategy, |(synced, unsynced, seed)| {
            let mut random = fastrand::Rng::with_seed(seed);
            lose_power(synced, unsynced, |choices| random.usize(..choices));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_power_failure_after_a_close_loses_no_message() {
    for count in [0, 5, 150] {
        let (medium, epoch) = disk_with(count);
        let (mut ring, _) = open(&medium);
        ring.sync().unwrap();
        medium.lose_power(|_, _| 0);
        let (ring, recovered) = open(&medium);
        assert_eq!(numbers(&recovered), last_100(count));
        assert!(matches!(recovered.report.found, Found::Intact));
        assert_eq!(ring.epoch(), epoch);
    }
}

#[test]
fn the_mark_of_a_clean_close_is_on_disk_only_after_the_messages() {
    let (medium, epoch) = disk_with(10);
    let (mut ring, _) = open(&medium);
    ring.append(&message(11, 40)).unwrap();
    // The second of the two syncs fails. The kernel had already written back the header page.
    medium.fail_in(3);
    assert!(ring.sync().is_err());
    medium.heal();
    medium.lose_power(|sector, writes| if sector < 8 { writes } else { 0 });
    let (ring, recovered) = open(&medium);
    assert_eq!(numbers(&recovered), last_100(11));
    assert_eq!(ring.epoch(), epoch);
}

#[test]
fn an_append_after_a_clean_close_removes_the_mark_on_disk() {
    let (medium, epoch) = disk_with(10);
    let (mut ring, _) = open(&medium);
    ring.sync().unwrap();
    ring.append(&message(11, 40)).unwrap();
    medium.lose_power(|_, _| 0);
    let (ring, recovered) = open(&medium);
    assert_eq!(numbers(&recovered), last_100(10));
    assert_ne!(ring.epoch(), epoch);
    assert!(matches!(recovered.report.found, Found::Rebooted));
}

#[test]
fn a_reboot_without_a_clean_close_begins_a_new_epoch_and_continues_the_seqs() {
    let (medium, epoch) = disk_with(120);
    medium.reboot();
    let (ring, recovered) = open(&medium);
    assert_eq!(numbers(&recovered), last_100(120));
    assert_ne!(ring.epoch(), epoch);
    assert_eq!(ring.next_seq(), 121);
    assert_eq!(recovered.messages[0].0, 21);
    assert!(medium.aside().is_empty(), "nothing was damaged");
    assert!(
        recovered.report.to_string().contains("machine went down"),
        "{}",
        recovered.report
    );
}

#[test]
fn a_torn_state_record_counts_as_a_reboot() {
    let (medium, epoch) = disk_with(3);
    let mut image = medium.image();
    image[512] ^= 1;
    let (ring, recovered) = open_image(&medium, image);
    assert_eq!(numbers(&recovered), last_100(3));
    assert_ne!(ring.epoch(), epoch);
}

#[test]
fn a_frozen_medium_keeps_only_earlier_messages() {
    let medium = MemoryMedium::default();
    let (mut ring, _) = open(&medium);
    for nth in 1..=5 {
        ring.append(&message(nth, 40)).unwrap();
    }
    medium.freeze();
    for nth in 6..=9 {
        ring.append(&message(nth, 40)).unwrap();
    }
    let (_, recovered) = Ring::open_on(Box::new(medium), 100).unwrap();
    assert_eq!(numbers(&recovered), last_100(5));
}
