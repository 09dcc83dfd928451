//! Behaviour at the limits of connections, time and file descriptors.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Connection, EventStream, PATIENCE, Server, Setup};

/// Fills a server to its limit with connections that have been served once.
fn fill(server: &Server, connections: usize) -> Vec<Connection> {
    (0..connections)
        .map(|_| {
            let mut connection = server.connect();
            connection.send_request("GET", "/api/webhook", "", b"");
            assert_eq!(connection.read_response().status, 200);
            connection
        })
        .collect()
}

#[test]
fn at_the_limit_webhooks_get_retry_after_and_streams_a_retry() {
    let server = Server::start(&["--max-connections", "20", "--shards", "2"]);
    let mut held = fill(&server, 20);

    let response = server.post(&json!({ "message": "x" }));
    assert_eq!(response.status, 503, "{response:?}");
    assert!(
        response
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            > 0
    );
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    assert!(!response.error().is_empty());

    // On any other status a browser's EventSource does not reconnect.
    let response = server.request("GET", "/api/webhook/stream", "", b"");
    assert_eq!(
        response.header("content-type"),
        Some("text/event-stream; charset=utf-8"),
        "{response:?}"
    );
    let text = String::from_utf8(response.body).unwrap();
    let retry = text
        .strip_prefix("retry: ")
        .and_then(|rest| rest.strip_suffix("\ndata: {\"type\":\"end\"}\n\n"))
        .unwrap();
    let retry_ms: u64 = retry.parse().unwrap();
    assert!((15_000..=60_000).contains(&retry_ms), "{text}");

    // Existing connections are served, and a place that becomes free can be taken.
    held[0].send_request("GET", "/api/webhook", "", b"");
    assert_eq!(held[0].read_response().status, 200);
    held.pop();
    let deadline = Instant::now() + PATIENCE;
    while server.request("GET", "/api/webhook", "", b"").status != 200 {
        assert!(Instant::now() < deadline, "the place does not become free");
    }
}

#[test]
fn streams_count_as_connections() {
    let server = Server::start(&["--max-connections", "10"]);
    let mut streams: Vec<EventStream> = (0..10).map(|_| server.stream("", "")).collect();
    for stream in &mut streams {
        stream.connected();
    }
    assert_eq!(server.post(&json!({ "message": "x" })).status, 503);
    drop(streams);
    let deadline = Instant::now() + PATIENCE;
    while server.post(&json!({ "message": "x" })).status != 200 {
        assert!(Instant::now() < deadline, "the places do not become free");
    }
}

/// The deadlines of ten seconds, all of them at once.
#[test]
fn an_incomplete_request_gets_a_408_at_its_deadline() {
    let server = Server::start(&[]);
    let partial: [&[u8]; 4] = [
        b"G",
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\n",
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\"",
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"me",
    ];
    let begin = Instant::now();
    let mut connections: Vec<Connection> = partial
        .iter()
        .map(|bytes| {
            let mut connection = server.connect();
            connection.send(bytes);
            connection
        })
        .collect();
    // Single bytes do not extend the deadline of a head.
    let mut trickle = server.connect();
    trickle.send(b"GET /");
    trickle
        .socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") && begin.elapsed() < PATIENCE {
        trickle.send_if_open(b"x");
        let mut bytes = [0; 1024];
        if let Ok(length @ 1..) = std::io::Read::read(&mut trickle.socket, &mut bytes) {
            answer.extend_from_slice(&bytes[..length]);
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    for (connection, bytes) in connections.iter_mut().zip(partial) {
        let case = String::from_utf8_lossy(bytes);
        let response = connection.read_response();
        assert_eq!(
            (response.status, response.header("connection")),
            (408, Some("close")),
            "{case}"
        );
        connection.expect_close();
    }
    assert!(
        begin.elapsed() >= Duration::from_secs(9),
        "before the deadline"
    );
}

#[test]
fn an_idle_connection_is_closed_without_an_answer() {
    let server = Server::start(&["--keep-alive", "1s", "--heartbeat", "100ms"]);
    let mut connections = fill(&server, 10);
    let begin = Instant::now();
    for connection in &mut connections {
        connection.expect_close();
    }
    assert!(begin.elapsed() < PATIENCE);
    // Streams and connections in use are not idle.
    let mut stream = server.stream("", "");
    stream.connected();
    let mut used = server.connect();
    while begin.elapsed() < Duration::from_secs(4) {
        used.send_request("GET", "/api/webhook", "", b"");
        assert_eq!(used.read_response().status, 200);
        stream.next_event().unwrap();
    }
}

#[test]
fn a_stuck_reader_is_closed_at_its_deadline() {
    let server = Server::start(&["--log-level", "debug"]);
    let mut stuck = server.stream("", "");
    stuck.connected();
    let mut witness = server.stream("", "");
    witness.connected();
    let filler = "x".repeat(60_000);
    let begin = Instant::now();
    // More than the kernel's buffers of both ends take, and less than the live log holds. A stream that the
    // log overtakes inside an event would be closed at once.
    for _ in 0..100 {
        server.publish(&filler);
        witness.next();
    }
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    // Three heartbeats later the connections that published have ended, lingering ones included.
    for _ in 0..3 {
        witness.next_event().unwrap();
    }
    let before = files();
    while files() >= before {
        assert!(
            begin.elapsed() < Duration::from_secs(90),
            "the stuck stream is still open"
        );
        witness.next_event().unwrap();
    }
    assert!(
        begin.elapsed() > Duration::from_secs(20),
        "closed after {:?}",
        begin.elapsed()
    );
    server.publish("goes on");
}

/// Without file descriptors no new connection can be accepted. The server must serve existing ones, not spin,
/// and accept again as soon as there are descriptors.
#[test]
fn running_out_of_descriptors_is_survived() {
    let setup = Setup::new(&[
        "--max-connections",
        "1000",
        "--shards",
        "1",
        "--heartbeat",
        "100ms",
    ]);
    let server = setup.files_max(64).start();
    let mut stream = server.stream("", "");
    stream.connected();
    // The kernel completes these handshakes; the server can accept only the first few.
    let mut waiting: Vec<Connection> = (0..100)
        .map(|_| {
            let mut connection = server.connect();
            connection.send_request("GET", "/api/webhook", "", b"");
            connection
        })
        .collect();
    let is_served = |connection: &mut Connection| connection.read_response().status == 200;
    assert!(is_served(&mut waiting[0]));
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    let deadline = Instant::now() + PATIENCE;
    while files() < 64 {
        assert!(
            Instant::now() < deadline,
            "descriptors are left: {}",
            files()
        );
        stream.next_event().unwrap();
    }

    let ticks = server.cpu_ticks();
    for _ in 0..30 {
        assert!(stream.next_event().unwrap().is_heartbeat());
    }
    // Three seconds have 300 ticks of one CPU; a loop that spins uses all of them.
    let spent = server.cpu_ticks() - ticks;
    assert!(spent < 100, "{spent} ticks in three seconds");
    waiting[0].send(
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\n\r\n{\"message\":\"x\"}",
    );
    assert!(
        is_served(&mut waiting[0]),
        "existing connections are served, webhooks included"
    );

    // Each served connection closes, which makes room for the next one.
    for mut connection in waiting.drain(1..) {
        assert!(is_served(&mut connection));
    }
    assert!(
        server.log().iter().any(|line| line["level"] == "WARN"),
        "the log names the error"
    );
}
