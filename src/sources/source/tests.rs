//! What tests of a source share. `verification` is about the requests that a source takes, `message` about what
//! it makes of them.

use std::fs;

use super::super::Sources;
use super::*;

mod message;
mod verification;

const CONTENT_BYTES_MAX: usize = 2048;
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW_MS: u64 = 1_800_000_000_000;

/// The sources of a file beside a secret `good`.
fn sources(text: &str) -> Sources {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("good"), SECRET).unwrap();
    Sources::parse(text, &directory.path().join("f"), CONTENT_BYTES_MAX)
        .unwrap()
        .sources
}

/// An open source `hub` without templates of a preset, with further keys.
fn open(keys: &str) -> Sources {
    sources(&format!(
        "[hub]\npreset = \"hmac\"\nheader = \"X-Sum\"\nverify = false\n{keys}\n"
    ))
}

fn received(sources: &Sources, fields: &[(&str, &str)], body: &[u8]) -> Verdict {
    let fields = Fields::from_pairs(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
    let incoming = Incoming {
        query: None,
        fields: &fields,
        body,
    };
    sources.iter().next().unwrap().receive(&incoming, NOW_MS)
}

fn draft(verdict: Verdict) -> Draft {
    match verdict {
        Verdict::Publish { draft, .. } => draft,
        other => panic!("{other:?}"),
    }
}

fn content(sources: &Sources, body: &str) -> String {
    draft(received(sources, &[], body.as_bytes())).content
}

fn refusal(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::Refuse(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn why(verdict: &Verdict) -> Option<Unpublished> {
    match verdict {
        Verdict::Reply { why, .. } => Some(*why),
        _ => None,
    }
}
