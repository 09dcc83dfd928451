mod keys;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

const CONTENT_BYTES_MAX: usize = 64 * 1024;

/// A directory with a good secret, a short one and an empty one.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, secret) in [
        ("good", "0123456789abcdef0123456789abcdef\n"),
        ("short", "abc"),
        ("empty", "\n"),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, secret).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn parsed(text: &str) -> Result<Loaded, Vec<String>> {
    let directory = directory();
    let path = directory.path().join("sources.toml");
    let prefix = format!("{}:", path.display());
    Sources::parse(text, &path, CONTENT_BYTES_MAX).map_err(|error| {
        let lines = error.to_string();
        lines
            .lines()
            .map(|line| line.strip_prefix(&prefix).unwrap().to_owned())
            .collect()
    })
}

fn notes(text: &str) -> Vec<String> {
    let loaded = parsed(text).unwrap();
    let after_path = |note: &String| note.split_once("sources.toml:").unwrap().1.to_owned();
    loaded.notes.iter().map(after_path).collect()
}

/// Checks the only fault of a text: its line and a part of it.
fn refused(text: &str, line: usize, what: &str) {
    let faults = parsed(text).unwrap_err();
    assert_eq!(faults.len(), 1, "{text}\n{faults:#?}");
    assert!(
        faults[0].starts_with(&format!("{line}: ")),
        "{text}\n{}",
        faults[0]
    );
    assert!(faults[0].contains(what), "{text}\n{}", faults[0]);
}

#[test]
fn a_fault_is_one_line_whatever_it_quotes() {
    let text = "[hub]\npreset = \"github\"\nsecret_files = [\"./a\\r\\nb\\u001b[2J\"]\n";
    refused(text, 3, r"a\u{d}\u{a}b\u{1b}[2J");
}

/// The same for a key of a source that is good otherwise, in line 4.
fn key_refused(key: &str, what: &str) {
    let text = format!("[hub]\npreset = \"github\"\nsecret_files = [\"good\"]\n{key}\n");
    refused(&text, 4, what);
}

#[test]
fn a_whole_file_is_read() {
    let loaded = parsed(
        r#"
        [github]
        preset = "github"
        secret_files = ["good", "good"]   # rotation
        session = "ops"
        max_body = "2MiB"
        dedupe = "72h"
        events = ["push", "pull_request.*"]
        gzip = true
        [github.templates]
        push = "{{ repository.full_name }}: {{ head_commit.message|lines|first }}"
        default = "{{ source }} {{ event }}"

        [b-2_x]
        preset = "hmac"
        secret_files = ["good"]
        header = "X-Sum"
        prefix = "v1="
        algorithm = "sha512"
        encoding = "base64"
        signed = "{timestamp}.{body}"
        timestamp_header = "X-Time"
        tolerance = "2m"
        id_header = "X-Id"
        max_body = 65536

        [open]
        preset = "uptime-kuma"
        verify = false
        session = "{{ monitor.name }}"
        "#,
    )
    .unwrap();
    assert_eq!(loaded.notes, Vec::<String>::new());
    let names: Vec<_> = loaded.sources.iter().map(Source::name).collect();
    assert_eq!(names, ["b-2_x", "github", "open"]);
    assert_eq!(loaded.sources.body_bytes_max(), 2 * 1024 * 1024);
    let github = loaded.sources.get("github").unwrap();
    assert_eq!(
        (github.keys.len(), github.window_s, github.is_open),
        (2, 259_200, false)
    );
    assert_eq!(github.events.len(), 2);
    assert!(
        github.bounds.allows_gzip
            && matches!(github.session, super::super::source::Session::Named(_))
    );
    assert_eq!(
        loaded.sources.get("b-2_x").unwrap().body_bytes_max(),
        65_536
    );
    assert!(loaded.sources.get("open").unwrap().is_open());
    assert!(loaded.sources.get("gitlab").is_none());
    assert_eq!(loaded.sources.nearest("githib"), Some("github"));
    assert_eq!(loaded.sources.nearest("zzz"), None);
}

#[test]
fn an_empty_file_has_no_sources() {
    let loaded = parsed("# nothing yet\n").unwrap();
    assert!(loaded.sources.is_empty());
    assert_eq!(loaded.sources.body_bytes_max(), 0);
}

#[test]
fn every_preset_can_be_used_with_little() {
    for preset in super::super::Preset::all() {
        let header = if preset.name == "hmac" {
            "header = \"X-Sum\""
        } else {
            ""
        };
        let text = format!(
            "[x]\npreset = \"{}\"\nverify = false\n{header}",
            preset.name
        );
        assert!(
            parsed(&text).is_ok(),
            "{}: {:?}",
            preset.name,
            parsed(&text)
        );
    }
}

#[test]
fn syntax_faults_have_their_line() {
    refused("[github]\npreset = \n", 2, "is no TOML");
    refused("[github\npreset = \"x\"", 1, "is no TOML");
    refused("[a]\npreset = \"github\n", 2, "is no TOML");
    refused("[a]\nverify = False\n", 2, "is no TOML");
    let both = parsed("[a]\nx = \n[b]\ny = @\n").unwrap_err();
    assert!(
        both[0].starts_with("2: ") && both.last().unwrap().starts_with("4: "),
        "{both:?}"
    );
}

