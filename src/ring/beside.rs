//! A file beside the ring, with a suffix of its own.
//!
//! Used by `identities`. The path of the ring is followed as by the ring itself (`place`), so the file is
//! in the ring's directory, and a link or another user's file is never opened. The lock of the ring
//! covers it. Never interprets bytes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::RingError;
use super::file::{check_kind, check_owner};
use super::place::{self, Place};

/// See the module's documentation.
pub struct Beside {
    ring: PathBuf,
    suffix: &'static str,
}

impl Beside {
    /// The file with the path of a ring and this suffix.
    pub fn new(ring: &Path, suffix: &'static str) -> Beside {
        Beside {
            ring: ring.to_owned(),
            suffix,
        }
    }

    /// Opens the file; `None` if there is none.
    pub fn open(&self) -> io::Result<Option<File>> {
        let place = self.place()?;
        match place.stat(self.suffix) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => check_kind(&place, self.suffix, &found?).map_err(io::Error::other)?,
        }
        let file = match place.open(self.suffix) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        check_owner(&place, &file).map_err(io::Error::other)?;
        Ok(Some(file))
    }

    /// Makes a new file, fills it, and puts it at the path.
    pub fn replace(&self, fill: &mut dyn FnMut(&File) -> io::Result<()>) -> io::Result<File> {
        let place = self.place()?;
        let new = format!("{}.new", self.suffix);
        match place.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let made = place.create(&new)?;
        let put = fill(&made).and_then(|()| place.rename(&new, self.suffix));
        if put.is_err() {
            // The first error is returned. The next replacement removes a leftover.
            let _ = place.remove(&new);
        }
        put.map(|()| made)
    }

    /// Syncs the directory.
    pub fn sync_directory(&self) -> io::Result<()> {
        self.place()?.sync()
    }

    fn place(&self) -> io::Result<Place> {
        let io_error = |error| match error {
            RingError::File { source, .. } => source,
            error => io::Error::other(error),
        };
        place::absolute(&self.ring)
            .and_then(|path| Place::find(&path))
            .map_err(io_error)
    }
}
