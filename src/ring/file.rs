//! The ring file at its path: finding, locking, making, replacing, and keeping a damaged one aside.
//!
//! Called by the ring when it opens and when it is repaired. At every instant the path names either
//! nothing or a complete ring: a file is made under the name `<path>.new`, written, synced, and
//! renamed. Whoever makes it holds the lock of `<path>.new`, whoever uses it the lock of `<path>`,
//! and since the lock belongs to the file and not to the name (`flock(2)`), the rename turns the one
//! into the other. Knows nothing of the format.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::RingError;
use super::layout::BootId;
use super::storage::{Aside, Fill, Image, MappedFile, Medium, Replacement, Storage};
use crate::limits::{RING_OPEN_ATTEMPTS, RING_ZERO_BYTES};

const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

/// A path in the file system, and the file there while it is locked.
pub(super) struct FileMedium {
    /// Absolute; if the path was a symbolic link, what it leads to.
    path: PathBuf,
    /// The file at the path, locked for as long as this is.
    file: Option<File>,
    boot_id: BootId,
}

impl FileMedium {
    /// A ring at this path, which need not exist. A symbolic link to a file stands for that file;
    /// one that leads nowhere is an error, as it could make us create a file for its maker.
    pub fn new(path: &Path) -> Result<FileMedium, RingError> {
        let path = std::path::absolute(path).map_err(file_error("find", path))?;
        let path = match path.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => path
                .canonicalize()
                .map_err(|_| RingError::DanglingLink { path })?,
            _ => path,
        };
        let boot_id = read_boot_id().map_err(file_error("open", &path))?;
        Ok(FileMedium {
            path,
            file: None,
            boot_id,
        })
    }

    /// Opens and locks what is at the path; `None` if nothing is.
    fn open_locked(&self) -> Result<Option<File>, RingError> {
        for _ in 0..RING_OPEN_ATTEMPTS {
            match fs::symlink_metadata(&self.path) {
                Ok(metadata) if !metadata.is_file() => {
                    return Err(RingError::NotAFile {
                        path: self.path.clone(),
                    });
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error("open", &self.path)(error));
                }
                _ => {}
            }
            let file = match open_options().open(&self.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(file_error("open", &self.path)(error)),
            };
            lock(&file, &self.path)?;
            // Between opening and locking, its last user may have renamed another file over it.
            if is_at(&file, &self.path)? {
                return Ok(Some(file));
            }
        }
        Err(RingError::Locked {
            path: self.path.clone(),
        })
    }

    /// Makes the file that is to take the place of the one at the path: ours alone, empty, locked.
    fn create_new(&self, path: &Path) -> Result<File, RingError> {
        for _ in 0..RING_OPEN_ATTEMPTS {
            self.remove_stale(path)?;
            match open_options().create_new(true).mode(0o600).open(path) {
                Ok(file) => {
                    lock(&file, &self.path)?;
                    // Before we had the lock, another process may have taken it for stale.
                    if is_at(&file, path)? {
                        return Ok(file);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.create_error(path, error)),
            }
        }
        Err(RingError::Locked {
            path: self.path.clone(),
        })
    }

    /// Removes what a crash has left of an earlier attempt; an error if somebody is still at it.
    fn remove_stale(&self, path: &Path) -> Result<(), RingError> {
        match fs::symlink_metadata(path) {
            // If it is not that nothing is there, creating it will tell.
            Err(_) => return Ok(()),
            Ok(metadata) if !metadata.is_file() => {
                return Err(RingError::NotAFile {
                    path: path.to_owned(),
                });
            }
            Ok(_) => {}
        }
        let file = match open_options().open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(file_error("clean up", path))?,
        };
        lock(&file, &self.path)?;
        if is_at(&file, path)? {
            fs::remove_file(path).map_err(file_error("clean up", path))?;
        }
        Ok(())
    }

    fn create_error(&self, path: &Path, error: io::Error) -> RingError {
        match self.path.parent() {
            Some(directory) if !directory.exists() => RingError::NoDirectory {
                path: directory.to_owned(),
            },
            _ => file_error("create", path)(error),
        }
    }

    /// What is at the path must be what we have locked: nothing, if there was nothing.
    fn check_place(&self) -> Result<(), RingError> {
        match fs::symlink_metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file_error("replace", &self.path)(error)),
            Ok(at_path) => match &self.file {
                Some(file)
                    if same_file(&file.metadata().map_err(RingError::Storage)?, &at_path) =>
                {
                    Ok(())
                }
                Some(_) => Err(RingError::Replaced {
                    path: self.path.clone(),
                }),
                // Another process was quicker to make one.
                None => Err(RingError::Locked {
                    path: self.path.clone(),
                }),
            },
        }
    }

    /// Writes the new file and puts it in place; returns where the old one went.
    fn put_in_place(
        &self,
        new: &File,
        new_path: &Path,
        len: u64,
        aside: Aside,
        fill: Fill<'_>,
    ) -> Result<(MappedFile, Option<PathBuf>), RingError> {
        let cannot = |doing| file_error(doing, &self.path);
        allocate(new, len).map_err(|error| self.allocate_error(new, len, error))?;
        let clone = new.try_clone().map_err(cannot("map"))?;
        let mut storage = MappedFile::new(clone, len).map_err(cannot("map"))?;
        fill(&mut storage)
            .and_then(|()| storage.sync())
            .map_err(cannot("write"))?;
        self.check_place()?;
        let moved_to = match aside {
            Aside::Keep => Some(self.keep_aside()?),
            Aside::Drop => None,
        };
        fs::rename(new_path, &self.path).map_err(cannot("replace"))?;
        Ok((storage, moved_to))
    }

    /// Gives the file at the path another name, by a second link, so that at no instant the path
    /// names nothing; where the file system knows no links, by renaming.
    fn keep_aside(&self) -> Result<PathBuf, RingError> {
        let since_1970 = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let name = format!(".corrupt-{}", since_1970.as_secs());
        let mut aside = with_suffix(&self.path, &name);
        let mut nth = 1;
        while aside.symlink_metadata().is_ok() {
            aside = with_suffix(&self.path, &format!("{name}-{nth}"));
            nth += 1;
        }
        fs::hard_link(&self.path, &aside)
            .or_else(|_| fs::rename(&self.path, &aside))
            .map_err(file_error("move aside", &self.path))?;
        Ok(aside)
    }

    fn sync_directory(&self) -> io::Result<()> {
        match self.path.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    fn allocate_error(&self, file: &File, needed: u64, error: io::Error) -> RingError {
        let is_full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let available = rustix::fs::fstatvfs(file).map(|fs| fs.f_bavail * fs.f_frsize);
        match available {
            Ok(available) if is_full => RingError::NoSpace {
                path: self.path.clone(),
                needed,
                available,
            },
            _ => file_error("allocate", &self.path)(error),
        }
    }

    fn new_path(&self) -> PathBuf {
        with_suffix(&self.path, ".new")
    }
}

