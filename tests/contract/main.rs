//! What a client of the API may rely on: requests and answers, streams, the history, sessions and the secret.
//!
//! `harness` tests the client that all of these tests use.

mod connections;
mod early_answers;
mod harness;
mod http;
mod lines;
mod messages;
mod replay;
mod security;
mod senders;
mod shared_streams;
mod stream;
#[path = "../support/mod.rs"]
mod support;
mod tls;
