//! Many requests at once, and large ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::rig::{Files, GITHUB, Rig, SECRET, push_body, push_headers};

/// Far more requests than the queue holds arrive at once. Each is answered, and none is lost.
#[test]
fn a_full_queue_delays_requests_and_loses_none() {
    const CONNECTIONS: usize = 600;
    let rig = Rig::start(GITHUB);
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let body = push_body(&format!("commit {number}"));
        let headers = push_headers(SECRET, &body, number);
        let mut connection = rig.server.connect();
        let head = format!(
            "POST /api/webhook/in/github HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let bytes = [head.as_bytes(), &body].concat();
        let (most, last) = bytes.split_at(bytes.len() - 1);
        connection.send(most);
        connections.push((connection, last.to_vec()));
    }
    for (connection, last) in &mut connections {
        connection.send(last);
    }
    for (connection, _) in &mut connections {
        let response = connection.read_response();
        assert_eq!(response.status, 200, "{response:?}");
    }
    assert_eq!(rig.results("github", "published"), CONNECTIONS as u64);
    assert_eq!(rig.metric("hookcast_source_queue"), 0);
}

/// While one verdict of a large body is awaited, webhooks are stored, streams get them, and another source takes
/// its requests. On one shard: verification in it would let none of that pass.
#[test]
fn streams_and_webhooks_go_on_while_large_bodies_arrive() {
    const LARGE: usize = 4;
    // So many round trips of others have time to read the large body whole, but for its last byte.
    const BEFORE: usize = 200;
    // The verdict takes hundreds of them: eight secrets are tried on 15 MiB.
    const MEANWHILE: usize = 10;
    let files = Files::new(&with_eight_secrets());
    for number in 1..8 {
        files.write(&format!("secret{number}"), format!("{SECRET}{number}"));
    }
    let rig = Rig::with_files(files, &["--shards", "1"], None);
    let mut stream = rig.server.stream("", "");
    stream.connected();
    let mut webhooks = rig.server.connect();
    let mut sources = rig.server.connect();
    let body = vec![b'x'; 15 << 20];
    let forged = format!("X-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    let head = format!(
        "POST /api/webhook/in/large HTTP/1.1\r\nHost: a\r\n{forged}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut published = 0;
    let mut publish = |published: &mut usize| {
        let message = format!("{{\"message\":\"m{published}\"}}");
        webhooks.send_request("POST", "/api/webhook", "", message.as_bytes());
        assert_eq!(webhooks.read_response().status, 200);
        assert_eq!(stream.contents(1), [format!("m{published}")]);
        *published += 1;
    };
    for _ in 0..LARGE {
        let mut large = rig.server.connect();
        large.send(head.as_bytes());
        large.send(&body[1..]);
        for _ in 0..BEFORE {
            publish(&mut published);
        }
        large.send(b"x");
        let is_judged = AtomicBool::new(false);
        let mut meanwhile = 0;
        thread::scope(|scope| {
            let answer = scope.spawn(|| {
                let response = large.read_response();
                is_judged.store(true, Ordering::SeqCst);
                response
            });
            while !is_judged.load(Ordering::SeqCst) {
                publish(&mut published);
                sources.send_request("POST", "/api/webhook/in/github", "", b"{}");
                assert_eq!(sources.read_response().status, 401);
                meanwhile += 1;
            }
            assert_eq!(answer.join().unwrap().status, 401);
        });
        assert!(meanwhile >= MEANWHILE, "{meanwhile} round trips");
    }
    assert_eq!(rig.results("large", "signature_mismatch"), LARGE as u64);
}

fn with_eight_secrets() -> String {
    let names: Vec<_> = (1..8)
        .map(|number| format!(", \"secret{number}\""))
        .collect();
    format!(
        "{GITHUB}[large]\npreset = \"github\"\nmax_body = \"16MiB\"\nsecret_files = [\"secret\"{}]\n",
        names.concat()
    )
}

/// A sender that leaves before the verdict has still sent its message.
#[test]
fn a_request_whose_connection_closes_at_once_is_published() {
    const REQUESTS: usize = 40;
    let rig = Rig::start(GITHUB);
    let mut stream = rig.server.stream("", "");
    stream.connected();
    for number in 0..REQUESTS {
        let body = push_body(&format!("commit {number}"));
        let headers = push_headers(SECRET, &body, number);
        let mut connection = rig.server.connect();
        connection.send_request("POST", "/api/webhook/in/github", &headers, &body);
        connection.finish();
    }
    let mut contents = stream.contents(REQUESTS);
    contents.sort();
    let mut expected: Vec<String> = (0..REQUESTS)
        .map(|number| format!("acme/shop: commit {number}"))
        .collect();
    expected.sort();
    assert_eq!(contents, expected);
}
