//! What a ring file still says: finds every message that is provably whole, and decides whether the
//! file can go on being used or must be written anew.
//!
//! Called by the ring when it opens, and when it reads its history back. Only reads; never panics
//! on any image, and never lets a message pass whose checksum does not hold.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::layout::{
    BootId, Geometry, HEADER_BYTES, Header, HeaderFault, SEQ_FIRST, SLOT_HEAD_BYTES, STATE_BYTES,
    STATE_OFFSET, SlotClaim, State, Whole, slot_claim, slot_message,
};
use super::payload_bytes;
use super::storage::{Aside, Image};
use crate::limits::HISTORY_MESSAGES;
use crate::message::{Epoch, Message};

/// What [`super::Ring::open`] found.
#[derive(Debug)]
pub struct Recovered {
    /// The history: each message with its seq, oldest first. The seqs are contiguous, and the last
    /// is one less than the ring's next.
    pub messages: Vec<(u64, Message)>,
    /// How the file was found and what was done about it.
    pub report: Report,
}

/// How a ring file was found and what was done about it; displays as one line for the log.
#[derive(Debug)]
pub struct Report {
    /// In what state it was.
    pub found: Found,
    /// How many messages are left.
    pub messages: usize,
    /// How many messages may have been lost at most: one for every slot in the way that is damaged.
    /// `None` if nobody can tell, as when the machine went down and left a damaged file. What
    /// [`Found::Rebooted`] may have cost is not counted.
    pub lost_max: Option<u64>,
    /// Where the damaged file has been moved to.
    pub moved_to: Option<PathBuf>,
}

/// In what state a ring file was found.
#[derive(Debug)]
pub enum Found {
    /// There was none, or an empty file: it has been made.
    Nothing,
    /// It was whole, and is being used as it is.
    Intact,
    /// It was whole, and has been rewritten with larger slots, under the same epoch.
    Grown,
    /// It was whole, but the machine went down with the file open, so the newest messages may never
    /// have reached the disk: rewritten under a new epoch.
    Rebooted,
    /// It was damaged: what was whole has been written to a new file, under a new epoch.
    Damaged(Damage),
}

