//! What a request line says besides its target: the method and the version.
//!
//! Read by `head`, and looked at by all who deal with a request. Never does I/O.

/// The methods this server tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of RFC 9110 section 9.3")]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    /// Every other token; methods are case-sensitive.
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
