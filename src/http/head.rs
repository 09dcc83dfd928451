//! The head of a request: finds its end as the bytes arrive, and parses it when it is complete.
//!
//! Called by [`RequestReader`](super::RequestReader). [`HeadScanner`] examines every byte once, however
//! the bytes are cut. It refuses a request at the first wrong byte, so the result does not depend on the
//! cuts. [`Head::parse`] runs `httparse` over the complete head and keeps the positions of the fields
//! that this server uses. Never allocates.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX};

use super::error::Refusal;
use super::request_line::{Method, Version};
use super::target;

/// Finds the end of a head (RFC 9112 section 2.2, but with CRLF as the only end of a line).
///
/// The request line is checked byte by byte, so that garbage, a TLS handshake or an endless target is
/// refused at once. In the header fields it only searches for the ends of lines; `httparse` checks the
/// rest.
#[derive(Debug)]
pub(super) struct HeadScanner {
    stage: Stage,
    /// The number of examined bytes.
    scanned: usize,
    /// The offset of the current part: the method, the target, the version, or a field line.
    mark: usize,
    field_lines: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Method,
    Target,
    Version,
    Fields,
}

impl HeadScanner {
    pub fn new() -> HeadScanner {
        HeadScanner {
            stage: Stage::Method,
            scanned: 0,
            mark: 0,
            field_lines: 0,
        }
    }

    /// Examines the new part of `bytes`, which are all bytes of the request so far. Returns the length of
    /// the head in bytes when it is complete.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        loop {
            let stage = self.stage;
            match stage {
                Stage::Method => self.scan_method(bytes)?,
                Stage::Target => self.scan_target(bytes)?,
                Stage::Version => self.scan_version(bytes)?,
                Stage::Fields => return self.scan_fields(bytes),
            }
            if self.stage == stage {
                return Ok(None);
            }
        }
    }

    fn enter(&mut self, stage: Stage, at: usize) {
        self.stage = stage;
        self.scanned = at;
        self.mark = at;
    }

    fn scan_method(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let window = window(bytes, self.mark + METHOD_BYTES_MAX + 1);
        let Some(end) = position_from(window, self.scanned, |byte| !is_token_byte(byte)) else {
            self.scanned = window.len();
            let method_bytes = window.len() - self.mark;
            return if method_bytes > METHOD_BYTES_MAX {
                Err(Refusal::MethodTooLong)
            } else {
                Ok(())
            };
        };
        if window[end] != b' ' || end == self.mark {
            return Err(Refusal::Method);
        }
        self.enter(Stage::Target, end + 1);
        Ok(())
    }

    fn scan_target(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let window = window(bytes, self.mark + TARGET_BYTES_MAX + 1);
        let Some(end) = position_from(window, self.scanned, |byte| !is_target_byte(byte)) else {
            self.scanned = window.len();
            let target_bytes = window.len() - self.mark;
            return if target_bytes > TARGET_BYTES_MAX {
                Err(Refusal::TargetTooLong)
            } else {
                Ok(())
            };
        };
        match window[end] {
            b' ' if end > self.mark => {
                self.enter(Stage::Version, end + 1);
                Ok(())
            }
            // A line of HTTP/0.9 ends after the target (RFC 1945 section 5): its version is missing.
            b'\r' | b'\n' => Err(Refusal::Version),
            _ => Err(Refusal::Target),
        }
    }

    fn scan_version(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        for &byte in &bytes[self.scanned..] {
            let at = self.scanned - self.mark;
            let is_expected = match at {
                0..=4 => byte == b"HTTP/"[at],
                5 | 7 => byte.is_ascii_digit(),
                6 => byte == b'.',
                8 => byte == b'\r',
                _ => byte == b'\n',
            };
            if !is_expected {
                return Err(Refusal::Version);
            }
            self.scanned += 1;
            if at == 8 && !matches!(&bytes[self.mark + 5..self.mark + 8], b"1.1" | b"1.0") {
                return Err(Refusal::VersionUnsupported);
            }
            if at == 9 {
                self.enter(Stage::Fields, self.scanned);
                return Ok(());
            }
        }
        Ok(())
    }

    fn scan_fields(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        let window = window(bytes, HEAD_BYTES_MAX);
        while let Some(skipped) = memchr::memchr(b'\n', &window[self.scanned..]) {
            let line_end = self.scanned + skipped;
            let line = &window[self.mark..line_end];
            self.scanned = line_end + 1;
            self.mark = line_end + 1;
            match line {
                b"\r" => return Ok(Some(line_end + 1)),
                [.., b'\r'] => self.field_lines += 1,
                _ => return Err(Refusal::BareLineFeed),
            }
            if self.field_lines > HEADERS_MAX {
                return Err(Refusal::TooManyHeaders);
            }
        }
        self.scanned = window.len();
        if window.len() == HEAD_BYTES_MAX {
            Err(Refusal::HeadTooLarge)
        } else {
            Ok(None)
        }
    }
}

fn window(bytes: &[u8], bytes_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(bytes_max)]
}

