//! Checks that the addresses to listen on fit together.
//!
//! Called by the parser after each address is valid by itself. Never resolves a name and binds nothing.

use std::net::SocketAddr;

use super::args::Args;
use super::error::ConfigError;
use super::listen::{Listen, ListenAddress};
use crate::limits;

/// Fails if there are too many addresses, if two overlap, or if one with `+proxy` has no trusted
/// proxies.
pub(super) fn check(args: &Args) -> Result<(), ConfigError> {
    let listen = &args.listen;
    if listen.len() > limits::LISTEN_ADDRESSES_MAX {
        let most = limits::LISTEN_ADDRESSES_MAX;
        return Err(ConfigError::new(format!(
            "--listen takes at most {most} addresses"
        )));
    }
    if args.trusted_proxy.len() > limits::TRUSTED_PROXIES_MAX {
        let most = limits::TRUSTED_PROXIES_MAX;
        return Err(ConfigError::new(format!(
            "--trusted-proxy takes at most {most} networks"
        )));
    }
    let is_tcp = |listen: &Listen| listen.socket_address().is_some();
    let without_network = listen
        .iter()
        .find(|l| l.proxy && is_tcp(l) && args.trusted_proxy.is_empty());
    if let Some(listen) = without_network {
        return Err(ConfigError::new(format!(
            "--listen {listen} expects a proxy: name its network with --trusted-proxy"
        )));
    }
    if let Some((first, second)) = overlapping(listen) {
        return Err(ConfigError::new(if first.address == second.address {
            format!("--listen {} is given twice", first.address)
        } else {
            format!(
                "--listen {} is a part of --listen {}: keep one of them",
                first.address, second.address
            )
        }));
    }
    let admin_overlaps = |admin: SocketAddr| {
        let admin = Listen {
            address: ListenAddress::Tcp(admin),
            proxy: false,
            tls: false,
        };
        let both = |listen: &Listen| {
            // The socket of [::] takes IPv4, too.
            let ports = admin
                .socket_address()
                .filter(|a| is_any_ipv6(*a))
                .zip(listen.socket_address());
            ports.is_some_and(|(a, b)| a.port() != 0 && a.port() == b.port())
                || overlapping(&[admin.clone(), listen.clone()]).is_some()
        };
        listen.iter().find(|listen| both(listen)).cloned()
    };
    match args
        .admin
        .and_then(|admin| Some((admin, admin_overlaps(admin)?)))
    {
        Some((admin, listen)) => Err(ConfigError::new(format!(
            "--admin {admin} and --listen {} cannot share a port",
            listen.address
        ))),
        None => Ok(()),
    }
}

fn is_any_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// Two addresses that cannot both be bound: they are equal, or the second includes the first, as
/// 0.0.0.0 includes 127.0.0.1.
fn overlapping(listen: &[Listen]) -> Option<(&Listen, &Listen)> {
    let is_part = |a: &ListenAddress, b: &ListenAddress| match (a, b) {
        (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
            let is_within = a.ip() == b.ip() || b.ip().is_unspecified();
            a.port() != 0 && a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && is_within
        }
        (ListenAddress::Unix { path: a, .. }, ListenAddress::Unix { path: b, .. }) => a == b,
        _ => false,
    };
    let others = |at: usize| (0..listen.len()).filter(move |other| *other != at);
    let pairs = (0..listen.len()).flat_map(|at| others(at).map(move |other| (at, other)));
    let mut pairs = pairs.map(|(at, other)| (&listen[at], &listen[other]));
    pairs.find(|(a, b)| is_part(&a.address, &b.address))
}
