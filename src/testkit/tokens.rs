//! Signed tokens for tests, without the code that verifies them.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use crate::tokens::TokenKeys;

/// A secret for HS256.
pub const TOKEN_SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Keys of [`TOKEN_SECRET`], without an audience.
pub fn token_keys() -> Arc<TokenKeys> {
    match TokenKeys::parse(TOKEN_SECRET, None) {
        Ok(keys) => Arc::new(keys),
        Err(fault) => panic!("{fault}"),
    }
}

/// A token with these claims, as JSON, signed with [`TOKEN_SECRET`].
pub fn sign_token(claims: &str) -> String {
    sign_token_with(TOKEN_SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, claims)
}

/// A token with any header and claims, signed with a secret for HS256.
pub fn sign_token_with(secret: &[u8], header: &str, claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    encode_token(header, claims, |message| {
        hmac::sign(&key, message).as_ref().to_vec()
    })
}

/// A token with any header, claims and signature.
pub fn encode_token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes())
    );
    let signature = encode(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}
