//! Tokens and keys that other implementations have made: RFC 7515 appendix A, RFC 8037 appendix A, Node (OpenSSL
//! 3) and openssl(1).

use super::*;
use crate::limits::TOKEN_RSA_KEYS_TRIED_MAX;

/// Before the end of the tokens of RFC 7515.
const RFC_MS: u64 = 1_300_819_379_999;

const RFC_PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

const RFC_HS256: [&str; 3] = [
    r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#,
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
];

const RFC_RS256: [&str; 3] = [
    r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#,
    "eyJhbGciOiJSUzI1NiJ9",
    "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
];

const RFC_ES256: [&str; 3] = [
    r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    "eyJhbGciOiJFUzI1NiJ9",
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
];

#[test]
fn the_tokens_of_rfc_7515_are_valid_until_their_end() {
    for [key, header, signature] in [RFC_HS256, RFC_RS256, RFC_ES256] {
        for key in [key.to_owned(), format!("{{\"keys\":[{key}]}}")] {
            let keys = TokenKeys::parse(key.as_bytes(), None).unwrap();
            let token = format!("{header}.{RFC_PAYLOAD}.{signature}");
            let grant = keys.verify(token.as_bytes(), RFC_MS).unwrap();
            assert_eq!(grant.expires_ms, RFC_MS + 1);
            assert!(grant.sessions.is_empty() && !grant.everything);
            let late = keys.verify(token.as_bytes(), RFC_MS + 1);
            assert_eq!(late, Err(TokenFault::Expired));
        }
    }
}

/// Its payload is a sentence, so only the signature is right.
#[test]
fn the_signature_of_rfc_8037_is_right() {
    let key = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let keys = TokenKeys::parse(key.as_bytes(), None).unwrap();
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.\
         hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(
        keys.verify(token.as_bytes(), RFC_MS),
        Err(TokenFault::Claims)
    );
    let changed = token.replace("RXhh", "RXhi");
    assert_eq!(
        keys.verify(changed.as_bytes(), RFC_MS),
        Err(TokenFault::Signature)
    );
}

const SET: &[u8] = include_bytes!("vectors/set.json");

/// The tokens of Node with the files of their keys.
const TOKENS: [(&str, &[u8]); 4] = [
    (
        include_str!("vectors/hs256.token"),
        include_bytes!("vectors/hs256.secret"),
    ),
    (
        include_str!("vectors/rs256.token"),
        include_bytes!("vectors/rs256.pem"),
    ),
    (
        include_str!("vectors/es256.token"),
        include_bytes!("vectors/es256.pem"),
    ),
    (
        include_str!("vectors/eddsa.token"),
        include_bytes!("vectors/eddsa.pem"),
    ),
];

#[test]
fn the_tokens_of_node_are_valid_with_their_key_alone() {
    for (index, (token, _)) in TOKENS.iter().enumerate() {
        for (other, (_, file)) in TOKENS.iter().enumerate() {
            let keys = TokenKeys::parse(file, Some("example")).unwrap();
            let verdict = keys.verify(token.trim_end().as_bytes(), NOW_MS);
            if index != other {
                assert_eq!(verdict, Err(TokenFault::Algorithm));
                continue;
            }
            let grant = verdict.unwrap();
            assert_eq!(*grant.sessions, [session("a"), session("ü")]);
            let own = PublishGrant::Sessions([session("a")].into());
            assert_eq!((grant.expires_ms, grant.publish), (4_102_444_800_000, own));
        }
    }
}

#[test]
fn a_key_in_pem_form_and_the_same_key_in_a_set_have_one_mark() {
    let set = TokenKeys::parse(SET, Some("example")).unwrap();
    assert_eq!(set.count(), 3);
    for (token, file) in &TOKENS[1..] {
        let pem = TokenKeys::parse(file, Some("example")).unwrap();
        let mark = |keys: &TokenKeys| {
            keys.verify(token.trim_end().as_bytes(), NOW_MS)
                .unwrap()
                .key
        };
        assert_eq!(mark(&set), mark(&pem));
        assert!(set.has(mark(&pem)) && pem.has(mark(&set)));
    }
}

#[test]
fn a_token_that_openssl_has_signed_is_valid() {
    let keys = TokenKeys::parse(TOKEN_SECRET, None).unwrap();
    let token = include_str!("vectors/openssl-hs256.token").trim_end();
    let grant = keys.verify(token.as_bytes(), NOW_MS).unwrap();
    assert!(grant.everything && grant.publish == PublishGrant::Everything);
}

/// The same key, another algorithm of its kind.
#[test]
fn other_algorithms_of_a_key_are_refused() {
    let keys = TokenKeys::parse(TOKENS[1].1, Some("example")).unwrap();
    for token in [
        include_str!("vectors/rs512.token"),
        include_str!("vectors/ps256.token"),
    ] {
        let verdict = keys.verify(token.trim_end().as_bytes(), NOW_MS);
        assert_eq!(verdict, Err(TokenFault::Algorithm));
        // Nor is the signature right under the name of the key's algorithm.
        let (_, rest) = token.trim_end().split_once('.').unwrap();
        let renamed = format!("eyJhbGciOiJSUzI1NiJ9.{rest}");
        assert_eq!(
            keys.verify(renamed.as_bytes(), NOW_MS),
            Err(TokenFault::Signature)
        );
    }
}

/// Each bit of a token decides: none may be changed, in whatever part it is.
#[test]
fn a_token_with_one_bit_changed_is_refused() {
    for (token, file) in TOKENS {
        let keys = TokenKeys::parse(file, Some("example")).unwrap();
        let token = token.trim_end().as_bytes();
        assert!(keys.verify(token, NOW_MS).is_ok());
        for index in 0..token.len() {
            for bit in 0..8 {
                let mut changed = token.to_vec();
                changed[index] ^= 1 << bit;
                let fault = keys.verify(&changed, NOW_MS).unwrap_err();
                assert!(fault.is_guess(), "{fault:?} at {index}, bit {bit}");
            }
        }
        for length in 0..token.len() {
            assert!(keys.verify(&token[..length], NOW_MS).is_err());
        }
    }
}

