//! Errors of Redis and Valkey, and of the connection to them, as faults of the seam.
//!
//! Used by all of this module. Texts contain no address, no name of a key and no secret: a text of the engine is
//! replaced by a sentence of this file, or quoted where the kind of error is unknown.

use std::io;
use std::io::ErrorKind as Kind;

use crate::bus::engine::{Fault, FaultKind};
use crate::client::tls_words::tls_words;
use crate::foreign_text::{Secrets, quote};

/// How the engine begins the error of a command in a script for which the user has no permission.
const NOT_IN_SCRIPT: &str = "The user executing the script can't";

/// A fault with a text.
pub(super) fn fault(kind: FaultKind, text: impl Into<String>) -> Fault {
    let text = text.into();
    Fault { kind, text }
}

/// An answer that the protocol or the script does not have.
pub(super) fn unexpected(what: &str) -> Fault {
    fault(
        FaultKind::Unusable,
        format!("the engine's answer is not understood: {what}"),
    )
}

/// A key of the bus has another type.
pub(super) fn wrong_type(key: &str) -> Fault {
    let text = format!(
        "the key that ends in {key} has another type: another program uses it; delete it, or choose another NAME"
    );
    fault(FaultKind::Unusable, text)
}

/// An error answer to a command.
pub(super) fn of_answer(error: &str, secrets: &Secrets) -> Fault {
    let (code, details) = error.split_once(' ').unwrap_or((error, ""));
    of_text(code, details, secrets)
}

/// An error that a script has caught: the whole text.
pub(super) fn of_caught(text: &str, secrets: &Secrets) -> Fault {
    of_answer(text.trim_start_matches('-'), secrets)
}

fn of_text(code: &str, details: &str, secrets: &Secrets) -> Fault {
    use FaultKind::{Denied, Full, NotPrimary, Unreachable, Unusable};
    let (kind, text) = match code {
        "OOM" => (Full, "the engine has reached its maxmemory (OOM)"),
        "MISCONF" => (
            Full,
            "the engine cannot write to its disk and refuses messages (MISCONF)",
        ),
        "NOREPLICAS" => (
            Full,
            "the engine has fewer replicas than min-replicas-to-write (NOREPLICAS)",
        ),
        "READONLY" => (NotPrimary, "the engine is a replica (READONLY)"),
        "LOADING" => (NotPrimary, "the engine is loading its data (LOADING)"),
        "MASTERDOWN" => (
            NotPrimary,
            "the engine is a replica without its primary (MASTERDOWN)",
        ),
        "MOVED" | "ASK" => (
            NotPrimary,
            "another node of the cluster has the keys (MOVED)",
        ),
        "TRYAGAIN" | "CLUSTERDOWN" => (NotPrimary, "the cluster is not available (CLUSTERDOWN)"),
        "UNBLOCKED" => (NotPrimary, "the engine has become a replica (UNBLOCKED)"),
        "BUSY" => (
            NotPrimary,
            "the engine runs a script of another program (BUSY)",
        ),
        "NOAUTH" => (
            Denied,
            "the engine asks for a password: give --bus-password-file (NOAUTH)",
        ),
        "WRONGPASS" => (
            Denied,
            "the user or the password is wrong, or the user is off (WRONGPASS)",
        ),
        "NOPERM" => return fault(Denied, no_permission(details)),
        "ERR" if details.starts_with(NOT_IN_SCRIPT) => {
            let what = if details.contains("keys") {
                "the keys of the bus"
            } else {
                "a command in a script: hookcast bus-check shows which"
            };
            return fault(Denied, format!("the user lacks the permission for {what}"));
        }
        "DENIED" => (
            Denied,
            "the engine is in protected mode, with no password, and takes no connections of other machines",
        ),
        "WRONGTYPE" => (
            Unusable,
            "a key of the bus has another type: another program uses it; hookcast bus-check shows which",
        ),
        "CROSSSLOT" => (
            Unusable,
            "the keys are not in one slot of the cluster (CROSSSLOT)",
        ),
        "ERR" if details.starts_with("max number of clients") => {
            (Unreachable, "the engine has reached its maxclients")
        }
        "ERR" if details.contains("AUTH <password> called without any password configured") => (
            Denied,
            "a password is given, and the engine's default user has none",
        ),
        _ => {
            let quoted = quote(&format!("{code} {details}"), secrets);
            return fault(Unusable, format!("the engine refuses a command: {quoted}"));
        }
    };
    fault(kind, text)
}

