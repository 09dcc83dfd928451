//! `hookcast doctor` against hostile servers: its memory, and where it sends the secret. Also its reports, and
//! `--read-only`.
//!
//! Other tests of the doctor: a good server and certificates in `tests/contract/tls.rs`; proxies in `tests/fronting`;
//! its output in `secrets`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::peer::{Peer, respond};
use crate::support::server::proc_status;
use crate::support::{PATIENCE, Server, Setup, alone};
use serde_json::Value;

const SECRET: &str = "doctor-secret-4711";

fn doctor(url: &str, secret: Option<&str>, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookcast"));
    command
        .args(["doctor", url, "--watch", "5s"])
        .args(flags)
        .env_clear()
        .envs(secret.map(|secret| ("WEBHOOK_SECRET", secret)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    let bytes = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(bytes).unwrap()
}

/// By which the doctor recognizes hookcast.
const OWN_FIELDS: &str = "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n";

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

/// The objects of a JSON report.
fn objects(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let object = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(object).collect()
}

/// The object of one check.
fn check<'a>(objects: &'a [Value], name: &str) -> &'a Value {
    let is_named = |object: &&Value| object["check"] == name;
    objects.iter().find(is_named).unwrap_or(&Value::Null)
}

/// A peer with hookcast's answers, as far as these tests need them. It records the requests.
fn like_hookcast() -> Peer {
    Peer::start(|request, connection| {
        if request.starts_with("GET /api/webhook HTTP") {
            respond(connection, "200 OK", OWN_FIELDS, r#"{"status":"ok"}"#)
        } else {
            respond(
                connection,
                "404 Not Found",
                OWN_FIELDS,
                r#"{"error":"Not found"}"#,
            )
        }
    })
}

#[test]
fn a_read_only_examination_posts_nothing() {
    let peer = like_hookcast();
    let flags = ["--read-only", "--json"];
    let output = doctor(&peer.url(), Some(SECRET), &flags).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let requests = peer.requests();
    assert!(requests.len() > 3, "{requests:?}");
    assert!(
        requests.iter().all(|request| request.starts_with("GET ")),
        "{requests:?}"
    );

    let server = Server::start(&["--heartbeat", "1s"]);
    let url = format!("http://localhost:{}", server.address.port());
    for kept in 0..2 {
        let output = doctor(&url, None, &flags).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let objects = objects(&output);
        assert_eq!(objects[0]["posts"], 0);
        assert_eq!(check(&objects, "post")["verdict"], "skipped");
        // It has no message of its own, so it resumes behind a kept one.
        let resumed = ["skipped", "ok"][kept];
        assert_eq!(check(&objects, "resume")["verdict"], resumed);
        let history = server.request("GET", "/api/webhook/messages", "", b"");
        assert_eq!(history.json()["messages"].as_array().unwrap().len(), kept);
        server.request("POST", "/api/webhook", "", br#"{"message":"kept"}"#);
    }
}

/// A read shows whether the secret is right: hookcast refuses a wrong one there, too.
#[test]
fn a_read_only_examination_checks_the_secret() {
    let server = Setup::new(&[]).secret(SECRET).start();
    let url = format!("http://localhost:{}", server.address.port());
    for (secret, verdict) in [(Some(SECRET), "ok"), (Some("wrong"), "failed"), (None, "")] {
        let output = doctor(&url, secret, &["--read-only", "--json"])
            .output()
            .unwrap();
        let objects = objects(&output);
        let found = check(&objects, "secret");
        assert_eq!(
            found["verdict"].as_str().unwrap_or(""),
            verdict,
            "{objects:?}"
        );
        if verdict == "failed" {
            assert_eq!(found["at_fault"], "command");
        }
    }
}

/// A server that is not hookcast gets neither a webhook nor the secret.
/// Another server's health check has the same body.
#[test]
fn a_server_that_only_says_ok_gets_no_webhook_and_no_secret() {
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

#[test]
fn only_hookcast_gets_a_webhook() {
    let peer = Peer::start(|_, connection| respond(connection, "200 OK", "", "<p>Welcome</p>"));
    let output = doctor(&peer.url(), Some(SECRET), &["--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let objects = objects(&output);
    let address = check(&objects, "address");
    assert_eq!(address["at_fault"], "proxy");
    assert!(address["seen"].as_str().unwrap().contains("\"Welcome\""));
    let names: Vec<&str> = objects
        .iter()
        .filter_map(|object| object["check"].as_str())
        .collect();
    let all = hookcast::doctor::SUBJECTS;
    let expected: Vec<&str> = all.into_iter().filter(|name| *name != "secret").collect();
    assert_eq!(names, expected, "every check has its object");
    assert_eq!(
        objects.last().unwrap()["failed"],
        serde_json::json!(["address"])
    );
    let requests = peer.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(!requests[0].contains(SECRET));
}

/// The line of a check appears before its answer: the peer answers only after the line was read.
#[test]
fn a_check_is_shown_while_it_runs() {
    let (seen, may_answer) = std::sync::mpsc::sync_channel::<()>(0);
    let may_answer = std::sync::Mutex::new(may_answer);
    let peer = Peer::start(move |_, connection| {
        let was_seen = may_answer.lock().unwrap().recv_timeout(PATIENCE);
        assert!(was_seen.is_ok(), "the check was not shown");
        respond(connection, "502 Bad Gateway", "Server: nginx\r\n", "")
    });
    let mut child = doctor(&peer.url(), None, &[]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    let announcement = next();
    assert!(
        announcement.contains("take 4 of the 100 places") && announcement.contains("--read-only"),
        "{announcement}"
    );
    let running = next();
    assert!(running.starts_with("address      ...      "), "{running}");
    seen.send(()).unwrap();
    let result = next();
    assert!(result.starts_with("address      FAILED   "), "{result}");
    let remedy = next();
    assert!(
        remedy.contains("proxy    see that hookcast runs"),
        "{remedy}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// The doctor's stream takes the only place of the server, so its post gets a 503. If another client has the
/// place, even the request for the status gets a 503.
#[test]
fn a_full_server_is_distinguished_from_a_proxy() {
    let server = Server::start(&["--max-connections", "1"]);
    let url = format!("http://localhost:{}", server.address.port());
    let fault_of = |name: &str| {
        let output = doctor(&url, None, &["--json"]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let objects = objects(&output);
        let found = check(&objects, name);
        assert_eq!(found["at_fault"], "hookcast", "{objects:?}");
        let remedy = found["remedy"].as_str().unwrap();
        assert!(remedy.contains("--max-connections"), "{remedy}");
    };
    fault_of("post");
    let _held = held_connection(&server);
    fault_of("address");
}

/// A connection that is served, once earlier ones have ended.
fn held_connection(server: &Server) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut connection = TcpStream::connect(server.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = connection.write_all(b"GET /api/webhook HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut status = [0; 12];
        if asked.is_ok() && connection.read_exact(&mut status).is_ok() && status.ends_with(b"200") {
            return connection;
        }
        assert!(
            Instant::now() < deadline,
            "the doctor's connection stays open"
        );
    }
}

#[test]
fn help_lists_only_flags_that_the_doctor_uses() {
    let help = |command: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_hookcast"))
            .args(command)
            .env_clear()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0));
        text(&output)
    };
    let man = help(&["man", "doctor"]).replace("\\-", "-");
    for text in [help(&["doctor", "--help"]), help(&["doctor", "-h"]), man] {
        for used in [
            "--watch",
            "--read-only",
            "--json",
            "--color",
            "--ca-file",
            "--secret-file",
        ] {
            assert!(text.contains(used), "{used}: {text}");
        }
        for unused in ["--kv-", "Cloudflare KV", "--log-", "--listen"] {
            assert!(!text.contains(unused), "{unused}: {text}");
        }
    }
    assert!(help(&["doctor", "--help"]).contains("Exit status: 0 if no check failed"));
    assert!(help(&["kv-check", "--help"]).contains("--kv-endpoint"));
}
