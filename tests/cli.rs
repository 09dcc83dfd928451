//! The command line of the real binary: help, version, errors, `--check-config`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// What a run of the binary came to.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The one line of an error in the configuration.
    fn error(&self) -> &str {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self.stderr.strip_prefix("hookcast: ").unwrap().trim_end()
    }

    /// What was printed on success.
    fn success(&self) -> &str {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        &self.stdout
    }
}

/// Runs the binary in an environment of exactly `variables`.
fn hookcast(arguments: &[&str], variables: &[(&str, &[u8])]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast"))
        .args(arguments)
        .env_clear()
        .envs(
            variables
                .iter()
                .map(|(name, value)| (name, OsStr::from_bytes(value))),
        )
        .output()
        .unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// What a server logs, the commands that examine something print.
#[test]
fn commands_print_the_warnings() {
    let id = &b"0123456789abcdef0123456789abcdef"[..];
    let variables = [
        ("CLOUDFLARE_ACCOUNT_ID", id),
        ("CLOUDFLARE_API_TOKEN", b"token"),
        ("WEBHOOK_KV", id),
        ("HOOKCAST_KV_ENDPOINT", b"http://kv.invalid"),
        ("WEBHOOK_SECRET", b"two words"),
    ];
    for command in [&["kv-check"][..], &["doctor", "https://doctor.invalid"]] {
        let outcome = hookcast(command, &variables);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        let warns = |words| {
            let mut lines = outcome.stderr.lines();
            lines.any(|line| line.starts_with("hookcast: warning: ") && line.contains(words))
        };
        assert!(warns("in clear text"), "{}", outcome.stderr);
        assert!(warns("white space"), "{}", outcome.stderr);
    }
}

#[test]
fn help_documents_every_setting_and_shows_no_value() {
    let secret = b"hunter2".as_slice();
    let variables = [
        ("WEBHOOK_SECRET", secret),
        ("HOOKCAST_RING", secret),
        ("CLOUDFLARE_API_TOKEN", secret),
    ];
    let outcome = hookcast(&["--help"], &variables);
    let help = outcome.success();
    assert!(!help.contains("hunter2"), "{help}");
    for row in hookcast::config::markdown_table().lines().skip(2) {
        let cells: Vec<&str> = row
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        let flag = cells[1].split(' ').next().unwrap();
        for expected in [flag, cells[2], cells[3]] {
            assert!(help.contains(expected), "{expected} of {row}");
        }
    }
    assert!(help.contains(r#"curl http://localhost:3000/api/webhook -d '{"message":"Hello"}'"#));
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "fits a terminal"
    );
    assert!(hookcast(&["-h"], &[]).success().lines().count() < help.lines().count());
}

#[test]
fn the_version_is_that_of_the_package() {
    let expected = concat!("hookcast ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(hookcast(&["--version"], &[]).success(), expected);
}

#[test]
fn a_bad_value_is_one_line_that_names_its_flag() {
    let outcome = hookcast(&["--heartbeat", "0s"], &[]);
    assert_eq!(
        outcome.error(),
        "invalid value '0s' for '--heartbeat <DURATION>': must be from 100ms to 1m"
    );
    assert!(
        hookcast(&["--no-such-flag"], &[])
            .error()
            .contains("--no-such-flag")
    );
    assert!(
        hookcast(&["--secret-file", "/no/such/file"], &[])
            .error()
            .contains("--secret-file /no/such/file")
    );
}

#[test]
fn a_bad_variable_is_one_line_that_names_the_variable() {
    for (name, value) in [
        ("HOOKCAST_LISTEN", b"localhost".as_slice()),
        ("HOOKCAST_HEARTBEAT", b"0s\nforged line"),
        ("HOOKCAST_SHARDS", b""),
        ("HOOKCAST_LOG_LEVEL", b"loud"),
        ("HOOKCAST_KV_POLL", b"\xff"),
        ("HOOKCAST_SECRET_FILE", b"/no/such/file"),
        ("WEBHOOK_SECRET", b""),
        ("WEBHOOK_SECRET", b"\xff"),
        ("WEBHOOK_KV", b"0a"),
    ] {
        let outcome = hookcast(&[], &[(name, value)]);
        let flag = name
            .strip_prefix("HOOKCAST_")
            .unwrap_or(name)
            .to_lowercase()
            .replace('_', "-");
        let error = outcome.error();
        let names_it = error.contains(name) || error.contains(&format!("--{flag}"));
        assert!(
            names_it || name == "WEBHOOK_KV" && error.contains("CLOUDFLARE"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_flag_wins_over_its_variable() {
    let listen = ("HOOKCAST_LISTEN", b"127.0.0.1:1,127.0.0.1:2".as_slice());
    let text = |arguments: &[&str]| hookcast(arguments, &[listen]).success().to_owned();
    assert!(text(&["--check-config"]).contains("listen 127.0.0.1:1 127.0.0.1:2,"));
    assert!(text(&["--check-config", "--listen", "127.0.0.1:3"]).contains("listen 127.0.0.1:3,"));
    let bad = ("HOOKCAST_HEARTBEAT", b"0s".as_slice());
    hookcast(&["--check-config", "--heartbeat", "1s"], &[bad]).success();
    let error = hookcast(&["--heartbeat", "0s"], &[("HOOKCAST_HEARTBEAT", b"1s")]);
    assert!(
        !error.error().contains("HOOKCAST"),
        "the flag is at fault, not the variable"
    );
}

#[test]
fn check_config_reports_and_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().as_os_str().as_bytes();
    let variables = [("STATE_DIRECTORY", path), ("WEBHOOK_SECRET", b"s3cret")];
    let outcome = hookcast(&["--check-config", "--admin", "0.0.0.0:9000"], &variables);
    let text = outcome.success();
    assert!(
        text.starts_with("hookcast: configuration OK: ") && text.lines().count() == 1,
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
    assert!(
        outcome
            .stderr
            .starts_with("hookcast: warning: the admin address 0.0.0.0:9000"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        0,
        "no ring was made"
    );
    assert!(
        hookcast(&["--check-config", "--drain", "1y"], &[])
            .error()
            .contains("--drain")
    );
}

#[test]
fn check_config_raises_the_file_limit_first() {
    let output = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -Sn 64; exec "$0" --check-config"#,
            env!("CARGO_BIN_EXE_hookcast"),
        ])
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.contains("at most 32 connections"),
        "the soft limit was taken: {text}"
    );
    let output = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -n 64; exec "$0" --check-config"#,
            env!("CARGO_BIN_EXE_hookcast"),
        ])
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("at most 32 connections"), "{text}");
}
