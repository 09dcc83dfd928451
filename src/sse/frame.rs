//! Frames: the bytes of one event on the wire.
//!
//! Called by the hub, which encodes a message's frame once, with chunk framing (RFC 9112 section 7.1).
//! All streams of all shards send these bytes. Called by the shards for the events of a single stream:
//! the first event, a gap, a heartbeat, the end. Those are encoded in the stream's framing. Never sees a
//! socket, a clock or a view.

use std::io::Write as _;

use crate::message::Epoch;
use crate::message::{Message, MessageId};
use crate::sse::event_id::EventId;
use crate::sse::gzip::{self, Checksum, Compressor, Piece};
use crate::sse::json;

/// How a response body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1: every event is one chunk.
    Chunked,
    /// HTTP/1.0: the bare bytes; the body ends with the connection.
    Bare,
    /// HTTP/1.1 and gzip: every event is one chunk with a piece of its own (see [`gzip`]).
    Gzip,
}

/// The heartbeat in each framing: a comment line, which clients ignore (HTML standard, 9.2.6).
///
/// No blank line follows it. After an id, several clients dispatch an empty event at every blank line
/// (Python: httpx-sse, sseclient-py, the decoder of `openai`). Every other frame ends with a blank line,
/// so the comment line is never part of an event.
pub const fn heartbeat(framing: Framing) -> &'static [u8] {
    match framing {
        Framing::Chunked => b"c\r\n: heartbeat\n\r\n",
        Framing::Bare => b": heartbeat\n",
        Framing::Gzip => b"16\r\n\0\x0c\0\xf3\xff: heartbeat\n\0\0\0\xff\xff\r\n",
    }
}

/// Appends the beginning of a body: the gzip header of a compressed one.
pub fn push_body_start(out: &mut Vec<u8>, framing: Framing) {
    if framing == Framing::Gzip {
        push_chunk(out, |out| out.extend_from_slice(&gzip::HEADER));
    }
}

/// Appends the end of a body whose events have this checksum. A bare body ends with the connection.
fn push_body_end(out: &mut Vec<u8>, framing: Framing, sum: Checksum) {
    match framing {
        Framing::Bare => {}
        Framing::Chunked => out.extend_from_slice(LAST_CHUNK),
        Framing::Gzip => {
            push_chunk(out, |out| out.extend_from_slice(&sum.end()));
            out.extend_from_slice(LAST_CHUNK);
        }
    }
}

/// The chunk that ends a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The layout of a chunked frame: a size line of `head_bytes`, the payload, and a line end of
/// [`CHUNK_TAIL_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the whole frame, framing included.
    pub bytes: u32,
    /// Bytes of the chunk-size line with its CRLF.
    pub head_bytes: u8,
}

/// Bytes of the CRLF after a chunk's data.
pub const CHUNK_TAIL_BYTES: usize = 2;

/// The largest size of a chunk-size line: 8 digits and CRLF.
const CHUNK_HEAD_BYTES_MAX: usize = 10;

/// Appends a message's frame, with chunk framing, to `out`.
///
/// The id follows the data. Some clients store an id as soon as they read its line (npm: eventsource 2,
/// fetch-event-source). If the connection then broke before the data, they would resume after a message
/// that they never received.
pub fn push_message(out: &mut Vec<u8>, epoch: Epoch, seq: u64, message: &Message) -> Chunk {
    push_chunk(out, |out| {
        out.extend_from_slice(b"data: ");
        push_object(out, message);
        push_fmt(out, format_args!("\nid: {}\n\n", EventId { epoch, seq }));
    })
}

/// Appends the compressed frame of a message: a chunk with a piece of gzip. Returns what it adds to a checksum.
pub fn push_compressed(out: &mut Vec<u8>, compressor: &mut Compressor, event: &[u8]) -> Piece {
    push_chunk(out, |out| compressor.push(out, event));
    Piece::of(event)
}

