//! `--max-connections-per-ip`: connections count for their address. Behind a trusted proxy a client's request counts,
//! from its head to its end, whatever that end is.

use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::loopback::{connect_from, wait_until_read};
use crate::support::{Connection, EventStream, PATIENCE, Response, Server};

/// One place for each client of the proxy.
const PROXIED: [&str; 4] = [
    "--trusted-proxy",
    "127.0.0.1",
    "--max-connections-per-ip",
    "1",
];
const CLIENT: &str = "X-Forwarded-For: 192.0.2.1\r\n";
const BODY: &[u8] = br#"{"message":"in two parts"}"#;

fn head(path: &str, fields: &str) -> Vec<u8> {
    let length = BODY.len();
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{CLIENT}{fields}Content-Length: {length}\r\n\r\n")
        .into_bytes()
}

/// Sends a webhook of the client with half of its body.
fn begin_upload(server: &Server) -> Connection {
    let mut connection = server.connect();
    connection.send(&[&head("/api/webhook", ""), &BODY[..10]].concat());
    connection
}

/// A webhook of the client whose head and half of whose body the server has read.
fn upload(server: &Server) -> Connection {
    let connection = begin_upload(server);
    wait_until_read(server.address.port());
    connection
}

/// The status of a further request of the client.
fn status(server: &Server) -> u16 {
    server.request("GET", "/api/webhook", CLIENT, b"").status
}

fn wait_for_a_place(server: &Server, why: &str) {
    let deadline = Instant::now() + PATIENCE;
    while status(server) != 200 {
        assert!(
            Instant::now() < deadline,
            "the place does not become free after: {why}"
        );
    }
}

/// A stream of the client. The place of its last request becomes free only after the answer is sent, so the
/// first attempt on another shard may be too early.
fn stream(server: &Server) -> EventStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut connection = server.connect();
        connection.send_request("GET", "/api/webhook/stream", CLIENT, b"");
        let mut stream = EventStream::read(connection);
        let first = stream.next_event().expect("a stream begins with an event");
        if first.data.is_some_and(|data| data.contains("connected")) {
            return stream;
        }
        assert!(Instant::now() < deadline, "the place does not become free");
    }
}

#[test]
fn incomplete_uploads_count_and_further_ones_are_refused_at_their_heads() {
    let flags = [&PROXIED[..3], &["2", "--shards", "2"]].concat();
    let server = Server::start(&flags);
    let mut counted = [upload(&server), upload(&server)];
    let refused: Vec<Connection> = (0..38).map(|_| begin_upload(&server)).collect();
    // Other clients are not affected.
    let other = "X-Forwarded-For: 192.0.2.2\r\n";
    assert_eq!(
        server.request("POST", "/api/webhook", other, BODY).status,
        200
    );
    for mut connection in refused {
        let answer = connection.read_response();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (503, Some("close"))
        );
        assert!(answer.header("retry-after").is_some());
    }
    for connection in &mut counted {
        connection.send(&BODY[10..]);
        assert_eq!(connection.read_response().status, 200);
    }
}

#[test]
fn a_place_becomes_free_when_its_request_is_answered() {
    let server = Server::start(&PROXIED);
    // The place is taken until the answer.
    let mut first = upload(&server);
    assert_eq!(status(&server), 503);
    first.send(&BODY[10..]);
    assert_eq!(first.read_response().status, 200);
    assert_eq!(status(&server), 200);
    // The connection continues, and its next request counts again.
    first.send(&[&head("/api/webhook", ""), &BODY[..10]].concat());
    wait_until_read(server.address.port());
    assert_eq!(status(&server), 503);
    first.send(&BODY[10..]);
    assert_eq!(first.read_response().status, 200);

    // A request that ends its connection: its place is free while the connection lingers.
    let mut last = server.connect();
    last.send(&[&head("/api/webhook", "Connection: close\r\n"), BODY].concat());
    assert_eq!(last.read_response().status, 200);
    assert_eq!(status(&server), 200);
    last.expect_close();
}

#[test]
fn a_100_continue_does_not_free_the_place() {
    let server = Server::start(&PROXIED);
    let mut waiting = server.connect();
    waiting.send(&head("/api/webhook", "Expect: 100-continue\r\n"));
    assert_eq!(waiting.read_head().status, 100);
    assert_eq!(status(&server), 503);
    waiting.send(BODY);
    assert_eq!(waiting.read_response().status, 200);
    assert_eq!(status(&server), 200);
}

/// The answer comes before the body. The request counts until the body is skipped.
#[test]
fn a_skipped_body_counts_to_its_end() {
    let server = Server::start(&PROXIED);
    let mut refused = server.connect();
    refused.send(&[&head("/nowhere", ""), &BODY[..10]].concat());
    assert_eq!(refused.read_response().status, 404);
    assert_eq!(status(&server), 503);
    refused.send(&BODY[10..]);
    wait_for_a_place(&server, "the body is read");
    refused.send_request("GET", "/api/webhook", CLIENT, b"");
    assert_eq!(refused.read_response().status, 200);
}

#[test]
fn a_place_becomes_free_when_its_connection_or_stream_ends() {
    let server = Server::start(&PROXIED);
    drop(upload(&server));
    wait_for_a_place(&server, "the upload is gone");
    let stream = stream(&server);
    assert_eq!(status(&server), 503);
    drop(stream);
    wait_for_a_place(&server, "the stream is gone");
}

