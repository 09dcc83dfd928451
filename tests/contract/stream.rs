//! Live streams: the beginning, events, order, heartbeats, slow readers, the end.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::replay::{parse_id, publish_numbers};
use crate::support::{Connection, Event, EventStream, PATIENCE, Server};

#[test]
fn a_stream_begins_with_its_headers_and_connected_in_one_send() {
    let server = Server::start(&[]);
    server.publish("first");
    let mut connection = server.connect();
    connection.send_request("GET", "/api/webhook/stream", "", b"");
    let first = String::from_utf8(connection.read_some().unwrap()).unwrap();
    for part in [
        "HTTP/1.1 200 OK\r\n",
        "\r\n\r\n",
        "retry: ",
        "\"connected\"",
        "\"replay\":1}",
        "\"first\"",
    ] {
        assert!(first.contains(part), "{part:?} in {first:?}");
    }

    let mut stream = server.stream("", "");
    let head = &stream.head;
    assert_eq!(
        head.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(
        head.header("cache-control"),
        Some("private, no-store, no-transform")
    );
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
    assert_eq!(head.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    assert_eq!(head.header("access-control-allow-origin"), Some("*"));
    assert!(head.header("date").is_some() && head.header("content-length").is_none());
    assert_eq!(stream.connected(), 1);
}

#[test]
fn a_message_has_the_fields_of_the_contract() {
    let server = Server::start(&[]);
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 0);
    let response = server
        .post(&json!({ "message": "Hello \u{1F600}\n\"x\"", "sessionId": "alice" }))
        .json();
    let event = stream.next();
    let (epoch, seq) = parse_id(&event);
    assert!(
        epoch.len() == 16 && epoch.chars().all(|c| c.is_ascii_hexdigit()),
        "{epoch}"
    );
    let data = event.json();
    assert_eq!(
        data,
        json!({
            "type": "webhook_message",
            "id": response["messageId"],
            "content": "Hello \u{1F600}\n\"x\"",
            "timestamp": response["timestamp"],
            "sessionId": "alice",
        })
    );
    server.publish("next");
    let event = stream.next();
    assert_eq!(parse_id(&event), (epoch, seq + 1));
    assert_eq!(event.json().get("sessionId"), None, "absent, not null");
}

#[test]
fn all_streams_have_one_order() {
    let server = Server::start(&["--shards", "2"]);
    let mut streams: Vec<EventStream> = (0..20).map(|_| server.stream("", "")).collect();
    for stream in &mut streams {
        assert_eq!(stream.connected(), 0);
    }
    thread::scope(|scope| {
        for publisher in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut connection = server.connect();
                for number in 0..250 {
                    let body = json!({ "message": format!("{publisher} {number}") }).to_string();
                    connection.send_request("POST", "/api/webhook", "", body.as_bytes());
                    assert_eq!(connection.read_response().status, 200);
                }
            });
        }
    });
    let order = streams[0].contents(1000);
    assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 1000);
    for publisher in 0..4 {
        let own: Vec<&String> = order
            .iter()
            .filter(|text| text.starts_with(&format!("{publisher} ")))
            .collect();
        let sent: Vec<String> = (0..250)
            .map(|number| format!("{publisher} {number}"))
            .collect();
        assert!(
            own.into_iter().eq(&sent),
            "each publisher's messages keep its order"
        );
    }
    for stream in &mut streams[1..] {
        assert_eq!(stream.contents(1000), order);
    }
}

/// Neighbouring streams share a phase of the interval; there are enough here for several phases.
#[test]
fn heartbeats_come_regularly_and_not_all_at_once() {
    const STREAMS: usize = 160;
    const BEATS: usize = 4;
    let interval = Duration::from_secs(1);
    let server = Server::start(&["--heartbeat", "1s", "--shards", "2"]);
    let begin = Instant::now();
    let streams: Vec<EventStream> = (0..STREAMS).map(|_| server.stream("", "")).collect();
    let beats: Vec<Vec<Duration>> = thread::scope(|scope| {
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                scope.spawn(move || {
                    stream.connected();
                    (0..BEATS)
                        .map(|_| {
                            assert!(stream.next_event().unwrap().is_heartbeat());
                            begin.elapsed()
                        })
                        .collect()
                })
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .collect()
    });
    // Two intervals lie between a heartbeat and the next but one. A busy machine may delay one of them.
    let regular = beats
        .iter()
        .filter(|times| times[2] >= times[0] + interval)
        .count();
    assert!(
        regular >= STREAMS * 9 / 10,
        "{regular} of {STREAMS} are regular: {beats:?}"
    );
    // A pause of the machine moves the heartbeats of one round together, not those of all rounds.
    let spread = |round: usize| {
        let times = || beats.iter().map(|times| times[round]);
        times().max().unwrap().abs_diff(times().min().unwrap())
    };
    let spreads: Vec<Duration> = (1..BEATS).map(spread).collect();
    let is_wide = |spread: &Duration| *spread > interval / 2;
    assert!(spreads.iter().any(is_wide), "rounds within {spreads:?}");
}

