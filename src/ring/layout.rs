//! The bytes of a ring file: the position, encoding and check of every field.
//!
//! `FORMAT.md` beside this file describes the same format. Called by the ring, which encodes, and by
//! recovery, which decodes. Never does I/O, never panics on any input.

use std::sync::Arc;

use crate::limits::{
    BODY_BYTES_MAX_LIMIT, EVENT_TYPE_BYTES_MAX, FINGERPRINT_BYTES, HISTORY_MESSAGES,
    LINEAGE_EPOCHS_MAX, RING_SLOTS_MAX, RING_SLOTS_MIN, SESSION_BYTES_MAX, SOURCE_NAME_BYTES_MAX,
};
use crate::message::{Epoch, Identity, Label, Message, MessageId, SessionId};

/// The first eight bytes of a ring file.
pub(super) const MAGIC: [u8; 8] = *b"HOOKRING";

/// The version of the format that this code reads and writes.
pub(super) const VERSION: u32 = 1;

/// The size of the header page and the alignment of slots. No page and no sector belongs to two slots,
/// so writing one slot back to disk can never damage another.
pub(super) const PAGE_BYTES: usize = 4096;

/// The used part of the header. The rest of its page is zero, except for the state record.
pub(super) const HEADER_BYTES: usize = 44;

/// The offset of the state record, which has a sector of its own.
pub(super) const STATE_OFFSET: u64 = 512;

/// The size of the state record: a boot id, then a word with its checksum.
pub(super) const STATE_BYTES: usize = 24;

/// The offset of the word within the state record.
pub(super) const STATE_WORD: u64 = 16;

/// The offset of the earlier epochs of a shared history, in a sector of their own.
pub(super) const EARLIER_OFFSET: u64 = 1024;

/// The size of the earlier epochs: number, checksum, and pairs of epoch and last seq.
pub(super) const EARLIER_BYTES: usize = 8 + 16 * LINEAGE_EPOCHS_MAX;

/// The size of a slot's head: the commit word and the fields that describe the payload.
pub(super) const SLOT_HEAD_BYTES: usize = 64;

/// The size of the commit word at the start of a slot.
pub(super) const WORD_BYTES: usize = 8;

/// The seq of the very first message. Zero is never a seq.
pub(super) const SEQ_FIRST: u64 = 1;

/// The largest seq that recovery accepts, so that a forged file cannot make the count overflow. At a
/// million messages a second it is reached after 290,000 years.
pub(super) const SEQ_MAX: u64 = 1 << 63;

const MARK_FREE: u32 = u32::from_le_bytes(*b"FREE");
const MARK_DONE: u32 = u32::from_le_bytes(*b"DONE");
const MARK_OPEN: u32 = u32::from_le_bytes(*b"OPEN");
const MARK_LIVE: u32 = u32::from_le_bytes(*b"LIVE");
const MARK_SHUT: u32 = u32::from_le_bytes(*b"SHUT");

const FLAG_SESSION: u16 = 1;
const FLAG_LABEL: u16 = 2;
const FLAG_IDENTITY: u16 = 4;
const FLAGS_KNOWN: u16 = FLAG_SESSION | FLAG_LABEL | FLAG_IDENTITY;

/// The fingerprints of an identity: id, tag and body have a bit each.
const PARTS_KNOWN: u8 = 7;

/// Identifies a boot of the kernel (`random(4)`, `/proc/sys/kernel/random/boot_id`). While it is the
/// same, no write to a file is lost.
pub type BootId = [u8; 16];

/// The number and size of a file's slots, from which the offset of each follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    slots: u32,
    slot_bytes: u32,
}

impl Geometry {
    /// The smallest geometry for messages of `payload_bytes` ([`Message::text_bytes`]). It has
    /// room for `unsynced_max` appends before one of the previous 100 messages is overwritten.
    /// `None` if either number is above the limits.
    pub fn for_payload(payload_bytes: usize, unsynced_max: usize) -> Option<Geometry> {
        let bytes = payload_bytes.checked_add(SLOT_HEAD_BYTES)?;
        let slot_bytes = bytes.checked_next_multiple_of(PAGE_BYTES)?;
        Geometry::new(HISTORY_MESSAGES + unsynced_max, slot_bytes)
    }

