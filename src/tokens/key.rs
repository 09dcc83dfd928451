//! One key of tokens: checked, with its verifier made once.
//!
//! Called when a file is read, and for each token. Never shows a byte of a key.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey};
use ring::digest::{Context, SHA256};
use ring::rand::SystemRandom;

use super::KeyMark;
use super::provider::{KeyVerifier, verifier, without_zeros};
use crate::limits::{TOKEN_RSA_BITS_MAX, TOKEN_RSA_BITS_MIN, TOKEN_SECRET_BYTES_MIN};

/// A key for one algorithm.
pub(super) struct Key {
    pub algorithm: Algorithm,
    /// The name by which tokens refer to it, if it has one.
    pub kid: Option<Box<str>>,
    pub mark: KeyMark,
    verifier: KeyVerifier,
}

/// Why a key cannot be used. Its text continues a sentence that begins with the name of a file or a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyProblem {
    /// A secret of so many bytes.
    ShortSecret(usize),
    /// An RSA key of so many bits.
    RsaBits(usize),
    /// An RSA key with an exponent that no signature should have.
    RsaExponent,
    /// A key whose bytes are none of its kind.
    Damaged,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyProblem::ShortSecret(bytes) => write!(
                f,
                "is an HS256 secret of {bytes} bytes; it needs {TOKEN_SECRET_BYTES_MIN}: openssl rand -base64 32"
            ),
            KeyProblem::RsaBits(bits) => write!(
                f,
                "is an RSA key of {bits} bits; {TOKEN_RSA_BITS_MIN} to {TOKEN_RSA_BITS_MAX} are supported"
            ),
            KeyProblem::RsaExponent => f.write_str("is an RSA key with an unsafe exponent"),
            KeyProblem::Damaged => f.write_str("is damaged: its parts are no key of its kind"),
        }
    }
}

/// The length of an uncompressed point of P-256: a tag and two coordinates.
const P256_POINT_BYTES: usize = 65;
const ED25519_KEY_BYTES: usize = 32;

impl Key {
    /// Checks a key, and makes its verifier.
    pub fn new(
        algorithm: Algorithm,
        key: &DecodingKey,
        kid: Option<&str>,
    ) -> Result<Key, KeyProblem> {
        let mark = check(algorithm, key)?;
        Ok(Key {
            algorithm,
            kid: kid.map(Box::from),
            mark,
            verifier: verifier(algorithm, key).ok_or(KeyProblem::Damaged)?,
        })
    }

    /// The key of a secret.
    pub fn secret(secret: &[u8]) -> Result<Key, KeyProblem> {
        let key = DecodingKey::from_secret(secret).map_err(|_| KeyProblem::ShortSecret(0))?;
        Key::new(Algorithm::HS256, &key, None)
    }

    /// Whether `alg` of a token is the algorithm of this key.
    pub fn is_for(&self, alg: &str) -> bool {
        names(self.algorithm).contains(&alg)
    }

    /// Whether a token that names this `kid` may be signed with this key.
    pub fn may_be(&self, kid: &str) -> bool {
        self.kid.as_deref().is_none_or(|own| own == kid)
    }

    /// Whether this key has made the signature of a message.
    pub fn has_signed(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        self.verifier.verify(message, signature).is_ok()
    }
}

/// The names of an algorithm. RFC 9864 has given `EdDSA` with Ed25519 a second one.
pub(super) fn names(algorithm: Algorithm) -> &'static [&'static str] {
    match algorithm {
        Algorithm::HS256 => &["HS256"],
        Algorithm::RS256 => &["RS256"],
        Algorithm::ES256 => &["ES256"],
        Algorithm::EdDSA => &["EdDSA", "Ed25519"],
        _ => &[],
    }
}

