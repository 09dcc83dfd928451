//! Encodes answers.
//!
//! Called by the shards and by the admin address. Each shard has a [`Responder`] and sets its time once a
//! second. An answer is appended to a buffer, which the shard writes to the socket. Answers are built
//! from constant pieces, without `format!`. Never puts bytes of a peer into a head: a listed origin is
//! copied from the list.

use std::time::{Duration, SystemTime};

use crate::limits::RETRY_AFTER_S;
use crate::message::MessageId;

use super::error::{Allow, ErrorAnswer, Refusal, Status};
use super::request::Request;
use super::request_line::{Method, Version};

/// The interim answer to `Expect: 100-continue` (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How long a browser may cache the answer to a preflight, in seconds.
const PREFLIGHT_AGE_S: &str = "86400";

/// The header fields that a page of another origin may send: those that known SSE clients and
/// webhook senders add, and any other. The star does not cover `Authorization`, nor requests with
/// credentials (Fetch standard, "CORS-preflight fetch"), so the known fields are named. They allow
/// a page no more than any client outside a browser can do.
const PREFLIGHT_HEADERS: &str = "Authorization, Cache-Control, Content-Type, Idempotency-Key, \
    Last-Event-ID, X-Requested-With, X-Webhook-Secret, traceparent, *";

/// Lets pages of other origins read `Retry-After` (Fetch standard, "CORS-safelisted response-header
/// name").
const EXPOSE_RETRY_AFTER: &str = "Access-Control-Expose-Headers: Retry-After\r\n";

/// The origins whose pages may read the answers (`--allow-origin`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowOrigin {
    /// All origins.
    Any,
    /// These origins, compared byte by byte with the field `Origin`.
    Listed(Vec<Box<str>>),
}

/// How a shared cache may give a stream to other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedFor {
    /// For how long.
    pub seconds: u64,
    /// The names of the fields on which the stream depends.
    pub vary: &'static str,
}

/// What the head of a stream says of its compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamCoding {
    /// This server compresses no stream.
    Never,
    /// This stream is not compressed, but those of clients that accept gzip are.
    Plain,
    /// The stream is compressed.
    Gzip,
}

/// The properties of a request that its answer depends on. Without borrows, so that it outlives the
/// request's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// The version of the request.
    pub version: Version,
    /// Whether the connection continues after the answer. A shard that closes the connection clears it.
    pub keep_alive: bool,
    /// Whether the answer has no body, because the request was a `HEAD`.
    pub head_only: bool,
    origin: Origin,
}

/// Whether the request's origin is on the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Unlisted,
    Listed(u32),
}

/// Encodes answers, with a prepared date and CORS fields.
#[derive(Debug)]
pub struct Responder {
    /// `Date: ...` with its CRLF.
    date: Vec<u8>,
    allow_origin: AllowOrigin,
    /// The CORS fields of each listed origin.
    listed: Vec<Vec<u8>>,
}

