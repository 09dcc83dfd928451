//! What an operator relies on: settings and files, the doctor, logs and metrics, listening addresses, the end and
//! the restart of a server.

mod cli;
mod doctor;
mod drain;
mod health;
mod listeners;
mod logs;
mod metrics;
mod restart;
mod secrets;
mod service;
#[path = "../support/mod.rs"]
mod support;
mod test_runner;
mod tls_files;
mod token_files;
