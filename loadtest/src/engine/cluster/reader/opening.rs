//! Opens the streams of a process: connects, requests, and gives up what does not become a stream or does not end.
//!
//! Part of `reader`. A new connection continues after the last event, with a new token.

use std::cmp::Reverse;
use std::net::SocketAddr;

use rustix::net::SendFlags;

use crate::engine::clock::{SECOND_NS, now_ns};
use crate::engine::cluster::lives::Life;
use crate::engine::cluster::order::NONE;
use crate::engine::cluster::reader::Reader;
use crate::engine::scanner::Scanner;
use crate::engine::stream::{Phase, connect, token};
use crate::engine::tokens::{Way, unix_ms};

/// Time for a connect and the response head. A node answers a resume ahead of its own history after 2 s at most.
const OPEN_PATIENCE_NS: u64 = 10 * SECOND_NS;

/// Source addresses: one has 28,000 ports, and a closed connection keeps its port for a minute.
const SOURCES: usize = 64;

impl Reader {
    pub(super) fn open_due(&mut self) {
        let now_ns = now_ns();
        while self.opening < self.plan.opening_max {
            match self.waiting.peek() {
                Some(Reverse((due_ns, _))) if *due_ns <= now_ns => {}
                _ => return,
            }
            if let Some(Reverse((_, at))) = self.waiting.pop() {
                self.connect(at);
            }
        }
    }

    fn connect(&mut self, at: usize) {
        let stream = &mut self.streams[at];
        stream.opened_at_ns = now_ns();
        stream.generation = stream.generation.wrapping_add(1);
        stream.scanner = Scanner::default();
        stream.trail.connect();
        stream.life = None;
        stream.phase = Phase::Connecting;
        self.opening += 1;
        self.outcome.connections += 1;
        let source = SocketAddr::from(([127, 0, 0, 1 + (at % SOURCES) as u8], 0));
        let socket = connect(self.plan.nodes[stream.node], Some(source), None);
        let added = socket.and_then(|socket| {
            self.poll.add(&socket, token(at, stream.generation))?;
            Ok(socket)
        });
        match added {
            Ok(socket) => {
                stream.socket = Some(socket);
                self.request(at);
            }
            Err(error) => self.refused(at, format!("connect: {error}")),
        }
    }

    /// Sends the request once the connection is established.
    pub(super) fn request(&mut self, at: usize) {
        let request = self.request_of(at);
        let stream = &mut self.streams[at];
        let Some(socket) = &stream.socket else { return };
        match rustix::net::send(socket, &request, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == request.len() => stream.phase = Phase::Requested,
            Ok(_) => self.refused(at, "a request did not fit into an empty socket".into()),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOTCONN) => {}
            Err(error) => self.refused(at, format!("connect: {error}")),
        }
    }

    /// The request of a stream. Its token is made at this time, and begins a life.
    fn request_of(&mut self, at: usize) -> Vec<u8> {
        let number = self.plan.first + at;
        let views = self.plan.views;
        let view = views.of_stream(number);
        let last = self.streams[at].trail.last();
        let id = (last != NONE).then(|| self.order.get(last).place.to_string());
        let id = id.as_ref().map(String::as_bytes);
        let target = &self.targets[self.streams[at].node];
        // Every other view is that of the token alone.
        let is_named = self.issuer.is_none() || view.is_multiple_of(2);
        let named = views.sessions(view).filter(|_| is_named);
        let mut request = target.stream_request(number, named, id);
        let life_ms = self.plan.tokens.as_ref().map_or(0, |tokens| tokens.life_ms);
        let life_ms = life_ms - life_ms / 4 + self.random_below(life_ms / 2);
        if let Some(issuer) = &self.issuer {
            let ends_ms = unix_ms() + life_ms;
            let token = issuer.token(ends_ms, views.sessions(view));
            Way::of_stream(number).add(&mut request, &token);
            self.streams[at].life = Some(Life::new(number, ends_ms));
        }
        request
    }

    /// Gives up connections that have not become streams.
    pub(super) fn give_up_slow(&mut self, now_ns: u64) {
        for at in 0..self.streams.len() {
            let stream = &self.streams[at];
            let is_opening = matches!(stream.phase, Phase::Connecting | Phase::Requested);
            if is_opening && now_ns > stream.opened_at_ns + OPEN_PATIENCE_NS {
                self.refused(at, "no response head for 10 s".into());
            }
        }
    }

    /// Closes streams that are open long after the end of their token.
    pub(super) fn give_up_overdue(&mut self) {
        let now_ms = unix_ms();
        for at in 0..self.streams.len() {
            let stream = &self.streams[at];
            let life = stream.life.filter(|_| stream.phase == Phase::Open);
            let ends = &mut self.outcome.ends;
            if life.is_some_and(|life| life.is_overdue(now_ms, self.awake_ms, ends)) {
                self.again(at);
            }
        }
    }
}
