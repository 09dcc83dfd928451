//! The mirror's log lines: one when something changes, none per retry, and none for a failure that
//! the next tries mend.
//!
//! Called by the mirror thread.

use crate::hub::NotStored;
use crate::limits::KV_ENTRY_BYTES_MAX;
use crate::mirror::core::Condition;
use crate::mirror::reply::{Failure, FailureKind};

/// A clock that differs from KV's by more than this is worth a line; less may be the network's
/// doing, and dates come in seconds.
const CLOCK_DIFFERENCE_MS_MAX: u64 = 5_000;

/// Failures in a row that make an outage: some seconds of it. Fewer are not said, for nodes that
/// write within the same second are refused in turns all the time.
const FAILURES_UNTIL_SAID: u32 = 3;

/// How bad a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For the record.
    Info,
    /// Something is wrong that the mirror deals with, or that mends itself.
    Warn,
    /// An operator is needed.
    Error,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

/// What was said last, so that it is not said again.
#[derive(Debug, Default)]
pub struct Reporter {
    reads: Calls,
    writes: Calls,
    condition: Condition,
    clock_differs: bool,
    unheld: bool,
    unshared: bool,
    refused: bool,
}

/// One sort of calls.
#[derive(Debug, Default)]
struct Calls {
    said: Option<Outcome>,
    /// How many have failed in a row in a way that may pass.
    failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Works,
    /// Whatever mends itself is one state: an outage has many faces.
    Passing,
    Failing(FailureKind),
}

impl Outcome {
    fn of(result: Result<(), &Failure>) -> Outcome {
        match result.map_err(|failure| failure.kind) {
            Ok(()) => Outcome::Works,
            Err(
                FailureKind::Unreachable
                | FailureKind::Timeout
                | FailureKind::Server
                | FailureKind::RateLimited,
            ) => Outcome::Passing,
            Err(kind) => Outcome::Failing(kind),
        }
    }
}

impl Reporter {
    /// A read came to an end.
    pub fn read(&mut self, result: Result<(), &Failure>) -> Option<Line> {
        self.reads.change(result, "reading from KV")
    }

    /// A write came to an end.
    pub fn write(&mut self, result: Result<(), &Failure>) -> Option<Line> {
        self.writes.change(result, "writing to KV")
    }

    /// What a read found.
    pub fn condition(&mut self, condition: Condition) -> Option<Line> {
        let before = std::mem::replace(&mut self.condition, condition);
        if std::mem::discriminant(&before) == std::mem::discriminant(&condition) {
            return None;
        }
        Some(match condition {
            Condition::Good => line(
                Level::Info,
                "every entry of the KV value is a message again",
            ),
            Condition::Foreign {
                count,
                first,
                fault,
            } => line(
                Level::Warn,
                &format!(
                    "{count} entries of the KV value are no messages, the first at place {first}: {fault}; \
                     they are kept while there is room, and not shown"
                ),
            ),
            Condition::Unreadable => line(
                Level::Error,
                "the KV value is not a list of messages; nothing is written over it; \
                 delete the key webhook:messages to start anew",
            ),
        })
    }

    /// How far KV's clock is ahead.
    pub fn clock(&mut self, ahead_ms: Option<i64>) -> Option<Line> {
        let differs = ahead_ms.is_some_and(|ms| ms.unsigned_abs() > CLOCK_DIFFERENCE_MS_MAX);
        if std::mem::replace(&mut self.clock_differs, differs) == differs {
            return None;
        }
        Some(match ahead_ms.filter(|_| differs) {
            None => line(Level::Info, "this node's clock agrees with KV's again"),
            Some(ms) => {
                let way = if ms > 0 { "behind" } else { "ahead of" };
                let seconds = ms.unsigned_abs() / 1000;
                line(
                    Level::Warn,
                    &format!(
                        "this node's clock is {seconds} s {way} KV's; \
                         its messages take a wrong place in the shared history"
                    ),
                )
            }
        })
    }

    /// Messages of the shared history that this ring cannot hold.
    pub fn unheld(&mut self, count: usize) -> Option<Line> {
        if std::mem::replace(&mut self.unheld, count > 0) == (count > 0) {
            return None;
        }
        Some(match count {
            0 => line(
                Level::Info,
                "the ring holds every message of the shared history again",
            ),
            _ => line(
                Level::Warn,
                &format!(
                    "{count} messages of the shared history are larger than this node's \
                     --max-body-bytes and not shown here"
                ),
            ),
        })
    }

    /// Messages of the ring that are too large to be shared.
    pub fn unshared(&mut self, count: usize) -> Option<Line> {
        let is_news = std::mem::replace(&mut self.unshared, count > 0) != (count > 0);
        let text = format!(
            "{count} messages of this node take more than {} KiB in KV and are not shared",
            KV_ENTRY_BYTES_MAX.div_ceil(1024)
        );
        (is_news && count > 0).then(|| line(Level::Warn, &text))
    }

