//! A complete request that leaves its reader, for another thread.
//!
//! Made by [`RequestReader::take`] for the shards. Its bytes are moved if they are large and nothing else
//! is in the reader's buffer, and copied otherwise. Never parses.

use std::fmt;
use std::ops::Range;

use super::{RequestReader, Span, State};
use crate::limits::REQUEST_BUFFER_KEEP_BYTES;

/// A complete request with its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct WholeRequest {
    bytes: Vec<u8>,
    head_bytes: usize,
    body_bytes: usize,
    /// The query, in the head.
    query: Option<Range<usize>>,
}

impl fmt::Debug for WholeRequest {
    /// Omits the bytes, as [`Request`](super::Request) does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholeRequest")
            .field("head_bytes", &self.head_bytes)
            .field("body_bytes", &self.body_bytes)
            .finish_non_exhaustive()
    }
}

impl WholeRequest {
    /// The query, not decoded, without the `?`.
    pub fn query(&self) -> Option<&str> {
        let query = self.query.clone()?;
        str::from_utf8(&self.bytes[query]).ok()
    }

    /// The bytes of the head, with the request line.
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.head_bytes]
    }

    /// The body, without its framing.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.head_bytes..self.head_bytes + self.body_bytes]
    }

    /// Bytes allocated for it.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl RequestReader {
    /// Takes the complete request out of the reader. Pipelined bytes after it stay for the next poll.
    /// `None` before [`Progress::Complete`](super::Progress::Complete).
    pub fn take(&mut self) -> Option<WholeRequest> {
        let State::Complete {
            head,
            body_bytes,
            end,
        } = &self.state
        else {
            return None;
        };
        let (head, body_bytes, end) = (*head, *body_bytes, *end);
        let query = head.query.map(Span::bounds);
        let whole_bytes = head.bytes() + body_bytes;
        let is_alone = self.start == 0 && self.buffer.len() == end;
        let bytes = if is_alone && self.buffer.capacity() > REQUEST_BUFFER_KEEP_BYTES {
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer[self.start..][..whole_bytes].to_vec()
        };
        if self.buffer.is_empty() {
            self.state = State::Between;
            self.start = 0;
        } else {
            self.consume();
        }
        Some(WholeRequest {
            bytes,
            head_bytes: head.bytes(),
            body_bytes,
            query,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Progress;
    use super::*;

    fn reader_with(bytes: &[u8]) -> RequestReader {
        let mut reader = RequestReader::new(Vec::new(), 1024 * 1024);
        for part in bytes.chunks(crate::limits::READ_BYTES) {
            reader.push(part);
            reader.poll().unwrap();
        }
        reader
    }

    fn post(body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST /api/webhook/in/a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    #[test]
    fn a_request_that_is_taken_leaves_what_is_pipelined_behind_it() {
        let next = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let large = vec![b'x'; 100_000];
        for body in [&b""[..], b"abc", &large] {
            let mut reader = reader_with(&post(body));
            let taken = reader.take().unwrap();
            assert_eq!((taken.body(), taken.query()), (body, Some("b=c")));
            assert!(taken.head().starts_with(b"POST /api/webhook/in/a?b=c "));
            assert!(taken.head().ends_with(b"\r\n\r\n"));
            assert!(reader.is_between_requests() && reader.take().is_none());

            let mut reader = reader_with(&[&post(body), &next[..]].concat());
            assert_eq!(reader.take().unwrap().body(), body);
            assert_eq!(reader.poll(), Ok(Progress::Complete));
            assert_eq!(reader.request().unwrap().path, "/");
        }
    }

    #[test]
    fn a_chunked_body_is_taken_without_its_framing() {
        let head = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut reader = reader_with(&[&head[..], b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"].concat());
        let taken = reader.take().unwrap();
        assert_eq!((taken.body(), taken.query()), (&b"abcde"[..], None));
        assert_eq!(taken.head(), head);
    }

    #[test]
    fn a_large_body_is_moved_and_a_small_one_copied() {
        let mut reader = reader_with(&post(&vec![b'x'; 200_000]));
        let place = reader.request().unwrap().body.as_ptr();
        assert_eq!(reader.take().unwrap().body().as_ptr(), place);
        assert_eq!(reader.held_bytes(), 0);

        let mut reader = reader_with(&post(b"small"));
        let held_bytes = reader.held_bytes();
        let taken = reader.take().unwrap();
        assert!(taken.held_bytes() < 200, "{}", taken.held_bytes());
        assert_eq!(reader.held_bytes(), held_bytes, "the buffer is kept");
    }
}
