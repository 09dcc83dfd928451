//! The report of an examination, written while it runs: lines of text, or JSON for scripts.
//!
//! Used by [`examination`](super::examination). On a terminal, the result of a check replaces the line
//! that announced it. Never fails on a closed standard output: the exit status still gives the result.

use std::fmt::Write as _;
use std::io::Write;
use std::mem::take;

use serde::Serialize;

use super::finding::Finding;
use crate::check::Verdict;
use crate::foreign_text::escape;

/// The format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines of text.
    Text {
        /// Whether verdicts have colours.
        is_colored: bool,
        /// Whether the line of a running check can be replaced.
        is_terminal: bool,
    },
    /// A JSON object per line.
    Json,
}

/// A report that is being written.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    form: Form,
    failed: Vec<&'static str>,
    noted: Vec<&'static str>,
}

/// The first object of a JSON report. The names in these objects are stable, because scripts read them.
#[derive(Serialize)]
#[serde(tag = "type", rename = "start")]
pub(super) struct Start<'a> {
    pub(super) url: &'a str,
    pub(super) watch_ms: u64,
    /// The number of messages to post, and the length of the server's history.
    pub(super) posts: usize,
    pub(super) history_places: usize,
}

/// The object of a check.
#[derive(Serialize)]
#[serde(tag = "type", rename = "check")]
struct Checked<'a> {
    check: &'a str,
    verdict: &'static str,
    at_fault: Option<&'static str>,
    seen: String,
    remedy: Option<String>,
}

/// The last object.
#[derive(Serialize)]
#[serde(tag = "type", rename = "end")]
struct End<'a> {
    failed: &'a [&'static str],
    noted: &'a [&'static str],
    exit_status: u8,
}

/// Goes to the beginning of the line and clears it (ECMA-48: CR, EL).
const CLEAR_LINE: &str = "\r\u{1b}[K";

