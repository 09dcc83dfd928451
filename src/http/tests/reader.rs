//! Tests of the reader beyond the cases of accepted and refused requests: refusals at the earliest
//! byte, memory, skipped bodies, pipelining.

use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, READ_BYTES, TARGET_BYTES_MAX};

use super::super::error::Refusal;
use super::super::request::{Phase, Progress, RequestReader};
use super::super::request_line::Method;
use super::cases::{chunked, get, post};
use super::{BODY_BYTES_MAX, End, read};

/// After how many bytes an input is refused.
fn bytes_until_refused(input: &[u8]) -> Option<usize> {
    (1..=input.len()).find(|&end| matches!(read([&input[..end]]).end, End::Refused(_)))
}

#[test]
fn a_request_is_refused_at_the_first_wrong_byte() {
    let target = format!("GET /{}", "t".repeat(2 * TARGET_BYTES_MAX));
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(2 * HEAD_BYTES_MAX));
    let method = "M".repeat(100);
    let many = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(HEADERS_MAX + 10));
    for (input, expected) in [
        (target.as_str(), "GET ".len() + TARGET_BYTES_MAX + 1),
        (&head, HEAD_BYTES_MAX),
        (&method, METHOD_BYTES_MAX + 1),
        (
            &many,
            "GET / HTTP/1.1\r\n".len() + "X: y\r\n".len() * (HEADERS_MAX + 1),
        ),
        ("\x16\x03\x01", 1),
        ("GET /\x01aaaa", 6),
        ("GET / HTTP/3.0\r\nHost: a", 15),
        ("GET / HTTP/1.1\r\nA: b\nC: d", 21),
    ] {
        assert_eq!(
            bytes_until_refused(input.as_bytes()),
            Some(expected),
            "{input:.40}"
        );
    }
    for (fields, body, refused_at) in [
        ("Content-Length: 65\r\n", "hello", 0),
        ("Transfer-Encoding: chunked\r\n", "41\r\nhello", 4),
        ("Transfer-Encoding: chunked\r\n", "40;a", usize::MAX),
        ("Transfer-Encoding: chunked\r\n", "5;\0", 3),
    ] {
        let head_bytes = post(fields, "").len();
        let expected = refused_at.checked_add(head_bytes);
        assert_eq!(
            bytes_until_refused(post(fields, body).as_bytes()),
            expected,
            "{body}"
        );
    }
}

#[test]
fn fields_are_found_in_any_case_and_order() {
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    reader.push(
        b"\r\nPOST /p?private HTTP/1.1\r\nx-WEBHOOK-secret:  s3cret \r\nLast-Event-Id: 1-2\r\nA: b\r\n\
          ORIGIN: http://o\r\nAccept-Encoding: gzip, br\r\nIf-None-Match: \"e\"\r\nHost: h\r\n\
          Content-Length: 7\r\n\r\nmessage",
    );
    assert_eq!(reader.poll(), Ok(Progress::Complete));
    let request = reader.request().unwrap();
    assert_eq!(request.method, Method::Post);
    assert_eq!((request.path, request.query), ("/p", Some("private")));
    assert_eq!(request.secret, Some(&b"s3cret"[..]));
    assert_eq!(request.last_event_id, Some(&b"1-2"[..]));
    assert_eq!(request.origin, Some(&b"http://o"[..]));
    assert_eq!(request.accept_encoding, Some(&b"gzip, br"[..]));
    assert_eq!(request.if_none_match, Some(&b"\"e\""[..]));
    assert_eq!(request.body, b"message");
    let logged = format!("{request:?} {reader:?}");
    for private in ["s3cret", "private", "message"] {
        assert!(!logged.contains(private), "{logged}");
    }
}

#[test]
fn a_list_field_in_several_lines_counts_as_absent() {
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    reader.push(get("Accept-Encoding: gzip\r\nAccept-Encoding: gzip;q=0\r\n").as_bytes());
    assert_eq!(reader.poll(), Ok(Progress::Complete));
    assert_eq!(reader.request().unwrap().accept_encoding, None);
}

