//! Signed tokens (JSON Web Tokens, RFC 7519): who may see which sessions, and until when.
//!
//! `http` verifies the token of a request with [`TokenKeys`], and acts on its [`Grant`]. `server` reads the
//! keys from files. Never keeps a token, and never shows one in an error.

mod claims;
mod disguise;
mod fault;
mod file;
mod header;
mod jwks;
mod key;
mod keys;
mod provider;
mod public;
#[cfg(test)]
mod tests;

use crate::message::SessionId;

pub use self::fault::TokenFault;
pub use self::file::{KeyFileError, KeyFileFault, LoadedKeys};
pub use self::key::KeyProblem;
pub use self::keys::TokenKeys;

/// Identifies a key, so that a stream ends when its key is gone. The key of two files is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyMark(pub u64);

/// What a valid token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The end of the token, in Unix milliseconds.
    pub expires_ms: u64,
    /// The key that has verified it.
    pub key: KeyMark,
    /// The sessions that it may see, each once, in the token's order.
    pub sessions: Box<[SessionId]>,
    /// It may see all messages.
    pub everything: bool,
    /// The webhooks that it may send.
    pub publish: PublishGrant,
}

/// The webhooks that a token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublishGrant {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// Those for one of these sessions.
    Sessions(Box<[SessionId]>),
}

impl PublishGrant {
    /// Whether a webhook for this session is allowed.
    pub fn allows(&self, session: &SessionId) -> bool {
        match self {
            PublishGrant::Nothing => false,
            PublishGrant::Everything => true,
            PublishGrant::Sessions(sessions) => sessions.contains(session),
        }
    }
}
