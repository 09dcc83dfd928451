//! Answers, byte by byte.

use super::*;

/// Sunday, 6 November 1994, 08:49:37 (the example of RFC 9110 section 5.6.7).
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)
}

fn responder() -> Responder {
    Responder::new(AllowOrigin::Any, now())
}

fn request(method: Method, version: Version, keep_alive: bool) -> Request<'static> {
    Request {
        version,
        keep_alive,
        ..crate::http::tests::request(method, "/")
    }
}

fn to_get() -> ReplyTo {
    responder().reply_to(&request(Method::Get, Version::Http11, true))
}

fn to_head() -> ReplyTo {
    responder().reply_to(&request(Method::Head, Version::Http11, true))
}

fn encoded(encode: impl FnOnce(&Responder, &mut Vec<u8>)) -> String {
    let mut out = b"before".to_vec();
    encode(&responder(), &mut out);
    String::from_utf8(out)
        .unwrap()
        .strip_prefix("before")
        .unwrap()
        .to_owned()
}

const BEGIN: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nAccess-Control-Allow-Origin: *\r\n";
const JSON: &str = "Content-Type: application/json\r\nCache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\n";
const STREAM: &str = "Content-Type: text/event-stream; charset=utf-8\r\nX-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n\
    Cache-Control: private, no-store, no-transform\r\n";

