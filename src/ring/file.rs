//! The ring file at its path: creating, locking, replacing, and keeping a damaged one aside.
//!
//! Called by the ring when it is opened and when it is repaired. At every instant the path names
//! either nothing or a complete ring: a file is created as `<path>.new`, locked, filled, synced, and
//! renamed. The lock belongs to the file and not to the name (`flock(2)`), so the renamed file stays
//! locked. A failure removes the files that it has made. Never reads or writes the format.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, FileType, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::RingError;
use super::layout::{BootId, PAGE_BYTES};
use super::place::{self, Made, Place};
use super::storage::{Aside, Fill, Image, MappedFile, Medium, Replacement, Storage};
use crate::limits::{RING_OPEN_ATTEMPTS, RING_ZERO_BYTES};

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// The suffix of a file that is not complete yet.
pub(super) const NEW: &str = ".new";

/// A path in the file system, and the file there while it is locked.
pub(super) struct FileMedium {
    /// The configured path. Its links are followed at every start and for every replacement.
    path: PathBuf,
    /// The file at the path, locked until it is closed.
    file: Option<File>,
    /// Where the file was made, if there was none before.
    made_at: Option<Place>,
    boot_id: BootId,
}

impl FileMedium {
    /// A ring at this path, which need not exist. A symbolic link to a file stands for that file.
    pub fn new(path: &Path) -> Result<FileMedium, RingError> {
        let path = place::absolute(path)?;
        let boot_id = read_boot_id().map_err(file_error("open", &path))?;
        Ok(FileMedium {
            path,
            file: None,
            made_at: None,
            boot_id,
        })
    }

    /// Writes the new file and renames it to the path; returns where the old one was kept.
    fn put_in_place(
        &self,
        place: &Place,
        new: &File,
        len: u64,
        aside: Aside,
        fill: Fill<'_>,
    ) -> Result<(MappedFile, Option<PathBuf>), RingError> {
        let cannot = |doing| file_error(doing, place.path());
        check_mappable(new).map_err(cannot("map"))?;
        allocate(new, len).map_err(|error| allocate_error(place, new, len, error))?;
        let clone = new.try_clone().map_err(cannot("map"))?;
        let mut storage = MappedFile::new(clone, len).map_err(cannot("map"))?;
        fill(&mut storage)
            .and_then(|()| storage.sync())
            .map_err(cannot("write"))?;
        // Another program's file stays locked until the new one has replaced it.
        let occupant = self.occupant(place)?;
        let is_kept = match &occupant {
            Occupant::None => false,
            Occupant::Ours => aside == Aside::Keep,
            Occupant::Other { is_empty, .. } => !is_empty,
        };
        let moved_to = if is_kept {
            Some(keep_aside(place)?)
        } else {
            None
        };
        if let Err(error) = place.rename(NEW, "") {
            if let Some(moved) = &moved_to {
                moved.undo(place);
            }
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::BUSY) => RingError::MountPoint {
                    path: place.path().to_owned(),
                },
                _ => cannot("replace")(error),
            });
        }
        Ok((storage, moved_to.map(|moved| moved.path)))
    }

    /// Examines what is at the path now.
    fn occupant(&self, place: &Place) -> Result<Occupant, RingError> {
        let cannot = || file_error("replace", place.path());
        let at_path = match place.stat("") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::None),
            at_path => at_path.map_err(cannot())?,
        };
        let path = || place.path().to_owned();
        let Some(ours) = &self.file else {
            // Another process has made one in the meantime.
            return Err(RingError::Locked { path: path() });
        };
        if is_at(ours, place, "")? {
            return Ok(Occupant::Ours);
        }
        check_kind(place, "", &at_path)?;
        let other = place.open("").map_err(cannot())?;
        match lock(&other, place.path()) {
            Err(RingError::Locked { .. }) => return Err(RingError::Replaced { path: path() }),
            locked => locked?,
        }
        if !is_at(&other, place, "")? {
            return Err(RingError::Replaced { path: path() });
        }
        let is_empty = other.metadata().map_err(cannot())?.len() == 0;
        Ok(Occupant::Other {
            _locked: other,
            is_empty,
        })
    }
}

/// What the new file will replace.
enum Occupant {
    None,
    /// The file that this process uses.
    Ours,
    /// A file of another program, which has not locked it.
    Other {
        _locked: File,
        is_empty: bool,
    },
}

impl Medium for FileMedium {
    fn open(&mut self) -> Result<Option<&dyn Image>, RingError> {
        let place = Place::find(&self.path)?;
        self.file = open_locked(&place)?;
        if self.file.is_some() {
            remove_stale(&place)?;
        }
        Ok(self.file.as_ref().map(|file| file as &dyn Image))
    }

