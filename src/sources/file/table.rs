//! Reads the values of one table of the file, and keeps their faults with their lines.
//!
//! Used by `assemble`. Knows TOML, but no source.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Fault;

/// Similarity from which a name is a likely spelling of another.
const SIMILARITY_MIN: f64 = 0.8;

/// A file, as far as its values need it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The whole text: lines are counted in it.
    pub text: &'a str,
    /// Where relative paths begin.
    pub directory: &'a Path,
    /// The bound of a message's text.
    pub content_bytes_max: usize,
}

/// A value with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its line.
    pub line: usize,
}

/// A text of the file with the line in which its own first line stands.
pub type Text = Placed<String>;

/// A table that is being read.
pub struct Table<'a> {
    text: &'a str,
    values: &'a DeTable<'a>,
    /// The line of its name.
    pub line: usize,
    /// The faults found so far.
    pub faults: Vec<Fault>,
}

/// The line of an offset, from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.split(|&byte| byte == b'\n').count()
}

/// The known name that was probably meant.
pub fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let similarity = |known: &str| strsim::jaro_winkler(known, name);
    let best = known
        .iter()
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(best) >= SIMILARITY_MIN).then_some(best)
}

/// What an unknown name probably was, for the end of a sentence.
pub fn did_you_mean(name: &str, known: &[&str]) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!(", did you mean {known}?"))
}

impl<'a> Table<'a> {
    /// Begins to read a table, whose name is at `line`.
    pub fn new(text: &'a str, values: &'a DeTable<'a>, line: usize) -> Table<'a> {
        Table {
            text,
            values,
            line,
            faults: Vec::new(),
        }
    }

    /// Notes a fault.
    pub fn fault(&mut self, line: usize, what: impl Into<String>) {
        self.faults.push(Fault {
            line,
            what: what.into(),
        });
    }

    /// Notes each key that is not one of `known`.
    pub fn refuse_unknown(&mut self, known: &[&str]) {
        for key in self.values.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let meant = did_you_mean(name, known);
                let what = format!("there is no key {name:?}{meant}");
                self.fault(line_of(self.text, key.span().start), what);
            }
        }
    }

    /// The line of a key, or of the table.
    pub fn line_of(&self, key: &str) -> usize {
        let found = self.values.get_key_value(key);
        found.map_or(self.line, |(key, _)| line_of(self.text, key.span().start))
    }

    /// Whether there is such a key.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A text.
    pub fn text(&mut self, key: &str) -> Option<Text> {
        let value = self.values.get(key)?;
        self.text_of(key, value)
    }

    /// True or false.
    pub fn boolean(&mut self, key: &str) -> Option<Placed<bool>> {
        let value = self.values.get(key)?;
        let line = line_of(self.text, value.span().start);
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.fault(line, format!("{key} is true or false, without quotes"));
        }
        boolean.map(|value| Placed { value, line })
    }

    /// A text, or a number written without quotes.
    pub fn text_or_number(&mut self, key: &str) -> Option<Text> {
        let value = self.values.get(key)?;
        match value.get_ref().as_integer() {
            Some(number) => {
                let line = line_of(self.text, value.span().start);
                Some(Placed {
                    value: number.to_string(),
                    line,
                })
            }
            None => self.text_of(key, value),
        }
    }

    /// An array of texts. `None` if one of its values is none.
    pub fn texts(&mut self, key: &str) -> Option<Vec<Text>> {
        let value = self.values.get(key)?;
        let line = line_of(self.text, value.span().start);
        let Some(values) = value.get_ref().as_array() else {
            self.fault(
                line,
                format!("{key} is an array of texts, such as [\"a\", \"b\"]"),
            );
            return None;
        };
        let texts: Vec<Text> = values
            .iter()
            .filter_map(|value| self.text_of(key, value))
            .collect();
        (texts.len() == values.len()).then_some(texts)
    }

    /// The texts of a table in this one, by name. Dotted names are one name: TOML reads `a.b` as a table.
    pub fn texts_by_name(&mut self, key: &str) -> Vec<(Text, Text)> {
        let mut texts = Vec::new();
        let Some(value) = self.values.get(key) else {
            return texts;
        };
        match value.get_ref().as_table() {
            Some(table) => self.collect(key, "", table, &mut texts),
            None => {
                let line = line_of(self.text, value.span().start);
                self.fault(
                    line,
                    format!("{key} is a table: write [NAME.{key}] above its keys"),
                );
            }
        }
        texts
    }

    fn collect(
        &mut self,
        key: &str,
        prefix: &str,
        table: &DeTable<'_>,
        texts: &mut Vec<(Text, Text)>,
    ) {
        for (name, value) in table {
            let line = line_of(self.text, name.span().start);
            let name = format!("{prefix}{}", name.get_ref());
            match value.get_ref().as_table() {
                Some(inner) => self.collect(key, &format!("{name}."), inner, texts),
                None => {
                    let text = self.text_of(&format!("{key} {name:?}"), value);
                    texts.extend(text.map(|text| (Placed { value: name, line }, text)));
                }
            }
        }
    }

    fn text_of(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<Text> {
        let Range { start, .. } = value.span();
        let line = line_of(self.text, start);
        let Some(text) = value.get_ref().as_str() else {
            self.fault(line, format!("{key} is a text: write it in quotes"));
            return None;
        };
        // The first line of a multi-line text stands below its quotes.
        let written = self.text.get(start..).unwrap_or_default();
        let is_below = ["\"\"\"\n", "'''\n", "\"\"\"\r\n", "'''\r\n"]
            .iter()
            .any(|quotes| written.starts_with(quotes));
        Some(Placed {
            value: text.to_owned(),
            line: line + usize::from(is_below),
        })
    }
}

/// The text of a key.
pub fn name_of<'a>(key: &'a Spanned<DeString<'_>>) -> &'a str {
    key.get_ref().as_ref()
}
