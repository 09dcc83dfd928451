use std::fs;

use super::super::scheme::hex;
use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn sources(text: &str) -> Sources {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("good"), SECRET).unwrap();
    fs::write(directory.path().join("old"), SECRET.to_uppercase()).unwrap();
    Sources::parse(text, &directory.path().join("f"), 64 * 1024)
        .unwrap()
        .sources
}

fn signed(text: &str, prefix: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    format!(
        "{prefix}{}",
        hex(ring::hmac::sign(&key, text.as_bytes()).as_ref())
    )
}

fn checked(sources: &Sources, name: &str, headers: &[String], body: &str) -> Report {
    check(
        sources,
        name,
        &Trial {
            query: None,
            headers,
            body: body.as_bytes(),
        },
        NOW_MS,
    )
}

const GITHUB: &str = "[github]\npreset = \"github\"\nsecret_files = [\"old\", \"good\"]\n";

#[test]
fn a_good_request_is_shown_step_by_step() {
    let body = r#"{"ref":"refs/heads/main","commits":[{}],"head_commit":{"message":"Fix"},
        "pusher":{"name":"ana"},"repository":{"full_name":"acme/shop","default_branch":"main"}}"#;
    let headers = [
        format!("X-Hub-Signature-256: {}", signed(body, "sha256=")),
        "X-GitHub-Event: push".to_owned(),
        "x-github-delivery:1".to_owned(),
    ];
    let report = checked(&sources(GITHUB), "github", &headers, body);
    let expected = "\
source       ok       github (GitHub), POST /api/webhook/in/github
verification ok       secret 2 of the file fits
body         ok       JSON, 168 bytes
event        ok       push
repeats      ok       recognised by its id or its signed bytes for 72h
session      ok       none: for all streams
template     ok       the preset's template \"push\"
             |        ana pushed 1 commit to acme/shop: Fix
answer       ok       200 with the message's id, after the message is stored for all streams
";
    assert_eq!(report.text, expected);
    assert!(report.is_taken);
}

#[test]
fn a_refused_request_shows_what_is_expected() {
    let headers = [format!("X-Hub-Signature-256: {}", signed("{}", "sha256="))];
    let report = checked(&sources(GITHUB), "github", &headers, "{}\n");
    let text = &report.text;
    assert!(
        text.contains("verification FAILED   the signature in X-Hub-Signature-256 fits none"),
        "{text}"
    );
    assert!(
        text.contains("note     expected is X-Hub-Signature-256: sha256=hex HMAC-SHA256 of {body}"),
        "{text}"
    );
    assert!(
        text.contains("without the newline at the end of the body it fits"),
        "{text}"
    );
    assert!(
        text.ends_with("answer       FAILED   401; nothing is published\n"),
        "{text}"
    );
    assert!(!report.is_taken);
    assert!(!text.contains(&signed("{}", "")) && !text.contains(SECRET));

    let report = checked(&sources(GITHUB), "github", &headers, "{ }\n");
    assert!(
        !report.text.contains("without the newline"),
        "{}",
        report.text
    );
}

/// A page of GitHub shows what it has sent, but formatted.
#[test]
fn a_formatted_body_is_recognised() {
    let sent = r#"{"ref":"a b","x":[1,{"y":"say \" \\ and\tgo: , "}],"z":{}}"#;
    let formatted = "{\n  \"ref\": \"a b\",\r\n\t\"x\": [1, {\"y\": \"say \\\" \\\\ and\\tgo: , \"} ],\n  \"z\": {}\n}\n";
    let headers = [format!("X-Hub-Signature-256: {}", signed(sent, "sha256="))];
    let text = |body: &str| checked(&sources(GITHUB), "github", &headers, body).text;
    let words = "the provider sent it compact";
    assert!(text(formatted).contains(words), "{}", text(formatted));
    assert!(!text(&formatted.replace("a b", "ab")).contains(words));
    assert!(!text("").contains(words));
}

