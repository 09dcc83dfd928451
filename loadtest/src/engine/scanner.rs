//! Reads the bytes of one stream: response head, chunked framing (`framing`), and events (`event`).
//! Reports what matters to a load test.
//!
//! An event costs a few nanoseconds. Messages that another stream has read are recognised by their bytes
//! (`history`). Otherwise no byte of a complete event is copied, a chunk is skipped by its size, and a message
//! is looked for at the position of the last one. An event split over reads or chunks is joined in a small
//! buffer of the stream.
//!
//! Lines end in LF or CR LF; CR alone is not supported. A comment counts as an event, with or without a blank line
//! behind it. Called by `streams`; knows no sockets.

mod framing;

use memchr::memmem;

use crate::engine::event::{
    Classified, Event, ScanError, Shape, blank_line_end, classify, event_length,
};
pub use framing::whole_chunk;
use framing::{Framing, SIZE_START, Unit};

/// The longest event that is joined from pieces: the longest message and its other fields.
const CARRY_BYTES_MAX: usize = 64 * 1024;

/// The media type of streams.
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Header fields in a response head.
const HEADERS_MAX: usize = 64;

/// The parser state of one stream.
pub struct Scanner {
    framing: Framing,
    /// The number after that of the last message.
    next_number: u32,
    carry: Vec<u8>,
}

impl Default for Scanner {
    fn default() -> Scanner {
        Scanner {
            framing: Framing::Head,
            next_number: 0,
            carry: Vec::new(),
        }
    }
}

impl Scanner {
    /// Consumes the next bytes of the stream, cut anywhere, and calls `on_event` for each completed event.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        shape: &mut Shape,
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ScanError> {
        while let Some(&first) = bytes.first() {
            if let Some(used) = self.whole(bytes, shape, on_event)? {
                bytes = &bytes[used..];
                continue;
            }
            match self.framing {
                Framing::Head => {
                    let used = self.head(bytes)?;
                    bytes = &bytes[used..];
                    if self.framing != Framing::Head {
                        on_event(Event::Opened);
                    }
                }
                Framing::Size { .. } => {
                    bytes = &bytes[1..];
                    self.framing = self.framing.after_size_byte(first)?;
                }
                Framing::Data { left } => {
                    let take = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.body(&bytes[..take], shape, on_event)?;
                    bytes = &bytes[take..];
                    self.framing = match left - take as u64 {
                        0 => Framing::DataEnd { left: 2 },
                        left => Framing::Data { left },
                    };
                }
                Framing::DataEnd { left } => {
                    bytes = &bytes[1..];
                    self.framing = match (left, first) {
                        (2, b'\r') => Framing::DataEnd { left: 1 },
                        (1, b'\n') => SIZE_START,
                        _ => return Err(ScanError::Framing),
                    };
                }
                Framing::Trailer { line } => {
                    bytes = &bytes[1..];
                    self.framing = match (first, line) {
                        (b'\n', 0) => Framing::Ended,
                        (b'\n', _) => Framing::Trailer { line: 0 },
                        (b'\r', _) => Framing::Trailer { line },
                        (_, 4096..) => return Err(ScanError::TooLong),
                        _ => Framing::Trailer { line: line + 1 },
                    };
                    if self.framing == Framing::Ended {
                        on_event(Event::Ended);
                    }
                }
                Framing::Close => {
                    self.body(bytes, shape, on_event)?;
                    return Ok(());
                }
                Framing::Ended => return Err(ScanError::Framing),
            }
        }
        Ok(())
    }

    /// Whether the next byte begins a chunk, and no event is incomplete.
    #[inline]
    pub fn is_between_chunks(&self) -> bool {
        self.framing == SIZE_START && self.carry.is_empty()
    }

    /// How many of `bytes` belong to the present head, size line or chunk. The next byte after them may be
    /// compared with known messages.
    pub fn bytes_to_boundary(&self, bytes: &[u8]) -> usize {
        let behind = |at: Option<usize>, length: usize| at.map_or(bytes.len(), |at| at + length);
        let wanted = match self.framing {
            Framing::Head => behind(memmem::find(bytes, b"\r\n\r\n"), 4),
            Framing::Size { .. } => behind(memchr::memchr(b'\n', bytes), 1),
            Framing::Data { left } => usize::try_from(left).map_or(usize::MAX, |left| left + 2),
            Framing::DataEnd { left } => left.into(),
            Framing::Trailer { .. } | Framing::Close | Framing::Ended => bytes.len(),
        };
        wanted.clamp(1, bytes.len())
    }

