//! Foreign text (from a server, a file or an argument) that becomes part of a text of this program. Secrets
//! are removed, then the text is escaped, then it is cut. The order matters: a cut or an escape in the middle
//! of a secret would hide it from the search.
//!
//! Called wherever such text is printed: the mirror's failures and `kv-check`, `doctor`, configuration
//! errors. The log and standard error escape each line once more. Never reads the network.

mod secrets;

use std::fmt::{self, Write};

use self::secrets::is_base64;
pub use self::secrets::{PROXY_VARIABLES, Secrets};
use crate::limits::FOREIGN_TEXT_CHARS_MAX;
use crate::pem::BASE64_BEGIN;

/// The beginning of a PEM file, plain and in Base64. The file may be a key, so a quote ends there.
const PEM: [&str; 2] = ["-----BEGIN ", BASE64_BEGIN];

/// The beginning of a token is hidden if it has at least this many characters. A shorter word tells nothing.
const TOKEN_CHARS_MIN: usize = 16;

/// The replacement of a secret.
const REDACTED: &str = "[secret]";

/// A text that a server sent. It can be compared and quoted, but never printed unchanged.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ForeignText(String);

impl ForeignText {
    /// The unchanged text, for comparisons.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// See [`quote`].
    pub fn quote(&self, secrets: &Secrets) -> String {
        quote(&self.0, secrets)
    }
}

impl From<String> for ForeignText {
    fn from(text: String) -> ForeignText {
        ForeignText(text)
    }
}

impl fmt::Debug for ForeignText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForeignText(..)")
    }
}

/// A quote of foreign text: without secrets, printable, and of at most [`FOREIGN_TEXT_CHARS_MAX`]
/// characters. `…` replaces the rest.
pub fn quote(text: &str, secrets: &Secrets) -> String {
    let mut quote = String::new();
    let mut rest = text;
    // Stops at the end of the quote, because the search for secrets takes time.
    while let Some(c) = rest.chars().next()
        && quote.chars().count() <= FOREIGN_TEXT_CHARS_MAX
    {
        if PEM.iter().any(|beginning| rest.starts_with(beginning)) {
            quote.push_str(REDACTED);
            break;
        }
        if let Some(token) = token_at(rest) {
            quote.push_str(REDACTED);
            rest = &rest[token..];
            continue;
        }
        rest = match secrets.found_at(rest) {
            Some(found) => {
                if found.is_base64 {
                    quote.truncate(quote.trim_end_matches(is_base64).len());
                }
                quote.push_str(REDACTED);
                &rest[found.bytes..]
            }
            None => {
                escape_char(c, &mut quote);
                &rest[c.len_utf8()..]
            }
        };
        if let Some(user) = user_of_url(&quote, rest) {
            quote.push_str(REDACTED);
            rest = &rest[user..];
        }
    }
    cut(quote)
}

/// The length of a JSON Web Token at the beginning of a text. Its header is an object in Base64.
fn token_at(text: &str) -> Option<usize> {
    const BEGINNING: &str = "eyJ";
    if !text.starts_with(BEGINNING) {
        return None;
    }
    let rest = text.trim_start_matches(|c| is_base64(c) || c == '.' || c == '%');
    Some(text.len() - rest.len()).filter(|length| *length >= TOKEN_CHARS_MIN)
}

fn cut(mut quote: String) -> String {
    if let Some((at, _)) = quote.char_indices().nth(FOREIGN_TEXT_CHARS_MAX) {
        quote.truncate(at);
        quote.push('…');
    }
    quote
}

/// The length of user and password at the beginning of `rest`, if `before` ends with `://` (RFC 3986 section
/// 3.2.1).
fn user_of_url(before: &str, rest: &str) -> Option<usize> {
    if !before.ends_with("://") {
        return None;
    }
    let token = rest.split(char::is_whitespace).next().unwrap_or_default();
    token.rfind('@').filter(|length| *length > 0)
}

