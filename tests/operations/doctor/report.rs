//! The doctor's report as text and as JSON, `--read-only`, and `--help`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use super::{OWN_FIELDS, SECRET, doctor, text};
use crate::support::peer::{Peer, respond};
use crate::support::{PATIENCE, Server, Setup};

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
