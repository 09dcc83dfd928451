//! Secrets of sources that are sent can be guessed, so guesses are slowed down. Signatures cannot.

use crate::rig::{GITHUB, PUSH, Rig, SECRET, push_headers, signed};
use crate::support::Response;
use crate::support::loopback::connect_from;

const WEBHOOK_SECRET: &str = "the secret of the webhooks";

/// Sources whose secret is sent, one of which may get signed requests, too; and one that is signed.
fn sources() -> String {
    let sent = |name: &str, preset: &str| {
        format!("[{name}]\npreset = \"{preset}\"\nsecret_files = [\"secret\"]\n")
    };
    [
        sent("gitlab", "gitlab"),
        sent("other", "gitlab"),
        format!("{}header = \"Authorization\"\n", sent("basic", "token")),
        GITHUB.to_owned(),
    ]
    .concat()
}

fn post(rig: &Rig, from: &str, name: &str, headers: &str) -> Response {
    let mut connection = connect_from(from, rig.server.address);
    let target = format!("/api/webhook/in/{name}");
    connection.send_request("POST", &target, headers, PUSH.as_bytes());
    connection.read_response()
}

fn token(secret: &str) -> String {
    format!("X-Gitlab-Token: {secret}\r\nX-Gitlab-Event: Push Hook\r\n")
}

#[test]
fn wrong_secrets_lock_out_one_client_from_one_source() {
    let rig = Rig::start_with(&sources(), &[], Some(WEBHOOK_SECRET));
    let (right, wrong) = (token(SECRET), token("wrong-secret"));
    for nth in 0..10 {
        assert_eq!(
            post(&rig, "127.0.0.2", "gitlab", &wrong).status,
            401,
            "{nth}"
        );
    }
    for headers in [&right, &wrong] {
        let refused = post(&rig, "127.0.0.2", "gitlab", headers);
        assert_eq!(refused.status, 429, "{refused:?}");
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    assert_eq!(rig.metric("hookcast_refused_total{reason=\"guessing\"}"), 2);
    // Nothing else is refused: another client, another source, the secret of the webhooks.
    assert_eq!(post(&rig, "127.0.0.3", "gitlab", &right).status, 200);
    assert_eq!(post(&rig, "127.0.0.2", "other", &right).status, 200);
    let mut connection = connect_from("127.0.0.2", rig.server.address);
    let secret = format!("X-Webhook-Secret: {WEBHOOK_SECRET}\r\n");
    assert_eq!(connection.get("/api/webhook/messages", &secret).status, 200);
    let line = rig
        .server
        .wait_for_log("too many wrong secrets of the source gitlab");
    assert!(!line.to_string().contains("wrong-secret"), "{line}");
}

#[test]
fn a_secret_in_authorization_is_one_that_is_sent() {
    let rig = Rig::start(&sources());
    let basic = |text: &str| format!("Authorization: Bearer {text}\r\n");
    // A request without a secret is no guess.
    for _ in 0..20 {
        assert_eq!(post(&rig, "127.0.0.2", "basic", "").status, 401);
    }
    for _ in 0..10 {
        assert_eq!(
            post(&rig, "127.0.0.2", "basic", &basic("wrong-secret")).status,
            401
        );
    }
    assert_eq!(post(&rig, "127.0.0.2", "basic", &basic(SECRET)).status, 429);
    assert_eq!(post(&rig, "127.0.0.3", "basic", &basic(SECRET)).status, 200);
}

#[test]
fn guesses_in_one_batch_are_counted_each() {
    let rig = Rig::start(&sources());
    let mut connection = connect_from("127.0.0.2", rig.server.address);
    let mut statuses = Vec::new();
    for _ in 0..15 {
        connection.send_request(
            "POST",
            "/api/webhook/in/gitlab",
            &token("wrong-secret"),
            b"{}",
        );
    }
    for _ in 0..15 {
        statuses.push(connection.read_response().status);
    }
    assert_eq!(statuses, [[401; 10].as_slice(), &[429; 5]].concat());
}

#[test]
fn wrong_signatures_are_no_guesses() {
    let rig = Rig::start(&sources());
    let wrong = signed("another secret of 16", PUSH.as_bytes());
    for _ in 0..30 {
        assert_eq!(post(&rig, "127.0.0.2", "github", &wrong).status, 401);
    }
    let right = push_headers(SECRET, PUSH.as_bytes(), 1);
    assert_eq!(post(&rig, "127.0.0.2", "github", &right).status, 200);
}
