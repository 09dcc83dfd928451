//! The ring: the last [`HISTORY_MESSAGES`](crate::limits::HISTORY_MESSAGES) messages in a
//! memory-mapped file, so that they survive the end of the process, also a kill.
//!
//! Called by the hub or its committer, which owns the server's only ring. Every message is appended
//! before it is delivered or acknowledged. With `--durability disk` it is also synced before that;
//! otherwise the ring is synced at shutdown. An append is a few copies into the page cache, without
//! a system call. `FORMAT.md` describes the format, and what a crash can and cannot do to it.
//!
//! - `layout`: the positions, encoding and checks of all bytes.
//! - `storage`: the traits that bytes are written through, and the memory-mapped file.
//! - `place`: the path: which links are followed, and the names in the directory.
//! - `beside`: a file of another module beside it.
//! - `file`: the file at the path: creating, locking, replacing, keeping a damaged one aside.
//! - `recovery`: the messages that a file, damaged or not, still holds.
//! - `rehearsal`: a trial of a start that changes nothing.
//! - `stats`: levels and counters for the metrics.
//!
//! The ring never sends anything, never looks at a clock, and never starts a thread.

mod beside;
mod error;
mod file;
mod layout;
mod place;
mod recovery;
mod rehearsal;
mod stats;
mod storage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use beside::Beside;
pub use error::RingError;
pub use layout::{BootId, EarlierEpoch};
pub use place::Made;
pub use recovery::{Damage, Found, Recovered, Report};
pub use rehearsal::{Rehearsal, rehearse};
pub use stats::RingStats;
pub use storage::{Aside, Fill, Image, MappedFile, Medium, Replacement, Standing, Storage};

use crate::limits::{
    BODY_BYTES_MAX_LIMIT, COMMIT_MESSAGES_MAX, COMMIT_SLOTS_BYTES_MAX, HISTORY_MESSAGES,
    MESSAGE_EXTRA_BYTES_MAX, RING_ZERO_BYTES,
};
use crate::message::{Epoch, Message, SessionId};
use file::FileMedium;
use layout::{
    EARLIER_OFFSET, Geometry, HEADER_BYTES, Header, SEQ_FIRST, SLOT_HEAD_BYTES, STATE_OFFSET,
    STATE_WORD, SlotHead, WORD_BYTES,
};
use recovery::{Plan, Step, Survey};

/// The last messages, on a storage that outlives the process.
///
/// Dropping it leaves the file as a kill would: no message is lost, but the next start cannot be sure
/// of that if the machine has rebooted in between. So call [`Ring::sync`] before an orderly end.
pub struct Ring {
    medium: Box<dyn Medium>,
    storage: Box<dyn Storage + Send>,
    geometry: Geometry,
    epoch: Epoch,
    /// Other nodes have the same history and epoch, by a bus.
    is_shared: bool,
    /// The epochs before it, if it is shared.
    earlier: Vec<EarlierEpoch>,
    next_seq: u64,
    /// The number of messages in the history, up to [`HISTORY_MESSAGES`].
    held: usize,
    /// The file is marked as closed.
    is_shut: bool,
    /// A sync has failed: what is on disk is unknown, and a further sync would succeed regardless.
    is_in_doubt: bool,
    stats: Arc<RingStats>,
}

impl Ring {
    /// Opens the ring at a path, or makes one. Content and session of a message may have up to
    /// `content_bytes_max` bytes together, whatever label and identity it has. A damaged file is salvaged and kept aside, which the report
    /// says.
    pub fn open(path: &Path, content_bytes_max: usize) -> Result<(Ring, Recovered), RingError> {
        Ring::open_on(Box::new(FileMedium::new(path)?), content_bytes_max)
    }

    /// [`Ring::open`] with slots for commits of [`unsynced_wanted`] messages; see [`Ring::commit`].
    pub fn open_for_commits(
        path: &Path,
        content_bytes_max: usize,
    ) -> Result<(Ring, Recovered), RingError> {
        let unsynced_max = unsynced_wanted(content_bytes_max);
        Ring::open_with(
            Box::new(FileMedium::new(path)?),
            content_bytes_max,
            unsynced_max,
        )
    }

    /// Opens the ring on any medium; see [`Ring::open`].
    pub fn open_on(
        medium: Box<dyn Medium>,
        content_bytes_max: usize,
    ) -> Result<(Ring, Recovered), RingError> {
        Ring::open_with(medium, content_bytes_max, 1)
    }

