//! The settings of `source-check` and `source-list`.
//!
//! Called by the parser. Reads neither the file of sources nor the body.

use std::path::PathBuf;

use super::ConfigError;
use super::args::{Args, Subcommands};

/// A command about sources.
#[derive(Debug, Clone)]
pub enum SourceCommand {
    /// Try a request.
    Check(SourceCheck),
    /// Print the addresses of the sources.
    List {
        /// The base URL of the server as providers see it.
        public_url: Option<String>,
    },
}

/// A request to try.
#[derive(Debug, Clone)]
pub struct SourceCheck {
    /// The source's name.
    pub name: String,
    /// The file with the body; `-` is standard input.
    pub body: PathBuf,
    /// Header fields, `Name: value` each.
    pub headers: Vec<String>,
    /// The query of the address.
    pub query: Option<String>,
    /// The time at which it arrives, in seconds since the Unix epoch; `None`: now.
    pub at_unix_s: Option<u64>,
}

/// The command, if it is one about sources.
pub(super) fn settings(args: &Args) -> Result<Option<SourceCommand>, ConfigError> {
    let command = match &args.command {
        Some(Subcommands::SourceCheck(check)) => SourceCommand::Check(SourceCheck {
            name: check.name.clone(),
            body: check.body.clone(),
            headers: check.header.clone(),
            query: check.query.clone(),
            at_unix_s: check.at,
        }),
        Some(Subcommands::SourceList { public_url }) => SourceCommand::List {
            public_url: public_url.as_ref().map(|url| url.as_str().to_owned()),
        },
        _ => return Ok(None),
    };
    if args.sources.is_none() {
        return Err(ConfigError::new(
            "source-check and source-list need --sources, the file of sources",
        ));
    }
    Ok(Some(command))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn command_of(flags: &[&str]) -> Result<Option<SourceCommand>, ConfigError> {
        settings(&Args::parse_from([&["hookcast"], flags].concat()))
    }

    #[test]
    fn a_command_about_sources_needs_their_file() {
        assert!(command_of(&["--sources", "s.toml"]).unwrap().is_none());
        let check = [
            "source-check",
            "github",
            "--body",
            "b.json",
            "--header",
            "A: b, c",
        ];
        let error = command_of(&check).unwrap_err();
        assert!(error.to_string().contains("--sources"), "{error}");
        let check = [&check[..], &["--header", "D: e", "--sources", "s.toml"]].concat();
        let Ok(Some(SourceCommand::Check(check))) = command_of(&check) else {
            panic!("no check");
        };
        assert_eq!((check.name.as_str(), check.at_unix_s), ("github", None));
        assert_eq!(check.headers, ["A: b, c", "D: e"]);
        let list = ["source-list", "https://hooks.example/", "--sources", "s"];
        let Ok(Some(SourceCommand::List { public_url })) = command_of(&list) else {
            panic!("no list");
        };
        assert_eq!(public_url.as_deref(), Some("https://hooks.example"));
    }
}
