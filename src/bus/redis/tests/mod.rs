//! The two halves against a real engine: Debian's `redis-server` on a free port of loopback.

mod append;
mod begin;
mod census;
mod check;
mod fault;
mod identities;
mod read;
mod tls;
mod way;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::connection::Engine;
use super::scripts::Keys;
use super::wire::{Command as EngineCommand, Value};
use super::{halves, reply};
use crate::bus::engine::{
    Append, Appended, Begin, Fault, Keep, Outgoing, Producer, Reader, Snapshot, Writer,
};
use crate::config::{BusAddress, BusConfig, Secret};
use crate::message::{Epoch, Message, MessageId, SessionId};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// The time in which an engine starts on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const LOG_FILE: &str = "log";

const PRODUCER: Producer = Producer(7);
const NAME: &str = "t";
const LOG: &str = "{t}:s";
const RECORD: &str = "{t}:m";
const PROBES: &str = "{t}:p";

/// A running engine; killed when dropped.
struct Server {
    child: Child,
    port: u16,
    directory: TempDir,
    lines: Vec<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts an engine with further lines of configuration. `None` if there is none on this machine; `tests/run`
    /// installs it and sets `REQUIRE_TOOLS`, so that its absence is a failure there.
    fn start(lines: &[&str]) -> Option<Server> {
        Server::start_as("redis-server", lines)
    }

    fn start_as(program: &str, lines: &[&str]) -> Option<Server> {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        // Another process may take the free port first.
        for _ in 0..10 {
            let directory = tempfile::tempdir().unwrap();
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let child = match spawn(program, port, &directory, &lines) {
                Ok(child) => child,
                Err(error) if std::env::var_os("REQUIRE_TOOLS").is_none() => {
                    eprintln!("not checked: {program} cannot be run: {error}");
                    return None;
                }
                Err(error) => panic!("{program}: {error}"),
            };
            let mut server = Server {
                child,
                port,
                directory,
                lines: lines.clone(),
            };
            if server.has_started() {
                return Some(server);
            }
        }
        panic!("{program} does not start");
    }

    /// Waits until its log says that it takes connections: another process may have the port, and take one.
    fn has_started(&mut self) -> bool {
        let log = self.directory.path().join(LOG_FILE);
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if text.contains("Ready to accept connections") {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the engine takes no connections");
    }

    /// Kills the engine and starts it again on the same port and files.
    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn("redis-server", self.port, &self.directory, &self.lines).unwrap();
        assert!(self.has_started());
        let since = Instant::now();
        while self.ask(&["PING"]).is_err() {
            assert!(since.elapsed() < PATIENCE);
        }
    }

    fn config(&self) -> BusConfig {
        config(&format!("redis://127.0.0.1:{}/t", self.port))
    }

    /// A node's two halves.
    fn node(&self) -> Node {
        Node::new(&self.config())
    }

    /// The answer to a command of the test.
    fn ask(&self, words: &[&str]) -> Result<Value, Fault> {
        ask(&self.config(), words)
    }

    fn do_it(&self, line: &str) -> Value {
        let words: Vec<&str> = line.split(' ').collect();
        self.ask(&words)
            .unwrap_or_else(|fault| panic!("{line}: {fault:?}"))
    }
}

fn ask(config: &BusConfig, words: &[&str]) -> Result<Value, Fault> {
    let mut command = EngineCommand::new(words[0]);
    command.args(&words[1..]);
    let mut engine = Engine::new(config).unwrap();
    engine.ask(&command, Instant::now() + PATIENCE, 1 << 30)
}

