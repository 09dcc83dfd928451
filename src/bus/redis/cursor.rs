//! A place in the bytes of a whole answer: reads one value after the other without a copy.
//!
//! Used by `entries` for answers with many values. Pure. `wire` has found the answer's end, so each length is right.

use super::wire::{length, line_end};

/// See the module's documentation. Every call passes one value, also if it is not of the
/// expected kind; an array is passed up to its first value.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(answer: &'a [u8]) -> Cursor<'a> {
        Cursor { rest: answer }
    }

    /// Whether the next value is nil.
    pub(super) fn is_nil(&self) -> bool {
        self.rest.starts_with(b"*-1\r\n") || self.rest.starts_with(b"$-1\r\n")
    }

    /// How many values the array has that is next.
    pub(super) fn array(&mut self) -> Option<usize> {
        if self.rest.first() != Some(&b'*') {
            self.skip();
            return None;
        }
        length(self.line()).ok().flatten()
    }

    /// The text that is next.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        match self.rest.first() {
            Some(b'$') => {
                let length = length(self.line()).ok().flatten()?;
                let text = self.rest.get(..length);
                self.rest = self.rest.get(length + 2..).unwrap_or_default();
                text
            }
            Some(b'+') => Some(self.line()),
            _ => {
                self.skip();
                None
            }
        }
    }

    /// Passes a value with all that is in it.
    fn skip(&mut self) {
        let mut left = 1_usize;
        while left > 0 && !self.rest.is_empty() {
            left -= 1;
            match self.rest.first() {
                Some(b'*') => left += self.array().unwrap_or(0),
                Some(b'$') => drop(self.text()),
                _ => drop(self.line()),
            }
        }
    }

    /// The first line of a value, without its kind and its end.
    fn line(&mut self) -> &'a [u8] {
        let Some(end) = line_end(self.rest, 0) else {
            self.rest = &[];
            return &[];
        };
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest;
        &line[1..end - 2]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bus::redis::wire::Value;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            "[a\n]{0,3}".prop_map(|text| Value::SimpleString(text.into())),
            "[a\n]{0,3}".prop_map(Value::Error),
            any::<i64>().prop_map(Value::Integer),
            "[a\r\n$*]{0,5}".prop_map(|text| Value::BulkString(text.into())),
            Just(Value::Null),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop::collection::vec(inner, 0..4).prop_map(Value::Array)
        })
    }

    fn encode(value: &Value, bytes: &mut Vec<u8>) {
        let mut line = |text: String| bytes.extend_from_slice(text.as_bytes());
        match value {
            Value::SimpleString(text) => line(format!("+{}\r\n", String::from_utf8_lossy(text))),
            Value::Error(text) => line(format!("-{text}\r\n")),
            Value::Integer(number) => line(format!(":{number}\r\n")),
            Value::Null => line("*-1\r\n".into()),
            Value::BulkString(text) => {
                let shown = String::from_utf8_lossy(text);
                line(format!("${}\r\n{shown}\r\n", text.len()));
            }
            Value::Array(values) => {
                line(format!("*{}\r\n", values.len()));
                for value in values {
                    encode(value, bytes);
                }
            }
        }
    }

    /// Reads a value by what it is.
    fn read(cursor: &mut Cursor<'_>, value: &Value) {
        assert_eq!(cursor.is_nil(), *value == Value::Null);
        match value {
            Value::SimpleString(text) | Value::BulkString(text) => {
                assert_eq!(cursor.text(), Some(&text[..]));
            }
            Value::Array(values) => {
                assert_eq!(cursor.array(), Some(values.len()));
                for value in values {
                    read(cursor, value);
                }
            }
            _ => assert_eq!(cursor.array(), None),
        }
    }

    proptest! {
        #[test]
        fn a_value_is_read_as_it_is_and_passed_as_any_other(
            values in prop::collection::vec(value(), 1..4),
        ) {
            let mut bytes = Vec::new();
            for value in &values {
                encode(value, &mut bytes);
            }
            let mut cursor = Cursor::new(&bytes);
            for value in &values {
                read(&mut cursor, value);
            }
            prop_assert!(cursor.rest.is_empty());
            let mut cursor = Cursor::new(&bytes);
            for value in &values {
                match value {
                    Value::SimpleString(_) | Value::BulkString(_) => {
                        prop_assert_eq!(cursor.array(), None);
                    }
                    _ => prop_assert_eq!(cursor.text(), None),
                }
            }
            prop_assert!(cursor.rest.is_empty());
        }

        #[test]
        fn no_bytes_end_a_walk_with_a_panic(bytes in "[$*+:a0-9\r\n-]{0,40}") {
            let mut cursor = Cursor::new(bytes.as_bytes());
            for nth in 0..bytes.len() {
                match nth % 3 {
                    0 => drop(cursor.array()),
                    1 => drop(cursor.text()),
                    _ => cursor.skip(),
                }
            }
        }
    }
}
