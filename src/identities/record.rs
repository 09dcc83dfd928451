//! The bytes of the file of identities: the position, encoding and check of every field.
//!
//! `FORMAT.md` beside this file describes the same format. Called by the parent module. Never panics on
//! any input.

use std::fmt;
use std::io;

use super::file::Backing;
use super::table::Record;
use super::{FILE_BYTES, First};
use crate::limits::IDENTITIES_MAX;
use crate::message::{Fingerprint, Identity, MessageId};

const MAGIC: [u8; 8] = *b"HOOKIDEN";
const VERSION: u32 = 1;

/// The header: a page of its own, so that no record shares a sector with it.
pub(super) const HEADER_BYTES: usize = 4096;

/// The used part of the header.
const HEADER_USED_BYTES: usize = 28;

/// A record: four to a sector, so that a power failure tears no record.
pub(super) const RECORD_BYTES: usize = 128;

/// Bytes of one read or write of many records.
const PART_RECORDS: usize = 8192;

const EMPTY: [u8; RECORD_BYTES] = [0; RECORD_BYTES];

/// Marks a record that is not empty, beside the bits of its fingerprints.
const IS_RECORD: u32 = 8;
const PARTS_KNOWN: u32 = 7;

/// What a file holds.
pub(super) struct Found {
    /// Whole records with their numbers, in order.
    pub records: Vec<(u64, Record)>,
    pub damage: Option<Damage>,
}

/// How a file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Damage {
    NotIdentities,
    Version(u32),
    Length(u64),
    Records(usize),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::NotIdentities => write!(f, "it is none"),
            Damage::Version(version) => write!(f, "format version {version} is not known"),
            Damage::Length(len) => write!(f, "{len} bytes long instead of {FILE_BYTES}"),
            Damage::Records(count) => write!(f, "wrong checksums of {count} records"),
        }
    }
}

/// The place of the record with this number.
pub(super) fn place(number: u64) -> usize {
    (number % IDENTITIES_MAX as u64) as usize
}

/// Its offset in the file.
pub(super) fn offset(number: u64) -> u64 {
    (HEADER_BYTES + place(number) * RECORD_BYTES) as u64
}

fn header() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(IDENTITIES_MAX as u32).to_le_bytes());
    bytes[16..20].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Encodes a record.
pub(super) fn encode(number: u64, record: &Record) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    let identity = &record.identity;
    let mut parts = IS_RECORD;
    for (nth, print) in [identity.id, identity.tag, identity.body]
        .iter()
        .enumerate()
    {
        if let Some(print) = print {
            parts |= 1 << nth;
            bytes[48 + 16 * nth..][..16].copy_from_slice(print);
        }
    }
    bytes[4..8].copy_from_slice(&parts.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.seq.to_le_bytes());
    bytes[24..32].copy_from_slice(&record.first.timestamp_ms.to_le_bytes());
    bytes[32..48].copy_from_slice(record.first.id.as_bytes());
    bytes[96..100].copy_from_slice(&identity.window_s.to_le_bytes());
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Decodes the record at a place. `None` if it is damaged.
fn decode(bytes: &[u8], place_found: usize) -> Option<(u64, Record)> {
    let parts = u32::from_le_bytes(field(bytes, 4)?);
    let number = u64::from_le_bytes(field(bytes, 8)?);
    let is_whole = u32::from_le_bytes(field(bytes, 0)?) == crc32fast::hash(&bytes[4..])
        && parts & !PARTS_KNOWN == IS_RECORD
        && number < u64::MAX / 2
        && place(number) == place_found;
    if !is_whole {
        return None;
    }
    let print = |nth: u32| -> Option<Fingerprint> {
        (parts >> nth & 1 == 1).then_some(field(bytes, 48 + 16 * nth as usize)?)
    };
    let record = Record {
        seq: u64::from_le_bytes(field(bytes, 16)?),
        first: First {
            id: MessageId::from_bytes(field(bytes, 32)?),
            timestamp_ms: u64::from_le_bytes(field(bytes, 24)?),
        },
        identity: Identity {
            id: print(0),
            tag: print(1),
            body: print(2),
            window_s: u32::from_le_bytes(field(bytes, 96)?),
        },
    };
    Some((number, record))
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Reads a file of this length. Bytes beyond its end count as empty records.
pub(super) fn read(backing: &dyn Backing, len: u64) -> io::Result<Found> {
    let mut found = Found {
        records: Vec::new(),
        damage: None,
    };
    let mut head = [0; HEADER_USED_BYTES];
    if len < HEADER_BYTES as u64 {
        found.damage = Some(Damage::Length(len));
        return Ok(found);
    }
    backing.read(0, &mut head)?;
    if head[..] != header()[..HEADER_USED_BYTES] {
        found.damage = Some(head_damage(&head));
        return Ok(found);
    }
    let mut damaged = 0;
    let whole = (len - HEADER_BYTES as u64) / RECORD_BYTES as u64;
    let whole = IDENTITIES_MAX.min(usize::try_from(whole).unwrap_or(IDENTITIES_MAX));
    let mut bytes = vec![0; PART_RECORDS * RECORD_BYTES];
    for first in (0..whole).step_by(PART_RECORDS) {
        let count = PART_RECORDS.min(whole - first);
        let part = &mut bytes[..count * RECORD_BYTES];
        backing.read((HEADER_BYTES + first * RECORD_BYTES) as u64, part)?;
        for (nth, record) in part.chunks_exact(RECORD_BYTES).enumerate() {
            if *record == EMPTY {
                continue;
            }
            match decode(record, first + nth) {
                Some(record) => found.records.push(record),
                None => damaged += 1,
            }
        }
    }
    found.records.sort_unstable_by_key(|(number, _)| *number);
    if len != FILE_BYTES {
        found.damage = Some(Damage::Length(len));
    } else if damaged > 0 {
        found.damage = Some(Damage::Records(damaged));
    }
    Ok(found)
}

fn head_damage(head: &[u8; HEADER_USED_BYTES]) -> Damage {
    let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    let crc = crc32fast::hash(&head[..24]).to_le_bytes();
    if head[..8] == MAGIC && head[24..28] == crc && version != VERSION {
        Damage::Version(version)
    } else {
        Damage::NotIdentities
    }
}

/// The bytes of a file in parts. `at_place` returns the record of a place, with its number.
pub(super) fn parts<'a>(
    at_place: impl Fn(usize) -> Option<(u64, &'a Record)>,
) -> impl Iterator<Item = Vec<u8>> {
    let last = (0..IDENTITIES_MAX).rev().find(|at| at_place(*at).is_some());
    let end = last.map_or(0, |last| last + 1);
    let records = (0..end).step_by(PART_RECORDS).map(move |first| {
        let mut part = Vec::with_capacity(PART_RECORDS.min(end - first) * RECORD_BYTES);
        for place in first..end.min(first + PART_RECORDS) {
            match at_place(place) {
                Some((number, record)) => part.extend_from_slice(&encode(number, record)),
                None => part.extend_from_slice(&[0; RECORD_BYTES]),
            }
        }
        part
    });
    std::iter::once(header()).chain(records)
}