/// RFC 9110 section 10.1.1: `100 Continue` is for a 1.1 client whose body is awaited.
#[test]
fn continue_is_wanted_once_and_only_where_a_body_is_awaited() {
    let wants = |head: &str| {
        let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
        reader.push(head.as_bytes());
        let first = reader.poll();
        let again = reader.poll();
        assert_ne!(
            again,
            Ok(Progress::WantsContinue),
            "returned twice: {head:?}"
        );
        assert_eq!(reader.head().is_some(), reader.phase() == Phase::Body);
        first
    };
    let length = "Expect: 100-continue\r\nContent-Length: 5\r\n";
    let coding = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(wants(&post(length, "")), Ok(Progress::WantsContinue));
    assert_eq!(wants(&post(coding, "")), Ok(Progress::WantsContinue));
    assert_eq!(wants(&post(length, "h")), Ok(Progress::Incomplete));
    assert_eq!(wants(&post(coding, "5")), Ok(Progress::Incomplete));
    assert_eq!(wants(&post(length, "hello")), Ok(Progress::Complete));
    assert_eq!(
        wants(&post("Expect: 100-continue\r\n", "")),
        Ok(Progress::Complete)
    );
    assert_eq!(
        wants(&post("Expect: 100-continue\r\nContent-Length: 0\r\n", "")),
        Ok(Progress::Complete)
    );
    assert_eq!(
        wants(&post("Expect: 100-continue\r\nContent-Length: 65\r\n", "")),
        Err(Refusal::BodyTooLarge)
    );
    assert_eq!(
        wants(&post(length, "").replace("1.1", "1.0")),
        Ok(Progress::Incomplete)
    );
}

/// The answer to a body that is too large needs the origin of its head. An invalid head has none.
#[test]
fn a_valid_head_is_available_after_its_body_was_refused() {
    let origin = |request: String| {
        let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
        reader.push(request.as_bytes());
        assert!(reader.poll().is_err());
        assert!(reader.request().is_none());
        reader.push(b"more");
        reader.head().map(|head| head.origin.unwrap().to_vec())
    };
    let o = Some(b"http://o".to_vec());
    assert_eq!(
        origin(post("Origin: http://o\r\nContent-Length: 65\r\n", "")),
        o
    );
    assert_eq!(
        origin(post(
            "Origin: http://o\r\nTransfer-Encoding: chunked\r\n",
            "5\r\nhi\nthere"
        )),
        o
    );
    assert_eq!(
        origin(post("Origin: http://o\r\nContent-Length: x\r\n", "")),
        None
    );
}

#[test]
fn an_idle_connection_is_between_requests() {
    let mut reader = RequestReader::new(b"left over".to_vec(), BODY_BYTES_MAX);
    assert!(reader.is_between_requests());
    assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    reader.push(b"\r");
    assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    assert!(!reader.is_between_requests());
    reader.push(b"\n");
    assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    assert!(
        reader.is_between_requests(),
        "an empty line begins no request"
    );
    reader.push(b"G");
    assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    assert!(!reader.is_between_requests());
    assert_eq!(reader.phase(), Phase::Head);
    reader.push(b"ET / HTTP/1.1\r\nHost:\r\n\r\n");
    assert_eq!(reader.poll(), Ok(Progress::Complete));
    assert_eq!(
        reader.poll(),
        Ok(Progress::Complete),
        "until it is consumed"
    );
    assert!(!reader.is_between_requests());
    reader.consume();
    assert!(reader.is_between_requests());
}

#[test]
fn many_pipelined_requests_come_out_in_order() {
    let mut bytes = Vec::new();
    let mut expected = Vec::new();
    for n in 0..400 {
        let (request, what) = match n % 3 {
            0 => (
                format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
                format!("Get /{n} 1.1 keep \"\""),
            ),
            1 => (
                post("Content-Length: 3\r\n", &format!("{n:03}")),
                format!("Post / 1.1 keep \"{n:03}\""),
            ),
            _ => (
                chunked(&format!("1\r\n-\r\n3\r\n{n:03}\r\n0\r\n\r\n")),
                format!("Post / 1.1 keep \"-{n:03}\""),
            ),
        };
        bytes.extend_from_slice(request.as_bytes());
        expected.push(what);
    }
    for piece_bytes in [1, 7, 1000, READ_BYTES] {
        let outcome = read(bytes.chunks(piece_bytes));
        assert_eq!(outcome.requests, expected);
        assert_eq!(outcome.end, End::Between);
    }
}

