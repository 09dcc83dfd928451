//! The values of a head's header fields that this server uses, read in one pass.
//!
//! Called by [`Head::parse`](super::Head::parse) with fields whose syntax `httparse` has checked. Refuses
//! ambiguous values. Never allocates.

use super::super::error::Refusal;
use super::super::request_line::Version;
use super::super::target;
use super::scanner::is_token_byte;
use super::{Expectation, Framing, Span, offset_of};

/// A field that may be sent in several lines. A list that is, which is rare, counts as absent.
#[derive(Debug, Default, Clone, Copy)]
pub enum ListField {
    #[default]
    Absent,
    Single(Span),
    Several,
}

impl ListField {
    fn add(&mut self, span: Span) {
        *self = match self {
            ListField::Absent => ListField::Single(span),
            ListField::Single(_) | ListField::Several => ListField::Several,
        };
    }

    pub fn single(self) -> Option<Span> {
        if let ListField::Single(span) = self {
            Some(span)
        } else {
            None
        }
    }
}

/// The value of `Connection`. `close` has precedence over `keep-alive` in any order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Persistence {
    OfVersion,
    KeepAlive,
    Close,
}

/// The value of `Transfer-Encoding`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TransferCoding {
    Absent,
    Chunked,
    Unknown,
}

/// The values of the header fields, read in one pass.
pub struct Fields {
    has_host: bool,
    persistence: Persistence,
    content_length: Option<u64>,
    transfer_coding: TransferCoding,
    pub expectation: Expectation,
    pub is_encoded: bool,
    pub secret: Option<Span>,
    pub last_event_id: Option<Span>,
    pub origin: Option<Span>,
    pub if_none_match: ListField,
    pub accept_encoding: ListField,
    pub idempotency_key: ListField,
}

impl Fields {
    pub fn read(head: &[u8], headers: &[httparse::Header<'_>]) -> Result<Fields, Refusal> {
        let mut fields = Fields {
            has_host: false,
            persistence: Persistence::OfVersion,
            content_length: None,
            transfer_coding: TransferCoding::Absent,
            expectation: Expectation::None,
            is_encoded: false,
            secret: None,
            last_event_id: None,
            origin: None,
            if_none_match: ListField::Absent,
            accept_encoding: ListField::Absent,
            idempotency_key: ListField::Absent,
        };
        for header in headers {
            let start = offset_of(head, header.value);
            let span = Span::new(start..start + header.value.len());
            fields.add(header.name, header.value, span)?;
        }
        Ok(fields)
    }

    /// Reads one field. Its name is compared only with known names of the same length, which excludes most
    /// fields without a comparison.
    fn add(&mut self, name: &str, value: &[u8], span: Span) -> Result<(), Refusal> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => self.add_host(value),
            6 if is("expect") => {
                self.add_expectation(value);
                Ok(())
            }
            6 if is("origin") => set_once(&mut self.origin, span, Refusal::OriginRepeated),
            10 if is("connection") => {
                self.add_connection(value);
                Ok(())
            }
            13 if is("last-event-id") => {
                set_once(&mut self.last_event_id, span, Refusal::LastEventIdRepeated)
            }
            13 if is("if-none-match") => {
                self.if_none_match.add(span);
                Ok(())
            }
            14 if is("content-length") => self.add_content_length(value),
            15 if is("accept-encoding") => {
                self.accept_encoding.add(span);
                Ok(())
            }
            15 if is("idempotency-key") => {
                self.idempotency_key.add(span);
                Ok(())
            }
            16 if is("content-encoding") => {
                self.add_content_encoding(value);
                Ok(())
            }
            16 if is("x-webhook-secret") => {
                set_once(&mut self.secret, span, Refusal::SecretRepeated)
            }
            17 if is("transfer-encoding") => self.add_transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn add_host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.has_host {
            return Err(Refusal::HostRepeated);
        }
        self.has_host = true;
        if value.is_empty() || target::is_authority(value) {
            Ok(())
        } else {
            Err(Refusal::HostMalformed)
        }
    }