fn position_from(bytes: &[u8], from: usize, matches: impl Fn(u8) -> bool) -> Option<usize> {
    bytes[from..]
        .iter()
        .position(|&byte| matches(byte))
        .map(|skipped| from + skipped)
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Visible ASCII except `#`: RFC 9112 section 3.2 allows no fragment in a target. Some of these bytes
/// are not in the URI grammar, but browsers send them (`|`, `{` and `}` in a query).
fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// A range within a head, from the first byte of the request. Its ends are `u16`, since a head has at
/// most [`HEAD_BYTES_MAX`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

const _: () = assert!(HEAD_BYTES_MAX <= u16::MAX as usize);

impl Span {
    fn new(range: Range<usize>) -> Span {
        debug_assert!(range.start <= range.end && range.end <= HEAD_BYTES_MAX);
        Span {
            start: range.start as u16,
            end: range.end as u16,
        }
    }

    pub fn of(self, request: &[u8]) -> &[u8] {
        &request[usize::from(self.start)..usize::from(self.end)]
    }
}

/// How the length of a body is determined (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// By `Content-Length`; zero without it. A number that does not fit is `u64::MAX`, over every limit.
    Length(u64),
    /// By chunks.
    Chunked,
}

/// The value of `Expect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    None,
    Continue,
    Unknown,
}

/// A complete and valid head: what it says about the connection and the body, and the positions of the
/// fields that routes and answers need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    /// Length of the head in bytes, the empty line included.
    pub bytes: usize,
    pub method: Method,
    pub version: Version,
    pub keep_alive: bool,
    pub framing: Framing,
    pub expectation: Expectation,
    /// The body has a content coding other than `identity`.
    pub is_encoded: bool,
    pub path: Span,
    pub query: Option<Span>,
    pub secret: Option<Span>,
    pub last_event_id: Option<Span>,
    pub origin: Option<Span>,
    pub if_none_match: Option<Span>,
    pub accept_encoding: Option<Span>,
}

impl Head {
    /// Parses a head whose end [`HeadScanner`] has found; `bytes` ends there.
    pub fn parse(bytes: &[u8]) -> Result<Head, Refusal> {
        let mut storage = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        match parsed.parse_with_uninit_headers(bytes, &mut storage) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(Refusal::FieldName),
            Err(error) => return Err(refusal_of(error)),
        }
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(Refusal::Version);
        };

        let method = Method::of(method);
        let version = if minor == 0 {
            Version::Http10
        } else {
            Version::Http11
        };
        let fields = Fields::read(bytes, parsed.headers)?;
        fields.check_host(version)?;
        let target_start = offset_of(bytes, target.as_bytes());
        let parts = target::split(target, method == Method::Options).ok_or(Refusal::Target)?;
        let in_head =
            |part: Range<usize>| Span::new(target_start + part.start..target_start + part.end);

        Ok(Head {
            bytes: bytes.len(),
            method,
            version,
            keep_alive: fields.keep_alive(version),
            framing: fields.framing(version)?,
            expectation: fields.expectation,
            is_encoded: fields.is_encoded,
            path: in_head(parts.path),
            query: parts.query.map(in_head),
            secret: fields.secret,
            last_event_id: fields.last_event_id,
            origin: fields.origin,
            if_none_match: fields.if_none_match.single(),
            accept_encoding: fields.accept_encoding.single(),
        })
    }
}

fn refusal_of(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => Refusal::FieldName,
        httparse::Error::HeaderValue | httparse::Error::NewLine => Refusal::FieldValue,
        httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
        httparse::Error::Token | httparse::Error::Status => Refusal::Target,
        httparse::Error::Version => Refusal::Version,
    }
}

/// The offset of `part` in `whole`. It must be a part of the same slice.
fn offset_of(whole: &[u8], part: &[u8]) -> usize {
    let offset = part.as_ptr().addr() - whole.as_ptr().addr();
    debug_assert!(offset + part.len() <= whole.len());
    offset
}

/// A field whose value is a list. If it is sent in several lines, which is rare, it counts as absent.
#[derive(Default, Clone, Copy)]
enum ListField {
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

    fn single(self) -> Option<Span> {
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
struct Fields {
    has_host: bool,
    persistence: Persistence,
    content_length: Option<u64>,
    transfer_coding: TransferCoding,
    expectation: Expectation,
    is_encoded: bool,
    secret: Option<Span>,
    last_event_id: Option<Span>,
    origin: Option<Span>,
    if_none_match: ListField,
    accept_encoding: ListField,
}

impl Fields {
    fn read(head: &[u8], headers: &[httparse::Header<'_>]) -> Result<Fields, Refusal> {
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

    fn check_host(&self, version: Version) -> Result<(), Refusal> {
        if self.has_host || version == Version::Http10 {
            Ok(())
        } else {
            Err(Refusal::HostMissing)
        }
    }

    /// RFC 9112 section 9.3.
    fn keep_alive(&self, version: Version) -> bool {
        match self.persistence {
            Persistence::OfVersion => version == Version::Http11,
            Persistence::KeepAlive => true,
            Persistence::Close => false,
        }
    }

    /// RFC 9112 section 6.3. An ambiguous length is reported before a coding that is not implemented.
    fn framing(&self, version: Version) -> Result<Framing, Refusal> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that sends one byte at a time must not cost the square of its head. So each scan begins
    /// after the bytes of the previous one.
    #[test]
    fn each_byte_is_examined_once() {
        let head = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        let mut scanner = HeadScanner::new();
        for end in 0..head.len() {
            assert_eq!(scanner.scan(&head[..end]), Ok(None));
            assert_eq!(scanner.scanned, end);
        }
        assert_eq!(scanner.scan(head), Ok(Some(head.len())));
    }

    /// Thousands of connections each keep a `Head` while they read a request.
    #[test]
    fn a_head_is_small() {
        assert!(size_of::<Head>() <= 80, "{}", size_of::<Head>());
    }
}
