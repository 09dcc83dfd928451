//! One entry of the KV value: a message, or a foreign entry, which is kept unchanged.
//!
//! Called by `value`, which splits the value into entries, by `merge` and by the mirror core. Never does
//! I/O. Never parses an entry over its share of the value, nor unknown members: they stay text. Never
//! passes on a JSON error, which would quote the text.
//!
//! # Messages
//!
//! A message is an object of at most [`KV_ENTRY_BYTES_MAX`] bytes. `id` is a UUID in hyphenated form,
//! `content` a string that is not blank, `timestamp` an integer of milliseconds within JavaScript's safe
//! range. `sessionId` is absent, null, empty or a string of at most 256 bytes. Of repeated members the
//! last one counts, as in JavaScript. Half a surrogate pair in a string becomes U+FFFD. Any other entry is
//! *foreign*.
//!
//! `source` and `event` are the label of a message. They are unknown members to every other rule: one that
//! is no label is kept and ignored.
//!
//! # Canonical form
//!
//! A message is written in one form, however others write it: members ordered by name, no white space
//! between them, and only the necessary escapes. Unknown members keep their text, without white space. The
//! form only removes bytes or replaces an escape by its character, so it is never longer than the text
//! that was read. So entries take no more memory than the value.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::json_text;
use crate::limits::{
    EVENT_TYPE_BYTES_MAX, KV_ENTRY_BYTES_MAX, SESSION_BYTES_MAX, SOURCE_NAME_BYTES_MAX,
};
use crate::message::{Label, Message, MessageId, SessionId};

/// The largest integer that a JavaScript number holds exactly (ECMAScript `MAX_SAFE_INTEGER`).
const SAFE_INTEGER_MAX: u64 = (1 << 53) - 1;

/// The members of a label.
const SOURCE: &str = "source";
const EVENT: &str = "event";

/// One entry of the KV value. Cloning shares its text.
///
/// Two entries are equal if their text is.
#[derive(Clone)]
pub struct Entry {
    /// The position of a message in the history; `None` for a foreign entry.
    place: Option<Place>,
    json: Arc<str>,
}

/// The order of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    timestamp_ms: u64,
    id: MessageId,
}

/// The identity of an entry: two entries with the same one are versions of each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity<'a> {
    /// A message's id.
    Message(MessageId),
    /// A foreign entry's text.
    Foreign(&'a str),
}

/// Why an entry is foreign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is larger than its share of the value.
    TooLarge,
    /// It is not a JSON object.
    NotAnObject,
    /// `id` is not a hyphenated UUID.
    Id,
    /// `content` is not a string, or is blank.
    Content,
    /// `timestamp` is not an integer of milliseconds.
    Timestamp,
    /// `sessionId` is not a string, or is too long.
    Session,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::TooLarge => "it is larger than 256 KiB, a hundredth of a KV value",
            Fault::NotAnObject => "it is not a JSON object",
            Fault::Id => "its id is not a UUID",
            Fault::Content => "its content is missing, not a string, or blank",
            Fault::Timestamp => "its timestamp is not an integer of milliseconds",
            Fault::Session => "its sessionId is not a string of at most 256 bytes",
        })
    }
}

impl Entry {
    /// The entry of a message; `None` if it is larger than its share of the value.
    pub fn of(message: &Message) -> Option<Entry> {
        if !is_shareable(message) {
            return None;
        }
        let label = message.label.as_ref();
        let label = label.map(|label| [quoted(label.source()), quoted(label.event())]);
        let others = label
            .iter()
            .flat_map(|[source, event]| [(SOURCE, source.as_str()), (EVENT, event.as_str())]);
        let fields = Fields {
            place: Place {
                timestamp_ms: message.timestamp_ms,
                id: message.id,
            },
            session: message.session.clone(),
            content: Cow::Borrowed(&message.content),
            others: others.collect(),
        };
        let entry = fields.into_entry();
        debug_assert_eq!(entry.bytes(), bytes_of(message));
        Some(entry)
    }

    /// Parses an entry. A foreign one keeps its text, and its fault is returned.
    pub(super) fn read(json: &RawValue) -> (Entry, Option<Fault>) {
        match Fields::read(json.get()) {
            Ok(fields) => (fields.into_entry(), None),
            Err(fault) => {
                let foreign = Entry {
                    place: None,
                    json: json.get().into(),
                };
                (foreign, Some(fault))
            }
        }
    }

