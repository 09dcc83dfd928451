//! Secrets: that of the webhooks, and the token of the mirror.
//!
//! Used when the configuration is built. Reads secrets from the environment or a file, and refuses
//! unusable ones. Never shows one: a [`Secret`] has no `Display`, and its `Debug` form is empty.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::ConfigError;
use crate::limits::SECRET_BYTES_MAX;
use crate::pem;

/// A secret that can be sent in a header: 1 to [`SECRET_BYTES_MAX`] bytes of UTF-8 with no control
/// characters and no white space at its ends.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// The secret in clear text, to be sent or compared.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The reason, if some clients are likely to encode this secret in other bytes.
    pub(super) fn oddity(&self) -> Option<&'static str> {
        let text = &*self.0;
        if text.contains('\u{feff}') {
            Some(
                "has a byte order mark in it, which senders would have to send too; save its file without one",
            )
        } else if text.contains(char::is_whitespace) {
            Some("has white space in it; is it one secret and nothing else?")
        } else if !text.is_ascii() {
            Some(
                "has characters outside ASCII in it, which senders encode in different ways; use letters and digits",
            )
        } else {
            None
        }
    }

    /// Parses a secret. `source` is the name of its variable or flag, for the error.
    pub(crate) fn parse(text: &str, source: &str) -> Result<Secret, ConfigError> {
        let problem = if text.is_empty() {
            "is empty; leave it out to run without a secret, so that every client may send"
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

    /// Parses a password, which is sent in no header: 1 to [`SECRET_BYTES_MAX`] bytes of any text in one
    /// line.
    fn parse_password(text: &str, source: &str) -> Result<Secret, ConfigError> {
        let problem = if text.is_empty() {
            "is empty; leave the flag out where no password is needed"
        } else if text.len() > SECRET_BYTES_MAX {
            "is longer than 4096 bytes"
        } else if text.chars().any(char::is_control) {
            "has a control character in it; is it one password and nothing else?"
        } else {
            return Ok(Secret(text.into()));
        };
        Err(ConfigError::new(format!("{source} {problem}")))
    }

    /// Reads the secret of the webhooks from a file. Returns also whether every user may read the file.
    pub(super) fn read(path: &Path) -> Result<(Secret, bool), ConfigError> {
        let (text, source, is_public) = read(path, "--secret-file")?;
        Secret::parse(&text, &source).map(|secret| (secret, is_public))
    }

    /// Reads a token from the file that `doctor` is given.
    pub(super) fn read_token(path: &Path) -> Result<Secret, ConfigError> {
        let path = if path == Path::new("-") {
            Path::new("/dev/stdin")
        } else {
            path
        };
        let (text, source, _) = read(path, "--token-file")?;
        let text = text.trim_ascii();
        let is_sendable = text.bytes().all(|byte| byte.is_ascii_graphic());
        match (text, is_sendable) {
            ("", _) => Err(ConfigError::new(format!("{source} is empty"))),
            (_, false) => Err(ConfigError::new(format!("{source} is no token"))),
            (text, true) => Ok(Secret(text.into())),
        }
    }

    /// Reads a password from the file that a flag names. Returns also whether every user may read the file.
    pub(super) fn read_password(path: &Path, flag: &str) -> Result<(Secret, bool), ConfigError> {
        let (text, source, is_public) = read(path, flag)?;
        Secret::parse_password(&text, &source).map(|secret| (secret, is_public))
    }
}

/// Reads a file with a secret, without one trailing newline. Returns also its name for errors, and whether
/// every user may read it.
fn read(path: &Path, flag: &str) -> Result<(String, String, bool), ConfigError> {
    // A value that is not a path may be the secret itself, given by mistake. So errors do not
    // quote it.
    let source = if is_path(path) {
        format!("{flag} {}", path.display())
    } else {
        flag.to_owned()
    };
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidFilename => {
                "; it takes the path of a file, not the secret itself"
            }
            _ => "",
        };
        ConfigError::new(format!("{source} cannot be read: {error}{hint}"))
    };
    let file = File::open(path).map_err(failed)?;
    let is_public = file.metadata().map_err(failed)?.permissions().mode() & 0o004 != 0;
    // Two bytes for the newline, and one to notice a secret that is too long.
    let mut text = Vec::new();
    file.take(SECRET_BYTES_MAX as u64 + 3)
        .read_to_end(&mut text)
        .map_err(failed)?;
    let text =
        String::from_utf8(text).map_err(|_| ConfigError::new(format!("{source} is not UTF-8")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    Ok((line.to_owned(), source, is_public))
}

/// Whether this is certainly a path: it begins like one, or the file exists.
fn is_path(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let has_beginning = ["/", "./", "../", "~/"]
        .iter()
        .any(|beginning| bytes.starts_with(beginning.as_bytes()));
    (has_beginning && !pem::is_in_place_of_path(path)) || path.exists()
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
    fn a_secret_keeps_its_text_and_its_debug_form_hides_it() {
        let secret = Secret::parse("s3cret", "X").unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert_eq!(format!("{:?}", Some(secret)), "Some(Secret(..))");
    }

    #[test]
    fn a_secret_that_senders_may_encode_differently_is_odd() {
        for (text, expected) in [
            ("s3cret-/+=!", None),
            ("\u{feff}s3cret", Some("byte order mark")),
            ("s3 cret", Some("white space")),
            ("s3\u{a0}cret", Some("white space")),
            ("s3crét", Some("outside ASCII")),
            ("\u{200b}s3cret", Some("outside ASCII")),
        ] {
            let oddity = Secret::parse(text, "X").unwrap().oddity();
            assert_eq!(oddity.is_some(), expected.is_some(), "{text}");
            assert!(
                oddity
                    .unwrap_or_default()
                    .contains(expected.unwrap_or_default())
            );
        }
    }

    #[test]
    fn a_secret_in_place_of_a_path_is_not_shown() {
        for text in [
            "s3cret+/x==",
            "s3cret",
            &"s3cret".repeat(100),
            "/-----BEGIN s3cret",
        ] {
            let error = Secret::read(Path::new(text)).unwrap_err().to_string();
            assert!(
                !error.contains("s3") && error.contains("not the secret itself"),
                "{error}"
            );
        }
        for path in ["/no/such/file", "./no-such", "../no-such"] {
            let error = Secret::read(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
        }
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
    fn a_secret_file_loses_one_newline_and_reports_its_permissions() {
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
