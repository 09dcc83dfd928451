//! The URL of the health check, `hookcast health`.
//!
//! Used when the configuration is built. A health check runs beside the server with the same
//! variables, which contain the addresses. Pure: connects to nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::ConfigError;
use super::args::{Args, Subcommands};
use super::listen::Listen;

/// The URL, if the command is `health`.
pub(super) fn url(args: &Args) -> Result<Option<String>, ConfigError> {
    let Some(Subcommands::Health { url }) = &args.command else {
        return Ok(None);
    };
    if let Some(url) = url {
        return Ok(Some(format!("{}/api/webhook", url.as_str())));
    }
    if let Some(admin) = args.admin {
        return Ok(Some(format!("http://{}/readyz", on_this_machine(admin))));
    }
    let is_plain = |listen: &&Listen| !listen.tls && !listen.proxy;
    let mut plain = args.listen.iter().filter(is_plain);
    match plain.find_map(Listen::socket_address) {
        Some(address) => {
            let address = on_this_machine(address);
            Ok(Some(format!("http://{address}/api/webhook")))
        }
        None => Err(ConfigError::new(
            "health finds no plain address in HOOKCAST_LISTEN; set HOOKCAST_ADMIN, or give a URL",
        )),
    }
}

/// The address to connect to: loopback if the server listens on all interfaces.
fn on_this_machine(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn url_of(flags: &[&str]) -> Result<Option<String>, ConfigError> {
        url(&Args::parse_from([&["hookcast"], flags].concat()))
    }

    #[test]
    fn the_url_follows_from_the_addresses_of_the_server() {
        for (flags, expected) in [
            (&[][..], "http://127.0.0.1:3000/api/webhook"),
            (
                &["--listen", "0.0.0.0:80"],
                "http://127.0.0.1:80/api/webhook",
            ),
            (&["--listen", "[::]:80"], "http://[::1]:80/api/webhook"),
            (
                &["--listen", "unix:/a,127.0.0.1:1+tls,192.0.2.1:2"],
                "http://192.0.2.1:2/api/webhook",
            ),
            (&["--admin", "0.0.0.0:9000"], "http://127.0.0.1:9000/readyz"),
        ] {
            let found = url_of(&[flags, &["health"]].concat()).unwrap();
            assert_eq!(found.as_deref(), Some(expected));
        }
        let given = url_of(&["health", "https://hooks.example/"]).unwrap();
        assert_eq!(given.as_deref(), Some("https://hooks.example/api/webhook"));
        assert_eq!(url_of(&[]).unwrap(), None);
        let error = url_of(&["--listen", "unix:/a", "health"]).unwrap_err();
        assert!(error.to_string().contains("HOOKCAST_ADMIN"), "{error}");
    }
}
