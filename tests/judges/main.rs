//! Corpora from specifications and from published findings, sent to the real server through real sockets.
//!
//! - `http`: what HTTP/1.1 allows and forbids, and known ways of request smuggling (`http/*.case`).
//! - `json`: valid, invalid and ambiguous JSON (`json/bodies.table`).
//!
//! `SEED=<n>` repeats the random cuts of a run; every run prints its seed.

mod corpus;
mod http;
mod json;
#[path = "../support/mod.rs"]
mod support;

/// The seed of this run's random cuts; printed, so that a failure shows it.
fn seed() -> u64 {
    let seed = match std::env::var("SEED") {
        Ok(text) => text.parse().expect("SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    println!("SEED={seed}");
    seed
}
