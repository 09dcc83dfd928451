//! Images of ring files: valid, cut, or patched with correct checksums. Opening never panics. Recovered
//! messages were stored before, and are complete and in order; the ring takes further messages.

use arbitrary::{Result, Unstructured};
use hookcast::limits::{HISTORY_MESSAGES, RING_SLOTS_MIN};
use hookcast::message::{Message, MessageId, SessionId};
use hookcast::ring::{Found, Recovered, Ring};
use hookcast::testkit::MemoryMedium;

/// The smallest slots (`FORMAT.md`).
const SLOT_BYTES: usize = 4096;
const PAYLOAD_BYTES_MAX: usize = SLOT_BYTES - 64;

pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(mut image) = first_image(&mut input) else {
        return;
    };
    let mut is_forged = false;
    while !input.is_empty() {
        match damage(&mut image, &mut input) {
            Ok(forges) => is_forged |= forges,
            Err(_) => break,
        }
    }
    if !is_huge(&image) {
        check(image, is_forged);
    }
}

/// Whether a valid header has slots of more than 64 KiB. A rewrite keeps the size of the slots, up to 1.7 GB
/// in total, which is too much to allocate again and again.
fn is_huge(image: &[u8]) -> bool {
    image
        .get(16..20)
        .is_some_and(|size| size[2] > 1 || size[3] > 0)
}

/// A ring with this many messages, or the input itself as an image.
fn first_image(input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let count = input.arbitrary::<u8>()?;
    if count == u8::MAX {
        return Ok(input.bytes(input.len())?.to_vec());
    }
    let medium = MemoryMedium::default();
    let (mut ring, _) = open(&medium);
    for nth in 0..u64::from(count) {
        ring.append(&message(nth)).expect("a disk that works");
    }
    if input.arbitrary()? {
        ring.sync().expect("a disk that works");
    }
    Ok(medium.image())
}

/// Changes an image; returns whether the change can create a message that was never stored.
fn damage(image: &mut Vec<u8>, input: &mut Unstructured<'_>) -> Result<bool> {
    let slot = 4096 + usize::from(input.arbitrary::<u8>()?) % RING_SLOTS_MIN * SLOT_BYTES;
    match input.int_in_range(0..=7)? {
        0 => {
            let length = input.int_in_range(0..=image.len() + 5000)?;
            image.resize(length, input.arbitrary()?);
        }
        1 => patch(image, input.int_in_range(0..=600)?, input)?,
        2 => patch(image, slot + input.int_in_range(0..=63)?, input)?,
        3 => patch(image, slot + input.int_in_range(0..=SLOT_BYTES)?, input)?,
        4 => {
            let other = 4096 + usize::from(input.arbitrary::<u8>()?) % RING_SLOTS_MIN * SLOT_BYTES;
            if slot.max(other) + SLOT_BYTES <= image.len() {
                image.copy_within(slot..slot + SLOT_BYTES, other);
            }
        }
        5 => {
            patch(image, slot + 8 + input.int_in_range(0..=100)?, input)?;
            return Ok(seal_slot(image, slot));
        }
        6 => {
            patch(image, 8 + input.int_in_range(0..=31)?, input)?;
            if let Some(crc) = image.get(..40).map(crc32fast::hash) {
                put(image, 40, &crc.to_le_bytes());
            }
        }
        _ => {
            let end = image.len().min(slot + SLOT_BYTES);
            image[slot.min(end)..end].fill(input.arbitrary()?);
        }
    }
    Ok(false)
}

fn patch(image: &mut [u8], offset: usize, input: &mut Unstructured<'_>) -> Result<()> {
    let count = input.int_in_range(1..=8)?;
    put(image, offset, input.bytes(count)?);
    Ok(())
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(place) = image.get_mut(offset..offset + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Sets the checksum of a slot to that of its bytes.
fn seal_slot(image: &mut [u8], slot: usize) -> bool {
    let Some(head) = image.get(slot..slot + 64) else {
        return false;
    };
    let content_bytes = u32::from_le_bytes([head[48], head[49], head[50], head[51]]) as usize;
    let session_bytes = usize::from(u16::from_le_bytes([head[52], head[53]]));
    let end = slot + 64 + content_bytes + session_bytes;
    let Some(sealed) = image.get(slot + 8..end) else {
        return false;
    };
    let crc = crc32fast::hash(sealed);
    put(image, slot, &crc.to_le_bytes());
    put(image, slot + 4, b"DONE");
    true
}

fn check(image: Vec<u8>, is_forged: bool) {
    let medium = MemoryMedium::default();
    medium.set_image(image);
    let (mut ring, recovered) = open(&medium);
    let messages = &recovered.messages;
    assert!(messages.len() <= HISTORY_MESSAGES);
    assert_eq!(recovered.report.messages, messages.len());
    let seqs = messages.iter().map(|(seq, _)| *seq);
    let first_seq = ring.next_seq() - messages.len() as u64;
    assert!(seqs.eq(first_seq..ring.next_seq()), "seqs have holes");
    assert!(!recovered.report.to_string().is_empty());
    if !is_forged {
        let numbers: Vec<u64> = messages.iter().map(|(_, found)| nth(found)).collect();
        assert!(
            numbers.is_sorted_by(|a, b| a < b),
            "out of order: {numbers:?}"
        );
    }
    assert_eq!(
        ring.history(),
        *messages,
        "history and recovered messages differ"
    );

    // The ring takes more messages, and the next start finds all of them.
    let next_seq = ring.next_seq();
    assert_eq!(ring.append(&message(1000)).ok(), Some(next_seq));
    let epoch = ring.epoch();
    drop(ring);
    let (ring, again) = open(&medium);
    assert!(
        matches!(again.report.found, Found::Intact),
        "{}",
        again.report
    );
    assert_eq!((ring.epoch(), ring.next_seq()), (epoch, next_seq + 1));
    let kept = (messages.len() + 1).min(HISTORY_MESSAGES) - 1;
    assert_eq!(again.messages[..kept], messages[messages.len() - kept..]);
    assert_eq!(again.messages[kept], (next_seq, message(1000)));
}

fn open(medium: &MemoryMedium) -> (Ring, Recovered) {
    let opened = Ring::open_on(Box::new(medium.clone()), PAYLOAD_BYTES_MAX);
    opened.expect("a ring opens on any image")
}

/// The `nth` message. The number in its id determines all of it.
fn message(nth: u64) -> Message {
    Message {
        id: MessageId::from_u64_pair(0x0f0e_0d0c_0b0a_0908, nth),
        timestamp_ms: 1_700_000_000_000 + nth,
        session: SessionId::parse(["", "room", ""][nth as usize % 3]).expect("the name is short"),
        content: format!("message {nth}"),
        label: None,
        identity: None,
    }
}

/// The number of a message, after a check of all its bytes.
fn nth(found: &Message) -> u64 {
    let nth = found.id.as_u64_pair().1;
    assert_eq!(*found, message(nth), "a message that was never stored");
    nth
}
