//! `Idempotency-Key`: the identity that a sender gives to a webhook, so that a retry is not published again.
//!
//! Called by `route`. The key may be bare, or a quoted string (RFC 8941 section 3.3.3): both forms of a text
//! are the same key. Never keeps the key, only its fingerprint.

use std::borrow::Cow;

use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, IDEMPOTENCY_WINDOW_S};
use crate::message::{self, Fingerprint, Identity, SessionId};

use super::error::ErrorAnswer;

/// The field of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentKey<'a> {
    /// It was not sent.
    Absent,
    /// Its value.
    Once(&'a [u8]),
    /// It was sent in several lines.
    Repeated,
}

/// The senders that share a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOwner<'a> {
    /// Those that may send every message.
    All,
    /// Those that may send only to some sessions, for their messages to this one.
    Session(&'a SessionId),
}

impl<'a> SentKey<'a> {
    /// The key, if one was sent.
    pub fn parse(self) -> Result<Option<Cow<'a, [u8]>>, ErrorAnswer> {
        match self {
            SentKey::Absent => Ok(None),
            SentKey::Once(value) => text_of(value).map(Some).ok_or(ErrorAnswer::KeyMalformed),
            SentKey::Repeated => Err(ErrorAnswer::KeyRepeated),
        }
    }

    /// The identity of a webhook with this body. A sender that may send only to some sessions has keys of its own
    /// for each session. So it cannot suppress the message of another sender, nor find out which keys are in use.
    pub fn identity(
        self,
        owner: KeyOwner<'_>,
        body: &[u8],
    ) -> Result<Option<Identity>, ErrorAnswer> {
        let key = self.parse()?;
        Ok(key.map(|key| Identity {
            id: Some(match owner {
                KeyOwner::All => fingerprint("key", &key),
                KeyOwner::Session(session) => {
                    // No key has a zero byte, so the last one ends the name of the session.
                    let text = [session.as_str().as_bytes(), &[0], &key].concat();
                    fingerprint("key of a session", &text)
                }
            }),
            tag: None,
            body: Some(fingerprint("body", body)),
            window_s: IDEMPOTENCY_WINDOW_S,
        }))
    }
}

/// A fingerprint of bytes. Two kinds of bytes never have the same one.
fn fingerprint(kind: &str, bytes: &[u8]) -> Fingerprint {
    message::fingerprint(&[kind.as_bytes(), &[0], bytes])
}

/// The text of a field value; `None` if it is no key.
fn text_of(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let text = match value {
        [b'"', quoted @ .., b'"'] => Cow::Owned(unquoted(quoted)?),
        bare if bare.iter().all(|&byte| is_bare(byte)) => Cow::Borrowed(bare),
        _ => return None,
    };
    let is_key = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
    is_key.then_some(text)
}

/// Whether a bare key may have a byte. A proxy joins the values of several lines by a comma.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',')
}

fn unquoted(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    while let Some(&byte) = bytes.next() {
        text.push(match byte {
            b'\\' => *bytes.next().filter(|next| matches!(next, b'"' | b'\\'))?,
            b' '..=b'~' if byte != b'"' => byte,
            _ => return None,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_bare_or_quoted() {
        let key = |value: &str| {
            let text = text_of(value.as_bytes())?.into_owned();
            Some(String::from_utf8(text).unwrap())
        };
        let longest = "k".repeat(255);
        for (value, expected) in [
            ("a", "a"),
            (r#""a""#, "a"),
            (r#""a, b \"\\ c""#, r#"a, b "\ c"#),
            (r"a\b;c=d", r"a\b;c=d"),
            (&longest, &longest),
            (&format!("\"{longest}\""), &longest),
        ] {
            assert_eq!(key(value).as_deref(), Some(expected), "{value}");
        }
        for value in [
            "",
            "\"",
            "\"\"",
            "a b",
            "a,b",
            "a, b",
            "a\"",
            "\"a",
            r#""a\""#,
            r#""a\b""#,
            r#""a"b""#,
            r#""a";p=1"#,
            "\"a\" \"b\"",
            "é",
            "\"é\"",
            "a\tb",
            "\"a\tb\"",
            &format!("{longest}k"),
            &format!("\"{longest}k\""),
        ] {
            assert_eq!(key(value), None, "{value}");
        }
    }

    #[test]
    fn an_identity_is_of_the_key_and_of_the_body() {
        let identity = |value, body: &[u8]| {
            let identity = SentKey::Once(value).identity(KeyOwner::All, body);
            identity.unwrap().unwrap()
        };
        let first = identity(b"a", b"x");
        assert_eq!(first, identity(b"\"a\"", b"x"));
        let other_body = identity(b"a", b"y");
        assert_eq!(first.id, other_body.id);
        assert_ne!(first.body, other_body.body);
        assert_ne!(first.id, identity(b"b", b"x").id);
        assert_ne!(identity(b"a", b"a").id, identity(b"a", b"a").body);
        assert_eq!(first.window_s, 86_400);
        assert_eq!(SentKey::Absent.identity(KeyOwner::All, b"x"), Ok(None));
        let repeated = SentKey::Repeated.identity(KeyOwner::All, b"x");
        assert_eq!(repeated, Err(ErrorAnswer::KeyRepeated));
        let malformed = SentKey::Once(b"a b").identity(KeyOwner::All, b"x");
        assert_eq!(malformed, Err(ErrorAnswer::KeyMalformed));
    }

    #[test]
    fn a_key_for_one_session_is_no_key_of_another_sender() {
        let session = |name| SessionId::parse(name).unwrap().unwrap();
        let (a, b, with_zero) = (session("a"), session("b"), session("a\0b"));
        let ids = [
            (KeyOwner::All, "k"),
            (KeyOwner::Session(&a), "k"),
            (KeyOwner::Session(&b), "k"),
            (KeyOwner::Session(&a), "b"),
            (KeyOwner::Session(&with_zero), "k"),
            (KeyOwner::Session(&a), "bk"),
        ]
        .map(|(owner, key)| {
            let identity = SentKey::Once(key.as_bytes()).identity(owner, b"x");
            identity.unwrap().unwrap().id.unwrap()
        });
        for (index, id) in ids.iter().enumerate() {
            assert!(!ids[..index].contains(id), "{index}");
        }
        let again = SentKey::Once(b"\"k\"").identity(KeyOwner::Session(&a), b"y");
        assert_eq!(again.unwrap().unwrap().id, Some(ids[1]));
    }
}
