//! What a server logs, and what it never logs.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Server, Setup};

/// The lines that a failing start writes to a file. `JOURNAL_STREAM` names the file's inode or another one.
fn lines_of_a_failed_start(inode_off_by: u64, flags: &[&str]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stderr");
    let file = File::create(&path).unwrap();
    let is = file.metadata().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .args(["--listen", "0.0.0.0:0", "--ring", "/nowhere/at/all"])
        .args(flags)
        .env_clear()
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", is.dev(), is.ino() + inode_off_by),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .status()
        .unwrap();
    assert!(!status.success());
    let text = std::fs::read_to_string(&path).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The journal adds the time. The last line of a failed start is an error, also for invalid settings.
#[test]
fn lines_for_the_journal_begin_with_their_priority_and_have_no_time() {
    let lines = lines_of_a_failed_start(0, &[]);
    let is_plain = |line: &String| {
        let text = line.strip_prefix("<4>WARN ");
        text.or_else(|| line.strip_prefix("<3>ERROR ")).is_some()
    };
    assert!(lines.iter().all(is_plain), "{lines:?}");
    let lines_of_typo = lines_of_a_failed_start(0, &["--heartbeat", "fast"]);
    assert_eq!(lines_of_typo.len(), 1, "{lines_of_typo:?}");
    assert!(
        lines_of_typo[0].starts_with("<3>hookcast: invalid value"),
        "{lines_of_typo:?}"
    );
    let with = |word: &str| lines.iter().find(|line| line.contains(word));
    // A server without a secret is a warning, a ring that cannot be opened an error.
    assert!(
        with("secret").is_some_and(|line| line.starts_with("<4>")),
        "{lines:?}"
    );
    assert!(
        with("/nowhere").is_some_and(|line| line.starts_with("<3>")),
        "{lines:?}"
    );
}

#[test]
fn lines_for_other_outputs_have_no_priority() {
    let lines = lines_of_a_failed_start(1, &[]);
    assert!(!lines.is_empty());
    let has_time = |line: &String| {
        let time = line.split(' ').next().unwrap();
        humantime::parse_rfc3339(time).is_ok()
    };
    assert!(lines.iter().all(has_time), "{lines:?}");
    let lines_of_typo = lines_of_a_failed_start(1, &["--heartbeat", "fast"]);
    assert!(lines_of_typo[0].starts_with("hookcast: "));
}

/// Valid and invalid requests at the most verbose level: no secret, message, session or control character
/// enters the log.
#[test]
fn neither_secrets_nor_control_characters_enter_the_log() {
    let secret = "sesame-open-4711";
    let server = Setup::new(&["--log-level", "trace"]).secret(secret).start();
    let right = format!("X-Webhook-Secret: {secret}\r\n");
    let body = br#"{"message":"whispered-words\u001b[2J","sessionId":"hidden-session"}"#;
    assert_eq!(
        server.request("POST", "/api/webhook", &right, body).status,
        200
    );
    let wrong = "X-Webhook-Secret: guessed-secret\r\n";
    assert_eq!(
        server.request("POST", "/api/webhook", wrong, body).status,
        401
    );
    let stream = server.stream(
        "?sessionId=hidden-session",
        "Last-Event-ID: \u{9b}31mred\r\n",
    );
    drop(stream);
    for bytes in [
        &b"GET /\x1b[31m HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Evil: \x1b]0;title\x07\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rX-Split: 1\r\n\r\n",
        b"\x00\x01\x02\x1b\r\n\r\n",
        b"GET /%0d%0aX-Injected:%201 HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut connection = server.connect();
        connection.send(bytes);
        assert!(connection.read_response().status >= 400);
    }
    server.signal(rustix::process::Signal::TERM);
    server.wait_for_log("drained");
    let log = server.log();
    for line in &log {
        // A line that is not JSON would have been split.
        let fields = line.as_object().unwrap_or_else(|| panic!("{line:?}"));
        let text = line.to_string();
        for kept in [secret, "whispered", "hidden-session", "guessed", "Injected"] {
            assert!(!text.contains(kept), "{kept} in {text}");
        }
        let is_clean = |value: &Value| {
            value
                .as_str()
                .is_none_or(|text| !text.contains(char::is_control))
        };
        assert!(fields.values().all(is_clean), "{text}");
    }
    assert!(log.len() >= 3, "{log:?}");
}

/// A ring that was copied into place has an ordinary file's mode, and it contains messages for sessions.
#[test]
fn a_world_readable_ring_is_warned_about() {
    let warning = "every user of this machine may read or write the ring";
    let mut server = Server::start(&[]);
    let ring = server.setup().ring();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ring), 0o600);
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line.to_string().contains(warning))
    );
    std::fs::set_permissions(&ring, Permissions::from_mode(0o604)).unwrap();
    server.kill();
    let server = server.restart();
    server.wait_for_log(warning);
    assert_eq!(mode(&ring), 0o604, "the server must not change the mode");
}

#[test]
fn messages_and_sessions_are_never_logged() {
    let server = Server::start(&["--log-level", "trace"]);
    server.post(&json!({ "message": "private content", "sessionId": "private session" }));
    server.request("GET", "/api/webhook/stream?sessionId=private%zz", "", b"");
    let mut stream = server.stream("?sessionId=private%20session", "");
    stream.connected();
    stream.next();
    drop(stream);
    server.publish("private end");
    let log = Value::from(server.log()).to_string();
    assert!(!log.contains("private"), "{log}");
}
