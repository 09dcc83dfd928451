//! The place of a ring file: a descriptor of its directory, and its name there.
//!
//! Called by `file` at every start and for every replacement. The path is followed component by
//! component. A symbolic link is opened once: its owner and its target are read through the same
//! descriptor. So the link that was examined is the link that is followed. If the kernel followed the
//! path, another process could change a link in between. Never looks at a file's content or lock.
//!
//! A link is followed only if this process's user or root owns it, in the spirit of
//! `fs.protected_symlinks` (proc(5)): any other owner could point it anywhere, at any time.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags, accessat,
    fstat, fstatvfs, linkat, openat, readlinkat, renameat, statat, statx, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::RingError;
use super::file::file_error;
use crate::limits::RING_PATH_LINKS_MAX;

/// A name in a directory.
pub(super) struct Place {
    /// Opened with `O_PATH`, which needs no permission to read it.
    directory: OwnedFd,
    name: OsString,
    /// The path without links, for error texts.
    path: PathBuf,
}

/// A symbolic link: owner and target were read through one descriptor.
struct Link {
    owner: u32,
    target: PathBuf,
}

impl Place {
    /// Follows an absolute path. Its last component may be missing, unless a link leads to it: a dangling
    /// link could make this process create a file where the link's owner wants it.
    pub fn find(path: &Path) -> Result<Place, RingError> {
        let mut walk = Walk::begin(path)?;
        let mut last_link = None;
        loop {
            match walk.pending.pop() {
                Some(component) if !walk.pending.is_empty() => walk.descend(&component)?,
                Some(name) => match walk.link_at(&name)? {
                    Some(link) => {
                        last_link = Some(walk.path.join(&name));
                        walk.follow(&name, &link)?;
                    }
                    None => return walk.end(name, last_link),
                },
                // The path, or a link's target, can only name a directory: `/`, `..`.
                None => {
                    return Err(RingError::NotAFile {
                        kind: "directory",
                        path: walk.path,
                    });
                }
            }
        }
    }

    /// The path without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path with a suffix: another name in the same directory.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    /// Calls lstat(2) on the name with this suffix.
    pub fn stat(&self, suffix: &str) -> io::Result<Stat> {
        let name = self.name(suffix);
        Ok(statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Calls fstat(2) on the directory.
    pub fn stat_directory(&self) -> io::Result<Stat> {
        Ok(fstat(&self.directory)?)
    }

    /// Whether the name with this suffix leads to this open file.
    pub fn is_of(&self, file: &File, suffix: &str) -> io::Result<bool> {
        let ours = file.metadata()?;
        Ok(self
            .stat(suffix)
            .is_ok_and(|named| (named.st_dev, named.st_ino) == (ours.dev(), ours.ino())))
    }

    /// Whether the file is a mount point; false if the kernel does not say.
    pub fn is_mount_point(&self) -> bool {
        let name = self.name("");
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        statx(&self.directory, &name, flags, StatxFlags::TYPE)
            .is_ok_and(|file| is_mount_root(file.stx_attributes))
    }

    /// Opens the file with this suffix for reading and writing, never through a symbolic link.
    pub fn open(&self, suffix: &str) -> io::Result<File> {
        self.open_with(suffix, OFlags::empty())
    }

    /// Creates the file with this suffix, with mode 0600. An error if the name exists.
    pub fn create(&self, suffix: &str) -> io::Result<File> {
        self.open_with(suffix, OFlags::CREATE | OFlags::EXCL)
    }

    /// Creates a file without a name in the directory (open(2), `O_TMPFILE`). Closing it removes it.
    pub fn create_unnamed(&self) -> io::Result<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(retry(|| openat(&self.directory, ".", flags, mode))?.into())
    }

    /// Checks that this process may create files in the directory (faccessat(2)).
    pub fn check_writable(&self) -> io::Result<()> {
        let access = Access::WRITE_OK | Access::EXEC_OK;
        Ok(accessat(&self.directory, ".", access, AtFlags::EACCESS)?)
    }

    /// The free space of the file system for this user, in bytes (statvfs(3)).
    pub fn bytes_available(&self) -> io::Result<u64> {
        let file_system = fstatvfs(&self.directory)?;
        Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
    }

    fn open_with(&self, suffix: &str, flags: OFlags) -> io::Result<File> {
        // `NONBLOCK`, so that the open does not wait if a pipe has taken the file's place.
        let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = retry(|| openat(&self.directory, self.name(suffix), flags, mode))?;
        Ok(file.into())
    }

    /// Gives the file a second name.
    pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.name(from), self.name(to));
        let directory = &self.directory;
        Ok(linkat(directory, from, directory, to, AtFlags::empty())?)
    }

    /// Renames the file, replacing a file of the other name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.name(from), self.name(to));
        Ok(renameat(&self.directory, from, &self.directory, to)?)
    }

    /// Removes a name.
    pub fn remove(&self, suffix: &str) -> io::Result<()> {
        Ok(unlinkat(
            &self.directory,
            self.name(suffix),
            AtFlags::empty(),
        )?)
    }

    /// Syncs the directory. Does nothing on a file system that cannot sync directories.
    pub fn sync(&self) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = retry(|| openat(&self.directory, ".", flags, Mode::empty()))?;
        match File::from(directory).sync_all() {
            // The file system cannot sync directories (fsync(2)).
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
            synced => synced,
        }
    }

    fn name(&self, suffix: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(suffix);
        name
    }
}

