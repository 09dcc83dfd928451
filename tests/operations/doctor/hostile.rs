//! The doctor and hostile servers: its memory, and the servers that get the secret.

use std::io::{self, Write};
use std::net::TcpStream;
use std::process::{Child, Output};
use std::thread;
use std::time::{Duration, Instant};

use super::{OWN_FIELDS, SECRET, doctor, text};
use crate::support::peer::{Peer, respond};
use crate::support::server::proc_status;
use crate::support::{PATIENCE, Server, alone};

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
     Cache-Control: no-store, no-transform\r\nAccess-Control-Allow-Origin: *\r\n";

/// Sends this repeatedly until the client closes.
fn flood(connection: &mut TcpStream, piece: &[u8]) -> io::Result<()> {
    let pieces = piece.repeat(65_536_usize.div_ceil(piece.len()));
    loop {
        connection.write_all(&pieces)?;
    }
}

/// A server whose stream is this head, followed by endless repeats of this piece. With `everywhere` it gives that
/// answer to every request.
fn flooder(head: &'static str, piece: Vec<u8>, everywhere: bool) -> Peer {
    Peer::start(move |request, connection| {
        // The doctor sends no further requests to a server that is not hookcast.
        if !everywhere && request.starts_with("GET /api/webhook HTTP") {
            return respond(connection, "200 OK", OWN_FIELDS, r#"{"status":"ok"}"#);
        }
        if !everywhere && !request.starts_with("GET /api/webhook/stream") {
            return respond(connection, "200 OK", "", r#"{"success":true}"#);
        }
        connection.write_all(head.as_bytes())?;
        flood(connection, &piece)
    })
}

/// The peak memory of a process in bytes; 0 once it has ended.
fn peak_bytes(child: &Child) -> u64 {
    proc_status(child.id(), "VmHWM:").unwrap_or(0) * 1024
}

/// Runs a doctor to its end; returns its output and its peak memory.
fn watch(mut child: Child) -> (Output, u64) {
    let mut peak = 0;
    let deadline = Instant::now() + 3 * PATIENCE;
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the doctor does not end");
        peak = peak.max(peak_bytes(&child));
        // The figure vanishes with the process, so it is read until the process ends.
        thread::sleep(Duration::from_millis(5));
    }
    (child.wait_with_output().unwrap(), peak)
}

/// Endless data, on any path: the doctor drops what it does not need.
#[test]
fn the_doctor_drops_endless_data() {
    const PEAK_BYTES_MAX: u64 = 16 << 20;
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";
    let plain: &str = Box::leak(format!("{STREAM_HEAD}\r\n").into_boxed_str());
    let chunked: &str = Box::leak(format!("{STREAM_HEAD}{CHUNKED}").into_boxed_str());
    let gzip: &str =
        Box::leak(format!("{STREAM_HEAD}Content-Encoding: gzip\r\n\r\n").into_boxed_str());
    // Final deflate blocks of zeros: a decoder expands them a thousandfold.
    let zeros = [
        &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xec, 0xc1, 1][..],
        &vec![0; 65_536],
    ]
    .concat();
    let event = |content: &str| {
        format!("id: 1-1\ndata: {{\"type\":\"webhook_message\",\"content\":\"{content}\"}}\n\n")
    };
    let deep = format!("data: {{\"a\":{}{}}}\n\n", "[".repeat(100), "]".repeat(100));
    let wide = format!(
        "data: {{\"type\":\"x\",\"a\":[{}0]}}\n\n",
        "[],".repeat(300_000)
    );
    let cases: [(&str, &'static str, Vec<u8>, bool); 12] = [
        ("short lines", plain, b"data: x\n".to_vec(), false),
        ("empty lines", plain, b"\n".to_vec(), false),
        ("heartbeats", plain, b":\n".to_vec(), false),
        (
            "a line without end",
            plain,
            b"data: xxxxxxxxxxxxxx".to_vec(),
            false,
        ),
        ("bytes that are no text", plain, vec![0xff], false),
        (
            "ids",
            plain,
            format!("id: {}\n", "x".repeat(100_000)).into(),
            false,
        ),
        ("events", plain, event("something else").into(), false),
        (
            "our own events",
            plain,
            event("hookcast doctor, message 1").into(),
            false,
        ),
        (
            "deep and wide JSON",
            plain,
            [deep, wide].concat().into(),
            false,
        ),
        ("chunks", chunked, b"8\r\ndata: x\n\r\n".to_vec(), false),
        ("gzip", gzip, zeros, true),
        (
            "headers",
            "HTTP/1.1 200 OK\r\n",
            b"X-Header: xxxxxxxxxxxxxxxx\r\n".to_vec(),
            true,
        ),
    ];
    let _alone = alone();
    thread::scope(|scope| {
        for (name, head, piece, everywhere) in cases {
            scope.spawn(move || {
                let peer = flooder(head, piece, everywhere);
                let child = doctor(&peer.url(), Some(SECRET), &[]).spawn().unwrap();
                let (output, peak) = watch(child);
                let text = text(&output);
                println!("{name}: {} KiB\n{text}", peak / 1024);
                assert_eq!(output.status.code(), Some(1), "{name}: {text}");
                assert!((1..PEAK_BYTES_MAX).contains(&peak), "{name}: {peak} bytes");
            });
        }
    });
}

/// The secret is sent only to the given address, and only over a connection that others cannot read.
#[test]
fn the_secret_is_not_sent_in_clear_text_to_another_machine() {
    let refused = |url: &str, secret: Option<&str>, flags: &[&str]| {
        let output = doctor(url, secret, flags).output().unwrap();
        let text = text(&output);
        assert!(!text.contains(SECRET), "{text}");
        let is_refused = text.contains("--send-secret-unencrypted");
        assert_eq!(output.status.code() == Some(2), is_refused, "{text}");
        is_refused
    };
    for url in [
        "http://doctor.invalid",
        "http://doctor.invalid:3000/base",
        "http://192.0.2.1",
        "http://127.0.0.1.doctor.invalid",
        "http://localhost.doctor.invalid",
        "http://[::ffff:192.0.2.1]:80",
    ] {
        assert!(refused(url, Some(SECRET), &[]), "{url}");
    }
    let url = "http://doctor.invalid";
    assert!(!refused(url, None, &[]));
    assert!(!refused("https://doctor.invalid", Some(SECRET), &[]));
    assert!(!refused(url, Some(SECRET), &["--send-secret-unencrypted"]));
    let output = doctor(url, Some(SECRET), &["--check-config"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

#[test]
fn the_secret_is_sent_to_this_machine_without_a_flag() {
    let server = Server::start(&["--heartbeat", "1s"]);
    let url = format!("http://localhost:{}", server.address.port());
    let output = doctor(&url, Some(SECRET), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn no_redirect_moves_the_secret_to_another_address() {
    let elsewhere = Peer::start(|_, connection| respond(connection, "200 OK", "", "{}"));
    for status in [301, 302, 303, 307, 308] {
        let location = format!("Location: {}/api/webhook\r\n", elsewhere.url());
        let peer = Peer::start(move |request, connection| match request {
            _ if request.starts_with("GET /api/webhook HTTP") => {
                respond(connection, "200 OK", OWN_FIELDS, r#"{"status":"ok"}"#)
            }
            _ => respond(connection, &format!("{status} Elsewhere"), &location, ""),
        });
        let output = doctor(&peer.url(), Some(SECRET), &[]).output().unwrap();
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(&format!(
                "POST /api/webhook is answered {status}, not by hookcast"
            )),
            "{text}"
        );
        let requests = peer.requests();
        assert!(
            requests.iter().any(|request| request.contains(SECRET)),
            "{requests:?}"
        );
        let without = |request: &&String| request.starts_with("GET ") && request.contains(SECRET);
        assert_eq!(
            requests.iter().find(without),
            None,
            "a stream needs no secret"
        );
    }
    assert_eq!(elsewhere.requests(), [""; 0]);
}

/// A server that is not hookcast gets neither a webhook nor the secret, even if its health check has the same body.
#[test]
fn another_servers_health_check_gets_no_webhook_and_no_secret() {
    let peer = Peer::start(|_, connection| {
        let fields = "Content-Type: text/plain\r\n";
        respond(connection, "200 OK", fields, r#"{"status":"ok"}"#)
    });
    let output = doctor(&peer.url(), Some(SECRET), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let requests = peer.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(!requests[0].contains(SECRET));
}
