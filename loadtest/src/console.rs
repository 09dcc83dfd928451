//! Writes results and notes. `println!` and `eprintln!` panic if the other end of a pipe is closed. Reading processes,
//! and the question of `prior_use`, write to their streams themselves.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};

use crate::exit::Failure;

/// Writes a result to stdout.
pub fn put(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure::stdout_closed(),
        _ => format!("stdout: {error}").into(),
    })
}

/// Writes a line to stderr. A closed stderr changes nothing: the result is on stdout.
pub fn note(line: impl Display) {
    // One write: lines of several threads stay whole.
    let _ = stderr().write_all(format!("{line}\n").as_bytes());
}
