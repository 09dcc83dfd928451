//! Damaged files: flipped bits, truncation, zeros, slots of other files, forged headers.

use proptest::prelude::*;

use super::super::layout::{Geometry, PAGE_BYTES};
use super::super::recovery::{Plan, Step, Survey};
use super::super::{Damage, Found, Ring};
use super::{BYTES_MAX, disk_with, last_100, message, numbers, open, open_image};
use crate::limits::BODY_BYTES_MAX_LIMIT;
use crate::message::Epoch;
use crate::message::Message;
use crate::testkit::MemoryMedium;

/// The plan for an image that the next process of the same boot finds. Does not copy the image.
fn plan(image: &[u8]) -> Plan {
    let boot_id = 1_u128.to_le_bytes();
    Survey::of(&image).plan(Geometry::for_payload(BYTES_MAX, 1).unwrap(), &boot_id)
}

/// The messages that [`disk_with`] appends, from 1 on.
fn originals(count: u64) -> Vec<Message> {
    (1..=count).map(|nth| message(nth, 40)).collect()
}

/// Checks the plan for a damaged image of a ring with these messages: no message is torn, their order
/// is kept, and the old epoch continues only if none is missing.
fn check_plan(plan: &Plan, originals: &[Message], epoch: Epoch) -> Vec<u64> {
    let count = originals.len() as u64;
    let first_seq = plan.next_seq - plan.messages.len() as u64;
    let mut found = Vec::new();
    for (expected, (seq, message)) in (first_seq..).zip(&plan.messages) {
        let nth = message.id.as_u64_pair().1;
        assert_eq!(*seq, expected);
        assert_eq!(*message, originals[nth as usize - 1]);
        found.push(nth);
    }
    assert!(found.is_sorted_by(|one, next| one < next), "{found:?}");
    match plan.epoch {
        Some(kept) => {
            assert_eq!(kept, epoch);
            assert_eq!(found, last_100(count));
            assert_eq!(plan.next_seq, count + 1);
        }
        None => assert_ne!(plan.step, Step::Keep),
    }
    if found != last_100(count) {
        assert!(
            matches!(plan.found, Found::Damaged(_)),
            "a silent loss: {found:?}"
        );
    }
    found
}

/// Selects all of the header page, the used bytes of each slot, and a sample of the unused ones.
fn is_worth_trying(at: usize) -> bool {
    at < PAGE_BYTES || at % PAGE_BYTES < 128 || at.is_multiple_of(13)
}

#[test]
fn a_flipped_bit_costs_at_most_the_message_of_its_slot() {
    for count in [3, 130] {
        let (medium, epoch) = disk_with(count);
        let mut image = medium.image();
        let originals = originals(count);
        let mut lost_one = 0;
        for at in (0..image.len()).filter(|at| is_worth_trying(*at)) {
            let flip = 1 << (at % 8);
            image[at] ^= flip;
            let plan = plan(&image);
            let found = check_plan(&plan, &originals, epoch);
            let missing = last_100(count)
                .iter()
                .filter(|nth| !found.contains(nth))
                .count();
            assert!(missing <= 1, "byte {at}: {missing} lost");
            assert!(
                plan.lost_max >= Some(missing as u64),
                "byte {at}: a loss that is not counted"
            );
            lost_one += missing;
            image[at] ^= flip;
        }
        // The checksum covers head, session and content: a flip there is always noticed.
        let covered = last_100(count).len() * (64 + 40);
        assert!(
            lost_one >= covered,
            "{lost_one} flips noticed of at least {covered}"
        );
    }
}

