//! A table of valid and invalid requests, each with its result and the section of the RFC. Three
//! properties hold for all: the result does not depend on how the bytes are cut, no byte is read after a
//! refusal, and the next request begins right after a valid one.

mod cases;
mod reader;

use std::time::SystemTime;

use proptest::prelude::*;

use crate::limits::{HEAD_BYTES_MAX, READ_BYTES};

use self::cases::{Case, cases};
use super::error::Refusal;
use super::idempotency::SentKey;
use super::request::{Phase, Progress, Request, RequestReader};
use super::request_line::{Method, Version};
use super::response::{AllowOrigin, Responder};

/// The body limit of all cases.
const BODY_BYTES_MAX: usize = 64;

/// A request with this method and target in HTTP/1.1, without fields and body.
pub(super) fn request(method: Method, target: &str) -> Request<'_> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    Request {
        method,
        path,
        query,
        version: Version::Http11,
        keep_alive: true,
        secret: None,
        last_event_id: None,
        origin: None,
        is_encoded: false,
        if_none_match: None,
        accept_encoding: None,
        idempotency_key: SentKey::Absent,
        head: b"",
        body: b"",
    }
}

/// The result of reading some bytes: the requests, and the reader's state after them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    /// Method, path with query, version, persistence and body of each request.
    requests: Vec<String>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Between,
    InHead,
    InBody,
    Refused(Refusal),
}

/// Pushes the pieces one after the other, and consumes each complete request at once.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    let mut requests = Vec::new();
    let mut refused = None;
    for piece in pieces
        .into_iter()
        .flat_map(|piece| piece.chunks(READ_BYTES))
    {
        reader.push(piece);
        loop {
            let progress = reader.poll();
            if let Some(refusal) = refused {
                assert_eq!(progress, Err(refusal), "a refusal is final");
                break;
            }
            match progress {
                Ok(Progress::Complete) => {
                    requests.push(describe(&reader));
                    reader.consume();
                }
                Ok(Progress::WantsContinue | Progress::Incomplete) => break,
                Err(refusal) => refused = Some(refusal),
            }
        }
        let (buffered_bytes, _) = reader.buffer_bytes();
        assert!(buffered_bytes <= HEAD_BYTES_MAX + BODY_BYTES_MAX + READ_BYTES);
    }
    let end = match refused {
        Some(refusal) => End::Refused(refusal),
        None if reader.is_between_requests() => End::Between,
        None if reader.phase() == Phase::Head => End::InHead,
        None => End::InBody,
    };
    Outcome { requests, end }
}

fn describe(reader: &RequestReader) -> String {
    let request = reader.request().expect("the request is complete");
    let query = request
        .query
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let version = if request.version == Version::Http11 {
        "1.1"
    } else {
        "1.0"
    };
    let persistence = if request.keep_alive { "keep" } else { "close" };
    let body = String::from_utf8_lossy(request.body);
    format!(
        "{:?} {}{query} {version} {persistence} {body:?}",
        request.method, request.path
    )
}

fn expected_of(case: &Case) -> Outcome {
    match &case.expected {
        Ok(request) => Outcome {
            requests: vec![request.clone()],
            end: End::Between,
        },
        Err(refusal) => Outcome {
            requests: vec![],
            end: End::Refused(*refusal),
        },
    }
}

fn shown(case: &Case) -> String {
    let text = String::from_utf8_lossy(&case.bytes);
    let start: String = text.chars().take(200).collect();
    format!("{} {start:?}", case.section)
}

#[test]
fn each_case_in_one_piece() {
    let cases = cases();
    assert!(cases.len() >= 240, "{} cases", cases.len());
    for case in &cases {
        assert_eq!(read([&*case.bytes]), expected_of(case), "{}", shown(case));
    }
}

#[test]
fn each_case_one_byte_at_a_time() {
    for case in &cases() {
        assert_eq!(
            read(case.bytes.chunks(1)),
            expected_of(case),
            "{}",
            shown(case)
        );
    }
}

