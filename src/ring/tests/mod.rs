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

use std::sync::Arc;

use super::{Epoch, Recovered, Ring};
use crate::limits::MESSAGE_EXTRA_BYTES_MAX;
use crate::message::{Identity, Label, Message, MessageId, SessionId};
use crate::testkit::MemoryMedium;

/// The largest payload of the smallest slots: a page less the head.
pub(super) const BYTES_MAX: usize = 4096 - 64;

/// The largest content for which slots of this size are made.
pub(super) const CONTENT_BYTES_MAX: usize = BYTES_MAX - MESSAGE_EXTRA_BYTES_MAX;

/// The `nth` message. Its id holds `nth`; its content has `content_bytes` bytes, which depend on `nth`. Some
/// have a session, a label, an identity.
pub(super) fn message(nth: u64, content_bytes: usize) -> Message {
    let letters = (0..content_bytes).map(|at| char::from(b'a' + ((nth + at as u64) % 26) as u8));
    Message {
        id: MessageId::from_u64_pair(0x0f0e_0d0c_0b0a_0908, nth),
        timestamp_ms: 1_700_000_000_000 + nth,
        session: nth
            .is_multiple_of(3)
            .then(|| SessionId::parse(&format!("s{nth}")).unwrap().unwrap()),
        content: letters.collect(),
        label: label(nth).map(Arc::new),
        identity: identity(nth).map(Arc::new),
    }
}

fn label(nth: u64) -> Option<Label> {
    let event = ["", "push", "invoice.paid"][nth as usize % 3];
    let is_labelled = nth.is_multiple_of(5);
    is_labelled.then(|| Label::new("github", event).unwrap())
}

fn identity(nth: u64) -> Option<Identity> {
    let print = |is_set: bool| is_set.then_some([nth as u8; 16]);
    let has = |bit: u32| nth >> bit & 1 == 1;
    nth.is_multiple_of(7).then(|| Identity {
        id: print(has(0)),
        tag: print(has(1)),
        body: print(has(2)),
        window_s: nth as u32,
    })
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
    Ring::open_on(Box::new(medium.clone()), CONTENT_BYTES_MAX).unwrap()
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
