//! Secrets, as the operator's files hold them.
//!
//! A secret is checked when its file is read: a short, empty or wrongly decoded one would let forged
//! requests pass. Never shown, not even its length in a log.

use std::fmt;

use ring::{digest, hmac};

use crate::limits::{SENT_SECRET_BYTES_MIN, SIGNING_SECRET_BYTES_MIN};

use super::hmac::Algorithm;
use super::tag::{decode_base64, decode_hex};

/// One secret of a source, decoded as its scheme wants.
pub struct Key(pub(super) Secret);

pub(super) enum Secret {
    /// It signs.
    Mac(hmac::Key),
    /// It verifies Ed25519 signatures.
    Public([u8; 32]),
    /// It is sent. Only its digest is kept: digests have one length, so comparing them shows none.
    Sent([u8; 32]),
}

/// How a secret is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// Its own bytes.
    Text,
    /// Base64.
    Base64,
    /// Hexadecimal digits.
    Hex,
    /// `whsec_` and base64 of a key that signs, or `whpk_` and base64 of a public key.
    Standard,
    /// A public key of 32 bytes, in hexadecimal digits.
    PublicHex,
    /// Like `Standard` with `whsec_`; any other text is sent.
    Gitlab,
    /// Its own bytes, which are sent.
    Sent,
}

/// Why a text is no secret of a scheme. Says what is wrong, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing, or a newline alone.
    Empty,
    /// White space at one of its ends, or a second line.
    WhiteSpace,
    /// It can be guessed.
    Short {
        /// Its decoded length.
        bytes: usize,
        /// The shortest that is accepted.
        bytes_min: usize,
    },
    /// It has to be base64, with its padding, and without other characters.
    NotBase64,
    /// It has to be hexadecimal digits.
    NotHex,
    /// It has to be a public key of 32 bytes.
    NotPublicKey {
        /// Its decoded length.
        bytes: usize,
    },
    /// `whsk_`: the private half of a key pair, which only the sender needs.
    Private,
}

impl Key {
    /// Decodes a secret. `is_bounded`: refuses a short one.
    pub(super) fn parse(
        text: &[u8],
        form: KeyForm,
        algorithm: Algorithm,
        is_bounded: bool,
    ) -> Result<Key, KeyError> {
        let text = bare(text)?;
        let secret = decode(text, form)?;
        let bytes_min = match &secret {
            Decoded::Mac(_) => SIGNING_SECRET_BYTES_MIN,
            Decoded::Sent(_) => SENT_SECRET_BYTES_MIN,
            Decoded::Public(_) => 0,
        };
        let bytes = secret.bytes().len();
        if bytes == 0 {
            return Err(KeyError::Empty);
        }
        if is_bounded && bytes < bytes_min {
            return Err(KeyError::Short { bytes, bytes_min });
        }
        Ok(Key(match secret {
            Decoded::Mac(bytes) => Secret::Mac(hmac::Key::new(algorithm.of_ring(), &bytes)),
            Decoded::Public(bytes) => Secret::Public(
                <[u8; 32]>::try_from(bytes.as_slice())
                    .map_err(|_| KeyError::NotPublicKey { bytes: bytes.len() })?,
            ),
            Decoded::Sent(bytes) => Secret::Sent(digest_of(&bytes)),
        }))
    }

    /// Equal for keys that accept the same proof. Says nothing about the key.
    pub(in crate::sources) fn likeness(&self) -> Vec<u8> {
        match &self.0 {
            Secret::Mac(key) => hmac::sign(key, b"hookcast: are two keys the same?")
                .as_ref()
                .to_vec(),
            Secret::Public(key) => digest_of(key).to_vec(),
            Secret::Sent(secret) => digest_of(secret).to_vec(),
        }
    }

    /// The key of a keyed hash, if it is one.
    pub(in crate::sources) fn mac(&self) -> Option<&hmac::Key> {
        match &self.0 {
            Secret::Mac(key) => Some(key),
            _ => None,
        }
    }
}

/// The digest of a secret that is sent.
pub(super) fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    let mut whole = [0; 32];
    whole.copy_from_slice(digest.as_ref());
    whole
}

enum Decoded {
    Mac(Vec<u8>),
    Public(Vec<u8>),
    Sent(Vec<u8>),
}

impl Decoded {
    fn bytes(&self) -> &[u8] {
        match self {
            Decoded::Mac(bytes) | Decoded::Public(bytes) | Decoded::Sent(bytes) => bytes,
        }
    }
}

fn decode(text: &[u8], form: KeyForm) -> Result<Decoded, KeyError> {
    match form {
        KeyForm::Text => Ok(Decoded::Mac(text.to_vec())),
        KeyForm::Base64 => Ok(Decoded::Mac(
            decode_base64(text).ok_or(KeyError::NotBase64)?,
        )),
        KeyForm::Hex => Ok(Decoded::Mac(decode_hex(text).ok_or(KeyError::NotHex)?)),
        KeyForm::Standard => standard(text),
        KeyForm::PublicHex => Ok(Decoded::Public(decode_hex(text).ok_or(KeyError::NotHex)?)),
        KeyForm::Gitlab if without_version(text).starts_with(b"whsec_") => standard(text),
        KeyForm::Gitlab | KeyForm::Sent => Ok(Decoded::Sent(text.to_vec())),
    }
}

