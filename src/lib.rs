//! hookcast: webhooks in, Server-Sent Events out.

pub mod limits;
pub mod message;
pub mod mirror;
