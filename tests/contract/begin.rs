//! Where streams and pages begin: `replay`, `since`, and the event id, which wins.

use serde_json::{Value, json};

use crate::support::{EventStream, Server, Setup};

use super::replay::publish_numbers;

const DETAIL: &str = "a time is RFC 3339 such as 2026-11-29T03:45:00Z, Unix time in milliseconds (not seconds), or 90s, 10m, 36h, 7d for so long ago";

/// The number of messages that a stream replays, and the first of them.
fn begin(server: &Server, query: &str, headers: &str) -> (u64, Option<String>) {
    let mut stream = server.stream(query, headers);
    let replay = stream.connected();
    (replay, (replay > 0).then(|| stream.next().content()))
}

fn page(server: &Server, query: &str) -> Value {
    let response = server.request("GET", &format!("/api/webhook/messages{query}"), "", b"");
    assert_eq!(response.status, 200, "{query}: {response:?}");
    response.json()
}

#[test]
fn a_replay_has_as_many_messages_as_the_request_says() {
    let server = Server::start(&[]);
    publish_numbers(&server, 0..130);
    for (query, count) in [
        ("?replay=100", 100),
        ("?replay=99", 99),
        ("?replay=1", 1),
        ("?replay=007", 7),
    ] {
        let first = (130 - count).to_string();
        assert_eq!(begin(&server, query, ""), (count, Some(first)), "{query}");
    }
    let mut live = server.stream("?replay=0", "");
    let connected = live.next();
    assert_eq!(connected.json()["replay"], 0);
    let id = connected
        .id
        .expect("it can resume before its first message");
    publish_numbers(&server, 130..133);
    assert_eq!(live.contents(3), ["130", "131", "132"]);
    let resumed = begin(&server, "?replay=0", &format!("Last-Event-ID: {id}\r\n"));
    assert_eq!(resumed, (3, Some("130".into())));
}

#[test]
fn every_form_of_a_time_begins_with_the_first_message_of_it_or_later() {
    let server = Server::start(&[]);
    publish_numbers(&server, 0..3);
    let first_ms = page(&server, "")["messages"][0]["timestamp"]
        .as_u64()
        .unwrap();
    let last_ms = page(&server, "")["messages"][2]["timestamp"]
        .as_u64()
        .unwrap();
    let whole = [
        first_ms.to_string(),
        "0".into(),
        "1h".into(),
        "60m".into(),
        "3600s".into(),
        "36500d".into(),
        "1969-07-20T20:17:40Z".into(),
        "2000-01-01T00:00:00%2B02:00".into(),
        "2000-01-01T00:00:00+02:00".into(),
        "2000-01-01t00:00:00.125z".into(),
        "2000-01-01T00:00:00-11:30".into(),
    ];
    let nothing = [
        (last_ms + 1).to_string(),
        "9999-12-31T23:59:59.999Z".into(),
        "9".repeat(30),
    ];
    for (times, count) in [(&whole[..], 3), (&nothing[..], 0)] {
        for time in times {
            let query = format!("?since={time}");
            assert_eq!(begin(&server, &query, "").0, count, "{time}");
            let page = page(&server, &query);
            assert_eq!(
                page["messages"].as_array().unwrap().len() as u64,
                count,
                "{time}"
            );
            assert_eq!(
                (&page["reset"], &page["missed"]),
                (&false.into(), &0.into())
            );
            assert!(
                page["lastEventId"].is_string(),
                "the client goes on from there"
            );
        }
    }
    // An empty value is none.
    assert_eq!(begin(&server, "?since=&lastEventId=", "").0, 3);
    // Both: the later start.
    assert_eq!(begin(&server, "?since=1h&replay=1", "").0, 1);
    assert_eq!(
        begin(&server, &format!("?since={}&replay=2", "9".repeat(20)), "").0,
        0
    );
    // Live messages follow.
    let mut stream = server.stream(&format!("?since={}", last_ms + 1), "");
    stream.connected();
    publish_numbers(&server, 3..5);
    assert_eq!(stream.contents(2), ["3", "4"]);
}

/// The history is the last hundred messages. A time reaches as far as an event id: as far as the live log.
#[test]
fn a_time_reaches_beyond_the_last_hundred() {
    let server = Server::start(&[]);
    publish_numbers(&server, 0..130);
    assert_eq!(begin(&server, "?since=1h", ""), (130, Some("0".into())));
    let first = page(&server, "?since=1h");
    assert_eq!(first["more"], true);
    assert_eq!(first["messages"].as_array().unwrap().len(), 100);
    let rest = page(
        &server,
        &format!("?since={}", first["lastEventId"].as_str().unwrap()),
    );
    assert_eq!(rest["messages"].as_array().unwrap().len(), 30);
}

