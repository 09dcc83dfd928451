//! The security table: way in, state of the token, view, answer.

use serde_json::{Value, json};

use crate::rig::{
    KEY, KeyFile, OTHER_KEY, SECRET, hs256, hs256_with_header, in_seconds, post, token,
    token_until, ways,
};
use crate::support::Server;

/// The servers of the table, which all have the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Only the key.
    Key,
    /// And the secret.
    Secret,
    /// And `--require-token`.
    Required,
    /// And both.
    Both,
}

const GUARDS: [Guard; 4] = [Guard::Key, Guard::Secret, Guard::Required, Guard::Both];

impl Guard {
    fn has_secret(self) -> bool {
        matches!(self, Guard::Secret | Guard::Both)
    }

    fn requires_token(self) -> bool {
        matches!(self, Guard::Required | Guard::Both)
    }
}

/// A server with one message for everyone and one for each of the sessions `a`, `b` and `z`.
fn start(file: &KeyFile, guard: Guard) -> Server {
    let mut flags = vec!["--auth-failures-max", "0"];
    if guard.requires_token() {
        flags.push("--require-token");
    }
    let mut setup = file.setup(&flags);
    if guard.has_secret() {
        setup = setup.secret(SECRET);
    }
    let server = setup.start();
    let sender = bearer(&token(&json!({ "publish": true })));
    for (content, session) in [
        ("p", None),
        ("a", Some("a")),
        ("b", Some("b")),
        ("z", Some("z")),
    ] {
        assert_eq!(post(&server, &sender, content, session), 200);
    }
    server
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

fn secret(secret: &str) -> String {
    format!("X-Webhook-Secret: {secret}\r\n")
}

/// What a request for the history, and one for a stream, sees: the contents in order, or the status. Both
/// must be the same, and nothing that has a credential may be kept by a cache.
fn seen(server: &Server, query: &str, fields: &str, is_public: bool) -> Result<String, u16> {
    let target = format!("/api/webhook/messages{query}");
    let history = server.request("GET", &target, fields, b"");
    let head = server.request("HEAD", &format!("/api/webhook/stream{query}"), fields, b"");
    assert_eq!(head.status, history.status, "{query} {fields}");
    let cache_control = history.header("cache-control").unwrap_or_default();
    if history.status != 200 {
        assert_eq!(cache_control, "no-store", "{history:?}");
        return Err(history.status);
    }
    let is_kept = cache_control.contains("public");
    assert_eq!(is_kept, is_public, "{query} {fields} {cache_control}");
    assert!(head.header("cache-control").unwrap().contains("no-store"));
    let messages = history.json()["messages"].clone();
    let contents = messages.as_array().unwrap().iter();
    let contents: Vec<&str> = contents.map(|it| it["content"].as_str().unwrap()).collect();
    let mut stream = server.stream(query, fields);
    let replay = stream.connected();
    assert_eq!(
        stream.contents(replay as usize),
        contents,
        "{query} {fields}"
    );
    Ok(contents.concat())
}

#[test]
fn requests_without_a_token_see_what_the_server_allows_them() {
    let file = KeyFile::new(KEY);
    for guard in GUARDS {
        let server = start(&file, guard);
        let public = if guard.requires_token() {
            Err(401)
        } else {
            Ok("p".to_owned())
        };
        assert_eq!(seen(&server, "", "", true), public, "{guard:?}");
        assert_eq!(
            seen(&server, "?sessionId=a", "", false),
            Err(401),
            "{guard:?}"
        );
        for other in ["Authorization: Basic YTpi\r\n", "Cookie: a=b\r\n"] {
            assert_eq!(seen(&server, "", other, true), public, "{guard:?}");
        }
        if !guard.has_secret() {
            continue;
        }
        let right = secret(SECRET);
        assert_eq!(seen(&server, "", &right, false), Ok("pabz".into()));
        assert_eq!(
            seen(&server, "?sessionId=z", &right, false),
            Ok("pz".into())
        );
        assert_eq!(seen(&server, "", &secret("wrong"), false), Err(401));
        // The secret alone decides.
        let both = right.clone() + &bearer("nonsense");
        assert_eq!(seen(&server, "", &both, false), Ok("pabz".into()));
        let both = secret("wrong") + &bearer(&token(&json!({ "everything": true })));
        assert_eq!(seen(&server, "", &both, false), Err(401));
    }
}

#[test]
fn a_valid_token_opens_what_it_says_in_each_way_in() {
    let file = KeyFile::new(KEY);
    let rows: [(Value, &str, Result<&str, u16>); 18] = [
        (json!({}), "", Ok("p")),
        (json!({}), "?sessionId=a", Err(403)),
        (json!({ "sessions": ["a"] }), "", Ok("pa")),
        (json!({ "sessions": ["a"] }), "?sessionId=a", Ok("pa")),
        (json!({ "sessions": ["a"] }), "?sessionId=z", Err(403)),
        (
            json!({ "sessions": ["a"] }),
            "?sessionId=a&sessionId=z",
            Err(403),
        ),
        (json!({ "sessions": ["a"] }), "?sessionId=A", Err(403)),
        (json!({ "sessions": ["a", "z"] }), "", Ok("paz")),
        (json!({ "sessions": ["a", "z"] }), "?sessionId=z", Ok("pz")),
        (
            json!({ "sessions": ["z", "a"] }),
            "?sessionId=a&sessionId=z",
            Ok("paz"),
        ),
        (json!({ "sessions": ["q"] }), "", Ok("p")),
        (json!({ "everything": true }), "", Ok("pabz")),
        (json!({ "everything": true }), "?sessionId=b", Ok("pb")),
        (
            json!({ "everything": true, "sessions": ["a"] }),
            "",
            Ok("pabz"),
        ),
        (json!({ "everything": false, "sessions": [] }), "", Ok("p")),
        (json!({ "publish": true }), "", Ok("p")),
        (json!({ "publish": ["a"] }), "?sessionId=a", Err(403)),
        (json!({ "publish": true }), "?sessionId=a", Err(403)),
    ];
    for guard in GUARDS {
        let server = start(&file, guard);
        for (rights, query, expected) in &rows {
            let token = token(rights);
            for (query, fields) in ways(&token, query) {
                let expected = expected.map(str::to_owned);
                assert_eq!(
                    seen(&server, &query, &fields, false),
                    expected,
                    "{rights} {query}"
                );
            }
        }
    }
}

#[test]
fn a_bad_token_is_401_and_the_answer_says_why() {
    let file = KeyFile::new(KEY);
    let rights = json!({ "everything": true, "publish": true });
    let claims = |more: Value| {
        let mut claims = json!({ "exp": in_seconds(3600), "hookcast": rights });
        let object = claims.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        claims
    };
    let valid = token(&rights);
    let with_header = |header: Value| hs256_with_header(KEY, &header, &claims(json!({})));
    let (head, tail) = valid.rsplit_once('.').unwrap();
    let bad = [
        ("expired", token_until(in_seconds(-1), &rights)),
        ("long expired", token_until(1, &rights)),
        ("without exp", hs256(KEY, &claims(json!({ "exp": null })))),
        (
            "exp as text",
            hs256(KEY, &claims(json!({ "exp": "9999999999" }))),
        ),
        (
            "far nbf",
            hs256(KEY, &claims(json!({ "nbf": in_seconds(600) }))),
        ),
        (
            "audience",
            hs256(KEY, &claims(json!({ "aud": "another service" }))),
        ),
        ("another key", hs256(OTHER_KEY, &claims(json!({})))),
        (
            "rights of a wrong type",
            hs256(KEY, &claims(json!({ "hookcast": { "sessions": "a" } }))),
        ),
        (
            "everything as text",
            hs256(
                KEY,
                &claims(json!({ "hookcast": { "everything": "true" } })),
            ),
        ),
        ("alg none", with_header(json!({ "alg": "none" }))),
        ("another alg", with_header(json!({ "alg": "HS512" }))),
        (
            "crit",
            with_header(json!({ "alg": "HS256", "crit": ["x"], "x": 1 })),
        ),
        ("no signature", head.to_owned() + "."),
        ("two parts", head.to_owned()),
        ("a changed signature", format!("{head}.A{}", &tail[1..])),
        (
            "oversized",
            hs256(KEY, &claims(json!({ "x": "x".repeat(4096) }))),
        ),
        ("nonsense", "nonsense".to_owned()),
        ("empty", String::new()),
    ];
    for guard in GUARDS {
        let server = start(&file, guard);
        let mut reasons = Vec::new();
        for (what, token) in &bad {
            for (query, fields) in ways(token, "") {
                for query in [query.clone(), with_session(&query)] {
                    assert_eq!(
                        seen(&server, &query, &fields, false),
                        Err(401),
                        "{guard:?} {what} {query}"
                    );
                }
                for path in ["sessions/a", "sources"] {
                    let target = format!("/api/webhook/{path}{query}");
                    let answer = server.request("GET", &target, &fields, b"");
                    assert_eq!(answer.status, 401, "{guard:?} {what} {target}");
                }
            }
            assert_eq!(
                post(&server, &bearer(token), "x", None),
                401,
                "{guard:?} {what}"
            );
            let answer = server.request("GET", "/api/webhook/stream", &bearer(token), b"");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge, Some("Bearer error=\"invalid_token\""), "{what}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(!detail.is_empty() && (token.is_empty() || !detail.contains(token)));
            reasons.push(detail);
        }
        reasons.sort();
        reasons.dedup();
        assert!(reasons.len() >= 8, "{reasons:#?}");
        // The server goes on.
        assert_eq!(seen(&server, "", &bearer(&valid), false), Ok("pabz".into()));
    }
}

#[test]
fn webhooks_need_the_right_to_send() {
    let file = KeyFile::new(KEY);
    let rows: [(Value, Option<&str>, u16); 10] = [
        (json!({}), None, 403),
        (
            json!({ "everything": true, "sessions": ["a"] }),
            Some("a"),
            403,
        ),
        (json!({ "publish": false }), Some("a"), 403),
        (json!({ "publish": true }), None, 200),
        (json!({ "publish": true }), Some("any"), 200),
        (json!({ "publish": ["a", "b"] }), Some("b"), 200),
        (json!({ "publish": ["a", "b"] }), Some("z"), 403),
        (json!({ "publish": ["a", "b"] }), None, 403),
        (json!({ "publish": [] }), None, 403),
        (json!({ "publish": [] }), Some("a"), 403),
    ];
    for guard in GUARDS {
        let server = start(&file, guard);
        for (rights, session, expected) in &rows {
            let token = token(rights);
            let status = post(&server, &bearer(&token), "x", *session);
            assert_eq!(status, *expected, "{guard:?} {rights} {session:?}");
            // A page of another site cannot send the cookie's rights along.
            let cookie = format!("Cookie: hookcast_token={token}\r\n");
            let anonymous = match guard {
                Guard::Key => 200,
                _ => 401,
            };
            assert_eq!(
                post(&server, &cookie, "x", *session),
                anonymous,
                "{guard:?}"
            );
        }
        if guard.has_secret() {
            assert_eq!(post(&server, &secret(SECRET), "x", None), 200);
            assert_eq!(post(&server, &secret("wrong"), "x", None), 401);
        }
        let target = format!("/api/webhook?token={}", token(&json!({ "publish": true })));
        let response = server.request("POST", &target, "", b"{\"message\":\"x\"}");
        assert_eq!(response.status, 200);
    }
}

/// A query that names a session, too.
fn with_session(query: &str) -> String {
    let separator = if query.is_empty() { '?' } else { '&' };
    format!("{query}{separator}sessionId=a")
}

#[test]
fn presence_and_the_list_of_sources_need_the_right_to_send() {
    const PATHS: [&str; 3] = ["sessions/a", "sessions/z", "sources"];
    let file = KeyFile::new(KEY);
    // The rights, and the statuses of the count of streams of `a` and of `z`, and of the list of sources.
    let rows: [(Value, [u16; 3]); 8] = [
        (json!({}), [403, 403, 403]),
        (json!({ "sessions": ["a"] }), [403, 403, 403]),
        (json!({ "everything": true }), [403, 403, 403]),
        (json!({ "publish": false }), [403, 403, 403]),
        (json!({ "publish": [] }), [403, 403, 403]),
        (json!({ "publish": ["a"] }), [200, 403, 403]),
        (json!({ "publish": ["a", "z"] }), [200, 200, 403]),
        (json!({ "publish": true }), [200, 200, 200]),
    ];
    for guard in GUARDS {
        let server = start(&file, guard);
        let statuses = |query: &str, fields: &str| {
            PATHS.map(|path| {
                let target = format!("/api/webhook/{path}{query}");
                let answer = server.request("GET", &target, fields, b"");
                let head = server.request("HEAD", &target, fields, b"");
                assert_eq!(head.status, answer.status, "{guard:?} {target}");
                let kept = answer.header("cache-control").unwrap();
                assert!(kept.contains("no-store"), "{guard:?} {target}: {kept}");
                answer.status
            })
        };
        for (rights, expected) in &rows {
            for (query, fields) in ways(&token(rights), "") {
                assert_eq!(
                    statuses(&query, &fields),
                    *expected,
                    "{guard:?} {rights} {query}"
                );
            }
        }
        // The sources are open as long as webhooks are; how many streams there are never is.
        let sources = if guard == Guard::Key { 200 } else { 401 };
        assert_eq!(statuses("", ""), [401, 401, sources], "{guard:?}");
        if guard.has_secret() {
            assert_eq!(statuses("", &secret(SECRET)), [200; 3]);
            assert_eq!(statuses("", &secret("wrong")), [401; 3]);
        }
    }
}

#[test]
fn a_refusal_says_what_would_be_taken() {
    let file = KeyFile::new(KEY);
    let some = bearer(&token(&json!({ "publish": ["a"] })));
    let cookie = format!(
        "Cookie: hookcast_token={}\r\n",
        token(&json!({ "publish": true }))
    );
    let rows: [(Guard, &str, &str, &str, u16, &str); 8] = [
        (
            Guard::Both,
            "POST",
            "",
            "",
            401,
            "X-Webhook-Secret, or a token",
        ),
        (
            Guard::Secret,
            "POST",
            "",
            "",
            401,
            "X-Webhook-Secret, or a token",
        ),
        (
            Guard::Secret,
            "GET",
            "/sources",
            "",
            401,
            "X-Webhook-Secret, or a token",
        ),
        (
            Guard::Secret,
            "GET",
            "/sessions/a",
            "",
            401,
            "X-Webhook-Secret, or a token",
        ),
        (
            Guard::Required,
            "POST",
            "",
            &cookie,
            401,
            "a cookie does not count",
        ),
        (
            Guard::Required,
            "GET",
            "/messages",
            "",
            401,
            "the cookie hookcast_token",
        ),
        (
            Guard::Key,
            "GET",
            "/sessions/b",
            &some,
            403,
            "for this session",
        ),
        (
            Guard::Key,
            "GET",
            "/sources",
            &some,
            403,
            "not allow all webhooks",
        ),
    ];
    for guard in GUARDS {
        let server = start(&file, guard);
        for (_, method, path, fields, status, text) in rows.iter().filter(|row| row.0 == guard) {
            let target = format!("/api/webhook{path}");
            let answer = server.request(method, &target, fields, b"{\"message\":\"x\"}");
            assert_eq!(answer.status, *status, "{guard:?} {method} {target}");
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(
                detail.contains(text),
                "{guard:?} {method} {target}: {detail}"
            );
        }
    }
}

#[test]
fn a_shared_cache_never_gets_what_a_token_opened() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&["--cdn-fanout", "60s"]).start();
    let head = |query: &str, fields: &str| {
        let target = format!("/api/webhook/stream{query}");
        server.request("HEAD", &target, fields, b"")
    };
    let shared = head("", "");
    assert!(
        shared
            .header("cache-control")
            .unwrap()
            .starts_with("public"),
        "{shared:?}"
    );
    let vary = shared.header("vary").unwrap();
    assert!(
        vary.contains("Authorization") && vary.contains("Cookie"),
        "{vary}"
    );
    for (query, fields) in ways(&token(&json!({ "sessions": ["a"] })), "") {
        let private = head(&query, &fields);
        assert_eq!(private.status, 200);
        let cache_control = private.header("cache-control").unwrap();
        assert!(cache_control.contains("no-store") && !cache_control.contains("public"));
    }
}