fn spawn(
    program: &str,
    port: u16,
    directory: &TempDir,
    lines: &[String],
) -> std::io::Result<Child> {
    let path = directory.path().join("redis.conf");
    let mut text = format!(
        "bind 127.0.0.1\nport {port}\ndir {}\nsave \"\"\nenable-debug-command yes\nlogfile {LOG_FILE}\n",
        directory.path().display()
    );
    // That of an earlier start.
    let _ = std::fs::remove_file(directory.path().join(LOG_FILE));
    text += &lines.join("\n");
    text += "\n";
    std::fs::write(&path, text)?;
    Command::new(program)
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn config(address: &str) -> BusConfig {
    BusConfig {
        address: BusAddress::parse(address).unwrap(),
        password: None,
        ca_pem: None,
        identity: None,
        timeout: Duration::from_secs(10),
        replicas: 0,
        history_messages: 1_000,
        body_bytes_max: 65_536,
    }
}

fn with_password(config: BusConfig, password: &str) -> BusConfig {
    BusConfig {
        password: Some(Secret::parse(password, "--bus-password-file").unwrap()),
        ..config
    }
}

/// A node: both halves, and what it believes.
struct Node {
    writer: Box<dyn Writer>,
    reader: Box<dyn Reader>,
    producer: Producer,
    epoch: Epoch,
    number: u64,
}

impl Node {
    fn new(config: &BusConfig) -> Node {
        let (writer, reader) = halves(config).unwrap();
        Node {
            writer,
            reader,
            producer: PRODUCER,
            epoch: Epoch(0),
            number: 0,
        }
    }

    /// Begins an epoch on what the engine holds now; the messages are put back up to the last seq.
    fn begin(&mut self, epoch: u64, put_back: &[(u64, Arc<Message>)]) -> bool {
        let seen = self.writer.snapshot().unwrap();
        self.begin_on(&seen, epoch, put_back)
    }

    fn begin_on(&mut self, seen: &Snapshot, epoch: u64, put_back: &[(u64, Arc<Message>)]) -> bool {
        self.epoch = Epoch(epoch);
        let last_seq = put_back.last().map(|(seq, _)| *seq);
        let last_seq = last_seq.or(seen.last.map(|last| last.seq)).unwrap_or(0);
        let lineage = match &seen.lineage {
            Some(lineage) => lineage.next(Epoch(epoch), last_seq),
            None if last_seq > 0 => Lineage::new(Epoch(1)).next(Epoch(epoch), last_seq),
            None => Lineage::new(Epoch(epoch)),
        };
        let begin = Begin {
            seen,
            lineage: &lineage,
            put_back,
            body_bytes_max: 65_536,
        };
        self.writer.begin(&begin).unwrap()
    }

    fn append(&mut self, messages: &[Outgoing]) -> Result<Appended, Fault> {
        let first_number = self.number + 1;
        self.number += messages.len() as u64;
        self.append_from(first_number, messages, None)
    }

    fn append_from(
        &mut self,
        first_number: u64,
        messages: &[Outgoing],
        probe: Option<u64>,
    ) -> Result<Appended, Fault> {
        self.writer.append(&Append {
            epoch: self.epoch,
            producer: self.producer,
            first_number,
            messages,
            probe,
            keep: Keep::All,
            replicas: 0,
        })
    }

    /// All entries after an id.
    fn read(&mut self, after: EventId) -> Vec<crate::bus::engine::Entry> {
        self.reader
            .read(after, Duration::from_millis(1))
            .unwrap()
            .entries
    }
}

fn id(epoch: u64, seq: u64) -> EventId {
    EventId {
        epoch: Epoch(epoch),
        seq,
    }
}

fn message(content: &str) -> Arc<Message> {
    Arc::new(Message {
        id: MessageId::from_u128(content.len() as u128 + 1),
        timestamp_ms: 5,
        session: SessionId::parse(if content.contains("for s") { "s" } else { "" }).unwrap(),
        content: content.into(),
        label: None,
        identity: None,
    })
}

fn outgoing(contents: &[&str]) -> Vec<Outgoing> {
    contents
        .iter()
        .map(|content| Outgoing {
            message: message(content),
            keeps_time: false,
        })
        .collect()
}

fn stored(messages: usize) -> Appended {
    Appended::Stored {
        messages,
        replicas: 0,
        repeats: Vec::new(),
        fault: None,
    }
}

fn content_of(entry: &crate::bus::engine::Entry) -> &str {
    match &entry.content {
        crate::bus::engine::Content::Message(message) => &message.content,
        other => panic!("{other:?}"),
    }
}

fn seqs_and_contents(entries: &[crate::bus::engine::Entry]) -> Vec<(u64, &str)> {
    entries
        .iter()
        .map(|entry| (entry.id.seq, content_of(entry)))
        .collect()
}

/// A field of the record.
fn field(server: &Server, name: &str) -> Option<String> {
    let value = server.ask(&["HGET", RECORD, name]).unwrap();
    reply::text(&value).map(str::to_owned)
}
