//! The cryptography of tokens: verifiers of `jsonwebtoken` over `ring`.
//!
//! Called when a key is read: a verifier is made once, and serves all tokens. Never signs.

use jsonwebtoken::crypto::JwtVerifier;
use jsonwebtoken::signature::{Error, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

/// A verifier of one key.
pub(super) type KeyVerifier = Box<dyn JwtVerifier + Send + Sync>;

/// The verifier of a key for one algorithm. Nothing if the two do not fit together.
pub(super) fn verifier(algorithm: Algorithm, key: &DecodingKey) -> Option<KeyVerifier> {
    if algorithm.family() != key.family() {
        return None;
    }
    match (algorithm, key.kind()) {
        (Algorithm::HS256, DecodingKeyKind::SecretOrDer(secret)) => {
            Some(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret))))
        }
        (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) => {
            Some(Public::boxed(algorithm, &ECDSA_P256_SHA256_FIXED, point))
        }
        (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) => {
            Some(Public::boxed(algorithm, &ED25519, point))
        }
        (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            // ring takes no zeros at the beginning, which some issuers write.
            let (n, e) = (without_zeros(n).to_vec(), without_zeros(e).to_vec());
            Some(Box::new(Rs256(RsaPublicKeyComponents { n, e })))
        }
        _ => None,
    }
}

/// A number without zeros at its beginning.
pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn verdict<E>(result: Result<(), E>) -> Result<(), Error> {
    result.map_err(|_| Error::new())
}

struct Hs256(hmac::Key);

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        verdict(hmac::verify(&self.0, message, signature))
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// A key that is a point on a curve.
struct Public {
    algorithm: Algorithm,
    key: UnparsedPublicKey<Vec<u8>>,
}

impl Public {
    fn boxed(
        algorithm: Algorithm,
        verification: &'static dyn VerificationAlgorithm,
        point: &[u8],
    ) -> KeyVerifier {
        let key = UnparsedPublicKey::new(verification, point.to_vec());
        Box::new(Public { algorithm, key })
    }
}

impl Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        verdict(self.key.verify(message, signature))
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct Rs256(RsaPublicKeyComponents<Vec<u8>>);

impl Verifier<Vec<u8>> for Rs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        verdict(
            self.0
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
        )
    }
}

impl JwtVerifier for Rs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::RS256
    }
}
