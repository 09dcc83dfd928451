//! Random requests: none passes, and none ends a parser.

use proptest::prelude::*;

use super::super::{Fields, Incoming, Key, Preset, Refusal, Settings};
use super::vectors::VECTORS;

/// Names that schemes look for, and values that look like theirs.
fn any_fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let known: Vec<&str> = VECTORS
        .iter()
        .flat_map(|vector| vector.fields.iter().map(|(name, _)| *name))
        .chain([
            "Authorization",
            "X-Gitlab-Token",
            "cf-webhook-auth",
            "Idempotency-Key",
        ])
        .chain([
            "X-Telegram-Bot-Api-Secret-Token",
            "ce-id",
            "X-GitHub-Delivery",
        ])
        .collect();
    let values: Vec<&str> = VECTORS
        .iter()
        .flat_map(|vector| vector.fields.iter().map(|(_, value)| *value))
        .chain([
            "",
            "sha256=",
            "Bearer",
            "Bearer ",
            "Basic Og==",
            "v1,",
            "t=,v1=",
        ])
        .collect();
    let value = prop_oneof![
        3 => prop::sample::select(values).prop_map(|value| value.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..80),
        1 => "(v[01]a?[,=]|sha256=|t=[0-9]{1,20},|Basic |Bearer ){0,3}[0-9a-fA-F+/=]{0,90}"
            .prop_map(String::into_bytes),
    ];
    let name = prop::sample::select(known).prop_map(str::to_owned);
    prop::collection::vec((name, value), 0..8)
}

fn keys_of_all_kinds(preset: &Preset) -> (super::Scheme, Vec<Key>) {
    let settings = Settings {
        header: (preset.name == "hmac").then(|| "X-Sum".to_owned()),
        ..Settings::default()
    };
    let scheme = preset.scheme_with(&settings).unwrap();
    let texts = [
        "unguessable-0123456789",
        "whsec_dGhpcyBpcyBhIGtleSBvZiAyNCBieXRlcy4u",
        "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    ];
    let keys = texts
        .iter()
        .filter_map(|text| scheme.key(text.as_bytes()).ok());
    let keys = keys.collect();
    (scheme, keys)
}

proptest! {
    /// Bodies are random, so that no pair of a vector's tag and its body is among them.
    #[test]
    fn random_requests_are_refused(
        fields in any_fields(),
        body in prop::collection::vec(any::<u8>(), 0..200),
        query in prop::option::of("(access_token|a)=[a-z%+&=]{0,12}"),
        now_s in prop::sample::select(vec![0, 1_614_265_330, 1_700_000_000, u64::MAX / 1000]),
    ) {
        let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        let fields = Fields::from_pairs(pairs);
        let incoming = Incoming { query: query.as_deref(), fields: &fields, body: &body };
        for preset in Preset::all() {
            let (scheme, keys) = keys_of_all_kinds(preset);
            prop_assert!(!keys.is_empty());
            let found = scheme.verify(&keys, &incoming, now_s * 1000);
            prop_assert!(found.is_err(), "{}", preset.name);
            let refusal = found.unwrap_err();
            prop_assert!(Refusal::NAMES.contains(&refusal.name()));
            prop_assert!([400, 401].contains(&refusal.status()));
            let _ = scheme.unverified(&incoming);
        }
    }

    #[test]
    fn parsing_a_head_never_panics(head in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Fields::parse(&head);
    }
}
