//! The errors of requests, with the status and the text of each.
//!
//! Made by the reader and the router, encoded by the responder. Never contains bytes of the peer: every
//! text is static, so an answer cannot echo input.

use std::fmt;

use crate::tokens::TokenFault;

/// The status codes this server answers with (RFC 9110 section 15, RFC 6585).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum Status {
    Ok = 200,
    NoContent = 204,
    NotModified = 304,
    BadRequest = 400,
    Unauthorized = 401,
    Forbidden = 403,
    NotFound = 404,
    MethodNotAllowed = 405,
    RequestTimeout = 408,
    ContentTooLarge = 413,
    UriTooLong = 414,
    UnsupportedMediaType = 415,
    ExpectationFailed = 417,
    MisdirectedRequest = 421,
    UnprocessableContent = 422,
    TooManyRequests = 429,
    RequestHeaderFieldsTooLarge = 431,
    InternalServerError = 500,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    GatewayTimeout = 504,
    HttpVersionNotSupported = 505,
}

impl Status {
    /// The statuses of answers that sources decide.
    const OF_SOURCES: [Status; 6] = [
        Status::Ok,
        Status::NoContent,
        Status::BadRequest,
        Status::Unauthorized,
        Status::ContentTooLarge,
        Status::UnsupportedMediaType,
    ];

    /// The status with this code, of those that sources answer with.
    pub fn of_source(code: u16) -> Option<Status> {
        let mut statuses = Status::OF_SOURCES.into_iter();
        statuses.find(|status| status.code() == code)
    }

    /// The three-digit code.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The status line with its CRLF. Always `HTTP/1.1`: a server sends its own version, also to a 1.0
    /// client (RFC 9110 section 6.2).
    pub(super) const fn line(self) -> &'static str {
        match self {
            Status::Ok => "HTTP/1.1 200 OK\r\n",
            Status::NoContent => "HTTP/1.1 204 No Content\r\n",
            Status::NotModified => "HTTP/1.1 304 Not Modified\r\n",
            Status::BadRequest => "HTTP/1.1 400 Bad Request\r\n",
            Status::Unauthorized => "HTTP/1.1 401 Unauthorized\r\n",
            Status::Forbidden => "HTTP/1.1 403 Forbidden\r\n",
            Status::NotFound => "HTTP/1.1 404 Not Found\r\n",
            Status::MethodNotAllowed => "HTTP/1.1 405 Method Not Allowed\r\n",
            Status::RequestTimeout => "HTTP/1.1 408 Request Timeout\r\n",
            Status::ContentTooLarge => "HTTP/1.1 413 Content Too Large\r\n",
            Status::UriTooLong => "HTTP/1.1 414 URI Too Long\r\n",
            Status::UnsupportedMediaType => "HTTP/1.1 415 Unsupported Media Type\r\n",
            Status::ExpectationFailed => "HTTP/1.1 417 Expectation Failed\r\n",
            Status::MisdirectedRequest => "HTTP/1.1 421 Misdirected Request\r\n",
            Status::UnprocessableContent => "HTTP/1.1 422 Unprocessable Content\r\n",
            Status::TooManyRequests => "HTTP/1.1 429 Too Many Requests\r\n",
            Status::RequestHeaderFieldsTooLarge => {
                "HTTP/1.1 431 Request Header Fields Too Large\r\n"
            }
            Status::InternalServerError => "HTTP/1.1 500 Internal Server Error\r\n",
            Status::NotImplemented => "HTTP/1.1 501 Not Implemented\r\n",
            Status::ServiceUnavailable => "HTTP/1.1 503 Service Unavailable\r\n",
            Status::GatewayTimeout => "HTTP/1.1 504 Gateway Timeout\r\n",
            Status::HttpVersionNotSupported => "HTTP/1.1 505 HTTP Version Not Supported\r\n",
        }
    }
}