    /// Opens the ring on any medium. [`Ring::unsynced_max`] will be at least `unsynced_max`, which may
    /// be up to [`COMMIT_MESSAGES_MAX`](crate::limits::COMMIT_MESSAGES_MAX).
    pub fn open_with(
        mut medium: Box<dyn Medium>,
        content_bytes_max: usize,
        unsynced_max: usize,
    ) -> Result<(Ring, Recovered), RingError> {
        let wanted = wanted_geometry(content_bytes_max, unsynced_max)?;
        let boot_id = medium.boot_id();
        let plan = match medium.open()? {
            // An empty file holds nothing to salvage, and nothing to keep aside.
            Some(image) if image.len().map_err(RingError::Storage)? > 0 => {
                Survey::of(image).plan(wanted, &boot_id)
            }
            _ => Plan::create(wanted),
        };
        Ring::carry_out(medium, plan)
    }

    fn carry_out(mut medium: Box<dyn Medium>, plan: Plan) -> Result<(Ring, Recovered), RingError> {
        let Plan {
            geometry,
            next_seq,
            messages,
            ..
        } = plan;
        let epoch = match plan.epoch {
            Some(epoch) => epoch,
            None => Epoch(medium.random().map_err(RingError::Storage)?),
        };
        let (storage, moved_to) = match plan.step {
            Step::Keep | Step::Renew => {
                let mut storage = medium.attach(geometry.file_bytes())?;
                if plan.step == Step::Renew {
                    renew(&mut *storage).map_err(RingError::Storage)?;
                }
                // The mark is on disk before the first append. Otherwise a power failure could leave
                // a file that has lost messages and is marked as closed.
                write_state(&mut *storage, &medium.boot_id(), false)
                    .and_then(|()| storage.sync())
                    .map_err(RingError::Storage)?;
                (storage, None)
            }
            Step::Rewrite(aside) => {
                let first_seq = next_seq - messages.len() as u64;
                let header = Header {
                    geometry,
                    epoch,
                    first_seq,
                    is_shared: plan.is_shared,
                };
                let history = messages
                    .iter()
                    .map(|(_, message)| message)
                    .collect::<Vec<_>>();
                let replacement = replace(&mut *medium, &header, &plan.earlier, &history, aside)?;
                (replacement.storage, replacement.aside)
            }
        };
        debug_assert!(messages.len() <= HISTORY_MESSAGES);
        debug_assert!(
            messages
                .iter()
                .rev()
                .zip(1..)
                .all(|((seq, _), nth)| seq + nth == next_seq),
            "seqs are contiguous and end before the next"
        );
        let report = Report {
            found: plan.found,
            messages: messages.len(),
            lost_max: plan.lost_max,
            moved_to,
        };
        let ring = Ring {
            medium,
            storage,
            geometry,
            epoch,
            is_shared: plan.is_shared,
            earlier: plan.earlier,
            next_seq,
            held: messages.len(),
            is_shut: false,
            is_in_doubt: false,
            stats: Arc::new(RingStats::new(
                geometry.file_bytes(),
                messages.len(),
                next_seq,
            )),
        };
        Ok((ring, Recovered { messages, report }))
    }

    /// The file that was made for this ring, if there was none. A start that fails later removes it.
    pub fn take_made(&mut self) -> Option<Made> {
        self.medium.take_made()
    }

    /// The epoch of this ring's seqs; it never changes while the ring is open.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The seq that the next message will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Levels and counters for the metrics; the ring keeps them up to date.
    pub fn stats(&self) -> Arc<RingStats> {
        Arc::clone(&self.stats)
    }

    /// The most bytes that a message may have ([`Message::text_bytes`]).
    pub fn message_bytes_max(&self) -> usize {
        self.geometry.payload_bytes_max()
    }

    /// How many messages can be appended after a [`Ring::commit`] before the slot of one of its last
    /// 100 is overwritten. Up to this number a power failure loses none of those 100.
    pub fn unsynced_max(&self) -> usize {
        self.geometry.slots() - HISTORY_MESSAGES
    }

