//! What a check found: its verdict, what was seen, the party at fault, and what to change.
//!
//! Made by [`judge`](super::judge), printed by [`report`](super::report). Never does I/O.

use crate::check::Verdict;

/// The checks by their names in a report. The names are stable, because scripts read them.
pub const SUBJECTS: [&str; 13] = [
    ADDRESS,
    HTTP,
    STREAM,
    COMPRESSION,
    HEADERS,
    SECRET,
    POST,
    BUFFERING,
    DELAY,
    HEARTBEAT,
    CUT,
    RESUME,
    HISTORY,
];
pub(super) const ADDRESS: &str = "address";
pub(super) const HTTP: &str = "http";
pub(super) const STREAM: &str = "stream";
pub(super) const COMPRESSION: &str = "compression";
pub(super) const HEADERS: &str = "headers";
pub(super) const SECRET: &str = "secret";
pub(super) const POST: &str = "post";
pub(super) const BUFFERING: &str = "buffering";
pub(super) const DELAY: &str = "delay";
pub(super) const HEARTBEAT: &str = "heartbeat";
pub(super) const CUT: &str = "cut";
pub(super) const RESUME: &str = "resume";
pub(super) const HISTORY: &str = "history";

/// The party at fault, as far as the evidence proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The doctor's own command line or environment: the address, the secret, `--ca-file`.
    Command,
    /// Name resolution, the route, a firewall, a port without a listener.
    Network,
    /// The certificate of the TLS endpoint at the address: a proxy or hookcast.
    Certificate,
    /// A hop between the client and hookcast.
    Proxy,
    /// The server: its settings or its state.
    Hookcast,
    /// The evidence proves nothing.
    Unknown,
}

impl Party {
    /// The name in a report.
    pub const fn name(self) -> &'static str {
        match self {
            Party::Command => "command",
            Party::Network => "network",
            Party::Certificate => "certificate",
            Party::Proxy => "proxy",
            Party::Hookcast => "hookcast",
            Party::Unknown => "unknown",
        }
    }
}

/// A fault: its evidence, the party that it points to, and what that party has to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The party at fault.
    pub party: Party,
    /// The evidence.
    pub seen: String,
    /// The setting that corrects it.
    pub remedy: String,
}

impl Fault {
    pub(super) fn new(party: Party, seen: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault {
            party,
            seen: seen.into(),
            remedy: remedy.into(),
        }
    }
}

/// A check and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// One of [`SUBJECTS`].
    pub subject: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// What was seen; for a fault, its evidence.
    pub seen: String,
    /// The party at fault and the remedy, for a fault.
    pub blame: Option<(Party, String)>,
}

impl Finding {
    pub(super) fn passed(subject: &'static str, seen: impl Into<String>) -> Finding {
        Finding {
            subject,
            verdict: Verdict::Passed,
            seen: seen.into(),
            blame: None,
        }
    }

    pub(super) fn failed(subject: &'static str, fault: Fault) -> Finding {
        Finding {
            subject,
            verdict: Verdict::Failed,
            seen: fault.seen,
            blame: Some((fault.party, fault.remedy)),
        }
    }

    pub(super) fn noted(subject: &'static str, fault: Fault) -> Finding {
        Finding {
            verdict: Verdict::Noted,
            ..Finding::failed(subject, fault)
        }
    }

    pub(super) fn skipped(subject: &'static str, why: &str) -> Finding {
        Finding {
            verdict: Verdict::Skipped,
            ..Finding::passed(subject, why)
        }
    }
}

/// A duration as text, in milliseconds below 10 s.
pub(super) fn ms(duration: std::time::Duration) -> String {
    match duration.as_millis() {
        ms @ 0..10_000 => format!("{ms} ms"),
        ms => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
    }
}
