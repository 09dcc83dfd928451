//! What the head of a request decides is answered when the head is there, and nothing is kept of the
//! body.

mod support;

use serde_json::json;
use support::loopback::wait_until_read;
use support::{Connection, PATIENCE, Server, Setup};

const SECRET: &str = "sesame-open-4711";

/// Requests whose answer their head decides, with the fields of their body left out, and that answer.
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
    Setup::new(&["--shards", "1"]).secret(SECRET).start()
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

/// The answer comes before the body, the body is read past, and the connection goes on: with what is
/// sent next, and with what is pipelined.
#[test]
fn the_answer_does_not_wait_for_the_body_and_the_connection_goes_on() {
    let server = server();
    let data = "d".repeat(50_000);
    let chunked = format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len());
    for (line, fields, status) in DECIDED {
        for (framing, body) in [
            ("Content-Length: 50000\r\n", &data),
            ("Transfer-Encoding: chunked\r\n", &chunked),
        ] {
            for come in [0, 1, 30_000] {
                let mut connection = server.connect();
                let head = head(line, &format!("{fields}{framing}\r\n"));
                connection.send(&[head.as_bytes(), &body.as_bytes()[..come]].concat());
                let answer = connection.read_response();
                assert_eq!(
                    (answer.status, answer.header("connection")),
                    (status, None),
                    "{line}: {answer:?}"
                );
                connection.send(&body.as_bytes()[come..]);
                assert_goes_on(&mut connection);
                // And with the next request right behind it.
                connection.send(head.as_bytes());
                assert_eq!(connection.read_response().status, status);
                let next = "GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n";
                connection.send(&[body.as_bytes(), next.as_bytes()].concat());
                assert_eq!(connection.read_response().status, 200);
            }
        }
    }
}

/// A request that ends its connection, or waits to be told to go on, has its answer at once, too; what
/// its client sends all the same does not keep the answer from it.
#[test]
fn where_the_connection_ends_the_answer_arrives_before_the_body_is_sent() {
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

/// What is wrong with a body that is read past cannot be answered any more: the connection ends.
#[test]
fn a_malformed_body_behind_the_answer_ends_the_connection() {
    let server = server();
    let mut connection = server.connect();
    let head = head("POST /nowhere", "Transfer-Encoding: chunked\r\n\r\n");
    connection.send(head.as_bytes());
    assert_eq!(connection.read_response().status, 404);
    connection.send(b"3\r\nabcd\r\nGET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.expect_close();
    // In one piece it fares the same.
    let mut connection = server.connect();
    connection.send(&[head.as_bytes(), b"3\r\nabcd\r\n"].concat());
    assert_eq!(connection.read_response().status, 404);
    connection.expect_close();
}

/// Ten seconds, as for a body that is wanted; but a second answer would be taken for that of the next
/// request.
#[test]
fn a_body_that_does_not_come_ends_the_connection_in_silence() {
    let server = server();
    let mut connection = server.connect();
    let head = head("POST /nowhere", "Content-Length: 10\r\n\r\n");
    connection.send(&[head.as_bytes(), b"12345"].concat());
    assert_eq!(connection.read_response().status, 404);
    connection.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.expect_close();
}

/// 600 forbidden uploads would take 36 MB.
#[test]
fn no_body_is_kept_for_a_request_that_is_refused() {
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
    // What is kept for reuse is there after these.
    let mut held: Vec<Connection> = DECIDED.into_iter().map(upload).collect();
    let before_kb = server.proc_status("RssAnon:");
    held.extend(DECIDED.into_iter().cycle().take(UPLOADS).map(upload));
    wait_until_read(server.address.port());
    let grown_kb = server.proc_status("RssAnon:").saturating_sub(before_kb);
    println!("{grown_kb} KiB for {UPLOADS} uploads");
    assert!(grown_kb < 8 * 1024, "{grown_kb} KiB");
}
