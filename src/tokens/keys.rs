//! The keys of a server, and the verification of a token with them.
//!
//! Called by `http` for each request with a token. Verification needs no lock, no clock and no I/O. Never says
//! which key has failed.

use jsonwebtoken::Algorithm;

use super::claims::Claims;
use super::header::{Header, Parts, decode};
use super::key::Key;
use super::{Grant, KeyMark, TokenFault};
use crate::limits::{TOKEN_KEYS_TRIED_MAX, TOKEN_RSA_KEYS_TRIED_MAX};

/// The most keys of an algorithm that are tried for one token.
fn tried_max(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::RS256 => TOKEN_RSA_KEYS_TRIED_MAX,
        _ => TOKEN_KEYS_TRIED_MAX,
    }
}

/// The keys that tokens may be signed with, and the audience that they must name.
#[derive(Default)]
pub struct TokenKeys {
    keys: Vec<Key>,
    audience: Option<Box<str>>,
}

impl TokenKeys {
    pub(super) fn new(keys: Vec<Key>, audience: Option<&str>) -> TokenKeys {
        let mut distinct: Vec<Key> = Vec::with_capacity(keys.len());
        for key in keys {
            let is_known = |other: &Key| other.mark == key.mark && other.kid == key.kid;
            if !distinct.iter().any(is_known) {
                distinct.push(key);
            }
        }
        TokenKeys {
            keys: distinct,
            audience: audience.map(Box::from),
        }
    }

    pub(super) fn into_keys(self) -> Vec<Key> {
        self.keys
    }

    /// Verifies a token at this time, in Unix milliseconds.
    pub fn verify(&self, token: &[u8], now_unix_ms: u64) -> Result<Grant, TokenFault> {
        if token.is_empty() {
            return Err(TokenFault::Empty);
        }
        let parts = Parts::split(token)?;
        let header = decode(parts.header).ok_or(TokenFault::Malformed)?;
        let header = Header::parse(&header)?;
        let signature = decode(parts.signature).ok_or(TokenFault::Malformed)?;
        let key = self.signer(&header, parts.message, &signature)?;
        let claims = decode(parts.payload).ok_or(TokenFault::Claims)?;
        Claims::parse(&claims)?.grant(key.mark, self.audience.as_deref(), now_unix_ms)
    }

    /// The key that has signed a message. Only keys for the token's algorithm are tried. If it names a `kid` that
    /// some keys have, those are tried, and the keys without a `kid`.
    fn signer(
        &self,
        header: &Header<'_>,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> Result<&Key, TokenFault> {
        let fitting = || self.keys.iter().filter(|key| key.is_for(&header.alg));
        if fitting().next().is_none() {
            return Err(TokenFault::Algorithm);
        }
        let named = header.kid.as_deref();
        let has_name = |key: &&Key| named.is_some() && key.kid.as_deref() == named;
        let is_known = fitting().any(|key| has_name(&key));
        let unnamed = fitting().filter(|key| key.kid.is_none());
        let others = fitting().filter(|key| key.kid.is_some() && !is_known);
        // The likely keys come first: what the bound leaves out must not depend on the order of the files.
        let likely = fitting().filter(has_name).chain(unnamed);
        let mut tried = likely.chain(others).peekable();
        let tried_max = tried.peek().map_or(0, |key| tried_max(key.algorithm));
        tried
            .take(tried_max)
            .find(|key| key.has_signed(message, signature))
            .ok_or(TokenFault::Signature)
    }

    /// Whether this key is among them.
    pub fn has(&self, key: KeyMark) -> bool {
        self.keys.iter().any(|own| own.mark == key)
    }

    /// Their number. A key in two files counts once.
    pub fn count(&self) -> usize {
        let mut marks: Vec<u64> = self.keys.iter().map(|key| key.mark.0).collect();
        marks.sort_unstable();
        marks.dedup();
        marks.len()
    }

    /// How many keys would have to be tried for some token that names the right `kid`, or none if its key has
    /// none; and how many are, which is fewer. `None` if all are tried for every such token.
    pub(super) fn untried(&self) -> Option<(usize, usize)> {
        let mut tried = self.keys.iter().map(|key| {
            let others = self.keys.iter().filter(|other| {
                let may_be = match key.kid.as_deref() {
                    Some(kid) => other.may_be(kid),
                    None => other.kid.is_none(),
                };
                other.algorithm == key.algorithm && may_be
            });
            (others.count(), tried_max(key.algorithm))
        });
        tried.find(|(needed, tried_max)| needed > tried_max)
    }

    /// Whether some key is a secret.
    pub(super) fn has_secret(&self) -> bool {
        let is_secret = |key: &Key| key.algorithm == Algorithm::HS256;
        self.keys.iter().any(is_secret)
    }
}
