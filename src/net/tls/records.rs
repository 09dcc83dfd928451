//! The records of a TLS connection after its handshake (RFC 8446 section 5, RFC 5246 section 6): content, alerts and
//! key updates.
//!
//! Driven by `tls`. The ciphers and the key schedule are those of rustls. Here are only the head of a record, what
//! its type means, and which alert ends the connection. rustls' own connection would hold 3.3 KiB, this one holds
//! 2.1 KiB with TLS 1.3 and 1.3 KiB with TLS 1.2. Never reads or writes a socket.

mod control;

use std::io;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks,
    OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    ProtocolVersion, SupportedCipherSuite,
};

use self::control::{Control, Event};
use super::invalid;
use super::pending::{Content, Outgoing};
use crate::limits::{TLS_EMPTY_RECORDS_MAX, TLS_RECORD_CONTENT_BYTES_MAX};

/// The head of a record: its type, the version, and the length of its body.
pub(super) const HEADER_BYTES: usize = 5;

/// The length of a record's body, if its head is complete.
pub(super) fn body_bytes(received: &[u8]) -> Option<usize> {
    let header = received.get(..HEADER_BYTES)?;
    Some(usize::from(u16::from_be_bytes([header[3], header[4]])))
}

/// The keys of a connection, and what they have been used for.
pub(super) struct Records {
    suite: SupportedCipherSuite,
    /// Makes the next keys of a direction; TLS 1.3 only.
    schedule: Option<Box<KernelConnection<ServerConnectionData>>>,
    encrypter: Box<dyn MessageEncrypter>,
    decrypter: Box<dyn MessageDecrypter>,
    /// The sequence numbers of the next records (RFC 8446 section 5.3). No key is used twice with the same one.
    write_sequence_number: u64,
    read_sequence_number: u64,
    control: Control,
    /// Records without content in a row.
    empty_in_a_row: u8,
    /// The keys for sending change before the next content.
    is_update_due: bool,
    /// An alert has closed the sending side.
    is_closed: bool,
    /// The peer has sent its `close_notify`.
    is_ended: bool,
}

/// What ends a connection.
enum Fault {
    /// The peer has broken the protocol, and gets this alert.
    Peer(AlertDescription),
    /// The peer has sent this alert. It gets no answer.
    Received(AlertDescription),
}

impl From<AlertDescription> for Fault {
    fn from(alert: AlertDescription) -> Fault {
        Fault::Peer(alert)
    }
}

