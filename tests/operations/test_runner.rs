//! The command line of `tests/run`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Runs `tests/run` with these arguments.
fn tests_run(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
    Command::new(script).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_of_the_test_runner_names_every_step_with_its_minutes() {
    for flag in ["--help", "-h", "--list"] {
        let output = tests_run(&[flag]);
        assert_eq!(output.status.code(), Some(0), "{flag}");
        let help = text(&output.stdout);
        assert!(!help.contains("failed step"), "{help}");
        let mut steps = vec!["rust".to_owned()];
        for directory in std::fs::read_dir("tests").unwrap() {
            let path = directory.unwrap().path();
            if path.join("run").exists() {
                steps.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        for step in steps {
            let line = help
                .lines()
                .find(|line| line.trim_start().starts_with(&format!("{step} ")));
            let line = line.unwrap_or_else(|| panic!("{step} in {help}"));
            let minutes = line.split_whitespace().skip(1).take(2);
            let minutes: Vec<u32> = minutes.filter_map(|word| word.parse().ok()).collect();
            assert_eq!(minutes.len(), 2, "minutes of {step}: {line}");
        }
    }
}

#[test]
fn the_test_runner_checks_its_arguments_before_it_runs_a_step() {
    for arguments in [
        ["rust", "rustt"],
        ["--fast", "rust"],
        ["rust", "--help=all"],
        ["rust", ""],
    ] {
        let output = tests_run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
        let error = text(&output.stderr);
        assert!(error.contains("tests/run --help"), "{error}");
    }
}

/// A directory with a copy of the test runner and one step, `tests/silent`.
///
/// A shell writes the programs. If this process did, another test could start a process meanwhile, which would inherit
/// the open file, and running the program would fail with `ETXTBSY`.
fn runner_with_step(script: &str) -> TempDir {
    const WRITE: &str = r#"mkdir -p tests/silent && cp "$1" tests/run
        printf '%s' "$2" >tests/silent/run && chmod +x tests/silent/run"#;
    let root = tempfile::tempdir().unwrap();
    let status = Command::new("sh")
        .args(["-euc", WRITE, "sh"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run"))
        .arg(script)
        .current_dir(root.path())
        .status()
        .unwrap();
    assert!(status.success());
    root
}

/// A step prints nothing for a while: the runner prints what the step is running.
#[test]
fn a_silent_step_is_reported_while_it_runs() {
    let root = runner_with_step(
        "#!/bin/sh\nmkfifo seen && grep -q seen seen\necho '1 passed, 0 failed'\n",
    );
    let mut child = Command::new(root.path().join("tests/run"))
        .arg("silent")
        .env("SILENCE_SECONDS", "0.2")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .find(|line| line.as_ref().unwrap().contains("running grep"))
        .expect("the runner names the command")
        .unwrap();
    assert!(line.starts_with("-- silent: "), "{line}");
    std::fs::write(root.path().join("seen"), "seen\n").unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(rest.contains(&"1 passed, 0 failed".to_owned()), "{rest:?}");
    assert!(child.wait().unwrap().success());
}

/// A step waits for a process that never ends: both are killed, and the next step runs.
#[test]
fn a_step_that_does_not_end_is_killed_and_counts_as_failed() {
    let root = runner_with_step(
        "#!/bin/sh\nmkfifo never\nsh -c 'exec 9>lock && flock 9 && echo held && read line <never'\n",
    );
    let mut child = Command::new(root.path().join("tests/run"))
        .args(["silent", "silent"])
        .env("SILENCE_SECONDS", "0.2")
        .env("STEP_SECONDS_MAX", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{lines:?}");
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(
        [count("it is killed"), count("held")],
        [2, 2],
        "the lock is free for the second step: {lines:?}"
    );
    assert_eq!(lines.last().unwrap(), "0 passed, 2 failed");
}
