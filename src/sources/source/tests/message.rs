//! What a source makes of a request that it takes: the text, the session, or an answer without a message.

use super::*;
use crate::sources::Preset;

#[test]
fn without_a_template_the_content_is_the_body() {
    let sources = open("");
    for body in ["{\"a\": 1}", " text \n", "a=1&b=2", "{broken"] {
        assert_eq!(content(&sources, body), body);
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(
        draft(received(&sources, &form, b"a=1&b=x+y")).content,
        "a=1&b=x+y"
    );
}

#[test]
fn a_body_that_is_no_message_gives_way_to_the_plain_text() {
    let sources = open("");
    let fits = "x".repeat(CONTENT_BYTES_MAX);
    assert_eq!(content(&sources, &fits), fits);
    assert_eq!(content(&sources, &format!("{fits}x")), "hub");
    for body in ["", " \n\t", "\u{2003}"] {
        assert_eq!(content(&sources, body), "hub", "{body:?}");
    }
    assert_eq!(draft(received(&sources, &[], b"\xff{}")).content, "hub");
    let large = format!("{{\"type\":\"made\",\"x\":\"{fits}\"}}");
    assert_eq!(content(&sources, &large), "hub made");
}

#[test]
fn the_bound_of_a_message_includes_its_session() {
    let session = "s".repeat(200);
    let sources = open(&format!(
        "session = \"{session}\"\n[hub.templates]\n\"*\" = \"{{{{ x }}}}\""
    ));
    let content = content(&sources, &format!("{{\"x\":\"{}\"}}", "é".repeat(2000)));
    assert!(content.ends_with("é…") && content.len() <= CONTENT_BYTES_MAX - 200);
    assert!(content.len() > CONTENT_BYTES_MAX - 200 - 4);
    let untargeted = open("[hub.templates]\n\"*\" = \"{{ x }}\"");
    let text = draft(received(
        &untargeted,
        &[],
        format!("{{\"x\":\"{}\"}}", "x".repeat(9000)).as_bytes(),
    ));
    assert_eq!(text.content.len(), CONTENT_BYTES_MAX);
}

#[test]
fn an_unknown_event_or_a_failing_template_gets_the_plain_text() {
    let sources = open(
        "[hub.templates]\nmade = \"made: {{ x }}\"\nbad = \"{{ 1 / x }}\"\nblank = \" {{ y }} \"",
    );
    assert_eq!(content(&sources, r#"{"type":"made","x":1}"#), "made: 1");
    assert_eq!(content(&sources, r#"{"type":"other","x":1}"#), "hub other");
    assert_eq!(content(&sources, r#"{"x":1}"#), "hub");
    let source = sources.get("hub").unwrap();
    assert_eq!(source.template_faults(), 0);
    assert_eq!(content(&sources, r#"{"type":"bad","x":0}"#), "hub bad");
    assert_eq!(content(&sources, r#"{"type":"blank"}"#), "hub blank");
    assert_eq!(source.template_faults(), 2);
}

#[test]
fn a_failing_session_never_makes_a_message_public() {
    let long = "{{ 'x' * 257 }}";
    for session in [
        "{{ user.id }}",
        "{{ 1 / 0 }}",
        "{{ '' }}",
        "{{ blank }}",
        "id-{{ missing }}",
        long,
        "{{ user.n() }}",
    ] {
        let sources = open(&format!("session = \"{session}\""));
        let verdict = received(&sources, &[], br#"{"user": null, "blank": " \n "}"#);
        assert_eq!(
            why(&verdict),
            Some(Unpublished::Unroutable),
            "{session}: {verdict:?}"
        );
        assert!(matches!(verdict, Verdict::Reply { reply, .. } if reply.status == 200));
        assert_eq!(sources.get("hub").unwrap().template_faults(), 1);
    }
    let sources = open("session = \"user-{{ user.id }}\"");
    let draft = draft(received(&sources, &[], br#"{"user": {"id": 7}}"#));
    assert_eq!(draft.session.unwrap().as_str(), "user-7");
    let full = open("session = \"{{ 'x' * 256 }}\"");
    assert_eq!(
        super::draft(received(&full, &[], b"{}"))
            .session
            .unwrap()
            .as_str()
            .len(),
        256
    );
}

#[test]
fn unwanted_events_are_answered_and_not_published() {
    let sources = open("events = [\"made\", \"order.*\"]");
    for (body, is_wanted) in [
        (r#"{"type":"made"}"#, true),
        (r#"{"type":"order.paid"}"#, true),
        (r#"{"type":"other"}"#, false),
        ("{}", false),
    ] {
        let verdict = received(&sources, &[], body.as_bytes());
        let expected = (!is_wanted).then_some(Unpublished::Unwanted);
        assert_eq!(why(&verdict), expected, "{body}");
    }
}

#[test]
fn large_and_deep_bodies_are_taken() {
    let sources = open("[hub.templates]\nmade = \"{{ list|length }} {{ text|truncate(5) }}\"");
    let list = vec!["{\"a\":1}"; 40_000].join(",");
    let body = format!(
        "{{\"type\":\"made\",\"list\":[{list}],\"text\":\"{}\"}}",
        "x".repeat(600_000)
    );
    assert!(body.len() < 1024 * 1024);
    assert_eq!(content(&sources, &body), "40000 xxxx…");
    let deep = format!(
        "{{\"type\":\"made\",\"list\":{}1{}}}",
        "[".repeat(120),
        "]".repeat(120)
    );
    assert_eq!(content(&sources, &deep), "1");
    // Too deep for JSON: text, whose type is not known.
    let deeper = format!(
        "{{\"type\":\"made\",\"list\":{}1{}}}",
        "[".repeat(200),
        "]".repeat(200)
    );
    assert_eq!(content(&sources, &deeper), "hub");
}

/// Whatever the fields and the body are, there is a verdict, and a message is bounded and not blank.
#[test]
fn odd_requests_get_a_verdict() {
    use proptest::prelude::*;

    let every: Vec<String> = Preset::all()
        .iter()
        .map(|preset| {
            let header = if preset.name == "hmac" {
                "header = \"X-Sum\"\n"
            } else {
                ""
            };
            format!(
                "[{0}]\npreset = \"{0}\"\nverify = false\ngzip = true\n{header}",
                preset.name
            )
        })
        .collect();
    let sources = sources(&every.concat());
    let member = prop::sample::select(vec![
        "type",
        "event",
        "action",
        "data",
        "object",
        "commits",
        "alerts",
        "repository",
        "message",
        "payload",
        "status",
        "push",
        "changes",
        "user",
        "id",
        "number",
        "title",
        "challenge",
        "ref",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let json = leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((member.clone(), inner), 0..6).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    });
    let body = prop_oneof![
        4 => json.prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => "[a-c%=&+0-9]{0,60}".prop_map(String::into_bytes),
    ];
    let field = prop::sample::select(vec![
        "Content-Type",
        "Content-Encoding",
        "X-GitHub-Event",
        "X-Event-Key",
        "X-Shopify-Topic",
        "ce-type",
        "Sentry-Hook-Resource",
        "X-Gitlab-Event",
    ]);
    let value = prop::sample::select(vec![
        "push",
        "issues",
        "application/x-www-form-urlencoded",
        "gzip",
        "orders/create",
        "issue",
        "repo:push",
    ]);
    let fields = prop::collection::vec((field, value), 0..4);
    proptest!(|(body in body, fields in fields)| {
        for source in sources.iter() {
            let fields = Fields::from_pairs(fields.iter().map(|(name, value)| (*name, value.as_bytes())));
            let incoming = Incoming { query: Some("a=b"), fields: &fields, body: &body };
            if let Verdict::Publish { draft, .. } = source.receive(&incoming, NOW_MS) {
                prop_assert!(!draft.content.trim().is_empty());
                prop_assert!(draft.content.len() <= CONTENT_BYTES_MAX);
                prop_assert!(draft.label.is_some());
            }
        }
    });
}

/// A cut session could be that of other streams.
#[test]
fn a_session_that_is_too_long_is_never_cut() {
    let sources = open("session = \"{{ s }}\"");
    for start in 0..8 {
        for filler in ["é", "€", "😀", "x"] {
            let session = "x".repeat(start) + &filler.repeat(300);
            let body = serde_json::json!({ "s": session }).to_string();
            let verdict = received(&sources, &[], body.as_bytes());
            assert_eq!(
                why(&verdict),
                Some(Unpublished::Unroutable),
                "{start} {filler}"
            );
        }
    }
}

/// In a frame a control character takes six bytes. A provider takes a 413 for the end of its address.
#[test]
fn a_body_that_is_too_large_once_escaped_is_named_instead() {
    let sources = open("");
    for (text, repeats) in [("\u{1}", 1000), ("x\u{85}", 600), ("\u{1}\u{85}x", 500)] {
        assert_eq!(content(&sources, &text.repeat(repeats)), "hub", "{text:?}");
        let small = text.repeat(10);
        assert_eq!(content(&sources, &small), small);
    }
    for text in ["\"", "\\", "\n\"", "x\u{2028}", "x", "é"] {
        let full = text.repeat(CONTENT_BYTES_MAX / text.len());
        assert_eq!(content(&sources, &full), full);
    }
}

/// A batch of events at a source of some of them.
#[test]
fn a_batch_is_published_if_any_of_its_events_is_wanted() {
    for (preset, member) in [
        ("eventgrid", "eventType"),
        ("eventgrid", "type"),
        ("cloudevents", "type"),
    ] {
        let sources = sources(&format!(
            "[hub]\npreset = {preset:?}\nverify = false\nevents = [\"made\", \"kept.*\"]\n"
        ));
        let batch = |types: &[&str]| {
            let event = |(id, name): (usize, &&str)| {
                format!(
                    r#"{{"specversion":"1.0","id":"{id}","{member}":"{name}","subject":"s{id}"}}"#
                )
            };
            let events: Vec<_> = types.iter().enumerate().map(event).collect();
            received(&sources, &[], format!("[{}]", events.join(",")).as_bytes())
        };
        for (types, event, content) in [
            (&["made"][..], "made", "made: s0"),
            (&["made", "other"], "made", "made: s0"),
            (&["other", "made"], "made", "made: s1"),
            (
                &["other", "kept.a", "other", "made"],
                "kept.a",
                "kept.a: s1\nmade: s3",
            ),
        ] {
            let draft = draft(batch(types));
            assert_eq!(draft.label.unwrap().event(), event, "{preset} {types:?}");
            assert_eq!(draft.content, content, "{preset} {types:?}");
        }
        for types in [&["other"][..], &["other", "others"], &[]] {
            assert_eq!(
                why(&batch(types)),
                Some(Unpublished::Unwanted),
                "{preset} {types:?}"
            );
        }
        // The identity is that of the whole request: a retry is one, also if other events are wanted by then.
        let identity = |types: &[&str]| draft(batch(types)).identity.unwrap().id;
        assert_eq!(identity(&["other", "made"]), identity(&["another", "made"]));
        assert_ne!(identity(&["made"]), identity(&["made", "other"]));
    }
}