/// Adds events that were appended in this framing to the checksum of their stream. They are no messages.
pub fn add_events(sum: &mut Checksum, framing: Framing, mut events: &[u8]) {
    if framing != Framing::Gzip {
        return;
    }
    while let Some(line_end) = memchr::memchr(b'\n', events) {
        let block = &events[line_end + 1..];
        let block_end = gzip::STORED_HEAD_BYTES + gzip::stored_block_bytes(block);
        sum.add(&Piece::of(&block[gzip::STORED_HEAD_BYTES..block_end]));
        events = &block[block_end + gzip::PIECE_END.len() + CHUNK_TAIL_BYTES..];
    }
}

/// Appends the data of a message's event: a JSON object on one line.
fn push_object(out: &mut Vec<u8>, message: &Message) {
    let mut id_digits = MessageId::encode_buffer();
    let id = message.id.as_hyphenated().encode_lower(&mut id_digits);
    let mut timestamp_digits = itoa::Buffer::new();

    out.extend_from_slice(b"{\"type\":\"webhook_message\",\"id\":\"");
    out.extend_from_slice(id.as_bytes());
    out.extend_from_slice(b"\",\"content\":");
    json::push_string(out, &message.content);
    out.extend_from_slice(b",\"timestamp\":");
    out.extend_from_slice(timestamp_digits.format(message.timestamp_ms).as_bytes());
    if let Some(session) = &message.session {
        out.extend_from_slice(b",\"sessionId\":");
        json::push_string(out, session.as_str());
    }
    if let Some(label) = &message.label {
        out.extend_from_slice(b",\"source\":");
        json::push_string(out, label.source());
        out.extend_from_slice(b",\"event\":");
        json::push_string(out, label.event());
    }
    out.push(b'}');
}

/// Appends a message's event as a JSON object: its event id as the first member, `eventId`, then the
/// members of its `data`. `event` is the payload of a frame of [`push_message`].
pub fn push_entry(out: &mut Vec<u8>, event: &[u8]) {
    let parts = event
        .strip_prefix(b"data: {")
        .zip(memchr::memchr(b'\n', event))
        .and_then(|(rest, line_end)| {
            let (object, id) = rest.split_at_checked(line_end - b"data: {".len())?;
            Some((id.strip_prefix(b"\nid: ")?.strip_suffix(b"\n\n")?, object))
        });
    let Some((id, object)) = parts else {
        debug_assert!(false, "a message's event has an id and an object");
        return;
    };
    out.extend_from_slice(b"{\"eventId\":\"");
    out.extend_from_slice(id);
    out.extend_from_slice(b"\",");
    out.extend_from_slice(object);
}

/// Appends the first event of a stream: the reconnection delay, and the number of messages to replay.
///
/// `place` is the id after which the stream begins, if a resume after it would yield the same
/// messages. With it a client can resume before it has received a message. Some clients also forget
/// their id at an event without one (crates.io: eventsource-client, reqwest-eventsource).
pub fn push_connected(
    out: &mut Vec<u8>,
    framing: Framing,
    retry_ms: u64,
    timestamp_ms: u64,
    replay: u64,
    place: Option<EventId>,
) {
    push_event(out, framing, |out| {
        push_fmt(
            out,
            format_args!(
                "retry: {retry_ms}\ndata: {{\"type\":\"connected\",\"timestamp\":{timestamp_ms},\"replay\":{replay}}}\n"
            ),
        );
        push_place(out, place);
    });
}

/// Appends the event of a gap: `missed` messages of the stream's view are lost.
pub fn push_gap(out: &mut Vec<u8>, framing: Framing, missed: u64) {
    push_event(out, framing, |out| {
        push_fmt(
            out,
            format_args!("data: {{\"type\":\"gap\",\"missed\":{missed}}}\n\n"),
        );
    });
}