    /// Appends a message and returns its seq. From then on the message survives a kill.
    ///
    /// On an error nothing was appended, and the next append gets the same seq.
    pub fn append(&mut self, message: &Message) -> Result<u64, RingError> {
        let (bytes, bytes_max) = (message.text_bytes(), self.message_bytes_max());
        if bytes > bytes_max {
            return Err(RingError::MessageTooLarge { bytes, bytes_max });
        }
        self.ensure_live().map_err(RingError::Storage)?;
        let seq = self.next_seq;
        write_slot(&mut *self.storage, self.geometry, self.epoch, seq, message)
            .map_err(RingError::Storage)?;
        self.next_seq += 1;
        self.held = HISTORY_MESSAGES.min(self.held + 1);
        self.stats.note_append(self.next_seq);
        Ok(seq)
    }

    /// Checks that the file still has a name and its length, by one system call. Called before each
    /// batch of appends. After an error call [`Ring::repair`]: an append could end the process with a
    /// SIGBUS, or go to a file that no start will find. A file that is truncated between the check and
    /// the append is not noticed; a user who can do that can also kill the process.
    pub fn check(&self) -> Result<(), RingError> {
        match self.storage.standing().map_err(RingError::Storage)? {
            Standing::Sound => Ok(()),
            Standing::Truncated { len } => Err(RingError::Truncated {
                found: len,
                expected: self.geometry.file_bytes(),
            }),
            Standing::Removed => Err(RingError::Removed),
        }
    }

    /// Checks what the next start would find: [`Ring::check`], and that the path leads to this file,
    /// and that the file holds the history. Takes about 100 reads of a few bytes.
    pub fn examine(&self) -> Result<(), RingError> {
        self.check()?;
        self.medium.check_place()?;
        // A read error of the disk does not mean that another program has written to the file.
        if self.holds(self.held).unwrap_or(true) {
            Ok(())
        } else {
            Err(RingError::Overwritten)
        }
    }

    /// Whether the file has this ring's header and the `count` messages before the next seq.
    fn holds(&self, count: usize) -> io::Result<bool> {
        let mut header = [0; HEADER_BYTES];
        self.storage.read(0, &mut header)?;
        let is_ours = Header::decode(&header)
            .is_ok_and(|header| header.epoch == self.epoch && header.geometry == self.geometry);
        let mut is_there = is_ours;
        let mut seq = self.next_seq.saturating_sub(count as u64).max(SEQ_FIRST);
        while is_there && seq < self.next_seq {
            let mut head = [0; SLOT_HEAD_BYTES];
            self.storage
                .read(self.geometry.slot_offset(seq), &mut head)?;
            is_there = layout::is_done(&head, self.epoch, seq);
            seq += 1;
        }
        Ok(is_there)
    }

    /// Writes the ring's file anew after [`Ring::check`] or [`Ring::examine`] has failed. `history` is
    /// oldest first and ends with the last message that was appended. Epoch and seqs continue.
    ///
    /// If another file is at the path, or another program has written into this one, that file is
    /// kept aside: returns where. The new file is on disk when this returns. On an error the ring is
    /// unchanged.
    pub fn repair<'a>(
        &mut self,
        history: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Option<PathBuf>, RingError> {
        let mut history = history.into_iter().collect::<Vec<_>>();
        let surplus = history.len().saturating_sub(HISTORY_MESSAGES);
        history.drain(..surplus);
        let Some(first_seq) = self
            .next_seq
            .checked_sub(history.len() as u64)
            .filter(|s| *s > 0)
        else {
            debug_assert!(false, "more history than was ever appended");
            return Err(RingError::Storage(io::ErrorKind::InvalidInput.into()));
        };
        let header = Header {
            geometry: self.geometry,
            epoch: self.epoch,
            first_seq,
            is_shared: self.is_shared,
        };
        let aside = if self.holds(history.len()).unwrap_or(true) {
            Aside::Drop
        } else {
            Aside::Keep
        };
        let replaced = replace(&mut *self.medium, &header, &self.earlier, &history, aside);
        self.stats.note_repair(replaced.is_ok());
        let Replacement { storage, aside } = replaced?;
        self.storage = storage;
        self.held = history.len();
        self.is_shut = false;
        self.is_in_doubt = false;
        Ok(aside)
    }

    /// Returns once every message is on disk. From then on the last 100 survive a power failure, if no
    /// more than [`Ring::unsynced_max`] follow before the next commit.
    ///
    /// After an error it is unknown what is on disk, and the kernel may regard unwritten pages as
    /// clean (fsync(2)). Then call [`Ring::rewind`].
    pub fn commit(&mut self) -> io::Result<()> {
        let synced = self.storage.sync_data();
        self.is_in_doubt |= synced.is_err();
        synced
    }

