//! HTTP connections: bodies in pieces, pipelined requests, streams, and the end.

use serde_json::json;

use crate::http::post;
use crate::support::{Connection, Ending, Event, EventStream, Server, Setup};

#[test]
fn bodies_arrive_in_pieces_in_chunks_and_after_a_100() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    for byte in post(br#"{"message":"a"}"#) {
        connection.send(&[byte]);
    }
    assert_eq!(connection.read_response().status, 200);

    connection.send(
        b"POST /api/webhook HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
          5;x=y\r\n{\"mes\r\nA\r\nsage\":\"b\"}\r\n0\r\nTrailer: z\r\n\r\n",
    );
    assert_eq!(connection.read_response().status, 200);

    let head = "POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 15\r\nExpect: 100-continue\r\n\r\n";
    connection.send(head.as_bytes());
    assert_eq!(connection.read_head().status, 100);
    connection.send(br#"{"message":"c"}"#);
    assert_eq!(
        connection.read_head().status,
        200,
        "one 100, then the answer"
    );
    assert_eq!(server.history(), ["a", "b", "c"]);
}

#[test]
fn an_error_in_the_head_replaces_the_100() {
    let server = Setup::new(&[]).secret("s3cret").start();
    for (path, length, status) in [
        ("/api/webhook", 15, 401),
        ("/nope", 15, 404),
        ("/api/webhook", 1 << 20, 413),
    ] {
        let mut connection = server.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        connection.send(head.as_bytes());
        assert_eq!(connection.read_head().status, status, "{path} {length}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let mut requests = Vec::new();
    for number in 0..200 {
        requests.extend(post(
            json!({ "message": number.to_string() })
                .to_string()
                .as_bytes(),
        ));
        requests.extend(b"GET /nope HTTP/1.1\r\nHost: a\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    connection.send(&requests);
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(connection.read_response().json()["messageId"].clone());
        assert_eq!(connection.read_response().status, 404);
        assert_eq!(connection.read_response_to("HEAD").status, 200);
    }
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 100);
    for (number, id) in ids.iter().enumerate().skip(100) {
        let event = stream.next();
        assert_eq!(
            (&event.json()["id"], event.content()),
            (id, number.to_string())
        );
    }
}

#[test]
fn a_stream_is_the_last_answer_of_its_connection() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    let stream = b"GET /api/webhook/stream HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.send(
        &[
            &post(br#"{"message":"before"}"#)[..],
            stream,
            &post(br#"{"message":"after"}"#),
        ]
        .concat(),
    );
    assert_eq!(connection.read_response().status, 200);
    let mut stream = EventStream::read(connection);
    assert_eq!(stream.connected(), 1);
    assert_eq!(stream.next().content(), "before");
    server.publish("live");
    assert_eq!(
        stream.next().content(),
        "live",
        "bytes behind a stream's request are not a request"
    );
}

#[test]
fn http_1_0_and_connection_close_end_the_connection() {
    let server = Server::start(&[]);
    for (request, connection_header) in [
        ("GET /api/webhook HTTP/1.0\r\n\r\n", Some("close")),
        (
            "GET /api/webhook HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            Some("close"),
        ),
        (
            "GET /api/webhook HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
            Some("close"),
        ),
    ] {
        let mut connection = server.connect();
        connection.send(request.as_bytes());
        let response = connection.read_response();
        assert_eq!(
            (response.status, response.header("connection")),
            (200, connection_header),
            "{request}"
        );
        assert!(response.header("content-length").is_some());
        connection.expect_close();
    }
    // A client that closed its sending side still gets its answers.
    let mut connection = server.connect();
    connection.send(&[post(br#"{"message":"a"}"#), post(br#"{"message":"b"}"#)].concat());
    connection.finish();
    assert_eq!(connection.read_response().status, 200);
    assert_eq!(connection.read_response().status, 200);
    connection.expect_close();
}

#[test]
fn a_head_request_opens_no_stream() {
    let server = Server::start(&[]);
    let mut connection = server.connect();
    connection.send_request("HEAD", "/api/webhook/stream", "", b"");
    let head = connection.read_response_to("HEAD");
    assert_eq!(
        (head.status, head.header("content-type")),
        (200, Some("text/event-stream; charset=utf-8"))
    );
    server.publish("x");
    connection.send_request("GET", "/api/webhook", "", b"");
    assert_eq!(
        connection.read_response().status,
        200,
        "bytes arrived between head and next answer"
    );
}

#[test]
fn an_http_1_0_stream_ends_with_the_connection() {
    let mut server = Server::start(&["--drain", "500ms"]);
    server.publish("a");
    let mut stream = EventStream::open_1_0(server.address, "");
    assert_eq!(stream.head.header("transfer-encoding"), None);
    assert_eq!(stream.head.header("content-length"), None);
    assert_eq!(stream.connected(), 1);
    server.publish("b");
    assert_eq!(stream.contents(2), ["a", "b"]);
    server.signal(rustix::process::Signal::TERM);
    let (ending, events) = stream.drain();
    assert_eq!(ending, Ending::Close);
    assert!(events.iter().any(Event::is_end), "{events:?}");
    server.wait();
}

#[test]
fn a_connection_that_ends_without_a_request_is_harmless() {
    let server = Server::start(&[]);
    drop(Connection::open(server.address));
    let mut connection = server.connect();
    connection.finish();
    connection.expect_close();
    let mut connection = server.connect();
    connection.send(b"GET / HT");
    connection.finish();
    let rest = connection.read_to_end();
    assert!(
        rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"),
        "{:?}",
        String::from_utf8_lossy(&rest)
    );
    assert_eq!(server.request("GET", "/api/webhook", "", b"").status, 200);
}