impl Report<'_> {
    pub(super) fn new(out: &mut dyn Write, form: Form) -> Report<'_> {
        Report {
            out,
            form,
            failed: Vec::new(),
            noted: Vec::new(),
        }
    }

    /// Writes the beginning: `words`, or the object `start`.
    pub(super) fn announce(&mut self, words: &str, start: &Start<'_>) {
        match self.form {
            Form::Text { .. } => self.write(&format!("{}\n", escape(words))),
            Form::Json => self.write_json(start),
        }
    }

    /// Writes that a check begins.
    pub(super) fn begin(&mut self, subject: &str, doing: &str) {
        if let Form::Text { is_terminal, .. } = self.form {
            let end = if is_terminal { "" } else { "\n" };
            self.write(&format!(
                "{subject:<12} {:<8} {}{end}",
                "...",
                escape(doing)
            ));
        }
    }

    /// Writes the result of a check.
    pub(super) fn end(&mut self, finding: &Finding) {
        match finding.verdict {
            Verdict::Failed => self.failed.push(finding.subject),
            Verdict::Noted => self.noted.push(finding.subject),
            Verdict::Passed | Verdict::Skipped => {}
        }
        match self.form {
            Form::Text {
                is_colored,
                is_terminal,
            } => {
                let clear = if is_terminal { CLEAR_LINE } else { "" };
                self.write(&format!("{clear}{}", lines(finding, is_colored)));
            }
            Form::Json => self.write_json(&checked(finding)),
        }
    }

    /// Writes checks that are skipped: one line for all, or an object for each.
    pub(super) fn skip(&mut self, subjects: &[&'static str], why: &str) {
        if self.form == Form::Json || subjects.len() == 1 {
            for subject in subjects {
                self.end(&Finding::skipped(subject, why));
            }
        } else {
            let seen = format!("{}: {why}", subjects.join(", "));
            self.end(&Finding::skipped("", &seen));
        }
    }

    /// Ends the report. Returns whether no check has failed.
    pub(super) fn finish(mut self) -> bool {
        let is_well = self.failed.is_empty();
        if self.form == Form::Json {
            let (failed, noted) = (take(&mut self.failed), take(&mut self.noted));
            self.write_json(&End {
                failed: &failed,
                noted: &noted,
                exit_status: u8::from(!is_well),
            });
        }
        is_well
    }

    fn write_json(&mut self, object: &impl Serialize) {
        // Serialising strings and numbers cannot fail.
        let line = serde_json::to_string(object).unwrap_or_default();
        self.write(&format!("{line}\n"));
    }

    fn write(&mut self, text: &str) {
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

/// The name of a verdict, in text and in JSON, and its colour (ECMA-48, SGR).
const fn verdict(verdict: Verdict) -> (&'static str, &'static str, &'static str) {
    match verdict {
        Verdict::Passed => ("ok", "ok", "32"),
        Verdict::Noted => ("note", "note", "33"),
        Verdict::Failed => ("FAILED", "failed", "1;31"),
        Verdict::Skipped => ("skipped", "skipped", "2"),
    }
}

fn lines(finding: &Finding, is_colored: bool) -> String {
    let (mark, _, color) = verdict(finding.verdict);
    let mark = format!("{mark:<8}");
    let mark = if is_colored {
        format!("\u{1b}[{color}m{mark}\u{1b}[0m")
    } else {
        mark
    };
    let line = format!("{:<12} {mark} {}", finding.subject, escape(&finding.seen));
    let mut lines = format!("{}\n", line.trim_end());
    if let Some((party, remedy)) = &finding.blame {
        let remedy = escape(remedy);
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{:<12} {:<8} {remedy}", "", party.name());
    }
    lines
}

fn checked(finding: &Finding) -> Checked<'_> {
    let blame = finding.blame.as_ref();
    Checked {
        check: finding.subject,
        verdict: verdict(finding.verdict).1,
        at_fault: blame.map(|(party, _)| party.name()),
        seen: escape(&finding.seen),
        remedy: blame.map(|(_, remedy)| escape(remedy)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::doctor::finding::{ADDRESS, CUT, Fault, HISTORY, POST, Party, RESUME};

    fn written(form: Form) -> (String, bool) {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, form);
        let start = Start {
            url: "https://a.example",
            watch_ms: 5000,
            posts: 4,
            history_places: 100,
        };
        report.announce("Examining \u{1b}[2J.", &start);
        report.begin(ADDRESS, "GET /");
        report.end(&Finding::passed(ADDRESS, "fine"));
        let fault = || Fault::new(Party::Proxy, "evil \u{202e}\r\n", "gzip off\u{7}");
        report.end(&Finding::failed(POST, fault()));
        report.end(&Finding::noted(CUT, fault()));
        report.skip(&[RESUME, HISTORY], "no");
        report.skip(&[HISTORY], "no");
        let is_well = report.finish();
        (String::from_utf8(out).unwrap(), is_well)
    }

    fn text(is_colored: bool, is_terminal: bool) -> Form {
        Form::Text {
            is_colored,
            is_terminal,
        }
    }

    #[test]
    fn a_report_to_a_pipe_has_plain_lines() {
        let (text, is_well) = written(text(false, false));
        let expected = "\
Examining \\u{1b}[2J.
address      ...      GET /
address      ok       fine
post         FAILED   evil \\u{202e}\\u{d}\\u{a}
             proxy    gzip off\\u{7}
cut          note     evil \\u{202e}\\u{d}\\u{a}
             proxy    gzip off\\u{7}
             skipped  resume, history: no
history      skipped  no
";
        assert_eq!((text.as_str(), is_well), (expected, false));
    }

    #[test]
    fn a_report_to_a_terminal_has_colours_and_replaced_lines() {
        let (text, _) = written(text(true, true));
        let running =
            "address      ...      GET /\r\u{1b}[Kaddress      \u{1b}[32mok      \u{1b}[0m fine\n";
        assert!(text.contains(running), "{text:?}");
        assert!(
            text.contains("post         \u{1b}[1;31mFAILED  \u{1b}[0m evil"),
            "{text:?}"
        );
        let (text, _) = written(self::text(false, true));
        assert!(
            text.contains("\u{1b}[K") && !text.contains("\u{1b}[0m"),
            "{text:?}"
        );
    }

    #[test]
    fn a_json_report_has_an_object_in_each_line() {
        let (text, _) = written(Form::Json);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let check = |check: &str, verdict: &str, seen: &str, party: Value, remedy: Value| {
            json!({ "type": "check", "check": check, "verdict": verdict, "seen": seen,
                "at_fault": party, "remedy": remedy })
        };
        let evil = "evil \\u{202e}\\u{d}\\u{a}";
        let (proxy, remedy) = (json!("proxy"), json!("gzip off\\u{7}"));
        assert_eq!(
            lines,
            [
                json!({ "type": "start", "url": "https://a.example", "watch_ms": 5000, "posts": 4,
                    "history_places": 100 }),
                check("address", "ok", "fine", Value::Null, Value::Null),
                check("post", "failed", evil, proxy.clone(), remedy.clone()),
                check("cut", "note", evil, proxy, remedy),
                check("resume", "skipped", "no", Value::Null, Value::Null),
                check("history", "skipped", "no", Value::Null, Value::Null),
                check("history", "skipped", "no", Value::Null, Value::Null),
                json!({ "type": "end", "failed": ["post"], "noted": ["cut"], "exit_status": 1 }),
            ]
        );
    }
}
