//! Tests of the table with its file, on a disk in memory and on real files. Each runs without the hub.

mod crash;

use std::sync::Arc;

use super::*;
use crate::message::Fingerprint;
use crate::testkit::{MemoryBacking, MemoryMedium};

const NOW_MS: u64 = 1_700_000_000_000;

/// A fingerprint of a number.
fn print(kind: u8, nth: u64) -> Fingerprint {
    let mut print = [kind; 16];
    print[8..].copy_from_slice(&nth.to_le_bytes());
    print
}

/// An identity by its id alone, known for a day.
fn identity(nth: u64) -> Identity {
    Identity {
        id: Some(print(1, nth)),
        tag: None,
        body: None,
        window_s: 86_400,
    }
}

fn message_of(nth: u64, identity: Identity) -> Message {
    Message {
        id: MessageId::from_u64_pair(7, nth),
        timestamp_ms: NOW_MS,
        session: None,
        content: "x".into(),
        label: None,
        identity: Some(Arc::new(identity)),
    }
}

fn message(nth: u64) -> Message {
    message_of(nth, identity(nth))
}

fn repeat_of(nth: u64) -> Known {
    Known::Repeat(First {
        id: MessageId::from_u64_pair(7, nth),
        timestamp_ms: NOW_MS,
    })
}

fn find(identities: &Identities, nth: u64) -> Known {
    identities.find(&identity(nth), NOW_MS)
}

/// The messages that a ring with the messages 1 to `count` has, with their seqs.
fn last_100(count: u64) -> Vec<(u64, Message)> {
    let seqs = count.saturating_sub(99).max(1)..=count;
    seqs.map(|seq| (seq, message(seq))).collect()
}

fn backing() -> MemoryBacking {
    MemoryBacking::beside(&MemoryMedium::default())
}

fn open(backing: &MemoryBacking, messages: &[(u64, Message)], next_seq: u64) -> Identities {
    Identities::open(Box::new(backing.clone()), messages, next_seq)
}

/// A file with the identities 1 to `count`.
fn filled(count: u64) -> MemoryBacking {
    let backing = backing();
    let mut identities = open(&backing, &[], 1);
    for seq in 1..=count {
        identities.note_kept(seq, &message(seq));
    }
    backing
}

#[test]
fn a_repeat_is_known_by_its_id_or_by_its_tag() {
    let full = |id, tag, body| Identity {
        id: Some(print(1, id)),
        tag: Some(print(2, tag)),
        body: Some(print(3, body)),
        window_s: 60,
    };
    let mut identities = Identities::default();
    identities.note(1, &message_of(1, full(1, 1, 1)));
    identities.note(2, &message_of(2, full(2, 2, 2)));
    let find = |identity: Identity| identities.find(&identity, NOW_MS);
    assert_eq!(find(full(3, 3, 1)), Known::Nothing);
    assert_eq!(find(full(1, 3, 1)), repeat_of(1));
    assert_eq!(find(full(1, 2, 1)), repeat_of(1), "the id goes first");
    assert_eq!(find(full(3, 2, 9)), repeat_of(2), "a captured body");
    assert_eq!(find(full(1, 1, 2)), Known::KeyReused);
    let without_body = Identity {
        body: None,
        ..full(1, 9, 9)
    };
    assert_eq!(find(without_body), repeat_of(1));
    let nothing = Identity {
        id: None,
        tag: None,
        ..full(1, 1, 1)
    };
    assert_eq!(find(nothing), Known::Nothing);
}

