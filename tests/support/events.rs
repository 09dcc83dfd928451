//! A reader of Server-Sent Events that also records the framing.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Instant;

use flate2::write::GzDecoder;
use serde_json::Value;

use super::PATIENCE;
use super::client::{Connection, Response};

/// An open stream.
pub struct EventStream {
    pub connection: Connection,
    /// The status line and headers.
    pub head: Response,
    /// Sizes of the chunks so far; empty if the stream has no chunks.
    pub chunks: Vec<usize>,
    text: Vec<u8>,
    ending: Option<Ending>,
    /// Decodes a compressed stream. Each chunk is decoded when it arrives, without a look at the next one.
    gzip: Option<GzDecoder<Vec<u8>>>,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By the last chunk.
    LastChunk,
    /// By the end of the connection.
    Close,
}

/// The fields between two blank lines, or a comment line before them (HTML standard, section 9.2.6).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub id: Option<String>,
    pub retry_ms: Option<u64>,
    pub data: Option<String>,
    pub comments: Vec<String>,
}

/// The end of the first unit of `text`: a comment line, or an event with its blank line. A blank line behind a
/// comment is a unit of its own, which [`Event::parse`] refuses.
fn unit_end(text: &[u8]) -> Option<usize> {
    if text.starts_with(b":") || text.starts_with(b"\n") {
        return text.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
    }
    let blank_line = text.windows(2).position(|window| window == b"\n\n");
    blank_line.map(|at| at + 2)
}

impl Event {
    fn parse(block: &str) -> Event {
        assert_ne!(block, "\n", "a blank line that ends no event");
        let mut event = Event::default();
        for line in block.trim_end_matches('\n').lines() {
            match line.split_once(": ") {
                Some(("", comment)) => event.comments.push(comment.to_owned()),
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("retry", ms)) => event.retry_ms = Some(ms.parse().unwrap()),
                Some(("data", data)) => {
                    assert!(event.data.is_none(), "data on several lines: {block:?}");
                    event.data = Some(data.to_owned());
                }
                _ => panic!("line {line:?} of {block:?}"),
            }
        }
        event
    }

    /// The data as JSON.
    pub fn json(&self) -> Value {
        let data = self
            .data
            .as_deref()
            .unwrap_or_else(|| panic!("no data in {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The content of a message.
    pub fn content(&self) -> String {
        let json = self.json();
        assert_eq!(json["type"], "webhook_message", "{self:?}");
        json["content"].as_str().unwrap().to_owned()
    }

    /// The number of missed messages of a gap.
    pub fn missed(&self) -> u64 {
        let json = self.json();
        assert_eq!(json["type"], "gap", "{self:?}");
        json["missed"].as_u64().unwrap()
    }

    /// Whether this announces the end of the stream.
    pub fn is_end(&self) -> bool {
        self.data.as_deref() == Some("{\"type\":\"end\"}") && self.retry_ms.is_some()
    }

    /// Whether this is a heartbeat and nothing else.
    pub fn is_heartbeat(&self) -> bool {
        *self
            == Event {
                comments: vec!["heartbeat".into()],
                ..Event::default()
            }
    }
}

impl EventStream {
    /// Opens a stream by HTTP/1.1; `query` is empty or begins with `?`, `headers` are whole lines.
    pub fn open(address: SocketAddr, query: &str, headers: &str) -> EventStream {
        let mut connection = Connection::open(address);
        connection.send_request("GET", &format!("/api/webhook/stream{query}"), headers, b"");
        EventStream::read(connection)
    }

    /// Opens a stream by HTTP/1.0.
    pub fn open_1_0(address: SocketAddr, query: &str) -> EventStream {
        let mut connection = Connection::open(address);
        connection.send(format!("GET /api/webhook/stream{query} HTTP/1.0\r\n\r\n").as_bytes());
        EventStream::read(connection)
    }

    /// Reads the head of a stream that was requested on `connection`.
    pub fn read(mut connection: Connection) -> EventStream {
        let head = connection.read_head();
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(
            head.header("content-type"),
            Some("text/event-stream; charset=utf-8"),
            "{head:?}"
        );
        let is_compressed = head.header("content-encoding") == Some("gzip");
        EventStream {
            connection,
            gzip: is_compressed.then(|| GzDecoder::new(Vec::new())),
            head,
            chunks: Vec::new(),
            text: Vec::new(),
            ending: None,
        }
    }

    /// The next event, heartbeats included; `None` once the stream has ended.
    ///
    /// A last chunk inside an event fails the test. If the connection just closes, the incomplete event is
    /// dropped, as in a browser.
    pub fn next_event(&mut self) -> Option<Event> {
        let end = loop {
            if let Some(end) = unit_end(&self.text) {
                break end;
            }
            if self.ending.is_some() || !self.read_more() {
                let torn = String::from_utf8_lossy(&self.text);
                assert!(
                    torn.is_empty() || self.ending == Some(Ending::Close),
                    "torn event: {torn:?}"
                );
                return None;
            }
        };
        let block: Vec<u8> = self.text.drain(..end).collect();
        Some(Event::parse(std::str::from_utf8(&block).unwrap()))
    }

    /// The next event that is not a heartbeat; the stream must not end.
    pub fn next(&mut self) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nothing but heartbeats");
            let event = self
                .next_event()
                .unwrap_or_else(|| panic!("ended: {:?}", self.ending));
            if !event.is_heartbeat() {
                return event;
            }
        }
    }

    /// Reads the `connected` event; returns the announced length of the replay.
    pub fn connected(&mut self) -> u64 {
        let event = self.next();
        assert!(
            event.retry_ms.is_some_and(|ms| (1000..=3000).contains(&ms)),
            "{event:?}"
        );
        let json = event.json();
        assert_eq!(json["type"], "connected", "{event:?}");
        assert!(json["timestamp"].is_u64(), "{event:?}");
        json["replay"]
            .as_u64()
            .unwrap_or_else(|| panic!("no replay in {event:?}"))
    }

    /// The contents of the next `count` messages.
    pub fn contents(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().content()).collect()
    }

    /// Reads everything to the end; returns how the stream ended, and the events before.
    pub fn drain(&mut self) -> (Ending, Vec<Event>) {
        let events = std::iter::from_fn(|| self.next_event()).collect();
        (self.ending.unwrap(), events)
    }

    fn take_chunk(&mut self, chunk: Vec<u8>) {
        let Some(gzip) = &mut self.gzip else {
            return self.text.extend(chunk);
        };
        gzip.write_all(&chunk).expect("a gzip stream");
        gzip.flush().expect("a gzip stream");
        self.text.append(gzip.get_mut());
    }

    fn read_more(&mut self) -> bool {
        if self.head.header("transfer-encoding") == Some("chunked") {
            match self.connection.read_chunk() {
                Some(chunk) if chunk.is_empty() => {
                    self.ending = Some(Ending::LastChunk);
                    if let Some(gzip) = &mut self.gzip {
                        gzip.try_finish().expect("a gzip trailer that fits");
                    }
                }
                Some(chunk) => {
                    self.chunks.push(chunk.len());
                    self.take_chunk(chunk);
                }
                None => self.ending = Some(Ending::Close),
            }
        } else {
            match self.connection.read_some() {
                Some(bytes) => self.text.extend(bytes),
                None => self.ending = Some(Ending::Close),
            }
        }
        self.ending.is_none()
    }
}
