//! The handshake of a TLS connection, by rustls.
//!
//! Driven by `tls`. rustls gets one record at a time, and none after the handshake: what follows belongs to
//! `records`, which has the keys from then on. Never reads or writes a socket.

use std::io;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::ConnectionState;
use rustls::{ContentType, Error, ServerConfig};

use super::invalid;
use super::pending::Outgoing;
use super::records::{HEADER_BYTES, Records, body_bytes};
use crate::limits::TLS_HANDSHAKE_BYTES_MAX;

/// A connection before the end of its handshake.
pub(super) struct Handshake {
    connection: Box<UnbufferedServerConnection>,
    /// Ciphertext read so far.
    bytes: usize,
    /// Bytes of whole records that rustls has read and not released: they hold a part of a message.
    held: usize,
}

/// The shortest body of a record in a handshake: one byte, and what is encrypted has its type and a tag of 16
/// bytes as well (RFC 8446 sections 5.1 and 5.2).
fn body_bytes_min(typ: u8) -> usize {
    match ContentType::from(typ) {
        ContentType::ApplicationData => 17,
        _ => 1,
    }
}

impl Handshake {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Handshake, rustls::Error> {
        Ok(Handshake {
            connection: Box::new(UnbufferedServerConnection::new(config)?),
            bytes: 0,
            held: 0,
        })
    }

    /// Counts bytes that were read.
    pub(super) fn count(&mut self, bytes: usize) -> io::Result<()> {
        self.bytes += bytes;
        if self.bytes > TLS_HANDSHAKE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    /// Processes all complete records up to the end of the handshake. Its messages and alerts become outgoing.
    /// Returns how many bytes are done with, and whether the handshake is over.
    pub(super) fn process(
        &mut self,
        received: &mut [u8],
        outgoing: &mut Outgoing,
    ) -> io::Result<(usize, bool)> {
        let mut used = 0;
        let mut records = self.held;
        let mut is_tail_seen = false;
        loop {
            let end = if is_tail_seen {
                received.len()
            } else {
                records
            };
            used += self.step(&mut received[used..end], outgoing)?;
            if !self.connection.is_handshaking() {
                return Ok((used, true));
            }
            if is_tail_seen {
                self.held = records - used;
                return Ok((used, false));
            }
            match body_bytes(&received[records..]) {
                // With `early_data` in the hello, rustls keeps what it cannot decrypt and tries all of it again
                // with each record. It counts bytes of bodies, so empty ones would be free.
                Some(bytes) if bytes < body_bytes_min(received[records]) => {
                    return Err(invalid(Error::DecryptError));
                }
                Some(bytes) if HEADER_BYTES + bytes <= received.len() - records => {
                    records += HEADER_BYTES + bytes;
                }
                // The tail is an incomplete record, which rustls leaves, or no record, which it refuses.
                _ => is_tail_seen = true,
            }
        }
    }

    /// Calls rustls until it needs more bytes and has sent all that it wants to send. Returns how many bytes are
    /// done with.
    fn step(&mut self, received: &mut [u8], outgoing: &mut Outgoing) -> io::Result<usize> {
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
                Ok(ConnectionState::EncodeTlsData(data)) => outgoing.add(data),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Err(error) => fault = Some(error),
                Ok(_) => return Ok(used),
            }
        }
    }

    /// The keys of a handshake that is over.
    pub(super) fn into_records(self) -> io::Result<Records> {
        let (secrets, schedule) = self
            .connection
            .dangerous_into_kernel_connection()
            .map_err(invalid)?;
        Records::new(secrets, schedule)
    }
}