    /// The geometries whose files have this length: usually one or none.
    pub fn all_of_file_bytes(file_bytes: u64) -> impl Iterator<Item = Geometry> {
        let slots_bytes = file_bytes.saturating_sub(PAGE_BYTES as u64);
        (RING_SLOTS_MIN..=RING_SLOTS_MAX)
            .filter(move |slots| slots_bytes.is_multiple_of(*slots as u64))
            .filter_map(move |slots| {
                Geometry::new(slots, usize::try_from(slots_bytes / slots as u64).ok()?)
            })
    }

    fn new(slots: usize, slot_bytes: usize) -> Option<Geometry> {
        let largest = (SLOT_HEAD_BYTES + BODY_BYTES_MAX_LIMIT).next_multiple_of(PAGE_BYTES);
        let fits = (RING_SLOTS_MIN..=RING_SLOTS_MAX).contains(&slots)
            && (PAGE_BYTES..=largest).contains(&slot_bytes)
            && slot_bytes.is_multiple_of(PAGE_BYTES);
        fits.then_some(Geometry {
            slots: slots as u32,
            slot_bytes: slot_bytes as u32,
        })
    }

    /// Whether neither the number nor the size of the slots is below that of `other`.
    pub fn covers(self, other: Geometry) -> bool {
        self.slots >= other.slots && self.slot_bytes >= other.slot_bytes
    }

    /// The smallest geometry that covers both.
    pub fn join(self, other: Geometry) -> Geometry {
        Geometry {
            slots: self.slots.max(other.slots),
            slot_bytes: self.slot_bytes.max(other.slot_bytes),
        }
    }

    /// Whether more than one message may wait for a commit at a time.
    pub fn has_room_for_commits(self) -> bool {
        self.slots() > RING_SLOTS_MIN
    }

    /// How many slots there are.
    pub fn slots(self) -> usize {
        self.slots as usize
    }

    /// The length of the file in bytes.
    pub fn file_bytes(self) -> u64 {
        PAGE_BYTES as u64 + u64::from(self.slots) * u64::from(self.slot_bytes)
    }

    /// The most bytes that a message may have ([`Message::text_bytes`]).
    pub fn payload_bytes_max(self) -> usize {
        self.slot_bytes as usize - SLOT_HEAD_BYTES
    }

    /// The slot of a seq.
    pub fn slot_index(self, seq: u64) -> usize {
        (seq % u64::from(self.slots)) as usize
    }

    /// The offset of the slot of a seq in the file.
    pub fn slot_offset(self, seq: u64) -> u64 {
        PAGE_BYTES as u64 + self.slot_index(seq) as u64 * u64::from(self.slot_bytes)
    }
}

/// The file header; written once, when the file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub geometry: Geometry,
    pub epoch: Epoch,
    /// The seq of the first message that was written to this file.
    pub first_seq: u64,
    /// Other nodes have the same history and epoch, by a bus.
    pub is_shared: bool,
}

