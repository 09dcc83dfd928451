//! What the operator's page promises of sessions and the secret, tried from outside.

mod support;

use support::{Response, Server, Setup};

const SECRET: &str = "sesame-open-4711";
const WHISPER: &str = "whispered-words";

/// A server with a secret, messages for everyone, and one between them for the session `mine`.
fn server() -> Server {
    let server = Setup::new(&["--shards", "1"]).secret(SECRET).start();
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

/// The event id of the first message, behind which the whisper stands.
fn first_id(server: &Server) -> String {
    let newest = messages(server, "", "").json();
    newest["messages"][0]["eventId"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_stranger_sees_a_sessions_message_by_no_way() {
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
            // Nor does the session's own tag tell whether a stranger has guessed what is there.
            assert_ne!(seen.header("etag"), Some(tag));
            let resume = format!("{query}{}", since.replace("since", "lastEventId"));
            let mut stream = server.stream(&resume, "");
            let count = stream.connected();
            for _ in 0..count {
                assert_ne!(stream.next().content(), WHISPER, "{resume}");
            }
        }
    }
    // What is a session's or the secret's is for no cache.
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
fn a_wrong_secret_opens_nothing_and_a_missing_one_publishes_nothing() {
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

/// `--allow-origin` is about reading. A browser sends a simple request without asking, whatever the
/// page: the secret is what keeps strangers from publishing.
#[test]
fn the_list_of_origins_lets_no_other_page_read() {
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
