//! The entries of an answer, read in its bytes: an answer to XREAD has a dozen values for each message, and a
//! value of its own for each would cost more than the message.
//!
//! Used by `reader`. Pure. The answer is whole: `wire` has found its end. An entry that is no message becomes
//! [`Content::Foreign`]; any other answer than the expected one becomes a fault.

use std::sync::Arc;

use super::cursor::Cursor;
use super::extras;
use super::fault::unexpected;
use super::reply::entry_id;
use crate::bus::engine::{Content, Entry, Fault, Producer};
use crate::limits::{BODY_BYTES_MAX_LIMIT, BUS_READ_ENTRIES_MAX};
use crate::message::{Message, MessageId, SessionId};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// The most fields of an entry of the bus, names and values: those of a message with a session and extras.
const FIELDS_MAX: usize = 10;

/// The keys in the answer to XREAD that have entries: gives each with its number of entries, at which the cursor
/// then is, to `read`.
pub(super) fn streams<'a>(
    answer: &'a [u8],
    mut read: impl FnMut(&'a [u8], usize, &mut Cursor<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let unknown = || unexpected("the result of a read");
    let mut cursor = Cursor::new(answer);
    if cursor.is_nil() {
        return Ok(());
    }
    for _ in 0..cursor.array().ok_or_else(unknown)? {
        let is_pair = cursor.array() == Some(2);
        let key = cursor.text().filter(|_| is_pair).ok_or_else(unknown)?;
        let count = cursor.array().ok_or_else(unknown)?;
        read(key, count, &mut cursor)?;
    }
    Ok(())
}

/// So many entries of the log.
pub(super) fn entries(count: usize, cursor: &mut Cursor<'_>) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::with_capacity(count.min(BUS_READ_ENTRIES_MAX));
    for _ in 0..count {
        entries.push(entry(cursor)?);
    }
    Ok(entries)
}

/// The entries in the answer to XREVRANGE.
pub(super) fn range(answer: &[u8]) -> Result<Vec<Entry>, Fault> {
    let mut cursor = Cursor::new(answer);
    let count = cursor.array();
    entries(
        count.ok_or_else(|| unexpected("the result of a read"))?,
        &mut cursor,
    )
}

fn entry(cursor: &mut Cursor<'_>) -> Result<Entry, Fault> {
    let (id, fields) = id_and_fields(cursor)?;
    Ok(Entry {
        id,
        content: content(id, fields.texts()).unwrap_or_else(|why| Content::Foreign(why.into())),
    })
}

/// A probe: the position, and what it says, if it is one.
pub(super) fn probe(cursor: &mut Cursor<'_>) -> Result<(EventId, Option<(Producer, u64)>), Fault> {
    let (id, fields) = id_and_fields(cursor)?;
    let probe = match fields.texts() {
        [b"p", probe] => str::from_utf8(probe).ok().and_then(parse_probe),
        _ => None,
    };
    Ok((id, probe))
}

fn parse_probe(text: &str) -> Option<(Producer, u64)> {
    let (producer, number) = text.split_once(' ')?;
    let producer = u64::from_str_radix(producer, 16).ok()?;
    Some((Producer(producer), number.parse().ok()?))
}

/// The fields of an entry.
struct Fields<'a> {
    texts: [&'a [u8]; FIELDS_MAX],
    count: usize,
}

impl<'a> Fields<'a> {
    /// Names and values in turn; none if they are not those of an entry of the bus.
    fn texts(&self) -> &[&'a [u8]] {
        self.texts.get(..self.count).unwrap_or_default()
    }
}

fn id_and_fields<'a>(cursor: &mut Cursor<'a>) -> Result<(EventId, Fields<'a>), Fault> {
    let unknown = || unexpected("an entry");
    let is_pair = cursor.array() == Some(2);
    let id = cursor.text().filter(|_| is_pair).ok_or_else(unknown)?;
    let id = str::from_utf8(id).ok().and_then(entry_id);
    let id = id.ok_or_else(unknown)?;
    let count = cursor.array().ok_or_else(unknown)?;
    let mut fields = Fields {
        texts: [&[]; FIELDS_MAX],
        count,
    };
    for place in 0..count {
        match (cursor.text(), fields.texts.get_mut(place)) {
            (Some(text), Some(field)) => *field = text,
            _ => fields.count = usize::MAX,
        }
    }
    Ok((id, fields))
}

