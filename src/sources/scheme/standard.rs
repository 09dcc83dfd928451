//! Standard Webhooks: an id, a time, and signatures `v1` (HMAC-SHA256) or `v1a` (Ed25519).
//!
//! Svix and its customers send the same under names with `svix-`.

use ring::signature::{ED25519, UnparsedPublicKey};

use crate::limits::{ED25519_SIGNATURES_MAX, SIGNATURES_MAX};

use crate::message;

use super::super::{Incoming, Refusal};
use super::key::{Key, KeyForm, Secret};
use super::tag::{Encoding, key_that_fits};
use super::{Verified, id_of, once, window};

/// Standard Webhooks.
#[derive(Debug, Clone)]
pub struct Standard {
    /// How the secret is written.
    pub key: KeyForm,
    /// How far the time may be from this server's clock.
    pub tolerance_s: u32,
}

/// The fields of a request, under one of the two families of names.
struct Names {
    id: &'static str,
    time: &'static str,
    tags: &'static str,
}

const WEBHOOK: Names = Names {
    id: "webhook-id",
    time: "webhook-timestamp",
    tags: "webhook-signature",
};

const SVIX: Names = Names {
    id: "svix-id",
    time: "svix-timestamp",
    tags: "svix-signature",
};

/// The family that a request uses.
fn names_of(incoming: &Incoming<'_>) -> &'static Names {
    let is_svix = incoming.fields.has(SVIX.tags) && !incoming.fields.has(WEBHOOK.tags);
    if is_svix { &SVIX } else { &WEBHOOK }
}

/// The id of a request that nothing verifies.
pub(super) fn unverified_id(incoming: &Incoming<'_>) -> Result<Option<String>, Refusal> {
    for names in [WEBHOOK, SVIX] {
        if let Some(id) = id_of(incoming, names.id)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The signatures of a request.
struct Tags {
    macs: Vec<Vec<u8>>,
    signatures: Vec<Vec<u8>>,
}

impl Standard {
    /// Whether a request carries a signature of this scheme.
    pub(super) fn is_signed(incoming: &Incoming<'_>) -> bool {
        incoming.fields.has(names_of(incoming).tags)
    }

    pub(super) fn verify(
        &self,
        keys: &[Key],
        incoming: &Incoming<'_>,
        now_unix_ms: u64,
    ) -> Result<Verified, Refusal> {
        let names = names_of(incoming);
        let missing = || Refusal::TagMissing(names.tags.to_owned());
        let tags = once(incoming, names.tags)?.ok_or_else(missing)?;
        let missing = || Refusal::IdMissing(names.id.to_owned());
        let id = id_of(incoming, names.id)?.ok_or_else(missing)?;
        let missing = || Refusal::TimeMissing(names.time.to_owned());
        let time = once(incoming, names.time)?.ok_or_else(missing)?;
        let tags = tags_of(tags, names)?;
        let skew_s = window::check(time, names.time, now_unix_ms, self.tolerance_s)?;

        let parts: [&[u8]; 5] = [id.as_bytes(), b".", time, b".", incoming.body];
        let key = key_that_fits(keys, &parts, &tags.macs)
            .or_else(|| public_key_that_fits(keys, &parts, &tags.signatures))
            .ok_or_else(|| Refusal::TagMismatch(names.tags.to_owned()))?;
        Ok(Verified {
            tag: Some(message::fingerprint(&parts)),
            id: Some(id),
            payload: None,
            key: Some(key),
            skew_s: Some(skew_s),
            tolerance_s: self.tolerance_s,
        })
    }
}

/// Signatures are separated by spaces. Those of other versions are left out.
fn tags_of(value: &[u8], names: &Names) -> Result<Tags, Refusal> {
    let of_version = |version: &[u8], bytes: usize| -> Vec<Vec<u8>> {
        let items = value.split(|&byte| byte == b' ');
        let texts = items.filter_map(|item| item.strip_prefix(version));
        let tags = texts.filter_map(|text| Encoding::Base64.decode(text));
        tags.filter(|tag| tag.len() == bytes)
            .take(SIGNATURES_MAX + 1)
            .collect()
    };
    let tags = Tags {
        macs: of_version(b"v1,", 32),
        signatures: of_version(b"v1a,", 64),
    };
    if tags.macs.is_empty() && tags.signatures.is_empty() {
        return Err(Refusal::TagMalformed(names.tags.to_owned()));
    }
    let is_within =
        tags.macs.len() <= SIGNATURES_MAX && tags.signatures.len() <= ED25519_SIGNATURES_MAX;
    if !is_within {
        return Err(Refusal::TooManyTags(names.tags.to_owned()));
    }
    Ok(tags)
}

/// The index of the first public key with which one of `signatures` fits the concatenation of `parts`.
pub(super) fn public_key_that_fits(
    keys: &[Key],
    parts: &[&[u8]],
    signatures: &[Vec<u8>],
) -> Option<usize> {
    let has_work = !signatures.is_empty() && keys.iter().any(|key| public(key).is_some());
    if !has_work {
        return None;
    }
    let message = parts.concat();
    keys.iter().position(|key| {
        let Some(key) = public(key) else { return false };
        let key = UnparsedPublicKey::new(&ED25519, key);
        let mut signatures = signatures.iter();
        signatures.any(|signature| key.verify(&message, signature).is_ok())
    })
}

fn public(key: &Key) -> Option<&[u8; 32]> {
    match &key.0 {
        Secret::Public(key) => Some(key),
        _ => None,
    }
}
