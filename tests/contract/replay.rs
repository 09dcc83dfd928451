//! The replay at the beginning of a stream: the history, the resume after an event id, gaps.

use std::thread;

use serde_json::json;

use crate::support::{Event, EventStream, Server};

/// Splits an event id into its epoch and its seq.
pub fn parse_id(event: &Event) -> (String, u64) {
    let id = event
        .id
        .as_deref()
        .unwrap_or_else(|| panic!("no id: {event:?}"));
    let (epoch, seq) = id.split_once('-').unwrap_or_else(|| panic!("{id}"));
    (epoch.to_owned(), seq.parse().unwrap())
}

/// Publishes messages whose contents are the numbers of a range.
pub fn publish_numbers(server: &Server, numbers: std::ops::Range<u64>) {
    for number in numbers {
        server.publish(&number.to_string());
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
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
