//! A token, as it is or signed: nothing passes that a plain reader would not accept, and what passes grants no more.
//!
//! The first byte says how the rest is used: `0` a token; `1` and `2` a header and claims, a line each, signed with
//! HS256 or with `EdDSA`.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hookcast::testkit::{TOKEN_SECRET, encode_token};
use hookcast::tokens::{Grant, PublishGrant, TokenKeys};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, Ed25519KeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::{Value, json};

const NOW_MS: u64 = 1_800_000_000_000;
const AUDIENCE: &str = "example";
/// The set of the server's own tests; the private keys are nowhere.
const SET: &[u8] = include_bytes!("../../../src/tokens/tests/vectors/set.json");

static ED25519_PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed"));

static SET_OF_ALL: LazyLock<Value> = LazyLock::new(|| {
    let mut set: Value = serde_json::from_slice(SET).expect("the set is JSON");
    let keys = set["keys"].as_array_mut().expect("the set is a list");
    let x = URL_SAFE_NO_PAD.encode(ED25519_PAIR.public_key().as_ref());
    keys.push(json!({"kty": "OKP", "crv": "Ed25519", "x": x}));
    keys.push(json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(TOKEN_SECRET)}));
    set
});

static KEYS: LazyLock<TokenKeys> = LazyLock::new(|| {
    let set = SET_OF_ALL.to_string();
    match TokenKeys::parse(set.as_bytes(), Some(AUDIENCE)) {
        Ok(keys) => keys,
        Err(fault) => panic!("{fault}"),
    }
});

pub fn run(bytes: &[u8]) {
    let Some((&mode, rest)) = bytes.split_first() else {
        return;
    };
    let is_signed = mode % 3 != 0;
    let token = match mode % 3 {
        0 => rest.to_vec(),
        1 => signed(rest, |message| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN_SECRET);
            hmac::sign(&key, message).as_ref().to_vec()
        }),
        _ => signed(rest, |message| ED25519_PAIR.sign(message).as_ref().to_vec()),
    };
    if is_deep(&token) {
        return;
    }
    let plain = read(&token);
    match KEYS.verify(&token, NOW_MS) {
        Ok(grant) => {
            let claims = plain.expect("a plain reader accepts the signature");
            check(&grant, &claims);
            assert!(KEYS.has(grant.key));
        }
        Err(fault) => {
            assert!(!fault.text().is_empty());
            // The plain reader verifies before it reads the claims, and knows no extension.
            if plain.is_none() && !is_signed && !token.is_empty() {
                assert!(fault.is_guess(), "{fault:?} without a signature");
            }
        }
    }
}

fn signed(rest: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8_lossy(rest);
    let (header, claims) = text.split_once('\n').unwrap_or((&text, ""));
    encode_token(header, claims, sign).into_bytes()
}

/// The plain reader gives up on deep nesting, which the server's does not read.
fn is_deep(token: &[u8]) -> bool {
    let parts = token.split(|byte| *byte == b'.').filter_map(decode);
    let opened = parts.flatten().filter(|byte| b"[{".contains(byte));
    opened.count() > 100
}

/// The claims of a token whose signature is right: those that cannot be read are null.
fn read(token: &[u8]) -> Option<Value> {
    let parts: Vec<&[u8]> = token.split(|byte| *byte == b'.').collect();
    let [header, payload, signature] = parts[..] else {
        return None;
    };
    let header: Value = serde_json::from_slice(&decode(header)?).ok()?;
    let alg = header.as_object()?.get("alg")?.as_str()?;
    if token.len() > hookcast::limits::TOKEN_BYTES_MAX
        || header.get("crit").is_some()
        || header.get("b64").is_some()
    {
        return None;
    }
    let signature = decode(signature)?;
    let message = &token[..token.len() - parts[2].len() - 1];
    let keys = SET_OF_ALL["keys"].as_array()?;
    if !keys
        .iter()
        .any(|key| verifies(key, alg, message, &signature))
    {
        return None;
    }
    let claims = decode(payload).unwrap_or_default();
    Some(serde_json::from_slice(&claims).unwrap_or(Value::Null))
}

fn verifies(key: &Value, alg: &str, message: &[u8], signature: &[u8]) -> bool {
    let member = |name: &str| decode(key[name].as_str().unwrap_or_default().as_bytes());
    let member = |name: &str| member(name).unwrap_or_default();
    match (key["kty"].as_str(), alg) {
        (Some("oct"), "HS256") => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &member("k"));
            hmac::verify(&key, message, signature).is_ok()
        }
        (Some("OKP"), "EdDSA" | "Ed25519") => {
            let key = UnparsedPublicKey::new(&ED25519, member("x"));
            key.verify(message, signature).is_ok()
        }
        (Some("EC"), "ES256") => {
            let point = [&[4][..], &member("x"), &member("y")].concat();
            let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
            key.verify(message, signature).is_ok()
        }
        (Some("RSA"), "RS256") => {
            let (n, e) = (member("n"), member("e"));
            let key = RsaPublicKeyComponents { n, e };
            let verified = key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature);
            verified.is_ok()
        }
        _ => false,
    }
}

/// Base64url by its definition (RFC 4648 section 5), without padding and with zeros in the unused bits.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (count < 6 && bits == 0).then_some(bytes)
}

/// The grant is what the claims say, by a plain reading of them.
fn check(grant: &Grant, claims: &Value) {
    let exp = claims["exp"].as_f64().expect("a token has an end");
    assert!(grant.expires_ms > NOW_MS);
    #[expect(clippy::cast_precision_loss, reason = "times are far below 2^53")]
    let difference = grant.expires_ms as f64 - exp * 1000.0;
    assert!(difference.abs() <= 1.0, "{difference} ms");
    if let Some(nbf) = claims["nbf"].as_f64() {
        assert!(nbf <= 1_800_000_060.0);
    }
    match &claims["aud"] {
        Value::String(aud) => assert_eq!(aud, AUDIENCE),
        Value::Array(list) => assert!(list.contains(&json!(AUDIENCE))),
        other => panic!("aud is {other}"),
    }
    let rights = &claims["hookcast"];
    let is_named = |list: &Value, name: &str| {
        let list = list.as_array();
        list.is_some_and(|list| list.contains(&json!(name)))
    };
    assert_eq!(grant.everything, rights["everything"] == json!(true));
    for session in &grant.sessions {
        assert!(is_named(&rights["sessions"], session.as_str()));
    }
    match &grant.publish {
        PublishGrant::Nothing => assert!(!rights["publish"].is_array()),
        PublishGrant::Everything => assert_eq!(rights["publish"], json!(true)),
        PublishGrant::Sessions(sessions) => {
            for session in sessions {
                assert!(is_named(&rights["publish"], session.as_str()));
            }
        }
    }
}
