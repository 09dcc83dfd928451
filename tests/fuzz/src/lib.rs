//! Fuzz targets. Each takes bytes from a fuzzer or from the corpus, and panics on a wrong result.
//!
//! `tests/fuzz/run` builds them with coverage and runs libFuzzer. The test `corpus` replays the corpus under
//! plain `cargo test`. See `README.md`.

mod chunked;
mod connection;
mod draft;
mod event_id;
mod extras;
mod identities;
mod kv_value;
mod node;
mod request;
mod ring;
mod signer;
mod source;
mod sources_at_hand;
mod sources_file;
mod token;
mod webhook;

/// The simulation of a node; the target `node` decodes its operations from the input.
#[path = "../../simulation"]
#[expect(
    dead_code,
    reason = "the part that draws operations from seeds is unused here"
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
    mod sources;
    mod stream;
    mod turn;
    pub mod world;
}

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("chunked", chunked::run),
    ("connection", connection::run),
    ("event_id", event_id::run),
    ("extras", extras::run),
    ("identities", identities::run),
    ("kv_value", kv_value::run),
    ("node", node::run),
    ("request", request::run),
    ("ring", ring::run),
    ("source", source::run),
    ("sources_file", sources_file::run),
    ("token", token::run),
    ("webhook", webhook::run),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}
