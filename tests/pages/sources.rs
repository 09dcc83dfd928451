//! The page of sources: its table of presets is that of the program, its examples are accepted, and its transcript is
//! what the program prints.

use std::path::Path;

use hookcast::sources::explain::{self, Trial};
use hookcast::sources::{Preset, Sources};

use super::read;

const PAGE: &str = "src/sources/README.md";

/// The presets that the page describes in a section of their own, with a window of a day.
const GENERIC: [&str; 3] = ["standard", "hmac", "token"];

/// The row of a preset in the table of presets.
fn row<'a>(page: &'a str, preset: &str) -> Option<&'a str> {
    let name = format!("`{preset}`");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut rows = rows.filter(|line| line.matches(" | ").count() == 4);
    rows.find(|line| line.split(" | ").next().unwrap().contains(&name))
}

/// How the page writes a window.
fn window(seconds: u32) -> String {
    match seconds {
        0..3_600 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

#[test]
fn every_preset_is_on_the_page_of_sources() {
    let page = read(PAGE);
    for preset in Preset::all() {
        if GENERIC.contains(&preset.name) {
            assert!(
                page.contains(&format!("- `{}`: ", preset.name)),
                "{}",
                preset.name
            );
            continue;
        }
        let row = row(&page, preset.name).unwrap_or_else(|| panic!("no row of {}", preset.name));
        let known = row.split(" | ").nth(3).unwrap();
        let is_window = known.ends_with(&window(preset.dedupe_s));
        assert!(is_window || known.starts_with("nothing"), "{row}");
        // Its steps, or those of the three relatives together.
        let title = if preset.name == "forgejo" || preset.name == "gogs" {
            "Gitea"
        } else {
            preset.title
        };
        assert!(page.contains(&format!("**{title}")), "no steps of {title}");
    }
}

/// Each block of TOML is a file that loads, with secrets of its names.
#[test]
fn the_files_on_the_page_of_sources_load() {
    let page = read(PAGE);
    let console = page
        .split_once("sources.toml <<'END'\n[github]")
        .expect("the first file")
        .1;
    let first = format!("[github]{}", console.split_once("END\n").unwrap().0);
    let blocks = page
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0);
    let mut files: Vec<String> = blocks.map(str::to_owned).collect();
    files.push(first);
    assert!(files.len() >= 2);
    for file in files {
        let directory = tempfile::tempdir().unwrap();
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
        let with_secret = |line: &str| {
            if line.starts_with("secret_files") {
                format!("secret_files = [{secret:?}]")
            } else {
                line.to_owned()
            }
        };
        let lines: Vec<String> = file.lines().map(with_secret).collect();
        let text = lines.join("\n");
        let loaded = Sources::parse(&text, Path::new("sources.toml"), 65_536);
        loaded.unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The transcript of `source-check`, with the request that it was made of.
#[test]
fn the_transcript_on_the_page_of_sources_is_what_is_printed() {
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &str = r#"{"ref":"refs/heads/main","pusher":{"name":"ana"},"repository":{"full_name":"acme/shop","default_branch":"main"},"commits":[{},{},{}],"head_commit":{"message":"Fix rounding\n\nof prices"},"compare":"https://github.com/acme/shop/compare/a...b","deleted":false}"#;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), SECRET).unwrap();
    let text = "[github]\npreset = \"github\"\nsecret_files = [\"secret\"]\n";
    let path = directory.path().join("sources.toml");
    let sources = Sources::parse(text, &path, 65_536).unwrap().sources;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, BODY.as_bytes());
    let digits = b"0123456789abcdef";
    let halves = tag.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = halves
        .map(|half| char::from(digits[usize::from(half)]))
        .collect();
    let headers = [
        "X-GitHub-Event: push".to_owned(),
        "X-GitHub-Delivery: 72d3162e".to_owned(),
        format!("X-Hub-Signature-256: sha256={hex}"),
    ];
    let trial = Trial {
        query: None,
        headers: &headers,
        body: BODY.as_bytes(),
    };
    let report = explain::check(&sources, "github", &trial, 0);
    assert!(report.is_taken);
    assert!(read(PAGE).contains(&report.text), "{}", report.text);
}
