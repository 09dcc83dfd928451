//! The command line of the real binary: help, version, errors, `--check-config`.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::support::Setup;

/// The result of a run of the binary.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The one line of a configuration error.
    fn error(&self) -> &str {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        self.stderr.strip_prefix("hookcast: ").unwrap().trim_end()
    }

    /// The output of a successful run.
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

/// Warnings that a server logs, `--check-config` and other commands print.
#[test]
fn commands_print_the_warnings_of_a_server() {
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
    let listen = ("HOOKCAST_LISTEN", b"127.0.0.1:0,127.0.0.2:0".as_slice());
    let text = |arguments: &[&str]| hookcast(arguments, &[listen]).success().to_owned();
    assert!(text(&["--check-config"]).contains("listen 127.0.0.1:0 127.0.0.2:0,"));
    assert!(text(&["--check-config", "--listen", "127.0.0.3:0"]).contains("listen 127.0.0.3:0,"));
    let bad = ("HOOKCAST_HEARTBEAT", b"0s".as_slice());
    hookcast(&["--check-config", "--heartbeat", "1s"], &[listen, bad]).success();
    let error = hookcast(&["--heartbeat", "0s"], &[("HOOKCAST_HEARTBEAT", b"1s")]);
    assert!(
        !error.error().contains("HOOKCAST"),
        "the error must name the flag, not the variable"
    );
}

#[test]
fn check_config_reports_and_does_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().as_os_str().as_bytes();
    let variables = [
        ("STATE_DIRECTORY", path),
        ("WEBHOOK_SECRET", b"s3cret"),
        ("HOOKCAST_LISTEN", b"127.0.0.1:0"),
    ];
    let outcome = hookcast(&["--check-config", "--admin", "0.0.0.0:0"], &variables);
    let text = outcome.success();
    assert!(
        text.starts_with("hookcast: configuration OK: ") && text.lines().count() == 1,
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
    assert!(
        outcome
            .stderr
            .starts_with("hookcast: warning: the admin address 0.0.0.0:0"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        0,
        "a ring was created"
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
            r#"ulimit -Sn 64; exec "$0" --check-config --listen 127.0.0.1:0"#,
            env!("CARGO_BIN_EXE_hookcast"),
        ])
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.contains("at most 32 connections"),
        "the soft limit counts instead of the hard one: {text}"
    );
    let output = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -n 64; exec "$0" --check-config --listen 127.0.0.1:0"#,
            env!("CARGO_BIN_EXE_hookcast"),
        ])
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("at most 32 connections"), "{text}");
}

#[test]
fn check_config_fails_where_a_start_would_fail() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let (_, port) = taken.rsplit_once(':').unwrap();
    std::fs::write(at("file"), "x").unwrap();
    let unix = |name: &str| format!("unix:{}", at(name));
    let (ring, any) = (at("a.ring"), "127.0.0.1:0");
    for (arguments, words) in [
        (
            ["--listen", &taken, "--ring", &ring],
            "Address already in use",
        ),
        (
            ["--listen", any, "--admin", &taken],
            "Address already in use",
        ),
        (
            ["--listen", "192.0.2.1:0", "--ring", &ring],
            "no interface of this machine",
        ),
        (
            ["--listen", any, "--ring", &at("missing/a.ring")],
            "missing does not exist",
        ),
        (
            ["--listen", any, "--ring", &at("")],
            "not a regular file but a directory",
        ),
        (
            ["--listen", &unix("file"), "--ring", &ring],
            "is not a socket",
        ),
        (
            ["--listen", &unix("missing/a.sock"), "--ring", &ring],
            "does not exist",
        ),
        (
            ["--listen", "127.0.0.1:4", "--listen", "127.0.0.1:4"],
            "--listen 127.0.0.1:4 is given twice",
        ),
        (
            ["--listen", "127.0.0.1:4", "--listen", "0.0.0.0:4"],
            "--listen 127.0.0.1:4 is a part of --listen 0.0.0.0:4",
        ),
        (
            ["--listen", "0.0.0.0:4", "--admin", "127.0.0.1:4"],
            "--admin 127.0.0.1:4 and --listen 0.0.0.0:4 cannot share a port",
        ),
        (["--listen", any, "--admin", port], "such as 127.0.0.1:"),
        (
            ["--listen", "0.0.0.0:4", "--admin", "[::]:4"],
            "--admin [::]:4 and --listen 0.0.0.0:4 cannot share a port",
        ),
    ] {
        let mut arguments = arguments.to_vec();
        arguments.push("--check-config");
        let outcome = hookcast(&arguments, &[]);
        assert!(
            outcome.stderr.contains(words),
            "{arguments:?}: {}",
            outcome.stderr
        );
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.stderr);
        assert!(!outcome.stdout.contains("OK"), "{arguments:?}");
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "files were created: {left:?}");
}

