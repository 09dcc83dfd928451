//! Fuzz targets: each takes bytes that a fuzzer, or a file of the corpus, makes up, and panics when
//! something is wrong.
//!
//! `tests/fuzz/run` builds them with coverage and lets libFuzzer drive them; the test `corpus`
//! replays what it has found under plain `cargo test`. See `README.md`.

mod chunked;
mod connection;
mod event_id;
mod kv_value;
mod node;
mod request;
mod ring;
mod webhook;

/// The simulation of a whole node, whose operations the target `node` makes up.
#[path = "../../simulation"]
#[expect(
    dead_code,
    reason = "what draws operations from seeds is not used here"
)]
mod simulation {
    mod client;
    mod coverage;
    mod kernel;
    mod model;
    mod node;
    pub mod operation;
    mod poller;
    mod request;
    mod stream;
    mod turn;
    pub mod world;
}

/// One fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("chunked", chunked::run),
    ("connection", connection::run),
    ("event_id", event_id::run),
    ("kv_value", kv_value::run),
    ("node", node::run),
    ("request", request::run),
    ("ring", ring::run),
    ("webhook", webhook::run),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}
