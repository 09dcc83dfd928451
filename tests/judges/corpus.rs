//! Reads corpus files: cases with named fields and raw bytes, in a form that people can review.
//!
//! ```text
//! # A comment.
//! == name-of-the-case
//! source: RFC 9112 section 5.1
//! expect: 400 close
//! > GET /api/webhook HTTP/1.1\r\n
//! > Host : a\r\n
//! > \r\n
//! ```
//!
//! The bytes of lines that begin with `> ` are joined; the end of a line is not part of them. Escapes: `\r`,
//! `\n`, `\t`, `\0`, `\\`, `\xHH`, `\{unit*count}` for `unit` repeated `count` times, and `\|` for "wait here
//! for an answer".

use std::fs;
use std::path::Path;

/// A case of a corpus file.
pub struct Case {
    /// Unique in its corpus.
    pub name: String,
    fields: Vec<(String, String)>,
    raw: String,
}

impl Case {
    /// The value of a field that occurs at most once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let values = self.fields(name);
        assert!(values.len() < 2, "{}: {name} twice", self.name);
        values.first().copied()
    }

    /// The value of a required field.
    pub fn required(&self, name: &str) -> &str {
        self.field(name)
            .unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    /// All values of a field.
    pub fn fields(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(other, _)| other == name);
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The bytes, cut at each wait for an answer.
    pub fn parts(&self) -> Vec<Vec<u8>> {
        self.raw.split(r"\|").map(unescape).collect()
    }
}

/// Reads the cases of one file. Each needs a unique name and a source.
pub fn read(path: &Path, fields: &[&str]) -> Vec<Case> {
    let place = path.display();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{place}: {error}"));
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(name) = line.strip_prefix("== ") {
            assert!(cases.iter().all(|c| c.name != name), "{name} twice");
            cases.push(Case {
                name: name.to_owned(),
                fields: Vec::new(),
                raw: String::new(),
            });
            continue;
        }
        if line.is_empty() || line.starts_with("# ") {
            continue;
        }
        let place = format!("{place} line {}", number + 1);
        let case = cases.last_mut().expect("the file begins with a case");
        if let Some(raw) = line.strip_prefix("> ") {
            case.raw.push_str(raw);
        } else if let Some((name, value)) = line.split_once(": ") {
            assert!(fields.contains(&name), "{place}: no field {name:?}");
            case.fields.push((name.into(), value.into()));
        } else {
            panic!("{place}: {line:?}");
        }
    }
    cases
}

/// Decodes the escapes of a text.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let kind = escape.chars().next().expect("something to escape");
        let mut used = kind.len_utf8();
        match kind {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            '0' => bytes.push(0),
            '\\' => bytes.push(b'\\'),
            'x' => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).expect("two digits"));
                used = 3;
            }
            '{' => {
                let (repeat, _) = escape[1..].split_once('}').expect("an end of the repeat");
                let (unit, count) = repeat.rsplit_once('*').expect("a count");
                bytes.extend(unescape(unit).repeat(count.parse().expect("a number")));
                used = repeat.len() + 2;
            }
            other => panic!("escape {other:?} in {text:?}"),
        }
        rest = &escape[used..];
    }
    bytes.extend(rest.as_bytes());
    bytes
}

#[test]
fn escapes_are_decoded() {
    assert_eq!(unescape(r"a\r\n\t\0\\b"), b"a\r\n\t\0\\b");
    assert_eq!(unescape(r"\x00\xffz"), b"\0\xffz");
    assert_eq!(unescape(r"<\{a\r*2}>"), b"<a\ra\r>");
}
