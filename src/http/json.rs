//! The webhook's body: a JSON object with a `message` and perhaps a `sessionId`.
//!
//! Called by [`route`](super::route). Reads the text once, building nothing of what it does not
//! use: members that are not known are passed over without recursion, whatever their depth. Never
//! trims or changes the message.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::message::{Draft, SessionId};

use super::error::ErrorAnswer;

/// Reads a webhook's body (RFC 8259).
///
/// The text must be UTF-8 throughout and one object with nothing but white space around it.
/// `message` or `sessionId` twice is refused as well: parsers differ in which of the two counts.
pub fn parse_draft(body: &[u8]) -> Result<Draft, ErrorAnswer> {
    // Checked here for the whole: serde_json does not look into strings that it passes over.
    let text = str::from_utf8(body).map_err(|_| ErrorAnswer::InvalidJson)?;
    let members: Members = serde_json::from_str(text).map_err(|_| ErrorAnswer::InvalidJson)?;

    let content = match members.message {
        Some(Value::Text(content)) if !is_blank(&content) => content,
        _ => return Err(ErrorAnswer::MessageRequired),
    };
    let session = match members.session_id {
        None | Some(Value::Null) => None,
        Some(Value::Text(id)) => SessionId::parse(&id).map_err(|_| ErrorAnswer::SessionTooLong)?,
        Some(Value::Other) => return Err(ErrorAnswer::SessionNotText),
    };
    Ok(Draft { session, content })
}

/// Whether there is nothing but white space: that of Unicode, and U+FEFF, which ECMAScript counts
/// as white space too (ECMA-262 section 12.2).
fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || c == '\u{feff}')
}

/// The members that count, as far as they are there.
#[derive(Default)]
struct Members {
    message: Option<Value>,
    session_id: Option<Value>,
}

/// A value as far as it matters here.
enum Value {
    Text(String),
    Null,
    Other,
}

/// A member's name as far as it matters here.
enum Name {
    Message,
    SessionId,
    Other,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members::default();
        while let Some(name) = map.next_key()? {
            let member = match name {
                Name::Message => &mut members.message,
                Name::SessionId => &mut members.session_id,
                Name::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if member.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom("repeated member"));
            }
        }
        Ok(members)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(match name {
            "message" => Name::Message,
            "sessionId" => Name::SessionId,
            _ => Name::Other,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }
}
