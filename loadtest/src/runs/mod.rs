//! The commands that measure: one scenario, a cluster, a comparison of servers, the overload.
//!
//! Called by `main`. Each starts servers, lets `engine` measure, and prints what `report` makes of the
//! results.

pub mod cluster;
pub mod compare;
pub mod overload;
pub mod prior_use;
pub mod readers;
pub mod remote;
pub mod single;
