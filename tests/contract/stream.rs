//! The stream contract: connected, replay, live, resume, gap, targeting, order, heartbeats.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Event, EventStream, PATIENCE, Server, Setup};
use serde_json::json;

/// Splits an event id into its epoch and its seq.
fn parse_id(event: &Event) -> (String, u64) {
    let id = event
        .id
        .as_deref()
        .unwrap_or_else(|| panic!("no id: {event:?}"));
    let (epoch, seq) = id.split_once('-').unwrap_or_else(|| panic!("{id}"));
    (epoch.to_owned(), seq.parse().unwrap())
}

/// Publishes messages whose contents are the numbers of a range.
fn publish_numbers(server: &Server, numbers: std::ops::Range<u64>) {
    for number in numbers {
        server.publish(&number.to_string());
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

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
    assert_eq!(head.header("cache-control"), Some("no-store, no-transform"));
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
fn the_replay_is_the_last_hundred_oldest_first_and_live_follows() {
    let server = Server::start(&[]);
    publish_numbers(&server, 0..130);
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 100);
    assert_eq!(stream.contents(100), numbers(30..130));
    publish_numbers(&server, 130..140);
    assert_eq!(stream.contents(10), numbers(130..140));
}

#[test]
fn nothing_is_lost_or_repeated_between_replay_and_live() {
    let server = Server::start(&["--shards", "2"]);
    publish_numbers(&server, 0..120);
    thread::scope(|scope| {
        scope.spawn(|| publish_numbers(&server, 120..1000));
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let mut stream = server.stream("", "");
                    assert_eq!(stream.connected(), 100);
                    let first: u64 = stream.next().content().parse().unwrap();
                    assert_eq!(stream.contents(99), numbers(first + 1..first + 100));
                    // 20 live messages, or fewer at the end of the 1,000.
                    let after = (first + 120).min(1000);
                    let live = stream.contents(usize::try_from(after - (first + 100)).unwrap());
                    assert_eq!(live, numbers(first + 100..after));
                }
            });
        }
    });
}

