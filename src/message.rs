//! The message that a webhook becomes, and its parts.
//!
//! Used by nearly every module; imports only `limits`. Never does I/O.

use std::fmt;
use std::sync::Arc;

use crate::limits::SESSION_BYTES_MAX;

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
}

impl Message {
    /// Bytes of content and session together.
    pub fn text_bytes(&self) -> usize {
        let session = self.session.as_ref();
        self.content.len() + session.map_or(0, |name| name.as_str().len())
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
            .finish()
    }
}

/// A message before the hub has assigned its id, time and seq.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    /// The session whose streams get it; `None`: all streams.
    pub session: Option<SessionId>,
    /// The text as it was sent.
    pub content: String,
}

impl fmt::Debug for Draft {
    /// Omits the content, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("session", &self.session)
            .field("content_bytes", &self.content.len())
            .finish()
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
        };
        let text = format!("{message:?}");
        assert!(
            !text.contains("topsecret") && !text.contains("private"),
            "{text}"
        );
    }

    #[test]
    fn an_epoch_shows_as_16_lower_case_digits() {
        assert_eq!(Epoch(0xABC).to_string(), "0000000000000abc");
    }
}