    /// The message; `None` if the entry is foreign.
    pub fn to_message(&self) -> Option<Message> {
        let place = self.place?;
        let fields = Fields::read(&self.json).ok()?;
        Some(Message {
            id: place.id,
            timestamp_ms: place.timestamp_ms,
            label: fields.label().map(Arc::new),
            session: fields.session,
            content: fields.content.into_owned(),
            identity: None,
        })
    }

    /// The id of the message; `None` if the entry is foreign.
    pub fn id(&self) -> Option<MessageId> {
        self.place.map(|place| place.id)
    }

    /// See [`Identity`].
    pub fn identity(&self) -> Identity<'_> {
        self.id()
            .map_or(Identity::Foreign(&self.json), Identity::Message)
    }

    /// The text of the entry in the value.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// The size of the entry in the value, without the comma.
    pub fn bytes(&self) -> usize {
        self.json.len()
    }

    /// Whether the entry is ranked by time: it is a message, and not later than `horizon_ms`. All others
    /// rank behind these.
    pub fn is_first_class(&self, horizon_ms: u64) -> bool {
        self.place
            .is_some_and(|place| place.timestamp_ms <= horizon_ms)
    }

    /// The order of the history, the same on every node: by class, time and id. Entries with the same id
    /// are ordered by length, then by text. So an entry to which others have added members is greater than
    /// the one that a node makes from its ring.
    pub fn rank(&self, other: &Entry, horizon_ms: u64) -> Ordering {
        let key = |entry: &Entry| (entry.is_first_class(horizon_ms), entry.place);
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
    /// Omits the content, which must not be logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{}@{}", place.id, place.timestamp_ms),
            None => write!(f, "foreign({} bytes)", self.json.len()),
        }
    }
}

/// Whether a message's entry is within its share of the value. Other messages are not shared.
pub fn is_shareable(message: &Message) -> bool {
    // A byte takes at most six in JSON.
    const NAMES_BYTES_MAX: usize = SESSION_BYTES_MAX + SOURCE_NAME_BYTES_MAX + EVENT_TYPE_BYTES_MAX;
    const CONTENT_BYTES_SURE: usize = (KV_ENTRY_BYTES_MAX - 6 * NAMES_BYTES_MAX - 256) / 6;
    message.content.len() <= CONTENT_BYTES_SURE || bytes_of(message) <= KV_ENTRY_BYTES_MAX
}

/// [`Entry::bytes`] of a message's entry, without building it.
fn bytes_of(message: &Message) -> usize {
    const FIXED: usize = r#"{"content":,"id":"","timestamp":}"#.len() + 36;
    const SESSION: usize = r#""sessionId":,"#.len();
    const LABEL: usize = r#""event":,"source":,"#.len();
    let session = message.session.as_ref();
    let label = message.label.as_ref();
    let label = label.map(|label| text_bytes(label.source()) + text_bytes(label.event()));
    FIXED
        + label.map_or(0, |bytes| LABEL + bytes)
        + text_bytes(&message.content)
        + session.map_or(0, |session| SESSION + text_bytes(session.as_str()))
        + message.timestamp_ms.checked_ilog10().unwrap_or(0) as usize
        + 1
}

/// The size of a text as a JSON string with only the necessary escapes (RFC 8259 section 7).
fn text_bytes(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\x08' | b'\t' | b'\n' | b'\x0c' | b'\r' => 2,
        0..=0x1f => 6,
        _ => 1,
    });
    2 + bytes.sum::<usize>()
}

