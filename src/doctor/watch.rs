//! What a stream has shown so far, and when.
//!
//! Filled by [`probe`](super::probe) from a [`Reading`], looked at by [`judge`](super::judge).

use std::time::{Duration, Instant};

use super::answer::Head;
use super::finding::Fault;
use super::stream::{Happening, Reading};
use crate::foreign_text::ForeignText;
use crate::limits::{DOCTOR_HEARTBEATS_MAX, DOCTOR_MESSAGES};

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The answer was complete.
    Whole,
    /// It broke off; the error as a quote.
    Cut(String),
    /// There was no answer.
    Unanswered(Fault),
}

/// What was seen of a stream. Times count from when it was asked for.
#[derive(Debug, Clone, Default)]
pub struct StreamSeen {
    /// Its head and when it came; none if it did not come.
    pub head: Option<(Duration, Head)>,
    /// The body of an answer that is no stream.
    pub refusal: ForeignText,
    /// When the `connected` event came, and how many messages it announced.
    pub connected: Option<(Duration, u64)>,
    /// When heartbeats came.
    pub heartbeats: Vec<Duration>,
    /// When hookcast said last how soon to come back: at the beginning, and before it ends a stream.
    pub retry: Option<Duration>,
    /// When it ended, and how, if it did so while it was watched.
    pub end: Option<(Duration, End)>,
    /// How long it was watched.
    pub watched: Duration,
}

impl StreamSeen {
    /// Whether hookcast ended the stream itself: it says before how soon to come back.
    pub fn has_farewell(&self) -> bool {
        let connected = self.connected.map(|(at, _)| at);
        matches!((self.retry, connected), (Some(retry), Some(at)) if retry > at)
    }

    /// Whether hookcast had no room for the stream: it says how soon to come back, and nothing else.
    pub fn is_turned_away(&self) -> bool {
        let is_over = matches!(self.end, Some((_, End::Whole)));
        is_over && self.retry.is_some() && self.connected.is_none()
    }
}

/// A stream that is being watched.
pub(super) struct Watch {
    reading: Reading,
    pub(super) seen: StreamSeen,
    /// By number, less 1: when a message came first, and its event id.
    messages: [Option<(Duration, Option<String>)>; DOCTOR_MESSAGES],
}

impl Watch {
    pub(super) fn new(reading: Reading) -> Watch {
        Watch {
            reading,
            seen: StreamSeen::default(),
            messages: [const { None }; DOCTOR_MESSAGES],
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.reading.began
    }

    pub(super) fn message(&self, number: usize) -> Option<&(Duration, Option<String>)> {
        self.messages.get(number - 1)?.as_ref()
    }

    /// Watches until `is_enough`, the end of the stream, or the deadline.
    pub(super) fn until(&mut self, deadline: Instant, is_enough: impl Fn(&Self) -> bool) {
        while self.seen.end.is_none() && !is_enough(self) {
            match self.reading.next(deadline) {
                None => break,
                Some((at, happening)) => self.take(at, happening),
            }
        }
        self.seen.watched = self.reading.began.elapsed();
    }

    fn take(&mut self, at: Duration, happening: Happening) {
        match happening {
            Happening::Head(head) => self.seen.head = Some((at, head)),
            Happening::Refused(body) => self.seen.refusal = body,
            Happening::Connected(replay) => self.seen.connected = Some((at, replay)),
            Happening::Retry => self.seen.retry = Some(at),
            Happening::Heartbeat if self.seen.heartbeats.len() == DOCTOR_HEARTBEATS_MAX => {
                let words = format!("more than {DOCTOR_HEARTBEATS_MAX} comments came");
                self.seen.end = Some((at, End::Cut(words)));
            }
            Happening::Heartbeat => self.seen.heartbeats.push(at),
            Happening::Message(number, event_id) => {
                if let Some(message) = self.messages.get_mut(number - 1) {
                    message.get_or_insert((at, event_id));
                }
            }
            Happening::End(end) => self.seen.end = Some((at, end)),
        }
    }
}
