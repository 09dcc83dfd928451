//! The grammar of request targets and of `Host` (RFC 9112 section 3.2, RFC 9110 section 7.2).
//!
//! Called by [`head`](super::head) on text that is known to be visible ASCII without `#`. Never resolves,
//! normalises or decodes: a path is compared as it was sent.

use std::net::Ipv6Addr;
use std::ops::Range;

/// The positions of path and query in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TargetParts {
    /// The path, beginning with `/`; `*` for the asterisk form. Empty if an absolute-form target has
    /// none, which means `/` (RFC 9110 section 4.2.3).
    pub path: Range<usize>,
    /// The query without its `?`.
    pub query: Option<Range<usize>>,
}

/// Splits a target in origin, absolute or asterisk form; `None` for any other form.
///
/// The asterisk form is only for `OPTIONS`. The authority form is for `CONNECT`, which only proxies
/// implement.
pub(super) fn split(target: &str, is_options: bool) -> Option<TargetParts> {
    if target == "*" {
        return is_options.then_some(TargetParts {
            path: 0..1,
            query: None,
        });
    }
    let path_start = if target.starts_with('/') {
        0
    } else {
        end_of_authority(target)?
    };
    let Some(question) = target[path_start..].find('?') else {
        return Some(TargetParts {
            path: path_start..target.len(),
            query: None,
        });
    };
    let path_end = path_start + question;
    Some(TargetParts {
        path: path_start..path_end,
        query: Some(path_end + 1..target.len()),
    })
}

/// The end of the authority of an absolute-form target; `None` if the target is not
/// `http://authority...` or `https://authority...`.
fn end_of_authority(target: &str) -> Option<usize> {
    let scheme_bytes = ["http://", "https://"]
        .iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })?
        .len();
    let rest = &target[scheme_bytes..];
    let authority_bytes = rest.find(['/', '?']).unwrap_or(rest.len());
    is_authority(&rest.as_bytes()[..authority_bytes]).then_some(scheme_bytes + authority_bytes)
}

/// Whether this is `host[:port]` with a non-empty host and without userinfo.
pub(super) fn is_authority(text: &[u8]) -> bool {
    if let Some(literal) = text.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', literal) else {
            return false;
        };
        return is_ipv6(&literal[..end]) && is_port_suffix(&literal[end + 1..]);
    }
    let host_bytes = memchr::memchr(b':', text).unwrap_or(text.len());
    host_bytes > 0 && is_reg_name(&text[..host_bytes]) && is_port_suffix(&text[host_bytes..])
}

/// Whether this is an IPv6 address. `IPvFuture` and zone ids are not accepted: no client sends them.
fn is_ipv6(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// Whether this is a `reg-name` (RFC 3986 section 3.2.2) without a comma. The grammar allows a comma, but
/// it may also come from two joined `Host` lines.
fn is_reg_name(text: &[u8]) -> bool {
    let mut rest = text;
    loop {
        match rest {
            [] => return true,
            [b'%', high, low, after @ ..] if is_hex(*high) && is_hex(*low) => rest = after,
            [byte, after @ ..] if is_reg_name_byte(*byte) => rest = after,
            _ => return false,
        }
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn is_reg_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

/// Whether this is empty, or a colon and a port up to 65535. The port may be empty (RFC 3986 section
/// 3.2.3).
fn is_port_suffix(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(target: &str) -> Option<(&str, Option<&str>)> {
        let parts = split(target, false)?;
        Some((&target[parts.path], parts.query.map(|query| &target[query])))
    }

    #[test]
    fn origin_form_is_path_and_query() {
        assert_eq!(parts("/"), Some(("/", None)));
        assert_eq!(parts("/a?"), Some(("/a", Some(""))));
        assert_eq!(parts("/a?b?c"), Some(("/a", Some("b?c"))));
        assert_eq!(parts("//a"), Some(("//a", None)));
    }

    #[test]
    fn absolute_form_has_the_same_parts() {
        assert_eq!(parts("http://a/b?c"), Some(("/b", Some("c"))));
        assert_eq!(parts("HTTPS://a:443?c"), Some(("", Some("c"))));
        assert_eq!(parts("http://[::1]:80"), Some(("", None)));
    }

    #[test]
    fn other_forms_are_refused() {
        for target in [
            "*",
            "a",
            "a:80",
            "?a",
            "ftp://a/",
            "http:/a",
            "http://",
            "http:///a",
            "http://u@a/",
            "http://a:x/",
            "http://a:65536/",
            "http://[::1/",
            "http://a\\b/",
        ] {
            assert_eq!(parts(target), None, "{target}");
        }
        assert!(split("*", true).is_some());
        assert!(split("**", true).is_none());
    }

    #[test]
    fn authority_is_host_and_port() {
        for good in [
            "a",
            "a.b-c_d",
            "a:",
            "a:0",
            "a:65535",
            "127.0.0.1:3000",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]:",
            "%41b",
            "a;b=c",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a,b",
            "a b",
            "a@b",
            "a/",
            "a?",
            "a:b",
            "a:65536",
            "a::1",
            "::1",
            "[",
            "[]",
            "[::1",
            "[::1]a",
            "[::1%25eth0]",
            "[v1.a]",
            "%4",
            "%zz",
            "a\"",
            "a\\",
            "a:-1",
            "a:+1",
            "é",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }
}
