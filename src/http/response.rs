//! Encodes answers.
//!
//! Each shard has a [`Responder`] and tells it the time once a second; every answer goes to the end
//! of a buffer that the shard writes out. Built from constant pieces, without `format!`. Nothing
//! that a peer sent ever enters a head: a listed origin is echoed from the list.

use std::time::{Duration, SystemTime};

use crate::limits::RETRY_AFTER_S;
use crate::message::MessageId;

use super::error::{Allow, ErrorAnswer, Refusal, Status};
use super::request::{Method, Request, Version};

/// The interim answer to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_AGE_S: &str = "86400";

/// Which web pages may read the answers (`--allow-origin`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowOrigin {
    /// All of them.
    Any,
    /// Those of these origins, compared byte by byte with what a browser sends.
    Listed(Vec<Box<str>>),
}

/// Something that is neither `*` nor an origin as browsers write it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOrigin(pub String);

impl std::fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} is neither * nor an origin such as https://example.com",
            self.0
        )
    }
}

impl std::error::Error for InvalidOrigin {}

impl AllowOrigin {
    /// Takes `*` alone, or origins as browsers send them (RFC 6454 section 6.2): scheme and host
    /// in lower case, a port that is not the scheme's own, no path, no slash at the end.
    pub fn parse<'a>(
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<AllowOrigin, InvalidOrigin> {
        let mut origins = Vec::new();
        let mut any = None;
        for value in values {
            match value {
                "*" => any = Some(value),
                _ if is_origin(value) => origins.push(value.into()),
                _ => return Err(InvalidOrigin(value.to_owned())),
            }
        }
        match any {
            None => Ok(AllowOrigin::Listed(origins)),
            Some(_) if origins.is_empty() => Ok(AllowOrigin::Any),
            Some(any) => Err(InvalidOrigin(any.to_owned())),
        }
    }
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let is_default_port = matches!(
        (scheme, authority.rsplit_once(':')),
        ("http", Some((_, "80"))) | ("https", Some((_, "443")))
    );
    is_scheme
        && !is_default_port
        && !authority.ends_with(':')
        && !authority.bytes().any(|b| b.is_ascii_uppercase())
        && super::target::is_authority(authority.as_bytes())
}

/// What an answer needs to know of the request. Small and free of borrows, so that it outlives the
/// request's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// The version of the request.
    pub version: Version,
    /// Whether the connection goes on after the answer. To be cleared by who is going to close it.
    pub keep_alive: bool,
    /// Whether the body is left out: the request was a `HEAD`.
    pub head_only: bool,
    origin: Origin,
}

/// Whether the request's origin is on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Unlisted,
    Listed(usize),
}

/// Encodes answers, with the date and the CORS header at hand.
#[derive(Debug)]
pub struct Responder {
    /// `Date: ...` with its CRLF.
    date: Vec<u8>,
    allow_origin: AllowOrigin,
    /// The CORS fields of each listed origin.
    listed: Vec<Vec<u8>>,
}

impl Responder {
    /// A responder at a time.
    pub fn new(allow_origin: AllowOrigin, now: SystemTime) -> Responder {
        let listed = match &allow_origin {
            AllowOrigin::Any => Vec::new(),
            AllowOrigin::Listed(origins) => origins
                .iter()
                .map(|origin| {
                    [
                        "Access-Control-Allow-Origin: ",
                        &**origin,
                        "\r\nVary: Origin\r\n",
                    ]
                    .concat()
                    .into_bytes()
                })
                .collect(),
        };
        let mut responder = Responder {
            date: Vec::new(),
            allow_origin,
            listed,
        };
        responder.set_time(now);
        responder
    }

    /// Sets the date of the answers to come. To be called once a second (RFC 9110 section 6.6.1).
    pub fn set_time(&mut self, now: SystemTime) {
        // A clock that is off must not stop the server: `httpdate` knows the years 1970 to 9999.
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = since_epoch.as_secs().min(DATE_SECONDS_MAX);
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        self.date.clear();
        put(&mut self.date, &["Date: ", &date, "\r\n"]);
    }

