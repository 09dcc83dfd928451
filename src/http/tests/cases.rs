//! The table of valid and invalid requests, one line each.

use crate::limits::{
    CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX, TARGET_BYTES_MAX,
    TRAILER_BYTES_MAX,
};

use super::super::error::Refusal;
use super::BODY_BYTES_MAX;

/// A request, its result, and the section of the RFC that requires it.
pub struct Case {
    pub section: &'static str,
    pub bytes: Vec<u8>,
    pub expected: Result<String, Refusal>,
}

fn good(section: &'static str, bytes: impl Into<Vec<u8>>, expected: &str) -> Case {
    Case {
        section,
        bytes: bytes.into(),
        expected: Ok(expected.to_owned()),
    }
}

fn bad(section: &'static str, bytes: impl Into<Vec<u8>>, refusal: Refusal) -> Case {
    Case {
        section,
        bytes: bytes.into(),
        expected: Err(refusal),
    }
}

fn line(request_line: &str) -> String {
    format!("{request_line}\r\nHost: a\r\n\r\n")
}

pub fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

fn get_of_host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

pub fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

pub fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

/// A `GET` whose head has this length.
fn get_of_bytes(head_bytes: usize) -> String {
    let fixed_bytes = get("X: \r\n").len();
    get(&format!("X: {}\r\n", "x".repeat(head_bytes - fixed_bytes)))
}

/// A chunked body whose trailer section has this length, the last CRLF included.
fn trailer_of_bytes(trailer_bytes: usize) -> String {
    chunked(&format!(
        "0\r\nX: {}\r\n\r\n",
        "x".repeat(trailer_bytes - "X: \r\n\r\n".len())
    ))
}

const PLAIN: &str = r#"Get / 1.1 keep """#;
const EMPTY_POST: &str = r#"Post / 1.1 keep """#;