    /// Whether the connection may end here: after the last chunk, or anywhere in a body without chunks.
    pub fn may_end(&self) -> bool {
        matches!(self.framing, Framing::Ended | Framing::Close) && self.carry.is_empty()
    }

    /// Consumes complete messages between two chunks: known ones, or else one that is parsed and remembered.
    /// Returns their length; `None` if `bytes` begins with something else or an incomplete message.
    #[inline]
    fn whole(
        &mut self,
        bytes: &[u8],
        shape: &mut Shape,
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<Option<usize>, ScanError> {
        let chunked = self.framing == SIZE_START;
        if !(chunked || self.framing == Framing::Close) || !self.carry.is_empty() {
            return Ok(None);
        }
        let (stamps, used) = shape.history.recognise(self.next_number, bytes);
        if let Some(last) = stamps.last() {
            self.next_number = last.number.wrapping_add(1);
            on_event(Event::Messages {
                stamps,
                bytes: &bytes[..used],
            });
            return Ok(Some(used));
        }
        let unit = if chunked {
            whole_chunk(bytes)
        } else {
            event_length(bytes, shape).map(|end| Unit { end, data: 0..end })
        };
        let Some(unit) = unit else { return Ok(None) };
        let frame = &bytes[unit.data];
        if event_length(frame, shape) != Some(frame.len()) {
            return Ok(None);
        }
        let event = classify(frame, shape)?;
        if let Classified::Message(stamp) = event {
            shape.history.learn(stamp, &bytes[..unit.end]);
        }
        self.emit(event, frame, on_event);
        Ok(Some(unit.end))
    }

    #[inline]
    fn emit(&mut self, event: Classified<'_>, frame: &[u8], on_event: &mut impl FnMut(Event<'_>)) {
        match event {
            Classified::Message(stamp) => {
                self.next_number = stamp.number.wrapping_add(1);
                on_event(Event::Messages {
                    stamps: &[stamp],
                    bytes: frame,
                });
            }
            Classified::Other(event) => on_event(event),
        }
    }