#[test]
fn retry_values_of_streams_differ() {
    let server = Server::start(&[]);
    let times: BTreeSet<u64> = (0..32)
        .map(|_| server.stream("", "").next().retry_ms.unwrap())
        .collect();
    assert!(
        times.iter().all(|ms| (1000..=3000).contains(ms)),
        "{times:?}"
    );
    assert!(times.len() > 8, "{times:?}");
}

/// Messages of a slow reader are in order, and its lost messages are counted.
#[test]
fn a_slow_reader_costs_other_streams_nothing_and_gets_a_gap() {
    const MESSAGES: u64 = 3000;
    const ROUND: u64 = 50;
    let server = Server::start(&[]);
    // A small receive buffer, set before connecting, so that it limits the window.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let mut connection = Connection::on(socket.into());
    connection.send_request("GET", "/api/webhook/stream", "", b"");
    let mut slow = EventStream::read(connection);
    assert_eq!(slow.connected(), 0);
    let mut fast = server.stream("", "");
    assert_eq!(fast.connected(), 0);

    // Round by round, so that the fast reader is never further behind than the log reaches.
    let filler = "x".repeat(60_000);
    let mut connection = server.connect();
    for round in 0..MESSAGES / ROUND {
        let numbers = round * ROUND..(round + 1) * ROUND;
        for number in numbers.clone() {
            let body = json!({ "message": format!("{number} {filler}") }).to_string();
            connection.send_request("POST", "/api/webhook", "", body.as_bytes());
            assert_eq!(connection.read_response().status, 200);
        }
        for number in numbers {
            assert_eq!(number_of(&fast.next()), number);
        }
    }

    let mut next = 0;
    let mut last_id = None;
    let mut gaps = 0;
    while next < MESSAGES {
        match slow.next_event() {
            Some(event) if event.is_heartbeat() => {}
            Some(event) if event.id.is_none() => {
                next += event.missed();
                gaps += 1;
            }
            Some(event) => {
                assert_eq!(number_of(&event), next);
                next += 1;
                last_id = event.id;
            }
            None => {
                // The log overtook it inside a frame: it resumes, and then gets the gap.
                let header = match &last_id {
                    Some(id) => format!("Last-Event-ID: {id}\r\n"),
                    None => panic!("closed before its first message"),
                };
                slow = server.stream("", &header);
                slow.connected();
            }
        }
    }
    assert!(gaps > 0, "180 MB exceed the live log");
}

fn number_of(event: &Event) -> u64 {
    event.content().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn every_chunk_ends_where_an_event_ends() {
    let server = Server::start(&["--heartbeat", "100ms"]);
    let mut connection = server.connect();
    connection.send_request("GET", "/api/webhook/stream", "", b"");
    connection.read_head();
    publish_numbers(&server, 0..50);
    let deadline = Instant::now() + PATIENCE;
    let (mut messages, mut heartbeats) = (0, 0);
    while (messages < 50 || heartbeats < 3) && Instant::now() < deadline {
        let text = String::from_utf8(connection.read_chunk().unwrap()).unwrap();
        assert!(
            text == ": heartbeat\n" || text.ends_with("\n\n"),
            "{text:?}"
        );
        messages += text.matches("\"type\":\"webhook_message\"").count();
        heartbeats += text.matches(": heartbeat").count();
    }
    assert_eq!(messages, 50);
}

#[test]
fn a_stream_ends_with_its_client() {
    let server = Server::start(&["--heartbeat", "100ms"]);
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count()
    };
    let before = files();
    let streams: Vec<EventStream> = (0..200).map(|_| server.stream("", "")).collect();
    assert!(files() >= before + 200);
    drop(streams);
    let deadline = Instant::now() + PATIENCE;
    let mut witness = server.stream("", "");
    witness.connected();
    while files() > before + 1 {
        assert!(
            Instant::now() < deadline,
            "{} files, {before} before",
            files()
        );
        witness.next_event().unwrap();
    }
}
