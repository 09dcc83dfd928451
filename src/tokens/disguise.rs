//! Recognises public files that are no PEM and no JWKS: taken for a secret, everyone could sign with them.
//!
//! Called for a file that has no other form. Random secrets pass: the odds of a false alarm are one in millions.
//! Never shows a byte of a file.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::KeyFileFault as Fault;
use super::header::object;
use crate::der::{INTEGER, OBJECT_ID, SEQUENCE, take};

/// Base64 as files have it: with or without padding, and also if unused bits are set.
const LAX: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: [GeneralPurpose; 2] = [
    GeneralPurpose::new(&STANDARD, LAX),
    GeneralPurpose::new(&URL_SAFE, LAX),
];

/// The beginnings of public keys of OpenSSH.
const SSH: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "---- BEGIN SSH2"];
/// The base64 of a public key of OpenSSH, which may stand behind options or a host.
const SSH_BASE64: [&str; 3] = [
    "AAAAC3NzaC1lZDI1NTE5",
    "AAAAB3NzaC1yc2E",
    "AAAAE2VjZHNhLXNoYTI",
];

/// What is wrong with a file, if it is something public in another form.
pub(super) fn fault(content: &[u8]) -> Option<Fault> {
    if is_der(content) {
        return Some(Fault::Der);
    }
    let text = std::str::from_utf8(content).ok()?;
    let text = text.trim_start_matches('\u{feff}').trim_ascii();
    let begins_with = |beginning: &&str| text.starts_with(*beginning);
    if SSH.iter().any(begins_with) || SSH_BASE64.iter().any(|part| text.contains(part)) {
        return Some(Fault::OpenSsh);
    }
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return Some(Fault::Url);
    }
    if is_markup(text) {
        return Some(Fault::Markup);
    }
    if is_token(text) {
        return Some(Fault::Token);
    }
    let encoded: Vec<u8> = text
        .trim_matches(['"', '\''])
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let decoded = BASE64.iter().filter_map(|form| form.decode(&encoded).ok());
    for bytes in decoded.chain(hexadecimal(&encoded)) {
        if is_der(&bytes) {
            return Some(Fault::EncodedDer);
        }
        if is_json(&bytes) {
            return Some(Fault::EncodedJson);
        }
    }
    None
}

/// Whether bytes are a key or a certificate in DER form, whole or cut off: one sequence, whose first element is a
/// sequence or an integer; or the beginning of a public key or a certificate. Of random secrets, one of eight
/// million is.
fn is_der(bytes: &[u8]) -> bool {
    let is_whole = match take(SEQUENCE, bytes) {
        Some((inner, [])) => matches!(inner, [SEQUENCE | INTEGER, ..]),
        _ => false,
    };
    is_whole || begins_like_key(bytes).is_some()
}

/// Whether bytes begin like `SubjectPublicKeyInfo` or a certificate, whatever their lengths say.
fn begins_like_key(bytes: &[u8]) -> Option<()> {
    /// The version of a certificate.
    const VERSION: &[u8] = &[0xa0, 0x03, INTEGER, 0x01];
    let outer = content(SEQUENCE, bytes)?;
    let inner = content(SEQUENCE, outer)?;
    // The first identifiers of keys have 3 to 9 bytes.
    let is_identifier = matches!(inner, [OBJECT_ID, 3..=9, 0x2a | 0x2b, ..]);
    (is_identifier || inner.starts_with(VERSION)).then_some(())
}

/// What follows the tag and the length of an element, which may be longer than the bytes.
fn content(tag: u8, bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&[tag])?;
    let length_bytes = match rest.first()? {
        0..=0x7f => 0,
        0x81..=0x84 => usize::from(rest[0] & 0x7f),
        _ => return None,
    };
    rest.get(1 + length_bytes..)
}

fn is_markup(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('<')
        && chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || "?!/".contains(c))
}

/// Whether a text is a signed or encrypted token in compact form: its first part is an object.
fn is_token(text: &str) -> bool {
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let parts: Vec<&str> = text.split('.').collect();
    let decoded = |part: &&&str| BASE64[1].decode(part).ok();
    let header = parts.first().as_ref().and_then(decoded);
    parts.len() >= 3 && header.is_some_and(|header| object(&header).is_some())
}

fn is_json(bytes: &[u8]) -> bool {
    let json = object(bytes).map(serde_json::from_str::<serde::de::IgnoredAny>);
    json.is_some_and(|json| json.is_ok())
}

/// The bytes of hexadecimal digits.
fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8));
    bytes.collect()
}
