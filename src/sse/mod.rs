//! The Server-Sent Events side of the wire: event ids and frames.
//!
//! Used by the hub (which encodes each message once) and by the shards (which add what is a
//! stream's own: its first events, gaps, heartbeats, its end). Never does I/O.

pub mod event_id;
pub mod frame;
mod json;
