//! Discord: an Ed25519 signature over the time and the body, with nothing between.
//!
//! Discord sends false signatures on purpose, and removes an address that does not answer them with 401.

use crate::message;

use super::super::{Incoming, Refusal};
use super::key::Key;
use super::standard::public_key_that_fits;
use super::tag::Encoding;
use super::{Verified, once, window};

const TAG: &str = "X-Signature-Ed25519";
const TIME: &str = "X-Signature-Timestamp";

/// Discord's signature.
#[derive(Debug, Clone)]
pub struct Discord {
    /// How far the time may be from this server's clock.
    pub tolerance_s: u32,
}

impl Discord {
    pub(super) fn verify(
        &self,
        keys: &[Key],
        incoming: &Incoming<'_>,
        now_unix_ms: u64,
    ) -> Result<Verified, Refusal> {
        let tag = once(incoming, TAG)?.ok_or_else(|| Refusal::TagMissing(TAG.to_owned()))?;
        let time = once(incoming, TIME)?.ok_or_else(|| Refusal::TimeMissing(TIME.to_owned()))?;
        let signature = Encoding::Hex
            .decode(tag)
            .filter(|signature| signature.len() == 64)
            .ok_or_else(|| Refusal::TagMalformed(TAG.to_owned()))?;
        let skew_s = window::check(time, TIME, now_unix_ms, self.tolerance_s)?;
        let parts = [time, incoming.body];
        let key = public_key_that_fits(keys, &parts, &[signature])
            .ok_or_else(|| Refusal::TagMismatch(TAG.to_owned()))?;
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
