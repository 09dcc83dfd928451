//! By what a repeat is recognised, for each provider.

use serde_json::Value;

use super::{preset, request};
use crate::message::Identity;
use crate::sources::Verified;

/// What verification found of the signed bytes.
const TAG: [u8; 16] = [7; 16];

/// The identity of a verified request: with a tag and an id as `verified` says.
fn identity_of(
    name: &str,
    verified: &Verified,
    fields: &[(&str, &str)],
    body: &str,
) -> Option<Identity> {
    let preset = preset(name);
    let identity = request(fields, body, |incoming, body: &Value| {
        preset.identity("shop", verified, incoming, body, preset.dedupe_s)
    });
    identity.map(|identity| Identity::clone(&identity))
}

fn tagged(id: Option<&str>) -> Verified {
    Verified {
        tag: Some(TAG),
        id: id.map(str::to_owned),
        ..Verified::default()
    }
}

fn sent(id: Option<&str>) -> Verified {
    Verified {
        tag: None,
        ..tagged(id)
    }
}

#[test]
fn an_id_that_is_not_signed_counts_with_what_is_signed() {
    let signers = [
        "github",
        "gitea",
        "forgejo",
        "gogs",
        "bitbucket",
        "shopify",
        "linear",
        "sentry",
        "pagerduty",
        "hmac",
    ];
    for name in signers {
        let first = identity_of(name, &tagged(Some("1")), &[], "{}").unwrap();
        let second = identity_of(name, &tagged(Some("2")), &[], "{}").unwrap();
        assert!(first.id.is_some() && first.id != second.id, "{name}");
        assert!(first.tag.is_some() && first.tag == second.tag, "{name}");
        assert_eq!(
            first.body, None,
            "{name}: a provider takes a 422 for a failure"
        );
        let without = identity_of(name, &tagged(None), &[], "{}").unwrap();
        assert_eq!((without.id, without.tag), (None, first.tag), "{name}");
    }
}

