//! The type of an event, as each provider names it.

use super::{preset, request};
use crate::message::Label;

/// Preset, header fields, body, type.
type Case = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

const CASES: [Case; 48] = [
    (
        "github",
        &[("X-GitHub-Event", "push")],
        r#"{"ref":"refs/heads/main"}"#,
        "push",
    ),
    (
        "github",
        &[("x-github-event", "issues")],
        r#"{"action":"opened"}"#,
        "issues.opened",
    ),
    (
        "github",
        &[("X-GitHub-Event", "ping")],
        r#"{"action":null}"#,
        "ping",
    ),
    (
        "github",
        &[("X-GitHub-Event", "ping")],
        r#"{"action":7}"#,
        "ping",
    ),
    ("github", &[], r#"{"action":"opened"}"#, ""),
    (
        "gitlab",
        &[("X-Gitlab-Event", "Push Hook")],
        r#"{"object_kind":"push"}"#,
        "push",
    ),
    (
        "gitlab",
        &[("X-Gitlab-Event", "Tag Push Hook")],
        "{}",
        "tag_push",
    ),
    (
        "gitlab",
        &[],
        r#"{"object_kind":"merge_request","object_attributes":{"action":"open"}}"#,
        "merge_request.open",
    ),
    (
        "gitlab",
        &[],
        r#"{"object_kind":"pipeline","object_attributes":{"status":"success"}}"#,
        "pipeline.success",
    ),
    (
        "gitlab",
        &[],
        r#"{"object_kind":"build","build_status":"failed"}"#,
        "build.failed",
    ),
    (
        "gitlab",
        &[],
        r#"{"event_name":"user_create"}"#,
        "user_create",
    ),
    (
        "gitea",
        &[("X-Gitea-Event", "push"), ("X-GitHub-Event", "other")],
        "{}",
        "push",
    ),
    (
        "gitea",
        &[("X-Gitea-Event", "pull_request")],
        r#"{"action":"closed"}"#,
        "pull_request.closed",
    ),
    (
        "forgejo",
        &[("X-Forgejo-Event", "release")],
        r#"{"action":"published"}"#,
        "release.published",
    ),
    ("gogs", &[("X-Gogs-Event", "create")], "{}", "create"),
    (
        "bitbucket",
        &[("X-Event-Key", "pullrequest:created")],
        "{}",
        "pullrequest:created",
    ),
    (
        "standard",
        &[],
        r#"{"type":"invoice.paid"}"#,
        "invoice.paid",
    ),
    ("standard", &[], "no JSON", ""),
    (
        "stripe",
        &[],
        r#"{"id":"evt_1","type":"payment_intent.succeeded"}"#,
        "payment_intent.succeeded",
    ),
    (
        "slack",
        &[],
        r#"{"type":"event_callback","event":{"type":"app_mention"}}"#,
        "app_mention",
    ),
    ("slack", &[], r#"{"type":"block_actions"}"#, "block_actions"),
    (
        "slack",
        &[],
        r#"{"command":"/deploy","text":"now"}"#,
        "command",
    ),
    (
        "shopify",
        &[("X-Shopify-Topic", "orders/create")],
        "{}",
        "orders/create",
    ),
    (
        "shopify",
        &[("Shopify-Topic", "orders/create")],
        "{}",
        "orders/create",
    ),
    ("discord", &[], r#"{"type":2}"#, "application_command"),
    (
        "discord",
        &[],
        r#"{"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}"#,
        "APPLICATION_AUTHORIZED",
    ),
    (
        "linear",
        &[("Linear-Event", "Other")],
        r#"{"type":"Issue","action":"create"}"#,
        "Issue.create",
    ),
    ("linear", &[("Linear-Event", "Issue")], "{}", "Issue"),
    (
        "sentry",
        &[("Sentry-Hook-Resource", "issue")],
        r#"{"action":"created"}"#,
        "issue.created",
    ),
    (
        "sentry",
        &[("Sentry-Hook-Resource", "installation")],
        "",
        "installation",
    ),
    (
        "pagerduty",
        &[],
        r#"{"event":{"event_type":"incident.triggered"}}"#,
        "incident.triggered",
    ),
    (
        "zoom",
        &[],
        r#"{"event":"meeting.started"}"#,
        "meeting.started",
    ),
    ("grafana", &[], r#"{"status":"firing"}"#, "firing"),
    ("alertmanager", &[], r#"{"status":"resolved"}"#, "resolved"),
    (
        "telegram",
        &[],
        r#"{"update_id":1,"message":{"text":"hi"}}"#,
        "message",
    ),
    (
        "telegram",
        &[],
        r#"{"callback_query":{},"update_id":1}"#,
        "callback_query",
    ),
    ("telegram", &[], r#"{"update_id":1}"#, ""),
    (
        "cloudflare",
        &[],
        r#"{"alert_type":"ssl","alert_event":"START"}"#,
        "ssl.START",
    ),
    ("cloudflare", &[], r#"{"text":"test"}"#, ""),
    (
        "uptime-kuma",
        &[],
        r#"{"heartbeat":{"status":0},"msg":"m"}"#,
        "down",
    ),
    (
        "uptime-kuma",
        &[],
        r#"{"heartbeat":{"status":1},"msg":"m"}"#,
        "up",
    ),
    (
        "uptime-kuma",
        &[],
        r#"{"heartbeat":null,"monitor":null,"msg":"m"}"#,
        "test",
    ),
    (
        "eventgrid",
        &[("aeg-event-type", "Notification")],
        r#"{"eventType":"Microsoft.Storage.BlobCreated"}"#,
        "Microsoft.Storage.BlobCreated",
    ),
    (
        "eventgrid",
        &[],
        r#"{"specversion":"1.0","type":"a.b"}"#,
        "a.b",
    ),
    (
        "cloudevents",
        &[("ce-type", "com.example.made")],
        r#"{"type":"inner"}"#,
        "com.example.made",
    ),
    (
        "cloudevents",
        &[],
        r#"{"specversion":"1.0","type":"com.example.made"}"#,
        "com.example.made",
    ),
    ("hmac", &[], r#"{"event":"made"}"#, "made"),
    ("token", &[], r#"["a"]"#, ""),
];

#[test]
fn each_provider_names_its_events_in_its_own_way() {
    for (name, fields, body, expected) in CASES {
        let event = request(fields, body, |incoming, body| {
            preset(name).event(incoming, body)
        });
        assert_eq!(event, expected, "{name} {fields:?} {body}");
    }
}

/// Each place that says so is enough. Titles of such issues must not reach a source of all issues.
#[test]
fn a_confidential_issue_of_gitlab_has_an_event_of_its_own() {
    let of = |hook: &str, body: &str| {
        request(&[("X-Gitlab-Event", hook)], body, |incoming, body| {
            preset("gitlab").event(incoming, body)
        })
    };
    let open =
        r#"{"object_kind":"issue","object_attributes":{"action":"open","confidential":false}}"#;
    let hidden = open.replace("false", "true");
    let typed = open.replace(
        "{\"object_kind\"",
        "{\"event_type\":\"confidential_issue\",\"object_kind\"",
    );
    assert_eq!(of("Issue Hook", open), "issue.open");
    for (hook, body) in [
        ("Confidential Issue Hook", open),
        ("Issue Hook", &hidden),
        ("", &hidden),
        ("Issue Hook", &typed),
    ] {
        assert_eq!(of(hook, body), "confidential_issue.open", "{hook} {body}");
    }
    for body in [
        r#"{"object_kind":"note","event_type":"confidential_note","object_attributes":{}}"#,
        r#"{"object_kind":"note","object_attributes":{"internal":true}}"#,
        r#"{"object_kind":"note","object_attributes":{},"issue":{"confidential":true}}"#,
    ] {
        assert_eq!(of("Note Hook", body), "confidential_note");
    }
    assert_eq!(of("Confidential Note Hook", "{}"), "confidential_note");
}

#[test]
fn a_type_fits_into_a_label() {
    let long = format!(r#"{{"type":"{}é{}"}}"#, "x".repeat(127), "y".repeat(200));
    for body in [
        long.as_str(),
        r#"{"type":"a\u0000b\nc\u0085d"}"#,
        r#"{"type":""}"#,
    ] {
        let event = request(&[], body, |incoming, body| {
            preset("stripe").event(incoming, body)
        });
        assert!(Label::new("stripe", &event).is_some(), "{event:?}");
    }
    let event = request(&[], &long, |incoming, body| {
        preset("stripe").event(incoming, body)
    });
    assert_eq!(event.len(), 127, "cut before a character, not within");
    let field: &[(&str, &str)] = &[("X-GitHub-Event", "a\tb")];
    let event = request(field, "", |incoming, body| {
        preset("github").event(incoming, body)
    });
    assert_eq!(event, "ab");
}
