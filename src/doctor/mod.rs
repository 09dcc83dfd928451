//! `hookcast doctor`: what the network path from a client to the server does to posts and streams.
//!
//! Called by `main`. [`probe`] sends the requests of a client and records what arrives. [`judge`]
//! derives findings, each with its evidence, the party at fault and the setting that corrects it.
//! [`report`] prints them as they are found. Examines the address only, never the server's files or
//! settings.

mod answer;
mod examination;
mod fault;
mod finding;
mod hop;
mod judge;
mod probe;
mod report;
mod stream;
mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use self::report::{Form, Report};
use crate::client;
use crate::config::{Color, DoctorConfig, Secret};

pub use self::finding::SUBJECTS;

/// Examines the address and prints what it finds. The exit status is 0 if no check failed, else 1.
pub fn run(config: &DoctorConfig, secret: Option<&Secret>) -> ExitCode {
    let own = secret.into_iter().chain(&config.token);
    let secrets = client::secrets(own.map(Secret::expose));
    let form = form(
        config.json,
        config.color,
        io::stdout().is_terminal(),
        |name| std::env::var(name).ok(),
    );
    let mut out = io::stdout().lock();
    let report = Report::new(&mut out, form);
    if examination::examine(config, secret, &secrets, report) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The form of the report. Colours are for terminals that support them, unless `--color` or `NO_COLOR`
/// (no-color.org) decides.
fn form(
    json: bool,
    color: Color,
    is_terminal: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Form {
    if json {
        return Form::Json;
    }
    let is_terminal = is_terminal && variable("TERM").is_some_and(|term| term != "dumb");
    let is_refused = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    Form::Text {
        is_colored: match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && !is_refused,
        },
        is_terminal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_a_terminal_unless_a_setting_forbids_them() {
        let form = |color, is_terminal, variables: &[(&str, &str)]| {
            form(false, color, is_terminal, |name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let text = |is_colored, is_terminal| Form::Text {
            is_colored,
            is_terminal,
        };
        let xterm = ("TERM", "xterm");
        for (color, is_terminal, variables, expected) in [
            (Color::Auto, true, &[xterm][..], text(true, true)),
            (Color::Auto, false, &[xterm], text(false, false)),
            (
                Color::Auto,
                true,
                &[xterm, ("NO_COLOR", "1")],
                text(false, true),
            ),
            (
                Color::Auto,
                true,
                &[xterm, ("NO_COLOR", "")],
                text(true, true),
            ),
            (Color::Auto, true, &[("TERM", "dumb")], text(false, false)),
            (Color::Auto, true, &[], text(false, false)),
            (
                Color::Always,
                false,
                &[("NO_COLOR", "1")],
                text(true, false),
            ),
            (Color::Never, true, &[xterm], text(false, true)),
        ] {
            assert_eq!(
                form(color, is_terminal, variables),
                expected,
                "{variables:?}"
            );
        }
    }
}
