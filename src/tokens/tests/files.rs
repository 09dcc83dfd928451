//! Files of keys: what is accepted, and the line about what is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::limits::{TOKEN_KEY_FILE_BYTES_MAX, TOKEN_KEYS_TRIED_MAX};

const RS256: &str = include_str!("vectors/rs256.pem");
const ES256: &str = include_str!("vectors/es256.pem");
const SET: &str = include_str!("vectors/set.json");

/// The fault of a file with this content. It is one line, and contains nothing of the file.
fn problem(content: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, content).unwrap();
    let Err(error) = TokenKeys::load(std::slice::from_ref(&path), None) else {
        panic!("{} is accepted", String::from_utf8_lossy(content));
    };
    let line = error.to_string();
    let place = format!("--token-key {} ", path.display());
    let text = line
        .strip_prefix(&place)
        .unwrap_or_else(|| panic!("{line}"));
    assert!(!text.contains('\n') && text.len() < 200, "{text}");
    for part in content.split(|byte| !byte.is_ascii_alphanumeric()) {
        let part = String::from_utf8_lossy(part);
        assert!(part.len() < 20 || !text.contains(&*part), "{text}");
    }
    text.to_owned()
}

fn private_pem(algorithm: &'static rcgen::SignatureAlgorithm) -> String {
    rcgen::KeyPair::generate_for(algorithm)
        .unwrap()
        .serialize_pem()
}

#[test]
fn a_secret_loses_one_line_end_and_keeps_all_else() {
    let secret = b"  spaces at the ends are a part  ";
    for end in ["", "\n", "\r\n"] {
        let file = [&secret[..], end.as_bytes()].concat();
        let keys = TokenKeys::parse(&file, None).unwrap();
        let token = sign_token_with(secret, HS256, VALID);
        assert!(keys.verify(token.as_bytes(), NOW_MS).is_ok());
    }
    let keys = TokenKeys::parse(&[&secret[..], b"\n\n"].concat(), None).unwrap();
    let token = sign_token_with(&[&secret[..], b"\n"].concat(), HS256, VALID);
    assert!(keys.verify(token.as_bytes(), NOW_MS).is_ok());
    // Random bytes, among them some that begin like another form.
    for first in (0..=255).filter(|first| ![b'{', b'[', b'\n'].contains(first)) {
        let mut secret = [0xf5; 32];
        secret[0] = first;
        let keys = TokenKeys::parse(&secret, None).unwrap();
        let token = sign_token_with(&secret, HS256, VALID);
        assert!(keys.verify(token.as_bytes(), NOW_MS).is_ok(), "{first}");
    }
}

#[test]
fn a_weak_or_unusable_key_is_refused_with_one_line() {
    let utf16: Vec<u8> = RS256.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let der = {
        use base64::Engine;
        let body: String = RS256
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        base64::engine::general_purpose::STANDARD
            .decode(body)
            .unwrap()
    };
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let encoded = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(RS256)
    };
    for (content, expected) in [
        (b"".to_vec(), "is empty"),
        (b" \n\n".to_vec(), "is empty"),
        (b"\n".to_vec(), "is empty"),
        (b"short".to_vec(), "HS256 secret of 5 bytes"),
        (vec![b'x'; 31], "HS256 secret of 31 bytes"),
        ([&[b'x'; 31][..], b"\n"].concat(), "HS256 secret of 31 bytes"),
        (vec![b'x'; TOKEN_KEY_FILE_BYTES_MAX + 1], "is longer than 65536 bytes"),
        (private_pem(&rcgen::PKCS_ECDSA_P256_SHA256).into_bytes(), "a private key"),
        (private_pem(&rcgen::PKCS_ED25519).into_bytes(), "a private key"),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".into(),
            "a private key",
        ),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n".into(),
            "a private key",
        ),
        (
            format!("{RS256}{}", private_pem(&rcgen::PKCS_ED25519)).into_bytes(),
            "a private key",
        ),
        (certificate.cert.pem().into_bytes(), "openssl x509 -pubkey"),
        (
            "-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n".into(),
            "RSAPublicKey_in",
        ),
        ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".into(), "no public key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(), "is damaged"),
        ("-----BEGIN PUBLIC KEY-----\n****\n-----END PUBLIC KEY-----\n".into(), "is not Base64"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n".into(), "is cut off"),
        (RS256.replace('\n', " ").into_bytes(), "lost its line breaks"),
        (RS256.replace('\n', "\\n").into_bytes(), "where its line breaks were"),
        (encoded.into_bytes(), "Base64 once more"),
        (include_bytes!("vectors/rsa-1024.pem").to_vec(), "RSA key of 1024 bits"),
        (include_bytes!("vectors/p-384.pem").to_vec(), "the curve P-384"),
        (der, "DER form"),
        ([&[0xff, 0xfe][..], &utf16].concat(), "UTF-16"),
        (b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHOOKCASTHOOKCASTHOOKCAST me@here".to_vec(), "OpenSSH"),
        (b"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAI me@here".to_vec(), "OpenSSH"),
        (b"AAAAC3NzaC1lZDI1NTE5AAAAIHOOKCASTHOOKCASTHOOKCASTHOOKCAST".to_vec(), "OpenSSH"),
        (b"h.example ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC".to_vec(), "OpenSSH"),
        (b"{".to_vec(), "no JSON: line 1"),
        (b"{\"keys\":[}".to_vec(), "no JSON: line 1"),
        (b"[".to_vec(), "no JSON"),
        (b"{}".to_vec(), "no JWKS"),
        (b"[]".to_vec(), "no JWKS"),
        (b"{\"keys\":{}}".to_vec(), "no JWKS"),
        (b"{\"keys\":null}".to_vec(), "no JWKS"),
        (format!("[{SET}]").into_bytes(), "no JWKS"),
        (b"{\"keys\":[]}".to_vec(), "JWKS without a key"),
        (b"{\"keys\":[1]}".to_vec(), "it is no key in JSON form"),
        (b"{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2hvcnQ\"}]}".to_vec(), "HS256 secret of 5 bytes"),
        (b"{\"keys\":[{\"kty\":\"oct\",\"k\":\"\"}]}".to_vec(), "a key that can be used"),
        (
            b"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\",\"d\":\"x\"}".to_vec(),
            "a private key, number 1",
        ),
    ] {
        let text = problem(&content);
        assert!(text.contains(expected), "{text}: not {expected}");
    }
}

