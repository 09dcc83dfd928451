//! hookcast: webhooks in, Server-Sent Events out.

pub mod admin;
pub mod clock;
pub mod config;
pub mod control;
pub mod handover;
pub mod http;
pub mod hub;
pub mod inherit;
pub mod limits;
pub mod log;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod mirror;
pub mod ring;
pub mod server;
pub mod service;
pub mod shard;
pub mod sse;
pub mod window;