#[test]
fn an_event_id_wins() {
    let server = Server::start(&[]);
    publish_numbers(&server, 0..5);
    let mut stream = server.stream("", "");
    stream.connected();
    let id = stream.next().id.unwrap();
    for query in [
        "?replay=0",
        "?since=9999-01-01T00:00:00Z",
        "?replay=1&since=1h",
    ] {
        let header = format!("Last-Event-ID: {id}\r\n");
        let second = (4, Some("1".to_owned()));
        assert_eq!(begin(&server, query, &header), second, "{query}");
        assert_eq!(
            begin(&server, &format!("{query}&lastEventId={id}"), ""),
            second
        );
        // The history of an unknown id is replayed: the client may have missed any of it.
        let unknown = format!("{query}&lastEventId=0123456789abcdef-1");
        assert_eq!(begin(&server, &unknown, ""), (5, Some("0".into())));
    }
}

#[test]
fn anything_else_is_refused_with_what_is_allowed() {
    let server = Server::start(&[]);
    let refused = |target: &str| {
        let response = server.request("GET", target, "", b"");
        assert_eq!(response.status, 400, "{target}");
        let json = response.json();
        let text = |member: &str| json[member].as_str().unwrap_or_default().to_owned();
        (text("error"), text("detail"))
    };
    for replay in ["", "-1", "101", "1.5", "all", "0x1", "1e1"] {
        let (error, _) = refused(&format!("/api/webhook/stream?replay={replay}"));
        assert_eq!(error, "replay must be a number from 0 to 100", "{replay}");
    }
    for since in [
        "nonsense",
        "-1",
        "1795923900",
        "10w",
        "1h30m",
        "2026-11-29",
        "2026-02-30T00:00:00Z",
        "9-1",
    ] {
        let (error, detail) = refused(&format!("/api/webhook/stream?since={since}"));
        assert_eq!(
            (error.as_str(), detail.as_str()),
            ("since must be a time", DETAIL)
        );
        let (error, detail) = refused(&format!("/api/webhook/messages?since={since}"));
        assert_eq!(error, "since must be an event id or a time", "{since}");
        assert_eq!(detail, DETAIL);
    }
    let (error, detail) = refused("/api/webhook/stream?since=0123456789abcdef-1");
    assert_eq!(error, "since of a stream must be a time");
    assert!(detail.contains("lastEventId"), "{detail}");
    for query in ["replay=1&replay=1", "since=1h&since=1h"] {
        let (error, _) = refused(&format!("/api/webhook/stream?{query}"));
        assert_eq!(error, "Repeated query parameter");
    }
    // A wrong value is refused beside an event id, too.
    let (error, _) = refused("/api/webhook/stream?since=x&lastEventId=0123456789abcdef-1");
    assert_eq!(error, "since must be a time");
    // Each resource has its own names.
    assert_eq!(page(&server, "?replay=x")["reset"], false);
    assert_eq!(begin(&server, "?limit=x&wait=x", "").0, 0);
}

/// A cache would replay the answer to clients that have asked at another time.
#[test]
fn a_cache_never_shares_a_stream_that_begins_elsewhere() {
    let server = Server::start(&["--cdn-fanout", "60s"]);
    let control = |stream: &EventStream| stream.head.header("cache-control").unwrap().to_owned();
    for (query, is_shared) in [
        ("", true),
        ("?since=", true),
        ("?replay=5", false),
        ("?since=10m", false),
    ] {
        let stream = server.stream(query, "");
        assert_eq!(control(&stream).starts_with("public"), is_shared, "{query}");
        let target = format!("/api/webhook/stream{query}");
        let head = server.request("HEAD", &target, "", b"");
        let head = head.header("cache-control").unwrap();
        assert_eq!(head.starts_with("public"), is_shared, "{query}");
    }
}

/// The id of an empty page moves only with messages that the client may see.
#[test]
fn a_page_since_a_time_tells_nothing_of_messages_for_others() {
    let server = Setup::new(&[]).secret("sesame").start();
    let post = |body: &str| {
        let secret = "X-Webhook-Secret: sesame\r\n";
        let response = server.request("POST", "/api/webhook", secret, body.as_bytes());
        assert_eq!(response.status, 200);
        response.json()["timestamp"].as_u64().unwrap()
    };
    let place = |since_ms: u64| {
        let page = page(&server, &format!("?since={since_ms}"));
        assert_eq!(page["messages"], json!([]));
        page["lastEventId"].clone()
    };
    let private = r#"{"message":"for one","sessionId":"z"}"#;
    let time_ms = post(private);
    assert_eq!(place(time_ms + 1), Value::Null);
    let public_ms = post(r#"{"message":"for all"}"#);
    let known = place(public_ms + 1);
    assert!(known.is_string());
    for _ in 0..3 {
        let time_ms = post(private);
        for since_ms in [time_ms, time_ms + 1, time_ms + 60_000] {
            assert_eq!(place(since_ms.max(public_ms + 1)), known);
        }
    }
    // A client that goes on from there misses nothing.
    post(r#"{"message":"news"}"#);
    let next = page(&server, &format!("?since={}", known.as_str().unwrap()));
    assert_eq!(next["messages"][0]["content"], "news");
}
