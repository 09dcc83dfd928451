//! Answers that the request head decides: they do not wait for the body, and nothing of the body is kept.

use serde_json::json;

use crate::support::loopback::wait_until_read;
use crate::support::{Connection, PATIENCE, Server, Setup};

const SECRET: &str = "sesame-open-4711";

/// Request line and fields of requests whose head decides the answer, and its status. Fields of the body, such as
/// `Content-Length`, are added later.
const DECIDED: [(&str, &str, u16); 6] = [
    ("POST /api/webhook", "", 401),
    (
        "POST /api/webhook",
        "X-Webhook-Secret: sesame-open-471\r\n",
        401,
    ),
    ("PUT /api/webhook", "", 405),
    ("POST /api/webhook/stream", "", 405),
    ("POST /nowhere", "", 404),
    ("GET /api/webhook/stream", "X-Webhook-Secret: x\r\n", 401),
];

fn server() -> Server {
    Setup::new(&["--shards", "1", "--auth-failures-max", "0"])
        .secret(SECRET)
        .start()
}

fn head(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}")
}

fn assert_goes_on(connection: &mut Connection) {
    let body = json!({ "message": "behind it" }).to_string();
    let secret = format!("X-Webhook-Secret: {SECRET}\r\n");
    connection.send_request("POST", "/api/webhook", &secret, body.as_bytes());
    assert_eq!(connection.read_response().status, 200);
}

/// The answer comes before the body. The body is skipped, and the connection continues: with a later request
/// and with a pipelined one.
#[test]
fn the_answer_precedes_the_body_and_the_connection_continues() {
    let server = server();
    let data = "d".repeat(50_000);
    let chunked = format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len());
    for (line, fields, status) in DECIDED {
        for (framing, body) in [
            ("Content-Length: 50000\r\n", &data),
            ("Transfer-Encoding: chunked\r\n", &chunked),
        ] {
            for sent in [0, 1, 30_000] {
                let mut connection = server.connect();
                let head = head(line, &format!("{fields}{framing}\r\n"));
                connection.send(&[head.as_bytes(), &body.as_bytes()[..sent]].concat());
                let answer = connection.read_response();
                assert_eq!(
                    (answer.status, answer.header("connection")),
                    (status, None),
                    "{line}: {answer:?}"
                );
                connection.send(&body.as_bytes()[sent..]);
                assert_goes_on(&mut connection);
                // The same with a pipelined request.
                connection.send(head.as_bytes());
                assert_eq!(connection.read_response().status, status);
                let next = "GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
                connection.send(&[body.as_bytes(), next.as_bytes()].concat());
                assert_eq!(connection.read_response().status, 200);
            }
        }
    }
}

/// A request that ends its connection, or waits for a 100, gets its answer at once, too. A client that sends
/// the body all the same still gets the answer.
#[test]
fn an_answer_that_closes_the_connection_arrives_before_the_body() {
    let server = server();
    let data = vec![b'd'; 50_000];
    for (line, fields, status) in DECIDED {
        for ends in ["Connection: close\r\n", "Expect: 100-continue\r\n"] {
            let mut connection = server.connect();
            let head = head(
                line,
                &format!("{fields}{ends}Content-Length: 50000\r\n\r\n"),
            );
            connection.send(head.as_bytes());
            wait_until_read(server.address.port());
            connection.send(&data);
            let answer = connection.read_response();
            assert_eq!(
                (answer.status, answer.header("connection")),
                (status, Some("close")),
                "{line} {ends}"
            );
            connection.finish();
            connection.expect_close();
        }
    }
}

/// A fault in a skipped body cannot be answered any more: the connection ends.
#[test]
fn a_malformed_skipped_body_ends_the_connection() {
    let server = server();
    let mut connection = server.connect();
    let head = head("POST /nowhere", "Transfer-Encoding: chunked\r\n\r\n");
    connection.send(head.as_bytes());
    assert_eq!(connection.read_response().status, 404);
    connection.send(b"3\r\nabcd\r\nGET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.expect_close();
    // The same in one write.
    let mut connection = server.connect();
    connection.send(&[head.as_bytes(), b"3\r\nabcd\r\n"].concat());
    assert_eq!(connection.read_response().status, 404);
    connection.expect_close();
}

/// The deadline is that of other bodies, ten seconds. There is no 408, because the client would take it for
/// the answer to its next request.
#[test]
fn a_missing_skipped_body_ends_the_connection_without_an_answer() {
    let server = server();
    let mut connection = server.connect();
    let head = head("POST /nowhere", "Content-Length: 10\r\n\r\n");
    connection.send(&[head.as_bytes(), b"12345"].concat());
    assert_eq!(connection.read_response().status, 404);
    connection.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.expect_close();
}

/// 600 refused uploads would hold 36 MB.
#[test]
fn bodies_of_refused_requests_are_not_kept() {
    const UPLOADS: usize = 600;
    let server = server();
    let body = vec![b'x'; 60_000];
    let upload = |(line, fields, status): (&str, &str, u16)| {
        let mut connection = server.connect();
        let head = head(line, &format!("{fields}Content-Length: 60001\r\n\r\n"));
        connection.send(&[head.as_bytes(), &body].concat());
        assert_eq!(connection.read_response().status, status);
        connection
    };
    // Buffers that are reused exist after these.
    let mut held: Vec<Connection> = DECIDED.into_iter().map(upload).collect();
    let before_kb = server.proc_status("RssAnon:");
    held.extend(DECIDED.into_iter().cycle().take(UPLOADS).map(upload));
    wait_until_read(server.address.port());
    let grown_kb = server.proc_status("RssAnon:").saturating_sub(before_kb);
    println!("{grown_kb} KiB for {UPLOADS} uploads");
    assert!(grown_kb < 8 * 1024, "{grown_kb} KiB");
}
