//! The kind of a key, for the error text of a key that cannot be used.
//!
//! Called by the parent module for private keys, and by `tokens` for public ones. Reads the part of the DER (X.690) that names the algorithm, not the key
//! itself. Never decides whether a key is accepted: `rustls` does.

use std::fmt;

use rustls::pki_types::PrivateKeyDer;

use crate::der::{BIT_STRING, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE, take};

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, with the bits of its modulus.
    Rsa(usize),
    /// RSA only for PSS.
    RsaPss,
    /// An elliptic curve with this name.
    Curve(&'static str),
    /// An elliptic curve whose name is unknown here.
    OtherCurve,
    /// Another algorithm.
    Other,
    /// Not a key that can be parsed.
    Damaged,
}

impl KeyKind {
    /// Whether rustls with ring supports keys of this kind.
    pub fn is_supported(self) -> bool {
        match self {
            KeyKind::Rsa(bits) => (2048..=4096).contains(&bits),
            KeyKind::Curve(name) => ["P-256", "P-384", "Ed25519"].contains(&name),
            _ => false,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyKind::Rsa(bits) => write!(f, "an RSA key of {bits} bits"),
            KeyKind::RsaPss => f.write_str("an RSA-PSS key"),
            KeyKind::Curve(name) => write!(f, "a key on the curve {name}"),
            KeyKind::OtherCurve => f.write_str("a key on another elliptic curve"),
            KeyKind::Other => f.write_str("a key of another algorithm"),
            KeyKind::Damaged => f.write_str("damaged, or not a private key"),
        }
    }
}

/// The tag of the curve in a SEC 1 key (RFC 5915).
const CURVE: u8 = 0xa0;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// The names of algorithms (RFC 8410) and of curves (RFC 5480).
const NAMES: [(&[u8], &str); 8] = [
    (&[0x2b, 101, 112], "Ed25519"),
    (&[0x2b, 101, 113], "Ed448"),
    (&[0x2b, 101, 110], "X25519"),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], "P-256"),
    (&[0x2b, 0x81, 4, 0, 34], "P-384"),
    (&[0x2b, 0x81, 4, 0, 35], "P-521"),
    (&[0x2b, 0x81, 4, 0, 10], "secp256k1"),
    (&[0x2b, 0x81, 4, 0, 33], "P-224"),
];

/// The kind of a key.
pub fn kind(key: &PrivateKeyDer<'_>) -> KeyKind {
    let kind = match key {
        PrivateKeyDer::Pkcs1(der) => rsa(der.secret_pkcs1_der()),
        PrivateKeyDer::Sec1(der) => sec1(der.secret_sec1_der()),
        PrivateKeyDer::Pkcs8(der) => pkcs8(der.secret_pkcs8_der()),
        _ => Some(KeyKind::Other),
    };
    kind.unwrap_or(KeyKind::Damaged)
}

/// `SubjectPublicKeyInfo` (RFC 5280 section 4.1): algorithm with parameters, key. Returns also the bytes of the
/// key, in the form of its algorithm.
pub fn public(der: &[u8]) -> Option<(KeyKind, &[u8])> {
    let (info, behind) = take(SEQUENCE, der)?;
    let (algorithm, rest) = take(SEQUENCE, info)?;
    let (id, parameters) = take(OBJECT_ID, algorithm)?;
    let (bits, rest) = take(BIT_STRING, rest)?;
    let (&unused_bits, key) = bits.split_first()?;
    if unused_bits != 0 || !rest.is_empty() || !behind.is_empty() {
        return None;
    }
    let kind = match id {
        RSA => KeyKind::Rsa(modulus_bits(take(SEQUENCE, key)?.0)?),
        RSA_PSS => KeyKind::RsaPss,
        EC => curve(parameters),
        id => name(id).map_or(KeyKind::Other, KeyKind::Curve),
    };
    Some((kind, key))
}

/// `PrivateKeyInfo` (RFC 5208 section 5): version, algorithm with parameters, key.
fn pkcs8(der: &[u8]) -> Option<KeyKind> {
    let (info, _) = take(SEQUENCE, der)?;
    let (_version, rest) = take(INTEGER, info)?;
    let (algorithm, rest) = take(SEQUENCE, rest)?;
    let (id, parameters) = take(OBJECT_ID, algorithm)?;
    let (key, _) = take(OCTET_STRING, rest)?;
    match id {
        RSA => rsa(key),
        RSA_PSS => Some(KeyKind::RsaPss),
        EC => Some(curve(parameters)),
        id => Some(name(id).map_or(KeyKind::Other, KeyKind::Curve)),
    }
}

