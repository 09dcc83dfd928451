//! An event is one line for every client: escaped characters, and their effect on sizes.

use hookcast::message::{Message, MessageId, SessionId};
use hookcast::ring::Ring;
use serde_json::{Value, json};

use crate::support::{Server, Setup};

/// Line ends of Python's `str.splitlines` and Java's `Scanner`, besides LF.
const LINE_ENDS: [char; 9] = [
    '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
];

const FORGED: &str =
    "a\u{85}\u{85}data: {\"type\":\"gap\",\"missed\":1}\u{2028}\u{2028}id: x\u{2029}b\u{c}";

#[test]
fn unicode_line_ends_are_escaped() {
    let server = Server::start(&[]);
    let session = "s\u{2028}\u{85}1";
    let message = json!({ "message": FORGED, "sessionId": session });
    assert_eq!(server.post(&message).status, 200);

    let query = "?sessionId=s%E2%80%A8%C2%851";
    let mut connection = server.connect();
    connection.send_request("GET", &format!("/api/webhook/stream{query}"), "", b"");
    connection.read_head();
    let mut text = String::new();
    while !text.contains("webhook_message") {
        text += str::from_utf8(&connection.read_chunk().unwrap()).unwrap();
    }
    assert!(!text.contains(LINE_ENDS), "{text:?}");

    let mut stream = server.stream(query, "");
    assert_eq!(stream.connected(), 1);
    assert_eq!(stream.next().content(), FORGED);

    let target = format!("/api/webhook/messages{query}");
    let history = server.request("GET", &target, "", b"");
    let body = str::from_utf8(&history.body).unwrap();
    assert!(!body.contains(LINE_ENDS), "{body:?}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["messages"][0]["content"], FORGED);
    assert_eq!(body["messages"][0]["sessionId"], session);
}

/// U+0085 takes two bytes in a body and six in an event. An event that fits a slot of the ring and a frame is
/// accepted. Any other is refused before it is stored.
#[test]
fn an_event_that_is_too_large_with_its_escapes_is_refused() {
    let server = Server::start(&[]);
    let content = |count: usize| format!("x{}", "\u{85}".repeat(count));
    let of = |count: usize| json!({ "message": content(count) });
    let fits = 10_000;
    assert_eq!(server.post(&of(fits)).status, 200);
    let mut connection = server.connect();
    let body = of(32_000).to_string();
    assert!(body.len() < 65_536);
    for _ in 0..2 {
        connection.send_request("POST", "/api/webhook", "", body.as_bytes());
        let response = connection.read_response();
        assert_eq!(response.status, 413, "{response:?}");
        let error = "Message too large: U+0085, U+2028 and U+2029 take six bytes each";
        assert_eq!(response.json()["error"], error);
    }
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 1);
    assert_eq!(stream.next().content(), content(fits));
    server.publish("next");
    assert_eq!(stream.next().content(), "next");
}

/// Versions without these escapes accepted messages by the body limit alone.
#[test]
fn a_ring_of_an_earlier_version_is_replayed_in_full() {
    let setup = Setup::new(&["--shards", "2"]);
    let content = "\u{85}".repeat(32_600);
    {
        let (mut ring, _) = Ring::open(&setup.ring(), 65_536).unwrap();
        for number in 0..100 {
            let message = Message {
                id: MessageId::from_u128(number),
                timestamp_ms: 1_700_000_000_000,
                session: SessionId::parse("").unwrap(),
                content: content.clone(),
                label: None,
                identity: None,
            };
            ring.append(&message).unwrap();
        }
    }
    let server = setup.start();
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 100);
    for _ in 0..100 {
        assert_eq!(stream.next().content(), content);
    }
    server.publish("next");
    assert_eq!(stream.next().content(), "next");
}

/// What `--help` and the clients' page promise for clients with a bounded line length.
#[test]
fn with_60000_bytes_of_body_every_line_is_below_64_kib() {
    let server = Server::start(&["--max-body-bytes", "60000"]);
    let mut stream = server.connect();
    stream.send_request("GET", "/api/webhook/stream", "", b"");
    stream.read_head();
    let session = "\u{2028}".repeat(85);
    let body = |content: &str| json!({ "message": content, "sessionId": session }).to_string();
    let room = 60_000 - body("").len();
    let contents = ["x".repeat(room), "\u{e9}".repeat(room / 2)];
    // As many separators as are accepted.
    let (mut taken, mut refused) = (1_000, 60_000 / 2);
    while refused - taken > 1 {
        let tried = usize::midpoint(taken, refused);
        let content = format!("x{}", "\u{85}".repeat(tried));
        match server.post(&json!({ "message": content })).status {
            200 => taken = tried,
            status => {
                assert_eq!(status, 413);
                refused = tried;
            }
        }
    }
    for content in &contents {
        let response = server.request("POST", "/api/webhook", "", body(content).as_bytes());
        assert_eq!(response.status, 200, "{response:?}");
    }
    server.publish("the end");
    let mut longest_bytes = 0;
    let mut line = Vec::new();
    loop {
        let chunk = stream.read_chunk().unwrap();
        let is_last = memchr::memmem::find(&chunk, b"the end").is_some();
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") {
                longest_bytes = longest_bytes.max(line.len());
                line.clear();
            }
        }
        if is_last {
            break;
        }
    }
    assert!((60_000..65_536).contains(&longest_bytes), "{longest_bytes}");
}
