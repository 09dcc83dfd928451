//! The ends of streams by their tokens: when each has to come, and what may not follow.
//!
//! At the end of its token a stream gets `token_expired` and ends in order, not before that time and at most
//! [`LATE_MAX_MS`] after it. A node that dies may cut a stream off at any time. Called by `reader`; knows no clock.

use serde::{Deserialize, Serialize};

/// How late an end may be. A node ends a stream within milliseconds; a handover and a busy machine take the rest.
pub const LATE_MAX_MS: u64 = 2_000;

/// How early an end may be: a node may round a fraction of a second down.
const EARLY_MAX_MS: u64 = 1;

/// Descriptions of faults that are kept.
const DETAILS_MAX: usize = 20;

/// Ends of streams with tokens, summed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Streams that got `token_expired` and ended in order.
    pub by_token: u64,
    /// Streams that got `token_expiring` before.
    pub warned: u64,
    /// The longest time from the end of a token to that of its stream, in milliseconds.
    pub late_max_ms: u64,
    /// Streams that got `token_expired` before the end of their token.
    pub early: u64,
    /// Streams that got it later than [`LATE_MAX_MS`], or never.
    pub late: u64,
    /// Streams that did not end in order after `token_expired`, or got a message after it.
    pub disorderly: u64,
    /// Streams that ended without `token_expired` after the end of their token. A fault only if no node was
    /// stopped.
    pub unannounced: u64,
    /// Requests that were answered with 401 or 403, though their token was valid.
    pub refused: u64,
    /// Descriptions of the first faults.
    pub details: Vec<String>,
}

impl Ends {
    /// Adds those of another process.
    pub fn add(&mut self, other: &Ends) {
        self.by_token += other.by_token;
        self.warned += other.warned;
        self.late_max_ms = self.late_max_ms.max(other.late_max_ms);
        self.early += other.early;
        self.late += other.late;
        self.disorderly += other.disorderly;
        self.unannounced += other.unannounced;
        self.refused += other.refused;
        for detail in &other.details {
            self.note(detail.clone());
        }
    }

    fn note(&mut self, detail: String) {
        if self.details.len() < DETAILS_MAX {
            self.details.push(detail);
        }
    }
}

/// The life of a stream with a token: one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The number of the stream, for descriptions.
    stream: usize,
    /// The end of the token, in Unix milliseconds.
    ends_ms: u64,
    is_warned: bool,
    is_expired: bool,
    /// A message came after `token_expired`.
    is_disorderly: bool,
}

impl Life {
    /// A connection of this stream with a token that ends at this Unix time.
    pub fn new(stream: usize, ends_ms: u64) -> Life {
        Life {
            stream,
            ends_ms,
            is_warned: false,
            is_expired: false,
            is_disorderly: false,
        }
    }

    /// `token_expiring` has come.
    pub fn warned(&mut self) {
        self.is_warned = true;
    }

    /// A message has come.
    #[inline]
    pub fn message(&mut self) {
        self.is_disorderly |= self.is_expired;
    }

    /// `token_expired` has come. The tool reads without a pause since `awake_ms`.
    pub fn expired(&mut self, now_ms: u64, awake_ms: u64, ends: &mut Ends) {
        let (stream, ends_ms) = (self.stream, self.ends_ms);
        self.is_expired = true;
        ends.warned += u64::from(self.is_warned);
        if now_ms + EARLY_MAX_MS < ends_ms {
            ends.early += 1;
            let early_ms = ends_ms - now_ms;
            ends.note(format!(
                "stream {stream} ended {early_ms} ms before its token"
            ));
            return;
        }
        let late_ms = self.late_ms(now_ms, awake_ms);
        ends.late_max_ms = ends.late_max_ms.max(late_ms);
        if late_ms > LATE_MAX_MS {
            ends.late += 1;
            ends.note(format!(
                "stream {stream} ended {late_ms} ms after its token"
            ));
        }
    }

    fn late_ms(&self, now_ms: u64, awake_ms: u64) -> u64 {
        now_ms.saturating_sub(self.ends_ms.max(awake_ms))
    }

    /// Whether an open stream should have ended long ago. Counts it, if so: the caller closes it.
    pub fn is_overdue(&self, now_ms: u64, awake_ms: u64, ends: &mut Ends) -> bool {
        if self.late_ms(now_ms, awake_ms) <= LATE_MAX_MS {
            return false;
        }
        let stream = self.stream;
        if self.is_expired {
            ends.disorderly += 1;
            ends.note(format!("stream {stream} got token_expired and stayed open"));
        } else {
            ends.late += 1;
            ends.note(format!(
                "stream {stream} was open {LATE_MAX_MS} ms after the end of its token"
            ));
        }
        true
    }

