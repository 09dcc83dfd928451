//! The certificate, key and authorities of TLS listeners: from files to what a handshake needs, at
//! the start and again on SIGHUP.
//!
//! `server` loads it, `control` reloads it, the accepting shard takes the newest for each
//! connection; `main` loads it for `--check-config`. TLS 1.3 and 1.2 by rustls with ring, as the
//! mirror's client has it. Never touches a connection.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::config::TlsFiles;
use crate::limits::TLS_FILE_BYTES_MAX;

/// Why the files cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Read(PathBuf, std::io::Error),
    /// A file holds nothing usable.
    Pem(PathBuf, &'static str, pem::Error),
    /// The key does not belong to the certificate, or one of them is not supported.
    Pair(rustls::Error),
    /// The authorities cannot be used.
    ClientCa(PathBuf, rustls::Error),
    /// The same of all of them together.
    ClientVerifier(VerifierBuilderError),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Read(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            TlsError::Pem(path, what, pem::Error::NoItemsFound) => {
                write!(f, "{} has no {what} in PEM form in it", path.display())
            }
            TlsError::Pem(path, _, error) => write!(f, "{} is malformed: {error}", path.display()),
            TlsError::Pair(error) => write!(f, "certificate and key cannot be used: {error}"),
            TlsError::ClientCa(path, error) => {
                write!(f, "{} cannot be used: {error}", path.display())
            }
            TlsError::ClientVerifier(error) => write!(f, "--tls-client-ca cannot be used: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// What new connections are set up with; replaced as a whole.
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

    /// Loads the files anew. Connections to come use them; those that are there go on. After an
    /// error everything is as before.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = Arc::new(server_config(&self.files)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// What is to be said of a key that others than its owner and group have access to.
    pub fn warning(&self) -> Option<String> {
        let key = &self.files.key;
        let mode = std::fs::metadata(key).ok()?.permissions().mode();
        (mode & 0o007 != 0).then(|| {
            format!(
                "every user of this machine has access to --tls-key {}; chmod o-rwx it",
                key.display()
            )
        })
    }

    /// What a new connection is set up with.
    pub fn current(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.cert)?;
    let pem = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| TlsError::Pem(files.key.clone(), "private key", error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
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
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sessions are resumed by tickets that the client keeps, so they cost no memory here. The key
    // is new with every load: a ticket must not outlive the authority that let its client in.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Pair)?;
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let malformed = |error| TlsError::Pem(path.to_owned(), "certificate", error);
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(none) if none.is_empty() => Err(malformed(pem::Error::NoItemsFound)),
        other => other.map_err(malformed),
    }
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
