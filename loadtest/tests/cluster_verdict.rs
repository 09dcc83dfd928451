//! The verdict on a cluster that is broken in one way: nodes of this test with one history, without an engine.
//! Each way must be noticed under its own name, and a correct cluster must have none.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Exit code of `hookcast-load` when a count is not zero.
const EXIT_UNCLEAN: i32 = 3;

const EPOCH: u64 = 0xabc;

/// The seq of the message that is treated wrongly.
const WRONG_SEQ: u64 = 20;

/// What the nodes do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// The second node skips a message.
    Skips,
    /// It skips a message, and announces two.
    SkipsWithWrongGap,
    /// It sends a message twice.
    Repeats,
    /// It sends a message after the next one.
    Swaps,
    /// It has another message at a place.
    Differs,
    /// A message is stored at two places.
    StoresTwice,
    /// A message is acknowledged and not stored.
    Forgets,
    /// A message is refused and stored.
    RefusesAndStores,
    /// A message is acknowledged under another id.
    AnswersOtherId,
    /// Every connection gets the whole history again.
    ForgetsIds,
    /// Streams get the messages of all sessions.
    ShowsAllSessions,
    /// Tokens never end.
    NeverEnds,
}

struct Cluster {
    wrong: Fault,
    /// The sessions and texts of messages; their ids are made of their places.
    history: Mutex<Vec<(Option<String>, String)>>,
    grown: Condvar,
    has_forgotten: AtomicBool,
}

impl Cluster {
    /// Starts nodes, and returns their addresses.
    fn start(wrong: Fault, nodes: usize) -> Vec<SocketAddr> {
        let cluster = Arc::new(Cluster {
            wrong,
            history: Mutex::default(),
            grown: Condvar::new(),
            has_forgotten: AtomicBool::new(false),
        });
        let node = |number: usize| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let cluster = Arc::clone(&cluster);
            thread::spawn(move || {
                for connection in listener.incoming() {
                    let (cluster, connection) = (Arc::clone(&cluster), connection.unwrap());
                    // A client that leaves is no fault.
                    thread::spawn(move || cluster.serve(number, connection).ok());
                }
            });
            address
        };
        (0..nodes).map(node).collect()
    }

    fn serve(&self, node: usize, mut connection: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let field = |name: &str| {
                let line = head.lines().find(|line| line.starts_with(name));
                line.map(|line| line[name.len()..].trim().to_owned())
            };
            if head.starts_with("GET") {
                let query = head
                    .split_whitespace()
                    .nth(1)
                    .and_then(|target| target.split_once('?'));
                let pairs = query.map_or("", |(_, query)| query).split('&');
                let sessions = pairs.filter_map(|pair| pair.strip_prefix("sessionId="));
                let sessions: Vec<String> = sessions.map(str::to_owned).collect();
                return self.stream(node, &sessions, field("Last-Event-ID:"), &mut connection);
            }
            let mut body = vec![0; field("Content-Length:").unwrap().parse().unwrap()];
            reader.read_exact(&mut body)?;
            let body: Value = serde_json::from_slice(&body).unwrap();
            let session = body["sessionId"].as_str().map(str::to_owned);
            let text = body["message"].as_str().unwrap().to_owned();
            connection.write_all(self.publish(session, text).as_bytes())?;
        }
    }

    fn publish(&self, session: Option<String>, text: String) -> String {
        let mut history = self.history.lock().unwrap();
        let seq = history.len() as u64 + 1;
        let is_wrong = seq == WRONG_SEQ;
        let mut id = id(seq);
        match self.wrong {
            // Once: the next message takes the place.
            Fault::Forgets if is_wrong && !self.has_forgotten.swap(true, Relaxed) => {
                return answer(200, &id);
            }
            Fault::StoresTwice if is_wrong => history.push((session.clone(), text.clone())),
            Fault::AnswersOtherId if is_wrong => id = self::id(seq + 1_000_000),
            _ => {}
        }
        history.push((session, text));
        self.grown.notify_all();
        let status = if is_wrong && self.wrong == Fault::RefusesAndStores {
            503
        } else {
            200
        };
        answer(status, &id)
    }

    fn stream(
        &self,
        node: usize,
        sessions: &[String],
        last: Option<String>,
        connection: &mut TcpStream,
    ) -> std::io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        connection.write_all(head.as_bytes())?;
        let last = last.filter(|_| self.wrong != Fault::ForgetsIds);
        let after = last.and_then(|id| id.split_once('-')?.1.parse().ok());
        let mut next: u64 = after.unwrap_or(0) + 1;
        let place = after.map_or_else(String::new, |seq| format!("\nid: {EPOCH:016x}-{seq}"));
        let connected = format!("data: {{\"type\":\"connected\",\"replay\":1}}{place}\n\n");
        connection.write_all(chunk(&connected).as_bytes())?;
        loop {
            let mut history = self.history.lock().unwrap();
            // One more, so that a node can swap two. The last message of a run has none behind it.
            let mut patience = 5;
            while (history.len() as u64) < next || (history.len() as u64 == next && patience > 0) {
                let waited = self.grown.wait_timeout(history, Duration::from_millis(5));
                history = waited.unwrap().0;
                patience -= i32::from(history.len() as u64 == next);
            }
            let sees = |session: &Option<String>| {
                let all = sessions.is_empty() || self.wrong == Fault::ShowsAllSessions;
                all || session
                    .as_ref()
                    .is_none_or(|session| sessions.contains(session))
            };
            let event = |seq: u64| match &history[seq as usize - 1] {
                (session, text) if sees(session) => event(seq, seq, text),
                _ => String::new(),
            };
            let is_wrong = node == 1 && next == WRONG_SEQ;
            let text = match self.wrong {
                Fault::Skips if is_wrong => String::new(),
                Fault::SkipsWithWrongGap if is_wrong => {
                    chunk("data: {\"type\":\"gap\",\"missed\":2}\n\n")
                }
                Fault::Repeats if is_wrong => event(next) + &event(next),
                Fault::Differs if is_wrong => {
                    self::event(next, next - 1, &history[next as usize - 2].1)
                }
                Fault::Swaps if is_wrong && history.len() as u64 > next => {
                    next += 1;
                    event(next) + &event(next - 1)
                }
                _ => event(next),
            };
            drop(history);
            next += 1;
            connection.write_all(text.as_bytes())?;
        }
    }
}

