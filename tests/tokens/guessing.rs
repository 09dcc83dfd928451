//! Guessing of secrets and tokens is slowed down, for the client that guesses and for no other.

use serde_json::{Value, json};

use crate::rig::{
    KEY, KeyFile, OTHER_KEY, SECRET, hs256, in_seconds, post, token, token_until, ways,
};
use crate::support::loopback::connect_from;
use crate::support::{Connection, Response, Server, Setup};

/// A request from an address of the loopback network.
fn from(server: &Server, source: &str, fields: &str) -> Response {
    let mut connection = connect_from(source, server.address);
    connection.get("/api/webhook/messages", fields)
}

fn secret(secret: &str) -> String {
    format!("X-Webhook-Secret: {secret}\r\n")
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[test]
fn ten_wrong_secrets_lock_out_one_client_from_the_secret() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&[]).secret(SECRET).start();
    let forged = hs256(OTHER_KEY, &json!({ "exp": in_seconds(60), "hookcast": {} }));
    let valid = token(&json!({}));
    for nth in 0..10 {
        let refused = from(&server, "127.0.0.2", &secret("wrong"));
        assert_eq!(refused.status, 401, "{nth}");
    }
    for fields in [secret("wrong"), secret(SECRET)] {
        let refused = from(&server, "127.0.0.2", &fields);
        assert_eq!(refused.status, 429, "{refused:?}");
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(refused.header("cache-control"), Some("no-store"));
        // Others notice nothing.
        let elsewhere = from(&server, "127.0.0.3", &fields).status;
        assert!([200, 401].contains(&elsewhere), "{elsewhere}");
    }
    // Neither do requests without a secret, nor tokens.
    assert_eq!(from(&server, "127.0.0.2", "").status, 200);
    assert_eq!(from(&server, "127.0.0.2", &bearer(&valid)).status, 200);
    assert_eq!(from(&server, "127.0.0.2", &bearer(&forged)).status, 401);
    assert_eq!(from(&server, "127.0.0.3", &secret(SECRET)).status, 200);
}

/// An image of a stranger's page with a wrong token in its address would lock out everyone behind the same address.
#[test]
fn wrong_tokens_lock_out_neither_a_secret_nor_a_valid_token() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&[]).secret(SECRET).start();
    let forged = hs256(OTHER_KEY, &json!({ "exp": in_seconds(60), "hookcast": {} }));
    let valid = token(&json!({ "publish": true }));
    for nth in 0..10 {
        let status = server
            .request("GET", "/api/webhook/stream?token=x.y.z", "", b"")
            .status;
        assert_eq!(status, 401, "{nth}");
    }
    let refused = from(&server, "127.0.0.1", &bearer(&forged));
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(from(&server, "127.0.0.2", &bearer(&forged)).status, 401);
    for fields in [bearer(&valid), secret(SECRET)] {
        assert_eq!(from(&server, "127.0.0.1", &fields).status, 200);
        assert_eq!(post(&server, &fields, "x", None), 200);
    }
    assert_eq!(from(&server, "127.0.0.1", &secret("wrong")).status, 401);
}

#[test]
fn an_empty_token_is_no_guess() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&[]).start();
    for (query, fields) in ways("", "") {
        for _ in 0..20 {
            let target = format!("/api/webhook/messages{query}");
            let refused = server.request("GET", &target, &fields, b"");
            assert_eq!(refused.status, 401, "{query} {fields}");
            assert_eq!(refused.json()["detail"], "the token is empty");
        }
    }
}

#[test]
fn a_refused_client_gets_429_only_where_secrets_are_checked() {
    let server = Setup::new(&[]).secret(SECRET).start();
    let mut connection = server.connect();
    let right = secret(SECRET);
    let mut status = |method: &str, target: &str, fields: &str| {
        connection.send_request(method, target, fields, b"");
        connection.read_response_to(method).status
    };
    for _ in 0..10 {
        assert_eq!(status("GET", "/api/webhook/sources", &secret("wrong")), 401);
    }
    for path in ["stream", "messages", "sources", "sessions/a"] {
        let path = format!("/api/webhook/{path}");
        for method in ["GET", "HEAD"] {
            assert_eq!(status(method, &path, &right), 429, "{method} {path}");
        }
        assert_eq!(status("OPTIONS", &path, &right), 204, "{path}");
        assert_eq!(status("POST", &path, &right), 405, "{path}");
    }
    assert_eq!(status("POST", "/api/webhook", &right), 429);
    for (method, path, expected) in [
        ("OPTIONS", "/api/webhook", 204),
        ("GET", "/api/webhook", 200),
        ("PUT", "/api/webhook", 405),
        ("GET", "/", 200),
        ("GET", "/none", 404),
    ] {
        assert_eq!(status(method, path, &right), expected, "{method} {path}");
    }
}

