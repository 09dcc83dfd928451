//! The head of a request: finds its end, and parses it.
//!
//! Called by [`RequestReader`](super::RequestReader). [`HeadScanner`] finds the end as the bytes arrive.
//! [`Head::parse`] runs `httparse` over the complete head and keeps the positions of the fields that this
//! server uses. Never allocates.

mod fields;
mod scanner;

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

use self::fields::Fields;
pub(super) use self::fields::ListField;
use super::error::Refusal;
use super::request_line::{Method, Version};
use super::target;

pub(super) use self::scanner::{HeadScanner, is_token_byte};

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

    pub fn bounds(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }

    pub fn of(self, request: &[u8]) -> &[u8] {
        &request[self.bounds()]
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
    /// See [`Head::bytes`].
    bytes: u16,
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
    pub idempotency_key: ListField,
}

impl Head {
    /// Length of the head in bytes, the empty line included.
    pub fn bytes(&self) -> usize {
        usize::from(self.bytes)
    }

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
            bytes: bytes.len() as u16,
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
            idempotency_key: fields.idempotency_key,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousands of connections each keep a `Head` while they read a request.
    #[test]
    fn a_head_is_small() {
        assert!(size_of::<Head>() <= 80, "{}", size_of::<Head>());
    }
}