/// Appends the event that the token of a stream ends at this Unix time in milliseconds. It has no id, so it
/// does not move the client's place.
pub fn push_token_warning(out: &mut Vec<u8>, framing: Framing, expires_ms: u64) {
    push_event(out, framing, |out| {
        push_fmt(
            out,
            format_args!("data: {{\"type\":\"token_expiring\",\"expiresAt\":{expires_ms}}}\n\n"),
        );
    });
}

/// Appends the end of a stream whose token has ended: the last event and the end of the body. `sum` is that of
/// all events before.
pub fn push_token_end(out: &mut Vec<u8>, framing: Framing, sum: Checksum) {
    push_last_event(out, framing, sum, |out| {
        push_event(out, framing, |out| {
            out.extend_from_slice(b"data: {\"type\":\"token_expired\"}\n\n");
        });
    });
}

/// Appends the last event of a stream: the reconnection delay.
///
/// It has data for two kinds of clients. Some ignore a `retry` without data (crates.io:
/// eventsource-client, reqwest-eventsource). Others dispatch it as an empty event, on which the caller's
/// JSON parser fails (Python: httpx-sse, openai, sseclient; npm: fetch-event-source; Go:
/// donovanhide/eventsource). `place` is the id that the client sent, if the stream has sent no id since:
/// some clients would forget theirs at an event without one.
pub fn push_farewell(out: &mut Vec<u8>, framing: Framing, retry_ms: u64, place: Option<EventId>) {
    push_event(out, framing, |out| {
        push_fmt(
            out,
            format_args!("retry: {retry_ms}\ndata: {{\"type\":\"end\"}}\n"),
        );
        push_place(out, place);
    });
}

/// Appends the end of a stream: the last event and the end of the body. `sum` is that of all events before.
pub fn push_end(out: &mut Vec<u8>, framing: Framing, sum: Checksum, retry_ms: u64) {
    push_last_event(out, framing, sum, |out| {
        push_farewell(out, framing, retry_ms, None);
    });
}

fn push_last_event(
    out: &mut Vec<u8>,
    framing: Framing,
    mut sum: Checksum,
    push: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    push(out);
    add_events(&mut sum, framing, &out[start..]);
    push_body_end(out, framing, sum);
}

/// Ends an event: the id, if there is one, and the blank line.
fn push_place(out: &mut Vec<u8>, place: Option<EventId>) {
    if let Some(id) = place {
        push_fmt(out, format_args!("id: {id}\n"));
    }
    out.push(b'\n');
}

fn push_event(out: &mut Vec<u8>, framing: Framing, payload: impl FnOnce(&mut Vec<u8>)) {
    match framing {
        Framing::Chunked => {
            push_chunk(out, payload);
        }
        Framing::Bare => payload(out),
        Framing::Gzip => {
            push_chunk(out, |out| {
                let head = out.len();
                let start = head + gzip::STORED_HEAD_BYTES;
                out.resize(start, 0);
                payload(out);
                let block_bytes = out.len() - start;
                out[head..start].copy_from_slice(&gzip::stored_head(block_bytes));
                out.extend_from_slice(&gzip::PIECE_END);
            });
        }
    }
}

/// Appends the bytes of `payload` as one chunk. The payload is written after a gap for the longest size
/// line. Then the size line is written, and the payload is moved up to it.
fn push_chunk(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) -> Chunk {
    let start = out.len();
    out.resize(start + CHUNK_HEAD_BYTES_MAX, 0);
    payload(out);
    let payload_bytes = out.len() - start - CHUNK_HEAD_BYTES_MAX;
    assert!(
        u32::try_from(payload_bytes).is_ok(),
        "a frame is under 4 GiB: bodies are bounded"
    );

    let mut head = [0; CHUNK_HEAD_BYTES_MAX];
    let head_bytes = chunk_head(&mut head, payload_bytes);
    out[start..start + head_bytes].copy_from_slice(&head[..head_bytes]);
    out.copy_within(start + CHUNK_HEAD_BYTES_MAX.., start + head_bytes);
    out.truncate(start + head_bytes + payload_bytes);
    out.extend_from_slice(b"\r\n");
    Chunk {
        bytes: (out.len() - start) as u32,
        head_bytes: head_bytes as u8,
    }
}

