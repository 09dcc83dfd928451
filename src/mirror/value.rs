//! The KV value: a JSON array of entries, parsed and written.
//!
//! Called by the mirror core and by the `kv-check` command. Never does I/O, and never loses an entry that
//! it cannot parse: a foreign entry is kept unchanged.
//!
//! # Layout
//!
//! `[{"id","content","timestamp","sessionId"?}, ...]`, oldest first, as the Pages app writes it.
//! [`entry`](super::entry) says which entries are messages and which are foreign. A foreign entry
//! is never delivered and ranks behind messages, so it stays while there is room (see `merge`).
//!
//! An empty value and `null` count as an empty history. Any other value that is not a JSON array is
//! [`Unreadable`]: data of another program, or a damaged history. The mirror does not overwrite it.
//!
//! # Memory
//!
//! Beside its bytes, a value of n bytes takes at most n bytes of entries, since no entry is longer than its
//! text. While nested values are skipped, each open bracket takes a byte of a buffer that doubles: at most n
//! bytes. If no bracket is closed it is 2 n, but then there is no entry. See
//! [`KV_MEMORY_BYTES_MAX`](crate::limits::KV_MEMORY_BYTES_MAX).

use std::borrow::Borrow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::KV_VALUE_BYTES_MAX;
use crate::mirror::entry::{Entry, Fault};

/// A parsed value.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The entries in the order of the value. If there were too many, those that `reduce` kept.
    pub entries: Vec<Entry>,
    /// The number of entries in the value, with those that `reduce` dropped.
    pub count: usize,
    /// The number of foreign entries in the value.
    pub foreign: usize,
    /// The index of the first foreign entry, and why it is foreign.
    pub first_fault: Option<(usize, Fault)>,
    /// A hash of the bytes, to recognise a value that was read before. 0 without a value.
    pub fingerprint: u64,
}

/// A value that is not a list: not UTF-8, not JSON, or not an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Parses a value of at most [`KV_VALUE_BYTES_MAX`] bytes; `None` is a key that does not exist.
///
/// Whenever there are `reduce_at` entries, `reduce` is called and returns those to keep. So a value of
/// millions of tiny entries takes no more memory than its bytes. A later entry with the same text as a kept
/// one is only counted, which is fast: millions of entries are mostly the same few.
pub fn parse(
    bytes: Option<&[u8]>,
    reduce_at: usize,
    reduce: &dyn Fn(Vec<Entry>) -> Vec<Entry>,
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
        reduce_at,
        reduce,
        kept: HashSet::new(),
    };
    json.deserialize_seq(collect)
        .and_then(|()| json.end())
        .map_err(|_| Unreadable)?;
    Ok(stored)
}

struct Collect<'a> {
    stored: &'a mut Stored,
    reduce_at: usize,
    reduce: &'a dyn Fn(Vec<Entry>) -> Vec<Entry>,
    /// The entries that the last call of `reduce` kept, by their text.
    kept: HashSet<Text>,
}

/// An entry that is found by its text.
struct Text(Entry);

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.0.json()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Text) -> bool {
        self.0 == other.0
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.json().hash(state);
    }
}

impl Collect<'_> {
    fn take(&mut self, json: &RawValue) {
        let stored = &mut *self.stored;
        let place = stored.count;
        stored.count += 1;
        if let Some(Text(entry)) = self.kept.get(json.get()) {
            stored.foreign += usize::from(entry.id().is_none());
            return;
        }
        let (entry, fault) = Entry::read(json);
        if let Some(fault) = fault {
            stored.foreign += 1;
            stored.first_fault.get_or_insert((place, fault));
        }
        stored.entries.push(entry);
        if stored.entries.len() >= self.reduce_at {
            stored.entries = (self.reduce)(std::mem::take(&mut stored.entries));
            self.kept = stored.entries.iter().cloned().map(Text).collect();
        }
    }
}

impl<'de> Visitor<'de> for Collect<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(json) = array.next_element::<&RawValue>()? {
            self.take(json);
        }
        Ok(())
    }
}

/// Encodes a value. The caller has checked that it fits [`KV_VALUE_BYTES_MAX`] (see [`value_bytes`]).
pub fn serialise(entries: &[Entry]) -> Vec<u8> {
    let mut value =
        Vec::with_capacity(entries.iter().map(|entry| entry.bytes() + 1).sum::<usize>() + 2);
    value.push(b'[');
    for (index, entry) in entries.iter().enumerate() {
        if index > 0 {
            value.push(b',');
        }
        value.extend_from_slice(entry.json().as_bytes());
    }
    value.push(b']');
    debug_assert!(value.len() <= KV_VALUE_BYTES_MAX);
    value
}

/// An upper bound of the value's size for entries of `entries_bytes` together.
pub fn value_bytes(entries: usize, entries_bytes: usize) -> usize {
    entries_bytes + entries + 1
}

/// A hash of a value's bytes, never 0. A collision only delays a write by a minute, so 64 bits suffice.
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

    #[test]
    fn a_value_is_read_and_written_back() {
        let text = format!(
            r#"[{{"content":"one \u0001\"","id":"{ID}","timestamp":1700000000000}},{{"content":"zwei","id":"10000000-0000-4000-8000-000000000000","sessionId":"s","timestamp":1700000000001}}]"#
        );
        let value = stored(&text);
        assert_eq!((value.count, value.first_fault), (2, None));
        let second = value.entries[1].to_message().unwrap();
        assert_eq!(second.session.unwrap().as_str(), "s");
        assert_eq!(String::from_utf8(serialise(&value.entries)).unwrap(), text);
    }

    #[test]
    fn foreign_entries_are_kept_unchanged() {
        let text = r#"[ 1, {"id": "not-a-uuid", "content":"x","timestamp":1} ,"\ud800",[[]]]"#;
        let value = stored(text);
        assert_eq!(value.count, 4);
        assert!(value.entries.iter().all(|entry| entry.id().is_none()));
        let written = String::from_utf8(serialise(&value.entries)).unwrap();
        assert_eq!(
            written,
            r#"[1,{"id": "not-a-uuid", "content":"x","timestamp":1},"\ud800",[[]]]"#
        );
        assert_eq!(stored(&written).entries, value.entries);
    }

    #[test]
    fn an_empty_value_is_an_empty_history_and_a_value_without_a_list_is_unreadable() {
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
    fn deep_nesting_does_not_overflow_the_stack_and_is_kept() {
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(stored(&deep).count, 1);
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        let text = format!(r#"[{{"content":"x","id":"{ID}","timestamp":5,"x":{open}{close}}}]"#);
        let field = stored(&text);
        assert_eq!(field.first_fault, None);
        assert_eq!(String::from_utf8(serialise(&field.entries)).unwrap(), text);
        assert!(parse(Some(open.as_bytes()), 400, &|entries| entries).is_err());
    }

    #[test]
    fn an_overfull_value_is_reduced_while_it_is_parsed() {
        let text = format!("[{}1]", "1,".repeat(9_999));
        let value = parse(Some(text.as_bytes()), 50, &|mut entries| {
            assert!(entries.len() <= 50);
            entries.truncate(10);
            entries
        })
        .unwrap();
        assert_eq!((value.count, value.foreign), (10_000, 10_000));
        assert!(value.entries.len() < 50);
    }
}
