//! Who may do what: the configured secret and the keys of tokens, against those of a request.
//!
//! Called by `route`, which reads the request's parameters. `credentials` finds a token, and
//! [`TokenKeys`] verifies it. Never shows a secret or a token.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::limits::SESSIONS_PER_STREAM_MAX;
use crate::message::SessionId;
use crate::tokens::{Grant, KeyMark, PublishGrant, TokenKeys};

use super::credentials;
use super::error::ErrorAnswer;
use super::idempotency::KeyOwner;
use super::request::Request;
use super::route::View;

/// The configured secret, if there is one, and whether a shared cache is in front of the server.
#[derive(Clone, Default)]
pub struct Access {
    secret: Option<Box<[u8]>>,
    pub(super) is_fanned_out: bool,
    tokens: Option<TokenAccess>,
}

/// The keys of tokens, and whether every request needs one.
#[derive(Clone)]
struct TokenAccess {
    keys: Arc<TokenKeys>,
    is_required: bool,
}

impl Access {
    /// Access with or without a secret, whose bytes are compared unchanged.
    pub fn new(secret: Option<&[u8]>) -> Access {
        Access {
            secret: secret.map(Box::from),
            is_fanned_out: false,
            tokens: None,
        }
    }

    /// Access with tokens of these keys. If they are required, requests without one and without the secret see
    /// nothing.
    #[must_use]
    pub fn with_tokens(self, keys: Arc<TokenKeys>, is_required: bool) -> Access {
        Access {
            tokens: Some(TokenAccess { keys, is_required }),
            ..self
        }
    }

    /// Replaces the keys of tokens.
    pub fn use_token_keys(&mut self, keys: Arc<TokenKeys>) {
        if let Some(tokens) = &mut self.tokens {
            tokens.keys = keys;
        }
    }

    /// Access behind a shared cache. The cache gives its answers to everyone, so a request without a session
    /// and without a secret sees only untargeted messages, also if no secret is configured.
    #[must_use]
    pub fn fanned_out(self) -> Access {
        Access {
            is_fanned_out: true,
            ..self
        }
    }

    /// Whether this server would compare the secret of a request.
    pub(super) fn compares_secret(&self, request: &Request<'_>) -> bool {
        self.secret.is_some() && request.secret.is_some()
    }

    /// Whether tokens of this key are still valid.
    pub fn has_key(&self, key: KeyMark) -> bool {
        let tokens = self.tokens.as_ref();
        tokens.is_some_and(|tokens| tokens.keys.has(key))
    }

    /// The names of the fields on which answers depend, for `Vary`.
    pub fn vary(&self) -> &'static str {
        match self.tokens {
            None => "X-Webhook-Secret",
            Some(_) => "X-Webhook-Secret, Authorization, Cookie",
        }
    }

    /// The principal of a request at this Unix time in milliseconds. A secret alone decides if one is
    /// configured and the request has one.
    pub(super) fn principal(
        &self,
        request: &Request<'_>,
        unix_ms: u64,
    ) -> Result<Principal, ErrorAnswer> {
        if let (Some(secret), Some(sent)) = (self.secret.as_deref(), request.secret) {
            // The time does not depend on where the two differ, but on whether their lengths are equal.
            let is_right = bool::from(secret.ct_eq(sent));
            return if is_right {
                Ok(Principal::Owner)
            } else {
                Err(ErrorAnswer::SecretWrong)
            };
        }
        let Some(tokens) = &self.tokens else {
            return Ok(match self.secret {
                Some(_) => Principal::Anonymous,
                None => Principal::Owner,
            });
        };
        let Some(token) = credentials::token(request)? else {
            return Ok(Principal::Anonymous);
        };
        let grant = tokens.keys.verify(&token, unix_ms);
        let grant = grant.map_err(ErrorAnswer::TokenRefused)?;
        Ok(Principal::Token(Box::new(grant)))
    }

    /// The webhooks that a request may send.
    pub(super) fn publish_right(&self, principal: &Principal) -> Result<PublishRight, ErrorAnswer> {
        match principal {
            Principal::Token(grant) => match &grant.publish {
                PublishGrant::Everything => Ok(PublishRight::All),
                PublishGrant::Sessions(sessions) => Ok(PublishRight::To(sessions.clone())),
                PublishGrant::Nothing => Err(ErrorAnswer::PublishForbidden),
            },
            Principal::Anonymous if self.secret.is_some() => Err(self.credential_missing()),
            Principal::Anonymous if self.requires_token() => Err(ErrorAnswer::PublishTokenMissing),
            // Tokens decide who may listen. Without a secret everyone may send.
            Principal::Owner | Principal::Anonymous => Ok(PublishRight::All),
        }
    }

    /// Checks whether a request may ask how many streams a session has: if it may send to the session.
    pub(super) fn check_presence(
        &self,
        principal: &Principal,
        session: &SessionId,
    ) -> Result<(), ErrorAnswer> {
        match principal {
            Principal::Owner => Ok(()),
            Principal::Token(grant) if grant.publish.allows(session) => Ok(()),
            Principal::Token(_) => Err(ErrorAnswer::PresenceForbidden),
            Principal::Anonymous if self.secret.is_none() => Err(ErrorAnswer::TokenMissing),
            Principal::Anonymous => Err(self.credential_missing()),
        }
    }

    /// Checks whether a request may read the list of sources: if it may send everything.
    pub(super) fn check_sources(&self, principal: &Principal) -> Result<(), ErrorAnswer> {
        match principal {
            Principal::Token(grant) if grant.publish == PublishGrant::Everything => Ok(()),
            Principal::Token(_) => Err(ErrorAnswer::SourcesForbidden),
            Principal::Anonymous if self.secret.is_some() => Err(self.credential_missing()),
            Principal::Anonymous if self.requires_token() => Err(ErrorAnswer::TokenMissing),
            Principal::Owner | Principal::Anonymous => Ok(()),
        }
    }

    /// The error of a request without the configured secret.
    fn credential_missing(&self) -> ErrorAnswer {
        match self.tokens {
            None => ErrorAnswer::SecretMissing,
            Some(_) => ErrorAnswer::SecretOrTokenMissing,
        }
    }

    /// The messages that a request may see, which names these sessions.
    pub(super) fn view(
        &self,
        principal: &Principal,
        sessions: Vec<SessionId>,
    ) -> Result<View, ErrorAnswer> {
        match principal {
            Principal::Owner if sessions.is_empty() => Ok(View::Everything),
            Principal::Owner => Ok(View::of_sessions(sessions)),
            Principal::Token(grant) => view_of_grant(grant, sessions),
            Principal::Anonymous if self.requires_token() => Err(ErrorAnswer::TokenMissing),
            Principal::Anonymous if sessions.is_empty() => Ok(View::Public),
            // Without keys, the name of a session is its only lock.
            Principal::Anonymous if self.tokens.is_none() => Ok(View::of_sessions(sessions)),
            Principal::Anonymous => Err(ErrorAnswer::TokenMissing),
        }
    }

    fn requires_token(&self) -> bool {
        self.tokens
            .as_ref()
            .is_some_and(|tokens| tokens.is_required)
    }
}

