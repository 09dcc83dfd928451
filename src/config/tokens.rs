//! The settings of tokens: the files of their keys, their audience, and whether every client needs one.
//!
//! Used when the configuration is built. The files are read by `server`, at the start and on each reload.

use std::path::PathBuf;

use super::ConfigError;
use super::args::Args;

/// The settings of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// The files of keys, at least one.
    pub key_files: Vec<PathBuf>,
    /// The name that tokens must have in `aud`, if there is one.
    pub audience: Option<String>,
    /// Requests need a token or the secret.
    pub is_required: bool,
}

impl TokenConfig {
    /// What the summary of the configuration says. Paths are left out: one may be a key by mistake.
    pub(super) fn summary(&self) -> &'static str {
        if self.is_required {
            "required"
        } else {
            "accepted"
        }
    }
}

/// The settings of tokens, if there is a file of keys.
pub(super) fn settings(args: &Args) -> Result<Option<TokenConfig>, ConfigError> {
    let without_key = |flag| Err(ConfigError::new(format!("{flag} needs --token-key")));
    if !args.token_key.is_empty() {
        return Ok(Some(TokenConfig {
            key_files: args.token_key.clone(),
            audience: args.token_audience.clone(),
            is_required: args.require_token,
        }));
    }
    match (args.require_token, &args.token_audience) {
        (true, _) => without_key("--require-token"),
        (false, Some(_)) => without_key("--token-audience"),
        (false, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, error};
    use super::*;

    const KEY: [&str; 2] = ["--token-key", "k"];

    fn with_key(flags: &[&str]) -> TokenConfig {
        config(&[&KEY[..], flags].concat(), &[]).tokens.unwrap()
    }

    #[test]
    fn keys_add_up_and_the_other_flags_need_one() {
        assert!(config(&[], &[]).tokens.is_none());
        let tokens = with_key(&[
            "--token-key",
            "a,b",
            "--token-audience",
            "us",
            "--require-token",
        ]);
        assert_eq!(tokens.key_files, ["k", "a", "b"].map(PathBuf::from));
        assert_eq!(tokens.audience.as_deref(), Some("us"));
        assert!(tokens.is_required && !with_key(&[]).is_required);
        for flags in [&["--require-token"][..], &["--token-audience", "us"]] {
            let expected = format!("{} needs --token-key", flags[0]);
            assert_eq!(error(flags, &[]), expected);
        }
        let empty = error(&[&KEY[..], &["--token-audience", ""]].concat(), &[]);
        assert!(empty.contains("--token-audience"), "{empty}");
        let long = "x".repeat(1025);
        error(&[&KEY[..], &["--token-audience", &long]].concat(), &[]);
    }

    #[test]
    fn guesses_are_limited_by_default() {
        let limit = |flags: &[&str]| config(flags, &[]).auth_failures_max;
        assert_eq!((limit(&[]), limit(&["--auth-failures-max", "0"])), (10, 0));
        let wrong = error(&["--auth-failures-max", "many"], &[]);
        assert!(wrong.contains("--auth-failures-max"), "{wrong}");
    }

    #[test]
    fn keys_without_protection_of_webhooks_are_warned_of() {
        let warnings = |flags: &[&str], variables: &[(&str, &str)]| {
            let flags = [&KEY[..], flags].concat();
            config(&flags, variables).warnings()
        };
        let open = warnings(&[], &[]);
        assert_eq!(open.len(), 1);
        assert!(open[0].contains("every client can send"), "{open:?}");
        let public = warnings(&["--listen", "0.0.0.0:0"], &[]);
        assert_eq!(public, open, "one warning is enough");
        assert!(warnings(&["--require-token", "--listen", "0.0.0.0:0"], &[]).is_empty());
        let secret = [("WEBHOOK_SECRET", "0123456789abcdef")];
        assert!(warnings(&["--listen", "0.0.0.0:0"], &secret).is_empty());
    }

    #[test]
    fn the_summary_says_whether_tokens_are_required_and_names_no_file() {
        for (flags, expected) in [
            (&[][..], "tokens none,"),
            (&["--token-key", "s3cret"], "tokens accepted,"),
            (
                &["--token-key", "s3cret", "--require-token"],
                "tokens required,",
            ),
        ] {
            let summary = config(flags, &[]).summary();
            assert!(
                summary.contains(expected) && !summary.contains("s3cret"),
                "{summary}"
            );
        }
    }
}