    /// RFC 9110 section 10.1.1.
    fn add_expectation(&mut self, value: &[u8]) {
        let is_continue = value.eq_ignore_ascii_case(b"100-continue");
        self.expectation = match self.expectation {
            Expectation::None | Expectation::Continue if is_continue => Expectation::Continue,
            _ => Expectation::Unknown,
        };
    }

    /// RFC 9110 section 7.6.1. Unknown options have no meaning for an origin server.
    fn add_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.persistence = Persistence::Close;
            } else if option.eq_ignore_ascii_case(b"keep-alive")
                && self.persistence == Persistence::OfVersion
            {
                self.persistence = Persistence::KeepAlive;
            }
        }
    }

    /// RFC 9110 section 8.6: one or more digits. RFC 9112 section 6.3 would allow a list or a repeat of
    /// equal lengths. It is refused, because no ordinary client sends one.
    fn add_content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.content_length.is_some() {
            return Err(Refusal::ContentLengthRepeated);
        }
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(Refusal::ContentLengthMalformed);
        }
        let length = value.iter().fold(0u64, |length, digit| {
            length
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        });
        self.content_length = Some(length);
        Ok(())
    }

    /// RFC 9110 section 8.4. `identity` is no coding in this field, but some clients send it.
    fn add_content_encoding(&mut self, value: &[u8]) {
        let mut codings = value
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|coding| !coding.is_empty());
        self.is_encoded |= codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    }

    /// RFC 9112 section 6.1. Only the single coding `chunked` is implemented. A list in which `chunked` is
    /// repeated, or is followed by another coding, is malformed.
    fn add_transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.transfer_coding != TransferCoding::Absent {
            return Err(Refusal::TransferEncodingMalformed);
        }
        if value.eq_ignore_ascii_case(b"chunked") {
            self.transfer_coding = TransferCoding::Chunked;
            return Ok(());
        }
        let mut codings = value
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .peekable();
        while let Some(coding) = codings.next() {
            let is_sound = !coding.is_empty() && coding.iter().all(|&byte| is_token_byte(byte));
            let is_last = codings.peek().is_none();
            if !is_sound || (coding.eq_ignore_ascii_case(b"chunked") && !is_last) {
                return Err(Refusal::TransferEncodingMalformed);
            }
        }
        self.transfer_coding = TransferCoding::Unknown;
        Ok(())
    }

    pub fn check_host(&self, version: Version) -> Result<(), Refusal> {
        if self.has_host || version == Version::Http10 {
            Ok(())
        } else {
            Err(Refusal::HostMissing)
        }
    }

    /// RFC 9112 section 9.3.
    pub fn keep_alive(&self, version: Version) -> bool {
        match self.persistence {
            Persistence::OfVersion => version == Version::Http11,
            Persistence::KeepAlive => true,
            Persistence::Close => false,
        }
    }

    /// RFC 9112 section 6.3. An ambiguous length is reported before a coding that is not implemented.
    pub fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        match (self.transfer_coding, self.content_length) {
            (TransferCoding::Absent, length) => Ok(Framing::Length(length.unwrap_or(0))),
            _ if version == Version::Http10 => Err(Refusal::TransferEncodingInOldVersion),
            (_, Some(_)) => Err(Refusal::FramingAmbiguous),
            (TransferCoding::Unknown, None) => Err(Refusal::TransferCodingUnknown),
            (TransferCoding::Chunked, None) => Ok(Framing::Chunked),
        }
    }
}

/// Sets a field that may be sent only once.
fn set_once(field: &mut Option<Span>, span: Span, repeated: Refusal) -> Result<(), Refusal> {
    if field.replace(span).is_some() {
        Err(repeated)
    } else {
        Ok(())
    }
}