/// The text as one line that is safe for a terminal. Characters that could move the cursor, change the
/// direction of text or end a line are escaped. All others stay.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        escape_char(c, &mut escaped);
    }
    escaped
}

fn escape_char(c: char, out: &mut String) {
    if is_plain(c) {
        out.push(c);
    } else {
        // A write to a string cannot fail.
        let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
    }
}

/// Whether a character is visible and without side effects. False for control characters and line ends, and
/// for characters that are invisible or change the display of others (Unicode's category Cf, and its
/// fillers).
pub fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "tok-3n_Q/x+y=9\"z\\ ü";

    fn secrets() -> Secrets {
        Secrets::default().with(TOKEN)
    }

    #[test]
    fn control_and_invisible_characters_are_escaped() {
        let evil =
            "a\u{1b}[2J\r\n\u{9b}2J\u{7f}\u{202e}b\u{2028}c\u{2029}\u{200b}\u{feff}\u{e0041}é👍";
        let text = quote(evil, &Secrets::default());
        assert!(text.chars().all(is_plain), "{text}");
        assert!(
            text.starts_with("a\\u{1b}[2J\\u{d}\\u{a}\\u{9b}2J"),
            "{text}"
        );
        assert!(
            text.ends_with("é👍") && text.contains("\\u{202e}b\\u{2028}c"),
            "{text}"
        );
        assert_eq!(escape(evil), text);
    }

    #[test]
    fn a_long_text_is_cut_and_marked() {
        let long = "é".repeat(FOREIGN_TEXT_CHARS_MAX);
        assert_eq!(quote(&long, &secrets()), long);
        assert_eq!(quote(&format!("{long}é"), &secrets()), format!("{long}…"));
        let endless = "\u{1b}".repeat(1_000_000);
        assert_eq!(
            quote(&endless, &secrets()).chars().count(),
            FOREIGN_TEXT_CHARS_MAX + 1
        );
    }

    /// The quote is cut before the secret, within it, and after it.
    #[test]
    fn a_secret_across_the_cut_is_not_shown_in_part() {
        for before in 0..2 * FOREIGN_TEXT_CHARS_MAX {
            let text = format!("{}{TOKEN}{}", "y".repeat(before), "y".repeat(before));
            let quoted = quote(&text, &secrets());
            assert!(!quoted.contains("tok"), "{before}: {quoted}");
            assert!(quoted.chars().count() <= FOREIGN_TEXT_CHARS_MAX + 1);
        }
    }

    #[test]
    fn a_pem_file_is_not_shown() {
        let text = "argument '-----BEGIN PRIVATE KEY-----\nMII' found";
        assert_eq!(quote(text, &Secrets::default()), "argument '[secret]");
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln-_";
        for (text, expected) in [
            (format!("https://h/t/{token}"), "https://h/t/[secret]"),
            (format!("a?token={token}&b"), "a?token=[secret]&b"),
            (token.replace('.', "%2E"), "[secret]"),
            (token[..20].to_owned(), "[secret]"),
            ("eyJ".to_owned(), "eyJ"),
        ] {
            assert_eq!(quote(&text, &Secrets::default()), expected);
        }
        for before in 0..2 * FOREIGN_TEXT_CHARS_MAX {
            let text = format!("{} {token}", "y".repeat(before));
            assert!(!quote(&text, &Secrets::default()).contains("eyJ"));
        }
    }

    #[test]
    fn the_user_of_a_url_is_not_shown() {
        for (text, expected) in [
            (
                "see http://u:p@a.example/x",
                "see http://[secret]@a.example/x",
            ),
            ("https://a:p/w@b@c.example", "https://[secret]@c.example"),
            (
                "https://a.example is not u@b",
                "https://a.example is not u@b",
            ),
            ("https://@a", "https://@a"),
        ] {
            assert_eq!(quote(text, &Secrets::default()), expected);
        }
    }
}
