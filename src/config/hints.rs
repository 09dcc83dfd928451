//! Hints for flags, commands and variables that do not exist: the ones that were probably meant.
//!
//! Used by the errors and warnings of the configuration. Never decides that something is an error.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;

use super::args::Args;
use super::{Environment, SECRET_VARIABLE};

/// The prefix of the variables of flags.
const PREFIX: &str = "HOOKCAST_";

/// Jaro-Winkler similarity from which an unknown name counts as misspelt; equal names have 1.
const SIMILARITY_MIN: f64 = 0.86;

/// Flags of other servers, and the hint for each.
const FLAGS: [(&[&str], &str); 7] = [
    (
        &[
            "--port",
            "-p",
            "--host",
            "--bind",
            "-b",
            "--addr",
            "--address",
            "-l",
        ],
        "the address and the port are set by --listen ADDRESS:PORT",
    ),
    (
        &["--secret", "--token", "--password"],
        "a secret is read from a file (--secret-file) or from WEBHOOK_SECRET, never from a flag",
    ),
    (
        &["--config", "-c", "--conf"],
        "there is no configuration file: every setting is a flag or a variable",
    ),
    (
        &["--metrics", "--metrics-addr", "--health"],
        "metrics and health are served on --admin ADDRESS:PORT",
    ),
    (
        &["--verbose", "-v", "--debug", "-q", "--quiet"],
        "the log is set by --log-level",
    ),
    (
        &["--cert", "--key", "--tls", "--ssl"],
        "TLS is set by --listen ADDRESS:PORT+tls, --tls-cert and --tls-key",
    ),
    (
        &["--cors", "--origin", "--origins"],
        "the origins are set by --allow-origin",
    ),
];

/// Variables that look like settings, and the setting that is probably meant.
const VARIABLES: [(&[&str], &str); 3] = [
    (
        &[
            "HOOKCAST_PORT",
            "HOOKCAST_HOST",
            "HOOKCAST_BIND",
            "HOOKCAST_ADDR",
            "HOOKCAST_ADDRESS",
        ],
        "HOOKCAST_LISTEN",
    ),
    (&["HOOKCAST_METRICS"], "HOOKCAST_ADMIN"),
    (&["HOOKCAST_LOG"], "HOOKCAST_LOG_LEVEL"),
];

/// The hint for an unknown flag or command.
pub(super) fn of_argument(argument: &str) -> Option<String> {
    let name = argument.split('=').next()?;
    let known = FLAGS.iter().find(|(names, _)| names.contains(&name));
    if let Some((_, hint)) = known {
        return Some((*hint).into());
    }
    match name {
        "start" | "serve" | "server" | "run" | "up" => {
            Some("the server needs no command: leave it out".into())
        }
        "help" => Some("the flag is --help".into()),
        "version" => Some("the flag is --version".into()),
        _ if is_address(name) => Some(format!("an address is given as --listen {}", listen(name))),
        _ => None,
    }
}

/// Whether a word is a port, or an address with one.
fn is_address(word: &str) -> bool {
    word.parse::<u16>().is_ok() || word.parse::<std::net::SocketAddr>().is_ok()
}

/// An address for `--listen`, from a port or an address.
pub(super) fn listen(word: &str) -> String {
    match word.trim_start_matches(':').parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => word.to_owned(),
    }
}

/// The setting that a variable was probably meant to be.
pub(super) fn of_variable(name: &str) -> Option<String> {
    let known = VARIABLES.iter().find(|(names, _)| names.contains(&name));
    if let Some((_, meant)) = known {
        return Some((*meant).into());
    }
    // The common prefix would make all names similar.
    let tail = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_owned();
    let tail_meant = tail(name);
    let similarity = |known: &String| strsim::jaro_winkler(&tail(known), &tail_meant);
    let nearest = variables()
        .filter_map(|name| name.into_string().ok())
        .max_by(|a, b| similarity(a).total_cmp(&similarity(b)))?;
    (similarity(&nearest) >= SIMILARITY_MIN).then_some(nearest)
}

/// The variables of flags.
pub(super) fn variables() -> impl Iterator<Item = OsString> {
    let arguments: Vec<OsString> = Args::command()
        .get_arguments()
        .filter_map(|argument| argument.get_env().map(OsStr::to_owned))
        .collect();
    arguments.into_iter()
}

/// A variable that is set and was probably meant for the secret, and the name that is read instead.
/// If it were ignored, the server would run without a secret.
pub(super) fn misnamed_secret(environment: &Environment) -> Option<(&str, &'static str)> {
    const NAMES: [(&str, &str); 5] = [
        ("HOOKCAST_SECRET", SECRET_VARIABLE),
        ("HOOKCAST_WEBHOOK_SECRET", SECRET_VARIABLE),
        ("HOOKCAST_TOKEN", SECRET_VARIABLE),
        ("WEBHOOK_SECRET_FILE", "HOOKCAST_SECRET_FILE"),
        ("HOOKCAST_WEBHOOK_SECRET_FILE", "HOOKCAST_SECRET_FILE"),
    ];
    let is_set = |name: &str| environment.0.contains_key(OsStr::new(name));
    NAMES.into_iter().find(|(name, _)| is_set(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_matched_to_its_setting() {
        for (name, meant) in [
            ("HOOKCAST_LISTNE", Some("HOOKCAST_LISTEN")),
            ("HOOKCAST_HEARTBEATS", Some("HOOKCAST_HEARTBEAT")),
            ("HOOKCAST_MAX_CONNECTION", Some("HOOKCAST_MAX_CONNECTIONS")),
            ("HOOKCAST_PORT", Some("HOOKCAST_LISTEN")),
            ("HOOKCAST_ALLOWED_ORIGIN", Some("HOOKCAST_ALLOW_ORIGIN")),
            ("HOOKCAST_COLOUR_OF_THE_SKY", None),
        ] {
            assert_eq!(of_variable(name).as_deref(), meant, "{name}");
        }
    }

    #[test]
    fn every_hint_names_settings_that_exist() {
        let command = Args::command();
        let flags: Vec<&str> = command
            .get_arguments()
            .filter_map(|a| a.get_long())
            .collect();
        let hints = FLAGS.iter().map(|(_, hint)| *hint);
        let words =
            hints.flat_map(|hint| hint.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'));
        let named: Vec<&str> = words.filter_map(|word| word.strip_prefix("--")).collect();
        assert!(named.len() >= FLAGS.len());
        for flag in named {
            assert!(flags.contains(&flag), "--{flag}");
        }
        let known: Vec<OsString> = variables().collect();
        for (_, meant) in VARIABLES {
            assert!(known.iter().any(|name| name == meant), "{meant}");
        }
    }
}