/// What a user may not do. The engine's text names the command, or says that it is about a key.
fn no_permission(details: &str) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "|-".contains(c);
    let command = details
        .split('\'')
        .nth(1)
        .filter(|command| command.len() <= 32 && command.chars().all(is_name));
    match command {
        Some(command) => {
            format!("the user lacks the permission for the command {command} (NOPERM)")
        }
        None => "the user lacks the permission for the keys of the bus (NOPERM)".into(),
    }
}

/// There is no connection.
pub(super) fn of_connecting(error: &io::Error, secrets: &Secrets) -> Fault {
    fault(FaultKind::Unreachable, io_words(error, secrets))
}

/// The connection broke after a call was sent.
pub(super) fn of_waiting(error: &io::Error, secrets: &Secrets) -> Fault {
    fault(FaultKind::Lost, io_words(error, secrets))
}

fn io_words(error: &io::Error, secrets: &Secrets) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(tls) = tls {
        return tls_words(&without_names(tls), secrets);
    }
    match error.kind() {
        Kind::TimedOut | Kind::WouldBlock => "no answer within the time".into(),
        Kind::ConnectionRefused => "the connection is refused".into(),
        Kind::UnexpectedEof
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::NotConnected => "the connection was closed".into(),
        Kind::HostUnreachable | Kind::NetworkUnreachable => "no route to the host".into(),
        Kind::NotFound => "the name of the host is unknown".into(),
        kind => format!("the connection failed: {kind}"),
    }
}

/// The error of a certificate without the names in it.
fn without_names(error: &rustls::Error) -> rustls::Error {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext};
    match error {
        rustls::Error::InvalidCertificate(NotValidForNameContext { .. }) => {
            rustls::Error::InvalidCertificate(NotValidForName)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Fault {
        of_caught(text, &Secrets::default().with("s3cret"))
    }

    /// The table of errors, with the engine's own texts.
    #[test]
    fn each_error_has_its_kind() {
        use FaultKind::{Denied, Full, NotPrimary, Unreachable, Unusable};
        for (text, kind) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Full,
            ),
            ("-OOM command not allowed", Full),
            ("MISCONF Redis is configured to save RDB snapshots", Full),
            ("NOREPLICAS Not enough good replicas to write.", Full),
            (
                "READONLY You can't write against a read only replica.",
                NotPrimary,
            ),
            ("LOADING Redis is loading the dataset in memory", NotPrimary),
            ("MASTERDOWN Link with MASTER is down", NotPrimary),
            ("MOVED 3999 10.9.8.7:6381", NotPrimary),
            ("CLUSTERDOWN The cluster is down", NotPrimary),
            (
                "UNBLOCKED force unblock from blocking operation",
                NotPrimary,
            ),
            ("BUSY Redis is busy running a script.", NotPrimary),
            ("NOAUTH Authentication required.", Denied),
            ("WRONGPASS invalid username-password pair", Denied),
            (
                "NOPERM User x has no permissions to run the 'xadd' command",
                Denied,
            ),
            (
                "ERR The user executing the script can't run this command",
                Denied,
            ),
            ("DENIED Redis is running in protected mode", Denied),
            ("WRONGTYPE Operation against a key", Unusable),
            ("CROSSSLOT Keys in request", Unusable),
            ("ERR max number of clients reached", Unreachable),
            ("ERR unknown command 'XADD'", Unusable),
            ("", Unusable),
            ("SOMETHING new", Unusable),
        ] {
            let fault = of(text);
            assert_eq!(fault.kind, kind, "{text}");
            assert!(!fault.text.contains("10.9.8.7"), "{}", fault.text);
        }
    }

    #[test]
    fn a_text_of_the_engine_is_quoted_without_secrets_and_bounded() {
        let text = of(&format!("ERR odd s3cret \u{1b}{}", "x".repeat(1_000_000))).text;
        assert!(text.contains("[secret]"), "{text}");
        assert!(!text.contains('\u{1b}') && text.len() < 1_000, "{text}");
        let text = of("NOPERM User joe has no permissions to run the 'xadd' command").text;
        assert!(
            text.contains("command xadd") && !text.contains("joe"),
            "{text}"
        );
        let text = of("NOPERM No permissions to access a key").text;
        assert!(text.contains("keys"), "{text}");
    }
}
