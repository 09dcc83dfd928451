//! Secrets: the one of the webhooks, and the token of the mirror.
//!
//! Reads them from the environment or a file, refuses those that could not work, and keeps them
//! out of every log: a [`Secret`] has no `Display`, and its `Debug` form shows nothing.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ConfigError;
use crate::limits::SECRET_BYTES_MAX;

/// A secret that can be sent in a header: 1 to [`SECRET_BYTES_MAX`] bytes of UTF-8 with no control
/// characters and no white space at its ends.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// The secret itself, for where it has to be sent.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Takes the value of `source` (a variable's or flag's name, for the message).
    pub(super) fn parse(text: &str, source: &str) -> Result<Secret, ConfigError> {
        let problem = if text.is_empty() {
            "is empty; without it anyone may send, so leave it out if that is meant"
        } else if text.len() > SECRET_BYTES_MAX {
            "is longer than 4096 bytes"
        } else if text.trim() != text {
            "begins or ends with white space, which a header cannot carry"
        } else if text.chars().any(char::is_control) {
            "has a control character in it, which a header cannot carry"
        } else {
            return Ok(Secret(text.into()));
        };
        Err(ConfigError::new(format!("{source} {problem}")))
    }

    /// Reads a secret from a file, less one trailing newline; says whether everyone may read it.
    pub(super) fn read(path: &Path) -> Result<(Secret, bool), ConfigError> {
        let source = format!("--secret-file {}", path.display());
        let failed = |error| ConfigError::new(format!("{source} cannot be read: {error}"));
        let file = File::open(path).map_err(failed)?;
        let is_public = file.metadata().map_err(failed)?.permissions().mode() & 0o004 != 0;
        // The newline, and one byte more to tell that it is too long.
        let mut text = Vec::new();
        file.take(SECRET_BYTES_MAX as u64 + 3)
            .read_to_end(&mut text)
            .map_err(failed)?;
        let text = String::from_utf8(text)
            .map_err(|_| ConfigError::new(format!("{source} is not UTF-8")))?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Secret::parse(text, &source).map(|secret| (secret, is_public))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_what_was_given_and_shows_nothing() {
        let secret = Secret::parse("s3cret", "X").unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert_eq!(format!("{:?}", Some(secret)), "Some(Secret(..))");
    }

    #[test]
    fn a_secret_that_no_header_can_carry_is_refused_without_showing_it() {
        for text in [
            " s3cret",
            "s3cret\n",
            "s3\ncret",
            "s3\0cret",
            &"s3cret".repeat(1000),
        ] {
            let error = Secret::parse(text, "WEBHOOK_SECRET")
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with("WEBHOOK_SECRET ") && !error.contains("s3"),
                "{error}"
            );
        }
        assert!(
            Secret::parse("", "X")
                .unwrap_err()
                .to_string()
                .contains("is empty")
        );
        assert!(Secret::parse(&"x".repeat(SECRET_BYTES_MAX), "X").is_ok());
    }

    #[test]
    fn a_file_loses_one_newline_and_tells_who_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let write = |text: &[u8], mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        for (text, mode, public) in [
            (&b"s3cret\n"[..], 0o600, false),
            (b"s3cret\r\n", 0o644, true),
            (b"s3cret", 0o640, false),
        ] {
            write(text, mode);
            let (secret, is_public) = Secret::read(&path).unwrap();
            assert_eq!((secret.expose(), is_public), ("s3cret", public));
        }
        for text in [
            &b""[..],
            b"\n",
            b"\r\n",
            b"s3cret\n\n",
            b"\xff\xfe",
            &[b'x'; SECRET_BYTES_MAX + 1],
        ] {
            write(text, 0o600);
            assert!(Secret::read(&path).is_err(), "{text:?}");
        }
        write(
            &[[b'x'; SECRET_BYTES_MAX].as_slice(), b"\r\n"].concat(),
            0o600,
        );
        assert!(Secret::read(&path).is_ok());
        assert!(
            Secret::read(directory.path())
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
        assert!(
            Secret::read(Path::new("/dev/zero")).is_err(),
            "reading must be bounded"
        );
    }
}