    /// Collects the response head; returns how many of `bytes` belong to it.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, ScanError> {
        let before = self.carry.len();
        self.carry.extend_from_slice(bytes);
        let Some(at) = memmem::find(&self.carry, b"\r\n\r\n") else {
            return if self.carry.len() > CARRY_BYTES_MAX {
                Err(ScanError::TooLong)
            } else {
                Ok(bytes.len())
            };
        };
        let head = &self.carry[..at + 4];
        let used = head.len() - before;
        let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        response.parse(head).map_err(|_| ScanError::Head)?;
        match response.code {
            Some(200) => {}
            Some(status) => return Err(ScanError::Status(status)),
            None => return Err(ScanError::Head),
        }
        let is_other = |field: &httparse::Header| {
            let media = field.value.get(..EVENT_STREAM.len());
            field.name.eq_ignore_ascii_case("content-type")
                && !media.is_some_and(|media| media.eq_ignore_ascii_case(EVENT_STREAM))
        };
        if response.headers.iter().any(is_other) {
            return Err(ScanError::Type);
        }
        let chunked = response.headers.iter().any(|field| {
            field.name.eq_ignore_ascii_case("transfer-encoding")
                && field.value.eq_ignore_ascii_case(b"chunked")
        });
        self.framing = if chunked { SIZE_START } else { Framing::Close };
        self.carry = Vec::new();
        Ok(used)
    }

    /// Consumes bytes of the body without framing.
    #[inline]
    fn body(
        &mut self,
        mut bytes: &[u8],
        shape: &mut Shape,
        on_event: &mut impl FnMut(Event<'_>),
    ) -> Result<(), ScanError> {
        if !self.carry.is_empty() {
            let Some(used) = self.complete_carry(bytes)? else {
                return Ok(());
            };
            let frame = std::mem::take(&mut self.carry);
            let event = classify(&frame, shape)?;
            self.emit(event, &frame, on_event);
            bytes = &bytes[used..];
        }
        while !bytes.is_empty() {
            let Some(length) = event_length(bytes, shape) else {
                if bytes.len() > CARRY_BYTES_MAX {
                    return Err(ScanError::TooLong);
                }
                self.carry.extend_from_slice(bytes);
                return Ok(());
            };
            let (frame, rest) = bytes.split_at(length);
            let event = classify(frame, shape)?;
            self.emit(event, frame, on_event);
            bytes = rest;
        }
        Ok(())
    }

    /// The end in `bytes` of a blank line that begins in the carried event.
    fn straddling_end(&self, bytes: &[u8]) -> Option<usize> {
        let last = self.carry.len().saturating_sub(2);
        (1..=bytes.len().min(2)).find(|&end| {
            let both = [&self.carry[last..], &bytes[..end]].concat();
            both.ends_with(b"\n\n") || both.ends_with(b"\n\r\n")
        })
    }

    /// Appends bytes up to the end of the carried event; `None` if it is still incomplete.
    fn complete_carry(&mut self, bytes: &[u8]) -> Result<Option<usize>, ScanError> {
        let end = if matches!(self.carry.first(), Some(b':' | b'\r')) {
            memchr::memchr(b'\n', bytes).map(|at| at + 1)
        } else {
            self.straddling_end(bytes).or_else(|| blank_line_end(bytes))
        };
        let take = end.unwrap_or(bytes.len());
        if self.carry.len() + take > CARRY_BYTES_MAX {
            return Err(ScanError::TooLong);
        }
        self.carry.extend_from_slice(&bytes[..take]);
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::last_event_id;
    use crate::engine::payload::{PayloadFormat, Stamp};

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
                        Transfer-Encoding: chunked\r\n\r\n";

    fn format() -> PayloadFormat {
        PayloadFormat::new(1, 64)
    }

    fn message(number: u32) -> String {
        let mut text = format().blank().to_vec();
        format().stamp(&mut text, Stamp { number, sent_ns: 5 });
        let text = String::from_utf8(text).unwrap();
        format!("id: e-{number}\ndata: {{\"type\":\"webhook_message\",\"content\":\"{text}\"}}\n\n")
    }

    fn chunk(data: &str) -> String {
        format!("{:x}\r\n{data}\r\n", data.len())
    }

    /// Reads `bytes` in pieces of `piece` bytes and returns the names of the events.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<String>, ScanError> {
        read_after(&mut Shape::new(format()), bytes, piece)
    }

    /// The same on a stream with shared state.
    fn read_after(shape: &mut Shape, bytes: &[u8], piece: usize) -> Result<Vec<String>, ScanError> {
        let mut scanner = Scanner::default();
        let mut seen = Vec::new();
        for part in bytes.chunks(piece) {
            scanner.feed(part, shape, &mut |event| match event {
                Event::Messages { stamps, bytes } => {
                    let numbers = stamps.iter().map(|stamp| stamp.number.to_string());
                    seen.extend(numbers);
                    let id = last_event_id(bytes).unwrap();
                    let last = stamps.last().unwrap().number;
                    assert_eq!(id, format!("e-{last}").as_bytes());
                }
                other => seen.push(format!("{other:?}")),
            })?;
        }
        Ok(seen)
    }

    fn conversation() -> (String, Vec<&'static str>) {
        let connected = "retry: 1500\ndata: {\"type\":\"connected\",\"replay\":2}\n\n";
        let split = message(8);
        let (left, right) = split.split_at(70);
        let text = [
            HEAD,
            &chunk(&format!("{connected}{}", message(0))),
            &chunk(&message(1)),
            &chunk(": heartbeat\n"),
            &chunk(&[message(2), message(10), message(3)].concat()),
            &chunk(left),
            &chunk(right),
            &chunk("data: {\"type\":\"gap\",\"missed\":17}\n\n"),
            "5;a=b\r\nretry\r\n",
            &chunk(": 30000\n\n"),
            "0\r\n\r\n",
        ]
        .concat();
        let seen = vec![
            "Opened",
            "Connected { replay: 2, id: None }",
            "0",
            "1",
            "Heartbeat",
            "2",
            "10",
            "3",
            "8",
            "Gap { missed: 17 }",
            "Other",
            "Ended",
        ];
        (text, seen)
    }

    #[test]
    fn a_response_parses_the_same_however_it_is_cut() {
        let (text, seen) = conversation();
        for piece in 1..=text.len() {
            assert_eq!(
                read(text.as_bytes(), piece).unwrap(),
                seen,
                "in pieces of {piece}"
            );
        }
    }

    #[test]
    fn lines_may_end_in_cr_lf() {
        let text = [": hb\n\n", &message(0), &message(1), ": hb\n", &message(2)].concat();
        let text = text.replace('\n', "\r\n");
        let body = format!("{HEAD}{}", chunk(&text));
        for piece in 1..=body.len() {
            let mut scanner = Scanner::default();
            let (mut shape, mut seen) = (Shape::new(format()), Vec::new());
            for part in body.as_bytes().chunks(piece) {
                scanner
                    .feed(part, &mut shape, &mut |event| match event {
                        Event::Messages { stamps, bytes } => {
                            assert!(!last_event_id(bytes).unwrap().ends_with(b"\r"));
                            seen.extend(stamps.iter().map(|stamp| stamp.number));
                        }
                        Event::Heartbeat | Event::Other | Event::Opened => {}
                        other => panic!("{other:?}"),
                    })
                    .unwrap();
            }
            assert_eq!(seen, [0, 1, 2], "in pieces of {piece}");
        }
    }

    #[test]
    fn known_messages_parse_the_same_on_other_streams() {
        let (text, seen) = conversation();
        let mut shape = Shape::new(format());
        for stream in 0..4 {
            for piece in [text.len(), 1, 97, 500] {
                let again = read_after(&mut shape, text.as_bytes(), piece).unwrap();
                assert_eq!(again, seen, "stream {stream} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_change_on_a_later_stream_is_noticed() {
        let text = format!("{HEAD}{}{}", chunk(&message(0)), chunk(&message(1)));
        let mut shape = Shape::new(format());
        read_after(&mut shape, text.as_bytes(), text.len()).unwrap();
        let changed = text.replacen("abc", "abd", 2);
        let result = read_after(&mut shape, changed.as_bytes(), changed.len());
        assert_eq!(result, Err(ScanError::Message));
        let again = format!("{HEAD}{}{}", chunk(&message(1)), chunk(&message(0)));
        let seen = read_after(&mut shape, again.as_bytes(), again.len()).unwrap();
        assert_eq!(seen, ["Opened", "1", "0"]);
    }

    #[test]
    fn a_comment_may_have_a_blank_line_behind_it() {
        let text = [": hb\n", &message(0), ": hb\n\n", &message(1), ": hb\n"].concat();
        let seen = ["Opened", "Heartbeat", "0", "Heartbeat", "1", "Heartbeat"];
        for body in [
            format!("HTTP/1.0 200 OK\r\n\r\n{text}"),
            format!("{HEAD}{}", chunk(&text)),
        ] {
            for piece in 1..=body.len() {
                let mut read = read(body.as_bytes(), piece).unwrap();
                // A blank line that arrives in a later read than its comment.
                read.retain(|event| event != "Other");
                assert_eq!(read, seen, "in pieces of {piece}");
            }
        }
    }

    #[test]
    fn without_chunks_the_body_ends_with_the_connection() {
        let text = format!("HTTP/1.0 200 OK\r\n\r\n{}{}", message(0), message(1));
        for piece in 1..=text.len() {
            assert_eq!(read(text.as_bytes(), piece).unwrap(), ["Opened", "0", "1"]);
        }
    }

    #[test]
    fn faults_of_the_server_have_different_errors() {
        let refused = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(refused.as_bytes(), 9), Err(ScanError::Status(503)));
        assert_eq!(read(b"hello\r\n\r\n", 99), Err(ScanError::Head));
        let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>";
        assert_eq!(read(page.as_bytes(), 99), Err(ScanError::Type));
        let changed = format!("{HEAD}{}", chunk(&message(0).replace("abc", "abd")));
        assert_eq!(read(changed.as_bytes(), 99), Err(ScanError::Message));
        for framing in [
            "x\r\n",
            "\r\n",
            "3\r\nabcd",
            "0\r\n\r\n5\r\n",
            "ffffffffffffffff\r\n",
        ] {
            let text = format!("{HEAD}{framing}");
            assert_eq!(
                read(text.as_bytes(), 99),
                Err(ScanError::Framing),
                "{framing:?}"
            );
        }
        let endless = format!("{HEAD}{}", chunk(&"x".repeat(CARRY_BYTES_MAX + 1)));
        assert_eq!(read(endless.as_bytes(), 1000), Err(ScanError::TooLong));
        assert_eq!(
            read(endless.as_bytes(), endless.len()),
            Err(ScanError::TooLong)
        );
    }

    #[test]
    fn a_truncated_message_is_a_fault() {
        let short = message(0).replace("\"}", "").replace("abcdefghij", "abc");
        let text = format!("{HEAD}{}{}", chunk(&short), chunk(&message(1)));
        assert_eq!(read(text.as_bytes(), 10_000), Err(ScanError::Message));
    }

    #[test]
    fn a_chunked_response_may_end_only_after_its_last_chunk() {
        let mut scanner = Scanner::default();
        let mut shape = Shape::new(format());
        let mut feed = |scanner: &mut Scanner, text: &str| {
            scanner
                .feed(text.as_bytes(), &mut shape, &mut |_| {})
                .unwrap();
            scanner.may_end()
        };
        assert!(!feed(&mut scanner, HEAD));
        assert!(!feed(&mut scanner, &chunk(&message(0))));
        assert!(!feed(&mut scanner, "0\r\n"));
        assert!(feed(&mut scanner, "\r\n"));
    }
}
