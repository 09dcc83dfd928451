//! The command line of the real program: what is refused, with which status and hint; and closed pipes.

use std::process::{Command, Output, Stdio};

use rustix::process::{Resource, getrlimit};

/// Exit codes, as `hookcast-load --help` lists them.
const EXIT_FAILED: i32 = 1;
const EXIT_USAGE: i32 = 2;
const EXIT_STDOUT_CLOSED: i32 = 141;

fn load(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast-load"));
    command
        .args(words.split_whitespace())
        .env_remove("WEBHOOK_SECRET")
        .stdin(Stdio::null());
    command
}

/// The exit status and stderr.
fn end(output: &Output) -> (i32, String) {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!error.contains("panicked"), "{error}");
    (output.status.code().unwrap_or(-1), error)
}

/// The URL of a server that is not there.
const URL: &str = "--url http://127.0.0.1:1 --yes";

/// Asserts that a command line ends with the status of a wrong one, and that its error has the hints.
fn assert_refused(words: &str, hints: [&str; 2]) {
    let (status, error) = end(&load(words).output().unwrap());
    assert_eq!(status, EXIT_USAGE, "{words}: {error}");
    for hint in hints {
        assert!(error.contains(hint), "{words}: no {hint:?} in {error}");
    }
}

#[test]
fn urls_that_cannot_be_used_are_refused() {
    for (words, hints) in [
        (
            "run --url https://127.0.0.1:1".into(),
            ["--url", "TLS is not supported"],
        ),
        (
            "run --url 127.0.0.1:3000".into(),
            ["--url", "begins with http://"],
        ),
        ("run --url http://127.0.0.1:".into(), ["--url", "port"]),
        ("run --url http://127.0.0.1:x".into(), ["--url", "port"]),
        (
            "run --url http://192.0.2.1:80".into(),
            ["--url", "--i-own-this-host"],
        ),
        (
            "run --preset nchan --url http:///sub".into(),
            ["--url", "no host"],
        ),
        (
            format!("run {URL} --streams 1 --admin https://127.0.0.1"),
            ["--admin", "TLS is not supported"],
        ),
    ] {
        assert_refused(&words, hints);
    }
}

#[test]
fn files_that_are_not_there_are_refused() {
    let files = tempfile::tempdir().unwrap();
    let here = |name: &str| files.path().join(name).display().to_string();
    std::fs::write(here("token"), "two words").unwrap();
    for (words, hints) in [
        (
            format!("run {URL} --publish-body @/nope"),
            ["--publish-body @/nope", "No such file"],
        ),
        (
            format!("run {URL} --publish-header @/nope"),
            ["--publish-header @/nope", "No such file"],
        ),
        (
            format!("run {URL} --token-file /nope"),
            ["--token-file /nope", "No such file"],
        ),
        (
            format!("run {URL} --token-file {}", here("token")),
            ["--token-file", "no token"],
        ),
        (
            format!("run --target floor --report {}/x", here("none")),
            ["--report", "No such file"],
        ),
        (
            "compare --servers floor --only fanout --charts /dev/null/charts".into(),
            ["--charts /dev/null/charts", "Not a directory"],
        ),
        (
            "run --server /nope/hookcast".into(),
            ["--server /nope/hookcast", "no such file"],
        ),
        (
            "overload --server /nope/hookcast".into(),
            ["--server /nope/hookcast", "no such file"],
        ),
        (
            "compare --server /nope/hookcast".into(),
            ["--server /nope/hookcast", "no such file"],
        ),
        (
            "cluster --server /nope/hookcast".into(),
            ["--server /nope/hookcast", "no such file"],
        ),
    ] {
        assert_refused(&words, hints);
    }
}

#[test]
fn more_streams_than_a_process_may_open_are_refused() {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(1 << 20);
    for (words, hints) in [
        (
            format!("run --target floor --streams {limit}"),
            ["descriptors", "--processes"],
        ),
        (
            format!("run {URL} --streams {limit}"),
            ["descriptors", "--processes"],
        ),
        (
            format!("overload --streams {limit}"),
            ["descriptors", "ulimit"],
        ),
        (
            format!("compare --servers floor --streams {limit}"),
            ["descriptors", "ulimit"],
        ),
        (
            format!("cluster --streams {limit} --streams-per-process {limit}"),
            ["descriptors", "--streams-per-process"],
        ),
    ] {
        assert_refused(&words, hints);
    }
}

