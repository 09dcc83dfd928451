//! The file of identities at its path, beside the ring.
//!
//! Called by the parent module. The process that has locked the ring has this file, too. Never reads or
//! writes the format.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::ring::Beside;

/// Waits until a file is on disk.
pub type Syncer = Box<dyn FnOnce() -> io::Result<()> + Send>;

/// Where identities are kept: [`IdentityFile`], or a disk in memory for tests.
pub trait Backing: Send {
    /// Opens it. Returns its length; `None` if there is none.
    fn open(&mut self) -> io::Result<Option<u64>>;

    /// Reads bytes. An error if it ends before.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()>;

    /// Writes bytes.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Replaces it by one of this length that begins with these parts, in one step that a kill cannot
    /// divide.
    fn replace(&mut self, len: u64, parts: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()>;

    /// A sync of everything written so far. It may run on a thread that does not own the backing. `None`
    /// if it is not open.
    fn syncer(&self) -> Option<Syncer>;

    /// Closes it.
    fn close(&mut self);
}

/// The file `<ring>.identities`.
pub struct IdentityFile {
    beside: Arc<Beside>,
    file: Option<Arc<File>>,
}

impl IdentityFile {
    /// The file beside the ring at this path. It need not exist.
    pub fn of_ring(ring: &Path) -> IdentityFile {
        IdentityFile {
            beside: Arc::new(Beside::new(ring, ".identities")),
            file: None,
        }
    }

    fn file(&self) -> io::Result<&File> {
        self.file
            .as_deref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Backing for IdentityFile {
    fn open(&mut self) -> io::Result<Option<u64>> {
        self.file = self.beside.open()?.map(Arc::new);
        match &self.file {
            Some(file) => Ok(Some(file.metadata()?.len())),
            None => Ok(None),
        }
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(bytes, offset)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(bytes, offset)
    }

    fn replace(&mut self, len: u64, parts: &mut dyn Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let file = self.beside.replace(&mut |file| {
            let mut offset = 0;
            for part in &mut *parts {
                file.write_all_at(&part, offset)?;
                offset += part.len() as u64;
            }
            file.set_len(len)
        })?;
        self.file = Some(Arc::new(file));
        Ok(())
    }

    fn syncer(&self) -> Option<Syncer> {
        let (file, beside) = (Arc::clone(self.file.as_ref()?), Arc::clone(&self.beside));
        Some(Box::new(move || {
            file.sync_all()?;
            // The name of a file that was made or replaced.
            beside.sync_directory()
        }))
    }

    fn close(&mut self) {
        self.file = None;
    }
}
