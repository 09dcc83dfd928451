mod business;
mod code;
mod operations;

use serde_json::{Value, json};

use super::super::Preset;
use super::super::template::context;
use super::super::texts::{Origin, Texts};

/// The text of an event, which no template refuses.
fn text(preset: &str, event: &str, body: Value) -> String {
    let context = context("hub", event, body);
    let texts = Texts::of_preset(preset);
    let mut on_fault = |origin: Origin, fault| panic!("{preset} {event} {origin:?}: {fault}");
    texts
        .render(event, &context, 64 * 1024, &mut on_fault)
        .unwrap()
        .0
}

fn check(preset: &str, cases: &[(&str, Value, &str)]) {
    for (event, body, expected) in cases {
        assert_eq!(
            text(preset, event, body.clone()),
            *expected,
            "{preset} {event}"
        );
    }
}

/// A body of a repository's event, with its own members.
fn on_shop(body: &Value) -> Value {
    let mut whole = json!({
        "repository": {"full_name": "acme/shop", "default_branch": "main"},
        "sender": {"login": "ana"}, "pusher": {"name": "ana", "login": "ana"},
    });
    for (name, value) in body.as_object().unwrap() {
        whole[name] = value.clone();
    }
    whole
}

#[test]
fn every_preset_is_known_to_the_table() {
    let without = ["hmac", "token"];
    for preset in Preset::all() {
        let is_empty = super::of(preset.name).is_empty();
        assert_eq!(is_empty, without.contains(&preset.name), "{}", preset.name);
        // Compiles all of them; a fault is an assertion there.
        assert_eq!(Texts::of_preset(preset.name).is_empty(), is_empty);
    }
}

/// A body without any known member, and bodies of other forms, make a text or none, never a fault.
#[test]
fn no_default_template_fails_for_strange_bodies() {
    let strange = json!({
        "commits": "x", "alerts": [5, "x", null], "data": [], "event": null, "repository": "r", "push": {"changes": {}},
        "message": 7, "ref": [], "object_attributes": "o", "payload": false, "livemode": "no", "msg": 5,
        "action": {"a": 1}, "monitor": {"url": 7}, "total_commits_count": "many", "pusher": [1],
    });
    let bodies = [
        json!({}),
        json!(null),
        json!([]),
        json!([1]),
        json!("text"),
        json!(5),
        strange,
    ];
    for preset in Preset::all() {
        let texts = Texts::of_preset(preset.name);
        for (name, _) in super::of(preset.name) {
            for body in &bodies {
                let event = name.replace('*', "x");
                let context = context("hub", &event, body.clone());
                let mut faults = Vec::new();
                let _ = texts.render(&event, &context, 1000, &mut |_, fault| faults.push(fault));
                let is_fault = |fault| fault != super::super::template::RenderFault::Blank;
                assert!(
                    !faults.into_iter().any(is_fault),
                    "{} {event} {body}",
                    preset.name
                );
            }
        }
    }
}