/// A body of one-byte chunks with extensions takes 64 times as many bytes on the wire as in memory.
#[test]
fn chunk_framing_takes_no_memory() {
    let body_bytes = 4096;
    let mut reader = RequestReader::new(Vec::new(), body_bytes);
    reader.push(post("Transfer-Encoding: chunked\r\n", "").as_bytes());
    let chunk = format!("1;{}\r\nx\r\n", "e".repeat(250));
    for _ in 0..body_bytes {
        reader.push(chunk.as_bytes());
        assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    }
    let (buffered_bytes, allocated_bytes) = reader.buffer_bytes();
    assert!(buffered_bytes < body_bytes + 100, "{buffered_bytes}");
    assert!(
        allocated_bytes <= 2 * (body_bytes + 100 + chunk.len()),
        "{allocated_bytes}"
    );
    reader.push(b"0\r\n\r\n");
    assert_eq!(reader.poll(), Ok(Progress::Complete));
    assert_eq!(
        reader.request().unwrap().body,
        "x".repeat(body_bytes).as_bytes()
    );
}

/// A large `Content-Length` alone allocates nothing, and a buffer that has grown is shrunk.
#[test]
fn memory_grows_with_the_bytes_that_have_arrived() {
    let body_bytes_max = 16 * 1024 * 1024;
    let mut reader = RequestReader::new(Vec::new(), body_bytes_max);
    reader.push(post("Content-Length: 16777216\r\n", "").as_bytes());
    assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    assert!(reader.buffer_bytes().1 < 1024);

    let body = vec![b'x'; READ_BYTES];
    for _ in 0..64 {
        reader.push(&body);
        assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    }
    let (buffered_bytes, allocated_bytes) = reader.buffer_bytes();
    assert!(allocated_bytes <= 2 * buffered_bytes);
    reader.recycle();
    let (buffered_bytes, allocated_bytes) = reader.buffer_bytes();
    assert_eq!(buffered_bytes, 0);
    assert!(allocated_bytes <= HEAD_BYTES_MAX + READ_BYTES);
}

#[test]
fn a_reader_buffers_nothing_after_a_refusal() {
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    reader.push(b"\0");
    assert_eq!(reader.poll(), Err(Refusal::Method));
    for _ in 0..100 {
        reader.push(&[b'x'; READ_BYTES]);
        assert_eq!(reader.poll(), Err(Refusal::Method));
    }
    assert!(reader.buffer_bytes().1 < 1024);
}

/// The body of a request that was answered after its head is not buffered, with any framing and any
/// cuts. The next bytes are the next request.
#[test]
fn a_skipped_body_is_not_buffered() {
    let data = "d".repeat(60);
    let chunks = format!(
        "1e;a=b\r\n{}\r\n1e\r\n{}\r\n0\r\nA: b\r\n\r\n",
        &data[..30],
        &data[..30]
    );
    for (field, body) in [
        ("Content-Length: 60\r\n", &data),
        ("Transfer-Encoding: chunked\r\n", &chunks),
    ] {
        let request = post(field, body);
        let head_bytes = request.len() - body.len();
        let bytes = format!("{request}{}", get(""));
        for come in head_bytes..request.len() {
            for piece_bytes in [1, 7, 1000] {
                let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
                reader.push(&bytes.as_bytes()[..come]);
                assert_eq!(reader.poll(), Ok(Progress::Incomplete));
                reader.skip_body();
                assert!(reader.is_skipping() && reader.head().is_none());
                assert_eq!(reader.buffer_bytes().0, 0);
                assert_eq!(
                    (reader.poll(), reader.phase()),
                    (Ok(Progress::Incomplete), Phase::Body)
                );
                let mut ends = 0;
                for piece in bytes.as_bytes()[come..].chunks(piece_bytes) {
                    reader.push(piece);
                    ends += u32::from(reader.skip().unwrap());
                    assert!(ends == 1 || reader.buffer_bytes().0 == 0);
                    if ends == 1 && reader.poll() == Ok(Progress::Complete) {
                        assert_eq!(reader.request().unwrap().method, Method::Get);
                    }
                }
                assert_eq!((ends, reader.poll()), (1, Ok(Progress::Complete)));
            }
        }
    }
}

