//! The certificate, key and authorities of TLS listeners: loads them from files at the start, and again on
//! SIGHUP.
//!
//! Called by `server`, which loads them, by `control`, which reloads them, and by the accepting shard, which
//! takes the newest for each connection. `main` loads them for `--check-config`. TLS 1.3 and 1.2: handshake and
//! ciphers by rustls with ring, as in the mirror's client, records after the handshake by `net::tls`. Never
//! touches a connection.

mod error;
pub mod key;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, Error, RootCertStore, ServerConfig};

pub use self::error::TlsError;
use crate::config::TlsFiles;
use crate::limits::TLS_FILE_BYTES_MAX;
use crate::pem;

/// The TLS configuration of new connections; replaced as a whole.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Loads the files.
    pub fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let config = server_config(&files)?;
        Ok(Tls {
            files,
            current: RwLock::new(Arc::new(config)),
        })
    }

    /// Loads the files again, for new connections; open ones are not affected. After an error the old
    /// configuration stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(server_config(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Warnings, a sentence each, about files that work but are probably a mistake. Reads the files.
    pub fn warnings(&self) -> Vec<String> {
        let TlsFiles { cert, key, .. } = &self.files;
        let mut warnings = Vec::new();
        if is_public(key) {
            warnings.push(format!(
                "every user of this machine has access to --tls-key {}; chmod o-rwx it",
                key.display()
            ));
        }
        let has_key = |path: &Path| read(path).is_ok_and(|pem| pem::has_private_key(&pem));
        if cert != key && is_public(cert) && has_key(cert) {
            warnings.push(format!(
                "every user of this machine has access to --tls-cert {}, which has a private key in it; remove the key",
                cert.display()
            ));
        }
        warnings.extend(out_of_time(cert, "--tls-cert"));
        if let Some(authorities) = &self.files.client_ca {
            warnings.extend(out_of_time(authorities, "--tls-client-ca"));
        }
        warnings
    }

    /// The configuration for a new connection.
    pub fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certified = certified_key(files, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Other)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| TlsError::ClientCa(path.clone(), error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(TlsError::ClientVerifier)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // After the handshake a connection keeps its keys and, in TLS 1.3, its key schedule and the client's
    // certificates (`net::tls`).
    config.enable_secret_extraction = true;
    // Sessions are resumed by tickets, which the client keeps, so they take no memory here. The key of the
    // tickets changes with every load, so that no ticket outlives the authority that accepted its client.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Other)?;
    Ok(config)
}

/// The certificate with its chain, and the first key of the key's file that belongs to it.
fn certified_key(files: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&files.cert)?;
    let pem = read(&files.key)?;
    let keys = pem::private_keys(&pem).map_err(|fault| TlsError::Pem(files.key.clone(), fault))?;
    let mut first_error = None;
    for key in keys {
        let kind = key::kind(&key);
        let error = match CertifiedKey::from_der(chain.clone(), key, provider) {
            Ok(certified) => return Ok(certified),
            Err(Error::InconsistentKeys(_)) => {
                TlsError::Mismatch(files.cert.clone(), files.key.clone())
            }
            Err(Error::InvalidCertificate(error)) => {
                TlsError::Certificate(files.cert.clone(), error)
            }
            // The error of rustls is the same for all kinds of keys.
            Err(_) => TlsError::Key(files.key.clone(), kind),
        };
        first_error.get_or_insert(error);
    }
    Err(first_error.unwrap_or_else(|| TlsError::Mismatch(files.cert.clone(), files.key.clone())))
}

/// Warnings about the certificates of a file that have expired or are not valid yet.
fn out_of_time(path: &Path, flag: &str) -> Vec<String> {
    let certificates = certificates(path).unwrap_or_default();
    let is_one = certificates.len() == 1;
    let of = |(index, certificate)| {
        let problem = time_problem(certificate)?;
        let which = match index {
            _ if is_one => "the certificate".into(),
            index => format!("certificate {}", index + 1),
        };
        let path = path.display();
        Some(format!(
            "{which} in {flag} {path} {problem}: clients refuse it, unless the clock here is wrong"
        ))
    };
    certificates.iter().enumerate().filter_map(of).collect()
}

/// The problem with a certificate's dates, if there is one. The only public way to check them is to
/// verify the certificate. Verification without an authority always fails at the signature, but the
/// dates are checked first.
fn time_problem(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    let no_authorities = RootCertStore::empty();
    let verified = rustls::client::verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &no_authorities,
        &[],
        UnixTime::now(),
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .all,
    );
    match verified {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Some(format!("expired on {}", date(not_after)))
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before, ..
        })) => Some(format!("is not valid before {}", date(not_before))),
        _ => None,
    }
}

fn date(time: UnixTime) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time).to_string()
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::chain(&read(path)?).map_err(|fault| TlsError::Pem(path.to_owned(), fault))
}

/// Whether users other than a file's owner and group have access to it.
fn is_public(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(TLS_FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > TLS_FILE_BYTES_MAX {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}
