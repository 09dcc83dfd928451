//! hookcast on a real KV: miniflare runs `workerd` with a KV binding, behind a Worker that serves the REST API
//! with its limits and fails on request (`rest.js`). Another Worker does what the Pages app does (`pages.js`).
//!
//! `tests/run kv` installs the modules and runs this. `KV_FULL=1 tests/kv/run` uses the default intervals and
//! lengths. Waits are for something in KV or on a stream.

mod check;
mod kv;
mod outage;
mod pace;
mod sharing;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
