//! Any text as the operator's file of sources. Each fault has a line of the file, and shows no secret. The sources
//! of a file without faults take a request, whatever its templates do, and keep to their bounds.

use std::path::Path;

use hookcast::limits::{SOURCE_BODY_BYTES_RANGE, SOURCE_NAME_BYTES_MAX, SOURCES_FAULTS_MAX};
use hookcast::sources::explain::list;
use hookcast::sources::{Fields, Incoming, Source, Sources, Verdict};

use crate::draft;
use crate::sources_at_hand::{CONTENT_BYTES_MAX, TEXT_SECRET, file};

/// Sources of a file that take the request.
const SOURCES_TRIED_MAX: usize = 4;

const BODY: &[u8] =
    br#"{"action":"opened","text":"a\nb\u0007 <c> \u00e9","n":-7,"big":9223372036854775807,
"f":1.5e300,"list":[1,"two",null,{"three":[]}],"user":{"name":"u","id":3},"null":null,"is":true}"#;

pub fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let path = file();
    match Sources::parse(text, path, CONTENT_BYTES_MAX) {
        Err(faults) => check_faults(&faults.to_string(), text, path),
        Ok(loaded) => {
            for note in &loaded.notes {
                check_line(note, text, path);
            }
            let sources = &loaded.sources;
            assert!(
                sources
                    .iter()
                    .all(|source| sources.get(source.name()).is_some())
            );
            assert!(!list(sources, Some("https://hooks.example/")).is_empty());
            sources
                .iter()
                .take(SOURCES_TRIED_MAX)
                .for_each(check_source);
        }
    }
}

fn check_faults(faults: &str, text: &str, path: &Path) {
    assert!(!faults.is_empty());
    assert!(!faults.contains(TEXT_SECRET) || text.contains(TEXT_SECRET));
    let lines: Vec<&str> = faults.lines().collect();
    assert!(
        lines.len() <= SOURCES_FAULTS_MAX + 1,
        "{} lines",
        lines.len()
    );
    for line in &lines {
        check_line(line, text, path);
    }
}

/// `PATH:LINE: what`, or `PATH: what`.
fn check_line(line: &str, text: &str, path: &Path) {
    let path = path.to_str().expect("its name is plain");
    let rest = line
        .strip_prefix(path)
        .and_then(|rest| rest.strip_prefix(':'));
    let rest = rest.unwrap_or_else(|| panic!("no path: {line:?}"));
    let digits = rest.split(':').next().unwrap_or_default();
    if let Ok(number) = digits.parse::<usize>() {
        let lines = text.split('\n').count();
        assert!((1..=lines).contains(&number), "{line:?} of {lines} lines");
    }
    assert!(!line.chars().any(char::is_control), "{line:?}");
}

fn check_source(source: &Source) {
    assert!((1..=SOURCE_NAME_BYTES_MAX).contains(&source.name().len()));
    assert!(SOURCE_BODY_BYTES_RANGE.contains(&(source.body_bytes_max() as u64)));
    let fields = Fields::from_pairs([
        ("Content-Type", b"application/json".as_slice()),
        ("Authorization", TEXT_SECRET.as_bytes()),
        ("X-GitHub-Event", b"pull_request"),
    ]);
    let incoming = Incoming {
        query: None,
        fields: &fields,
        body: BODY,
    };
    if let Verdict::Publish { draft, .. } = source.receive(&incoming, 1_776_000_000_000) {
        draft::check(source, &draft);
    }
}
