//! The storage of a ring: the traits, and the memory-mapped file.
//!
//! The ring appends through [`Storage`], recovery reads through [`Image`], and [`Medium`] makes both.
//! The project's only unsafe code is in [`MappedFile`]. Never interprets the bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use memmap2::{MmapOptions, MmapRaw};

use super::RingError;
use super::layout::BootId;
use super::place::Made;

/// The bytes that recovery reads: a file, or a copy of one in memory.
pub trait Image {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Reads `bytes` at `offset`. An error if the image ends before, or the disk cannot read it.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// The storage of a ring in use. Its length never changes.
pub trait Storage: Image {
    /// Writes bytes. If the process is killed in between, any part of them may be written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes eight bytes, little-endian, at a multiple of eight, in one atomic step. It is ordered
    /// after every earlier write and before every later one.
    fn write_word(&mut self, offset: u64, word: u64) -> io::Result<()>;

    /// Returns once everything written is on disk.
    fn sync(&mut self) -> io::Result<()>;

    /// [`Storage::sync`] without metadata such as the file's times; for commits.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Whether the storage still has a name and its length.
    fn standing(&self) -> io::Result<Standing>;
}

/// The condition of a storage in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Name and length are unchanged.
    Sound,
    /// Another program has truncated the file: a write could end the process with a SIGBUS (`mmap(2)`).
    Truncated {
        /// The present length, in bytes.
        len: u64,
    },
    /// Another program has deleted the file: the next start will not find what is written to it.
    Removed,
}

/// The place where a ring is stored: opens the ring there, and replaces it as a whole.
///
/// `FileMedium` is the one for files, used by `Ring::open`. `testkit::MemoryMedium` is the one
/// for tests and simulations.
pub trait Medium: Send {
    /// Opens the ring and locks it until the medium is dropped; `None` if there is none.
    fn open(&mut self) -> Result<Option<&dyn Image>, RingError>;

    /// Makes the opened ring writable. It must be `len` bytes long.
    fn attach(&mut self, len: u64) -> Result<Box<dyn Storage + Send>, RingError>;

    /// Replaces the ring, if there is one, by a new storage, in one step that a crash cannot divide.
    /// The new storage has `len` bytes, which are zero except for those that `fill` writes. It is on
    /// disk when this returns.
    fn replace(&mut self, len: u64, aside: Aside, fill: Fill<'_>)
    -> Result<Replacement, RingError>;

    /// Checks that the next start would find the storage in use. The error says what it would find
    /// instead. By default no other storage can take its place.
    fn check_place(&self) -> Result<(), RingError> {
        Ok(())
    }

    /// The file that [`Medium::replace`] has made where there was none. A failed start removes it.
    fn take_made(&mut self) -> Option<Made> {
        None
    }

    /// The boot id of the running kernel.
    fn boot_id(&self) -> BootId;

    /// A new random number for an epoch.
    fn random(&mut self) -> io::Result<u64>;
}

/// Writes the first contents of a new storage.
pub type Fill<'a> = &'a mut dyn FnMut(&mut dyn Storage) -> io::Result<()>;

/// Whether a replaced storage is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// It is removed: all of its messages are in the new one.
    Drop,
    /// It is kept under another name, for the operator to examine.
    Keep,
}

/// The outcome of [`Medium::replace`].
pub struct Replacement {
    /// The new storage.
    pub storage: Box<dyn Storage + Send>,
    /// Where the old storage was kept.
    pub aside: Option<PathBuf>,
}

impl Image for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }
}

impl Image for &[u8] {
    fn len(&self) -> io::Result<u64> {
        Ok(<[u8]>::len(self) as u64)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let source = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..));
        match source.and_then(|source| source.get(..bytes.len())) {
            Some(source) => {
                bytes.copy_from_slice(source);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A file mapped into memory: writes are copies into the page cache, without a system call.
///
/// Reads use pread(2), so that a bad sector is an error and not a SIGBUS; on Linux both see the same
/// pages. A write into the map cannot return an error: if the file was truncated, the kernel sends a
/// SIGBUS. So [`Storage::standing`] is called before each batch of appends.
pub struct MappedFile {
    file: File,
    map: MmapRaw,
}

impl MappedFile {
    /// Maps the first `len` bytes of a file; an error if it has fewer.
    pub fn new(file: File, len: u64) -> io::Result<MappedFile> {
        if file.metadata()?.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let map = MmapOptions::new().len(len).map_raw(&file)?;
        Ok(MappedFile { file, map })
    }

    /// A pointer to `offset`. An error unless `bytes` bytes from there are within the map.
    fn place(&self, offset: u64, bytes: usize) -> io::Result<*mut u8> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match start.checked_add(bytes) {
            Some(end) if end <= self.map.len() => Ok(self.map.as_mut_ptr().wrapping_add(start)),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

impl Image for MappedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.map.len() as u64)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.place(offset, bytes.len())?;
        self.file.read_exact_at(bytes, offset)
    }
}

#[allow(
    unsafe_code,
    reason = "a map can only be written through a raw pointer"
)]
impl Storage for MappedFile {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let place = self.place(offset, bytes.len())?;
        // SAFETY: `place` has checked that all of `bytes.len()` bytes are inside the map, which
        // lives as long as `self`. This process has no reference into the map, so `bytes` cannot
        // overlap it, and `&mut self` excludes other threads. Other processes may change the pages,
        // but this code never reads them through the map.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        Ok(())
    }

    #[allow(
        clippy::cast_ptr_alignment,
        reason = "checked before the pointer is used"
    )]
    fn write_word(&mut self, offset: u64, word: u64) -> io::Result<()> {
        let place = self.place(offset, 8)?.cast::<u64>();
        if !place.is_aligned() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the eight bytes are inside the map, as `place` has checked, and aligned, as was
        // just checked. The map outlives the reference. `&mut self` excludes other accesses of this
        // process at the same time.
        let slot = unsafe { AtomicU64::from_ptr(place) };
        // The fences keep the compiler from moving a write across this one, in either direction. The
        // processor needs no fence: interrupts are precise, so a killed process has done everything
        // up to some instruction and nothing after it.
        compiler_fence(Ordering::SeqCst);
        slot.store(word.to_le(), Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.map.flush()?;
        self.file.sync_all()
    }

    /// On Linux msync(2) of a whole map is fdatasync(2) of the file.
    fn sync_data(&mut self) -> io::Result<()> {
        self.map.flush()
    }

    fn standing(&self) -> io::Result<Standing> {
        let metadata = self.file.metadata()?;
        Ok(if metadata.len() < self.map.len() as u64 {
            Standing::Truncated {
                len: metadata.len(),
            }
        } else if metadata.nlink() == 0 {
            Standing::Removed
        } else {
            Standing::Sound
        })
    }
}