#[test]
fn an_error_in_a_skipped_body_ends_the_reader() {
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    reader.push(post("Transfer-Encoding: chunked\r\n", "3\r\nab").as_bytes());
    assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    reader.skip_body();
    reader.push(b"cd\r\n");
    assert_eq!(reader.skip(), Err(Refusal::ChunkEnd));
    assert!(!reader.is_skipping());
    assert_eq!(reader.poll(), Err(Refusal::ChunkEnd));
    // The limit of a body holds for a skipped one, too.
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    reader.push(post("Transfer-Encoding: chunked\r\n", "ff").as_bytes());
    assert_eq!(reader.poll(), Ok(Progress::Incomplete));
    reader.skip_body();
    reader.push(b"\r\n");
    assert_eq!(reader.skip(), Err(Refusal::BodyTooLarge));
}

/// The bound of a path holds for announced and for chunked bodies, and the next request has its own.
#[test]
fn a_path_may_have_a_larger_body() {
    let bound = |path: &str| {
        if path == "/large" {
            4 * BODY_BYTES_MAX
        } else {
            BODY_BYTES_MAX
        }
    };
    let post = |path: &str, body_bytes: usize, is_chunked: bool| {
        let body = "x".repeat(body_bytes);
        let (field, body) = if is_chunked {
            let body = format!("{body_bytes:x}\r\n{body}\r\n0\r\n\r\n");
            ("Transfer-Encoding: chunked".to_owned(), body)
        } else {
            (format!("Content-Length: {body_bytes}"), body)
        };
        format!("POST {path} HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{body}")
    };
    for is_chunked in [false, true] {
        let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
        let most = 4 * BODY_BYTES_MAX;
        reader.push(post("/large", most, is_chunked).as_bytes());
        assert_eq!(reader.poll_bounded(bound), Ok(Progress::Complete));
        assert_eq!(reader.request().unwrap().body.len(), most);
        reader.consume();
        for (path, bytes) in [("/large", most + 1), ("/", BODY_BYTES_MAX + 1)] {
            let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
            reader.push(post(path, bytes, is_chunked).as_bytes());
            assert_eq!(reader.poll_bounded(bound), Err(Refusal::BodyTooLarge));
        }
        reader.push(post("/", BODY_BYTES_MAX + 1, is_chunked).as_bytes());
        assert_eq!(reader.poll_bounded(bound), Err(Refusal::BodyTooLarge));
    }
}

#[test]
fn a_request_may_be_complete_until_its_bytes_are_polled() {
    let mut reader = RequestReader::new(Vec::new(), BODY_BYTES_MAX);
    assert!(!reader.may_be_complete());
    let request = get("");
    let (most, last) = request.as_bytes().split_at(request.len() - 1);
    for (bytes, before_poll, after_poll) in [
        (&b"\r\n\r\n\r"[..], false, false),
        (b"\n", false, false),
        (most, true, false),
        (last, true, true),
    ] {
        reader.push(bytes);
        assert_eq!(reader.may_be_complete(), before_poll);
        reader.poll().unwrap();
        assert_eq!(reader.may_be_complete(), after_poll);
    }
    reader.consume();
    assert!(!reader.may_be_complete());

    // What is pipelined behind a request, and what another process has read.
    reader.push(request.repeat(2).as_bytes());
    reader.poll().unwrap();
    reader.consume();
    assert!(reader.may_be_complete());
    let rest = reader.unanswered().unwrap();
    assert!(RequestReader::resume(rest, BODY_BYTES_MAX).may_be_complete());
    assert!(!RequestReader::resume(Vec::new(), BODY_BYTES_MAX).may_be_complete());
    reader.recycle();
    assert!(!reader.may_be_complete());

    // What follows a body that is discarded.
    reader.push(post("Content-Length: 5\r\n", "").as_bytes());
    reader.poll().unwrap();
    reader.skip_body();
    for (bytes, expected) in [("hel", false), ("lo", false)] {
        reader.push(bytes.as_bytes());
        reader.skip().unwrap();
        assert_eq!(reader.may_be_complete(), expected);
    }
    reader.push(post("Content-Length: 5\r\n", "").as_bytes());
    reader.poll().unwrap();
    reader.skip_body();
    reader.push(format!("hello{request}").as_bytes());
    assert_eq!(reader.skip(), Ok(true));
    assert!(reader.may_be_complete());
}
