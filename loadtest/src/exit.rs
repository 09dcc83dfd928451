//! The exit statuses, and the failures that end a command without a result.
//!
//! A command returns a [`Status`] or a [`Failure`], and `main` ends with it. A fault of the command line is
//! [`Failure::usage`]; any other error text becomes [`Status::Failed`].

use std::fmt;
use std::process::ExitCode;

/// An exit status. The after-help of `cli` and the README list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// All is well.
    Success = 0,
    /// A run could not be made.
    Failed = 1,
    /// The command line is wrong, as `clap` has it, or loading a server in use was not confirmed.
    Usage = 2,
    /// A stream had faults, or something failed.
    Unclean = 3,
    /// `compare` missed a claim.
    ClaimMissed = 4,
    /// The server was lost in the middle of a run.
    Lost = 5,
    /// A `--fail-if` was true.
    Threshold = 6,
    /// A signal cut the run off: the status of a shell for SIGINT, for all three signals.
    CutOff = 130,
    /// The other end of stdout is closed: the status of a shell for SIGPIPE.
    StdoutClosed = 141,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

/// Why a command ends without a result.
#[derive(Debug)]
pub struct Failure {
    /// What stderr says; nothing if empty.
    pub text: String,
    /// The exit status.
    pub status: Status,
}

impl Failure {
    /// The command line is wrong: a flag, a URL, a file that it names, or a size that this machine does not allow.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure {
            text: text.into(),
            status: Status::Usage,
        }
    }

    /// The other end of stdout is closed, as by `head`. That is no fault, so stderr stays empty.
    pub fn stdout_closed() -> Failure {
        Failure {
            text: String::new(),
            status: Status::StdoutClosed,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure {
            text,
            status: Status::Failed,
        }
    }
}