/// A public key would be a secret that everybody knows.
#[test]
fn a_public_key_in_a_disguise_is_not_taken_for_a_secret() {
    for (before, after) in [
        ("", ""),
        ("\n\n", ""),
        ("\u{feff}", ""),
        ("# a comment\n", "# another\n"),
        ("Public-Key: (2048 bit)\nModulus:\n    00:a1\n", "\n\n"),
    ] {
        let keys = TokenKeys::parse(format!("{before}{RS256}{after}").as_bytes(), None).unwrap();
        assert!(!keys.has_secret(), "{before}");
    }
    let indented = format!("key: |\n  {}", RS256.replace('\n', "\n  "));
    assert!(TokenKeys::parse(indented.as_bytes(), None).is_ok_and(|keys| !keys.has_secret()));
    let set = format!("\u{feff}\n {SET}");
    assert_eq!(TokenKeys::parse(set.as_bytes(), None).unwrap().count(), 3);
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The bytes between the lines of a PEM file.
fn der(pem: &str) -> Vec<u8> {
    use base64::Engine;
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap()
}

#[test]
fn a_public_key_without_its_armour_is_refused() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    const EDDSA: &str = include_str!("vectors/eddsa.pem");
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = certificate.cert.der().to_vec();
    let spki = der(RS256);
    // An RSAPublicKey is the content of the bit string.
    let (_, rsa) = crate::tls::key::public(&spki).unwrap();
    let keys = [
        spki.clone(),
        der(ES256),
        der(EDDSA),
        rsa.to_vec(),
        certificate,
    ];
    for (number, der) in keys.iter().enumerate() {
        let plain = STANDARD.encode(der);
        let lines: Vec<String> = plain
            .as_bytes()
            .chunks(64)
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect();
        let hex = hex(der);
        assert!(problem(der).contains("DER form"), "{number}");
        for text in [
            plain.clone(),
            format!("{plain}\n"),
            format!("\"{plain}\"\n"),
            format!("\u{feff}{plain}"),
            lines.join("\n"),
            lines.join("\r\n") + "\r\n",
            URL_SAFE_NO_PAD.encode(der),
            hex.clone(),
            hex.to_uppercase(),
        ] {
            let text = problem(text.as_bytes());
            assert!(text.contains("in DER form, encoded"), "{number}: {text}");
        }
    }
    // Without its last line.
    let text = STANDARD.encode(&spki[..240]);
    assert!(problem(text.as_bytes()).contains("in DER form, encoded"));
}

#[test]
fn what_is_certainly_no_secret_is_refused() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let token = sign_token_with(TOKEN_SECRET, HS256, VALID);
    for (content, expected) in [
        ("https://issuer.example/.well-known/jwks.json\n", "is a URL"),
        ("HTTP://issuer.example/.well-known/jwks", "is a URL"),
        (
            "<RSAKeyValue><Modulus>AQAB</Modulus></RSAKeyValue>",
            "is XML",
        ),
        (
            "\u{feff}<?xml version=\"1.0\"?><EntityDescriptor/>",
            "is XML",
        ),
        ("<!DOCTYPE html><title>404 Not Found</title>", "is XML"),
        (&token, "is a token"),
        (&format!("Bearer {token}\n"), "is a token"),
        (&STANDARD.encode(SET), "is base64 of JSON"),
        (&STANDARD.encode(RS256), "Base64 once more"),
    ] {
        let text = problem(content.as_bytes());
        assert!(text.contains(expected), "{text}: not {expected}");
    }
}