#[test]
fn an_identity_is_known_until_its_window_ends() {
    let mut identities = Identities::default();
    let mut short = identity(1);
    short.window_s = 60;
    identities.note(1, &message_of(1, short.clone()));
    for (now_ms, known) in [
        (0, repeat_of(1)),
        (NOW_MS + 59_999, repeat_of(1)),
        (NOW_MS + 60_000, Known::Nothing),
        (u64::MAX, Known::Nothing),
    ] {
        assert_eq!(identities.find(&short, now_ms), known, "{now_ms}");
    }
    // The next message with this identity is the first from then on.
    let mut again = message_of(2, short.clone());
    again.timestamp_ms = NOW_MS + 60_000;
    identities.note(2, &again);
    let First { id, .. } = match identities.find(&short, NOW_MS + 61_000) {
        Known::Repeat(first) => first,
        other => panic!("{other:?}"),
    };
    assert_eq!(id, again.id);
}

#[test]
fn of_70000_identities_the_first_are_forgotten_and_the_last_50000_known() {
    let backing = filled(70_000);
    for (messages, next_seq) in [(Vec::new(), 80_000), (last_100(70_000), 70_001)] {
        let identities = open(&backing, &messages, next_seq);
        assert_eq!(find(&identities, 1), Known::Nothing);
        assert_eq!(find(&identities, 70_000 - 65_536), Known::Nothing);
        for nth in 70_000 - 65_535..=70_000 {
            assert_eq!(find(&identities, nth), repeat_of(nth));
        }
        assert_eq!(identities.table.len(), IDENTITIES_MAX);
    }
    assert_eq!(backing.bytes().unwrap().len() as u64, FILE_BYTES);
}

#[test]
fn the_file_is_byte_for_byte_what_the_document_says() {
    let backing = backing();
    let mut identities = open(&backing, &[], 1);
    let mut first = message_of(
        1,
        Identity {
            id: Some([0xa1; 16]),
            tag: None,
            body: Some([0xb2; 16]),
            window_s: 0x0001_5180,
        },
    );
    first.timestamp_ms = 0x0102_0304;
    identities.note_kept(9, &first);
    let bytes = backing.bytes().unwrap();
    let header = [
        b"HOOKIDEN".as_slice(),
        &[1, 0, 0, 0],
        &[0, 0, 1, 0],
        &[128, 0, 0, 0],
        &[0; 4],
    ]
    .concat();
    let crc = |bytes: &[u8]| crc32fast::hash(bytes).to_le_bytes();
    let record = [
        [0b1101, 0, 0, 0].as_slice(),
        &[0; 8],
        &[9, 0, 0, 0, 0, 0, 0, 0],
        &[4, 3, 2, 1, 0, 0, 0, 0],
        first.id.as_bytes(),
        &[0xa1; 16],
        &[0; 16],
        &[0xb2; 16],
        &[0x80, 0x51, 1, 0],
        &[0; 28],
    ]
    .concat();
    let expected = [
        &header,
        &crc(&header)[..],
        &[0; 4068],
        &crc(&record),
        &record,
    ]
    .concat();
    assert_eq!(bytes.len(), 4096 + 65_536 * 128);
    assert!(bytes[..4096 + 128] == expected);
    assert!(bytes[4096 + 128..] == vec![0; 65_535 * 128]);
}

#[test]
fn the_file_is_made_with_the_first_identity() {
    let backing = backing();
    let mut identities = open(&backing, &[], 1);
    let mut plain = message(1);
    plain.identity = None;
    identities.note_kept(1, &plain);
    assert_eq!(backing.bytes(), None);
    identities.note_kept(2, &message(2));
    assert!(backing.bytes().is_some());
}