/// Why a header is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// The magic is missing.
    NotARing,
    /// The header is intact, but of another version.
    Version(u32),
    /// The checksum is wrong, or a field is out of range.
    Damaged,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.geometry.slots.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.geometry.slot_bytes.to_le_bytes());
        bytes[20..24].copy_from_slice(&u32::from(self.is_shared).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Header, HeaderFault> {
        if bytes[0..8] != MAGIC {
            return Err(HeaderFault::NotARing);
        }
        if crc32fast::hash(&bytes[..40]) != u32_at(bytes, 40) {
            return Err(HeaderFault::Damaged);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let geometry = Geometry::new(u32_at(bytes, 12) as usize, u32_at(bytes, 16) as usize);
        let first_seq = u64_at(bytes, 32);
        match geometry {
            Some(geometry)
                if u32_at(bytes, 20) <= 1 && (SEQ_FIRST..=SEQ_MAX).contains(&first_seq) =>
            {
                Ok(Header {
                    geometry,
                    epoch: Epoch(u64_at(bytes, 24)),
                    first_seq,
                    is_shared: u32_at(bytes, 20) == 1,
                })
            }
            _ => Err(HeaderFault::Damaged),
        }
    }
}

/// An epoch before the ring's, and the last seq of it that the ring's history has.
pub type EarlierEpoch = (Epoch, u64);

/// The bytes of the earlier epochs, of which the last ones are kept if there are too many.
pub(super) fn encode_earlier(earlier: &[EarlierEpoch]) -> [u8; EARLIER_BYTES] {
    let surplus = earlier.len().saturating_sub(LINEAGE_EPOCHS_MAX);
    let kept = &earlier[surplus..];
    let mut bytes = [0; EARLIER_BYTES];
    for (pair, (epoch, last_seq)) in bytes[8..].chunks_exact_mut(16).zip(kept) {
        pair[..8].copy_from_slice(&epoch.0.to_le_bytes());
        pair[8..].copy_from_slice(&last_seq.to_le_bytes());
    }
    bytes[..4].copy_from_slice(&(kept.len() as u32).to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The earlier epochs; none if the bytes are damaged: then their event ids are unknown.
pub(super) fn decode_earlier(bytes: &[u8; EARLIER_BYTES]) -> Vec<EarlierEpoch> {
    let count = u32_at(bytes, 0) as usize;
    if count > LINEAGE_EPOCHS_MAX || crc32fast::hash(&bytes[8..]) != u32_at(bytes, 4) {
        return Vec::new();
    }
    let pair = |index: usize| {
        let at = 8 + 16 * index;
        (Epoch(u64_at(bytes, at)), u64_at(bytes, at + 8))
    };
    (0..count).map(pair).collect()
}

/// The state in which the last process left the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// In use, or left by a kill, under the boot of the kernel with this id.
    Live(BootId),
    /// Closed, with everything on disk.
    Shut,
    /// The record is torn.
    Unknown,
}

/// The word of the state record for a file that is in use or closed.
pub(super) fn state_word(boot_id: &BootId, shut: bool) -> u64 {
    let mark = if shut { MARK_SHUT } else { MARK_LIVE };
    word(mark, crc32fast::hash(boot_id))
}

impl State {
    pub fn decode(bytes: &[u8; STATE_BYTES]) -> State {
        let boot_id: BootId = array_at(bytes, 0);
        match u64_at(bytes, STATE_WORD as usize) {
            live if live == state_word(&boot_id, false) => State::Live(boot_id),
            shut if shut == state_word(&boot_id, true) => State::Shut,
            _ => State::Unknown,
        }
    }
}

/// The head of a slot without its commit word, and the checksum for the commit word.
pub(super) struct SlotHead {
    pub bytes: [u8; SLOT_HEAD_BYTES - WORD_BYTES],
    pub crc: u32,
}

impl SlotHead {
    /// Describes a message. The caller has checked that it fits the slot.
    /// `extra` is that of [`extra_of`].
    pub fn new(epoch: Epoch, seq: u64, message: &Message, extra: &[u8]) -> SlotHead {
        let session = message.session.as_ref().map(SessionId::as_str);
        debug_assert!(message.content.len() <= BODY_BYTES_MAX_LIMIT);
        let mut bytes = [0; SLOT_HEAD_BYTES - WORD_BYTES];
        bytes[0..8].copy_from_slice(&seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&epoch.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&message.timestamp_ms.to_le_bytes());
        bytes[24..40].copy_from_slice(message.id.as_bytes());
        bytes[40..44].copy_from_slice(&(message.content.len() as u32).to_le_bytes());
        let mut flags = 0;
        if let Some(session) = session {
            bytes[44..46].copy_from_slice(&(session.len() as u16).to_le_bytes());
            flags |= FLAG_SESSION;
        }
        if let Some(label) = &message.label {
            bytes[48] = label.source().len() as u8;
            bytes[49] = label.event().len() as u8;
            flags |= FLAG_LABEL;
        }
        if let Some(identity) = &message.identity {
            bytes[50] = parts_of(identity);
            bytes[52..56].copy_from_slice(&identity.window_s.to_le_bytes());
            flags |= FLAG_IDENTITY;
        }
        bytes[46..48].copy_from_slice(&flags.to_le_bytes());
        let session = session.unwrap_or("").as_bytes();
        let crc = slot_crc(&bytes, &[session, extra, message.content.as_bytes()]);
        SlotHead { bytes, crc }
    }
}

/// The bytes between session and content: the texts of the label, then the fingerprints of the identity.
/// Most messages have none.
pub(super) fn extra_of(message: &Message) -> Vec<u8> {
    let mut extra = Vec::new();
    if let Some(label) = &message.label {
        extra.extend_from_slice(label.source().as_bytes());
        extra.extend_from_slice(label.event().as_bytes());
    }
    if let Some(identity) = &message.identity {
        let parts = [&identity.id, &identity.tag, &identity.body];
        for part in parts.into_iter().flatten() {
            extra.extend_from_slice(part);
        }
    }
    extra
}

fn parts_of(identity: &Identity) -> u8 {
    let parts = [&identity.id, &identity.tag, &identity.body];
    let bits = parts.iter().enumerate();
    bits.map(|(nth, part)| u8::from(part.is_some()) << nth)
        .sum()
}

fn slot_crc(head: &[u8], payload: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    for part in payload {
        hasher.update(part);
    }
    hasher.finalize()
}

/// The commit word of a slot that holds a message.
pub(super) fn done_word(crc: u32) -> u64 {
    word(MARK_DONE, crc)
}

/// The commit word of an unused slot. It is not zero, so that zeros count as damage: a file that was
/// truncated and extended, or half copied, contains zeros.
pub(super) fn free_word(index: usize) -> u64 {
    word(MARK_FREE, index as u32)
}

/// The commit word of a slot while the message `seq` is being written to it.
pub(super) fn open_word(seq: u64) -> u64 {
    word(MARK_OPEN, seq as u32)
}

fn word(mark: u32, low: u32) -> u64 {
    u64::from(mark) << 32 | u64::from(low)
}

/// Whether the head of a slot claims to hold the message `seq` of an epoch.
pub(super) fn is_done(head: &[u8; SLOT_HEAD_BYTES], epoch: Epoch, seq: u64) -> bool {
    let mark = (u64_at(head, 0) >> 32) as u32;
    (mark, u64_at(head, 8), u64_at(head, 16)) == (MARK_DONE, seq, epoch.0)
}

/// The claim of a slot's head, before its payload is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotClaim {
    /// No message was ever written to the slot.
    Free,
    /// A message was being written to the slot. These are the low 32 bits of its seq.
    Open(u32),
    /// The slot holds a message, if its payload of this length matches the checksum.
    Done { payload_bytes: usize },
    /// None of these: the slot is damaged.
    Damaged,
}

/// Decodes the head of the slot with this index.
pub(super) fn slot_claim(
    head: &[u8; SLOT_HEAD_BYTES],
    index: usize,
    geometry: Geometry,
) -> SlotClaim {
    let word = u64_at(head, 0);
    let (mark, low) = ((word >> 32) as u32, word as u32);
    if mark == MARK_OPEN {
        return SlotClaim::Open(low);
    }
    if word == free_word(index) {
        return SlotClaim::Free;
    }
    let seq = u64_at(head, 8);
    let parts = Parts::of(head);
    let payload_bytes = parts.bytes();
    let sane = mark == MARK_DONE
        && (SEQ_FIRST..=SEQ_MAX).contains(&seq)
        && geometry.slot_index(seq) == index
        && parts.are_sane()
        && payload_bytes <= geometry.payload_bytes_max();
    if sane {
        SlotClaim::Done { payload_bytes }
    } else {
        SlotClaim::Damaged
    }
}

/// The parts of a slot's payload, as its head states them.
struct Parts {
    flags: u16,
    session_bytes: usize,
    source_bytes: usize,
    event_bytes: usize,
    /// The bits of the fingerprints.
    identity: u8,
    unused: u8,
    window_s: u32,
    content_bytes: usize,
}

impl Parts {
    fn of(head: &[u8; SLOT_HEAD_BYTES]) -> Parts {
        Parts {
            content_bytes: u32_at(head, 48) as usize,
            session_bytes: usize::from(u16_at(head, 52)),
            flags: u16_at(head, 54),
            source_bytes: usize::from(head[56]),
            event_bytes: usize::from(head[57]),
            identity: head[58],
            unused: head[59],
            window_s: u32_at(head, 60),
        }
    }

    fn bytes(&self) -> usize {
        let identity_bytes = self.identity.count_ones() as usize * FINGERPRINT_BYTES;
        let extra_bytes = self.source_bytes + self.event_bytes + identity_bytes;
        (self.content_bytes).saturating_add(self.session_bytes + extra_bytes)
    }

    /// Whether each field is in its range, and those of a part that the message lacks are zero.
    fn are_sane(&self) -> bool {
        let has = |flag: u16| self.flags & flag != 0;
        let label = (self.source_bytes, self.event_bytes);
        self.flags & !FLAGS_KNOWN == 0
            && has(FLAG_SESSION) == (self.session_bytes > 0)
            && self.session_bytes <= SESSION_BYTES_MAX
            && has(FLAG_LABEL) == (self.source_bytes > 0)
            && self.source_bytes <= SOURCE_NAME_BYTES_MAX
            && self.event_bytes <= EVENT_TYPE_BYTES_MAX
            && (has(FLAG_LABEL) || label == (0, 0))
            && self.identity & !PARTS_KNOWN == 0
            && (has(FLAG_IDENTITY) || (self.identity, self.window_s) == (0, 0))
            && self.unused == 0
    }
}

/// The message of a slot with a valid checksum.
pub(super) struct Whole {
    pub seq: u64,
    pub epoch: Epoch,
    pub message: Message,
}

/// Checks a slot whose head claims [`SlotClaim::Done`]; `None` if its checksum is wrong.
pub(super) fn slot_message(head: &[u8; SLOT_HEAD_BYTES], payload: &[u8]) -> Option<Whole> {
    let parts = Parts::of(head);
    if payload.len() != parts.bytes()
        || u64_at(head, 0) != done_word(slot_crc(&head[WORD_BYTES..], &[payload]))
    {
        return None;
    }
    let (session, rest) = payload.split_at_checked(parts.session_bytes)?;
    let (source, rest) = rest.split_at_checked(parts.source_bytes)?;
    let (event, rest) = rest.split_at_checked(parts.event_bytes)?;
    let (identity, content) = split_identity(&parts, rest)?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let label = match parts.flags & FLAG_LABEL {
        0 => None,
        _ => Some(Arc::new(Label::new(text(source)?, text(event)?)?)),
    };
    let message = Message {
        id: MessageId::from_bytes(array_at(head, 32)),
        timestamp_ms: u64_at(head, 24),
        session: SessionId::parse(text(session)?).ok()?,
        content: text(content)?.to_owned(),
        label,
        identity: identity.map(Arc::new),
    };
    Some(Whole {
        seq: u64_at(head, 8),
        epoch: Epoch(u64_at(head, 16)),
        message,
    })
}

/// The identity at the beginning of these bytes, and what follows it.
fn split_identity<'a>(parts: &Parts, bytes: &'a [u8]) -> Option<(Option<Identity>, &'a [u8])> {
    if parts.flags & FLAG_IDENTITY == 0 {
        return Some((None, bytes));
    }
    let mut rest = bytes;
    let mut prints = [None; 3];
    for (nth, print) in prints.iter_mut().enumerate() {
        if parts.identity & (1 << nth) != 0 {
            let (first, after) = rest.split_at_checked(FINGERPRINT_BYTES)?;
            *print = Some(array_at(first, 0));
            rest = after;
        }
    }
    let [id, tag, body] = prints;
    let identity = Identity {
        id,
        tag,
        body,
        window_s: parts.window_s,
    };
    Some((Some(identity), rest))
}