#[test]
fn check_config_reports_a_damaged_ring_and_leaves_it_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let ring = directory.path().join("a.ring");
    let check = || {
        let arguments = ["--check-config", "--listen", "127.0.0.1:0", "--ring"];
        let arguments = [&arguments[..], &[ring.to_str().unwrap()]].concat();
        hookcast(&arguments, &[])
    };
    std::fs::write(&ring, "no ring at all").unwrap();
    let outcome = check();
    outcome.success();
    assert!(
        outcome.stderr.contains("warning: ring damaged"),
        "{}",
        outcome.stderr
    );
    assert_eq!(std::fs::read_to_string(&ring).unwrap(), "no ring at all");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

/// The configuration is checked while the server still runs, before a restart.
#[test]
fn check_config_accepts_addresses_of_the_running_server_with_the_ring() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::new(&[]);
    let server = setup.start();
    let ring = setup.ring();
    let ring = ring.to_str().unwrap();
    let address = server.address.to_string();
    let check = |ring: &str| {
        hookcast(
            &["--check-config", "--listen", &address, "--ring", ring],
            &[],
        )
    };
    let outcome = check(ring);
    outcome.success();
    assert!(
        outcome.stderr.contains("a running server uses the ring"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains(&address), "{}", outcome.stderr);
    // What would keep the next start from its ring is found beside the running server, too.
    let in_the_way = setup.ring().with_extension("ring.new");
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(
        check(ring)
            .error()
            .contains("not a regular file but a directory")
    );
    std::fs::remove_dir(&in_the_way).unwrap();
    let other = directory.path().join("b.ring");
    let outcome = check(other.to_str().unwrap());
    assert!(outcome.error().contains("another process listens there"));
    assert_eq!(server.request("GET", "/api/webhook", "", b"").status, 200);
}

#[test]
fn settings_of_other_servers_lead_to_hookcasts() {
    for (arguments, words) in [
        (&["--port", "80"][..], "--listen ADDRESS:PORT (see --help)"),
        (&["-p", "80"], "--listen ADDRESS:PORT (see --help)"),
        (&["serve"], "leave it out (see --help)"),
        (&["start"], "leave it out (see --help)"),
        (&["8080"], "--listen 127.0.0.1:8080"),
        (&["--secret=hunter2"], "--secret-file"),
        (&["--listne", "x"], "'--listen'"),
        (&["--tls-cert", "x"], "were not provided: --tls-key <PATH>"),
        (&["--admin", "9000"], "such as 127.0.0.1:9000 or [::1]:9000"),
    ] {
        let outcome = hookcast(arguments, &[]);
        let error = outcome.error();
        assert!(error.contains(words), "{arguments:?}: {error}");
        assert!(
            !error.contains("hunter2") && !error.contains(":;"),
            "{error}"
        );
    }
}

#[test]
fn an_unknown_variable_is_reported_and_never_opens_the_server() {
    let check = ["--check-config", "--listen", "127.0.0.1:0"];
    for (name, value, meant) in [
        ("HOOKCAST_PORT", "80", Some("HOOKCAST_LISTEN")),
        ("HOOKCAST_LISTNE", "x", Some("HOOKCAST_LISTEN")),
        // Kubernetes sets these for a service named hookcast.
        ("HOOKCAST_PORT", "tcp://10.0.0.1:3000", None),
        ("HOOKCAST_SERVICE_HOST", "10.0.0.1", None),
    ] {
        let outcome = hookcast(&check, &[(name, value.as_bytes())]);
        outcome.success();
        match meant {
            Some(meant) => assert_eq!(
                outcome.stderr,
                format!(
                    "hookcast: warning: {name} is no setting of hookcast and has no effect; did you \
                     mean {meant}?\n"
                )
            ),
            None => assert_eq!(outcome.stderr, "", "{name}={value}"),
        }
    }
    for name in ["HOOKCAST_SECRET", "WEBHOOK_SECRET_FILE"] {
        let outcome = hookcast(&[], &[(name, b"hunter2")]);
        assert!(outcome.error().starts_with(&format!("{name} is not read")));
        assert!(!outcome.stderr.contains("hunter2"));
    }
    let outcome = hookcast(&[&check[..], &["--log-level", "INFO"]].concat(), &[]);
    outcome.success();
    let outcome = hookcast(&check, &[("HOOKCAST_LOG_FORMAT", b"JSON")]);
    outcome.success();
}
