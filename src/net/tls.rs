//! TLS between a connection's bytes and HTTP: rustls, driven by the readiness of the socket.
//!
//! Used by `socket` for the connections of TLS listeners. Connections share the frames in the live
//! log, but not their ciphertext: each write is encrypted for its connection. At most
//! [`TLS_BUFFER_BYTES`] of ciphertext wait for the socket. A session with a full buffer takes no
//! more bytes, like a full socket. Never blocks, and never interprets the plaintext.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::limits::{
    GATHER_EXTENTS_MAX, TLS_BUFFER_BYTES, TLS_HANDSHAKE_BYTES_MAX, TLS_READS_WITHOUT_CONTENT_MAX,
};

/// The transport below TLS: ciphertext in and out, nonblocking.
pub(super) trait ByteStream: Read + Write {
    /// Closes the write side.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// The TLS side of a connection.
pub(super) struct TlsSession {
    connection: ServerConnection,
    /// Ciphertext read before the handshake was over.
    handshake_bytes: usize,
    /// The write side is closed once all ciphertext is sent.
    is_closing: bool,
}

impl TlsSession {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<TlsSession, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        Ok(TlsSession {
            connection,
            handshake_bytes: 0,
            is_closing: false,
        })
    }

    /// Reads plaintext until the buffer is full or the transport has no more bytes.
    pub(super) fn read(
        &mut self,
        transport: &mut impl ByteStream,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let mut count = 0;
        let mut reads = 0;
        loop {
            match self.connection.reader().read(&mut buffer[count..]) {
                Ok(0) => return Ok(count),
                Ok(bytes) => {
                    count += bytes;
                    reads = 0;
                    if count == buffer.len() {
                        return Ok(count);
                    }
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The transport ended without a `close_notify`, so the content may be cut short.
                Err(_) if count > 0 => return Ok(count),
                Err(error) => return Err(error),
            }
            // Without this limit, records without content could keep the thread in this loop.
            reads += 1;
            if reads > TLS_READS_WITHOUT_CONTENT_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match self.read_transport(transport) {
                Ok(()) => {}
                Err(_) if count > 0 => return Ok(count),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once from the transport, and sends the handshake messages or alerts that follow.
    fn read_transport(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
        let was_handshaking = self.connection.is_handshaking();
        let bytes = self.connection.read_tls(transport)?;
        if was_handshaking {
            self.handshake_bytes += bytes;
            if self.handshake_bytes > TLS_HANDSHAKE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        let processed = self.connection.process_new_packets();
        let flushed = match self.flush(transport) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        };
        match processed {
            // `flush` has sent the peer an alert, if there was room.
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            Ok(_) if bytes == 0 && self.connection.is_handshaking() => {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Ok(_) => flushed,
        }
    }

    /// Encrypts as much of the extents as the transport and the buffer have room for.
    pub(super) fn write(
        &mut self,
        transport: &mut impl ByteStream,
        extents: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let offered: usize = extents.iter().map(|extent| extent.len()).sum();
        let mut taken = 0;
        loop {
            match self.flush(transport) {
                Ok(()) if taken < offered => {}
                Ok(()) => return Ok(taken),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && taken > 0 => {
                    return Ok(taken);
                }
                Err(error) => return Err(error),
            }
            let mut rest = [IoSlice::new(&[]); GATHER_EXTENTS_MAX];
            let length = skip(extents, taken, &mut rest);
            let bytes = self.connection.writer().write_vectored(&rest[..length])?;
            if bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            taken += bytes;
        }
    }

    /// Whether ciphertext is unsent.
    pub(super) fn has_unsent(&self) -> bool {
        self.connection.wants_write()
    }

    /// Sends pending ciphertext. `WouldBlock` means that some is left.
    pub(super) fn flush(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(transport) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if std::mem::take(&mut self.is_closing) {
            transport.shutdown_write()?;
        }
        Ok(())
    }

    /// Sends a `close_notify` (RFC 8446 section 6.1), then closes the write side.
    pub(super) fn close_write(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
        self.connection.send_close_notify();
        self.is_closing = true;
        match self.flush(transport) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Sends a `close_notify` before the connection is dropped, if it has not been sent. Errors are
    /// ignored: the peer may be gone. During a handshake there is no content that could be cut
    /// short.
    pub(super) fn notify_close(&mut self, transport: &mut impl ByteStream) {
        if !self.connection.is_handshaking() {
            self.connection.send_close_notify();
            let _ = self.flush(transport);
        }
    }
}

/// Fills `rest` with the extents after the first `taken` bytes, and returns their number.
fn skip<'a>(extents: &'a [IoSlice<'_>], mut taken: usize, rest: &mut [IoSlice<'a>]) -> usize {
    let mut length = 0;
    for extent in extents {
        let skipped = taken.min(extent.len());
        taken -= skipped;
        if skipped < extent.len() && length < rest.len() {
            rest[length] = IoSlice::new(&extent[skipped..]);
            length += 1;
        }
    }
    length
}
