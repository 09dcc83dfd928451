//! A client of the stream: reads events in a thread, and reconnects with its last event id to the same node or to
//! another one, as `EventSource` does behind a load balancer.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::load::{Posted, stored};
pub use crate::record::{Id, Record, Seen, Shown, TokenUse, Visit};
use crate::support::PATIENCE;
use crate::view::{Access, Request, now_ms};

/// The addresses of the nodes; `None` while one is down.
#[derive(Clone, Default)]
pub struct Roster(Arc<Mutex<Vec<Option<SocketAddr>>>>);

impl Roster {
    pub fn set(&self, node: usize, address: Option<SocketAddr>) {
        let mut addresses = self.0.lock().unwrap();
        if addresses.len() <= node {
            addresses.resize(node + 1, None);
        }
        addresses[node] = address;
    }

    pub fn address(&self, node: usize) -> Option<SocketAddr> {
        self.0.lock().unwrap().get(node).copied().flatten()
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// The nodes that a client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Only(usize),
    /// Another one at each connection, beginning with this.
    Any(usize),
}

/// A running client; stopped when dropped.
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    roster: Roster,
    access: Access,
}

struct State {
    record: Record,
    route: Route,
    socket: Option<TcpStream>,
    is_stopped: bool,
}

impl Watcher {
    /// Connects; `query` is empty or begins with `?`.
    pub fn start(roster: &Roster, route: Route, query: &str, last: Option<Id>) -> Watcher {
        Watcher::start_with(roster, route, Access::of_query(query), last)
    }

