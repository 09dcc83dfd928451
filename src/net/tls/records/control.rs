//! What the peer sends beside content: alerts, key updates and, in TLS 1.2, requests for a new handshake.
//!
//! Used by `records`, which acts on the events. Counts what could be repeated for ever. Never holds a key.

use rustls::AlertDescription;

use super::{FATAL, Fault, WARNING};
use crate::limits::{TLS_KEY_UPDATES_MAX, TLS_RENEGOTIATION_REQUESTS_MAX, TLS_WARNINGS_MAX};

/// A key update that requests none (RFC 8446 section 4.6.3): type, length, and the request.
pub(super) const KEY_UPDATE: [u8; 5] = [KEY_UPDATE_TYPE, 0, 0, 1, 0];

/// The types of handshake messages that may follow a handshake.
const CLIENT_HELLO_TYPE: u8 = 1;
const KEY_UPDATE_TYPE: u8 = 24;

/// Bytes of a handshake message before its body.
const MESSAGE_HEADER_BYTES: usize = 4;

/// What follows a record.
#[derive(Clone, Copy)]
pub(super) enum Event {
    None,
    /// The peer sends no more.
    Closed,
    /// The peer's next record has a new key.
    KeyUpdate {
        is_requested: bool,
    },
    /// The peer of TLS 1.2 wants a new handshake.
    Renegotiation,
}

#[derive(Default)]
pub(super) struct Control {
    /// The received part of a handshake message.
    message: [u8; KEY_UPDATE.len()],
    message_bytes: u8,
    /// How much of the body of a refused `ClientHello` is still to come.
    skipped_bytes: u32,
    warnings: u8,
    renegotiation_requests: u8,
    /// Key updates since the last content in either direction.
    key_updates: u8,
}

impl Control {
    /// A part of a handshake message is still to come.
    pub(super) fn is_within_message(&self) -> bool {
        self.message_bytes > 0 || self.skipped_bytes > 0
    }

    pub(super) fn count_content(&mut self) {
        self.key_updates = 0;
    }

    /// An alert: its level and what it says. TLS 1.3 has no warnings but `user_canceled` (RFC 8446 section 6).
    pub(super) fn alert(&mut self, payload: &[u8], is_tls13: bool) -> Result<Event, Fault> {
        let &[level, description] = payload else {
            return Err(wrong_length(payload).into());
        };
        if level != WARNING && level != FATAL {
            return Err(AlertDescription::IllegalParameter.into());
        }
        let alert = AlertDescription::from(description);
        match alert {
            AlertDescription::CloseNotify => return Ok(Event::Closed),
            AlertDescription::UserCanceled if level == WARNING => {}
            _ if level == WARNING && !is_tls13 => {}
            // The peer has ended the connection: no answer.
            _ => return Err(Fault::Received(alert)),
        }
        count(&mut self.warnings, TLS_WARNINGS_MAX)?;
        Ok(Event::None)
    }

    /// Handshake messages of TLS 1.3: only a key update may follow the handshake, and only as the last one of
    /// its record (RFC 8446 section 5.1).
    pub(super) fn handshake(&mut self, payload: &[u8]) -> Result<Event, Fault> {
        if payload.is_empty() {
            return Err(wrong_length(payload).into());
        }
        let rest = self.take(payload, KEY_UPDATE.len());
        let message = &self.message[..usize::from(self.message_bytes)];
        if message[0] != KEY_UPDATE_TYPE {
            return Err(AlertDescription::UnexpectedMessage.into());
        }
        if message.len() >= MESSAGE_HEADER_BYTES
            && message[..MESSAGE_HEADER_BYTES] != KEY_UPDATE[..MESSAGE_HEADER_BYTES]
        {
            return Err(AlertDescription::DecodeError.into());
        }
        if message.len() < KEY_UPDATE.len() {
            return Ok(Event::None);
        }
        if !rest.is_empty() {
            return Err(AlertDescription::UnexpectedMessage.into());
        }
        let is_requested = match message[MESSAGE_HEADER_BYTES] {
            0 => false,
            1 => true,
            _ => return Err(AlertDescription::IllegalParameter.into()),
        };
        self.message_bytes = 0;
        count(&mut self.key_updates, TLS_KEY_UPDATES_MAX)?;
        Ok(Event::KeyUpdate { is_requested })
    }

    /// Handshake messages of TLS 1.2: a `ClientHello` is skipped and refused (RFC 5246 section 7.2.2), and all
    /// others are errors.
    pub(super) fn renegotiation(&mut self, payload: &[u8]) -> Result<Event, Fault> {
        if payload.is_empty() {
            return Err(wrong_length(payload).into());
        }
        let mut event = Event::None;
        let mut rest = payload;
        while !rest.is_empty() {
            let skipped = rest.len().min(self.skipped_bytes as usize);
            self.skipped_bytes -= skipped as u32;
            rest = self.take(&rest[skipped..], MESSAGE_HEADER_BYTES);
            if self.message_bytes > 0 && self.message[0] != CLIENT_HELLO_TYPE {
                return Err(AlertDescription::UnexpectedMessage.into());
            }
            if usize::from(self.message_bytes) == MESSAGE_HEADER_BYTES {
                let [_, bytes @ .., _] = self.message;
                self.skipped_bytes = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
                self.message_bytes = 0;
                count(
                    &mut self.renegotiation_requests,
                    TLS_RENEGOTIATION_REQUESTS_MAX,
                )?;
                event = Event::Renegotiation;
            }
        }
        Ok(event)
    }

    /// Adds to the message what belongs to its first `bytes`. Returns what follows.
    fn take<'a>(&mut self, payload: &'a [u8], bytes: usize) -> &'a [u8] {
        let start = usize::from(self.message_bytes);
        let (taken, rest) = payload.split_at(payload.len().min(bytes - start));
        self.message[start..start + taken.len()].copy_from_slice(taken);
        self.message_bytes += taken.len() as u8;
        rest
    }
}

/// The alert for an alert or a message of a wrong length. Without content they are forbidden (RFC 8446 section 5.4).
fn wrong_length(payload: &[u8]) -> AlertDescription {
    if payload.is_empty() {
        AlertDescription::UnexpectedMessage
    } else {
        AlertDescription::DecodeError
    }
}

fn count(counter: &mut u8, max: u8) -> Result<(), Fault> {
    *counter += 1;
    if *counter > max {
        return Err(AlertDescription::UnexpectedMessage.into());
    }
    Ok(())
}
