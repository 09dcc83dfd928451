//! Tests of secrets that are sent, and of GitLab, which can send or sign.

use super::super::{Fields, Incoming, Preset, Refusal, Settings, Verified};
use super::{Key, Scheme};

const SECRET: &str = "s3cret-s3cret";

fn scheme(preset: &str, settings: &Settings) -> Scheme {
    let preset = Preset::by_name(preset).unwrap();
    preset.scheme_with(settings).unwrap()
}

fn verify(
    scheme: &Scheme,
    secrets: &[&str],
    fields: &[(&str, &str)],
    query: Option<&str>,
) -> Result<Verified, Refusal> {
    let keys: Vec<Key> = secrets
        .iter()
        .map(|secret| scheme.key(secret.as_bytes()).unwrap())
        .collect();
    let pairs = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    let fields = Fields::from_pairs(pairs);
    let incoming = Incoming {
        query,
        fields: &fields,
        body: br#"{"object_kind":"push"}"#,
    };
    scheme.verify(&keys, &incoming, 1_776_000_000_000)
}

fn name(found: Result<Verified, Refusal>) -> &'static str {
    found.map_or_else(|refusal| refusal.name(), |_| "verified")
}

#[test]
fn authorization_takes_bearer_basic_and_the_bare_secret() {
    let scheme = scheme("token", &Settings::default());
    // "user:s3cret-s3cret", "s3cret-s3cret:", "s3cret-s3cret", "user:s3cret"
    for (value, expected) in [
        ("Bearer s3cret-s3cret", "verified"),
        ("bearer   s3cret-s3cret", "verified"),
        ("Basic dXNlcjpzM2NyZXQtczNjcmV0", "verified"),
        ("BASIC dXNlcjpzM2NyZXQtczNjcmV0", "verified"),
        ("s3cret-s3cret", "verified"),
        ("Basic czNjcmV0LXMzY3JldA==", "verified"),
        ("Basic czNjcmV0LXMzY3JldDo=", "secret_mismatch"),
        ("Basic dXNlcjpzM2NyZXQ=", "secret_mismatch"),
        ("Basic s3cret-s3cret", "secret_mismatch"),
        ("Digest s3cret-s3cret", "secret_mismatch"),
        ("Bearer s3cret-s3cre", "secret_mismatch"),
        ("Bearer s3cret-s3crett", "secret_mismatch"),
        ("Bearer S3cret-s3cret", "secret_mismatch"),
        ("Bearer", "secret_mismatch"),
        ("Bearer ", "secret_mismatch"),
        ("", "secret_missing"),
    ] {
        let found = verify(&scheme, &[SECRET], &[("authorization", value)], None);
        assert_eq!(name(found), expected, "{value}");
    }
    // The secret may be the whole of Basic's pair.
    let found = verify(
        &scheme,
        &["another-secret", "user:s3cret-s3cret"],
        &[("Authorization", "Basic dXNlcjpzM2NyZXQtczNjcmV0")],
        None,
    );
    assert_eq!(found.unwrap().key, Some(1));
    assert_eq!(
        name(verify(&scheme, &[SECRET], &[], Some("token=s3cret-s3cret"))),
        "secret_missing"
    );
}

#[test]
fn a_secret_in_the_address_is_decoded() {
    let query = Settings {
        query: Some("token".to_owned()),
        ..Settings::default()
    };
    let scheme = scheme("token", &query);
    let secret = "s3cret+/ s3cret";
    for (query, expected) in [
        ("token=s3cret%2B%2F%20s3cret", "verified"),
        ("a=1&token=s3cret%2b/%20s3cret&b", "verified"),
        ("token=s3cret+/+s3cret", "secret_mismatch"),
        ("token=s3cret%2B/+s3cret", "verified"),
        ("token=", "secret_missing"),
        ("token", "secret_missing"),
        ("Token=s3cret%2B%2F%20s3cret", "secret_missing"),
        ("token=s3cret%2B%2F%20s3cret&token=x", "repeated_field"),
        ("token=%", "secret_mismatch"),
        ("token=%ff%zz", "secret_mismatch"),
        ("", "secret_missing"),
    ] {
        let found = verify(&scheme, &[secret], &[], Some(query));
        assert_eq!(name(found), expected, "{query}");
    }
    // The file names the address as the only place.
    let found = verify(
        &scheme,
        &[SECRET],
        &[("Authorization", "Bearer s3cret-s3cret")],
        None,
    );
    assert_eq!(name(found), "secret_missing");
}