#[rustfmt::skip]
fn request_lines() -> Vec<Case> {
    use Refusal as R;
    let longest_method = "M".repeat(METHOD_BYTES_MAX);
    let longest_target = format!("/{}", "t".repeat(TARGET_BYTES_MAX - 1));
    vec![
        good("9112 3", line("GET / HTTP/1.1"), PLAIN),
        good("9112 3", line("HEAD / HTTP/1.1"), r#"Head / 1.1 keep """#),
        good("9112 3", line("POST / HTTP/1.1"), EMPTY_POST),
        good("9112 3", line("OPTIONS / HTTP/1.1"), r#"Options / 1.1 keep """#),
        good("9110 9.1", line("get / HTTP/1.1"), r#"Other / 1.1 keep """#),
        good("9110 9.1", line("DELETE / HTTP/1.1"), r#"Other / 1.1 keep """#),
        good("9110 5.6.2", line("!#$%&'*+-.^_`|~9 / HTTP/1.1"), r#"Other / 1.1 keep """#),
        good("9112 3", line(&format!("{longest_method} / HTTP/1.1")), r#"Other / 1.1 keep """#),
        bad("9112 3", line(&format!("{longest_method}M / HTTP/1.1")), R::MethodTooLong),
        bad("9112 3", line(" / HTTP/1.1"), R::Method),
        bad("9110 5.6.2", line("G(T / HTTP/1.1"), R::Method),
        bad("9110 5.6.2", line("GET\t/ HTTP/1.1"), R::Method),
        bad("9110 5.6.2", line("G\0T / HTTP/1.1"), R::Method),
        bad("9110 5.6.2", line("GÉT / HTTP/1.1"), R::Method),
        bad("9112 3", line("GET"), R::Method),
        bad("9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), R::Method),
        bad("9112 2.2", line("\nGET / HTTP/1.1"), R::Method),
        good("9112 2.2", line("\r\nGET / HTTP/1.1"), PLAIN),
        good("9112 2.2", line("\r\n\r\nGET / HTTP/1.1"), PLAIN),
        bad("9112 2.2", line("\rGET / HTTP/1.1"), R::Method),
        bad("9112 2.2", line("\r\n\nGET / HTTP/1.1"), R::Method),
        bad("9112 2.2", line(" GET / HTTP/1.1"), R::Method),
        // The target.
        good("9112 3.2.1", line("GET /a/b?c=d&e HTTP/1.1"), r#"Get /a/b?c=d&e 1.1 keep """#),
        good("9112 3.2.1", line("GET /? HTTP/1.1"), r#"Get /? 1.1 keep """#),
        good("9112 3.2.1", line("GET //a HTTP/1.1"), r#"Get //a 1.1 keep """#),
        good("3986 2.1", line("GET /%61%zz HTTP/1.1"), r#"Get /%61%zz 1.1 keep """#),
        good("9112 3.2", line(r"GET /?{|}^\ HTTP/1.1"), r#"Get /?{|}^\ 1.1 keep """#),
        good("9112 3.2.2", line("GET http://b/c?d HTTP/1.1"), r#"Get /c?d 1.1 keep """#),
        good("9112 3.2.2", line("GET HTTPS://b:443 HTTP/1.1"), PLAIN),
        good("9112 3.2.2", line("GET http://b?d HTTP/1.1"), r#"Get /?d 1.1 keep """#),
        good("9112 3.2.2", line("GET http://[::1]:1/ HTTP/1.1"), PLAIN),
        good("9112 3.2.4", line("OPTIONS * HTTP/1.1"), r#"Options * 1.1 keep """#),
        good("9110 4.1", line(&format!("GET {longest_target} HTTP/1.1")), &format!(r#"Get {longest_target} 1.1 keep """#)),
        bad("9110 15.5.15", line(&format!("GET {longest_target}t HTTP/1.1")), R::TargetTooLong),
        bad("9112 3.2.4", line("GET * HTTP/1.1"), R::Target),
        bad("9112 3.2.4", line("OPTIONS *a HTTP/1.1"), R::Target),
        bad("9112 3.2.3", line("CONNECT a:80 HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET a HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET ?a HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET /#a HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET /?a#b HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET http://b/#c HTTP/1.1"), R::Target),
        bad("9112 3.2.2", line("GET ftp://b/ HTTP/1.1"), R::Target),
        bad("9110 4.2.1", line("GET http:/// HTTP/1.1"), R::Target),
        bad("9110 4.2.4", line("GET http://u@b/ HTTP/1.1"), R::Target),
        bad("3986 3.2.3", line("GET http://b:p/ HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET /é HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET /\0 HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET /\x7f HTTP/1.1"), R::Target),
        bad("9112 3.2", line("GET /\t HTTP/1.1"), R::Target),
        bad("9112 3", line("GET  / HTTP/1.1"), R::Target),
        // The version.
        good("9112 2.3", line("GET / HTTP/1.0"), r#"Get / 1.0 close """#),
        bad("9110 2.5", line("GET / HTTP/2.0"), R::VersionUnsupported),
        bad("9110 2.5", line("GET / HTTP/1.2"), R::VersionUnsupported),
        bad("9110 2.5", line("GET / HTTP/0.9"), R::VersionUnsupported),
        bad("9110 2.5", line("GET / HTTP/3.1"), R::VersionUnsupported),
        bad("9113 3.4", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", R::VersionUnsupported),
        bad("1945 5", "GET /\r\n", R::Version),
        bad("1945 5", "GET /\n", R::Version),
        bad("9112 2.3", line("GET / HTTP/1"), R::Version),
        bad("9112 2.3", line("GET / HTTP/1."), R::Version),
        bad("9112 2.3", line("GET / HTTP/11"), R::Version),
        bad("9112 2.3", line("GET / HTTP/1.11"), R::Version),
        bad("9112 2.3", line("GET / HTTP/x.y"), R::Version),
        bad("9112 2.3", line("GET / http/1.1"), R::Version),
        bad("9112 2.3", line("GET / HTTPS/1.1"), R::Version),
        bad("9112 3", line("GET /  HTTP/1.1"), R::Version),
        bad("9112 3", line("GET / HTTP/1.1 "), R::Version),
        bad("9112 3", line("GET / a HTTP/1.1"), R::Version),
        bad("9112 3", line("GET / "), R::Version),
        bad("9112 2.2", "GET / HTTP/1.1\nHost: a\r\n\r\n", R::Version),
        bad("9112 2.2", "GET / HTTP/1.1\rHost: a\r\n\r\n", R::Version),
    ]
}

#[rustfmt::skip]
fn fields() -> Vec<Case> {
    use Refusal as R;
    let most_fields = "X: y\r\n".repeat(HEADERS_MAX - 1);
    vec![
        good("9112 5", get("A:b\r\nC: d \r\nE:\t\r\nF:\r\n"), PLAIN),
        good("9110 5.5", get("A: b\tc\x20\u{e9}\"\r\n"), PLAIN),
        good("9110 5.1", get("!#$%&'*+-.^_`|~9: a\r\n"), PLAIN),
        good("6585 5", get(&most_fields), PLAIN),
        bad("6585 5", get(&format!("{most_fields}X: y\r\n")), R::TooManyHeaders),
        good("6585 5", get_of_bytes(HEAD_BYTES_MAX), PLAIN),
        bad("6585 5", get_of_bytes(HEAD_BYTES_MAX + 1), R::HeadTooLarge),
        bad("6585 5", get(&format!("X: {}\r\n", "x".repeat(HEAD_BYTES_MAX))), R::HeadTooLarge),
        bad("9112 5.1", get("A : b\r\n"), R::FieldName),
        bad("9112 5.1", get("A\t: b\r\n"), R::FieldName),
        bad("9112 5.1", get("Content-Length : 5\r\n"), R::FieldName),
        bad("9112 5.2", get("A: b\r\n c\r\n"), R::FieldName),
        bad("9112 5.2", get("A: b\r\n\tc\r\n"), R::FieldName),
        bad("9112 5.2", get("A: b\r\n \r\n"), R::FieldName),
        bad("9112 2.2", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", R::FieldName),
        bad("9112 5", get("A\r\n"), R::FieldName),
        bad("9112 5", get(": b\r\n"), R::FieldName),
        bad("9110 5.1", get("A b: c\r\n"), R::FieldName),
        bad("9110 5.1", get("A(: c\r\n"), R::FieldName),
        bad("9110 5.1", get("É: c\r\n"), R::FieldName),
        bad("9110 5.1", get("A\0: c\r\n"), R::FieldName),
        bad("9110 5.5", get("A: b\0\r\n"), R::FieldValue),
        bad("9110 5.5", get("A: b\x01c\r\n"), R::FieldValue),
        bad("9110 5.5", get("A: b\x7f\r\n"), R::FieldValue),
        bad("9110 5.5", get("A: \x0bb\r\n"), R::FieldValue),
        bad("9112 2.2", get("A: b\rc\r\n"), R::FieldValue),
        bad("9112 2.2", get("A: b\r\r\n"), R::FieldValue),
        bad("9112 2.2", get("\rA: b\r\n"), R::FieldValue),
        bad("9112 2.2", get("A: b\nC: d\r\n"), R::BareLineFeed),
        bad("9112 2.2", get("\nC: d\r\n"), R::BareLineFeed),
        bad("9112 2.2", "GET / HTTP/1.1\r\nHost: a\r\n\nGET ", R::BareLineFeed),
        bad("9112 2.2", "GET / HTTP/1.1\r\nHost: a\n\r\n", R::BareLineFeed),
        // Host.
        good("9112 3.2", get_of_host(""), PLAIN),
        good("9110 7.2", get_of_host("localhost:3000"), PLAIN),
        good("9110 7.2", get_of_host("example.com"), PLAIN),
        good("9110 7.2", get_of_host("  example.com  "), PLAIN),
        good("3986 3.2.2", get_of_host("[2001:db8::1]:443"), PLAIN),
        good("3986 3.2.2", get_of_host("a_b.c-d"), PLAIN),
        good("3986 3.2.3", get_of_host("a:"), PLAIN),
        good("9110 5.1", "GET / HTTP/1.1\r\nhOST: a\r\n\r\n", PLAIN),
        good("9112 3.2", "GET / HTTP/1.0\r\n\r\n", r#"Get / 1.0 close """#),
        bad("9112 3.2", "GET / HTTP/1.1\r\n\r\n", R::HostMissing),
        bad("9112 3.2", "GET http://a/ HTTP/1.1\r\n\r\n", R::HostMissing),
        bad("9112 3.2", get("Host: a\r\n"), R::HostRepeated),
        bad("9112 3.2", get("Host: b\r\n"), R::HostRepeated),
        bad("9112 3.2", "GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", R::HostRepeated),
        bad("9112 3.2", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", R::HostRepeated),
        bad("9112 3.2", get_of_host("a, b"), R::HostMalformed),
        bad("9112 3.2", get_of_host("a,b"), R::HostMalformed),
        bad("9112 3.2", get_of_host("u@a"), R::HostMalformed),
        bad("9112 3.2", get_of_host("u:p@a"), R::HostMalformed),
        bad("9112 3.2", get_of_host("a/b"), R::HostMalformed),
        bad("9112 3.2", get_of_host("http://a"), R::HostMalformed),
        bad("9112 3.2", get_of_host("a?b"), R::HostMalformed),
        bad("9112 3.2", get_of_host("a b"), R::HostMalformed),
        bad("9112 3.2", get_of_host("a:b"), R::HostMalformed),
        bad("9112 3.2", get_of_host("a:65536"), R::HostMalformed),
        bad("9112 3.2", get_of_host(":80"), R::HostMalformed),
        bad("9112 3.2", get_of_host("::1"), R::HostMalformed),
        bad("9112 3.2", get_of_host("[::1"), R::HostMalformed),
        bad("9112 3.2", get_of_host("[::1]x"), R::HostMalformed),
        bad("9112 3.2", get_of_host("é"), R::HostMalformed),
        bad("9112 3.2", get_of_host("%4"), R::HostMalformed),
        // Persistence.
        good("9112 9.3", get("Connection: close\r\n"), r#"Get / 1.1 close """#),
        good("9112 9.3", get("Connection: a, CLOSE ,b\r\n"), r#"Get / 1.1 close """#),
        good("9112 9.3", get("Connection: keep-alive\r\nConnection: close\r\n"), r#"Get / 1.1 close """#),
        good("9112 9.3", get("Connection: close, keep-alive\r\n"), r#"Get / 1.1 close """#),
        good("9112 9.3", get("Connection: closed\r\n"), PLAIN),
        good("9112 9.3", get("Connection: Upgrade\r\nUpgrade: h2c\r\n"), PLAIN),
        good("9112 C.2.2", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", r#"Get / 1.0 keep """#),
        good("9112 C.2.2", "GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n", r#"Get / 1.0 close """#),
        good("9112 C.2.2", "GET / HTTP/1.0\r\nKeep-Alive: 300\r\n\r\n", r#"Get / 1.0 close """#),
        // Fields that may be sent once, and those that are lists.
        good("9110 5.3", get("Origin: a\r\nX-Webhook-Secret: b\r\nLast-Event-ID: c\r\n"), PLAIN),
        good("9110 5.3", get("If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n"), PLAIN),
        bad("9110 5.3", get("Origin: a\r\nOrigin: a\r\n"), R::OriginRepeated),
        bad("9110 5.3", get("X-Webhook-Secret: a\r\nx-webhook-secret: a\r\n"), R::SecretRepeated),
        bad("9110 5.3", get("Last-Event-ID: a\r\nLast-Event-Id: b\r\n"), R::LastEventIdRepeated),
        // Expectations.
        good("9110 10.1.1", post("Expect: 100-Continue\r\nContent-Length: 1\r\n", "a"), r#"Post / 1.1 keep "a""#),
        good("9110 10.1.1", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na", r#"Post / 1.0 close "a""#),
        good("9110 10.1.1", get("Expect: 100-continue\r\n"), PLAIN),
        bad("9110 10.1.1", get("Expect: 200-ok\r\n"), R::ExpectationUnknown),
        bad("9110 10.1.1", get("Expect: 100-continue, a\r\n"), R::ExpectationUnknown),
        bad("9110 10.1.1", get("Expect: 100-continue\r\nExpect: a\r\n"), R::ExpectationUnknown),
        bad("9110 10.1.1", get("Expect: a\r\nExpect: 100-continue\r\n"), R::ExpectationUnknown),
        bad("9110 10.1.1", get("Expect:\r\n"), R::ExpectationUnknown),
    ]
}

#[rustfmt::skip]
fn lengths() -> Vec<Case> {
    use Refusal as R;
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "hello");
    let hello = r#"Post / 1.1 keep "hello""#;
    let full = "x".repeat(BODY_BYTES_MAX);
    vec![
        good("9112 6.3", post("", ""), EMPTY_POST),
        good("9110 8.6", length("5"), hello),
        good("9110 8.6", length("0005"), hello),
        good("9110 8.6", length(" \t5\t "), hello),
        good("9112 6.3", post("Content-Length: 0\r\n", ""), EMPTY_POST),
        good("9112 6.3", "POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", r#"Post / 1.0 close "hello""#),
        good("9110 9.3.1", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", r#"Get / 1.1 keep "hello""#),
        good("9110 9.3.2", "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", r#"Head / 1.1 keep "hello""#),
        good("9110 9.3.7", "OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", r#"Options / 1.1 keep "hello""#),
        good("9112 6.3", post("Content-Length: 64\r\n", &full), &format!("Post / 1.1 keep {full:?}")),
        good("9112 6.3", length("5").replace("hello", "\0\r\n\r\n"), r#"Post / 1.1 keep "\0\r\n\r\n""#),
        bad("9110 15.5.14", post("Content-Length: 65\r\n", &full), R::BodyTooLarge),
        bad("9110 8.6", length("18446744073709551616"), R::BodyTooLarge),
        bad("9110 8.6", length("18446744073709551621"), R::BodyTooLarge),
        bad("9110 8.6", length("99999999999999999999999999999999999999999"), R::BodyTooLarge),
        bad("9110 8.6", length(""), R::ContentLengthMalformed),
        bad("9110 8.6", length("+5"), R::ContentLengthMalformed),
        bad("9110 8.6", length("-5"), R::ContentLengthMalformed),
        bad("9110 8.6", length("5.0"), R::ContentLengthMalformed),
        bad("9110 8.6", length("0x5"), R::ContentLengthMalformed),
        bad("9110 8.6", length("5 5"), R::ContentLengthMalformed),
        bad("9110 8.6", length("5,"), R::ContentLengthMalformed),
        bad("9110 8.6", length("5, 5"), R::ContentLengthMalformed),
        bad("9110 8.6", length("5, 6"), R::ContentLengthMalformed),
        bad("9110 8.6", length("5;a"), R::ContentLengthMalformed),
        bad("9110 8.6", length("\u{665}"), R::ContentLengthMalformed),
        bad("9112 6.3", length("5\r\nContent-Length: 5"), R::ContentLengthRepeated),
        bad("9112 6.3", length("5\r\nContent-Length: 6"), R::ContentLengthRepeated),
        bad("9112 6.3", length("5\r\nA: b\r\ncontent-length: 4"), R::ContentLengthRepeated),
    ]
}

#[rustfmt::skip]
fn transfer_encodings() -> Vec<Case> {
    use Refusal as R;
    let coding = |value: &str| post(&format!("Transfer-Encoding: {value}\r\n"), "0\r\n\r\n");
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let turned = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    vec![
        good("9112 7", coding("chunked"), EMPTY_POST),
        good("9112 7", coding("ChunKED"), EMPTY_POST),
        good("9112 7", coding("\t chunked \t"), EMPTY_POST),
        good("9110 9.3.1", "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", r#"Get / 1.1 keep "a""#),
        bad("9112 6.1", coding(""), R::TransferEncodingMalformed),
        bad("9112 6.1", coding(","), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("chunked,"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding(", chunked"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("chunked, chunked"), R::TransferEncodingMalformed),
        bad("9112 6.3", coding("chunked, gzip"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("chunked\r\nTransfer-Encoding: chunked"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("chunked\r\nTransfer-Encoding: identity"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("chunked;a=b"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("\"chunked\""), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("chun ked"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("chunked\u{e9}"), R::TransferEncodingMalformed),
        bad("9110 5.5", coding("\x0bchunked"), R::FieldValue),
        bad("9112 6.1", coding("gzip"), R::TransferCodingUnknown),
        bad("9112 6.1", coding("identity"), R::TransferCodingUnknown),
        bad("9112 6.1", coding("xchunked"), R::TransferCodingUnknown),
        bad("9112 6.1", coding("gzip, chunked"), R::TransferCodingUnknown),
        bad("9112 6.1", coding("identity\r\nTransfer-Encoding: chunked"), R::TransferEncodingMalformed),
        bad("9112 6.1", coding("gzip\r\nTransfer-Encoding: gzip"), R::TransferEncodingMalformed),
        bad("9112 6.3", post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"), R::FramingAmbiguous),
        bad("9112 6.1", "POST / HTTP/1.0\r\nTransfer-Encoding: gzip\r\n\r\n", R::TransferEncodingInOldVersion),
        bad("9112 6.3", post(both, "0\r\n\r\n"), R::FramingAmbiguous),
        bad("9112 6.3", post(turned, "0\r\n\r\n"), R::FramingAmbiguous),
        bad("9112 6.1", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", R::TransferEncodingInOldVersion),
        bad("9112 5.1", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), R::FieldName),
    ]
}

#[rustfmt::skip]
fn chunked_bodies() -> Vec<Case> {
    use Refusal as R;
    let hello = r#"Post / 1.1 keep "hello""#;
    let with_extension = |extension: &str| chunked(&format!("5{extension}\r\nhello\r\n0\r\n\r\n"));
    let with_trailer = |trailer: &str| chunked(&format!("5\r\nhello\r\n0\r\n{trailer}\r\n"));
    let longest_line = format!(";{}", "x".repeat(CHUNK_LINE_BYTES_MAX - "5;\r".len()));
    let most_fields = "X: y\r\n".repeat(HEADERS_MAX);
    vec![
        good("9112 7.1", chunked("0\r\n\r\n"), EMPTY_POST),
        good("9112 7.1", chunked("5\r\nhello\r\n0\r\n\r\n"), hello),
        good("9112 7.1", chunked("1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n0\r\n\r\n"), hello),
        good("9112 7.1", chunked("0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n"), hello),
        good("9112 7.1", chunked(&format!("2a\r\n{}\r\n0A\r\n0123456789\r\n0\r\n\r\n", "\n".repeat(42) )), &format!("Post / 1.1 keep {:?}", "\n".repeat(42) + "0123456789")),
        good("9112 7.1", chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n"), r#"Post / 1.1 keep "0\r\n\r\n""#),
        good("9112 7.1", chunked(&format!("40\r\n{}\r\n0\r\n\r\n", "x".repeat(64))), &format!("Post / 1.1 keep {:?}", "x".repeat(64))),
        bad("9110 15.5.14", chunked(&format!("40\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(64))), R::BodyTooLarge),
        bad("9110 15.5.14", chunked("41\r\n"), R::BodyTooLarge),
        bad("9112 7.1", chunked("ffffffffffffffff\r\n"), R::BodyTooLarge),
        bad("9112 7.1", chunked("1\r\nx\r\nffffffffffffffff\r\n"), R::BodyTooLarge),
        bad("9112 7.1", chunked("10000000000000005\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("00000000000000005\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("g\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("5g\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("0x5\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("+5\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("-5\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked(" 5\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("5_0\r\nhello\r\n"), R::ChunkSize),
        bad("9112 2.2", chunked("5\nhello\r\n"), R::ChunkSize),
        bad("9112 2.2", chunked("5\rhello\r\n"), R::ChunkSize),
        bad("9112 2.2", chunked("5\r\r\nhello\r\n"), R::ChunkSize),
        bad("9112 7.1", chunked("5\r\nhelloX\r\n0\r\n\r\n"), R::ChunkEnd),
        bad("9112 7.1", chunked("5\r\nhello0\r\n\r\n"), R::ChunkEnd),
        bad("9112 2.2", chunked("5\r\nhello\n0\r\n\r\n"), R::ChunkEnd),
        bad("9112 2.2", chunked("5\r\nhello\n\n0\r\n\r\n"), R::ChunkEnd),
        bad("9112 2.2", chunked("5\r\nhello\r0\r\n\r\n"), R::ChunkEnd),
        bad("9112 7.1", chunked("6\r\nhello\r\n0\r\n\r\n"), R::ChunkEnd),
        // Extensions.
        good("9112 7.1.1", with_extension(";a"), hello),
        good("9112 7.1.1", with_extension(";a=b;c"), hello),
        good("9112 7.1.1", with_extension(" ; a = b\t;\tc"), hello),
        good("9112 7.1.1", with_extension(";a=\"b;\\\"\\\\ \t\u{e9}\" ;c=\"\""), hello),
        good("9112 7.1.1", chunked("5\r\nhello\r\n0;a=b\r\n\r\n"), hello),
        good("9112 7.1.1", with_extension(&longest_line), hello),
        bad("9112 7.1.1", with_extension(&format!("{longest_line}x")), R::ChunkLineTooLong),
        bad("9112 7.1.1", with_extension(";"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";;a"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";=b"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a="), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a=b=c"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a b"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a=b c"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(" "), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(" a"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a "), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a=\"b"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a=\"b\"c"), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a=\"\0\""), R::ChunkExtension),
        bad("9112 7.1.1", with_extension(";a=\"\\\x7f\""), R::ChunkExtension),
        bad("9112 2.2", with_extension(";a\n"), R::ChunkExtension),
        bad("9112 2.2", with_extension(";a=\"\n\""), R::ChunkExtension),
        bad("9112 2.2", with_extension(";a\rb"), R::ChunkSize),
        // Trailer sections.
        good("9112 7.1.2", with_trailer("A: b\r\n"), hello),
        good("9112 7.1.2", with_trailer("A:\r\nB: c\t\u{e9}\r\n"), hello),
        good("9110 6.5.1", with_trailer("Content-Length: 9\r\nHost: b\r\n"), hello),
        good("6585 5", with_trailer(&most_fields), hello),
        good("6585 5", trailer_of_bytes(TRAILER_BYTES_MAX), EMPTY_POST),
        bad("6585 5", trailer_of_bytes(TRAILER_BYTES_MAX + 8), R::TrailerTooLarge),
        bad("6585 5", with_trailer(&format!("{most_fields}X: y\r\n")), R::TrailerTooLarge),
        bad("9112 5", with_trailer("A\r\n"), R::Trailer),
        bad("9112 5", with_trailer(": b\r\n"), R::Trailer),
        bad("9112 5.1", with_trailer("A : b\r\n"), R::Trailer),
        bad("9112 5.2", with_trailer("A: b\r\n c\r\n"), R::Trailer),
        bad("9110 5.5", with_trailer("A: \0\r\n"), R::Trailer),
        bad("9110 5.1", with_trailer("É: b\r\n"), R::Trailer),
        bad("9112 2.2", with_trailer("A: b\n"), R::Trailer),
        bad("9112 2.2", with_trailer("A: b\n\nC: d\r\n"), R::Trailer),
        bad("9112 2.2", with_trailer("A: b\rc\r\n"), R::Trailer),
        bad("9112 2.2", chunked("0\r\n\n"), R::Trailer),
        bad("9112 2.2", chunked("0\r\n\rX"), R::Trailer),
        bad("9112 7.1", chunked("0\r\n0\r\n\r\n"), R::Trailer),
    ]
}

/// All cases.
pub fn cases() -> Vec<Case> {
    [
        request_lines(),
        fields(),
        lengths(),
        transfer_encodings(),
        chunked_bodies(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
