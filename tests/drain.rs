//! The end of the process: what is in flight is answered, streams are told when to come back.

mod support;

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::{Ending, Event, EventStream, Server};

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
    assert!(
        retries.len() > 20,
        "spread, so that clients do not come back at once: {retries:?}"
    );
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_drain_of_no_time_still_ends_streams_as_it_should() {
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
fn a_request_that_is_under_way_is_answered_and_kept() {
    let mut server = Server::start(&["--drain", "5s"]);
    // The stream holds the drain open.
    let mut stream = server.stream("", "");
    stream.connected();
    let mut connection = server.connect();
    let body = json!({ "message": "in flight" }).to_string();
    let head = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.send(head.as_bytes());
    // The permission shows that the request was begun.
    assert_eq!(connection.read_head().status, 100);
    let (first, rest) = body.split_at(5);
    connection.send(first.as_bytes());
    // When these are closed, every shard has begun to drain.
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
fn nobody_new_is_let_in_while_draining() {
    let mut server = Server::start(&["--drain", "5s"]);
    let streams: Vec<EventStream> = (0..20).map(|_| server.stream("", "")).collect();
    let mut idle = server.connect();
    idle.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(idle.read_response().status, 200);
    server.signal(Signal::TERM);
    server.wait_for_log("draining");
    idle.expect_close();
    // Refused, or reset if the connection was still queued.
    let refused = TcpStream::connect_timeout(&server.address, Duration::from_secs(5));
    assert!(refused.is_err(), "{refused:?}");
    drop(streams);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
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
    assert!(status.signal().is_none(), "it ends by itself: {status}");
    assert!(
        begin.elapsed() < Duration::from_secs(60),
        "far less than the drain of five minutes"
    );
}

#[test]
fn sigint_is_sigterm_and_an_idle_server_ends_without_waiting() {
    let mut server = Server::start(&["--drain", "5m"]);
    let mut idle = server.connect();
    idle.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(idle.read_response().status, 200);
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_reader_that_is_stuck_does_not_hold_up_the_end() {
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
