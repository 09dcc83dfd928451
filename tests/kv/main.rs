//! hookcast on a real KV: miniflare runs `workerd` with a KV binding, behind a Worker that serves
//! the REST API with its limits and misbehaves on request (`rest.js`), and beside one that does
//! what the Pages app does (`pages.js`).
//!
//! `tests/run kv` installs the modules and runs this; `KV_FULL=1 tests/kv/run` runs it at the length
//! and the intervals of the defaults. Waits are for what is seen at the KV or on a stream.

mod check;
mod kv;
mod outage;
mod pace;
mod sharing;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