impl Report {
    /// Whether somebody should look into it: messages are, or may be, lost.
    pub fn is_warning(&self) -> bool {
        matches!(self.found, Found::Rebooted | Found::Damaged(_))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = format_args!("{} of {HISTORY_MESSAGES} messages", self.messages);
        match &self.found {
            Found::Nothing => write!(f, "ring created"),
            Found::Intact => write!(f, "ring intact, {kept}"),
            Found::Grown => write!(f, "ring rewritten for larger messages, {kept}"),
            Found::Rebooted => write!(
                f,
                "ring was in use when the machine went down, {kept}: newer ones may be lost; event \
                 ids begin a new epoch"
            ),
            Found::Damaged(damage) => {
                write!(f, "ring damaged ({damage}), {kept} kept, ")?;
                match self.lost_max {
                    Some(0) => write!(f, "none known to be lost")?,
                    Some(lost) => write!(f, "up to {lost} lost")?,
                    None => write!(f, "what else was in it is unknown")?,
                }
                write!(f, "; event ids begin a new epoch")?;
                match &self.moved_to {
                    Some(path) => write!(f, "; the damaged file is kept as {}", path.display()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What is wrong with a ring file.
#[derive(Debug)]
pub enum Damage {
    /// It does not begin as a ring does.
    NotARing,
    /// It is of a version that this program does not know.
    Version(u32),
    /// Its header is damaged.
    Header,
    /// It is not as long as its header says.
    Length {
        /// Its length in bytes.
        found: u64,
        /// What its header says.
        expected: u64,
    },
    /// Slots in it are damaged.
    Slots,
    /// The disk cannot read parts of it.
    Unreadable(io::Error),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::NotARing => write!(f, "not a ring file"),
            Damage::Version(version) => write!(f, "format version {version} is not known"),
            Damage::Header => write!(f, "header checksum does not hold"),
            Damage::Length { found, expected } => {
                write!(f, "{found} bytes long instead of {expected}")
            }
            Damage::Slots => write!(f, "slot checksums do not hold"),
            Damage::Unreadable(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

/// What is to be done to have a ring in use.
pub(super) struct Plan {
    pub step: Step,
    pub found: Found,
    pub geometry: Geometry,
    /// The epoch to go on with; `None`: a new one.
    pub epoch: Option<Epoch>,
    pub next_seq: u64,
    /// The history, with contiguous seqs that end at `next_seq - 1`.
    pub messages: Vec<(u64, Message)>,
    pub lost_max: Option<u64>,
}

/// Whether a file can go on being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It can.
    Keep,
    /// It can, once every page of it is written to disk again, whatever the kernel says of it.
    Renew,
    /// It is to be written anew.
    Rewrite(Aside),
}

impl Plan {
    /// To make a new ring.
    pub fn create(geometry: Geometry) -> Plan {
        Plan {
            step: Step::Rewrite(Aside::Drop),
            found: Found::Nothing,
            geometry,
            epoch: None,
            next_seq: SEQ_FIRST,
            messages: Vec::new(),
            lost_max: Some(0),
        }
    }
}

/// Everything that an image says.
pub(super) struct Survey {
    /// How large its slots are, as far as that can be known.
    pub geometry: Option<Geometry>,
    /// The epoch in its header; `None` if the header is unusable.
    pub epoch: Option<Epoch>,
    pub state: State,
    /// The newest whole messages, oldest first. If there is no damage their seqs are contiguous,
    /// and the last is `next_seq - 1`.
    pub messages: Vec<(u64, Message)>,
    /// One more than the newest seq that was given away, as far as that can be known.
    pub next_seq: u64,
    pub lost_max: Option<u64>,
    pub damage: Option<Damage>,
}

impl Survey {
    /// Reads an image. Whatever cannot be read counts as damaged.
    pub fn of(image: &dyn Image) -> Survey {
        let (header, header_damage) = match read_header(image) {
            Ok(header) => (Some(header), None),
            Err(damage) => (None, Some(damage)),
        };
        let slots = match header {
            Some(header) => Some(Slots::read(image, header.geometry, Some(header.epoch))),
            None => guess_slots(image),
        };
        let Some(mut slots) = slots else {
            return Survey::of_nothing(read_state(image), header_damage);
        };
        let tally = Tally::of(&slots, header.map(|header| header.first_seq));
        Survey {
            geometry: Some(slots.geometry),
            epoch: header.map(|header| header.epoch),
            state: read_state(image),
            next_seq: tally.next_seq,
            lost_max: Some(tally.lost),
            // A wrong length, or a disk that cannot be read, explains what else is wrong.
            damage: header_damage
                .or_else(|| length_damage(image, header))
                .or_else(|| slots.error.take().map(Damage::Unreadable))
                .or_else(|| tally.damaged.then_some(Damage::Slots)),
            messages: slots.into_messages(),
        }
    }

    /// What an image says whose slots cannot even be told from each other.
    fn of_nothing(state: State, damage: Option<Damage>) -> Survey {
        Survey {
            geometry: None,
            epoch: None,
            state,
            messages: Vec::new(),
            next_seq: SEQ_FIRST,
            lost_max: None,
            damage,
        }
    }

    /// Decides what is to be done, given the geometry that the configuration asks for.
    pub fn plan(mut self, wanted: Geometry, boot_id: &BootId) -> Plan {
        let found = self.verdict(wanted, boot_id);
        let (step, keeps_epoch) = match &found {
            Found::Intact if self.is_to_be_renewed(wanted) => (Step::Renew, true),
            Found::Intact => (Step::Keep, true),
            Found::Grown => (Step::Rewrite(Aside::Drop), true),
            Found::Rebooted | Found::Nothing => (Step::Rewrite(Aside::Drop), false),
            Found::Damaged(_) => (Step::Rewrite(Aside::Keep), false),
        };
        if !keeps_epoch {
            self.renumber();
        }
        let geometry = match &found {
            Found::Damaged(_) => self.geometry_for_salvaged(wanted),
            _ => self.geometry.map_or(wanted, |found| found.join(wanted)),
        };
        Plan {
            step,
            found,
            geometry,
            epoch: self.epoch.filter(|_| keeps_epoch),
            next_seq: self.next_seq,
            messages: self.messages,
            lost_max: self.lost_max,
        }
    }

    /// How large a file takes what is left of a damaged one. That one's own sizes do not count: nobody
    /// vouches for them, and they may ask for gigabytes.
    fn geometry_for_salvaged(&self, wanted: Geometry) -> Geometry {
        let largest = self.messages.iter().map(|(_, found)| payload_bytes(found));
        largest
            .max()
            .and_then(|largest| Geometry::for_payload(largest, 1))
            .map_or(wanted, |needed| needed.join(wanted))
    }

    fn verdict(&mut self, wanted: Geometry, boot_id: &BootId) -> Found {
        if let Some(damage) = self.damage.take() {
            if self.may_have_forgotten(boot_id) {
                // Slots that look untouched may have held messages that never reached the disk.
                self.lost_max = None;
            }
            return Found::Damaged(damage);
        }
        if self.may_have_forgotten(boot_id) {
            Found::Rebooted
        } else if self.geometry.is_some_and(|found| found.covers(wanted)) {
            Found::Intact
        } else {
            Found::Grown
        }
    }

    /// Whether the file was in use when the machine went down, for all that it says.
    fn may_have_forgotten(&self, boot_id: &BootId) -> bool {
        match self.state {
            State::Shut => false,
            State::Live(last) => last != *boot_id,
            State::Unknown => true,
        }
    }

    /// Where messages wait for the disk, all that is shown has to be there. Of a process that did not
    /// close the ring nobody knows whether a sync had failed: then the kernel holds for clean what
    /// never reached the disk, and no further sync would write it (fsync(2)).
    fn is_to_be_renewed(&self, wanted: Geometry) -> bool {
        wanted.has_room_for_commits() && self.state != State::Shut
    }

    /// Gives the messages contiguous seqs that end where the old ones did, so that seqs never run
    /// backwards, not even from one epoch to the next.
    fn renumber(&mut self) {
        debug_assert!(self.next_seq > self.messages.len() as u64);
        let first_seq = self.next_seq - self.messages.len() as u64;
        for (seq, (numbered, _)) in (first_seq..).zip(&mut self.messages) {
            *numbered = seq;
        }
    }
}

fn read_header(image: &dyn Image) -> Result<Header, Damage> {
    let mut bytes = [0; HEADER_BYTES];
    match image.read(0, &mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Damage::NotARing),
        Err(error) => return Err(Damage::Unreadable(error)),
    }
    Header::decode(&bytes).map_err(|fault| match fault {
        HeaderFault::NotARing => Damage::NotARing,
        HeaderFault::Version(version) => Damage::Version(version),
        HeaderFault::Damaged => Damage::Header,
    })
}

fn read_state(image: &dyn Image) -> State {
    let mut bytes = [0; STATE_BYTES];
    match image.read(STATE_OFFSET, &mut bytes) {
        Ok(()) => State::decode(&bytes),
        Err(_) => State::Unknown,
    }
}

fn length_damage(image: &dyn Image, header: Option<Header>) -> Option<Damage> {
    let expected = header?.geometry.file_bytes();
    match image.len() {
        Ok(found) if found == expected => None,
        Ok(found) => Some(Damage::Length { found, expected }),
        Err(error) => Some(Damage::Unreadable(error)),
    }
}

/// Without a usable header, the length still tells how many slots there can be and how large they
/// are: every slot proves itself and its place, so a wrong guess finds nothing.
fn guess_slots(image: &dyn Image) -> Option<Slots> {
    Geometry::all_of_file_bytes(image.len().ok()?)
        .map(|geometry| Slots::read(image, geometry, None))
        .max_by_key(|slots| slots.whole.len())
}

/// All that is in the slots.
struct Slots {
    geometry: Geometry,
    /// Whole messages, by seq once they are all read.
    whole: Vec<Whole>,
    /// Open slots: index and low bits of the seq to come.
    open: Vec<(usize, u32)>,
    /// Those that have never been used.
    free: Vec<usize>,
    /// Those that are none of these.
    damaged: Vec<usize>,
    /// The first error of the disk.
    error: Option<io::Error>,
}

impl Slots {
    /// Reads all slots; `epoch` is that of the header, if it is known.
    fn read(image: &dyn Image, geometry: Geometry, epoch: Option<Epoch>) -> Slots {
        let mut slots = Slots {
            geometry,
            whole: Vec::new(),
            open: Vec::new(),
            free: Vec::new(),
            damaged: Vec::new(),
            error: None,
        };
        let mut payload = Vec::new();
        for index in 0..geometry.slots() {
            match read_slot(image, geometry, index, &mut payload) {
                Ok(Slot::Whole(whole)) => slots.whole.push(whole),
                Ok(Slot::Open(low)) => slots.open.push((index, low)),
                Ok(Slot::Free) => slots.free.push(index),
                Ok(Slot::Damaged) => slots.damaged.push(index),
                Err(error) => {
                    slots.damaged.push(index);
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        slots.error.get_or_insert(error);
                    }
                }
            }
        }
        slots.whole.sort_unstable_by_key(|whole| whole.seq);
        slots.keep_one_epoch(epoch);
        slots
    }

    /// Drops slots of another epoch than the file's, which can only be some other file's remains
    /// on the same disk. Where the header does not tell the epoch, most slots do.
    fn keep_one_epoch(&mut self, epoch: Option<Epoch>) {
        let count = |epoch: Epoch| {
            self.whole
                .iter()
                .filter(|whole| whole.epoch == epoch)
                .count()
        };
        let epochs = self.whole.iter().map(|whole| whole.epoch);
        let Some(epoch) = epoch.or_else(|| epochs.max_by_key(|epoch| count(*epoch))) else {
            return;
        };
        for foreign in self.whole.extract_if(.., |whole| whole.epoch != epoch) {
            self.damaged.push(self.geometry.slot_index(foreign.seq));
        }
    }

    fn has(&self, seq: u64) -> bool {
        self.whole
            .binary_search_by_key(&seq, |whole| whole.seq)
            .is_ok()
    }

    fn into_messages(self) -> Vec<(u64, Message)> {
        // There are more slots than the history has messages: the oldest are on their way out.
        let surplus = self.whole.len().saturating_sub(HISTORY_MESSAGES);
        self.whole
            .into_iter()
            .skip(surplus)
            .map(|whole| (whole.seq, whole.message))
            .collect()
    }
}

enum Slot {
    Whole(Whole),
    Open(u32),
    Free,
    Damaged,
}

fn read_slot(
    image: &dyn Image,
    geometry: Geometry,
    index: usize,
    payload: &mut Vec<u8>,
) -> io::Result<Slot> {
    let offset = geometry.slot_offset(index as u64);
    let mut head = [0; SLOT_HEAD_BYTES];
    image.read(offset, &mut head)?;
    match slot_claim(&head, index, geometry) {
        SlotClaim::Free => Ok(Slot::Free),
        SlotClaim::Open(low) => Ok(Slot::Open(low)),
        SlotClaim::Damaged => Ok(Slot::Damaged),
        SlotClaim::Done { payload_bytes } => {
            payload.resize(payload_bytes, 0);
            image.read(offset + SLOT_HEAD_BYTES as u64, payload)?;
            Ok(slot_message(&head, payload).map_or(Slot::Damaged, Slot::Whole))
        }
    }
}

/// What the slots amount to.
struct Tally {
    next_seq: u64,
    lost: u64,
    damaged: bool,
}

impl Tally {
    /// `first_seq` is what the header says; without it the oldest whole message has to do.
    fn of(slots: &Slots, first_seq: Option<u64>) -> Tally {
        let oldest = slots.whole.first().map(|whole| whole.seq);
        let first_seq = first_seq.or(oldest).unwrap_or(SEQ_FIRST);
        let after_newest = slots
            .whole
            .last()
            .map_or(first_seq, |newest| newest.seq + 1);
        let next_seq = after_newest + lost_after(slots, after_newest);
        let missing = |count: usize| {
            let oldest = next_seq.saturating_sub(count as u64).max(first_seq);
            (oldest..next_seq).filter(|seq| !slots.has(*seq)).count() as u64
        };
        let lost = missing(HISTORY_MESSAGES);
        // Each slot but the next has the message that was last written to it, or was never used;
        // so, where this holds, none is damaged.
        let others = slots.geometry.slots() - 1;
        let used = next_seq.saturating_sub(first_seq).min(others as u64);
        let unused = others as u64 - used;
        let next_is_free = slots.free.contains(&slots.geometry.slot_index(next_seq));
        let sound = missing(others) == 0
            && next_is_fit(slots, first_seq, next_seq)
            && slots.free.len() as u64 == unused + u64::from(next_is_free);
        Tally {
            next_seq,
            lost,
            damaged: !sound,
        }
    }
}

/// How many messages after the newest whole one there may have been: any damaged slot in the way
/// may have held one, and a slot that is open for a later message proves that those before it were
/// there.
fn lost_after(slots: &Slots, after_newest: u64) -> u64 {
    let slots_count = slots.geometry.slots() as u64;
    let seqs = after_newest..after_newest + slots_count;
    let damaged = seqs
        .take_while(|seq| slots.damaged.contains(&slots.geometry.slot_index(*seq)))
        .count() as u64;
    let open = slots
        .open
        .iter()
        .map(|(_, low)| u64::from(low.wrapping_sub(after_newest as u32)));
    let ahead = open.filter(|ahead| *ahead < slots_count).max().unwrap_or(0);
    damaged.max(ahead)
}

/// Whether the slot of the next message is in one of the states that a killed process leaves: open
/// for it, never used, or still the message that left the history last.
fn next_is_fit(slots: &Slots, first_seq: u64, next_seq: u64) -> bool {
    let index = slots.geometry.slot_index(next_seq);
    let is_there = |seq: u64| seq >= first_seq && slots.has(seq);
    slots
        .open
        .iter()
        .all(|open| *open == (index, next_seq as u32))
        && (slots.open.len() == 1
            || slots.free.contains(&index)
            || next_seq
                .checked_sub(slots.geometry.slots() as u64)
                .is_some_and(is_there))
}
