//! The JSON corpus (`json/bodies.table`) against the real server. Each body is sent with its length, and in
//! randomly cut chunks, all on one connection. A stream must show exactly the contents that were accepted.

use std::path::Path;

use crate::corpus::unescape;
use crate::seed;
use crate::support::{Connection, EventStream, Server};

const INVALID: &str = "Invalid JSON";
const NOT_UTF8: &str = "Body is not UTF-8";
const NO_MESSAGE: &str = "Message is required and must be a non-empty string";

struct Case {
    name: String,
    body: Vec<u8>,
    outcome: Outcome,
}

enum Outcome {
    /// Accepted, with this content.
    Content(String),
    /// Refused with this reason.
    Refused(String),
}

impl Case {
    fn parse(line: &str) -> Case {
        let (name, rest) = line.split_once(' ').expect("a name");
        let (kind, _) = rest.trim_start().split_once(' ').expect("a kind");
        // The column of the bytes is fixed, because they may begin with spaces.
        let rest = &rest.trim_start()["value  ".len()..];
        let (bytes, verdict) = match rest.rsplit_once(" => ") {
            Some((bytes, verdict)) => (bytes, Some(verdict)),
            None => (rest, None),
        };
        let text = |verdict: &str| String::from_utf8(unescape(verdict)).unwrap();
        let (before, after) = match kind {
            "value" => (&br#"{"message":"m","x":"#[..], &b"}"[..]),
            "text" => (&br#"{"message":"#[..], &b"}"[..]),
            "body" => (&b""[..], &b""[..]),
            _ => panic!("unknown kind: {line}"),
        };
        let body = [before, &unescape(bytes), after].concat();
        let is_utf8 = str::from_utf8(&body).is_ok();
        let invalid = if is_utf8 { INVALID } else { NOT_UTF8 };
        let outcome = match (&name[..2], kind, verdict) {
            ("y_", "value", None) => Outcome::Content("m".into()),
            ("i_", _, Some("400")) | ("n_" | "o_", _, None) => Outcome::Refused(invalid.into()),
            ("i_", _, Some(verdict)) if verdict.starts_with("400 ") => {
                Outcome::Refused(verdict["400 ".len()..].into())
            }
            ("y_" | "i_", _, Some(content)) => Outcome::Content(text(content)),
            ("m_", _, None) => Outcome::Refused(NO_MESSAGE.into()),
            _ => panic!("no outcome: {line}"),
        };
        Case {
            name: name.into(),
            body,
            outcome,
        }
    }

    /// The server's fault, if there is one.
    fn judge(
        &self,
        request: &[u8],
        wire: &mut Connection,
        stream: &mut EventStream,
    ) -> Option<String> {
        wire.send(request);
        let answer = wire.read_response();
        match (&self.outcome, answer.status) {
            (Outcome::Content(content), 200) => {
                let came_back = stream.next().content();
                (came_back != *content).then(|| format!("{came_back:?} came back"))
            }
            (Outcome::Refused(reason), 400) => {
                (answer.error() != *reason).then(|| format!("refused as {:?}", answer.error()))
            }
            _ => Some(format!("answered {answer:?}")),
        }
    }
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn in_chunks(body: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut request = head.as_bytes().to_vec();
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rng.usize(1..=rest.len()));
        request.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
        rest = after;
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[test]
fn json_is_what_rfc_8259_says() {
    let mut rng = fastrand::Rng::with_seed(seed());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/judges/json/bodies.table");
    let table = std::fs::read_to_string(path).unwrap();
    let lines = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let cases: Vec<Case> = lines.map(Case::parse).collect();

    let server = Server::start(&[]);
    let mut stream = server.stream("", "");
    stream.connected();
    let mut wire = server.connect();
    let mut failed = Vec::new();
    for case in &cases {
        for request in [with_length(&case.body), in_chunks(&case.body, &mut rng)] {
            if let Some(wrong) = case.judge(&request, &mut wire, &mut stream) {
                failed.push(format!("{}: {wrong}", case.name));
                // A closed connection is wrong for every body.
                wire = server.connect();
            }
        }
    }
    assert!(failed.is_empty(), "{} failed: {failed:#?}", failed.len());
    server.publish("the end");
    assert_eq!(
        stream.next().content(),
        "the end",
        "the stream shows more than was accepted"
    );
    println!("{} bodies, 2 deliveries each", cases.len());
}