fn id(seq: u64) -> String {
    format!("0190163d-8694-739b-aea5-{seq:012x}")
}

fn event(seq: u64, id_seq: u64, text: &str) -> String {
    let id = id(id_seq);
    chunk(&format!(
        "data: {{\"type\":\"webhook_message\",\"id\":\"{id}\",\"content\":\"{text}\"}}\nid: {EPOCH:016x}-{seq}\n\n"
    ))
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

fn answer(status: u16, id: &str) -> String {
    let body = format!("{{\"success\":true,\"messageId\":\"{id}\",\"timestamp\":1}}");
    format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Runs a load on such a cluster. Returns the counts that are not zero, and the exit status.
fn faults(wrong: Fault) -> (Vec<String>, i32) {
    faults_of(wrong, &["--duration", "600ms"])
}

fn faults_of(wrong: Fault, options: &[&str]) -> (Vec<String>, i32) {
    let nodes = Cluster::start(wrong, 2);
    let output = Command::new(env!("CARGO_BIN_EXE_hookcast-load"))
        .args(["cluster", "--json", "--streams", "6", "--rate", "100"])
        .args(options)
        .args([
            "--wander",
            if wrong == Fault::ForgetsIds {
                "200ms"
            } else {
                "0s"
            },
        ])
        .args(nodes.iter().map(|node| format!("--node={node}")))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
    let counts = json["faults"].as_object().unwrap();
    let found = counts.iter().filter(|(_, count)| **count != 0);
    (
        found.map(|(name, _)| name.clone()).collect(),
        output.status.code().unwrap(),
    )
}

#[test]
fn a_correct_cluster_has_no_fault() {
    assert_eq!(faults(Fault::Nothing), (Vec::new(), 0));
}

#[test]
fn each_fault_is_noticed_under_its_name() {
    for (wrong, names) in [
        (Fault::Skips, &["holes", "lost"][..]),
        (Fault::SkipsWithWrongGap, &["wrong_gaps"]),
        (Fault::Repeats, &["repeated"]),
        (Fault::Swaps, &["holes", "out_of_order"]),
        (Fault::Differs, &["differing"]),
        (Fault::StoresTwice, &["doubled", "repeated"]),
        (Fault::Forgets, &["lost", "wrong_200"]),
        (Fault::RefusesAndStores, &["wrong_503"]),
        (Fault::AnswersOtherId, &["wrong_ids"]),
        (Fault::ForgetsIds, &["needless_replays"]),
    ] {
        // Further names depend on the node whose streams are read first.
        let (found, status) = faults(wrong);
        let has = |name: &&str| found.iter().any(|found| found == name);
        assert!(names.iter().all(has), "{wrong:?}: {found:?}, not {names:?}");
        assert_eq!(status, EXIT_UNCLEAN, "{wrong:?}");
    }
}

const SESSIONS: [&str; 6] = [
    "--duration",
    "600ms",
    "--sessions",
    "3",
    "--sessions-per-stream",
    "2",
];

#[test]
fn a_stream_of_several_sessions_sees_exactly_their_messages() {
    assert_eq!(faults_of(Fault::Nothing, &SESSIONS), (Vec::new(), 0));
    let (found, status) = faults_of(Fault::ShowsAllSessions, &SESSIONS);
    assert_eq!((found, status), (vec!["foreign".into()], EXIT_UNCLEAN));
    for (wrong, name) in [
        (Fault::Repeats, "repeated"),
        (Fault::ForgetsIds, "needless_replays"),
    ] {
        let (found, status) = faults_of(wrong, &SESSIONS);
        assert!(
            found.iter().any(|found| found == name),
            "{wrong:?}: {found:?}"
        );
        assert_eq!(status, EXIT_UNCLEAN);
    }
}

#[test]
fn a_stream_that_outlives_its_token_is_noticed() {
    let options = ["--duration", "3500ms", "--token-life", "1s"];
    let (found, status) = faults_of(Fault::NeverEnds, &options);
    assert_eq!((found, status), (vec!["ended_late".into()], EXIT_UNCLEAN));
}
