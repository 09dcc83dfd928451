//! The writing side: one thread that posts to all nodes and notes the outcome of each message.
//!
//! Every connection has one message under way. By a schedule (open loop), a due message goes to an idle
//! connection of the next node in turn; latency counts from the due time. While no connection is idle,
//! because the engine is down, messages that are more than a second late are left out. No message is posted
//! twice: the outcome of one whose answer did not arrive is unknown.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use memchr::memmem;
use rustix::net::{RecvFlags, SendFlags};
use socket2::Socket;

use crate::engine::answer;
use crate::engine::clock::{SECOND_NS, now_ns};
use crate::engine::cluster::order::uuid;
use crate::engine::cluster::views::{FIRST_NUMBER, Views};
use crate::engine::epoll::{Poll, Readiness};
use crate::engine::latency::Latency;
use crate::engine::payload::{PayloadFormat, Stamp};
use crate::engine::schedule::Schedule;
use crate::engine::stream::{connect, place, token};
use crate::engine::target::{PublishRequest, Target};

/// Longest wait before the thread looks for the end.
const TURN: Duration = Duration::from_millis(5);

/// Time until a connection that was lost is made again.
const RECONNECT_NS: u64 = 50_000_000;

/// A message that is later than this is left out.
const LATE_NS: u64 = SECOND_NS;

/// Time for an answer. hookcast answers within `--bus-timeout`.
const ANSWER_PATIENCE_NS: u64 = 15 * SECOND_NS;

/// The task.
pub struct PosterPlan {
    /// The nodes. Message `n` is posted to node `n % nodes.len()`.
    pub nodes: Vec<SocketAddr>,
    /// The format of the messages.
    pub format: PayloadFormat,
    /// Sessions of the messages.
    pub views: Views,
    /// Connections, spread over the nodes.
    pub connections: usize,
    /// Messages a second; `None`: as fast as they are answered.
    pub rate: Option<f64>,
}

/// What became of all messages.
#[derive(Default)]
pub struct Posted {
    /// Acknowledged messages and their ids.
    pub acknowledged: Vec<(u32, u128)>,
    /// Messages that the node has refused for certain: 503, and all of 4xx.
    pub refused: Vec<u32>,
    /// Messages that may be stored or not: 504, a lost connection, no answer.
    pub unknown: Vec<u32>,
    /// Answers by status, and failures by their text.
    pub answers: BTreeMap<String, u64>,
    /// Latency from the due time to the acknowledgement.
    pub ack: Latency,
    /// The longest time from the request to any answer.
    pub slowest_ns: u64,
    /// Messages left out, because no connection was idle.
    pub left_out: u64,
    /// The number of the next message.
    pub next: u32,
    /// The time from the first message to the last answer.
    pub elapsed_ns: u64,
}

impl Posted {
    /// Notes an answer.
    pub fn note(&mut self, number: u32, status: u16, body: &[u8]) {
        *self.answers.entry(status.to_string()).or_default() += 1;
        match status {
            200 => match acknowledged_id(body) {
                Some(id) => self.acknowledged.push((number, id)),
                None => self.lose(number, "a 200 without a message id"),
            },
            503 | 400..500 => self.refused.push(number),
            _ => self.unknown.push(number),
        }
    }

    /// Notes that there was no answer.
    pub fn lose(&mut self, number: u32, why: &str) {
        *self.answers.entry(why.to_owned()).or_default() += 1;
        self.unknown.push(number);
    }
}

fn acknowledged_id(body: &[u8]) -> Option<u128> {
    let name = br#""messageId":""#;
    uuid(body.get(memmem::find(body, name)? + name.len()..)?)
}

struct Waiting {
    number: u32,
    due_ns: u64,
    sent_ns: u64,
}

struct Connection {
    socket: Option<Socket>,
    generation: u32,
    node: usize,
    is_connected: bool,
    connect_due_ns: u64,
    /// Bytes to send.
    out: Vec<u8>,
    input: Vec<u8>,
    waiting: Option<Waiting>,
}

/// The requests that post a message, ready to be stamped.
pub struct Requests {
    for_everyone: PublishRequest,
    for_session: PublishRequest,
}

impl Requests {
    /// Those of a node.
    pub fn new(address: SocketAddr, format: &PayloadFormat) -> Requests {
        let target = Target::hookcast("node", address, Vec::new());
        Requests {
            for_everyone: target.publish_request(format, false),
            for_session: target.publish_request(format, true),
        }
    }

