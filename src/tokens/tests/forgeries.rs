//! Tokens that are made to be accepted: other algorithms, tricks in the header, keys of other tokens, sizes.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::limits::TOKEN_BYTES_MAX;
use crate::testkit::encode_token;

#[test]
fn a_token_without_a_signature_is_refused() {
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    for alg in ["none", "None", "NONE", "nOnE"] {
        let header = format!("{{\"alg\":\"{alg}\"}}");
        assert_eq!(verdict(&header, VALID), Err(TokenFault::Unsigned));
        let unsigned = encode_token(&header, VALID, |_| Vec::new());
        assert_eq!(
            keys.verify(unsigned.as_bytes(), NOW_MS),
            Err(TokenFault::Unsigned)
        );
    }
    let unsigned = encode_token(HS256, VALID, |_| Vec::new());
    assert_eq!(
        keys.verify(unsigned.as_bytes(), NOW_MS),
        Err(TokenFault::Signature)
    );
}

#[test]
fn only_the_exact_name_of_a_keys_algorithm_is_accepted() {
    for alg in [
        "hs256",
        "Hs256",
        "HS256 ",
        " HS256",
        "HS256\\u0000",
        "HS384",
        "HS512",
        "RS256",
        "ES256",
        "EdDSA",
        "Ed25519",
        "ES384",
        "PS256",
        "",
        "HMAC",
        "HS256K",
        "dir",
        "A256GCM",
    ] {
        let header = format!("{{\"alg\":\"{alg}\"}}");
        assert_eq!(verdict(&header, VALID), Err(TokenFault::Algorithm), "{alg}");
    }
    assert!(verdict(r#"{"alg":"\u0048S256"}"#, VALID).is_ok());
}

#[test]
fn an_extension_that_must_be_understood_is_refused() {
    for member in [
        r#""crit":["exp"]"#,
        r#""crit":["b64"],"b64":true"#,
        r#""crit":["b64"],"b64":false"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""crit":"exp""#,
        r#""crit":{}"#,
        r#""cr\u0069t":["exp"]"#,
        r#""b64":false"#,
        r#""b64":true"#,
        r#""b64":null"#,
    ] {
        let header = format!("{{\"alg\":\"HS256\",{member}}}");
        assert_eq!(
            verdict(&header, VALID),
            Err(TokenFault::Critical),
            "{header}"
        );
    }
}

#[test]
fn a_header_that_is_no_object_with_one_algorithm_is_malformed() {
    for header in [
        "",
        "{}",
        "null",
        "[]",
        r#"["HS256"]"#,
        r#"["HS256",null,null,null]"#,
        r#""HS256""#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":{"HS256":1}}"#,
        r#"{"alg":256}"#,
        r#"{"Alg":"HS256"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","al\u0067":"none"}"#,
        r#"{"alg":"HS256","kid":1}"#,
        r#"{"alg":"HS256","kid":null}"#,
        r#"{"alg":"HS256","kid":["a"]}"#,
        r#"{"alg":"HS256","kid":"a","kid":"a"}"#,
        r#"{"alg":"HS256"} {}"#,
        r#"{"alg":"HS256"}x"#,
        r#"{"alg":"HS256",}"#,
        "{'alg':'HS256'}",
        "{\"alg\":\"HS256\"}\0",
        "\u{feff}{\"alg\":\"HS256\"}",
    ] {
        assert_eq!(
            verdict(header, VALID),
            Err(TokenFault::Malformed),
            "{header}"
        );
    }
    for header in [
        "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\" }",
        " {\"alg\":\"HS256\"} ",
    ] {
        assert!(verdict(header, VALID).is_ok(), "{header}");
    }
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    assert_eq!(keys.verify(b"", NOW_MS), Err(TokenFault::Empty));
    for token in [
        &b"."[..],
        b"..",
        b"...",
        b"....",
        b"e30.e30.e30",
        b"\xff.\xff.\xff",
        b"a",
    ] {
        assert_eq!(keys.verify(token, NOW_MS), Err(TokenFault::Malformed));
    }
}

/// What a header says about keys is an attacker's word.
#[test]
fn a_key_in_the_header_is_not_used() {
    let forged = b"another secret of 32 bytes, or so";
    let k = URL_SAFE_NO_PAD.encode(forged);
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    for member in [
        format!(r#""jwk":{{"kty":"oct","k":"{k}"}}"#),
        r#""jku":"https://example.com/keys""#.to_owned(),
        r#""x5u":"https://example.com/chain""#.to_owned(),
        format!(r#""x5c":["{k}"]"#),
        format!(r#""kid":"{k}""#),
        r#""kid":"../../dev/null""#.to_owned(),
        r#""kid":"' OR 1=1""#.to_owned(),
    ] {
        let header = format!("{{\"alg\":\"HS256\",{member}}}");
        let token = sign_token_with(forged, &header, VALID);
        assert_eq!(
            keys.verify(token.as_bytes(), NOW_MS),
            Err(TokenFault::Signature)
        );
        // They do not hinder a right signature either.
        assert!(verdict(&header, VALID).is_ok());
    }
}

/// The oldest forgery: a public key, which everybody has, as the secret of HS256.
#[test]
fn a_public_key_is_no_secret() {
    let set: serde_json::Value =
        serde_json::from_slice(include_bytes!("vectors/set.json")).unwrap();
    for (index, pem) in [
        include_str!("vectors/rs256.pem"),
        include_str!("vectors/es256.pem"),
        include_str!("vectors/eddsa.pem"),
    ]
    .iter()
    .enumerate()
    {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(&body).unwrap();
        let jwk = &set["keys"][index];
        let mut secrets = vec![
            pem.as_bytes().to_vec(),
            pem.trim_end().as_bytes().to_vec(),
            pem.replace('\n', "\r\n").into_bytes(),
            body.clone().into_bytes(),
            der.clone(),
            jwk.to_string().into_bytes(),
            include_bytes!("vectors/set.json").to_vec(),
        ];
        // The key's bytes at the end of the DER, with and without the byte of unused bits.
        secrets.extend([
            der[der.len() - 32..].to_vec(),
            der[der.len() - 65.min(der.len())..].to_vec(),
        ]);
        for member in ["n", "x", "y"] {
            if let Some(text) = jwk[member].as_str() {
                secrets.push(text.as_bytes().to_vec());
                secrets.push(URL_SAFE_NO_PAD.decode(text).unwrap());
            }
        }
        for file in [pem.as_bytes(), include_bytes!("vectors/set.json")] {
            let keys = TokenKeys::parse(file, None).unwrap();
            for secret in &secrets {
                for alg in ["HS256", "HS384", "RS256", "ES256", "EdDSA", "Ed25519"] {
                    let header = format!("{{\"alg\":\"{alg}\"}}");
                    let token = sign_token_with(secret, &header, VALID);
                    let fault = keys.verify(token.as_bytes(), NOW_MS).unwrap_err();
                    assert!(matches!(
                        fault,
                        TokenFault::Algorithm | TokenFault::Signature
                    ));
                }
            }
        }
    }
}

/// Signatures that are right for every message under broken verification.
#[test]
fn trivial_signatures_are_refused() {
    for (file, alg, bytes) in [
        (&include_bytes!("vectors/es256.pem")[..], "ES256", 64),
        (include_bytes!("vectors/eddsa.pem"), "EdDSA", 64),
        (include_bytes!("vectors/rs256.pem"), "RS256", 256),
        (TOKEN_SECRET, "HS256", 32),
    ] {
        let keys = TokenKeys::parse(file, None).unwrap();
        let one = |at: usize| {
            let mut signature = vec![0; bytes];
            signature[at] = 1;
            signature
        };
        for signature in [
            vec![0; bytes],
            vec![0xff; bytes],
            vec![0; bytes - 1],
            vec![0; bytes + 1],
            vec![0; 2 * bytes],
            vec![0],
            Vec::new(),
            one(0),
            one(bytes - 1),
            // DER of two integers, as ECDSA has it elsewhere.
            vec![0x30, 6, 2, 1, 0, 2, 1, 0],
            vec![0x30, 6, 2, 1, 1, 2, 1, 1],
        ] {
            let header = format!("{{\"alg\":\"{alg}\"}}");
            let token = encode_token(&header, VALID, |_| signature.clone());
            assert_eq!(
                keys.verify(token.as_bytes(), NOW_MS),
                Err(TokenFault::Signature)
            );
        }
    }
}

/// A part of the right signature is not the right signature.
#[test]
fn a_shortened_signature_is_refused() {
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    let token = sign_token_with(TOKEN_SECRET, HS256, VALID);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    for bytes in 0..signature.len() {
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature[..bytes]));
        assert_eq!(
            keys.verify(token.as_bytes(), NOW_MS),
            Err(TokenFault::Signature)
        );
    }
}

#[test]
fn a_token_of_the_largest_size_is_read_and_a_longer_one_is_not() {
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    let padded = |bytes: usize| {
        let padding = "x".repeat(bytes);
        let claims = format!("{{\"exp\":1800003600,\"sub\":\"{padding}\"}}");
        sign_token_with(TOKEN_SECRET, HS256, &claims)
    };
    let tokens = (2900..3100).map(padded);
    let (mut read, mut refused) = (0, 0);
    for token in tokens {
        let verdict = keys.verify(token.as_bytes(), NOW_MS);
        if token.len() <= TOKEN_BYTES_MAX {
            assert!(verdict.is_ok());
            read += 1;
        } else {
            assert_eq!(verdict, Err(TokenFault::TooLong));
            refused += 1;
        }
    }
    assert!(read > 10 && refused > 10);
    let long = vec![b'.'; 1 << 20];
    assert_eq!(keys.verify(&long, NOW_MS), Err(TokenFault::TooLong));
}

/// Nesting is bounded by the size of a token, in the header and in the claims, read or not.
#[test]
fn deep_nesting_is_no_danger() {
    let depth = 1400;
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let depth = depth / open.len();
        let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let header = format!("{{\"alg\":\"HS256\",\"x\":{deep}}}");
        let _ = verdict(&header, VALID);
        let header = format!("{{\"alg\":{deep}}}");
        assert_eq!(verdict(&header, VALID), Err(TokenFault::Malformed));
        for member in ["x", "exp", "aud", "nbf", "hookcast"] {
            let claims = format!("{{\"exp\":1800003600,\"{member}\":{deep}}}");
            let _ = verdict(HS256, &claims);
        }
        for member in ["sessions", "everything", "publish", "x"] {
            let claims = format!("{{\"exp\":1800003600,\"hookcast\":{{\"{member}\":{deep}}}}}");
            assert_eq!(verdict(HS256, &claims).is_ok(), member == "x", "{member}");
        }
    }
}

#[test]
fn a_kid_limits_which_keys_are_tried() {
    let secrets = [[1; 32], [2; 32], [3; 32]];
    let k = secrets.map(|secret| URL_SAFE_NO_PAD.encode(secret));
    let set = format!(
        r#"{{"keys":[{{"kty":"oct","kid":"one","k":"{}"}},{{"kty":"oct","kid":"two","k":"{}"}},{{"kty":"oct","k":"{}"}}]}}"#,
        k[0], k[1], k[2]
    );
    let keys = TokenKeys::parse(set.as_bytes(), None).unwrap();
    assert_eq!(keys.count(), 3);
    for (kid, expected) in [
        (None, [true, true, true]),
        (Some("one"), [true, false, true]),
        (Some("two"), [false, true, true]),
        // Nothing is known of this one, so it says nothing.
        (Some("three"), [true, true, true]),
        (Some(""), [true, true, true]),
    ] {
        let header = match kid {
            None => HS256.to_owned(),
            Some(kid) => format!("{{\"alg\":\"HS256\",\"kid\":\"{kid}\"}}"),
        };
        for (secret, expected) in secrets.iter().zip(expected) {
            let token = sign_token_with(secret, &header, VALID);
            let verdict = keys.verify(token.as_bytes(), NOW_MS);
            assert_eq!(verdict.is_ok(), expected, "{kid:?}");
        }
    }
}

#[test]
fn no_keys_accept_no_token() {
    let token = sign_token_with(TOKEN_SECRET, HS256, VALID);
    let verdict = TokenKeys::default().verify(token.as_bytes(), NOW_MS);
    assert_eq!(verdict, Err(TokenFault::Algorithm));
}