#[test]
fn all_streams_see_one_order() {
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

#[test]
fn a_client_resumes_exactly_after_its_last_event() {
    let server = Server::start(&[]);
    publish_numbers(&server, 0..150);
    let mut stream = server.stream("", "");
    stream.connected();
    let ids: Vec<String> = (0..100).map(|_| stream.next().id.unwrap()).collect();

    for (position, expected) in [(0, 51..150), (97, 148..150), (99, 150..150)] {
        let header = format!("Last-Event-ID: {}\r\n", ids[position]);
        let query = format!("?lastEventId={}", ids[position]);
        let wrong = "?lastEventId=0123456789abcdef-1";
        for (query, header) in [("", header.as_str()), (&query, ""), (wrong, &header)] {
            let mut resumed = server.stream(query, header);
            assert_eq!(
                resumed.connected(),
                expected.end - expected.start,
                "{query} {header}"
            );
            let count = usize::try_from(expected.end - expected.start).unwrap();
            assert_eq!(resumed.contents(count), numbers(expected.clone()));
        }
    }

    // The live log reaches back further than the last hundred messages.
    let (epoch, seq) = ids[0].split_once('-').unwrap();
    let earlier = format!(
        "Last-Event-ID: {epoch}-{}\r\n",
        seq.parse::<u64>().unwrap() - 30
    );
    let mut resumed = server.stream("", &earlier);
    assert_eq!(resumed.connected(), 129);
    assert_eq!(resumed.contents(129), numbers(21..150));
}

#[test]
fn an_unknown_event_id_gets_the_full_replay() {
    let server = Server::start(&[]);
    publish_numbers(&server, 0..120);
    let mut stream = server.stream("", "");
    stream.connected();
    let (epoch, _) = parse_id(&stream.next());
    for id in [
        "0123456789abcdef-110".to_owned(),
        "nonsense".into(),
        "-".into(),
        "110".into(),
        format!("{epoch}-"),
        format!("{epoch}--1"),
        format!("{epoch}-99999999999999999999999999"),
        format!("{epoch}-1x"),
        "\u{e9}".into(),
        "%".repeat(100),
    ] {
        let mut resumed = server.stream("", &format!("Last-Event-ID: {id}\r\n"));
        assert_eq!(resumed.connected(), 100, "{id:?}");
        assert_eq!(resumed.contents(100), numbers(20..120), "{id:?}");
    }
}

#[test]
fn event_ids_survive_a_restart_and_gaps_are_reported() {
    let mut server = Server::start(&[]);
    publish_numbers(&server, 0..150);
    let mut stream = server.stream("", "");
    stream.connected();
    let events: Vec<Event> = (0..100).map(|_| stream.next()).collect();
    let (epoch, first_seq) = parse_id(&events[0]);
    drop(stream);
    server.kill();
    let server = server.restart();
    publish_numbers(&server, 150..155);

    // After the restart the log holds the history and later messages: 50..155.
    let resume = |seq: u64| server.stream("", &format!("Last-Event-ID: {epoch}-{seq}\r\n"));
    let mut last = resume(first_seq + 99);
    assert_eq!(last.connected(), 5);
    assert_eq!(last.contents(5), numbers(150..155));

    let mut edge = resume(first_seq - 1);
    let replay = edge.connected();
    let mut expected = 50;
    if replay < 105 {
        expected += 105 - replay;
        assert_eq!(edge.next().missed(), 105 - replay);
    }
    assert_eq!(
        edge.contents(usize::try_from(replay).unwrap()),
        numbers(expected..155)
    );

    let mut gone = resume(first_seq - 41);
    let replay = gone.connected();
    assert!(replay >= 100, "fewer than the last hundred");
    let missed = gone.next().missed();
    assert_eq!(
        missed + replay,
        145,
        "gap and replay must be 10..155 together"
    );
    assert_eq!(
        gone.contents(usize::try_from(replay).unwrap()),
        numbers(155 - replay..155)
    );
}

/// The contents that a stream shows of four messages: for all, for alice, for bob, for all.
fn sees(server: &Server, query: &str, headers: &str, expected: &[&str]) {
    let mut live = server.stream(query, headers);
    let before = live.connected();
    let _ = live.contents(usize::try_from(before).unwrap());
    let secret = "X-Webhook-Secret: s3cret\r\n";
    for (message, session) in [
        ("all", None),
        ("to alice", Some("alice")),
        ("to bob", Some("bob")),
        ("end", None),
    ] {
        let body = json!({ "message": message, "sessionId": session }).to_string();
        assert_eq!(
            server
                .request("POST", "/api/webhook", secret, body.as_bytes())
                .status,
            200
        );
    }
    let case = format!("{query:?} {headers:?}");
    assert_eq!(live.contents(expected.len()), expected, "live: {case}");
    let mut replay = server.stream(query, headers);
    let count = usize::try_from(replay.connected()).unwrap();
    let contents = replay.contents(count);
    assert!(
        contents.ends_with(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "{case}"
    );
    let foreign: &[&str] = if query.contains("alice") {
        &["to bob"]
    } else {
        &[]
    };
    assert!(
        !contents
            .iter()
            .any(|content| foreign.contains(&content.as_str())),
        "{case}: {contents:?}"
    );
    assert_eq!(
        count % expected.len(),
        0,
        "the replay must be filtered like live messages: {case}"
    );
}

#[test]
fn without_a_secret_a_stream_sees_its_session_or_everything() {
    let server = Server::start(&["--shards", "2"]);
    let everything = ["all", "to alice", "to bob", "end"];
    sees(&server, "", "", &everything);
    sees(&server, "?sessionId=", "", &everything);
    sees(&server, "?sessionId=alice", "", &["all", "to alice", "end"]);
    sees(
        &server,
        "?x=y&sessionId=%61lice",
        "",
        &["all", "to alice", "end"],
    );
    sees(&server, "?sessionId=carol", "", &["all", "end"]);
    sees(&server, "?sessionId=ALICE", "", &["all", "end"]);
}

#[test]
fn with_a_secret_only_its_holder_sees_everything() {
    let server = Setup::new(&[]).secret("s3cret").start();
    let right = "X-Webhook-Secret: s3cret\r\n";
    sees(&server, "", "", &["all", "end"]);
    sees(&server, "", right, &["all", "to alice", "to bob", "end"]);
    sees(&server, "?sessionId=alice", "", &["all", "to alice", "end"]);
    sees(
        &server,
        "?sessionId=alice",
        right,
        &["all", "to alice", "end"],
    );
    for query in ["", "?sessionId=alice"] {
        let target = format!("/api/webhook/stream{query}");
        let response = server.request("GET", &target, "X-Webhook-Secret: wrong\r\n", b"");
        assert_eq!(
            (response.status, response.error().as_str()),
            (401, "Unauthorized")
        );
    }
}

#[test]
fn a_bad_session_in_the_query_is_an_error() {
    let server = Server::start(&[]);
    for query in [
        "sessionId=%zz".to_owned(),
        "sessionId=%ff".into(),
        format!("sessionId={}", "x".repeat(257)),
    ] {
        let response = server.request("GET", &format!("/api/webhook/stream?{query}"), "", b"");
        assert_eq!(response.status, 400, "{query}: {response:?}");
    }
}

#[test]
fn a_resume_skips_messages_for_other_sessions() {
    let server = Server::start(&[]);
    let mut stream = server.stream("?sessionId=alice", "");
    stream.connected();
    server.publish("seen");
    let id = stream.next().id.unwrap();
    drop(stream);
    for number in 0..50 {
        server.post(&json!({ "message": "secret", "sessionId": "bob" }));
        server.post(&json!({ "message": number.to_string(), "sessionId": "alice" }));
    }
    let mut resumed = server.stream("?sessionId=alice", &format!("Last-Event-ID: {id}\r\n"));
    assert_eq!(resumed.connected(), 50);
    assert_eq!(resumed.contents(50), numbers(0..50));
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
    let mut connection = crate::support::Connection::on(socket.into());
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

/// A client that has seen no message still has an id to resume from. So lost messages after a restart are a
/// gap. A replay from the start would report none.
#[test]
fn a_stream_without_messages_resumes_behind_connected() {
    let mut server = Server::start(&[]);
    let id_of_connected = |stream: &mut EventStream| stream.next().id;
    let before = id_of_connected(&mut server.stream("", "")).unwrap();
    assert!(before.ends_with("-0"), "{before}");
    publish_numbers(&server, 0..150);
    // With a replay the first message has an id.
    assert_eq!(id_of_connected(&mut server.stream("", "")), None);
    let header = format!("Last-Event-ID: {before}\r\n");
    let mut stream = server.stream("", &header);
    assert_eq!(id_of_connected(&mut stream).as_ref(), Some(&before));
    assert_eq!(stream.contents(150), numbers(0..150));

    server.kill();
    let server = server.restart();
    let mut stream = server.stream("", &header);
    // A client that was cut off before it read the gap gets it again.
    assert_eq!(id_of_connected(&mut stream).as_ref(), Some(&before));
    assert_eq!(stream.next().missed(), 50);
    assert_eq!(stream.contents(100), numbers(50..150));
}