    /// Writes the ring's file anew with this history, oldest first, without the messages from
    /// `next_seq` on. Their seqs are reused. The epoch and the other seqs stay.
    ///
    /// The new file is on disk when this returns. On an error the ring is unchanged.
    pub fn rewind<'a>(
        &mut self,
        next_seq: u64,
        history: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Option<PathBuf>, RingError> {
        debug_assert!(next_seq <= self.next_seq, "a seq was never given out");
        let last_seq = std::mem::replace(&mut self.next_seq, next_seq);
        let rewound = self.repair(history);
        if rewound.is_err() {
            self.next_seq = last_seq;
        }
        rewound
    }

    /// Makes another history of this ring, oldest first, in another epoch: one that several nodes share by a
    /// bus. `earlier` are the epochs before it, at most [`LINEAGE_EPOCHS_MAX`](crate::limits::LINEAGE_EPOCHS_MAX).
    /// `aside` says what becomes of the old file.
    ///
    /// The new file is on disk when this returns. On an error the ring is unchanged.
    pub fn renew<'a>(
        &mut self,
        epoch: Epoch,
        earlier: Vec<EarlierEpoch>,
        first_seq: u64,
        history: impl IntoIterator<Item = &'a Message>,
        aside: Aside,
    ) -> Result<Option<PathBuf>, RingError> {
        let history = history.into_iter().collect::<Vec<_>>();
        debug_assert!(history.len() <= HISTORY_MESSAGES);
        let header = Header {
            geometry: self.geometry,
            epoch,
            first_seq,
            is_shared: true,
        };
        self.put(&header, earlier, &history, aside)
    }

    /// Ends the sharing of a ring: its messages stay, and get event ids of an epoch of its own. Does
    /// nothing for a ring that is not shared.
    pub fn end_sharing<'a>(
        &mut self,
        history: impl IntoIterator<Item = &'a Message>,
    ) -> Result<(), RingError> {
        if !self.is_shared {
            return Ok(());
        }
        let history = history.into_iter().collect::<Vec<_>>();
        let header = Header {
            geometry: self.geometry,
            epoch: Epoch(self.medium.random().map_err(RingError::Storage)?),
            first_seq: self.next_seq - history.len() as u64,
            is_shared: false,
        };
        self.put(&header, Vec::new(), &history, Aside::Drop)
            .map(drop)
    }

    /// Replaces the file.
    fn put(
        &mut self,
        header: &Header,
        earlier: Vec<EarlierEpoch>,
        history: &[&Message],
        aside: Aside,
    ) -> Result<Option<PathBuf>, RingError> {
        let replaced = replace(&mut *self.medium, header, &earlier, history, aside);
        let Replacement { storage, aside } = replaced?;
        self.earlier = earlier;
        self.storage = storage;
        self.epoch = header.epoch;
        self.is_shared = header.is_shared;
        self.next_seq = header.first_seq + history.len() as u64;
        self.held = history.len();
        self.is_shut = false;
        self.is_in_doubt = false;
        self.stats.note_history(self.held, self.next_seq);
        Ok(aside)
    }

    /// The epochs before this ring's, if it is shared, the oldest first, and how far each was carried over.
    pub fn earlier(&self) -> &[EarlierEpoch] {
        &self.earlier
    }

    /// Whether the history is shared with other nodes by a bus.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Reads the history back from the storage, with its seqs, oldest first. Complete unless the
    /// storage was damaged.
    pub fn history(&self) -> Vec<(u64, Message)> {
        Survey::of(&*self.storage).messages
    }

    /// Syncs every message, then marks the file as cleanly closed and syncs the mark. Called at
    /// shutdown. A later append first removes the mark, which waits for the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.is_in_doubt {
            renew(&mut *self.storage)?;
        }
        // The messages must reach the disk before the mark, which says that they have.
        self.sync_storage()?;
        self.is_shut = true;
        write_state(&mut *self.storage, &self.medium.boot_id(), true)?;
        self.sync_storage()
    }

    fn sync_storage(&mut self) -> io::Result<()> {
        let synced = self.storage.sync();
        self.is_in_doubt = synced.is_err();
        synced
    }

    fn ensure_live(&mut self) -> io::Result<()> {
        if self.is_shut {
            write_state(&mut *self.storage, &self.medium.boot_id(), false)?;
            let synced = self.storage.sync();
            self.is_in_doubt |= synced.is_err();
            synced?;
            self.is_shut = false;
        }
        Ok(())
    }
}

