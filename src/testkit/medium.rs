//! A disk in memory that holds one ring and fails as disks, kernels and power supplies do.
//!
//! A [`Ring`](crate::ring::Ring) is opened on a [`MemoryMedium`], and a clone of it injects the faults.
//! Deterministic: its random numbers and boot ids are counters. Never touches a file.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ring::{Aside, BootId, Fill, Image, Medium, Replacement, RingError, Standing, Storage};

/// The unit in which the kernel writes a file back, in bytes.
const PAGE_BYTES: usize = 4096;

/// The unit that a disk writes as a whole or not at all, in bytes.
pub const SECTOR_BYTES: usize = 512;

/// A disk in memory; clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryMedium {
    disk: Arc<Mutex<Disk>>,
}

/// One write that the ring has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The offset of the first byte.
    pub offset: usize,
    /// The bytes written.
    pub bytes: Vec<u8>,
    /// Whether it is a word: atomic, and ordered with all other writes.
    pub is_word: bool,
}

#[derive(Default)]
struct Disk {
    /// The image as the running kernel sees it.
    image: Option<Vec<u8>>,
    /// The image at the last sync, which is on disk.
    synced: Vec<u8>,
    /// The writes since the last sync.
    unsynced: Vec<Write>,
    /// How many of these were covered by a failed sync.
    forgotten: usize,
    aside: Vec<Vec<u8>>,
    /// The number of the image in use. A storage of an earlier one belongs to a dead process.
    generation: u64,
    boots: u64,
    randoms: u64,
    /// How many more writes and syncs succeed.
    failing_in: Option<u64>,
    /// Only one operation fails after these, then all succeed.
    fails_once: bool,
    /// How many more writes and syncs have an effect.
    freezing_in: Option<u64>,
    is_frozen: bool,
    is_removed: bool,
}

impl MemoryMedium {
    /// A disk with this image of a ring on it, all of it synced.
    pub fn with_image(image: Vec<u8>) -> MemoryMedium {
        let medium = MemoryMedium::default();
        medium.set_image(image);
        medium
    }

    /// Replaces the image, all of it synced, as between two processes. A storage of the old image no
    /// longer has an effect.
    pub fn set_image(&self, image: Vec<u8>) {
        let mut disk = self.disk();
        disk.synced.clone_from(&image);
        disk.unsynced.clear();
        disk.forgotten = 0;
        disk.image = Some(image);
        disk.generation += 1;
        disk.is_frozen = false;
        disk.freezing_in = None;
        disk.is_removed = false;
    }

    /// The image as the running kernel sees it, and as the next process finds it after a kill.
    pub fn image(&self) -> Vec<u8> {
        self.disk().image.clone().unwrap_or_default()
    }

    /// The writes since the last sync.
    pub fn unsynced(&self) -> Vec<Write> {
        self.disk().unsynced.clone()
    }

    /// Whether there are writes since the last sync.
    pub fn has_unsynced(&self) -> bool {
        !self.disk().unsynced.is_empty()
    }

    /// The damaged images that were kept aside.
    pub fn aside(&self) -> Vec<Vec<u8>> {
        self.disk().aside.clone()
    }

    /// Lets this many more writes and syncs succeed; then all fail until [`MemoryMedium::heal`]. Writes
    /// covered by a failed sync may be on disk or not, and a later sync does not cover them (fsync(2)).
    pub fn fail_in(&self, operations: u64) {
        let mut disk = self.disk();
        disk.failing_in = Some(operations);
        disk.fails_once = false;
    }

    /// Lets this many more writes and syncs succeed; then one fails.
    pub fn fail_once_in(&self, operations: u64) {
        let mut disk = self.disk();
        disk.failing_in = Some(operations);
        disk.fails_once = true;
    }

    /// Ends the failures of [`MemoryMedium::fail_in`].
    pub fn heal(&self) {
        self.disk().failing_in = None;
    }

    /// Whether the process is killed: see [`MemoryMedium::freeze_in`].
    pub fn is_frozen(&self) -> bool {
        self.disk().is_frozen
    }

    /// Counts an operation on another file of the same disk. Whether the process is killed already, so that it
    /// has no effect.
    pub(super) fn operate_beside(&self) -> io::Result<bool> {
        let mut disk = self.disk();
        disk.operate()?;
        Ok(disk.is_frozen)
    }

    /// Until the next [`Medium::open`], writes and syncs succeed without an effect: they stand for
    /// those that a killed process would have made.
    pub fn freeze(&self) {
        self.freeze_in(0);
    }

