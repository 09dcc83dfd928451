//! Refuses requests of other sites' web pages on the admin address.
//!
//! Called by [`Admin`](super::Admin) before it answers. A browser sends a page's requests also to addresses
//! that the page's author cannot reach. Two fields show such requests:
//!
//! - `Host`, on a loopback address. DNS rebinding makes a page's own name resolve to 127.0.0.1, and the
//!   browser lets the page read the answers. `Host` still contains that name. An IP address in `Host` cannot
//!   be rebound, and `localhost` is not in the DNS (RFC 6761 section 6.3). On other addresses any name is
//!   accepted: scrapers use names that are not known here.
//! - `Sec-Fetch-Site` (Fetch Metadata). A page of another site cannot read an answer, but could request one
//!   again and again. Following a link to the admin page is allowed.
//!
//! Requests without these fields come from tools and are answered. Does no I/O.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::{Status, field_lines};

/// The checks of an admin address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gate {
    /// The address can be reached only from this machine.
    is_local: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// `Host` is a name that may belong to any page.
    Name,
    /// The request comes from a page of another site.
    OtherSite,
}

impl Gate {
    /// The gate of an admin that listens on this address.
    pub fn of(address: IpAddr) -> Gate {
        Gate {
            is_local: address.to_canonical().is_loopback(),
        }
    }

    /// Examines the head of a request.
    pub fn examine(self, head: &[u8]) -> Result<(), Refused> {
        let mut hosts = field_lines(head, "host");
        if self.is_local && !hosts.all(|host| is_local_host(host.trim_ascii())) {
            return Err(Refused::Name);
        }
        let has = |name, value: &[u8]| {
            field_lines(head, name).any(|line| line.trim_ascii().eq_ignore_ascii_case(value))
        };
        let is_of_other_site =
            has("sec-fetch-site", b"cross-site") || has("sec-fetch-site", b"same-site");
        if is_of_other_site && !has("sec-fetch-mode", b"navigate") {
            return Err(Refused::OtherSite);
        }
        Ok(())
    }
}

impl Refused {
    pub fn status(self) -> Status {
        match self {
            Refused::Name => Status::MisdirectedRequest,
            Refused::OtherSite => Status::Forbidden,
        }
    }

    /// The body of the answer.
    pub fn body(self) -> &'static str {
        match self {
            Refused::Name => {
                r#"{"error":"On loopback the admin address answers for localhost and for IP addresses only: send one of these as Host"}"#
            }
            Refused::OtherSite => {
                r#"{"error":"The admin address does not answer pages of other sites"}"#
            }
        }
    }
}

/// Whether a valid `Host` is empty, `localhost` or a name below it, or an IP address.
fn is_local_host(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else {
        return false;
    };
    if let Some(literal) = host.strip_prefix('[') {
        let address = literal.split(']').next().unwrap_or_default();
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let name = host.split(':').next().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.is_empty()
        || name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(address: &str, fields: &str) -> Result<(), Refused> {
        let head = format!("GET /metrics HTTP/1.1\r\n{fields}\r\n");
        Gate::of(address.parse().unwrap()).examine(head.as_bytes())
    }

    #[test]
    fn on_loopback_only_names_that_cannot_be_rebound_are_answered() {
        for (host, is_answered) in [
            ("localhost", true),
            ("LocalHost:9000", true),
            ("localhost.:9000", true),
            ("a.localhost", true),
            ("127.0.0.1", true),
            ("127.0.0.1:9000", true),
            ("127.8.9.10:1", true),
            ("192.0.2.1:9000", true),
            ("[::1]", true),
            ("[::1]:9000", true),
            ("", true),
            ("evil.example", false),
            ("evil.example:9000", false),
            ("localhost.evil.example", false),
            ("notlocalhost", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1.nip.io:9000", false),
            ("%6cocalhost", false),
            (".", true),
        ] {
            let fields = format!("Host: {host}\r\n");
            for address in ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"] {
                let refused = on(address, &fields) == Err(Refused::Name);
                assert_eq!(!refused, is_answered, "{host} at {address}");
            }
            // A scraper on another machine may use a name.
            for address in ["10.0.0.5", "0.0.0.0", "::", "2001:db8::1"] {
                assert_eq!(on(address, &fields), Ok(()), "{host} at {address}");
            }
        }
        // HTTP/1.0 without Host.
        assert_eq!(on("127.0.0.1", ""), Ok(()));
    }

    #[test]
    fn pages_of_other_sites_may_link_here_but_not_fetch() {
        for (site, mode, is_answered) in [
            ("cross-site", "no-cors", false),
            ("cross-site", "cors", false),
            ("same-site", "cors", false),
            ("cross-site", "navigate", true),
            ("same-origin", "cors", true),
            ("none", "navigate", true),
        ] {
            let fields =
                format!("Host: localhost\r\nSec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\n");
            for address in ["127.0.0.1", "10.0.0.5"] {
                assert_eq!(on(address, &fields).is_ok(), is_answered, "{site} {mode}");
            }
        }
    }
}