#[test]
fn a_name_occurs_once() {
    let source = "[hub]\npreset = \"github\"\nsecret_files = [\"good\"]\n";
    refused(
        &format!("{source}\n{source}"),
        5,
        "duplicate key: each name may occur once",
    );
    refused(
        &format!("{source}preset = \"gitlab\"\n"),
        4,
        "duplicate key",
    );
    let templates = "[hub.templates]\npush = \"a\"\npush = \"b\"\n";
    refused(&format!("{source}{templates}"), 6, "duplicate key");
}

#[test]
fn names_of_sources_are_plain() {
    let rest = "preset = \"github\"\nsecret_files = [\"good\"]\n";
    for name in [
        "Hub",
        "-hub",
        "_hub",
        "\"a b\"",
        "\"\"",
        "\"ä\"",
        "\"a/b\"",
        &"a".repeat(65),
    ] {
        refused(&format!("\n[{name}]\n{rest}"), 2, "is no name of a source");
    }
    for name in ["h", "0", "a-b_c", &"a".repeat(64)] {
        assert!(parsed(&format!("[{name}]\n{rest}")).is_ok(), "{name}");
    }
}

#[test]
fn keys_stand_in_a_table() {
    refused(
        "preset = \"github\"\n",
        1,
        "\"preset\" is a key of a source: write [NAME] above it",
    );
    refused("\nhub = 5\n", 2, "\"hub\" is no table");
}

#[test]
fn all_faults_are_found_at_once_in_order() {
    let faults = parsed(
        "[B]\npreset = \"nope\"\nverify = 5\n[a]\npreset = \"github\"\nsecret_files = [\"x\", \"y\"]\n\
         dedupe = 1\nfoo = 2\nevents = []\n[a.templates]\npush = \"{{\"\n",
    )
    .unwrap_err();
    let lines: Vec<_> = faults
        .iter()
        .map(|fault| fault.split(':').next().unwrap())
        .collect();
    // Without verify = false, the missing secret of the first is a fault, too.
    assert_eq!(
        lines,
        ["1", "1", "2", "3", "6", "6", "7", "8", "9", "11"],
        "{faults:#?}"
    );
}

#[test]
fn faults_and_sources_are_bounded() {
    let text = (0..200)
        .map(|n| format!("[s{n}]\n"))
        .collect::<Vec<_>>()
        .concat();
    let faults = parsed(&text).unwrap_err();
    assert_eq!(faults.len(), SOURCES_FAULTS_MAX + 1);
    assert_eq!(faults.last().unwrap(), " and 350 more faults");
    let source = |n: usize| format!("[s{n}]\npreset = \"slack\"\nverify = false\n");
    let text = (0..SOURCES_MAX).map(source).collect::<Vec<_>>().concat();
    assert!(parsed(&text).is_ok());
    let faults = parsed(&format!("{text}{}", source(SOURCES_MAX))).unwrap_err();
    assert_eq!(faults, [" has more than 256 sources"]);
}

#[test]
fn unreadable_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let load = || {
        Sources::load(&path, CONTENT_BYTES_MAX)
            .unwrap_err()
            .to_string()
    };
    assert!(
        load().contains("f: cannot be read: No such file"),
        "{}",
        load()
    );
    fs::write(&path, b"[a]\n# \xff\n").unwrap();
    assert!(load().ends_with("f: is not UTF-8 in line 2"), "{}", load());
    fs::write(&path, vec![b'#'; SOURCES_FILE_BYTES_MAX as usize + 1]).unwrap();
    assert!(
        load().ends_with("f: is larger than 1048576 bytes"),
        "{}",
        load()
    );
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(load().ends_with("f: is not a regular file"), "{}", load());
}

#[test]
fn deep_and_odd_toml_neither_overflows_nor_panics() {
    let texts = [
        format!("a = {}", "[".repeat(10_000)),
        format!("a = {}1{}", "[".repeat(70), "]".repeat(70)),
        format!("[{}]", vec!["a"; 5_000].join(".")),
        format!("{} = 1", vec!["a"; 5_000].join(".")),
        "[[a]]\n[[a]]\n".to_owned(),
        "[a]\npreset = 1979-05-27\nverify = inf\ntemplates = [[1]]\nsecret_files = [[]]\n"
            .to_owned(),
        "\u{feff}[a]\r\npreset = \"x\"\r\n".to_owned(),
        "\0".to_owned(),
    ];
    for text in texts {
        assert!(parsed(&text).is_err());
    }
}

/// A file with a damaged place is read, or refused with lines that it has.
#[test]
fn damaged_files_neither_panic_nor_lose_their_line() {
    use proptest::prelude::*;

    let good = "[github]\npreset = \"github\"\nsecret_files = [\"good\"]\nsession = \"{{ a }}\"\n\
                max_body = \"2MiB\"\ndedupe = \"72h\"\nevents = [\"push\", \"issues.*\"]\ngzip = true\n\
                [github.templates]\npush = '''\n{{ ref|branch }}'''\nissues.opened = \"x\"\n";
    let directory = directory();
    let path = directory.path().join("sources.toml");
    let insert = "[\\[\\]\"'={}a-z0-9.é\n]{0,6}";
    proptest!(|(at in 0..good.len(), length in 0..12_usize, insert in insert)| {
        let end = (at + length).min(good.len());
        let text = format!("{}{insert}{}", &good[..at], &good[end..]);
        if let Err(error) = Sources::parse(&text, &path, CONTENT_BYTES_MAX) {
            let lines = text.lines().count() + 1;
            let is_placed = |fault: &Fault| (1..=lines).contains(&fault.line);
            prop_assert!(error.faults.iter().all(is_placed), "{error}\n{text}");
            prop_assert!(!error.faults.is_empty());
        }
    });
}
