//! The table of presets.

use serde_json::Value;

use crate::limits::{CLOCK_TOLERANCE_S, LINEAR_TOLERANCE_S};

use super::super::scheme::{
    Discord, Encoding, Gitlab, Hmac, KeyForm, Part, Proof, Scheme, Standard, Stripe, TagField,
    Time, Token,
};
use super::super::{Success, event, handshake, identity, shopify};
use super::Preset;

const MINUTE_S: u32 = 60;
const HOUR_S: u32 = 60 * MINUTE_S;
const DAY_S: u32 = 24 * HOUR_S;

/// What most presets have in common.
const BASE: Preset = Preset {
    name: "",
    title: "",
    dedupe_s: 3 * DAY_S,
    scheme: token,
    takes: &[],
    event: event::generic,
    id: identity::of_fields,
    is_id_signed: false,
    batch: |_| &[],
    variant: |_, _| "",
    repeats_itself: false,
    handshake: handshake::none,
    asks_permission: false,
    success: |_| Success::Receipt,
};

pub(super) static PRESETS: [Preset; 24] = [
    Preset {
        name: "github",
        title: "GitHub",
        scheme: || {
            let hmac = Hmac::of_body("X-Hub-Signature-256", "sha256=");
            Scheme::with_id(Proof::Hmac(hmac), &["X-GitHub-Delivery"])
        },
        event: event::github,
        ..BASE
    },
    Preset {
        name: "gitlab",
        title: "GitLab",
        dedupe_s: 76 * HOUR_S,
        scheme: gitlab,
        takes: &["tolerance"],
        event: event::gitlab,
        ..BASE
    },
    Preset {
        name: "gitea",
        title: "Gitea",
        scheme: || gitea("X-Gitea-Signature"),
        event: event::gitea,
        ..BASE
    },
    Preset {
        name: "forgejo",
        title: "Forgejo",
        scheme: || gitea("X-Forgejo-Signature"),
        event: event::gitea,
        ..BASE
    },
    Preset {
        name: "gogs",
        title: "Gogs",
        scheme: || gitea("X-Gogs-Signature"),
        event: event::gitea,
        ..BASE
    },
    Preset {
        name: "bitbucket",
        title: "Bitbucket",
        scheme: || {
            let hmac = Hmac::of_body("X-Hub-Signature", "sha256=");
            Scheme::with_id(Proof::Hmac(hmac), &["X-Request-UUID", "X-Request-Id"])
        },
        event: event::bitbucket,
        ..BASE
    },
    Preset {
        name: "standard",
        title: "Standard Webhooks",
        dedupe_s: 76 * HOUR_S,
        scheme: || Scheme::of(Proof::Standard(STANDARD)),
        takes: &["key", "tolerance"],
        event: event::of_type,
        ..BASE
    },
    Preset {
        name: "stripe",
        title: "Stripe",
        dedupe_s: 76 * HOUR_S,
        scheme: || {
            let tolerance_s = CLOCK_TOLERANCE_S;
            Scheme::of(Proof::Stripe(Stripe { tolerance_s }))
        },
        takes: &["tolerance"],
        event: event::of_type,
        id: identity::of_id,
        is_id_signed: true,
        ..BASE
    },
    Preset {
        name: "slack",
        title: "Slack",
        dedupe_s: 15 * MINUTE_S,
        scheme: || {
            let (tag, time) = ("X-Slack-Signature", "X-Slack-Request-Timestamp");
            Scheme::of(Proof::Hmac(versioned(tag, time)))
        },
        takes: &["tolerance"],
        event: event::slack,
        id: identity::slack,
        is_id_signed: true,
        handshake: handshake::slack,
        // Slack shows the body of an answer to a command to its user.
        success: |_| Success::Empty,
        ..BASE
    },
    Preset {
        name: "shopify",
        title: "Shopify",
        scheme: signed_by_shopify,
        event: shopify::event,
        variant: shopify::variant,
        ..BASE
    },
    Preset {
        name: "discord",
        title: "Discord",
        dedupe_s: 15 * MINUTE_S,
        scheme: || {
            let tolerance_s = CLOCK_TOLERANCE_S;
            Scheme::of(Proof::Discord(Discord { tolerance_s }))
        },
        takes: &["tolerance"],
        event: event::discord,
        id: identity::discord,
        is_id_signed: true,
        handshake: handshake::discord,
        success: |body| match (body.get("event"), body.get("type").and_then(Value::as_u64)) {
            (Some(_), _) => Success::NoContent,
            // Of a component, such as a button.
            (None, Some(3)) => Success::Unchanged,
            (None, _) => Success::Noted,
        },
        ..BASE
    },
    Preset {
        name: "linear",
        title: "Linear",
        dedupe_s: 8 * HOUR_S,
        scheme: || {
            let hmac = Hmac {
                time: Time::Member {
                    tolerance_s: LINEAR_TOLERANCE_S,
                },
                ..Hmac::of_body("Linear-Signature", "")
            };
            Scheme::with_id(Proof::Hmac(hmac), &["Linear-Delivery"])
        },
        takes: &["tolerance"],
        event: event::linear,
        ..BASE
    },
    Preset {
        name: "sentry",
        title: "Sentry",
        scheme: || {
            let mut hmac = Hmac::of_body("Sentry-Hook-Signature", "");
            hmac.tags.push(tag_field("Sentry-App-Signature", ""));
            Scheme::with_id(Proof::Hmac(hmac), &["Request-ID"])
        },
        event: event::sentry,
        ..BASE
    },
    Preset {
        name: "pagerduty",
        title: "PagerDuty",
        scheme: || {
            let hmac = Hmac {
                is_list: true,
                ..Hmac::of_body("X-PagerDuty-Signature", "v1=")
            };
            Scheme::with_id(Proof::Hmac(hmac), &["X-Webhook-Id"])
        },
        event: event::pagerduty,
        id: identity::pagerduty,
        ..BASE
    },
    Preset {
        name: "zoom",
        title: "Zoom",
        dedupe_s: 2 * HOUR_S,
        scheme: || {
            let (tag, time) = ("x-zm-signature", "x-zm-request-timestamp");
            Scheme::of(Proof::Hmac(versioned(tag, time)))
        },
        takes: &["tolerance"],
        event: event::zoom,
        id: identity::of_bytes,
        is_id_signed: true,
        handshake: handshake::zoom,
        success: |_| Success::Empty,
        ..BASE
    },
    Preset {
        name: "grafana",
        title: "Grafana",
        dedupe_s: 15 * MINUTE_S,
        scheme: || {
            let hmac = Hmac::of_body("X-Grafana-Alerting-Signature", "");
            Scheme::of(Proof::Hmac(hmac))
        },
        takes: &["header", "timestamp_header", "tolerance"],
        event: event::of_status,
        repeats_itself: true,
        ..BASE
    },
    Preset {
        name: "telegram",
        title: "Telegram",
        dedupe_s: DAY_S,
        scheme: || sent_in("X-Telegram-Bot-Api-Secret-Token"),
        event: event::telegram,
        id: identity::telegram,
        // Telegram executes a JSON answer that names a method.
        success: |_| Success::Empty,
        ..BASE
    },
    Preset {
        name: "cloudflare",
        title: "Cloudflare",
        scheme: || sent_in("cf-webhook-auth"),
        event: event::cloudflare,
        repeats_itself: true,
        ..BASE
    },
    Preset {
        name: "alertmanager",
        title: "Alertmanager",
        scheme: || sent_in("Authorization"),
        takes: &["header", "query"],
        event: event::of_status,
        repeats_itself: true,
        ..BASE
    },
    Preset {
        name: "uptime-kuma",
        title: "Uptime Kuma",
        scheme: || sent_in("Authorization"),
        takes: &["header", "query"],
        event: event::uptime_kuma,
        repeats_itself: true,
        ..BASE
    },
    Preset {
        name: "eventgrid",
        title: "Azure Event Grid",
        dedupe_s: 25 * HOUR_S,
        scheme: cloud_events,
        takes: &["header", "query"],
        event: event::event_grid,
        batch: event::batch,
        id: identity::cloud_events,
        handshake: handshake::event_grid,
        asks_permission: true,
        ..BASE
    },
    Preset {
        name: "cloudevents",
        title: "CloudEvents",
        dedupe_s: 25 * HOUR_S,
        scheme: cloud_events,
        takes: &["header", "query"],
        event: event::cloud_events,
        batch: event::batch,
        id: identity::cloud_events,
        asks_permission: true,
        ..BASE
    },
    Preset {
        name: "hmac",
        title: "Webhook",
        dedupe_s: DAY_S,
        scheme: || {
            let hmac = Hmac {
                tags: Vec::new(),
                ..Hmac::of_body("", "")
            };
            Scheme::with_id(Proof::Hmac(hmac), &["Idempotency-Key"])
        },
        takes: &[
            "header",
            "prefix",
            "algorithm",
            "encoding",
            "key",
            "signed",
            "timestamp_header",
            "tolerance",
            "id_header",
        ],
        ..BASE
    },
    Preset {
        name: "token",
        title: "Webhook",
        dedupe_s: DAY_S,
        scheme: token,
        takes: &["header", "query", "id_header"],
        ..BASE
    },
];

