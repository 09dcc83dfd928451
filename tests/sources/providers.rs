//! Requests as providers send them: pushes, handshakes, what is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};

use crate::rig::{GITHUB, PUSH, Rig, SECRET, hex, push_body, push_headers, signed};

fn unix_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

fn hs256(text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    hex(hmac::sign(&key, text.as_bytes()).as_ref())
}

#[test]
fn a_signed_push_reaches_a_stream() {
    let rig = Rig::start(GITHUB);
    let mut stream = rig.server.stream("", "");
    stream.connected();
    let headers = push_headers(SECRET, PUSH.as_bytes(), 1);
    let response = rig.post("github", &headers, PUSH.as_bytes());
    assert_eq!(response.status, 200, "{response:?}");
    let id = response.json()["messageId"].as_str().unwrap().to_owned();
    assert!(response.json()["success"] == true && response.json()["timestamp"].is_u64());
    let event = stream.next();
    assert_eq!(event.content(), "acme/shop: Fix rounding");
    assert_eq!(event.json()["id"], id.as_str());
    assert_eq!(rig.results("github", "published"), 1);
    assert_eq!(rig.metric("hookcast_source_seconds_count"), 1);
    assert_eq!(rig.metric("hookcast_source_queue"), 0);
}

#[test]
fn a_repeated_delivery_gets_the_first_receipt_and_is_not_published_again() {
    let rig = Rig::start(GITHUB);
    let body = PUSH.as_bytes();
    let first = rig.post("github", &push_headers(SECRET, body, 1), body);
    let again = rig.post("github", &push_headers(SECRET, body, 1), body);
    assert_eq!((again.status, &again.body), (200, &first.body));
    // The id is not signed: a captured body under a fresh one is a repeat as well.
    let replayed = rig.post("github", &push_headers(SECRET, body, 2), body);
    assert_eq!(replayed.body, first.body);
    assert_eq!(rig.server.history().len(), 1);
    assert_eq!(rig.results("github", "published"), 1);
    assert_eq!(rig.results("github", "repeat"), 2);
}

#[test]
fn what_does_not_verify_is_refused_and_logged_without_its_signature() {
    let rig = Rig::start(GITHUB);
    let body = PUSH.as_bytes();
    let good = push_headers(SECRET, body, 1);
    let other = signed("another secret of 16", body);
    let tag = other.trim().rsplit('=').next().unwrap().to_owned();
    for (headers, status, detail) in [
        ("X-GitHub-Event: push\r\n", 401, "no signature"),
        (&*other, 401, "fits none"),
        ("X-Hub-Signature-256: sha256=\r\n", 401, "empty"),
        (&*format!("{good}{}", signed(SECRET, body)), 400, "twice"),
    ] {
        let response = rig.post("github", headers, body);
        assert_eq!(response.status, status, "{headers} {response:?}");
        let detail_of = response.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail_of.contains(detail), "{detail_of}");
    }
    // The refused connection goes on.
    let mut connection = rig.server.connect();
    connection.send_request("POST", "/api/webhook/in/github", &other, body);
    assert_eq!(connection.read_response().status, 401);
    connection.send_request("POST", "/api/webhook/in/github", &good, body);
    assert_eq!(connection.read_response().status, 200);

    assert_eq!(rig.results("github", "signature_missing"), 1);
    assert_eq!(rig.results("github", "signature_mismatch"), 2);
    assert_eq!(rig.results("github", "published"), 1);
    let line = rig.server.wait_for_log("not published: ");
    assert_eq!(line["source"], "github");
    let log: String = rig.server.log().iter().map(ToString::to_string).collect();
    assert!(!log.contains(&tag) && !log.contains(SECRET) && !log.contains("rounding"));
    // The first of a kind is logged at once, the second of it later.
    assert_eq!(log.matches("\"signature_mismatch\"").count(), 1);
}

#[test]
fn paths_methods_and_sizes_are_those_of_the_source() {
    let small = GITHUB.replace("[github]", "[small]\nmax_body = \"4KiB\"");
    let small = small.replace("[github.templates]", "[small.templates]");
    let rig = Rig::start_with(&(GITHUB.to_owned() + &small), &[], Some("s3cret"));
    let server = &rig.server;
    for (method, target, status) in [
        ("GET", "/api/webhook/in/github", 200),
        ("HEAD", "/api/webhook/in/github/", 200),
        ("PUT", "/api/webhook/in/github", 405),
        ("GET", "/api/webhook/in/other", 404),
        ("POST", "/api/webhook/in/other", 404),
        ("POST", "/api/webhook/in/", 404),
        ("GET", "/api/webhook/sources", 401),
    ] {
        let response = server.request(method, target, "", b"");
        assert_eq!(response.status, status, "{method} {target}");
    }
    // The secret of webhooks plays no role for sources, and is needed for their list.
    let list = server.request(
        "GET",
        "/api/webhook/sources",
        "X-Webhook-Secret: s3cret\r\n",
        b"",
    );
    let expected = serde_json::json!([
        { "name": "github", "preset": "github", "title": "GitHub", "open": false },
        { "name": "small", "preset": "github", "title": "GitHub", "open": false },
    ]);
    assert_eq!(list.json()["sources"], expected);

    // 200 KiB are over the limit of webhooks and within that of the source.
    let body = push_body(&"x".repeat(200_000));
    let headers = push_headers(SECRET, &body, 7);
    let response = rig.post("github", &headers, &body);
    assert_eq!(response.status, 200, "{response:?}");
    for (name, bytes, status) in [("small", 4097, 413), ("github", 1024 * 1024 + 1, 413)] {
        let mut connection = server.connect();
        let head = format!(
            "POST /api/webhook/in/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n"
        );
        connection.send(head.as_bytes());
        assert_eq!(connection.read_response().status, status, "before the body");
    }
    let head =
        "POST /api/webhook/in/small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut connection = server.connect();
    connection.send(format!("{head}1001\r\n").as_bytes());
    assert_eq!(connection.read_response().status, 413);
}

