//! Requests that real senders and clients send, and their common mistakes: each is accepted, or refused with a
//! helpful reason. A message for one session never goes to all.

use serde_json::{Value, json};

use crate::support::{EventStream, Response, Server};

/// A server, and a stream of all its messages.
fn watched() -> (Server, EventStream) {
    let server = Server::start(&[]);
    let mut stream = server.stream("", "");
    stream.connected();
    (server, stream)
}

fn post(server: &Server, target: &str, headers: &str, body: &[u8]) -> Response {
    server.request("POST", target, headers, body)
}

/// Fails if the stream has shown anything.
fn expect_nothing(server: &Server, stream: &mut EventStream) {
    server.publish("the end");
    assert_eq!(stream.next().content(), "the end");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let (server, mut stream) = watched();
    let body = b"\xef\xbb\xbf{\"message\":\"marked\",\"sessionId\":\"s\"}";
    assert_eq!(post(&server, "/api/webhook", "", body).status, 200);
    let event = stream.next();
    assert_eq!(event.content(), "marked");
    assert_eq!(event.json()["sessionId"], "s");
}

#[test]
fn half_a_surrogate_pair_becomes_a_replacement_character() {
    let (server, mut stream) = watched();
    let body = br#"{"message":"a\ud83d","sessionId":"\ude00b"}"#;
    assert_eq!(post(&server, "/api/webhook", "", body).status, 200);
    let event = stream.next();
    assert_eq!(event.content(), "a\u{fffd}");
    assert_eq!(event.json()["sessionId"], "\u{fffd}b");
    let mut own = server.stream("?sessionId=%EF%BF%BDb", "");
    assert_eq!(own.connected(), 1);
}

#[test]
fn a_body_that_is_not_utf_8_is_refused_as_such() {
    let (server, mut stream) = watched();
    for body in [
        &b"{\"message\":\"caf\xe9\"}"[..],
        b"\xff\xfe{\0\"\0m\0\"\0}\0",
        b"{\"message\":\"x\",\"other\":\"\x80\"}",
    ] {
        let response = post(&server, "/api/webhook", "", body);
        assert_eq!(
            (response.status, &*response.error()),
            (400, "Body is not UTF-8")
        );
    }
    expect_nothing(&server, &mut stream);
}

#[test]
fn a_body_with_a_content_coding_is_refused_by_its_head() {
    let (server, mut stream) = watched();
    let body = br#"{"message":"x"}"#;
    for coding in [
        "gzip",
        "GZIP",
        "deflate",
        "br",
        "zstd",
        "identity, gzip",
        "x",
    ] {
        let field = format!("Content-Encoding: {coding}\r\n");
        let response = post(&server, "/api/webhook", &field, body);
        assert_eq!(response.status, 415, "{coding}: {response:?}");
        assert_eq!(response.header("accept-encoding"), Some("identity"));
        assert!(
            response.error().contains("Content-Encoding"),
            "{response:?}"
        );
    }
    let expecting = "Content-Encoding: gzip\r\nExpect: 100-continue\r\n";
    let mut connection = server.connect();
    let head =
        format!("POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n{expecting}\r\n");
    connection.send(head.as_bytes());
    assert_eq!(connection.read_response().status, 415);
    expect_nothing(&server, &mut stream);
    for plain in ["", "identity", "Identity", ", identity ,"] {
        let field = format!("Content-Encoding: {plain}\r\n");
        assert_eq!(
            post(&server, "/api/webhook", &field, body).status,
            200,
            "{plain}"
        );
        assert_eq!(stream.next().content(), "x");
    }
}

/// The type of a body is ignored: `curl -d` claims a form.
#[test]
fn any_content_type_is_accepted() {
    let (server, mut stream) = watched();
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain; charset=iso-8859-1",
        "application/json; charset=utf-16",
        "nonsense",
    ] {
        let field = format!("Content-Type: {content_type}\r\n");
        let body = "{\"message\":\"é\"}";
        assert_eq!(
            post(&server, "/api/webhook", &field, body.as_bytes()).status,
            200
        );
        assert_eq!(stream.next().content(), "é");
    }
}

