//! Decides what to do for a request to a source: a path below [`SOURCE_PATH`].
//!
//! Called by the shards before [`route()`](super::route()), which knows no sources. The secret of webhooks
//! plays no role here, and the content coding of a body is the source's business. Never looks at a body.

use super::error::{Allow, ErrorAnswer};
use super::request::Request;
use super::request_line::Method;

/// The paths of sources begin with this, and continue with a name.
pub const SOURCE_PATH: &str = "/api/webhook/in/";

/// The name in the path of a source, which may have a trailing slash. No source need have that name.
pub fn source_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix(SOURCE_PATH)?;
    Some(name.strip_suffix('/').unwrap_or(name))
}

/// The action for a request to a source that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceRoute {
    /// Judge the request.
    Receive,
    /// Answer that the server runs.
    Status,
    /// Answer an `OPTIONS`: a handshake of the source, or else a CORS preflight.
    Preflight(Allow),
    /// Answer with an error.
    Error(ErrorAnswer),
}

/// Decides what to do for a request, from its head. `exists` says whether its path names a source.
pub fn source_route(head: &Request<'_>, exists: bool) -> SourceRoute {
    match head.method {
        _ if !exists => SourceRoute::Error(ErrorAnswer::NotFound),
        Method::Post => SourceRoute::Receive,
        Method::Get | Method::Head => SourceRoute::Status,
        Method::Options => SourceRoute::Preflight(Allow::READ_WRITE),
        Method::Other => SourceRoute::Error(ErrorAnswer::MethodNotAllowed(Allow::READ_WRITE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::request;

    #[test]
    fn the_name_is_what_follows_the_path_of_sources() {
        for (path, name) in [
            ("/api/webhook/in/github", Some("github")),
            ("/api/webhook/in/github/", Some("github")),
            ("/api/webhook/in/", Some("")),
            ("/api/webhook/in/a/b", Some("a/b")),
            ("/api/webhook/in", None),
            ("/api/webhook/into", None),
            ("/api/webhook", None),
            ("/", None),
        ] {
            assert_eq!(source_name(path), name, "{path}");
        }
    }

    #[test]
    fn a_source_has_the_methods_of_a_webhook() {
        let head = |method| request(method, "/api/webhook/in/a");
        assert_eq!(
            source_route(&head(Method::Post), true),
            SourceRoute::Receive
        );
        for method in [Method::Get, Method::Head] {
            assert_eq!(source_route(&head(method), true), SourceRoute::Status);
        }
        let allow = Allow::READ_WRITE;
        assert_eq!(
            source_route(&head(Method::Options), true),
            SourceRoute::Preflight(allow)
        );
        assert_eq!(
            source_route(&head(Method::Other), true),
            SourceRoute::Error(ErrorAnswer::MethodNotAllowed(allow))
        );
        for method in [Method::Post, Method::Get, Method::Options, Method::Other] {
            assert_eq!(
                source_route(&head(method), false),
                SourceRoute::Error(ErrorAnswer::NotFound)
            );
        }
    }
}