#[test]
fn a_proxy_of_this_machine_that_is_not_trusted_locks_out_nobody() {
    let server = Setup::new(&[]).secret(SECRET).start();
    for name in ["X-Forwarded-For: 192.0.2.1", "forwarded: for=192.0.2.1"] {
        let sent = |text: &str| {
            let fields = format!("{name}\r\n{}", secret(text));
            from(&server, "127.0.0.1", &fields).status
        };
        for _ in 0..30 {
            assert_eq!(sent("wrong"), 401);
        }
        assert_eq!(sent(SECRET), 200);
    }
    assert_eq!(from(&server, "127.0.0.1", &secret(SECRET)).status, 200);
    server.wait_for_log("a wrong secret or token, whose client no trusted proxy names");
    let is_warning = |line: &Value| line.to_string().contains("--trusted-proxy");
    assert_eq!(
        server.log().iter().filter(|line| is_warning(line)).count(),
        1
    );
}

#[test]
fn a_proxy_header_without_a_client_counts_for_nobody() {
    let proxy = [
        "--trusted-proxy",
        "127.0.0.1",
        "--listen",
        "127.0.0.1:0+proxy",
    ];
    let server = Setup::new(&proxy).secret(SECRET).start();
    let status = |header: &str, sent: &str| {
        let mut connection = Connection::open(server.listening_at(1));
        connection.send(header.as_bytes());
        connection
            .get("/api/webhook/messages", &secret(sent))
            .status
    };
    let unknown = "PROXY UNKNOWN\r\n";
    let named = "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n";
    for _ in 0..30 {
        assert_eq!(status(unknown, "wrong"), 401);
    }
    assert_eq!(status(unknown, SECRET), 200);
    for _ in 0..10 {
        assert_eq!(status(named, "wrong"), 401);
    }
    assert_eq!(status(named, SECRET), 429);
    assert_eq!(status(unknown, SECRET), 200);
}

#[test]
fn tokens_with_a_right_signature_are_no_guesses() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&[]).start();
    let expired = token_until(in_seconds(-5), &json!({}));
    for _ in 0..30 {
        assert_eq!(from(&server, "127.0.0.1", &bearer(&expired)).status, 401);
    }
    assert_eq!(
        from(&server, "127.0.0.1", &bearer(&token(&json!({})))).status,
        200
    );
}

#[test]
fn behind_a_trusted_proxy_only_the_guesser_is_locked_out() {
    let server = Setup::new(&["--trusted-proxy", "127.0.0.1"])
        .secret(SECRET)
        .start();
    let named = |client: &str, sent: &str| {
        let fields = format!("X-Forwarded-For: {client}\r\n{}", secret(sent));
        from(&server, "127.0.0.1", &fields).status
    };
    for _ in 0..10 {
        assert_eq!(named("192.0.2.1", "wrong"), 401);
        assert_eq!(named("2001:db8::1", "wrong"), 401);
        // The proxy names no client.
        assert_eq!(from(&server, "127.0.0.1", &secret("wrong")).status, 401);
    }
    assert_eq!(named("192.0.2.1", SECRET), 429);
    let line = server.wait_for_log("too many wrong secrets");
    assert!(line.to_string().contains("--trusted-proxy"), "{line}");
    assert_eq!(named("192.0.2.2", SECRET), 200);
    assert_eq!(named("2001:db8::2", SECRET), 429, "one network of 64 bits");
    assert_eq!(named("2001:db8:0:1::1", SECRET), 200);
    assert_eq!(from(&server, "127.0.0.1", &secret(SECRET)).status, 200);
}

#[test]
fn a_botnet_locks_out_nobody_else() {
    let server = Setup::new(&["--trusted-proxy", "127.0.0.1"])
        .secret(SECRET)
        .start();
    let mut proxy = connect_from("127.0.0.1", server.address);
    for bot in 0..3_000 {
        let (b, c) = (bot / 256, bot % 256);
        let fields = format!("X-Forwarded-For: 198.51.{b}.{c}\r\n{}", secret("wrong"));
        assert_eq!(proxy.get("/api/webhook/messages", &fields).status, 401);
    }
    let fields = format!("X-Forwarded-For: 192.0.2.7\r\n{}", secret(SECRET));
    assert_eq!(proxy.get("/api/webhook/messages", &fields).status, 200);
}

#[test]
fn the_limit_can_be_changed_and_turned_off() {
    for (flag, until) in [("2", Some(2)), ("0", None)] {
        let server = Setup::new(&["--auth-failures-max", flag])
            .secret(SECRET)
            .start();
        for nth in 0..20 {
            let expected = if until.is_some_and(|until| nth >= until) {
                429
            } else {
                401
            };
            assert_eq!(
                post(&server, &secret("wrong"), "x", None),
                expected,
                "{flag} {nth}"
            );
        }
    }
}
