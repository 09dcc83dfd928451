//! hookcast: webhooks in, Server-Sent Events out.

pub mod config;
pub mod limits;
pub mod logging;
pub mod message;
pub mod metrics;