impl Medium for FileMedium {
    fn open(&mut self) -> Result<Option<&dyn Image>, RingError> {
        self.file = self.open_locked()?;
        if self.file.is_some() {
            self.remove_stale(&self.new_path())?;
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
        let new_path = self.new_path();
        let new = self.create_new(&new_path)?;
        match self.put_in_place(&new, &new_path, len, aside, fill) {
            Ok((storage, moved_to)) => {
                self.file = Some(new);
                self.sync_directory()
                    .map_err(file_error("replace", &self.path))?;
                Ok(Replacement {
                    storage: Box::new(storage),
                    aside: moved_to,
                })
            }
            Err(error) => {
                // The error matters; that a useless file may stay behind does not.
                let _ = fs::remove_file(&new_path);
                Err(error)
            }
        }
    }

    fn boot_id(&self) -> BootId {
        self.boot_id
    }

    fn random(&mut self) -> io::Result<u64> {
        getrandom::u64().map_err(no_random)
    }
}

fn file_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RingError {
    let path = path.to_owned();
    move |source| RingError::File {
        doing,
        path,
        source,
    }
}

/// Read and write, and never through a symbolic link.
fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn lock(file: &File, path: &Path) -> Result<(), RingError> {
    loop {
        return match file.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => Err(RingError::Locked {
                path: path.to_owned(),
            }),
            // Where the lock is kept by a server, asking it can be interrupted (flock(2)).
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {
                continue;
            }
            Err(TryLockError::Error(error)) => Err(file_error("lock", path)(error)),
        };
    }
}

/// Whether a path still names an open file.
fn is_at(file: &File, path: &Path) -> Result<bool, RingError> {
    let ours = file.metadata().map_err(file_error("open", path))?;
    Ok(fs::symlink_metadata(path).is_ok_and(|at_path| same_file(&ours, &at_path)))
}

fn same_file(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Makes an empty file this long, with its space really allocated: a write into a hole of a mapped
/// file ends the process when the disk is full.
fn allocate(file: &File, len: u64) -> io::Result<()> {
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

/// The kernel's boot id; where it cannot be had, a random one, so that every start without a clean
/// close counts as one after a reboot.
fn read_boot_id() -> io::Result<BootId> {
    let text = fs::read_to_string(BOOT_ID_PATH).unwrap_or_default();
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
