//! The client's address according to a header field of a trusted proxy.
//!
//! Called by the sockets of connections from a trusted proxy. Reads the field lines of a head that was
//! parsed and is valid. The caller decides which addresses are proxies. Never sees a connection.
//!
//! A proxy appends the address of its client, so a list is read from its right end. The first
//! address that is not a trusted proxy is the client. The elements to its left are ignored, because
//! the client may have sent them. Several lines of a field are one list (RFC 9110 section 5.3):
//! `HAProxy` appends a line.

use std::net::{IpAddr, SocketAddr};

/// The client's address in the field `header` (in lower case) of a proxy's request: the last
/// address in the list that is not a proxy, or the first if all are proxies. `None` if the field is
/// missing or its last element is not an address.
pub fn named_client(
    header: &str,
    head: &[u8],
    is_proxy: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut client = None;
    let is_standard = header == "forwarded";
    for value in field_lines(head, header).rev() {
        // Only the standard field has quotes.
        let elements = if is_standard {
            split_unquoted(value, b',')
        } else {
            value.split(|&byte| byte == b',').collect()
        };
        for element in elements.into_iter().rev() {
            let Ok(text) = str::from_utf8(element) else {
                return client;
            };
            let text = text.trim_matches([' ', '\t']);
            let address = if is_standard {
                forwarded_for(text).and_then(address)
            } else {
                address(text)
            };
            match address {
                // Empty elements are ignored (RFC 9110 section 5.6.1.2).
                None if text.is_empty() => {}
                // An element that is not an address ends the trusted part of the list.
                None => return client,
                Some(address) if is_proxy(address) => client = Some(address),
                Some(address) => return Some(address),
            }
        }
    }
    client
}

/// Whether a proxy seems to have passed on a request: it has a field that names a client.
pub fn is_forwarded(head: &[u8]) -> bool {
    let has = |name| field_lines(head, name).next().is_some();
    has("x-forwarded-for") || has("forwarded")
}

/// The values of a field in a valid head, line by line, with the white space around them.
pub fn field_lines<'a>(head: &'a [u8], name: &str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    head.split(|&byte| byte == b'\n').filter_map(move |line| {
        let (line_name, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        line_name
            .eq_ignore_ascii_case(name.as_bytes())
            .then_some(value.strip_suffix(b"\r").unwrap_or(value))
    })
}

/// Splits a value of `Forwarded`, except at separators inside quotes (RFC 7239 section 4). If a quote is
/// never closed, every separator counts: a client may have sent the quote to hide the elements that
/// proxies append.
fn split_unquoted(value: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let parts = value
        .split(|&byte| {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                _ => return byte == separator && !is_quoted,
            }
            false
        })
        .collect();
    if is_quoted {
        return value.split(|&byte| byte == separator).collect();
    }
    parts
}

