//! Recovery: finds every message of a ring file whose checksum is right, and decides whether the file
//! can be used or must be written anew.
//!
//! Called by the ring when it is opened, and when it reads its history back. Never writes, never
//! panics on any image, never returns a message whose checksum is wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::layout::{
    self, BootId, EARLIER_BYTES, EARLIER_OFFSET, EarlierEpoch, Geometry, HEADER_BYTES, Header,
    HeaderFault, SEQ_FIRST, SLOT_HEAD_BYTES, STATE_BYTES, STATE_OFFSET, SlotClaim, State, Whole,
    slot_claim, slot_message,
};
use super::storage::{Aside, Image};
use crate::limits::HISTORY_MESSAGES;
use crate::message::{Epoch, Message};

/// What [`super::Ring::open`] found.
#[derive(Debug)]
pub struct Recovered {
    /// The history: each message with its seq, oldest first. The seqs are contiguous, and the last
    /// is one less than the ring's next.
    pub messages: Vec<(u64, Message)>,
    /// The state of the file, and what was done about it.
    pub report: Report,
}

/// The state of a ring file, and what was done about it; displays as one line for the log.
#[derive(Debug)]
pub struct Report {
    /// The state of the file.
    pub found: Found,
    /// How many messages were recovered.
    pub messages: usize,
    /// Upper bound of the lost messages: one for each damaged slot of the history. `None` if it is
    /// unknown, as when the machine went down and left a damaged file. Losses of [`Found::Rebooted`]
    /// are not counted.
    pub lost_max: Option<u64>,
    /// Where the damaged file was kept.
    pub moved_to: Option<PathBuf>,
}

/// The state in which a ring file was found.
#[derive(Debug)]
pub enum Found {
    /// There was no file, or an empty one: a ring was made.
    Nothing,
    /// The file was whole, and is used unchanged.
    Intact,
    /// The file was whole, and was rewritten with larger or more slots, under the same epoch.
    Grown,
    /// The file was whole, but was open when the machine went down, so the newest messages may be
    /// missing. It was rewritten under a new epoch.
    Rebooted,
    /// The file was damaged: its whole messages were written to a new file, under a new epoch.
    Damaged(Damage),
}

impl Report {
    /// Whether messages are lost, or may be: the report is logged as a warning.
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

/// How a ring file is damaged.
#[derive(Debug)]
pub enum Damage {
    /// The magic is missing.
    NotARing,
    /// The version is unknown to this program.
    Version(u32),
    /// The header is damaged.
    Header,
    /// The length is not the one in the header.
    Length {
        /// The file's length in bytes.
        found: u64,
        /// The length in the header.
        expected: u64,
    },
    /// Slots are damaged.
    Slots,
    /// The disk cannot read parts of the file.
    Unreadable(io::Error),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::NotARing => write!(f, "not a ring file"),
            Damage::Version(version) => write!(f, "format version {version} is not known"),
            Damage::Header => write!(f, "wrong checksum of the header"),
            Damage::Length { found, expected } => {
                write!(f, "{found} bytes long instead of {expected}")
            }
            Damage::Slots => write!(f, "wrong checksums of slots"),
            Damage::Unreadable(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

/// What has to be done to use the ring.
pub(super) struct Plan {
    pub step: Step,
    pub found: Found,
    pub geometry: Geometry,
    /// The epoch to continue with; `None`: a new one.
    pub epoch: Option<Epoch>,
    /// The epoch is one that other nodes have, by a bus.
    pub is_shared: bool,
    /// The epochs before it, if it is shared.
    pub earlier: Vec<EarlierEpoch>,
    pub next_seq: u64,
    /// The history, with contiguous seqs that end at `next_seq - 1`.
    pub messages: Vec<(u64, Message)>,
    pub lost_max: Option<u64>,
}

/// What has to be done with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Use it as it is.
    Keep,
    /// Write every page of it again, also those that the kernel regards as clean, and use it.
    Renew,
    /// Replace it by a new file.
    Rewrite(Aside),
}

impl Plan {
    /// The plan that makes a new ring.
    pub fn create(geometry: Geometry) -> Plan {
        Plan {
            step: Step::Rewrite(Aside::Drop),
            found: Found::Nothing,
            geometry,
            epoch: None,
            is_shared: false,
            earlier: Vec::new(),
            next_seq: SEQ_FIRST,
            messages: Vec::new(),
            lost_max: Some(0),
        }
    }
}

/// What was read from an image.
pub(super) struct Survey {
    /// The number and size of its slots, if known.
    pub geometry: Option<Geometry>,
    /// The epoch in its header; `None` if the header is unusable.
    pub epoch: Option<Epoch>,
    /// See [`Header::is_shared`].
    pub is_shared: bool,
    /// The epochs before the header's, if it is shared.
    pub earlier: Vec<EarlierEpoch>,
    pub state: State,
    /// The newest whole messages, oldest first. If there is no damage their seqs are contiguous,
    /// and the last is `next_seq - 1`.
    pub messages: Vec<(u64, Message)>,
    /// One more than the newest seq that may have been given out.
    pub next_seq: u64,
    pub lost_max: Option<u64>,
    pub damage: Option<Damage>,
}

impl Survey {
    /// Reads an image. Bytes that cannot be read count as damaged.
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
            is_shared: header.is_some_and(|header| header.is_shared),
            earlier: match header {
                Some(header) if header.is_shared => read_earlier(image),
                _ => Vec::new(),
            },
            state: read_state(image),
            next_seq: tally.next_seq,
            lost_max: Some(tally.lost),
            // The first that applies is reported: a wrong length or a read error causes the others.
            damage: header_damage
                .or_else(|| length_damage(image, header))
                .or_else(|| slots.error.take().map(Damage::Unreadable))
                .or_else(|| tally.damaged.then_some(Damage::Slots)),
            messages: slots.into_messages(),
        }
    }