const STANDARD: Standard = Standard {
    key: KeyForm::Standard,
    tolerance_s: CLOCK_TOLERANCE_S,
};

fn tag_field(name: &str, prefix: &str) -> TagField {
    TagField {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    }
}

fn sent_in(field: &str) -> Scheme {
    Scheme::of(Proof::Token(Token::in_field(field)))
}

fn token() -> Scheme {
    let token = Token::in_field("Authorization");
    Scheme::with_id(Proof::Token(token), &["Idempotency-Key"])
}

fn gitlab() -> Scheme {
    let gitlab = Gitlab {
        standard: STANDARD,
        token: Token::in_field("X-Gitlab-Token"),
    };
    Scheme::with_id(Proof::Gitlab(gitlab), &["webhook-id", "Idempotency-Key"])
}

/// Gitea and its relatives send all of these fields; the own one is looked at first.
fn gitea(own: &str) -> Scheme {
    let mut hmac = Hmac::of_body(own, "");
    for name in [
        "X-Gitea-Signature",
        "X-Forgejo-Signature",
        "X-Gogs-Signature",
    ] {
        if name != own {
            hmac.tags.push(tag_field(name, ""));
        }
    }
    hmac.tags.push(tag_field("X-Hub-Signature-256", "sha256="));
    hmac.signs_form_payload = true;
    let ids = [
        "X-Gitea-Delivery",
        "X-Forgejo-Delivery",
        "X-Gogs-Delivery",
        "X-GitHub-Delivery",
    ];
    Scheme::with_id(Proof::Hmac(hmac), &ids)
}

/// `v0=` and the tag of `v0:{timestamp}:{body}`: Slack and Zoom.
fn versioned(tag: &str, time: &str) -> Hmac {
    let text = |text: &str| Part::Text(text.to_owned());
    Hmac {
        signed: vec![text("v0:"), Part::Time, text(":"), Part::Body],
        time: Time::Field {
            name: time.to_owned(),
            tolerance_s: CLOCK_TOLERANCE_S,
        },
        ..Hmac::of_body(tag, "v0=")
    }
}

/// The older names begin with `X-`.
fn signed_by_shopify() -> Scheme {
    let mut hmac = Hmac {
        encoding: Encoding::Base64,
        ..Hmac::of_body("X-Shopify-Hmac-Sha256", "")
    };
    hmac.tags.push(tag_field("Shopify-Hmac-Sha256", ""));
    Scheme::with_id(
        Proof::Hmac(hmac),
        &["X-Shopify-Webhook-Id", "Shopify-Webhook-Id"],
    )
}

/// The specification names both places.
fn cloud_events() -> Scheme {
    let token = Token {
        query: Some("access_token".to_owned()),
        ..Token::in_field("Authorization")
    };
    Scheme::with_id(Proof::Token(token), &["ce-id"])
}
