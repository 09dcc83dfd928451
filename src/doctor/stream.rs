//! A stream as the doctor reads it: on a thread of its own, since a read may never return.
//!
//! Used by `watch`. Says what came and when; judges nothing. What a server sends is looked at line by
//! line and dropped: only what the doctor waits for is passed on, through a bounded channel, so a server
//! that sends more than is asked for waits. The thread ends with the stream, with its time, or when the
//! receiver is gone.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Deserialize;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::answer::{Answer, Head};
use super::fault;
use super::probe::number_of;
use super::watch::End;
use crate::foreign_text::{ForeignText, Secrets, quote};
use crate::limits::{
    DOCTOR_EVENT_ID_BYTES_MAX, DOCTOR_EVENTS_QUEUED_MAX, DOCTOR_LINE_BYTES_MAX,
    DOCTOR_STREAM_BYTES_MAX,
};

/// What happens on a stream.
#[derive(Debug)]
pub(super) enum Happening {
    Head(Head),
    /// The answer is no stream, and this is its body.
    Refused(ForeignText),
    /// The event that a stream begins with, and how many messages it announces.
    Connected(u64),
    /// The server says how soon to come back.
    Retry,
    /// A comment.
    Heartbeat,
    /// A message that was posted, by its number, and its event id.
    Message(usize, Option<String>),
    End(End),
}

/// A stream that is being read.
pub(super) struct Reading {
    happenings: Receiver<(Instant, Happening)>,
    /// When it was asked for.
    pub(super) began: Instant,
}

impl Reading {
    /// Asks for a stream, which is read for at most `time`.
    pub(super) fn begin(
        agent: &Agent,
        url: &str,
        last_event_id: Option<&str>,
        time: Duration,
        secrets: &Secrets,
    ) -> Reading {
        let mut request = agent
            .get(url)
            .header("Accept", "text/event-stream")
            .header("Accept-Encoding", "gzip, br");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let request = request.config().timeout_global(Some(time)).build();
        let (sender, happenings) = bounded(DOCTOR_EVENTS_QUEUED_MAX);
        let began = Instant::now();
        let secrets = secrets.clone();
        thread::spawn(move || {
            let end = match request.call() {
                Ok(response) => match read(response, &sender, &secrets) {
                    Ok(()) => End::Whole,
                    Err(error) => End::Cut(error),
                },
                Err(error) => End::Unanswered(fault::of(&error, &secrets)),
            };
            // The receiver is gone when nothing more is asked.
            let _ = sender.send((Instant::now(), Happening::End(end)));
        });
        Reading { happenings, began }
    }

    /// What happens next, and how long after the beginning; none by `deadline`.
    pub(super) fn next(&self, deadline: Instant) -> Option<(Duration, Happening)> {
        // A channel that is never empty would be received from for ever.
        if Instant::now() >= deadline {
            return None;
        }
        match self.happenings.recv_deadline(deadline) {
            Ok((at, happening)) => Some((at - self.began, happening)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

fn read(
    response: Response<Body>,
    sender: &Sender<(Instant, Happening)>,
    secrets: &Secrets,
) -> Result<(), String> {
    let head = Happening::Head(Head::of(&response));
    if sender.send((Instant::now(), head)).is_err() {
        return Ok(());
    }
    if response.status() != 200 {
        let refused = Happening::Refused(Answer::of(response).body);
        // As above.
        let _ = sender.send((Instant::now(), refused));
        return Ok(());
    }
    let mut body = BufReader::new(response.into_body().into_reader());
    let mut lines = Lines::default();
    let mut line = Vec::new();
    let mut bytes = 0;
    while bytes < DOCTOR_STREAM_BYTES_MAX {
        line.clear();
        let mut piece = body.by_ref().take(DOCTOR_LINE_BYTES_MAX);
        match piece.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(length) => bytes += length as u64,
            Err(error) => return Err(quote(&error.to_string(), secrets)),
        }
        let Some(happening) = lines.take(without_end(&line)) else {
            continue;
        };
        if sender.send((Instant::now(), happening)).is_err() {
            return Ok(());
        }
    }
    Err(format!("more than {DOCTOR_STREAM_BYTES_MAX} bytes came"))
}

/// A line without `\n` or `\r\n`.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The lines of a stream, of which most are nothing that is waited for.
#[derive(Default)]
struct Lines {
    /// Of the event that is being read: its id, and the number of its message.
    event_id: Option<String>,
    number: Option<usize>,
}

/// What is looked at of an event's data.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Cow<'a, str>,
    #[serde(default)]
    replay: u64,
}

impl Lines {
    fn take(&mut self, line: &[u8]) -> Option<Happening> {
        if line.is_empty() {
            let event_id = self.event_id.take();
            let number = self.number.take()?;
            return Some(Happening::Message(number, event_id));
        }
        if line.starts_with(b":") {
            return Some(Happening::Heartbeat);
        }
        if line.starts_with(b"retry: ") {
            return Some(Happening::Retry);
        }
        if let Some(id) = line.strip_prefix(b"id: ") {
            let id = std::str::from_utf8(id).ok();
            let id = id.filter(|id| id.len() <= DOCTOR_EVENT_ID_BYTES_MAX);
            self.event_id = id.map(str::to_owned);
            return None;
        }
        let data: Data<'_> = serde_json::from_slice(line.strip_prefix(b"data: ")?).ok()?;
        if data.kind == "connected" {
            return Some(Happening::Connected(data.replay));
        }
        self.number = number_of(&data.content);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::content;
    use super::*;

    #[test]
    fn what_is_not_waited_for_is_dropped() {
        let mut lines = Lines::default();
        let mut take = |line: &str| lines.take(line.as_bytes());
        for line in [
            "",
            "data",
            "data: ",
            "data: {",
            "data: 1",
            "data: {\"content\":1}",
            "data: {\"type\":\"webhook_message\",\"content\":\"hookcast doctor, message 99\"}",
            "data: {\"content\":\"other\",\"more\":[[],[],{}]}",
            "data: {\"type\":\"connected\",\"replay\":-1}",
        ] {
            assert!(take(line).is_none(), "{line}");
        }
        assert!(matches!(take(": heartbeat"), Some(Happening::Heartbeat)));
        assert!(matches!(take("retry: 1000"), Some(Happening::Retry)));
        for (replay, expected) in [("", 0), (",\"replay\":7", 7)] {
            let event = format!("data: {{\"type\":\"connected\"{replay}}}");
            let taken = take(&event);
            assert!(matches!(taken, Some(Happening::Connected(found)) if found == expected));
        }
        let message = |number| {
            format!(
                "data: {{\"type\":\"\\u0077\",\"content\":\"{}\"}}",
                content(number)
            )
        };
        // The id may stand before the data or behind them; a comment ends no event.
        for lines in [
            ["id: 1-1", &message(1), ": heartbeat"],
            [&message(1), ": heartbeat", "id: 1-1"],
        ] {
            assert_eq!(lines.iter().filter_map(|line| take(line)).count(), 1);
            let Some(Happening::Message(1, Some(id))) = take("") else {
                panic!("no message: {lines:?}");
            };
            assert_eq!(id, "1-1");
        }
        take(&format!(
            "id: {}",
            "x".repeat(DOCTOR_EVENT_ID_BYTES_MAX + 1)
        ));
        take(&message(4));
        assert!(matches!(take(""), Some(Happening::Message(4, None))));
        assert!(take("").is_none());
    }
}
