//! By what a repeat of a request is recognised.
//!
//! A provider gives all attempts of one delivery the same id. Where the id is not signed, a captured
//! request passes under a fresh one, so what is signed counts too. Called through a preset.

use serde_json::Value;

use crate::message::{self, Fingerprint, Identity};

use super::event::{field, text};
use super::{Incoming, Verified};

/// The identity of a request to `source`. `None` if nothing makes it known.
pub(super) fn of(
    source: &str,
    id: Option<&[u8]>,
    tag: Option<Fingerprint>,
    window_s: u32,
) -> Option<Identity> {
    let identity = Identity {
        id: id.map(|id| fingerprint(&[b"id", source.as_bytes(), id])),
        tag: tag.map(|tag| fingerprint(&[b"tag", source.as_bytes(), &tag])),
        body: None,
        window_s,
    };
    (identity.id.is_some() || identity.tag.is_some()).then_some(identity)
}

/// Parts with their lengths, so that no two lists of parts are the same bytes.
fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let lengths: Vec<[u8; 8]> = parts
        .iter()
        .map(|part| (part.len() as u64).to_be_bytes())
        .collect();
    let pairs = lengths.iter().zip(parts);
    let framed: Vec<&[u8]> = pairs
        .flat_map(|(length, part)| [&length[..], part])
        .collect();
    message::fingerprint(&framed)
}

/// The signed bytes of one of several events that share them.
pub(super) fn of_variant(tag: Fingerprint, variant: &str) -> Fingerprint {
    match variant {
        "" => tag,
        variant => fingerprint(&[b"variant", variant.as_bytes(), &tag]),
    }
}

/// The id in the scheme's own fields.
pub(super) fn of_fields(
    verified: &Verified,
    _incoming: &Incoming<'_>,
    _body: &Value,
) -> Option<Vec<u8>> {
    verified.id.clone().map(String::into_bytes)
}

/// Stripe's event.
pub(super) fn of_id(
    _verified: &Verified,
    _incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Vec<u8>> {
    text(body, "/id").map(|id| id.as_bytes().to_vec())
}

/// The event of `PagerDuty`; of a request that names none, its own id.
pub(super) fn pagerduty(
    verified: &Verified,
    incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Vec<u8>> {
    let id = text(body, "/event/id").map(|id| id.as_bytes().to_vec());
    id.or_else(|| of_fields(verified, incoming, body))
}

/// Slack's event. Commands and interactions have none, and are not retried.
pub(super) fn slack(
    _verified: &Verified,
    _incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Vec<u8>> {
    text(body, "/event_id").map(|id| id.as_bytes().to_vec())
}

/// Discord's interaction; the body of an event, which has no id but its own time.
pub(super) fn discord(
    verified: &Verified,
    incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Vec<u8>> {
    of_id(verified, incoming, body).or_else(|| of_bytes(verified, incoming, body))
}

/// The body: a new attempt has another signature, but the same body.
pub(super) fn of_bytes(
    _verified: &Verified,
    incoming: &Incoming<'_>,
    _body: &Value,
) -> Option<Vec<u8>> {
    let has_body = !incoming.body.is_empty();
    has_body.then(|| fingerprint(&[b"body", incoming.body]).to_vec())
}

/// Telegram's update.
pub(super) fn telegram(
    _verified: &Verified,
    _incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Vec<u8>> {
    let number = body.pointer("/update_id")?.as_u64()?;
    Some(number.to_string().into_bytes())
}

/// The ids of all events of a request, with their sources.
pub(super) fn cloud_events(
    verified: &Verified,
    incoming: &Incoming<'_>,
    body: &Value,
) -> Option<Vec<u8>> {
    if let Some(id) = &verified.id {
        let source = field(incoming, &["ce-source"]).unwrap_or("");
        return Some(fingerprint(&[b"event", source.as_bytes(), id.as_bytes()]).to_vec());
    }
    let events = match body {
        Value::Array(events) if !events.is_empty() => events.as_slice(),
        Value::Object(_) => std::slice::from_ref(body),
        _ => return None,
    };
    let mut parts: Vec<&[u8]> = vec![b"events"];
    for event in events {
        let source = text(event, "/source").or(text(event, "/topic"));
        parts.push(source.unwrap_or("").as_bytes());
        parts.push(text(event, "/id")?.as_bytes());
    }
    Some(fingerprint(&parts).to_vec())
}