#[test]
fn a_misspelt_session_id_is_refused() {
    let (server, mut stream) = watched();
    for name in [
        "session_id",
        "sessionID",
        "SessionId",
        "session-id",
        "sessionid",
        "sesionId",
    ] {
        let body = json!({ "message": "for one", name: "s" }).to_string();
        let response = post(&server, "/api/webhook", "", body.as_bytes());
        assert_eq!(response.status, 400, "{name}");
        assert_eq!(response.error(), "Unknown name: did you mean sessionId?");
    }
    let twice = br#"{"message":"for one","sessionId":"s","sessionId":"s"}"#;
    assert_eq!(post(&server, "/api/webhook", "", twice).status, 400);
    for target in ["/api/webhook?sessionId=s", "/api/webhook/?a=b&session_id=s"] {
        let response = post(&server, target, "", br#"{"message":"for one"}"#);
        assert_eq!(response.status, 400, "{target}");
        assert_eq!(
            response.error(),
            "sessionId belongs in the body of a webhook"
        );
    }
    expect_nothing(&server, &mut stream);
    let body = br#"{"message":"ours","session":{"id":7},"x":{"session_id":"s"}}"#;
    assert_eq!(post(&server, "/api/webhook?token=x", "", body).status, 200);
    assert_eq!(stream.next().content(), "ours");
}

#[test]
fn a_misspelt_query_parameter_of_a_stream_is_refused() {
    let server = Server::start(&[]);
    for resource in ["stream", "messages"] {
        for (query, error) in [
            ("session_id=s", "Unknown name: did you mean sessionId?"),
            ("sessionID=s", "Unknown name: did you mean sessionId?"),
            ("lastEventID=s", "Unknown name: did you mean lastEventId?"),
            ("last-event-id=s", "Unknown name: did you mean lastEventId?"),
            ("since=1&since=1", "Repeated query parameter"),
        ] {
            let target = format!("/api/webhook/{resource}?{query}");
            let response = server.request("GET", &target, "", b"");
            assert_eq!(
                (response.status, &*response.error()),
                (400, error),
                "{target}"
            );
        }
        // Paths used to trick caches and browsers.
        let target = format!("/api/webhook/{resource}?_=1700000000000&v=2&limit=1");
        assert_eq!(
            server.request("HEAD", &target, "", b"").status,
            200,
            "{target}"
        );
    }
}

#[test]
fn a_trailing_slash_is_ignored() {
    let (server, mut stream) = watched();
    assert_eq!(
        server.request("GET", "/api/webhook/", "", b"").json(),
        json!({ "status": "ok" })
    );
    let posted = post(&server, "/api/webhook/", "", br#"{"message":"x"}"#);
    assert_eq!(posted.status, 200);
    assert_eq!(stream.next().content(), "x");

    let mut connection = server.connect();
    connection.send_request("GET", "/api/webhook/stream/?sessionId=s", "", b"");
    let mut slashed = EventStream::read(connection);
    assert_eq!(slashed.connected(), 1);
    let history = server.request("GET", "/api/webhook/messages/?limit=1", "", b"");
    assert_eq!(history.json()["messages"][0]["content"], "x");

    let preflight = server.request("OPTIONS", "/api/webhook/stream/", "", b"");
    assert_eq!(
        (preflight.status, preflight.header("allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );
    let refused = post(&server, "/api/webhook/stream/", "", b"");
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
    for target in [
        "/api/webhook//",
        "/api/webhook/stream//",
        "/hookcast.js/",
        "/api/",
    ] {
        assert_eq!(
            server.request("GET", target, "", b"").status,
            404,
            "{target}"
        );
    }
}

/// Blanks around a field's value do not belong to it (RFC 9110 section 5.5).
#[test]
fn blanks_around_a_last_event_id_are_ignored() {
    let (server, mut stream) = watched();
    server.publish("first");
    server.publish("second");
    let id = stream.next().id.unwrap();
    for field in ["Last-Event-ID:", "last-event-id: \t", "LAST-EVENT-ID:   "] {
        let mut resumed = server.stream("", &format!("{field}{id} \t \r\n"));
        assert_eq!(resumed.connected(), 1);
        assert_eq!(resumed.next().content(), "second");
    }
    let mut resumed = server.stream(&format!("?lastEventId=+{id}"), "");
    assert_eq!(
        resumed.connected(),
        2,
        "a blank inside makes the id invalid: the whole history"
    );
}

/// The `Accept` header is ignored: many clients send `*/*`, or none.
#[test]
fn any_accept_header_gets_a_stream() {
    let server = Server::start(&[]);
    for accept in [
        "",
        "*/*",
        "application/json",
        "text/html;q=0.5",
        "text/event-stream;q=0",
    ] {
        let mut stream = server.stream("", &format!("Accept: {accept}\r\n"));
        stream.connected();
    }
}

/// Pages of other origins: the headers that their clients send in preflights, and the answers.
#[test]
fn preflights_allow_the_headers_of_known_clients() {
    let server = Server::start(&[]);
    let asked = "cache-control,last-event-id,authorization,traceparent,x-requested-with";
    for (target, method) in [("/api/webhook", "POST"), ("/api/webhook/stream", "GET")] {
        let headers = format!(
            "Origin: https://a.example\r\nAccess-Control-Request-Method: {method}\r\n\
             Access-Control-Request-Headers: {asked}\r\n"
        );
        let preflight = server.request("OPTIONS", target, &headers, b"");
        assert_eq!(preflight.status, 204);
        let field = |name| preflight.header(name).unwrap_or_default().to_owned();
        let allowed = field("access-control-allow-headers").to_ascii_lowercase();
        let allowed: Vec<&str> = allowed.split(", ").collect();
        let named = ["content-type", "x-webhook-secret", "*"];
        for name in asked.split(',').chain(named) {
            assert!(allowed.contains(&name), "{name} in {allowed:?}");
        }
        assert!(field("access-control-allow-methods").contains(method));
        assert_eq!(field("access-control-allow-origin"), "*");
        // No wildcard: browsers refuse it, and the server does not send it.
        assert_eq!(preflight.header("access-control-allow-credentials"), None);
    }
}

#[test]
fn a_listed_origin_may_send_credentials() {
    let server = Server::start(&["--allow-origin", "https://a.example"]);
    for (origin, credentials) in [
        ("https://a.example", Some("true")),
        ("https://b.example", None),
        ("null", None),
    ] {
        let header = format!("Origin: {origin}\r\n");
        for response in [
            server.request("OPTIONS", "/api/webhook", &header, b""),
            server.request("OPTIONS", "/api/webhook/stream", &header, b""),
            server.request("POST", "/api/webhook", &header, br#"{"message":"x"}"#),
            server.request("POST", "/api/webhook", &header, b"{"),
            server.request("GET", "/api/webhook/messages", &header, b""),
            server.request("GET", "/hookcast.js", &header, b""),
            server.request("GET", "/nowhere", &header, b""),
            server.stream("", &header).head,
        ] {
            let allowed = response.header("access-control-allow-origin");
            assert_eq!(allowed, credentials.map(|_| origin), "{response:?}");
            let found = response.header("access-control-allow-credentials");
            assert_eq!(found, credentials, "{origin}: {response:?}");
            let varies = |(name, value): &(String, String)| {
                name.eq_ignore_ascii_case("vary") && value == "Origin"
            };
            assert!(response.headers.iter().any(varies), "{response:?}");
        }
    }
}

/// A page can read only exposed fields.
#[test]
fn headers_that_clients_need_are_exposed_to_pages() {
    let server = Server::start(&["--max-connections", "1"]);
    let mut stream = server.stream("", "");
    stream.connected();
    let full = server.request("POST", "/api/webhook", "", br#"{"message":"x"}"#);
    assert_eq!(full.status, 503);
    assert_eq!(
        full.header("access-control-expose-headers"),
        Some("Retry-After")
    );
    drop(stream);

    let server = Server::start(&[]);
    let history = server.request("GET", "/api/webhook/messages", "", b"");
    assert!(history.header("etag").is_some());
    assert_eq!(
        history.header("access-control-expose-headers"),
        Some("ETag")
    );
    let body: Value = history.json();
    assert_eq!(body["messages"], json!([]));
}
