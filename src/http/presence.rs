//! Reads the session in the path of a question how many streams see it: a path below [`PRESENCE_PATH`].
//!
//! Called by `route`. Never counts.

use percent_encoding::percent_decode_str;

use crate::message::SessionId;

use super::access::Access;
use super::error::{Allow, ErrorAnswer};
use super::query;
use super::request::Request;
use super::request_line::Method;

/// The paths of presence begin with this, and continue with the percent-encoded name of a session.
pub const PRESENCE_PATH: &str = "/api/webhook/sessions/";

/// A request for the presence of a session, decided from its head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PresenceRequest {
    /// Count the streams of this session.
    Count(SessionId),
    /// Answer a preflight.
    Preflight(Allow),
}

/// Whether a path is one of presence. A path of the API may have a trailing slash, so a slash at the end of a
/// name must be encoded, and so must any other one: proxies join and resolve the segments of a path.
pub fn is_presence(path: &str) -> bool {
    encoded_name(path).is_some()
}

/// The encoded name in a path. It is not empty.
fn encoded_name(path: &str) -> Option<&str> {
    let name = path.strip_prefix(PRESENCE_PATH)?;
    let name = name.strip_suffix('/').unwrap_or(name);
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Decides a request from its head; `None` if its path is another one.
pub(super) fn presence(
    head: &Request<'_>,
    access: &Access,
    unix_ms: u64,
) -> Option<Result<PresenceRequest, ErrorAnswer>> {
    let name = encoded_name(head.path)?;
    Some(match head.method {
        Method::Options => Ok(PresenceRequest::Preflight(Allow::READ)),
        Method::Get | Method::Head => {
            asked(head, access, unix_ms, name).map(PresenceRequest::Count)
        }
        Method::Post | Method::Other => Err(ErrorAnswer::MethodNotAllowed(Allow::READ)),
    })
}

/// The session of a request that may ask for it.
fn asked(
    head: &Request<'_>,
    access: &Access,
    unix_ms: u64,
    name: &str,
) -> Result<SessionId, ErrorAnswer> {
    let principal = access.principal(head, unix_ms)?;
    let session = session(name)?;
    access.check_presence(&principal, &session)?;
    Ok(session)
}

/// The session with this encoded name. A plus sign is one: only queries encode a space so.
fn session(name: &str) -> Result<SessionId, ErrorAnswer> {
    if !query::has_valid_escapes(name) {
        return Err(ErrorAnswer::PathMalformed);
    }
    let decoded = percent_decode_str(name).decode_utf8();
    let decoded = decoded.map_err(|_| ErrorAnswer::PathMalformed)?;
    match SessionId::parse(&decoded) {
        Ok(Some(session)) => Ok(session),
        Ok(None) => Err(ErrorAnswer::NotFound),
        Err(_) => Err(ErrorAnswer::SessionTooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::route::{Route, route};
    use crate::http::tests::request;
    use crate::limits::SESSION_BYTES_MAX;

    fn routed<'a>(access: &Access, head: &Request<'a>) -> Route<'a> {
        route(head, access, 0, |_| false)
    }

    fn asked(path: &str) -> Route<'_> {
        routed(&Access::new(None), &request(Method::Get, path))
    }

    fn count(name: &str) -> Route<'_> {
        Route::Presence(SessionId::parse(name).unwrap().unwrap())
    }

    #[test]
    fn the_name_of_the_session_is_decoded_once() {
        for (path, name) in [
            ("/api/webhook/sessions/a", "a"),
            ("/api/webhook/sessions/a/", "a"),
            ("/api/webhook/sessions/a+b", "a+b"),
            ("/api/webhook/sessions/a%20b", "a b"),
            ("/api/webhook/sessions/%2F", "/"),
            ("/api/webhook/sessions/a%2fb%2F/", "a/b/"),
            ("/api/webhook/sessions/%2541", "%41"),
            ("/api/webhook/sessions/J%C3%BCrgen", "Jürgen"),
            ("/api/webhook/sessions/a?session=b", "a"),
        ] {
            assert_eq!(asked(path), count(name), "{path}");
        }
        let longest = "x".repeat(SESSION_BYTES_MAX);
        let path = format!("{PRESENCE_PATH}{longest}");
        assert_eq!(asked(&path), count(&longest));
    }

    #[test]
    fn a_path_without_one_valid_name_is_an_error() {
        let too_long = format!("{PRESENCE_PATH}{}", "x".repeat(SESSION_BYTES_MAX + 1));
        for (path, error) in [
            ("/api/webhook/sessions", ErrorAnswer::NotFound),
            ("/api/webhook/sessions/", ErrorAnswer::NotFound),
            ("/api/webhook/sessions//", ErrorAnswer::NotFound),
            ("/api/webhook/sessions/a/b", ErrorAnswer::NotFound),
            ("/api/webhook/sessions//a", ErrorAnswer::NotFound),
            ("/api/webhook/sessions/a//", ErrorAnswer::NotFound),
            ("/api/webhook/sessions/%", ErrorAnswer::PathMalformed),
            ("/api/webhook/sessions/%4", ErrorAnswer::PathMalformed),
            ("/api/webhook/sessions/%zz", ErrorAnswer::PathMalformed),
            ("/api/webhook/sessions/%ff", ErrorAnswer::PathMalformed),
            (&too_long, ErrorAnswer::SessionTooLong),
        ] {
            assert_eq!(asked(path), Route::Error(error), "{path}");
        }
    }

    #[test]
    fn presence_is_read_with_the_secret() {
        let guarded = Access::new(Some(b"s3cret"));
        let path = "/api/webhook/sessions/a";
        let with = |secret| Request {
            secret,
            ..request(Method::Get, path)
        };
        let routed = |secret| routed(&guarded, &with(secret));
        assert_eq!(routed(Some(b"s3cret")), count("a"));
        let wrong = Route::Error(ErrorAnswer::SecretWrong);
        assert_eq!(routed(Some(b"other")), wrong);
        let missing = Route::Error(ErrorAnswer::SecretMissing);
        assert_eq!(routed(None), missing);
    }

    #[test]
    fn presence_has_the_methods_of_a_resource_that_is_read() {
        let ask = |method, path| routed(&Access::new(None), &request(method, path));
        let path = "/api/webhook/sessions/a";
        assert_eq!(ask(Method::Head, path), count("a"));
        let preflight = Route::Preflight(Allow::READ);
        assert_eq!(ask(Method::Options, path), preflight);
        for method in [Method::Post, Method::Other] {
            let not_allowed = ErrorAnswer::MethodNotAllowed(Allow::READ);
            assert_eq!(ask(method, path), Route::Error(not_allowed));
        }
        let none = Route::Error(ErrorAnswer::NotFound);
        for method in [Method::Get, Method::Head, Method::Options, Method::Post] {
            assert_eq!(ask(method, PRESENCE_PATH), none);
        }
    }
}
