//! One table of the file to one source.
//!
//! Called for each table. Every fault is noted, so that an operator sees all of them in one run.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::super::body::BodyBounds;
use super::super::defaults;
use super::super::pattern::Pattern;
use super::super::source::{Faults, SESSION_TEMPLATE, Session, Source};
use super::super::template::Templates;
use super::super::texts::{DEFAULT, Texts};
use super::super::{Key, Preset, Scheme, Settings};
use super::table::{Place, Placed, Table, Text, did_you_mean, line_of, name_of};
use super::{Fault, secrets, values};
use crate::limits::{
    DEDUPE_S_MAX, SESSION_BYTES_MAX, SOURCE_BODY_BYTES_MAX_DEFAULT, SOURCE_BODY_BYTES_RANGE,
    SOURCE_EVENTS_MAX, SOURCE_NAME_BYTES_MAX, SOURCE_SECRETS_MAX,
};
use crate::message::SessionId;

/// All keys of a source's table.
const KEYS: [&str; 19] = [
    "preset",
    "secret_files",
    "verify",
    "session",
    "max_body",
    "dedupe",
    "events",
    "templates",
    "gzip",
    "header",
    "prefix",
    "algorithm",
    "encoding",
    "signed",
    "timestamp_header",
    "tolerance",
    "id_header",
    "query",
    "key",
];

/// Makes a source of a table, or all of its faults.
pub fn source(
    place: Place<'_>,
    name: &Spanned<DeString<'_>>,
    value: &Spanned<DeValue<'_>>,
    notes: &mut Vec<Fault>,
) -> Result<Source, Vec<Fault>> {
    let line = line_of(place.text, name.span().start);
    let name = name_of(name);
    let Some(table) = value.get_ref().as_table() else {
        let known = if KEYS.contains(&name) {
            "is a key of a source"
        } else {
            "is no table"
        };
        let what = format!("{name:?} {known}: write [NAME] above it, with the name of the source");
        return Err(vec![Fault { line, what }]);
    };
    let mut table = Table::new(place.text, table, line);
    if !is_name(name) {
        let what = format!(
            "{name:?} is no name of a source: a to z, 0 to 9, - and _, at most \
             {SOURCE_NAME_BYTES_MAX}, the first one no - or _"
        );
        table.fault(line, what);
    }
    table.refuse_unknown(&KEYS);
    let preset = preset(&mut table);
    let scheme = settings(&mut table, preset);
    let keys = keys(place, &mut table, scheme.as_ref(), notes);
    let texts = texts(&mut table, preset, notes);
    let session = session(&mut table);
    let events = events(&mut table, preset, notes);
    let bounds = bounds(&mut table);
    let window_s = window_s(&mut table);
    match (preset, scheme, table.faults.is_empty()) {
        (Some(preset), Some(scheme), true) => Ok(Source {
            name: name.to_owned(),
            preset,
            scheme,
            is_open: keys.is_empty(),
            keys,
            bounds,
            window_s: window_s.unwrap_or(preset.dedupe_s),
            events,
            session,
            texts,
            content_bytes_max: place.content_bytes_max,
            faults: Faults::default(),
        }),
        _ => Err(table.faults),
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=SOURCE_NAME_BYTES_MAX).contains(&name.len())
        && is_plain(name.as_bytes()[0])
        && name
            .bytes()
            .all(|byte| is_plain(byte) || byte == b'-' || byte == b'_')
}

