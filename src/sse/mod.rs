//! Server-Sent Events: event ids, their lineage, and frames.
//!
//! Called by the hub, which encodes each message once, and by the shards, which encode the events of
//! single streams: first events, gaps, heartbeats, ends. Never does I/O.

pub mod event_id;
pub mod frame;
pub mod gzip;
mod json;
pub mod lineage;
