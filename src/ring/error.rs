//! Why a ring cannot be opened, or cannot take a message.
//!
//! Told to operators as it stands: each error says what to do, where there is something to be done.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a ring cannot be opened, or cannot take a message. Displays as one line that says what to do
/// where there is something to be done.
#[derive(Debug)]
pub enum RingError {
    /// Another process uses the file.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// What is at the path is a directory, a device, a pipe or a socket.
    NotAFile {
        /// What was to be opened.
        path: PathBuf,
    },
    /// The path is a symbolic link that leads nowhere.
    DanglingLink {
        /// The link.
        path: PathBuf,
    },
    /// The directory that the file was to be in does not exist.
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The disk, or the user's quota on it, is too small.
    NoSpace {
        /// The file that was to be made.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// What the file system has left for this user, in bytes.
        available: u64,
    },
    /// The configured largest message is larger than any ring's slots.
    SlotsTooLarge {
        /// The configured size in bytes.
        bytes: usize,
        /// The largest there is.
        bytes_max: usize,
    },
    /// A message is larger than the slots of this ring.
    MessageTooLarge {
        /// Its content and session in bytes.
        bytes: usize,
        /// What fits.
        bytes_max: usize,
    },
    /// Somebody has cut the file while it was in use.
    Truncated {
        /// Its length now, in bytes.
        found: u64,
        /// What it was.
        expected: u64,
    },
    /// Somebody has deleted the file while it was in use.
    Removed,
    /// Somebody has put another file in its place.
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// Anything else that the system refuses to do with a file.
    File {
        /// What was being done, as a verb: "open".
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The storage did not take what was written to it.
    Storage(io::Error),
    /// The disk did not take what was committed to it.
    Unsynced(io::Error),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RingError::Locked { path } => write!(
                f,
                "ring file {} is in use by another process: give each its own with --ring",
                path.display()
            ),
            RingError::NotAFile { path } => {
                write!(f, "ring file {}: not a regular file", path.display())
            }
            RingError::DanglingLink { path } => write!(
                f,
                "ring file {}: a symbolic link that leads nowhere; make what it points to, or \
                 remove it",
                path.display()
            ),
            RingError::NoDirectory { path } => write!(
                f,
                "ring file: the directory {} does not exist; create it, or choose another with \
                 --ring",
                path.display()
            ),
            RingError::NoSpace {
                path,
                needed,
                available,
            } => write!(
                f,
                "ring file {}: no space; {needed} bytes are needed, {available} are available \
                 (a smaller --max-body-bytes makes a smaller ring)",
                path.display()
            ),
            RingError::SlotsTooLarge { bytes, bytes_max } => {
                write!(
                    f,
                    "messages of {bytes} bytes are more than a ring can take ({bytes_max})"
                )
            }
            RingError::MessageTooLarge { bytes, bytes_max } => {
                write!(
                    f,
                    "message of {bytes} bytes is larger than a slot of the ring ({bytes_max})"
                )
            }
            RingError::Truncated { found, expected } => write!(
                f,
                "ring file was truncated while in use, to {found} bytes instead of {expected}"
            ),
            RingError::Removed => write!(f, "ring file was deleted while in use"),
            RingError::Replaced { path } => write!(
                f,
                "ring file {} was replaced by another file while in use",
                path.display()
            ),
            RingError::File {
                doing,
                path,
                source,
            } => {
                write!(f, "cannot {doing} ring file {}: {source}", path.display())
            }
            RingError::Storage(source) => write!(f, "cannot write to the ring: {source}"),
            RingError::Unsynced(source) => write!(f, "cannot write the ring to disk: {source}"),
        }
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RingError::File { source, .. }
            | RingError::Storage(source)
            | RingError::Unsynced(source) => Some(source),
            _ => None,
        }
    }
}
