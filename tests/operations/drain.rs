//! The end of the process: requests in progress are answered, and streams get a `retry`.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Ending, Event, EventStream, Server};

#[test]
fn sigterm_ends_streams_one_by_one_and_exits_with_zero() {
    let mut server = Server::start(&["--drain", "1s", "--shards", "2"]);
    let mut streams: Vec<EventStream> = (0..200).map(|_| server.stream("", "")).collect();
    for stream in &mut streams {
        stream.connected();
    }
    server.publish("last");
    server.signal(Signal::TERM);
    let mut retries = BTreeSet::new();
    for stream in &mut streams {
        let (ending, events) = stream.drain();
        assert_eq!(ending, Ending::LastChunk);
        let events: Vec<_> = events
            .iter()
            .filter(|event| !event.is_heartbeat())
            .collect();
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[0].content(), "last");
        assert!(events[1].is_end() && events[1].id.is_none(), "{events:?}");
        retries.insert(events[1].retry_ms.unwrap());
    }
    assert!(retries.len() > 20, "retries are not spread: {retries:?}");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_drain_of_zero_seconds_still_ends_streams_in_order() {
    let mut server = Server::start(&["--drain", "0s"]);
    let mut chunked = server.stream("", "");
    chunked.connected();
    let mut until_close = EventStream::open_1_0(server.address, "");
    until_close.connected();
    server.signal(Signal::TERM);
    for (stream, expected) in [
        (&mut chunked, Ending::LastChunk),
        (&mut until_close, Ending::Close),
    ] {
        let (ending, events) = stream.drain();
        assert_eq!(ending, expected);
        assert!(events.iter().any(Event::is_end), "{events:?}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_request_in_progress_is_answered_and_its_message_kept() {
    let mut server = Server::start(&["--drain", "5s"]);
    // The open stream keeps the drain from ending.
    let mut stream = server.stream("", "");
    stream.connected();
    let mut connection = server.connect();
    let body = json!({ "message": "in flight" }).to_string();
    let head = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.send(head.as_bytes());
    // The 100 shows that the server has begun the request.
    assert_eq!(connection.read_head().status, 100);
    let (first, rest) = body.split_at(5);
    connection.send(first.as_bytes());
    // Once these are closed, every shard drains.
    let mut idle: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for connection in &mut idle {
        connection.send_request("GET", "/api/webhook", "", b"");
        assert_eq!(connection.read_response().status, 200);
    }
    server.signal(Signal::TERM);
    for connection in &mut idle {
        connection.expect_close();
    }
    connection.send(rest.as_bytes());
    let response = connection.read_response();
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("connection"), Some("close"));
    connection.expect_close();
    assert_eq!(server.wait().code(), Some(0));
    let server = server.restart();
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 1);
    assert_eq!(stream.next().content(), "in flight");
}

#[test]
fn a_draining_server_accepts_no_connection() {
    let mut server = Server::start(&["--drain", "5s"]);
    let streams: Vec<EventStream> = (0..20).map(|_| server.stream("", "")).collect();
    let mut idle = server.connect();
    idle.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(idle.read_response().status, 200);
    server.signal(Signal::TERM);
    server.wait_for_log("draining");
    idle.expect_close();
    // Refused, or reset if it was in the accept queue.
    let refused = TcpStream::connect_timeout(&server.address, Duration::from_secs(5));
    assert!(refused.is_err(), "{refused:?}");
    drop(streams);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_the_server_at_once() {
    let mut server = Server::start(&["--drain", "5m"]);
    let mut streams: Vec<EventStream> = (0..50).map(|_| server.stream("", "")).collect();
    for stream in &mut streams {
        stream.connected();
    }
    let begin = Instant::now();
    server.signal(Signal::TERM);
    server.wait_for_log("draining");
    server.signal(Signal::TERM);
    let status = server.wait();
    assert!(
        status.signal().is_none(),
        "the process was killed: {status}"
    );
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "it waited for the drain of five minutes"
    );
}

#[test]
fn sigint_acts_as_sigterm_and_an_idle_server_ends_at_once() {
    let mut server = Server::start(&["--drain", "5m"]);
    let mut idle = server.connect();
    idle.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(idle.read_response().status, 200);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_stuck_reader_does_not_delay_the_end() {
    let mut server = Server::start(&["--drain", "1s"]);
    let mut stuck = server.stream("", "");
    stuck.connected();
    let filler = "x".repeat(60_000);
    for _ in 0..300 {
        server.publish(&filler);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}
