//! The settings of this program's HTTP clients: trusted certificates, proxies, redirects.
//!
//! Used by the mirror, `doctor` and `health`. A status of 400 or above is an answer, not an
//! error. Never follows a redirect, which could carry a token or a secret elsewhere.
//!
//! # Proxies
//!
//! An address on this machine is never called through a proxy. For others the first usable one of
//! `ALL_PROXY`, `HTTPS_PROXY` and `HTTP_PROXY` is used, unless `NO_PROXY` lists the host. The names may be
//! in lower case. `NO_PROXY` is parsed by curl's rules (see [`is_exempt`]), because the parser of the HTTP
//! client supports neither blanks nor networks.

pub mod tls_words;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::{Agent, Proxy, ProxyProtocol};

use crate::config::is_loopback_host;
use crate::foreign_text::{PROXY_VARIABLES, Secrets};
use crate::pem;

/// The variables that list hosts to be called directly. The first that is set counts, as in curl.
const NO_PROXY_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The trusted certificates are malformed, or there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCertificates;

/// The settings of a client for `address`. If `ca_pem` is given, its certificates replace the public
/// authorities.
pub fn config(
    address: &Uri,
    ca_pem: Option<&[u8]>,
) -> Result<ConfigBuilder<AgentScope>, BadCertificates> {
    let roots = match ca_pem {
        Some(pem) => RootCerts::Specific(Arc::new(certificates(pem)?)),
        None => RootCerts::WebPki,
    };
    let proxy = proxy(address, |name| std::env::var(name).ok());
    Ok(Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy)
        .user_agent(concat!("hookcast/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build()))
}

/// The secrets that no text may show: those of the client, and the passwords of its proxies.
pub fn secrets<'a>(own: impl IntoIterator<Item = &'a str>) -> Secrets {
    own.into_iter()
        .fold(Secrets::default(), Secrets::with)
        .with_proxies(|name| std::env::var(name).ok())
}

/// The proxy for an address, if it needs one.
fn proxy(address: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<Proxy> {
    let value = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let host = address.host().unwrap_or_default();
    if is_loopback_host(host) {
        return None;
    }
    let exempt = NO_PROXY_VARIABLES.iter().find_map(value);
    if exempt.is_some_and(|hosts| is_exempt(&hosts, host)) {
        return None;
    }
    // The client is built without SOCKS.
    let is_http =
        |proxy: &Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    let proxies = PROXY_VARIABLES.iter().filter_map(value);
    proxies
        .filter_map(|value| Proxy::new(&value).ok())
        .find(is_http)
}

/// Whether a value of `NO_PROXY` lists the host of a URL, by curl's rules.
///
/// The value is `*` alone, for every host, or a list whose parts are separated by commas or blanks.
/// A name matches itself and all names below it, ignoring case and a leading dot. An address matches
/// itself; with a suffix such as `/24`, it matches its network. A part with a port or a scheme matches
/// nothing, because a host has neither.
fn is_exempt(list: &str, host: &str) -> bool {
    if list == "*" {
        return true;
    }
    let mut parts = list.split([',', ' ', '\t']).filter(|part| !part.is_empty());
    if let Some(host) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address: Option<Ipv6Addr> = host.parse().ok();
        return address.is_some_and(|host| parts.any(|part| is_in_network6(part, host)));
    }
    match host.parse() {
        Ok(host) => parts.any(|part| is_in_network4(part, host)),
        Err(_) => parts.any(|part| is_domain_of(part, host)),
    }
}

/// Whether the name is `host` or a domain above it.
fn is_domain_of(name: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    let name = name.strip_prefix('.').unwrap_or(name);
    let Some(before) = host.len().checked_sub(name.len()) else {
        return false;
    };
    let host = host.as_bytes();
    let is_whole_label = before == 0 || host[before - 1] == b'.';
    is_whole_label && host[before..].eq_ignore_ascii_case(name.as_bytes())
}

fn is_in_network4(part: &str, host: Ipv4Addr) -> bool {
    let (address, bits) = network(part);
    let is_same = |address: Ipv4Addr| match bits {
        0 | 32 => address == host,
        1..=31 => (address.to_bits() ^ host.to_bits()) >> (32 - bits) == 0,
        _ => false,
    };
    address.parse().is_ok_and(is_same)
}

fn is_in_network6(part: &str, host: Ipv6Addr) -> bool {
    let (address, bits) = network(part);
    let is_same = |address: Ipv6Addr| match bits {
        0 | 128 => address == host,
        1..=127 => (address.to_bits() ^ host.to_bits()) >> (128 - bits) == 0,
        _ => false,
    };
    address.parse().is_ok_and(is_same)
}

/// Splits a part into an address and the length of its prefix. As in curl, 0 or no number means all bits.
fn network(part: &str) -> (&str, u32) {
    match part.split_once('/') {
        Some((address, bits)) => (address, bits.parse().unwrap_or(0)),
        None => (part, 0),
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, BadCertificates> {
    let certificates = pem::authorities(pem).map_err(|_| BadCertificates)?;
    let owned = |der: &CertificateDer<'_>| Certificate::from_der(der).to_owned();
    Ok(certificates.iter().map(owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results are those of curl 7.88.1, except for IPv6 networks, which that version misread.
    #[test]
    fn no_proxy_is_parsed_by_the_rules_of_curl() {
        for (list, host, expected) in [
            ("*", "a.example", true),
            ("*,x", "a.example", false),
            ("x,*", "a.example", false),
            ("example", "a.example", true),
            (".example", "a.example", true),
            (".example", "example", true),
            ("..example", "example", false),
            ("*.example", "a.example", false),
            ("nexample", "a.example", false),
            ("a.example", "example", false),
            ("A.Example", "a.example", true),
            ("a.example", "A.EXAMPLE", true),
            ("a.example.", "a.example", true),
            ("a.example", "a.example.", true),
            ("a.example:443", "a.example", false),
            ("https://a.example", "a.example", false),
            ("x, a.example", "a.example", true),
            ("x a.example", "a.example", true),
            ("x\ta.example", "a.example", true),
            (" x  ,, a.example ,", "a.example", true),
            ("x;a.example", "a.example", false),
            ("", "a.example", false),
            (" , ", "a.example", false),
            (".", "a.example", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.", "10.1.2.3", false),
            ("2.3", "10.1.2.3", false),
            ("10.1.2.3:443", "10.1.2.3", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/15", "10.1.2.3", true),
            ("10.0.0.0/16", "10.1.2.3", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/33", "10.1.2.3", false),
            ("10.1.2.3/x", "10.1.2.3", true),
            ("0.0.0.0/0", "10.1.2.3", false),
            ("10.0.0.0/8", "a.example", false),
            ("fd00::1", "[fd00::1]", true),
            ("[fd00::1]", "[fd00::1]", false),
            ("fd00::/8", "[fd12::1]", true),
            ("fd00::/12", "[fd0f::1]", true),
            ("fd00::/12", "[fd10::1]", false),
            ("fd00::/129", "[fd00::1]", false),
            ("10.0.0.0/8", "[::ffff:10.1.2.3]", false),
        ] {
            assert_eq!(is_exempt(list, host), expected, "{list:?} and {host}");
        }
    }

    #[test]
    fn the_first_variable_with_a_usable_proxy_counts() {
        let chosen = |address: &str, variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let proxy = proxy(&address.parse().unwrap(), variable);
            proxy.map(|proxy| proxy.host().to_owned())
        };
        let kv = "https://kv.example/v4";
        let proxies = [("HTTP_PROXY", "http://b:1"), ("ALL_PROXY", "http://a:1")];
        assert_eq!(chosen(kv, &[]), None);
        assert_eq!(chosen(kv, &proxies).as_deref(), Some("a"));
        assert_eq!(chosen("http://[::1]:1", &proxies), None);
        assert_eq!(chosen("http://localhost:1", &proxies), None);
        for (name, value, expected) in [
            ("NO_PROXY", "x, .example", None),
            ("no_proxy", "x, .example", None),
            ("NO_PROXY", "other", Some("a")),
            ("NO_PROXY", "", Some("a")),
            ("all_proxy", "http://z:1", Some("a")),
        ] {
            let all = [&proxies[..], &[(name, value)]].concat();
            assert_eq!(chosen(kv, &all).as_deref(), expected, "{name}={value}");
        }
        for unusable in ["", "socks5://a:1", "ftp://a:1", "://"] {
            let both = [("ALL_PROXY", unusable), ("https_proxy", "b:2")];
            assert_eq!(chosen(kv, &both).as_deref(), Some("b"), "{unusable}");
        }
    }
}
