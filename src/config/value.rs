//! The types of single settings, and their parsers.
//!
//! Used by the definition of the flags. Pure: text in, a typed value or an error out. An error says what
//! is expected; `clap` prefixes the name of the flag.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::ValueEnum;
use ipnet::IpNet;

use crate::limits::TOKEN_AUDIENCE_BYTES_MAX;

/// A number that is given, or derived from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Derived from the machine at start.
    Auto,
    /// Given, within the range of the flag.
    Exactly(usize),
}

/// What an acknowledged message survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Durability {
    /// The end of the process, also by kill -9
    Process,
    /// Also a power failure: a message is on disk before it is acknowledged or sent
    Disk,
}

/// When a report has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless the environment forbids colours
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text per event, for people
    Text,
    /// One flat JSON object per line, for machines
    Json,
}

/// The least important events that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(
    missing_docs,
    reason = "the usual five levels; doc comments would show up in --help"
)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// One value of `--allow-origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// `*`
    Any,
    /// As a browser serialises it (RFC 6454 section 6.2): lower case, no default port, no path.
    Exact(String),
}

/// The base URL of an HTTP API: `http` or `https`, an authority, perhaps a path; no trailing slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The URL, to which `/path` can be appended.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether requests to this URL can be read in transit: plain `http` to another machine.
    pub fn is_exposed(&self) -> bool {
        let Some(url) = UrlParts::split(&self.0) else {
            return false;
        };
        url.scheme == "http" && !is_loopback_host(split_port(url.authority).0)
    }
}

/// The port in the example of an error, if the refused value has none.
const PORT_EXAMPLE: u16 = 3000;

/// Reads `ADDRESS:PORT`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    text.parse().map_err(|_| {
        let hint = if text.starts_with("localhost:") {
            "; write 127.0.0.1 for localhost"
        } else {
            ""
        };
        // The refused value is often a port alone.
        let given = text
            .rsplit(':')
            .next()
            .and_then(|port| port.parse::<u16>().ok());
        let port = given.unwrap_or(PORT_EXAMPLE);
        format!("must be an IP address and a port, such as 127.0.0.1:{port} or [::1]:{port}{hint}")
    })
}

/// The name of a header field, in lower case: a token (RFC 9110 section 5.6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderName(String);

impl HeaderName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the name of a header field.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    let text = text.trim();
    let is_token = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if is_token && !text.is_empty() {
        Ok(HeaderName(text.to_ascii_lowercase()))
    } else {
        Err("must be the name of a header, such as X-Forwarded-For or CF-Connecting-IP".into())
    }
}

/// Reads the name of an audience, which is compared unchanged.
pub(super) fn audience(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("must not be empty; leave it out to refuse tokens with an aud".to_owned()),
        1..=TOKEN_AUDIENCE_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(format!("must be at most {TOKEN_AUDIENCE_BYTES_MAX} bytes")),
    }
}

/// Reads a network such as `10.0.0.0/8`, or a single address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let single = text.parse::<IpAddr>().map(IpNet::from);
    single.or_else(|_| text.parse()).map_err(|_| {
        "must be a network such as 10.0.0.0/8 or 2001:db8::/32, or an address".to_owned()
    })
}

/// A parser of durations within `range`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| {
        let least = humantime::format_duration(*range.start());
        let most = humantime::format_duration(*range.end());
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if range.contains(&duration) => Ok(duration),
            Ok(_) => Err(format!("must be from {least} to {most}")),
            Err(_) => Err(format!(
                "must be a duration such as 2s, 500ms or 1m, from {least} to {most}"
            )),
        }
    }
}

/// A parser of whole numbers from `least` to `most`.
pub(super) fn whole(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match text.trim().parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}

/// A parser of `auto` or a whole number from `least` to `most`.
pub(super) fn count(
    least: usize,
    most: usize,
) -> impl Fn(&str) -> Result<Count, String> + Clone + Send + Sync + 'static {
    let whole = whole(least, most);
    move |text| match text.trim() {
        "auto" => Ok(Count::Auto),
        number => whole(number)
            .map(Count::Exactly)
            .map_err(|error| error + " or auto"),
    }
}

/// Reads `*` or an origin; normalises it to the form that browsers send.
pub(super) fn origin(text: &str) -> Result<Origin, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Origin::Any);
    }
    let url = UrlParts::split(text)
        .ok_or("must be * or an origin such as https://app.example or http://localhost:8080")?;
    if !url.path.is_empty() {
        return Err("must end after the host and port: an origin has no path, not even a /".into());
    }
    let scheme = url.scheme.to_ascii_lowercase();
    let authority = url.authority.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
    Ok(Origin::Exact(format!("{scheme}://{authority}")))
}

/// Reads the base URL of an API.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    const EXPECTED: &str = "must be a base URL such as https://api.cloudflare.com/client/v4, \
                            without user, query or fragment";
    base_url(text).ok_or_else(|| EXPECTED.into())
}