/// A secret of Standard Webhooks. The prefix may be missing: libraries accept the base64 alone.
fn standard(text: &[u8]) -> Result<Decoded, KeyError> {
    let text = without_version(text);
    if text.starts_with(b"whsk_") {
        return Err(KeyError::Private);
    }
    if let Some(public) = text.strip_prefix(b"whpk_") {
        let bytes = decode_base64(public).ok_or(KeyError::NotBase64)?;
        return Ok(Decoded::Public(bytes));
    }
    let text = text.strip_prefix(b"whsec_").unwrap_or(text);
    Ok(Decoded::Mac(
        decode_base64(text).ok_or(KeyError::NotBase64)?,
    ))
}

/// Some dashboards show the secret with the version of its signatures before it.
fn without_version(text: &[u8]) -> &[u8] {
    let stripped = text.strip_prefix(b"v1,").or(text.strip_prefix(b"v1a,"));
    stripped.unwrap_or(text)
}

/// The secret without one final newline. Editors add that one; other white space is a mistake that no
/// provider would sign with. Spaces inside are kept: the secret of GitHub's own example has four.
fn bare(text: &[u8]) -> Result<&[u8], KeyError> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let is_padded = text.trim_ascii().len() != text.len();
    match text {
        [] => Err(KeyError::Empty),
        _ if is_padded || text.iter().any(u8::is_ascii_control) => Err(KeyError::WhiteSpace),
        _ => Ok(text),
    }
}

impl fmt::Debug for Key {
    /// Shows nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Empty => f.write_str("the secret is empty"),
            KeyError::WhiteSpace => f.write_str(
                "the secret has white space at an end, or a second line; write it alone, with at \
                 most one newline after it",
            ),
            KeyError::Short { bytes, bytes_min } => write!(
                f,
                "the secret has {bytes} bytes, which can be guessed; use at least {bytes_min}"
            ),
            KeyError::NotBase64 => f.write_str(
                "the secret is not base64; copy it whole, with the = at its end if it has one",
            ),
            KeyError::NotHex => f.write_str("the secret is not hexadecimal; copy it whole"),
            KeyError::NotPublicKey { bytes } => {
                write!(f, "the public key has {bytes} bytes instead of 32; copy it whole")
            }
            KeyError::Private => f.write_str(
                "whsk_ begins a private key, which only the sender needs; use the public one, whpk_",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, form: KeyForm) -> Result<Key, KeyError> {
        Key::parse(text.as_bytes(), form, Algorithm::Sha256, true)
    }

    #[test]
    fn one_final_newline_is_dropped_and_other_white_space_refused() {
        let secret = "0123456789abcdef";
        for text in [
            secret.to_owned(),
            format!("{secret}\n"),
            format!("{secret}\r\n"),
        ] {
            assert!(parse(&text, KeyForm::Text).is_ok(), "{text:?}");
        }
        assert!(parse("It's a Secret to Everybody", KeyForm::Text).is_ok());
        for text in [
            format!("{secret}\n\n"),
            format!(" {secret}"),
            format!("{secret} \n"),
            format!("{secret}\t"),
            format!("{secret}\n{secret}\n"),
            format!("{secret}\0"),
        ] {
            let error = parse(&text, KeyForm::Text).unwrap_err();
            assert_eq!(error, KeyError::WhiteSpace, "{text:?}");
        }
        for text in ["", "\n", "\r\n"] {
            assert_eq!(parse(text, KeyForm::Text).unwrap_err(), KeyError::Empty);
        }
    }

    #[test]
    fn a_secret_that_signs_has_16_bytes_and_one_that_is_sent_8() {
        let short = |bytes, bytes_min| KeyError::Short { bytes, bytes_min };
        assert_eq!(
            parse("123456789012345", KeyForm::Text).unwrap_err(),
            short(15, 16)
        );
        assert!(parse("1234567890123456", KeyForm::Text).is_ok());
        assert_eq!(parse("1234567", KeyForm::Sent).unwrap_err(), short(7, 8));
        assert!(parse("12345678", KeyForm::Sent).is_ok());
        // 16 characters of base64 are 12 bytes.
        assert_eq!(
            parse("whsec_MfKQ9r8GKYqrTwjU", KeyForm::Standard).unwrap_err(),
            short(12, 16)
        );
        assert_eq!(
            parse("whsec_", KeyForm::Standard).unwrap_err(),
            KeyError::Empty
        );
    }

    #[test]
    fn base64_is_read_strictly() {
        for text in [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
            "whsec_MfKQ9r8GKYqrTwjU PD8ILPZIo2LaLaSw",
            "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q",
            "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3R=",
            "a_secret_that_is_no_base64-",
        ] {
            let error = parse(text, KeyForm::Standard).unwrap_err();
            assert_eq!(error, KeyError::NotBase64, "{text}");
        }
        assert_eq!(
            parse("whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyForm::Standard).unwrap_err(),
            KeyError::Private
        );
        assert_eq!(
            parse("whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", KeyForm::Standard).unwrap_err(),
            KeyError::NotPublicKey { bytes: 24 }
        );
        assert_eq!(
            parse("d75a98", KeyForm::PublicHex).unwrap_err(),
            KeyError::NotPublicKey { bytes: 3 }
        );
    }

    #[test]
    fn no_text_shows_a_secret() {
        let key = parse("0123456789abcdef", KeyForm::Text).unwrap();
        assert_eq!(format!("{key:?}"), "Key");
        let error = parse("a_secret_that_is_no_base64-", KeyForm::Standard).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("a_secret"));
    }
}
