//! Peers by address: the trusted proxies, and the limit of connections for each client.
//!
//! `server` makes one [`Peers`] for all shards. The layered sockets claim permits here when a connection
//! opens, or for a request behind a proxy. Its lock is never taken to deliver a message. Without a limit
//! it is never taken at all. Never reads a connection's bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::http::named_client;
use crate::limits::ADDRESS_SURPLUS_MAX;
use crate::shard::client::ClientKey;

/// The trusted proxies, the limit, and the number of connections of each address.
#[derive(Debug, Default)]
pub struct Peers {
    trusted: Vec<IpNet>,
    header: Option<String>,
    per_address_max: Option<u32>,
    counts: Arc<Mutex<Counts>>,
}

/// The permits held by each client. A client without any has no entry, so the number of connections
/// bounds the map.
type Counts = HashMap<ClientKey, u32>;

/// The right of a client to one connection. Dropping returns it.
pub struct Permit {
    counts: Arc<Mutex<Counts>>,
    client: ClientKey,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Entry::Occupied(mut entry) = counts.entry(self.client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// The result of a claim for a permit.
pub enum Claim {
    /// There is no limit.
    Unlimited,
    /// Within the limit.
    Granted(Permit),
    /// Over the limit. The connection is accepted so that its request can be refused.
    Over(Permit),
    /// Over the limit, and over [`ADDRESS_SURPLUS_MAX`]. The connection is closed at once.
    Refused,
}

impl Peers {
    /// Proxies of the `trusted` networks may name the client: in the field `header` (in lower
    /// case), or by the PROXY protocol if the listener expects that. A client may hold
    /// `per_address_max` connections.
    pub fn new(trusted: Vec<IpNet>, header: Option<String>, per_address_max: Option<u32>) -> Peers {
        Peers {
            trusted,
            header,
            per_address_max,
            counts: Arc::default(),
        }
    }

    /// Whether an address is that of a trusted proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Whether connections are counted by address.
    pub fn has_limit(&self) -> bool {
        self.per_address_max.is_some()
    }

    /// Whether trusted proxies name clients in a header.
    pub fn has_header(&self) -> bool {
        self.header.is_some()
    }

    /// The client that a trusted proxy names in the field lines of a request.
    pub fn named(&self, fields: &[u8]) -> Option<IpAddr> {
        let header = self.header.as_deref()?;
        named_client(header, fields, |address| self.is_proxy(address))
    }

    /// Claims a permit for one more connection of an address.
    pub fn claim(&self, address: IpAddr) -> Claim {
        let Some(most) = self.per_address_max else {
            return Claim::Unlimited;
        };
        let client = ClientKey::of_address(address);
        let mut counts = lock(&self.counts);
        let held = counts.entry(client).or_insert(0);
        if *held >= most.saturating_add(ADDRESS_SURPLUS_MAX) {
            return Claim::Refused;
        }
        *held += 1;
        let is_over = *held > most;
        drop(counts);
        let permit = Permit {
            counts: Arc::clone(&self.counts),
            client,
        };
        if is_over {
            Claim::Over(permit)
        } else {
            Claim::Granted(permit)
        }
    }

    #[cfg(test)]
    fn clients(&self) -> usize {
        lock(&self.counts).len()
    }
}

/// A panic ends the process, so the lock is never found poisoned. Its numbers would be valid anyway.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_holds_connections_up_to_its_limit() {
        let peers = Peers::new(Vec::new(), None, Some(2));
        let claim = |text: &str| match peers.claim(ip(text)) {
            Claim::Granted(permit) => Some(permit),
            _ => None,
        };
        let first = claim("192.0.2.1").unwrap();
        // The same client, by the address that an IPv6 socket shows.
        let second = claim("::ffff:192.0.2.1").unwrap();
        let surplus: Vec<Claim> = (0..ADDRESS_SURPLUS_MAX)
            .map(|_| peers.claim(ip("192.0.2.1")))
            .collect();
        assert!(surplus.iter().all(|claim| matches!(claim, Claim::Over(_))));
        assert!(matches!(peers.claim(ip("192.0.2.1")), Claim::Refused));
        drop(surplus);
        assert!(claim("192.0.2.1").is_none());
        let _other = claim("192.0.2.2").unwrap();
        drop(first);
        let third = claim("192.0.2.1").unwrap();
        assert!(claim("192.0.2.1").is_none());
        drop((second, third));
        assert_eq!(peers.clients(), 1, "a client without permits has no entry");

        let _a = claim("2001:db8:0:1::1").unwrap();
        let _b = claim("2001:db8:0:1:ffff::2").unwrap();
        assert!(
            claim("2001:db8:0:1::3").is_none(),
            "one network, one client"
        );
        assert!(claim("2001:db8:0:2::1").is_some());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let peers = Peers::default();
        assert!(matches!(peers.claim(ip("192.0.2.1")), Claim::Unlimited));
        assert_eq!(peers.clients(), 0);
        assert!(!peers.is_proxy(ip("127.0.0.1")));
    }

    #[test]
    fn trust_is_by_network() {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap());
        let peers = Peers::new(networks.to_vec(), Some("x-forwarded-for".into()), None);
        for (address, is_proxy) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(peers.is_proxy(ip(address)), is_proxy, "{address}");
        }
        let fields = b"X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.9\r\n";
        assert_eq!(peers.named(fields), Some(ip("192.0.2.1")));
    }
}
