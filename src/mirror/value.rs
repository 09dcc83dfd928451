//! The KV value: a JSON array of messages, parsed and written.
//!
//! Called by the mirror core and by the `kv-check` command. Never does I/O, and never loses an
//! entry that it cannot read: what is not a message is carried along word for word.
//!
//! # What is read
//!
//! `[{"id","content","timestamp","sessionId"?}, ...]`, oldest first, as the Pages app writes it. An
//! entry is a message if `id` is a UUID in its hyphenated form, `content` a text that is not blank,
//! `timestamp` an integer of milliseconds that JavaScript can hold, and `sessionId` absent, null,
//! empty or a text of at most 256 bytes. Fields beyond these are kept and written back. Any other
//! entry is *foreign*: it is kept as it stands, never shown to a stream, and ranks behind messages,
//! so it stays for as long as there is room and makes way for messages (see `merge`).
//!
//! A value that is empty or `null` holds nothing and counts as an empty history. A value that is
//! not a JSON array at all is [`Unreadable`]: somebody else's data, or a damaged history; the mirror
//! does not write over it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::limits::{KV_ENTRY_BYTES_MAX, KV_VALUE_BYTES_MAX};
use crate::message::{Message, MessageId, SessionId};

/// The largest integer that a JavaScript number holds exactly (ECMAScript `MAX_SAFE_INTEGER`).
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// One entry of the KV value: a message, or something foreign that is carried along.
///
/// Two entries are equal if their JSON is; a message's JSON is always in the form that this module
/// writes, so formatting and the order of fields make no difference.
#[derive(Clone)]
pub struct Entry {
    message: Option<Arc<Message>>,
    json: Arc<str>,
}

/// What makes two entries versions of the same thing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// A message's id.
    Message(MessageId),
    /// A foreign entry's text.
    Foreign(&'a str),
}

impl Entry {
    /// The entry of a message.
    pub fn of(message: Arc<Message>) -> Entry {
        Entry::with_rest(message, &Map::new())
    }

    fn with_rest(message: Arc<Message>, rest: &Map<String, Value>) -> Entry {
        let mut fields = Map::new();
        fields.insert("id".into(), message.id.hyphenated().to_string().into());
        fields.insert("content".into(), message.content.as_str().into());
        fields.insert("timestamp".into(), message.timestamp_ms.into());
        if let Some(session) = &message.session {
            fields.insert("sessionId".into(), session.as_str().into());
        }
        fields.extend(
            rest.iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let json = Value::Object(fields).to_string().into();
        Entry {
            message: Some(message),
            json,
        }
    }

    fn foreign(json: &str) -> Entry {
        Entry {
            message: None,
            json: json.into(),
        }
    }

    /// The message, unless the entry is foreign.
    pub fn message(&self) -> Option<&Arc<Message>> {
        self.message.as_ref()
    }

    /// The id of the message, unless the entry is foreign.
    pub fn id(&self) -> Option<MessageId> {
        self.message.as_ref().map(|message| message.id)
    }

    /// See [`Identity`].
    pub fn identity(&self) -> Identity<'_> {
        self.id()
            .map_or(Identity::Foreign(&self.json), Identity::Message)
    }

    /// The size of the entry in the value, without the comma.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }

    /// Whether the entry has its place by time. The others (foreign, larger than its share of the
    /// value, or stamped later than `horizon_ms`) rank behind all that have.
    pub fn is_first_class(&self, horizon_ms: u64) -> bool {
        self.bytes() <= KV_ENTRY_BYTES_MAX
            && self
                .message
                .as_ref()
                .is_some_and(|message| message.timestamp_ms <= horizon_ms)
    }

    /// The order of the history, the same on every node: by class, time and id; and where two entries
    /// claim the same id, by length before text. So the one to which somebody has added fields is
    /// greater than what a node that knows the message from its ring alone makes of it.
    pub fn rank(&self, other: &Entry, horizon_ms: u64) -> Ordering {
        let key = |entry: &Entry| {
            let place = entry
                .message
                .as_ref()
                .map(|message| (message.timestamp_ms, message.id));
            (entry.is_first_class(horizon_ms), place)
        };
        key(self)
            .cmp(&key(other))
            .then_with(|| self.bytes().cmp(&other.bytes()))
            .then_with(|| self.json.cmp(&other.json))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.json == other.json
    }
}

impl Eq for Entry {}

