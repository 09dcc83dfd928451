//! The end of a token on an open stream, and the end of its key.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::rig::{KEY, KeyFile, OTHER_KEY, hs256, in_seconds, post, token, token_until, ways};
use crate::support::{Ending, EventStream, Server};

/// The type of the next event that is not a heartbeat.
fn next_type(stream: &mut EventStream) -> String {
    stream.next().json()["type"].as_str().unwrap().to_owned()
}

#[test]
fn a_stream_is_warned_and_ends_with_its_token() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&[]).start();
    let exp = in_seconds(3);
    let token = token_until(exp, &json!({ "sessions": ["a"], "publish": true }));
    let mut streams: Vec<EventStream> = ways(&token, "")
        .iter()
        .map(|(query, fields)| server.stream(query, fields))
        .collect();
    for (stream, (query, fields)) in streams.iter_mut().zip(ways(&token, "")) {
        assert_eq!(stream.connected(), 0);
        let warning = stream.next();
        assert_eq!(
            warning.json(),
            json!({ "type": "token_expiring", "expiresAt": exp * 1000 })
        );
        assert_eq!(warning.id, None);
        let (ending, events) = stream.drain();
        assert_eq!(ending, Ending::LastChunk);
        let last = events.last().unwrap();
        assert_eq!(last.json(), json!({ "type": "token_expired" }));
        assert!(in_seconds(0) >= exp, "it has ended early");
        assert_eq!(last.id, None);
        let target = format!("/api/webhook/stream{query}");
        assert_eq!(server.request("GET", &target, &fields, b"").status, 401);
    }
}

#[test]
fn messages_until_the_end_are_delivered_and_none_after_it() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&[]).start();
    let token = token_until(in_seconds(2), &json!({ "everything": true }));
    let mut stream = server.stream(&format!("?token={token}"), "");
    stream.connected();
    let mut delivered = 0;
    'messages: for number in 1.. {
        assert_eq!(post(&server, "", &format!("{number}"), None), 200);
        loop {
            let event = stream.next();
            match event.json()["type"].as_str().unwrap() {
                "token_expiring" => {}
                "token_expired" => break 'messages,
                _ => {
                    assert_eq!(event.content(), format!("{number}"));
                    delivered = number;
                    break;
                }
            }
        }
    }
    assert!(delivered > 1);
    let (ending, events) = stream.drain();
    assert_eq!((ending, events.len()), (Ending::LastChunk, 0));
}

#[test]
fn a_long_poll_ends_with_its_token() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&["--require-token"]).start();
    let exp = in_seconds(2);
    let token = token_until(exp, &json!({}));
    let page = format!("/api/webhook/messages?token={token}");
    assert_eq!(server.request("GET", &page, "", b"").status, 200);
    let target = format!("{page}&wait=20");
    let began = Instant::now();
    let answer = server.request("GET", &target, "", b"");
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(answer.status, 401, "{answer:?}");
    assert!(in_seconds(0) >= exp, "it has ended early");
    assert_eq!(server.request("GET", &target, "", b"").status, 401);
}

/// Sends SIGHUP and waits for its line in the log.
fn reload(server: &Server, nth: usize) {
    server.signal(Signal::HUP);
    server.wait_for_nth_log("token keys reloaded", nth);
}

#[test]
fn streams_whose_key_is_gone_end_and_others_stay() {
    let file = KeyFile::new(KEY);
    let second = KeyFile::new(OTHER_KEY);
    let server = file
        .setup(&["--token-key", second.path.to_str().unwrap()])
        .start();
    let mut anonymous = server.stream("", "");
    anonymous.connected();
    let first_token = token(&json!({ "sessions": ["a"] }));
    let claims = json!({ "exp": in_seconds(3600), "hookcast": { "sessions": ["a"] } });
    let second_token = hs256(OTHER_KEY, &claims);
    let mut leaving = server.stream(&format!("?token={first_token}"), "");
    let mut staying = server.stream(&format!("?token={second_token}"), "");
    leaving.connected();
    staying.connected();
    // The same keys: nothing ends.
    reload(&server, 0);
    server.publish("one");
    for stream in [&mut leaving, &mut staying, &mut anonymous] {
        assert_eq!(stream.next().content(), "one");
    }
    file.replace("a third key of at least 32 bytes .....");
    reload(&server, 1);
    assert_eq!(next_type(&mut leaving), "token_expired");
    assert_eq!(leaving.drain().0, Ending::LastChunk);
    server.publish("two");
    for stream in [&mut staying, &mut anonymous] {
        assert_eq!(stream.next().content(), "two");
    }
    let target = format!("/api/webhook/stream?token={first_token}");
    assert_eq!(server.request("GET", &target, "", b"").status, 401);
    // A bad file changes nothing.
    second.replace("short");
    server.signal(Signal::HUP);
    server.wait_for_log("token keys not reloaded");
    server.publish("three");
    for stream in [&mut staying, &mut anonymous] {
        assert_eq!(stream.next().content(), "three");
    }
}
