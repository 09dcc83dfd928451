//! hookcast: webhooks in, Server-Sent Events out.

pub mod admin;
pub mod check;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod handover;
pub mod http;
pub mod hub;
pub mod inherit;
pub mod lifecycle;
pub mod limits;
pub mod log;
pub mod logging;
pub mod message;
pub mod metrics;
pub mod mirror;
pub mod proxy_protocol;
pub mod ring;
pub mod server;
pub mod service;
pub mod shard;
pub mod sse;
pub mod tls;
pub mod window;
