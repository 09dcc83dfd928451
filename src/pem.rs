//! PEM files (RFC 7468): what is in them, and what is wrong with them, in words.
//!
//! Used by `tls` for listeners, by `client` and `config` for authorities. The parser of `rustls`
//! decodes each section; what it passes over or shows as numbers is found here first: sections that
//! were joined, line breaks that were lost, keys with a passphrase. A fault never holds a byte of the
//! file, which may be a key. Never opens a file.

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
/// The three forms of a private key: PKCS #8, PKCS #1 and SEC 1.
const PRIVATE_KEYS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// All certificates of a file, at least one. Sections of other kinds are passed over, unless they
/// hold certificates in another form.
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

/// All certificates of a file, each of which can be read. What it is good for is not looked at.
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

/// All certificates of a list of authorities, of which one at least can be read: an old list may hold
/// some that are of no use any more.
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
        true if has("PUBLIC KEY") => Err(PemFault::PublicKeyAlone),
        true if has(CERTIFICATE) => Err(PemFault::CertificateAlone),
        true => Err(PemFault::NoPrivateKey),
    }
}

/// Whether a file, whatever else is wrong with it, seems to hold a private key.
pub fn has_private_key(pem: &[u8]) -> bool {
    let marker = b"PRIVATE KEY-----";
    pem.windows(marker.len()).any(|window| window == marker)
}

/// How a PEM file begins when it is encoded in Base64 once more, as containers are handed files.
pub const BASE64_BEGIN: &str = "LS0tLS1CRUdJTi";

/// Whether a text is PEM itself where the path of a file is expected.
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
    // The error quotes what it does not understand.
    let (_, der) = decoded.map_err(|_| PemFault::Base64(*line))?;
    Ok(der)
}

#[cfg(test)]
mod tests;