#[test]
fn bodies_may_be_chunked_announced_or_compressed_where_the_source_allows_it() {
    let gzip = GITHUB.replace("[github]", "[zipped]\ngzip = true");
    let gzip = gzip.replace("[github.templates]", "[zipped.templates]");
    let rig = Rig::start(&(GITHUB.to_owned() + &gzip));
    let body = PUSH.as_bytes();
    let head = |length: &str, delivery| {
        let headers = push_headers(SECRET, body, delivery);
        format!("POST /api/webhook/in/github HTTP/1.1\r\nHost: a\r\n{headers}{length}\r\n")
    };
    let mut connection = rig.server.connect();
    connection.send(head("Transfer-Encoding: chunked\r\n", 1).as_bytes());
    for part in body.chunks(20) {
        connection.send(format!("{:x}\r\n", part.len()).as_bytes());
        connection.send(part);
        connection.send(b"\r\n");
    }
    connection.send(b"0\r\n\r\n");
    assert_eq!(connection.read_response().status, 200);
    let length = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len());
    connection.send(head(&length, 2).as_bytes());
    assert_eq!(connection.read_head().status, 100);
    connection.send(body);
    assert_eq!(connection.read_response().status, 200);

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, body).unwrap();
    let zipped = encoder.finish().unwrap();
    // The tag is that of the bytes on the wire.
    let headers = push_headers(SECRET, &zipped, 3) + "Content-Encoding: gzip\r\n";
    assert_eq!(rig.post("github", &headers, &zipped).status, 415);
    let response = rig.post("zipped", &headers, &zipped);
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(
        rig.server.history().last().unwrap(),
        "acme/shop: Fix rounding"
    );
}

#[test]
fn handshakes_are_answered_as_their_providers_want_it() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let sources = r#"
        [slack]
        preset = "slack"
        secret_files = ["secret"]
        [zoom]
        preset = "zoom"
        secret_files = ["secret"]
        [discord]
        preset = "discord"
        secret_files = ["public"]
        [grid]
        preset = "eventgrid"
        verify = false
        [events]
        preset = "cloudevents"
        verify = false
    "#;
    let files = crate::rig::Files::new(sources);
    files.write("public", hex(pair.public_key().as_ref()));
    let path = files.sources();
    let server = crate::support::Server::start(&["--sources", &path]);
    let post = |name: &str, headers: &str, body: &str| {
        let target = format!("/api/webhook/in/{name}");
        server.request("POST", &target, headers, body.as_bytes())
    };
    let now = unix_s();

    let body = r#"{"type":"url_verification","challenge":"3eZbrw1a"}"#;
    let tag = hs256(&format!("v0:{now}:{body}"));
    let headers = format!("X-Slack-Request-Timestamp: {now}\r\nX-Slack-Signature: v0={tag}\r\n");
    let response = post("slack", &headers, body);
    assert_eq!((response.status, &*response.body), (200, &b"3eZbrw1a"[..]));
    assert!(
        response
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    assert_eq!(post("slack", "", body).status, 401, "verified first");

    let body =
        r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}"#;
    let tag = hs256(&format!("v0:{now}:{body}"));
    let headers = format!("x-zm-request-timestamp: {now}\r\nx-zm-signature: v0={tag}\r\n");
    let response = post("zoom", &headers, body);
    assert_eq!(response.status, 200, "{response:?}");
    let encrypted = hs256("qgg8vlvZRS6UYooatFL8Aw");
    assert_eq!(response.json()["encryptedToken"], encrypted.as_str());

    for (body, status, answer) in [
        (r#"{"type":1}"#, 200, r#"{"type":1}"#),
        (r#"{"version":1,"application_id":"1","type":0}"#, 204, ""),
    ] {
        let tag = hex(pair.sign(format!("{now}{body}").as_bytes()).as_ref());
        let headers = format!("X-Signature-Timestamp: {now}\r\nX-Signature-Ed25519: {tag}\r\n");
        let response = post("discord", &headers, body);
        assert_eq!(
            (response.status, response.body),
            (status, answer.into()),
            "{body}"
        );
        let forged = headers.replace(&tag[..8], "00000000");
        assert_eq!(post("discord", &forged, body).status, 401);
    }

    let body = r#"[{"id":"1","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"512d38b6"}}]"#;
    let response = post("grid", "aeg-event-type: SubscriptionValidation\r\n", body);
    assert_eq!(response.json()["validationResponse"], "512d38b6");

    let target = "/api/webhook/in/events";
    let headers = "WebHook-Request-Origin: eventemitter.example.com\r\n";
    let response = server.request("OPTIONS", target, headers, b"");
    assert_eq!(response.status, 200, "{response:?}");
    let allowed = response.header("webhook-allowed-origin");
    assert_eq!(allowed, Some("eventemitter.example.com"));
    assert!(response.header("webhook-allowed-rate").is_some());
    // Any other OPTIONS is a preflight of a browser.
    let response = server.request("OPTIONS", target, "Origin: https://a.example\r\n", b"");
    assert_eq!(response.status, 204);
    assert!(
        response
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    assert!(server.history().is_empty(), "a handshake publishes nothing");
}
