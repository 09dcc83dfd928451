//! Reading requests from the bytes of a connection, one after another.
//!
//! A connection has a [`RequestReader`] while a request is on its way. The owner reads from the
//! socket, pushes, polls; with a whole request at hand it answers, consumes, and polls again for
//! what was pipelined behind it. Never reads a socket or a clock: deadlines are kept by the owner,
//! who asks for the [`Phase`].

use std::fmt;

use crate::limits::{READ_BYTES, REQUEST_BUFFER_KEEP_BYTES};

use super::body::ChunkedDecoder;
use super::error::Refusal;
use super::head::{Expectation, Framing, Head, HeadScanner, Span};
use super::request_line::{Method, Version};

/// A request that is read whole, in the reader's buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path as it was sent, from its `/`; `*` for `OPTIONS *`.
    pub path: &'a str,
    /// The query as it was sent, without the `?`.
    pub query: Option<&'a str>,
    /// The version.
    pub version: Version,
    /// Whether the client lets the connection go on after the answer.
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
    /// The whole head as it came, for fields that an operator chooses.
    pub head: &'a [u8],
    /// The body, without its framing.
    pub body: &'a [u8],
}

impl fmt::Debug for Request<'_> {
    /// Leaves out what does not belong in a log: the query may name a session, a field may be the
    /// secret, the body is a message.
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

/// What [`RequestReader::poll`] has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The same, and the client waits for `100 Continue` before it sends the body. Told once.
    WantsContinue,
    /// A request is whole.
    Complete,
}

/// What a request that is not whole lacks; each phase has its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The head.
    Head,
    /// The body, or nothing any more.
    Body,
}

/// Finds requests in the bytes of a connection.
///
/// Memory: with pushes of at most [`READ_BYTES`] and a poll after each, never more than
/// [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX) + `body_bytes_max` + [`READ_BYTES`] bytes are buffered (and, as a `Vec`
/// doubles, at most twice that is allocated). It grows with what has come, not with what a
/// `Content-Length` promises.
pub struct RequestReader {
    buffer: Vec<u8>,
    /// Where the current request begins. What lies before is answered, and goes with the next push.
    start: usize,
    body_bytes_max: usize,
    state: State,
}

impl fmt::Debug for RequestReader {
    /// Leaves the buffered bytes out, as [`Request`] does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestReader")
            .field("state", &self.state)
            .field("buffered_bytes", &(self.buffer.len() - self.start))
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum State {
    /// No byte of a request has come; empty lines may precede it (RFC 9112 section 2.2).
    Between,
    /// The head has begun.
    Head(HeadScanner),
    /// The head is whole; `length` bytes of body follow it.
    Length { head: Head, length: usize },
    /// The head is whole; `data_bytes` of body are decoded, and nothing else is buffered.
    Chunked {
        head: Head,
        data_bytes: usize,
        decoder: ChunkedDecoder,
    },
    /// A request is whole; the next begins `end` bytes after it.
    Complete {
        head: Head,
        body_bytes: usize,
        end: usize,
    },
    /// The request is answered; so much of its body is still to come, and is dropped.
    Skipping(Rest),
    /// Nothing more is read. The head is there if it was sound.
    Refused {
        head: Option<Head>,
        refusal: Refusal,
        /// It was whole and sound before the body was refused.
        is_of_body: bool,
    },
}

/// The rest of a body.
#[derive(Debug)]
enum Rest {
    /// So many bytes.
    Length(usize),
    Chunked(ChunkedDecoder),
}

impl RequestReader {
    /// A reader between requests. `buffer` is emptied and used; `body_bytes_max` is the limit of a
    /// body in bytes.
    pub fn new(mut buffer: Vec<u8>, body_bytes_max: usize) -> RequestReader {
        buffer.clear();
        RequestReader {
            buffer,
            start: 0,
            body_bytes_max,
            state: State::Between,
        }
    }

    /// A reader that has been pushed these bytes, to be polled: what [`RequestReader::unanswered`]
    /// gave in another process.
    pub fn resume(bytes: Vec<u8>, body_bytes_max: usize) -> RequestReader {
        RequestReader {
            buffer: bytes,
            start: 0,
            body_bytes_max,
            state: State::Between,
        }
    }

    /// The bytes from which another reader can go on: the current request as far as it was read,
    /// and what is pipelined behind it. None for now in the middle of a chunked body, whose framing
    /// is gone, and of one that is passed over, until that is whole; none at all after a refusal.
    pub fn unanswered(&self) -> Option<Vec<u8>> {
        let unread = &self.buffer[self.start..];
        match &self.state {
            State::Complete {
                head,
                body_bytes,
                end,
            } if head.framing == Framing::Chunked => {
                let (head_bytes, body) = unread.split_at(head.bytes);
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

    /// Gives the buffer back, empty, and shrunk to [`REQUEST_BUFFER_KEEP_BYTES`] if it grew beyond
    /// that.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.buffer.clear();
        self.buffer.shrink_to(REQUEST_BUFFER_KEEP_BYTES);
        self.buffer
    }

    /// Takes bytes as they came from the socket, at most [`READ_BYTES`] at a time. To be followed
    /// by a poll, and not to be called while a whole request awaits its answer. After a refusal
    /// the bytes are dropped.
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
    }

    /// Reads on in what was pushed. After a refusal, and with a whole request that is not consumed
    /// yet, it says the same again.
    pub fn poll(&mut self) -> Result<Progress, Refusal> {
        if matches!(self.state, State::Between) {
            self.pass_empty_lines();
        }
        match &self.state {
            State::Between | State::Skipping(_) => Ok(Progress::Incomplete),
            State::Head(_) => self.poll_head(),
            State::Length { .. } => Ok(self.poll_length()),
            State::Chunked { .. } => self.poll_chunked(),
            State::Complete { .. } => Ok(Progress::Complete),
            State::Refused { refusal, .. } => Err(*refusal),
        }
    }

    /// The request that is whole; none before [`Progress::Complete`].
    pub fn request(&self) -> Option<Request<'_>> {
        let State::Complete {
            head, body_bytes, ..
        } = &self.state
        else {
            return None;
        };
        Some(self.view(head, *body_bytes))
    }

