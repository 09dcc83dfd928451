//! `hookcast doctor`: what the way from a client to the server does to posts and streams.
//!
//! Called by `main`, which prints the result. [`visit`] goes there as a client and writes down what
//! it sees; [`diagnosis`] makes words of that, each with the setting that mends it. The two are
//! apart so that every diagnosis can be tested on notes alone. Never looks at the server itself:
//! what is examined is an address.

pub mod diagnosis;
mod fault;
mod stream;
pub mod visit;

use crate::check::Check;
use crate::client;
use crate::config::{DoctorConfig, Secret};
use crate::limits::DOCTOR_MESSAGES;

/// What is said before anything is done, since it can be seen.
pub fn announcement(config: &DoctorConfig) -> String {
    format!(
        "Examining {} for {}. This posts {DOCTOR_MESSAGES} messages to a session of its own: only streams \
         that see everything show them, and they take places in the history.",
        config.url.as_str(),
        humantime::format_duration(config.watch),
    )
}

/// Goes to the address, watches, and says what it found. All is well if no check has failed.
pub fn examine(config: &DoctorConfig, secret: Option<&Secret>) -> Vec<Check> {
    let secrets = client::secrets(secret.map(Secret::expose));
    diagnosis::diagnose(&visit::visit(config, secret, &secrets), &secrets)
}