/// The `for` parameter of an element of `Forwarded` (RFC 7239 section 5.2).
fn forwarded_for(element: &str) -> Option<&str> {
    let pairs = split_unquoted(element.as_bytes(), b';');
    let node = pairs.into_iter().find_map(|pair| {
        let (name, value) = str::from_utf8(pair).ok()?.split_once('=')?;
        let name = name.trim_matches([' ', '\t']);
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    let node = node.trim_matches([' ', '\t']);
    match node.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(node),
    }
}

/// An address, with or without a port; an IPv6 one with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Some(bare) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return bare.parse().ok().map(IpAddr::V6);
    }
    text.parse::<SocketAddr>().ok().map(|address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str, fields: &str) -> Option<String> {
        let is_proxy = |address: IpAddr| address.to_string().starts_with("10.");
        let client = named_client(&name.to_ascii_lowercase(), fields.as_bytes(), is_proxy);
        client.map(|address| address.to_string())
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        for (fields, expected) in [
            ("X-Forwarded-For: 192.0.2.1\r\n", Some("192.0.2.1")),
            ("x-forwarded-for:192.0.2.1,10.0.0.1\r\n", Some("192.0.2.1")),
            ("X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n", Some("192.0.2.1")),
            (
                "X-Forwarded-For: junk, 192.0.2.1 , 10.0.0.1\r\n",
                Some("192.0.2.1"),
            ),
            // Two lines are one list, in their order.
            (
                "X-Forwarded-For: 6.6.6.6\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n",
                Some("192.0.2.1"),
            ),
            (
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.1\r\n",
                Some("192.0.2.1"),
            ),
            ("X-Forwarded-For: 10.0.0.2, 10.0.0.1\r\n", Some("10.0.0.2")),
            ("X-Forwarded-For: , 192.0.2.1, ,\r\n", Some("192.0.2.1")),
            ("X-Forwarded-For: 2001:db8::1\r\n", Some("2001:db8::1")),
            (
                "X-Forwarded-For: [2001:db8::1]:443\r\n",
                Some("2001:db8::1"),
            ),
            ("X-Forwarded-For: [2001:db8::1]\r\n", Some("2001:db8::1")),
            ("X-Forwarded-For: 192.0.2.1:5000\r\n", Some("192.0.2.1")),
            // An element that is not an address ends the search.
            ("X-Forwarded-For: 192.0.2.1, unknown\r\n", None),
            (
                "X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1\r\n",
                Some("10.0.0.1"),
            ),
            // A client's quote does not hide the address that the proxy appends.
            ("X-Forwarded-For: \", 192.0.2.1\r\n", Some("192.0.2.1")),
            (
                "X-Forwarded-For: 6.6.6.6\", 192.0.2.1\r\n",
                Some("192.0.2.1"),
            ),
            ("X-Forwarded-For: \"6.6.6.6, 192.0.2.1\"\r\n", None),
            ("X-Forwarded-For:\r\n", None),
            ("Host: a\r\n", None),
            ("X-Forwarded-Forty: 192.0.2.1\r\n", None),
            ("X-Forwarded-For: \u{fffd}\r\n", None),
            ("", None),
        ] {
            assert_eq!(
                client("X-Forwarded-For", fields).as_deref(),
                expected,
                "{fields}"
            );
        }
        assert_eq!(
            client(
                "CF-Connecting-IP",
                "CF-Connecting-IP: 192.0.2.7\r\nX-Forwarded-For: 6.6.6.6\r\n"
            )
            .as_deref(),
            Some("192.0.2.7")
        );
    }

    #[test]
    fn forwarded_is_read_by_the_grammar_of_rfc_7239() {
        for (value, expected) in [
            ("for=192.0.2.1", Some("192.0.2.1")),
            (
                "For=\"[2001:db8:cafe::17]:4711\"",
                Some("2001:db8:cafe::17"),
            ),
            (
                "for=192.0.2.43, for=10.0.0.1;proto=https",
                Some("192.0.2.43"),
            ),
            (
                "by=10.0.0.1 ; for=\"192.0.2.1:80\" ;proto=http",
                Some("192.0.2.1"),
            ),
            (
                "for=6.6.6.6, for=192.0.2.1;host=\"a,for=7.7.7.7\"",
                Some("192.0.2.1"),
            ),
            (
                "for=6.6.6.6;ext=\"\\\",\", for=192.0.2.1",
                Some("192.0.2.1"),
            ),
            // A client's open quote does not hide the address that the proxy appends.
            ("for=6.6.6.6;a=\", for=192.0.2.1", Some("192.0.2.1")),
            ("for=6.6.6.6;a=\"\\, for=192.0.2.1", Some("192.0.2.1")),
            (
                "for=6.6.6.6;a=\"x, for=\"[2001:db8::1]:80\";proto=http",
                Some("2001:db8::1"),
            ),
            ("a=\"b\", for=\", for=192.0.2.1", Some("192.0.2.1")),
            // A host name that the client has chosen does not, either.
            ("host=\"a;for=6.6.6.6;b\";for=192.0.2.1", Some("192.0.2.1")),
            ("for=192.0.2.1, for=_hidden", None),
            ("for=unknown", None),
            ("for=\"192.0.2.1", None),
            ("proto=https", None),
            ("192.0.2.1", None),
        ] {
            let fields = format!("Host: a\r\nForwarded: {value}\r\n");
            assert_eq!(client("Forwarded", &fields).as_deref(), expected, "{value}");
        }
    }
}
