//! The server's part of HTTP/1.1 and 1.0: bytes in, a decision and bytes out.
//!
//! Called by the shards, which own the sockets and the time. Never does I/O, never reads a clock, never
//! sees a connection. The way of a request:
//!
//! 1. [`RequestReader`] takes the bytes as they arrive and finds a complete request ([`request`], with
//!    `head` for the request line and the fields, `target` for the target and `Host`, `body` for
//!    chunked framing).
//! 2. [`route()`] decides what to do (`query` and `access` for what a client may see, `begin` for where it begins,
//!    `json` for the webhook's body, `idempotency` for its key, `presence` for its path, `spelling` for misspelled
//!    names). Paths of sources have
//!    [`source_route()`] instead.
//! 3. [`Responder`] encodes the answer ([`response`]).
//!
//! Beside these, [`named_client`] reads the client's address from a proxy's header field.
//!
//! There are two kinds of errors ([`error`]). After a [`Refusal`] the end of the request is unknown,
//! or the rest is not worth reading, so its answer is the last of the connection. An [`ErrorAnswer`] is
//! an ordinary answer, and the connection continues. If the head alone decides on one
//! ([`error_before_body`]), the body is discarded as it arrives.
//!
//! # What is accepted
//!
//! Request smuggling needs two parsers that read one message differently. So messages that RFC 9110
//! and RFC 9112 let a server read in two ways are refused. This is everything that is accepted:
//!
//! - Empty lines (CRLF) before a request line are skipped. Every line ends with CRLF.
//! - `method SP target SP version`, single spaces. The method is a token of at most 32 bytes. The
//!   version is `HTTP/1.1` or `HTTP/1.0`.
//! - A target of visible ASCII without `#`: `/path[?query]`, `http://authority[/path][?query]` (or
//!   `https`), or, for `OPTIONS`, `*`.
//! - Fields as `name:value`, the name a token, the value without controls other than tab; at most
//!   [`HEADERS_MAX`](crate::limits::HEADERS_MAX). No folded lines.
//! - `Host` once (in 1.0 also not at all): empty, or `host[:port]` where the host is a name (percent
//!   escapes included, no comma) or an IPv6 address in brackets, and the port at most 65535.
//! - No body, or `Content-Length` once as plain digits, or, in 1.1, `Transfer-Encoding: chunked`
//!   once; never both. Chunk extensions and trailer fields are checked and ignored.
//! - `Expect: 100-continue` and no other expectation.
//! - `X-Webhook-Secret`, `Last-Event-ID` and `Origin` at most once each; `Idempotency-Key` of a webhook, too.

mod access;
mod begin;
mod body;
mod coding;
mod credentials;
pub mod error;
pub mod etag;
mod forwarded;
mod head;
pub mod idempotency;
mod json;
mod presence;
mod query;
pub mod request;
mod request_line;
pub mod response;
pub mod route;
mod source_route;
mod spelling;
mod target;

#[cfg(test)]
mod tests;

pub use access::{Access, TokenLife};
pub use begin::{Begin, Moment, Since};
pub use coding::accepts_gzip;
pub use error::{Allow, ErrorAnswer, Guess, Refusal, Status};
pub use forwarded::{field_lines, is_forwarded, named_client};
pub use presence::{PRESENCE_PATH, is_presence};
pub use request::{Phase, Progress, Request, RequestReader, WholeRequest};
pub use request_line::{Method, Version};
pub use response::{AllowOrigin, CONTINUE, ReplyTo, Responder, SharedFor, StreamCoding};
pub use route::{HistoryQuery, Route, Subscription, View, error_before_body, route};
pub use source_route::{SOURCE_PATH, SourceRoute, source_name, source_route};