/// Two texts of one signature would be two tokens.
#[test]
fn another_text_of_the_same_bytes_is_refused() {
    for (token, file) in TOKENS {
        let keys = TokenKeys::parse(file, Some("example")).unwrap();
        let token = token.trim_end();
        let [header, payload, signature] = *token.split('.').collect::<Vec<_>>() else {
            panic!("{token}");
        };
        let spaced = |text: &str| format!("{}\n{}", &text[..4], &text[4..]);
        let standard = |text: &str| text.replace('-', "+").replace('_', "/");
        for changed in [
            format!("{token}="),
            format!("{token}=="),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}.{payload}=.{signature}"),
            format!(" {token}"),
            format!("{token}\n"),
            format!("{token}\0"),
            format!("{header} .{payload}.{signature}"),
            spaced(token),
            format!("{header}.{}.{signature}", spaced(payload)),
            format!("{header}.{payload}.{}", spaced(signature)),
            format!("{header}.{payload}.{}+", standard(signature)),
            format!("{token}."),
            format!("{token}.e30"),
            format!(".{token}"),
            format!("{header}..{payload}.{signature}"),
            format!("{header}.{payload}.{signature}.."),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!("{header}..{signature}"),
            format!(".{payload}.{signature}"),
            format!("%{token}"),
            format!("\"{token}\""),
        ] {
            let fault = keys.verify(changed.as_bytes(), NOW_MS).unwrap_err();
            assert!(fault.is_guess(), "{fault:?} of {changed:?}");
        }
        // The last character of these has bits that belong to no byte.
        for (index, part) in [header, payload, signature].iter().enumerate() {
            if part.len() % 4 == 0 {
                continue;
            }
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let last = alphabet.find(part.chars().last().unwrap()).unwrap();
            let other = alphabet.as_bytes()[last | 1] as char;
            let mut parts = [header, payload, signature].map(str::to_owned);
            parts[index] = format!("{}{other}", &part[..part.len() - 1]);
            let changed = parts.join(".");
            assert!(changed != token && keys.verify(changed.as_bytes(), NOW_MS).is_err());
        }
    }
}

/// A set of RSA keys, among which the key of RFC 7515 has this place. The kids are of the others, and of it.
fn rsa_set(keys: usize, place: usize, others: Option<&str>, own: Option<&str>) -> String {
    let kid = |kid: Option<&str>| kid.map_or_else(String::new, |kid| format!(",\"kid\":\"{kid}\""));
    let key = |index: usize| {
        let (key, kid) = if index == place {
            (RFC_RS256[0].to_owned(), kid(own))
        } else {
            let changed = format!("\"n\":\"ofg{}", char::from(b'a' + index as u8));
            (RFC_RS256[0].replace("\"n\":\"ofgW", &changed), kid(others))
        };
        format!("{}{kid}}}", key.strip_suffix('}').unwrap())
    };
    let keys: Vec<String> = (0..keys).map(key).collect();
    format!("{{\"keys\":[{}]}}", keys.join(","))
}

#[test]
fn few_rsa_keys_are_tried_the_likely_ones_first() {
    let [_, header, signature] = RFC_RS256;
    let token = format!("{header}.{RFC_PAYLOAD}.{signature}");
    let is_valid = |set: &str| {
        let keys = TokenKeys::parse(set.as_bytes(), None).unwrap();
        match keys.verify(token.as_bytes(), RFC_MS) {
            Ok(_) => true,
            Err(fault) => {
                assert_eq!(fault, TokenFault::Signature);
                false
            }
        }
    };
    for place in 0..16 {
        let is_tried = place < TOKEN_RSA_KEYS_TRIED_MAX;
        assert_eq!(is_valid(&rsa_set(16, place, None, None)), is_tried);
        assert_eq!(
            is_valid(&rsa_set(16, place, Some("a"), Some("b"))),
            is_tried
        );
        // The token names no key, so it is likely of one without a name.
        assert!(is_valid(&rsa_set(16, place, Some("a"), None)));
    }
}

#[test]
fn a_key_that_a_token_names_is_tried_before_those_without_a_name() {
    let (token, _) = TOKENS[1];
    let named = std::str::from_utf8(SET).unwrap();
    let named = named.split_once('[').unwrap().1;
    let unnamed = rsa_set(16, 0, None, None);
    let unnamed = unnamed.strip_suffix("]}").unwrap();
    let keys = TokenKeys::parse(format!("{unnamed},{named}").as_bytes(), Some("example")).unwrap();
    assert!(keys.verify(token.trim_end().as_bytes(), NOW_MS).is_ok());
}

#[test]
fn rsa_keys_that_would_not_be_tried_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set");
    let load = |keys: usize, kid| {
        std::fs::write(&path, rsa_set(keys, 0, kid, None)).unwrap();
        let loaded = TokenKeys::load(std::slice::from_ref(&path), None);
        loaded
            .map(|loaded| loaded.keys.count())
            .map_err(|error| error.to_string())
    };
    assert_eq!(load(4, None), Ok(4));
    let problem = load(5, None).unwrap_err();
    assert!(
        problem.contains("5 keys of one algorithm") && problem.contains("; 4 are tried"),
        "{problem}"
    );
    assert_eq!(load(4, Some("a")), Ok(4));
    assert!(
        load(6, Some("a"))
            .unwrap_err()
            .contains("6 keys of one algorithm")
    );
}
