//! The secrets that a text must not show, and the search for them. A server may have encoded, escaped or cut
//! a secret before it sent it back.
//!
//! Called by the parent module. The time of the search is bounded by the length of the secrets and of a
//! quote. Never shows a secret: `Debug` omits them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::percent_decode_str;

/// The environment variables that name a proxy, perhaps with a password, in order of precedence.
pub const PROXY_VARIABLES: [&str; 6] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// The beginning of a secret is found if it has at least this many characters. Shorter ones would
/// match ordinary words.
const PREFIX_CHARS_MIN: usize = 8;

/// The secrets to remove.
#[derive(Clone, Default)]
pub struct Secrets {
    plain: Vec<Vec<char>>,
    /// Their forms in Base64.
    base64: Vec<Vec<char>>,
}

/// A secret at the beginning of a text.
pub(super) struct Found {
    /// The length of the secret in the text.
    pub(super) bytes: usize,
    /// It is in Base64. Then the adjacent Base64 characters were encoded together with it, and contain
    /// some of its bits.
    pub(super) is_base64: bool,
}

impl Secrets {
    /// Adds a secret, unless it is empty.
    #[must_use]
    pub fn with(mut self, secret: &str) -> Secrets {
        if !secret.is_empty() {
            self.plain.push(secret.chars().collect());
            self.base64.extend(base64_forms(secret));
        }
        self
    }

    /// Adds the passwords of the proxies in the environment.
    #[must_use]
    pub fn with_proxies(mut self, variable: impl Fn(&str) -> Option<String>) -> Secrets {
        for value in PROXY_VARIABLES.iter().filter_map(|name| variable(name)) {
            for secret in secrets_of_proxy(&value) {
                self = self.with(&secret);
            }
        }
        self
    }

    /// The secret at the beginning of `text`, if there is one.
    pub(super) fn found_at(&self, text: &str) -> Option<Found> {
        let longest = |patterns: &[Vec<char>]| {
            let lengths = patterns
                .iter()
                .filter_map(|pattern| length_of(pattern, text));
            lengths.max()
        };
        if let Some(bytes) = longest(&self.plain) {
            return Some(Found {
                bytes,
                is_base64: false,
            });
        }
        let length = longest(&self.base64)?;
        let run = text[length..].trim_start_matches(is_base64);
        Some(Found {
            bytes: text.len() - run.len(),
            is_base64: true,
        })
    }
}

/// Whether a character is one of Base64, in either alphabet.
pub(super) fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || "+/-_=".contains(c)
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// The password of a proxy's URL, as written and decoded. Without a password, the user's name.
fn secrets_of_proxy(url: &str) -> Vec<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let Some((user, _)) = rest.rsplit_once('@') else {
        return Vec::new();
    };
    let secret = match user.split_once(':') {
        Some((_, password)) if !password.is_empty() => password,
        _ => user.trim_end_matches(':'),
    };
    let decoded = percent_decode_str(secret).decode_utf8_lossy().into_owned();
    vec![secret.to_owned(), decoded]
}

/// The length of `pattern`, or of its beginning, at the beginning of `text`. Each character may be
/// in any spelling.
fn length_of(pattern: &[char], text: &str) -> Option<usize> {
    // One spelling of a character may be the beginning of another: a percent sign is `%` or `%25`. So the
    // search continues from all possible ends.
    let mut ends = vec![0];
    let mut found = None;
    for (index, &c) in pattern.iter().enumerate() {
        let mut next: Vec<usize> = Vec::new();
        for &end in &ends {
            let rest = &text[end..];
            let lengths = SPELLINGS.iter().filter_map(|spelling| spelling(c, rest));
            for length in lengths {
                if !next.contains(&(end + length)) {
                    next.push(end + length);
                }
            }
        }
        let Some(&longest) = next.iter().max() else {
            break;
        };
        if index + 1 == pattern.len() || index + 1 >= PREFIX_CHARS_MIN {
            found = Some(longest);
        }
        ends = next;
    }
    found
}

/// The length of a character at the beginning of a text, in one spelling.
type Spelling = fn(char, &str) -> Option<usize>;

const SPELLINGS: [Spelling; 6] = [
    literal,
    backslash,
    unicode_escape,
    bytes,
    form_space,
    entity,
];

/// The character itself in either case, because the case of host names and hexadecimal digits may change.
fn literal(c: char, text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    first.eq_ignore_ascii_case(&c).then(|| first.len_utf8())
}

/// `\"`, as in JSON (RFC 8259 section 7).
fn backslash(c: char, text: &str) -> Option<usize> {
    let rest = text.strip_prefix('\\')?;
    (c.is_ascii_punctuation() && rest.starts_with(c)).then_some(2)
}

/// `\u00e9`, as in JSON; a surrogate pair above U+FFFF.
fn unicode_escape(c: char, text: &str) -> Option<usize> {
    let mut length = 0;
    for &unit in &*c.encode_utf16(&mut [0; 2]) {
        let digits = text.get(length..length + 6)?.strip_prefix("\\u")?;
        if u16::from_str_radix(digits, 16) != Ok(unit) {
            return None;
        }
        length += 6;
    }
    Some(length)
}

/// `%C3%A9` as in a URL (RFC 3986 section 2.1), or `\xc3\xa9` as in source code.
fn bytes(c: char, text: &str) -> Option<usize> {
    let of_prefix = |prefix: &str| {
        let mut length = 0;
        for &byte in c.encode_utf8(&mut [0; 4]).as_bytes() {
            let end = length + prefix.len() + 2;
            let digits = text.get(length..end)?.strip_prefix(prefix)?;
            if u8::from_str_radix(digits, 16) != Ok(byte) {
                return None;
            }
            length = end;
        }
        Some(length)
    };
    of_prefix("%").or_else(|| of_prefix("\\x"))
}

