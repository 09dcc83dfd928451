//! The ring: the last [`HISTORY_MESSAGES`](crate::limits::HISTORY_MESSAGES) messages in a
//! memory-mapped file, so that they survive the process, however it ends.
//!
//! The hub, or its committer, owns the one ring of a server. Every message is appended before it is
//! shown or acknowledged, and synced before that too where it is to outlive the machine; else the
//! ring is synced at shutdown. An append is two copies into the page cache and no system call. The
//! format, and what a crash can and cannot do to it, is in `FORMAT.md`.
//!
//! - `layout`: the bytes: where everything is, how it is encoded and checked.
//! - `storage`: what the bytes are written to: the traits and the memory-mapped file.
//! - `place`: the path: which links are followed, and the names in the directory.
//! - `file`: the file there: creating, locking, replacing, keeping a damaged one aside.
//! - `recovery`: what an image, whole or not, still says.
//! - `rehearsal`: what a start would come to, tried without changing anything.
//! - `stats`: what it holds, for the metrics.
//! - [`memory`]: a storage in memory that tears, fails and loses power.
//!
//! The ring never sends anything, never looks at a clock, and never starts a thread.

mod error;
mod file;
mod layout;
pub mod memory;
mod place;
mod recovery;
mod rehearsal;
mod stats;
mod storage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use error::RingError;
pub use layout::BootId;
pub use place::Made;
pub use recovery::{Damage, Found, Recovered, Report};
pub use rehearsal::rehearse;
pub use stats::RingStats;
pub use storage::{Aside, Fill, Image, MappedFile, Medium, Replacement, Standing, Storage};

use crate::limits::{
    BODY_BYTES_MAX_LIMIT, COMMIT_MESSAGES_MAX, COMMIT_SLOTS_BYTES_MAX, HISTORY_MESSAGES,
    RING_ZERO_BYTES,
};
use crate::message::{Epoch, Message, SessionId};
use file::FileMedium;
use layout::{
    Geometry, HEADER_BYTES, Header, SEQ_FIRST, SLOT_HEAD_BYTES, STATE_OFFSET, STATE_WORD, SlotHead,
    WORD_BYTES,
};
use recovery::{Plan, Step, Survey};

/// The last messages, on a storage that outlives the process.
///
/// Dropping it leaves the file as a kill would: nothing is lost, but after a power failure the
/// next start cannot be sure of that. [`Ring::sync`] first is the orderly end.
pub struct Ring {
    medium: Box<dyn Medium>,
    storage: Box<dyn Storage + Send>,
    geometry: Geometry,
    epoch: Epoch,
    next_seq: u64,
    /// Messages in the file that count: the newest ones, up to [`HISTORY_MESSAGES`].
    held: usize,
    /// The file is marked as closed.
    is_shut: bool,
    /// A sync has failed: nobody knows what is on disk, and a further one would not tell.
    is_in_doubt: bool,
    stats: Arc<RingStats>,
}

impl Ring {
    /// Opens the ring at a path, or makes one, for messages of which content and session together
    /// have up to `content_bytes_max` bytes. A damaged file is salvaged and kept aside: the
    /// report says so.
    pub fn open(path: &Path, content_bytes_max: usize) -> Result<(Ring, Recovered), RingError> {
        Ring::open_on(Box::new(FileMedium::new(path)?), content_bytes_max)
    }

    /// The same with room for commits of [`unsynced_wanted`] messages; see [`Ring::commit`].
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