/// A ring file that this process has made. Dropping it removes the file, unless [`Made::keep`] was
/// called: so a start that fails later leaves no file.
pub struct Made {
    place: Place,
    file: File,
    is_kept: bool,
}

impl Made {
    pub(super) fn new(place: Place, file: File) -> Made {
        Made {
            place,
            file,
            is_kept: false,
        }
    }

    /// Keeps the file.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.is_kept && self.place.is_of(&self.file, "").unwrap_or(false) {
            // The start has failed for another reason, which is reported. A leftover does no harm.
            let _ = self.place.remove("");
        }
    }
}

/// The state of following a path.
struct Walk {
    directory: OwnedFd,
    path: PathBuf,
    /// The remaining components in reverse order.
    pending: Vec<OsString>,
    links: usize,
}

impl Walk {
    fn begin(path: &Path) -> Result<Walk, RingError> {
        let root = open_directory(CWD, OsStr::new("/")).map_err(file_error("find", path))?;
        let mut walk = Walk {
            directory: root,
            path: PathBuf::from("/"),
            pending: Vec::new(),
            links: 0,
        };
        walk.queue(path);
        Ok(walk)
    }

    fn queue(&mut self, path: &Path) {
        let components = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        self.pending.extend(components.rev());
    }

    /// Follows a component that is not the last: a directory, or a link to one.
    fn descend(&mut self, name: &OsStr) -> Result<(), RingError> {
        let error = match open_directory(&self.directory, name) {
            Ok(directory) => {
                self.directory = directory;
                if name == ".." {
                    self.path.pop();
                } else {
                    self.path.push(name);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        match self.link_at(name)? {
            Some(link) => self.follow(name, &link),
            None if error.kind() == io::ErrorKind::NotFound => Err(RingError::NoDirectory {
                path: self.path.join(name),
            }),
            None => Err(file_error("find", &self.path.join(name))(error)),
        }
    }

    /// The symbolic link of this name; `None` if the name is missing or not a link.
    fn link_at(&self, name: &OsStr) -> Result<Option<Link>, RingError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let examine = || {
            let link = retry(|| openat(&self.directory, name, flags, Mode::empty()))?;
            let stat = fstat(&link)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
                return Ok(None);
            }
            let target = readlinkat(&link, "", Vec::new())?.into_bytes();
            Ok(Some(Link {
                owner: stat.st_uid,
                target: OsString::from_vec(target).into(),
            }))
        };
        match examine() {
            Err(Errno::NOENT) => Ok(None),
            examined => examined
                .map_err(io::Error::from)
                .map_err(file_error("find", &self.path.join(name))),
        }
    }

    fn follow(&mut self, name: &OsStr, link: &Link) -> Result<(), RingError> {
        let path = self.path.join(name);
        if !is_trusted(link.owner) {
            return Err(RingError::ForeignLink {
                owner: link.owner,
                target: self.path.join(&link.target),
                path,
            });
        }
        self.links += 1;
        if self.links > RING_PATH_LINKS_MAX {
            return Err(RingError::DanglingLink { path });
        }
        if link.target.is_absolute() {
            let root = open_directory(CWD, OsStr::new("/")).map_err(file_error("find", &path))?;
            self.directory = root;
            self.path = PathBuf::from("/");
        }
        self.queue(&link.target);
        Ok(())
    }

    /// Makes the place. An error if a link has led to a name that does not exist.
    fn end(self, name: OsString, last_link: Option<PathBuf>) -> Result<Place, RingError> {
        let place = Place {
            directory: self.directory,
            path: self.path.join(&name),
            name,
        };
        match (place.stat(""), last_link) {
            (Err(error), Some(path)) if error.kind() == io::ErrorKind::NotFound => {
                Err(RingError::DanglingLink { path })
            }
            _ => Ok(place),
        }
    }
}

/// Whether links of this owner are followed.
fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// The path made absolute. An error if it can only name a directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, RingError> {
    let absolute = std::path::absolute(path).map_err(file_error("find", path))?;
    if names_directory(path) {
        return Err(RingError::NotAFile {
            kind: "directory",
            path: absolute,
        });
    }
    Ok(absolute)
}

/// Whether a path is `data/`, `data/.`, `..` or the like.
fn names_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.") || path.file_name().is_none()
}

/// Whether a path leads to a mount point.
pub(super) fn is_mounted_alone(path: &Path) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::TYPE)
        .is_ok_and(|file| is_mount_root(file.stx_attributes))
}

fn is_mount_root(attributes: StatxAttributes) -> bool {
    attributes.contains(StatxAttributes::MOUNT_ROOT)
}

fn open_directory(at: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry(|| openat(&at, name, flags, Mode::empty())).map_err(io::Error::from)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
