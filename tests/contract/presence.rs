//! How many streams see a session: `GET /api/webhook/sessions/<id>`.

use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::support::{Connection, EventStream, PATIENCE, Server, Setup};

const SECRET: &str = "X-Webhook-Secret: s3cret\r\n";

/// The number of streams, with a header field.
fn streams(server: &Server, name: &str, headers: &str) -> u64 {
    let target = format!("/api/webhook/sessions/{name}");
    let answer = server.request("GET", &target, headers, b"");
    assert_eq!(answer.status, 200, "{}", answer.error());
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body, json!({ "streams": body["streams"] }));
    body["streams"].as_u64().unwrap()
}

/// Asks until the number is the expected one: the end of a connection takes a moment to arrive.
fn await_streams(server: &Server, name: &str, expected: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = streams(server, name, "");
        if counted == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{counted} are not {expected}");
        thread::yield_now();
    }
}

#[test]
fn the_open_streams_of_a_session_are_counted_over_all_shards() {
    let server = Server::start(&["--shards", "3"]);
    assert_eq!(streams(&server, "alice", ""), 0);
    let mut open: Vec<EventStream> = (0..9)
        .map(|_| server.stream("?sessionId=alice", ""))
        .collect();
    let others = ["", "?sessionId=bob", "?sessionId=alice2"];
    let _others: Vec<EventStream> = others.map(|query| server.stream(query, "")).into();
    let mut poll = server.connect();
    poll.send_request(
        "GET",
        "/api/webhook/messages?sessionId=alice&wait=25",
        "",
        b"",
    );
    // A stream counts from its first byte on.
    for stream in &mut open {
        assert_eq!(stream.connected(), 0);
    }
    assert_eq!(streams(&server, "alice", ""), 9);
    assert_eq!(streams(&server, "bob", ""), 1);
    open.truncate(4);
    await_streams(&server, "alice", 4);
    open.clear();
    await_streams(&server, "alice", 0);
    // The long poll is still there.
    let body = json!({ "message": "hello", "sessionId": "alice" });
    assert_eq!(server.post(&body).status, 200);
    assert_eq!(poll.read_response().status, 200);
}

#[test]
fn the_name_is_percent_encoded_and_a_path_without_one_is_unknown() {
    let server = Server::start(&[]);
    let mut stream = server.stream("?sessionId=a%2Fb%20%C3%BC%2B", "");
    assert_eq!(stream.connected(), 0);
    assert_eq!(streams(&server, "a%2Fb%20%c3%bc+", ""), 1);
    assert_eq!(streams(&server, "a%2Fb%20%C3%BC%2B/", ""), 1);
    assert_eq!(streams(&server, "a%2Fb+%C3%BC%2B", ""), 0);
    let status = |method: &str, name: &str| {
        let target = format!("/api/webhook/sessions{name}");
        server.request(method, &target, "", b"").status
    };
    for (name, expected) in [
        ("", 404),
        ("/", 404),
        ("/a/b", 404),
        ("/%", 400),
        ("/%ff", 400),
    ] {
        assert_eq!(status("GET", name), expected, "{name}");
    }
    assert_eq!(status("GET", &format!("/{}", "x".repeat(257))), 400);
    assert_eq!(status("POST", "/a"), 405);
    assert_eq!(status("DELETE", "/a"), 405);
    let mut connection = server.connect();
    connection.send_request("HEAD", "/api/webhook/sessions/a", "", b"");
    let head = connection.read_response_to("HEAD");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("13"))
    );
    let preflight = server.request("OPTIONS", "/api/webhook/sessions/a", "", b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn with_a_secret_only_its_owner_may_ask() {
    let server = Setup::new(&[]).secret("s3cret").start();
    let mut stream = server.stream("?sessionId=alice", "");
    assert_eq!(stream.connected(), 0);
    assert_eq!(streams(&server, "alice", SECRET), 1);
    let status = |headers: &str| {
        let target = "/api/webhook/sessions/alice";
        server.request("GET", target, headers, b"").status
    };
    assert_eq!(status(""), 401);
    assert_eq!(status("X-Webhook-Secret: wrong\r\n"), 401);
}

/// Many clients ask while streams come and go. Every question gets an answer, and no count exceeds the streams
/// that are open.
#[test]
fn questions_are_answered_while_streams_come_and_go() {
    let server = Server::start(&["--shards", "3"]);
    let _steady: Vec<EventStream> = (0..3)
        .map(|_| {
            let mut stream = server.stream("?sessionId=alice", "");
            assert_eq!(stream.connected(), 0);
            stream
        })
        .collect();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection: Connection = server.connect();
                for _ in 0..200 {
                    let answer = connection.get("/api/webhook/sessions/alice", "");
                    assert_eq!(answer.status, 200);
                    let counted = answer.json()["streams"].as_u64().unwrap();
                    // A stream whose client has closed it may not have ended here.
                    assert!((3..=3 + 60).contains(&counted), "{counted}");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..60 {
                let mut stream = server.stream("?sessionId=alice", "");
                assert_eq!(stream.connected(), 0);
            }
        });
    });
    await_streams(&server, "alice", 3);
}
