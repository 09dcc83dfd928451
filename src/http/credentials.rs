//! Finds the token of a request: a bearer token, a query parameter or a cookie.
//!
//! Called by `access` for requests to a server that has keys. Never verifies a token, and never keeps one.

use std::borrow::Cow;

use super::error::ErrorAnswer;
use super::forwarded::field_lines;
use super::query;
use super::request::Request;
use super::request_line::Method;

/// The query parameter with a token. `EventSource` cannot send header fields.
pub(super) const TOKEN_PARAMETER: &str = "token";
/// The cookie with a token.
pub(super) const TOKEN_COOKIE: &str = "hookcast_token";

/// The token of a request. Of several ways the first counts: the field `Authorization: Bearer` (RFC 6750
/// section 2.1), the parameter, the cookie. A browser adds a cookie also to the requests of other sites, so a
/// cookie counts only for requests that read.
pub(super) fn token<'a>(request: &Request<'a>) -> Result<Option<Cow<'a, [u8]>>, ErrorAnswer> {
    let mut authorization = field_lines(request.head, "authorization");
    let first = authorization.next();
    if authorization.next().is_some() {
        return Err(ErrorAnswer::AuthorizationRepeated);
    }
    if let Some(token) = first.and_then(bearer) {
        return Ok(Some(Cow::Borrowed(token)));
    }
    let query = request.query.unwrap_or_default();
    if let Some(token) = query::value_of(query, TOKEN_PARAMETER)? {
        return Ok(Some(match token {
            Cow::Borrowed(token) => Cow::Borrowed(token.as_bytes()),
            Cow::Owned(token) => Cow::Owned(token.into_bytes()),
        }));
    }
    query::check_no_misspelled(query, TOKEN_PARAMETER, ErrorAnswer::TokenMisspelled)?;
    if !matches!(request.method, Method::Get | Method::Head) {
        return Ok(None);
    }
    // A proxy may split the field (RFC 9113 section 8.2.3).
    let token = field_lines(request.head, "cookie").find_map(cookie);
    Ok(token.map(Cow::Borrowed))
}

/// The token of an `Authorization` field; `None` for another scheme. The name of a scheme has no case (RFC
/// 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, rest) = value.trim_ascii().split_at_checked(SCHEME.len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && matches!(rest, [] | [b' ', ..]);
    is_bearer.then_some(rest.trim_ascii())
}

/// The first cookie with the token's name: that of the longest path (RFC 6265 section 5.4).
fn cookie(value: &[u8]) -> Option<&[u8]> {
    let pairs = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    pairs
        .filter_map(|pair| pair.strip_prefix(TOKEN_COOKIE.as_bytes()))
        .find_map(|rest| rest.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tests::request;

    /// The token of a request with this target and these fields.
    fn found(method: Method, target: &str, fields: &str) -> Result<Option<String>, ErrorAnswer> {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = Request {
            head: head.as_bytes(),
            ..request(method, target)
        };
        let token = token(&request)?;
        Ok(token.map(|token| String::from_utf8(token.into_owned()).unwrap()))
    }

    #[test]
    fn a_misspelled_parameter_is_an_error_unless_a_field_or_the_parameter_has_a_token() {
        let misspelled = Err(ErrorAnswer::TokenMisspelled);
        let cookie = "Cookie: hookcast_token=a\r\n";
        assert_eq!(found(Method::Get, "/?Token=a", ""), misspelled);
        assert_eq!(found(Method::Get, "/?b&tokens=a", cookie), misspelled);
        assert_eq!(found(Method::Post, "/?TOKEN=a", ""), misspelled);
        let bearer = "Authorization: Bearer a\r\n";
        for (target, fields) in [("/?Token=b", bearer), ("/?Token=b&token=a", "")] {
            let found = found(Method::Get, target, fields);
            assert_eq!(found, Ok(Some("a".to_owned())));
        }
    }

    #[test]
    fn a_token_is_found_in_each_way_and_the_first_counts() {
        let bearer = "Authorization: Bearer a.b.c\r\n";
        let cookie = "Cookie: x=1; hookcast_token=g.h.i; y=2\r\n";
        for (target, fields, expected) in [
            ("/", String::new(), None),
            ("/", bearer.into(), Some("a.b.c")),
            (
                "/",
                "authorization: bEARER   a.b.c \r\n".into(),
                Some("a.b.c"),
            ),
            ("/?token=d.e.f", String::new(), Some("d.e.f")),
            ("/?a=1&token=d%2Ee.f&b", String::new(), Some("d.e.f")),
            ("/", cookie.into(), Some("g.h.i")),
            ("/", format!("Cookie: a=b\r\n{cookie}"), Some("g.h.i")),
            ("/?token=d.e.f", [bearer, cookie].concat(), Some("a.b.c")),
            ("/?token=d.e.f", cookie.into(), Some("d.e.f")),
            ("/", "Authorization: Basic YTpi\r\n".into(), None),
            ("/", "Authorization: Bearerx a\r\n".into(), None),
            ("/", "Authorization: Bear\r\n".into(), None),
            (
                "/?token=d",
                "Authorization: Basic YTpi\r\n".into(),
                Some("d"),
            ),
            // Present, and certainly refused.
            ("/", "Authorization: Bearer\r\n".into(), Some("")),
            ("/?token=", String::new(), Some("")),
            ("/?token", String::new(), Some("")),
            ("/", "Cookie: hookcast_token=\r\n".into(), Some("")),
            (
                "/",
                "Cookie: hookcast_tokens=a; xhookcast_token=b\r\n".into(),
                None,
            ),
            (
                "/",
                "Cookie: hookcast_token=a; hookcast_token=b\r\n".into(),
                Some("a"),
            ),
        ] {
            let found = found(Method::Get, target, &fields).unwrap();
            assert_eq!(found.as_deref(), expected, "{target} {fields}");
        }
    }

    #[test]
    fn a_cookie_sends_no_webhook() {
        let cookie = "Cookie: hookcast_token=a\r\nContent-Length: 0\r\n";
        assert_eq!(found(Method::Post, "/", cookie), Ok(None));
        assert_eq!(
            found(Method::Post, "/?token=b", cookie),
            Ok(Some("b".into()))
        );
        assert_eq!(
            found(Method::Head, "/", "Cookie: hookcast_token=a\r\n"),
            Ok(Some("a".into()))
        );
    }

    #[test]
    fn two_tokens_in_one_way_are_refused() {
        let twice = "Authorization: Bearer a\r\nAuthorization: Bearer a\r\n";
        assert_eq!(
            found(Method::Get, "/", twice),
            Err(ErrorAnswer::AuthorizationRepeated)
        );
        let repeated = Err(ErrorAnswer::QueryRepeated);
        assert_eq!(found(Method::Get, "/?token=a&token=a", ""), repeated);
        assert_eq!(
            found(Method::Get, "/?token=%", ""),
            Err(ErrorAnswer::QueryMalformed)
        );
    }
}