#[test]
fn what_is_whole_of_a_damaged_file_is_known() {
    let whole = filled(300).bytes().unwrap();
    let offset = |nth: usize| 4096 + (nth - 1) * 128;
    let known = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        let backing = backing();
        backing.set_bytes(Some(bytes));
        let count = |backing: &MemoryBacking| {
            let identities = open(backing, &last_100(300), 301);
            assert_eq!(identities.state, State::Sound);
            let is_known = |nth: &u64| find(&identities, *nth) == repeat_of(*nth);
            assert!((201..=300).all(|nth| is_known(&nth)), "those of the ring");
            (1..=300).filter(is_known).count()
        };
        let found = count(&backing);
        assert_eq!(count(&backing), found, "the file was written anew");
        found
    };
    assert_eq!(known(&|_| {}), 300);
    assert_eq!(known(&|bytes| bytes[offset(7) + 50] ^= 1), 299);
    assert_eq!(known(&|bytes| bytes[offset(7)..offset(9)].fill(0)), 298);
    // A record of another place, as of another file.
    assert_eq!(
        known(&|bytes| bytes.copy_within(offset(7)..offset(8), offset(9))),
        299
    );
    assert_eq!(known(&|bytes| bytes.truncate(offset(101))), 200);
    assert_eq!(known(&|bytes| bytes.truncate(offset(101) - 1)), 199);
    assert_eq!(known(&|bytes| bytes.truncate(4096)), 100);
    assert_eq!(known(&|bytes| bytes.truncate(100)), 100);
    assert_eq!(known(&|bytes| bytes.clear()), 100);
    assert_eq!(known(&|bytes| bytes.push(0)), 300);
    assert_eq!(known(&|bytes| bytes[0] ^= 1), 100);
    assert_eq!(known(&|bytes| bytes[25] ^= 1), 100);
    assert_eq!(known(&|bytes| bytes[13] = 7), 100);
    assert_eq!(
        known(&|bytes| {
            bytes[8] = 2;
            let crc = crc32fast::hash(&bytes[..24]).to_le_bytes();
            bytes[24..28].copy_from_slice(&crc);
        }),
        100,
        "another version"
    );
    assert_eq!(known(&|bytes| bytes.fill(0xff)), 100);
}

/// Random bytes in random places: no panic, and nothing that was not there is known.
#[test]
fn a_damaged_file_invents_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let whole = filled(50).bytes().unwrap();
    for _ in 0..50 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..20) {
            let at = random.usize(..4096 + 60 * 128);
            bytes[at] = random.u8(..);
        }
        let backing = backing();
        backing.set_bytes(Some(bytes));
        let identities = open(&backing, &[], 1000);
        for (_, record) in identities.table.iter() {
            let nth = record.first.id.as_u64_pair().1;
            assert_eq!(record.identity, identity(nth));
        }
    }
}

#[test]
fn a_full_disk_leaves_the_table_in_memory_and_the_file_is_tried_again() {
    let backing = backing();
    let mut identities = open(&backing, &[], 1);
    backing.set_full(true);
    let at = |identities: &mut Identities, seq: u64, after_ms: u64| {
        let mut message = message(seq);
        message.timestamp_ms += after_ms;
        identities.note_kept(seq, &message);
    };
    at(&mut identities, 1, 0);
    at(&mut identities, 2, 1000);
    assert_eq!(identities.stats.faults(), 1, "not tried with each message");
    assert_eq!(find(&identities, 1), repeat_of(1));
    at(&mut identities, 3, 60_000);
    assert_eq!(identities.stats.faults(), 2);
    backing.set_full(false);
    at(&mut identities, 4, 100_000);
    assert_eq!(backing.bytes(), None);
    at(&mut identities, 5, 120_000);
    assert_eq!(identities.state, State::Sound);
    let again = open(&backing, &[], 301);
    assert!((1..=5).all(|nth| matches!(find(&again, nth), Known::Repeat(_))));

    // The same for a file that was there.
    backing.set_full(true);
    at(&mut identities, 6, 0);
    assert!(matches!(identities.state, State::Faulty { .. }));
    backing.set_full(false);
    at(&mut identities, 7, 60_000);
    let again = open(&backing, &[], 301);
    assert!((1..=7).all(|nth| matches!(find(&again, nth), Known::Repeat(_))));
}

