//! Prints dispatched events, one JSON object a line.

use std::fmt::Debug;
use std::io::Write as _;

/// The URL and the id to resume from, which may be empty.
pub fn arguments() -> (String, String) {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().unwrap_or_default();
    (next(), next())
}

pub fn event(data: &str, id: &str) {
    print(&serde_json::json!({ "data": data, "id": id }));
}

pub fn error(error: &dyn Debug) {
    print(&serde_json::json!({ "error": format!("{error:?}") }));
}

fn print(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").expect("standard output is open");
    out.flush().expect("standard output is open");
}