#[test]
fn flags_that_mean_nothing_to_a_command_are_refused() {
    for (words, hints) in [
        ("run --target floor --tls".into(), ["--tls", "floor"]),
        ("run --target floor --gzip".into(), ["--gzip", "floor"]),
        (
            format!("run {URL} --pid 4294967295"),
            ["--pid 4294967295", "no such process"],
        ),
        (format!("run {URL} --shards 2"), ["--shards", "--url"]),
        (
            format!("run {URL} --heartbeat 1s"),
            ["--heartbeat", "--url"],
        ),
        (
            "compare --only nothing".into(),
            ["--only nothing", "the cases are"],
        ),
        ("cluster --no-bus".into(), ["--no-bus", "one node"]),
        (
            "watch --time-in /at --rate 5 --url http://127.0.0.1:1".into(),
            ["--rate", "publishes nothing"],
        ),
        (
            "watch --time-in /at --target floor".into(),
            ["--target", "starts no server"],
        ),
        (
            "watch --time-in /at --yes --url http://127.0.0.1:1".into(),
            ["--yes", "publishes nothing"],
        ),
        ("watch --time-in /at".into(), ["--url", "--stream-url"]),
        (
            "ladder --target floor --rate 5".into(),
            ["--rate", "--rates"],
        ),
        ("run --fail-if p99>50".into(), ["--fail-if", "unit"]),
        (
            "targeted --target floor --sessions 0".into(),
            ["--sessions 0", "no message"],
        ),
        (
            "idle --target floor --sessions 9".into(),
            ["--sessions", "--sessions-per-stream"],
        ),
        (
            "fanout --target floor --sessions 9".into(),
            ["--sessions", "targeted"],
        ),
        (
            "cluster --sessions-per-stream 2".into(),
            ["--sessions-per-stream", "--sessions <N>"],
        ),
        (
            "cluster --sessions 2 --sessions-per-stream 3".into(),
            ["--sessions-per-stream 3", "only --sessions 2"],
        ),
        (
            "cluster --sessions 9 --streams 20".into(),
            ["--sessions 9", "at most 6"],
        ),
        (
            "cluster --token-life 10ms".into(),
            ["--token-life", "at least 1s"],
        ),
    ] {
        assert_refused(&words, hints);
    }
}

#[test]
fn a_run_that_cannot_be_made_has_another_status() {
    // A privileged port that nothing listens on.
    let address = "127.0.0.1:1";
    for words in [
        format!("run --yes --streams 1 --url http://{address}"),
        format!("watch --time-in /at --url http://{address}"),
        // It starts, and logs no address.
        "run --server /bin/false --streams 1".into(),
    ] {
        let (status, error) = end(&load(&words).output().unwrap());
        assert_eq!(status, EXIT_FAILED, "{words}: {error}");
        assert!(!error.is_empty(), "{words}");
    }
}

#[test]
fn help_shows_a_command_by_its_name_and_only_its_own_flags() {
    let help = |words: &str| {
        let output = load(words).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{words}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(help("run --help").contains("Usage: hookcast-load run "));
    assert!(help("fanout --help").contains("Usage: hookcast-load fanout "));
    let watch = help("watch --help");
    for flag in [
        "--target",
        "--server",
        "--tls",
        "--shards",
        "--rate",
        "--publish-body",
    ] {
        assert!(!watch.contains(&format!("{flag} ")), "{flag} in {watch}");
    }
    for flag in ["--streams", "--stream-url", "--secret", "--fail-if"] {
        assert!(watch.contains(&format!("{flag} ")), "{flag} not in {watch}");
    }
}

/// Runs with the other end of stdout, or of stderr, closed.
fn with_closed(words: &str, stdout: bool) -> Output {
    let mut child = load(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if stdout {
        drop(child.stdout.take());
    } else {
        drop(child.stderr.take());
    }
    child.wait_with_output().unwrap()
}

#[test]
fn a_closed_stdout_ends_a_command_quietly() {
    let size = "--streams 4 --duration 100ms --warmup 1ms";
    for words in [
        format!("run --target floor --json {size}"),
        format!("run --target floor {size}"),
        format!("ladder --target floor --rates 10,20 {size}"),
        format!("compare --quick --servers floor --only fanout --rounds 1 {size}"),
        format!("compare --quick --servers floor --only fanout --rounds 1 --json {size}"),
    ] {
        let (status, error) = end(&with_closed(&words, true));
        assert_eq!(status, EXIT_STDOUT_CLOSED, "{words}: {error}");
        assert!(!error.contains("stdout"), "{words}: {error}");
    }
}

#[test]
fn a_closed_stderr_changes_nothing() {
    let words =
        "compare --quick --servers floor --only fanout --rounds 1 --streams 4 --duration 100ms";
    let output = with_closed(words, false);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("floor"));
    // A server announces itself on stderr, and serves without a reader of it.
    let refused = with_closed("run --url https://127.0.0.1:1", false);
    assert_eq!(refused.status.code(), Some(EXIT_USAGE));
}
