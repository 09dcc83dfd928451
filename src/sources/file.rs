//! The operator's file of sources: TOML to [`Sources`].
//!
//! Called at the start, by `--check-config`, and when the file is read again. All faults of a file are
//! found at once, each with its line. A file with a fault gives no sources. Never shows a secret.

mod assemble;
mod secrets;
mod table;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use self::table::{Place, nearest};
use super::Source;
use super::escape::escaped;
use crate::limits::{SOURCES_FAULTS_MAX, SOURCES_FILE_BYTES_MAX, SOURCES_MAX};

/// The sources of a file, by name.
#[derive(Default)]
pub struct Sources(BTreeMap<String, Source>);

/// Sources that were loaded.
pub struct Loaded {
    /// The sources.
    pub sources: Sources,
    /// What is no fault, but may not be meant. A line each.
    pub notes: Vec<String>,
}

impl fmt::Debug for Loaded {
    /// Shows names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.sources.iter().map(Source::name);
        f.debug_struct("Loaded")
            .field("sources", &names.collect::<Vec<_>>())
            .field("notes", &self.notes)
            .finish()
    }
}

/// The faults of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcesError {
    path: PathBuf,
    faults: Vec<Fault>,
}

/// A fault, or a note, with its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fault {
    /// From 1; 0 for the file as a whole.
    line: usize,
    what: String,
}

impl fmt::Display for SourcesError {
    /// A line for each fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().take(SOURCES_FAULTS_MAX).enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", fault.at(&self.path))?;
        }
        match self.faults.len().saturating_sub(SOURCES_FAULTS_MAX) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more faults", self.path.display()),
        }
    }
}

impl std::error::Error for SourcesError {}

impl Fault {
    /// One line: names in the file can have line breaks.
    fn at(&self, path: &Path) -> String {
        let (path, what) = (path.display(), escaped(&self.what));
        match self.line {
            0 => format!("{path}: {what}"),
            line => format!("{path}:{line}: {what}"),
        }
    }
}

impl Sources {
    /// Reads a file. `content_bytes_max`: the bound of a message's text.
    pub fn load(path: &Path, content_bytes_max: usize) -> Result<Loaded, SourcesError> {
        let text = read(path).map_err(|what| SourcesError {
            path: path.to_owned(),
            faults: vec![Fault { line: 0, what }],
        })?;
        Sources::parse(&text, path, content_bytes_max)
    }

    /// Reads a text as the content of a file. Files with secrets are beside `path`.
    pub fn parse(
        text: &str,
        path: &Path,
        content_bytes_max: usize,
    ) -> Result<Loaded, SourcesError> {
        let failed = |mut faults: Vec<Fault>| {
            faults.sort();
            faults.dedup();
            Err(SourcesError {
                path: path.to_owned(),
                faults,
            })
        };
        let (document, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return failed(syntax_faults(text, &errors));
        }
        let place = Place {
            text,
            directory: path.parent().unwrap_or(Path::new("")),
            content_bytes_max,
        };
        let mut faults = Vec::new();
        let mut notes = Vec::new();
        let mut sources = Sources::default();
        let mut secrets = BTreeMap::new();
        for (name, value) in document.get_ref() {
            match assemble::source(place, name, value, &mut notes) {
                Ok(source) => {
                    let line = table::line_of(text, name.span().start);
                    notes.extend(shared_secrets(&source, line, &mut secrets));
                    sources.0.insert(source.name.clone(), source);
                }
                Err(more) => faults.extend(more),
            }
        }
        if document.get_ref().len() > SOURCES_MAX {
            let what = format!("has more than {SOURCES_MAX} sources");
            faults.push(Fault { line: 0, what });
        }
        if !faults.is_empty() {
            return failed(faults);
        }
        notes.sort();
        let notes = notes.iter().map(|note| note.at(path)).collect();
        Ok(Loaded { sources, notes })
    }

    /// The source of a name.
    pub fn get(&self, name: &str) -> Option<&Source> {
        self.0.get(name)
    }

    /// All sources, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.values()
    }

    /// The largest body that one of them takes, in bytes.
    pub fn body_bytes_max(&self) -> usize {
        self.iter().map(Source::body_bytes_max).max().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name that was probably meant.
    pub fn nearest(&self, name: &str) -> Option<&str> {
        let names: Vec<&str> = self.iter().map(Source::name).collect();
        nearest(name, &names)
    }
}

/// A note for each source before this one that has one of its secrets: a captured request of one is accepted
/// by the other, under the other's name. `known` holds the first source of each secret.
fn shared_secrets(
    source: &Source,
    line: usize,
    known: &mut BTreeMap<Vec<u8>, String>,
) -> Vec<Fault> {
    let name = source.name.as_str();
    let mut notes = Vec::new();
    for key in &source.keys {
        let first = known
            .entry(key.likeness())
            .or_insert_with(|| name.to_owned());
        if first.as_str() != name {
            let what = format!(
                "{first} and {name} have the same secret: a request to one can be sent to the other. \
                 Give each its own"
            );
            notes.push(Fault { line, what });
        }
    }
    notes.dedup();
    notes
}

fn read(path: &Path) -> Result<String, String> {
    let read = |error: std::io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(read)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(read)?;
    file.take(SOURCES_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(read)?;
    if bytes.len() as u64 > SOURCES_FILE_BYTES_MAX {
        return Err(format!("is larger than {SOURCES_FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|&byte| byte == b'\n').count();
        format!("is not UTF-8 in line {line}")
    })
}

/// The faults of a text that is no TOML. Of a table that occurs twice only the name is one, and not each of
/// its keys.
fn syntax_faults(text: &str, errors: &[toml::de::Error]) -> Vec<Fault> {
    let line_at = |offset: usize| table::line_of(text, offset);
    let header_of = |line: usize| {
        let above = text.lines().take(line).enumerate();
        let headers = above.filter(|(_, line)| line.trim_start().starts_with('['));
        headers.last().map(|(index, _)| index + 1)
    };
    let mut faults = Vec::new();
    let mut repeated = Vec::new();
    for error in errors.iter().take(SOURCES_FAULTS_MAX) {
        let line = line_at(error.span().map_or(text.len(), |span| span.start));
        let message = error.message().replace('\n', ", ");
        let header = header_of(line);
        let what = match message.contains("duplicate key") {
            true if header.is_some_and(|header| header != line && repeated.contains(&header)) => {
                continue;
            }
            true => {
                repeated.extend(header.filter(|header| *header == line));
                format!("{message}: each name may occur once")
            }
            false => format!("is no TOML: {message}"),
        };
        faults.push(Fault { line, what });
    }
    faults
}
