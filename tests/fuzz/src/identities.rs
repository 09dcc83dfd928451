//! Images of the file of identities: valid, cut, or patched with correct checksums, beside a ring that holds some
//! of their messages. Opening never panics. What is known is what a plain reader of the format finds, also after
//! further messages and further starts.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arbitrary::{Result, Unstructured};
use hookcast::identities::{Backing, First, Identities, Known, Syncer};
use hookcast::limits::{HISTORY_MESSAGES, IDENTITIES_MAX};
use hookcast::message::{Fingerprint, Identity, Message, MessageId};

// The file's format (`FORMAT.md`).
const HEADER_BYTES: usize = 4096;
const RECORD_BYTES: usize = 128;

const TIME_MS: u64 = 1_700_000_000_000;

pub fn run(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok((mut image, next_seq)) = first_image(&mut input) else {
        return;
    };
    let Ok(in_ring) = input.arbitrary::<u8>() else {
        return;
    };
    while !input.is_empty() && damage(&mut image, &mut input).is_ok() {}
    check(image, in_ring, next_seq);
}

/// The file that this many messages leave, or the input itself as an image; and the ring's next seq.
fn first_image(input: &mut Unstructured<'_>) -> Result<(Image, u64)> {
    let count = u64::from(input.arbitrary::<u8>()?);
    if count == 255 {
        let bytes = input.bytes(input.len().saturating_sub(1))?.to_vec();
        let len = bytes.len() as u64;
        return Ok((Image { bytes, len }, 300));
    }
    let disk = Disk::default();
    let mut identities = Identities::open(Box::new(disk.clone()), &[], 1);
    for nth in 1..=count {
        identities.note_kept(nth, &message(nth));
    }
    let image = disk.lock().take();
    Ok((image.unwrap_or_default(), count + 1))
}

fn damage(image: &mut Image, input: &mut Unstructured<'_>) -> Result<()> {
    let records = image.bytes.len().saturating_sub(HEADER_BYTES) / RECORD_BYTES;
    let place = usize::from(input.arbitrary::<u8>()?) % (records + 1);
    let record = HEADER_BYTES + place * RECORD_BYTES;
    match input.int_in_range(0..=6)? {
        0 => {
            image.len = u64::from(input.arbitrary::<u16>()?);
            image.bytes.resize(image.len as usize, 0);
        }
        1 => patch(image, input.int_in_range(0..=31)?, input)?,
        2 => patch(image, record + input.int_in_range(0..=RECORD_BYTES)?, input)?,
        3 => {
            patch(image, 8 + input.int_in_range(0..=15)?, input)?;
            if let Some(crc) = image.bytes.get(..24).map(crc32fast::hash) {
                put(image, 24, &crc.to_le_bytes());
            }
        }
        4 => {
            patch(
                image,
                record + 4 + input.int_in_range(0..=RECORD_BYTES)?,
                input,
            )?;
            seal(image, record);
        }
        5 => {
            // The same place in another round of the file, or far beyond any.
            let rounds = input.arbitrary::<u64>()?;
            let number = rounds.wrapping_mul(IDENTITIES_MAX as u64) + place as u64;
            put(image, record + 8, &number.to_le_bytes());
            seal(image, record);
        }
        _ => {
            let other = usize::from(input.arbitrary::<u8>()?) % (records + 1);
            let other = HEADER_BYTES + other * RECORD_BYTES;
            if record.max(other) + RECORD_BYTES <= image.bytes.len() {
                image
                    .bytes
                    .copy_within(record..record + RECORD_BYTES, other);
            }
        }
    }
    Ok(())
}

fn patch(image: &mut Image, offset: usize, input: &mut Unstructured<'_>) -> Result<()> {
    let count = input.int_in_range(1..=8)?;
    put(image, offset, input.bytes(count)?);
    Ok(())
}

