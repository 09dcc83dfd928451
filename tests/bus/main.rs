//! Nodes of hookcast on one bus, with a real engine: Debian's `redis-server`, killed, frozen, promoted, emptied and
//! cut off while webhooks and streams go on.
//!
//! `tests/run bus` installs it and runs this. Judges (`judge`) hold for every test: one order on all nodes, no
//! message twice on a connection, nothing acknowledged lost, nothing refused shown, nothing shown outside the view of
//! a stream or after the end of its token.

mod basics;
mod cluster;
mod cuts;
mod engine;
mod failover;
mod fake;
mod freeze;
mod identities;
mod judge;
mod lease;
mod load;
mod loss;
mod nodes;
mod presence;
mod proxy;
mod random;
mod record;
mod refusals;
mod resp;
mod rig;
mod secrets;
mod security;
#[path = "../support/mod.rs"]
mod support;
mod tampering;
mod view;
mod views;
mod watch;
mod watcher;
