//! Errors of the configuration: one line each, however many the flag parser has to say.

use std::ffi::OsString;
use std::fmt;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Environment;
use super::args::Args;

/// Why there is no configuration: one line that names the flag or variable; never a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// Takes a message, whose control characters are escaped: it may quote what a file or a
    /// variable holds.
    pub(super) fn new(message: impl AsRef<str>) -> ConfigError {
        let mut line = String::new();
        for c in message.as_ref().chars() {
            if c.is_control() {
                line.extend(c.escape_default());
            } else {
                line.push(c);
            }
        }
        ConfigError(line)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Cuts an error of `clap` down to one line, and names the variable where that is the culprit.
pub(super) fn one_line(
    error: &clap::Error,
    arguments: &[OsString],
    environment: &Environment,
) -> ConfigError {
    if error.kind() == ErrorKind::InvalidUtf8 {
        return not_utf8(arguments, environment);
    }
    // The paragraphs are the message, hints, the usage, and where to find help.
    let text = error.render().to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = lines.join("; ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    match variable_at_fault(error, arguments) {
        Some(variable) => ConfigError::new(format!("{variable}: {line}")),
        None => ConfigError::new(line),
    }
}

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

/// `clap` does not say where it saw invalid UTF-8.
fn not_utf8(arguments: &[OsString], environment: &Environment) -> ConfigError {
    if let Some(argument) = arguments
        .iter()
        .find(|argument| argument.to_str().is_none())
    {
        return ConfigError::new(format!("argument {} is not UTF-8", argument.display()));
    }
    let variable = Args::command()
        .get_arguments()
        .filter_map(|argument| argument.get_env().map(OsString::from))
        .find(|name| {
            environment
                .0
                .get(name)
                .is_some_and(|value| value.to_str().is_none())
        });
    match variable {
        Some(name) => ConfigError::new(format!("{} is not UTF-8", name.display())),
        None => ConfigError::new("an argument is not UTF-8"),
    }
}
