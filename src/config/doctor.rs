//! The settings of `doctor`.
//!
//! Called by the parser. Never contacts the server.

use std::time::Duration;

use super::args::{Args, Subcommands};
use super::error::ConfigError;
use super::pem_files::ca_pem;
use super::secret::Secret;
use super::value::{Color, Endpoint};
use crate::foreign_text::{Secrets, quote};

/// The settings of `doctor`.
#[derive(Debug, Clone)]
pub struct DoctorConfig {
    /// Base URL of the server as clients see it.
    pub url: Endpoint,
    /// How long to watch a stream.
    pub watch: Duration,
    /// Whether to post no messages.
    pub read_only: bool,
    /// Whether the report is JSON, for scripts.
    pub json: bool,
    /// When the report has colours.
    pub color: Color,
    /// The token that is sent, if there is one.
    pub token: Option<Secret>,
    /// Certificates in PEM to trust instead of the public authorities.
    pub ca_pem: Option<Vec<u8>>,
}

/// The settings, if `doctor` is the command.
pub(super) fn settings(args: &Args, has_secret: bool) -> Result<Option<DoctorConfig>, ConfigError> {
    let Some(Subcommands::Doctor(doctor)) = &args.command else {
        return Ok(None);
    };
    let token = doctor.token_file.as_deref();
    let token = token.map(Secret::read_token).transpose()?;
    if (has_secret || token.is_some()) && doctor.url.is_exposed() && !doctor.send_secret_unencrypted
    {
        return Err(ConfigError::new(format!(
            "doctor would send the {} to {} unencrypted; use https://, leave it out, or give \
             --send-secret-unencrypted",
            if has_secret { "secret" } else { "token" },
            quote(doctor.url.as_str(), &Secrets::default())
        )));
    }
    Ok(Some(DoctorConfig {
        url: doctor.url.clone(),
        watch: doctor.watch,
        read_only: doctor.read_only,
        json: doctor.json,
        color: doctor.color,
        token,
        ca_pem: doctor
            .ca_file
            .as_deref()
            .map(|path| ca_pem(path, "--ca-file"))
            .transpose()?,
    }))
}