    /// What answers to a request have to know of it.
    pub fn reply_to(&self, request: &Request<'_>) -> ReplyTo {
        let origin = match (&self.allow_origin, request.origin) {
            (AllowOrigin::Listed(origins), Some(sent)) => origins
                .iter()
                .position(|origin| origin.as_bytes() == sent)
                .map_or(Origin::Unlisted, Origin::Listed),
            _ => Origin::Unlisted,
        };
        ReplyTo {
            version: request.version,
            keep_alive: request.keep_alive,
            head_only: request.method == Method::Head,
            origin,
        }
    }

    /// The receipt of a message that is in the ring.
    pub fn published(&self, to: ReplyTo, id: MessageId, timestamp_ms: u64, out: &mut Vec<u8>) {
        let mut id_digits = MessageId::encode_buffer();
        let id = id.as_hyphenated().encode_lower(&mut id_digits);
        let mut timestamp_digits = itoa::Buffer::new();
        let timestamp = timestamp_digits.format(timestamp_ms);
        self.json(
            to,
            Status::Ok,
            &[],
            &[
                "{\"success\":true,\"messageId\":\"",
                id,
                "\",\"timestamp\":",
                timestamp,
                "}",
            ],
            out,
        );
    }

    /// The server is there.
    pub fn status_ok(&self, to: ReplyTo, out: &mut Vec<u8>) {
        self.json(to, Status::Ok, &[], &["{\"status\":\"ok\"}"], out);
    }

    /// An error after which the connection goes on, if `to` says so.
    pub fn error(&self, to: ReplyTo, error: ErrorAnswer, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let fields: &[&str] = match error {
            // A 401 must name a scheme (RFC 9110 section 15.5.2); this one makes no browser ask.
            ErrorAnswer::Unauthorized => &["WWW-Authenticate: X-Webhook-Secret\r\n"],
            ErrorAnswer::MethodNotAllowed(allow) => &["Allow: ", allow.as_str(), "\r\n"],
            ErrorAnswer::Unavailable { retry_after_s } => {
                &["Retry-After: ", digits.format(retry_after_s), "\r\n"]
            }
            _ => &[],
        };
        self.json(
            to,
            error.status(),
            fields,
            &["{\"error\":\"", error.reason(), "\"}"],
            out,
        );
    }

    /// The last answer of a connection. `head` is the head of the refused request, if it was sound.
    pub fn refusal(&self, head: Option<&Request<'_>>, refusal: Refusal, out: &mut Vec<u8>) {
        let unknown = ReplyTo {
            version: Version::Http11,
            keep_alive: false,
            head_only: false,
            origin: Origin::Unlisted,
        };
        let to = ReplyTo {
            keep_alive: false,
            ..head.map_or(unknown, |head| self.reply_to(head))
        };
        let body = ["{\"error\":\"", refusal.reason(), "\"}"];
        let mut digits = itoa::Buffer::new();
        let fields: &[&str] = match refusal {
            Refusal::Overloaded => &["Retry-After: ", digits.format(RETRY_AFTER_S), "\r\n"],
            _ => &[],
        };
        self.json(to, refusal.status(), fields, &body, out);
    }

    /// The answer to `OPTIONS`: the methods, and what a page of another origin may send (Fetch
    /// standard, CORS preflight). It has no body and no `Content-Length` (RFC 9110 section 8.6).
    pub fn preflight(&self, to: ReplyTo, allow: Allow, out: &mut Vec<u8>) {
        self.begin(to, Status::NoContent, out);
        let fields = [
            "Allow: ",
            allow.as_str(),
            "\r\nAccess-Control-Allow-Methods: ",
            allow.as_str(),
            "\r\nAccess-Control-Allow-Headers: Content-Type, X-Webhook-Secret, Last-Event-ID\r\n",
            "Access-Control-Max-Age: ",
            PREFLIGHT_AGE_S,
            "\r\n\r\n",
        ];
        put(out, &fields);
    }

