//! Requests and their answers, byte by byte: webhooks, the status, refusals, and the headers of every answer.

use serde_json::json;

use crate::support::{Response, Server, Setup};

/// A POST of `body` as raw bytes.
pub fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The headers of every answer.
fn expect_common_headers(response: &Response) {
    let date = response.header("date").expect("Date");
    assert!(httpdate::parse_http_date(date).is_ok(), "{date}");
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some("*"),
        "{response:?}"
    );
}

#[test]
fn a_webhook_is_answered_once_it_is_in_the_ring() {
    let server = Server::start(&[]);
    let before = unix_ms();
    let response = server.post(&json!({ "message": "Hello" }));
    assert_eq!(response.status, 200);
    expect_common_headers(&response);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let json = response.json();
    assert_eq!(json.as_object().unwrap().len(), 3, "{json}");
    assert_eq!(json["success"], true);
    assert!(uuid::Uuid::parse_str(json["messageId"].as_str().unwrap()).is_ok());
    let timestamp = json["timestamp"].as_u64().unwrap();
    assert!((before..=unix_ms()).contains(&timestamp), "{timestamp}");
    assert_eq!(server.history(), ["Hello"]);
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[test]
fn status_window_and_preflight_are_answered() {
    let server = Server::start(&[]);
    let status = server.request("GET", "/api/webhook", "", b"");
    assert_eq!(
        (status.status, status.json()),
        (200, json!({ "status": "ok" }))
    );
    expect_common_headers(&status);
    let head = server.request("HEAD", "/api/webhook", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(
        head.header("content-length"),
        status.header("content-length")
    );

    let window = server.request("GET", "/", "", b"");
    assert_eq!(window.status, 200);
    assert!(
        window
            .header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(!window.body.is_empty());

    for (path, methods) in [
        ("/api/webhook", "GET, HEAD, POST, OPTIONS"),
        ("/api/webhook/stream", "GET, HEAD, OPTIONS"),
    ] {
        let preflight = server.request(
            "OPTIONS",
            path,
            "Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n",
            b"",
        );
        assert_eq!(preflight.status, 204);
        expect_common_headers(&preflight);
        assert_eq!(
            preflight.header("access-control-allow-methods"),
            Some(methods)
        );
        let allowed = preflight.header("access-control-allow-headers").unwrap();
        let known = "Authorization, Cache-Control, Content-Type, Idempotency-Key, Last-Event-ID, \
            X-Requested-With, X-Webhook-Secret, traceparent, *";
        assert_eq!(allowed, known);
        assert!(
            preflight
                .header("access-control-max-age")
                .unwrap()
                .parse::<u32>()
                .unwrap()
                > 0
        );
    }
}

#[test]
fn messages_are_stored_as_they_were_sent() {
    let server = Server::start(&[]);
    for (body, content) in [
        (r#"{"message":"  not trimmed\n"}"#, "  not trimmed\n"),
        (r#"{"message":"x","sessionId":null}"#, "x"),
        (r#"{"message":"y","sessionId":""}"#, "y"),
        (r#"{"message":"z","unknown":[1,{"message":2}]}"#, "z"),
        (
            " {\"message\" : \"\\u00e9\\ud83d\\ude00 \u{1F600}\"} \n",
            "é😀 😀",
        ),
        (
            r#"{"message":"data: x\n\nid: 1\r\n\r\n: y"}"#,
            "data: x\n\nid: 1\r\n\r\n: y",
        ),
        (
            r#"{"message":"\u0000\u001f\u007f\u2028"}"#,
            "\0\u{1f}\u{7f}\u{2028}",
        ),
    ] {
        let response = server.request(
            "POST",
            "/api/webhook",
            "Content-Type: text/plain\r\n",
            body.as_bytes(),
        );
        assert_eq!(response.status, 200, "{body}: {response:?}");
        assert_eq!(server.history().last().map(String::as_str), Some(content));
    }
}

#[test]
fn an_invalid_webhook_gets_the_reason_and_its_connection_continues() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let required = "Message is required and must be a non-empty string";
    let long_session = json!({ "message": "x", "sessionId": "s".repeat(257) }).to_string();
    for (body, error) in [
        (&b""[..], "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"[]", "Invalid JSON"),
        (b"\"message\"", "Invalid JSON"),
        (b"null", "Invalid JSON"),
        (b"{\"message\":\"x\"} y", "Invalid JSON"),
        (b"{\"message\":\"x\"}{}", "Invalid JSON"),
        (b"{\"message\":\"\xff\"}", "Body is not UTF-8"),
        (b"{\"message\":\"\\ud80\"}", "Invalid JSON"),
        (b"{}", required),
        (b"{\"message\":null}", required),
        (b"{\"message\":1}", required),
        (b"{\"message\":[\"x\"]}", required),
        (b"{\"message\":\"\"}", required),
        (b"{\"message\":\" \\t\\n\"}", required),
        (
            b"{\"message\":\"x\",\"sessionId\":1}",
            "sessionId must be a string",
        ),
        (
            b"{\"message\":\"x\",\"sessionId\":[\"a\"]}",
            "sessionId must be a string",
        ),
        (
            long_session.as_bytes(),
            "sessionId must be at most 256 bytes",
        ),
    ] {
        connection.send(&post(body));
        let response = connection.read_response();
        let case = String::from_utf8_lossy(body);
        assert_eq!(
            (response.status, response.error().as_str()),
            (400, error),
            "{case}"
        );
        expect_common_headers(&response);
    }
    assert_eq!(server.history(), [""; 0]);
}

#[test]
fn unknown_paths_and_methods_get_404_and_405() {
    let server = Server::start(&[]);
    for (method, path, status, allow) in [
        ("GET", "/nope", 404, None),
        ("POST", "/api/webhook//", 404, None),
        ("GET", "/api/webhook/streams", 404, None),
        ("PUT", "/api/webhook", 405, Some("GET, HEAD, POST, OPTIONS")),
        (
            "DELETE",
            "/api/webhook/stream",
            405,
            Some("GET, HEAD, OPTIONS"),
        ),
        (
            "POST",
            "/api/webhook/stream",
            405,
            Some("GET, HEAD, OPTIONS"),
        ),
        ("POST", "/", 405, Some("GET, HEAD, OPTIONS")),
    ] {
        let response = server.request(method, path, "", b"");
        assert_eq!(
            (response.status, response.header("allow")),
            (status, allow),
            "{method} {path}"
        );
        assert!(!response.error().is_empty());
        expect_common_headers(&response);
    }
}

/// Each of these is refused, and the bytes behind it are never read as a request.
#[test]
fn ambiguous_requests_are_refused_and_close_the_connection() {
    let server = Server::start(&[]);
    let smuggled = post(br#"{"message":"smuggled"}"#);
    let with = |headers: &str| format!("POST /api/webhook HTTP/1.1\r\n{headers}\r\n0\r\n\r\n");
    for (request, status) in [
        (
            with("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        (
            with("Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n"),
            400,
        ),
        (with("Host: a\r\nContent-Length: +5\r\n"), 400),
        (with("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"), 501),
        (
            with("Host: a\r\nTransfer-Encoding: chunked, chunked\r\n"),
            400,
        ),
        (with("Host: a\r\nTransfer-Encoding:\r\n"), 400),
        (with("Host: a\r\nTransfer-Encoding : chunked\r\n"), 400),
        (with("Host: a\r\n Content-Length: 5\r\n"), 400),
        (with("Host: a\r\nX: a\rb\r\n"), 400),
        (with("Host: a\r\nX: a\0b\r\n"), 400),
        (with("Host: a\nContent-Length: 0\n"), 400),
        (with("Content-Length: 0\r\n"), 400),
        (with("Host: a\r\nHost: a\r\n"), 400),
        (with("Host: a, b\r\n"), 400),
        (with("Host: u@a\r\n"), 400),
        (with("Host: a/b\r\n"), 400),
        (
            "POST /api/webhook HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            400,
        ),
        ("GET /api/webhook#x HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /api/webhook HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505),
        ("GET  /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /api/webhook\r\n\r\n".into(), 400),
        ("\u{16}\u{3}\u{1}\u{2}\0".into(), 400),
        (
            with("Host: a\r\nTransfer-Encoding: chunked\r\n").replace("0\r\n\r\n", "x\r\n\r\n"),
            400,
        ),
        (
            with("Host: a\r\nTransfer-Encoding: chunked\r\n")
                .replace("0\r\n\r\n", "1\r\nxy0\r\n\r\n"),
            400,
        ),
        (
            with("Host: a\r\nTransfer-Encoding: chunked\r\n")
                .replace("0\r\n\r\n", "fffffffffffffffff\r\n"),
            400,
        ),
    ] {
        let mut connection = server.connect();
        connection.send(&[request.as_bytes(), &smuggled].concat());
        let response = connection.read_response();
        assert_eq!(response.status, status, "{request:?}");
        assert_eq!(response.header("connection"), Some("close"), "{request:?}");
        assert!(!response.error().is_empty());
        expect_common_headers(&response);
        connection.expect_close();
    }
    assert_eq!(server.history(), [""; 0]);
}

#[test]
fn oversized_requests_are_refused_at_once_and_the_answer_arrives() {
    let server = Server::start(&["--max-body-bytes", "2048"]);
    let long = |length| "x".repeat(length);
    for (head, status) in [
        (
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", long(8 * 1024)),
            414,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                long(16 * 1024)
            ),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
                "X: y\r\n".repeat(101)
            ),
            431,
        ),
        (
            "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2049\r\n\r\n".into(),
            413,
        ),
        (
            "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n"
                .into(),
            413,
        ),
        (
            format!(
                "POST /api/webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n801\r\n{}",
                long(10)
            ),
            413,
        ),
    ] {
        let mut connection = server.connect();
        // The answer arrives while the client still sends the body.
        connection.send(head.as_bytes());
        let response = connection.read_response();
        assert_eq!(response.status, status, "{}", &head[..40]);
        connection.send_if_open(&vec![b'x'; 100_000]);
        connection.finish_if_open();
        connection.expect_close();
    }
    // A client that sends everything before it reads must get the answer, not a reset.
    let mut connection = server.connect();
    let body = vec![b'x'; 900_000];
    connection.send_if_open(&post(&body));
    assert_eq!(connection.read_response().status, 413);

    let exact = json!({ "message": "x".repeat(2048 - 14) }).to_string();
    assert_eq!(exact.len(), 2048);
    assert_eq!(
        server
            .request("POST", "/api/webhook", "", exact.as_bytes())
            .status,
        200
    );
}

#[test]
fn webhooks_need_the_secret() {
    let server = Setup::new(&[]).secret("s3cret").start();
    let body = br#"{"message":"x"}"#;
    for (headers, status) in [
        ("", 401),
        ("X-Webhook-Secret: \r\n", 401),
        ("X-Webhook-Secret: wrong\r\n", 401),
        ("X-Webhook-Secret: s3crets\r\n", 401),
        ("X-Webhook-Secret: S3cret\r\n", 401),
        (
            "X-Webhook-Secret: s3cret\r\nX-Webhook-Secret: wrong\r\n",
            400,
        ),
        ("x-webhook-secret:   s3cret  \r\n", 200),
    ] {
        let response = server.request("POST", "/api/webhook", headers, body);
        assert_eq!(response.status, status, "{headers:?}");
        if status == 401 {
            let fault = if headers.is_empty() {
                "missing"
            } else {
                "wrong"
            };
            let detail = format!("the header X-Webhook-Secret is {fault}");
            let expected = json!({"error": "Unauthorized", "detail": detail});
            assert_eq!(response.json(), expected, "{headers:?}");
            expect_common_headers(&response);
        }
    }
    // A wrong secret is reported before a bad body, so that an unauthorised client learns nothing about the
    // body.
    assert_eq!(server.request("POST", "/api/webhook", "", b"{").status, 401);
    assert_eq!(
        server.request("GET", "/api/webhook", "", b"").status,
        200,
        "health needs no secret"
    );
    let log = format!("{:?}", server.log());
    assert!(!log.contains("s3cret") && !log.contains("wrong"), "{log}");
}

#[test]
fn cors_headers_follow_the_configuration() {
    let server = Server::start(&["--allow-origin", "https://a.example,https://b.example:8443"]);
    for (origin, allowed) in [
        ("https://a.example", Some("https://a.example")),
        ("https://b.example:8443", Some("https://b.example:8443")),
        ("https://b.example", None),
        ("https://a.example.evil", None),
        ("null", None),
    ] {
        let header = format!("Origin: {origin}\r\n");
        for response in [
            server.request("GET", "/api/webhook", &header, b""),
            server.request("POST", "/api/webhook", &header, b"{"),
            server.request("OPTIONS", "/api/webhook/stream", &header, b""),
            server.stream("", &header).head,
        ] {
            assert_eq!(
                response.header("access-control-allow-origin"),
                allowed,
                "{origin}: {response:?}"
            );
            assert_eq!(
                response.header("vary"),
                Some("Origin"),
                "a cache must keep the answers apart"
            );
        }
    }
}