fn chunk_head(head: &mut [u8; CHUNK_HEAD_BYTES_MAX], payload_bytes: usize) -> usize {
    let mut room = &mut head[..];
    write!(room, "{payload_bytes:x}\r\n").expect("8 hexadecimal digits and CRLF fit");
    CHUNK_HEAD_BYTES_MAX - room.len()
}

fn push_fmt(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec does not fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::message::{Label, SessionId};

    fn message(content: &str, session: &str) -> Message {
        Message {
            id: MessageId::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
            timestamp_ms: 1_700_000_000_123,
            session: SessionId::parse(session).unwrap(),
            content: content.into(),
            label: None,
            identity: None,
        }
    }

    fn payload(frame: &[u8], chunk: Chunk) -> String {
        let payload = &frame[usize::from(chunk.head_bytes)..frame.len() - CHUNK_TAIL_BYTES];
        String::from_utf8(payload.to_vec()).unwrap()
    }

    #[test]
    fn a_message_is_one_chunk_with_id_and_data() {
        let mut out = b"before".to_vec();
        let chunk = push_message(&mut out, Epoch(0xab), 7, &message("hi", ""));
        let frame = &out[6..];
        let expected = "data: {\"type\":\"webhook_message\",\"id\":\"01234567-89ab-cdef-0123-456789abcdef\",\"content\":\"hi\",\"timestamp\":1700000000123}\nid: 00000000000000ab-7\n\n";
        assert_eq!(payload(frame, chunk), expected);
        assert_eq!(frame.len(), chunk.bytes as usize);
        let head = format!("{:x}\r\n", expected.len());
        assert!(frame.starts_with(head.as_bytes()) && frame.ends_with(b"\n\n\r\n"));
    }

    #[test]
    fn the_event_of_a_source_names_it_and_its_type() {
        let mut message = message("hi", "s");
        message.label = Label::new("github", "a\"b\u{2028}").map(Arc::new);
        let mut out = Vec::new();
        let chunk = push_message(&mut out, Epoch(0xab), 7, &message);
        let text = payload(&out, chunk);
        let members =
            ",\"sessionId\":\"s\",\"source\":\"github\",\"event\":\"a\\\"b\\u2028\"}\nid: ";
        assert!(text.contains(members), "{text}");
        message.label = Label::new("shop", "").map(Arc::new);
        message.session = None;
        out.clear();
        let chunk = push_message(&mut out, Epoch(0xab), 7, &message);
        let text = payload(&out, chunk);
        assert!(
            text.contains("123,\"source\":\"shop\",\"event\":\"\"}\n"),
            "{text}"
        );
    }

    #[test]
    fn an_entry_is_the_event_with_its_id() {
        let mut out = Vec::new();
        let chunk = push_message(&mut out, Epoch(0xab), 7, &message("a\n\"{", "s"));
        let mut entry = b"before".to_vec();
        push_entry(&mut entry, payload(&out, chunk).as_bytes());
        let entry: serde_json::Value = serde_json::from_slice(&entry[6..]).unwrap();
        let expected = serde_json::json!({
            "eventId": "00000000000000ab-7",
            "type": "webhook_message",
            "id": "01234567-89ab-cdef-0123-456789abcdef",
            "content": "a\n\"{",
            "timestamp": 1_700_000_000_123_u64,
            "sessionId": "s",
        });
        assert_eq!(entry, expected);
    }

    #[test]
    fn content_cannot_break_out_of_its_line() {
        let nasty = "a\r\ndata: x\n\nid: 1\u{2028}id: 2\u{2029}\u{85}\u{85}data: y\u{0}\"\\";
        let mut out = Vec::new();
        let chunk = push_message(&mut out, Epoch(1), 1, &message(nasty, "s\n\u{85}1\u{2028}"));
        let text = payload(&out, chunk);
        assert_eq!(
            text.matches('\n').count(),
            3,
            "data line, id line, blank line: {text:?}"
        );
        // Other line ends of Python's `str.splitlines`.
        let ends = ['\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
        assert!(!text.contains(ends), "{text:?}");
        let data = text.lines().next().unwrap().strip_prefix("data: ").unwrap();
        let value: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(value["content"], nasty);
        assert_eq!(value["sessionId"], "s\n\u{85}1\u{2028}");
    }

    #[test]
    fn the_overhead_of_a_frame_is_within_its_bound() {
        let mut out = Vec::new();
        let mut message = message("x", &"s".repeat(256));
        message.timestamp_ms = u64::MAX;
        push_message(&mut out, Epoch(u64::MAX), u64::MAX, &message);
        let bare_bytes = out.len() - 257;
        assert!(bare_bytes <= 195, "{bare_bytes}");
        // The worst texts of a label: characters that take twice their bytes.
        let (source, event) = ("\\".repeat(64), "\u{2028}".repeat(42) + "\"\"");
        message.label = Label::new(&source, &event).map(Arc::new);
        assert!(message.label.is_some());
        out.clear();
        push_message(&mut out, Epoch(u64::MAX), u64::MAX, &message);
        assert_eq!(out.len() - 257, bare_bytes + 23 + 2 * (64 + 128));
        assert!(out.len() - 257 <= crate::limits::FRAME_OVERHEAD_BYTES_MAX);
    }

    #[test]
    fn events_of_one_stream_exist_in_both_framings() {
        let mut bare = Vec::new();
        push_connected(&mut bare, Framing::Bare, 1500, 42, 3, None);
        assert_eq!(
            bare,
            b"retry: 1500\ndata: {\"type\":\"connected\",\"timestamp\":42,\"replay\":3}\n\n"
        );
        let place = EventId {
            epoch: Epoch(0xab),
            seq: 6,
        };
        bare.clear();
        push_connected(&mut bare, Framing::Bare, 1500, 42, 0, Some(place));
        assert_eq!(
            bare,
            b"retry: 1500\ndata: {\"type\":\"connected\",\"timestamp\":42,\"replay\":0}\nid: 00000000000000ab-6\n\n"
        );
        let mut chunked = Vec::new();
        push_gap(&mut chunked, Framing::Chunked, 9);
        assert_eq!(
            chunked,
            b"21\r\ndata: {\"type\":\"gap\",\"missed\":9}\n\n\r\n"
        );
        let mut end = Vec::new();
        push_end(&mut end, Framing::Chunked, Checksum::default(), 30_000);
        assert_eq!(
            end,
            b"23\r\nretry: 30000\ndata: {\"type\":\"end\"}\n\n\r\n0\r\n\r\n"
        );
        bare.clear();
        push_farewell(&mut bare, Framing::Bare, 30_000, Some(place));
        assert_eq!(
            bare,
            b"retry: 30000\ndata: {\"type\":\"end\"}\nid: 00000000000000ab-6\n\n"
        );
    }

    #[test]
    fn a_heartbeat_is_one_line_in_each_framing() {
        assert_eq!(heartbeat(Framing::Bare), b": heartbeat\n");
        assert_eq!(heartbeat(Framing::Chunked), b"c\r\n: heartbeat\n\r\n");
        assert_eq!(heartbeat(Framing::Bare).len(), 0xc);
        let mut gzip = Vec::new();
        push_event(&mut gzip, Framing::Gzip, |out| {
            out.extend_from_slice(heartbeat(Framing::Bare));
        });
        assert_eq!(heartbeat(Framing::Gzip), gzip);
        let (mut sum, mut expected) = (Checksum::default(), Checksum::default());
        add_events(&mut sum, Framing::Gzip, &gzip.repeat(2));
        expected.add(&Piece::of(&heartbeat(Framing::Bare).repeat(2)));
        assert_eq!(sum, expected);
    }
}