/// Whether the file at this path is a mount point, as a bind-mounted file is. Such a file cannot be
/// replaced, which becomes necessary for larger messages, after damage and after a power failure.
pub fn is_mounted_alone(path: &Path) -> bool {
    place::is_mounted_alone(path)
}

/// How many messages a commit can have, given the largest message. Each needs a slot in the file.
pub fn unsynced_wanted(content_bytes_max: usize) -> usize {
    (COMMIT_SLOTS_BYTES_MAX / content_bytes_max.max(1)).clamp(4, COMMIT_MESSAGES_MAX)
}

fn wanted_geometry(content_bytes_max: usize, unsynced_max: usize) -> Result<Geometry, RingError> {
    content_bytes_max
        .checked_add(MESSAGE_EXTRA_BYTES_MAX)
        .and_then(|payload_bytes| Geometry::for_payload(payload_bytes, unsynced_max))
        .ok_or(RingError::SlotsTooLarge {
            bytes: content_bytes_max,
            bytes_max: BODY_BYTES_MAX_LIMIT,
        })
}

/// Puts a new ring with this history on the medium. It replaces the old one, if there is one.
fn replace(
    medium: &mut dyn Medium,
    header: &Header,
    earlier: &[EarlierEpoch],
    history: &[&Message],
    aside: Aside,
) -> Result<Replacement, RingError> {
    let boot_id = medium.boot_id();
    medium.replace(header.geometry.file_bytes(), aside, &mut |storage| {
        storage.write(0, &header.encode())?;
        write_state(storage, &boot_id, false)?;
        if header.is_shared {
            storage.write(EARLIER_OFFSET, &layout::encode_earlier(earlier))?;
        }
        for index in 0..header.geometry.slots() {
            let offset = header.geometry.slot_offset(index as u64);
            storage.write_word(offset, layout::free_word(index))?;
        }
        for (seq, message) in (header.first_seq..).zip(history) {
            write_slot(storage, header.geometry, header.epoch, seq, message)?;
        }
        Ok(())
    })
}

/// Rewrites every byte, so that all pages are dirty and the next sync writes them to disk.
fn renew(storage: &mut dyn Storage) -> io::Result<()> {
    let mut bytes = vec![0; RING_ZERO_BYTES];
    let end = storage.len()?;
    let mut offset = 0;
    while offset < end {
        let count = RING_ZERO_BYTES.min((end - offset) as usize);
        storage.read(offset, &mut bytes[..count])?;
        storage.write(offset, &bytes[..count])?;
        offset += count as u64;
    }
    Ok(())
}

/// Writes a message to its slot: the `OPEN` word, head and payload, the `DONE` word. Without the
/// `DONE` word the message is not in the ring, and the slot may be written again.
fn write_slot(
    storage: &mut dyn Storage,
    geometry: Geometry,
    epoch: Epoch,
    seq: u64,
    message: &Message,
) -> io::Result<()> {
    if message.text_bytes() > geometry.payload_bytes_max() {
        // It would overwrite the next slot.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let offset = geometry.slot_offset(seq);
    let extra = layout::extra_of(message);
    let head = SlotHead::new(epoch, seq, message, &extra);
    let session = message.session.as_ref().map_or("", SessionId::as_str);
    let payload = offset + SLOT_HEAD_BYTES as u64;
    let content = payload + (session.len() + extra.len()) as u64;
    storage.write_word(offset, layout::open_word(seq))?;
    storage.write(offset + WORD_BYTES as u64, &head.bytes)?;
    storage.write(payload, session.as_bytes())?;
    if !extra.is_empty() {
        storage.write(payload + session.len() as u64, &extra)?;
    }
    storage.write(content, message.content.as_bytes())?;
    storage.write_word(offset, layout::done_word(head.crc))
}

fn write_state(storage: &mut dyn Storage, boot_id: &BootId, shut: bool) -> io::Result<()> {
    storage.write(STATE_OFFSET, boot_id)?;
    storage.write_word(STATE_OFFSET + STATE_WORD, layout::state_word(boot_id, shut))
}

#[cfg(test)]
mod tests;
