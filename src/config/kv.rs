//! The mirror's settings: a Cloudflare KV namespace, by three variables and some flags.
//!
//! Used when the configuration is built. Never calls KV: `kv-check` tests the access.

use std::time::Duration;

use super::args::Args;
use super::pem_files::ca_pem;
use super::value::Endpoint;
use super::{ConfigError, Environment, Secret};

/// The variables that enable the mirror: either all are set, or none.
pub(super) const ACCOUNT_VARIABLE: &str = "CLOUDFLARE_ACCOUNT_ID";
pub(super) const TOKEN_VARIABLE: &str = "CLOUDFLARE_API_TOKEN";
pub(super) const NAMESPACE_VARIABLE: &str = "WEBHOOK_KV";

/// A Cloudflare KV namespace and how to use it.
#[derive(Debug, Clone)]
pub struct KvConfig {
    /// Base URL of the REST API.
    pub endpoint: Endpoint,
    /// The account's id: 32 hexadecimal digits, so it needs no escaping in a path.
    pub account: String,
    /// The namespace's id, in the same form.
    pub namespace: String,
    /// The bearer token.
    pub token: Secret,
    /// Time between two reads.
    pub poll_interval: Duration,
    /// Least time between two writes.
    pub write_interval: Duration,
    /// Longest time for one call.
    pub timeout: Duration,
    /// Certificates in PEM to trust instead of the public authorities.
    pub ca_pem: Option<Vec<u8>>,
}

/// The mirror's settings, if its three variables are set. An empty variable counts as missing.
pub(super) fn settings(
    args: &Args,
    environment: &Environment,
) -> Result<Option<KvConfig>, ConfigError> {
    let variables = [ACCOUNT_VARIABLE, TOKEN_VARIABLE, NAMESPACE_VARIABLE];
    let mut values = [None; 3];
    for (value, name) in values.iter_mut().zip(variables) {
        *value = environment.text(name)?.filter(|text| !text.is_empty());
    }
    let [Some(account), Some(token), Some(namespace)] = values else {
        let (missing, given): (Vec<_>, Vec<_>) = variables
            .iter()
            .zip(values)
            .partition(|(_, value)| value.is_none());
        if given.is_empty() {
            return Ok(None);
        }
        let names: Vec<&str> = missing.iter().map(|(name, _)| **name).collect();
        return Err(ConfigError::new(format!(
            "missing {}: Cloudflare KV needs all three of its variables, or none",
            names.join(" and ")
        )));
    };
    Ok(Some(KvConfig {
        endpoint: args.kv_endpoint.clone(),
        account: kv_id(account, ACCOUNT_VARIABLE)?,
        namespace: kv_id(namespace, NAMESPACE_VARIABLE)?,
        token: kv_token(token)?,
        poll_interval: args.kv_poll,
        write_interval: args.kv_write_interval,
        timeout: args.kv_timeout,
        ca_pem: args
            .kv_ca_file
            .as_deref()
            .map(|path| ca_pem(path, "--kv-ca-file"))
            .transpose()?,
    }))
}

/// A bearer token (RFC 6750 section 2.1): visible ASCII characters.
fn kv_token(text: &str) -> Result<Secret, ConfigError> {
    if text.chars().all(|c| c.is_ascii_graphic()) {
        Secret::parse(text, TOKEN_VARIABLE)
    } else {
        Err(ConfigError::new(format!(
            "{TOKEN_VARIABLE} has a character that is not allowed in a token"
        )))
    }
}

/// Parses an id of Cloudflare. Errors do not quote the value: it may be the token in the wrong variable.
fn kv_id(text: &str, name: &str) -> Result<String, ConfigError> {
    const DIGITS: usize = 32;
    if text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    let hint = if name == NAMESPACE_VARIABLE {
        "the id of a KV namespace, not its name and not that of a binding"
    } else {
        "the id of a Cloudflare account"
    };
    Err(ConfigError::new(format!(
        "{name} must be {hint}: {DIGITS} hexadecimal digits"
    )))
}