#[test]
fn a_secret_that_looks_odd_is_taken() {
    for secret in [
        "correct.horse.battery.staple.is.no.token",
        "<- this arrow is the beginning of a secret",
        "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef",
        "httpd is a server, and this is a secret",
    ] {
        let keys = TokenKeys::parse(secret.as_bytes(), None).unwrap();
        assert!(keys.has_secret(), "{secret}");
    }
    // Every byte of a secret of openssl rand -base64 32, and of -hex 32.
    for first in 0..=255 {
        use base64::Engine;
        let mut bytes = [0x5a; 32];
        bytes[0] = first;
        let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
        let hex = hex(&bytes);
        for text in [base64, hex] {
            assert!(TokenKeys::parse(text.as_bytes(), None).is_ok(), "{text}");
        }
    }
}

#[test]
fn a_private_key_of_a_set_is_refused_by_each_member() {
    let set: serde_json::Value = serde_json::from_str(SET).unwrap();
    for member in ["d", "p", "q", "dp", "dq", "qi", "oth"] {
        let mut key = set["keys"][0].clone();
        key[member] = "AQAB".into();
        let set = serde_json::json!({ "keys": [set["keys"][1], key] });
        let text = problem(set.to_string().as_bytes());
        assert!(text.contains("a private key, number 2"), "{text}");
    }
}

#[test]
fn a_file_with_several_public_keys_has_them_all() {
    let both = format!("{RS256}{ES256}{RS256}");
    assert_eq!(TokenKeys::parse(both.as_bytes(), None).unwrap().count(), 2);
    let cut = format!("{RS256}{}", &ES256[..100]);
    assert!(problem(cut.as_bytes()).contains("cut off"));
}

#[test]
fn keys_of_a_set_for_other_purposes_are_skipped_with_a_note() {
    let set: serde_json::Value = serde_json::from_str(SET).unwrap();
    let key = |index: usize, member: &str, value: serde_json::Value| {
        let mut key = set["keys"][index].clone();
        key[member] = value;
        key
    };
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let unsupported = [
        (key(0, "use", "enc".into()), "not for signatures"),
        (key(1, "key_ops", ["sign"].into()), "not for verifying"),
        (
            key(1, "key_ops", serde_json::json!([])),
            "not for verifying",
        ),
        (key(0, "alg", "RS512".into()), "another alg than RS256"),
        (key(0, "alg", "PS256".into()), "another alg than RS256"),
        (key(0, "alg", "HS256".into()), "another alg than RS256"),
        (key(0, "alg", "RSA-OAEP".into()), "another alg than RS256"),
        (key(1, "alg", "ES384".into()), "another alg than ES256"),
        (key(2, "alg", "XYZ".into()), "another alg than EdDSA"),
        (key(2, "alg", "Ed448".into()), "another alg than EdDSA"),
        (key(1, "alg", "Ed25519".into()), "another alg than ES256"),
        (
            key(1, "crv", "P-384".into()),
            "of a kind that is not supported",
        ),
        (
            key(1, "crv", "secp256k1".into()),
            "of a kind that is not supported",
        ),
        (
            key(2, "crv", "Ed448".into()),
            "of a kind that is not supported",
        ),
        (
            key(2, "crv", "X25519".into()),
            "of a kind that is not supported",
        ),
        (
            key(0, "kty", "AKP".into()),
            "of a kind that is not supported",
        ),
        (key(0, "n", "AQAB".into()), "RSA key of 17 bits"),
        (key(0, "e", "AQ".into()), "unsafe exponent"),
        (key(0, "e", "AAAA".into()), "unsafe exponent"),
        (key(0, "e", "AQAC".into()), "unsafe exponent"),
        (key(0, "e", "____________".into()), "unsafe exponent"),
        (key(0, "n", "*".into()), "no base64url"),
        (key(1, "x", x.into()), "is damaged"),
        (key(1, "x", "AA".into()), "is damaged"),
        (key(2, "x", "AAAA".into()), "is damaged"),
        (
            key(2, "x", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into()),
            "is damaged",
        ),
        (serde_json::json!({}), "of a kind that is not supported"),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("set");
    for (other, expected) in unsupported {
        let set = serde_json::json!({"keys": [other, set["keys"][2]]});
        fs::write(&path, set.to_string()).unwrap();
        let loaded = TokenKeys::load(std::slice::from_ref(&path), None)
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((loaded.keys.count(), loaded.notes.len()), (1, 1), "{other}");
        let note = &loaded.notes[0];
        assert!(
            note.contains("key 1 of the set is skipped") && note.contains(expected),
            "{note}"
        );
        let alone = serde_json::json!({ "keys": [other] });
        assert!(problem(alone.to_string().as_bytes()).contains(expected));
    }
    for agreed in [
        key(0, "alg", "RS256".into()),
        key(1, "alg", "ES256".into()),
        key(2, "alg", "EdDSA".into()),
        key(2, "alg", "Ed25519".into()),
        key(2, "use", "sig".into()),
        key(1, "key_ops", ["verify", "sign"].into()),
    ] {
        let set = serde_json::json!({ "keys": [agreed] });
        assert_eq!(
            TokenKeys::parse(set.to_string().as_bytes(), None)
                .unwrap()
                .count(),
            1
        );
    }
}

fn load(paths: &[&Path]) -> Result<usize, String> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    let loaded = TokenKeys::load(&paths, None).map_err(|error| error.to_string())?;
    Ok(loaded.keys.count())
}

