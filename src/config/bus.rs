//! The settings of the bus: `--bus` and the flags that begin with it.
//!
//! Used when the configuration is built. Reads the files that they name. Never calls the engine: `bus-check`
//! tests the access.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use super::args::Args;
use super::pem_files::{ca_pem, pem_file};
use super::{BusAddress, ConfigError, Secret};
use crate::pem;

/// An engine and how to use it.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// Where the engine is, and the name of the bus.
    pub address: BusAddress,
    /// The password of the user, or of the default user.
    pub password: Option<Secret>,
    /// Certificates in PEM to trust instead of the public authorities.
    pub ca_pem: Option<Vec<u8>>,
    /// The certificate of this node, if the engine asks for one.
    pub identity: Option<BusIdentity>,
    /// The longest time for one call.
    pub timeout: Duration,
    /// The replicas that must confirm a message before it is acknowledged.
    pub replicas: u32,
    /// Messages that the engine keeps.
    pub history_messages: usize,
    /// The longest body of a webhook; see [`Config`](super::Config).
    pub body_bytes_max: usize,
}

/// The certificate of a client of the engine. Its `Debug` form is empty, because of the key.
#[derive(Clone)]
pub struct BusIdentity {
    /// The certificate with its chain, in PEM.
    pub cert_pem: Vec<u8>,
    /// Its private key, in PEM.
    pub key_pem: Vec<u8>,
}

impl fmt::Debug for BusIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusIdentity(..)")
    }
}

/// The settings of the bus, if there is one, and whether every user may read the password's file.
pub(super) fn settings(args: &Args) -> Result<(Option<BusConfig>, bool), ConfigError> {
    let Some(address) = args.bus.clone() else {
        return Ok((None, false));
    };
    let has_files = args.bus_ca_file.is_some() || args.bus_cert.is_some();
    if has_files && !address.tls {
        let flag = if args.bus_ca_file.is_some() {
            "--bus-ca-file"
        } else {
            "--bus-cert"
        };
        return Err(ConfigError::new(format!(
            "{flag} is for TLS, and --bus {address} has none: write rediss:// or rediss+sentinel://"
        )));
    }
    if address.user.is_some() && args.bus_password_file.is_none() {
        return Err(ConfigError::new(
            "--bus names a user, and a user has a password: give --bus-password-file",
        ));
    }
    let password = args.bus_password_file.as_deref();
    let password = password
        .map(|path| Secret::read_password(path, "--bus-password-file"))
        .transpose()?;
    let (password, is_public) = password.unzip();
    let ca_pem = args.bus_ca_file.as_deref();
    let config = BusConfig {
        address,
        password,
        ca_pem: ca_pem.map(ca_pem_of).transpose()?,
        identity: identity(args.bus_cert.as_deref(), args.bus_key.as_deref())?,
        timeout: args.bus_timeout,
        replicas: args.bus_replicas as u32,
        history_messages: args.bus_history,
        body_bytes_max: args.max_body_bytes,
    };
    Ok((Some(config), is_public.unwrap_or(false)))
}

fn ca_pem_of(path: &Path) -> Result<Vec<u8>, ConfigError> {
    ca_pem(path, "--bus-ca-file")
}

/// The client certificate; `clap` takes either both files or none.
fn identity(cert: Option<&Path>, key: Option<&Path>) -> Result<Option<BusIdentity>, ConfigError> {
    let (Some(cert), Some(key)) = (cert, key) else {
        return Ok(None);
    };
    let cert_pem = pem_file(cert, "--bus-cert", |pem| pem::chain(pem).map(drop))?;
    let key_pem = pem_file(key, "--bus-key", |pem| pem::private_keys(pem).map(drop))?;
    Ok(Some(BusIdentity { cert_pem, key_pem }))
}