    /// Whether the ring refused messages.
    pub fn refused(&mut self, refusal: Option<&NotStored>) -> Option<Line> {
        if std::mem::replace(&mut self.refused, refusal.is_some()) == refusal.is_some() {
            return None;
        }
        Some(match refusal {
            None => line(Level::Info, "the ring takes messages from KV again"),
            Some(refusal) => line(
                Level::Error,
                &format!("the ring does not take messages from KV: {refusal}"),
            ),
        })
    }
}

impl Calls {
    fn change(&mut self, result: Result<(), &Failure>, what: &str) -> Option<Line> {
        let outcome = Outcome::of(result);
        self.failed = if outcome == Outcome::Passing {
            self.failed + 1
        } else {
            0
        };
        let may_pass_unsaid = (1..FAILURES_UNTIL_SAID).contains(&self.failed);
        if may_pass_unsaid || self.said == Some(outcome) {
            return None;
        }
        self.said = Some(outcome);
        let Err(failure) = result else {
            return Some(line(Level::Info, &format!("{what} works")));
        };
        let (level, until) = match failure.kind {
            FailureKind::DailyLimit => (Level::Warn, "tried again after 00:00 UTC"),
            kind if kind.needs_operator() => (
                Level::Error,
                "tried again within a minute; see hookcast kv-check",
            ),
            _ => (Level::Warn, "tried again until it works"),
        };
        let text = format!("{what} fails: {failure}; {until}; the node serves on without");
        Some(line(level, &text))
    }
}

fn line(level: Level, text: &str) -> Line {
    Line {
        level,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::entry::Fault;

    fn failure(kind: FailureKind) -> Failure {
        Failure {
            kind,
            retry_after_ms: None,
            detail: "status 500".into(),
        }
    }

    #[test]
    fn an_outage_is_two_lines_however_long_and_varied_it_is() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.read(Ok(())).unwrap().level, Level::Info);
        let mut lines = 0;
        for kind in [
            FailureKind::Timeout,
            FailureKind::Server,
            FailureKind::Unreachable,
        ] {
            for _ in 0..100 {
                lines += usize::from(reporter.read(Err(&failure(kind))).is_some());
            }
        }
        assert_eq!(lines, 1);
        assert!(reporter.read(Ok(())).is_some());
        assert!(reporter.read(Ok(())).is_none());
    }

    #[test]
    fn failures_that_the_next_try_mends_are_not_worth_a_line() {
        let mut reporter = Reporter::default();
        assert!(reporter.write(Ok(())).is_some());
        for _ in 0..10 {
            assert!(
                reporter
                    .write(Err(&failure(FailureKind::RateLimited)))
                    .is_none()
            );
            assert!(reporter.write(Ok(())).is_none());
        }
    }

    #[test]
    fn what_an_operator_must_mend_is_an_error_and_said_once() {
        let mut reporter = Reporter::default();
        let said = reporter
            .write(Err(&failure(FailureKind::Credentials)))
            .unwrap();
        assert_eq!(said.level, Level::Error);
        assert!(said.text.contains("kv-check"), "{}", said.text);
        assert!(
            reporter
                .write(Err(&failure(FailureKind::Credentials)))
                .is_none()
        );
        let limit = reporter
            .write(Err(&failure(FailureKind::DailyLimit)))
            .unwrap();
        assert!(limit.text.contains("00:00 UTC"), "{}", limit.text);
    }

    #[test]
    fn states_of_the_value_are_said_on_change() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.condition(Condition::Good), None);
        let foreign = |count| Condition::Foreign {
            count,
            first: 3,
            fault: Fault::Id,
        };
        assert_eq!(reporter.condition(foreign(1)).unwrap().level, Level::Warn);
        assert_eq!(reporter.condition(foreign(2)), None);
        assert_eq!(
            reporter.condition(Condition::Unreadable).unwrap().level,
            Level::Error
        );
        assert_eq!(
            reporter.condition(Condition::Good).unwrap().level,
            Level::Info
        );
        assert_eq!(reporter.clock(Some(-4_000)), None);
        assert!(
            reporter
                .clock(Some(-40_000))
                .unwrap()
                .text
                .contains("40 s ahead")
        );
        assert!(reporter.clock(Some(100)).is_some());
        assert!(reporter.unheld(2).is_some() && reporter.unheld(3).is_none());
        assert!(reporter.unshared(1).unwrap().text.contains("256 KiB"));
        assert!(reporter.unshared(2).is_none() && reporter.unshared(0).is_none());
    }
}
