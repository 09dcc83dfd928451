//! A file of identities in memory, beside a ring in memory: a kill, a failure or a power cut hits both.
//!
//! Its operations count with those of the [`MemoryMedium`] of the ring. Deterministic but for the caller's
//! choices. Never touches a file.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::MemoryMedium;
use crate::identities::{Backing, Syncer};

/// A file in memory; clones are the same file.
#[derive(Clone)]
pub struct MemoryBacking {
    ring: MemoryMedium,
    file: Arc<Mutex<File>>,
}

#[derive(Default)]
struct File {
    /// The bytes as the running kernel sees them.
    bytes: Option<Vec<u8>>,
    /// The bytes at the last sync.
    synced: Option<Vec<u8>>,
    /// The writes since then. A replacement is one.
    unsynced: Vec<Change>,
    /// Writes and replacements fail.
    is_full: bool,
    syncs: usize,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Replace(Vec<u8>),
}

impl MemoryBacking {
    /// No file yet, beside this ring.
    pub fn beside(ring: &MemoryMedium) -> MemoryBacking {
        MemoryBacking {
            ring: ring.clone(),
            file: Arc::default(),
        }
    }

    /// The bytes; `None` if there is no file.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        self.lock().bytes.clone()
    }

    /// Replaces the bytes, all of them synced, as between two processes.
    pub fn set_bytes(&self, bytes: Option<Vec<u8>>) {
        let mut file = self.lock();
        file.synced.clone_from(&bytes);
        file.bytes = bytes;
        file.unsynced.clear();
    }

    /// Whether every write fails from now on.
    pub fn set_full(&self, is_full: bool) {
        self.lock().is_full = is_full;
    }

    /// How often it was synced.
    pub fn syncs(&self) -> usize {
        self.lock().syncs
    }

    /// Simulates a power failure. `is_kept` says whether an unsynced write is on disk. No sector has two
    /// records, so each is there or not.
    pub fn lose_power(&self, mut is_kept: impl FnMut() -> bool) {
        let mut file = self.lock();
        let mut bytes = file.synced.clone();
        for change in std::mem::take(&mut file.unsynced) {
            if is_kept() {
                change.apply(&mut bytes);
            }
        }
        file.synced.clone_from(&bytes);
        file.bytes = bytes;
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        // The state is consistent even if a test panicked while it held the lock.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: Change) -> io::Result<()> {
        if self.ring.operate_beside()? {
            return Ok(());
        }
        let mut file = self.lock();
        if file.is_full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        change.clone().apply(&mut file.bytes);
        file.unsynced.push(change);
        Ok(())
    }
}

impl Change {
    fn apply(self, file: &mut Option<Vec<u8>>) {
        match (self, file) {
            (Change::Replace(new), file) => *file = Some(new),
            (Change::Write(offset, new), Some(file)) => {
                let offset = offset as usize;
                if file.len() >= offset + new.len() {
                    file[offset..offset + new.len()].copy_from_slice(&new);
                }
            }
            (Change::Write(..), None) => {}
        }
    }
}

impl Backing for MemoryBacking {
    fn open(&mut self) -> io::Result<Option<u64>> {
        Ok(self.lock().bytes.as_ref().map(|bytes| bytes.len() as u64))
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let file = self.lock();
        let there = file.bytes.as_deref().unwrap_or_default();
        let part = there.get(offset as usize..offset as usize + bytes.len());
        bytes.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn replace(&mut self, len: u64, parts: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let mut new = Vec::with_capacity(len as usize);
        parts.for_each(|part| new.extend_from_slice(&part));
        new.resize(len as usize, 0);
        self.change(Change::Replace(new))
    }

    fn syncer(&self) -> Option<Syncer> {
        let this = self.clone();
        Some(Box::new(move || {
            if !this.ring.operate_beside()? {
                let mut file = this.lock();
                let File { bytes, synced, .. } = &mut *file;
                synced.clone_from(bytes);
                file.unsynced.clear();
                file.syncs += 1;
            }
            Ok(())
        }))
    }

    fn close(&mut self) {}
}