impl Records {
    pub(super) fn new(
        secrets: ExtractedSecrets,
        schedule: KernelConnection<ServerConnectionData>,
    ) -> io::Result<Records> {
        let suite = schedule.negotiated_cipher_suite();
        let (write_sequence_number, sending) = secrets.tx;
        let (read_sequence_number, receiving) = secrets.rx;
        let is_updatable = suite.tls13().is_some();
        Ok(Records {
            suite,
            schedule: is_updatable.then(|| Box::new(schedule)),
            encrypter: encrypter(suite, sending).map_err(invalid)?,
            decrypter: decrypter(suite, receiving).map_err(invalid)?,
            write_sequence_number,
            read_sequence_number,
            control: Control::default(),
            empty_in_a_row: 0,
            is_update_due: false,
            is_closed: false,
            is_ended: false,
        })
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Processes all complete records. Content is delivered, alerts that follow become outgoing. Returns how many
    /// bytes are done with. After an error the connection is over.
    pub(super) fn receive(
        &mut self,
        received: &mut [u8],
        content: &mut Content<'_>,
        outgoing: &mut Outgoing,
    ) -> io::Result<usize> {
        let mut used = 0;
        while !self.is_ended {
            match self.receive_record(&mut received[used..], content, outgoing) {
                Ok(Some(bytes)) => used += bytes,
                Ok(None) => return Ok(used),
                Err(Fault::Peer(alert)) => {
                    self.end(FATAL, alert, outgoing);
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("a record is not allowed: {alert:?}"),
                    ));
                }
                Err(Fault::Received(alert)) => return Err(invalid(Error::AlertReceived(alert))),
            }
        }
        // What follows a `close_notify` is ignored (RFC 8446 section 6.1).
        Ok(received.len())
    }

    /// Processes the first record. Returns its length, or none if it is incomplete.
    fn receive_record(
        &mut self,
        received: &mut [u8],
        content: &mut Content<'_>,
        outgoing: &mut Outgoing,
    ) -> Result<Option<usize>, Fault> {
        let Some(bytes) = body_bytes(received) else {
            return Ok(None);
        };
        let typ = ContentType::from(received[0]);
        let version = ProtocolVersion::from(u16::from_be_bytes([received[1], received[2]]));
        self.check_header(typ, bytes)?;
        let Some(body) = received.get_mut(HEADER_BYTES..HEADER_BYTES + bytes) else {
            return Ok(None);
        };
        let record = InboundOpaqueMessage::new(typ, version, body);
        let plain = self.decrypter.decrypt(record, self.read_sequence_number)?;
        self.read_sequence_number = self
            .read_sequence_number
            .checked_add(1)
            .ok_or(AlertDescription::InternalError)?;
        // No other record between the parts of a message (RFC 8446 section 5.1; TLS 1.2 does not ask for it).
        if self.control.is_within_message() && plain.typ != ContentType::Handshake {
            return Err(AlertDescription::UnexpectedMessage.into());
        }
        let event = match plain.typ {
            ContentType::ApplicationData => {
                self.count_content(plain.payload.len())?;
                content.deliver(plain.payload);
                Event::None
            }
            ContentType::Alert => self.control.alert(plain.payload, self.is_tls13())?,
            ContentType::Handshake if self.is_tls13() => self.control.handshake(plain.payload)?,
            ContentType::Handshake => self.control.renegotiation(plain.payload)?,
            _ => return Err(AlertDescription::UnexpectedMessage.into()),
        };
        self.handle(event, outgoing)?;
        Ok(Some(HEADER_BYTES + bytes))
    }

    /// Checks what is not encrypted. The version is a part of what TLS 1.2 authenticates, and of no meaning in
    /// TLS 1.3 (RFC 8446 section 5.1).
    fn check_header(&self, typ: ContentType, bytes: usize) -> Result<(), Fault> {
        // RFC 8446 sections 5 and 5.2: after the handshake all records look like content, and a
        // `change_cipher_spec` is an error.
        let bytes_max = match (typ, self.is_tls13()) {
            (ContentType::ApplicationData, true) => TLS13_BODY_BYTES_MAX,
            (ContentType::ApplicationData | ContentType::Alert | ContentType::Handshake, false) => {
                TLS12_BODY_BYTES_MAX
            }
            _ => return Err(AlertDescription::UnexpectedMessage.into()),
        };
        if bytes > bytes_max {
            return Err(AlertDescription::RecordOverflow.into());
        }
        Ok(())
    }

    fn count_content(&mut self, bytes: usize) -> Result<(), Fault> {
        if bytes > 0 {
            self.empty_in_a_row = 0;
            self.control.count_content();
            return Ok(());
        }
        self.empty_in_a_row += 1;
        if self.empty_in_a_row > TLS_EMPTY_RECORDS_MAX {
            return Err(AlertDescription::UnexpectedMessage.into());
        }
        Ok(())
    }

    fn handle(&mut self, event: Event, outgoing: &mut Outgoing) -> Result<(), Fault> {
        match event {
            Event::None => {}
            Event::Closed => self.is_ended = true,
            Event::KeyUpdate { is_requested } => {
                self.update_receiving()?;
                self.is_update_due |= is_requested;
            }
            Event::Renegotiation if self.is_closed => {}
            Event::Renegotiation => {
                let alert = [WARNING, AlertDescription::NoRenegotiation.into()];
                outgoing.push(&self.seal(ContentType::Alert, &alert)?);
            }
        }
        Ok(())
    }

    fn update_receiving(&mut self) -> Result<(), Fault> {
        let schedule = self
            .schedule
            .as_mut()
            .ok_or(AlertDescription::InternalError)?;
        let (number, secrets) = schedule.update_rx_secret()?;
        self.decrypter = decrypter(self.suite, secrets)?;
        self.read_sequence_number = number;
        Ok(())
    }

    /// Encrypts the content of a record, with a key update before it if one is due.
    pub(super) fn seal_content(&mut self, content: &[u8]) -> io::Result<Vec<u8>> {
        if self.is_closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // The last number is for the key update, or for the alert of TLS 1.2, which has none.
        self.is_update_due |= self.write_sequence_number.saturating_add(1) >= self.records_max();
        let broken = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let mut records = Vec::new();
        if self.is_update_due {
            records = self.update_sending().map_err(broken)?;
        }
        let record = self
            .seal(ContentType::ApplicationData, content)
            .map_err(broken)?;
        // The client of a stream sends no content, and may renew its keys for as long as it reads.
        self.control.count_content();
        if records.is_empty() {
            return Ok(record);
        }
        records.extend_from_slice(&record);
        Ok(records)
    }

    /// Changes the keys for sending (RFC 8446 section 4.6.3). Returns the record that says so, in the old key. TLS 1.2
    /// has no such change: its keys are used up.
    fn update_sending(&mut self) -> Result<Vec<u8>, Error> {
        let Some(schedule) = &mut self.schedule else {
            return Err(Error::EncryptError);
        };
        let (number, secrets) = schedule.update_tx_secret()?;
        let next = encrypter(self.suite, secrets)?;
        let record = self.seal(ContentType::Handshake, &control::KEY_UPDATE)?;
        self.encrypter = next;
        self.write_sequence_number = number;
        self.is_update_due = false;
        Ok(record)
    }

    /// Encrypts a record under the next sequence number.
    fn seal(&mut self, typ: ContentType, content: &[u8]) -> Result<Vec<u8>, Error> {
        let number = self.write_sequence_number;
        self.write_sequence_number = number.checked_add(1).ok_or(Error::EncryptError)?;
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        Ok(self.encrypter.encrypt(message, number)?.encode())
    }

    /// Adds a `close_notify`, unless an alert has ended the own direction before.
    pub(super) fn close(&mut self, outgoing: &mut Outgoing) {
        self.end(WARNING, AlertDescription::CloseNotify, outgoing);
    }

    /// Adds the alert for a peer that sends too many records with too little in them.
    pub(super) fn refuse(&mut self, outgoing: &mut Outgoing) {
        self.end(FATAL, AlertDescription::UnexpectedMessage, outgoing);
    }

    fn end(&mut self, level: u8, alert: AlertDescription, outgoing: &mut Outgoing) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        if let Ok(record) = self.seal(ContentType::Alert, &[level, alert.into()]) {
            outgoing.push(&record);
        }
    }

    fn is_tls13(&self) -> bool {
        self.suite.tls13().is_some()
    }

    /// The most records for one key (RFC 8446 section 5.5).
    fn records_max(&self) -> u64 {
        match self.suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        }
    }
}