#[test]
fn a_key_in_two_files_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let (pem, set) = (write("pem", RS256), write("set", SET));
    assert_eq!(load(&[&pem]), Ok(1));
    assert_eq!(load(&[&set, &pem, &pem]), Ok(3));
}

#[test]
fn the_number_of_keys_is_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let set = |keys: usize, has_kid: bool| {
        use base64::Engine;
        let key = |index: usize| {
            let mut secret = [5; 32];
            secret[0] = index as u8;
            let k = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(secret);
            let kid = if has_kid {
                format!(",\"kid\":\"{index}\"")
            } else {
                String::new()
            };
            format!("{{\"kty\":\"oct\",\"k\":\"{k}\"{kid}}}")
        };
        let keys: Vec<String> = (0..keys).map(key).collect();
        let path = directory.path().join("set");
        fs::write(&path, format!("{{\"keys\":[{}]}}", keys.join(","))).unwrap();
        load(&[&path])
    };
    assert_eq!(set(64, true), Ok(64));
    let problem = set(65, true).unwrap_err();
    assert!(
        problem.starts_with("--token-key has 65 keys in all files; 64"),
        "{problem}"
    );
    assert_eq!(set(TOKEN_KEYS_TRIED_MAX, false), Ok(TOKEN_KEYS_TRIED_MAX));
    let problem = set(TOKEN_KEYS_TRIED_MAX + 1, false).unwrap_err();
    assert!(
        problem.contains("17 keys of one algorithm") && problem.contains("kids"),
        "{problem}"
    );
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success());
    for path in [
        directory.path(),
        &pipe,
        Path::new("/dev/zero"),
        Path::new("/dev/null"),
    ] {
        let problem = load(&[path]).unwrap_err();
        let expected = format!("--token-key {} is not a regular file", path.display());
        assert_eq!(problem, expected);
    }
    let missing = load(&[&directory.path().join("missing")]).unwrap_err();
    assert!(
        missing.contains("cannot be read: No such file"),
        "{missing}"
    );
}

#[test]
fn a_key_in_place_of_a_path_is_not_shown() {
    for key in [
        "0123456789abcdef0123456789abcdef",
        RS256,
        SET,
        &"0123456789".repeat(1000),
    ] {
        let problem = load(&[Path::new(key)]).unwrap_err();
        assert!(
            problem.starts_with("--token-key cannot be read: "),
            "{problem}"
        );
        assert!(
            problem.ends_with("it takes the path of a file, not the key itself"),
            "{problem}"
        );
        assert!(
            !problem.contains("0123456789") && !problem.contains("BEGIN"),
            "{problem}"
        );
    }
}

#[test]
fn a_file_that_others_can_read_or_change_has_a_note() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    for (content, mode, expected) in [
        (TOKEN_SECRET, 0o600, None),
        (TOKEN_SECRET, 0o640, None),
        (TOKEN_SECRET, 0o644, Some("can read it")),
        (TOKEN_SECRET, 0o602, Some("can change it")),
        (TOKEN_SECRET, 0o666, Some("can change it")),
        (RS256.as_bytes(), 0o644, None),
        (RS256.as_bytes(), 0o646, Some("can change it")),
        (
            b"a secret of one line and\nanother one",
            0o600,
            Some("has several lines"),
        ),
    ] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let notes = TokenKeys::load(std::slice::from_ref(&path), None)
            .unwrap()
            .notes;
        assert_eq!(notes.len(), usize::from(expected.is_some()), "{mode:o}");
        let place = format!("--token-key {}: ", path.display());
        let note = notes.first().map_or("", |note| &note[place.len()..]);
        assert!(note.contains(expected.unwrap_or_default()), "{note}");
    }
}
