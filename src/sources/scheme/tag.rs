//! Tags: their encodings, and their comparison in constant time.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use subtle::{Choice, ConstantTimeEq};

use super::key::Key;

/// How a tag is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits, of either case.
    Hex,
    /// Base64 with its padding.
    Base64,
}

impl Encoding {
    /// The bytes of a text; `None` if it is not in this encoding.
    pub fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Encoding::Hex => decode_hex(text),
            Encoding::Base64 => decode_base64(text),
        }
    }

    /// Its name in the operator's file.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Hex => "hex",
            Encoding::Base64 => "base64",
        }
    }
}

/// Strict: other characters, missing padding and bits beyond the last byte are refused. Lenient decoders
/// have made empty keys of wrong ones.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(super) fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2)
        .map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8))
        .collect()
}

/// The index of the first key with which one of `tags` is the keyed hash of `parts`. The comparisons take
/// the same time wherever a tag differs.
pub(super) fn key_that_fits(keys: &[Key], parts: &[&[u8]], tags: &[Vec<u8>]) -> Option<usize> {
    keys.iter().position(|key| {
        let Some(key) = key.mac() else { return false };
        let mut context = hmac::Context::with_key(key);
        for part in parts {
            context.update(part);
        }
        let computed = context.sign();
        let fits = tags.iter().fold(Choice::from(0), |fits, tag| {
            fits | tag.as_slice().ct_eq(computed.as_ref())
        });
        fits.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_have_either_case_and_come_in_pairs() {
        assert_eq!(decode_hex(b"00fFA9"), Some(vec![0, 255, 0xa9]));
        assert_eq!(decode_hex(b""), Some(vec![]));
        for text in ["0", "0g", "+1", " 1", "0x", "é"] {
            assert_eq!(decode_hex(text.as_bytes()), None, "{text}");
        }
    }
}
