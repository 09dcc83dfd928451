//! What a client of the API may rely on: requests and answers, streams, the history, sessions and the secret.
//!
//! `harness` tests the client that all of these tests use.

mod begin;
mod compressed_streams;
mod connections;
mod early_answers;
mod harness;
mod http;
mod idempotency;
mod lines;
mod messages;
mod presence;
mod replay;
mod security;
mod senders;
mod sessions;
mod shared_streams;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod tls;