    /// The current request as far as its head goes, with an empty body; none until the head is
    /// whole and sound. It is there after a refusal of the body too, so that the answer can name
    /// the right origin, and while the client waits for `100 Continue`, so that a request that will
    /// be answered by an error need not send its body first.
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

    /// The head of a request whose body was refused. What it decides comes first: in smaller pieces,
    /// the head would have been answered before the fault was there.
    pub fn head_of_refused_body(&self) -> Option<Request<'_>> {
        match &self.state {
            State::Refused {
                is_of_body: true, ..
            } => self.head(),
            _ => None,
        }
    }

    /// Lets go of a request of which the head is whole and the body is not: the rest of it is
    /// dropped as it comes ([`RequestReader::skip`]). To be called when the request is answered.
    pub fn skip_body(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Between);
        let rest = match state {
            State::Length { head, length } => {
                let come = self.buffer.len() - self.start - head.bytes;
                Rest::Length(length - come)
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

    /// Whether the rest of a body is being dropped.
    pub fn is_skipping(&self) -> bool {
        matches!(self.state, State::Skipping(_))
    }

    /// Drops what was pushed of such a body. Returns whether that was the end of it: the next poll
    /// is for the next request. After an error nothing more is read, and nothing is to be answered.
    pub fn skip(&mut self) -> Result<bool, Refusal> {
        let State::Skipping(rest) = &mut self.state else {
            return Ok(false);
        };
        let come = &mut self.buffer[self.start..];
        let (used_bytes, is_over) = match rest {
            Rest::Length(left) => {
                let used_bytes = come.len().min(*left);
                *left -= used_bytes;
                (used_bytes, *left == 0)
            }
            Rest::Chunked(decoder) => match decoder.decode(come) {
                Ok(end) if end.is_done => (end.used_bytes, true),
                Ok(_) => (come.len(), false),
                Err(refusal) => return self.refuse(None, refusal).map(|_| true),
            },
        };
        self.start += used_bytes;
        self.drop_answered();
        if is_over {
            self.state = State::Between;
        }
        Ok(is_over)
    }

    /// Lets go of the request that is whole; what was pipelined behind it stays for the next poll.
    pub fn consume(&mut self) {
        let State::Complete { end, .. } = self.state else {
            debug_assert!(false, "no whole request to consume");
            return;
        };
        self.start += end;
        self.state = State::Between;
        self.drop_answered();
    }

    /// Whether nothing of a further request has come: the connection is idle.
    pub fn is_between_requests(&self) -> bool {
        self.start == self.buffer.len() && matches!(self.state, State::Between)
    }

    /// Whether there is something of a request: half an empty line in front of one is not.
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Between)
    }

    /// Bytes allocated for what is buffered.
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// Bytes that are buffered and not answered.
    pub fn unanswered_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Allocates no more than is needed for what is buffered and not answered.
    pub fn shrink(&mut self) {
        self.buffer.drain(..std::mem::take(&mut self.start));
        self.buffer.shrink_to_fit();
    }

    /// What the request lacks.
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

    /// However many they are: a connection that is idle has no reader, and so nothing that could
    /// count them.
    fn pass_empty_lines(&mut self) {
        while self.buffer[self.start..].starts_with(b"\r\n") {
            self.start += 2;
        }
        self.drop_answered();
        if !matches!(self.buffer[self.start..], [] | [b'\r']) {
            self.state = State::Head(HeadScanner::new());
        }
    }

    /// Empties the buffer where that takes no copying.
    fn drop_answered(&mut self) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    fn poll_head(&mut self) -> Result<Progress, Refusal> {
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
            Ok(head) => self.begin_body(head),
            Err(refusal) => self.refuse(None, refusal),
        }
    }

    fn begin_body(&mut self, head: Head) -> Result<Progress, Refusal> {
        let body_bytes_max = self.body_bytes_max;
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
            head.framing != Framing::Length(0) && self.buffer.len() == self.start + head.bytes;
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
        let end = head.bytes + length;
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
        let decoded_end = self.start + head.bytes + *data_bytes;
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
        // Everything was used up; the framing goes, so that a body of tiny chunks takes no more
        // room than its data.
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
            // The scanner lets nothing but visible ASCII into a target.
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
            head: &request[..head.bytes],
            body: &request[head.bytes..head.bytes + body_bytes],
        }
    }
}
