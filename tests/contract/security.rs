//! Sessions and the secret, tested from outside: the first two promises of the operator's page, and the origins of
//! `--allow-origin`.

use serde_json::json;

use crate::support::{Response, Server, Setup};

const SECRET: &str = "sesame-open-4711";
const WHISPER: &str = "whispered-words";

/// A server with a secret, and three messages: one for the session `mine` between two for all.
fn server() -> Server {
    let server = Setup::new(&["--shards", "1", "--auth-failures-max", "0"])
        .secret(SECRET)
        .start();
    for body in [
        r#"{"message":"first"}"#.to_owned(),
        format!(r#"{{"message":"{WHISPER}","sessionId":"mine"}}"#),
        r#"{"message":"last"}"#.to_owned(),
    ] {
        let secret = format!("X-Webhook-Secret: {SECRET}\r\n");
        let answer = server.request("POST", "/api/webhook", &secret, body.as_bytes());
        assert_eq!(answer.status, 200);
    }
    server
}

fn messages(server: &Server, query: &str, headers: &str) -> Response {
    server.request(
        "GET",
        &format!("/api/webhook/messages{query}"),
        headers,
        b"",
    )
}

fn text(answer: &Response) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// The event id of the first message, after which the targeted one follows.
fn first_id(server: &Server) -> String {
    let newest = messages(server, "", "").json();
    newest["messages"][0]["eventId"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn targeted_messages_are_invisible_without_session_or_secret() {
    let server = server();
    let first = first_id(&server);
    let everything = format!("X-Webhook-Secret: {SECRET}\r\n");
    let own = messages(&server, "?sessionId=mine", "");
    assert!(
        text(&own).contains(WHISPER) && text(&messages(&server, "", &everything)).contains(WHISPER)
    );
    let tag = own.header("etag").unwrap();

    for query in [
        "?",
        "?sessionId=",
        "?sessionId=other",
        "?sessionId=Mine",
        "?sessionId=mine%00",
        "?sessionId=mine%20",
        "?sessionId=*",
        "?limit=100",
    ] {
        for since in ["", &format!("&since={first}"), "&since=0000000000000000-0"] {
            let seen = messages(&server, &format!("{query}{since}"), "");
            let seen_text = text(&seen);
            assert!(!seen_text.contains(WHISPER), "{query}{since}: {seen_text}");
            // The entity tag of a session's history does not confirm guesses of its content, either.
            assert_ne!(seen.header("etag"), Some(tag));
            let resume = format!("{query}{}", since.replace("since", "lastEventId"));
            let mut stream = server.stream(&resume, "");
            let count = stream.connected();
            for _ in 0..count {
                assert_ne!(stream.next().content(), WHISPER, "{resume}");
            }
        }
    }
    // Answers for a session or a secret are not for caches.
    for (query, headers) in [("?sessionId=mine", ""), ("", &*everything)] {
        let cached = messages(&server, query, headers);
        assert_eq!(cached.header("cache-control"), Some("private, no-store"));
    }
    assert_eq!(
        messages(&server, "", "").header("vary"),
        Some("X-Webhook-Secret")
    );
}

#[test]
fn wrong_secrets_get_a_401_and_missing_ones_cannot_publish() {
    let server = server();
    let body = br#"{"message":"forged"}"#;
    for wrong in [
        "",
        "Sesame-open-4711",
        "sesame-open-471",
        "sesame-open-47111",
    ] {
        let headers = format!("X-Webhook-Secret: {wrong}\r\n");
        for (method, path) in [
            ("POST", "/api/webhook"),
            ("GET", "/api/webhook/stream"),
            ("HEAD", "/api/webhook/stream"),
            ("GET", "/api/webhook/stream?sessionId=mine"),
            ("GET", "/api/webhook/messages"),
            ("HEAD", "/api/webhook/messages?sessionId=mine"),
        ] {
            let body: &[u8] = if method == "POST" { body } else { b"" };
            let answer = server.request(method, path, &headers, body);
            assert_eq!(answer.status, 401, "{method} {path} {wrong}");
        }
    }
    assert_eq!(server.request("POST", "/api/webhook", "", body).status, 401);
    let twice = format!("X-Webhook-Secret: x\r\nX-Webhook-Secret: {SECRET}\r\n");
    assert_eq!(
        server.request("POST", "/api/webhook", &twice, body).status,
        400
    );
    assert!(!text(&messages(&server, "", "")).contains("forged"));
}

/// `--allow-origin` is about reading. A browser sends a simple request of any page without a preflight. Only
/// the secret prevents publishing.
#[test]
fn only_listed_origins_may_read() {
    let server = Server::start(&["--allow-origin", "https://app.example"]);
    let allowed = |origin: &str| {
        let answer = messages(&server, "", &format!("Origin: {origin}\r\n"));
        let varies = ("Vary".to_owned(), "Origin".to_owned());
        assert!(answer.headers.contains(&varies), "{:?}", answer.headers);
        answer
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    assert_eq!(
        allowed("https://app.example").as_deref(),
        Some("https://app.example")
    );
    for other in [
        "https://evil.example",
        "http://app.example",
        "https://app.example.evil",
        "null",
        "*",
    ] {
        assert_eq!(allowed(other), None, "{other}");
    }
    let page = "Origin: https://evil.example\r\nContent-Type: text/plain\r\n";
    let posted = server.request("POST", "/api/webhook", page, br#"{"message":"x"}"#);
    assert_eq!(posted.status, 200, "change src/packaging/OPERATING.md, too");
}

/// Checks what a stream shows, live and in its replay, of four messages: for all, for alice, for bob, for all.
fn expect_shown(server: &Server, query: &str, headers: &str, expected: &[&str]) {
    let mut live = server.stream(query, headers);
    let before = live.connected();
    let _ = live.contents(usize::try_from(before).unwrap());
    let secret = "X-Webhook-Secret: s3cret\r\n";
    for (message, session) in [
        ("all", None),
        ("to alice", Some("alice")),
        ("to bob", Some("bob")),
        ("end", None),
    ] {
        let body = json!({ "message": message, "sessionId": session }).to_string();
        assert_eq!(
            server
                .request("POST", "/api/webhook", secret, body.as_bytes())
                .status,
            200
        );
    }
    let case = format!("{query:?} {headers:?}");
    assert_eq!(live.contents(expected.len()), expected, "live: {case}");
    let mut replay = server.stream(query, headers);
    let count = usize::try_from(replay.connected()).unwrap();
    let contents = replay.contents(count);
    assert!(
        contents.ends_with(&expected.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "{case}"
    );
    let foreign: &[&str] = if query.contains("alice") {
        &["to bob"]
    } else {
        &[]
    };
    assert!(
        !contents
            .iter()
            .any(|content| foreign.contains(&content.as_str())),
        "{case}: {contents:?}"
    );
    assert_eq!(
        count % expected.len(),
        0,
        "the replay must be filtered like live messages: {case}"
    );
}

#[test]
fn without_a_secret_a_stream_shows_its_session_or_everything() {
    let server = Server::start(&["--shards", "2"]);
    let everything = ["all", "to alice", "to bob", "end"];
    expect_shown(&server, "", "", &everything);
    expect_shown(&server, "?sessionId=", "", &everything);
    expect_shown(&server, "?sessionId=alice", "", &["all", "to alice", "end"]);
    expect_shown(
        &server,
        "?x=y&sessionId=%61lice",
        "",
        &["all", "to alice", "end"],
    );
    expect_shown(&server, "?sessionId=carol", "", &["all", "end"]);
    expect_shown(&server, "?sessionId=ALICE", "", &["all", "end"]);
}

#[test]
fn with_a_secret_a_stream_shows_everything_only_if_its_request_has_it() {
    let server = Setup::new(&[]).secret("s3cret").start();
    let right = "X-Webhook-Secret: s3cret\r\n";
    expect_shown(&server, "", "", &["all", "end"]);
    expect_shown(&server, "", right, &["all", "to alice", "to bob", "end"]);
    expect_shown(&server, "?sessionId=alice", "", &["all", "to alice", "end"]);
    expect_shown(
        &server,
        "?sessionId=alice",
        right,
        &["all", "to alice", "end"],
    );
    for query in ["", "?sessionId=alice"] {
        let target = format!("/api/webhook/stream{query}");
        let response = server.request("GET", &target, "X-Webhook-Secret: wrong\r\n", b"");
        assert_eq!(
            (response.status, response.error().as_str()),
            (401, "Unauthorized")
        );
    }
}

#[test]
fn a_bad_session_in_the_query_is_an_error() {
    let server = Server::start(&[]);
    for query in [
        "sessionId=%zz".to_owned(),
        "sessionId=%ff".into(),
        format!("sessionId={}", "x".repeat(257)),
    ] {
        let response = server.request("GET", &format!("/api/webhook/stream?{query}"), "", b"");
        assert_eq!(response.status, 400, "{query}: {response:?}");
    }
}
