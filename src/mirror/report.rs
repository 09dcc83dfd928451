//! The mirror's log lines: one for each change of state. Retries are not logged, nor failures that end
//! within two more tries.
//!
//! Called by the mirror thread, which logs them. Never shows a message.

use crate::hub::NotStored;
use crate::limits::KV_ENTRY_BYTES_MAX;
use crate::mirror::core::Condition;
use crate::mirror::reply::{Failure, FailureKind};

/// A clock difference to KV above this is logged. A smaller one may come from the network delay and from
/// dates in whole seconds.
const CLOCK_DIFFERENCE_MS_MAX: u64 = 5_000;

/// Failures in a row that are logged as an outage: some seconds of it. Fewer are not logged, because nodes
/// that write within the same second are regularly refused.
const FAILURES_UNTIL_LOGGED: u32 = 3;

/// The level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Normal operation.
    Info,
    /// A fault that the mirror handles, or that passes.
    Warn,
    /// A fault that needs the operator.
    Error,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

/// The last logged states, so that no state is logged twice.
#[derive(Debug, Default)]
pub struct Reporter {
    reads: Calls,
    writes: Calls,
    condition: Condition,
    clock_differs: bool,
    unheld: bool,
    unshared: usize,
    refused: bool,
}

/// One kind of calls.
#[derive(Debug, Default)]
struct Calls {
    logged: Option<Outcome>,
    /// How many have failed in a row for a reason that may pass.
    failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Works,
    /// All failures that may pass are one state, because an outage causes several kinds.
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
    /// The line for the result of a read.
    pub fn read(&mut self, result: Result<(), &Failure>) -> Option<Line> {
        self.reads.change(result, "reading from KV")
    }

    /// The line for the result of a write.
    pub fn write(&mut self, result: Result<(), &Failure>) -> Option<Line> {
        self.writes.change(result, "writing to KV")
    }

    /// The line for the condition of the value.
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
                    "{count} entries of the KV value are no messages, the first at index {first}: {fault}; \
                     they are kept while there is room, and not shown"
                ),
            ),
            Condition::Unreadable => line(
                Level::Error,
                "the KV value is not a list of messages and is not overwritten; \
                 delete the key webhook:messages to start anew",
            ),
        })
    }

    /// The line for the difference to KV's clock.
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
                         its messages are in the wrong order in the shared history"
                    ),
                )
            }
        })
    }

    /// The line for messages of the shared history that are too large for this ring.
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

    /// The line for messages of the ring that are too large to be shared.
    pub fn unshared(&mut self, count: usize) -> Option<Line> {
        let is_news = std::mem::replace(&mut self.unshared, count) == 0;
        let text = format!(
            "{count} messages of this node take more than {} KiB in KV and are not shared",
            KV_ENTRY_BYTES_MAX.div_ceil(1024)
        );
        (is_news && count > 0).then(|| line(Level::Warn, &text))
    }

    /// The line for a ring that refuses messages.
    pub fn refused(&mut self, refusal: Option<&NotStored>) -> Option<Line> {
        if std::mem::replace(&mut self.refused, refusal.is_some()) == refusal.is_some() {
            return None;
        }
        Some(match refusal {
            None => line(Level::Info, "messages from KV are stored again"),
            Some(refusal) => line(
                Level::Error,
                &format!("messages from KV cannot be stored: {refusal}"),
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
        let may_pass = (1..FAILURES_UNTIL_LOGGED).contains(&self.failed);
        if may_pass || self.logged == Some(outcome) {
            return None;
        }
        self.logged = Some(outcome);
        let Err(failure) = result else {
            return Some(line(Level::Info, &format!("{what} works")));
        };
        let (level, retry) = match failure.kind {
            FailureKind::DailyLimit => (Level::Warn, "the next try is after 00:00 UTC"),
            kind if kind.needs_operator() => (
                Level::Error,
                "the next try is within a minute; see hookcast kv-check",
            ),
            _ => (Level::Warn, "retrying until it works"),
        };
        let text = format!("{what} fails: {failure}; {retry}; the node serves without KV");
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
    fn an_outage_of_any_length_is_two_lines() {
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
    fn a_failure_that_ends_with_the_next_try_is_not_logged() {
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
    fn a_failure_that_needs_an_operator_is_logged_once_as_an_error() {
        let mut reporter = Reporter::default();
        let line = reporter
            .write(Err(&failure(FailureKind::Credentials)))
            .unwrap();
        assert_eq!(line.level, Level::Error);
        assert!(line.text.contains("kv-check"), "{}", line.text);
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
    fn states_are_logged_on_change() {
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
