//! Proves requests, as each provider does: a second view of the schemes, from the providers' manuals.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::signature::Ed25519KeyPair;

use crate::sources_at_hand::{PRIVATE_KEY, STANDARD_SECRET, TEXT_SECRET};

/// The time of all requests.
pub const NOW_S: u64 = 1_776_000_000;

/// What was added to a request.
pub struct Signed {
    /// The signatures, as they stand in the fields.
    pub tags: Vec<String>,
}

/// Whether the provider sends the secret itself.
pub fn sends_its_secret(preset: &str) -> bool {
    matches!(
        preset,
        "gitlab"
            | "telegram"
            | "cloudflare"
            | "alertmanager"
            | "uptime-kuma"
            | "eventgrid"
            | "cloudevents"
            | "token"
    )
}

/// Adds a right proof. Fields of the same names are removed, since two would be refused.
pub fn sign(
    preset: &str,
    lines: &mut Vec<Vec<u8>>,
    query: &mut Option<String>,
    body: &[u8],
) -> Signed {
    let time = NOW_S.to_string();
    let hex_of = |parts: &[&[u8]]| hex(&mac(hmac::HMAC_SHA256, TEXT_SECRET.as_bytes(), parts));
    let plain = hex_of(&[body]);
    let (fields, tag): (Vec<(&str, String)>, String) = match preset {
        "github" => (
            vec![("X-Hub-Signature-256", format!("sha256={plain}"))],
            plain,
        ),
        "gitea" => (vec![("X-Gitea-Signature", plain.clone())], plain),
        "forgejo" => (vec![("X-Forgejo-Signature", plain.clone())], plain),
        "gogs" => (vec![("X-Gogs-Signature", plain.clone())], plain),
        "bitbucket" => (vec![("X-Hub-Signature", format!("sha256={plain}"))], plain),
        "linear" => (vec![("Linear-Signature", plain.clone())], plain),
        "sentry" => (vec![("Sentry-Hook-Signature", plain.clone())], plain),
        "grafana" => (vec![("X-Grafana-Alerting-Signature", plain.clone())], plain),
        "pagerduty" => (
            vec![("X-PagerDuty-Signature", format!("v0=00, v1={plain}"))],
            plain,
        ),
        "shopify" => {
            let tag = base64_of(&mac(hmac::HMAC_SHA256, TEXT_SECRET.as_bytes(), &[body]));
            (vec![("X-Shopify-Hmac-Sha256", tag.clone())], tag)
        }
        "standard" => {
            let parts: [&[u8]; 4] = [b"msg_1.", time.as_bytes(), b".", body];
            let tag = base64_of(&mac(hmac::HMAC_SHA256, STANDARD_SECRET, &parts));
            let fields = vec![
                ("webhook-id", "msg_1".to_owned()),
                ("webhook-timestamp", time),
                ("webhook-signature", format!("v1,{tag}")),
            ];
            (fields, tag)
        }
        "stripe" => {
            let tag = hex_of(&[time.as_bytes(), b".", body]);
            (
                vec![("Stripe-Signature", format!("t={time},v1={tag}"))],
                tag,
            )
        }
        "slack" | "zoom" => {
            let (tag_name, time_name) = match preset {
                "slack" => ("X-Slack-Signature", "X-Slack-Request-Timestamp"),
                _ => ("x-zm-signature", "x-zm-request-timestamp"),
            };
            let tag = hex_of(&[b"v0:", time.as_bytes(), b":", body]);
            (
                vec![(tag_name, format!("v0={tag}")), (time_name, time)],
                tag,
            )
        }
        "discord" => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&PRIVATE_KEY).expect("a key");
            let tag = hex(pair.sign(&[time.as_bytes(), body].concat()).as_ref());
            let fields = vec![
                ("X-Signature-Ed25519", tag.clone()),
                ("X-Signature-Timestamp", time),
            ];
            (fields, tag)
        }
        "hmac" => {
            let parts: [&[u8]; 3] = [time.as_bytes(), b".7.", body];
            let tag = base64_of(&mac(hmac::HMAC_SHA512, TEXT_SECRET.as_bytes(), &parts));
            let fields = vec![
                ("X-Sum", format!("s={tag}")),
                ("X-Time", time),
                ("X-Id", "7".to_owned()),
            ];
            (fields, tag)
        }
        _ => {
            let secret = TEXT_SECRET.to_owned();
            let field = match preset {
                "gitlab" => ("X-Gitlab-Token", secret.clone()),
                "telegram" => ("X-Telegram-Bot-Api-Secret-Token", secret.clone()),
                "cloudflare" => ("cf-webhook-auth", secret.clone()),
                "token" => ("Authorization", basic(&secret)),
                _ => ("Authorization", format!("Bearer {secret}")),
            };
            if query
                .as_ref()
                .is_some_and(|query| query.contains("secret=") || query.contains("access_token="))
            {
                *query = None;
            }
            (vec![field], secret)
        }
    };
    for (name, value) in &fields {
        lines.retain(|line| !has_name(line, name));
        lines.push(format!("{name}: {value}").into_bytes());
    }
    Signed { tags: vec![tag] }
}

/// The value of `Authorization` with a secret as the password.
pub fn basic(secret: &str) -> String {
    format!("Basic {}", base64_of(format!("u:{secret}").as_bytes()))
}

fn has_name(line: &[u8], name: &str) -> bool {
    let end = line
        .iter()
        .position(|&byte| byte == b':')
        .unwrap_or(line.len());
    line[..end]
        .trim_ascii()
        .eq_ignore_ascii_case(name.as_bytes())
}

fn mac(algorithm: hmac::Algorithm, secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, secret));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

fn base64_of(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let digits = b"0123456789abcdef";
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves
        .map(|half| char::from(digits[usize::from(half)]))
        .collect()
}
