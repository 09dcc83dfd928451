//! Public keys in PEM form.
//!
//! Called when a file is read. The algorithm of a key follows from its kind: a token cannot choose another one.

use jsonwebtoken::{Algorithm, DecodingKey};

use super::KeyFileFault;
use super::key::{Key, KeyProblem};
use crate::der::{INTEGER, SEQUENCE, take};
use crate::pem;
use crate::tls::key::{KeyKind, public};

/// The keys of a PEM file.
pub(super) fn keys(pem: &[u8]) -> Result<Vec<Key>, KeyFileFault> {
    let sections = pem::public_keys(pem).map_err(KeyFileFault::Pem)?;
    sections.iter().map(|der| key(der)).collect()
}

fn key(der: &[u8]) -> Result<Key, KeyFileFault> {
    let damaged = KeyFileFault::Key(KeyProblem::Damaged);
    let (kind, bytes) = public(der).ok_or(damaged)?;
    let (algorithm, key) = match kind {
        KeyKind::Rsa(_) => (Algorithm::RS256, rsa(bytes)?),
        KeyKind::Curve("P-256") => (Algorithm::ES256, DecodingKey::from_ec_der(bytes)),
        KeyKind::Curve("Ed25519") => (Algorithm::EdDSA, DecodingKey::from_ed_der(bytes)),
        kind => return Err(KeyFileFault::Unsupported(kind)),
    };
    Key::new(algorithm, &key, None).map_err(KeyFileFault::Key)
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1): modulus and exponent.
fn rsa(der: &[u8]) -> Result<DecodingKey, KeyFileFault> {
    let parts = || {
        let (key, behind) = take(SEQUENCE, der)?;
        let (n, rest) = take(INTEGER, key)?;
        let (e, rest) = take(INTEGER, rest)?;
        (rest.is_empty() && behind.is_empty()).then_some((n, e))
    };
    let (n, e) = parts().ok_or(KeyFileFault::Key(KeyProblem::Damaged))?;
    Ok(DecodingKey::from_rsa_raw_components(n, e))
}