    /// Connects with a view of its own.
    pub fn start_with(roster: &Roster, route: Route, access: Access, last: Option<Id>) -> Watcher {
        let record = Record {
            view: access.view.clone(),
            ..Record::default()
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                record,
                route,
                socket: None,
                is_stopped: false,
            }),
            changed: Condvar::new(),
            roster: roster.clone(),
            access,
        });
        let running = Arc::clone(&shared);
        let thread = thread::spawn(move || running.run(last));
        Watcher {
            shared,
            thread: Some(thread),
        }
    }

    /// Waits for the start of the first connection.
    pub fn connected(self) -> Watcher {
        self.wait_for("the first connection", |record| {
            record.visits.first()?.replay
        });
        self
    }

    pub fn record(&self) -> Record {
        self.shared.lock().record.clone()
    }

    /// Waits until `find` finds something in the record.
    pub fn wait_for<T>(&self, what: &str, find: impl Fn(&Record) -> Option<T>) -> T {
        let found = self.find_within(PATIENCE, find);
        found.unwrap_or_else(|| {
            let record = self.record();
            let tail: Vec<_> = record.visits.iter().map(brief).collect();
            panic!("never came: {what}; {:?} {tail:#?}", record.failures)
        })
    }

    /// The same with a deadline of its own, which may pass.
    pub fn find_within<T>(
        &self,
        deadline: Duration,
        find: impl Fn(&Record) -> Option<T>,
    ) -> Option<T> {
        let state = self.shared.lock();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(state, deadline, |state| find(&state.record).is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        find(&state.record)
    }

    /// Waits for messages with these ids.
    pub fn wait_for_all(&self, ids: &[String]) {
        let has_all = |record: &Record| ids.iter().all(|id| record.known.contains(id));
        if self
            .find_within(PATIENCE, |record| has_all(record).then_some(()))
            .is_some()
        {
            return;
        }
        let record = self.record();
        let missing: Vec<_> = ids
            .iter()
            .filter(|id| !record.known.contains(*id))
            .collect();
        let visits: Vec<_> = record.visits.iter().map(brief).collect();
        panic!(
            "{} of {} messages never came, such as {:?}; {visits:#?}",
            missing.len(),
            ids.len(),
            missing.first()
        );
    }

    /// Waits for a message with this content; returns it.
    pub fn wait_for_content(&self, content: &str) -> Shown {
        self.wait_for(content, |record| {
            record
                .messages()
                .rev()
                .find(|shown| shown.content == content)
                .cloned()
        })
    }

    /// Waits for so many more heartbeats on the present connection.
    pub fn wait_for_heartbeats(&self, more: u64) {
        let before = self
            .record()
            .visits
            .last()
            .map_or(0, |visit| visit.heartbeats);
        self.wait_for("a heartbeat", |record| {
            (record.current().heartbeats >= before + more).then_some(())
        });
    }

    /// Cuts the connection; the client connects again along its route.
    pub fn hop(&self) {
        let visits = {
            let state = self.shared.lock();
            if let Some(socket) = &state.socket {
                // The server may have closed it.
                let _ = socket.shutdown(Shutdown::Both);
            }
            state.record.visits.len()
        };
        self.wait_for("another connection", |record| {
            record.visits.get(visits)?.replay
        });
    }

    /// Ends the client and returns what it has received.
    pub fn stop(mut self) -> Record {
        self.end();
        self.record()
    }

    fn end(&mut self) {
        {
            let mut state = self.shared.lock();
            state.is_stopped = true;
            if let Some(socket) = &state.socket {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a client failed");
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.end();
    }
}

/// Waits until every client has every stored message that its view includes.
pub fn see_all(watchers: &[Watcher], posted: &[Posted]) {
    for watcher in watchers {
        let view = &watcher.shared.access.view;
        let visible = posted
            .iter()
            .filter(|posted| view.includes(posted.session.as_deref()));
        watcher.wait_for_all(&stored(visible));
    }
}

/// Waits until each stream has ended with its token so many times more.
pub fn wait_for_token_ends(watchers: &[Watcher], more: usize) {
    let before: Vec<usize> = watchers
        .iter()
        .map(|watcher| watcher.record().token_ends())
        .collect();
    for (watcher, before) in watchers.iter().zip(before) {
        watcher.wait_for("the ends of its tokens", |record| {
            (record.token_ends() >= before + more).then_some(())
        });
    }
}

/// Waits for heartbeats on every stream.
pub fn beat(watchers: &[Watcher], more: u64) {
    for watcher in watchers {
        watcher.wait_for_heartbeats(more);
    }
}

/// Cuts all connections; see [`Watcher::hop`].
pub fn hop_all(watchers: &[Watcher]) {
    for watcher in watchers {
        watcher.hop();
    }
}

/// Ends all clients.
pub fn stop_all(watchers: Vec<Watcher>) -> Vec<Record> {
    watchers.into_iter().map(Watcher::stop).collect()
}

/// The outline of a connection, for a failure's text.
fn brief(visit: &Visit) -> String {
    let messages = visit.messages().count();
    let (first, last) = (visit.messages().next(), visit.messages().next_back());
    let ids = (first.map(|shown| shown.id), last.map(|shown| shown.id));
    format!(
        "node {} from {:?}: replay {:?}, continues {}, {messages} messages {ids:?}, gaps {:?}, {} heartbeats, ended {} well {}",
        visit.node,
        visit.resumed,
        visit.replay,
        visit.continues,
        visit.gaps(),
        visit.heartbeats,
        visit.has_ended,
        visit.ended_well
    )
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut last: Option<Id>) {
        for attempt in 0.. {
            let (is_stopped, route) = {
                let state = self.lock();
                (state.is_stopped, state.route)
            };
            if is_stopped {
                return;
            }
            let node = match route {
                Route::Only(node) => node,
                Route::Any(first) => (first + attempt) % self.roster.len(),
            };
            let socket = self.roster.address(node).map(TcpStream::connect);
            let Some(Ok(socket)) = socket else {
                // The node is down.
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            let nth = {
                let mut state = self.lock();
                state.socket = socket.try_clone().ok();
                if state.is_stopped {
                    return;
                }
                state.record.visits.len()
            };
            let request = self.access.request();
            if let Err(error) = self.visit(socket, node, last, &request) {
                self.note_error(node, &error);
            }
            let mut state = self.lock();
            state.socket = None;
            if let Some(visit) = state.record.visits.last_mut() {
                visit.has_ended = true;
            }
            last = state.record.last_id().or(last);
            // A request without an answer has no visit.
            let visit = state.record.visits.get(nth);
            let has_expired = visit.is_some_and(Visit::has_expired);
            drop(state);
            self.changed.notify_all();
            if has_expired {
                self.send_again(&request, last);
            }
        }
    }

    /// Nodes that are killed close connections at any moment, which is no failure.
    fn note_error(&self, node: usize, error: &io::Error) {
        let is_silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        if is_silent || error.kind() == ErrorKind::InvalidData {
            let failure = format!("node {node}: {error}");
            self.lock().record.failures.push(failure);
        }
    }

    /// Sends a request whose token has ended to all nodes that run.
    fn send_again(&self, request: &Request, last: Option<Id>) {
        for node in 0..self.roster.len() {
            let Some(Ok(socket)) = self.roster.address(node).map(TcpStream::connect) else {
                continue;
            };
            let answer = send(socket, request, last).and_then(|mut reader| {
                let status = read_head(&mut reader)?;
                // A slice of work has one time. It may have begun before the end, and the request come later.
                let is_early = status == 200 && read_time(&mut reader)? < request.expires_ms;
                Ok((status, is_early))
            });
            match answer {
                Ok((401, _)) => self.lock().record.dead_tokens += 1,
                Ok((_, true)) => {}
                Ok((status, false)) => {
                    let failure = format!("node {node}: {status} for a token that has ended");
                    self.lock().record.failures.push(failure);
                }
                Err(error) => self.note_error(node, &error),
            }
        }
    }

    fn visit(
        &self,
        socket: TcpStream,
        node: usize,
        last: Option<Id>,
        request: &Request,
    ) -> io::Result<()> {
        let sent_ms = now_ms();
        let mut reader = send(socket, request, last)?;
        let expires_ms = request.expires_ms;
        match read_head(&mut reader)? {
            200 => {}
            // The token has ended on the way.
            401 if expires_ms.is_some_and(|expires_ms| now_ms() >= expires_ms) => return Ok(()),
            status => return Err(invalid(&status.to_string())),
        }
        self.lock().record.visits.push(Visit {
            node,
            resumed: last,
            token: expires_ms.map(|expires_ms| TokenUse {
                expires_ms,
                sent_ms,
                ..TokenUse::default()
            }),
            ..Visit::default()
        });
        let mut text = Vec::new();
        let mut event = Partial::default();
        while let Some(chunk) = read_chunk(&mut reader)? {
            text.extend(chunk);
            while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = std::str::from_utf8(&line[..end]).map_err(io::Error::other)?;
                self.handle_line(line, &mut event)?;
            }
        }
        let mut state = self.lock();
        if let Some(visit) = state.record.visits.last_mut() {
            visit.ended_well = true;
        }
        Ok(())
    }

    fn handle_line(&self, line: &str, event: &mut Partial) -> io::Result<()> {
        if line.is_empty() {
            let event = std::mem::take(event);
            if let Some(data) = event.data {
                self.dispatch(event.id.as_deref(), &data)?;
            }
        } else if line.starts_with(':') {
            let mut state = self.lock();
            let visit = state.record.visits.last_mut().expect("connected");
            visit.heartbeats += 1;
            visit.note_after_end();
            drop(state);
            self.changed.notify_all();
        } else if let Some(id) = line.strip_prefix("id: ") {
            event.id = Some(id.to_owned());
        } else if let Some(data) = line.strip_prefix("data: ") {
            event.data = Some(data.to_owned());
        } else if !line.starts_with("retry: ") {
            return Err(invalid(line));
        }
        Ok(())
    }

    fn dispatch(&self, id: Option<&str>, data: &str) -> io::Result<()> {
        let json: Value = serde_json::from_str(data).map_err(|_| invalid(data))?;
        let mut state = self.lock();
        let Record { visits, known, .. } = &mut state.record;
        let visit = visits.last_mut().expect("connected");
        let id = match id.map(Id::parse) {
            Some(None) => return Err(invalid(data)),
            Some(id) => id,
            None => None,
        };
        visit.last = id.or(visit.last);
        visit.note_after_end();
        match json["type"].as_str() {
            Some("connected") => {
                visit.replay = json["replay"].as_u64();
                visit.continues = id.is_some();
            }
            Some("gap") => {
                let missed = json["missed"].as_u64().ok_or_else(|| invalid(data))?;
                visit.seen.push(Seen::Gap(missed));
            }
            Some("webhook_message") => {
                let shown = parse_message(id, &json).ok_or_else(|| invalid(data))?;
                known.insert(shown.message_id.clone());
                visit.seen.push(Seen::Message(shown));
            }
            Some(kind @ ("token_expiring" | "token_expired")) => {
                let token = visit.token.as_mut().ok_or_else(|| invalid(data))?;
                if kind == "token_expired" {
                    token.ended_ms.get_or_insert_with(now_ms);
                } else {
                    let stated_ms = json["expiresAt"].as_u64().ok_or_else(|| invalid(data))?;
                    token.warnings.push((stated_ms, now_ms()));
                }
            }
            Some("end") => {}
            _ => return Err(invalid(data)),
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }
}

#[derive(Default)]
struct Partial {
    id: Option<String>,
    data: Option<String>,
}

fn parse_message(id: Option<Id>, json: &Value) -> Option<Shown> {
    Some(Shown {
        id: id?,
        message_id: json["id"].as_str()?.to_owned(),
        content: json["content"].as_str()?.to_owned(),
        session: json["sessionId"].as_str().map(str::to_owned),
        timestamp: json["timestamp"].as_u64()?,
    })
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("unexpected {text:?}"))
}

fn send(
    mut socket: TcpStream,
    request: &Request,
    last: Option<Id>,
) -> io::Result<BufReader<TcpStream>> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let resume = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
    let Request { query, fields, .. } = request;
    write!(
        socket,
        "GET /api/webhook/stream{query} HTTP/1.1\r\nHost: localhost\r\n{fields}{resume}\r\n"
    )?;
    Ok(BufReader::new(socket))
}

/// Reads the head of an answer; returns its status.
fn read_head(reader: &mut impl BufRead) -> io::Result<u16> {
    let mut line = String::new();
    let mut status = None;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            return status.ok_or_else(|| invalid(&line));
        }
        if status.is_none() {
            let digits = line
                .strip_prefix("HTTP/1.1 ")
                .and_then(|rest| rest.get(..3));
            let parsed = digits.and_then(|digits| digits.parse().ok());
            status = Some(parsed.ok_or_else(|| invalid(&line))?);
        }
    }
}

/// Reads the event `connected`; returns its time.
fn read_time(reader: &mut impl BufRead) -> io::Result<Option<u64>> {
    let chunk = read_chunk(reader)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&chunk);
    let data = text.lines().find_map(|line| line.strip_prefix("data: "));
    let json = data.and_then(|data| serde_json::from_str::<Value>(data).ok());
    let time = json.and_then(|json| json["timestamp"].as_u64());
    time.map(Some).ok_or_else(|| invalid(&text))
}

/// Reads a chunk; `None` is the last one.
fn read_chunk(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| invalid(&line))?;
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk)?;
    chunk.truncate(size);
    Ok((size > 0).then_some(chunk))
}
