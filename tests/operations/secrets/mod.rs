//! No text shows a secret: marked secrets are used in every place, and all output is searched for them.
//!
//! The secrets are those of webhooks and of KV, the passwords of a proxy and in a URL, and the bytes of a TLS
//! key. Contents of requests are in `logs`.

mod commands;
mod server;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::peer::{Peer, respond};

/// Part of every secret here. Its letters occur in no other text of the program.
const MARK: &str = "qZxJw";

const WEBHOOK_SECRET: &str = "wh-qZxJw/4711+\"abc\\def&g";
const TOKEN: &str = "qZxJwTokenOfFortyCharacters_0123456789-x";
const PASSWORD: &str = "pw-qZxJw@0815";

fn percent(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    bytes.concat()
}

/// Every form in which a server may echo a secret.
fn spellings(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap();
    vec![
        secret.to_owned(),
        secret.to_lowercase(),
        percent(secret),
        percent(secret).to_lowercase(),
        json[1..json.len() - 1].to_owned(),
        STANDARD.encode(secret),
        STANDARD.encode(format!("user:{secret}")),
        STANDARD.encode(format!("x:{secret}")),
        secret.replace('&', "&amp;").replace('"', "&quot;"),
    ]
}

/// Checks that a text shows no part of a secret, or of the places where it was.
#[track_caller]
fn shows_nothing(text: &str) {
    let lower = text.to_lowercase();
    for secret in [WEBHOOK_SECRET, TOKEN, PASSWORD] {
        for spelling in spellings(secret) {
            for part in [&spelling[..6], &spelling[spelling.len() - 8..]] {
                assert!(!lower.contains(&part.to_lowercase()), "{part} in {text}");
            }
        }
    }
    assert!(!lower.contains(&MARK.to_lowercase()), "{text}");
    let is_plain =
        |c: char| c == '\n' || !(c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c));
    assert!(text.chars().all(is_plain), "{text:?}");
}

/// Checks that a text shows no part of a PEM file, as characters or as numbers.
#[track_caller]
fn shows_nothing_of(pem: &str, text: &str) {
    let body: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    for line in body {
        for at in 0..line.len().saturating_sub(8) {
            let part = &line[at..at + 8];
            assert!(!text.contains(part), "{part} in {text}");
            let numbers: Vec<String> = part.bytes().map(|byte| byte.to_string()).collect();
            assert!(
                !text.contains(&numbers[..3].join(", ")),
                "{numbers:?} in {text}"
            );
        }
    }
    assert!(!text.contains("45, 45, 45"), "hyphens as numbers in {text}");
}

const ACCOUNT: &str = "0123456789abcdef0123456789abcdef";

fn kv<'a>(token: &'a str, endpoint: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("CLOUDFLARE_ACCOUNT_ID", ACCOUNT),
        ("CLOUDFLARE_API_TOKEN", token),
        ("WEBHOOK_KV", ACCOUNT),
        ("HOOKCAST_KV_ENDPOINT", endpoint),
    ]
}

/// A KV whose error message quotes a text.
fn kv_that_quotes(text: &str) -> Peer {
    let message = serde_json::to_string(text).unwrap();
    let body = format!(r#"{{"success":false,"errors":[{{"code":10000,"message":{message}}}]}}"#);
    Peer::start(move |_, connection| respond(connection, "403 Forbidden", "", &body))
}

/// A key in each form that has lost its line breaks.
fn broken(key: &str) -> [String; 6] {
    let lines: Vec<&str> = key.lines().collect();
    let body = lines[1..lines.len() - 1].concat();
    [
        key.replace('\n', "\\n"),
        key.replace('\n', " "),
        key.replace('\n', ""),
        key.replacen("-----\n", "-----\\n", 1),
        format!("-----BEGIN {body}-----\n{}", lines[1]),
        STANDARD.encode(key),
    ]
}