/// `+` for a blank, as in a form.
fn form_space(c: char, text: &str) -> Option<usize> {
    (c == ' ' && text.starts_with('+')).then_some(1)
}

/// `&quot;`, `&#34;` and `&#x22;`, as in HTML.
fn entity(c: char, text: &str) -> Option<usize> {
    let (name, _) = text.strip_prefix('&')?.split_once(';')?;
    let meant = match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    };
    (meant == Some(c)).then_some(name.len() + 2)
}

/// The secret's forms in Base64 within a longer encoded text, as in `Authorization: Basic`. A form has only
/// the characters that no neighbouring byte changes. There is one for each position in a group of three
/// bytes and each alphabet.
fn base64_forms(secret: &str) -> impl Iterator<Item = Vec<char>> {
    // After 0, 1 or 2 bytes of the group, so many characters contain bits of those bytes.
    const CHARS_SHARED: [usize; 3] = [0, 2, 3];
    let secret = secret.to_owned();
    let forms = CHARS_SHARED
        .into_iter()
        .enumerate()
        .flat_map(move |(before, shared)| {
            let bytes = [&[0; 2][..before], secret.as_bytes()].concat();
            // An incomplete last character would contain bits of the next byte.
            let full = bytes.len() * 8 / 6;
            [STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|alphabet| -> Vec<char> {
                let encoded = alphabet.encode(&bytes);
                encoded.chars().take(full).skip(shared).collect()
            })
        });
    let mut last = Vec::new();
    forms.filter(move |form| {
        let is_new = form.len() >= PREFIX_CHARS_MIN && *form != last;
        last.clone_from(form);
        is_new
    })
}

#[cfg(test)]
mod tests {
    use super::super::quote;
    use super::*;

    fn is_hidden(secret: &str, written: &str) {
        let secrets = Secrets::default().with(secret);
        for text in [written.to_owned(), format!("at /a?b={written}; no")] {
            let quoted = quote(&text, &secrets);
            let rest = text.replace(written, "[secret]");
            assert_eq!(quoted, rest, "{secret} as {written}");
        }
    }

    #[test]
    fn a_secret_is_found_in_every_spelling() {
        let secret = "s3/cr+et \"ü👍\\&";
        for written in [
            secret,
            "S3/CR+ET \"ü👍\\&",
            "s3%2Fcr%2bet%20%22%C3%BC%f0%9f%91%8d%5C%26",
            "s3%2Fcr%2Bet+\\\"ü👍\\\\&",
            r#"s3\/cr\u002Bet \"\u00fc\ud83d\udc4d\\&"#,
            r"s3/cr+et \x22\xc3\xbc\xf0\x9f\x91\x8d\x5c\x26",
            "s3&#47;cr&#x2b;et &quot;&#xFC;👍\\&amp;",
        ] {
            is_hidden(secret, written);
        }
        // A percent sign that is part of the secret.
        is_hidden("a%25b", "a%25b");
        is_hidden("a%25b", "a%2525b");
    }

    #[test]
    fn a_secret_is_found_in_base64_at_every_position() {
        let secret = "correct horse battery staple?>";
        for before in ["", "u", "u:", "us:", "user:"] {
            let written = STANDARD_NO_PAD.encode(format!("{before}{secret}"));
            for written in [written.clone(), written.replace('+', "-").replace('/', "_")] {
                let text = format!("Basic {written}.");
                let quoted = quote(&text, &Secrets::default().with(secret));
                assert_eq!(quoted, "Basic [secret].", "{written}");
            }
        }
    }

    #[test]
    fn a_secret_that_was_cut_off_is_found_by_its_beginning() {
        let secrets = Secrets::default().with("0123456789abcdef");
        assert_eq!(
            quote("token 0123456789ab...", &secrets),
            "token [secret]..."
        );
        assert_eq!(quote("token 0123456", &secrets), "token 0123456");
    }

    #[test]
    fn a_proxys_password_is_a_secret() {
        for (url, text, expected) in [
            (
                "http://user:p%40ss@proxy:1",
                "user p@ss p%40ss",
                "user [secret] [secret]",
            ),
            ("user:pass@proxy", "pass", "[secret]"),
            ("http://key@proxy", "key", "[secret]"),
            ("http://proxy:1", "proxy", "proxy"),
        ] {
            let variable = |name: &str| (name == "https_proxy").then(|| url.to_owned());
            let secrets = Secrets::default().with_proxies(variable);
            assert_eq!(quote(text, &secrets), expected, "{url}");
        }
    }

    #[test]
    fn no_text_makes_the_search_long_or_fail() {
        let secret = "%".repeat(4096);
        let text = "%25".repeat(100_000);
        let quoted = quote(&text, &Secrets::default().with(&secret));
        assert!(
            quoted.starts_with("[secret][secret]") && !quoted.contains('%'),
            "{quoted}"
        );
        let secrets = Secrets::default().with("ü\u{1f44d}x");
        for text in [
            "%",
            "%C",
            "\\u",
            "\\ud83",
            "\\x",
            "&",
            "&#",
            "&#x;",
            "\\",
            "é%c3é",
            "&#99999999;",
        ] {
            assert_eq!(quote(text, &secrets), text);
        }
    }
}
