//! The doctor's reader of a stream. It runs on a thread of its own, because a read may block for ever.
//!
//! Used by `watch`. Reports events with their times; judges nothing. Lines are parsed one by one and
//! dropped. Only expected events are passed on, through a bounded channel: if it is full, the thread does
//! not read. The thread ends with the stream, at its time limit, or when the receiver is dropped.

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Read};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use flate2::read::GzDecoder;
use serde::Deserialize;
use ureq::http::Response;
use ureq::{Body, RequestBuilder, typestate};

use super::answer::{Answer, Head};
use super::fault;
use super::probe::number_of;
use super::watch::End;
use crate::foreign_text::{ForeignText, Secrets, quote};
use crate::limits::{
    DOCTOR_EVENT_ID_BYTES_MAX, DOCTOR_EVENTS_QUEUED_MAX, DOCTOR_LINE_BYTES_MAX,
    DOCTOR_STREAM_BYTES_MAX,
};

/// An event of interest on a stream.
#[derive(Debug)]
pub(super) enum StreamEvent {
    Head(Head),
    /// The answer is not a stream. This is its body.
    Refused(ForeignText),
    /// The `connected` event, and the number of messages that it announces.
    Connected(u64),
    /// A `retry` field.
    Retry,
    /// A comment.
    Heartbeat,
    /// A posted message, by its number, and its event id.
    Message(usize, Option<String>),
    End(End),
}

/// A stream that is being read.
pub(super) struct Reading {
    events: Receiver<(Instant, StreamEvent)>,
    /// The time of the request.
    pub(super) began: Instant,
}

impl Reading {
    /// Requests a stream and reads it for at most `time`.
    pub(super) fn begin(
        request: RequestBuilder<typestate::WithoutBody>,
        last_event_id: Option<&str>,
        time: Duration,
        secrets: &Secrets,
    ) -> Reading {
        let mut request = request
            .header("Accept", "text/event-stream")
            .header("Accept-Encoding", "gzip, br");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let request = request.config().timeout_global(Some(time)).build();
        let (sender, events) = bounded(DOCTOR_EVENTS_QUEUED_MAX);
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
            // The receiver may be dropped already; then the end is of no interest.
            let _ = sender.send((Instant::now(), StreamEvent::End(end)));
        });
        Reading { events, began }
    }

    /// The next event, and the time from the request to it; `None` if there is none before `deadline`.
    pub(super) fn next(&self, deadline: Instant) -> Option<(Duration, StreamEvent)> {
        // Without this check, a channel that is never empty would hide the deadline.
        if Instant::now() >= deadline {
            return None;
        }
        match self.events.recv_deadline(deadline) {
            Ok((at, event)) => Some((at - self.began, event)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

fn read(
    response: Response<Body>,
    sender: &Sender<(Instant, StreamEvent)>,
    secrets: &Secrets,
) -> Result<(), String> {
    let head = StreamEvent::Head(Head::of(&response));
    if sender.send((Instant::now(), head)).is_err() {
        return Ok(());
    }
    if response.status() != 200 {
        let refused = StreamEvent::Refused(Answer::of(response).body);
        // The receiver may be dropped already.
        let _ = sender.send((Instant::now(), refused));
        return Ok(());
    }
    let is_gzip = response
        .headers()
        .get("content-encoding")
        .is_some_and(|coding| coding == "gzip");
    let body = response.into_body().into_reader();
    let body: Box<dyn Read> = if is_gzip {
        Box::new(GzDecoder::new(body))
    } else {
        Box::new(body)
    };
    let mut body = BufReader::new(body);
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
        let Some(event) = lines.take(without_end(&line)) else {
            continue;
        };
        if sender.send((Instant::now(), event)).is_err() {
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

/// A parser of the lines of a stream. Lines that are not expected yield nothing.
#[derive(Default)]
struct Lines {
    /// The id of the current event, and the number of its message.
    event_id: Option<String>,
    number: Option<usize>,
}

/// The part of an event's data that is checked.
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
    fn take(&mut self, line: &[u8]) -> Option<StreamEvent> {
        if line.is_empty() {
            let event_id = self.event_id.take();
            let number = self.number.take()?;
            return Some(StreamEvent::Message(number, event_id));
        }
        if line.starts_with(b":") {
            return Some(StreamEvent::Heartbeat);
        }
        if line.starts_with(b"retry: ") {
            return Some(StreamEvent::Retry);
        }
        if let Some(id) = line.strip_prefix(b"id: ") {
            let id = std::str::from_utf8(id).ok();
            let id = id.filter(|id| id.len() <= DOCTOR_EVENT_ID_BYTES_MAX);
            self.event_id = id.map(str::to_owned);
            return None;
        }
        let data: Data<'_> = serde_json::from_slice(line.strip_prefix(b"data: ")?).ok()?;
        if data.kind == "connected" {
            return Some(StreamEvent::Connected(data.replay));
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
    fn unexpected_lines_are_dropped() {
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
        assert!(matches!(take(": heartbeat"), Some(StreamEvent::Heartbeat)));
        assert!(matches!(take("retry: 1000"), Some(StreamEvent::Retry)));
        for (replay, expected) in [("", 0), (",\"replay\":7", 7)] {
            let event = format!("data: {{\"type\":\"connected\"{replay}}}");
            let taken = take(&event);
            assert!(matches!(taken, Some(StreamEvent::Connected(found)) if found == expected));
        }
        let message = |number| {
            format!(
                "data: {{\"type\":\"\\u0077\",\"content\":\"{}\"}}",
                content(number)
            )
        };
        // The id may come before or after the data. A comment does not end an event.
        for lines in [
            ["id: 1-1", &message(1), ": heartbeat"],
            [&message(1), ": heartbeat", "id: 1-1"],
        ] {
            assert_eq!(lines.iter().filter_map(|line| take(line)).count(), 1);
            let Some(StreamEvent::Message(1, Some(id))) = take("") else {
                panic!("no message: {lines:?}");
            };
            assert_eq!(id, "1-1");
        }
        take(&format!(
            "id: {}",
            "x".repeat(DOCTOR_EVENT_ID_BYTES_MAX + 1)
        ));
        take(&message(4));
        assert!(matches!(take(""), Some(StreamEvent::Message(4, None))));
        assert!(take("").is_none());
    }
}