/// The messages that a token opens. A request without a session sees all that the token allows.
fn view_of_grant(grant: &Grant, sessions: Vec<SessionId>) -> Result<View, ErrorAnswer> {
    if !sessions.is_empty() {
        let is_allowed = |session| grant.everything || grant.sessions.contains(session);
        return if sessions.iter().all(is_allowed) {
            Ok(View::of_sessions(sessions))
        } else {
            Err(ErrorAnswer::SessionForbidden)
        };
    }
    match grant.sessions.len() {
        _ if grant.everything => Ok(View::Everything),
        0 => Ok(View::Public),
        1..=SESSIONS_PER_STREAM_MAX => Ok(View::of_sessions(grant.sessions.to_vec())),
        _ => Err(ErrorAnswer::TokenSessionsTooMany),
    }
}

/// On whose behalf a request is made: the owner of the secret, the holder of a token, or neither.
#[derive(Debug)]
pub(super) enum Principal {
    /// It has the secret, or neither a secret nor keys are configured.
    Owner,
    /// It has a valid token.
    Token(Box<Grant>),
    /// It has nothing of what is configured.
    Anonymous,
}

impl Principal {
    /// The end of what the request opens, if a token has opened it.
    pub(super) fn token_life(&self) -> Option<TokenLife> {
        match self {
            Principal::Token(grant) => Some(TokenLife {
                expires_ms: grant.expires_ms,
                key: grant.key,
            }),
            Principal::Owner | Principal::Anonymous => None,
        }
    }
}

/// The webhooks that a request may send.
#[derive(Debug)]
pub(super) enum PublishRight {
    All,
    To(Box<[SessionId]>),
}

impl PublishRight {
    /// The senders with which a webhook for this session shares its `Idempotency-Key`.
    pub(super) fn key_owner<'a>(&self, session: Option<&'a SessionId>) -> KeyOwner<'a> {
        match (self, session) {
            (PublishRight::To(_), Some(session)) => KeyOwner::Session(session),
            // Without a session such a webhook is refused.
            (PublishRight::To(_), None) | (PublishRight::All, _) => KeyOwner::All,
        }
    }

    /// Checks whether a message for this session, or for everyone, may be sent.
    pub(super) fn check(&self, session: Option<&SessionId>) -> Result<(), ErrorAnswer> {
        match self {
            PublishRight::All => Ok(()),
            PublishRight::To(sessions) if session.is_some_and(|name| sessions.contains(name)) => {
                Ok(())
            }
            PublishRight::To(_) => Err(ErrorAnswer::PublishForbiddenHere),
        }
    }
}

/// The end of what a token has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLife {
    /// In Unix milliseconds.
    pub expires_ms: u64,
    /// The key of the token.
    pub key: KeyMark,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secret.is_some() {
            "Access(secret)"
        } else {
            "Access(open)"
        })
    }
}
