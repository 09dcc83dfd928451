//! Keys in JSON form (RFC 7517): a set, or one key alone.
//!
//! Called when a file is read. Keys of other kinds and for other purposes are skipped with a note: an issuer's set
//! has keys for everyone. Never shows a member of a key.

use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::KeyFileFault;
use super::key::{Key, names};

/// Members that only a private key has (RFC 7518 section 6; RFC 8037 section 2).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// The keys of a set that can be used, and a note for each other one.
pub(super) fn keys(json: &[u8]) -> Result<(Vec<Key>, Vec<String>), KeyFileFault> {
    let set: Value = serde_json::from_slice(json).map_err(|error| KeyFileFault::Json {
        line: error.line(),
        column: error.column(),
    })?;
    let entries = match set {
        Value::Object(mut set) if set.contains_key("keys") => match set.remove("keys") {
            Some(Value::Array(entries)) => entries,
            _ => return Err(KeyFileFault::NoSet),
        },
        Value::Object(key) if key.contains_key("kty") => vec![Value::Object(key)],
        _ => return Err(KeyFileFault::NoSet),
    };
    let mut keys = Vec::new();
    let mut notes = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let place = index + 1;
        if PRIVATE.iter().any(|member| entry.get(member).is_some()) {
            return Err(KeyFileFault::PrivateKey(place));
        }
        match key(entry) {
            Ok(key) => keys.push(key),
            Err(why) => notes.push(format!("key {place} of the set is skipped: it {why}")),
        }
    }
    if keys.is_empty() {
        return Err(KeyFileFault::NoUsableKey(notes.into_iter().next()));
    }
    Ok((keys, notes))
}

/// One key, or why it is skipped.
fn key(mut entry: Value) -> Result<Key, String> {
    let unsupported = "is of a kind that is not supported";
    let is = |member: &str, value: &str| entry.get(member).is_some_and(|own| own == value);
    // RFC 9864 has given `EdDSA` with Ed25519 a second name, which the parser of keys does not know.
    if is("alg", "Ed25519") && is("crv", "Ed25519") {
        entry["alg"] = "EdDSA".into();
    }
    let jwk: Jwk = serde_json::from_value(entry).map_err(|_| "is no key in JSON form")?;
    let common = &jwk.common;
    let is_other_use = |purpose: &PublicKeyUse| *purpose != PublicKeyUse::Signature;
    if common.public_key_use.as_ref().is_some_and(is_other_use) {
        return Err("is not for signatures (use)".to_owned());
    }
    let operations = common.key_operations.as_ref();
    if operations.is_some_and(|list| !list.contains(&KeyOperations::Verify)) {
        return Err("is not for verifying (key_ops)".to_owned());
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => Algorithm::HS256,
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return Err(unsupported.to_owned()),
    };
    if common
        .key_algorithm
        .is_some_and(|own| own != KeyAlgorithm::from(algorithm))
    {
        let [name, ..] = names(algorithm) else {
            return Err(unsupported.to_owned());
        };
        return Err(format!(
            "has another alg than {name}, which its kind is used for here"
        ));
    }
    let decoded = DecodingKey::from_jwk(&jwk).map_err(|_| "has a member that is no base64url")?;
    Key::new(algorithm, &decoded, common.key_id.as_deref()).map_err(|problem| problem.to_string())
}