#[test]
fn a_window_is_shown_as_the_file_writes_it() {
    for (seconds, text) in [
        (259_200, "72h"),
        (900, "15m"),
        (601, "601s"),
        (7200, "2h"),
        (0, "0h"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}

#[test]
fn a_recorded_request_is_recognised_by_its_time() {
    let sources = sources("[slack]\npreset = \"slack\"\nsecret_files = [\"good\"]\n");
    let body = r#"{"type":"event_callback","event":{"type":"message","text":"hi"}}"#;
    let at = |time_s: u64, tag: String| {
        [
            format!("X-Slack-Request-Timestamp: {time_s}"),
            format!("X-Slack-Signature: {tag}"),
        ]
    };
    let hour_ago = NOW_MS / 1000 - 3600;
    let tag = signed(&format!("v0:{hour_ago}:{body}"), "v0=");
    let report = checked(&sources, "slack", &at(hour_ago, tag), body);
    assert!(
        report.text.contains("3600 s behind this server's clock"),
        "{}",
        report.text
    );
    assert!(
        report.text.contains("at its own time, it would be taken"),
        "{}",
        report.text
    );
    let report = checked(&sources, "slack", &at(hour_ago, signed("x", "v0=")), body);
    assert!(
        report.text.contains("refused, too") || report.text.contains("fits none"),
        "{}",
        report.text
    );

    let soon = NOW_MS / 1000 + 3;
    let tag = signed(&format!("v0:{soon}:{body}"), "v0=");
    let report = checked(&sources, "slack", &at(soon, tag), body);
    assert!(
        report
            .text
            .contains("the sender's clock is 3 s ahead of this one"),
        "{}",
        report.text
    );
    assert!(
        report
            .text
            .contains("answer       ok       200 without a body, after the message"),
        "{}",
        report.text
    );
}

#[test]
fn what_is_not_published_says_why() {
    let sources = sources(
        "[open]\npreset = \"hmac\"\nheader = \"X\"\nverify = false\nevents = [\"paid\"]\n\
         session = \"{{ user }}\"\ndedupe = \"0s\"\n[slack]\npreset = \"slack\"\nverify = false\n",
    );
    let report = checked(&sources, "open", &[], r#"{"type":"made"}"#);
    assert!(
        report
            .text
            .contains("event        note     made: not one of the source's events"),
        "{}",
        report.text
    );
    assert!(
        report
            .text
            .contains("answer       ok       200 {\"success\":true}; nothing is published")
    );
    assert!(
        report
            .text
            .contains("verification note     nothing is verified")
    );
    assert!(report.is_taken);

    let report = checked(&sources, "open", &[], r#"{"type":"paid"}"#);
    assert!(
        report
            .text
            .contains("session      FAILED   the template gives none: "),
        "{}",
        report.text
    );
    assert!(
        report
            .text
            .contains("repeats      note     a repeat is not recognised"),
        "{}",
        report.text
    );
    assert!(!report.is_taken);

    let report = checked(&sources, "open", &[], r#"{"type":"paid","user":"ana"}"#);
    assert!(
        report.text.contains("session      ok       \"ana\""),
        "{}",
        report.text
    );
    assert!(
        report
            .text
            .contains("template     ok       the body as it came"),
        "{}",
        report.text
    );
    assert!(
        report
            .text
            .contains("stored for the streams of its session")
            && report.is_taken,
        "{}",
        report.text
    );

    let report = checked(
        &sources,
        "slack",
        &[],
        r#"{"type":"url_verification","challenge":"C"}"#,
    );
    assert!(report.text.contains("handshake    ok "), "{}", report.text);
    assert!(
        report
            .text
            .contains("answer       ok       200 C; nothing is published"),
        "{}",
        report.text
    );
    assert!(report.is_taken);
}

#[test]
fn bad_arguments_are_faults() {
    let sources = sources(GITHUB);
    let report = checked(&sources, "githb", &[], "");
    assert!(
        report
            .text
            .contains("no source \"githb\", did you mean github?")
            && !report.is_taken
    );
    let report = checked(&sources, "x", &[], "");
    assert!(report.text.contains("there are github"), "{}", report.text);
    for header in ["", "X", ": x", "X y: z", "X: a\r\nY: b"] {
        let report = checked(&sources, "github", &[header.to_owned()], "");
        assert!(
            report.text.contains("is not \"Name: value\"") && !report.is_taken,
            "{header:?}"
        );
    }
    assert!(
        check(
            &Sources::default(),
            "x",
            &Trial {
                query: None,
                headers: &[],
                body: b""
            },
            0
        )
        .text
        .contains("the file has no sources")
    );
}

#[test]
fn no_text_of_a_request_reaches_the_terminal_unescaped() {
    let sources = sources("[open]\npreset = \"hmac\"\nheader = \"X\"\nverify = false\n");
    let body = "\u{1b}[2J\u{202e}\r\nanswer       ok       200";
    let report = checked(&sources, "open", &[], body);
    assert!(
        report.text.contains("|        \\u{1b}[2J\\u{202e}\n"),
        "{}",
        report.text
    );
    assert!(
        report.text.contains("             |        answer "),
        "{}",
        report.text
    );
    let long = checked(&sources, "open", &[], &"x".repeat(10_000)).text;
    assert!(long.contains("x… and 8000 bytes more"), "{long}");
}

#[test]
fn only_white_space_of_http_is_trimmed_from_a_header() {
    let open = sources("[open]\npreset = \"github\"\nverify = false\n");
    for (value, is_taken) in [(" identity\t", true), ("identity\u{a0}", false)] {
        let headers = [format!("Content-Encoding:{value}")];
        let report = checked(&open, "open", &headers, "{}");
        assert_eq!(report.is_taken, is_taken, "{value:?}: {}", report.text);
    }
}

#[test]
fn the_list_shows_addresses_and_what_is_expected() {
    let sources = sources(&format!(
        "{GITHUB}[uptime]\npreset = \"uptime-kuma\"\nverify = false\n"
    ));
    let expected = "\
github
  address   https://hooks.example/api/webhook/in/github
  preset    github (GitHub)
  verified  yes, by any of 2 secrets
  expects   X-Hub-Signature-256: sha256=hex HMAC-SHA256 of {body}
uptime
  address   https://hooks.example/api/webhook/in/uptime
  preset    uptime-kuma (Uptime Kuma)
  verified  no: everybody who knows the address may publish
";
    assert_eq!(list(&sources, Some("https://hooks.example/")), expected);
    let without = list(&sources, None);
    assert!(
        without.contains("  address   /api/webhook/in/github\n"),
        "{without}"
    );
    assert!(without.ends_with("before the path.\n"), "{without}");
    assert_eq!(
        list(&Sources::default(), None),
        "The file has no sources.\n"
    );
}

/// `Authorization Bearer …` lacks its colon, and holds the secret all the same.
#[test]
fn a_malformed_header_is_not_shown() {
    for header in [
        format!("Authorization Bearer {SECRET}"),
        format!("X-Sum: {SECRET}\u{7}"),
        SECRET.to_owned(),
    ] {
        let headers = ["X-Other: 1".to_owned(), header];
        let report = checked(&sources(GITHUB), "github", &headers, "{}");
        assert!(!report.text.contains(SECRET), "{}", report.text);
        assert!(report.text.contains("--header 2 of 2"), "{}", report.text);
    }
}
