//! How this program is an HTTP client: whom it trusts, which proxies it takes, what it never does.
//!
//! Used by the mirror and by `doctor`. Follows no redirect, which could carry a token or a secret
//! elsewhere, and takes every status as an answer.
//!
//! The proxy variables of the environment (`ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, in this order,
//! and `NO_PROXY`) are honoured, as in other tools of an operator behind an egress proxy, except
//! for an address on this very machine.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use ureq::config::ConfigBuilder;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::typestate::AgentScope;
use ureq::{Agent, Proxy};

use crate::foreign_text::Secrets;
use crate::pem;

/// The certificates to trust are malformed, or there are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadCertificates;

/// The settings of a client for `address`. Trusts the certificates in `ca_pem` instead of the public
/// authorities, if they are given.
pub fn config(
    address: &Uri,
    ca_pem: Option<&[u8]>,
) -> Result<ConfigBuilder<AgentScope>, BadCertificates> {
    let roots = match ca_pem {
        Some(pem) => RootCerts::Specific(Arc::new(certificates(pem)?)),
        None => RootCerts::WebPki,
    };
    let proxy = if is_loopback(address) {
        None
    } else {
        Proxy::try_from_env()
    };
    Ok(Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(proxy)
        .user_agent(concat!("hookcast/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build()))
}

/// What of a client's no text may show: its secret, and the passwords of its proxies.
pub fn secrets(secret: Option<&str>) -> Secrets {
    Secrets::default()
        .with(secret.unwrap_or_default())
        .with_proxies(|name| std::env::var(name).ok())
}

fn is_loopback(endpoint: &Uri) -> bool {
    let host = endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, BadCertificates> {
    let certificates = pem::authorities(pem).map_err(|_| BadCertificates)?;
    let owned = |der: &CertificateDer<'_>| Certificate::from_der(der).to_owned();
    Ok(certificates.iter().map(owned).collect())
}