fn check(algorithm: Algorithm, key: &DecodingKey) -> Result<KeyMark, KeyProblem> {
    match (algorithm, key.kind()) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
            if secret.len() < TOKEN_SECRET_BYTES_MIN {
                return Err(KeyProblem::ShortSecret(secret.len()));
            }
            Ok(mark(algorithm, &[secret]))
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) if is_on_p256(point) => {
            Ok(mark(algorithm, &[point]))
        }
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point))
            if point.len() == ED25519_KEY_BYTES && !is_small(point) =>
        {
            Ok(mark(algorithm, &[point]))
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let bits = bits(n);
            if !(TOKEN_RSA_BITS_MIN..=TOKEN_RSA_BITS_MAX).contains(&bits) {
                return Err(KeyProblem::RsaBits(bits));
            }
            // ring refuses the same exponents, but only when it verifies.
            let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
            if !is_odd(e) || !(2..=33).contains(&self::bits(e)) {
                return Err(KeyProblem::RsaExponent);
            }
            if !is_odd(n) {
                return Err(KeyProblem::Damaged);
            }
            Ok(mark(algorithm, &[n, e]))
        }
        _ => Err(KeyProblem::Damaged),
    }
}

/// The bits of a number, without zeros at its beginning.
fn bits(number: &[u8]) -> usize {
    let number = without_zeros(number);
    let zeros = number.first().map_or(0, |byte| byte.leading_zeros());
    8 * number.len() - zeros as usize
}

/// Whether bytes are a point of the curve. Key agreement is the only public way to ask ring.
fn is_on_p256(point: &[u8]) -> bool {
    if point.len() != P256_POINT_BYTES {
        return false;
    }
    let Ok(own) = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()) else {
        return false;
    };
    let peer = agreement::UnparsedPublicKey::new(&ECDH_P256, point);
    agreement::agree_ephemeral(own, &peer, |_| ()).is_ok()
}

/// Whether an Ed25519 key is a point of small order: zeros, a one, and their like. For those a signature can be made without a private key.
fn is_small(point: &[u8]) -> bool {
    let mut y = point.to_vec();
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    SMALL_POINTS.iter().any(|small| *small == y.as_slice())
}

/// The y coordinates of the points whose order divides 8, as they can be encoded: 0, 1, p-1, p, p+1, and two of
/// order 8.
const SMALL_POINTS: [[u8; 32]; 7] = [
    [0; 32],
    with_ends(1, 0, 0),
    with_ends(0xec, 0xff, 0x7f),
    with_ends(0xed, 0xff, 0x7f),
    with_ends(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

const fn with_ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

/// The mark of a key: equal for equal keys, whatever file they are in.
fn mark(algorithm: Algorithm, parts: &[&[u8]]) -> KeyMark {
    let mut context = Context::new(&SHA256);
    context.update(names(algorithm).concat().as_bytes());
    for part in parts {
        // A secret is bytes, not a number, so its zeros count.
        let part = match algorithm {
            Algorithm::RS256 => without_zeros(part),
            _ => part,
        };
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    KeyMark(u64::from_le_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_a_number_are_counted_without_its_zeros() {
        for (number, expected) in [
            (&[][..], 0),
            (&[0, 0], 0),
            (&[1], 1),
            (&[0, 3], 2),
            (&[1, 0, 1], 17),
            (&[0xff; 256], 2048),
        ] {
            assert_eq!(bits(number), expected, "{number:?}");
        }
    }

    #[test]
    fn marks_of_equal_keys_are_equal() {
        let of = |secret: &[u8]| Key::secret(secret).unwrap().mark;
        assert_eq!(of(&[7; 32]), of(&[7; 32]));
        assert_ne!(of(&[7; 32]), of(&[8; 32]));
        assert_ne!(of(&[0; 32]), of(&[0; 33]), "zeros of a secret count");
        let rsa = |n: &[u8]| {
            let key = DecodingKey::from_rsa_raw_components(n, &[1, 0, 1]);
            Key::new(Algorithm::RS256, &key, None).unwrap().mark
        };
        let n = [0xff; 256];
        assert_eq!(rsa(&n), rsa(&[&[0][..], &n].concat()));
    }

    #[test]
    fn points_of_small_order_are_no_keys() {
        for small in SMALL_POINTS {
            for sign in [0, 0x80] {
                let mut point = small;
                point[31] |= sign;
                let key = DecodingKey::from_ed_der(&point);
                let problem = Key::new(Algorithm::EdDSA, &key, None).err();
                assert_eq!(problem, Some(KeyProblem::Damaged));
            }
        }
    }
}
