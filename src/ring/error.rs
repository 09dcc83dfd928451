//! Errors of opening a ring and of appending to it.
//!
//! Returned by all modules of the ring, and printed for operators unchanged. The text says what to do, if
//! the operator can do something. Never shows a message.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::process::geteuid;

/// Why a ring cannot be opened or appended to. Displays as one line.
#[derive(Debug)]
pub enum RingError {
    /// Another process uses the file.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// At the path is a directory, a device, a pipe or a socket.
    NotAFile {
        /// Which of these.
        kind: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A symbolic link in the path belongs to another user, who could point it anywhere.
    ForeignLink {
        /// The link.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The target of the link.
        target: PathBuf,
    },
    /// The file belongs to another user and is in a world-writable directory.
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
    },
    /// The file is a mount point, so no other file can replace it.
    MountPoint {
        /// The file.
        path: PathBuf,
    },
    /// The path is a symbolic link to a missing file.
    DanglingLink {
        /// The link.
        path: PathBuf,
    },
    /// The directory of the file does not exist.
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The user's quota on the disk is too small.
    NoQuota {
        /// The file that was to be made.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
    },
    /// The disk is too small.
    NoSpace {
        /// The file that was to be made.
        path: PathBuf,
        /// Its size in bytes.
        needed: u64,
        /// What the file system has left for this user, in bytes.
        available: u64,
    },
    /// The configured largest message is larger than the largest possible slot.
    SlotsTooLarge {
        /// The configured size in bytes.
        bytes: usize,
        /// The largest possible size in bytes.
        bytes_max: usize,
    },
    /// A message is larger than the slots of this ring.
    MessageTooLarge {
        /// Its content and session in bytes.
        bytes: usize,
        /// The largest size that fits.
        bytes_max: usize,
    },
    /// The file was truncated while it was in use.
    Truncated {
        /// Its length now, in bytes.
        found: u64,
        /// Its length before.
        expected: u64,
    },
    /// The file was deleted or moved away while it was in use.
    Removed,
    /// Another program has written into the file while it was in use.
    Overwritten,
    /// Another file was put at the path while the ring was in use.
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// Any other error of a system call on a file.
    File {
        /// The operation, as a verb: "open".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A read, write or sync of the storage has failed.
    Storage(io::Error),
    /// The sync of a commit has failed.
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
            RingError::NotAFile { kind, path } => write!(
                f,
                "ring file {}: not a regular file but a {kind}; name a file with --ring",
                path.display()
            ),
            RingError::ForeignLink {
                path,
                owner,
                target,
            } => write!(
                f,
                "ring file: the symbolic link {} belongs to user {owner}, who could point it \
                 anywhere: name the target with --ring ({}), or give the link to root or to user \
                 {} (chown -h)",
                path.display(),
                target.display(),
                geteuid().as_raw()
            ),
            RingError::ForeignFile { path, owner } => write!(
                f,
                "ring file {} belongs to user {owner} and lies in a directory that everyone may \
                 write to: choose a private directory with --ring",
                path.display()
            ),
            RingError::MountPoint { path } => write!(
                f,
                "ring file {} is a mount point, and a new file has to take its place: mount its \
                 directory instead of the file",
                path.display()
            ),
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
            RingError::NoQuota { path, needed } => write!(
                f,
                "ring file {}: {needed} bytes are more than the disk quota of user {} has left \
                 (a smaller --max-body-bytes makes a smaller ring)",
                path.display(),
                geteuid().as_raw()
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
            RingError::SlotsTooLarge { bytes, bytes_max } => write!(
                f,
                "messages of {bytes} bytes are more than a ring can take ({bytes_max})"
            ),
            RingError::MessageTooLarge { bytes, bytes_max } => write!(
                f,
                "message of {bytes} bytes is larger than a slot of the ring ({bytes_max})"
            ),
            RingError::Truncated { found, expected } => write!(
                f,
                "ring file was truncated while in use, to {found} bytes instead of {expected}"
            ),
            RingError::Removed => write!(f, "ring file was deleted or moved away while in use"),
            RingError::Overwritten => write!(f, "ring file was overwritten while in use"),
            RingError::Replaced { path } => write!(
                f,
                "ring file {} was replaced while in use; another process may use the new one",
                path.display()
            ),
            RingError::File {
                doing,
                path,
                source,
            } => {
                write!(f, "cannot {doing} ring file {}: {source}", path.display())?;
                match advice(doing, source) {
                    Some(advice) => write!(f, "; {advice}"),
                    None => Ok(()),
                }
            }
            RingError::Storage(source) => write!(f, "cannot write to the ring: {source}"),
            RingError::Unsynced(source) => write!(f, "cannot write the ring to disk: {source}"),
        }
    }
}

/// What to do about a system error, if its own text does not say it.
fn advice(doing: &str, source: &io::Error) -> Option<String> {
    let advice = match (doing, Errno::from_io_error(source)?) {
        ("map", Errno::NODEV | Errno::INVAL | Errno::OPNOTSUPP) => {
            "its file system has no shared memory maps, which the ring needs: choose another with \
             --ring"
        }
        ("lock", Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            "its file system has no locks, which the ring needs: choose another with --ring"
        }
        (_, Errno::ACCESS) => {
            return Some(format!(
                "let user {} write there, or choose another place with --ring",
                geteuid().as_raw()
            ));
        }
        (_, Errno::PERM) => {
            "it may be immutable or append-only (lsattr shows i or a; chattr -ia removes both)"
        }
        (_, Errno::ROFS) => "choose a place that can be written to with --ring",
        (_, Errno::NAMETOOLONG) => {
            "choose a shorter name with --ring: .new and .corrupt-<time> have to fit behind it"
        }
        _ => return None,
    };
    Some(advice.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_error_says_what_to_do() {
        for (doing, errno, said) in [
            ("map", Errno::NODEV, "no shared memory maps"),
            ("map", Errno::INVAL, "no shared memory maps"),
            ("lock", Errno::NOLCK, "no locks"),
            ("lock", Errno::OPNOTSUPP, "no locks"),
            ("create", Errno::ACCESS, "write there, or choose another"),
            ("open", Errno::ACCESS, "write there, or choose another"),
            ("open", Errno::PERM, "chattr"),
            ("replace", Errno::PERM, "chattr"),
            ("create", Errno::ROFS, "can be written to"),
            ("create", Errno::NAMETOOLONG, "shorter name"),
        ] {
            let error = RingError::File {
                doing,
                path: "/data/ring".into(),
                source: errno.into(),
            };
            let text = error.to_string();
            let (failure, advice) = text.split_once("; ").unwrap();
            assert!(
                failure.starts_with(&format!("cannot {doing} ring file /data/ring: ")),
                "{text}"
            );
            assert!(advice.contains(said), "{text}");
        }
        let error = RingError::File {
            doing: "write",
            path: "/data/ring".into(),
            source: Errno::IO.into(),
        };
        assert!(!error.to_string().contains("; "), "{error}");
    }
}
