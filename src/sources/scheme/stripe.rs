//! Stripe: one field with a time and tags, `t=1614265330,v1=…,v1=…`.

use crate::limits::SIGNATURES_MAX;

use crate::message;

use super::super::{Incoming, Refusal};
use super::key::Key;
use super::tag::{Encoding, key_that_fits};
use super::{Verified, once, window};

const FIELD: &str = "Stripe-Signature";

/// Stripe's signature.
#[derive(Debug, Clone)]
pub struct Stripe {
    /// How far the time may be from this server's clock. Stripe's libraries refuse only old requests;
    /// here the future is bounded, too.
    pub tolerance_s: u32,
}

impl Stripe {
    pub(super) fn verify(
        &self,
        keys: &[Key],
        incoming: &Incoming<'_>,
        now_unix_ms: u64,
    ) -> Result<Verified, Refusal> {
        let missing = || Refusal::TagMissing(FIELD.to_owned());
        let value = once(incoming, FIELD)?.ok_or_else(missing)?;
        let time = time_of(value)?;
        let tags = tags_of(value)?;
        let skew_s = window::check(time, FIELD, now_unix_ms, self.tolerance_s)?;
        let parts: [&[u8]; 3] = [time, b".", incoming.body];
        let key = key_that_fits(keys, &parts, &tags)
            .ok_or_else(|| Refusal::TagMismatch(FIELD.to_owned()))?;
        Ok(Verified {
            tag: Some(message::fingerprint(&parts)),
            id: None,
            payload: None,
            key: Some(key),
            skew_s: Some(skew_s),
            tolerance_s: self.tolerance_s,
        })
    }
}

/// The values of `name=` in the field.
fn values<'a>(value: &'a [u8], name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    let items = value.split(|&byte| byte == b',');
    items.filter_map(move |item| item.trim_ascii().strip_prefix(name))
}

fn time_of(value: &[u8]) -> Result<&[u8], Refusal> {
    let mut times = values(value, b"t=");
    match (times.next(), times.next()) {
        (Some(time), None) => Ok(time),
        (None, _) => Err(Refusal::TimeMissing(FIELD.to_owned())),
        (Some(_), Some(_)) => Err(Refusal::Repeated(format!("t= in {FIELD}"))),
    }
}

/// `v0` is for Stripe's tests, and is not looked at.
fn tags_of(value: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let tags: Vec<_> = values(value, b"v1=")
        .filter_map(|text| Encoding::Hex.decode(text))
        .filter(|tag| tag.len() == 32)
        .take(SIGNATURES_MAX + 1)
        .collect();
    match tags.len() {
        0 => Err(Refusal::TagMalformed(FIELD.to_owned())),
        1..=SIGNATURES_MAX => Ok(tags),
        _ => Err(Refusal::TooManyTags(FIELD.to_owned())),
    }
}