fn preset(table: &mut Table<'_>) -> Option<&'static Preset> {
    let names: Vec<&str> = Preset::all().iter().map(|preset| preset.name).collect();
    let Some(text) = table.text("preset") else {
        if !table.has("preset") {
            let what = format!("preset is missing: it is one of {}", names.join(", "));
            table.fault(table.line, what);
        }
        return None;
    };
    let preset = Preset::by_name(&text.value);
    if preset.is_none() {
        let known = match did_you_mean(&text.value, &names) {
            meant if meant.is_empty() => format!(": it is one of {}", names.join(", ")),
            meant => meant,
        };
        table.fault(
            text.line,
            format!("there is no preset {:?}{known}", text.value),
        );
    }
    preset
}

/// The scheme of the preset with the table's settings.
fn settings(table: &mut Table<'_>, preset: Option<&Preset>) -> Option<Scheme> {
    let text = |table: &mut Table<'_>, key| table.text(key).map(|text| text.value);
    let settings = Settings {
        header: text(table, "header"),
        prefix: text(table, "prefix"),
        algorithm: text(table, "algorithm"),
        encoding: text(table, "encoding"),
        signed: text(table, "signed"),
        timestamp_header: text(table, "timestamp_header"),
        tolerance_s: seconds(table, "tolerance", "5m"),
        id_header: text(table, "id_header"),
        query: text(table, "query"),
        key: text(table, "key"),
    };
    match preset?.scheme_with(&settings) {
        Ok(scheme) => Some(scheme),
        Err(errors) => {
            for error in errors {
                table.fault(
                    table.line_of(error.key),
                    format!("{} {}", error.key, error.why),
                );
            }
            None
        }
    }
}

/// The secrets. None for an open source, which has to say that it is one.
fn keys(
    place: Place<'_>,
    table: &mut Table<'_>,
    scheme: Option<&Scheme>,
    notes: &mut Vec<Fault>,
) -> Vec<Key> {
    let verify = table.boolean("verify");
    let paths = table.texts("secret_files");
    let line = table.line_of("secret_files");
    let is_open = verify.as_ref().is_some_and(|verify| !verify.value);
    let paths = match (paths, is_open) {
        (None, true) => return Vec::new(),
        (None, false) => {
            if !table.has("secret_files") {
                let what = "secret_files is missing: name the file with the provider's secret. \
                            With verify = false everybody who knows the address may publish";
                table.fault(table.line, what);
            }
            return Vec::new();
        }
        (Some(_), true) => {
            let line = table.line_of("verify");
            table.fault(
                line,
                "verify = false and secret_files exclude each other: remove one",
            );
            return Vec::new();
        }
        (Some(paths), false) => paths,
    };
    match paths.len() {
        0 => table.fault(line, "secret_files is empty: name at least one file"),
        1..=SOURCE_SECRETS_MAX => (),
        _ => table.fault(
            line,
            format!("secret_files has over {SOURCE_SECRETS_MAX} files"),
        ),
    }
    let paths = (1..).zip(&paths).take(SOURCE_SECRETS_MAX);
    paths
        .filter_map(|path| key(place, table, scheme, path, notes))
        .collect()
}

fn key(
    place: Place<'_>,
    table: &mut Table<'_>,
    scheme: Option<&Scheme>,
    (number, path): (usize, &Text),
    notes: &mut Vec<Fault>,
) -> Option<Key> {
    let Placed { value: path, line } = path;
    if path.is_empty() {
        table.fault(*line, "secret_files has an empty name");
        return None;
    }
    let file = match secrets::read(&place.directory.join(Path::new(path))) {
        Ok(file) => file,
        // The text of a fault is logged.
        Err(_) if secrets::may_be_secret(place.directory, path) => {
            let what = format!(
                "secret_files: file {number} does not exist. Its name is not shown, because it may be the \
                 secret: write the secret into a file, and the path of that file here"
            );
            table.fault(*line, what);
            return None;
        }
        Err(what) => {
            table.fault(*line, format!("the secret file {path} {what}"));
            return None;
        }
    };
    let note = file
        .note
        .map(|note| format!("the secret file {path}: {note} {path}"));
    notes.extend(note.map(|what| Fault { line: *line, what }));
    match scheme?.key(&file.bytes) {
        Ok(key) => Some(key),
        Err(error) => {
            table.fault(*line, format!("the secret file {path}: {error}"));
            None
        }
    }
}

/// The templates of the table beside those of the preset.
fn texts(table: &mut Table<'_>, preset: Option<&Preset>, notes: &mut Vec<Fault>) -> Texts {
    let preset = preset.map_or("", |preset| preset.name);
    let mut texts = Texts::of_preset(preset);
    let templates = table.texts_by_name("templates");
    if templates.len() > SOURCE_EVENTS_MAX {
        let what = format!("there are over {SOURCE_EVENTS_MAX} templates");
        table.fault(table.line_of("templates"), what);
    }
    for (name, text) in templates.into_iter().take(SOURCE_EVENTS_MAX) {
        if let Err(error) = texts.add(&name.value, &text.value) {
            let what = format!("template {:?}: {}", name.value, error.what);
            table.fault(text.line + error.line - 1, what);
        }
        notes.extend(detail_note(preset, &name));
        notes.extend(shadow_note(&name.value, &text));
    }
    texts
}

/// `pull_request` matches no event if the provider sends `pull_request.opened`.
fn detail_note(preset: &str, name: &Text) -> Option<Fault> {
    let detailed = format!("{}.*", name.value);
    let mut known = defaults::of(preset).iter();
    let has_detail = known.any(|(known, _)| *known == detailed);
    has_detail.then(|| Fault {
        line: name.line,
        what: format!(
            "{:?} is only the event of exactly this name: write {detailed:?} for all of its kinds",
            name.value
        ),
    })
}

/// `event.text` prints nothing, because `event` is the event's type.
fn shadow_note(name: &str, text: &Text) -> Option<Fault> {
    let is_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let member = ["event.", "source."].iter().find(|member| {
        let mut found = text.value.match_indices(**member);
        found.any(|(at, _)| !text.value[..at].ends_with(is_of_name))
    })?;
    (text.value.contains("{{") || text.value.contains("{%")).then(|| Fault {
        line: text.line,
        what: format!("template {name:?}: for a member of the body write body.{member}NAME"),
    })
}

fn session(table: &mut Table<'_>) -> Session {
    let Some(text) = table.text("session") else {
        return Session::Everybody;
    };
    if ["{{", "{%", "{#"]
        .iter()
        .any(|tag| text.value.contains(tag))
    {
        let mut templates = Templates::strict();
        if let Err(error) = templates.add(SESSION_TEMPLATE, &text.value) {
            table.fault(
                text.line + error.line - 1,
                format!("session: {}", error.what),
            );
        }
        return Session::Template(Box::new(templates));
    }
    match SessionId::parse(&text.value) {
        Ok(Some(session)) if !text.value.trim().is_empty() => return Session::Named(session),
        Ok(_) => table.fault(
            text.line,
            "session is empty: without the key, a message is for everybody",
        ),
        Err(_) => {
            let what = format!("session is longer than {SESSION_BYTES_MAX} bytes");
            table.fault(text.line, what);
        }
    }
    Session::Everybody
}

fn events(table: &mut Table<'_>, preset: Option<&Preset>, notes: &mut Vec<Fault>) -> Vec<Pattern> {
    let line = table.line_of("events");
    let Some(texts) = table.texts("events") else {
        return Vec::new();
    };
    if texts.is_empty() {
        table.fault(
            line,
            "events is empty, so nothing would be published: remove it for all events",
        );
    }
    if texts.len() > SOURCE_EVENTS_MAX {
        table.fault(line, format!("events has over {SOURCE_EVENTS_MAX} names"));
    }
    let mut patterns = Vec::new();
    for text in &texts {
        match Pattern::parse(&text.value) {
            Some(pattern) => patterns.push(pattern),
            None => {
                let what = format!(
                    "{:?} is no event: write push, pull_request.* or *",
                    text.value
                );
                table.fault(text.line, what);
            }
        }
        if text.value == DEFAULT {
            notes.push(Fault {
                line: text.line,
                what: "\"default\" is no event".to_owned(),
            });
        }
        notes.extend(preset.and_then(|preset| detail_note(preset.name, text)));
    }
    patterns
}

fn bounds(table: &mut Table<'_>) -> BodyBounds {
    let allows_gzip = table.boolean("gzip").is_some_and(|gzip| gzip.value);
    let mut bytes_max = SOURCE_BODY_BYTES_MAX_DEFAULT;
    if let Some(text) = table.text_or_number("max_body") {
        match values::bytes(&text.value).filter(|bytes| SOURCE_BODY_BYTES_RANGE.contains(bytes)) {
            Some(bytes) => bytes_max = bytes as usize,
            None => table.fault(
                text.line,
                format!(
                    "max_body is from 1KiB to 16MiB, such as \"1MiB\", not {:?}",
                    text.value
                ),
            ),
        }
    }
    BodyBounds {
        bytes_max,
        allows_gzip,
    }
}

fn window_s(table: &mut Table<'_>) -> Option<u32> {
    let line = table.line_of("dedupe");
    let window_s = seconds(table, "dedupe", "72h")?;
    if window_s > DEDUPE_S_MAX {
        table.fault(line, "dedupe is from 0s to 30d");
    }
    Some(window_s)
}

fn seconds(table: &mut Table<'_>, key: &str, example: &str) -> Option<u32> {
    let text = table.text_or_number(key)?;
    let seconds = values::seconds(&text.value).and_then(|seconds| u32::try_from(seconds).ok());
    if seconds.is_none() {
        let what = format!(
            "{key} is whole seconds, such as {example:?}, not {:?}",
            text.value
        );
        table.fault(text.line, what);
    }
    seconds
}
