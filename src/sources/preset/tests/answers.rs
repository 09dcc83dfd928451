//! Handshakes, and the answers that providers read.

use serde_json::{Value, json};

use super::{preset, request};
use crate::sources::{Fields, Incoming, Key, Preset, Reply, Settings, Success, Verified};

fn handshake(name: &str, fields: &[(&str, &str)], body: &str) -> Option<Reply> {
    let verified = Verified {
        key: Some(0),
        ..Verified::default()
    };
    request(fields, body, |incoming, body| {
        preset(name).handshake(&[], &verified, incoming, body)
    })
}

#[test]
fn slack_gets_its_challenge_as_text() {
    let reply = handshake(
        "slack",
        &[],
        r#"{"type":"url_verification","challenge":"3eZb"}"#,
    );
    let reply = reply.unwrap();
    assert_eq!(
        (reply.status, reply.body.as_slice()),
        (200, b"3eZb".as_slice())
    );
    assert_eq!(reply.content_type, Some("text/plain; charset=utf-8"));
    let long = format!(
        r#"{{"type":"url_verification","challenge":"{}"}}"#,
        "x".repeat(5000)
    );
    for body in [
        r#"{"type":"event_callback","challenge":"x"}"#,
        r#"{"type":"url_verification"}"#,
        r#"{"type":"url_verification","challenge":7}"#,
        r#"{"type":"url_verification","challenge":""}"#,
        long.as_str(),
        "",
    ] {
        assert_eq!(handshake("slack", &[], body), None, "{body}");
    }
}

