//! TLS between a connection's bytes and HTTP, driven by the readiness of the socket. rustls makes the handshake
//! (`handshake`). Records after it are read and written here (`records`), with rustls' ciphers.
//!
//! Used by `socket` for the connections of TLS listeners. Connections share the frames in the live
//! log, but not their ciphertext: each write is encrypted for its connection. A session borrows its thread's
//! buffers for a read or a write. Between two of them it keeps its keys, an incomplete record, content that was not
//! read, and ciphertext that was not sent. While it has such ciphertext, it takes no more bytes, like a full
//! socket. Never blocks, and never interprets the plaintext.

mod handshake;
mod pending;
mod records;

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::ServerConfig;

use self::handshake::Handshake;
use self::pending::{Content, Outgoing, Rest};
use self::records::Records;
use crate::limits::{
    TLS_HANDSHAKE_READ_BYTES, TLS_INCOMING_BYTES_MAX, TLS_READS_MAX, TLS_RECORD_CONTENT_BYTES_MAX,
};

/// The transport below TLS: ciphertext in and out, nonblocking. A read that does not fill the buffer has read
/// all that there is.
pub(super) trait ByteStream: Read + Write {
    /// Closes the write side.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// The TLS side of a connection.
pub(super) struct TlsSession {
    state: State,
    /// Received bytes that are not processed: a part of a record or of a handshake message.
    incoming: Vec<u8>,
    /// Content for which the caller's buffer had no room.
    content: Vec<u8>,
    outgoing: Outgoing,
    /// The write side is closed once all ciphertext is sent.
    is_closing: bool,
}

enum State {
    Handshaking(Handshake),
    Established(Records),
    /// The peer has broken the protocol, or a write has failed. The next read returns the fault, if content preceded
    /// it in its own read.
    Broken(Option<io::Error>),
}

/// The buffers of a thread, for one read or write at a time.
struct Buffers {
    incoming: Box<[u8]>,
    /// A record's content, if it is in several extents.
    content: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        incoming: vec![0; TLS_INCOMING_BYTES_MAX].into(),
        content: Vec::with_capacity(TLS_RECORD_CONTENT_BYTES_MAX),
    });
}

impl TlsSession {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<TlsSession, rustls::Error> {
        Ok(TlsSession {
            state: State::Handshaking(Handshake::new(config)?),
            incoming: Vec::new(),
            content: Vec::new(),
            outgoing: Outgoing::default(),
            is_closing: false,
        })
    }

    /// Reads plaintext until the buffer is full or the transport has no more bytes.
    pub(super) fn read(
        &mut self,
        transport: &mut impl ByteStream,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let waiting = std::mem::take(&mut self.content);
        let mut content = Content::new(buffer, &waiting);
        let result = BUFFERS.with_borrow_mut(|buffers| {
            self.read_records(&mut buffers.incoming, transport, &mut content)
        });
        let count = content.count;
        self.content = content.rest;
        match result {
            Err(error) if count > 0 => {
                self.keep_fault(error);
                Ok(count)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(count),
        }
    }

    /// Keeps the fault of a broken session for the next read. Any other error is found again by it.
    fn keep_fault(&mut self, error: io::Error) {
        if let State::Broken(fault) = &mut self.state {
            *fault = Some(error);
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
        let (mut reads, mut is_drained) = (0, false);
        let mut filled = self.incoming.len();
        received[..filled].copy_from_slice(&self.incoming);
        let result = loop {
            if content.is_full() || self.is_ended() {
                break Ok(());
            }
            if let State::Broken(fault) = &mut self.state {
                filled = 0;
                let invalid = || io::ErrorKind::InvalidData.into();
                break Err(fault.take().unwrap_or_else(invalid));
            }
            // Without this limit, records with little or no content could keep the thread in this loop. A message
            // that fills the buffer and is not complete is too long.
            if filled == received.len() || (reads >= TLS_READS_MAX && !is_drained) {
                self.refuse();
                filled = 0;
                break Err(io::ErrorKind::InvalidData.into());
            }
            if reads >= TLS_READS_MAX {
                break Err(io::ErrorKind::WouldBlock.into());
            }
            reads += 1;
            let room = self.room(received.len() - filled);
            let count = match transport.read(&mut received[filled..filled + room]) {
                // Without a `close_notify` the content may be cut short.
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(error),
            };
            filled += count;
            is_drained = count < room;
            let processed = self.process(&mut received[..filled], count, content);
            let flushed = match self.flush(transport) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                other => other,
            };
            match processed.and_then(|used| flushed.map(|()| used)) {
                Ok(used) => {
                    received.copy_within(used..filled, 0);
                    filled -= used;
                }
                // `flush` has sent the peer an alert, if there was room.
                Err(error) => {
                    self.state = State::Broken(None);
                    filled = 0;
                    break Err(error);
                }
            }
            // The end of the bytes may be behind records without content, and no event follows for it.
            if is_drained && content.count > 0 && !self.is_ended() {
                break Err(io::ErrorKind::WouldBlock.into());
            }
        };
        self.incoming.clear();
        self.incoming.shrink_to(filled);
        self.incoming.extend_from_slice(&received[..filled]);
        result
    }

    /// Ends the connection with an alert, which the next flush sends.
    fn refuse(&mut self) {
        if let State::Established(records) = &mut self.state {
            records.refuse(&mut self.outgoing);
        }
        self.state = State::Broken(None);
    }

    /// The peer has sent its `close_notify`.
    fn is_ended(&self) -> bool {
        matches!(&self.state, State::Established(records) if records.is_ended())
    }

    fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }

    /// How much is read at once: little during a handshake, since content in the same bytes counts as a part of it.
    fn room(&self, room: usize) -> usize {
        match &self.state {
            State::Handshaking(_) => room.min(TLS_HANDSHAKE_READ_BYTES),
            State::Established(_) | State::Broken(_) => room,
        }
    }

    /// Processes all complete records: content is delivered, handshake messages and alerts that follow become
    /// outgoing. The last `count` bytes are new. Returns how many bytes are done with.
    fn process(
        &mut self,
        received: &mut [u8],
        count: usize,
        content: &mut Content<'_>,
    ) -> io::Result<usize> {
        let mut used = 0;
        if let State::Handshaking(handshake) = &mut self.state {
            handshake.count(count)?;
            let (bytes, is_over) = handshake.process(received, &mut self.outgoing)?;
            if !is_over {
                return Ok(bytes);
            }
            used = bytes;
            self.establish()?;
        }
        match &mut self.state {
            State::Established(records) => {
                used += records.receive(&mut received[used..], content, &mut self.outgoing)?;
                Ok(used)
            }
            State::Handshaking(_) | State::Broken(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Goes on with the keys of the handshake, which is over.
    fn establish(&mut self) -> io::Result<()> {
        if let State::Handshaking(handshake) =
            std::mem::replace(&mut self.state, State::Broken(None))
        {
            self.state = State::Established(handshake.into_records()?);
        }
        Ok(())
    }

    /// Encrypts as much of the extents as the transport has room for, and what is left of a record.
    pub(super) fn write(
        &mut self,
        transport: &mut impl ByteStream,
        extents: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(transport)?;
        let records = match &mut self.state {
            State::Established(records) => records,
            // Before the handshake is over, there is no request to answer.
            State::Handshaking(_) => return Err(io::ErrorKind::NotConnected.into()),
            State::Broken(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let mut has_failed = false;
        let result = BUFFERS.with_borrow_mut(|buffers| {
            let mut taken = 0;
            let mut rest = Rest::new(extents);
            while let Some(content) = rest.next(&mut buffers.content) {
                let sealed = records.seal_content(content)?;
                taken += content.len();
                let sent = self.outgoing.send(sealed, transport);
                sent.inspect_err(|_| has_failed = true)?;
                if !self.outgoing.is_empty() {
                    break;
                }
            }
            Ok(taken)
        });
        if has_failed {
            self.give_up();
        }
        result
    }

    /// After a failed write it is unknown which bytes were sent, so none may follow.
    fn give_up(&mut self) {
        self.state = State::Broken(None);
        self.outgoing = Outgoing::default();
    }

    /// Whether the next read after a short one ends the connection without a further event: the end, or a fault,
    /// was in the same bytes as the content.
    pub(super) fn has_end(&self) -> bool {
        self.is_ended() || self.is_broken()
    }

    /// Whether ciphertext is unsent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Sends pending ciphertext. `WouldBlock` means that some is left.
    pub(super) fn flush(&mut self, transport: &mut impl ByteStream) -> io::Result<()> {
        if let Err(error) = self.outgoing.flush(transport) {
            if error.kind() != io::ErrorKind::WouldBlock {
                self.give_up();
            }
            return Err(error);
        }
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
        if let State::Established(records) = &mut self.state {
            records.close(&mut self.outgoing);
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