    /// Opens the ring on any medium, with [`Ring::unsynced_max`] at least as large as asked for: at
    /// most [`COMMIT_MESSAGES_MAX`](crate::limits::COMMIT_MESSAGES_MAX).
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
                // On disk before the first append: else a power failure could leave a file that
                // has lost messages and claims to be closed.
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
                };
                let history = messages
                    .iter()
                    .map(|(_, message)| message)
                    .collect::<Vec<_>>();
                let replacement = replace(&mut *medium, &header, &history, aside)?;
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

    /// The file that was made for this ring, if there was none: for a start that may still fail.
    pub fn take_made(&mut self) -> Option<Made> {
        self.medium.take_made()
    }

    /// The epoch of every seq that this ring gives; it stays the same until the ring is dropped.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The seq that the next message will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// What it holds, for whoever tells the operator; goes on being kept up to date.
    pub fn stats(&self) -> Arc<RingStats> {
        Arc::clone(&self.stats)
    }

    /// The most bytes that content and session of a message may have together.
    pub fn message_bytes_max(&self) -> usize {
        self.geometry.payload_bytes_max()
    }

    /// How many messages may have been appended since the last [`Ring::commit`] without one of the
    /// last 100 of that commit having been overwritten: a power failure keeps those 100 whatever
    /// becomes of the newer ones.
    pub fn unsynced_max(&self) -> usize {
        self.geometry.slots() - HISTORY_MESSAGES
    }

    /// Appends a message and returns its seq; from then on a kill cannot lose it.
    ///
    /// On an error nothing has been appended, and the next append gets the same seq.
    pub fn append(&mut self, message: &Message) -> Result<u64, RingError> {
        let (bytes, bytes_max) = (payload_bytes(message), self.message_bytes_max());
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

    /// Whether the file still has a name and its length, by one system call. To be asked before a
    /// batch of appends: on an error an append could end the process with a SIGBUS, or go to a file
    /// that is never opened again; [`Ring::repair`] is the way on. (Between the check and the append
    /// the file can still be cut, by a user who could also kill the process.)
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

    /// [`Ring::check`], and whether the path still leads to the file, and the history is still in
    /// it: what the next start would find. Takes about 100 reads of a few bytes.
    pub fn examine(&self) -> Result<(), RingError> {
        self.check()?;
        self.medium.check_place()?;
        // What the disk cannot read was not written by another program.
        if self.holds(self.held).unwrap_or(true) {
            Ok(())
        } else {
            Err(RingError::Overwritten)
        }
    }

    /// Whether the file has this ring's header, and so many messages before the next seq.
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

    /// Writes the ring anew after [`Ring::check`] or [`Ring::examine`] has failed, with this history,
    /// oldest first, of which the last message is the last that was appended. Epoch and seqs go on as
    /// they were. Another file at the path, or what another program has written into this one, is
    /// kept aside: returns where.
    ///
    /// It is on disk when this returns, so it takes as long as the disk does. On an error the ring
    /// is what it was before.
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
        };
        let aside = if self.holds(history.len()).unwrap_or(true) {
            Aside::Drop
        } else {
            Aside::Keep
        };
        let replaced = replace(&mut *self.medium, &header, &history, aside);
        self.stats.note_repair(replaced.is_ok());
        let Replacement { storage, aside } = replaced?;
        self.storage = storage;
        self.held = history.len();
        self.is_shut = false;
        self.is_in_doubt = false;
        Ok(aside)
    }

    /// Returns once every message is on disk: from then on a power failure cannot lose one of the
    /// last 100, as long as no more than [`Ring::unsynced_max`] follow before the next commit.
    ///
    /// After an error nobody knows what is on disk, and the kernel may hold what is not for clean
    /// (fsync(2)): [`Ring::rewind`] is the way on.
    pub fn commit(&mut self) -> io::Result<()> {
        let synced = self.storage.sync_data();
        self.is_in_doubt |= synced.is_err();
        synced
    }

    /// Writes the ring anew with this history, oldest first, and gives the seqs from `next_seq` on
    /// again, as if the messages that had them were never appended. Epoch and other seqs stay.
    ///
    /// It is on disk when this returns. On an error the ring is what it was before.
    pub fn rewind<'a>(
        &mut self,
        next_seq: u64,
        history: impl IntoIterator<Item = &'a Message>,
    ) -> Result<Option<PathBuf>, RingError> {
        debug_assert!(next_seq <= self.next_seq, "a seq was never given");
        let last_seq = std::mem::replace(&mut self.next_seq, next_seq);
        let rewound = self.repair(history);
        if rewound.is_err() {
            self.next_seq = last_seq;
        }
        rewound
    }

    /// Reads the history back from the storage, with its seqs, oldest first: all of it, unless
    /// the storage has been damaged meanwhile.
    pub fn history(&self) -> Vec<(u64, Message)> {
        Survey::of(&*self.storage).messages
    }

    /// Returns once every message is on disk, and marks the file as cleanly closed; to be called
    /// at shutdown. An append after it takes the mark away again, which waits for the disk.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.is_in_doubt {
            renew(&mut *self.storage)?;
        }
        // The mark must not reach the disk before what it vouches for.
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

/// Whether the ring at this path is a mount point of its own, as a bind mount of a file is. Such a ring
/// cannot be replaced, which larger messages, damage and a power failure ask for.
pub fn is_mounted_alone(path: &Path) -> bool {
    place::is_mounted_alone(path)
}

/// How many messages a commit can be of where messages have up to this many bytes: each takes a slot
/// of the file.
pub fn unsynced_wanted(content_bytes_max: usize) -> usize {
    (COMMIT_SLOTS_BYTES_MAX / content_bytes_max.max(1)).clamp(4, COMMIT_MESSAGES_MAX)
}

fn wanted_geometry(content_bytes_max: usize, unsynced_max: usize) -> Result<Geometry, RingError> {
    Geometry::for_payload(content_bytes_max, unsynced_max).ok_or(RingError::SlotsTooLarge {
        bytes: content_bytes_max,
        bytes_max: BODY_BYTES_MAX_LIMIT,
    })
}

fn payload_bytes(message: &Message) -> usize {
    message.content.len()
        + message
            .session
            .as_ref()
            .map_or(0, |session| session.as_str().len())
}

/// Puts a new ring with this history in the place of what the medium has.
fn replace(
    medium: &mut dyn Medium,
    header: &Header,
    history: &[&Message],
    aside: Aside,
) -> Result<Replacement, RingError> {
    let boot_id = medium.boot_id();
    medium.replace(header.geometry.file_bytes(), aside, &mut |storage| {
        storage.write(0, &header.encode())?;
        write_state(storage, &boot_id, false)?;
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

/// Writes every byte once more, so that the next sync takes all of it to the disk.
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

/// Writes a message to its slot: first the word that says so, then all that it consists of, last
/// the word that makes it count. Until then it may be written again from the start.
fn write_slot(
    storage: &mut dyn Storage,
    geometry: Geometry,
    epoch: Epoch,
    seq: u64,
    message: &Message,
) -> io::Result<()> {
    if payload_bytes(message) > geometry.payload_bytes_max() {
        // It would go on in the next slot.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let offset = geometry.slot_offset(seq);
    let head = SlotHead::new(epoch, seq, message);
    let session = message.session.as_ref().map_or("", SessionId::as_str);
    let payload = offset + SLOT_HEAD_BYTES as u64;
    storage.write_word(offset, layout::open_word(seq))?;
    storage.write(offset + WORD_BYTES as u64, &head.bytes)?;
    storage.write(payload, session.as_bytes())?;
    storage.write(payload + session.len() as u64, message.content.as_bytes())?;
    storage.write_word(offset, layout::done_word(head.crc))
}

fn write_state(storage: &mut dyn Storage, boot_id: &BootId, shut: bool) -> io::Result<()> {
    storage.write(STATE_OFFSET, boot_id)?;
    storage.write_word(STATE_OFFSET + STATE_WORD, layout::state_word(boot_id, shut))
}

#[cfg(test)]
mod tests;