#[test]
fn a_receipt_byte_by_byte() {
    let id = MessageId::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    assert_eq!(
        encoded(|responder, out| responder.published(to_get(), id, 1_700_000_000_123, out)),
        format!(
            "HTTP/1.1 200 OK\r\n{BEGIN}{JSON}Content-Length: 93\r\n\r\n\
             {{\"success\":true,\"messageId\":\"01234567-89ab-cdef-0123-456789abcdef\",\
             \"timestamp\":1700000000123}}"
        )
    );
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let encode = |to| encoded(|responder, out| responder.status_ok(to, out));
    let head = format!("HTTP/1.1 200 OK\r\n{BEGIN}{JSON}Content-Length: 15\r\n\r\n");
    assert_eq!(encode(to_get()), head.clone() + r#"{"status":"ok"}"#);
    assert_eq!(encode(to_head()), head);
    let encode = |to| encoded(|responder, out| responder.error(to, ErrorAnswer::NotFound, out));
    assert_eq!(
        encode(to_get()),
        encode(to_head()) + r#"{"error":"Not found"}"#
    );
}

#[test]
fn connection_says_whether_the_connection_continues() {
    let connection = |version, keep_alive| {
        let to = responder().reply_to(&request(Method::Get, version, keep_alive));
        let text = encoded(|responder, out| responder.status_ok(to, out));
        text.lines()
            .find_map(|line| line.strip_prefix("Connection: ").map(str::to_owned))
    };
    assert_eq!(connection(Version::Http11, true), None);
    assert_eq!(connection(Version::Http11, false).as_deref(), Some("close"));
    assert_eq!(
        connection(Version::Http10, true).as_deref(),
        Some("keep-alive")
    );
    assert_eq!(connection(Version::Http10, false).as_deref(), Some("close"));
}

#[test]
fn errors_have_the_fields_that_their_status_requires() {
    for (error, status, field) in [
        (
            ErrorAnswer::SecretMissing,
            "401 Unauthorized",
            "WWW-Authenticate: X-Webhook-Secret",
        ),
        (
            ErrorAnswer::MethodNotAllowed(Allow::READ_WRITE),
            "405 Method Not Allowed",
            "Allow: GET, HEAD, POST, OPTIONS",
        ),
        (
            ErrorAnswer::Unavailable { retry_after_s: 30 },
            "503 Service Unavailable",
            "Retry-After: 30",
        ),
        (
            ErrorAnswer::Unavailable { retry_after_s: 30 },
            "503 Service Unavailable",
            "Access-Control-Expose-Headers: Retry-After",
        ),
        (
            ErrorAnswer::ContentEncoding,
            "415 Unsupported Media Type",
            "Accept-Encoding: identity",
        ),
        (
            ErrorAnswer::MessageTooLarge,
            "413 Content Too Large",
            "Cache-Control: no-store",
        ),
        (
            ErrorAnswer::Internal,
            "500 Internal Server Error",
            "Cache-Control: no-store",
        ),
        (
            ErrorAnswer::InvalidJson,
            "400 Bad Request",
            "X-Content-Type-Options: nosniff",
        ),
    ] {
        let text = encoded(|responder, out| responder.error(to_get(), error, out));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{head}"
        );
        assert!(head.lines().any(|line| line == field), "{head}");
        let detail = error
            .detail()
            .map(|detail| format!(",\"detail\":\"{detail}\""));
        let expected = format!("{{\"error\":\"{error}\"{}}}", detail.unwrap_or_default());
        assert_eq!(body, expected);
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}

#[test]
fn every_reason_is_valid_in_json_without_escapes() {
    let errors = [
        ErrorAnswer::SecretMissing,
        ErrorAnswer::SecretWrong,
        ErrorAnswer::NotFound,
        ErrorAnswer::MethodNotAllowed(Allow::READ),
        ErrorAnswer::ContentEncoding,
        ErrorAnswer::NotUtf8,
        ErrorAnswer::InvalidJson,
        ErrorAnswer::SessionMisspelled,
        ErrorAnswer::SessionInQuery,
        ErrorAnswer::LastEventIdMisspelled,
        ErrorAnswer::TokenMisspelled,
        ErrorAnswer::LimitOutOfRange,
        ErrorAnswer::WaitOutOfRange,
        ErrorAnswer::MessageTooLarge,
        ErrorAnswer::MessageRequired,
        ErrorAnswer::SessionNotText,
        ErrorAnswer::SessionTooLong,
        ErrorAnswer::QueryMalformed,
        ErrorAnswer::QueryRepeated,
        ErrorAnswer::Internal,
        ErrorAnswer::Unavailable { retry_after_s: 1 },
    ];
    for error in errors {
        let text = encoded(|responder, out| responder.error(to_get(), error, out));
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(json["error"], error.reason());
        assert_eq!(
            json.get("detail").and_then(|detail| detail.as_str()),
            error.detail()
        );
        let members = 1 + usize::from(error.detail().is_some());
        assert_eq!(json.as_object().unwrap().len(), members);
    }
}

#[test]
fn a_refusal_always_closes_the_connection() {
    let head = request(Method::Post, Version::Http10, true);
    for head in [None, Some(&head)] {
        let text = encoded(|responder, out| responder.refusal(head, Refusal::BodyTooLarge, out));
        assert_eq!(
            text,
            format!(
                "HTTP/1.1 413 Content Too Large\r\n{BEGIN}Connection: close\r\n{JSON}\
                 Content-Length: 26\r\n\r\n{{\"error\":\"Body too large\"}}"
            )
        );
    }
}

#[test]
fn a_preflight_has_no_length() {
    assert_eq!(
        encoded(|responder, out| responder.preflight(to_get(), Allow::READ, out)),
        format!(
            "HTTP/1.1 204 No Content\r\n{BEGIN}Allow: GET, HEAD, OPTIONS\r\n\
             Access-Control-Allow-Methods: GET, HEAD, OPTIONS\r\n\
             Access-Control-Allow-Headers: Authorization, Cache-Control, Content-Type, \
             Idempotency-Key, Last-Event-ID, X-Requested-With, X-Webhook-Secret, traceparent, *\r\n\
             Access-Control-Max-Age: 86400\r\n\r\n"
        )
    );
}

#[test]
fn a_stream_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0() {
    let head = |version, keep_alive| {
        let to = responder().reply_to(&request(Method::Get, version, keep_alive));
        encoded(|responder, out| responder.stream_head(to, StreamCoding::Never, None, out))
    };
    let chunked = format!("HTTP/1.1 200 OK\r\n{BEGIN}{STREAM}Transfer-Encoding: chunked\r\n\r\n");
    let to_the_end = format!("HTTP/1.1 200 OK\r\n{BEGIN}Connection: close\r\n{STREAM}\r\n");
    assert_eq!(head(Version::Http11, true), chunked);
    assert_eq!(head(Version::Http10, true), to_the_end);
    assert_eq!(head(Version::Http10, false), to_the_end);
    assert!(head(Version::Http11, false).contains("Connection: close\r\n"));
}

#[test]
fn an_ended_stream_has_its_length() {
    let text = encoded(|responder, out| {
        responder.ended_stream(to_get(), b"retry: 30000\n\n", out);
    });
    let head = format!("HTTP/1.1 200 OK\r\n{BEGIN}{STREAM}Content-Length: 14\r\n\r\n");
    assert_eq!(text, head + "retry: 30000\n\n");
}

#[test]
fn a_listed_origin_is_echoed_and_any_other_is_not() {
    let allow = AllowOrigin::Listed(vec![
        "https://a.example".into(),
        "http://localhost:8080".into(),
    ]);
    let responder = Responder::new(allow, now());
    let cors = |origin: Option<&'static str>| {
        let origin = origin.map(str::as_bytes);
        let request = Request {
            origin,
            ..request(Method::Get, Version::Http11, true)
        };
        let mut out = Vec::new();
        responder.status_ok(responder.reply_to(&request), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\r\nVary: Origin\r\n"), "{text}");
        let credentials = "\r\nAccess-Control-Allow-Credentials: true\r\n";
        let is_allowed = text.contains("\r\nAccess-Control-Allow-Origin: ");
        assert_eq!(text.contains(credentials), is_allowed, "{text}");
        text.lines()
            .find_map(|line| line.strip_prefix("Access-Control-Allow-Origin: "))
            .map(str::to_owned)
    };
    for listed in ["https://a.example", "http://localhost:8080"] {
        assert_eq!(cors(Some(listed)).as_deref(), Some(listed));
    }
    for other in [
        "https://b.example",
        "http://a.example",
        "https://a.example/",
        "null",
        "*",
    ] {
        assert_eq!(cors(Some(other)), None, "{other}");
    }
    assert_eq!(cors(None), None);
    let mut out = Vec::new();
    responder.refusal(None, Refusal::Method, &mut out);
    assert!(
        String::from_utf8(out)
            .unwrap()
            .contains("\r\nVary: Origin\r\n")
    );
}

#[test]
fn a_representation_is_sent_or_a_304() {
    let fields = [("ETag", "\"abc\""), ("Content-Type", "text/css")];
    let send = |to, is_known| {
        encoded(|responder, out| responder.representation(to, is_known, fields, b"page", out))
    };
    let full = send(to_get(), false);
    assert_eq!(
        full,
        format!(
            "HTTP/1.1 200 OK\r\n{BEGIN}ETag: \"abc\"\r\nContent-Type: text/css\r\n\
             Content-Length: 4\r\n\r\npage"
        )
    );
    assert_eq!(send(to_head(), false) + "page", full);
    let known = send(to_get(), true);
    assert!(known.starts_with("HTTP/1.1 304 Not Modified\r\n"));
    assert!(known.contains("\r\nETag: \"abc\"\r\n") && known.ends_with("\r\n\r\n"));
}

#[test]
fn the_date_follows_a_clock_of_any_year() {
    let mut responder = responder();
    let date_at = |responder: &mut Responder, time| {
        responder.set_time(time);
        String::from_utf8(responder.date.clone()).unwrap()
    };
    let day = Duration::from_secs(86_400);
    assert_eq!(
        date_at(&mut responder, now() + day),
        "Date: Mon, 07 Nov 1994 08:49:37 GMT\r\n"
    );
    assert_eq!(
        date_at(&mut responder, SystemTime::UNIX_EPOCH - day),
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    );
    assert_eq!(
        date_at(&mut responder, SystemTime::UNIX_EPOCH + day * 10_000_000),
        "Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n"
    );
}

#[test]
fn a_source_refuses_in_json_whatever_the_detail_contains() {
    let send = |status, detail| {
        encoded(|responder, out| responder.refused_by_source(to_get(), status, detail, out))
    };
    let answer = send(Status::Unauthorized, "the header \"X\" is\nmissing");
    assert!(answer.contains("\r\nWWW-Authenticate: Signature\r\n"));
    let body = r#"{"error":"Unauthorized","detail":"the header \"X\" is\nmissing"}"#;
    assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    let answer = send(Status::BadRequest, "a");
    assert!(answer.ends_with(r#"{"error":"Invalid request","detail":"a"}"#));
    assert!(!answer.contains("WWW-Authenticate"));
}

#[test]
fn a_204_has_neither_a_body_nor_a_length() {
    let answer = encoded(|responder, out| responder.no_content(to_get(), [("A", "b")], out));
    let expected = format!("HTTP/1.1 204 No Content\r\n{BEGIN}A: b\r\n\r\n");
    assert_eq!(answer, expected);
}
