//! The history by request: content, visibility, caching, and long polls.

use std::time::Instant;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Connection, Response, Server, Setup};

const MESSAGES: &str = "/api/webhook/messages";

fn get(server: &Server, query: &str, headers: &str) -> Response {
    server.request("GET", &format!("{MESSAGES}{query}"), headers, b"")
}

/// Sends a request and reads a 200.
fn page(server: &Server, query: &str) -> Value {
    let response = get(server, query, "");
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

fn contents(page: &Value) -> Vec<&str> {
    let messages = page["messages"].as_array().unwrap();
    let content = |message: &'_ Value| message["content"].as_str().unwrap().len();
    assert!(messages.iter().all(|message| content(message) > 0));
    messages
        .iter()
        .map(|message| message["content"].as_str().unwrap())
        .collect()
}

fn target(server: &Server, session: &str, message: &str) {
    let response = server.post(&json!({ "message": message, "sessionId": session }));
    assert_eq!(response.status, 200, "{response:?}");
}

/// Sends a long poll and leaves the answer unread.
fn wait(server: &Server, query: &str, headers: &str) -> Connection {
    let mut waiting = server.connect();
    waiting.send_request("GET", &format!("{MESSAGES}{query}"), headers, b"");
    waiting
}

#[test]
fn entries_match_the_stream_and_since_continues_them() {
    let server = Server::start(&[]);
    let empty = page(&server, "");
    let expected = json!({
        "messages": [], "lastEventId": null, "reset": false, "missed": 0, "more": false,
    });
    assert_eq!(empty, expected);

    for message in ["one", "two", "three"] {
        server.publish(message);
    }
    let all = page(&server, "");
    let mut stream = server.stream("", "");
    assert_eq!(stream.connected(), 3);
    for entry in all["messages"].as_array().unwrap() {
        let event = stream.next();
        let mut expected = event.json();
        expected["eventId"] = event.id.clone().into();
        assert_eq!(*entry, expected);
    }
    let ids: Vec<&str> = all["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["eventId"].as_str().unwrap())
        .collect();
    assert_eq!(all["lastEventId"], ids[2]);

    let after = page(&server, &format!("?since={}", ids[0]));
    assert_eq!(contents(&after), ["two", "three"]);
    let first = page(&server, &format!("?since={}&limit=1", ids[0]));
    assert_eq!(
        (contents(&first), &first["more"]),
        (vec!["two"], &json!(true))
    );
    assert_eq!(first["lastEventId"], ids[1]);
    let newest = page(&server, "?limit=1");
    assert_eq!(
        (contents(&newest), &newest["more"]),
        (vec!["three"], &json!(false))
    );
    let none = page(&server, &format!("?since={}", ids[2]));
    assert!(contents(&none).is_empty());
    assert_eq!(
        none["lastEventId"], ids[2],
        "an empty page keeps the last event id"
    );

    // A stream resumes from this id, too.
    let mut resumed = server.stream(&format!("?lastEventId={}", ids[1]), "");
    assert_eq!(resumed.connected(), 1);
}

#[test]
fn an_id_of_another_ring_gets_the_whole_history_and_reset() {
    let server = Server::start(&[]);
    server.publish("here");
    for since in ["0123456789abcdef-1", "0000000000000000-0"] {
        let page = page(&server, &format!("?since={since}"));
        assert_eq!(
            (contents(&page), &page["reset"]),
            (vec!["here"], &json!(true))
        );
    }
    let last = page(&server, "")["lastEventId"]
        .as_str()
        .unwrap()
        .to_owned();
    // An id that was never assigned counts as invalid.
    let ahead = page(&server, &format!("?since={last}0"));
    assert_eq!(ahead["reset"], true);

    let server = {
        let mut server = server;
        server.kill();
        server.restart()
    };
    let page = page(&server, &format!("?since={last}"));
    assert_eq!((contents(&page), &page["reset"]), (vec![], &json!(false)));
}

#[test]
fn a_request_shows_what_a_stream_would() {
    let open = Server::start(&[]);
    let guarded = Setup::new(&[]).secret("s3cret").start();
    let secret = "X-Webhook-Secret: s3cret\r\n";
    for (server, headers) in [(&open, ""), (&guarded, secret)] {
        for body in [
            json!({"message": "all"}),
            json!({"message": "a", "sessionId": "a"}),
            json!({"message": "b", "sessionId": "b"}),
        ] {
            let body = body.to_string();
            let sent = server.request("POST", "/api/webhook", headers, body.as_bytes());
            assert_eq!(sent.status, 200, "{sent:?}");
        }
    }
    let public = "public, max-age=0, s-maxage=1";
    let private = "private, no-store";
    for (server, query, headers, expected, cache_control) in [
        (&open, "", "", vec!["all", "a", "b"], public),
        (&open, "", secret, vec!["all", "a", "b"], private),
        (&open, "?sessionId=a", "", vec!["all", "a"], private),
        (&guarded, "", "", vec!["all"], public),
        (&guarded, "?limit=1", "", vec!["all"], public),
        (&guarded, "", secret, vec!["all", "a", "b"], private),
        (&guarded, "?sessionId=b", "", vec!["all", "b"], private),
    ] {
        let response = get(server, query, headers);
        assert_eq!(contents(&response.json()), expected, "{query} {headers}");
        assert_eq!(response.header("cache-control"), Some(cache_control));
        assert_eq!(response.header("vary"), Some("X-Webhook-Secret"));
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    }
    let wrong = get(&guarded, "", "X-Webhook-Secret: wrong\r\n");
    assert_eq!(
        (wrong.status, wrong.error().as_str()),
        (401, "Unauthorized")
    );
    assert_eq!(wrong.header("cache-control"), Some("no-store"));
}

#[test]
fn a_matching_etag_gets_a_304() {
    let server = Server::start(&[]);
    server.publish("one");
    let first = get(&server, "", "");
    let etag = first.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"'), "{etag} is a weak tag");
    let known = format!("If-None-Match: {etag}\r\n");
    let again = get(&server, "", &known);
    assert_eq!((again.status, again.body.len()), (304, 0), "{again:?}");
    assert_eq!(again.header("etag"), Some(&*etag));
    assert_eq!(again.header("cache-control"), first.header("cache-control"));
    assert_eq!(again.header("vary"), first.header("vary"));

    let head = server.request("HEAD", MESSAGES, "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("etag"), Some(&*etag));
    let length = first.body.len().to_string();
    assert_eq!(head.header("content-length"), Some(&*length));

    server.publish("two");
    let changed = get(&server, "", &known);
    assert_eq!((changed.status, contents(&changed.json()).len()), (200, 2));
    let options = server.request("OPTIONS", MESSAGES, "", b"");
    assert_eq!(options.status, 204);
    assert_eq!(options.header("allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn a_long_poll_waits_for_a_visible_message() {
    let server = Server::start(&["--shards", "1"]);
    server.publish("first");
    let last = page(&server, "")["lastEventId"]
        .as_str()
        .unwrap()
        .to_owned();
    let since = format!("?since={last}&wait=25");
    let mut all = wait(&server, &since, "");
    let mut of_a = wait(&server, &format!("{since}&sessionId=a"), "");
    let mut of_b = wait(&server, &format!("{since}&sessionId=b"), "");
    let etag = get(&server, "", "").header("etag").unwrap().to_owned();
    let mut by_tag = wait(&server, "?wait=25", &format!("If-None-Match: {etag}\r\n"));
    // A second request on each connection waits behind the first.
    of_b.send_request("GET", "/api/webhook", "", b"");

    target(&server, "a", "for a");
    for connection in [&mut all, &mut of_a, &mut by_tag] {
        let response = connection.read_response();
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(*contents(&response.json()).last().unwrap(), "for a");
    }
    server.publish("for all");
    let response = of_b.read_response();
    assert_eq!(contents(&response.json()), ["for all"]);
    assert_eq!(of_b.read_response().json(), json!({"status": "ok"}));

    // The connection continues, and this poll has news at once.
    all.send_request("GET", &format!("{MESSAGES}{since}"), "", b"");
    let response = all.read_response();
    assert_eq!(contents(&response.json()), ["for a", "for all"]);
    assert_eq!(
        response.header("cache-control"),
        Some("public, max-age=0, s-maxage=1")
    );
}

#[test]
fn a_long_poll_without_news_ends_and_is_not_cached() {
    let server = Server::start(&[]);
    let began = Instant::now();
    let response = get(&server, "?wait=1", "");
    assert!(began.elapsed().as_millis() >= 1000);
    assert!(contents(&response.json()).is_empty());
    assert_eq!(response.header("cache-control"), Some("private, no-store"));
    server.publish("one");
    let etag = get(&server, "", "").header("etag").unwrap().to_owned();
    let known = get(&server, "?wait=1", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(known.status, 304);
    assert_eq!(known.header("cache-control"), Some("private, no-store"));
}

#[test]
fn a_long_poll_ends_with_its_client_and_with_the_drain() {
    let mut server = Server::start(&["--drain", "1s"]);
    let mut half_closed = wait(&server, "?wait=25", "");
    half_closed.finish();
    assert_eq!(half_closed.read_response().json()["messages"], json!([]));
    half_closed.expect_close();

    let mut waiting: Vec<Connection> = (0..20).map(|_| wait(&server, "?wait=25", "")).collect();
    // Requests are read in order: once this one is answered, all polls above are waiting.
    assert_eq!(get(&server, "", "").status, 200);
    server.signal(Signal::TERM);
    for connection in &mut waiting {
        let response = connection.read_response();
        assert_eq!(response.json()["messages"], json!([]));
        assert_eq!(response.header("connection"), Some("close"));
        connection.expect_close();
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn large_messages_are_split_into_pages() {
    let server = Server::start(&[]);
    let large = "x".repeat(60_000);
    for _ in 0..30 {
        server.publish(&large);
    }
    let newest = page(&server, "");
    let shown = contents(&newest).len();
    assert!(
        (10..30).contains(&shown),
        "{shown} messages in a page of 1 MiB"
    );
    let first = newest["lastEventId"].as_str().unwrap();
    let (epoch, seq) = first.split_once('-').unwrap();
    let mut since = format!("{epoch}-{}", seq.parse::<u64>().unwrap() - 30);
    let mut seen = 0;
    loop {
        let page = page(&server, &format!("?since={since}"));
        seen += contents(&page).len();
        since = page["lastEventId"].as_str().unwrap().to_owned();
        if page["more"] == false {
            break;
        }
    }
    assert_eq!((seen, since.as_str()), (30, first));
}

#[test]
fn an_invalid_query_gets_the_reason() {
    let server = Server::start(&[]);
    for (query, error) in [
        ("?limit=0", "limit must be a number from 1 to 100"),
        ("?wait=26", "wait must be a number of seconds from 0 to 25"),
        ("?since=1&since=2", "Repeated query parameter"),
    ] {
        let response = get(&server, query, "");
        assert_eq!((response.status, response.error().as_str()), (400, error));
    }
    assert_eq!(server.request("POST", MESSAGES, "", b"{}").status, 405);
}
