//! Reads requests from the bytes of a connection, one after another.
//!
//! Called by the shards. A connection has a [`RequestReader`] while a request arrives. The shard pushes
//! the bytes of the socket and polls. It answers a complete request, consumes it, and polls again for a
//! pipelined one. Never reads a socket or a clock: the shard keeps the deadlines, which depend on the
//! [`Phase`].

mod whole;

use std::fmt;

use crate::limits::{READ_BYTES, REQUEST_BUFFER_KEEP_BYTES};

pub use self::whole::WholeRequest;

use super::body::ChunkedDecoder;
use super::error::Refusal;
use super::head::{Expectation, Framing, Head, HeadScanner, ListField, Span};
use super::idempotency::SentKey;
use super::request_line::{Method, Version};

/// A complete request, in the reader's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path, not decoded, beginning with `/`; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// The query, not decoded, without the `?`.
    pub query: Option<&'a str>,
    /// The version.
    pub version: Version,
    /// Whether the client allows further requests on the connection.
    pub keep_alive: bool,
    /// `X-Webhook-Secret`.
    pub secret: Option<&'a [u8]>,
    /// `Last-Event-ID`.
    pub last_event_id: Option<&'a [u8]>,
    /// `Origin`.
    pub origin: Option<&'a [u8]>,
    /// Whether the body has a content coding (`Content-Encoding`) other than `identity`.
    pub is_encoded: bool,
    /// `If-None-Match`; absent if sent in several lines.
    pub if_none_match: Option<&'a [u8]>,
    /// `Accept-Encoding`; absent if sent in several lines.
    pub accept_encoding: Option<&'a [u8]>,
    /// `Idempotency-Key`.
    pub idempotency_key: SentKey<'a>,
    /// The bytes of the whole head, for fields that an operator configures.
    pub head: &'a [u8],
    /// The body, without its framing.
    pub body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    /// Omits private data: the query may name a session, a field may be the secret, the body is a
    /// message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("version", &self.version)
            .field("keep_alive", &self.keep_alive)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The result of [`RequestReader::poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// More bytes are needed, and the client waits for `100 Continue` before it sends the body.
    /// Returned once per request.
    WantsContinue,
    /// A request is complete.
    Complete,
}

/// The missing part of a request; each phase has its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The head is incomplete.
    Head,
    /// The head is complete.
    Body,
}

/// Finds requests in the bytes of a connection.
///
/// Memory: with pushes of at most [`READ_BYTES`] and a poll after each, at most
/// [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX) + the limit of the body + [`READ_BYTES`] bytes are
/// buffered. A `Vec` doubles its capacity, so at most twice that is allocated. The buffer grows with
/// the bytes that have arrived, not with the announced `Content-Length`.
pub struct RequestReader {
    buffer: Vec<u8>,
    /// The offset of the current request. The bytes before it are answered; the next push removes
    /// them.
    start: usize,
    body_bytes_max: usize,
    state: State,
    /// Bytes have arrived since the last poll.
    has_unpolled: bool,
}

impl fmt::Debug for RequestReader {
    /// Omits the buffered bytes, as [`Request`] does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestReader")
            .field("state", &self.state)
            .field("buffered_bytes", &(self.buffer.len() - self.start))
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum State {
    /// No byte of a request has arrived; empty lines may precede it (RFC 9112 section 2.2).
    Between,
    /// The head is incomplete.
    Head(HeadScanner),
    /// The head is complete; a body of `length` bytes follows.
    Length { head: Head, length: usize },
    /// The head is complete. The buffer holds it and `data_bytes` of decoded body.
    Chunked {
        head: Head,
        data_bytes: usize,
        decoder: ChunkedDecoder,
    },
    /// A request is complete; the next one begins `end` bytes after its start.
    Complete {
        head: Head,
        body_bytes: usize,
        end: usize,
    },
    /// The request is answered; the rest of its body is discarded.
    Skipping(Rest),
    /// No more bytes are read. `head` is set if the head was valid.
    Refused {
        head: Option<Head>,
        refusal: Refusal,
        /// The head was complete and valid, and the body was refused.
        is_of_body: bool,
    },
}

/// The rest of a body that is discarded.
#[derive(Debug)]
enum Rest {
    /// The number of remaining bytes.
    Length(usize),
    Chunked(ChunkedDecoder),
}

impl RequestReader {
    /// A reader before the first request. `buffer` is emptied and reused; `body_bytes_max` is the limit
    /// of a body in bytes.
    pub fn new(mut buffer: Vec<u8>, body_bytes_max: usize) -> RequestReader {
        buffer.clear();
        RequestReader {
            buffer,
            start: 0,
            body_bytes_max,
            state: State::Between,
            has_unpolled: false,
        }
    }

    /// A reader with these bytes, to be polled next. They come from [`RequestReader::unanswered`] of
    /// another process.
    pub fn resume(bytes: Vec<u8>, body_bytes_max: usize) -> RequestReader {
        RequestReader {
            has_unpolled: !bytes.is_empty(),
            buffer: bytes,
            start: 0,
            body_bytes_max,
            state: State::Between,
        }
    }

    /// The bytes with which another reader can continue: the current request as far as it has arrived,
    /// and pipelined ones. `None` in the middle of a chunked body, whose framing was removed, in the
    /// middle of a discarded body, and after a refusal.
    pub fn unanswered(&self) -> Option<Vec<u8>> {
        let unread = &self.buffer[self.start..];
        match &self.state {
            State::Complete {
                head,
                body_bytes,
                end,
            } if head.framing == Framing::Chunked => {
                let (head_bytes, body) = unread.split_at(head.bytes());
                let mut bytes = head_bytes.to_vec();
                if *body_bytes > 0 {
                    bytes.extend_from_slice(format!("{body_bytes:x}\r\n").as_bytes());
                    bytes.extend_from_slice(&body[..*body_bytes]);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
                bytes.extend_from_slice(&unread[*end..]);
                Some(bytes)
            }
            State::Between | State::Head(_) | State::Length { .. } | State::Complete { .. } => {
                Some(unread.to_vec())
            }
            State::Chunked { .. } | State::Skipping(_) | State::Refused { .. } => None,
        }
    }

    /// Forgets all bytes and frees the buffer. The next request may follow.
    pub fn reset(&mut self) {
        self.buffer = Vec::new();
        self.recycle();
    }

    /// Forgets all bytes and keeps at most [`REQUEST_BUFFER_KEEP_BYTES`] of the buffer. The next request
    /// may follow.
    pub fn recycle(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(REQUEST_BUFFER_KEEP_BYTES);
        self.start = 0;
        self.state = State::Between;
        self.has_unpolled = false;
    }

    /// Appends bytes of the socket, at most [`READ_BYTES`] at a time. A poll has to follow. Not to be
    /// called while a complete request waits for its answer. After a refusal the bytes are discarded.
    pub fn push(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= READ_BYTES);
        debug_assert!(!matches!(self.state, State::Complete { .. }));
        if matches!(self.state, State::Refused { .. }) {
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
        self.has_unpolled = true;
    }

    /// Parses the pushed bytes. After a refusal, or before a complete request is consumed, the result
    /// is the same again.
    pub fn poll(&mut self) -> Result<Progress, Refusal> {
        let body_bytes_max = self.body_bytes_max;
        self.poll_bounded(|_| body_bytes_max)
    }

    /// The same, with a limit of the body that depends on the path of the request.
    pub fn poll_bounded(
        &mut self,
        body_bytes_max: impl FnOnce(&str) -> usize,
    ) -> Result<Progress, Refusal> {
        self.has_unpolled = false;
        if matches!(self.state, State::Between) {
            self.pass_empty_lines();
        }
        match &self.state {
            State::Between | State::Skipping(_) => Ok(Progress::Incomplete),
            State::Head(_) => self.poll_head(body_bytes_max),
            State::Length { .. } => Ok(self.poll_length()),
            State::Chunked { .. } => self.poll_chunked(),
            State::Complete { .. } => Ok(Progress::Complete),
            State::Refused { refusal, .. } => Err(*refusal),
        }
    }

    /// The complete request; `None` before [`Progress::Complete`].
    pub fn request(&self) -> Option<Request<'_>> {
        let State::Complete {
            head, body_bytes, ..
        } = &self.state
        else {
            return None;
        };
        Some(self.view(head, *body_bytes))
    }

    /// The head of the current request, with an empty body; `None` until the head is complete and
    /// valid. Also available after a refusal of the body, so that the answer names the right origin.
    /// Also while the client waits for `100 Continue`, so that it gets an error before it sends the body.
    pub fn head(&self) -> Option<Request<'_>> {
        let head = match &self.state {
            State::Between | State::Head(_) | State::Skipping(_) => return None,
            State::Length { head, .. }
            | State::Chunked { head, .. }
            | State::Complete { head, .. } => head,
            State::Refused { head, .. } => head.as_ref()?,
        };
        Some(self.view(head, 0))
    }

    /// The head of a request whose body was refused. If the head alone determines an error, that
    /// error is the answer. So the answer is the same whether or not the head arrives before the
    /// faulty bytes.
    pub fn head_of_refused_body(&self) -> Option<Request<'_>> {
        match &self.state {
            State::Refused {
                is_of_body: true, ..
            } => self.head(),
            _ => None,
        }
    }

    /// Ends a request whose head is complete and whose body is not. The rest of the body is discarded as
    /// it arrives ([`RequestReader::skip`]). Called when the request is answered.
    pub fn skip_body(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Between);
        let rest = match state {
            State::Length { head, length } => {
                let arrived = self.buffer.len() - self.start - head.bytes();
                Rest::Length(length - arrived)
            }
            State::Chunked { decoder, .. } => Rest::Chunked(decoder),
            other => {
                debug_assert!(false, "no body to skip");
                self.state = other;
                return;
            }
        };
        self.state = State::Skipping(rest);
        self.buffer.clear();
        self.start = 0;
    }

    /// Whether the rest of a body is being discarded.
    pub fn is_skipping(&self) -> bool {
        matches!(self.state, State::Skipping(_))
    }

    /// Discards the pushed bytes of such a body. Returns whether the body has ended; then the next poll
    /// is for the next request. After an error no more bytes are read, and no answer is due.
    pub fn skip(&mut self) -> Result<bool, Refusal> {
        let State::Skipping(rest) = &mut self.state else {
            return Ok(false);
        };
        let arrived = &mut self.buffer[self.start..];
        let (used_bytes, is_over) = match rest {
            Rest::Length(left) => {
                let used_bytes = arrived.len().min(*left);
                *left -= used_bytes;
                (used_bytes, *left == 0)
            }
            Rest::Chunked(decoder) => match decoder.decode(arrived) {
                Ok(end) if end.is_done => (end.used_bytes, true),
                Ok(_) => (arrived.len(), false),
                Err(refusal) => return self.refuse(None, refusal).map(|_| true),
            },
        };
        self.start += used_bytes;
        self.drop_answered();
        self.has_unpolled = !self.buffer.is_empty();
        if is_over {
            self.state = State::Between;
        }
        Ok(is_over)
    }

    /// Removes the complete request. Pipelined bytes after it stay for the next poll.
    pub fn consume(&mut self) {
        let State::Complete { end, .. } = self.state else {
            debug_assert!(false, "no whole request to consume");
            return;
        };
        self.start += end;
        self.state = State::Between;
        self.drop_answered();
        self.has_unpolled = !self.buffer.is_empty();
    }

    /// Whether no byte of a further request has arrived: the connection is idle.
    pub fn is_between_requests(&self) -> bool {
        self.start == self.buffer.len() && matches!(self.state, State::Between)
    }

    /// Whether a request has begun. Half an empty line before one does not count.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Between)
    }

    /// Whether a request is complete, or may be: bytes of it have arrived since the last poll. Empty lines
    /// before a request are none of it.
    pub fn may_be_complete(&self) -> bool {
        let unread = &self.buffer[self.start..];
        let is_of_request =
            || self.has_begun() || !unread.iter().all(|byte| b"\r\n".contains(byte));
        matches!(self.state, State::Complete { .. }) || (self.has_unpolled && is_of_request())
    }

    /// Bytes allocated for the buffer.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes in the buffer that belong to requests without an answer.
    pub fn unanswered_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Removes answered bytes and frees the unused capacity.
    pub fn shrink(&mut self) {
        self.buffer.drain(..std::mem::take(&mut self.start));
        self.buffer.shrink_to_fit();
    }

    /// The missing part of the request.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Between | State::Head(_) => Phase::Head,
            _ => Phase::Body,
        }
    }

    /// Bytes buffered now, and bytes allocated for them.
    #[cfg(test)]
    pub(super) fn buffer_bytes(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }

    /// Skips any number of empty lines: an idle connection has no reader, and so no counter for them.
    fn pass_empty_lines(&mut self) {
        while self.buffer[self.start..].starts_with(b"\r\n") {
            self.start += 2;
        }
        self.drop_answered();
        if !matches!(self.buffer[self.start..], [] | [b'\r']) {
            self.state = State::Head(HeadScanner::new());
        }
    }

    /// Empties the buffer if no byte of it is needed.
    fn drop_answered(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    fn poll_head(
        &mut self,
        body_bytes_max: impl FnOnce(&str) -> usize,
    ) -> Result<Progress, Refusal> {
        let State::Head(scanner) = &mut self.state else {
            return Ok(Progress::Incomplete);
        };
        let unread = &self.buffer[self.start..];
        let head = match scanner.scan(unread) {
            Ok(None) => return Ok(Progress::Incomplete),
            Ok(Some(head_bytes)) => Head::parse(&unread[..head_bytes]),
            Err(refusal) => Err(refusal),
        };
        match head {
            Ok(head) => {
                let body_bytes_max = body_bytes_max(self.view(&head, 0).path);
                self.begin_body(head, body_bytes_max)
            }
            Err(refusal) => self.refuse(None, refusal),
        }
    }

    fn begin_body(&mut self, head: Head, body_bytes_max: usize) -> Result<Progress, Refusal> {
        self.state = match head.framing {
            _ if head.expectation == Expectation::Unknown => {
                return self.refuse(Some(head), Refusal::ExpectationUnknown);
            }
            Framing::Length(length) if length > body_bytes_max as u64 => {
                return self.refuse(Some(head), Refusal::BodyTooLarge);
            }
            Framing::Length(length) => State::Length {
                head,
                length: length as usize,
            },
            Framing::Chunked => State::Chunked {
                head,
                data_bytes: 0,
                decoder: ChunkedDecoder::new(body_bytes_max),
            },
        };
        let is_body_awaited =
            head.framing != Framing::Length(0) && self.buffer.len() == self.start + head.bytes();
        if is_body_awaited
            && head.version == Version::Http11
            && head.expectation == Expectation::Continue
        {
            return Ok(Progress::WantsContinue);
        }
        self.poll()
    }

    fn poll_length(&mut self) -> Progress {
        let State::Length { head, length } = self.state else {
            return Progress::Incomplete;
        };
        let end = head.bytes() + length;
        if self.buffer.len() - self.start < end {
            return Progress::Incomplete;
        }
        self.state = State::Complete {
            head,
            body_bytes: length,
            end,
        };
        Progress::Complete
    }

    fn poll_chunked(&mut self) -> Result<Progress, Refusal> {
        let State::Chunked {
            head,
            data_bytes,
            decoder,
        } = &mut self.state
        else {
            return Ok(Progress::Incomplete);
        };
        let head = *head;
        let decoded_end = self.start + head.bytes() + *data_bytes;
        let decoded = match decoder.decode(&mut self.buffer[decoded_end..]) {
            Ok(decoded) => decoded,
            Err(refusal) => {
                let refused = self.refuse(Some(head), refusal);
                if let State::Refused { is_of_body, .. } = &mut self.state {
                    *is_of_body = true;
                }
                return refused;
            }
        };
        *data_bytes += decoded.data_bytes;
        if decoded.is_done {
            let end = decoded_end - self.start + decoded.used_bytes;
            self.state = State::Complete {
                head,
                body_bytes: *data_bytes,
                end,
            };
            return Ok(Progress::Complete);
        }
        // All bytes were decoded. The framing is removed, so that a body of tiny chunks takes no more
        // memory than its data.
        self.buffer.truncate(decoded_end + decoded.data_bytes);
        Ok(Progress::Incomplete)
    }

    fn refuse(&mut self, head: Option<Head>, refusal: Refusal) -> Result<Progress, Refusal> {
        self.state = State::Refused {
            head,
            refusal,
            is_of_body: false,
        };
        Err(refusal)
    }

    fn view(&self, head: &Head, body_bytes: usize) -> Request<'_> {
        let request = &self.buffer[self.start..];
        let text = |span: Span| {
            // The scanner accepts only visible ASCII in a target.
            str::from_utf8(span.of(request)).unwrap_or_default()
        };
        let field = |span: Option<Span>| span.map(|span| span.of(request));
        Request {
            method: head.method,
            path: match text(head.path) {
                "" => "/",
                path => path,
            },
            query: head.query.map(text),
            version: head.version,
            keep_alive: head.keep_alive,
            secret: field(head.secret),
            last_event_id: field(head.last_event_id),
            origin: field(head.origin),
            is_encoded: head.is_encoded,
            if_none_match: field(head.if_none_match),
            accept_encoding: field(head.accept_encoding),
            idempotency_key: match head.idempotency_key {
                ListField::Absent => SentKey::Absent,
                ListField::Single(span) => SentKey::Once(span.of(request)),
                ListField::Several => SentKey::Repeated,
            },
            head: &request[..head.bytes()],
            body: &request[head.bytes()..head.bytes() + body_bytes],
        }
    }
}
