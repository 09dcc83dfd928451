//! Errors of the files of TLS listeners.
//!
//! Made by the parent module. Never contains a byte of a file, since one of them is the key.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::CertificateError;
use rustls::server::VerifierBuilderError;

use super::key::KeyKind;
use crate::pem::PemFault;

/// Why the files cannot be used.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Read(PathBuf, io::Error),
    /// A file is not a usable PEM file.
    Pem(PathBuf, PemFault),
    /// The server's certificate cannot be used.
    Certificate(PathBuf, CertificateError),
    /// The key is damaged, or of an unsupported kind.
    Key(PathBuf, KeyKind),
    /// The certificate and the key do not belong together.
    Mismatch(PathBuf, PathBuf),
    /// An authority cannot be used.
    ClientCa(PathBuf, rustls::Error),
    /// The list of authorities cannot be used.
    ClientVerifier(VerifierBuilderError),
    /// No random numbers, or no cipher.
    Other(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Read(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            TlsError::Pem(path, fault) => write!(f, "{} {fault}", path.display()),
            TlsError::Certificate(path, error) => {
                let path = path.display();
                write!(f, "the first certificate in {path} cannot be used: {error}")
            }
            TlsError::Key(path, kind) if kind.is_supported() => write!(
                f,
                "{} is {kind} and damaged: its parts do not match",
                path.display()
            ),
            TlsError::Key(path, kind) => write!(
                f,
                "{} is {kind}; RSA of 2048 to 4096 bits, ECDSA P-256 and P-384, and Ed25519 are supported",
                path.display()
            ),
            TlsError::Mismatch(cert, key) => write!(
                f,
                "certificate and key do not belong together: the key in {} is not that of the first certificate in {}, \
                 which must be the server's own, its chain behind it",
                key.display(),
                cert.display()
            ),
            TlsError::ClientCa(path, error) => {
                write!(f, "{} cannot be used: {error}", path.display())
            }
            TlsError::ClientVerifier(error) => write!(f, "--tls-client-ca cannot be used: {error}"),
            TlsError::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TlsError {}
