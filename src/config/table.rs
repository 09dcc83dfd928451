//! The table of settings on the operator's page, generated from the definition of the flags.
//!
//! Called by the tests of the pages. Does no I/O.

use std::fmt::Write;

use clap::CommandFactory;

use super::args::Args;
use super::kv::{ACCOUNT_VARIABLE, NAMESPACE_VARIABLE, TOKEN_VARIABLE};

/// Settings without a flag: those of secrets, and those that the service manager sets.
pub(super) const VARIABLES_ALONE: [(&str, &str); 5] = [
    (
        "WEBHOOK_SECRET",
        "The secret that webhooks must carry in `X-Webhook-Secret`; or use `--secret-file`",
    ),
    (
        ACCOUNT_VARIABLE,
        "Cloudflare account; with the next two, the history is shared through KV",
    ),
    (TOKEN_VARIABLE, "A token that may read and write Workers KV"),
    (
        NAMESPACE_VARIABLE,
        "The id of the KV namespace: 32 hexadecimal digits",
    ),
    (
        "STATE_DIRECTORY",
        "Directory of the ring, unless `--ring` is given; systemd sets it",
    ),
];

/// Every setting in a Markdown table: flag, variable, default, meaning; ends with a newline.
pub fn markdown_table() -> String {
    let mut table = String::from("| flag | variable | default | meaning |\n|---|---|---|---|\n");
    for argument in Args::command().get_arguments() {
        let Some(long) = argument
            .get_long()
            .filter(|_| argument.get_help().is_some())
        else {
            continue;
        };
        let flag = match argument
            .get_value_names()
            .filter(|_| argument.get_action().takes_values())
        {
            Some(names) => format!("`--{long} {}`", names.join(" ")),
            None => format!("`--{long}`"),
        };
        let variable = argument
            .get_env()
            .map_or(String::new(), |name| format!("`{}`", name.display()));
        let default = match argument.get_default_values().first() {
            Some(value) if argument.get_action().takes_values() => format!("`{}`", value.display()),
            _ => String::new(),
        };
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let mut meaning = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        if argument.get_action().takes_values() && !values.is_empty() {
            let _ = write!(meaning, ": {}", values.join(", "));
        }
        let _ = writeln!(table, "| {flag} | {variable} | {default} | {meaning} |");
    }
    for (variable, meaning) in VARIABLES_ALONE {
        let _ = writeln!(table, "| | `{variable}` | | {meaning} |");
    }
    table
}
