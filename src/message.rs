//! The message that a webhook becomes, and its parts.
//!
//! Used by nearly every module; imports only `limits`. Never does I/O.

use std::fmt;
use std::sync::Arc;

use ::ring::digest::{Context, SHA256};

use crate::limits::{
    EVENT_TYPE_BYTES_MAX, FINGERPRINT_BYTES, SESSION_BYTES_MAX, SOURCE_NAME_BYTES_MAX,
};

pub use uuid::Uuid as MessageId;

/// The name of a session: 1 to [`SESSION_BYTES_MAX`] bytes of UTF-8.
///
/// Cloning shares the text. A client that knows the name can read the session's messages, so it is never
/// logged, and its `Debug` form shows only the length.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Arc<str>);

/// A session id longer than [`SESSION_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTooLong;

impl SessionId {
    /// Parses a session id; the empty text means that there is none.
    pub fn parse(text: &str) -> Result<Option<SessionId>, SessionTooLong> {
        match text.len() {
            0 => Ok(None),
            1..=SESSION_BYTES_MAX => Ok(Some(SessionId(text.into()))),
            _ => Err(SessionTooLong),
        }
    }

    /// The text of the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({} bytes)", self.0.len())
    }
}

/// An accepted message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique over all nodes. The ids of one node increase.
    pub id: MessageId,
    /// When it was accepted, in milliseconds since the Unix epoch. The times of one node do not decrease,
    /// unless its clock is set back by minutes.
    pub timestamp_ms: u64,
    /// The session whose streams get it; `None`: all streams.
    pub session: Option<SessionId>,
    /// The text as it was sent, not trimmed; never blank.
    pub content: String,
    /// Where it is from, if from a source.
    pub label: Option<Arc<Label>>,
    /// By what a repeat of its request is recognised.
    pub identity: Option<Arc<Identity>>,
}

impl Message {
    /// Bytes of content, session, label and identity together, as the ring stores them.
    pub fn text_bytes(&self) -> usize {
        let session = self.session.as_ref();
        self.content.len()
            + session.map_or(0, |name| name.as_str().len())
            + self.label.as_ref().map_or(0, |label| label.bytes())
            + self.identity.as_ref().map_or(0, |it| it.bytes())
    }
}

impl fmt::Debug for Message {
    /// Omits the content, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("session", &self.session)
            .field("content_bytes", &self.content.len())
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// A message before the hub has assigned its id, time and seq.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    /// The session whose streams get it; `None`: all streams.
    pub session: Option<SessionId>,
    /// The text as it was sent.
    pub content: String,
    /// Where it is from, if from a source.
    pub label: Option<Arc<Label>>,
    /// By what a repeat of its request is recognised.
    pub identity: Option<Arc<Identity>>,
}

impl fmt::Debug for Draft {
    /// Omits the content, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("session", &self.session)
            .field("content_bytes", &self.content.len())
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// The source that a message is from, and the provider's type of its event. Operators and clients may
/// see both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    source: String,
    event: String,
}

impl Label {
    /// A label. `None` if the source's name is empty, one of the texts is over its bound
    /// ([`SOURCE_NAME_BYTES_MAX`], [`EVENT_TYPE_BYTES_MAX`]), or one has a control character.
    pub fn new(source: &str, event: &str) -> Option<Label> {
        let is_within = (1..=SOURCE_NAME_BYTES_MAX).contains(&source.len())
            && event.len() <= EVENT_TYPE_BYTES_MAX;
        let is_plain = !source.chars().chain(event.chars()).any(char::is_control);
        (is_within && is_plain).then(|| Label {
            source: source.to_owned(),
            event: event.to_owned(),
        })
    }

    /// The name of the source, in the operator's file of sources.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of the event, in the provider's words; empty if it names none.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Bytes of both texts.
    pub fn bytes(&self) -> usize {
        self.source.len() + self.event.len()
    }
}

/// The first half of a SHA-256 digest: enough to recognise a request.
pub type Fingerprint = [u8; FINGERPRINT_BYTES];

/// The fingerprint of parts, one after another.
pub fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut half = Fingerprint::default();
    half.copy_from_slice(&context.finish().as_ref()[..FINGERPRINT_BYTES]);
    half
}

/// By what a repeat of a request is recognised. The hub publishes one message for each, and answers a
/// repeat with the receipt of the first.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the id that the sender gives to all attempts, and of the source.
    pub id: Option<Fingerprint>,
    /// Of the signature, and of the source: a captured body under another id is a repeat, too.
    pub tag: Option<Fingerprint>,
    /// Of the body, if the same id with another body is a fault of the sender.
    pub body: Option<Fingerprint>,
    /// How long it is known, in seconds.
    pub window_s: u32,
}

impl Identity {
    /// Bytes of its fingerprints.
    pub fn bytes(&self) -> usize {
        let parts = [&self.id, &self.tag, &self.body];
        parts.into_iter().flatten().map(|part| part.len()).sum()
    }
}

impl fmt::Debug for Identity {
    /// Omits the fingerprints: that of a signature could confirm a guess.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("window_s", &self.window_s)
            .finish_non_exhaustive()
    }
}

/// The random number of a ring: the first half of every event id.
///
/// Within one epoch a seq identifies the same message for ever. Displays as 16 lower-case hexadecimal
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_1_to_256_bytes_and_empty_means_none() {
        assert_eq!(SessionId::parse(""), Ok(None));
        assert_eq!(SessionId::parse(&"x".repeat(257)), Err(SessionTooLong));
        let longest = SessionId::parse(&"x".repeat(256)).unwrap().unwrap();
        assert_eq!(longest.as_str().len(), 256);
    }

    #[test]
    fn debug_output_shows_neither_content_nor_session() {
        let message = Message {
            id: MessageId::nil(),
            timestamp_ms: 1,
            session: SessionId::parse("topsecret").unwrap(),
            content: "private".into(),
            label: None,
            identity: None,
        };
        let text = format!("{message:?}");
        assert!(
            !text.contains("topsecret") && !text.contains("private"),
            "{text}"
        );
    }

    #[test]
    fn a_fingerprint_is_half_a_digest_of_all_parts() {
        // SHA-256 of `abc` (FIPS 180-2, appendix B.1).
        let expected = 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223_u128.to_be_bytes();
        assert_eq!(fingerprint(&[b"a", b"", b"bc"]), expected);
    }

    #[test]
    fn a_label_has_short_plain_texts() {
        let long = "x".repeat(129);
        assert!(Label::new("github", "").is_some());
        assert!(Label::new(&long[..64], &long[..128]).is_some());
        for (source, event) in [
            ("", "push"),
            (&long[..65], "push"),
            ("github", long.as_str()),
            ("git\nhub", "push"),
            ("github", "pu\u{85}sh"),
        ] {
            assert_eq!(Label::new(source, event), None, "{source:?} {event:?}");
        }
    }

    #[test]
    fn an_epoch_shows_as_16_lower_case_digits() {
        assert_eq!(Epoch(0xABC).to_string(), "0000000000000abc");
    }
}
