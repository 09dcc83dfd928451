//! Webhooks with known outcomes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::PATIENCE;
use crate::watcher::Roster;

/// What the sender of a webhook knows afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 200.
    Stored { message_id: String, timestamp: u64 },
    /// 503 with `Retry-After`: certainly not stored.
    Refused,
    /// 504, or no answer.
    Unknown,
    /// No connection: the request was not sent.
    Unsent,
}

/// A webhook that was sent.
#[derive(Debug, Clone)]
pub struct Posted {
    pub content: String,
    /// Its session; `None`: for everyone.
    pub session: Option<String>,
    pub node: usize,
    pub outcome: Outcome,
    /// The error of a refusal, or why there was no answer.
    pub error: String,
    pub took: Duration,
}

impl Posted {
    pub fn is_stored(&self) -> bool {
        matches!(self.outcome, Outcome::Stored { .. })
    }

    pub fn message_id(&self) -> &str {
        match &self.outcome {
            Outcome::Stored { message_id, .. } => message_id,
            other => panic!("{other:?}: {self:?}"),
        }
    }
}

/// The ids of the stored messages.
pub fn stored<'a>(posted: impl IntoIterator<Item = &'a Posted>) -> Vec<String> {
    let stored = posted.into_iter().filter(|posted| posted.is_stored());
    stored
        .map(|posted| posted.message_id().to_owned())
        .collect()
}

/// A connection to a node, kept between requests.
#[derive(Default)]
pub struct Sender {
    connection: Option<(SocketAddr, BufReader<TcpStream>)>,
}

impl Sender {
    /// Sends a webhook and waits for its outcome. A status that no bus should cause fails the test.
    pub fn post(
        &mut self,
        roster: &Roster,
        node: usize,
        content: &str,
        session: Option<&str>,
    ) -> Posted {
        let begin = Instant::now();
        let (outcome, error) = self.outcome(roster.address(node), content, session);
        Posted {
            content: content.to_owned(),
            session: session.map(str::to_owned),
            node,
            outcome,
            error,
            took: begin.elapsed(),
        }
    }

    fn outcome(
        &mut self,
        address: Option<SocketAddr>,
        content: &str,
        session: Option<&str>,
    ) -> (Outcome, String) {
        let Some(address) = address else {
            return (Outcome::Unsent, "the node is down".into());
        };
        let kept = self
            .connection
            .take()
            .filter(|(other, _)| *other == address);
        let connected = match kept {
            Some((_, connection)) => Ok(connection),
            None => open(address),
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => return (Outcome::Unsent, error.to_string()),
        };
        match exchange(&mut connection, content, session) {
            Ok((answer, is_kept)) => {
                if is_kept {
                    self.connection = Some((address, connection));
                }
                answer
            }
            Err(error) => (Outcome::Unknown, error.to_string()),
        }
    }
}

fn open(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(BufReader::new(socket))
}

fn exchange(
    connection: &mut BufReader<TcpStream>,
    content: &str,
    session: Option<&str>,
) -> io::Result<((Outcome, String), bool)> {
    let mut body = json!({ "message": content });
    if let Some(session) = session {
        body["sessionId"] = session.into();
    }
    let body = body.to_string();
    let request = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.get_mut().write_all(request.as_bytes())?;
    let (mut status, mut length, mut has_retry, mut is_kept) = (0, 0, false, true);
    for nth in 0.. {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if nth == 0 {
            status = line
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok())
                .unwrap_or(0);
        } else if line.is_empty() {
            break;
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
        has_retry |= line.starts_with("retry-after: ");
        is_kept &= line != "connection: close";
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    let json: Value = serde_json::from_slice(&body)?;
    let error = json["error"].as_str().unwrap_or_default().to_owned();
    let outcome = match status {
        200 => Outcome::Stored {
            message_id: json["messageId"].as_str().expect("an id").to_owned(),
            timestamp: json["timestamp"].as_u64().expect("a time"),
        },
        503 => {
            assert!(has_retry, "a 503 without Retry-After: {json}");
            Outcome::Refused
        }
        504 => Outcome::Unknown,
        status => panic!("status {status} for {content}: {json}"),
    };
    Ok(((outcome, error), is_kept))
}

/// Publishers of distinct messages, a thread each.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Vec<Posted>>>,
}

/// What one thread sends.
struct Publisher {
    node: usize,
    name: String,
    pause: Duration,
    sessions: Vec<String>,
}

impl Publisher {
    fn session(&self, number: usize) -> Option<&str> {
        let is_for_all = number.is_multiple_of(3) || self.sessions.is_empty();
        // 7 is coprime to the usual numbers of sessions, so consecutive messages have distant ones.
        (!is_for_all).then(|| &*self.sessions[number * 7 % self.sessions.len()])
    }
}

#[derive(Default)]
struct Shared {
    is_stopped: AtomicBool,
    stored: Mutex<u64>,
    changed: Condvar,
}

impl Load {
    /// Starts `per_node` publishers for each node. Each waits for an answer, then for `pause`.
    pub fn start(roster: &Roster, per_node: usize, pause: Duration) -> Load {
        Load::start_for(roster, per_node, pause, &[])
    }

    /// The same for these sessions: of each publisher, every third message is for everyone, the others are for one
    /// session after the other. Without sessions all are for everyone.
    pub fn start_for(
        roster: &Roster,
        per_node: usize,
        pause: Duration,
        sessions: &[String],
    ) -> Load {
        // Loads of one test have distinct contents.
        static LOADS: AtomicU64 = AtomicU64::new(0);
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared::default());
        let threads = (0..roster.len() * per_node).map(|nth| {
            let (shared, roster) = (Arc::clone(&shared), roster.clone());
            let mut sessions = sessions.to_vec();
            // Publishers begin with different sessions.
            let first = nth % sessions.len().max(1);
            sessions.rotate_left(first);
            let publisher = Publisher {
                node: nth % roster.len(),
                name: format!("load {load}.{nth}"),
                pause,
                sessions,
            };
            thread::spawn(move || shared.publish(&roster, &publisher))
        });
        Load {
            threads: threads.collect(),
            shared,
        }
    }

    /// Waits for so many more stored messages.
    pub fn wait_for_stored(&self, more: u64) {
        let stored = self.shared.stored.lock().unwrap();
        let goal = *stored + more;
        let waited = self
            .shared
            .changed
            .wait_timeout_while(stored, PATIENCE, |stored| *stored < goal);
        let (stored, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(
            !timeout.timed_out(),
            "only {stored} of {goal} messages were stored"
        );
    }

    /// Ends the publishers and returns what they have sent.
    pub fn stop(mut self) -> Vec<Posted> {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        let posted = threads
            .into_iter()
            .map(|thread| thread.join().expect("no odd answer"));
        posted.flatten().collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn publish(&self, roster: &Roster, publisher: &Publisher) -> Vec<Posted> {
        let mut sender = Sender::default();
        let mut all = Vec::new();
        while !self.is_stopped.load(Ordering::Relaxed) {
            let number = all.len();
            let content = format!("{}.{number}", publisher.name);
            let session = publisher.session(number);
            let posted = sender.post(roster, publisher.node, &content, session);
            if posted.outcome == Outcome::Unsent {
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            if posted.is_stored() {
                *self.stored.lock().unwrap() += 1;
                self.changed.notify_all();
            }
            all.push(posted);
            thread::sleep(publisher.pause);
        }
        all
    }
}
