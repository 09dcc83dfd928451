//! Errors of the configuration, each reduced to one line.
//!
//! Made when the configuration is built, printed by `main`. Never contains a secret.

use std::ffi::OsString;
use std::fmt;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::args::Args;
use super::{Environment, hints};
use crate::foreign_text::{Secrets, escape, quote};

/// Why there is no configuration: one line that names the flag or variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// Takes a message, which is escaped: it may hold a path.
    pub(super) fn new(message: impl AsRef<str>) -> ConfigError {
        ConfigError(escape(message.as_ref()))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Reduces an error of `clap` to one line. Names the variable if the value came from one.
pub(super) fn one_line(
    mut error: clap::Error,
    arguments: &[OsString],
    environment: &Environment,
) -> ConfigError {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_utf8(arguments, environment);
    }
    let variable = variable_at_fault(&error, arguments);
    let hint = hint(&error);
    if hint.is_some() {
        // The hint is more specific than a suggestion of `clap`.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
    }
    // The paragraphs are the message, hints, the usage, and where to find help.
    hide_values(&mut error, &environment.secrets());
    let text = error.render().to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    // A line that ends with a colon introduces the next.
    let mut line = lines.join("; ").replace(":; ", ": ");
    if let Some(hint) = hint {
        line = format!("{line}; {hint} (see --help)");
    }
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    match variable {
        Some(variable) => ConfigError::new(format!("{variable}: {line}")),
        None => ConfigError::new(line),
    }
}

/// The hint for an unknown argument, if there is one.
fn hint(error: &clap::Error) -> Option<String> {
    let kind = match error.kind() {
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        _ => return None,
    };
    match error.get(kind) {
        Some(ContextValue::String(argument)) => hints::of_argument(argument),
        _ => None,
    }
}

/// Quotes the values in the error: escapes them, shortens them and hides secrets.
fn hide_values(error: &mut clap::Error, secrets: &Secrets) {
    for kind in [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::InvalidSubcommand,
    ] {
        let Some(ContextValue::String(value)) = error.get(kind) else {
            continue;
        };
        let shown = quote(&without_query(after_user(value)), secrets);
        if shown != *value {
            error.insert(kind, ContextValue::String(shown));
            // A hint repeats the value.
            error.remove(ContextKind::Suggested);
        }
    }
}

/// The value from its last `@` on. The part before it may be a password in a URL. Values that are
/// not URLs contain no `@`.
fn after_user(value: &str) -> &str {
    value.rfind('@').map_or(value, |at| &value[at..])
}

/// The value up to its query or fragment, which may be a token. A URL keeps the shape of its path: long segments
/// are left out, and so is a long word alone.
fn without_query(value: &str) -> String {
    const TOKEN_PARAMETER: &str = "token=";
    let lower = value.to_ascii_lowercase();
    let query = value.find(['?', '#']).map(|at| at + 1);
    let token = lower
        .find(TOKEN_PARAMETER)
        .map(|at| at + TOKEN_PARAMETER.len());
    let end = query.into_iter().chain(token).min();
    let (shown, ending) = match end {
        Some(end) if end < value.len() => (&value[..end], HIDDEN),
        _ => (value, ""),
    };
    let is_long_word = shown.len() > SEGMENT_BYTES_MAX && !shown.contains(['/', ':', ' ']);
    if is_long_word && !shown.starts_with('-') {
        return HIDDEN.to_owned();
    }
    let is_url = shown.contains("://");
    let segments = shown.split('/').enumerate().map(|(place, segment)| {
        // The scheme, an empty segment and the authority come first.
        let is_hidden = is_url && place > 2 && segment.len() > SEGMENT_BYTES_MAX;
        if is_hidden { HIDDEN } else { segment }
    });
    let segments: Vec<&str> = segments.collect();
    segments.join("/") + ending
}

/// Stands for what is left out.
const HIDDEN: &str = "…";

/// The longest segment of a path that is shown. A token is longer.
const SEGMENT_BYTES_MAX: usize = 24;

/// The variable whose value was refused, unless the flag itself was given.
fn variable_at_fault(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let flag = argument.split_whitespace().next()?;
    let is_flag = |text: &str| {
        text == flag
            || text
                .strip_prefix(flag)
                .is_some_and(|rest| rest.starts_with('='))
    };
    if arguments
        .iter()
        .any(|text| is_flag(&text.to_string_lossy()))
    {
        return None;
    }
    Args::command()
        .get_arguments()
        .find(|argument| {
            argument
                .get_long()
                .is_some_and(|long| flag == format!("--{long}"))
        })
        .and_then(|argument| argument.get_env())
        .map(|variable| variable.to_string_lossy().into_owned())
}

/// Finds the argument or variable that is not UTF-8: `clap` does not name it.
fn not_utf8(arguments: &[OsString], environment: &Environment) -> ConfigError {
    if let Some(argument) = arguments
        .iter()
        .find(|argument| argument.to_str().is_none())
    {
        let shown = quote(&argument.to_string_lossy(), &environment.secrets());
        return ConfigError::new(format!("argument {shown} is not UTF-8"));
    }
    let variable = hints::variables().find(|name| {
        let value = environment.0.get(name);
        value.is_some_and(|value| value.to_str().is_none())
    });
    match variable {
        Some(name) => ConfigError::new(format!("{} is not UTF-8", name.display())),
        None => ConfigError::new("an argument is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_without_what_may_be_a_token() {
        let long = "s3cret".repeat(5);
        for (value, expected) in [
            ("https://h/?token=s3cret".to_owned(), "https://h/?…"),
            ("https://h/#token=s3cret".to_owned(), "https://h/#…"),
            ("h.example/;Token=s3cret".to_owned(), "h.example/;Token=…"),
            (format!("https://h/t/{long}/ a"), "https://h/t/…/ a"),
            (long.clone(), "…"),
            (format!("--{long}"), &format!("--{long}")),
            ("https://h/?".to_owned(), "https://h/?"),
            ("ftp://h/base".to_owned(), "ftp://h/base"),
            ("unix:/a".to_owned(), "unix:/a"),
        ] {
            assert_eq!(without_query(&value), expected);
        }
    }
}
