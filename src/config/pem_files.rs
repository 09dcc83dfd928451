//! The flags that name PEM files: certificates, a key, authorities.
//!
//! Used when the configuration is built. Reads authorities; the files of listeners are read by `tls`, at
//! the start and on each reload. Errors never quote the text of a file, nor PEM given instead of a path.

use std::io::Read;
use std::path::Path;

use super::args::Args;
use super::{ConfigError, TlsFiles};
use crate::{limits, pem};

/// The files for the listeners with `+tls`, if there are any.
pub(super) fn tls(args: &Args) -> Result<Option<TlsFiles>, ConfigError> {
    let listen = args.listen.iter().find(|listen| listen.tls);
    for (flag, path) in [
        ("--tls-cert", &args.tls_cert),
        ("--tls-key", &args.tls_key),
        ("--tls-client-ca", &args.tls_client_ca),
    ] {
        path.iter().try_for_each(|path| check_is_path(flag, path))?;
    }
    match (&args.tls_cert, &args.tls_key, listen) {
        (Some(cert), Some(key), Some(_)) => Ok(Some(TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: args.tls_client_ca.clone(),
        })),
        (None, None, None) => Ok(None),
        (_, _, Some(listen)) => Err(ConfigError::new(format!(
            "--listen {listen} needs --tls-cert and --tls-key"
        ))),
        (_, _, None) => Err(ConfigError::new(
            "--tls-cert is for listeners with TLS, and there is none: write --listen ADDRESS:PORT+tls",
        )),
    }
}

/// Reads the file of certificates that a flag names.
pub(super) fn ca_pem(path: &Path, flag: &str) -> Result<Vec<u8>, ConfigError> {
    pem_file(path, flag, |pem| pem::authorities(pem).map(drop))
}

/// Reads the PEM file that a flag names, and checks it.
pub(super) fn pem_file(
    path: &Path,
    flag: &str,
    check: impl Fn(&[u8]) -> Result<(), pem::PemFault>,
) -> Result<Vec<u8>, ConfigError> {
    let invalid =
        |problem: String| ConfigError::new(format!("{flag} {} {problem}", path.display()));
    check_is_path(flag, path)?;
    let mut pem = Vec::new();
    let bytes_max = limits::CA_FILE_BYTES_MAX;
    std::fs::File::open(path)
        .and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut pem))
        .map_err(|error| invalid(format!("cannot be read: {error}")))?;
    if pem.len() > bytes_max {
        return Err(invalid(format!("is longer than {bytes_max} bytes")));
    }
    match check(&pem) {
        Ok(()) => Ok(pem),
        Err(fault) => Err(invalid(fault.to_string())),
    }
}

/// Refuses PEM text that is given instead of the path of its file. It is not quoted: it may be a key.
fn check_is_path(flag: &str, path: &Path) -> Result<(), ConfigError> {
    if pem::is_in_place_of_path(path) {
        return Err(ConfigError::new(format!(
            "{flag} takes the path of a file, and was given PEM itself; write that into a file"
        )));
    }
    Ok(())
}
