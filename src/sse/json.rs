//! JSON strings that every client reads as part of one line.
//!
//! Called by `frame` for the texts in a message's data. A line of an event stream ends with CR, LF or
//! both (HTML standard, section 9.2.5), and JSON escapes these and all other controls below U+0020. Some
//! clients split lines at more characters: Python's `str.splitlines`, used by httpx and requests, and
//! Java's `Scanner`. Three of these characters are not escaped in JSON: U+0085, U+2028 and U+2029. Such a
//! client would lose the event, and read the rest as fields that a sender may have forged. So the three
//! are escaped as well. Never changes the text that a JSON parser reads.

use std::io;

use serde::Serializer as _;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Bytes of an escape such as `\u2028`.
const ESCAPE_BYTES: usize = 6;

/// Appends a text as a JSON string.
pub(super) fn push_string(out: &mut Vec<u8>, text: &str) {
    Serializer::with_formatter(out, OneLine)
        .serialize_str(text)
        .expect("a Vec takes every byte");
}

/// Compact JSON with the additional escapes.
struct OneLine;

impl Formatter for OneLine {
    /// Writes a part of a string without characters that JSON must escape.
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        let bytes = fragment.as_bytes();
        // Names and most contents are ASCII, which is checked eight bytes at a time.
        if bytes.is_ascii() {
            return writer.write_all(bytes);
        }
        let mut written = 0;
        // In UTF-8 these two bytes always begin a character.
        for at in memchr::memchr2_iter(0xC2, 0xE2, bytes) {
            if let Some((escape, char_bytes)) = escape_of(&bytes[at..]) {
                writer.write_all(&bytes[written..at])?;
                writer.write_all(escape)?;
                written = at + char_bytes;
            }
        }
        writer.write_all(&bytes[written..])
    }
}

/// If the first character is one of the three: its escape, and its length in bytes.
fn escape_of(text: &[u8]) -> Option<(&'static [u8; ESCAPE_BYTES], usize)> {
    match text {
        [0xC2, 0x85, ..] => Some((b"\\u0085", 2)),
        [0xE2, 0x80, 0xA8, ..] => Some((b"\\u2028", 3)),
        [0xE2, 0x80, 0xA9, ..] => Some((b"\\u2029", 3)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let mut out = Vec::new();
        push_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_three_characters_are_escaped_anywhere_in_a_text() {
        assert_eq!(line("a\u{2028}b"), r#""a\u2028b""#);
        assert_eq!(line("\u{2029}"), r#""\u2029""#);
        assert_eq!(line("\u{85}\u{85}\n\u{85}"), r#""\u0085\u0085\n\u0085""#);
        assert_eq!(line("\\u2028\"\u{2028}\""), r#""\\u2028\"\u2028\"""#);
    }

    /// All of Unicode, each character between two others: it is parsed back unchanged, and ends no line,
    /// also not for Python's `str.splitlines`.
    #[test]
    fn every_character_is_parsed_back_and_ends_no_line() {
        for c in '\0'..=char::MAX {
            let text = format!("é{c}\u{2027}");
            let line = line(&text);
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
            let ends = |c: char| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
            assert!(!line.contains(ends), "{c:?}");
        }
    }

    #[test]
    fn other_text_is_as_serde_json_writes_it() {
        let texts = [
            "",
            "plain",
            "a\"b\\c\u{7f}\0",
            "“é” ÂÃ€\u{80}\u{84}\u{86}\u{2027}\u{202a}",
        ];
        for text in texts {
            assert_eq!(line(text), serde_json::to_string(text).unwrap());
        }
    }
}