    /// The survey of an image whose geometry is unknown.
    fn of_nothing(state: State, damage: Option<Damage>) -> Survey {
        Survey {
            geometry: None,
            epoch: None,
            is_shared: false,
            earlier: Vec::new(),
            state,
            messages: Vec::new(),
            next_seq: SEQ_FIRST,
            lost_max: None,
            damage,
        }
    }

    /// Decides what has to be done, given the geometry that the configuration needs.
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
            is_shared: self.is_shared && keeps_epoch,
            earlier: self.earlier,
            next_seq: self.next_seq,
            messages: self.messages,
            lost_max: self.lost_max,
        }
    }

    /// The geometry of the new file for the messages of a damaged one. The damaged file's own sizes do
    /// not count: they may be wrong, and demand gigabytes.
    fn geometry_for_salvaged(&self, wanted: Geometry) -> Geometry {
        let largest = self.messages.iter().map(|(_, found)| found.text_bytes());
        largest
            .max()
            .and_then(|largest| Geometry::for_payload(largest, 1))
            .map_or(wanted, |needed| needed.join(wanted))
    }

    fn verdict(&mut self, wanted: Geometry, boot_id: &BootId) -> Found {
        if let Some(damage) = self.damage.take() {
            if self.may_have_forgotten(boot_id) {
                // Slots that seem unused may have held messages that never reached the disk.
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

    /// Whether the file may have been in use when the machine went down.
    fn may_have_forgotten(&self, boot_id: &BootId) -> bool {
        match self.state {
            State::Shut => false,
            State::Live(last) => last != *boot_id,
            State::Unknown => true,
        }
    }

    /// Whether every page has to be written again. With `--durability disk` all messages that are
    /// shown must be on disk. If the last process did not close the ring, one of its syncs may have
    /// failed. Then the kernel regards pages as clean that never reached the disk, and no further
    /// sync writes them (fsync(2)).
    fn is_to_be_renewed(&self, wanted: Geometry) -> bool {
        wanted.has_room_for_commits() && self.state != State::Shut
    }

    /// Gives the messages contiguous seqs that end where the old ones did. So seqs never decrease, not
    /// even from one epoch to the next.
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

/// The earlier epochs of a shared history.
fn read_earlier(image: &dyn Image) -> Vec<EarlierEpoch> {
    let mut bytes = [0; EARLIER_BYTES];
    match image.read(EARLIER_OFFSET, &mut bytes) {
        Ok(()) => layout::decode_earlier(&bytes),
        Err(_) => Vec::new(),
    }
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

/// Derives the geometry from the file's length if the header is unusable: of the possible ones, the
/// one with the most whole slots. A wrong one finds none, because a slot's checksum covers its seq,
/// and with it its position.
fn guess_slots(image: &dyn Image) -> Option<Slots> {
    Geometry::all_of_file_bytes(image.len().ok()?)
        .map(|geometry| Slots::read(image, geometry, None))
        .max_by_key(|slots| slots.whole.len())
}

/// The slots of a file by their state.
struct Slots {
    geometry: Geometry,
    /// Whole messages, in order of seq.
    whole: Vec<Whole>,
    /// Open slots: the index, and the low 32 bits of the seq that was being written.
    open: Vec<(usize, u32)>,
    /// Indexes of slots that were never used.
    free: Vec<usize>,
    /// Indexes of all other slots.
    damaged: Vec<usize>,
    /// The first read error.
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

    /// Counts slots of another epoch than the file's as damaged: they are remains of another file on
    /// the same disk. If the header is unusable, the file's epoch is that of most slots.
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
        // There are more slots than messages in the history. The oldest have left it.
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

/// Conclusions from the slots.
struct Tally {
    next_seq: u64,
    lost: u64,
    damaged: bool,
}

impl Tally {
    /// `first_seq` is that of the header; if that is unusable, the oldest whole message counts.
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
        // Each slot, except that of the next message, must hold its latest message or be unused. If
        // all do, none is damaged.
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

/// How many messages there may have been after the newest whole one. Each damaged slot that follows
/// may have held one. A slot that is open for a later seq proves all messages before that seq.
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

/// Whether the slot of the next message is in one of the states that a kill can leave: open for that
/// message, unused, or still holding the message of the previous round.
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
