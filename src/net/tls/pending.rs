//! Bytes of a TLS session that are still to pass: ciphertext for the socket, content for its reader, and the rest of
//! a write.
//!
//! Used by `tls` and the modules below it. Never encrypts or decrypts.

use std::io::{self, IoSlice};

use rustls::server::ServerConnectionData;
use rustls::unbuffered::{EncodeError, EncodeTlsData};

use super::ByteStream;
use crate::limits::TLS_RECORD_CONTENT_BYTES_MAX;

/// Ciphertext that waits for the socket.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a handshake message or an alert.
    pub(super) fn add(&mut self, mut data: EncodeTlsData<'_, ServerConnectionData>) {
        let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
            return;
        };
        let start = self.bytes.len();
        self.bytes.resize(start + size.required_size, 0);
        let encoded = data.encode(&mut self.bytes[start..]).unwrap_or(0);
        self.bytes.truncate(start + encoded);
    }

    /// Adds a record.
    pub(super) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
    }

    /// Sends a record after what is unsent, and keeps what the transport does not take. A record is never
    /// encrypted twice.
    pub(super) fn send(
        &mut self,
        record: Vec<u8>,
        transport: &mut impl ByteStream,
    ) -> io::Result<()> {
        if !self.is_empty() {
            self.push(&record);
            return Ok(());
        }
        self.sent = send_all(&record, transport)?;
        if self.sent < record.len() {
            self.bytes = record;
        } else {
            self.sent = 0;
        }
        Ok(())
    }

    /// Sends all. `WouldBlock` means that some is left.
    pub(super) fn flush(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.sent += send_all(&self.bytes[self.sent..], transport)?;
        if self.sent < self.bytes.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        *self = Outgoing::default();
        Ok(())
    }
}

/// Writes until the transport takes no more. Returns how much it took.
fn send_all(bytes: &[u8], transport: &mut impl ByteStream) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match transport.write(&bytes[sent..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// The content for the caller of a read.
pub(super) struct Content<'a> {
    buffer: &'a mut [u8],
    pub(super) count: usize,
    /// What the buffer has no room for.
    pub(super) rest: Vec<u8>,
}

impl<'a> Content<'a> {
    /// Content for a buffer, which begins with what an earlier one had no room for.
    pub(super) fn new(buffer: &'a mut [u8], waiting: &[u8]) -> Content<'a> {
        let mut content = Content {
            buffer,
            count: 0,
            rest: Vec::new(),
        };
        content.deliver(waiting);
        content
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == self.buffer.len()
    }

    pub(super) fn deliver(&mut self, bytes: &[u8]) {
        let room = &mut self.buffer[self.count..];
        let (now, later) = bytes.split_at(bytes.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.count += now.len();
        self.rest.extend_from_slice(later);
    }
}

/// The extents of a write that are left.
pub(super) struct Rest<'a> {
    extents: &'a [IoSlice<'a>],
    /// How much of the first one is taken.
    skipped: usize,
}

impl<'a> Rest<'a> {
    pub(super) fn new(extents: &'a [IoSlice<'a>]) -> Rest<'a> {
        Rest {
            extents,
            skipped: 0,
        }
    }

    /// The content of the next record. It is joined in `buffer` if it is in several extents.
    pub(super) fn next<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]>
    where
        'a: 'b,
    {
        self.skip_empty();
        let (first, others) = self.extents.split_first()?;
        let part = &first[self.skipped..];
        if others.is_empty() || part.len() >= TLS_RECORD_CONTENT_BYTES_MAX {
            let part = &part[..part.len().min(TLS_RECORD_CONTENT_BYTES_MAX)];
            self.skipped += part.len();
            return Some(part);
        }
        buffer.clear();
        while let Some(extent) = self.extents.first()
            && buffer.len() < TLS_RECORD_CONTENT_BYTES_MAX
        {
            let part = &extent[self.skipped..];
            let part = &part[..part.len().min(TLS_RECORD_CONTENT_BYTES_MAX - buffer.len())];
            buffer.extend_from_slice(part);
            self.skipped += part.len();
            self.skip_empty();
        }
        Some(buffer)
    }

    fn skip_empty(&mut self) {
        while let Some(first) = self.extents.first()
            && self.skipped == first.len()
        {
            self.extents = &self.extents[1..];
            self.skipped = 0;
        }
    }
}
