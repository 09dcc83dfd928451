//! A token reaches no log, no metric and no error.

use std::process::Command;

use serde_json::json;

use crate::rig::{KEY, KeyFile, in_seconds, token, token_until, ways};
use crate::support::loopback::connect_from;
use crate::support::peer::{Peer, respond};

#[test]
fn a_token_is_in_no_log_no_metric_and_no_answer() {
    let file = KeyFile::new(KEY);
    let flags = ["--log-level", "trace", "--admin", "127.0.0.1:0"];
    let server = file.setup(&flags).start();
    let line = server.wait_for_log("metrics and health");
    let admin = line["address"].as_str().unwrap().parse().unwrap();
    let rights = json!({ "sessions": ["a"] });
    let expired = token_until(in_seconds(-5), &rights);
    let tokens = [
        token(&rights),
        expired,
        "x.nonsense-token-nonsense.y".into(),
    ];
    let mut answers = Vec::new();
    for token in &tokens {
        for (query, fields) in ways(token, "") {
            for path in ["stream", "messages", "nowhere", "sessions/a", "in/github"] {
                let target = format!("/api/webhook/{path}{query}");
                let response = server.request("HEAD", &target, &fields, b"");
                answers.push(format!("{response:?}"));
                if path != "stream" {
                    answers.push(format!(
                        "{:?}",
                        server.request("GET", &target, &fields, b"")
                    ));
                }
            }
            let body = b"{\"message\":\"x\"}";
            let target = format!("/api/webhook{query}");
            answers.push(format!(
                "{:?}",
                server.request("POST", &target, &fields, body)
            ));
            // A malformed request with a token.
            let target = format!("/api/webhook/stream{query}&sessionId=%zz");
            answers.push(format!(
                "{:?}",
                server.request("GET", &target, &fields, b"")
            ));
        }
    }
    let mut metrics = connect_from("127.0.0.1", admin);
    let metrics = format!("{:?}", metrics.get("/metrics", ""));
    let log = format!("{:?}", server.log());
    let answers = answers.concat();
    assert!(
        log.contains("answered by an error"),
        "the log shows requests"
    );
    for token in &tokens {
        let parts = token.split('.').filter(|part| part.len() > 10);
        for secret in parts.chain(["user-4711", KEY]) {
            for (what, text) in [("log", &log), ("metrics", &metrics), ("answers", &answers)] {
                assert!(!text.contains(secret), "{what}: {secret}");
            }
        }
    }
}

#[test]
fn commands_print_no_token_of_an_address() {
    let peer = Peer::start(|_, connection| respond(connection, "404 Not Found", "", "no"));
    let signed = token(&json!({}));
    let opaque = "s3cret-".repeat(5);
    let base = peer.url();
    let refused = |token: &str| {
        [
            format!("https://h.example/?token={token}"),
            format!("https://h.example/#token={token}"),
            format!("https://h.example/t/{token}?"),
            format!("https://u:{token}@h.example"),
            format!("h.example/token={token}"),
            token.to_owned(),
        ]
    };
    // In a path, a token is known by its form alone.
    let mut cases = vec![(format!("{base}/t/{signed}"), &signed)];
    for token in [&signed, &opaque] {
        cases.extend(refused(token).map(|address| (address, token)));
    }
    for (address, token) in cases {
        for command in [&["doctor", "--json"][..], &["health"], &["kv-check"], &[]] {
            let output = Command::new(env!("CARGO_BIN_EXE_hookcast"))
                .args(command)
                .arg(&address)
                .output()
                .unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_ne!(output.status.code(), Some(0), "{text}");
            let is_shown = |part: &str| text.contains(part);
            assert!(!token.split('.').any(is_shown), "{command:?}: {text}");
        }
    }
}
