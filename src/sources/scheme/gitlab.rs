//! GitLab: Standard Webhooks since version 19, and before that a token, which is sent.
//!
//! The secret decides: one that begins with `whsec_` signs. With secrets of both kinds a request without
//! a signature passes by its token, so that a hook can be moved from one to the other.

use super::super::{Incoming, Refusal};
use super::Verified;
use super::key::Key;
use super::standard::Standard;
use super::token::Token;

/// GitLab's two ways.
#[derive(Debug, Clone)]
pub struct Gitlab {
    /// The signature.
    pub standard: Standard,
    /// The token.
    pub token: Token,
}

impl Gitlab {
    pub(super) fn verify(
        &self,
        keys: &[Key],
        incoming: &Incoming<'_>,
        id: Option<String>,
        now_unix_ms: u64,
    ) -> Result<Verified, Refusal> {
        let can_sign = keys.iter().any(|key| key.mac().is_some());
        let can_send = keys.iter().any(|key| key.mac().is_none());
        if can_sign && (Standard::is_signed(incoming) || !can_send) {
            return self.standard.verify(keys, incoming, now_unix_ms);
        }
        self.token.verify(keys, incoming, id)
    }
}