/// The deadline is ten seconds.
#[test]
fn a_place_becomes_free_after_a_408() {
    let server = Server::start(&PROXIED);
    let mut slow = upload(&server);
    assert_eq!(status(&server), 503);
    assert_eq!(slow.read_response().status, 408);
    assert_eq!(status(&server), 200);
    slow.expect_close();
}

/// Killed by its process id when dropped.
struct Successor(Pid);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn a_handed_over_request_counts_in_the_successor() {
    let server = Server::start(&[&PROXIED[..], &["--drain", "0s"]].concat());
    let mut moving = upload(&server);
    assert_eq!(status(&server), 503);
    server.signal(Signal::USR2);
    let line = server.wait_for_log("handed over");
    let pid = i32::try_from(line["pid"].as_i64().unwrap()).unwrap();
    let _successor = Successor(Pid::from_raw(pid).unwrap());
    server.wait_for_log("the predecessor has ended");
    // The successor may accept a new connection before it takes over the old ones.
    let deadline = Instant::now() + PATIENCE;
    while status(&server) != 503 {
        assert!(Instant::now() < deadline, "the successor does not count it");
    }
    moving.send(&BODY[10..]);
    assert_eq!(moving.read_response().status, 200);
    assert_eq!(status(&server), 200);
}

fn is_refused(response: &Response) -> bool {
    if response.status == 503 {
        assert!(response.header("retry-after").is_some(), "{response:?}");
    }
    response.status == 503
}

/// Opens streams until one is declined: with a 200 and a `retry`.
fn open_streams(mut open: impl FnMut() -> EventStream, most: usize) -> Vec<EventStream> {
    let mut streams: Vec<EventStream> = (0..most).map(|_| open()).collect();
    for stream in &mut streams {
        stream.connected();
    }
    let (_, events) = open().drain();
    assert!(
        matches!(&events[..], [event] if event.retry_ms.is_some_and(|ms| ms >= 24_000)),
        "{events:?}"
    );
    streams
}

#[test]
fn connections_of_an_address_are_limited() {
    let server = Server::start(&["--max-connections-per-ip", "3", "--shards", "2"]);
    let streams = open_streams(|| server.stream("", ""), 3);
    assert!(is_refused(&server.connect().get("/nowhere", "")));
    assert!(is_refused(&server.post(&json!({ "message": "x" }))));
    // Connections from other addresses are not affected.
    let mut other = connect_from("127.0.0.2", server.address);
    assert_eq!(other.get("/api/webhook", "").status, 200);
    // Silent connections do not hold many more places, either.
    let mut silent: Vec<Connection> = (0..30).map(|_| server.connect()).collect();
    let mut closed_at_once = 0;
    for connection in silent.iter_mut().skip(8) {
        connection.expect_close();
        closed_at_once += 1;
    }
    assert_eq!(closed_at_once, 22);
    drop((streams, silent));
    // Until the server has processed the closes, a new connection may be closed at once.
    let is_served = || {
        let mut connection = server.connect();
        connection.send_if_open(b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = connection.read_some().unwrap_or_default();
        answer.starts_with(b"HTTP/1.1 200 ")
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_served() {
        assert!(Instant::now() < deadline, "the places do not become free");
    }
}

#[test]
fn behind_an_http_proxy_connections_count_for_the_client() {
    let server = Server::start(&[&PROXIED[..3], &["3"]].concat());
    let full = "X-Forwarded-For: 192.0.2.1\r\n";
    let other = "X-Forwarded-For: 192.0.2.2\r\n";
    let streams = open_streams(|| server.stream("", full), 3);
    let mut pooled = server.connect();
    let body = br#"{"message":"x"}"#;
    assert_eq!(pooled.get("/api/webhook", other).status, 200);
    pooled.send_request("POST", "/api/webhook", other, body);
    assert_eq!(pooled.read_response().status, 200);
    pooled.send_request("POST", "/api/webhook", full, body);
    assert!(is_refused(&pooled.read_response()));
    // An idle connection of the proxy counts for no client.
    let mut idle: Vec<Connection> = (0..10).map(|_| server.connect()).collect();
    for connection in &mut idle {
        assert_eq!(connection.get("/api/webhook", other).status, 200);
    }
    drop(streams);
    let deadline = Instant::now() + PATIENCE;
    while server.connect().get("/api/webhook", full).status != 200 {
        assert!(Instant::now() < deadline, "the places do not become free");
    }
}

#[test]
fn with_a_proxy_header_connections_count_for_the_client() {
    let proxy = ["--listen", "127.0.0.1:0+proxy"];
    let server = Server::start(&[&PROXIED[..3], &["3"], &proxy].concat());
    let address = server.listening_at(1);
    let open = |client: &str| {
        let mut connection = Connection::open(address);
        connection.send(format!("PROXY TCP4 {client} 127.0.0.1 1 2\r\n").as_bytes());
        connection.send_request("GET", "/api/webhook/stream", "", b"");
        EventStream::read(connection)
    };
    let _streams = open_streams(|| open("192.0.2.1"), 3);
    open("192.0.2.2").connected();
}
