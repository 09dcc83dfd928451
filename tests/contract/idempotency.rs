//! `Idempotency-Key`: a retry with the same key gets the first answer and is not published again.

use serde_json::{Value, json};

use crate::support::{EventStream, Response, Server};

/// A server, and a stream of all its messages.
fn watched(arguments: &[&str]) -> (Server, EventStream) {
    let server = Server::start(arguments);
    let mut stream = server.stream("", "");
    stream.connected();
    (server, stream)
}

fn post(server: &Server, key: &str, body: &Value) -> Response {
    let field = format!("Idempotency-Key: {key}\r\n");
    post_with(server, &field, body)
}

fn post_with(server: &Server, fields: &str, body: &Value) -> Response {
    let body = body.to_string();
    server.request("POST", "/api/webhook", fields, body.as_bytes())
}

#[test]
fn a_retry_gets_the_first_answer_and_is_not_published() {
    for durability in ["process", "disk"] {
        let (server, mut stream) = watched(&["--durability", durability]);
        let body = json!({ "message": "once", "sessionId": "s" });
        let first = post(&server, "order-1", &body);
        assert_eq!(first.status, 200);
        assert_eq!(stream.next().content(), "once");
        // Bare or quoted, it is the same key.
        for key in ["order-1", "\"order-1\"", "order-1"] {
            let again = post(&server, key, &body);
            assert_eq!(again.status, 200);
            assert_eq!(again.json(), first.json(), "{durability}");
        }
        let other = post(&server, "order-2", &body);
        assert_ne!(other.json()["messageId"], first.json()["messageId"]);
        assert_eq!(stream.next().content(), "once");
        server.publish("the end");
        assert_eq!(stream.next().content(), "the end");
        assert_eq!(server.history(), ["once", "once", "the end"]);
    }
}

#[test]
fn without_a_key_equal_bodies_are_different_messages() {
    let (server, mut stream) = watched(&[]);
    assert_ne!(server.publish("same"), server.publish("same"));
    assert_eq!(stream.contents(2), ["same", "same"]);
}

#[test]
fn a_key_with_another_body_is_422() {
    for durability in ["process", "disk"] {
        let (server, mut stream) = watched(&["--durability", durability]);
        assert_eq!(post(&server, "k", &json!({ "message": "one" })).status, 200);
        let response = post(&server, "k", &json!({ "message": "two" }));
        assert_eq!(
            (response.status, &*response.error()),
            (422, "Idempotency-Key was used with another body")
        );
        assert_eq!(stream.next().content(), "one");
        server.publish("the end");
        assert_eq!(stream.next().content(), "the end");
    }
}

#[test]
fn a_malformed_or_repeated_key_is_400_by_the_head() {
    let (server, mut stream) = watched(&[]);
    let longest = "k".repeat(255);
    let body = json!({ "message": "x" });
    assert_eq!(post(&server, &longest, &body).status, 200);
    assert_eq!(stream.next().content(), "x");
    let too_long = format!("{longest}k");
    for key in [
        "",
        "\"\"",
        "\"open",
        "two words",
        "a, b",
        "caf\u{e9}",
        &too_long,
    ] {
        let response = post(&server, key, &body);
        assert_eq!(
            (response.status, &*response.error()),
            (400, "Malformed Idempotency-Key"),
            "{key}"
        );
        assert!(response.json()["detail"].is_string());
    }
    let twice = "Idempotency-Key: a\r\nidempotency-key: a\r\n";
    let response = post_with(&server, twice, &body);
    assert_eq!(
        (response.status, &*response.error()),
        (400, "Repeated Idempotency-Key")
    );
    // A client that waits before its body learns it without sending one.
    let mut connection = server.connect();
    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\
         Expect: 100-continue\r\nIdempotency-Key: a b\r\n\r\n";
    connection.send(head.as_bytes());
    assert_eq!(connection.read_response().status, 400);
    // Other requests do not care.
    let response = server.request("GET", "/api/webhook", twice, b"");
    assert_eq!(response.status, 200);
    server.publish("the end");
    assert_eq!(stream.next().content(), "the end");
}

/// Two attempts at the same time: in one turn of a shard, on two shards, in one commit.
#[test]
fn attempts_at_the_same_time_are_one_message() {
    for durability in ["process", "disk"] {
        let (server, mut stream) = watched(&["--shards", "2", "--durability", durability]);
        let body = json!({ "message": "once" }).to_string();
        let request = format!(
            "POST /api/webhook HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connections: Vec<_> = (0..8).map(|_| server.connect()).collect();
        for connection in &mut connections {
            connection.send(request.repeat(3).as_bytes());
        }
        let mut ids: Vec<String> = Vec::new();
        for connection in &mut connections {
            for _ in 0..3 {
                let response = connection.read_response();
                assert_eq!(response.status, 200, "{response:?}");
                ids.push(response.json()["messageId"].to_string());
            }
        }
        ids.dedup();
        assert_eq!(ids.len(), 1, "{durability}");
        assert_eq!(stream.next().content(), "once");
        server.publish("the end");
        assert_eq!(stream.next().content(), "the end");
    }
}

/// The ring is made for the largest body together with an identity.
#[test]
fn the_largest_body_may_have_a_key() {
    let (server, mut stream) = watched(&[]);
    let overhead = json!({ "message": "", "sessionId": "s" }).to_string().len();
    let content = "x".repeat(65_536 - overhead);
    let body = json!({ "message": content, "sessionId": "s" });
    let first = post(&server, "large", &body);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(stream.next().content(), content);
    assert_eq!(post(&server, "large", &body).json(), first.json());
    let server = {
        let mut server = server;
        server.kill();
        server.restart()
    };
    assert_eq!(post(&server, "large", &body).json(), first.json());
    assert_eq!(server.history(), [content]);
}