impl fmt::Debug for Entry {
    /// Leaves the content out: it does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => write!(f, "{}@{}", message.id, message.timestamp_ms),
            None => write!(f, "foreign({} bytes)", self.json.len()),
        }
    }
}

/// A value as it was read.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The entries in the order of the value, unless it was overfull.
    pub entries: Vec<Entry>,
    /// Entries in the value. More than `entries` holds if the value was overfull.
    pub count: usize,
    /// Foreign entries in the value.
    pub foreign: usize,
    /// Why the first foreign entry is one: its place and the reason, never its content.
    pub first_fault: Option<(usize, Fault)>,
    /// A hash of the bytes, to recognise a value that was read before. 0 for no value.
    pub fingerprint: u64,
}

/// A value that is not a list of anything: not UTF-8, not JSON, or not an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Why an entry is foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is no JSON object, or its text is no Unicode.
    NotAnObject,
    /// `id` is no hyphenated UUID.
    Id,
    /// `content` is no text, or blank.
    Content,
    /// `timestamp` is no integer of milliseconds.
    Timestamp,
    /// `sessionId` is no text, or too long.
    Session,
    /// Its other fields would not be read again as they are written.
    Unrepeatable,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::NotAnObject => "it is not a JSON object",
            Fault::Id => "its id is not a UUID",
            Fault::Content => "its content is missing, not a text, or blank",
            Fault::Timestamp => "its timestamp is not an integer of milliseconds",
            Fault::Session => "its sessionId is not a text of at most 256 bytes",
            Fault::Unrepeatable => "its other fields cannot be written back as they are",
        })
    }
}

/// Parses a value of at most [`KV_VALUE_BYTES_MAX`] bytes; `None` is a key that does not exist.
///
/// `crowd` is handed the entries whenever there are too many of them and keeps what matters, so
/// that a value of millions of tiny entries costs no more memory than its bytes.
pub fn parse(
    bytes: Option<&[u8]>,
    crowded_at: usize,
    crowd: &dyn Fn(Vec<Entry>) -> Vec<Entry>,
) -> Result<Stored, Unreadable> {
    let Some(bytes) = bytes.filter(|bytes| !bytes.trim_ascii().is_empty()) else {
        return Ok(Stored::default());
    };
    let text = std::str::from_utf8(bytes).map_err(|_| Unreadable)?;
    let mut stored = Stored {
        fingerprint: fingerprint(bytes),
        ..Stored::default()
    };
    if text.trim_ascii() == "null" {
        return Ok(stored);
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let collect = Collect {
        stored: &mut stored,
        crowded_at,
        crowd,
    };
    json.deserialize_seq(collect)
        .and_then(|()| json.end())
        .map_err(|_| Unreadable)?;
    Ok(stored)
}

struct Collect<'a> {
    stored: &'a mut Stored,
    crowded_at: usize,
    crowd: &'a dyn Fn(Vec<Entry>) -> Vec<Entry>,
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let stored = self.stored;
        while let Some(raw) = array.next_element::<&RawValue>()? {
            let entry = match parse_message(raw.get()) {
                Ok(entry) => entry,
                Err(fault) => {
                    stored.foreign += 1;
                    stored.first_fault.get_or_insert((stored.count, fault));
                    Entry::foreign(raw.get())
                }
            };
            stored.count += 1;
            stored.entries.push(entry);
            if stored.entries.len() >= self.crowded_at {
                stored.entries = (self.crowd)(std::mem::take(&mut stored.entries));
            }
        }
        Ok(())
    }
}

/// Parses one entry. JSON's own errors are not passed on: they quote the text.
fn parse_message(json: &str) -> Result<Entry, Fault> {
    let mut fields: Map<String, Value> =
        serde_json::from_str(json).map_err(|_| Fault::NotAnObject)?;
    let id = match fields.remove("id") {
        Some(Value::String(id)) if id.len() == uuid::fmt::Hyphenated::LENGTH => {
            MessageId::try_parse(&id).map_err(|_| Fault::Id)?
        }
        _ => return Err(Fault::Id),
    };
    let content = match fields.remove("content") {
        Some(Value::String(content)) if !content.trim().is_empty() => content,
        _ => return Err(Fault::Content),
    };
    let timestamp_ms = fields
        .remove("timestamp")
        .and_then(|timestamp| timestamp.as_u64())
        .filter(|timestamp_ms| *timestamp_ms <= SAFE_INTEGER_MAX)
        .ok_or(Fault::Timestamp)?;
    let session = match fields.remove("sessionId") {
        None | Some(Value::Null) => None,
        Some(Value::String(session)) => SessionId::parse(&session).map_err(|_| Fault::Session)?,
        Some(_) => return Err(Fault::Session),
    };
    let message = Message {
        id,
        timestamp_ms,
        session,
        content,
    };
    let entry = Entry::with_rest(Arc::new(message), &fields);
    if !fields.is_empty() && !is_read_the_same(&entry.json) {
        return Err(Fault::Unrepeatable);
    }
    Ok(entry)
}

