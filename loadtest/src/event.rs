//! What stands in a stream (HTML standard, section 9.2.6): where an event ends, and what it is.
//!
//! Used by `scanner`, which frees the bytes of their framing; knows no sockets.

use memchr::memmem;

use crate::history::History;
use crate::payload::{PayloadFormat, Stamp};

/// Beyond every event, and far from overflow when a length is added.
const PAYLOAD_AT_UNKNOWN: usize = usize::MAX / 2;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The response head: 200, an event stream.
    Opened,
    /// The first event of a stream: how many replayed messages the server says will follow.
    Connected {
        /// As the server announces it; 0 where it does not.
        replay: u64,
    },
    /// Messages of this run, unchanged, in the order of the wire.
    Messages {
        /// Their varying fields; never empty.
        stamps: &'a [Stamp],
        /// Bytes that end with the last of them, for its id.
        bytes: &'a [u8],
    },
    /// A comment.
    Heartbeat,
    /// The server says that this many messages were lost to this stream.
    Gap {
        /// As the server counts.
        missed: u64,
    },
    /// Anything else: a lone `retry`, messages of another run, a blank line that ends no event.
    Other,
    /// The response ended in order.
    Ended,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScanError {
    /// Not an HTTP response.
    Head,
    /// A status other than 200.
    Status(u16),
    /// Broken chunked framing.
    Framing,
    /// A message of this run with changed or missing bytes.
    Message,
    /// A head or an event beyond all bounds.
    TooLong,
}

impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ScanError::Head => f.write_str("the answer is not an HTTP response"),
            ScanError::Status(status) => write!(f, "the answer to a stream request is {status}"),
            ScanError::Framing => f.write_str("broken chunked framing"),
            ScanError::Message => f.write_str("a message arrived with changed bytes"),
            ScanError::TooLong => f.write_str("an event or a head is too long"),
        }
    }
}

/// What all streams of a run share: the payload, where the last message stood in its event, which
/// is where the next one's is looked for first, and what was read lately.
pub struct Shape {
    format: PayloadFormat,
    payload_at: usize,
    /// What was read lately.
    pub history: History,
}

impl Shape {
    /// Nothing seen yet.
    pub fn new(format: PayloadFormat) -> Shape {
        Shape {
            format,
            payload_at: PAYLOAD_AT_UNKNOWN,
            history: History::default(),
        }
    }
}

/// Bytes of the first event, its blank line included; `None` if it does not end here. When a
/// payload stands where the last one stood, the search begins behind it.
#[inline]
pub fn event_length(bytes: &[u8], shape: &Shape) -> Option<usize> {
    if matches!(bytes.first(), Some(b':' | b'\n')) {
        return comment_length(bytes);
    }
    let behind = if shape.format.is_at(bytes, shape.payload_at) {
        shape.payload_at + shape.format.message_bytes()
    } else {
        0
    };
    let tail = bytes.get(behind..)?;
    let mut from = 0;
    loop {
        let line_feed = from + memchr::memchr(b'\n', tail.get(from..)?)?;
        if *tail.get(line_feed + 1)? == b'\n' {
            return Some(behind + line_feed + 2);
        }
        from = line_feed + 1;
    }
}

/// Bytes of a comment line, and of the blank line behind it if there is one here: some servers send
/// it. One that comes later is a blank line by itself, which ends no event.
fn comment_length(bytes: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b'\n', bytes)? + 1;
    let has_blank_line = end > 1 && bytes.get(end) == Some(&b'\n');
    Some(end + usize::from(has_blank_line))
}

/// What an event is.
pub enum Classified {
    /// A message of this run.
    Message(Stamp),
    /// Anything else.
    Other(Event<'static>),
}

/// Tells what a whole event is.
#[inline]
pub fn classify(frame: &[u8], shape: &mut Shape) -> Result<Classified, ScanError> {
    if !shape.format.is_at(frame, shape.payload_at) {
        match shape.format.find(frame) {
            Some(at) => shape.payload_at = at,
            None => return Ok(Classified::Other(classify_other(frame))),
        }
    }
    let stamp = shape.format.read(&frame[shape.payload_at..]);
    stamp.map(Classified::Message).ok_or(ScanError::Message)
}

fn classify_other(frame: &[u8]) -> Event<'static> {
    if memmem::find(frame, br#""type":"connected""#).is_some() {
        Event::Connected {
            replay: number_after(frame, br#""replay":"#),
        }
    } else if memmem::find(frame, br#""type":"gap""#).is_some() {
        Event::Gap {
            missed: number_after(frame, br#""missed":"#),
        }
    } else if frame.starts_with(b":") {
        Event::Heartbeat
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
    let value = &line[3..];
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
