//! Requests that must not pass: each vector with one bit changed, without a part, with a part twice, with
//! other keys, at other times.

use super::super::{Fields, Incoming, Key, Preset, Refusal, Settings};
use super::key::KeyForm;
use super::vectors::{VECTORS, Vector};
use crate::limits::{ED25519_SIGNATURES_MAX, SIGNATURES_MAX};

/// `bytes` with each bit changed in turn.
fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(move |bit| {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

fn vector(preset: &str) -> Vector {
    let found = VECTORS.iter().find(|vector| vector.preset == preset);
    found.unwrap().clone()
}

/// Whether a changed tag is the same one: the prefix knows case, the hexadecimal digits after it do not.
fn is_same_tag(changed: &[u8], tag: &str) -> bool {
    let is_base64 = tag.ends_with('=');
    let digits = tag.rfind('=').map_or(0, |at| at + 1);
    !is_base64
        && changed[..digits] == tag.as_bytes()[..digits]
        && changed.eq_ignore_ascii_case(tag.as_bytes())
}

#[test]
fn no_vector_passes_with_one_bit_of_its_body_changed() {
    for vector in VECTORS {
        let (keys, fields) = ([vector.key()], vector.pairs());
        let original = vector.verify().unwrap();
        for body in flipped(vector.body.as_bytes()) {
            let found = vector.verify_with(&keys, &body, &fields, vector.now_s);
            // `%7B` and `%7b` in a form are the same JSON, and only that is read further.
            let is_same_payload =
                matches!(&found, Ok(new) if new.payload.is_some() && *new == original);
            assert!(
                found.is_err() || is_same_payload,
                "{}: {body:?}",
                vector.source
            );
        }
    }
}

#[test]
fn no_vector_passes_with_one_bit_of_its_tag_changed() {
    let mut count = 0;
    for vector in VECTORS.iter().filter(|vector| !vector.tag.is_empty()) {
        let (keys, tag) = ([vector.key()], vector.value(vector.tag));
        for changed in flipped(tag.as_bytes()) {
            let fields = vector.pairs_with(vector.tag, &changed);
            let found = vector.verify_with(&keys, vector.body.as_bytes(), &fields, vector.now_s);
            if is_same_tag(&changed, tag) {
                assert!(found.is_ok(), "{}: {changed:?}", vector.source);
            } else {
                assert!(found.is_err(), "{}: {changed:?}", vector.source);
                count += 1;
            }
        }
    }
    assert!(count > 10_000, "{count} forgeries");
}

/// The tag refuses it, too, not only the window.
#[test]
fn no_vector_passes_with_one_bit_of_its_time_changed() {
    let mut mismatches = 0;
    for vector in VECTORS.iter().filter(|vector| !vector.time.is_empty()) {
        let keys = [vector.key()];
        for changed in flipped(vector.value(vector.time).as_bytes()) {
            let claimed = std::str::from_utf8(&changed)
                .ok()
                .and_then(|text| text.parse().ok());
            for now_s in [vector.now_s, claimed.unwrap_or(0)] {
                let fields = vector.pairs_with(vector.time, &changed);
                let found = vector.verify_with(&keys, vector.body.as_bytes(), &fields, now_s);
                let refusal = found.expect_err(vector.source);
                mismatches += usize::from(matches!(refusal, Refusal::TagMismatch(_)));
            }
        }
    }
    assert!(mismatches > 100, "{mismatches} refused by the tag");
}

#[test]
fn no_vector_passes_with_one_bit_of_its_secret_changed() {
    for vector in VECTORS {
        for secret in flipped(vector.secret.as_bytes()) {
            let Ok(key) = vector.scheme().key_of_any_length(&secret) else {
                continue;
            };
            let is_hex = vector.preset == "discord" || vector.secret == "4a656665";
            let is_same = is_hex && secret.eq_ignore_ascii_case(vector.secret.as_bytes());
            let (body, fields) = (vector.body.as_bytes(), vector.pairs());
            let found = vector.verify_with(&[key], body, &fields, vector.now_s);
            assert_eq!(found.is_ok(), is_same, "{}: {secret:?}", vector.source);
        }
    }
}

#[test]
fn nothing_passes_without_a_key() {
    for vector in VECTORS {
        let (body, fields) = (vector.body.as_bytes(), vector.pairs());
        let found = vector.verify_with(&[], body, &fields, vector.now_s);
        assert!(found.is_err(), "{}", vector.source);
    }
    for preset in Preset::all() {
        let fields = Fields::from_pairs([("Authorization", b"Bearer ".as_slice())]);
        let incoming = Incoming {
            query: Some("access_token="),
            fields: &fields,
            body: b"",
        };
        let settings = Settings {
            header: (preset.name == "hmac").then(|| "X-Sum".to_owned()),
            ..Settings::default()
        };
        let scheme = preset.scheme_with(&settings).unwrap();
        assert!(scheme.verify(&[], &incoming, 0).is_err(), "{}", preset.name);
    }
}

#[test]
fn any_tag_passes_with_any_key() {
    for vector in VECTORS {
        let others = || {
            let scheme = vector.scheme();
            let (text, public) = (
                vec![b'x'; 24],
                "whpk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            );
            let other = match scheme.key_form() {
                KeyForm::Standard => public.as_bytes().to_vec(),
                KeyForm::PublicHex => vec![b'a'; 64],
                KeyForm::Hex => vec![b'a'; 32],
                _ => text,
            };
            scheme.key(&other).unwrap()
        };
        for position in 0..3 {
            let mut keys = vec![others(), others()];
            keys.insert(position, vector.key());
            let (body, fields) = (vector.body.as_bytes(), vector.pairs());
            let found = vector.verify_with(&keys, body, &fields, vector.now_s);
            assert_eq!(found.unwrap().key, Some(position), "{}", vector.source);
        }
    }
}

#[test]
fn a_vector_passes_within_its_window_only() {
    let mut count = 0;
    for vector in VECTORS {
        let Some(tolerance_s) = vector.scheme().tolerance_s().map(u64::from) else {
            continue;
        };
        // The time of this one is no whole second.
        if !vector.value("Linear-Timestamp").is_empty() {
            continue;
        }
        count += 1;
        let (keys, body, fields) = ([vector.key()], vector.body.as_bytes(), vector.pairs());
        let at = |now_s: u64| vector.verify_with(&keys, body, &fields, now_s);
        assert!(at(vector.now_s + tolerance_s).is_ok(), "{}", vector.source);
        let late = at(vector.now_s + tolerance_s + 1).unwrap_err();
        assert_eq!(late.name(), "time_outside", "{}", vector.source);
        let text = late.to_string();
        assert!(
            text.contains(&format!("{} s behind", tolerance_s + 1)),
            "{text}"
        );
        if let Some(early_s) = vector.now_s.checked_sub(tolerance_s) {
            assert!(at(early_s).is_ok(), "{}", vector.source);
            assert_eq!(at(early_s - 1).unwrap_err().name(), "time_outside");
        }
    }
    assert!(count >= 15, "{count} vectors with a time");
}

#[test]
fn a_tag_that_is_empty_short_or_without_its_prefix_never_passes() {
    for vector in VECTORS.iter().filter(|vector| !vector.tag.is_empty()) {
        let tag = vector.value(vector.tag);
        let prefix = tag
            .find(['=', ','])
            .filter(|&at| at < 8)
            .map_or(0, |at| at + 1);
        let without = |prefix: &str| tag.strip_prefix(prefix).unwrap_or("");
        let wrong = [
            "",
            " ",
            &tag[..prefix],
            &tag[..tag.len() - 1],
            &tag[..tag.len() - 2],
            &tag[prefix..=prefix],
            "sha256=",
            "v0=",
            "v1,",
            "v1a,",
            "t=1614265330,v1=",
            without("v0="),
            without("v1="),
            without("v1,"),
            without("v1a,"),
            without("sha256="),
            without("sha384="),
        ];
        for value in wrong {
            let fields = vector.pairs_with(vector.tag, value.as_bytes());
            let keys = [vector.key()];
            let found = vector.verify_with(&keys, vector.body.as_bytes(), &fields, vector.now_s);
            let refusal = found.expect_err(vector.source);
            // Stripe's time is in the same field.
            let is_known = refusal.name() == "signature_malformed"
                || (vector.preset == "stripe" && refusal.name() == "time_missing");
            assert!(is_known, "{}: {value:?}: {refusal}", vector.source);
        }
    }
}

#[test]
fn a_tag_a_time_and_an_id_occur_once() {
    let ids = [
        "webhook-id",
        "svix-id",
        "X-Id",
        "X-GitHub-Delivery",
        "X-Gitea-Delivery",
    ];
    let mut count = 0;
    for vector in VECTORS {
        let names = [vector.tag, vector.time].into_iter().chain(ids);
        for name in names.filter(|name| !vector.value(name).is_empty()) {
            count += 1;
            let (keys, body) = ([vector.key()], vector.body.as_bytes());
            let value = vector.value(name).as_bytes();
            for second in [value, b"", b"1"] {
                for case in [name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                    let mut fields: Vec<(&str, &[u8])> = vector.pairs();
                    fields.push((&case, second));
                    let refusal = vector.verify_with(&keys, body, &fields, vector.now_s);
                    let refusal = refusal.expect_err(vector.source);
                    assert_eq!(refusal, Refusal::Repeated(name.to_owned()));
                    assert_eq!(refusal.status(), 400);
                }
            }
            let fields: Vec<_> = vector
                .pairs()
                .into_iter()
                .filter(|pair| pair.0 != name)
                .collect();
            let found = vector.verify_with(&keys, body, &fields, vector.now_s);
            let refusal = found.expect_err(vector.source);
            assert_eq!(refusal.status(), 401, "without {name}");
            assert!(
                refusal.name().ends_with("_missing"),
                "without {name}: {refusal}"
            );
        }
    }
    assert!(count >= 30, "{count} fields");
}

#[test]
fn an_id_that_is_not_signed_occurs_once_too() {
    let vector = vector("github");
    let mut fields = vector.pairs();
    fields.push(("X-GitHub-Delivery", b"1"));
    let (keys, body) = ([vector.key()], vector.body.as_bytes());
    let found = vector
        .verify_with(&keys, body, &fields, vector.now_s)
        .unwrap();
    assert_eq!(found.id.as_deref(), Some("1"));
    fields.push(("x-github-delivery", b"2"));
    let found = vector.verify_with(&keys, body, &fields, vector.now_s);
    assert_eq!(found.unwrap_err().name(), "repeated_field");
}

#[test]
fn a_second_time_in_stripes_field_is_refused() {
    let vector = vector("stripe");
    let twice = format!("t=1614265330,{}", vector.value("Stripe-Signature"));
    let fields = vector.pairs_with("Stripe-Signature", twice.as_bytes());
    let found = vector.verify_with(
        &[vector.key()],
        vector.body.as_bytes(),
        &fields,
        vector.now_s,
    );
    assert_eq!(found.unwrap_err().name(), "repeated_field");
}

#[test]
fn lenient_base64_is_refused() {
    for name in ["shopify", "standard"] {
        let vector = vector(name);
        let tag = vector.value(vector.tag);
        for changed in [
            tag.trim_end_matches('=').to_owned(),
            format!("{tag}="),
            format!("{} {}", &tag[..8], &tag[8..]),
            format!("{}\n{}", &tag[..8], &tag[8..]),
            format!("{}-{}", &tag[..8], &tag[8..]),
            tag.replacen('=', "", 1) + "x",
            // Bits beyond the last byte: the digit before `=` is another one with the same byte.
            tag.replace("M8=", "M9=").replace("OE=", "OF="),
            format!("{tag}\0"),
        ] {
            assert_ne!(changed, tag);
            let fields = vector.pairs_with(vector.tag, changed.as_bytes());
            let keys = [vector.key()];
            let found = vector.verify_with(&keys, vector.body.as_bytes(), &fields, vector.now_s);
            assert!(found.is_err(), "{name}: {changed:?}");
        }
    }
}

#[test]
fn hexadecimal_tags_have_either_case() {
    let vector = vector("discord");
    let upper = vector.value(vector.tag).to_ascii_uppercase();
    let fields = vector.pairs_with(vector.tag, upper.as_bytes());
    let found = vector.verify_with(
        &[vector.key()],
        vector.body.as_bytes(),
        &fields,
        vector.now_s,
    );
    assert!(found.is_ok());
}

#[test]
fn only_so_many_tags_are_tried() {
    let try_tags = |name: &str, item: &str, separator: &str, count: usize, valid: &str| {
        let vector = vector(name);
        let mut items = vec![item; count - 1];
        items.push(valid);
        let value = items.join(separator);
        let fields = vector.pairs_with(vector.tag, value.as_bytes());
        let keys = [vector.key()];
        vector.verify_with(&keys, vector.body.as_bytes(), &fields, vector.now_s)
    };
    let stale = "v1=7020c8a7ec668a9b7012bc3dd82e483394b038f4230acc6785efbf2a7d8bcaf5";
    let valid = vector("pagerduty").value("X-PagerDuty-Signature");
    assert!(try_tags("pagerduty", stale, ",", SIGNATURES_MAX, valid).is_ok());
    let refusal = try_tags("pagerduty", stale, ",", SIGNATURES_MAX + 1, valid).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.name()),
        (400, "too_many_signatures")
    );

    let stale = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc=";
    let valid = vector("standard").value("webhook-signature");
    assert!(try_tags("standard", stale, " ", SIGNATURES_MAX, valid).is_ok());
    let refusal = try_tags("standard", stale, " ", SIGNATURES_MAX + 1, valid).unwrap_err();
    assert_eq!(refusal.name(), "too_many_signatures");
    let stale = format!("v1a,{}==", "A".repeat(86));
    let within = try_tags("standard", &stale, " ", ED25519_SIGNATURES_MAX + 1, valid);
    assert!(within.is_ok());
    let beyond = try_tags("standard", &stale, " ", ED25519_SIGNATURES_MAX + 2, valid);
    assert_eq!(beyond.unwrap_err().name(), "too_many_signatures");
}

/// A sender that rotates its key pair signs with both.
#[test]
fn a_second_signature_of_a_key_pair_is_tried() {
    let is_pair = |vector: &&Vector| vector.value("webhook-signature").starts_with("v1a,");
    let vector = VECTORS.iter().find(is_pair).unwrap();
    let both = format!("v1a,{}== {}", "A".repeat(86), vector.value(vector.tag));
    let fields = vector.pairs_with(vector.tag, both.as_bytes());
    let keys = [vector.key()];
    let found = vector.verify_with(&keys, vector.body.as_bytes(), &fields, vector.now_s);
    assert_eq!(found.unwrap().key, Some(0));
}

/// Another value after the signed one would be read by a decoder that takes the last.
#[test]
fn a_form_with_two_payloads_is_refused() {
    let vector = vector("gitea");
    for body in [
        format!("{}&payload=%7B%7D", vector.body),
        format!("payload=%7B%7D&{}", vector.body),
        format!("{}&{}", vector.body, vector.body),
    ] {
        let keys = [vector.key()];
        let found = vector.verify_with(&keys, body.as_bytes(), &vector.pairs(), vector.now_s);
        assert_eq!(found.unwrap_err().name(), "signature_mismatch", "{body}");
    }
    // What is not signed is not read: only the payload is.
    let beside = format!("{}&evil=1", vector.body);
    let keys = [vector.key()];
    let found = vector.verify_with(&keys, beside.as_bytes(), &vector.pairs(), vector.now_s);
    assert_eq!(found.unwrap(), vector.verify().unwrap());
}

/// A sender that rotates its secret signs with both. A copy with one of the two tags is still a copy.
#[test]
fn a_copy_with_another_tag_is_known() {
    let vector = vector("pagerduty");
    let tag_under = |secret: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!(
            "v1={}",
            super::hex(ring::hmac::sign(&key, vector.body.as_bytes()).as_ref())
        )
    };
    let (old, new) = (
        tag_under(b"old-0123456789abc"),
        tag_under(b"new-0123456789abc"),
    );
    let keys = |texts: &[&str]| -> Vec<Key> {
        let keys = texts
            .iter()
            .map(|text| vector.scheme().key(text.as_bytes()).unwrap());
        keys.collect()
    };
    let verify = |keys: &[Key], value: &str| {
        let fields = vector.pairs_with(vector.tag, value.as_bytes());
        let found = vector.verify_with(keys, vector.body.as_bytes(), &fields, vector.now_s);
        found.unwrap().tag.unwrap()
    };
    let both = keys(&["new-0123456789abc", "old-0123456789abc"]);
    let first = verify(&both, &format!("{old},{new}"));
    for copy in [&old, &new, &format!("{new},{old}")] {
        assert_eq!(verify(&both, copy), first);
    }
    // After the rotation, too.
    assert_eq!(verify(&keys(&["old-0123456789abc"]), &old), first);
}

#[test]
fn a_body_of_one_mebibyte_is_hashed_whole() {
    let hmac = |body: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"0123456789abcdef");
        format!(
            "sha256={}",
            super::hex(ring::hmac::sign(&key, body).as_ref())
        )
    };
    let mut body = vec![b'x'; 1024 * 1024];
    let value = hmac(&body);
    let scheme = vector("github").scheme();
    let keys = [scheme.key(b"0123456789abcdef").unwrap()];
    let fields = Fields::from_pairs([("x-hub-signature-256", value.as_bytes())]);
    for (at, passes) in [
        (0, true),
        (1, false),
        (512 * 1024, false),
        (1024 * 1024 - 1, false),
    ] {
        body[at] ^= u8::from(!passes);
        let incoming = Incoming {
            query: None,
            fields: &fields,
            body: &body,
        };
        assert_eq!(
            scheme.verify(&keys, &incoming, 0).is_ok(),
            passes,
            "byte {at}"
        );
        body[at] ^= u8::from(!passes);
    }
}
