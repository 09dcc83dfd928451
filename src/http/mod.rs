//! HTTP/1.1 and 1.0 as far as this server speaks it: bytes in, a decision and bytes out.
//!
//! Called by the shards, which own the sockets and the time; nothing in here does I/O, reads a
//! clock, or knows what a connection is. The path of a request:
//!
//! 1. [`RequestReader`] takes the bytes as they come and finds one whole request ([`request`],
//!    with `head` for the request line and the fields, `target` for the target and `Host`, `body`
//!    for chunked framing);
//! 2. [`route()`] decides what is asked for (`query` and `access` for who may see what, `json` for the
//!    webhook's body, `spelling` for names that are nearly right);
//! 3. [`Responder`] encodes the answer ([`response`]).
//!
//! Beside it, [`named_client`] reads who the client is from what a proxy says.
//!
//! What is wrong with a request is one of two things ([`error`]): a [`Refusal`] means that it is
//! not known where the request ends, or that it is not worth reading on, so the answer is the last
//! of its connection; an [`ErrorAnswer`] is an ordinary answer and the connection goes on. Where the
//! head alone decides on one ([`error_before_body`]), the body is dropped as it comes.
//!
//! # What is accepted
//!
//! Two parsers that read one message differently are what request smuggling is made of. So what
//! RFC 9110 and RFC 9112 leave open is refused, and the whole of what is accepted is this:
//!
//! - Empty lines (CRLF) before a request line are passed over. Every line ends with CRLF.
//! - `method SP target SP version`, single spaces. The method is a token of at most 32 bytes. The
//!   version is `HTTP/1.1` or `HTTP/1.0`.
//! - A target of visible ASCII without `#`: `/path[?query]`, `http://authority[/path][?query]` (or
//!   `https`), or, for `OPTIONS`, `*`.
//! - Fields as `name:value`, the name a token, the value without controls other than tab; at most
//!   [`HEADERS_MAX`](crate::limits::HEADERS_MAX). No folded lines.
//! - `Host` once (in 1.0 also not at all): empty, or `host[:port]` where the host is a name (percent
//!   escapes included, no comma) or an IPv6 address in brackets, and the port at most 65535.
//! - No body, or `Content-Length` once as plain digits, or, in 1.1, `Transfer-Encoding: chunked`
//!   once; never both. Chunk extensions and trailer fields are checked, and ignored.
//! - `Expect: 100-continue` and no other expectation.
//! - `X-Webhook-Secret`, `Last-Event-ID` and `Origin` at most once each.

mod access;
mod body;
pub mod error;
pub mod etag;
mod forwarded;
mod head;
mod json;
mod query;
pub mod request;
mod request_line;
pub mod response;
pub mod route;
mod spelling;
mod target;

#[cfg(test)]
mod tests;

pub use access::Access;
pub use error::{Allow, ErrorAnswer, Refusal, Status};
pub use forwarded::{field_lines, named_client};
pub use request::{Phase, Progress, Request, RequestReader};
pub use request_line::{Method, Version};
pub use response::{AllowOrigin, CONTINUE, ReplyTo, Responder};
pub use route::{HistoryQuery, Route, Subscription, View, error_before_body, route};
