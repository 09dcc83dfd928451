//! hookcast: webhooks in, Server-Sent Events out.

pub mod config;
pub mod http;
pub mod limits;
pub mod log;
pub mod message;
pub mod sse;
pub mod ring;
