//! hookcast: webhooks in, Server-Sent Events out.
//!
//! The binary reads its configuration ([`config`]) and calls [`server::run`], which runs until the process
//! ends. Every module begins with its purpose, its callers, and what it never does. Every bound is in
//! [`limits`].
//!
//! `src/README.md` shows the way of one message through these modules, the threads, the order of
//! imports, and a glossary.

pub mod admin;
pub mod bus;
pub mod chat;
pub mod check;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod der;
pub mod doctor;
pub mod foreign_text;
pub mod handover;
pub mod health;
pub mod http;
pub mod hub;
pub mod identities;
pub mod inherit;
pub mod json_text;
pub mod lifecycle;
pub mod limits;
pub mod live_log;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod mirror;
pub mod net;
pub mod pem;
pub mod ring;
pub mod server;
pub mod service;
pub mod shard;
pub mod sources;
pub mod sse;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
pub mod tls;
pub mod tokens;
