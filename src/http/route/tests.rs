//! The routes of requests, by method, path, query and secret.

use super::*;
use crate::http::begin::Moment;
use crate::http::tests::request;
use crate::tokens::TokenKeys;

const SECRET: &[u8] = b"s3cret";

fn is_asset(path: &str) -> bool {
    path == "/"
}

fn open() -> Access {
    Access::new(None)
}

fn guarded() -> Access {
    Access::new(Some(SECRET))
}

/// The view of a stream that is opened with this target and this secret.
fn view(access: &Access, target: &str, secret: Option<&[u8]>) -> Result<View, ErrorAnswer> {
    match route(
        &Request {
            secret,
            ..request(Method::Get, target)
        },
        access,
        0,
        is_asset,
    ) {
        Route::Subscribe(subscription) => Ok(subscription.view),
        Route::Error(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

/// A query with these two and 14 other sessions, and then one more.
fn sixteen_and(last: &str) -> String {
    let others: Vec<String> = (0..14).map(|i| format!("sessionId={i}")).collect();
    format!(
        "sessionId=a&sessionId=b&{}&sessionId={last}",
        others.join("&")
    )
}

fn sessions(ids: &str) -> View {
    let ids = ids
        .split(' ')
        .filter_map(|id| SessionId::parse(id).unwrap());
    View::of_sessions(ids.collect())
}

fn session(id: &str) -> View {
    View::Session(SessionId::parse(id).unwrap().unwrap())
}

#[test]
fn each_path_has_its_methods() {
    use Method::{Get, Head, Options, Other, Post};
    let not_allowed = |allow| Route::Error(ErrorAnswer::MethodNotAllowed(allow));
    for (method, path, expected) in [
        (Get, "/api/webhook", Route::Status),
        (Head, "/api/webhook?a", Route::Status),
        (Options, "/api/webhook", Route::Preflight(Allow::READ_WRITE)),
        (Post, "/api/webhook", Route::Error(ErrorAnswer::InvalidJson)),
        (Other, "/api/webhook", not_allowed(Allow::READ_WRITE)),
        (
            Options,
            "/api/webhook/stream",
            Route::Preflight(Allow::READ),
        ),
        (Post, "/api/webhook/stream", not_allowed(Allow::READ)),
        (
            Options,
            "/api/webhook/messages",
            Route::Preflight(Allow::READ),
        ),
        (Post, "/api/webhook/messages", not_allowed(Allow::READ)),
        (Other, "/api/webhook/messages", not_allowed(Allow::READ)),
        (Other, "/api/webhook/stream", not_allowed(Allow::READ)),
        (Get, "/api/webhook/sources", Route::ListSources),
        (Head, "/api/webhook/sources/", Route::ListSources),
        (
            Options,
            "/api/webhook/sources",
            Route::Preflight(Allow::READ),
        ),
        (Post, "/api/webhook/sources", not_allowed(Allow::READ)),
        (Get, "/", Route::Asset("/")),
        (Head, "/", Route::Asset("/")),
        (Options, "/", Route::Preflight(Allow::READ)),
        (Post, "/", not_allowed(Allow::READ)),
        (Other, "/", not_allowed(Allow::READ)),
        (Options, "*", Route::Preflight(Allow::READ_WRITE)),
        (Get, "/api/webhook/", Route::Status),
        (
            Post,
            "/api/webhook/",
            Route::Error(ErrorAnswer::InvalidJson),
        ),
        (Other, "/api/webhook/", not_allowed(Allow::READ_WRITE)),
        (
            Options,
            "/api/webhook/",
            Route::Preflight(Allow::READ_WRITE),
        ),
        (Post, "/api/webhook/stream/", not_allowed(Allow::READ)),
        (
            Options,
            "/api/webhook/messages/",
            Route::Preflight(Allow::READ),
        ),
    ] {
        assert_eq!(
            route(&request(method, path), &open(), 0, is_asset),
            expected,
            "{path}"
        );
    }
    for path in [
        "/api",
        "/api/webhook//",
        "/api/webhook/stream//",
        "/api/webhook/./",
        "/api/",
        "/x/",
        "//",
        "//api/webhook",
        "/API/webhook",
        "/api/%77ebhook",
        "/api/webhooks",
        "/api/webhook/in",
        "/api/webhook/in/github",
        "/x",
    ] {
        for method in [Get, Head, Post, Options, Other] {
            let expected = Route::Error(ErrorAnswer::NotFound);
            assert_eq!(
                route(&request(method, path), &open(), 0, is_asset),
                expected,
                "{path}"
            );
        }
    }
}

#[test]
fn a_stream_by_head_or_get() {
    for (method, head_only) in [(Method::Get, false), (Method::Head, true)] {
        let expected = Subscription {
            view: View::Everything,
            is_public: true,
            last_event_id: None,
            begin: Begin::default(),
            head_only,
            token: None,
        };
        for path in [STREAM_PATH, "/api/webhook/stream/"] {
            assert_eq!(
                route(&request(method, path), &open(), 0, is_asset),
                Route::Subscribe(expected.clone())
            );
        }
    }
}

#[test]
fn publishing_checks_the_secret_before_the_body() {
    let publish = |access: &Access, secret: Option<&'static [u8]>, body: &'static [u8]| {
        route(
            &Request {
                secret,
                body,
                ..request(Method::Post, WEBHOOK_PATH)
            },
            access,
            0,
            is_asset,
        )
    };
    let body = br#"{"message":"hi","sessionId":"s"}"#;
    let draft = Draft {
        session: SessionId::parse("s").unwrap(),
        content: "hi".into(),
        label: None,
        identity: None,
    };

    assert_eq!(publish(&open(), None, body), Route::Publish(draft.clone()));
    assert_eq!(
        publish(&open(), Some(b"any"), body),
        Route::Publish(draft.clone())
    );
    assert_eq!(
        publish(&guarded(), Some(SECRET), body),
        Route::Publish(draft)
    );
    assert_eq!(
        publish(&guarded(), Some(SECRET), b"{"),
        Route::Error(ErrorAnswer::InvalidJson)
    );
    for wrong in [
        None,
        Some(&b""[..]),
        Some(b"s3cre"),
        Some(b"s3crets"),
        Some(b"S3CRET"),
    ] {
        let refused = Route::Error(match wrong {
            None => ErrorAnswer::SecretMissing,
            Some(_) => ErrorAnswer::SecretWrong,
        });
        assert_eq!(publish(&guarded(), wrong, body), refused, "{wrong:?}");
        assert_eq!(publish(&guarded(), wrong, b"{"), refused, "{wrong:?}");
    }
}

#[test]
fn a_webhook_that_is_encoded_or_names_its_session_in_the_query_is_refused_by_its_head() {
    let before = |target: &str, is_encoded, access: &Access| {
        let head = Request {
            is_encoded,
            ..request(Method::Post, target)
        };
        error_before_body(&head, access, 0, is_asset)
    };
    let in_query = Some(ErrorAnswer::SessionInQuery);
    for (query, expected) in [
        ("sessionId=a", in_query),
        ("a=b&session_id=c", in_query),
        ("session%49d", in_query),
        ("%zz&SessionId=a", in_query),
        ("", None),
        ("a=sessionId&session=x", None),
        ("%zz&%FF=a", None),
    ] {
        let target = format!("{WEBHOOK_PATH}?{query}");
        assert_eq!(before(&target, false, &open()), expected, "{query}");
    }
    let encoded = Some(ErrorAnswer::ContentEncoding);
    assert_eq!(before(WEBHOOK_PATH, true, &open()), encoded);
    let unauthorized = Some(ErrorAnswer::SecretMissing);
    assert_eq!(before(WEBHOOK_PATH, true, &guarded()), unauthorized);
    let get = Request {
        is_encoded: true,
        ..request(Method::Get, WEBHOOK_PATH)
    };
    assert_eq!(error_before_body(&get, &open(), 0, is_asset), None);
}

#[test]
fn without_a_secret_a_stream_sees_everything_or_its_session() {
    assert_eq!(view(&open(), STREAM_PATH, None), Ok(View::Everything));
    assert_eq!(
        view(&open(), STREAM_PATH, Some(b"any")),
        Ok(View::Everything)
    );
    assert_eq!(
        view(&open(), "/api/webhook/stream?sessionId=a", None),
        Ok(session("a"))
    );
    assert_eq!(
        view(&open(), "/api/webhook/stream?sessionId=", None),
        Ok(View::Everything)
    );
}

#[test]
fn with_a_secret_the_view_depends_on_secret_and_session() {
    let of_session = "/api/webhook/stream?sessionId=a";
    assert_eq!(view(&guarded(), STREAM_PATH, None), Ok(View::Public));
    assert_eq!(
        view(&guarded(), STREAM_PATH, Some(SECRET)),
        Ok(View::Everything)
    );
    assert_eq!(view(&guarded(), of_session, None), Ok(session("a")));
    assert_eq!(view(&guarded(), of_session, Some(SECRET)), Ok(session("a")));
    for target in [STREAM_PATH, of_session, "/api/webhook/stream?%"] {
        assert_eq!(
            view(&guarded(), target, Some(b"wrong")),
            Err(ErrorAnswer::SecretWrong)
        );
        assert_eq!(
            view(&guarded(), target, Some(b"")),
            Err(ErrorAnswer::SecretWrong)
        );
    }
}

#[test]
fn behind_a_shared_cache_targeted_messages_need_session_or_secret() {
    let open = open().fanned_out();
    let guarded = guarded().fanned_out();
    let of_session = "/api/webhook/stream?sessionId=a";
    assert_eq!(view(&open, STREAM_PATH, None), Ok(View::Public));
    assert_eq!(view(&open, STREAM_PATH, Some(b"x")), Ok(View::Everything));
    assert_eq!(view(&open, of_session, None), Ok(session("a")));
    assert_eq!(view(&guarded, STREAM_PATH, None), Ok(View::Public));
    assert_eq!(
        view(&guarded, STREAM_PATH, Some(SECRET)),
        Ok(View::Everything)
    );
    assert_eq!(history(&open, "", None).0, View::Public);
}

#[test]
fn the_query_is_decoded_strictly() {
    let of_query = |query: &str| view(&open(), &format!("{STREAM_PATH}?{query}"), None);
    let longest = "x".repeat(256);
    for (query, expected) in [
        ("", View::Everything),
        ("&&", View::Everything),
        ("sessionId", View::Everything),
        ("a=b&sessionId=c", session("c")),
        ("sessionId=a%20b", session("a b")),
        ("sessionId=a+b", session("a b")),
        ("sessionId=a%2Bb%2bc", session("a+b+c")),
        ("sessionId=%26%3D%25", session("&=%")),
        ("sessionId=a=b", session("a=b")),
        ("sessionId=%C3%A9", session("é")),
        ("session%49d=a", session("a")),
        ("session=a", View::Everything),
        (&format!("sessionId={longest}"), session(&longest)),
        ("sessionId=a&sessionId=a", session("a")),
        ("sessionId=&sessionId=a&sessionId=", session("a")),
        ("sessionId=b&session%49d=a", sessions("b a")),
        ("sessionId=b&sessionId=a&sessionId=%62", sessions("b a")),
        (
            &sixteen_and("a"),
            sessions("a b 0 1 2 3 4 5 6 7 8 9 10 11 12 13"),
        ),
    ] {
        assert_eq!(of_query(query), Ok(expected), "{query}");
    }
    for (query, error) in [
        ("sessionId=%", ErrorAnswer::QueryMalformed),
        ("sessionId=%4", ErrorAnswer::QueryMalformed),
        ("sessionId=%4g", ErrorAnswer::QueryMalformed),
        ("sessionId=%+1", ErrorAnswer::QueryMalformed),
        ("sessionId=%%41", ErrorAnswer::QueryMalformed),
        ("sessionId=%FF", ErrorAnswer::QueryMalformed),
        ("sessionId=%C3", ErrorAnswer::QueryMalformed),
        ("sessionId=%ED%A0%80", ErrorAnswer::QueryMalformed),
        ("other=%zz", ErrorAnswer::QueryMalformed),
        ("%zz=a", ErrorAnswer::QueryMalformed),
        (&sixteen_and("c"), ErrorAnswer::TooManySessions),
        ("limit=1&limit=1", ErrorAnswer::QueryRepeated),
        ("replay=1&replay=1", ErrorAnswer::QueryRepeated),
        ("since=1m&since=1m", ErrorAnswer::QueryRepeated),
        ("lastEventId=1&lastEventId=1", ErrorAnswer::QueryRepeated),
        ("sessionid=a", ErrorAnswer::SessionMisspelled),
        ("sessionId=a&session_id=a", ErrorAnswer::SessionMisspelled),
        ("SessionID=", ErrorAnswer::SessionMisspelled),
        ("session%2Did", ErrorAnswer::SessionMisspelled),
        ("lastEventID=1", ErrorAnswer::LastEventIdMisspelled),
        ("Last-Event-ID=1", ErrorAnswer::LastEventIdMisspelled),
        (
            &format!("sessionId={longest}x"),
            ErrorAnswer::SessionTooLong,
        ),
        (
            &format!("sessionId={}", "%C3%A9".repeat(129)),
            ErrorAnswer::SessionTooLong,
        ),
    ] {
        assert_eq!(of_query(query), Err(error), "{query}");
    }
}

fn history(access: &Access, query: &str, secret: Option<&[u8]>) -> (View, bool, String) {
    let target = format!("{MESSAGES_PATH}?{query}");
    let request = Request {
        secret,
        ..request(Method::Get, &target)
    };
    match route(&request, access, 0, is_asset) {
        Route::History(query) => {
            let since = match query.since {
                None => String::new(),
                Some(Since::Event(id)) => id.to_string(),
                Some(Since::Time(moment)) => format!("{moment:?}"),
            };
            let rest = format!("{since} {} {}", query.limit, query.wait_s);
            (query.view, query.is_public, rest)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_history_shows_what_a_stream_shows_and_is_public_without_session_and_secret() {
    let all = "since=000000000000000a-1&limit=7&wait=25";
    assert_eq!(
        history(&open(), "", None),
        (View::Everything, true, " 100 0".into())
    );
    assert_eq!(
        history(&open(), all, Some(b"any")),
        (View::Everything, false, "000000000000000a-1 7 25".into())
    );
    for (secret, expected) in [(None, View::Public), (Some(SECRET), View::Everything)] {
        let (view, is_public, _) = history(&guarded(), "since=&lastEventId=x", secret);
        assert_eq!((view, is_public), (expected, secret.is_none()));
        let (view, is_public, _) = history(&guarded(), "sessionId=a", secret);
        assert_eq!((view, is_public), (session("a"), false));
    }
}

#[test]
fn a_bad_query_of_the_history_is_refused() {
    for (query, secret, error) in [
        ("", Some(&b"wrong"[..]), ErrorAnswer::SecretWrong),
        ("limit=0", None, ErrorAnswer::LimitOutOfRange),
        ("limit=101", None, ErrorAnswer::LimitOutOfRange),
        ("limit=", None, ErrorAnswer::LimitOutOfRange),
        ("limit=-1", None, ErrorAnswer::LimitOutOfRange),
        ("wait=26", None, ErrorAnswer::WaitOutOfRange),
        ("wait=1.5", None, ErrorAnswer::WaitOutOfRange),
        (
            "wait=99999999999999999999",
            None,
            ErrorAnswer::WaitOutOfRange,
        ),
        ("wait=1&wait=1", None, ErrorAnswer::QueryRepeated),
        ("since=1&since=1", None, ErrorAnswer::QueryRepeated),
        ("since=a", None, ErrorAnswer::SinceMalformed),
        ("since=10x", None, ErrorAnswer::SinceMalformed),
        ("since=9-1", None, ErrorAnswer::SinceMalformed),
        ("since=%", None, ErrorAnswer::QueryMalformed),
        ("session_id=a", None, ErrorAnswer::SessionMisspelled),
    ] {
        let target = format!("{MESSAGES_PATH}?{query}");
        let request = Request {
            secret,
            ..request(Method::Get, &target)
        };
        let routed = route(&request, &guarded(), 0, is_asset);
        assert_eq!(routed, Route::Error(error), "{query}");
    }
}

#[test]
fn last_event_id_has_precedence_over_the_parameter() {
    let id = |header: Option<&'static [u8]>, query: &str| {
        let target = format!("{STREAM_PATH}?{query}");
        let request = Request {
            last_event_id: header,
            ..request(Method::Get, &target)
        };
        match route(&request, &open(), 0, is_asset) {
            Route::Subscribe(subscription) => subscription.last_event_id.map(Cow::into_owned),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(id(None, ""), None);
    assert_eq!(id(None, "lastEventId="), None);
    assert_eq!(id(Some(b""), ""), None);
    assert_eq!(id(None, "lastEventId=a-1").as_deref(), Some("a-1"));
    assert_eq!(id(Some(b""), "lastEventId=a-1").as_deref(), Some("a-1"));
    assert_eq!(id(Some(b"b-2"), "lastEventId=a-1").as_deref(), Some("b-2"));
    assert_eq!(
        id(Some(b"\xff"), "lastEventId=a-1").as_deref(),
        Some("\u{fffd}")
    );
}

#[test]
fn a_view_has_each_session_once() {
    assert_eq!(View::of_sessions(Vec::new()), View::Public);
    assert_eq!(sessions("a a a"), session("a"));
    let View::Sessions(both) = sessions("b a b c a") else {
        panic!("three sessions");
    };
    let names: Vec<&str> = both.iter().map(SessionId::as_str).collect();
    assert_eq!(names, ["b", "a", "c"]);
}

/// The view, whether it is public, and where it begins.
fn stream(access: &Access, query: &str) -> Result<(View, bool, Begin), ErrorAnswer> {
    let target = format!("{STREAM_PATH}?{query}");
    match route(&request(Method::Get, &target), access, 0, is_asset) {
        Route::Subscribe(it) => Ok((it.view, it.is_public, it.begin)),
        Route::Error(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

/// A cache would give a relative time's answer to clients that have asked later. What a stream may see does not
/// depend on where it begins.
#[test]
fn a_stream_that_begins_elsewhere_is_not_public() {
    let cached = open().fanned_out();
    for (query, replay_max, since) in [
        ("replay=0", Some(0), None),
        ("replay=100", Some(100), None),
        ("since=10m", None, Some(Moment::Ago(600_000))),
        ("replay=7&since=0", Some(7), Some(Moment::At(0))),
    ] {
        let begin = Begin { replay_max, since };
        let expected = (View::Public, false, begin);
        assert_eq!(stream(&cached, query), Ok(expected), "{query}");
    }
    for query in ["", "since=", "limit=0", "wait=x"] {
        let expected = (View::Public, true, Begin::default());
        assert_eq!(stream(&cached, query), Ok(expected), "{query}");
    }
}

#[test]
fn a_bad_beginning_of_a_stream_is_refused() {
    for (query, error) in [
        ("replay=", ErrorAnswer::ReplayOutOfRange),
        ("replay=101", ErrorAnswer::ReplayOutOfRange),
        ("replay=all", ErrorAnswer::ReplayOutOfRange),
        ("since=000000000000000a-1", ErrorAnswer::SinceOfEvent),
        ("since=yesterday", ErrorAnswer::SinceOfStreamMalformed),
        ("since=x&lastEventId=y", ErrorAnswer::SinceOfStreamMalformed),
    ] {
        assert_eq!(stream(&open(), query), Err(error), "{query}");
    }
    // The history has no such parameter.
    assert_eq!(history(&open(), "replay=x", None).2, " 100 0");
    assert_eq!(history(&open(), "since=10m", None).2, "Ago(600000) 100 0");
}

#[test]
fn errors_decided_by_the_head_are_known_before_the_body() {
    let before = |method, path, access: &Access| {
        error_before_body(&request(method, path), access, 0, is_asset)
    };
    assert_eq!(before(Method::Post, WEBHOOK_PATH, &open()), None);
    assert_eq!(
        before(Method::Post, WEBHOOK_PATH, &guarded()),
        Some(ErrorAnswer::SecretMissing)
    );
    assert_eq!(
        before(Method::Post, "/x", &open()),
        Some(ErrorAnswer::NotFound)
    );
    assert_eq!(
        before(Method::Post, "/", &open()),
        Some(ErrorAnswer::MethodNotAllowed(Allow::READ))
    );
}

#[test]
fn debug_output_shows_no_secret() {
    assert_eq!(
        format!("{:?} {:?}", guarded(), open()),
        "Access(secret) Access(open)"
    );
}

#[test]
fn sources_are_listed_only_with_the_secret_if_there_is_one() {
    let list = |access: &Access, secret| {
        let request = Request {
            secret,
            ..request(Method::Get, SOURCES_PATH)
        };
        route(&request, access, 0, is_asset)
    };
    assert_eq!(list(&open(), None), Route::ListSources);
    assert_eq!(list(&guarded(), Some(SECRET)), Route::ListSources);
    for (secret, error) in [
        (None, ErrorAnswer::SecretMissing),
        (Some(&b"other"[..]), ErrorAnswer::SecretWrong),
    ] {
        assert_eq!(list(&guarded(), secret), Route::Error(error));
    }
}

/// A secret is compared where a wrong one is an error, and only there.
#[test]
fn a_secret_is_compared_only_where_it_decides() {
    let mut compared = 0;
    for path in [
        "*",
        "/",
        "/none",
        WEBHOOK_PATH,
        "/api/webhook/",
        STREAM_PATH,
        "/api/webhook/stream/",
        MESSAGES_PATH,
        SOURCES_PATH,
        "/api/webhook/sessions/",
        "/api/webhook/sessions/a",
        "/api/webhook/sessions/a/b",
    ] {
        for method in [
            Method::Get,
            Method::Head,
            Method::Post,
            Method::Options,
            Method::Other,
        ] {
            let request = Request {
                secret: Some(b"wrong"),
                ..request(method, path)
            };
            let error = error_before_body(&request, &guarded(), 0, is_asset);
            let is_compared = compares_secret(&request, &guarded());
            assert_eq!(
                is_compared,
                error == Some(ErrorAnswer::SecretWrong),
                "{method:?} {path}"
            );
            compared += usize::from(is_compared);
            assert!(!compares_secret(&request, &open()));
        }
    }
    assert_eq!(compared, 2 + 2 * 5);
}

#[test]
fn a_misspelled_token_is_an_error_only_with_keys() {
    let keys = TokenKeys::parse(b"a key of thirty-two bytes or more", None).unwrap();
    let with_keys = open().with_tokens(Arc::new(keys), false);
    for name in ["Token", "TOKEN", "tokne", "tokens", "%54oken", "t_oken"] {
        let target = format!("{STREAM_PATH}?{name}=a.b.c");
        let misspelled = Err(ErrorAnswer::TokenMisspelled);
        assert_eq!(view(&with_keys, &target, None), misspelled, "{name}");
        assert_eq!(view(&open(), &target, None), Ok(View::Everything), "{name}");
    }
    let other = format!("{STREAM_PATH}?other=a.b.c");
    assert_eq!(view(&with_keys, &other, None), Ok(View::Public));
}
