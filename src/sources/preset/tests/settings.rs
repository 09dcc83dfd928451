//! Keys of a source's table.

use super::super::Settings;
use super::preset;

/// The faults of some settings, each as `key: why`.
fn faults(name: &str, settings: &Settings) -> Vec<String> {
    match preset(name).scheme_with(settings) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn hmac() -> Settings {
    Settings {
        header: Some("X-Sum".to_owned()),
        ..Settings::default()
    }
}

#[test]
fn a_preset_takes_only_its_own_keys() {
    let query = Settings {
        query: Some("token".to_owned()),
        ..Settings::default()
    };
    assert_eq!(
        faults("github", &query),
        ["query: the preset github takes no such key"]
    );
    let found = faults("stripe", &hmac());
    assert_eq!(found, ["header: the preset stripe takes only tolerance"]);
    let both = Settings {
        query: Some("token".to_owned()),
        ..hmac()
    };
    assert_eq!(faults("github", &both).len(), 2, "all at once");
    for name in [
        "token",
        "alertmanager",
        "uptime-kuma",
        "cloudevents",
        "eventgrid",
    ] {
        assert!(faults(name, &both).is_empty(), "{name}");
    }
}

#[test]
fn hmac_needs_a_header_and_says_what_its_keys_can_be() {
    assert!(faults("hmac", &hmac()).is_empty());
    let found = faults("hmac", &Settings::default());
    assert_eq!(
        found,
        ["header: is missing: name the field with the signature"]
    );
    let wrong = Settings {
        algorithm: Some("md5".to_owned()),
        encoding: Some("hexadecimal".to_owned()),
        key: Some("whsec".to_owned()),
        prefix: Some("a b".to_owned()),
        signed: Some("{timestamp}".to_owned()),
        header: Some("X Sum".to_owned()),
        timestamp_header: Some(String::new()),
        id_header: Some("X:Id".to_owned()),
        ..Settings::default()
    };
    let found = faults("hmac", &wrong);
    let keys: Vec<_> = found
        .iter()
        .map(|fault| fault.split(':').next().unwrap())
        .collect();
    let expected = [
        "id_header",
        "algorithm",
        "encoding",
        "key",
        "prefix",
        "header",
        "timestamp_header",
        "signed",
    ];
    assert_eq!(keys, expected, "{found:?}");
    assert!(
        found[1].ends_with("is one of sha256, sha1, sha384, sha512"),
        "{}",
        found[1]
    );
}

#[test]
fn what_is_signed_contains_the_body_once_and_a_time_that_is_checked() {
    let signed = |signed: &str, timestamp_header: Option<&str>| {
        let settings = Settings {
            signed: Some(signed.to_owned()),
            timestamp_header: timestamp_header.map(str::to_owned),
            ..hmac()
        };
        faults("hmac", &settings)
    };
    assert!(signed("{body}", None).is_empty());
    assert!(signed("v0:{timestamp}:{body}", Some("X-Time")).is_empty());
    assert!(signed("{id}.{timestamp}.{body}!", Some("X-Time")).is_empty());
    for wrong in [
        "",
        "{timestamp}",
        "{body}{body}",
        "{Body}",
        "{body",
        "body}",
        "{}",
        "{{body}}",
    ] {
        let found = signed(wrong, Some("X-Time"));
        assert!(
            found.iter().any(|fault| fault.starts_with("signed: ")),
            "{wrong}: {found:?}"
        );
    }
    let found = signed("{timestamp}.{body}", None);
    assert!(
        found[0].starts_with("timestamp_header: is missing"),
        "{found:?}"
    );
    let found = signed("{body}", Some("X-Time"));
    assert!(
        found[0].starts_with("signed: has to contain {timestamp}"),
        "{found:?}"
    );
}

#[test]
fn the_layout_with_a_time_is_written_out_but_for_grafana() {
    let timed = Settings {
        timestamp_header: Some("X-Time".to_owned()),
        ..Settings::default()
    };
    assert!(faults("grafana", &timed).is_empty());
    let timed = Settings {
        timestamp_header: Some("X-Time".to_owned()),
        ..hmac()
    };
    assert!(faults("hmac", &timed)[0].starts_with("signed: has to contain {timestamp}"));
}

#[test]
fn a_tolerance_has_bounds_and_needs_a_time() {
    let tolerance = |name: &str, tolerance_s: u32, base: Settings| {
        let settings = Settings {
            tolerance_s: Some(tolerance_s),
            ..base
        };
        faults(name, &settings)
    };
    for name in [
        "standard", "gitlab", "stripe", "slack", "discord", "linear", "zoom",
    ] {
        assert!(
            tolerance(name, 86_400, Settings::default()).is_empty(),
            "{name}"
        );
        let settings = Settings {
            tolerance_s: Some(7),
            ..Settings::default()
        };
        let scheme = preset(name).scheme_with(&settings).unwrap();
        assert_eq!(scheme.tolerance_s(), Some(7), "{name}");
        for wrong in [0, 86_401] {
            let found = tolerance(name, wrong, Settings::default());
            assert_eq!(found, ["tolerance: is from 1s to 86400s"], "{name}");
        }
    }
    assert_eq!(
        tolerance("hmac", 7, hmac()),
        ["tolerance: needs a timestamp_header"]
    );
    assert_eq!(
        tolerance("grafana", 7, Settings::default()),
        ["tolerance: needs a timestamp_header"]
    );
    let timed = Settings {
        timestamp_header: Some("X-Time".to_owned()),
        ..Settings::default()
    };
    assert!(tolerance("grafana", 7, timed).is_empty());
}

#[test]
fn the_place_of_the_tag_is_told_in_words() {
    let expects =
        |name: &str, settings: &Settings| preset(name).scheme_with(settings).unwrap().expects();
    let default = Settings::default();
    assert_eq!(
        expects("github", &default),
        "X-Hub-Signature-256: sha256=hex HMAC-SHA256 of {body}"
    );
    assert_eq!(
        expects("slack", &default),
        "X-Slack-Signature: v0=hex HMAC-SHA256 of v0:{timestamp}:{body}"
    );
    assert_eq!(
        expects("cloudevents", &default),
        "the secret in Authorization or access_token= in the address"
    );
    let query = Settings {
        query: Some("token".to_owned()),
        ..Settings::default()
    };
    assert_eq!(
        expects("token", &query),
        "the secret in token= in the address"
    );
}

/// Some senders use the whole of a `whsec_` secret as the key.
#[test]
fn the_form_of_a_key_can_be_set() {
    let settings = Settings {
        key: Some("text".to_owned()),
        ..Settings::default()
    };
    let scheme = preset("standard").scheme_with(&settings).unwrap();
    assert!(scheme.key(b"whsec_this is no base64").is_ok());
    let scheme = preset("standard")
        .scheme_with(&Settings::default())
        .unwrap();
    assert!(scheme.key(b"whsec_this is no base64").is_err());
}
