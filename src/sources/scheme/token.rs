//! The secret itself, in a header field or in the address.
//!
//! Proves the sender, but not the body, and can be read by every proxy on the way. Some providers have
//! nothing better.

use percent_encoding::percent_decode;
use subtle::{Choice, ConstantTimeEq};

use super::super::{Incoming, Refusal};
use super::key::{Key, Secret, digest_of};
use super::tag::decode_base64;
use super::{Verified, once};

/// Where the secret is sent.
#[derive(Debug, Clone)]
pub struct Token {
    /// The field. `Authorization` takes the schemes Bearer and Basic, and the bare secret.
    pub field: Option<String>,
    /// The parameter of the address.
    pub query: Option<String>,
}

impl Token {
    /// A secret in a field.
    pub fn in_field(name: &str) -> Token {
        Token {
            field: Some(name.to_owned()),
            query: None,
        }
    }

    pub(super) fn verify(
        &self,
        keys: &[Key],
        incoming: &Incoming<'_>,
        id: Option<String>,
    ) -> Result<Verified, Refusal> {
        let mut candidates = Vec::new();
        self.in_fields(incoming, &mut candidates)?;
        self.in_query(incoming, &mut candidates)?;
        if candidates.is_empty() {
            return Err(Refusal::TokenMissing(self.places()));
        }
        let key = key_that_fits(keys, &candidates);
        Ok(Verified {
            key: Some(key.ok_or_else(|| Refusal::TokenMismatch(self.places()))?),
            id,
            ..Verified::default()
        })
    }

    fn in_fields(
        &self,
        incoming: &Incoming<'_>,
        candidates: &mut Vec<Vec<u8>>,
    ) -> Result<(), Refusal> {
        let Some(name) = &self.field else {
            return Ok(());
        };
        let Some(value) = once(incoming, name)?.filter(|value| !value.is_empty()) else {
            return Ok(());
        };
        candidates.push(value.to_vec());
        if name.eq_ignore_ascii_case("authorization") {
            candidates.extend(credentials(value));
        }
        Ok(())
    }

    fn in_query(
        &self,
        incoming: &Incoming<'_>,
        candidates: &mut Vec<Vec<u8>>,
    ) -> Result<(), Refusal> {
        let (Some(name), Some(query)) = (&self.query, incoming.query) else {
            return Ok(());
        };
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(known, _)| known == name);
        let value = match (values.next(), values.next()) {
            (None, _) | (Some((_, "")), None) => return Ok(()),
            (Some((_, value)), None) => value,
            (Some(_), Some(_)) => return Err(Refusal::Repeated(format!("{name}= in the address"))),
        };
        candidates.push(percent_decode(value.as_bytes()).collect());
        if value.contains('+') {
            // A sender that encodes addresses like forms writes a space so.
            candidates.push(percent_decode(value.replace('+', " ").as_bytes()).collect());
        }
        Ok(())
    }

    fn places(&self) -> String {
        match (&self.field, &self.query) {
            (Some(field), Some(query)) => format!("{field} or {query}= in the address"),
            (Some(field), None) => field.clone(),
            (None, Some(query)) => format!("{query}= in the address"),
            (None, None) => String::new(),
        }
    }

    pub(super) fn expects(&self) -> String {
        format!("the secret in {}", self.places())
    }
}

/// What can be the secret in a value of `Authorization`: a Bearer token; the whole of Basic's user and
/// password, or the password alone.
fn credentials(value: &[u8]) -> Vec<Vec<u8>> {
    let Some(space) = value.iter().position(|&byte| byte == b' ') else {
        return Vec::new();
    };
    let (scheme, rest) = (&value[..space], value[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return vec![rest.to_vec()];
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Vec::new();
    }
    let Some(pair) = decode_base64(rest) else {
        return Vec::new();
    };
    let password = pair.iter().position(|&byte| byte == b':');
    let password = password.map(|colon| pair[colon + 1..].to_vec());
    [Some(pair), password].into_iter().flatten().collect()
}

/// The index of the first key that is one of the candidates. Digests are compared, so neither the place of
/// a difference nor the length of a secret takes another time.
fn key_that_fits(keys: &[Key], candidates: &[Vec<u8>]) -> Option<usize> {
    let digests: Vec<_> = candidates.iter().map(|sent| digest_of(sent)).collect();
    keys.iter().position(|key| {
        let Secret::Sent(secret) = &key.0 else {
            return false;
        };
        let fits = digests
            .iter()
            .fold(Choice::from(0), |fits, digest| fits | digest.ct_eq(secret));
        fits.into()
    })
}