    /// [`MemoryMedium::freeze`] after this many more writes and syncs: a kill between two of them.
    pub fn freeze_in(&self, operations: u64) {
        self.disk().freezing_in = Some(operations);
    }

    /// Truncates the image, as another process may. [`Ring::check`](crate::ring::Ring::check) notices it.
    pub fn truncate(&self, len: usize) {
        if let Some(image) = &mut self.disk().image {
            image.truncate(len);
        }
    }

    /// Overwrites the image, as another process may.
    /// [`Ring::examine`](crate::ring::Ring::examine) notices it.
    pub fn overwrite(&self, image: Vec<u8>) {
        self.disk().image = Some(image);
    }

    /// Deletes the image, as another process may.
    pub fn remove(&self) {
        let mut disk = self.disk();
        disk.image = None;
        disk.is_removed = true;
    }

    /// Reboots the machine in an orderly way: all writes are on disk, and the boot id is a new one.
    pub fn reboot(&self) {
        let image = self.image();
        self.set_image(image);
        self.disk().boots += 1;
    }

    /// Simulates a power failure and a reboot. The kernel writes pages back at any time, and the disk
    /// writes sectors, so each sector is as it was at some moment since the last sync. `choose(sector,
    /// writes)` returns how many of the unsynced writes the sector contains.
    pub fn lose_power(&self, choose: impl FnMut(usize, usize) -> usize) {
        let image = self.image_without_power(choose);
        self.lose_power_to(image);
    }

    /// The image that [`MemoryMedium::lose_power`] would leave. The disk stays as it is.
    pub fn image_without_power(&self, mut choose: impl FnMut(usize, usize) -> usize) -> Vec<u8> {
        let disk = self.disk();
        let mut image = disk.synced.clone();
        let moments = (0..image.len().div_ceil(SECTOR_BYTES))
            .map(|sector| choose(sector, disk.unsynced.len()))
            .collect::<Vec<_>>();
        for (nth, write) in disk.unsynced.iter().enumerate() {
            for (at, byte) in (write.offset..).zip(&write.bytes) {
                if nth < moments[at / SECTOR_BYTES] {
                    image[at] = *byte;
                }
            }
        }
        image
    }

    /// Reboots the machine after a power failure that has left this image.
    pub fn lose_power_to(&self, image: Vec<u8>) {
        self.set_image(image);
        self.disk().boots += 1;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // The state is consistent even if a test panicked while it held the lock.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn storage(&self) -> MemoryStorage {
        let disk = self.disk();
        let len = disk.image.as_ref().map_or(0, Vec::len);
        MemoryStorage {
            medium: self.clone(),
            generation: disk.generation,
            len,
        }
    }
}

impl Disk {
    /// Counts one operation, and fails it if it is due to fail.
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.freezing_in {
            Some(0) => self.is_frozen = true,
            Some(operations) => *operations -= 1,
            None => {}
        }
        match &mut self.failing_in {
            Some(0) => {
                self.failing_in = self.failing_in.filter(|_| !self.fails_once);
                Err(io::Error::other("injected disk failure"))
            }
            Some(operations) => {
                *operations -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Disk {
    /// Writes dirty pages to disk. After a failed sync its pages are not dirty any more, unless they
    /// were written again: the kernel regards them as clean (fsync(2)).
    fn write_back(&mut self) {
        let image = self.image.as_deref().unwrap_or_default();
        if self.synced.len() != image.len() {
            self.synced = image.to_vec();
            self.unsynced.clear();
            self.forgotten = 0;
            return;
        }
        let fresh = self.unsynced.split_off(self.forgotten);
        let pages: BTreeSet<usize> = fresh.iter().flat_map(Write::pages).collect();
        for page in &pages {
            let start = page * PAGE_BYTES;
            let end = image.len().min(start + PAGE_BYTES);
            self.synced[start..end].copy_from_slice(&image[start..end]);
        }
        let unknown = self.unsynced.drain(..).flat_map(Write::by_page);
        self.unsynced = unknown
            .filter(|write| !pages.contains(&(write.offset / PAGE_BYTES)))
            .collect();
        self.forgotten = self.unsynced.len();
    }
}

impl Write {
    fn pages(&self) -> std::ops::RangeInclusive<usize> {
        self.offset / PAGE_BYTES..=(self.offset + self.bytes.len() - 1) / PAGE_BYTES
    }

    /// The write divided at page boundaries.
    fn by_page(self) -> impl Iterator<Item = Write> {
        self.pages().map(move |page| {
            let end = self.offset + self.bytes.len();
            let from = self.offset.max(page * PAGE_BYTES);
            let until = end.min((page + 1) * PAGE_BYTES);
            Write {
                offset: from,
                bytes: self.bytes[from - self.offset..until - self.offset].to_vec(),
                is_word: self.is_word,
            }
        })
    }
}

impl Image for MemoryMedium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk().image.as_ref().map_or(0, Vec::len) as u64)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        Image::read(
            &self.disk().image.as_deref().unwrap_or_default(),
            offset,
            bytes,
        )
    }
}