    /// Appends the request for the message `stamp` to `out`.
    pub fn write(&mut self, out: &mut Vec<u8>, stamp: Stamp, views: Views) {
        match views.session_of(stamp.number) {
            Some(session) => self.for_session.write(out, stamp, session),
            None => self.for_everyone.write(out, stamp, 0),
        }
    }
}

struct Poster<'a> {
    plan: PosterPlan,
    stop: &'a AtomicBool,
    poll: Poll,
    /// For each node.
    requests: Vec<Requests>,
    connections: Vec<Connection>,
    /// Idle connections of each node.
    idle: Vec<Vec<usize>>,
    schedule: Schedule,
    /// Messages of the schedule that were posted or left out.
    done: u32,
    /// The node that is tried first.
    turn: usize,
    posted: Posted,
}

/// Posts until `stop`, and then waits for the answers under way. `count` follows the acknowledged messages.
pub fn run(plan: PosterPlan, stop: &AtomicBool, count: &AtomicU64) -> io::Result<Posted> {
    let start_ns = now_ns();
    let request = |&address: &SocketAddr| Requests::new(address, &plan.format);
    let nodes = plan.nodes.len();
    let connection = |at: usize| Connection {
        socket: None,
        generation: 0,
        node: at % nodes,
        is_connected: false,
        connect_due_ns: 0,
        out: Vec::new(),
        input: Vec::new(),
        waiting: None,
    };
    let mut poster = Poster {
        stop,
        poll: Poll::new()?,
        requests: plan.nodes.iter().map(request).collect(),
        connections: (0..plan.connections.max(nodes)).map(connection).collect(),
        idle: vec![Vec::new(); nodes],
        schedule: Schedule::new(start_ns, plan.rate.unwrap_or(1.0)),
        done: 0,
        turn: 0,
        posted: Posted {
            next: FIRST_NUMBER,
            ..Posted::default()
        },
        plan,
    };
    poster.run(count)?;
    poster.posted.elapsed_ns = now_ns() - start_ns;
    Ok(poster.posted)
}

