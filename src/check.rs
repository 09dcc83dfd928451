//! The verdict of a check, and the report line of a check.
//!
//! Lines are made by `kv-check` (`mirror`) and printed by `main`; `doctor` uses the verdicts. Never does
//! I/O.

use std::fmt;

use crate::foreign_text::escape;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// It works, with a remark.
    Noted,
    /// It does not work.
    Failed,
    /// Not run, for instance because an earlier check failed.
    Skipped,
}

/// One check and its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The subject, in a word or two.
    pub subject: &'static str,
    /// How it went.
    pub verdict: Verdict,
    /// The result as a sentence, with the remedy.
    pub words: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Passed => "ok",
            Verdict::Noted => "note",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "skipped",
        };
        let words = escape(&self.words);
        write!(f, "{:<12} {mark:<8} {words}", self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_server_are_escaped() {
        let check = Check {
            subject: "http",
            verdict: Verdict::Noted,
            words: "via \u{1b}[2J\u{202e}\r\nFAILED é".into(),
        };
        assert_eq!(
            check.to_string(),
            "http         note     via \\u{1b}[2J\\u{202e}\\u{d}\\u{a}FAILED é"
        );
    }
}
