//! The bytes of a file, assembled by hand from `FORMAT.md`. A change of the format without a new
//! version fails here.

use std::sync::Arc;

use super::super::layout::{decode_earlier, encode_earlier};
use super::super::{Aside, Found, Ring};
use super::{CONTENT_BYTES_MAX, disk_with, last_100, message, numbers, open};
use crate::message::{Epoch, Identity, Label, Message, MessageId, SessionId};
use crate::testkit::MemoryMedium;

/// CRC-32, bit by bit, from its definition.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    (!crc).to_le_bytes()
}

/// A page that begins with these parts; the rest is zero.
fn page(parts: &[&[u8]]) -> Vec<u8> {
    let mut page = parts.concat();
    assert!(page.len() <= 4096);
    page.resize(4096, 0);
    page
}

fn slot(described: &[&[u8]]) -> Vec<u8> {
    let described = described.concat();
    page(&[&crc(&described), b"DONE", &described])
}

#[test]
fn a_file_is_byte_for_byte_what_the_document_says() {
    let medium = MemoryMedium::default();
    let (mut ring, _) = Ring::open_on(Box::new(medium.clone()), CONTENT_BYTES_MAX).unwrap();
    let session = SessionId::parse("room").unwrap();
    let id = MessageId::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    let content = "h\u{e9}llo".to_owned();
    ring.append(&Message {
        id,
        timestamp_ms: 0x0102_0304,
        session,
        content,
        label: None,
        identity: None,
    })
    .unwrap();
    let content = "!".to_owned();
    ring.append(&Message {
        id,
        timestamp_ms: 5,
        session: None,
        content,
        label: None,
        identity: None,
    })
    .unwrap();
    ring.sync().unwrap();

    // The epoch and the boot id of a fresh disk in memory are both 1.
    let header = [
        b"HOOKRING".as_slice(),
        &[1, 0, 0, 0],
        &[101, 0, 0, 0],
        &[0, 0x10, 0, 0],
        &[0; 4],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let boot_id = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let id = id.into_bytes();
    let first = slot(&[
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[4, 3, 2, 1, 0, 0, 0, 0],
        &id,
        &[6, 0, 0, 0],
        &[4, 0],
        &[1, 0],
        &[0; 8],
        b"roomh\xc3\xa9llo",
    ]);
    let second = slot(&[
        &[2, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0],
        &id,
        &[1, 0, 0, 0],
        &[0, 0],
        &[0, 0],
        &[0; 8],
        b"!",
    ]);
    let pages = [
        page(&[
            &header,
            &crc(&header),
            &[0; 468],
            &boot_id,
            &crc(&boot_id),
            b"SHUT",
        ]),
        page(&[&[0; 4], b"FREE"]),
        first,
        second,
    ];
    let image = medium.image();
    assert_eq!(image.len(), 4096 * 102);
    for (nth, expected) in pages.iter().enumerate() {
        assert!(image[nth * 4096..][..4096] == **expected, "page {nth}");
    }
    for index in 3..101_u8 {
        let expected = page(&[&[index, 0, 0, 0], b"FREE"]);
        assert!(
            image[(1 + usize::from(index)) * 4096..][..4096] == *expected,
            "slot {index}"
        );
    }

    // A slot whose append was interrupted.
    medium.fail_in(4);
    let content = "?".to_owned();
    assert!(
        ring.append(&Message {
            id: MessageId::nil(),
            timestamp_ms: 6,
            session: None,
            content,
            label: None,
            identity: None,
        })
        .is_err()
    );
    assert_eq!(medium.image()[4 * 4096..][..8], *b"\x03\0\0\0OPEN");
}

#[test]
fn label_and_identity_are_where_the_document_says() {
    let medium = MemoryMedium::default();
    let (mut ring, _) = Ring::open_on(Box::new(medium.clone()), CONTENT_BYTES_MAX).unwrap();
    let id = MessageId::from_u128(7);
    let message = Message {
        id,
        timestamp_ms: 5,
        session: SessionId::parse("room").unwrap(),
        content: "!".into(),
        label: Label::new("shop", "paid").map(Arc::new),
        identity: Some(Arc::new(Identity {
            id: Some([0xa1; 16]),
            tag: None,
            body: Some([0xb2; 16]),
            window_s: 0x0001_5180,
        })),
    };
    ring.append(&message).unwrap();
    let expected = slot(&[
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0],
        &id.into_bytes(),
        &[1, 0, 0, 0],
        &[4, 0],
        &[7, 0],
        &[4, 4],
        &[0b101, 0],
        &[0x80, 0x51, 0x01, 0],
        b"roomshoppaid",
        &[0xa1; 16],
        &[0xb2; 16],
        b"!",
    ]);
    assert!(medium.image()[2 * 4096..][..4096] == *expected);
    assert_eq!(ring.history(), [(1, message)]);
}

/// A native message of the largest body, with a session of the longest name and an identity.
#[test]
fn slots_have_room_for_the_largest_body_with_label_and_identity() {
    for content_bytes_max in [1, CONTENT_BYTES_MAX, CONTENT_BYTES_MAX + 1, 65_536] {
        let medium = MemoryMedium::default();
        let (mut ring, _) = Ring::open_on(Box::new(medium.clone()), content_bytes_max).unwrap();
        let print = Some([1; 16]);
        let mut message = message(1, content_bytes_max);
        message.label = Label::new(&"s".repeat(64), &"e".repeat(128)).map(Arc::new);
        message.identity = Some(Arc::new(Identity {
            id: print,
            tag: print,
            body: print,
            window_s: u32::MAX,
        }));
        ring.append(&message).unwrap();
        assert_eq!(ring.history(), [(1, message)]);
    }
}