/// The ring has lost messages, as after a power failure: their retries must be published.
#[test]
fn identities_of_messages_that_the_ring_has_lost_are_forgotten_for_good() {
    let backing = filled(300);
    let identities = open(&backing, &last_100(250), 251);
    for nth in 1..=300 {
        let known = find(&identities, nth) != Known::Nothing;
        assert_eq!(known, nth <= 250, "{nth}");
    }
    // Also when the ring has gone on: the seqs were given again, to messages without identities.
    let identities = open(&backing, &[], 1000);
    assert_eq!(find(&identities, 250), repeat_of(250));
    assert_eq!(find(&identities, 251), Known::Nothing);
    // A ring that was lost as a whole.
    let identities = open(&backing, &[], 1);
    assert_eq!(identities.table.len(), 0);
}

#[test]
fn an_identity_that_is_only_in_the_ring_gets_into_the_file() {
    let backing = filled(10);
    let identities = open(&backing, &last_100(12), 13);
    assert_eq!(find(&identities, 12), repeat_of(12));
    let identities = open(&backing, &[], 1000);
    assert_eq!(find(&identities, 12), repeat_of(12));
}

#[test]
fn what_is_taken_back_is_neither_known_nor_in_the_file() {
    let backing = filled(5);
    let mut identities = open(&backing, &last_100(5), 6);
    for seq in 6..=9 {
        identities.note(seq, &message(seq));
    }
    identities.take_back(8);
    assert_eq!(find(&identities, 7), repeat_of(7));
    assert_eq!(find(&identities, 8), Known::Nothing);
    identities.take_back(1);
    assert_eq!(find(&identities, 5), repeat_of(5), "kept before");
    assert_eq!(find(&identities, 6), Known::Nothing);
    identities.keep();
    let again = open(&backing, &[], 1000);
    assert_eq!(again.table.len(), 5);
}

#[test]
fn a_seq_beyond_any_ring_is_never_due() {
    let mut identities = open(&backing(), &[], 1);
    identities.note_kept(u64::MAX, &message(1));
    assert!(identities.due_sync(u64::MAX).is_none());
}

#[test]
fn a_sync_is_due_before_an_identity_leaves_the_ring_unsynced() {
    let backing = filled(1);
    let mut identities = open(&backing, &last_100(1), 2);
    assert!(identities.due_sync(101).is_none(), "1 is among 1 to 100");
    let sync = identities.due_sync(102).expect("102 would push 1 out");
    let synced = sync.run();
    identities.note_synced(synced);
    assert!(identities.due_sync(u64::MAX).is_none());
    assert_eq!(backing.syncs(), 1);
    identities.note(102, &message(102));
    assert!(
        identities.due_sync(u64::MAX).is_none(),
        "not in the file yet"
    );
    identities.keep();
    assert!(identities.due_sync(u64::MAX).is_some());
}

#[test]
fn a_real_file_is_beside_the_ring_and_private() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let directory = tempfile::tempdir().unwrap();
    let ring = directory.path().join("a.ring");
    let path = directory.path().join("a.ring.identities");
    let open = || Identities::open(Box::new(IdentityFile::of_ring(&ring)), &[], 1000);
    let mut identities = open();
    assert!(!path.exists());
    for seq in 1..=3 {
        identities.note_kept(seq, &message(seq));
    }
    let metadata = path.metadata().unwrap();
    assert_eq!(metadata.len(), FILE_BYTES);
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(find(&open(), 3), repeat_of(3));
    identities.close();
    identities.note_kept(4, &message(4));
    identities.reopen(&[], 1000);
    assert_eq!(
        find(&identities, 4),
        Known::Nothing,
        "another process had it"
    );
    assert_eq!(find(&identities, 3), repeat_of(3));

    // A link, a directory: a fault, and the table is in memory.
    let elsewhere = directory.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let identities = open();
    assert_eq!(identities.stats.faults(), 1);
    assert_eq!(find(&identities, 3), Known::Nothing);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let mut identities = open();
    identities.note_kept(1, &message(1));
    assert_eq!(
        identities.stats.faults(),
        2,
        "the directory cannot be replaced"
    );
    assert_eq!(find(&identities, 1), repeat_of(1));
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 2, "no leftover: {names:?}");
}
