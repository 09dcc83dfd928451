//! How a client is named: for the log, for limits per client, and for its share of memory.
//!
//! Used by the shard's accounting and by `net`, which counts connections by it. Pure values.

use std::fmt;
use std::net::IpAddr;

/// The client as a log shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// By its address, its own or the one that a trusted proxy names.
    Address(IpAddr),
    /// A process of this machine, by a Unix socket.
    Local,
    /// The connection is over, or has not told yet.
    Unknown,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Address(address) => address.to_canonical().fmt(f),
            Client::Local => f.write_str("unix"),
            Client::Unknown => f.write_str("unknown"),
        }
    }
}

/// What counts as one client, for limits and for shares. A proxy that names no client is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ClientKey {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address: every customer has at least one such network to draw
    /// addresses from (RFC 6177).
    V6(u64),
    /// All connections by Unix sockets whose requests name no client.
    Local,
    /// Connections that the peer has reset.
    Unknown,
}

impl ClientKey {
    pub(crate) fn of(client: Client) -> ClientKey {
        match client {
            Client::Address(address) => ClientKey::of_address(address),
            Client::Local => ClientKey::Local,
            Client::Unknown => ClientKey::Unknown,
        }
    }

    pub(crate) fn of_address(address: IpAddr) -> ClientKey {
        match address.to_canonical() {
            IpAddr::V4(address) => ClientKey::V4(address.octets()),
            IpAddr::V6(address) => {
                // The upper half: a shift by 64 bits leaves nothing else.
                ClientKey::V6((address.to_bits() >> 64) as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_is_an_address_or_a_network_or_whoever_is_not_named() {
        let key = |text: &str| ClientKey::of(Client::Address(ip(text)));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_ne!(ClientKey::of(Client::Local), ClientKey::of(Client::Unknown));
    }
}