#[test]
fn discord_gets_a_pong_or_an_empty_answer() {
    let interaction = handshake("discord", &[], r#"{"id":"1","type":1,"version":1}"#).unwrap();
    assert_eq!(
        (interaction.status, interaction.body.as_slice()),
        (200, br#"{"type":1}"#.as_slice())
    );
    assert_eq!(interaction.content_type, Some("application/json"));
    let event = handshake(
        "discord",
        &[],
        r#"{"version":1,"application_id":"1","type":0}"#,
    );
    let event = event.unwrap();
    assert_eq!((event.status, event.body.len()), (204, 0));
    assert_eq!(event.content_type, Some("application/json"));
    for body in [
        r#"{"type":1,"event":{"type":"X"}}"#,
        r#"{"type":2}"#,
        "{}",
        r#"{"type":-1}"#,
    ] {
        assert_eq!(handshake("discord", &[], body), None, "{body}");
    }
    let choices = handshake("discord", &[], r#"{"type":4}"#).unwrap();
    assert_eq!(choices.body, br#"{"type":8,"data":{"choices":[]}}"#);
}

/// The token comes back with its keyed hash, under the secret that Zoom has.
#[test]
fn zoom_gets_its_token_and_the_hash_under_the_secret_that_fits() {
    let zoom = preset("zoom");
    let scheme = zoom.scheme_with(&Settings::default()).unwrap();
    let keys: Vec<Key> = [&b"another"[..], b"secret"]
        .iter()
        .map(|text| scheme.key_of_any_length(text).unwrap())
        .collect();
    let body = r#"{"payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1654503849680,"event":"endpoint.url_validation"}"#;
    let fields = Fields::from_pairs([
        ("x-zm-request-timestamp", b"1654503849".as_slice()),
        (
            "x-zm-signature",
            b"v0=7e641e5ab35df7be26b939d68bf5f867c8a54ef81ffeb536216748f78c295ef5",
        ),
    ]);
    let incoming = Incoming {
        query: None,
        fields: &fields,
        body: body.as_bytes(),
    };
    let verified = scheme.verify(&keys, &incoming, 1_654_503_849_000).unwrap();
    let value: Value = serde_json::from_str(body).unwrap();
    let reply = zoom.handshake(&keys, &verified, &incoming, &value).unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    let expected = json!({
        "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
        "encryptedToken": "72cef096bfd47c0b8664df30d07721641e4abd7e885ba432204260db477a9a3e",
    });
    assert_eq!((reply.status, answer), (200, expected));
    // An open source has no secret to answer with.
    let open = scheme.unverified(&incoming).unwrap();
    assert_eq!(zoom.handshake(&[], &open, &incoming, &value), None);
}

#[test]
fn event_grid_gets_its_code() {
    let body = r#"[{"data":{"validationCode":"512d38b6"},"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent"}]"#;
    let field: &[(&str, &str)] = &[("aeg-event-type", "SubscriptionValidation")];
    for fields in [field, &[]] {
        let reply = handshake("eventgrid", fields, body).unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body, br#"{"validationResponse":"512d38b6"}"#);
    }
    let body = r#"[{"data":{"validationCode":"512d38b6"},"eventType":"other"}]"#;
    assert_eq!(handshake("eventgrid", &[], body), None);
    assert_eq!(handshake("eventgrid", field, "[]"), None);
}

#[test]
fn cloud_events_ask_for_permission_with_options() {
    let fields = Fields::from_pairs([(
        "webhook-request-origin",
        b"eventemitter.example.com".as_slice(),
    )]);
    for name in ["cloudevents", "eventgrid"] {
        let reply = preset(name).preflight(&fields).unwrap();
        let expected = [
            ("WebHook-Allowed-Origin", "eventemitter.example.com"),
            ("WebHook-Allowed-Rate", "*"),
            ("Allow", "POST"),
        ];
        let found = reply.fields.iter();
        let found: Vec<_> = found.map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!((reply.status, found.as_slice()), (200, expected.as_slice()));
    }
    assert_eq!(preset("github").preflight(&fields), None);
    let cors = Fields::from_pairs([("Access-Control-Request-Method", b"POST".as_slice())]);
    assert_eq!(preset("cloudevents").preflight(&cors), None);
    for origin in [b"".as_slice(), b"a b", b"a\rb", b"\xff", b"a\tb"] {
        let fields = Fields::from_pairs([("WebHook-Request-Origin", origin)]);
        assert_eq!(preset("cloudevents").preflight(&fields), None, "{origin:?}");
    }
}

#[test]
fn answers_that_providers_read_are_theirs() {
    let success = |name: &str, body: Value| preset(name).success(&body);
    assert_eq!(success("github", json!({})), Success::Receipt);
    assert_eq!(success("slack", json!({"command": "/x"})), Success::Empty);
    assert_eq!(success("telegram", json!({})), Success::Empty);
    assert_eq!(success("zoom", json!({})), Success::Empty);
    assert_eq!(success("discord", json!({"type": 2})), Success::Noted);
    assert_eq!(success("discord", json!({"type": 5})), Success::Noted);
    assert_eq!(success("discord", json!({"type": 3})), Success::Unchanged);
    assert_eq!(
        success("discord", json!({"type": 1, "event": {}})),
        Success::NoContent
    );
    // Nothing answers later, so no answer may say that one follows: Discord would go on "thinking".
    for (success, kind) in [(Success::Noted, 4), (Success::Unchanged, 6)] {
        let reply = success.reply();
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!((reply.status, &body["type"]), (200, &json!(kind)));
    }
    assert_eq!(Success::Empty.reply(), Reply::empty(200));
    assert_eq!(Success::NoContent.reply(), Reply::empty(204));
}

/// Only the providers with a handshake answer one.
#[test]
fn most_presets_have_no_handshake() {
    let bodies = [
        r#"{"type":"url_verification","challenge":"x"}"#,
        r#"{"type":0}"#,
        r#"{"event":"endpoint.url_validation","payload":{"plainToken":"x"}}"#,
    ];
    for preset in Preset::all() {
        let has_handshake = ["slack", "discord", "zoom", "eventgrid"].contains(&preset.name);
        for body in bodies.iter().filter(|_| !has_handshake) {
            assert_eq!(
                handshake(preset.name, &[], body),
                None,
                "{} {body}",
                preset.name
            );
        }
    }
}
