//! hookcast: webhooks in, Server-Sent Events out.

pub mod http;
pub mod limits;
pub mod message;