#[test]
fn every_flipped_bit_of_the_oldest_and_newest_slot_is_noticed() {
    let (medium, epoch) = disk_with(3);
    let mut image = medium.image();
    for slot in [1, 3] {
        for at in slot * 4096 + PAGE_BYTES..slot * 4096 + PAGE_BYTES + 64 + 40 {
            for bit in 0..8 {
                image[at] ^= 1 << bit;
                let plan = plan(&image);
                let found = check_plan(&plan, &originals(3), epoch);
                assert_eq!(found.len(), 2, "byte {at} bit {bit}");
                assert_eq!((plan.lost_max, plan.next_seq), (Some(1), 4));
                image[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn a_file_truncated_to_any_length_keeps_the_slots_before() {
    let (medium, epoch) = disk_with(130);
    let image = medium.image();
    let (originals, mut kept) = (originals(130), Vec::new());
    for len in (0..image.len()).filter(|len| is_worth_trying(*len)) {
        let plan = plan(&image[..len]);
        let found = check_plan(&plan, &originals, epoch);
        assert!(matches!(plan.found, Found::Damaged(_)), "{len}");
        kept.push(found.len());
        if len == PAGE_BYTES + 50 * 4096 {
            assert_eq!(found.len(), 50);
        }
    }
    assert!(kept.is_sorted());
    assert_eq!(kept[0], 0);
    assert_eq!(
        *kept.last().unwrap(),
        100,
        "a message ends before its slot does"
    );
}

#[test]
fn damage_is_salvaged_into_a_new_file_and_the_old_one_is_kept() {
    let (medium, epoch) = disk_with(130);
    let mut image = medium.image();
    // Messages 50 and 130.
    image[PAGE_BYTES + 50 * 4096 + 70] ^= 4;
    image[PAGE_BYTES + 29 * 4096 + 70] ^= 4;
    medium.set_image(image.clone());
    let (mut ring, recovered) = open(&medium);
    // Message 30 had left the history, but its slot is still whole.
    let expected = (30..130).filter(|nth| *nth != 50).collect::<Vec<_>>();
    assert_eq!(numbers(&recovered), expected);
    assert_eq!(recovered.report.lost_max, Some(2));
    assert_eq!(
        ring.next_seq(),
        131,
        "130 was given out, although its message is lost"
    );
    assert_ne!(ring.epoch(), epoch);
    assert_eq!(medium.aside(), [image]);
    assert!(recovered.report.is_warning());
    assert_eq!(ring.append(&message(131, 40)).unwrap(), 131);
    let (_, again) = open(&medium);
    assert!(
        matches!(again.report.found, Found::Intact),
        "{}",
        again.report
    );
    assert_eq!(again.messages.len(), 100);
}

#[test]
fn without_a_header_the_messages_are_recovered_from_the_slots() {
    for count in [0, 3, 130] {
        let (medium, epoch) = disk_with(count);
        let mut image = medium.image();
        image[..4096].fill(0);
        let (ring, recovered) = open_image(&medium, image);
        assert!(matches!(
            recovered.report.found,
            Found::Damaged(Damage::NotARing)
        ));
        assert_eq!(numbers(&recovered), last_100(count));
        assert_ne!(ring.epoch(), epoch);
        assert_eq!(ring.next_seq(), count + 1);
    }
}

#[test]
fn a_zeroed_newest_slot_counts_as_lost() {
    for count in [1, 3, 130] {
        let (medium, epoch) = disk_with(count);
        let mut image = medium.image();
        let slot = PAGE_BYTES + (count as usize % 101) * 4096;
        image[slot..slot + 4096].fill(0);
        let plan = plan(&image);
        let found = check_plan(&plan, &originals(count), epoch);
        assert_eq!(found, last_100(count - 1));
        assert_eq!((plan.lost_max, plan.next_seq), (Some(1), count + 1));
    }
}

#[test]
fn zeros_from_the_newest_slot_to_the_end_count_as_lost() {
    // As in a file that was truncated and extended.
    for count in [3, 9, 130] {
        let (medium, epoch) = disk_with(count);
        let mut image = medium.image();
        image[PAGE_BYTES + (count as usize % 101) * 4096..].fill(0);
        let plan = plan(&image);
        let found = check_plan(&plan, &originals(count), epoch);
        let missing = last_100(count)
            .iter()
            .filter(|nth| !found.contains(nth))
            .count();
        assert!(missing >= 1);
        assert!(plan.lost_max >= Some(missing as u64));
        assert!(plan.next_seq > count, "no seq is given out twice");
    }
}

/// Replaces the slot of a seq by the same slot of another image.
fn put_slot(image: &mut [u8], seq: u64, other: &[u8]) {
    let start = PAGE_BYTES + (seq % 101) as usize * 4096;
    image[start..start + 4096].copy_from_slice(&other[start..start + 4096]);
}

#[test]
fn an_older_message_in_the_next_slot_is_damage() {
    let ([now, earlier], epoch) = ([300, 150].map(|count| disk_with(count).0.image()), Epoch(1));
    let mut image = now.clone();
    assert_eq!(plan(&image).epoch, Some(epoch));
    put_slot(&mut image, 301, &earlier);
    let plan = plan(&image);
    assert_eq!(check_plan(&plan, &originals(300), epoch), last_100(300));
    assert!(matches!(plan.found, Found::Damaged(Damage::Slots)));
}

#[test]
fn a_damaged_slot_behind_a_free_one_is_damage() {
    let (medium, epoch) = disk_with(5);
    let before = disk_with(3).0.image();
    let mut image = medium.image();
    put_slot(&mut image, 4, &before);
    image[PAGE_BYTES + 5 * 4096 + 70] ^= 1;
    let plan = plan(&image);
    assert_eq!(check_plan(&plan, &originals(5), epoch), [1, 2, 3]);
}

#[test]
fn an_open_slot_proves_all_earlier_messages() {
    for count in [3, 50, 130] {
        let (medium, epoch) = disk_with(count - 1);
        let before = medium.image();
        let (mut ring, _) = open(&medium);
        ring.append(&message(count, 40)).unwrap();
        medium.fail_in(1);
        assert!(ring.append(&message(count + 1, 40)).is_err());
        let mut image = medium.image();
        put_slot(&mut image, count, &before);
        let plan = plan(&image);
        let found = check_plan(&plan, &originals(count), epoch);
        assert_eq!(found.last(), Some(&(count - 1)));
        assert_eq!((plan.lost_max, plan.next_seq), (Some(1), count + 1));
    }
}

#[test]
fn a_slot_of_another_epoch_is_damage() {
    let (medium, _) = disk_with(130);
    let mut image = medium.image();
    // The same slot of a ring with another epoch.
    let other = MemoryMedium::default();
    drop(open(&other));
    other.set_image(Vec::new());
    let (mut ring, _) = open(&other);
    for nth in 1..=130 {
        ring.append(&message(nth + 1000, 40)).unwrap();
    }
    let slot = PAGE_BYTES + 4096 * 40..PAGE_BYTES + 4096 * 41;
    image[slot.clone()].copy_from_slice(&other.image()[slot]);
    let (_, recovered) = open_image(&medium, image.clone());
    assert_eq!(
        numbers(&recovered),
        (30..=130).filter(|nth| *nth != 40).collect::<Vec<_>>()
    );
    assert_eq!(recovered.report.lost_max, Some(1));
    // Without a header, too.
    image[..4096].fill(7);
    let (_, recovered) = open_image(&medium, image);
    assert_eq!(
        numbers(&recovered),
        (30..=130).filter(|nth| *nth != 40).collect::<Vec<_>>()
    );
}

#[test]
fn a_file_of_another_version_is_kept_aside() {
    let (medium, _) = disk_with(0);
    let mut image = medium.image();
    image[8] = 2;
    let crc = crc32fast::hash(&image[..40]);
    image[40..44].copy_from_slice(&crc.to_le_bytes());
    medium.set_image(image.clone());
    let (_, recovered) = open(&medium);
    assert!(matches!(
        recovered.report.found,
        Found::Damaged(Damage::Version(2))
    ));
    assert_eq!(medium.aside(), [image]);
}

#[test]
fn an_empty_file_is_a_new_ring() {
    let medium = MemoryMedium::with_image(Vec::new());
    let (_, recovered) = open(&medium);
    assert!(matches!(recovered.report.found, Found::Nothing));
    assert!(medium.aside().is_empty());
}

#[test]
fn an_impossible_slot_size_in_the_header_is_damage() {
    let (medium, _) = disk_with(3);
    for slot_bytes in [0_u32, 1, 64, 4095, 4097, 1 << 30, u32::MAX] {
        let mut image = medium.image();
        resize(&mut image, 101, slot_bytes);
        let (_, recovered) = open_image(&medium, image);
        assert!(matches!(
            recovered.report.found,
            Found::Damaged(Damage::Header)
        ));
        assert_eq!(numbers(&recovered), last_100(3));
    }
}

/// Changes the sizes in a header, and its checksum with them.
fn resize(image: &mut [u8], slots: u32, slot_bytes: u32) {
    image[12..16].copy_from_slice(&slots.to_le_bytes());
    image[16..20].copy_from_slice(&slot_bytes.to_le_bytes());
    let crc = crc32fast::hash(&image[..40]);
    image[40..44].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn the_new_file_does_not_take_its_slot_size_from_a_damaged_one() {
    let largest = (64 + BODY_BYTES_MAX_LIMIT).next_multiple_of(PAGE_BYTES) as u32;
    let wanted = Geometry::for_payload(BYTES_MAX, 1).unwrap();
    // Message 101 is in the first slot, whose offset does not depend on the slot size.
    let (medium, _) = disk_with(130);
    let mut image = medium.image();
    resize(&mut image, 101, largest);
    let (mut ring, recovered) = open_image(&medium, image.clone());
    assert!(matches!(
        recovered.report.found,
        Found::Damaged(Damage::Length { .. })
    ));
    assert_eq!(numbers(&recovered), [101]);
    assert_eq!(medium.image().len() as u64, wanted.file_bytes());
    assert_eq!(medium.aside(), [image]);
    let next_seq = ring.next_seq();
    assert_eq!(ring.append(&message(131, 40)).unwrap(), next_seq);
    assert_eq!(numbers(&open(&medium).1), [101, 131]);
}

#[test]
fn the_new_file_has_slots_as_large_as_the_kept_messages_need() {
    // One message is larger than the others, or exceeds the limit only together with its session.
    let session_bytes = "s120".len();
    for largest_bytes in [40, 9000, BYTES_MAX] {
        let medium = MemoryMedium::default();
        let (mut ring, _) = Ring::open_with(Box::new(medium.clone()), 100_000, 20).unwrap();
        for nth in 1..=130 {
            let content_bytes = if nth == 120 { largest_bytes } else { 40 };
            ring.append(&message(nth, content_bytes)).unwrap();
        }
        let mut image = medium.image();
        image[..PAGE_BYTES].fill(0);
        let (ring, recovered) = open_image(&medium, image);
        assert!(matches!(recovered.report.found, Found::Damaged(_)));
        assert_eq!(numbers(&recovered), last_100(130));
        let needed_bytes = BYTES_MAX.max(largest_bytes + session_bytes);
        let needed = Geometry::for_payload(needed_bytes, 1).unwrap();
        assert_eq!(medium.image().len() as u64, needed.file_bytes());
        assert!(ring.message_bytes_max() >= needed_bytes);
    }
}

#[test]
fn the_new_file_for_a_damaged_one_has_the_configured_size() {
    let (medium, _) = disk_with(130);
    let mut image = medium.image();
    image[..PAGE_BYTES].fill(0);
    medium.set_image(image);
    let (_, recovered) = Ring::open_with(Box::new(medium.clone()), 9000, 20).unwrap();
    assert!(matches!(recovered.report.found, Found::Damaged(_)));
    assert_eq!(numbers(&recovered), last_100(130));
    let wanted = Geometry::for_payload(9000, 20).unwrap();
    assert_eq!(medium.image().len() as u64, wanted.file_bytes());
}

#[test]
fn slots_grow_under_the_same_epoch_and_never_shrink() {
    let (medium, epoch) = disk_with(130);
    let (ring, recovered) = Ring::open_on(Box::new(medium.clone()), 100_000).unwrap();
    assert!(matches!(recovered.report.found, Found::Grown));
    assert_eq!(numbers(&recovered), last_100(130));
    assert_eq!((ring.epoch(), ring.next_seq()), (epoch, 131));
    assert!(ring.message_bytes_max() >= 100_000);
    assert!(medium.aside().is_empty());
    drop(ring);
    let (mut ring, recovered) = open(&medium);
    assert!(matches!(recovered.report.found, Found::Intact));
    assert!(ring.message_bytes_max() >= 100_000);
    assert_eq!(ring.append(&message(131, 100_000)).unwrap(), 131);
    assert_eq!(numbers(&open(&medium).1), last_100(131));
}

/// A change to an image.
#[derive(Debug, Clone)]
enum Change {
    Bytes(usize, Vec<u8>),
    Zero(usize, usize),
    /// One page replaces another.
    Copy(usize, usize),
    Cut(usize),
    Extend(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0_usize..102 * 4096;
    prop_oneof![
        (at.clone(), prop::collection::vec(any::<u8>(), 1..64))
            .prop_map(|(a, b)| Change::Bytes(a, b)),
        (at.clone(), 1_usize..10_000).prop_map(|(a, b)| Change::Zero(a, b)),
        (0_usize..102, 0_usize..102).prop_map(|(a, b)| Change::Copy(a, b)),
        at.prop_map(Change::Cut),
        (1_usize..10_000).prop_map(Change::Extend),
    ]
}

fn apply(image: &mut Vec<u8>, change: &Change) {
    let len = image.len();
    match change {
        Change::Bytes(at, bytes) => {
            for (byte, new) in image.iter_mut().skip(*at).zip(bytes) {
                *byte = *new;
            }
        }
        Change::Zero(at, bytes) => image.iter_mut().skip(*at).take(*bytes).for_each(|b| *b = 0),
        Change::Copy(from, to) if (from.max(to) + 1) * 4096 <= len => {
            image.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
        }
        Change::Copy(..) => {}
        Change::Cut(at) => image.truncate(*at),
        Change::Extend(bytes) => image.resize(len + bytes, 0x5a),
    }
}

proptest! {
    #[test]
    fn after_random_damage_only_whole_messages_are_recovered_in_order(
        count in 0_u64..220,
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let (medium, epoch) = disk_with(count);
        let mut image = medium.image();
        for change in &changes {
            apply(&mut image, change);
        }
        let planned = check_plan(&plan(&image), &originals(count), epoch);
        // The ring that is made of it is intact.
        medium.set_image(image);
        let (mut ring, recovered) = open(&medium);
        prop_assert_eq!(numbers(&recovered), planned.clone());
        ring.append(&message(9999, 40)).unwrap();
        let (_, again) = open(&medium);
        prop_assert!(matches!(again.report.found, Found::Intact), "{}", again.report);
        prop_assert_eq!(again.messages.len(), (planned.len() + 1).min(100));
    }

    #[test]
    fn random_bytes_yield_an_empty_ring_without_a_panic(
        garbage in prop::collection::vec(any::<u8>(), 1..20_000),
        as_ring_length in any::<bool>(),
    ) {
        let mut image = garbage;
        if as_ring_length {
            let geometry = Geometry::for_payload(BYTES_MAX, 1).unwrap();
            let pattern = image.clone();
            image = pattern.into_iter().cycle().take(geometry.file_bytes() as usize).collect();
        }
        let (_, recovered) = open_image(&MemoryMedium::default(), image);
        prop_assert!(recovered.messages.is_empty());
        prop_assert!(matches!(recovered.report.found, Found::Damaged(_)));
    }
}
