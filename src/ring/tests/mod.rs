//! Tests of the ring as a whole, on a disk in memory and on real files.

mod crash;
mod damage;
mod faults;
mod file;
mod format;
mod model;
mod place;
mod power;
mod process;

use super::{Epoch, Recovered, Ring};
use crate::message::{Message, MessageId, SessionId};
use crate::testkit::MemoryMedium;

/// The largest payload of the smallest slots: a page less the head.
pub(super) const BYTES_MAX: usize = 4096 - 64;

/// The `nth` message. Its id holds `nth`; its content has `content_bytes` bytes, which depend on `nth`.
pub(super) fn message(nth: u64, content_bytes: usize) -> Message {
    let letters = (0..content_bytes).map(|at| char::from(b'a' + ((nth + at as u64) % 26) as u8));
    Message {
        id: MessageId::from_u64_pair(0x0f0e_0d0c_0b0a_0908, nth),
        timestamp_ms: 1_700_000_000_000 + nth,
        session: nth
            .is_multiple_of(3)
            .then(|| SessionId::parse(&format!("s{nth}")).unwrap().unwrap()),
        content: letters.collect(),
    }
}

/// The number of a message, after checking every byte of it.
pub(super) fn nth(found: &Message) -> u64 {
    let nth = found.id.as_u64_pair().1;
    let expected = message(nth, found.content.len());
    assert_eq!(*found, expected);
    assert_eq!(found.content, expected.content);
    nth
}

pub(super) fn open(medium: &MemoryMedium) -> (Ring, Recovered) {
    Ring::open_on(Box::new(medium.clone()), BYTES_MAX).unwrap()
}

/// A disk with a ring on it to which messages 1 to `count` have been appended, and its epoch.
pub(super) fn disk_with(count: u64) -> (MemoryMedium, Epoch) {
    let medium = MemoryMedium::default();
    let (mut ring, _) = open(&medium);
    for nth in 1..=count {
        assert_eq!(ring.append(&message(nth, 40)).unwrap(), nth);
    }
    (medium, ring.epoch())
}

/// The numbers of the messages, after checking that their seqs are contiguous.
pub(super) fn numbers(recovered: &Recovered) -> Vec<u64> {
    let seqs = recovered.messages.iter().map(|(seq, _)| *seq);
    assert!(
        seqs.clone()
            .zip(seqs.skip(1))
            .all(|(one, next)| one + 1 == next)
    );
    recovered
        .messages
        .iter()
        .map(|(_, message)| nth(message))
        .collect()
}

/// The last 100 of the messages 1 to `count`.
pub(super) fn last_100(count: u64) -> Vec<u64> {
    (count.saturating_sub(99).max(1)..=count).collect()
}

/// Replaces the image of a disk by this one, and opens it.
pub(super) fn open_image(medium: &MemoryMedium, image: Vec<u8>) -> (Ring, Recovered) {
    medium.set_image(image);
    open(medium)
}
