//! Nodes of hookcast on one bus, with a real engine: Debian's `redis-server`, killed, frozen, promoted, emptied and
//! cut off while webhooks and streams go on.
//!
//! `tests/run bus` installs it and runs this. Judges (`judge`) hold for every test: one order on all nodes, no
//! message twice on a connection, nothing acknowledged lost, nothing refused shown.

mod cluster;
mod engine;
mod judge;
mod load;
mod proxy;
mod resp;
mod rig;
#[path = "../support/mod.rs"]
mod support;
mod watcher;
