//! Identities: recognises the repeat of a request that was published before.
//!
//! Owned by the hub, under its lock. It is asked before a message gets its id, and notes the message once
//! that is in the ring. The ring's slots hold the identities of the last 100 messages. A file beside the
//! ring holds those of up to [`IDENTITIES_MAX`] earlier ones (`FORMAT.md`). A fault of the file is logged
//! once and counted; the table goes on in memory, and the file is tried again.
//!
//! - `table`: the identities in memory.
//! - `record`: the bytes of the file.
//! - `file`: the file at its path.
//! - `stats`: levels and counters for the metrics.
//!
//! Never reads a clock, never publishes. One write of a record is its only work on a disk under the lock.
//! [`Sync::run`] waits for the disk without it.

mod file;
mod record;
mod stats;
mod table;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

pub use file::{Backing, IdentityFile, Syncer};
pub use stats::IdentityStats;

use self::record::{HEADER_BYTES, RECORD_BYTES};
use self::table::{Record, Table};
use crate::limits::{HISTORY_MESSAGES, IDENTITIES_MAX, IDENTITIES_RETRY_MS};
use crate::message::{Identity, Message, MessageId};

/// The length of the file.
const FILE_BYTES: u64 = (HEADER_BYTES + IDENTITIES_MAX * RECORD_BYTES) as u64;

/// The message that a request has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// Its id.
    pub id: MessageId,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
}

/// What is known of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing: the request is new.
    Nothing,
    /// The request has become this message.
    Repeat(First),
    /// Another body has had the same id.
    KeyReused,
}

/// See the module's documentation.
pub struct Identities {
    table: Table,
    /// None: in memory only.
    backing: Option<Box<dyn Backing>>,
    state: State,
    /// The number of the first record that is not in the file.
    unkept: u64,
    /// The number of the first record that a power failure could take.
    unsynced: u64,
    stats: Arc<IdentityStats>,
}

/// How the file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It holds the records up to the first that is not kept.
    Sound,
    /// There is none, or it is to be written anew with the next record.
    Missing,
    /// It was not readable or writable at this time. It is written anew some time later.
    Faulty { since_ms: u64 },
    /// Another process has it.
    Closed,
}

/// A sync that is due.
pub struct Sync {
    run: Box<dyn FnOnce() -> io::Result<()> + Send>,
    /// One more than the number of the last record that it covers.
    end: u64,
}

impl Sync {
    /// Waits for the disk.
    pub fn run(self) -> Synced {
        Synced {
            result: (self.run)(),
            end: self.end,
        }
    }
}

/// The result of a [`Sync`].
pub struct Synced {
    result: io::Result<()>,
    end: u64,
}

impl Default for Identities {
    /// A table in memory.
    fn default() -> Identities {
        Identities {
            table: Table::default(),
            backing: None,
            state: State::Closed,
            unkept: 0,
            unsynced: 0,
            stats: Arc::default(),
        }
    }
}

impl Identities {
    /// Reads what a file holds. `messages` are those of the ring with their seqs, and `next_seq` is the
    /// ring's next. Never fails: without the file those of the ring are known.
    pub fn open(
        backing: Box<dyn Backing>,
        messages: &[(u64, Message)],
        next_seq: u64,
    ) -> Identities {
        let mut identities = Identities {
            backing: Some(backing),
            ..Identities::default()
        };
        identities.reopen(messages, next_seq);
        identities
    }

    /// Reads the file again, after another process had it. Without a file only the ring's messages are
    /// added.
    pub fn reopen(&mut self, messages: &[(u64, Message)], next_seq: u64) {
        if self.backing.is_some() {
            self.table = Table::default();
            self.load(messages, next_seq);
        }
        self.note_all(messages.iter().map(|(seq, message)| (*seq, message)));
        self.keep();
    }

    /// Levels and counters for the metrics.
    pub fn stats(&self) -> Arc<IdentityStats> {
        Arc::clone(&self.stats)
    }

    /// What is known of an identity.
    pub fn find(&self, identity: &Identity, now_unix_ms: u64) -> Known {
        self.table.find(identity, now_unix_ms)
    }

    /// Notes a message that was appended to the ring under this seq, if it has an identity. The file gets it
    /// with [`Identities::keep`].
    pub fn note(&mut self, seq: u64, message: &Message) {
        let Some(identity) = &message.identity else {
            return;
        };
        self.table.push(Record {
            seq,
            first: First {
                id: message.id,
                timestamp_ms: message.timestamp_ms,
            },
            identity: (**identity).clone(),
        });
        self.stats.set_known(self.table.len());
    }

    /// [`Identities::note`] and [`Identities::keep`], for a message that needs no sync.
    pub fn note_kept(&mut self, seq: u64, message: &Message) {
        if message.identity.is_some() {
            self.note(seq, message);
            self.keep();
        }
    }

