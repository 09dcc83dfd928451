//! Times, audiences and rights.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

fn fault(claims: &str) -> Option<TokenFault> {
    claimed(claims, None).err()
}

#[test]
fn the_end_of_a_token_is_exact_and_required() {
    let end = |exp: &str| fault(&format!("{{\"exp\":{exp}}}"));
    let soon = (NOW_S + 1).to_string();
    for (exp, expected) in [
        (&*soon, None),
        // No leeway: the moment itself is too late.
        (&NOW_S.to_string(), Some(TokenFault::Expired)),
        (&(NOW_S - 1).to_string(), Some(TokenFault::Expired)),
        ("1800000000.001", None),
        ("1800000000.0", Some(TokenFault::Expired)),
        ("1.8000036e9", None),
        ("0", Some(TokenFault::Expired)),
        ("-1", Some(TokenFault::Expired)),
        ("-1.5", Some(TokenFault::Expired)),
        ("-1e300", Some(TokenFault::Expired)),
        ("253402300799", None),
        ("253402300800", Some(TokenFault::LateExpiry)),
        ("1800003600000", Some(TokenFault::LateExpiry)),
        ("18446744073709551615", Some(TokenFault::LateExpiry)),
        ("18446744073709551616", Some(TokenFault::LateExpiry)),
        ("1e300", Some(TokenFault::LateExpiry)),
        ("1e400", Some(TokenFault::Claims)),
        ("null", Some(TokenFault::Claims)),
        ("\"1800003600\"", Some(TokenFault::Claims)),
        ("true", Some(TokenFault::Claims)),
        ("[1800003600]", Some(TokenFault::Claims)),
        ("{}", Some(TokenFault::Claims)),
        ("Infinity", Some(TokenFault::Claims)),
        ("0x7fffffff", Some(TokenFault::Claims)),
    ] {
        assert_eq!(end(exp), expected, "{exp}");
    }
    assert_eq!(fault("{}"), Some(TokenFault::NoExpiry));
    assert_eq!(fault(r#"{"EXP":1800003600}"#), Some(TokenFault::NoExpiry));
    let grant = claimed(r#"{"exp":1800000000.25}"#, None).unwrap();
    assert_eq!(grant.expires_ms, NOW_MS + 250);
}

#[test]
fn a_token_may_be_a_minute_early() {
    let begin = |nbf: &str| fault(&format!("{{\"exp\":1800003600,\"nbf\":{nbf}}}"));
    for (nbf, expected) in [
        (&*(NOW_S + 60).to_string(), None),
        (&(NOW_S + 61).to_string(), Some(TokenFault::Early)),
        ("1800000060.001", Some(TokenFault::Early)),
        ("0", None),
        ("-1", None),
        ("18446744073709551615", Some(TokenFault::Early)),
        ("1e300", Some(TokenFault::Early)),
        ("null", Some(TokenFault::Claims)),
        ("\"0\"", Some(TokenFault::Claims)),
    ] {
        assert_eq!(begin(nbf), expected, "{nbf}");
    }
}

#[test]
fn an_audience_has_to_be_that_of_the_server() {
    let aud =
        |aud: &str, own: Option<&str>| claimed(&format!("{{\"exp\":1800003600{aud}}}"), own).err();
    let wrong = Some(TokenFault::Audience);
    for (text, expected) in [
        (r#","aud":"us""#, None),
        (r#","aud":["them","us"]"#, None),
        (r#","aud":["us","us"]"#, None),
        (r#","aud":"\u0075s""#, None),
        ("", Some(TokenFault::NoAudience)),
        (r#","aud":"them""#, wrong),
        (r#","aud":"US""#, wrong),
        (r#","aud":"us ""#, wrong),
        (r#","aud":"us/""#, wrong),
        (r#","aud":"""#, wrong),
        (r#","aud":[]"#, wrong),
        (r#","aud":["them"]"#, wrong),
        (r#","aud":null"#, Some(TokenFault::Claims)),
        (r#","aud":1"#, Some(TokenFault::Claims)),
        (r#","aud":{"us":true}"#, Some(TokenFault::Claims)),
        (r#","aud":["us",1]"#, Some(TokenFault::Claims)),
        (r#","aud":["us",["us"]]"#, Some(TokenFault::Claims)),
        (r#","aud":"us","aud":"us""#, Some(TokenFault::Claims)),
    ] {
        assert_eq!(aud(text, Some("us")), expected, "{text}");
    }
    for text in [r#","aud":"us""#, r#","aud":[]"#, r#","aud":["us"]"#] {
        assert_eq!(aud(text, None), Some(TokenFault::AudienceUnknown), "{text}");
    }
}

#[test]
fn the_rights_of_a_token_are_read_strictly() {
    let rights = |text: &str| claimed(&format!("{{\"exp\":1800003600,\"hookcast\":{text}}}"), None);
    let sessions = |names: &[&str]| names.iter().map(|name| session(name)).collect::<Vec<_>>();
    for (text, names, everything, publish) in [
        ("{}", &[][..], false, PublishGrant::Nothing),
        (r#"{"sessions":[]}"#, &[], false, PublishGrant::Nothing),
        (
            r#"{"sessions":["b","a","b"]}"#,
            &["b", "a"],
            false,
            PublishGrant::Nothing,
        ),
        (
            r#"{"sessions":["a b","\u00fc","%20"]}"#,
            &["a b", "ü", "%20"],
            false,
            PublishGrant::Nothing,
        ),
        (r#"{"everything":true}"#, &[], true, PublishGrant::Nothing),
        (r#"{"publish":true}"#, &[], false, PublishGrant::Everything),
        (r#"{"publish":false}"#, &[], false, PublishGrant::Nothing),
        (
            r#"{"publish":[]}"#,
            &[],
            false,
            PublishGrant::Sessions([].into()),
        ),
        (
            r#"{"publish":["a","a"]}"#,
            &[],
            false,
            PublishGrant::Sessions([session("a")].into()),
        ),
        (
            r#"{"later":[{"x":null}],"everything":false}"#,
            &[],
            false,
            PublishGrant::Nothing,
        ),
    ] {
        let grant = rights(text).unwrap();
        assert_eq!(*grant.sessions, *sessions(names), "{text}");
        assert_eq!(
            (grant.everything, grant.publish),
            (everything, publish),
            "{text}"
        );
    }
    for text in [
        "null",
        "true",
        "[]",
        r#"[["a"],true,true]"#,
        r#""everything""#,
        r#"{"sessions":"a"}"#,
        r#"{"sessions":null}"#,
        r#"{"sessions":{"a":1}}"#,
        r#"{"sessions":[1]}"#,
        r#"{"sessions":["a",null]}"#,
        r#"{"sessions":["\ud800"]}"#,
        r#"{"everything":1}"#,
        r#"{"everything":"true"}"#,
        r#"{"everything":null}"#,
        r#"{"publish":null}"#,
        r#"{"publish":"a"}"#,
        r#"{"publish":1}"#,
        r#"{"publish":[true]}"#,
        r#"{"publish":{}}"#,
        r#"{"everything":false,"everything":true}"#,
        r#"{"sessions":["a"],"sess\u0069ons":["b"]}"#,
    ] {
        assert_eq!(rights(text).err(), Some(TokenFault::Claims), "{text}");
    }
    let long = "x".repeat(257);
    for text in [
        r#"{"sessions":[""]}"#.to_owned(),
        r#"{"publish":["a",""]}"#.to_owned(),
        format!("{{\"sessions\":[\"{long}\"]}}"),
    ] {
        assert_eq!(rights(&text).err(), Some(TokenFault::Session), "{text}");
    }
}

/// Which of two is meant is not to be guessed: readers differ.
#[test]
fn a_claim_that_is_there_twice_is_refused() {
    for claims in [
        r#"{"exp":1800003600,"exp":1800003600}"#,
        r#"{"exp":1,"e\u0078p":1800003600}"#,
        r#"{"exp":1800003600,"nbf":1,"nbf":2}"#,
        r#"{"exp":1800003600,"hookcast":{},"hookcast":{"everything":true}}"#,
    ] {
        assert_eq!(fault(claims), Some(TokenFault::Claims), "{claims}");
    }
    // Claims that are not read may be whatever they are.
    assert_eq!(fault(r#"{"exp":1800003600,"sub":1,"sub":[2]}"#), None);
}

#[test]
fn claims_that_are_no_object_are_refused() {
    for claims in [
        "",
        " ",
        "null",
        "1800003600",
        "[1800003600]",
        "[1800003600,null,null,{\"everything\":true}]",
        "\"exp\"",
        "{\"exp\":1800003600",
        "{\"exp\":1800003600}}",
        "{\"exp\":1800003600}{}",
        "{\"exp\":1800003600,}",
        "{\"exp\":1800003600}\0",
        "\u{feff}{\"exp\":1800003600}",
    ] {
        assert_eq!(fault(claims), Some(TokenFault::Claims), "{claims}");
    }
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, TOKEN_SECRET);
    // Not UTF-8 though it is signed, and no base64 though it is signed.
    for payload in [
        "eyJleHAiOjE4MDAwMDM2MDAsInN1YiI6Iv8ifQ",
        "e30=",
        "{}",
        "e 30",
        "",
    ] {
        let message = format!("eyJhbGciOiJIUzI1NiJ9.{payload}");
        let signature = ring::hmac::sign(&key, message.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature);
        let token = format!("{message}.{signature}");
        assert_eq!(
            keys.verify(token.as_bytes(), NOW_MS),
            Err(TokenFault::Claims),
            "{payload}"
        );
    }
}

/// Only who holds a key learns more than that no key has signed.
#[test]
fn faults_of_claims_are_found_only_behind_a_right_signature() {
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    for claims in [
        "",
        "{}",
        r#"{"exp":1}"#,
        r#"{"exp":1800003600,"aud":"us"}"#,
        VALID,
    ] {
        let token = sign_token_with(&[9; 32], HS256, claims);
        assert_eq!(
            keys.verify(token.as_bytes(), NOW_MS),
            Err(TokenFault::Signature)
        );
    }
}