#[test]
fn a_ring_for_commits_has_a_slot_for_each_message_of_a_commit() {
    let medium = MemoryMedium::default();
    let (mut ring, _) = Ring::open_with(Box::new(medium.clone()), CONTENT_BYTES_MAX, 128).unwrap();
    assert_eq!(ring.unsynced_max(), 128);
    let image = medium.image();
    assert_eq!(image.len(), 4096 * (1 + 228));
    assert_eq!(image[12..16], 228_u32.to_le_bytes());
    for nth in 1..=500 {
        ring.append(&message(nth, 40)).unwrap();
    }
    let offset = 4096 * (1 + 500 % 228);
    assert_eq!(
        medium.image()[offset + 8..offset + 16],
        500_u64.to_le_bytes()
    );
    // A start that needs fewer slots uses the file as it is. One that needs more rewrites it under
    // the same epoch.
    let epoch = ring.epoch();
    for (unsynced_max, found, has) in [(1, 228, 128), (128, 228, 128)] {
        let (ring, recovered) =
            Ring::open_with(Box::new(medium.clone()), CONTENT_BYTES_MAX, unsynced_max).unwrap();
        assert!(matches!(recovered.report.found, Found::Intact));
        assert_eq!(medium.image().len(), 4096 * (1 + found));
        assert_eq!((ring.unsynced_max(), ring.epoch()), (has, epoch));
        assert_eq!(numbers(&recovered), last_100(500));
    }
    let (medium, epoch) = disk_with(150);
    let (ring, recovered) =
        Ring::open_with(Box::new(medium.clone()), CONTENT_BYTES_MAX, 9).unwrap();
    assert!(matches!(recovered.report.found, Found::Grown));
    assert_eq!((ring.unsynced_max(), ring.epoch()), (9, epoch));
    assert_eq!(numbers(&recovered), last_100(150));
}

#[test]
fn without_a_header_the_number_of_slots_is_derived_from_the_length() {
    let medium = MemoryMedium::default();
    let (mut ring, _) = Ring::open_with(Box::new(medium.clone()), 9000, 128).unwrap();
    for nth in 1..=300 {
        ring.append(&message(nth, 40)).unwrap();
    }
    let mut image = medium.image();
    image[..44].fill(0);
    medium.set_image(image);
    let (ring, recovered) = Ring::open_with(Box::new(medium.clone()), 9000, 128).unwrap();
    assert!(matches!(recovered.report.found, Found::Damaged(_)));
    assert_eq!(numbers(&recovered), last_100(300));
    assert_eq!(ring.unsynced_max(), 128);
}

#[test]
fn a_rewound_ring_reuses_the_seqs_of_the_removed_messages() {
    let (medium, epoch) = disk_with(130);
    let (mut ring, _) = open(&medium);
    for nth in 131..=140 {
        ring.append(&message(nth, 40)).unwrap();
    }
    let history = last_100(130).into_iter().map(|nth| message(nth, 40));
    let history = history.collect::<Vec<_>>();
    ring.rewind(131, &history).unwrap();
    assert!(medium.unsynced().is_empty(), "the new file is on disk");
    assert_eq!(ring.append(&message(141, 40)).unwrap(), 131);
    let (ring, recovered) = open(&medium);
    let mut expected = last_100(130)[1..].to_vec();
    expected.push(141);
    assert_eq!(numbers(&recovered), expected);
    assert_eq!(ring.epoch(), epoch);
}

#[test]
fn a_shared_ring_keeps_its_epochs_and_one_that_is_no_longer_shared_gets_its_own() {
    let medium = MemoryMedium::default();
    let open = || Ring::open_on(Box::new(medium.clone()), 100).unwrap();
    let (mut ring, _) = open();
    let own = ring.epoch();
    assert!(!ring.is_shared() && ring.earlier().is_empty());
    let messages: Vec<Message> = (1..=3).map(|nth| message(nth, 10)).collect();
    let earlier = vec![(own, 40), (Epoch(5), 60)];
    ring.renew(Epoch(9), earlier.clone(), 70, &messages, Aside::Drop)
        .unwrap();
    assert_eq!(ring.append(&message(4, 10)).unwrap(), 73);
    drop(ring);
    let (mut ring, recovered) = open();
    assert!(!recovered.report.is_warning(), "{}", recovered.report);
    assert_eq!((ring.epoch(), ring.next_seq()), (Epoch(9), 74));
    assert!(ring.is_shared());
    assert_eq!(ring.earlier(), earlier);
    // A repair keeps them.
    let history: Vec<Message> = recovered
        .messages
        .into_iter()
        .map(|(_, found)| found)
        .collect();
    ring.repair(&history).unwrap();
    drop(ring);
    let (mut ring, _) = open();
    assert_eq!(ring.earlier(), earlier);
    ring.end_sharing(&history).unwrap();
    drop(ring);
    let (ring, recovered) = open();
    assert!(!ring.is_shared() && ring.earlier().is_empty());
    assert!(ring.epoch() != Epoch(9) && ring.next_seq() == 74);
    assert_eq!(recovered.messages.len(), 4);
}

#[test]
fn damaged_earlier_epochs_are_none() {
    let earlier = [(Epoch(1), 2), (Epoch(3), 4)];
    let bytes = encode_earlier(&earlier);
    assert_eq!(decode_earlier(&bytes), earlier);
    for at in [4, 8, 31] {
        let mut damaged = bytes;
        damaged[at] ^= 1;
        assert_eq!(decode_earlier(&damaged), []);
    }
    let many: Vec<_> = (0..20).map(|nth| (Epoch(nth), nth)).collect();
    assert_eq!(decode_earlier(&encode_earlier(&many)), many[4..]);
}