/// The field of `N` bytes at an offset, which must be a constant of the format.
fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[offset..offset + N]);
    field
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry::for_payload(100, 1).unwrap()
    }

    /// The head and the payload of a slot, with a changed head and a valid checksum.
    fn forged(change: impl Fn(&mut [u8])) -> ([u8; SLOT_HEAD_BYTES], Vec<u8>) {
        let session = SessionId::parse("room").unwrap();
        let id = MessageId::nil();
        let message = Message {
            id,
            timestamp_ms: 1,
            session,
            content: "hello".into(),
            label: None,
            identity: None,
        };
        let mut head = [0; SLOT_HEAD_BYTES];
        head[8..].copy_from_slice(&SlotHead::new(Epoch(1), 5, &message, &[]).bytes);
        change(&mut head);
        let payload = b"roomhello".to_vec();
        let crc = slot_crc(&head[8..], &[&payload]);
        head[..8].copy_from_slice(&done_word(crc).to_le_bytes());
        (head, payload)
    }

    #[test]
    fn a_slot_is_as_large_as_its_message_rounded_up_to_pages() {
        for (payload_bytes, slot_bytes) in [
            (0, 4096),
            (4032, 4096),
            (4033, 8192),
            (65_536, 69_632),
            (BODY_BYTES_MAX_LIMIT, 16_781_312),
        ] {
            let geometry = Geometry::for_payload(payload_bytes, 1).unwrap();
            assert_eq!(geometry.slot_bytes, slot_bytes);
            assert!(geometry.payload_bytes_max() >= payload_bytes);
            let mut guesses = Geometry::all_of_file_bytes(geometry.file_bytes());
            assert!(guesses.any(|guess| guess == geometry));
        }
        // A slot's largest message must fit into another file's slots.
        let largest = Geometry::for_payload(BODY_BYTES_MAX_LIMIT, 1).unwrap();
        let most_bytes = largest.payload_bytes_max();
        assert_eq!(Geometry::for_payload(most_bytes, 1), Some(largest));
        assert_eq!(Geometry::for_payload(most_bytes + 1, 1), None);
        assert_eq!(Geometry::for_payload(1, 0), None);
        assert_eq!(Geometry::for_payload(1, RING_SLOTS_MAX), None);
    }

    #[test]
    fn a_length_that_no_ring_has_yields_no_geometry() {
        let file_bytes = geometry().file_bytes();
        for other in [
            0,
            1,
            4095,
            4096,
            file_bytes - 1,
            file_bytes + 1,
            file_bytes + 101,
            u64::MAX,
        ] {
            assert_eq!(Geometry::all_of_file_bytes(other).next(), None, "{other}");
        }
    }

    #[test]
    fn a_slot_with_fields_out_of_range_is_damaged_despite_a_right_checksum() {
        let claim = |change: fn(&mut [u8])| slot_claim(&forged(change).0, 5, geometry());
        assert_eq!(claim(|_| {}), SlotClaim::Done { payload_bytes: 9 });
        let changes: [fn(&mut [u8]); 16] = [
            |head| head[8] = 6,
            |head| head[8..16].fill(0),
            |head| head[8..16].fill(0xff),
            |head| head[48..52].copy_from_slice(&4096_u32.to_le_bytes()),
            |head| head[48..52].fill(0xff),
            |head| head[52..54].copy_from_slice(&257_u16.to_le_bytes()),
            |head| head[54] = 0,
            |head| head[54] = 3,
            |head| head[54] = 5 | 8,
            |head| head[55] = 1,
            |head| head[56] = 1,
            |head| head[57] = 1,
            |head| head[58] = 1,
            |head| head[59] = 1,
            |head| head[60] = 1,
            |head| (head[54], head[56], head[57]) = (3, 65, 0),
        ];
        for (nth, change) in changes.into_iter().enumerate() {
            assert_eq!(claim(change), SlotClaim::Damaged, "change {nth}");
        }
        assert_eq!(
            claim(|head| head[52] = 0),
            SlotClaim::Damaged,
            "a flag and no session"
        );
    }

    #[test]
    fn a_slot_whose_text_is_not_utf_8_is_damaged() {
        let (mut head, mut payload) = forged(|_| {});
        assert_eq!(
            slot_message(&head, &payload).unwrap().message.content,
            "hello"
        );
        payload[8] = 0xff;
        assert!(
            slot_message(&head, &payload).is_none(),
            "the checksum is wrong"
        );
        let crc = slot_crc(&head[8..], &[&payload]);
        head[..8].copy_from_slice(&done_word(crc).to_le_bytes());
        assert!(slot_message(&head, &payload).is_none());
    }
}
