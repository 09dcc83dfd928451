//! Sources in a running server: providers' requests from the socket to the stream, the file of sources and its
//! reload, the commands for operators.

mod guessing;
mod handover;
mod load;
mod providers;
mod reload;
mod rig;
mod setup;
#[path = "../support/mod.rs"]
mod support;