impl Poster<'_> {
    fn run(&mut self, count: &AtomicU64) -> io::Result<()> {
        loop {
            let now_ns = now_ns();
            let is_stopped = self.stop.load(Relaxed);
            let is_waiting = self.connections.iter().any(|one| one.waiting.is_some());
            if is_stopped && !is_waiting {
                return Ok(());
            }
            self.maintain(now_ns);
            let pause_ns = if is_stopped {
                u64::MAX
            } else {
                self.post_due(now_ns)
            };
            self.poll.wait(TURN.min(Duration::from_nanos(pause_ns)))?;
            for at in 0..self.poll.len() {
                let readiness = self.poll.get(at);
                self.handle(readiness);
            }
            count.store(self.posted.acknowledged.len() as u64, Relaxed);
        }
    }

    /// Makes lost connections again, and gives up those without an answer.
    fn maintain(&mut self, now_ns: u64) {
        for at in 0..self.connections.len() {
            let connection = &self.connections[at];
            let since = connection.waiting.as_ref().map(|waiting| waiting.sent_ns);
            if connection.socket.is_none() && now_ns >= connection.connect_due_ns {
                self.connect(at, now_ns);
            } else if since.is_some_and(|since| now_ns > since + ANSWER_PATIENCE_NS) {
                self.lose(at, "no answer for 15 s");
            }
        }
    }

    fn connect(&mut self, at: usize, now_ns: u64) {
        let connection = &mut self.connections[at];
        connection.generation = connection.generation.wrapping_add(1);
        connection.connect_due_ns = now_ns + RECONNECT_NS;
        connection.is_connected = false;
        let socket = connect(self.plan.nodes[connection.node], None, None).and_then(|socket| {
            socket.set_tcp_nodelay(true)?;
            self.poll.add(&socket, token(at, connection.generation))?;
            Ok(socket)
        });
        connection.socket = socket.ok();
    }

    /// Posts what is due; returns the time until the next message is.
    fn post_due(&mut self, now_ns: u64) -> u64 {
        loop {
            let due_ns = match self.plan.rate {
                Some(_) => self.schedule.due_ns(self.done),
                None => now_ns,
            };
            if due_ns > now_ns {
                return due_ns - now_ns;
            }
            let Some(at) = self.take_idle() else {
                if self.plan.rate.is_some() && now_ns > due_ns + LATE_NS {
                    self.posted.left_out += 1;
                    self.done += 1;
                    continue;
                }
                return u64::MAX;
            };
            self.done += 1;
            self.post(at, due_ns, now_ns);
        }
    }

    fn take_idle(&mut self) -> Option<usize> {
        let nodes = self.idle.len();
        self.turn += 1;
        (0..nodes).find_map(|step| self.idle[(self.turn + step) % nodes].pop())
    }

    fn post(&mut self, at: usize, due_ns: u64, now_ns: u64) {
        let node = self.connections[at].node as u32;
        let nodes = self.idle.len() as u32;
        let next = self.posted.next;
        let number = next + (node + nodes - next % nodes) % nodes;
        self.posted.next = number + 1;
        let connection = &mut self.connections[at];
        let stamp = Stamp {
            number,
            sent_ns: due_ns,
        };
        self.requests[node as usize].write(&mut connection.out, stamp, self.plan.views);
        connection.waiting = Some(Waiting {
            number,
            due_ns,
            sent_ns: now_ns,
        });
        self.send(at);
    }

    fn send(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let Some(socket) = &connection.socket else {
            return;
        };
        match rustix::net::send(socket, &connection.out, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                connection.out.drain(..sent);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOTCONN) => {}
            Err(_) => self.lose(at, "connection lost"),
        }
    }

    fn handle(&mut self, readiness: Readiness) {
        let (at, generation) = place(readiness.token);
        let connection = &mut self.connections[at];
        if connection.generation != generation || connection.socket.is_none() {
            return;
        }
        if readiness.writable && !readiness.closed && !connection.is_connected {
            connection.is_connected = true;
            let node = connection.node;
            self.idle[node].push(at);
        } else if readiness.writable && !self.connections[at].out.is_empty() {
            self.send(at);
        }
        if readiness.readable || readiness.closed {
            self.read(at);
        }
    }

    fn read(&mut self, at: usize) {
        let mut buffer = [0; 4096];
        loop {
            let connection = &mut self.connections[at];
            let Some(socket) = &connection.socket else {
                return;
            };
            match rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return self.lose(at, "connection lost"),
                Ok((length, _)) => {
                    connection.input.extend_from_slice(&buffer[..length]);
                    if !self.take_answer(at) {
                        return;
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return self.lose(at, "connection lost"),
            }
        }
    }

    /// Notes a complete answer. False: the connection is gone.
    fn take_answer(&mut self, at: usize) -> bool {
        let connection = &mut self.connections[at];
        let answer = match answer::parse(&connection.input) {
            Ok(Some(answer)) => answer,
            Ok(None) => return true,
            Err(error) => {
                self.lose(at, error);
                return false;
            }
        };
        let Some(waiting) = connection.waiting.take() else {
            // A node that drains may answer 408 or end the connection.
            self.lose(at, "an answer without a request");
            return false;
        };
        let now_ns = now_ns();
        if answer.status == 200 {
            self.posted
                .ack
                .record_ns(now_ns.saturating_sub(waiting.due_ns));
        }
        self.posted.slowest_ns = self.posted.slowest_ns.max(now_ns - waiting.sent_ns);
        let connection = &mut self.connections[at];
        let body = &connection.input[..answer.length];
        self.posted.note(waiting.number, answer.status, body);
        connection.input.drain(..answer.length);
        if answer.closes {
            self.lose(at, "");
            return false;
        }
        let node = connection.node;
        self.idle[node].push(at);
        true
    }

    /// Closes a connection. Its message, if any, may be stored or not.
    fn lose(&mut self, at: usize, why: &str) {
        let connection = &mut self.connections[at];
        let node = connection.node;
        connection.socket = None;
        connection.is_connected = false;
        connection.out.clear();
        connection.input.clear();
        if let Some(waiting) = connection.waiting.take() {
            self.posted.lose(waiting.number, why);
        }
        self.idle[node].retain(|&idle| idle != at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_decides_what_may_have_become_of_a_message() {
        let mut posted = Posted::default();
        let body = br#"{"success":true,"messageId":"0190163d-8694-739b-aea5-966c26f8ad91"}"#;
        posted.note(1, 200, body);
        posted.note(2, 503, b"");
        posted.note(3, 504, b"");
        posted.note(4, 500, b"");
        posted.note(5, 413, b"");
        posted.note(6, 200, b"{}");
        posted.lose(7, "connection lost");
        assert_eq!(
            posted.acknowledged,
            [(1, 0x0190_163d_8694_739b_aea5_966c_26f8_ad91)]
        );
        assert_eq!(posted.refused, [2, 5]);
        assert_eq!(posted.unknown, [3, 4, 6, 7]);
        assert_eq!(posted.answers["200"], 2);
    }
}
