//! The claims of a token (RFC 7519 section 4), and what they grant.
//!
//! Called after the signature has been verified. Never reads a clock. Never keeps `sub` or any other claim that
//! says who the token is for.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Number;
use serde_json::value::RawValue;

use super::header::{object, present};
use super::{Grant, KeyMark, PublishGrant, TokenFault};
use crate::limits::{TOKEN_EARLY_MS_MAX, TOKEN_EXPIRY_S_MAX};
use crate::message::SessionId;

/// What is read of the claims. A member that is there twice is refused by the derived reader.
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(default, deserialize_with = "present")]
    exp: Option<Number>,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<Number>,
    #[serde(borrow, default, deserialize_with = "present")]
    aud: Option<Audience<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    hookcast: Option<&'a RawValue>,
}

/// The claim of this server.
#[derive(Default, Deserialize)]
struct Rights<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    sessions: Option<Names<'a>>,
    #[serde(default)]
    everything: bool,
    #[serde(borrow, default)]
    publish: Publish<'a>,
}

impl<'a> Claims<'a> {
    /// Reads decoded claims.
    pub fn parse(bytes: &'a [u8]) -> Result<Claims<'a>, TokenFault> {
        let text = object(bytes).ok_or(TokenFault::Claims)?;
        serde_json::from_str(text).map_err(|_| TokenFault::Claims)
    }

    /// What the claims grant at this time to the server with this audience.
    pub fn grant(
        &self,
        key: KeyMark,
        audience: Option<&str>,
        now_unix_ms: u64,
    ) -> Result<Grant, TokenFault> {
        let expires_ms = self.expires_ms()?;
        if expires_ms <= now_unix_ms {
            return Err(TokenFault::Expired);
        }
        let begins_ms = self.nbf.as_ref().map_or(Some(0), unix_ms);
        if begins_ms.is_none_or(|ms| ms > now_unix_ms.saturating_add(TOKEN_EARLY_MS_MAX)) {
            return Err(TokenFault::Early);
        }
        self.check_audience(audience)?;
        let rights = self.rights()?;
        let sessions = rights.sessions.as_ref();
        Ok(Grant {
            expires_ms,
            key,
            sessions: sessions.map_or(Ok(Box::default()), sessions_of)?,
            everything: rights.everything,
            publish: rights.publish.grant()?,
        })
    }

    fn expires_ms(&self) -> Result<u64, TokenFault> {
        let exp = self.exp.as_ref().ok_or(TokenFault::NoExpiry)?;
        match unix_ms(exp) {
            Some(ms) if ms < (TOKEN_EXPIRY_S_MAX + 1) * 1000 => Ok(ms),
            _ => Err(TokenFault::LateExpiry),
        }
    }

    fn check_audience(&self, audience: Option<&str>) -> Result<(), TokenFault> {
        match (&self.aud, audience) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(TokenFault::NoAudience),
            (Some(_), None) => Err(TokenFault::AudienceUnknown),
            (Some(audiences), Some(own)) => {
                let is_for_us = audiences.has(own);
                is_for_us.then_some(()).ok_or(TokenFault::Audience)
            }
        }
    }

    fn rights(&self) -> Result<Rights<'a>, TokenFault> {
        let Some(rights) = self.hookcast else {
            return Ok(Rights::default());
        };
        let text = object(rights.get().as_bytes()).ok_or(TokenFault::Claims)?;
        serde_json::from_str(text).map_err(|_| TokenFault::Claims)
    }
}

/// A time in Unix milliseconds; 0 if it is before 1970. Nothing if it is too late to be expressed.
fn unix_ms(seconds: &Number) -> Option<u64> {
    if let Some(seconds) = seconds.as_u64() {
        return seconds.checked_mul(1000);
    }
    if seconds.is_i64() {
        return Some(0);
    }
    // RFC 7519 allows fractions.
    let ms = seconds.as_f64()? * 1000.0;
    let is_exact = ms < 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_sign_loss,
        reason = "the conversion gives 0 for a negative time"
    )]
    is_exact.then_some(ms as u64)
}

fn sessions_of(names: &Names<'_>) -> Result<Box<[SessionId]>, TokenFault> {
    let mut sessions = Vec::with_capacity(names.0.len());
    let mut seen = HashSet::new();
    for Name(name) in &names.0 {
        let Ok(Some(session)) = SessionId::parse(name) else {
            return Err(TokenFault::Session);
        };
        if seen.insert(&**name) {
            sessions.push(session);
        }
    }
    Ok(sessions.into())
}

/// A text that is borrowed if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A list of texts.
#[derive(Deserialize)]
struct Names<'a>(#[serde(borrow)] Vec<Name<'a>>);

/// A value, or a list of names.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrNames<'a, T> {
    One(T),
    #[serde(borrow)]
    Names(Names<'a>),
}

/// One audience or several.
type Audience<'a> = OneOrNames<'a, Name<'a>>;

impl Audience<'_> {
    fn has(&self, own: &str) -> bool {
        match self {
            OneOrNames::One(Name(name)) => name == own,
            OneOrNames::Names(Names(names)) => names.iter().any(|Name(name)| name == own),
        }
    }
}

/// The member `publish`: a truth value, or a list of sessions.
type Publish<'a> = OneOrNames<'a, bool>;

impl Default for Publish<'_> {
    fn default() -> Self {
        OneOrNames::One(false)
    }
}

impl Publish<'_> {
    fn grant(&self) -> Result<PublishGrant, TokenFault> {
        match self {
            OneOrNames::One(false) => Ok(PublishGrant::Nothing),
            OneOrNames::One(true) => Ok(PublishGrant::Everything),
            OneOrNames::Names(names) => sessions_of(names).map(PublishGrant::Sessions),
        }
    }
}