/// Why a request was not read to its end. Its answer is the last of the connection: no later byte may be
/// read as a request (RFC 9112 sections 9.6 and 11.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The method is empty or not a token.
    Method,
    /// The method is longer than any registered one.
    MethodTooLong,
    /// The target has none of the forms for an origin server.
    Target,
    /// The target is over [`TARGET_BYTES_MAX`](crate::limits::TARGET_BYTES_MAX).
    TargetTooLong,
    /// The target is not followed by `HTTP/x.y` and CRLF.
    Version,
    /// The version is neither 1.0 nor 1.1.
    VersionUnsupported,
    /// A line ends with LF alone.
    BareLineFeed,
    /// The head is over [`HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX).
    HeadTooLarge,
    /// There are more than [`HEADERS_MAX`](crate::limits::HEADERS_MAX) header fields.
    TooManyHeaders,
    /// A field name is malformed: empty, space before the colon, a folded line, no colon.
    FieldName,
    /// A field value holds a control character or a bare CR.
    FieldValue,
    /// A 1.1 request without `Host`.
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` is not `host[:port]`.
    HostMalformed,
    /// More than one `Content-Length`, equal or not.
    ContentLengthRepeated,
    /// `Content-Length` does not consist of digits.
    ContentLengthMalformed,
    /// Both `Content-Length` and `Transfer-Encoding`.
    FramingAmbiguous,
    /// `Transfer-Encoding` in an HTTP/1.0 request.
    TransferEncodingInOldVersion,
    /// `Transfer-Encoding` is empty, repeated, malformed, or does not end with one `chunked`.
    TransferEncodingMalformed,
    /// A transfer coding other than `chunked`.
    TransferCodingUnknown,
    /// More than one `X-Webhook-Secret`.
    SecretRepeated,
    /// More than one `Last-Event-ID`.
    LastEventIdRepeated,
    /// More than one `Origin`.
    OriginRepeated,
    /// An expectation other than `100-continue`.
    ExpectationUnknown,
    /// The body is over the limit.
    BodyTooLarge,
    /// A chunk size is missing, not hexadecimal, or does not fit 64 bits.
    ChunkSize,
    /// A chunk extension is malformed.
    ChunkExtension,
    /// A chunk-size line is over [`CHUNK_LINE_BYTES_MAX`](crate::limits::CHUNK_LINE_BYTES_MAX).
    ChunkLineTooLong,
    /// A chunk's data is not followed by CRLF.
    ChunkEnd,
    /// A trailer field is malformed.
    Trailer,
    /// The trailer section is over [`TRAILER_BYTES_MAX`](crate::limits::TRAILER_BYTES_MAX), or has
    /// more than [`HEADERS_MAX`](crate::limits::HEADERS_MAX) fields.
    TrailerTooLarge,
    /// The head or the body did not arrive before its deadline. Made by the shard, since the reader has no
    /// clock.
    TooSlow,
    /// The request arrives in pieces, and incomplete requests already use all of their memory. Made by
    /// the shard as well.
    Overloaded,
}

impl Refusal {
    /// The status to answer with.
    pub const fn status(self) -> Status {
        use Refusal as R;
        match self {
            R::TargetTooLong => Status::UriTooLong,
            R::HeadTooLarge | R::TooManyHeaders | R::TrailerTooLarge => {
                Status::RequestHeaderFieldsTooLarge
            }
            R::BodyTooLarge => Status::ContentTooLarge,
            R::ExpectationUnknown => Status::ExpectationFailed,
            R::MethodTooLong | R::TransferCodingUnknown => Status::NotImplemented,
            R::VersionUnsupported => Status::HttpVersionNotSupported,
            R::TooSlow => Status::RequestTimeout,
            R::Overloaded => Status::ServiceUnavailable,
            R::Method
            | R::Target
            | R::Version
            | R::BareLineFeed
            | R::FieldName
            | R::FieldValue
            | R::HostMissing
            | R::HostRepeated
            | R::HostMalformed
            | R::ContentLengthRepeated
            | R::ContentLengthMalformed
            | R::FramingAmbiguous
            | R::TransferEncodingInOldVersion
            | R::TransferEncodingMalformed
            | R::SecretRepeated
            | R::LastEventIdRepeated
            | R::OriginRepeated
            | R::ChunkSize
            | R::ChunkExtension
            | R::ChunkLineTooLong
            | R::ChunkEnd
            | R::Trailer => Status::BadRequest,
        }
    }

    /// The text for the `error` member of the answer and for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Refusal::Method => "Malformed method",
            Refusal::MethodTooLong => "Unknown method",
            Refusal::Target => "Malformed request target",
            Refusal::TargetTooLong => "Request target too long",
            Refusal::Version => "Malformed request line",
            Refusal::VersionUnsupported => "HTTP version not supported",
            Refusal::BareLineFeed => "Line not ended by CRLF",
            Refusal::HeadTooLarge => "Request head too large",
            Refusal::TooManyHeaders => "Too many header fields",
            Refusal::FieldName => "Malformed header field name",
            Refusal::FieldValue => "Control character in a header field",
            Refusal::HostMissing => "Missing Host",
            Refusal::HostRepeated => "Repeated Host",
            Refusal::HostMalformed => "Malformed Host",
            Refusal::ContentLengthRepeated => "Repeated Content-Length",
            Refusal::ContentLengthMalformed => "Malformed Content-Length",
            Refusal::FramingAmbiguous => "Both Content-Length and Transfer-Encoding",
            Refusal::TransferEncodingInOldVersion => "Transfer-Encoding in HTTP/1.0",
            Refusal::TransferEncodingMalformed => "Malformed Transfer-Encoding",
            Refusal::TransferCodingUnknown => "Unknown transfer coding",
            Refusal::SecretRepeated => "Repeated X-Webhook-Secret",
            Refusal::LastEventIdRepeated => "Repeated Last-Event-ID",
            Refusal::OriginRepeated => "Repeated Origin",
            Refusal::ExpectationUnknown => "Unknown expectation",
            Refusal::BodyTooLarge => "Body too large",
            Refusal::ChunkSize => "Malformed chunk size",
            Refusal::ChunkExtension => "Malformed chunk extension",
            Refusal::ChunkLineTooLong => "Chunk size line too long",
            Refusal::ChunkEnd => "Chunk not ended by CRLF",
            Refusal::Trailer => "Malformed trailer field",
            Refusal::TrailerTooLarge => "Trailer section too large",
            Refusal::TooSlow => "Request too slow",
            Refusal::Overloaded => "Service unavailable",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Refusal {}

/// The methods of a resource, as the value of `Allow` (RFC 9110 section 10.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allow(&'static str);

impl Allow {
    /// The methods of the webhook.
    pub const READ_WRITE: Allow = Allow("GET, HEAD, POST, OPTIONS");
    /// The methods of the stream, the history and the chat window.
    pub const READ: Allow = Allow("GET, HEAD, OPTIONS");
    /// The methods of the admin address. No `OPTIONS`, since it is not for pages of other origins.
    pub const READ_ALONE: Allow = Allow("GET, HEAD");

    /// The methods, separated by comma and space.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// What a request may have guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guess {
    /// A secret that is sent: that of the webhooks, or of a source.
    Secret,
    /// A token.
    Token,
}

/// The error answer to a complete request, or to one whose head determines the answer. The
/// connection can continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorAnswer {
    /// A secret is required, and the request has none.
    SecretMissing,
    /// A secret or a token is required, and the request has neither.
    SecretOrTokenMissing,
    /// The request's secret is not the configured one.
    SecretWrong,
    /// A token is required, and the request has neither one nor the secret.
    TokenMissing,
    /// The same for a webhook, for which a cookie does not count.
    PublishTokenMissing,
    /// The request's token is not valid.
    TokenRefused(TokenFault),
    /// The request has several `Authorization` fields.
    AuthorizationRepeated,
    /// The client has sent too many wrong secrets, or too many wrong tokens.
    TooManyGuesses {
        /// What it has guessed.
        guess: Guess,
        /// The value of `Retry-After` in seconds.
        retry_after_s: u32,
    },
    /// The token does not contain a session of the request.
    SessionForbidden,
    /// The token does not allow webhooks.
    PublishForbidden,
    /// The token allows webhooks for other sessions only.
    PublishForbiddenHere,
    /// The token does not allow webhooks for the session whose streams are asked for.
    PresenceForbidden,
    /// The token does not allow all webhooks, and so not the list of sources.
    SourcesForbidden,
    /// The token has more sessions than a stream may have, and the request names none.
    TokenSessionsTooMany,
    /// No resource has this path.
    NotFound,
    /// The resource does not have this method.
    MethodNotAllowed(Allow),
    /// The body has a content coding. Its decoded size could not be bounded in advance.
    ContentEncoding,
    /// The body is not UTF-8.
    NotUtf8,
    /// The body is not one JSON object, or repeats `message` or `sessionId`.
    InvalidJson,
    /// `message` is missing, not a string, or blank.
    MessageRequired,
    /// `sessionId` of a body is neither a string nor null.
    SessionNotText,
    /// `sessionId` is over [`SESSION_BYTES_MAX`](crate::limits::SESSION_BYTES_MAX).
    SessionTooLong,
    /// A query has more than [`SESSIONS_PER_STREAM_MAX`](crate::limits::SESSIONS_PER_STREAM_MAX) sessions.
    TooManySessions,
    /// A body or a query has a misspelled `sessionId`.
    SessionMisspelled,
    /// The query of a webhook has a `sessionId`, which belongs in the body.
    SessionInQuery,
    /// A query has a misspelled `lastEventId`.
    LastEventIdMisspelled,
    /// A query has a misspelled `token`, to a server with keys of tokens.
    TokenMisspelled,
    /// The query has a malformed percent escape, or escaped bytes that are not UTF-8.
    QueryMalformed,
    /// The path has a malformed percent escape, or escaped bytes that are not UTF-8.
    PathMalformed,
    /// The query has a parameter twice that is not `sessionId`.
    QueryRepeated,
    /// `limit` is not a number from 1 to [`HISTORY_MESSAGES`](crate::limits::HISTORY_MESSAGES).
    LimitOutOfRange,
    /// `wait` is not a number of seconds up to [`HISTORY_WAIT_S_MAX`](crate::limits::HISTORY_WAIT_S_MAX).
    WaitOutOfRange,
    /// `replay` is not a number up to [`HISTORY_MESSAGES`](crate::limits::HISTORY_MESSAGES).
    ReplayOutOfRange,
    /// `since` of the history is neither an event id nor a time.
    SinceMalformed,
    /// `since` of a stream is no time.
    SinceOfStreamMalformed,
    /// `since` of a stream is an event id.
    SinceOfEvent,
    /// `Idempotency-Key` is empty, too long, or has characters that a key may not have.
    KeyMalformed,
    /// `Idempotency-Key` is sent in several lines.
    KeyRepeated,
    /// Another body has had the same `Idempotency-Key`.
    KeyReused,
    /// The body is within its limit, but the message's event is over the limit of a frame.
    MessageTooLarge,
    /// The message could not be stored, and was not delivered.
    Internal,
    /// The bus has not taken the message in time: it is certainly not stored.
    NoBus {
        /// The value of `Retry-After` in seconds.
        retry_after_s: u32,
    },
    /// The message has not come back from the bus in time: it may be stored, and may yet be delivered.
    InDoubt,
    /// The server has no room now; the client may retry later.
    Unavailable {
        /// The value of `Retry-After` in seconds.
        retry_after_s: u32,
    },
}

impl ErrorAnswer {
    /// The status to answer with.
    pub const fn status(self) -> Status {
        match self {
            ErrorAnswer::SecretMissing
            | ErrorAnswer::SecretOrTokenMissing
            | ErrorAnswer::SecretWrong
            | ErrorAnswer::TokenMissing
            | ErrorAnswer::PublishTokenMissing
            | ErrorAnswer::TokenRefused(_) => Status::Unauthorized,
            ErrorAnswer::TooManyGuesses { .. } => Status::TooManyRequests,
            ErrorAnswer::SessionForbidden
            | ErrorAnswer::PublishForbidden
            | ErrorAnswer::PublishForbiddenHere
            | ErrorAnswer::PresenceForbidden
            | ErrorAnswer::SourcesForbidden => Status::Forbidden,
            ErrorAnswer::NotFound => Status::NotFound,
            ErrorAnswer::MethodNotAllowed(_) => Status::MethodNotAllowed,
            ErrorAnswer::ContentEncoding => Status::UnsupportedMediaType,
            ErrorAnswer::NotUtf8
            | ErrorAnswer::InvalidJson
            | ErrorAnswer::SessionMisspelled
            | ErrorAnswer::SessionInQuery
            | ErrorAnswer::LastEventIdMisspelled
            | ErrorAnswer::TokenMisspelled
            | ErrorAnswer::MessageRequired
            | ErrorAnswer::SessionNotText
            | ErrorAnswer::SessionTooLong
            | ErrorAnswer::QueryMalformed
            | ErrorAnswer::PathMalformed
            | ErrorAnswer::QueryRepeated
            | ErrorAnswer::LimitOutOfRange
            | ErrorAnswer::WaitOutOfRange
            | ErrorAnswer::TooManySessions
            | ErrorAnswer::ReplayOutOfRange
            | ErrorAnswer::SinceMalformed
            | ErrorAnswer::SinceOfStreamMalformed
            | ErrorAnswer::SinceOfEvent
            | ErrorAnswer::KeyMalformed
            | ErrorAnswer::KeyRepeated
            | ErrorAnswer::AuthorizationRepeated
            | ErrorAnswer::TokenSessionsTooMany => Status::BadRequest,
            ErrorAnswer::KeyReused => Status::UnprocessableContent,
            ErrorAnswer::MessageTooLarge => Status::ContentTooLarge,
            ErrorAnswer::Internal => Status::InternalServerError,
            ErrorAnswer::NoBus { .. } | ErrorAnswer::Unavailable { .. } => {
                Status::ServiceUnavailable
            }
            ErrorAnswer::InDoubt => Status::GatewayTimeout,
        }
    }

    /// The text for the `error` member of the answer.
    pub const fn reason(self) -> &'static str {
        match self {
            ErrorAnswer::SecretMissing
            | ErrorAnswer::SecretOrTokenMissing
            | ErrorAnswer::SecretWrong
            | ErrorAnswer::TokenMissing
            | ErrorAnswer::PublishTokenMissing
            | ErrorAnswer::TokenRefused(_) => "Unauthorized",
            ErrorAnswer::TooManyGuesses { .. } => "Too many requests",
            ErrorAnswer::SessionForbidden
            | ErrorAnswer::PublishForbidden
            | ErrorAnswer::PublishForbiddenHere
            | ErrorAnswer::PresenceForbidden
            | ErrorAnswer::SourcesForbidden => "Forbidden",
            ErrorAnswer::AuthorizationRepeated => "Repeated Authorization",
            ErrorAnswer::TokenSessionsTooMany => {
                "The token has more than 16 sessions: name up to 16 with sessionId"
            }
            ErrorAnswer::NotFound => "Not found",
            ErrorAnswer::MethodNotAllowed(_) => "Method not allowed",
            ErrorAnswer::ContentEncoding => "Content-Encoding is not supported: send plain JSON",
            ErrorAnswer::NotUtf8 => "Body is not UTF-8",
            ErrorAnswer::InvalidJson => "Invalid JSON",
            ErrorAnswer::MessageRequired => "Message is required and must be a non-empty string",
            ErrorAnswer::SessionNotText => "sessionId must be a string",
            ErrorAnswer::SessionTooLong => "sessionId must be at most 256 bytes",
            ErrorAnswer::SessionMisspelled => "Unknown name: did you mean sessionId?",
            ErrorAnswer::SessionInQuery => "sessionId belongs in the body of a webhook",
            ErrorAnswer::LastEventIdMisspelled => "Unknown name: did you mean lastEventId?",
            ErrorAnswer::TokenMisspelled => "Unknown name: did you mean token?",
            ErrorAnswer::QueryMalformed => "Malformed query",
            ErrorAnswer::PathMalformed => "Malformed path",
            ErrorAnswer::QueryRepeated => "Repeated query parameter",
            ErrorAnswer::LimitOutOfRange => "limit must be a number from 1 to 100",
            ErrorAnswer::WaitOutOfRange => "wait must be a number of seconds from 0 to 25",
            ErrorAnswer::TooManySessions => "At most 16 sessions in one request",
            ErrorAnswer::ReplayOutOfRange => "replay must be a number from 0 to 100",
            ErrorAnswer::SinceMalformed => "since must be an event id or a time",
            ErrorAnswer::SinceOfStreamMalformed => "since must be a time",
            ErrorAnswer::SinceOfEvent => "since of a stream must be a time",
            ErrorAnswer::KeyMalformed => "Malformed Idempotency-Key",
            ErrorAnswer::KeyRepeated => "Repeated Idempotency-Key",
            ErrorAnswer::KeyReused => "Idempotency-Key was used with another body",
            ErrorAnswer::MessageTooLarge => {
                "Message too large: U+0085, U+2028 and U+2029 take six bytes each"
            }
            ErrorAnswer::Internal => "Internal server error",
            ErrorAnswer::NoBus { .. } | ErrorAnswer::Unavailable { .. } => "Service unavailable",
            ErrorAnswer::InDoubt => "Gateway timeout",
        }
    }
}

impl ErrorAnswer {
    /// What the request may have been a guess at.
    pub const fn guess(self) -> Option<Guess> {
        match self {
            ErrorAnswer::SecretWrong => Some(Guess::Secret),
            ErrorAnswer::TokenRefused(fault) if fault.is_guess() => Some(Guess::Token),
            _ => None,
        }
    }

    /// The text for the `detail` member of the answer, if the reason alone does not say what to correct.
    /// Never contains the secret.
    pub const fn detail(self) -> Option<&'static str> {
        match self {
            ErrorAnswer::SecretMissing => Some("the header X-Webhook-Secret is missing"),
            ErrorAnswer::SecretOrTokenMissing => Some(
                "send the header X-Webhook-Secret, or a token with publish: Authorization: Bearer",
            ),
            ErrorAnswer::SecretWrong => Some("the header X-Webhook-Secret is wrong"),
            ErrorAnswer::TokenMissing => Some(
                "send a token: Authorization: Bearer, the parameter token, or the cookie hookcast_token",
            ),
            ErrorAnswer::PublishTokenMissing => Some(
                "send a token: Authorization: Bearer, or the parameter token; a cookie does not count for webhooks",
            ),
            ErrorAnswer::TokenRefused(fault) => Some(fault.text()),
            ErrorAnswer::TooManyGuesses { guess, .. } => Some(match guess {
                Guess::Secret => {
                    "this address has sent too many wrong secrets; until later, each is refused"
                }
                Guess::Token => "this address has sent too many wrong tokens; a valid one passes",
            }),
            ErrorAnswer::SessionForbidden => Some("the token does not contain this session"),
            ErrorAnswer::PublishForbidden => Some("the token does not allow webhooks"),
            ErrorAnswer::PublishForbiddenHere => {
                Some("the token allows webhooks only for its sessions: send one as sessionId")
            }
            ErrorAnswer::PresenceForbidden => {
                Some("the token does not allow webhooks for this session: see its publish")
            }
            ErrorAnswer::SourcesForbidden => {
                Some("the token does not allow all webhooks: its publish is not true")
            }
            ErrorAnswer::KeyMalformed => Some(
                "send 1 to 255 visible ASCII characters without comma or quotation mark, or a quoted string",
            ),
            ErrorAnswer::SinceMalformed | ErrorAnswer::SinceOfStreamMalformed => Some(
                "a time is RFC 3339 such as 2026-11-29T03:45:00Z, Unix time in milliseconds (not seconds), or 90s, 10m, 36h, 7d for so long ago",
            ),
            ErrorAnswer::SinceOfEvent => Some(
                "to resume after an event, send its id as lastEventId or in the header Last-Event-ID",
            ),
            ErrorAnswer::KeyReused => Some("the message was not published; send it with a new key"),
            ErrorAnswer::NoBus { .. } => {
                Some("the bus does not take messages; this one is not stored")
            }
            ErrorAnswer::InDoubt => Some("the message may be stored, and may yet be delivered"),
            _ => None,
        }
    }
}

impl fmt::Display for ErrorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ErrorAnswer {}
