//! The parts of a token, and its header (RFC 7515 section 4).
//!
//! Called before a signature is verified, so every byte may be an attacker's. Never follows an address or uses a
//! key that the header contains: `jku`, `jwk`, `x5u` and `x5c` are not read.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::TokenFault;
use crate::limits::TOKEN_BYTES_MAX;

/// A token, split at its dots.
pub(super) struct Parts<'a> {
    /// The first part.
    pub header: &'a [u8],
    /// The second part.
    pub payload: &'a [u8],
    /// What is signed: the first two parts with their dot.
    pub message: &'a [u8],
    /// The last part.
    pub signature: &'a [u8],
}

impl<'a> Parts<'a> {
    pub fn split(token: &'a [u8]) -> Result<Parts<'a>, TokenFault> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenFault::TooLong);
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(TokenFault::Malformed);
        };
        Ok(Parts {
            header: &token[..first],
            payload: &token[first + 1..second],
            message: &token[..second],
            signature: &token[second + 1..],
        })
    }
}

/// Decodes base64url without padding. Other forms of the same bytes are refused: white space, padding, unused bits
/// that are set.
pub(super) fn decode(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// The text of a JSON object. The derived readers would take an array, too, as its members in order.
pub(super) fn object(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    text.trim_ascii_start().starts_with('{').then_some(text)
}

/// Reads an optional member. Unlike a plain `Option`, it takes no `null`.
pub(super) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// What is read of a header. A member that is there twice is refused by the derived reader.
#[derive(Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    /// Whether the payload is encoded (RFC 7797), which only `crit` may change.
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
}

impl<'a> Header<'a> {
    /// Reads a decoded header.
    pub fn parse(bytes: &'a [u8]) -> Result<Header<'a>, TokenFault> {
        let text = object(bytes).ok_or(TokenFault::Malformed)?;
        let header: Header = serde_json::from_str(text).map_err(|_| TokenFault::Malformed)?;
        if header.alg.eq_ignore_ascii_case("none") {
            return Err(TokenFault::Unsigned);
        }
        if header.crit.is_some() || header.b64.is_some() {
            return Err(TokenFault::Critical);
        }
        Ok(header)
    }
}
