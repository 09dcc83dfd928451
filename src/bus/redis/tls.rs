//! The TLS settings of connections to an engine: authorities and this node's certificate.
//!
//! Made once from the configuration. TLS 1.3 and 1.2 by rustls with ring, as for all other connections. Never reads
//! a file.

use std::fmt;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

use crate::config::BusConfig;
use crate::pem;

/// The files of the bus cannot be used together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusTlsError(&'static str);

impl fmt::Display for BusTlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BusTlsError {}

/// The settings, if the address asks for TLS.
pub(super) fn client_config(config: &BusConfig) -> Result<Option<Arc<ClientConfig>>, BusTlsError> {
    if !config.address.tls {
        return Ok(None);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| BusTlsError("TLS is not available"))?
        .with_root_certificates(roots(config.ca_pem.as_deref())?);
    let tls = match &config.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = pem::chain(&identity.cert_pem)
                .map_err(|_| BusTlsError("--bus-cert is not a certificate"))?;
            let keys = pem::private_keys(&identity.key_pem)
                .map_err(|_| BusTlsError("--bus-key is not a private key"))?;
            // The error of rustls is the same for a key of an unknown kind and for that of another certificate.
            let mismatch =
                BusTlsError("--bus-key is not the key of --bus-cert, or of an unknown kind");
            let key = keys.into_iter().next().ok_or_else(|| mismatch.clone())?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|_| mismatch)?
        }
    };
    Ok(Some(Arc::new(tls)))
}

fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, BusTlsError> {
    let Some(pem) = ca_pem else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let invalid = BusTlsError("--bus-ca-file holds no certificate of an authority");
    let authorities = pem::authorities(pem).map_err(|_| invalid.clone())?;
    let mut roots = RootCertStore::empty();
    // An old list may have certificates that cannot be used.
    let (added, _) = roots.add_parsable_certificates(authorities);
    if added == 0 {
        return Err(invalid);
    }
    Ok(roots)
}
