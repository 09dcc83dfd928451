//! Compressed streams (`--compress-streams`): their events, their size, their end.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Ending, EventStream, Server};

const GZIP: &str = "Accept-Encoding: gzip, deflate, br\r\n";

fn compressing() -> Server {
    Server::start(&["--compress-streams", "--drain", "1s"])
}

/// A body as providers send them: an object of a repository, and a list of commits.
fn payload(commits: usize) -> String {
    let author = json!({ "name": "Ada Example", "email": "ada@example.com", "username": "ada" });
    let commits: Vec<_> = (0..commits)
        .map(|number| {
            let id = format!("{:040x}", 0x9e37_79b9_7f4a_7c15_u128 * (number as u128 + 1));
            json!({
                "id": id,
                "message": format!("Change number {number}\n\nIt mends the case that was seen."),
                "timestamp": format!("2026-03-{:02}T10:{:02}:00Z", 1 + number % 28, number % 60),
                "url": format!("https://git.example/ada/tools/commit/{id}"),
                "author": author,
                "committer": author,
                "added": [], "removed": [], "modified": [format!("src/part_{number}.rs")],
            })
        })
        .collect();
    json!({
        "ref": "refs/heads/main",
        "repository": {
            "id": 4_711_000, "name": "tools", "full_name": "ada/tools", "private": false,
            "html_url": "https://git.example/ada/tools",
            "commits_url": "https://git.example/api/repos/ada/tools/commits{/sha}",
            "issues_url": "https://git.example/api/repos/ada/tools/issues{/number}",
        },
        "commits": commits,
    })
    .to_string()
}

/// The bytes of all chunks since the last call.
fn chunk_bytes(stream: &mut EventStream) -> usize {
    std::mem::take(&mut stream.chunks).iter().sum()
}

#[test]
fn a_compressed_stream_has_the_events_of_a_plain_one_each_at_once() {
    let server = compressing();
    server.publish("before");
    let mut zipped = server.stream("", GZIP);
    let mut plain = server.stream("", "");
    assert_eq!(zipped.head.header("content-encoding"), Some("gzip"));
    assert_eq!(plain.head.header("content-encoding"), None);
    for stream in [&zipped, &plain] {
        assert_eq!(stream.head.header("vary"), Some("Accept-Encoding"));
    }
    assert_eq!((zipped.connected(), plain.connected()), (1, 1));
    assert_eq!(zipped.next(), plain.next());
    for text in ["one", "\u{1f600} \u{1} \r\n\n", &"x".repeat(60_000)] {
        // Each is read before the next is sent, so no event waits for another one.
        server.publish(text);
        let event = zipped.next();
        assert_eq!((event.content(), &event), (text.into(), &plain.next()));
    }
    assert!(zipped.next_event().unwrap().is_heartbeat());
    let head = server.request("HEAD", "/api/webhook/stream", GZIP, b"");
    assert_eq!(head.header("content-encoding"), Some("gzip"));
    assert_eq!(head.header("vary"), Some("Accept-Encoding"));
}

#[test]
fn replay_sessions_gap_and_resumption_are_as_on_a_plain_stream() {
    let server = compressing();
    let send = |text: &str, session: Option<&str>| {
        let sent = server.post(&json!({ "message": text, "sessionId": session }));
        assert_eq!(sent.status, 200, "{sent:?}");
    };
    for number in 0..150 {
        send(
            &format!("message {number}"),
            [None, Some("a"), Some("b")][number % 3],
        );
    }
    for query in [
        "",
        "?sessionId=a",
        "?sessionId=a&sessionId=b",
        "?replay=7",
        "?sessionId=c",
    ] {
        let (mut zipped, mut plain) = (server.stream(query, GZIP), server.stream(query, ""));
        let replay = plain.connected();
        assert_eq!(zipped.connected(), replay, "{query}");
        let mut last = None;
        for _ in 0..replay {
            let event = zipped.next();
            assert_eq!(event, plain.next(), "{query}");
            last = event.id;
        }
        let resumed = format!("Last-Event-ID: {}\r\n{GZIP}", last.unwrap());
        send("to all", None);
        let mut again = server.stream(query, &resumed);
        assert_eq!(
            (again.connected(), again.contents(1)),
            (1, vec!["to all".into()])
        );
    }
    // A gap needs messages that have left the log.
    let mut zipped = server.stream("", GZIP);
    let epoch = (0..zipped.connected())
        .filter_map(|_| zipped.next().id)
        .last()
        .unwrap();
    let (epoch, _) = epoch.split_once('-').unwrap();
    let large = "\u{1}".repeat(10_000);
    for _ in 0..300 {
        send(&large, None);
    }
    let mut late = server.stream("", &format!("Last-Event-ID: {epoch}-1\r\n{GZIP}"));
    late.connected();
    assert!(late.next().missed() > 100);
    assert_eq!(late.next().content(), large);
}

#[test]
fn a_drain_ends_a_compressed_stream_with_a_trailer_that_fits() {
    let mut server = compressing();
    let mut streams = [server.stream("", GZIP), server.stream("?sessionId=a", GZIP)];
    for stream in &mut streams {
        stream.connected();
    }
    server.publish("one");
    assert!(streams[0].next_event().is_some());
    server.signal(Signal::TERM);
    for stream in &mut streams {
        // The reader checks the trailer.
        let (ending, events) = stream.drain();
        assert_eq!(ending, Ending::LastChunk);
        assert!(events.last().unwrap().is_end(), "{events:?}");
        assert!(stream.connection.read_to_end().is_empty());
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn streams_that_a_cache_may_keep_and_those_of_http_1_0_are_plain() {
    let server = Server::start(&["--compress-streams", "--cdn-fanout", "60s"]);
    let shared = server.stream("", GZIP);
    assert_eq!(shared.head.header("content-encoding"), None);
    assert_eq!(shared.head.header("vary"), Some("X-Webhook-Secret"));
    let private = server.stream("?sessionId=a", GZIP);
    assert_eq!(private.head.header("content-encoding"), Some("gzip"));
    let old = EventStream::open_1_0(server.address, "?sessionId=a");
    assert_eq!(old.head.header("content-encoding"), None);
    // Without the flag the field is ignored.
    let server = Server::start(&[]);
    let stream = server.stream("", GZIP);
    assert_eq!(stream.head.header("content-encoding"), None);
    assert_eq!(stream.head.header("vary"), None);
}

#[test]
fn payloads_of_providers_take_a_quarter_of_their_bytes() {
    let server = Server::start(&["--compress-streams", "--heartbeat", "1m"]);
    let mut zipped = server.stream("", GZIP);
    let mut plain = server.stream("", "");
    for stream in [&mut zipped, &mut plain] {
        stream.connected();
        chunk_bytes(stream);
    }
    let (mut zipped_bytes, mut plain_bytes) = (0, 0);
    for commits in [4, 8, 16, 40] {
        let payload = payload(commits);
        assert!(
            (2_000..25_000).contains(&payload.len()),
            "{}",
            payload.len()
        );
        server.publish(&payload);
        assert_eq!(
            (zipped.next().content(), plain.next().content()),
            (payload.clone(), payload)
        );
        zipped_bytes += chunk_bytes(&mut zipped);
        plain_bytes += chunk_bytes(&mut plain);
    }
    assert!(
        zipped_bytes * 4 <= plain_bytes,
        "{zipped_bytes} of {plain_bytes}"
    );
}