/// `RSAPrivateKey` (RFC 8017 appendix A.1.2): version, modulus, other fields.
fn rsa(der: &[u8]) -> Option<KeyKind> {
    let (key, _) = take(SEQUENCE, der)?;
    let (_version, rest) = take(INTEGER, key)?;
    modulus_bits(rest).map(KeyKind::Rsa)
}

/// The length of a modulus, which is the first element.
fn modulus_bits(der: &[u8]) -> Option<usize> {
    let (modulus, _) = take(INTEGER, der)?;
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let first = modulus.get(zeros)?;
    Some(8 * (modulus.len() - zeros) - first.leading_zeros() as usize)
}

/// `ECPrivateKey` (RFC 5915 section 3): version, key, curve.
fn sec1(der: &[u8]) -> Option<KeyKind> {
    let (info, _) = take(SEQUENCE, der)?;
    let (_version, rest) = take(INTEGER, info)?;
    let (_key, rest) = take(OCTET_STRING, rest)?;
    Some(take(CURVE, rest).map_or(KeyKind::OtherCurve, |(parameters, _)| curve(parameters)))
}

fn curve(parameters: &[u8]) -> KeyKind {
    let id = take(OBJECT_ID, parameters).map(|(id, _)| id);
    id.and_then(name)
        .map_or(KeyKind::OtherCurve, KeyKind::Curve)
}

fn name(id: &[u8]) -> Option<&'static str> {
    NAMES
        .iter()
        .find(|(other, _)| *other == id)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};

    use super::*;

    fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = (content.len() as u16).to_be_bytes();
        [&[tag, 0x82], &length[..], &content].concat()
    }

    fn rsa_key(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= modulus.len() * 8 - bits;
        let modulus = [&[0], &modulus[..]].concat();
        element(
            SEQUENCE,
            &[&element(INTEGER, &[&[0]]), &element(INTEGER, &[&modulus])],
        )
    }

    fn pkcs8_key(id: &[u8], parameters: &[u8], key: &[u8]) -> PrivateKeyDer<'static> {
        let algorithm = element(SEQUENCE, &[&element(OBJECT_ID, &[id]), parameters]);
        let version = element(INTEGER, &[&[0]]);
        let der = element(
            SEQUENCE,
            &[&version, &algorithm, &element(OCTET_STRING, &[key])],
        );
        PrivatePkcs8KeyDer::from(der).into()
    }

    #[test]
    fn a_key_of_each_kind_is_named() {
        let p521 = element(OBJECT_ID, &[&[0x2b, 0x81, 4, 0, 35]]);
        let sec1 = |curve: &[u8]| {
            let parts = [
                &element(INTEGER, &[&[1]])[..],
                &element(OCTET_STRING, &[b"k"]),
                curve,
            ];
            PrivateKeyDer::from(PrivateSec1KeyDer::from(element(SEQUENCE, &parts)))
        };
        for (key, expected) in [
            (
                pkcs8_key(RSA, &[5, 0], &rsa_key(1024)),
                "an RSA key of 1024 bits",
            ),
            (
                PrivatePkcs1KeyDer::from(rsa_key(1023)).into(),
                "an RSA key of 1023 bits",
            ),
            (pkcs8_key(RSA_PSS, &[], b""), "an RSA-PSS key"),
            (pkcs8_key(EC, &p521, b""), "a key on the curve P-521"),
            (sec1(&element(CURVE, &[&p521])), "a key on the curve P-521"),
            (sec1(&[]), "a key on another elliptic curve"),
            (
                pkcs8_key(&[0x2b, 101, 113], &[], b""),
                "a key on the curve Ed448",
            ),
            (pkcs8_key(&[1], &[], b""), "a key of another algorithm"),
            (pkcs8_key(RSA, &[], b""), "damaged, or not a private key"),
        ] {
            assert_eq!(kind(&key).to_string(), expected);
        }
    }

    #[test]
    fn truncated_and_malformed_keys_are_damaged() {
        let whole = pkcs8_key(RSA, &[5, 0], &rsa_key(2048));
        let whole = whole.secret_der();
        for length in 0..whole.len() {
            let cut = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(&whole[..length]));
            assert_eq!(kind(&cut), KeyKind::Damaged, "{length}");
        }
        for byte in 0..=255 {
            let der = [SEQUENCE, byte, 0xff, 0xff, 0xff, 0xff, 0xff];
            assert_eq!(
                kind(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(&der[..]))),
                KeyKind::Damaged
            );
        }
    }
}
