//! TLS between a connection's bytes and HTTP: rustls, driven by the readiness of the socket.
//!
//! Used by `socket` for the connections of TLS listeners. Connections share the frames in the live
//! log, but not their ciphertext: each write is encrypted for its connection. A session borrows its thread's
//! buffers for a read or a write. Between two of them it keeps only the beginning of a record, and what the
//! socket did not take of the last one. While such a rest is there, it takes no more bytes, like a full
//! socket. Never blocks, and never interprets the plaintext.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, WriteTraffic};

use crate::limits::{
    TLS_HANDSHAKE_BYTES_MAX, TLS_HANDSHAKE_READ_BYTES, TLS_INCOMING_BYTES_MAX,
    TLS_READS_WITHOUT_CONTENT_MAX, TLS_RECORD_BYTES_MAX, TLS_RECORD_CONTENT_BYTES_MAX,
};

/// The transport below TLS: ciphertext in and out, nonblocking. A read that does not fill the buffer has read
/// all that there is.
pub(super) trait ByteStream: Read + Write {
    /// Closes the write side.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// The TLS side of a connection.
pub(super) struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Received bytes that are not processed: a part of a record or of a handshake message.
    incoming: Vec<u8>,
    /// Content for which the caller's buffer had no room.
    content: Vec<u8>,
    outgoing: Outgoing,
    /// Ciphertext read before the handshake was over.
    handshake_bytes: usize,
    /// The peer has sent its `close_notify`.
    is_ended: bool,
    /// The peer has broken the protocol.
    is_broken: bool,
    /// The write side is closed once all ciphertext is sent.
    is_closing: bool,
}

/// Ciphertext that waits for the socket.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

/// The buffers of a thread, for one read or write at a time.
struct Buffers {
    incoming: Box<[u8]>,
    /// A record's content, if it is in several extents.
    content: Vec<u8>,
    record: Box<[u8]>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        incoming: vec![0; TLS_INCOMING_BYTES_MAX].into(),
        content: Vec::with_capacity(TLS_RECORD_CONTENT_BYTES_MAX),
        record: vec![0; TLS_RECORD_BYTES_MAX].into(),
    });
}

impl TlsSession {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<TlsSession, rustls::Error> {
        Ok(TlsSession {
            connection: UnbufferedServerConnection::new(config)?,
            incoming: Vec::new(),
            content: Vec::new(),
            outgoing: Outgoing::default(),
            handshake_bytes: 0,
            is_ended: false,
            is_broken: false,
            is_closing: false,
        })
    }

    /// Reads plaintext until the buffer is full or the transport has no more bytes.
    pub(super) fn read(
        &mut self,
        transport: &mut impl ByteStream,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let mut content = Content {
            buffer,
            count: 0,
            rest: std::mem::take(&mut self.content),
        };
        content.refill();
        let result = BUFFERS.with_borrow_mut(|buffers| {
            self.read_records(&mut buffers.incoming, transport, &mut content)
        });
        let count = content.count;
        self.content = content.rest;
        match result {
            Err(_) if count > 0 => Ok(count),
            Err(error) => Err(error),
            Ok(()) => Ok(count),
        }
    }