#[test]
fn an_id_that_is_signed_is_enough() {
    for (name, first, second) in [
        ("stripe", r#"{"id":"evt_1"}"#, r#"{"id":"evt_2"}"#),
        ("slack", r#"{"event_id":"Ev1"}"#, r#"{"event_id":"Ev2"}"#),
        (
            "discord",
            r#"{"id":"1","type":2}"#,
            r#"{"id":"2","type":2}"#,
        ),
        (
            "discord",
            r#"{"type":1,"event":{"timestamp":1}}"#,
            r#"{"type":1,"event":{"timestamp":2}}"#,
        ),
        (
            "zoom",
            r#"{"event":"a","event_ts":1}"#,
            r#"{"event":"a","event_ts":2}"#,
        ),
        (
            "pagerduty",
            r#"{"event":{"id":"1"}}"#,
            r#"{"event":{"id":"2"}}"#,
        ),
        ("telegram", r#"{"update_id":1}"#, r#"{"update_id":2}"#),
    ] {
        let of = |body| identity_of(name, &tagged(None), &[], body).unwrap();
        assert!(
            of(first).id.is_some() && of(first).id != of(second).id,
            "{name}"
        );
        if !["telegram", "pagerduty"].contains(&name) {
            assert_eq!(of(first).tag, None, "{name}: a new attempt has a new time");
        }
        assert_eq!(of(first), of(first), "{name}");
    }
    // A command of Slack has no id.
    let command = identity_of("slack", &tagged(None), &[], r#"{"command":"/x"}"#).unwrap();
    assert!(command.id.is_none() && command.tag.is_some());
}

/// An alert that still fires is sent again with the same body.
#[test]
fn alerts_that_repeat_themselves_have_no_identity() {
    for name in [
        "alertmanager",
        "cloudflare",
        "uptime-kuma",
        "token",
        "telegram",
    ] {
        assert_eq!(
            identity_of(name, &sent(None), &[], r#"{"status":"firing"}"#),
            None,
            "{name}"
        );
    }
    let body = r#"{"status":"firing"}"#;
    assert_eq!(identity_of("grafana", &tagged(None), &[], body), None);
    // With a signed time an equal request is a copy.
    let timed = Verified {
        skew_s: Some(0),
        tolerance_s: 300,
        ..tagged(None)
    };
    assert!(
        identity_of("grafana", &timed, &[], body)
            .unwrap()
            .tag
            .is_some()
    );
}

#[test]
fn cloud_events_are_known_by_source_and_id() {
    let of = |name: &str, id: Option<&str>, fields: &[(&str, &str)], body: &str| {
        identity_of(name, &sent(id), fields, body).map(|identity| identity.id.unwrap())
    };
    for name in ["cloudevents", "eventgrid"] {
        let one = of(name, None, &[], r#"{"source":"/a","id":"1"}"#);
        assert!(one.is_some());
        assert_ne!(one, of(name, None, &[], r#"{"source":"/b","id":"1"}"#));
        assert_ne!(one, of(name, None, &[], r#"{"source":"/a1","id":""}"#));
        let binary = of(name, Some("1"), &[("ce-source", "/a")], "{}");
        assert!(binary.is_some());
        assert_ne!(binary, of(name, Some("1"), &[("ce-source", "/b")], "{}"));
        let two = of(name, None, &[], r#"[{"id":"1"},{"id":"2"}]"#);
        assert!(two.is_some());
        assert_ne!(two, of(name, None, &[], r#"[{"id":"1"},{"id":"3"}]"#));
        assert_ne!(two, of(name, None, &[], r#"[{"id":"2"},{"id":"1"}]"#));
        for body in ["[]", "{}", "7", r#"[{"id":"1"},{}]"#, "[1]", r#"{"id":7}"#] {
            assert_eq!(of(name, None, &[], body), None, "{body}");
        }
    }
}

#[test]
fn the_same_id_at_another_source_is_another_identity() {
    let of = |source: &str, id: &str| {
        let identity = request(&[], "{}", |incoming, body: &Value| {
            preset("github").identity(source, &tagged(Some(id)), incoming, body, 60)
        });
        identity.unwrap()
    };
    assert_eq!(of("a", "1"), of("a", "1"));
    assert_ne!(of("a", "1").id, of("b", "1").id);
    assert_ne!(of("a", "1").tag, of("b", "1").tag);
    assert_ne!(of("a", "bc").id, of("ab", "c").id);
}

#[test]
fn an_identity_is_known_for_longer_than_a_copy_passes() {
    let timed = Verified {
        skew_s: Some(0),
        tolerance_s: 300,
        ..tagged(Some("1"))
    };
    let window_s = |wanted_s| {
        let identity = request(&[], "{}", |incoming, body: &Value| {
            preset("hmac").identity("a", &timed, incoming, body, wanted_s)
        });
        identity.map(|identity| identity.window_s)
    };
    assert_eq!(window_s(0), None, "the operator wants no deduplication");
    // Whole seconds are compared, so a copy passes for up to 600.999 s.
    assert_eq!(window_s(60), Some(601));
    assert_eq!(window_s(3600), Some(3600));
}

/// The topics of a source, and the tag of each, for a signed body that comes under some topics.
fn shopify(body: &str, topics: &[&str]) -> Vec<(String, Option<[u8; 16]>)> {
    let of = |(number, topic): (usize, &&str)| {
        let fields = [("X-Shopify-Topic", *topic)];
        let verified = tagged(Some(&number.to_string()));
        let identity = identity_of("shopify", &verified, &fields, body).unwrap();
        let event = request(&fields, body, |incoming, body| {
            preset("shopify").event(incoming, body)
        });
        (event, identity.tag)
    };
    topics.iter().enumerate().map(of).collect()
}

fn lives<T: Ord>(seen: impl Iterator<Item = T>) -> usize {
    seen.collect::<std::collections::BTreeSet<_>>().len()
}

const SHOPIFY_TOPICS: [&str; 16] = [
    "orders/create",
    "orders/updated",
    "orders/paid",
    "orders/fulfilled",
    "orders/partially_fulfilled",
    "orders/cancelled",
    "orders/edited",
    "orders/delete",
    "orders/made_up",
    "orders/paid/x",
    "paid",
    "products/create",
    "customers/disable",
    "refunds/create",
    "app/uninstalled",
    "",
];

/// An order that is paid at once is `orders/create` and `orders/paid` with one body. The topic is not signed,
/// so a captured request comes under others: only those that the signed body bears out count.
#[test]
fn an_order_is_taken_once_under_each_topic_that_it_bears_out() {
    let order =
        |state: &str| format!(r#"{{"admin_graphql_api_id":"gid://shopify/Order/1"{state}}}"#);
    for (state, borne_out) in [
        ("", &[][..]),
        (r#","financial_status":"pending","cancelled_at":null"#, &[]),
        (r#","financial_status":"paid""#, &["orders/paid"]),
        (
            r#","financial_status":"refunded","cancelled_at":"2026-11-29""#,
            &["orders/paid", "orders/cancelled"],
        ),
        (
            r#","fulfillment_status":"partial""#,
            &["orders/partially_fulfilled"],
        ),
        (
            r#","fulfillment_status":"fulfilled""#,
            &["orders/fulfilled"],
        ),
    ] {
        let seen = shopify(&order(state), &SHOPIFY_TOPICS);
        assert_eq!(
            lives(seen.iter().map(|(_, tag)| tag)),
            2 + borne_out.len(),
            "{state}"
        );
        for ((event, _), sent) in seen.iter().zip(SHOPIFY_TOPICS) {
            let is_true =
                ["orders/create", "orders/updated"].contains(&sent) || borne_out.contains(&sent);
            let expected = if is_true { sent } else { "orders/updated" };
            assert_eq!(event, expected, "{state} as {sent}");
        }
    }
}

#[test]
fn a_body_of_another_resource_is_taken_under_its_topics() {
    for (name, usual, borne_out) in [
        ("Product", "products/update", 2),
        ("Customer", "customers/update", 2),
        ("Refund", "refunds/create", 1),
    ] {
        let body = format!(r#"{{"admin_graphql_api_id":"gid://shopify/{name}/1"}}"#);
        let mut topics = SHOPIFY_TOPICS.to_vec();
        topics.extend(["products/update", "customers/create", "customers/update"]);
        let seen = shopify(&body, &topics);
        assert_eq!(lives(seen.iter().map(|(_, tag)| tag)), borne_out, "{name}");
        assert_eq!(shopify(&body, &["orders/paid"])[0].0, usual);
    }
    let enabled = r#"{"admin_graphql_api_id":"gid://shopify/Customer/1","state":"enabled"}"#;
    let seen = shopify(
        enabled,
        &["customers/enable", "customers/create", "customers/disable"],
    );
    let events: Vec<_> = seen.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(
        events,
        ["customers/enable", "customers/create", "customers/update"]
    );
}

/// Deletions, and resources without that member: their topic is shown, but gives a copy no further life.
#[test]
fn a_body_that_names_no_resource_is_taken_once() {
    for body in [
        "{}",
        r#"{"id":1}"#,
        r#"{"admin_graphql_api_id":"gid://shopify/Theme/1"}"#,
        r#"{"admin_graphql_api_id":"gid://shopify/Order"}"#,
        r#"{"admin_graphql_api_id":1}"#,
        r#"{"order":{"admin_graphql_api_id":"gid://shopify/Order/1"}}"#,
    ] {
        let seen = shopify(body, &SHOPIFY_TOPICS);
        assert_eq!(lives(seen.iter().map(|(_, tag)| tag)), 1, "{body}");
        let events: Vec<_> = seen.iter().map(|(event, _)| event.as_str()).collect();
        assert_eq!(events, SHOPIFY_TOPICS);
    }
    // GitHub's events never share a body.
    let event = |event| identity_of("github", &tagged(None), &[("X-GitHub-Event", event)], "{}");
    assert_eq!(event("push"), event("issues"));
}