    fn attach(&mut self, len: u64) -> Result<Box<dyn Storage + Send>, RingError> {
        let cannot_map = || file_error("map", &self.path);
        let Some(file) = &self.file else {
            return Err(cannot_map()(io::ErrorKind::NotFound.into()));
        };
        // The clone shares the lock.
        let clone = file.try_clone().map_err(cannot_map())?;
        Ok(Box::new(MappedFile::new(clone, len).map_err(cannot_map())?))
    }

    fn replace(
        &mut self,
        len: u64,
        aside: Aside,
        fill: Fill<'_>,
    ) -> Result<Replacement, RingError> {
        let place = Place::find(&self.path)?;
        if place.is_mount_point() {
            return Err(RingError::MountPoint {
                path: place.path().to_owned(),
            });
        }
        let new = create_new(&place)?;
        match self.put_in_place(&place, &new, len, aside, fill) {
            Ok((storage, moved_to)) => {
                let is_first = self.file.replace(new).is_none();
                if let Err(error) = place.sync() {
                    if is_first {
                        let _ = place.remove("");
                    }
                    return Err(file_error("replace", place.path())(error));
                }
                self.made_at = is_first.then_some(place);
                Ok(Replacement {
                    storage: Box::new(storage),
                    aside: moved_to,
                })
            }
            Err(error) => {
                // The first error is returned. The next start removes a leftover.
                let _ = place.remove(NEW);
                Err(error)
            }
        }
    }

    fn check_place(&self) -> Result<(), RingError> {
        let Some(ours) = &self.file else {
            return Ok(());
        };
        let at_path = match std::fs::metadata(&self.path) {
            Ok(at_path) => at_path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RingError::Removed);
            }
            // After any other error of stat(2) it is unknown what is at the path: nothing to repair.
            Err(_) => return Ok(()),
        };
        let ours = ours.metadata().map_err(RingError::Storage)?;
        if (ours.dev(), ours.ino()) == (at_path.dev(), at_path.ino()) {
            return Ok(());
        }
        Err(RingError::Replaced {
            path: self.path.clone(),
        })
    }

    fn take_made(&mut self) -> Option<Made> {
        let file = self.file.as_ref()?.try_clone().ok()?;
        Some(Made::new(self.made_at.take()?, file))
    }

    fn boot_id(&self) -> BootId {
        self.boot_id
    }

    fn random(&mut self) -> io::Result<u64> {
        getrandom::u64().map_err(no_random)
    }
}

/// Opens and locks the file at a place; `None` if there is none.
fn open_locked(place: &Place) -> Result<Option<File>, RingError> {
    let cannot_open = || file_error("open", place.path());
    for _ in 0..RING_OPEN_ATTEMPTS {
        match place.stat("") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => check_kind(place, "", &found.map_err(cannot_open())?)?,
        }
        let file = match place.open("") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(cannot_open())?,
        };
        check_owner(place, &file)?;
        lock(&file, place.path())?;
        // Between open and lock another process may have renamed a new file over this one.
        if is_at(&file, place, "")? {
            return Ok(Some(file));
        }
    }
    Err(RingError::Locked {
        path: place.path().to_owned(),
    })
}

/// Creates the file `<path>.new`: empty, locked, of mode 0600.
fn create_new(place: &Place) -> Result<File, RingError> {
    for _ in 0..RING_OPEN_ATTEMPTS {
        remove_stale(place)?;
        let file = match place.create(NEW) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            created => created.map_err(file_error("create", &place.beside(NEW)))?,
        };
        match lock(&file, place.path()) {
            Ok(()) => {}
            // Another process takes the file for a stale one and is about to remove it.
            Err(error @ RingError::Locked { .. }) => return Err(error),
            Err(error) => {
                let _ = place.remove(NEW);
                return Err(error);
            }
        }
        // Another process may have removed the file as a stale one before it was locked.
        if is_at(&file, place, NEW)? {
            return Ok(file);
        }
    }
    Err(RingError::Locked {
        path: place.path().to_owned(),
    })
}

/// Removes a `<path>.new` that a crash has left. An error if another process has locked it.
fn remove_stale(place: &Place) -> Result<(), RingError> {
    let cannot = || file_error("clean up", &place.beside(NEW));
    match place.stat(NEW) {
        // Any other error than a missing file will occur again when the file is created.
        Err(_) => return Ok(()),
        Ok(found) => check_kind(place, NEW, &found)?,
    }
    let file = match place.open(NEW) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(cannot())?,
    };
    lock(&file, place.path())?;
    if is_at(&file, place, NEW)? {
        place.remove(NEW).map_err(cannot())?;
    }
    Ok(())
}

/// The name under which a file was kept.
struct Kept {
    path: PathBuf,
    suffix: String,
    /// The file was linked, not renamed: it has both names until the new file takes the first.
    is_linked: bool,
}

impl Kept {
    /// Restores the file's name after the replacement has failed.
    fn undo(&self, place: &Place) {
        // If this fails, the file still has its new name, so it is not lost.
        let _ = if self.is_linked {
            place.remove(&self.suffix)
        } else {
            place.rename(&self.suffix, "")
        };
    }
}