/// Reads the public address of a server.
pub(super) fn public_url(text: &str) -> Result<Endpoint, String> {
    const EXPECTED: &str =
        "must be a URL such as https://hooks.example, without user, query or fragment";
    base_url(text).ok_or_else(|| EXPECTED.into())
}

fn base_url(text: &str) -> Option<Endpoint> {
    let text = text.trim().trim_end_matches('/');
    let url = UrlParts::split(text)?;
    matches!(url.scheme, "http" | "https").then(|| Endpoint(text.to_owned()))
}

/// The parts of `scheme://authority/path`.
struct UrlParts<'a> {
    scheme: &'a str,
    /// Host, and port where there is one; no user.
    authority: &'a str,
    /// Empty, or from the first `/`.
    path: &'a str,
}

impl<'a> UrlParts<'a> {
    /// Splits a URL of visible ASCII characters with neither user, query nor fragment.
    fn split(text: &'a str) -> Option<UrlParts<'a>> {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let scheme_is_valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let rest_is_valid = rest
            .chars()
            .all(|c| c.is_ascii_graphic() && !"?#@\\\"<>^`{|},*".contains(c));
        (scheme_is_valid && rest_is_valid && authority_is_valid(authority)).then_some(UrlParts {
            scheme,
            authority,
            path,
        })
    }
}

/// Whether this is a host, or a host and a port.
fn authority_is_valid(authority: &str) -> bool {
    let (host, port) = split_port(authority);
    !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

/// Splits `host:port`; the colons of an IPv6 address are inside its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// Whether the host of a URL is this machine; an IPv6 address may be in its brackets.
pub fn is_loopback_host(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_becomes_what_a_browser_sends() {
        for (text, expected) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:8080", "http://localhost:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::80]", "http://[::80]"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(origin(text), Ok(Origin::Exact(expected.into())), "{text}");
        }
        assert_eq!(origin(" * "), Ok(Origin::Any));
    }

    #[test]
    fn a_value_that_browsers_never_send_is_no_origin() {
        for text in [
            "",
            "null",
            "app.example",
            "https://",
            "https://:80",
            "https://a b",
            "https://u@a",
            "https://a?x",
            "https://a:port",
            "https://a:70000",
            "https://a\r\nX: y",
            "https://*.a",
            "://a",
            "1s://a",
            "https://é",
        ] {
            assert!(origin(text).is_err(), "{text:?}");
        }
        assert!(
            origin("https://app.example/")
                .unwrap_err()
                .contains("no path")
        );
    }

    #[test]
    fn an_endpoint_is_http_and_can_be_appended_to() {
        assert_eq!(
            endpoint("https://kv.example/v4/").unwrap().as_str(),
            "https://kv.example/v4"
        );
        for text in [
            "",
            "kv.example",
            "ftp://kv.example",
            "https://t@kv.example",
            "https://a/?q",
            "https:///",
        ] {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_plain_http_to_another_machine_is_exposed() {
        for (text, exposed) in [
            ("https://kv.example", false),
            ("http://kv.example", true),
            ("http://localhost.example", true),
            ("http://10.0.0.1:80", true),
            ("http://127.0.0.1:8787", false),
            ("http://[::1]:8787/v4", false),
            ("http://localhost", false),
        ] {
            assert_eq!(endpoint(text).unwrap().is_exposed(), exposed, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_keep_to_their_range() {
        let read = duration(Duration::from_millis(100)..=Duration::from_secs(60));
        assert_eq!(read("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(read("1m"), Ok(Duration::from_secs(60)));
        for text in ["0", "0s", "99ms", "61s", "1000000000000y"] {
            assert!(
                read(text).unwrap_err().ends_with("from 100ms to 1m"),
                "{text}"
            );
        }
        for text in ["", "2", "-1s", "2 parsecs", "\u{0}"] {
            assert!(read(text).unwrap_err().contains("such as 2s"), "{text:?}");
        }
    }

    #[test]
    fn numbers_keep_to_their_range() {
        let read = count(1, 64);
        assert_eq!(read("auto"), Ok(Count::Auto));
        assert_eq!(read("64"), Ok(Count::Exactly(64)));
        for text in ["", "0", "65", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(
                read(text),
                Err("must be a whole number from 1 to 64 or auto".into()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_network_may_be_one_address() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            (" ::1 ", "::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), expected);
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "example.com", "10.0.0.0/"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_name_of_a_header_is_a_token() {
        assert_eq!(header_name(" X-Real-IP ").unwrap().as_str(), "x-real-ip");
        for name in ["", "a b", "a:", "é", "a\r\nb"] {
            assert!(header_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_host_name_or_a_port_alone_is_no_address() {
        assert!(address("[::]:0").is_ok());
        assert!(
            address("localhost:3000")
                .unwrap_err()
                .contains("127.0.0.1 for localhost")
        );
        for text in ["", "3000", ":3000", "127.0.0.1", "127.0.0.1:65536"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
