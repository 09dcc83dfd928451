//! The extents of one gathering write (writev(2)).
//!
//! Filled by the live log with frames, and by a stream with the bytes that are only for it. Then passed to
//! a socket. Never copies and never allocates.

use std::io::IoSlice;

use crate::limits::GATHER_EXTENTS_MAX;

/// Up to [`GATHER_EXTENTS_MAX`] extents and the sum of their bytes.
pub struct Gather<'a> {
    extents: [IoSlice<'a>; GATHER_EXTENTS_MAX],
    length: usize,
    bytes: usize,
}

impl<'a> Gather<'a> {
    /// An empty gather.
    pub fn new() -> Gather<'a> {
        Gather {
            extents: [IoSlice::new(&[]); GATHER_EXTENTS_MAX],
            length: 0,
            bytes: 0,
        }
    }

    /// Adds an extent, unless it is empty. The caller keeps within [`Gather::room`].
    pub fn push(&mut self, extent: &'a [u8]) {
        if extent.is_empty() {
            return;
        }
        self.extents[self.length] = IoSlice::new(extent);
        self.length += 1;
        self.bytes += extent.len();
    }

    /// How many more extents can be added.
    pub fn room(&self) -> usize {
        GATHER_EXTENTS_MAX - self.length
    }

    /// The sum of all extents in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The extents, in order.
    pub fn extents(&self) -> &[IoSlice<'a>] {
        &self.extents[..self.length]
    }
}

impl Default for Gather<'_> {
    fn default() -> Self {
        Gather::new()
    }
}
