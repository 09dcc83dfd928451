//! Identities over kills, restarts and handovers: a retry is published once, and never swallowed. `CUTS` sets
//! the number of kills between an accept and its retry, `SEED` their times.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Response, Server};

const CUTS_DEFAULT: usize = 25;

/// Webhooks that are sent at once, of which a kill may hit any.
const BURST: usize = 4;

fn post(server: &Server, nth: usize) -> Response {
    server.request("POST", "/api/webhook", &key(nth), body(nth).as_bytes())
}

fn key(nth: usize) -> String {
    format!("Idempotency-Key: webhook-{nth}\r\n")
}

fn body(nth: usize) -> String {
    json!({ "message": format!("webhook {nth}") }).to_string()
}

fn id(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["messageId"].clone()
}

/// How often each webhook is in the history: a new stream, as a client has it after the kill.
fn count(server: &Server, nth: usize) -> usize {
    let content = format!("webhook {nth}");
    let history = server.history();
    history.iter().filter(|found| **found == content).count()
}

/// Pushes everything out of the ring.
fn push_out(server: &Server) {
    let mut connection = server.connect();
    let body = json!({ "message": "other" }).to_string();
    let request = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..10 {
        connection.send(request.repeat(11).as_bytes());
        for _ in 0..11 {
            assert_eq!(connection.read_response().status, 200);
        }
    }
}

#[test]
fn a_kill_between_accept_and_retry_publishes_once() {
    kill_and_retry("process", 2_000);
}

#[test]
fn a_kill_between_accept_and_retry_publishes_once_while_commits_wait_for_the_disk() {
    kill_and_retry("disk", 8_000);
}

fn kill_and_retry(durability: &str, burst_us: u64) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..));
    let cuts = number("CUTS").map_or(CUTS_DEFAULT, |cuts: u64| cuts as usize);
    println!("seed {seed}; SEED={seed} kills at the same times");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = Server::start(&["--durability", durability]);
    let mut next = 0;
    let (mut accepted, mut stored) = (0, 0);
    let mut older: Vec<(usize, Value)> = Vec::new();
    for cut in 0..cuts {
        let numbers = next..next + BURST;
        next += BURST;
        // All are sent, and the kill comes at some moment before, between or after their answers.
        let mut connection = server.connect();
        let mut requests = Vec::new();
        for nth in numbers.clone() {
            let (key, body) = (key(nth), body(nth));
            let length = body.len();
            let request = format!(
                "POST /api/webhook HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {length}\r\n\r\n{body}"
            );
            requests.extend(request.into_bytes());
        }
        connection.send(&requests);
        let moment = Instant::now() + Duration::from_micros(random.u64(..burst_us));
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        server.kill();
        let answers = String::from_utf8(connection.read_to_end()).unwrap();
        let answers = answers.matches("\"messageId\"").count();
        server = server.restart();
        for (place, nth) in numbers.clone().enumerate() {
            let held = count(&server, nth);
            assert!(held <= 1, "cut {cut}: webhook {nth}");
            assert!(
                held == 1 || place >= answers,
                "cut {cut}: {nth} was acknowledged"
            );
            stored += held;
        }
        accepted += answers;
        let is_late = random.u8(..5) == 0;
        let before: Vec<usize> = numbers.clone().map(|nth| count(&server, nth)).collect();
        if is_late {
            push_out(&server);
        }
        for (nth, before) in numbers.zip(before) {
            let first = id(&post(&server, nth));
            assert_eq!(id(&post(&server, nth)), first, "cut {cut}");
            let expected = if is_late { 1 - before } else { 1 };
            assert_eq!(count(&server, nth), expected, "cut {cut}: webhook {nth}");
            older.push((nth, first));
        }
        // A late retry of any earlier one.
        let (nth, first) = &older[random.usize(..older.len())];
        assert_eq!(id(&post(&server, *nth)), *first, "cut {cut}: webhook {nth}");
    }
    println!(
        "{durability}: {cuts} kills, {} webhooks, {accepted} acknowledged and {stored} stored before the kill",
        cuts * BURST
    );
}

/// The file beside the ring knows what has left the ring.
#[test]
fn an_identity_is_known_after_its_message_has_left_the_ring() {
    let mut server = Server::start(&[]);
    let path = {
        let mut path = server.setup().ring().into_os_string();
        path.push(".identities");
        std::path::PathBuf::from(path)
    };
    server.publish("without a key");
    assert!(!path.exists(), "the file is made with the first identity");
    let first = id(&post(&server, 1));
    push_out(&server);
    assert_eq!(count(&server, 1), 0);
    assert_eq!(id(&post(&server, 1)), first);
    for signal in [Signal::KILL, Signal::TERM] {
        server.signal(signal);
        server.wait();
        server = server.restart();
        assert_eq!(id(&post(&server, 1)), first, "{signal:?}");
        assert_eq!(count(&server, 1), 0);
    }
    // A damaged file is no reason not to serve: the identity is forgotten, and the retry is published.
    server.kill();
    std::fs::write(&path, b"HOOKIDEN and nothing more").unwrap();
    server = server.restart();
    server.wait_for_log("the file of identities beside the ring is damaged");
    let second = id(&post(&server, 1));
    assert_ne!(second, first);
    push_out(&server);
    server.kill();
    let server = server.restart();
    assert_eq!(id(&post(&server, 1)), second);
}

/// A directory at its path stands for every fault of the file.
#[test]
fn without_a_usable_file_identities_are_known_in_memory() {
    let server = Server::start(&[]);
    let mut path = server.setup().ring().into_os_string();
    path.push(".identities");
    std::fs::create_dir(&path).unwrap();
    let first = id(&post(&server, 1));
    server.wait_for_log("the file of identities beside the ring fails");
    push_out(&server);
    assert_eq!(id(&post(&server, 1)), first);
    assert_eq!(count(&server, 1), 0);
}
