//! JSON strings with escapes of half a surrogate pair.
//!
//! JavaScript makes such strings: `JSON.stringify("\ud83d")` is `"\ud83d"`. RFC 8259 section 8.2 allows
//! the escape, but Unicode has no character for it, and `serde_json` refuses to read it into a `String`.
//! Here each half becomes U+FFFD, as in the Encoding standard's UTF-8 encoder.
//!
//! Called by `http`, for a webhook that cannot be read strictly, and by `mirror`, for an entry of the KV
//! value. Imports nothing of the crate. Never accepts invalid JSON: the input is a [`RawValue`], which
//! `serde_json` has checked.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;

/// The text of a JSON string; `None` for any other value. Borrows unless the string has escapes.
pub fn decode(json: &RawValue) -> Option<Cow<'_, str>> {
    if !json.get().starts_with('"') {
        return None;
    }
    let text: Text = serde_json::from_str(json.get()).ok()?;
    Some(text.0)
}

/// A string that `serde_json` unescapes into bytes. It encodes a lone surrogate like any other code point
/// of its size (WTF-8).
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Text<'de>, E> {
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Text(Cow::Borrowed(text))),
            Err(_) => self.visit_bytes(bytes),
        }
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text<'de>, E> {
        let mut bytes = bytes.to_vec();
        replace_surrogates(&mut bytes);
        let text = String::from_utf8(bytes).map_err(|_| E::custom("not Unicode"))?;
        Ok(Text(Cow::Owned(text)))
    }
}

/// Overwrites each encoded surrogate (`ED A0 80` to `ED BF BF`) with U+FFFD, which takes three bytes
/// as well.
fn replace_surrogates(bytes: &mut [u8]) {
    let mut from = 0;
    while let Some(found) = memchr::memchr(0xED, &bytes[from..]) {
        let at = from + found;
        if let Some(encoded) = bytes.get_mut(at..at + 3)
            && encoded[1] >= 0xA0
        {
            encoded.copy_from_slice("\u{fffd}".as_bytes());
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &str) -> Option<String> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        decode(raw).map(Cow::into_owned)
    }

    #[test]
    fn each_half_of_a_pair_becomes_a_replacement_character() {
        for (json, expected) in [
            (r#""plain""#, "plain"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""a\ude00b""#, "a\u{fffd}b"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ude00\ud83d""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83dx\n\u0000""#, "\u{fffd}x\n\0"),
            // U+D55C and U+D7FF begin with ED too, and are characters.
            ("\"\u{d55c}\\ud800\u{d7ff}\"", "\u{d55c}\u{fffd}\u{d7ff}"),
        ] {
            assert_eq!(decoded(json).as_deref(), Some(expected), "{json}");
        }
    }

    #[test]
    fn other_values_are_no_text() {
        for json in ["null", "1", "[\"a\"]", "{}", "true"] {
            assert_eq!(decoded(json), None, "{json}");
        }
    }

    #[test]
    fn a_string_without_escapes_is_borrowed() {
        let raw: &RawValue = serde_json::from_str("\"plain\"").unwrap();
        assert!(matches!(decode(raw), Some(Cow::Borrowed("plain"))));
    }

    #[test]
    fn invalid_json_never_becomes_a_raw_value() {
        for json in ["\"a\nb\"", r#""\ud83""#, r#""\x""#, "\"open"] {
            assert!(serde_json::from_str::<&RawValue>(json).is_err(), "{json}");
        }
    }
}