fn put(image: &mut Image, offset: usize, bytes: &[u8]) {
    if let Some(place) = image.bytes.get_mut(offset..offset + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Sets the checksum of a record to that of its bytes.
fn seal(image: &mut Image, record: usize) {
    let sealed = image.bytes.get(record + 4..record + RECORD_BYTES);
    if let Some(crc) = sealed.map(crc32fast::hash) {
        put(image, record, &crc.to_le_bytes());
    }
}

fn check(image: Image, in_ring: u8, next_seq: u64) {
    let oldest = next_seq.saturating_sub(u64::from(in_ring).min(HISTORY_MESSAGES as u64));
    let ring: Vec<(u64, Message)> = (oldest.max(1)..next_seq)
        .map(|seq| (seq, message(seq)))
        .collect();
    let mut model = Model::read(&image, &ring, next_seq);
    let disk = Disk::default();
    *disk.lock() = Some(image);
    let mut identities = Identities::open(Box::new(disk.clone()), &ring, next_seq);
    model.compare(&identities, "after a start");

    // Further messages are known, now and after the next start.
    let next = message(next_seq);
    identities.note_kept(next_seq, &next);
    model.note(&next);
    model.compare(&identities, "after a message");
    let ring = [ring, vec![(next_seq, next)]].concat();
    if let Some(sync) = identities.due_sync(next_seq + 200) {
        identities.note_synced(sync.run());
    }
    identities.close();
    let identities = Identities::open(Box::new(disk), &ring, next_seq + 1);
    model.compare(&identities, "after the next start");
}

/// What is known, by a plain reader of the format.
#[derive(Default)]
struct Model {
    /// The oldest first.
    known: Vec<(First, Identity)>,
    /// The place of the newest with a fingerprint.
    newest: BTreeMap<Fingerprint, usize>,
}

impl Model {
    fn read(image: &Image, ring: &[(u64, Message)], next_seq: u64) -> Model {
        let mut records = BTreeMap::new();
        let has_header = image.bytes.get(..28).is_some_and(is_header);
        let whole = image.bytes.get(HEADER_BYTES..).unwrap_or_default();
        for (place, record) in whole
            .chunks_exact(RECORD_BYTES)
            .enumerate()
            .filter(|_| has_header)
        {
            if let Some((number, seq, first, identity)) = plainly(record)
                && number % IDENTITIES_MAX as u64 == place as u64
            {
                records.insert(number, (seq, first, identity));
            }
        }
        let first_seq = next_seq.saturating_sub(HISTORY_MESSAGES as u64);
        let is_true =
            |seq: u64, id| seq < first_seq || ring.iter().any(|(_, known)| known.id == id);
        let mut model = Model::default();
        for (seq, first, identity) in records.into_values() {
            if is_true(seq, first.id) {
                model.push(first, identity);
            }
        }
        let known: Vec<MessageId> = model.known.iter().map(|(first, _)| first.id).collect();
        for (_, message) in ring
            .iter()
            .filter(|(_, message)| !known.contains(&message.id))
        {
            model.note(message);
        }
        model
    }

    fn note(&mut self, message: &Message) {
        if let Some(identity) = &message.identity {
            let first = First {
                id: message.id,
                timestamp_ms: message.timestamp_ms,
            };
            self.push(first, (**identity).clone());
        }
    }

    fn push(&mut self, first: First, identity: Identity) {
        for print in [identity.id, identity.tag].into_iter().flatten() {
            self.newest.insert(print, self.known.len());
        }
        self.known.push((first, identity));
    }

    /// The newest of these fingerprints decides, even if its time is over.
    fn find(&self, identity: &Identity, now_ms: u64) -> Known {
        let by = |print: Option<Fingerprint>| {
            let (first, found) = &self.known[*self.newest.get(&print?)?];
            let window_ms = u64::from(found.window_s) * 1000;
            (now_ms < first.timestamp_ms.saturating_add(window_ms)).then_some((*first, found))
        };
        match (by(identity.id), by(identity.tag)) {
            (Some((_, found)), _)
                if found.body.is_some()
                    && identity.body.is_some()
                    && found.body != identity.body =>
            {
                Known::KeyReused
            }
            (Some((first, _)), _) | (None, Some((first, _))) => Known::Repeat(first),
            (None, None) => Known::Nothing,
        }
    }

    fn compare(&self, identities: &Identities, when: &str) {
        let own: Vec<Identity> = (1..=32)
            .filter_map(|nth| Some((*message(nth).identity?).clone()))
            .collect();
        for identity in self.known.iter().map(|(_, identity)| identity).chain(&own) {
            for now_ms in [0, TIME_MS + 100_000, u64::MAX] {
                let found = identities.find(identity, now_ms);
                assert_eq!(found, self.find(identity, now_ms), "{when}, at {now_ms}");
            }
        }
    }
}

fn is_header(bytes: &[u8]) -> bool {
    bytes[..24] == *b"HOOKIDEN\x01\0\0\0\0\0\x01\0\x80\0\0\0\0\0\0\0"
        && bytes[24..] == crc32fast::hash(&bytes[..24]).to_le_bytes()
}

/// The number, the seq, the message and the identity of a record.
fn plainly(record: &[u8]) -> Option<(u64, u64, First, Identity)> {
    let number =
        |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    let print = |at: usize| -> [u8; 16] { record[at..at + 16].try_into().expect("sixteen bytes") };
    let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"));
    let parts = word(4);
    let is_whole =
        word(0) == crc32fast::hash(&record[4..]) && parts & !7 == 8 && number(8) < u64::MAX / 2;
    let of_bit = |bit: u32, at: usize| (parts & bit != 0).then(|| print(at));
    is_whole.then(|| {
        let first = First {
            id: MessageId::from_bytes(print(32)),
            timestamp_ms: number(24),
        };
        let identity = Identity {
            id: of_bit(1, 48),
            tag: of_bit(2, 64),
            body: of_bit(4, 80),
            window_s: word(96),
        };
        (number(8), number(16), first, identity)
    })
}

/// The `nth` message. Some have no identity, and some share one with an earlier message.
fn message(nth: u64) -> Message {
    let print = |kind: u8, number: u64| {
        let mut print = [kind; 16];
        print[..8].copy_from_slice(&number.to_be_bytes());
        Some(print)
    };
    let identity = Identity {
        id: print(1, nth / 2).filter(|_| nth % 3 != 1),
        tag: print(2, nth).filter(|_| nth % 3 != 2),
        body: print(3, nth).filter(|_| nth.is_multiple_of(5)),
        window_s: (nth % 4) as u32 * 50,
    };
    Message {
        id: MessageId::from_u64_pair(0x0f0e_0d0c_0b0a_0908, nth),
        timestamp_ms: TIME_MS + nth,
        session: None,
        content: format!("message {nth}"),
        label: None,
        identity: (!nth.is_multiple_of(7)).then(|| Arc::new(identity)),
    }
}

/// A sparse file: zeros follow the bytes.
#[derive(Debug, Clone, Default)]
struct Image {
    bytes: Vec<u8>,
    len: u64,
}

/// A disk with one file; clones are the same disk.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Option<Image>>>);

impl Disk {
    fn lock(&self) -> MutexGuard<'_, Option<Image>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backing for Disk {
    fn open(&mut self) -> io::Result<Option<u64>> {
        Ok(self.lock().as_ref().map(|image| image.len))
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let file = self.lock();
        let image = file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if offset + bytes.len() as u64 > image.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let there = image.bytes.get(offset as usize..).unwrap_or_default();
        let count = there.len().min(bytes.len());
        bytes[..count].copy_from_slice(&there[..count]);
        bytes[count..].fill(0);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.lock();
        let image = file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let end = offset as usize + bytes.len();
        if image.bytes.len() < end {
            image.bytes.resize(end, 0);
        }
        image.bytes[offset as usize..end].copy_from_slice(bytes);
        image.len = image.len.max(end as u64);
        Ok(())
    }

    fn replace(&mut self, len: u64, parts: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let bytes = parts.flatten().collect();
        *self.lock() = Some(Image { bytes, len });
        Ok(())
    }

    fn syncer(&self) -> Option<Syncer> {
        Some(Box::new(|| Ok(())))
    }

    fn close(&mut self) {}
}
