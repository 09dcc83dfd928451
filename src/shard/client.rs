//! The identity of a client: for the log, for limits per client, and for its share of memory.
//!
//! Used by the shard's accounting, and by `net` to count connections. Values only, no I/O.

use std::fmt;
use std::net::IpAddr;

/// The client as a log shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Its own address, or the one that a trusted proxy names.
    Address(IpAddr),
    /// A process of this machine, on a Unix socket.
    Local,
    /// The connection is closed, or its address is not known yet.
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

/// The key by which limits and shares tell clients apart. A proxy that names no client is itself one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ClientKey {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address. Every customer has at least one network of this size
    /// (RFC 6177).
    V6(u64),
    /// All connections on Unix sockets whose requests name no client.
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
                // The shift leaves 64 bits, so the cast loses nothing.
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
    fn a_client_is_an_ipv4_address_an_ipv6_network_or_unnamed() {
        let key = |text: &str| ClientKey::of(Client::Address(ip(text)));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_ne!(ClientKey::of(Client::Local), ClientKey::of(Client::Unknown));
    }
}
