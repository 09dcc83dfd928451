//! PEM files (RFC 7468): their certificates and keys, and a description of what is wrong with a file.
//!
//! Called by `tls` for listeners, by `client` and `config` for authorities, by `tokens` for public keys. The parser of `rustls` decodes
//! each section. It skips some faults, and reports others as numbers, so these are detected here first:
//! joined sections, lost line breaks, keys with a passphrase. Never opens a file. Never puts a byte of the
//! file into a fault, since the file may be a key.

mod fault;
mod lines;

use std::path::Path;

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error};

pub use self::fault::PemFault;
use self::lines::Section;

const CERTIFICATE: &str = "CERTIFICATE";
const PUBLIC_KEY: &str = "PUBLIC KEY";
/// The three forms of a private key: PKCS #8, PKCS #1 and SEC 1.
const PRIVATE_KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// All certificates of a file, at least one. Other sections are skipped, unless they contain certificates in
/// another form.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let sections = lines::sections(pem)?;
    let mut certificates = Vec::new();
    for section in &sections {
        match section.label.as_str() {
            CERTIFICATE => certificates.push(CertificateDer::from(decode(section)?)),
            "PKCS7" => return Err(PemFault::Pkcs7),
            "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => {
                return Err(PemFault::CertificateForm(section.line));
            }
            _ => {}
        }
    }
    let has = |label: &str| sections.iter().any(|section| section.label == label);
    match certificates.is_empty() {
        false => Ok(certificates),
        true if has("CERTIFICATE REQUEST") => Err(PemFault::RequestAlone),
        true => Err(PemFault::NoCertificate),
    }
}

/// All certificates of a file, each of which can be parsed. Their validity is not checked.
pub fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let chain = certificates(pem)?;
    match chain
        .iter()
        .position(|certificate| !is_readable(certificate))
    {
        None => Ok(chain),
        Some(index) => Err(PemFault::Damaged(index + 1)),
    }
}

/// All certificates of a list of authorities, of which at least one can be parsed. An old list may contain
/// some that cannot.
pub fn authorities(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemFault> {
    let authorities = certificates(pem)?;
    if authorities.iter().any(is_readable) {
        Ok(authorities)
    } else {
        Err(PemFault::Damaged(1))
    }
}

fn is_readable(certificate: &CertificateDer<'_>) -> bool {
    let bad_encoding = Error::InvalidCertificate(CertificateError::BadEncoding);
    ParsedCertificate::try_from(certificate).err() != Some(bad_encoding)
}

/// All private keys of a file, at least one.
pub fn private_keys(pem: &[u8]) -> Result<Vec<PrivateKeyDer<'static>>, PemFault> {
    let sections = lines::sections(pem)?;
    let mut keys = Vec::new();
    for section in &sections {
        match section.label.as_str() {
            "ENCRYPTED PRIVATE KEY" => return Err(PemFault::Encrypted),
            "OPENSSH PRIVATE KEY" => return Err(PemFault::OpenSsh),
            "DSA PRIVATE KEY" => return Err(PemFault::Dsa),
            label if !PRIVATE_KEYS.contains(&label) => {}
            _ if section.is_encrypted => return Err(PemFault::Encrypted),
            _ => keys.push(private_key(section)?),
        }
    }
    let has = |label: &str| sections.iter().any(|section| section.label == label);
    match keys.is_empty() {
        false => Ok(keys),
        true if has(PUBLIC_KEY) => Err(PemFault::PublicKeyAlone),
        true if has(CERTIFICATE) => Err(PemFault::CertificateAlone),
        true => Err(PemFault::NoPrivateKey),
    }
}

/// All public keys of a file, as `SubjectPublicKeyInfo` in DER, at least one. A file with a private key or a
/// certificate is refused: it is not what was meant.
pub fn public_keys(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemFault> {
    let sections = lines::sections(pem)?;
    let mut keys = Vec::new();
    for section in &sections {
        match section.label.as_str() {
            PUBLIC_KEY => keys.push(decode(section)?),
            "RSA PUBLIC KEY" => return Err(PemFault::PublicKeyForm(section.line)),
            label if label.ends_with("PRIVATE KEY") => return Err(PemFault::PrivateKeyInside),
            label if label.ends_with(CERTIFICATE) => return Err(PemFault::CertificateInside),
            _ => {}
        }
    }
    if keys.is_empty() {
        return Err(PemFault::NoPublicKey);
    }
    Ok(keys)
}

/// Whether a file, valid or not, seems to contain a private key.
pub fn has_private_key(pem: &[u8]) -> bool {
    let marker = b"PRIVATE KEY-----";
    pem.windows(marker.len()).any(|window| window == marker)
}

/// The beginning of a PEM file that was encoded in Base64 once more, as container platforms do with files.
pub const BASE64_BEGIN: &str = "LS0tLS1CRUdJTi";

/// Whether a path is really the content of a PEM file.
pub fn is_in_place_of_path(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains("-----BEGIN ") || text.trim_start().starts_with(BASE64_BEGIN)
}

fn private_key(section: &Section) -> Result<PrivateKeyDer<'static>, PemFault> {
    let kind = SectionKind::try_from(section.label.as_bytes());
    let der = decode(section)?;
    kind.ok()
        .and_then(|kind| PrivateKeyDer::from_pem(kind, der))
        .ok_or(PemFault::Base64(section.line))
}

/// The bytes of a section whose label `rustls` knows.
fn decode(section: &Section) -> Result<Vec<u8>, PemFault> {
    let Section {
        label, body, line, ..
    } = section;
    let pem = format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let decoded = <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes());
    // The error is not passed on, because it quotes the text.
    let (_, der) = decoded.map_err(|_| PemFault::Base64(*line))?;
    Ok(der)
}

#[cfg(test)]
mod tests;