    /// Reads until the content is full or the transport has no more bytes; at the end of the peer's bytes
    /// without an error.
    fn read_records(
        &mut self,
        received: &mut [u8],
        transport: &mut impl ByteStream,
        content: &mut Content<'_>,
    ) -> io::Result<()> {
        let mut reads = 0;
        let mut filled = self.incoming.len();
        received[..filled].copy_from_slice(&self.incoming);
        let result = loop {
            if content.is_full() || self.is_ended {
                break Ok(());
            }
            // Without this limit, records without content could keep the thread in this loop. A message that
            // fills the buffer and is not complete is too long.
            if self.is_broken || reads == TLS_READS_WITHOUT_CONTENT_MAX || filled == received.len()
            {
                break Err(io::ErrorKind::InvalidData.into());
            }
            reads += 1;
            let room = self.room(received.len() - filled);
            let count = match transport.read(&mut received[filled..filled + room]) {
                // Without a `close_notify` the content may be cut short.
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) => break Err(error),
            };
            filled += count;
            let is_drained = count < room;
            let before = content.count;
            let processed = self
                .count_handshake(count)
                .and_then(|()| self.process(&mut received[..filled], content, |_| ()));
            let flushed = match self.flush(transport) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                other => other,
            };
            match processed.and_then(|used| flushed.map(|()| used)) {
                Ok((used, _)) => {
                    received.copy_within(used..filled, 0);
                    filled -= used;
                }
                // `flush` has sent the peer an alert, if there was room.
                Err(error) => {
                    self.is_broken = true;
                    filled = 0;
                    break Err(error);
                }
            }
            if content.count > before {
                reads = 0;
            }
            if is_drained && !self.is_ended {
                break Err(io::ErrorKind::WouldBlock.into());
            }
        };
        self.incoming.clear();
        self.incoming.shrink_to(filled);
        self.incoming.extend_from_slice(&received[..filled]);
        result
    }

    /// How much is read at once. The first content may follow the handshake, and does not count as a part of it.
    fn room(&self, room: usize) -> usize {
        if self.connection.is_handshaking() {
            room.min(TLS_HANDSHAKE_READ_BYTES)
        } else {
            room
        }
    }

    fn count_handshake(&mut self, bytes: usize) -> io::Result<()> {
        if self.connection.is_handshaking() {
            self.handshake_bytes += bytes;
            if self.handshake_bytes > TLS_HANDSHAKE_BYTES_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(())
    }

    /// Processes all complete records: content is delivered, handshake messages and alerts that follow become
    /// outgoing. Then calls `send` if content can be sent: after the handshake, before the end. Returns how many
    /// bytes are done with.
    fn process<T>(
        &mut self,
        received: &mut [u8],
        content: &mut Content<'_>,
        send: impl FnOnce(&mut Traffic<'_>) -> T,
    ) -> io::Result<(usize, Option<T>)> {
        let mut used = 0;
        let mut fault = None;
        loop {
            // After a fault, only the alert for the peer is left.
            if !self.connection.wants_write()
                && let Some(fault) = fault
            {
                return Err(invalid(fault));
            }
            let status = self.connection.process_tls_records(&mut received[used..]);
            used += status.discard;
            match status.state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        used += record.discard;
                        content.deliver(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => self.outgoing.add(data),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Err(error) => fault = Some(error),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return Ok((used, Some(send(&mut traffic))));
                }
                Ok(_) => return Ok((used, None)),
            }
        }
    }

    /// Calls `send` if content can be sent, with what was received before.
    fn send_with<T>(&mut self, send: impl FnOnce(&mut Traffic<'_>) -> T) -> io::Result<Option<T>> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut received = std::mem::take(&mut self.incoming);
        let mut content = Content {
            buffer: &mut [],
            count: 0,
            rest: std::mem::take(&mut self.content),
        };
        let processed = self.process(&mut received, &mut content, send);
        self.content = content.rest;
        let (used, result) = processed.inspect_err(|_| self.is_broken = true)?;
        received.drain(..used);
        self.incoming = received;
        Ok(result)
    }

    /// Encrypts as much of the extents as the transport has room for, and what is left of a record.
    pub(super) fn write(
        &mut self,
        transport: &mut impl ByteStream,
        extents: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(transport)?;
        BUFFERS.with_borrow_mut(|buffers| self.write_records(buffers, transport, extents))
    }

    fn write_records(
        &mut self,
        buffers: &mut Buffers,
        transport: &mut impl ByteStream,
        extents: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let mut taken = 0;
        let mut rest = Rest {
            extents,
            skipped: 0,
        };
        let Buffers {
            content: joined,
            record,
            ..
        } = buffers;
        while let Some(content) = rest.next(joined) {
            let sealed = self.encrypt(content, record)?;
            taken += content.len();
            self.outgoing.send(&record[..sealed], transport)?;
            if self.has_unsent() {
                break;
            }
        }
        Ok(taken)
    }

    /// Encrypts the content of a record into a buffer. Returns the length of the record.
    fn encrypt(&mut self, content: &[u8], record: &mut [u8]) -> io::Result<usize> {
        let sealed = self.send_with(|traffic| traffic.encrypt(content, record))?;
        match sealed {
            Some(Ok(bytes)) => Ok(bytes),
            // The keys are used up.
            Some(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            // Before the handshake is over, there is no request to answer.
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether ciphertext is unsent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Sends pending ciphertext. `WouldBlock` means that some is left.
    pub(super) fn flush(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
        self.outgoing.flush(transport)?;
        if std::mem::take(&mut self.is_closing) {
            transport.shutdown_write()?;
        }
        Ok(())
    }

    /// Sends a `close_notify` (RFC 8446 section 6.1), then closes the write side.
    pub(super) fn close_write(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
        self.add_close_notify();
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
        self.add_close_notify();
        let _ = self.flush(transport);
    }

    fn add_close_notify(&mut self) {
        let mut alert = [0; CLOSE_NOTIFY_BYTES_MAX];
        if let Ok(Some(Ok(bytes))) =
            self.send_with(|traffic| traffic.queue_close_notify(&mut alert))
        {
            self.outgoing.bytes.extend_from_slice(&alert[..bytes]);
        }
    }
}

/// The largest `close_notify`, after a key update: two records of some bytes.
const CLOSE_NOTIFY_BYTES_MAX: usize = 256;

type Traffic<'a> = WriteTraffic<'a, ServerConnectionData>;

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds a handshake message or an alert.
    fn add(&mut self, mut data: EncodeTlsData<'_, ServerConnectionData>) {
        let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
            return;
        };
        let start = self.bytes.len();
        self.bytes.resize(start + size.required_size, 0);
        let encoded = data.encode(&mut self.bytes[start..]).unwrap_or(0);
        self.bytes.truncate(start + encoded);
    }

    /// Sends a record after what is unsent, and keeps what the transport does not take.
    fn send(&mut self, record: &[u8], transport: &mut impl ByteStream) -> io::Result<()> {
        let mut sent = 0;
        if self.is_empty() {
            sent = send_all(record, transport)?;
        }
        self.bytes.extend_from_slice(&record[sent..]);
        Ok(())
    }

    /// Sends all. `WouldBlock` means that some is left.
    fn flush(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
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
struct Content<'a> {
    buffer: &'a mut [u8],
    count: usize,
    /// What the buffer has no room for.
    rest: Vec<u8>,
}

impl Content<'_> {
    fn is_full(&self) -> bool {
        self.count == self.buffer.len()
    }

    /// Delivers what an earlier buffer had no room for.
    fn refill(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        self.deliver(&rest);
    }

    fn deliver(&mut self, bytes: &[u8]) {
        let room = &mut self.buffer[self.count..];
        let (now, later) = bytes.split_at(bytes.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        self.count += now.len();
        self.rest.extend_from_slice(later);
    }
}

/// The extents of a write that are left.
struct Rest<'a> {
    extents: &'a [IoSlice<'a>],
    /// How much of the first one is taken.
    skipped: usize,
}

impl<'a> Rest<'a> {
    /// The content of the next record. It is joined in `buffer` if it is in several extents.
    fn next<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]>
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

#[cfg(test)]
mod tests;
