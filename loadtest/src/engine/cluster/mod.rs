//! A measurement of several nodes that share one order: opens streams on all of them, posts to all of them,
//! and checks every connection and every stream.
//!
//! `reader` reads in processes of its own, `poster` posts on a thread. Without I/O: `order`, `trail`, `views`,
//! `lives`, `plan` and `verdict`. Used by `runs`. Never starts a process.

pub mod lives;
pub mod order;
pub mod plan;
pub mod poster;
pub mod reader;
pub mod trail;
pub mod verdict;
pub mod views;
