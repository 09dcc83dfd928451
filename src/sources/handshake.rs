//! Requests that prove an address, and their answers.
//!
//! Called through a preset, after the request has been verified: a challenge with a false tag gets a 401
//! like any other request. `OPTIONS` of `CloudEvents` is the exception, since it carries no proof.

use ring::hmac;
use serde_json::{Value, json};

use crate::limits::CHALLENGE_BYTES_MAX;

use super::event::{field, text};
use super::scheme::hex;
use super::{Fields, Incoming, Key, Reply, Verified};

/// No handshake.
pub(super) fn none(
    _keys: &[Key],
    _verified: &Verified,
    _incoming: &Incoming<'_>,
    _body: &Value,
) -> Option<Reply> {
    None
}

/// Slack reads its challenge as plain text.
pub(super) fn slack(
    _keys: &[Key],
    _verified: &Verified,
    _incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Reply> {
    let is_challenge = text(body, "/type") == Some("url_verification");
    let challenge = challenge(body, "/challenge").filter(|_| is_challenge)?;
    Some(Reply::text(challenge.as_bytes().to_vec()))
}

/// Discord's pings, of interactions and of events. Autocompletion is answered with no choices: it waits
/// for an answer, and is nothing to publish.
pub(super) fn discord(
    _keys: &[Key],
    _verified: &Verified,
    _incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Reply> {
    let is_event = body.get("event").is_some();
    match body.get("type")?.as_u64()? {
        0 => Some(Reply {
            content_type: Some("application/json"),
            ..Reply::empty(204)
        }),
        1 if !is_event => Some(Reply::json(br#"{"type":1}"#.to_vec())),
        4 if !is_event => Some(Reply::json(br#"{"type":8,"data":{"choices":[]}}"#.to_vec())),
        _ => None,
    }
}

/// Zoom wants its token back, with a keyed hash of it under the secret that fits.
pub(super) fn zoom(
    keys: &[Key],
    verified: &Verified,
    _incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Reply> {
    let is_challenge = text(body, "/event") == Some("endpoint.url_validation");
    let token = challenge(body, "/payload/plainToken").filter(|_| is_challenge)?;
    let key = keys.get(verified.key?)?.mac()?;
    let encrypted = hex(hmac::sign(key, token.as_bytes()).as_ref());
    let answer = json!({ "plainToken": token, "encryptedToken": encrypted });
    Some(Reply::json(answer.to_string().into_bytes()))
}

/// Event Grid wants a code back, in an answer with status 200.
pub(super) fn event_grid(
    _keys: &[Key],
    _verified: &Verified,
    incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Reply> {
    let kind = field(incoming, &["aeg-event-type"]).unwrap_or("");
    let is_challenge = kind.eq_ignore_ascii_case("SubscriptionValidation")
        || text(body, "/0/eventType") == Some("Microsoft.EventGrid.SubscriptionValidationEvent");
    let code = challenge(body, "/0/data/validationCode").filter(|_| is_challenge)?;
    let answer = json!({ "validationResponse": code });
    Some(Reply::json(answer.to_string().into_bytes()))
}

fn challenge<'a>(body: &'a Value, pointer: &str) -> Option<&'a str> {
    text(body, pointer).filter(|text| text.len() <= CHALLENGE_BYTES_MAX)
}

/// The answer to a sender of `CloudEvents` that asks whether it may deliver. `None`: the request is a
/// preflight of CORS.
pub(super) fn permission(fields: &Fields<'_>) -> Option<Reply> {
    let origin = fields.get_once("WebHook-Request-Origin").ok()??;
    let is_plain = !origin.is_empty()
        && origin.len() <= CHALLENGE_BYTES_MAX
        && origin.iter().all(u8::is_ascii_graphic);
    let origin = std::str::from_utf8(origin).ok().filter(|_| is_plain)?;
    Some(Reply {
        fields: vec![
            ("WebHook-Allowed-Origin", origin.to_owned()),
            ("WebHook-Allowed-Rate", "*".to_owned()),
            ("Allow", "POST".to_owned()),
        ],
        ..Reply::empty(200)
    })
}
