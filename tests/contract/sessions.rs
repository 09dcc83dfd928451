//! Streams, pages and long polls of several sessions.

use serde_json::{Value, json};

use crate::support::{Event, Server, Setup};

fn target(server: &Server, session: &str, message: &str) {
    let body = json!({ "message": message, "sessionId": session });
    assert_eq!(server.post(&body).status, 200);
}

/// A query with the sessions of these numbers.
fn of_sessions(numbers: std::ops::Range<u32>) -> String {
    let parameters: Vec<String> = numbers.map(|i| format!("sessionId=s{i}")).collect();
    format!("?{}", parameters.join("&"))
}

fn contents(page: &Value) -> Vec<&str> {
    let messages = page["messages"].as_array().unwrap().iter();
    messages
        .map(|message| message["content"].as_str().unwrap())
        .collect()
}

fn page(server: &Server, query: &str) -> Value {
    let response = server.request("GET", &format!("/api/webhook/messages{query}"), "", b"");
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

#[test]
fn a_stream_of_sixteen_sessions_has_their_messages_in_order_and_once() {
    let server = Server::start(&["--shards", "2"]);
    let publish = |round: u32| {
        for session in 0..18 {
            target(
                &server,
                &format!("s{session}"),
                &format!("{round} for {session}"),
            );
        }
        server.publish(&format!("{round} for all"));
    };
    let expected = |round: u32| {
        let targeted = (0..16).map(|session| format!("{round} for {session}"));
        targeted
            .chain([format!("{round} for all")])
            .collect::<Vec<_>>()
    };
    publish(0);
    let query = of_sessions(0..16);
    // Each of them again: the same name counts once.
    let twice = format!("{query}&{}&sessionId=", &query[1..]);
    let mut streams = [query.as_str(), &twice].map(|query| server.stream(query, ""));
    for stream in &mut streams {
        assert_eq!(stream.connected(), 17);
        assert_eq!(stream.contents(17), expected(0));
    }
    publish(1);
    let mut last = None;
    for stream in &mut streams {
        let events: Vec<_> = (0..17).map(|_| stream.next()).collect();
        let contents: Vec<String> = events.iter().map(Event::content).collect();
        assert_eq!(contents, expected(1));
        last.clone_from(&events[3].id);
    }
    // A resume, and a page from there.
    let last = last.unwrap();
    let mut resumed = server.stream(&format!("{query}&lastEventId={last}"), "");
    assert_eq!(resumed.connected(), 13);
    assert_eq!(resumed.contents(13), expected(1)[4..]);
    let rest = page(&server, &format!("{query}&since={last}"));
    assert_eq!(contents(&rest), expected(1)[4..]);
    // Streams of one session are as before.
    let mut one = server.stream("?sessionId=s3", "");
    assert_eq!(one.connected(), 4);
    assert_eq!(
        one.contents(4),
        ["0 for 3", "0 for all", "1 for 3", "1 for all"]
    );
}

#[test]
fn more_than_sixteen_different_sessions_are_refused() {
    let server = Server::start(&[]);
    for path in ["stream", "messages"] {
        let refused = format!("/api/webhook/{path}{}", of_sessions(0..17));
        let response = server.request("GET", &refused, "", b"");
        assert_eq!(response.status, 400);
        assert_eq!(response.error(), "At most 16 sessions in one request");
        let long = format!(
            "/api/webhook/{path}?sessionId=a&sessionId={}",
            "x".repeat(257)
        );
        let response = server.request("GET", &long, "", b"");
        assert_eq!(response.error(), "sessionId must be at most 256 bytes");
        let misspelled = format!("/api/webhook/{path}?sessionId=a&session_id=b");
        let response = server.request("GET", &misspelled, "", b"");
        assert_eq!(response.error(), "Unknown name: did you mean sessionId?");
    }
}

#[test]
fn a_union_is_private_and_its_long_poll_waits_for_any_of_its_sessions() {
    let server = Setup::new(&[]).secret("s3cret").start();
    let send = |session: &str, message: &str| {
        let body = json!({ "message": message, "sessionId": session }).to_string();
        let secret = "X-Webhook-Secret: s3cret\r\n";
        let sent = server.request("POST", "/api/webhook", secret, body.as_bytes());
        assert_eq!(sent.status, 200);
    };
    send("a", "first");
    let target = "/api/webhook/messages?sessionId=a&sessionId=b";
    let first = server.request("GET", target, "", b"");
    assert_eq!(contents(&first.json()), ["first"]);
    assert_eq!(first.header("cache-control"), Some("private, no-store"));
    let mut since = first.json()["lastEventId"].as_str().unwrap().to_owned();
    for session in ["b", "a", "b"] {
        let mut waiting = server.connect();
        let poll = format!("{target}&since={since}&wait=25");
        waiting.send_request("GET", &poll, "", b"");
        send("c", "for another");
        send(session, session);
        let page = waiting.read_response().json();
        assert_eq!(contents(&page), [session]);
        since = page["lastEventId"].as_str().unwrap().to_owned();
    }
}
