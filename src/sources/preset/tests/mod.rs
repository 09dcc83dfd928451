//! Tests of the table of presets.

mod answers;
mod events;
mod identities;
mod settings;

use serde_json::Value;

use super::super::{Fields, Incoming};
use super::Preset;

/// Calls `look` with a request, and with its body as JSON if it is some.
fn request<T>(
    fields: &[(&str, &str)],
    body: &str,
    look: impl FnOnce(&Incoming<'_>, &Value) -> T,
) -> T {
    let pairs = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    let fields = Fields::from_pairs(pairs);
    let incoming = Incoming {
        query: None,
        fields: &fields,
        body: body.as_bytes(),
    };
    look(
        &incoming,
        &serde_json::from_str(body).unwrap_or(Value::Null),
    )
}

fn preset(name: &str) -> &'static Preset {
    Preset::by_name(name).unwrap_or_else(|| panic!("no preset {name}"))
}

#[test]
fn names_are_unique_and_can_be_names_of_sources() {
    let mut names: Vec<_> = Preset::all().iter().map(|preset| preset.name).collect();
    for name in &names {
        let is_plain = name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(!name.is_empty() && is_plain, "{name}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Preset::all().len());
    assert!(Preset::by_name("twilio").is_none());
    assert!(Preset::by_name("").is_none());
}

#[test]
fn each_preset_is_whole() {
    for preset in Preset::all() {
        assert!(!preset.title.is_empty(), "{}", preset.name);
        // A copy passes the check of its time for twice the tolerance.
        let tolerance_s = (preset.scheme)().tolerance_s().unwrap_or(0);
        assert!(preset.dedupe_s > 2 * tolerance_s, "{}", preset.name);
        assert!(!(preset.scheme)().expects().is_empty(), "{}", preset.name);
    }
}