/// The members of a message's entry.
struct Fields<'a> {
    place: Place,
    session: Option<SessionId>,
    content: Cow<'a, str>,
    /// Unknown members as text: the name without its quotation marks, and the value.
    others: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    fn read(json: &'a str) -> Result<Fields<'a>, Fault> {
        if json.len() > KV_ENTRY_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        // Checked first, because building a JSON error is slow: a value may be millions of numbers.
        if !json.starts_with('{') {
            return Err(Fault::NotAnObject);
        }
        let members: Members<'a> = serde_json::from_str(json).map_err(|_| Fault::NotAnObject)?;
        let id = members
            .id
            .and_then(json_text::decode)
            .filter(|id| id.len() == uuid::fmt::Hyphenated::LENGTH)
            .and_then(|id| MessageId::try_parse(&id).ok())
            .ok_or(Fault::Id)?;
        let content = members
            .content
            .and_then(json_text::decode)
            .filter(|content| !content.trim().is_empty())
            .ok_or(Fault::Content)?;
        let timestamp_ms = members
            .timestamp
            .and_then(|timestamp| timestamp.get().parse().ok())
            .filter(|timestamp_ms| *timestamp_ms <= SAFE_INTEGER_MAX)
            .ok_or(Fault::Timestamp)?;
        let session = match members.session.filter(|session| session.get() != "null") {
            None => None,
            Some(session) => {
                let text = json_text::decode(session).ok_or(Fault::Session)?;
                SessionId::parse(&text).map_err(|_| Fault::Session)?
            }
        };
        Ok(Fields {
            place: Place { timestamp_ms, id },
            session,
            content,
            others: members.others,
        })
    }

    /// The label that the unknown members make, if they make one.
    fn label(&self) -> Option<Label> {
        let text = |wanted: &str| {
            let is_it = |(name, _): &&(&str, &str)| *name == wanted;
            let (_, json) = self.others.iter().rev().find(is_it)?;
            json_text::decode(serde_json::from_str(json).ok()?)
        };
        let event = text(EVENT).unwrap_or_default();
        Label::new(&text(SOURCE)?, &event)
    }

    fn into_entry(self) -> Entry {
        let content = quoted(&self.content);
        let id = quoted(&self.place.id.hyphenated().to_string());
        let timestamp = self.place.timestamp_ms.to_string();
        let session = self.session.map(|session| quoted(session.as_str()));
        let mut members = self.others;
        members.extend([
            ("content", content.as_str()),
            ("id", &id),
            ("timestamp", &timestamp),
        ]);
        members.extend(
            session
                .as_ref()
                .map(|session| ("sessionId", session.as_str())),
        );
        // The sort is stable, so the last of several members with one name stays the last.
        members.sort_by_key(|(name, _)| *name);

        let mut json = String::with_capacity(content.len() + 128);
        json.push('{');
        for (index, (name, value)) in members.iter().enumerate() {
            let is_replaced = members.get(index + 1).is_some_and(|next| next.0 == *name);
            if is_replaced {
                continue;
            }
            if json.len() > 1 {
                json.push(',');
            }
            json.push('"');
            json.push_str(name);
            json.push_str("\":");
            push_compact(&mut json, value);
        }
        json.push('}');
        Entry {
            place: Some(self.place),
            json: json.into(),
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON, and a String takes it")
}

/// Appends a JSON value without white space between its tokens.
fn push_compact(out: &mut String, json: &str) {
    let (mut is_in_text, mut is_escaped) = (false, false);
    let mut from = 0;
    for (at, byte) in json.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => is_in_text = !is_in_text,
            b' ' | b'\t' | b'\n' | b'\r' if !is_in_text => {
                out.push_str(&json[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    out.push_str(&json[from..]);
}

/// The members of an object, as text.
#[derive(Default)]
struct Members<'a> {
    id: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    session: Option<&'a RawValue>,
    others: Vec<(&'a str, &'a str)>,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let text = json_text::decode(name);
            let member = match text.as_deref() {
                Some("id") => &mut members.id,
                Some("content") => &mut members.content,
                Some("timestamp") => &mut members.timestamp,
                Some("sessionId") => &mut members.session,
                _ => {
                    let quoted = name.get();
                    let name = &quoted[1..quoted.len() - 1];
                    members.others.push((name, value.get()));
                    continue;
                }
            };
            *member = Some(value);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0f0e0d0c-0b0a-4908-8706-050403020100";

    fn read(json: &str) -> (Entry, Option<Fault>) {
        Entry::read(serde_json::from_str(json).unwrap())
    }

    fn entry(json: &str) -> Entry {
        let (entry, fault) = read(json);
        assert_eq!(fault, None, "{json}");
        entry
    }

    fn fault(json: &str) -> Option<Fault> {
        read(json).1
    }

    #[test]
    fn one_message_in_several_forms_is_one_entry_and_unknown_members_are_kept() {
        let plain = format!(r#"{{"id":"{ID}","content":"é","timestamp":5,"sessionId":""}}"#);
        let other = format!(
            "{{ \"timestamp\": 5, \"sessionId\": null, \"content\": \"\\u00e9\", \"\\u0069d\": \"{}\" }}",
            ID.to_uppercase()
        );
        let more = format!(r#"{{"id":"{ID}","content":"é","timestamp":5,"author":{{"n":[1]}}}}"#);
        assert_eq!(entry(&plain), entry(&other));
        assert_ne!(entry(&plain), entry(&more));
        assert_eq!(entry(&more).id(), entry(&plain).id());
        assert_eq!(
            entry(&more).json(),
            format!(r#"{{"author":{{"n":[1]}},"content":"é","id":"{ID}","timestamp":5}}"#)
        );
    }

    #[test]
    fn unknown_members_keep_their_text_without_white_space() {
        let before = r#"{"\"":1,"zz":[ 1.0, 233333333333333333333333 ,1e999,"a b\" \\"]"#;
        let json = format!(
            "{before}, \"id\":\"{ID}\",\"content\":\"x\" , \"timestamp\":5,\n\"a\\ud800\" : {{ \"$serde_json::private::RawValue\":\"\\udfff\" }} }}"
        );
        let expected = format!(
            r#"{{"\"":1,"a\ud800":{{"$serde_json::private::RawValue":"\udfff"}},"content":"x","id":"{ID}","timestamp":5,"zz":[1.0,233333333333333333333333,1e999,"a b\" \\"]}}"#
        );
        assert_eq!(entry(&json).json(), expected);
        assert_eq!(entry(&expected).json(), expected);
    }

    #[test]
    fn of_repeated_members_the_last_counts() {
        let json = format!(
            r#"{{"n":1,"content":7,"id":"no","id":"{ID}","content":"x","timestamp":5,"n":[],"n":2}}"#
        );
        let expected = format!(r#"{{"content":"x","id":"{ID}","n":2,"timestamp":5}}"#);
        assert_eq!(entry(&json).json(), expected);
    }

    #[test]
    fn half_a_surrogate_pair_is_a_replacement_character() {
        let json =
            format!(r#"{{"id":"{ID}","content":"\ud83dx","timestamp":5,"sessionId":"\ude00"}}"#);
        let message = entry(&json).to_message().unwrap();
        assert_eq!(message.content, "\u{fffd}x");
        assert_eq!(message.session.unwrap().as_str(), "\u{fffd}");
        assert!(entry(&json).json().contains("\"\u{fffd}x\""));
    }

    #[test]
    fn each_fault_has_its_name() {
        let of = |id: &str, content: &str, timestamp: &str, session: &str| {
            fault(&format!(
                r#"{{"id":{id},"content":{content},"timestamp":{timestamp},"sessionId":{session}}}"#
            ))
        };
        let id = format!("\"{ID}\"");
        let long = format!("\"{}\"", "x".repeat(257));
        assert_eq!(of(&id, "\"x\"", "1", "null"), None);
        assert_eq!(of("7", "\"x\"", "1", "null"), Some(Fault::Id));
        assert_eq!(
            of("\"0f0e0d0c0b0a49088706050403020100\"", "\"x\"", "1", "null"),
            Some(Fault::Id)
        );
        assert_eq!(of(&id, "\" \\n\"", "1", "null"), Some(Fault::Content));
        assert_eq!(of(&id, "null", "1", "null"), Some(Fault::Content));
        for timestamp in [
            "-1",
            "-0",
            "1.5",
            "1e3",
            "\"1\"",
            "null",
            "9007199254740992",
            "1e400",
        ] {
            let found = of(&id, "\"x\"", timestamp, "null");
            assert_eq!(found, Some(Fault::Timestamp), "{timestamp}");
        }
        assert_eq!(of(&id, "\"x\"", "1", "7"), Some(Fault::Session));
        assert_eq!(of(&id, "\"x\"", "1", &long), Some(Fault::Session));
        for json in ["null", "[]", "\"{}\"", "7"] {
            assert_eq!(fault(json), Some(Fault::NotAnObject), "{json}");
        }
        let share = format!("\"{}\"", "x".repeat(KV_ENTRY_BYTES_MAX - 1));
        assert_eq!(fault(&share), Some(Fault::TooLarge));
        assert_eq!(
            fault(&share[1..].replacen('x', "\"", 1)),
            Some(Fault::NotAnObject)
        );
    }

    #[test]
    fn the_largest_shareable_message_is_shared_and_a_larger_one_is_not() {
        let message = |content: String| Message {
            id: MessageId::from_u128(1),
            timestamp_ms: 5,
            session: SessionId::parse("s\n").unwrap(),
            content,
            label: Label::new("source", "ev\"ent").map(Arc::new),
            identity: None,
        };
        let bare = bytes_of(&message("a".into()));
        for (unit, takes) in [("x", 1), ("\u{1}", 6), ("\n", 2), ("é", 2)] {
            let units = (KV_ENTRY_BYTES_MAX - bare) / takes;
            let content = |units| format!("a{}", unit.repeat(units));
            let largest = message(content(units));
            let entry = Entry::of(&largest).unwrap();
            assert_eq!(entry.to_message(), Some(largest));
            assert_eq!(read(entry.json()), (entry.clone(), None));
            assert!(Entry::of(&message(content(units + 1))).is_none());
        }
    }

    #[test]
    fn a_label_is_two_members_and_anything_else_is_none() {
        let message = Message {
            id: MessageId::try_parse(ID).unwrap(),
            timestamp_ms: 5,
            session: SessionId::parse("s").unwrap(),
            content: "x".into(),
            label: Label::new("github", "a\"b").map(Arc::new),
            identity: None,
        };
        let written = Entry::of(&message).unwrap();
        let expected = format!(
            r#"{{"content":"x","event":"a\"b","id":"{ID}","sessionId":"s","source":"github","timestamp":5}}"#
        );
        assert_eq!(written.json(), expected);
        assert_eq!(entry(&expected), written);
        assert_eq!(written.to_message(), Some(message));

        let long = "x".repeat(129);
        for (source, event, label) in [
            (r#""github""#, r#""push""#, Label::new("github", "push")),
            (r#""git\u0068ub""#, r#""""#, Label::new("github", "")),
            (r#""github""#, "7", Label::new("github", "")),
            (r#""github""#, "null", Label::new("github", "")),
            ("7", r#""push""#, None),
            (r#""""#, r#""push""#, None),
            (&format!("{long:?}"), r#""push""#, None),
            (r#""github""#, &format!("{long:?}"), None),
            (r#""a\nb""#, r#""push""#, None),
            (r#"{"a":[]}"#, "[]", None),
        ] {
            let json = format!(
                r#"{{"content":"x","event":{event},"id":"{ID}","source":{source},"timestamp":5}}"#
            );
            let entry = entry(&json);
            assert_eq!(entry.json(), json, "kept as it is");
            let found = entry.to_message().unwrap().label;
            assert_eq!(found.as_deref(), label.as_ref(), "{json}");
        }
    }

    #[test]
    fn debug_output_shows_no_content() {
        let json = format!(r#"{{"id":"{ID}","content":"private","timestamp":5}}"#);
        assert!(!format!("{:?} {:?}", entry(&json), read("\"private\"")).contains("private"));
    }

    fn json_value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("1.50E+3".to_owned()),
            any::<String>().prop_map(|text| quoted(&text)),
            Just(r#""\ud800 \u0041""#.to_owned()),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop::collection::vec(inner, 0..4)
                .prop_map(|parts| format!("[ {}]", parts.join(" ,\t")))
        })
    }

    proptest! {
        /// The canonical form is parsed back unchanged, and is never longer than the text read.
        #[test]
        fn the_form_is_stable_and_not_longer(
            content in "\\PC*[a-z]",
            session in proptest::option::of("\\PC{0,20}"),
            timestamp_ms in 0..=SAFE_INTEGER_MAX,
            id: u128,
            label in proptest::option::of(("[a-z\"]{1,9}", "\\PC{0,20}")),
            others in prop::collection::vec((any::<String>(), json_value()), 0..4),
        ) {
            let message = Message {
                id: MessageId::from_u128(id),
                timestamp_ms,
                session: session.and_then(|text| SessionId::parse(&text).unwrap()),
                content,
                label: label.and_then(|(source, event)| Label::new(&source, &event)).map(Arc::new),
                identity: None,
            };
            let plain = Entry::of(&message).unwrap();
            prop_assert_eq!(plain.bytes(), bytes_of(&message));
            prop_assert_eq!(plain.to_message(), Some(message.clone()));

            let mut json = plain.json().replacen('{', "{ ", 1);
            json.truncate(json.len() - 1);
            for (name, value) in &others {
                write!(json, ", {}: {value}", quoted(name)).unwrap();
            }
            json.push('}');
            let (first, fault) = read(&json);
            let known = ["id", "content", "timestamp", "sessionId", "source", "event"];
            prop_assume!(!others.iter().any(|(name, _)| known.contains(&name.as_str())));
            prop_assert_eq!(fault, None);
            prop_assert!(first.bytes() <= json.len());
            prop_assert_eq!(first.to_message(), Some(message));
            let (again, fault) = read(first.json());
            prop_assert_eq!((again, fault), (first, None));
        }
    }
}