    /// Notes those messages that are not known yet. Some may have been noted before.
    pub fn note_all<'a>(&mut self, messages: impl IntoIterator<Item = (u64, &'a Message)>) {
        let with_identity = messages.into_iter().filter(|(_, m)| m.identity.is_some());
        let mut messages = with_identity.peekable();
        if messages.peek().is_none() {
            return;
        }
        let known: HashSet<MessageId> = self.table.iter().map(|(_, it)| it.first.id).collect();
        for (seq, message) in messages.filter(|(_, message)| !known.contains(&message.id)) {
            self.note(seq, message);
        }
    }

    /// Forgets what was noted with this seq or a later one since the last [`Identities::keep`]: these
    /// messages are not in the ring.
    pub fn take_back(&mut self, seq: u64) {
        while self.table.end() > self.unkept && self.table.last_seq() >= Some(seq) {
            self.table.pop();
        }
        self.stats.set_known(self.table.len());
    }

    /// Writes to the file what was noted since the last call.
    pub fn keep(&mut self) {
        if self.unkept == self.table.end() || self.state == State::Closed {
            return;
        }
        let now_ms = self.table.last_time_ms();
        let kept = match self.state {
            State::Sound => self.append(),
            State::Faulty { since_ms } if now_ms.abs_diff(since_ms) < IDENTITIES_RETRY_MS => return,
            State::Missing | State::Faulty { .. } | State::Closed => self.write_anew(),
        };
        match kept {
            Ok(()) => self.note_sound(),
            Err(error) => self.note_fault(&error, now_ms),
        }
    }

    /// The sync that is due before messages up to this seq are in the ring: after it, each identity is on
    /// disk, or its message is among the ring's last 100.
    pub fn due_sync(&mut self, next_seq: u64) -> Option<Sync> {
        let first = self.table.get(self.unsynced)?;
        let is_due = self.state == State::Sound
            && self.unsynced < self.unkept
            && first.seq < next_seq.saturating_sub(HISTORY_MESSAGES as u64);
        let run = self.backing.as_ref().filter(|_| is_due)?.syncer()?;
        Some(Sync {
            run,
            end: self.unkept,
        })
    }

    /// Notes the result of a sync.
    pub fn note_synced(&mut self, synced: Synced) {
        match synced.result {
            Ok(()) => self.unsynced = self.unsynced.max(synced.end),
            // What is on disk is unknown, and a further sync would succeed regardless (fsync(2)).
            Err(error) => self.note_fault(&error, self.table.last_time_ms()),
        }
    }

    /// Syncs the file and closes it. From then on another process may have it.
    pub fn close(&mut self) {
        self.keep();
        let synced = match (&mut self.backing, self.state) {
            (Some(backing), State::Sound) => match backing.syncer() {
                Some(sync) => sync(),
                None => Ok(()),
            },
            _ => Ok(()),
        };
        if let Err(error) = synced {
            self.note_fault(&error, 0);
        }
        if let Some(backing) = &mut self.backing {
            backing.close();
        }
        self.state = State::Closed;
    }

    /// Reads the file's records. Those of messages that should be in the ring, and are not, are dropped:
    /// the ring has lost these messages, and a retry must publish them.
    fn load(&mut self, messages: &[(u64, Message)], next_seq: u64) {
        let first_seq = next_seq.saturating_sub(HISTORY_MESSAGES as u64);
        let in_ring: HashSet<MessageId> = messages.iter().map(|(_, message)| message.id).collect();
        let is_true =
            |record: &Record| record.seq < first_seq || in_ring.contains(&record.first.id);
        let Some(backing) = &mut self.backing else {
            return;
        };
        let found = backing
            .open()
            .and_then(|len| len.map(|len| record::read(&**backing, len)).transpose());
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.state = State::Missing;
                (self.unkept, self.unsynced) = (0, 0);
                return;
            }
            Err(error) => {
                (self.unkept, self.unsynced) = (0, 0);
                return self.note_fault(&error, 0);
            }
        };
        let read = found.records.len();
        let start = found.records.first().map_or(0, |(number, _)| *number);
        let is_contiguous = (start..)
            .zip(&found.records)
            .all(|(n, (number, _))| n == *number);
        self.table.begin_at(start);
        let records = found.records.into_iter().map(|(_, record)| record);
        records
            .filter(is_true)
            .for_each(|record| self.table.push(record));
        let dropped = read - self.table.len();
        self.unkept = self.table.end();
        self.unsynced = self.table.start();
        self.state = State::Sound;
        self.stats.set_known(self.table.len());
        if let Some(damage) = found.damage {
            tracing::warn!(
                known = self.table.len(),
                "the file of identities beside the ring is damaged ({damage}); what is whole is used"
            );
        }
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "identities of messages that the ring has lost are forgotten: a retry publishes again"
            );
        }
        if found.damage.is_some() || dropped > 0 || !is_contiguous {
            match self.write_anew() {
                Ok(()) => self.note_sound(),
                Err(error) => self.note_fault(&error, 0),
            }
        }
    }

    /// Writes the records that the file lacks.
    fn append(&mut self) -> io::Result<()> {
        let Some(backing) = &mut self.backing else {
            return Ok(());
        };
        for (number, record) in self.table.iter_from(self.unkept) {
            backing.write(record::offset(number), &record::encode(number, record))?;
        }
        Ok(())
    }

    /// Replaces the file by one with the records of the table.
    fn write_anew(&mut self) -> io::Result<()> {
        let Some(backing) = &mut self.backing else {
            return Ok(());
        };
        let mut parts = record::parts(|place| self.table.at_place(place));
        backing.replace(FILE_BYTES, &mut parts)
    }

    fn note_sound(&mut self) {
        if let State::Faulty { .. } = self.state {
            tracing::info!("the file of identities beside the ring is written anew and works");
        }
        if self.state != State::Sound {
            self.unsynced = self.table.start();
        }
        self.state = State::Sound;
        self.unkept = self.table.end();
    }

    fn note_fault(&mut self, error: &io::Error, now_ms: u64) {
        self.stats.note_fault();
        if !matches!(self.state, State::Faulty { .. }) {
            tracing::error!(
                %error,
                "the file of identities beside the ring fails: they are kept in memory, and after a restart \
                 only those of the ring's messages are known"
            );
        }
        self.state = State::Faulty { since_ms: now_ms };
    }
}

#[cfg(test)]
mod tests;
