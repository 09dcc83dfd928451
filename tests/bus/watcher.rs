//! A client of the stream: reads events in a thread, and reconnects with its last event id to the same node or to
//! another one, as `EventSource` does behind a load balancer.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::load::{Posted, stored};
use crate::support::PATIENCE;

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

/// An event id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub epoch: u64,
    pub seq: u64,
}

impl Id {
    pub fn parse(text: &str) -> Option<Id> {
        let (epoch, seq) = text.split_once('-')?;
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        let seq = seq.parse().ok()?;
        Some(Id { epoch, seq })
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.seq)
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A message as a stream has shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub id: Id,
    pub message_id: String,
    pub content: String,
    pub session: Option<String>,
    pub timestamp: u64,
}

/// An event other than `connected` and heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Message(Shown),
    /// So many messages are missing here.
    Gap(u64),
}

/// One connection.
#[derive(Debug, Clone, Default)]
pub struct Visit {
    pub node: usize,
    /// The last event id that was sent.
    pub resumed: Option<Id>,
    /// The announced length of the replay, once `connected` has arrived.
    pub replay: Option<u64>,
    /// `connected` had an event id: the stream continues after `resumed`, or there was no history.
    pub continues: bool,
    /// The last event id of any event.
    pub last: Option<Id>,
    pub seen: Vec<Seen>,
    pub heartbeats: u64,
    pub has_ended: bool,
    /// It ended with its last chunk, not with the connection.
    pub ended_well: bool,
}

impl Visit {
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Shown> {
        self.seen.iter().filter_map(|seen| match seen {
            Seen::Message(shown) => Some(shown),
            Seen::Gap(_) => None,
        })
    }

    pub fn gaps(&self) -> Vec<u64> {
        let gap = |seen: &Seen| match seen {
            Seen::Gap(missed) => Some(*missed),
            Seen::Message(_) => None,
        };
        self.seen.iter().filter_map(gap).collect()
    }
}

/// What a client has received.
#[derive(Debug, Clone, Default)]
pub struct Record {
    pub visits: Vec<Visit>,
    /// Message ids on any connection.
    pub known: HashSet<String>,
    /// What no client should receive.
    pub failures: Vec<String>,
}

impl Record {
    /// All messages, in the order of their arrival.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Shown> {
        self.visits.iter().flat_map(Visit::messages)
    }

    pub fn contents(&self) -> Vec<&str> {
        self.messages()
            .map(|shown| shown.content.as_str())
            .collect()
    }

    pub fn current(&self) -> &Visit {
        self.visits.last().expect("it has connected")
    }

    /// The id that a reconnection sends.
    pub fn last_id(&self) -> Option<Id> {
        self.visits.iter().rev().find_map(|visit| visit.last)
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
    query: String,
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
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                record: Record::default(),
                route,
                socket: None,
                is_stopped: false,
            }),
            changed: Condvar::new(),
            roster: roster.clone(),
            query: query.to_owned(),
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

/// Waits until every client has every stored message.
pub fn see_all(watchers: &[Watcher], posted: &[Posted]) {
    let ids = stored(posted);
    for watcher in watchers {
        watcher.wait_for_all(&ids);
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
            {
                let mut state = self.lock();
                state.socket = socket.try_clone().ok();
                if state.is_stopped {
                    return;
                }
            }
            // Nodes that are killed close connections at any moment.
            if let Err(error) = self.visit(socket, node, last) {
                let is_silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                if is_silent || error.kind() == ErrorKind::InvalidData {
                    let failure = format!("node {node}: {error}");
                    self.lock().record.failures.push(failure);
                }
            }
            let mut state = self.lock();
            state.socket = None;
            if let Some(visit) = state.record.visits.last_mut() {
                visit.has_ended = true;
            }
            last = state.record.last_id().or(last);
            drop(state);
            self.changed.notify_all();
        }
    }

    fn visit(&self, mut socket: TcpStream, node: usize, last: Option<Id>) -> io::Result<()> {
        socket.set_read_timeout(Some(PATIENCE))?;
        let resume = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let query = &self.query;
        write!(
            socket,
            "GET /api/webhook/stream{query} HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n"
        )?;
        let mut reader = BufReader::new(socket);
        read_head(&mut reader)?;
        self.lock().record.visits.push(Visit {
            node,
            resumed: last,
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
            state
                .record
                .visits
                .last_mut()
                .expect("connected")
                .heartbeats += 1;
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

/// Reads the head of a chunked 200.
fn read_head(reader: &mut impl BufRead) -> io::Result<()> {
    let mut line = String::new();
    let mut nth = 0;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if nth == 0 && !line.starts_with("HTTP/1.1 200 ") {
            return Err(invalid(&line));
        }
        if line == "\r\n" {
            return Ok(());
        }
        nth += 1;
    }
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