    /// The server has ended the open stream: in order, or not.
    pub fn closed(&self, now_ms: u64, in_order: bool, ends: &mut Ends) {
        let stream = self.stream;
        if self.is_expired && in_order && !self.is_disorderly {
            ends.by_token += 1;
        } else if self.is_expired {
            ends.disorderly += 1;
            ends.note(format!(
                "stream {stream} did not end in order at token_expired"
            ));
        } else if now_ms >= self.ends_ms {
            ends.unannounced += 1;
        }
    }

    /// The request was answered with a status other than 200.
    pub fn refused(&self, status: u16, now_ms: u64, ends: &mut Ends) {
        if matches!(status, 401 | 403) && now_ms < self.ends_ms {
            ends.refused += 1;
            let (stream, left_ms) = (self.stream, self.ends_ms - now_ms);
            ends.note(format!(
                "stream {stream} got a {status} with a token that was valid for {left_ms} ms more"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_MS: u64 = 100_000;

    /// A stream that gets `token_expired` at this time, and ends.
    fn ended_at(now_ms: u64, awake_ms: u64, in_order: bool) -> Ends {
        let mut ends = Ends::default();
        let mut life = Life::new(7, END_MS);
        life.warned();
        life.expired(now_ms, awake_ms, &mut ends);
        life.closed(now_ms + 1, in_order, &mut ends);
        ends
    }

    #[test]
    fn an_end_at_the_end_of_a_token_is_no_fault() {
        for late_ms in [0, 3, LATE_MAX_MS] {
            let expected = Ends {
                by_token: 1,
                warned: 1,
                late_max_ms: late_ms,
                ..Ends::default()
            };
            assert_eq!(ended_at(END_MS + late_ms, 0, true), expected);
        }
        assert_eq!(ended_at(END_MS - EARLY_MAX_MS, 0, true).early, 0);
    }

    #[test]
    fn an_end_before_the_end_of_a_token_is_a_fault() {
        let ends = ended_at(END_MS - EARLY_MAX_MS - 1, 0, true);
        assert_eq!((ends.early, ends.late), (1, 0));
        assert_eq!(ends.details, ["stream 7 ended 2 ms before its token"]);
    }

    #[test]
    fn a_late_end_and_none_are_faults_unless_the_tool_was_stopped() {
        let late_ms = END_MS + LATE_MAX_MS + 1;
        assert_eq!(ended_at(late_ms, 0, true).late, 1);
        assert_eq!(ended_at(late_ms, late_ms - 10, true).late, 0);
        let mut ends = Ends::default();
        let life = Life::new(7, END_MS);
        assert!(!life.is_overdue(late_ms - 1, 0, &mut ends));
        assert!(!life.is_overdue(late_ms, END_MS + 1, &mut ends));
        assert_eq!(ends, Ends::default());
        assert!(life.is_overdue(late_ms, 0, &mut ends));
        assert_eq!((ends.late, ends.disorderly), (1, 0));
    }

    #[test]
    fn nothing_may_follow_the_event_but_the_end_of_the_stream() {
        assert_eq!(ended_at(END_MS, 0, false).disorderly, 1);
        let mut ends = Ends::default();
        let mut life = Life::new(7, END_MS);
        life.message();
        life.expired(END_MS, 0, &mut ends);
        life.message();
        life.closed(END_MS, true, &mut ends);
        assert_eq!((ends.by_token, ends.disorderly), (0, 1));
        let mut ends = Ends::default();
        let mut life = Life::new(7, END_MS);
        life.expired(END_MS, 0, &mut ends);
        assert!(life.is_overdue(END_MS + LATE_MAX_MS + 1, 0, &mut ends));
        assert_eq!((ends.late, ends.disorderly), (0, 1));
    }

    #[test]
    fn a_stream_may_end_otherwise_before_the_end_of_its_token_only() {
        let mut ends = Ends::default();
        let life = Life::new(7, END_MS);
        life.closed(END_MS - 1, true, &mut ends);
        life.closed(END_MS - 1, false, &mut ends);
        assert_eq!(ends, Ends::default());
        life.closed(END_MS, true, &mut ends);
        assert_eq!((ends.unannounced, ends.by_token), (1, 0));
    }

    #[test]
    fn a_valid_token_is_not_refused() {
        let mut ends = Ends::default();
        let life = Life::new(7, END_MS);
        life.refused(401, END_MS, &mut ends);
        life.refused(503, END_MS - 9, &mut ends);
        assert_eq!(ends.refused, 0);
        life.refused(401, END_MS - 9, &mut ends);
        life.refused(403, END_MS - 9, &mut ends);
        assert_eq!(ends.refused, 2);
    }
}