impl Responder {
    /// A responder whose date is `now`.
    pub fn new(allow_origin: AllowOrigin, now: SystemTime) -> Responder {
        let listed = match &allow_origin {
            AllowOrigin::Any => Vec::new(),
            AllowOrigin::Listed(origins) => origins
                .iter()
                .map(|origin| {
                    [
                        "Access-Control-Allow-Origin: ",
                        &**origin,
                        // The page may be behind the same proxy, with the same login, as this server.
                        "\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n",
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

    /// Sets the date of later answers. Called once a second (RFC 9110 section 6.6.1).
    pub fn set_time(&mut self, now: SystemTime) {
        // A wrong clock must not stop the server: `httpdate` panics outside the years 1970 to 9999.
        let since_epoch = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let seconds = since_epoch.as_secs().min(DATE_SECONDS_MAX);
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        self.date.clear();
        put(&mut self.date, &["Date: ", &date, "\r\n"]);
    }

    /// The properties of a request for its answer.
    pub fn reply_to(&self, request: &Request<'_>) -> ReplyTo {
        let origin = match (&self.allow_origin, request.origin) {
            (AllowOrigin::Listed(origins), Some(sent)) => origins
                .iter()
                .position(|origin| origin.as_bytes() == sent)
                .map_or(Origin::Unlisted, |index| Origin::Listed(index as u32)),
            _ => Origin::Unlisted,
        };
        ReplyTo {
            version: request.version,
            keep_alive: request.keep_alive,
            head_only: request.method == Method::Head,
            origin,
        }
    }

    /// The acknowledgement of a message that is in the ring.
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

    /// The answer to `GET` of the webhook.
    pub fn status_ok(&self, to: ReplyTo, out: &mut Vec<u8>) {
        self.json(to, Status::Ok, &[], &["{\"status\":\"ok\"}"], out);
    }

    /// An error after which the connection may continue: `to` decides.
    pub fn error(&self, to: ReplyTo, error: ErrorAnswer, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let fields: &[&str] = match error {
            // A 401 must name a scheme (RFC 9110 section 15.5.2). Browsers do not know this one, so they
            // do not ask the user for a password.
            ErrorAnswer::SecretMissing | ErrorAnswer::SecretWrong => {
                &["WWW-Authenticate: X-Webhook-Secret\r\n"]
            }
            ErrorAnswer::SecretOrTokenMissing => {
                &["WWW-Authenticate: X-Webhook-Secret\r\nWWW-Authenticate: Bearer\r\n"]
            }
            ErrorAnswer::TokenMissing | ErrorAnswer::PublishTokenMissing => {
                &["WWW-Authenticate: Bearer\r\n"]
            }
            // RFC 6750 section 3.1.
            ErrorAnswer::TokenRefused(_) => {
                &["WWW-Authenticate: Bearer error=\"invalid_token\"\r\n"]
            }
            ErrorAnswer::MethodNotAllowed(allow) => &["Allow: ", allow.as_str(), "\r\n"],
            ErrorAnswer::NoBus { retry_after_s }
            | ErrorAnswer::Unavailable { retry_after_s }
            | ErrorAnswer::TooManyGuesses { retry_after_s, .. } => &[
                "Retry-After: ",
                digits.format(retry_after_s),
                "\r\n",
                EXPOSE_RETRY_AFTER,
            ],
            // The codings that would be accepted (RFC 9110 section 15.5.16).
            ErrorAnswer::ContentEncoding => &["Accept-Encoding: identity\r\n"],
            _ => &[],
        };
        let reason = error.reason();
        let body: &[&str] = match error.detail() {
            Some(detail) => &["{\"error\":\"", reason, "\",\"detail\":\"", detail, "\"}"],
            None => &["{\"error\":\"", reason, "\"}"],
        };
        self.json(to, error.status(), fields, body, out);
    }

    /// The answer to a request that a source refuses. `detail` says which check failed.
    pub fn refused_by_source(&self, to: ReplyTo, status: Status, detail: &str, out: &mut Vec<u8>) {
        let reason = match status {
            Status::Unauthorized => "Unauthorized",
            Status::ContentTooLarge => "Body too large",
            Status::UnsupportedMediaType => "Unsupported body",
            _ => "Invalid request",
        };
        // Browsers do not know this scheme, so they do not ask the user for a password.
        let fields: &[&str] = match status {
            Status::Unauthorized => &["WWW-Authenticate: Signature\r\n"],
            _ => &[],
        };
        let detail = serde_json::Value::from(detail).to_string();
        let body = ["{\"error\":\"", reason, "\",\"detail\":", &detail, "}"];
        self.json(to, status, fields, &body, out);
    }

    /// An answer without a body and without a `Content-Length` (RFC 9110 section 8.6): a 204.
    pub fn no_content<'a>(
        &self,
        to: ReplyTo,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
        out: &mut Vec<u8>,
    ) {
        self.begin(to, Status::NoContent, out);
        put_fields(fields, out);
        put(out, &["\r\n"]);
    }

    /// The last answer of a connection. `head` is the head of the refused request, if it was valid.
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
            Refusal::Overloaded => &[
                "Retry-After: ",
                digits.format(RETRY_AFTER_S),
                "\r\n",
                EXPOSE_RETRY_AFTER,
            ],
            _ => &[],
        };
        self.json(to, refusal.status(), fields, &body, out);
    }

    /// The answer to `OPTIONS`: the methods, and the fields that a page of another origin may send (Fetch
    /// standard, CORS preflight). It has no body and no `Content-Length` (RFC 9110 section 8.6).
    pub fn preflight(&self, to: ReplyTo, allow: Allow, out: &mut Vec<u8>) {
        self.begin(to, Status::NoContent, out);
        let fields = [
            "Allow: ",
            allow.as_str(),
            "\r\nAccess-Control-Allow-Methods: ",
            allow.as_str(),
            "\r\nAccess-Control-Allow-Headers: ",
            PREFLIGHT_HEADERS,
            "\r\nAccess-Control-Max-Age: ",
            PREFLIGHT_AGE_S,
            "\r\n\r\n",
        ];
        put(out, &fields);
    }

    /// The head of a stream. The body is chunked for 1.1; for 1.0 the connection always closes at its end.
    /// A shared cache may give the stream to other clients. The caller appends the stream, except for a `HEAD`.
    pub fn stream_head(
        &self,
        mut to: ReplyTo,
        coding: StreamCoding,
        shared: Option<SharedFor>,
        out: &mut Vec<u8>,
    ) {
        to.keep_alive &= to.version == Version::Http11;
        self.begin(to, Status::Ok, out);
        let mut digits = itoa::Buffer::new();
        match shared {
            None => put(out, &[STREAM_FIELDS, PRIVATE_FIELDS, coding.fields()]),
            // A client with a secret or a token must not get the cached stream of one without.
            Some(SharedFor { seconds, vary }) => put(
                out,
                &[
                    STREAM_FIELDS,
                    "Cache-Control: public, max-age=0, s-maxage=",
                    digits.format(seconds),
                    ", no-transform\r\nVary: ",
                    vary,
                    "\r\n",
                ],
            ),
        }
        if to.version == Version::Http11 {
            put(out, &["Transfer-Encoding: chunked\r\n"]);
        }
        put(out, &["\r\n"]);
    }

    /// A stream that consists of these events and ends. It is never compressed, and no cache keeps it, so it needs no
    /// `Vary` (RFC 9110 section 12.5.5).
    pub fn ended_stream(&self, to: ReplyTo, events: &[u8], out: &mut Vec<u8>) {
        self.begin(to, Status::Ok, out);
        put(out, &[STREAM_FIELDS, PRIVATE_FIELDS]);
        put_body(to, &[events], out);
    }

    /// A body with its header fields, or 304 without a body if the client has it already (RFC 9110
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

    /// The head of a representation without its body, as the answer to `HEAD`.
    pub fn representation_head<'a>(
        &self,
        to: ReplyTo,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
        body_bytes: usize,
        out: &mut Vec<u8>,
    ) {
        self.begin(to, Status::Ok, out);
        put_fields(fields, out);
        put_length(body_bytes, out);
    }

    /// Any other answer with its header fields. Their values must not come from a peer.
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

    /// The beginning of every answer: the status line, the date, the CORS fields, and `Connection`.
    fn begin(&self, to: ReplyTo, status: Status, out: &mut Vec<u8>) {
        put(out, &[status.line()]);
        out.extend_from_slice(&self.date);
        match (&self.allow_origin, to.origin) {
            (AllowOrigin::Any, _) => put(out, &["Access-Control-Allow-Origin: *\r\n"]),
            (AllowOrigin::Listed(_), Origin::Listed(index)) => {
                out.extend_from_slice(&self.listed[index as usize]);
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

impl StreamCoding {
    fn fields(self) -> &'static str {
        match self {
            StreamCoding::Never => "",
            StreamCoding::Plain => "Vary: Accept-Encoding\r\n",
            StreamCoding::Gzip => "Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n",
        }
    }
}

/// The last second of the year 9999.
const DATE_SECONDS_MAX: u64 = 253_402_300_799;

/// The charset is redundant by the HTML standard (section 9.2.5), but clients with Python's `requests`
/// read Latin-1 without it. `no-transform` and `X-Accel-Buffering` keep proxies from buffering events.
const STREAM_FIELDS: &str = "Content-Type: text/event-stream; charset=utf-8\r\nX-Accel-Buffering: no\r\nX-Content-Type-Options: nosniff\r\n";

/// The fields of a stream that no cache may give to another client.
const PRIVATE_FIELDS: &str = "Cache-Control: private, no-store, no-transform\r\n";

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

/// Ends a head with the length of the body, and appends the body unless the request was a `HEAD`.
fn put_body<T: AsRef<[u8]>>(to: ReplyTo, body: &[T], out: &mut Vec<u8>) {
    put_length(body.iter().map(|part| part.as_ref().len()).sum(), out);
    if !to.head_only {
        put(out, body);
    }
}

/// Ends a head with the length of the body.
fn put_length(body_bytes: usize, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    let length = digits.format(body_bytes);
    put(out, &["Content-Length: ", length, "\r\n\r\n"]);
}

#[cfg(test)]
mod tests;