impl Medium for MemoryMedium {
    fn open(&mut self) -> Result<Option<&dyn Image>, RingError> {
        let mut disk = self.disk();
        disk.is_frozen = false;
        disk.freezing_in = None;
        disk.generation += 1;
        let is_there = disk.image.is_some();
        drop(disk);
        Ok(is_there.then_some(&*self as &dyn Image))
    }

    fn attach(&mut self, len: u64) -> Result<Box<dyn Storage + Send>, RingError> {
        let storage = self.storage();
        debug_assert_eq!(storage.len as u64, len);
        Ok(Box::new(storage))
    }

    fn replace(
        &mut self,
        len: u64,
        aside: Aside,
        fill: Fill<'_>,
    ) -> Result<Replacement, RingError> {
        // Written beside the old image, then put in its place, as by a rename.
        let beside = MemoryMedium::with_image(vec![0; len as usize]);
        fill(&mut beside.storage()).map_err(RingError::Storage)?;
        {
            let mut disk = self.disk();
            disk.operate().map_err(RingError::Storage)?;
            if disk.is_frozen {
                let storage = MemoryStorage {
                    len: len as usize,
                    ..beside.storage()
                };
                return Ok(Replacement {
                    storage: Box::new(storage),
                    aside: None,
                });
            }
            let old = disk.image.take();
            disk.aside.extend(old.filter(|_| aside == Aside::Keep));
        }
        self.set_image(beside.image());
        Ok(Replacement {
            storage: Box::new(self.storage()),
            aside: None,
        })
    }

    fn boot_id(&self) -> BootId {
        u128::from(self.disk().boots + 1).to_le_bytes()
    }

    fn random(&mut self) -> io::Result<u64> {
        let mut disk = self.disk();
        disk.randoms += 1;
        Ok(disk.randoms)
    }
}

/// The storage of one ring on a [`MemoryMedium`].
struct MemoryStorage {
    medium: MemoryMedium,
    generation: u64,
    len: usize,
}

impl MemoryStorage {
    fn put(&mut self, offset: u64, bytes: &[u8], is_word: bool) -> io::Result<()> {
        let mut disk = self.medium.disk();
        disk.operate()?;
        if disk.is_frozen || disk.generation != self.generation || disk.is_removed {
            return Ok(());
        }
        let offset = offset as usize;
        let image = disk.image.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let place = image.get_mut(offset..offset + bytes.len());
        // A map would end the process here. The panic shows which caller did not check.
        place
            .expect("write beyond the end: this would be a SIGBUS")
            .copy_from_slice(bytes);
        disk.unsynced.push(Write {
            offset,
            bytes: bytes.to_vec(),
            is_word,
        });
        Ok(())
    }
}

impl Image for MemoryStorage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len as u64)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.medium.read(offset, bytes)
    }
}

impl Storage for MemoryStorage {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            Ok(())
        } else {
            self.put(offset, bytes, false)
        }
    }

    fn write_word(&mut self, offset: u64, word: u64) -> io::Result<()> {
        debug_assert!(offset.is_multiple_of(8));
        self.put(offset, &word.to_le_bytes(), true)
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.medium.disk();
        let synced = disk.operate();
        if !disk.is_frozen && disk.generation == self.generation {
            match synced {
                Ok(()) => disk.write_back(),
                Err(_) => disk.forgotten = disk.unsynced.len(),
            }
        }
        synced
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.sync()
    }

    fn standing(&self) -> io::Result<Standing> {
        let disk = self.medium.disk();
        let len = disk.image.as_ref().map_or(0, Vec::len);
        Ok(if disk.is_removed {
            Standing::Removed
        } else if len < self.len {
            Standing::Truncated { len: len as u64 }
        } else {
            Standing::Sound
        })
    }
}
