//! Bounds and fairness: what a server accepts, the most memory that peers can make it hold, and what one client can
//! take from others.

mod collections;
mod kv_values;
mod limits;
mod memory;
mod overload;
mod peaks;
mod places;
mod shares;
#[path = "../support/mod.rs"]
mod support;
mod tls;
