//! What a ring is written to: the traits, and the memory-mapped file.
//!
//! The ring appends through [`Storage`], recovery reads through [`Image`], and [`Medium`] is where
//! both come from. The only unsafe code of the ring is [`MappedFile`] here. Nothing in this file
//! knows the format.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};

use memmap2::{MmapOptions, MmapRaw};

use super::RingError;
use super::layout::BootId;
use super::place::Made;

/// Bytes that recovery reads: a file, or an image of one in memory.
pub trait Image {
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Fills `bytes` from `offset` on; an error if there is less, or the disk cannot read it.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// What a ring is kept on while it is in use. The length never changes.
pub trait Storage: Image {
    /// Writes bytes. In what order they arrive, should the process be killed in between, is open.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Writes eight bytes, little-endian, at a multiple of eight, as one indivisible step: after
    /// everything that was written before it, and before everything that will be.
    fn write_word(&mut self, offset: u64, word: u64) -> io::Result<()>;

    /// Returns once everything written is on disk.
    fn sync(&mut self) -> io::Result<()>;

    /// The same without what only describes the file, such as its times: a commit.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Whether the storage is still what it was when it was opened.
    fn standing(&self) -> io::Result<Standing>;
}

/// What has become of a storage while it was in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Sound,
    /// Somebody has cut it: to write now would end the process with a SIGBUS (`mmap(2)`).
    Truncated {
        /// Its length now, in bytes.
        len: u64,
    },
    /// Somebody has deleted it: what is written now is gone at the next start.
    Removed,
}

/// Where a ring lives: finds what is there, and replaces it as a whole.
///
/// The one for files is `FileMedium`, behind `Ring::open`; the one for tests and simulations is
/// [`super::memory::MemoryMedium`].
pub trait Medium: Send {
    /// Opens what is there, and keeps everybody else from it until the medium is dropped;
    /// `None` if there is nothing.
    fn open(&mut self) -> Result<Option<&dyn Image>, RingError>;

    /// Makes what [`Medium::open`] found writable; it must be `len` bytes long.
    fn attach(&mut self, len: u64) -> Result<Box<dyn Storage + Send>, RingError>;

    /// Puts a new storage in the place of what is there, or where nothing is, in one step that a
    /// crash cannot divide: it is `len` bytes long, zero but for what `fill` writes, and on disk.
    fn replace(&mut self, len: u64, aside: Aside, fill: Fill<'_>)
    -> Result<Replacement, RingError>;

    /// Whether what is in use is still what the next start would find; an error says what is there
    /// instead. Where nothing else can take its place, it is.
    fn check_place(&self) -> Result<(), RingError> {
        Ok(())
    }

    /// The file that [`Medium::replace`] has made where none was, to be removed should the start fail.
    fn take_made(&mut self) -> Option<Made> {
        None
    }

    /// The run of the kernel that this is.
    fn boot_id(&self) -> BootId;

    /// A new random number for an epoch.
    fn random(&mut self) -> io::Result<u64>;
}

/// Writes the first contents of a new storage.
pub type Fill<'a> = &'a mut dyn FnMut(&mut dyn Storage) -> io::Result<()>;

/// What becomes of a storage that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// It goes: everything in it is in the new one.
    Drop,
    /// It is kept under another name, for somebody to look into.
    Keep,
}

/// The outcome of [`Medium::replace`].
pub struct Replacement {
    /// The new storage, in place.
    pub storage: Box<dyn Storage + Send>,
    /// Where the old one is kept.
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
/// Reads go through `pread`, so that a bad sector is an error value and not a SIGBUS; on Linux both
/// see the same pages. A write into the map cannot fail as a value: if the file has been truncated,
/// the kernel sends a SIGBUS. [`Storage::standing`] tells in time, as far as anything can.
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

    /// The place of `bytes` bytes at `offset`, if they are within the map.
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
        // lives as long as `self`. Nobody in this process holds a reference into it, so `bytes`
        // cannot overlap it, and `&mut self` keeps other threads out. Other processes may change
        // the pages; nothing here reads them through the map.
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
        // SAFETY: eight bytes inside the map, as `place` has checked, and aligned, as was just
        // checked; the map outlives the reference. This process never touches them otherwise at
        // the same time: `&mut self`.
        let slot = unsafe { AtomicU64::from_ptr(place) };
        // The compiler may move no write across this one, in either direction. The processor may,
        // but not so that a kill could show it: interrupts are precise, so of a killed process
        // everything up to some instruction has happened and nothing after it.
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
