//! Tokens and secrets against a real server: who may see and send what, how streams end with their tokens, how
//! guessing is slowed down.

mod doctor;
mod ends;
mod guessing;
mod keys_of_senders;
mod precedence;
mod quiet;
mod rig;
#[path = "../support/mod.rs"]
mod support;
mod table;
