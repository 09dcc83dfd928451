//! Restarts under load, in both ways: the server hands over to a successor on SIGUSR2, or a supervisor holds the
//! listening socket and starts one server after the other. No connection is refused, every webhook gets a 200, and
//! no message is lost or repeated.
//!
//! `RESTARTS=200 cargo test --test operations restart:: -- --nocapture` restarts 200 times instead of 20.

mod handover;
mod supervisor;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{Connection, Ending, EventStream, paced};

const STREAMS: usize = 12;
/// Time between two webhooks of a publisher. Four publishers send about 130 a second. So a stream that reconnects
/// misses fewer than the 100 messages that a restart keeps.
const PACE: Duration = Duration::from_millis(30);
/// Clients wait this fraction of `retry`, to shorten the test.
const RETRY_DIVISOR: u64 = 10;

fn restarts() -> usize {
    std::env::var("RESTARTS").map_or(20, |text| text.parse().unwrap())
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn request(body: &str, headers: &str) -> String {
    format!("POST /api/webhook HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

/// The results of publishers and streams, while one server follows another at one address.
struct Load {
    address: SocketAddr,
    stop: AtomicBool,
    /// Acknowledged contents in order, by publisher.
    acknowledged: Mutex<BTreeMap<usize, Vec<String>>>,
    /// The longest wait of a webhook for its answer, and of a stream for its first event.
    waits: Mutex<(Duration, Duration)>,
    /// Event ids and contents, by stream.
    received: Mutex<Vec<Vec<(String, String)>>>,
    reconnects: Mutex<usize>,
}

/// How a publisher uses connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    /// A connection for each webhook.
    None,
    /// One connection, kept from the first server to the last.
    KeepAlive,
    /// One connection; chunked bodies in two writes.
    Chunked,
    /// One connection; a pause before the end of each body.
    PausedBody,
}

impl Load {
    fn new(address: SocketAddr) -> Load {
        Load {
            address,
            stop: AtomicBool::new(false),
            acknowledged: Mutex::default(),
            waits: Mutex::default(),
            received: Mutex::default(),
            reconnects: Mutex::new(0),
        }
    }

    /// Runs publishers and streams until `restart_all` returns, then checks.
    fn run(&self, reuses: &[Reuse], restart_all: impl FnOnce()) {
        // A stream that reconnects late would miss more than a restart keeps.
        let _paced = paced();
        let all_open = Barrier::new(STREAMS + 1);
        thread::scope(|scope| {
            for _ in 0..STREAMS {
                scope.spawn(|| self.stream(&all_open));
            }
            all_open.wait();
            let publishers: Vec<_> = reuses
                .iter()
                .enumerate()
                .map(|(publisher, &reuse)| scope.spawn(move || self.publish(publisher, reuse)))
                .collect();
            restart_all();
            self.stop.store(true, Relaxed);
            for publisher in publishers {
                publisher.join().unwrap();
            }
            let mut last = Connection::open(self.address);
            let body = json!({ "message": "last" }).to_string();
            last.send_request("POST", "/api/webhook", "", body.as_bytes());
            assert_eq!(last.read_response().status, 200);
        });
        self.check();
    }

    fn publish(&self, publisher: usize, reuse: Reuse) {
        let mut kept = Connection::open(self.address);
        let mut number = 0;
        while !self.stop.load(Relaxed) {
            let content = format!("{publisher}/{number}");
            number += 1;
            let body = json!({ "message": content }).to_string();
            let length = format!("Content-Length: {}\r\n", body.len());
            let began = Instant::now();
            let response = match reuse {
                Reuse::None => {
                    let mut connection = Connection::open(self.address);
                    connection.send(request(&body, &length).as_bytes());
                    connection.read_response()
                }
                Reuse::KeepAlive => {
                    kept.send(request(&body, &length).as_bytes());
                    kept.read_response()
                }
                Reuse::PausedBody => {
                    let whole = request(&body, &length);
                    let (head, rest) = whole.split_at(whole.len() - 5);
                    kept.send(head.as_bytes());
                    thread::sleep(PACE);
                    kept.send(rest.as_bytes());
                    kept.read_response()
                }
                Reuse::Chunked => {
                    let (first, second) = body.split_at(7);
                    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
                    let head = request(&chunk(first), "Transfer-Encoding: chunked\r\n");
                    kept.send(head.as_bytes());
                    thread::sleep(PACE);
                    kept.send(format!("{}0\r\n\r\n", chunk(second)).as_bytes());
                    kept.read_response()
                }
            };
            assert_eq!(response.status, 200, "{response:?}");
            let waited = began.elapsed();
            self.note_wait(|(webhook, _)| *webhook = waited.max(*webhook));
            let mut acknowledged = self.acknowledged.lock().unwrap();
            acknowledged.entry(publisher).or_default().push(content);
            drop(acknowledged);
            // The pace of the load. No check depends on it.
            thread::sleep(PACE);
        }
    }

    /// Acts as an `EventSource`: reconnects when its stream ends, with the last id that it received.
    fn stream(&self, all_open: &Barrier) {
        let mut received: Vec<(String, String)> = Vec::new();
        let mut retry_ms = 0;
        let mut is_first = true;
        loop {
            let header = received
                .last()
                .map(|(id, _)| format!("Last-Event-ID: {id}\r\n"));
            let began = Instant::now();
            let mut stream = EventStream::open(self.address, "", &header.unwrap_or_default());
            while let Some(event) = stream.next_event() {
                retry_ms = event.retry_ms.unwrap_or(retry_ms);
                if event.is_heartbeat() || event.is_end() {
                    continue;
                }
                if event.json()["type"] == "connected" {
                    self.note_wait(|(_, stream)| *stream = began.elapsed().max(*stream));
                    if std::mem::take(&mut is_first) {
                        all_open.wait();
                    }
                    continue;
                }
                let content = event.content();
                received.push((event.id.unwrap(), content));
                if received
                    .last()
                    .is_some_and(|(_, content)| content == "last")
                {
                    self.received.lock().unwrap().push(received);
                    return;
                }
            }
            let (ending, _) = stream.drain();
            // A declined stream ends at once, with a `Content-Length`.
            let is_declined = stream.head.header("content-length").is_some();
            assert!(
                is_declined || ending == Ending::LastChunk,
                "a stream was cut off"
            );
            *self.reconnects.lock().unwrap() += 1;
            thread::sleep(Duration::from_millis(retry_ms / RETRY_DIVISOR));
        }
    }

    fn note_wait(&self, note: impl FnOnce(&mut (Duration, Duration))) {
        note(&mut self.waits.lock().unwrap());
    }

    fn check(&self) {
        let acknowledged = self.acknowledged.lock().unwrap();
        let total: usize = acknowledged.values().map(Vec::len).sum();
        let received = self.received.lock().unwrap();
        assert_eq!(received.len(), STREAMS);
        for stream in received.iter() {
            assert_eq!(stream, &received[0], "streams differ");
        }
        let seqs = received[0].iter().map(|(id, _)| {
            let (_, seq) = id.split_once('-').unwrap();
            seq.parse::<u64>().unwrap()
        });
        assert!(
            seqs.eq(1..=total as u64 + 1),
            "event ids have holes or start again"
        );
        for (publisher, contents) in acknowledged.iter() {
            let prefix = format!("{publisher}/");
            let seen: Vec<&String> = received[0]
                .iter()
                .map(|(_, content)| content)
                .filter(|content| content.starts_with(&prefix))
                .collect();
            assert!(seen.iter().copied().eq(contents), "publisher {publisher}");
        }
        let (webhook, stream) = *self.waits.lock().unwrap();
        let reconnects = *self.reconnects.lock().unwrap();
        println!(
            "{total} webhooks, each once on {STREAMS} streams with {reconnects} reconnects; \
             longest wait of a webhook {webhook:?}, of a stream {stream:?}"
        );
    }
}

const STATUS: &[u8] = b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
