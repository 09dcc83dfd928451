//! A stream as the doctor reads it: on a thread of its own, since a read may never return.
//!
//! Used by `visit`. Tells what came and when; judges nothing. The thread ends with the stream, with
//! its time, or when nobody listens any more.

use std::io::{BufRead, BufReader, Read};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use ureq::http::Response;
use ureq::{Agent, Body};

use super::fault;
use super::visit::Head;
use crate::limits::{DOCTOR_LINE_BYTES_MAX, DOCTOR_STREAM_BYTES_MAX};

/// What happens on a stream.
#[derive(Debug)]
pub(super) enum Happening {
    Head(Head),
    /// A line, without its end.
    Line(String),
    /// The end; an error unless it was in good order.
    End(Result<(), String>),
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
    ) -> Reading {
        let mut request = agent
            .get(url)
            .header("Accept", "text/event-stream")
            .header("Accept-Encoding", "gzip, br");
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let request = request.config().timeout_global(Some(time)).build();
        let (sender, happenings) = unbounded();
        let began = Instant::now();
        thread::spawn(move || {
            let end = match request.call() {
                Ok(response) => read(response, &sender),
                Err(error) => Err(fault::words(&error)),
            };
            // Nobody listens when the visit is over.
            let _ = sender.send((Instant::now(), Happening::End(end)));
        });
        Reading { happenings, began }
    }

    /// What happens next, and how long after the beginning; none by `deadline`.
    pub(super) fn next(&self, deadline: Instant) -> Option<(Duration, Happening)> {
        match self.happenings.recv_deadline(deadline) {
            Ok((at, happening)) => Some((at - self.began, happening)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }
}

fn read(response: Response<Body>, sender: &Sender<(Instant, Happening)>) -> Result<(), String> {
    let head = Happening::Head(Head::of(&response));
    if sender.send((Instant::now(), head)).is_err() {
        return Ok(());
    }
    let body = response.into_body().into_reader();
    let mut body = BufReader::new(body.take(DOCTOR_STREAM_BYTES_MAX));
    loop {
        let mut line = Vec::new();
        let mut piece = body.by_ref().take(DOCTOR_LINE_BYTES_MAX);
        match piece.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                let text = Happening::Line(text.trim_end_matches('\n').to_owned());
                if sender.send((Instant::now(), text)).is_err() {
                    return Ok(());
                }
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}
