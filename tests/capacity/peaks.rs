//! The peak memory that one kind of peer can cause, kind by kind. `src/limits/MEMORY.md` names the test of each
//! collection.
//!
//! Each test fills something as far as a peer can, and compares the growth of the process with the bound in
//! `limits`. `memory` does so for everything at once.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Instant;

use hookcast::limits::{
    CONNECTION_BYTES_MAX, HELD_BYTES_MAX, HISTORY_MESSAGES, LOG_QUEUE_BYTES_MAX,
    PROXY_HEADER_BYTES_MAX, TLS_CONNECTION_BYTES_MAX, held_bytes_max, log_bytes_max,
    memory_bytes_max, pages_bytes_max,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::memory::{growth_bytes, wait_for_reads};
use crate::support::server::proc_status;
use crate::support::tls::Authority;
use crate::support::{Connection, PATIENCE, Server, Setup, alone};

const MIB: u64 = 1024 * 1024;

/// Allowance for the allocator and the threads, on top of each figure.
const SLACK: u64 = 2 * MIB;

fn bytes(count: usize, each: usize) -> u64 {
    (count * each) as u64
}

fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /api/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

/// Half of the requests hold a long list of tags, the other half hold pipelined bytes. Requests beyond the bound
/// are answered at once.
#[test]
fn waiting_requests_stay_below_the_bound_of_held_bytes() {
    const HELD_EACH: usize = 15_000;
    let alone = alone();
    let count = alone.connections(10_000, 2_500);
    assert!(bytes(count, HELD_EACH) > 3 * bytes(1, HELD_BYTES_MAX) / 2);
    let connections_max = (count + 10).to_string();
    let server = Server::start(&["--shards", "2", "--max-connections", &connections_max]);
    server.publish("x");
    let tags = format!("If-None-Match: *,{}\r\n", "\"x\",".repeat(HELD_EACH / 4));
    let behind = format!("GET /{} HTTP/1.1\r\n", "x".repeat(7_000)).repeat(2);
    let wait = "GET /api/webhook/messages?wait=25 HTTP/1.1\r\nHost: a\r\n";
    let grown = growth_bytes(&server, || {
        let held: Vec<Connection> = (0..count)
            .map(|number| {
                let mut connection = server.connect();
                let request = match number % 2 {
                    0 => format!("{wait}{tags}\r\n"),
                    _ => format!("{wait}If-None-Match: *\r\n\r\n{behind}"),
                };
                connection.send_if_open(request.as_bytes());
                connection
            })
            .collect();
        wait_for_reads(&server, server.address.port());
        drop(held);
    });
    let bound = bytes(1, HELD_BYTES_MAX) + bytes(count, CONNECTION_BYTES_MAX) + SLACK;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
}

/// Messages of the largest size, one for each page. The clients read nothing.
#[test]
fn unread_pages_of_large_messages_are_bounded() {
    const BODY_BYTES: usize = 4 * 1024 * 1024;
    let server = Server::start(&["--shards", "1", "--max-body-bytes", "4194304"]);
    let message = "x".repeat(BODY_BYTES - 100);
    for _ in 0..4 {
        server.publish(&message);
    }
    let readers = 40;
    let grown = growth_bytes(&server, || {
        let mut held = Vec::new();
        for number in 0..readers {
            let limit = 1 + number % 3;
            let line =
                format!("GET /api/webhook/messages?limit={limit} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut connection = server.connect();
            connection.send_if_open(line.as_bytes());
            held.push(connection);
        }
        wait_for_reads(&server, server.address.port());
    });
    let page = server.request("GET", "/api/webhook/messages?limit=1", "", b"");
    assert!(page.body.len() > message.len());
    let held = held_bytes_max(1, BODY_BYTES) as u64;
    let bound = held + pages_bytes_max(BODY_BYTES) as u64 + SLACK;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
    assert!(grown > held / 2, "{grown} bytes: no answer is held");
}

/// The longest header in two writes, without its last byte.
#[test]
fn incomplete_proxy_headers_stay_below_the_bound_of_a_connection() {
    let alone = alone();
    let count = alone.connections(6_000, 1_500);
    let connections_max = (count + 10).to_string();
    let flags = ["--shards", "1", "--max-connections", &connections_max];
    let proxy = [
        "--listen",
        "127.0.0.1:0+proxy",
        "--trusted-proxy",
        "127.0.0.1",
    ];
    let server = Server::start(&[&flags[..], &proxy].concat());
    let address = server.listening_at(1);
    let length = (PROXY_HEADER_BYTES_MAX - 16) as u16;
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    header.extend(length.to_be_bytes());
    header.resize(PROXY_HEADER_BYTES_MAX - 1, 0);
    let (first, last) = header.split_at(header.len() - 40);
    let grown = growth_bytes(&server, || {
        let mut held: Vec<Connection> = (0..count)
            .map(|_| {
                let mut connection = Connection::open(address);
                connection.send(first);
                connection
            })
            .collect();
        wait_for_reads(&server, address.port());
        for connection in &mut held {
            connection.send(last);
        }
        wait_for_reads(&server, address.port());
    });
    let bound = bytes(count, CONNECTION_BYTES_MAX) + SLACK;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
    assert!(
        grown > bytes(count, PROXY_HEADER_BYTES_MAX),
        "{grown}: the bytes are not held"
    );
}

/// As much of a `ClientHello` as is accepted, without its end.
#[test]
fn incomplete_tls_handshakes_stay_below_the_bound_of_a_tls_connection() {
    const COUNT: usize = 400;
    let authority = Authority::new();
    authority.sign("server");
    let (cert, key) = (authority.path("server.pem"), authority.path("server.key"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let tls = [
        "--listen",
        "127.0.0.1:0+tls",
        "--tls-cert",
        cert,
        "--tls-key",
        key,
    ];
    let server = Server::start(&[&["--shards", "1"], &tls[..]].concat());
    let address = server.listening_at(1);
    let mut hello = Vec::new();
    for length in [16_384_u16, 16_000] {
        hello.extend(b"\x16\x03\x01");
        hello.extend(length.to_be_bytes());
        let end = hello.len() + usize::from(length);
        if hello.len() == 5 {
            // A ClientHello of 60,000 bytes.
            hello.extend(b"\x01\x00\xea\x60");
        }
        hello.resize(end, 3);
    }
    let grown = growth_bytes(&server, || {
        let held: Vec<Connection> = (0..COUNT)
            .map(|_| {
                let mut connection = Connection::open(address);
                connection.send_if_open(&hello);
                connection
            })
            .collect();
        wait_for_reads(&server, address.port());
        drop(held);
    });
    let bound = bytes(COUNT, TLS_CONNECTION_BYTES_MAX + CONNECTION_BYTES_MAX) + SLACK;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
    assert!(
        grown > bytes(COUNT, 16 * 1024),
        "{grown}: the bytes are not held"
    );
}

/// A stream for each session, with names of the greatest length. The streams do not read later messages.
#[test]
fn unread_streams_of_sessions_stay_below_the_bound_of_connections() {
    let alone = alone();
    let count = alone.connections(6_000, 1_500);
    let connections_max = (count + 10).to_string();
    let server = Server::start(&["--shards", "1", "--max-connections", &connections_max]);
    let grown = growth_bytes(&server, || {
        let mut streams = Vec::new();
        for number in 0..count {
            let name = format!("{number:0>256}");
            let line =
                format!("GET /api/webhook/stream?sessionId={name} HTTP/1.1\r\nHost: a\r\n\r\n");
            let mut connection = server.connect();
            connection.send(line.as_bytes());
            streams.push(connection);
        }
        wait_for_reads(&server, server.address.port());
        // Streams open in order: the first and the last are open, so all are.
        for at in [0, count - 1] {
            assert_eq!(streams[at].read_head().status, 200);
        }
        let filler = "x".repeat(60_000);
        for _ in 0..30 {
            server.publish(&filler);
        }
        drop(streams);
    });
    let messages = bytes(30, 2 * 61_000) + bytes(1, 7 * 1024 * 1024);
    let bound = bytes(count, CONNECTION_BYTES_MAX) + messages + SLACK;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
}

/// Bodies of 1 MiB: their copies in the hub and the logs are far larger than everything else.
#[test]
fn a_history_of_large_messages_is_counted() {
    const BODY_BYTES: usize = 1024 * 1024;
    let server = Server::start(&["--shards", "1", "--max-body-bytes", "1048576"]);
    // JSON escapes double their size in the log.
    let content = r#"\""#.repeat((BODY_BYTES - 100) / 2);
    let request = post(&format!(r#"{{"message":"{content}"}}"#));
    let grown = growth_bytes(&server, || {
        let mut connection = server.connect();
        for _ in 0..5 * HISTORY_MESSAGES / 2 {
            connection.send(&request);
            assert_eq!(connection.read_response().status, 200);
        }
    });
    let log = log_bytes_max(BODY_BYTES) as u64;
    let bound = memory_bytes_max(1, 2, 0, BODY_BYTES) as u64;
    println!("{grown} bytes of {bound}, {log} of them for the log");
    assert!(grown < bound, "{grown} bytes of {bound}");
}

/// Standard error is not read, and each refusal is logged.
#[test]
fn unread_log_lines_are_bounded() {
    let setup = Setup::new(&[
        "--shards",
        "1",
        "--log-level",
        "debug",
        "--listen",
        "unix:bad.sock",
    ]);
    let mut child = setup.command().stderr(Stdio::piped()).spawn().unwrap();
    let status = |name: &str| proc_status(child.id(), name).unwrap() * 1024;
    let path = setup.ring().with_file_name("bad.sock");
    let deadline = Instant::now() + PATIENCE;
    let mut connection = loop {
        match UnixStream::connect(&path) {
            Ok(connection) => break connection,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let requests = "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let mut answers = vec![0; 1 << 16];
    let mut ask = |rounds: usize| {
        for _ in 0..rounds {
            connection.write_all(requests.as_bytes()).unwrap();
            let mut answered = 0;
            while answered < 100 {
                let count = connection.read(&mut answers).unwrap();
                assert!(count > 0);
                let text = String::from_utf8_lossy(&answers[..count]);
                answered += text.matches("HTTP/1.1 404").count();
            }
        }
    };
    ask(2);
    let before = status("VmRSS:");
    // Three times more than the pipe and the queue hold.
    ask(300);
    let grown = status("VmHWM:").saturating_sub(before);
    let _ = kill_process(Pid::from_child(&child), Signal::KILL);
    child.wait().unwrap();
    // A line costs its text, its slot in the queue, and the allocator's overhead.
    let bound = bytes(2, LOG_QUEUE_BYTES_MAX) + SLACK;
    println!("{grown} bytes of {bound}");
    assert!(grown < bound, "{grown} bytes of {bound}");
}