/// The content of an entry, or what is wrong with it.
fn content(id: EventId, fields: &[&[u8]]) -> Result<Content, &'static str> {
    if let [b"b", lineage] = fields {
        let lineage = str::from_utf8(lineage).ok().and_then(Lineage::parse);
        let lineage = lineage.filter(|lineage| lineage.epoch() == id.epoch && id.seq == 0);
        return lineage
            .map(Content::Begin)
            .ok_or("it is no valid beginning of an epoch");
    }
    let (message_id, time, session, extras, content) = match *fields {
        [b"i", message_id, b"t", time, b"c", content] => (message_id, time, None, None, content),
        [b"i", message_id, b"t", time, b"s", session, b"c", content] => {
            (message_id, time, Some(session), None, content)
        }
        [b"i", message_id, b"t", time, b"x", extras, b"c", content] => {
            (message_id, time, None, Some(extras), content)
        }
        [
            b"i",
            message_id,
            b"t",
            time,
            b"s",
            session,
            b"x",
            extras,
            b"c",
            content,
        ] => (message_id, time, Some(session), Some(extras), content),
        _ => return Err("it has other fields than a message of this version"),
    };
    let session = session.map(|session| {
        let session = str::from_utf8(session).ok();
        let session = session.and_then(|text| SessionId::parse(text).ok());
        session.flatten().ok_or("its session is not valid")
    });
    let extras = extras.map(extras::decode).transpose()?;
    let (identity, label) = extras.unwrap_or_default();
    let content = str::from_utf8(content).map_err(|_| "its content is not UTF-8")?;
    if content.len() > BODY_BYTES_MAX_LIMIT {
        return Err("its content is longer than any body");
    }
    if content.trim().is_empty() {
        return Err("its content is blank");
    }
    if id.seq == 0 {
        return Err("it is in the place of a beginning");
    }
    let time = str::from_utf8(time).ok().and_then(|time| time.parse().ok());
    Ok(Content::Message(Arc::new(Message {
        id: MessageId::from_slice(message_id).map_err(|_| "its id is not one of 16 bytes")?,
        timestamp_ms: time.ok_or("its time is no number")?,
        session: session.transpose()?,
        content: content.to_owned(),
        label,
        identity,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Epoch;

    const MESSAGE: &str = "*2\r\n$3\r\n7-3\r\n*6\r\n$1\r\ni\r\n$16\r\n0123456789abcdef\r\n\
                           $1\r\nt\r\n$1\r\n5\r\n$1\r\nc\r\n$1\r\na\r\n";

    fn news(answer: &str) -> Result<Vec<(String, Vec<Entry>)>, Fault> {
        let mut all = Vec::new();
        streams(answer.as_bytes(), |key, count, cursor| {
            let key = String::from_utf8_lossy(key).into_owned();
            all.push((key, entries(count, cursor)?));
            Ok(())
        })?;
        Ok(all)
    }

    #[test]
    fn an_answer_has_the_entries_of_each_key() {
        for nothing in ["*-1\r\n", "$-1\r\n", "*0\r\n"] {
            assert_eq!(news(nothing), Ok(Vec::new()), "{nothing:?}");
        }
        let answer = format!(
            "*2\r\n*2\r\n$1\r\na\r\n*1\r\n{MESSAGE}*2\r\n$1\r\nb\r\n*2\r\n{MESSAGE}{MESSAGE}"
        );
        let all = news(&answer).unwrap();
        let keys: Vec<_> = all
            .iter()
            .map(|(key, entries)| (&**key, entries.len()))
            .collect();
        assert_eq!(keys, [("a", 1), ("b", 2)]);
        let Content::Message(message) = &all[1].1[1].content else {
            panic!();
        };
        assert_eq!((&*message.content, message.timestamp_ms), ("a", 5));
        let id = EventId {
            epoch: Epoch(7),
            seq: 3,
        };
        assert_eq!(all[1].1[1].id, id);
        for other in [
            ":1\r\n",
            "*1\r\n:1\r\n",
            "*1\r\n*2\r\n:1\r\n*0\r\n",
            "+OK\r\n",
        ] {
            assert!(news(other).is_err(), "{other:?}");
        }
    }

    /// The next entry is read from its own beginning.
    #[test]
    fn a_foreign_entry_is_passed_whole() {
        let other_fields = [
            "*2\r\n$1\r\ni\r\n*1\r\n:5\r\n",
            "*-1\r\n",
            "*0\r\n",
            &format!("*10\r\n{}", "$1\r\ni\r\n".repeat(10)),
            "*6\r\n$1\r\ni\r\n$-1\r\n$1\r\nt\r\n$1\r\n5\r\n$1\r\nc\r\n$1\r\na\r\n",
        ];
        for fields in other_fields {
            let answer = format!("*2\r\n*2\r\n$3\r\n7-2\r\n{fields}{MESSAGE}");
            let entries = range(answer.as_bytes());
            if fields == "*-1\r\n" {
                assert!(entries.is_err());
                continue;
            }
            let entries = entries.unwrap();
            assert!(
                matches!(entries[0].content, Content::Foreign(_)),
                "{fields:?}"
            );
            assert!(
                matches!(entries[1].content, Content::Message(_)),
                "{fields:?}"
            );
        }
    }
}