/// Whether a form that this module writes is read as it was written. A name that the JSON library keeps
/// for itself is not, once its order makes it the first of an object.
fn is_read_the_same(json: &str) -> bool {
    let again = serde_json::from_str(json).and_then(|value: Value| serde_json::to_string(&value));
    again.is_ok_and(|again| again == json)
}

/// Writes a value. The caller has seen to it that it fits [`KV_VALUE_BYTES_MAX`] (see
/// [`value_bytes`]).
pub fn serialise(entries: &[Entry]) -> Vec<u8> {
    let mut value =
        Vec::with_capacity(entries.iter().map(|entry| entry.bytes() + 1).sum::<usize>() + 2);
    value.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            value.push(b',');
        }
        value.extend_from_slice(entry.json.as_bytes());
    }
    value.push(b']');
    debug_assert!(value.len() <= KV_VALUE_BYTES_MAX);
    value
}

/// An upper bound of the value's size for entries of `entries_bytes` together.
pub fn value_bytes(entries: usize, entries_bytes: usize) -> usize {
    entries_bytes + entries + 1
}

/// A hash of a value's bytes, never 0. Collisions cost a minute's delay, so 64 bits are plenty.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

    fn stored(text: &str) -> Stored {
        parse(Some(text.as_bytes()), 400, &|entries| entries).unwrap()
    }

    fn fault(entry: &str) -> Option<Fault> {
        stored(&format!("[{entry}]"))
            .first_fault
            .map(|(_, fault)| fault)
    }

    #[test]
    fn a_value_is_read_and_written_back() {
        let text = format!(
            r#"[{{"content":"one \u0001\"","id":"{ID}","timestamp":1700000000000}},{{"content":"zwei","id":"10000000-0000-4000-8000-000000000000","sessionId":"s","timestamp":1700000000001}}]"#
        );
        let value = stored(&text);
        assert_eq!((value.count, value.first_fault), (2, None));
        let second = value.entries[1].message().unwrap();
        assert_eq!(second.session.as_ref().unwrap().as_str(), "s");
        assert_eq!(String::from_utf8(serialise(&value.entries)).unwrap(), text);
    }

    #[test]
    fn form_makes_no_difference_but_unknown_fields_are_kept() {
        let plain = format!(r#"{{"id":"{ID}","content":"é","timestamp":5,"sessionId":""}}"#);
        let other = format!(
            "\n{{ \"timestamp\": 5, \"sessionId\": null, \"content\": \"\\u00e9\", \"id\": \"{}\" }}",
            ID.to_uppercase()
        );
        let more = format!(r#"{{"id":"{ID}","content":"é","timestamp":5,"author":{{"n":[1]}}}}"#);
        let entry = |text: &str| stored(&format!("[{text}]")).entries[0].clone();
        assert_eq!(entry(&plain), entry(&other));
        assert_ne!(entry(&plain), entry(&more));
        assert_eq!(entry(&more).id(), entry(&plain).id());
        let text = String::from_utf8(serialise(&[entry(&more)])).unwrap();
        assert!(text.contains(r#""author":{"n":[1]}"#), "{text}");
    }

    /// `serde_json` gives a meaning of its own to this name where it is the first of an object, and in the
    /// form that is written here it is.
    #[test]
    fn what_would_not_be_read_again_as_it_is_written_is_carried_word_for_word() {
        let text = format!(
            r#"[{{"id":"{ID}","content":"x","timestamp":5,"f":{{"a":1,"$serde_json::private::RawValue":"1"}}}}]"#
        );
        let first = stored(&text);
        assert_eq!(first.first_fault, Some((0, Fault::Unrepeatable)));
        assert_eq!(String::from_utf8(serialise(&first.entries)).unwrap(), text);
    }

    #[test]
    fn a_number_in_an_unknown_field_is_the_same_at_every_reading() {
        for number in ["233333333333333333333333", "0.1", "1e300", "5e-324"] {
            let text = format!(r#"[{{"id":"{ID}","content":"x","timestamp":5,"n":{number}}}]"#);
            let first = stored(&text);
            let again = stored(std::str::from_utf8(&serialise(&first.entries)).unwrap());
            assert_eq!(again.entries, first.entries, "{number}");
        }
    }

    #[test]
    fn entries_that_are_no_messages_are_carried_word_for_word() {
        let text = r#"[ 1, {"id": "not-a-uuid", "content":"x","timestamp":1} ,"\ud800",[[]]]"#;
        let value = stored(text);
        assert_eq!(value.count, 4);
        assert!(value.entries.iter().all(|entry| entry.message().is_none()));
        let written = String::from_utf8(serialise(&value.entries)).unwrap();
        assert_eq!(
            written,
            r#"[1,{"id": "not-a-uuid", "content":"x","timestamp":1},"\ud800",[[]]]"#
        );
        assert_eq!(stored(&written).entries, value.entries);
    }

    #[test]
    fn each_fault_has_its_name() {
        let entry = |id: &str, content: &str, timestamp: &str, session: &str| {
            fault(&format!(
                r#"{{"id":{id},"content":{content},"timestamp":{timestamp},"sessionId":{session}}}"#
            ))
        };
        let id = format!("\"{ID}\"");
        let long = format!("\"{}\"", "x".repeat(257));
        assert_eq!(entry(&id, "\"x\"", "1", "null"), None);
        assert_eq!(entry("7", "\"x\"", "1", "null"), Some(Fault::Id));
        assert_eq!(
            entry("\"0f0e0d0c0b0a49088706050403020100\"", "\"x\"", "1", "null"),
            Some(Fault::Id)
        );
        assert_eq!(entry(&id, "\" \\n\"", "1", "null"), Some(Fault::Content));
        assert_eq!(entry(&id, "null", "1", "null"), Some(Fault::Content));
        assert_eq!(
            entry(&id, "\"\\ud800\"", "1", "null"),
            Some(Fault::NotAnObject)
        );
        for timestamp in [
            "-1",
            "1.5",
            "1e3",
            "\"1\"",
            "null",
            "9007199254740992",
            "1e400",
        ] {
            let found = entry(&id, "\"x\"", timestamp, "null");
            assert!(
                matches!(found, Some(Fault::Timestamp | Fault::NotAnObject)),
                "{timestamp}"
            );
        }
        assert_eq!(entry(&id, "\"x\"", "1", "7"), Some(Fault::Session));
        assert_eq!(entry(&id, "\"x\"", "1", &long), Some(Fault::Session));
        assert_eq!(fault("null"), Some(Fault::NotAnObject));
    }

    #[test]
    fn nothing_is_an_empty_history_and_no_array_is_unreadable() {
        let read =
            |bytes: Option<&[u8]>| parse(bytes, 400, &|entries| entries).map(|value| value.count);
        assert_eq!(read(None), Ok(0));
        assert_eq!(read(Some(b"")), Ok(0));
        assert_eq!(read(Some(b" null\n")), Ok(0));
        assert_eq!(read(Some(b"[]")), Ok(0));
        for bytes in [
            &b"{}"[..],
            b"<html>",
            b"[1",
            b"[] []",
            b"[\xff]",
            b"\"[]\"",
            b"7",
            b"[",
        ] {
            assert_eq!(read(Some(bytes)), Err(Unreadable), "{bytes:?}");
        }
    }

    #[test]
    fn nesting_without_end_neither_overflows_the_stack_nor_is_lost() {
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(stored(&deep).count, 1);
        let field = format!(
            r#"[{{"id":"{ID}","x":{}{}}}]"#,
            "[".repeat(5000),
            "]".repeat(5000)
        );
        assert_eq!(stored(&field).first_fault, Some((0, Fault::NotAnObject)));
    }

    #[test]
    fn an_overfull_value_is_thinned_while_it_is_read() {
        let text = format!("[{}1]", "1,".repeat(9_999));
        let value = parse(Some(text.as_bytes()), 50, &|mut entries| {
            assert!(entries.len() <= 50);
            entries.truncate(10);
            entries
        })
        .unwrap();
        assert_eq!(value.count, 10_000);
        assert!(value.entries.len() < 50);
    }

    #[test]
    fn debug_output_shows_no_content() {
        let text = format!(r#"[{{"id":"{ID}","content":"private","timestamp":5}},"private"]"#);
        assert!(!format!("{:?}", stored(&text)).contains("private"));
    }
}
