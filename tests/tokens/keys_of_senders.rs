//! `Idempotency-Key` of a token that may send only to some sessions: it is another key for each session.

use serde_json::json;

use crate::rig::{KEY, KeyFile, SECRET, token};
use crate::support::{Response, Server};

fn send(server: &Server, fields: &str, content: &str, session: Option<&str>) -> Response {
    let fields = format!("Idempotency-Key: order-1\r\n{fields}");
    let body = json!({ "message": content, "sessionId": session }).to_string();
    server.request("POST", "/api/webhook", &fields, body.as_bytes())
}

/// The id of a message that was accepted, perhaps before.
fn id(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()["messageId"].as_str().unwrap().to_owned()
}

#[test]
fn a_small_sender_suppresses_no_message_of_another() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&[]).secret(SECRET).start();
    let bearer = |sessions: &[&str]| {
        let token = token(&json!({ "publish": sessions }));
        format!("Authorization: Bearer {token}\r\n")
    };
    let (small, other) = (bearer(&["a", "b"]), bearer(&["b"]));
    let owner = format!("X-Webhook-Secret: {SECRET}\r\n");
    let first = id(&send(&server, &small, "x", Some("a")));
    let of_owner = id(&send(&server, &owner, "y", Some("a")));
    let to_all = send(&server, &owner, "z", None);
    assert_eq!(to_all.status, 422, "one key of the owner");
    let of_other = id(&send(&server, &other, "y", Some("b")));
    assert!(first != of_owner && of_owner != of_other && first != of_other);
    // Repeats of one sender are recognised as before.
    assert_eq!(id(&send(&server, &small, "x", Some("a"))), first);
    assert_eq!(id(&send(&server, &owner, "y", Some("a"))), of_owner);
    assert_eq!(send(&server, &small, "y", Some("a")).status, 422);
    // A session's senders share its keys.
    assert_eq!(id(&send(&server, &small, "y", Some("b"))), of_other);
}
