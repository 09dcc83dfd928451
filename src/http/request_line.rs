//! The method and the version of a request line.
//!
//! Made by `head`; used wherever a request is handled. Never does I/O.

/// The methods that this server distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of RFC 9110 section 9.3")]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    /// Any other token; methods are case-sensitive.
    Other,
}

impl Method {
    pub(super) fn of(token: &str) -> Method {
        match token {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        }
    }
}

/// The protocol version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}