    /// The head of a stream: chunked for 1.1; for 1.0 the stream ends with the connection, whatever
    /// `to` says. A shared cache may give the stream to others for `shared_s` seconds. The rest of
    /// the answer is the stream, or for a `HEAD` nothing.
    pub fn stream_head(&self, mut to: ReplyTo, shared_s: Option<u64>, out: &mut Vec<u8>) {
        to.keep_alive &= to.version == Version::Http11;
        self.begin(to, Status::Ok, out);
        let mut digits = itoa::Buffer::new();
        match shared_s.map(|seconds| digits.format(seconds)) {
            None => put(out, &[STREAM_FIELDS, PRIVATE_FIELDS]),
            // One that presents a secret must not be given a stream of those that did not.
            Some(seconds) => put(
                out,
                &[
                    STREAM_FIELDS,
                    "Cache-Control: public, max-age=0, s-maxage=",
                    seconds,
                    ", no-transform\r\nVary: X-Webhook-Secret\r\n",
                ],
            ),
        }
        if to.version == Version::Http11 {
            put(out, &["Transfer-Encoding: chunked\r\n"]);
        }
        put(out, &["\r\n"]);
    }

    /// A stream that is over at once: these events are all of it.
    pub fn ended_stream(&self, to: ReplyTo, events: &[u8], out: &mut Vec<u8>) {
        self.begin(to, Status::Ok, out);
        put(out, &[STREAM_FIELDS, PRIVATE_FIELDS]);
        put_body(to, &[events], out);
    }

    /// A body with header fields of its own, or 304 without it if the client has it already (RFC 9110
    /// section 15.4.5).
    pub fn representation<'a>(
        &self,
        to: ReplyTo,
        is_known: bool,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        if is_known {
            self.begin(to, Status::NotModified, out);
            put_fields(fields, out);
            put(out, &["\r\n"]);
        } else {
            self.document(to, Status::Ok, fields, body, out);
        }
    }

    /// Any other answer, with its own header fields, none of which may come from a peer.
    pub fn document<'a>(
        &self,
        to: ReplyTo,
        status: Status,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.begin(to, status, out);
        put_fields(fields, out);
        put_body(to, &[body], out);
    }

    fn json(&self, to: ReplyTo, status: Status, fields: &[&str], body: &[&str], out: &mut Vec<u8>) {
        self.begin(to, status, out);
        put(out, fields);
        put(
            out,
            &[
                "Content-Type: application/json\r\n",
                "Cache-Control: no-store\r\n",
                "X-Content-Type-Options: nosniff\r\n",
            ],
        );
        put_body(to, body, out);
    }

    /// What every answer begins with: the status line, the date, CORS, and what becomes of the
    /// connection.
    fn begin(&self, to: ReplyTo, status: Status, out: &mut Vec<u8>) {
        put(out, &[status.line()]);
        out.extend_from_slice(&self.date);
        match (&self.allow_origin, to.origin) {
            (AllowOrigin::Any, _) => put(out, &["Access-Control-Allow-Origin: *\r\n"]),
            (AllowOrigin::Listed(_), Origin::Listed(index)) => {
                out.extend_from_slice(&self.listed[index]);
            }
            (AllowOrigin::Listed(_), Origin::Unlisted) => put(out, &["Vary: Origin\r\n"]),
        }
        match (to.version, to.keep_alive) {
            (_, false) => put(out, &["Connection: close\r\n"]),
            (Version::Http10, true) => put(out, &["Connection: keep-alive\r\n"]),
            (Version::Http11, true) => {}
        }
    }
}

/// The last second of the year 9999.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// The type exactly as written: some clients compare it byte by byte. `no-transform` and
/// `X-Accel-Buffering` keep proxies from collecting events before they pass them on.
const STREAM_FIELDS: &str = "Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n";

/// A stream that is for its client alone.
const PRIVATE_FIELDS: &str = "Cache-Control: no-store, no-transform\r\n";

fn put<T: AsRef<[u8]>>(out: &mut Vec<u8>, parts: &[T]) {
    for part in parts {
        out.extend_from_slice(part.as_ref());
    }
}

