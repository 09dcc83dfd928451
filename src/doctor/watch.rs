//! The record of a stream: what has arrived so far, and when.
//!
//! Filled by [`probe`](super::probe) from a [`Reading`], read by [`judge`](super::judge). Judges nothing.

use std::time::{Duration, Instant};

use super::answer::Head;
use super::finding::Fault;
use super::stream::{Reading, StreamEvent};
use crate::foreign_text::ForeignText;
use crate::limits::{DOCTOR_HEARTBEATS_MAX, DOCTOR_HELD_BACK_MS, DOCTOR_MESSAGES};

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The body ended completely.
    Whole,
    /// The body broke off; the error as a quote.
    Cut(String),
    /// There was no answer.
    Unanswered(Fault),
}

/// The record of a stream. Times count from the request.
#[derive(Debug, Clone, Default)]
pub struct StreamSeen {
    /// Its head and when it arrived; `None` if it did not arrive.
    pub head: Option<(Duration, Head)>,
    /// The body of an answer that is not a stream.
    pub refusal: ForeignText,
    /// When the `connected` event arrived, and how many messages it announced.
    pub connected: Option<(Duration, u64)>,
    /// When heartbeats arrived.
    pub heartbeats: Vec<Duration>,
    /// When the last `retry` arrived. hookcast sends one at the beginning, and one before it ends a stream.
    pub retry: Option<Duration>,
    /// When and how it ended, if it ended while it was watched.
    pub end: Option<(Duration, End)>,
    /// The time for which it was watched.
    pub watched: Duration,
}

impl StreamSeen {
    /// Whether hookcast itself ended the stream: it sends a second `retry` first.
    pub fn was_ended_by_hookcast(&self) -> bool {
        let connected = self.connected.map(|(at, _)| at);
        matches!((self.retry, connected), (Some(retry), Some(at)) if retry > at)
    }

    /// Whether its first event arrived with its head.
    pub fn begins_at_once(&self) -> bool {
        let began = self.head.as_ref().map(|(at, _)| *at);
        let pause = began.zip(self.connected);
        let pause = pause.map(|(began, (connected, _))| connected.saturating_sub(began));
        pause.is_some_and(|pause| pause.as_millis() <= u128::from(DOCTOR_HELD_BACK_MS))
    }

    /// Whether hookcast had no room for the stream: it sends a `retry`, and nothing else.
    pub fn is_refused_for_room(&self) -> bool {
        let is_over = matches!(self.end, Some((_, End::Whole)));
        is_over && self.retry.is_some() && self.connected.is_none()
    }
}

/// A stream that is being watched.
pub(super) struct Watch {
    reading: Reading,
    pub(super) seen: StreamSeen,
    /// When each message first arrived, and its event id. The index is the number less 1.
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
                Some((at, event)) => self.take(at, event),
            }
        }
        self.seen.watched = self.reading.began.elapsed();
    }

    fn take(&mut self, at: Duration, event: StreamEvent) {
        match event {
            StreamEvent::Head(head) => self.seen.head = Some((at, head)),
            StreamEvent::Refused(body) => self.seen.refusal = body,
            StreamEvent::Connected(replay) => self.seen.connected = Some((at, replay)),
            StreamEvent::Retry => self.seen.retry = Some(at),
            StreamEvent::Heartbeat if self.seen.heartbeats.len() == DOCTOR_HEARTBEATS_MAX => {
                let words = format!("more than {DOCTOR_HEARTBEATS_MAX} comments came");
                self.seen.end = Some((at, End::Cut(words)));
            }
            StreamEvent::Heartbeat => self.seen.heartbeats.push(at),
            StreamEvent::Message(number, event_id) => {
                if let Some(message) = self.messages.get_mut(number - 1) {
                    message.get_or_insert((at, event_id));
                }
            }
            StreamEvent::End(end) => self.seen.end = Some((at, end)),
        }
    }
}