/// Gives the file at the place a second name by a hard link, so that the path names a file at every
/// instant. On a file system without hard links the file is renamed.
fn keep_aside(place: &Place) -> Result<Kept, RingError> {
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let name = format!(".corrupt-{}", since_1970.as_secs());
    let mut suffix = name.clone();
    let mut nth = 1;
    while place.stat(&suffix).is_ok() {
        suffix = format!("{name}-{nth}");
        nth += 1;
    }
    let is_linked = place.link("", &suffix).is_ok();
    if !is_linked {
        place
            .rename("", &suffix)
            .map_err(file_error("move aside", place.path()))?;
    }
    Ok(Kept {
        path: place.beside(&suffix),
        suffix,
        is_linked,
    })
}

/// Only a regular file can be a ring.
pub(super) fn check_kind(place: &Place, suffix: &str, found: &Stat) -> Result<(), RingError> {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "directory",
        FileType::Symlink => "symbolic link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "special file",
    };
    Err(RingError::NotAFile {
        kind,
        path: place.beside(suffix),
    })
}

/// Refuses another user's file in a world-writable directory with the sticky bit, in the spirit of
/// `fs.protected_regular` (proc(5)). The file's owner could read all messages, and end this process
/// by truncating the file.
pub(super) fn check_owner(place: &Place, file: &File) -> Result<(), RingError> {
    const STICKY_AND_PUBLIC: u32 = 0o1002;
    let cannot = || file_error("open", place.path());
    let directory = place.stat_directory().map_err(cannot())?;
    let owner = file.metadata().map_err(cannot())?.uid();
    let is_public = directory.st_mode & STICKY_AND_PUBLIC == STICKY_AND_PUBLIC;
    let is_trusted = [0, geteuid().as_raw(), directory.st_uid].contains(&owner);
    if !is_public || is_trusted {
        return Ok(());
    }
    Err(RingError::ForeignFile {
        path: place.path().to_owned(),
        owner,
    })
}

pub(super) fn file_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> RingError + use<> {
    let path = path.to_owned();
    move |source| RingError::File {
        doing,
        path,
        source,
    }
}

pub(super) fn lock(file: &File, path: &Path) -> Result<(), RingError> {
    loop {
        return match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(RingError::Locked {
                path: path.to_owned(),
            }),
            // On a network file system a signal can interrupt the call (flock(2)).
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {
                continue;
            }
            Err(TryLockError::Error(error)) => Err(file_error("lock", path)(error)),
        };
    }
}

/// Whether a place still names an open file.
fn is_at(file: &File, place: &Place, suffix: &str) -> Result<bool, RingError> {
    place
        .is_of(file, suffix)
        .map_err(file_error("open", place.path()))
}

/// Checks that the file system supports shared writable maps, before space is allocated.
pub(super) fn check_mappable(file: &File) -> io::Result<()> {
    let len = PAGE_BYTES as u64;
    file.set_len(len)?;
    MappedFile::new(file.try_clone()?, len)?;
    file.set_len(0)
}

pub(super) fn allocate_error(
    place: &Place,
    file: &File,
    needed: u64,
    error: io::Error,
) -> RingError {
    let path = place.path().to_owned();
    if error.kind() == io::ErrorKind::QuotaExceeded {
        return RingError::NoQuota { path, needed };
    }
    let available = rustix::fs::fstatvfs(file).map(|fs| fs.f_bavail * fs.f_frsize);
    match available {
        Ok(available) if error.kind() == io::ErrorKind::StorageFull => RingError::NoSpace {
            path,
            needed,
            available,
        },
        _ => file_error("allocate", &path)(error),
    }
}

/// Extends an empty file to this length and allocates all of it. A write into a hole of a mapped file
/// ends the process with a SIGBUS if the disk is full.
pub(super) fn allocate(file: &File, len: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return write_zeros(file, len),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn write_zeros(file: &File, len: u64) -> io::Result<()> {
    let zeros = vec![0; RING_ZERO_BYTES];
    let mut offset = 0;
    while offset < len {
        let bytes = zeros.len().min((len - offset) as usize);
        file.write_all_at(&zeros[..bytes], offset)?;
        offset += bytes as u64;
    }
    Ok(())
}

/// The kernel's boot id. If it cannot be read, a random one: then every start without a clean close
/// counts as one after a reboot.
pub(super) fn read_boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string(BOOT_ID_PATH).unwrap_or_default();
    if let Ok(id) = uuid::Uuid::try_parse(text.trim_end()) {
        return Ok(id.into_bytes());
    }
    let mut id = BootId::default();
    getrandom::fill(&mut id).map_err(no_random)?;
    Ok(id)
}

fn no_random(error: getrandom::Error) -> io::Error {
    io::Error::other(format!("no random numbers: {error}"))
}