fn put_fields<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut Vec<u8>) {
    for (name, value) in fields {
        put(out, &[name, ": ", value, "\r\n"]);
    }
}

/// Ends a head with the length of the body, and puts the body behind it unless it is left out.
fn put_body<T: AsRef<[u8]>>(to: ReplyTo, body: &[T], out: &mut Vec<u8>) {
    let length: usize = body.iter().map(|part| part.as_ref().len()).sum();
    let mut digits = itoa::Buffer::new();
    put(
        out,
        &["Content-Length: ", digits.format(length), "\r\n\r\n"],
    );
    if !to.head_only {
        put(out, body);
    }
}

#[cfg(test)]
mod tests {
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
            method,
            path: "/",
            query: None,
            version,
            keep_alive,
            secret: None,
            last_event_id: None,
            origin: None,
            if_none_match: None,
            accept_encoding: None,
            head: b"",
            body: b"",
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
    const STREAM: &str = "Content-Type: text/event-stream\r\nX-Accel-Buffering: no\r\n\
        Cache-Control: no-store, no-transform\r\n";

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
    fn the_connection_goes_on_or_not() {
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
    fn errors_carry_what_their_status_asks_for() {
        for (error, status, field) in [
            (
                ErrorAnswer::Unauthorized,
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
            assert_eq!(body, format!("{{\"error\":\"{error}\"}}"));
            assert!(head.contains(&format!("Content-Length: {}", body.len())));
        }
    }

    #[test]
    fn every_reason_stands_in_json_as_it_is() {
        let errors = [
            ErrorAnswer::Unauthorized,
            ErrorAnswer::NotFound,
            ErrorAnswer::MethodNotAllowed(Allow::READ),
            ErrorAnswer::InvalidJson,
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
            assert_eq!(json, serde_json::json!({ "error": error.reason() }));
        }
    }

    #[test]
    fn a_refusal_closes_whatever_the_request_wanted() {
        let head = request(Method::Post, Version::Http10, true);
        for head in [None, Some(&head)] {
            let text =
                encoded(|responder, out| responder.refusal(head, Refusal::BodyTooLarge, out));
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
                 Access-Control-Allow-Headers: Content-Type, X-Webhook-Secret, Last-Event-ID\r\n\
                 Access-Control-Max-Age: 86400\r\n\r\n"
            )
        );
    }

    #[test]
    fn a_stream_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0() {
        let head = |version, keep_alive| {
            let to = responder().reply_to(&request(Method::Get, version, keep_alive));
            encoded(|responder, out| responder.stream_head(to, None, out))
        };
        let chunked =
            format!("HTTP/1.1 200 OK\r\n{BEGIN}{STREAM}Transfer-Encoding: chunked\r\n\r\n");
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
        let allow = AllowOrigin::parse(["https://a.example", "http://localhost:8080"]).unwrap();
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
    fn origins_are_as_browsers_send_them() {
        assert_eq!(AllowOrigin::parse(["*"]), Ok(AllowOrigin::Any));
        for good in [
            "https://a",
            "http://a:8080",
            "http://[::1]:3000",
            "chrome-extension://abc",
        ] {
            assert_eq!(
                AllowOrigin::parse([good]),
                Ok(AllowOrigin::Listed(vec![good.into()]))
            );
        }
        for bad in [
            "",
            "a",
            "https://",
            "https://a/",
            "https://A",
            "HTTPS://a",
            "https://a:443",
            "http://a:80",
            "https://a:",
            "https://a b",
            "https://a\r\nX: y",
            "https://u@a",
            "null",
        ] {
            assert_eq!(AllowOrigin::parse([bad]), Err(InvalidOrigin(bad.into())));
        }
        assert!(AllowOrigin::parse(["*", "https://a"]).is_err());
    }

    #[test]
    fn an_asset_or_that_the_client_has_it() {
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
    fn the_date_follows_the_clock_however_far_off_it_is() {
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
}
