//! Finds events in a stream (HTML standard, section 9.2.6): the end of each and its kind.
//!
//! Used by `scanner`, which removes the framing. Knows no sockets.

use memchr::memmem;

use crate::engine::observed::{Fields, Observer};
use crate::engine::payload::{PayloadFormat, Stamp};
use crate::engine::recent::History;

/// Longer than any event, and far from overflow when a length is added.
const PAYLOAD_AT_UNKNOWN: usize = usize::MAX / 2;

/// A parsed part of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The response head: status 200, an event stream.
    Opened,
    /// The first event of a stream: the number of replayed messages that follow.
    Connected {
        /// As announced by the server; 0 if it announces none.
        replay: u64,
        /// The event id after which the stream begins, if the server names one.
        id: Option<&'a [u8]>,
    },
    /// Messages of this run, unchanged, in their order on the wire.
    Messages {
        /// Their numbers and times; never empty.
        stamps: &'a [Stamp],
        /// Bytes up to the end of the last one, which hold its id.
        bytes: &'a [u8],
    },
    /// A comment.
    Heartbeat,
    /// A `gap`: the server reports messages that this stream lost.
    Gap {
        /// Their number, as the server counts.
        missed: u64,
    },
    /// The token of the stream will end.
    TokenExpiring,
    /// The token of the stream has ended, and so does the stream.
    TokenExpired,
    /// Anything else: a lone `retry`, a message of another run, a blank line that ends no event.
    Other,
    /// The response ended in order.
    Ended,
}

/// A fault that ends the reading of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanError {
    /// Not an HTTP response.
    Head,
    /// A status other than 200.
    Status(u16),
    /// The response is not an event stream.
    Type,
    /// Broken chunked framing.
    Framing,
    /// A message of this run with changed or missing bytes.
    Message,
    /// A head or an event above the length limits.
    TooLong,
    /// With `--gzip`, an answer without compression.
    Uncompressed,
    /// A compressed chunk that cannot be read by itself.
    Compression,
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ScanError::Head => f.write_str("the answer is not an HTTP response"),
            ScanError::Status(status) => write!(f, "the answer to a stream request is {status}"),
            ScanError::Type => f.write_str("the answer is not an event stream"),
            ScanError::Framing => f.write_str("broken chunked framing"),
            ScanError::Message => f.write_str("a message arrived with changed bytes"),
            ScanError::TooLong => f.write_str("an event or a head is too long"),
            ScanError::Uncompressed => f.write_str(
                "the stream is not compressed; a hookcast has --compress-streams for it",
            ),
            ScanError::Compression => f.write_str("a compressed chunk cannot be read by itself"),
        }
    }
}

/// State that all streams of a run share: the payload format, the position of the last message in its event,
/// and recent messages. The next message is looked for at that position first.
pub struct Shape {
    format: PayloadFormat,
    payload_at: usize,
    /// Recent messages.
    pub history: History,
    /// The messages of another publisher, if the publisher is not this tool's.
    pub observer: Option<Observer>,
}

impl Shape {
    /// The initial state.
    pub fn new(format: PayloadFormat) -> Shape {
        Shape {
            format,
            payload_at: PAYLOAD_AT_UNKNOWN,
            history: History::default(),
            observer: None,
        }
    }

    /// The state of streams that read what others publish.
    pub fn observing(format: PayloadFormat, fields: Fields) -> Shape {
        Shape {
            observer: Some(Observer::new(fields)),
            ..Shape::new(format)
        }
    }

    /// The state of streams that each parse every message.
    pub fn without_history(format: PayloadFormat) -> Shape {
        Shape {
            format,
            payload_at: PAYLOAD_AT_UNKNOWN,
            history: History::off(),
            observer: None,
        }
    }
}

/// Bytes of the first event, its blank line included; `None` if it does not end here. If a payload stands at
/// the last position, the search begins behind it.
#[inline]
pub fn event_length(bytes: &[u8], shape: &Shape) -> Option<usize> {
    if matches!(bytes.first(), Some(b':' | b'\n' | b'\r')) {
        return comment_length(bytes);
    }
    let behind = if shape.format.is_at(bytes, shape.payload_at) {
        shape.payload_at + shape.format.message_bytes()
    } else {
        0
    };
    Some(behind + blank_line_end(bytes.get(behind..)?)?)
}

/// The end of the first blank line behind another line. A line ends in LF or CR LF.
#[inline]
pub fn blank_line_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let line_feed = from + memchr::memchr(b'\n', bytes.get(from..)?)?;
        match *bytes.get(line_feed + 1)? {
            b'\n' => return Some(line_feed + 2),
            b'\r' if *bytes.get(line_feed + 2)? == b'\n' => return Some(line_feed + 3),
            _ => from = line_feed + 1,
        }
    }
}

/// Bytes of a comment line, and of the blank line behind it if it is here: some servers send one. A later one
/// is a blank line by itself, which ends no event.
fn comment_length(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b'\n', bytes)? + 1;
    let blank = match &bytes[end..] {
        [b'\n', ..] if bytes[0] == b':' => 1,
        [b'\r', b'\n', ..] if bytes[0] == b':' => 2,
        _ => 0,
    };
    Some(end + blank)
}

/// The kind of an event.
pub enum Classified<'a> {
    /// A message of this run.
    Message(Stamp),
    /// Anything else.
    Other(Event<'a>),
}

/// Returns the kind of a complete event.
#[inline]
pub fn classify<'a>(frame: &'a [u8], shape: &mut Shape) -> Result<Classified<'a>, ScanError> {
    if let Some(observer) = &mut shape.observer {
        // hookcast's own events have a time, too, and no id.
        let other = classify_other(frame);
        let is_own = matches!(other, Event::Connected { .. } | Event::Gap { .. });
        if is_own && last_event_id(frame).is_none() {
            return Ok(Classified::Other(other));
        }
        let stamp = observer.observe(frame).map(Classified::Message);
        return Ok(stamp.unwrap_or(Classified::Other(other)));
    }
    if !shape.format.is_at(frame, shape.payload_at) {
        match shape.format.find(frame) {
            Some(at) => shape.payload_at = at,
            None => return Ok(Classified::Other(classify_other(frame))),
        }
    }
    let stamp = shape.format.read(&frame[shape.payload_at..]);
    stamp.map(Classified::Message).ok_or(ScanError::Message)
}

fn classify_other(frame: &[u8]) -> Event<'_> {
    if memmem::find(frame, br#""type":"connected""#).is_some() {
        Event::Connected {
            replay: number_after(frame, br#""replay":"#),
            id: last_event_id(frame),
        }
    } else if memmem::find(frame, br#""type":"gap""#).is_some() {
        Event::Gap {
            missed: number_after(frame, br#""missed":"#),
        }
    } else if frame.starts_with(b":") {
        Event::Heartbeat
    } else if memmem::find(frame, br#""type":"token_expiring""#).is_some() {
        Event::TokenExpiring
    } else if memmem::find(frame, br#""type":"token_expired""#).is_some() {
        Event::TokenExpired
    } else {
        Event::Other
    }
}

fn number_after(frame: &[u8], name: &[u8]) -> u64 {
    let Some(at) = memmem::find(frame, name) else {
        return 0;
    };
    let digits = frame[at + name.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    })
}

/// The value of the last `id` field in `bytes`, if there is one.
pub fn last_event_id(bytes: &[u8]) -> Option<&[u8]> {
    let line = bytes
        .rsplit(|&byte| byte == b'\n')
        .find(|line| line.starts_with(b"id:"))?;
    let value = line[3..].strip_suffix(b"\r").unwrap_or(&line[3..]);
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