#[test]
fn each_provider_sends_its_secret_in_its_own_field() {
    for (preset, field) in [
        ("telegram", "X-Telegram-Bot-Api-Secret-Token"),
        ("cloudflare", "cf-webhook-auth"),
        ("gitlab", "X-Gitlab-Token"),
        ("alertmanager", "Authorization"),
        ("uptime-kuma", "Authorization"),
    ] {
        let scheme = scheme(preset, &Settings::default());
        let found = verify(&scheme, &["other-secret", SECRET], &[(field, SECRET)], None).unwrap();
        assert_eq!((found.key, found.tag), (Some(1), None), "{preset}");
        for fields in [
            &[(field, "other")][..],
            &[("X-Other", SECRET)],
            &[(field, "")],
            &[],
        ] {
            let refusal = verify(&scheme, &[SECRET], fields, None).unwrap_err();
            assert_eq!(refusal.status(), 401, "{preset}");
            let text = refusal.to_string();
            assert!(text.contains(field) && !text.contains(SECRET), "{text}");
        }
        let twice = [(field, SECRET), (field, SECRET)];
        assert_eq!(
            name(verify(&scheme, &[SECRET], &twice, None)),
            "repeated_field"
        );
    }
    for preset in ["cloudevents", "eventgrid"] {
        let scheme = scheme(preset, &Settings::default());
        let bearer = [("Authorization", "Bearer s3cret-s3cret")];
        assert_eq!(name(verify(&scheme, &[SECRET], &bearer, None)), "verified");
        let query = Some("access_token=s3cret-s3cret");
        assert_eq!(name(verify(&scheme, &[SECRET], &[], query)), "verified");
    }
    let header = Settings {
        header: Some("X-My-Secret".to_owned()),
        ..Settings::default()
    };
    let scheme = scheme("alertmanager", &header);
    assert_eq!(
        name(verify(&scheme, &[SECRET], &[("x-my-secret", SECRET)], None)),
        "verified"
    );
}

#[test]
fn gitlab_signs_or_sends_as_its_secret_says() {
    let scheme = scheme("gitlab", &Settings::default());
    let signing = "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=";
    let signed = [
        ("webhook-id", "c2a4f7f0-5d3e-4f0a-9a52-3c1d9b1c6f11"),
        ("webhook-timestamp", "1776000000"),
        (
            "webhook-signature",
            "v1,JFfqwEyOaVEsEy2lHkIJJZ5rWz6IsehoS3yENnz+/8I=",
        ),
    ];
    let mut forged = signed;
    forged[1].1 = "1776000001";
    let sent = [("X-Gitlab-Token", SECRET), ("Idempotency-Key", "1")];
    assert_eq!(name(verify(&scheme, &[signing], &signed, None)), "verified");
    assert_eq!(
        name(verify(&scheme, &[signing], &forged, None)),
        "signature_mismatch"
    );
    assert_eq!(
        name(verify(&scheme, &[signing], &sent, None)),
        "signature_missing"
    );
    // A secret that signs is never one that is sent.
    let sent_key = [("X-Gitlab-Token", signing)];
    assert_eq!(
        name(verify(&scheme, &[signing], &sent_key, None)),
        "signature_missing"
    );

    let found = verify(&scheme, &[SECRET], &sent, None).unwrap();
    assert_eq!((found.id.as_deref(), found.tag), (Some("1"), None));
    assert_eq!(
        name(verify(&scheme, &[SECRET], &signed, None)),
        "secret_missing"
    );

    let both = [SECRET, signing];
    assert_eq!(name(verify(&scheme, &both, &signed, None)), "verified");
    assert_eq!(name(verify(&scheme, &both, &sent, None)), "verified");
    let mut mixed = forged.to_vec();
    mixed.push(("X-Gitlab-Token", SECRET));
    assert_eq!(
        name(verify(&scheme, &both, &mixed, None)),
        "signature_mismatch"
    );
}
