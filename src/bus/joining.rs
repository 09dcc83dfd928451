//! How far a node is on its way into the log, for the log and for `/readyz`.
//!
//! Kept by `stats`; the start and the follower report to it. A node that reads a long history from a slow engine is
//! distinguishable from one that hangs: there is a line a minute. Never decides.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::limits::BUS_JOINING_LOG_MS;

/// What a node that has not joined does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// It tries to reach the engine.
    Unreached,
    /// It waits until a node begins an epoch: the engine is empty, or has forgotten something.
    Broken,
    /// It reads the history, so many messages so far.
    Reading(usize),
    /// Nothing: other nodes accept bodies of so many bytes, this one fewer.
    BodyLimit(u64),
    /// It has joined.
    Joined,
}

impl Joining {
    /// In words. `fault` is that of the reading half.
    pub(super) fn reason(self, fault: Option<&str>) -> Option<String> {
        match self {
            Joining::Unreached => {
                let fault = fault.unwrap_or("no answer yet");
                Some(format!("the bus is not reached: {fault}"))
            }
            Joining::Broken => Some(
                "the engine of the bus is empty or has forgotten something, and no node has begun an epoch yet"
                    .into(),
            ),
            Joining::Reading(messages) => Some(format!(
                "reading the history of the bus, {messages} messages so far"
            )),
            Joining::BodyLimit(bytes) => Some(format!(
                "other nodes of the bus accept bodies of {bytes} bytes; start this one with the same \
                 --max-body-bytes"
            )),
            Joining::Joined => None,
        }
    }
}

/// The state, shared between threads, and when it was last logged.
#[derive(Debug)]
pub(super) struct Progress(Mutex<(Joining, Option<Instant>)>);

const NO_PANIC: &str = "a panic under this lock ends the process";

impl Default for Progress {
    fn default() -> Progress {
        Progress(Mutex::new((Joining::Unreached, None)))
    }
}

impl Progress {
    pub(super) fn get(&self) -> Joining {
        self.0.lock().expect(NO_PANIC).0
    }

    /// Notes what the node does now. True if it has not joined for a minute since the beginning or the last line.
    pub(super) fn set(&self, joining: Joining, now: Instant) -> bool {
        let mut state = self.0.lock().expect(NO_PANIC);
        state.0 = joining;
        if joining == Joining::Joined {
            state.1 = None;
            return false;
        }
        let since = *state.1.get_or_insert(now);
        let is_due =
            now.saturating_duration_since(since) >= Duration::from_millis(BUS_JOINING_LOG_MS);
        if is_due {
            state.1 = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_join_says_so_once_a_minute() {
        let begin = Instant::now();
        let progress = Progress::default();
        let lines = |progress: &Progress, from_s: u64, to_s: u64| {
            let at = |second| begin + Duration::from_secs(second);
            let set = |second| {
                let doing = match second % 3 {
                    0 => Joining::Unreached,
                    _ => Joining::Reading(second as usize),
                };
                progress.set(doing, at(second))
            };
            (from_s..to_s).filter(|second| set(*second)).count()
        };
        assert_eq!(lines(&progress, 0, 60), 0);
        assert_eq!(lines(&progress, 60, 300), 4);
        assert_eq!(progress.get(), Joining::Reading(299));
        assert!(!progress.set(Joining::Joined, begin + Duration::from_secs(400)));
        // A node that has lost its place begins anew.
        assert_eq!(lines(&progress, 500, 560), 0);
        assert_eq!(lines(&progress, 560, 561), 1);
    }

    #[test]
    fn every_state_but_the_last_has_a_reason() {
        let reason = |joining: Joining| joining.reason(Some("why")).unwrap_or_default();
        assert!(reason(Joining::Unreached).ends_with(": why"));
        assert!(reason(Joining::Reading(2_560)).contains("2560 messages"));
        assert!(reason(Joining::BodyLimit(9)).contains("--max-body-bytes"));
        assert!(!reason(Joining::Broken).is_empty());
        assert_eq!(Joining::Joined.reason(Some("why")), None);
    }
}
