//! Opens streams, a bounded number at once, and opens them again: failed ones, and those of a churn in turn.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use rustix::net::SendFlags;

use super::Reader;
use crate::engine::check::Checker;
use crate::engine::clock::{SECOND_NS, now_ns};
use crate::engine::control::TOTAL_UNKNOWN;
use crate::engine::gzip::GzipStream;
use crate::engine::scanner::Scanner;
use crate::engine::stream::{Phase, STALLED_RECEIVE_BYTES, begin_tls, connect, token};

/// Source addresses: 127.0.0.1 to 127.0.0.250.
const SOURCES: usize = 250;

/// Streams for each source address, well below its 28,000 ports.
const STREAMS_PER_SOURCE: usize = 12_000;

impl Reader<'_> {
    pub(super) fn open_more(&mut self) {
        // A stream that fails at once is opened again in the next turn.
        for _ in 0..self.to_reopen.len() {
            if self.opening >= self.plan.opening_max {
                break;
            }
            if let Some(at) = self.to_reopen.pop() {
                self.open(at);
            }
        }
        while self.next_to_open < self.streams.len() && self.opening < self.plan.opening_max {
            self.open(self.next_to_open);
            self.next_to_open += 1;
        }
    }

    pub(super) fn open(&mut self, at: usize) {
        if let Err(error) = self.begin(at) {
            self.fail(at, format!("connect: {error}"));
        }
    }

    fn begin(&mut self, at: usize) -> io::Result<()> {
        let stream = &mut self.streams[at];
        stream.opened_at_ns = now_ns();
        stream.generation = stream.generation.wrapping_add(1);
        stream.scanner = Scanner::default();
        stream.gzip = self.plan.target.gzip.then(GzipStream::default);
        let group = (self.plan.first + at) / STREAMS_PER_SOURCE;
        let source = self.plan.target.source((group % SOURCES) as u8);
        let receive_bytes = stream.stalled.then_some(STALLED_RECEIVE_BYTES);
        let socket = connect(self.plan.target.streams.address, source, receive_bytes)?;
        self.poll.add(&socket, token(at, stream.generation))?;
        stream.socket = Some(socket);
        stream.phase = Phase::Connecting;
        self.opening += 1;
        // A loopback handshake is mostly complete when `connect` returns.
        self.request(at);
        Ok(())
    }

    /// Sends the request once the connection is established.
    pub(super) fn request(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        let Some(socket) = &stream.socket else { return };
        let place = self.plan.first + at;
        let id = Some(&stream.last_event_id[..]).filter(|id| !id.is_empty());
        let mut request = self
            .plan
            .target
            .stream_request(place, self.plan.sessions_of(place), id);
        if let Some(config) = &self.plan.target.tls {
            match begin_tls(config, &mut request) {
                Ok(tls) => stream.tls = Some(tls),
                Err(error) => return self.fail(at, format!("TLS: {error}")),
            }
        }
        match rustix::net::send(socket, &request, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == request.len() => stream.phase = Phase::Requested,
            Ok(_) => self.fail(at, "a request did not fit into an empty socket".into()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOTCONN) => {}
            Err(error) => self.fail(at, format!("connect: {error}")),
        }
    }

    /// Closes and reopens the next few streams in turn, at the churn rate.
    pub(super) fn churn(&mut self) {
        let flowing = self.control.window_end_ns.load(Relaxed) != u64::MAX
            && self.control.total.load(Relaxed) == TOTAL_UNKNOWN
            && !self.control.cut.load(Relaxed);
        if self.plan.churn_per_second <= 0.0 || !flowing {
            return;
        }
        let now_ns = now_ns();
        if self.churn_due_ns == 0 {
            self.churn_due_ns = now_ns;
        }
        let interval_ns = (SECOND_NS as f64 / self.plan.churn_per_second) as u64;
        while self.churn_due_ns <= now_ns && self.opening < self.plan.opening_max {
            self.churn_due_ns += interval_ns.max(1);
            let at = self.churn_next;
            self.churn_next = if at + 1 < self.streams.len() {
                at + 1
            } else {
                self.plan.stalled
            };
            if self.streams[at].phase == Phase::Open {
                self.reopen(at);
            }
        }
    }

    pub(super) fn reopen(&mut self, at: usize) {
        self.outcome.churned += 1;
        self.close(at);
        let stream = &mut self.streams[at];
        if stream.last_event_id.is_empty() {
            // It has no id to resume from, so it starts at the beginning of the history.
            if stream.checker.has_joined() {
                let error =
                    "a stream whose events have no id cannot resume: what it missed is unknown";
                *self.outcome.errors.entry(error.into()).or_default() += 1;
            }
            let stride = self.plan.stride();
            let place = self.plan.first + at;
            stream.checker = Checker::joining(place as u32 % stride, stride);
        }
        self.open(at);
    }
}