#[test]
fn each_case_cut_at_every_byte() {
    for case in &cases() {
        for cut in 1..case.bytes.len() {
            let (one, other) = case.bytes.split_at(cut);
            assert_eq!(
                read([one, other]),
                expected_of(case),
                "cut at {cut}: {}",
                shown(case)
            );
        }
    }
}

/// RFC 9112 section 9.3.2: a pipelined request is read from its first byte. Section 11.2: no byte is
/// read after a refused request.
#[test]
fn bytes_after_a_valid_request_are_read_and_bytes_after_a_refused_one_are_not() {
    let next = "GET /next HTTP/1.1\r\nHost: a\r\n\r\n";
    for case in &cases() {
        let bytes = [&case.bytes, next.as_bytes()].concat();
        let mut expected = expected_of(case);
        if case.expected.is_ok() {
            expected
                .requests
                .push(r#"Get /next 1.1 keep """#.to_owned());
        }
        assert_eq!(read([&*bytes]), expected, "{}", shown(case));
        assert_eq!(
            read(bytes.chunks(1)),
            expected,
            "byte by byte: {}",
            shown(case)
        );
    }
}

/// Each refusal has a status and a JSON body, and closes the connection.
#[test]
fn every_refusal_has_its_answer() {
    let responder = Responder::new(AllowOrigin::Any, SystemTime::UNIX_EPOCH);
    let mut refusals: Vec<Refusal> = cases()
        .iter()
        .filter_map(|case| case.expected.as_ref().err().copied())
        .collect();
    refusals.push(Refusal::TooSlow);
    for refusal in refusals {
        let mut out = Vec::new();
        responder.refusal(None, refusal, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {} ", refusal.status().code())),
            "{head}"
        );
        assert!(head.contains("\r\nConnection: close\r\n"), "{head}");
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json, serde_json::json!({ "error": refusal.reason() }));
    }
}

/// A valid request that stops after any byte is incomplete, not refused.
#[test]
fn a_valid_request_without_its_end_is_incomplete() {
    for case in cases().iter().filter(|case| case.expected.is_ok()) {
        for end in 1..case.bytes.len() {
            let outcome = read([&case.bytes[..end]]);
            let is_waiting = match outcome.end {
                End::Between => case.bytes[..end].chunks(2).all(|line| line == b"\r\n"),
                end => matches!(end, End::InHead | End::InBody),
            };
            assert!(
                outcome.requests.is_empty() && is_waiting,
                "{end}: {}",
                shown(case)
            );
        }
    }
}

/// Cuts `bytes` into pieces of these sizes, used cyclically.
fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at(size.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Bytes that reach deep states of the parser: pieces of requests in any order, and a few random bytes.
fn near_http() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "GET ", "POST ", "/", "/a?b ", "HTTP/1.1\r\n", "HTTP/1.0\r\n", "Host: a\r\n", "\r\n",
            "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n",
            "Expect: 100-continue\r\n", "5\r\nhello\r\n", "0\r\n\r\n", "5;a=\"b\"\r\n", "hello",
            "X: ", "\r", "\n", " ", ":", "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        ]).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn random_cuts_change_nothing(
        chosen in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        sizes in prop::collection::vec(1usize..300, 1..20),
    ) {
        let cases: Vec<Case> = cases().into_iter().filter(|case| case.bytes.len() < 2000).collect();
        let bytes: Vec<u8> =
            chosen.iter().flat_map(|index| index.get(&cases).bytes.clone()).collect();
        prop_assert_eq!(read(cut(&bytes, &sizes)), read([&*bytes]));
    }

    #[test]
    fn no_bytes_make_it_panic_or_depend_on_the_cuts(
        bytes in prop_oneof![near_http(), prop::collection::vec(any::<u8>(), 0..600)],
        sizes in prop::collection::vec(1usize..50, 1..10),
    ) {
        prop_assert_eq!(read(cut(&bytes, &sizes)), read([&*bytes]));
    }
}
