//! Streams that a shared cache may give to many clients: their content, their headers, their end.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{Ending, Event, EventStream, Server, Setup};

const SECRET: &str = "X-Webhook-Secret: s3cret\r\n";

/// The lifetime that a stream's head allows caches; `None` if it must not be stored.
fn shared_s(stream: &EventStream) -> Option<u64> {
    let value = stream.head.header("cache-control").unwrap();
    let rest = value.strip_prefix("public, max-age=0, s-maxage=");
    let Some(rest) = rest else {
        assert_eq!(value, "private, no-store, no-transform");
        return None;
    };
    assert_eq!(stream.head.header("vary"), Some("X-Webhook-Secret"));
    let seconds = rest.strip_suffix(", no-transform").expect(value);
    Some(seconds.parse().unwrap())
}

/// The next message, after the `connected` event of the shared stream, which has a `retry` of its own.
fn skip_connected(stream: &mut EventStream) -> (u64, u64) {
    let event = stream.next();
    let json = event.json();
    assert_eq!(json["type"], "connected");
    (json["replay"].as_u64().unwrap(), event.retry_ms.unwrap())
}

fn publish(server: &Server, message: &str, session: Option<&str>) {
    let body = json!({ "message": message, "sessionId": session }).to_string();
    let sent = server.request("POST", "/api/webhook", SECRET, body.as_bytes());
    assert_eq!(sent.status, 200, "{sent:?}");
}

#[test]
fn targeted_messages_never_enter_a_shared_stream() {
    let fanned_out = ["--cdn-fanout", "60s"];
    for (setup, has_secret) in [
        (Setup::new(&fanned_out), false),
        (Setup::new(&fanned_out).secret("s3cret"), true),
    ] {
        let server = setup.start();
        publish(&server, "before, for a", Some("a"));
        publish(&server, "before", None);
        let mut shared = server.stream("", "");
        let mut of_a = server.stream("?sessionId=a", "");
        let mut everything = server.stream("", SECRET);
        let mut old = EventStream::open_1_0(server.address, "");
        assert!((47..=59).contains(&shared_s(&shared).unwrap()));
        for private in [&of_a, &everything, &old] {
            assert_eq!(shared_s(private), None, "secret configured: {has_secret}");
        }
        let (replay, retry_ms) = skip_connected(&mut shared);
        assert!(replay == 1 && retry_ms < 1000, "{replay} {retry_ms}");
        assert_eq!(
            (of_a.connected(), everything.connected(), old.connected()),
            (2, 2, 1)
        );

        publish(&server, "for a", Some("a"));
        publish(&server, "for b", Some("b"));
        publish(&server, "after", None);
        assert_eq!(shared.contents(2), ["before", "after"]);
        assert_eq!(old.contents(2), ["before", "after"]);
        assert_eq!(
            of_a.contents(4),
            ["before, for a", "before", "for a", "after"]
        );
        let all = ["before, for a", "before", "for a", "for b", "after"];
        assert_eq!(everything.contents(5), all);

        let messages = server
            .request("GET", "/api/webhook/messages", "", b"")
            .json();
        assert_eq!(messages["messages"].as_array().unwrap().len(), 2);
        let head = server.request("HEAD", "/api/webhook/stream", "", b"");
        assert!(head.header("cache-control").unwrap().starts_with("public"));
    }
}

#[test]
fn a_shared_stream_ignores_last_event_id_and_replays_everything() {
    let server = Server::start(&["--cdn-fanout", "60s"]);
    publish(&server, "one", None);
    publish(&server, "two", None);
    let mut stream = server.stream("", "");
    skip_connected(&mut stream);
    let id = stream.next().id.unwrap();
    let header = format!("Last-Event-ID: {id}\r\n");
    let mut again = server.stream(&format!("?lastEventId={id}"), &header);
    assert!(shared_s(&again).is_some());
    assert_eq!(skip_connected(&mut again).0, 2);
    assert_eq!(again.contents(2), ["one", "two"]);
    // With a session the stream is private, and resumes.
    let mut private = server.stream("?sessionId=a", &header);
    assert_eq!(private.connected(), 1);
    assert_eq!(private.contents(1), ["two"]);
}

#[test]
fn a_shared_stream_ends_in_order_after_its_lifetime() {
    let server = Server::start(&["--cdn-fanout", "5s"]);
    let mut shared = server.stream("", "");
    let mut private = server.stream("?sessionId=a", "");
    private.connected();
    assert!(shared_s(&shared).unwrap() >= 3);
    assert_eq!(shared.head.header("connection"), Some("close"));
    publish(&server, "one", None);
    let (ending, events) = shared.drain();
    assert_eq!(ending, Ending::LastChunk);
    let last = events.last().unwrap();
    assert!(last.retry_ms.is_some_and(|ms| ms < 1000), "{last:?}");
    assert!(shared.connection.read_to_end().is_empty());
    // The other stream continues.
    publish(&server, "two", None);
    assert_eq!(private.contents(2), ["one", "two"]);
}

#[test]
fn a_drain_cuts_off_shared_streams() {
    let mut server = Server::start(&["--cdn-fanout", "60s", "--drain", "1s"]);
    let mut shared: Vec<EventStream> = (0..20).map(|_| server.stream("", "")).collect();
    let mut private = server.stream("?sessionId=a", "");
    for stream in &mut shared {
        skip_connected(stream);
    }
    private.connected();
    server.signal(Signal::TERM);
    for stream in &mut shared {
        let (ending, events) = stream.drain();
        assert_eq!(
            ending,
            Ending::Close,
            "a last chunk would let a cache keep it"
        );
        assert!(events.iter().all(Event::is_heartbeat), "{events:?}");
    }
    assert_eq!(private.drain().0, Ending::LastChunk);
    assert_eq!(server.wait().code(), Some(0));
}