/// The levels of alerts.
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// The longest body: content, with what a cipher adds (RFC 8446 section 5.2, RFC 5246 section 6.2.3).
const TLS13_BODY_BYTES_MAX: usize = TLS_RECORD_CONTENT_BYTES_MAX + 256;
const TLS12_BODY_BYTES_MAX: usize = TLS_RECORD_CONTENT_BYTES_MAX + 2048;

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::from(match error {
            Error::DecryptError => AlertDescription::BadRecordMac,
            Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
            // No type of content, or a forbidden one (RFC 8446 section 5.4).
            Error::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
            _ => AlertDescription::InternalError,
        })
    }
}

pub(super) fn encrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageEncrypter>, Error> {
    let (key, iv) = key_and_iv(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
            let (fixed, explicit) = iv.as_ref().split_at(fixed);
            suite.aead_alg.encrypter(key, fixed, explicit)
        }
    })
}

pub(super) fn decrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (key, iv) = key_and_iv(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            let fixed = suite.aead_alg.key_block_shape().fixed_iv_len;
            suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed])
        }
    })
}

fn key_and_iv(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("unknown cipher".into())),
    }
}

#[cfg(test)]
impl Records {
    /// Changes the keys for sending before the next content.
    pub(super) fn request_update(&mut self) {
        self.is_update_due = true;
    }

    pub(super) fn write_sequence_number(&self) -> u64 {
        self.write_sequence_number
    }
}
