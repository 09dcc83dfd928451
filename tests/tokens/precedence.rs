//! Requests with two tokens: the first way in counts, whatever the second one has.

use serde_json::json;

use crate::rig::{KEY, KeyFile, OTHER_KEY, hs256, in_seconds, token, token_until, ways};
use crate::support::Server;

/// The status of a request for the history of a session, whose tokens come in these two ways.
fn status(server: &Server, first: &(String, String), second: &(String, String)) -> u16 {
    let query: Vec<&str> = [&first.0, &second.0]
        .iter()
        .map(|query| query.trim_start_matches('?'))
        .filter(|query| !query.is_empty())
        .collect();
    let target = format!("/api/webhook/messages?sessionId=a&{}", query.join("&"));
    let fields = [&*first.1, &second.1].concat();
    server.request("GET", &target, &fields, b"").status
}

/// A client that sends a bad token learns so, also if a browser adds a cookie with a good one.
#[test]
fn of_two_tokens_the_first_way_counts_and_a_bad_one_is_refused() {
    let file = KeyFile::new(KEY);
    let server = file.setup(&["--auth-failures-max", "0"]).start();
    let rights = json!({ "sessions": ["a"] });
    let good = ways(&token(&rights), "");
    let other = ways(&token(&json!({ "sessions": ["b"] })), "");
    let claims = json!({ "exp": in_seconds(60), "hookcast": rights });
    let bad = [
        token_until(in_seconds(-1), &rights),
        hs256(OTHER_KEY, &claims),
        "nonsense".to_owned(),
        String::new(),
    ];
    // The ways are in their order: the field, the parameter, the cookie.
    for (first, second) in [(0, 1), (0, 2), (1, 2)] {
        for token in &bad {
            let bad = ways(token, "");
            let refused = status(&server, &bad[first], &good[second]);
            assert_eq!(refused, 401, "{token}: {first} and {second}");
            let taken = status(&server, &good[first], &bad[second]);
            assert_eq!(taken, 200, "{token}: {first} and {second}");
        }
        assert_eq!(status(&server, &good[first], &other[second]), 200);
        assert_eq!(status(&server, &other[first], &good[second]), 403);
    }
}
