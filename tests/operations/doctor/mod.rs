//! `hookcast doctor`. Other tests of it: behind proxies in `tests/fronting`, secrets in its output in `secrets`.

mod hostile;
mod report;
mod tls;

use std::process::{Command, Output, Stdio};

const SECRET: &str = "doctor-secret-4711";

/// The command of a doctor that watches a stream for five seconds.
fn doctor(url: &str, secret: Option<&str>, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast"));
    command
        .args(["doctor", url, "--watch", "5s"])
        .args(flags)
        .env_clear()
        .envs(secret.map(|secret| ("WEBHOOK_SECRET", secret)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(bytes).unwrap()
}

/// The header fields by which the doctor recognizes hookcast.
const OWN_FIELDS: &str = "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n";
