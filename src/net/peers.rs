//! Peers by address: which are trusted proxies, and how many connections one client may have.
//!
//! `server` makes one [`Peers`] for all shards; the acceptor and the layered sockets ask it. With
//! neither trusted proxies nor a limit per address it is never asked, and its lock is never taken on
//! the way of a message. Never looks at a connection's bytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::http::named_client;
use crate::limits::ADDRESS_SURPLUS_MAX;
use crate::shard::client::ClientKey;

/// The rules, and the connections that each address has.
#[derive(Debug, Default)]
pub struct Peers {
    trusted: Vec<IpNet>,
    header: Option<String>,
    per_address_max: Option<u32>,
    places: Arc<Mutex<Places>>,
}

/// How many connections an address holds. An address is in it for as long as it holds one, so it is
/// bounded by the connections.
type Places = HashMap<ClientKey, u32>;

/// A connection's place among those of its address; given back when dropped.
pub struct Place {
    places: Arc<Mutex<Places>>,
    client: ClientKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = lock(&self.places);
        if let Entry::Occupied(mut entry) = places.entry(self.client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// What became of asking for a place.
pub enum Claim {
    /// There is no limit.
    Unlimited,
    /// Within the limit.
    Granted(Place),
    /// The address holds as many as it may; this one is let in to be told so.
    Over(Place),
    /// Nor may any more be told.
    Refused,
}

impl Peers {
    /// Proxies of the `trusted` networks may name the client: in `header` (in lower case), or by the PROXY protocol
    /// where a listener expects that. An address may hold `per_address_max` connections.
    pub fn new(trusted: Vec<IpNet>, header: Option<String>, per_address_max: Option<u32>) -> Peers {
        Peers {
            trusted,
            header,
            per_address_max,
            places: Arc::default(),
        }
    }

    /// Whether an address is one of a trusted proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }

    /// Whether connections have to be counted by address.
    pub fn has_limit(&self) -> bool {
        self.per_address_max.is_some()
    }

    /// Whether trusted proxies name clients in a header.
    pub fn has_header(&self) -> bool {
        self.header.is_some()
    }

    /// The client that a proxy names in the field lines of a request.
    pub fn named(&self, fields: &[u8]) -> Option<IpAddr> {
        let header = self.header.as_deref()?;
        named_client(header, fields, |address| self.is_proxy(address))
    }

    /// Asks for a place for one more connection of an address.
    pub fn claim(&self, address: IpAddr) -> Claim {
        let Some(most) = self.per_address_max else {
            return Claim::Unlimited;
        };
        let client = ClientKey::of_address(address);
        let mut places = lock(&self.places);
        let held = places.entry(client).or_insert(0);
        if *held >= most.saturating_add(ADDRESS_SURPLUS_MAX) {
            return Claim::Refused;
        }
        *held += 1;
        let is_over = *held > most;
        drop(places);
        let place = Place {
            places: Arc::clone(&self.places),
            client,
        };
        if is_over {
            Claim::Over(place)
        } else {
            Claim::Granted(place)
        }
    }

    #[cfg(test)]
    fn peers(&self) -> usize {
        lock(&self.places).len()
    }
}

/// A panic ends the process, so a poisoned lock is never seen; its numbers would be sound anyway.
fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_holds_so_many_places_and_no_more() {
        let peers = Peers::new(Vec::new(), None, Some(2));
        let claim = |text: &str| match peers.claim(ip(text)) {
            Claim::Granted(place) => Some(place),
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
        assert_eq!(peers.peers(), 1, "who holds nothing is forgotten");

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
        assert_eq!(peers.peers(), 0);
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
