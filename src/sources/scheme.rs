//! How a request proves that it is from its provider.
//!
//! Called by a source before anything else looks at the body. Each scheme works on the bytes as
//! received and compares in constant time. Any tag with any key is enough, so secrets can be rotated.
//! Never logs, and never puts a tag or a secret into a text.

mod discord;
mod gitlab;
mod hmac;
mod key;
mod standard;
mod stripe;
mod tag;
mod token;
mod window;

#[cfg(test)]
mod forgeries;
#[cfg(test)]
mod random;
#[cfg(test)]
mod sent;
#[cfg(test)]
mod vectors;

use std::fmt::Write as _;

use crate::message::Fingerprint;

pub use self::discord::Discord;
pub use self::gitlab::Gitlab;
pub use self::hmac::{Algorithm, Hmac, Part, TagField, Time};
pub use self::key::{Key, KeyError, KeyForm};
pub use self::standard::Standard;
pub use self::stripe::Stripe;
pub use self::tag::Encoding;
pub use self::token::Token;

use super::{Incoming, Refusal};

/// How requests of a source are verified.
#[derive(Debug, Clone)]
pub struct Scheme {
    /// The proof that is expected.
    pub proof: Proof,
    /// The fields with the id that all attempts share. The first one that is there counts.
    pub id_fields: Vec<String>,
}

/// What a request has to carry.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A keyed hash in a field, with the provider's own layout.
    Hmac(Hmac),
    /// Standard Webhooks, also under Svix' names.
    Standard(Standard),
    /// Stripe's field of times and tags.
    Stripe(Stripe),
    /// Discord's Ed25519 signature.
    Discord(Discord),
    /// GitLab's signature, or its token.
    Gitlab(Gitlab),
    /// The secret itself.
    Token(Token),
}

/// What verification has found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Of the bytes that are signed: a copy of the request has the same, whichever secret and id it
    /// is sent with, and wherever it is cut into id, time and body. `None` where nothing is signed.
    pub tag: Option<Fingerprint>,
    /// The id that the scheme's header fields carry.
    pub id: Option<String>,
    /// What is signed, if it is only a part of the body: nothing else of the body may be read.
    pub payload: Option<Vec<u8>>,
    /// Which of the keys fits. `None` for an open source.
    pub key: Option<usize>,
    /// How far the sender's clock is ahead of this one, in seconds, if the time is signed.
    pub skew_s: Option<i64>,
    /// The largest such difference that is accepted; zero without a signed time.
    pub tolerance_s: u32,
}

impl Scheme {
    /// A proof without an id in a field of its own.
    pub fn of(proof: Proof) -> Scheme {
        Scheme {
            proof,
            id_fields: Vec::new(),
        }
    }

    /// A proof, and the fields that can carry the id of all attempts.
    pub fn with_id(proof: Proof, id_fields: &[&str]) -> Scheme {
        Scheme {
            proof,
            id_fields: id_fields.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// Decodes a secret as it stands in its file. One final newline is dropped.
    pub fn key(&self, text: &[u8]) -> Result<Key, KeyError> {
        Key::parse(text, self.key_form(), self.algorithm(), true)
    }

    /// Decodes a secret of any length: the vectors of some providers have short ones.
    #[cfg(test)]
    pub fn key_of_any_length(&self, text: &[u8]) -> Result<Key, KeyError> {
        Key::parse(text, self.key_form(), self.algorithm(), false)
    }

    /// Whether a request may prove its sender by the secret itself.
    pub fn sends_secret(&self) -> bool {
        matches!(self.proof, Proof::Gitlab(_) | Proof::Token(_))
    }

    fn key_form(&self) -> KeyForm {
        match &self.proof {
            Proof::Hmac(hmac) => hmac.key,
            Proof::Standard(standard) => standard.key,
            Proof::Stripe(_) => KeyForm::Text,
            Proof::Discord(_) => KeyForm::PublicHex,
            Proof::Gitlab(_) => KeyForm::Gitlab,
            Proof::Token(_) => KeyForm::Sent,
        }
    }

    fn algorithm(&self) -> Algorithm {
        match &self.proof {
            Proof::Hmac(hmac) => hmac.algorithm,
            _ => Algorithm::Sha256,
        }
    }

    /// Verifies a request. Without a key nothing passes.
    pub fn verify(
        &self,
        keys: &[Key],
        incoming: &Incoming<'_>,
        now_unix_ms: u64,
    ) -> Result<Verified, Refusal> {
        let id = self.id(incoming)?;
        match &self.proof {
            Proof::Hmac(hmac) => hmac.verify(keys, incoming, id, self.id_name(), now_unix_ms),
            Proof::Standard(standard) => standard.verify(keys, incoming, now_unix_ms),
            Proof::Stripe(stripe) => stripe.verify(keys, incoming, now_unix_ms),
            Proof::Discord(discord) => discord.verify(keys, incoming, now_unix_ms),
            Proof::Gitlab(gitlab) => gitlab.verify(keys, incoming, id, now_unix_ms),
            Proof::Token(token) => token.verify(keys, incoming, id),
        }
    }

    /// Reads the id of a request to an open source. Nothing is checked, but that it occurs once.
    pub fn unverified(&self, incoming: &Incoming<'_>) -> Result<Verified, Refusal> {
        let id = match &self.proof {
            Proof::Standard(_) => standard::unverified_id(incoming)?,
            _ => self.id(incoming)?,
        };
        Ok(Verified {
            id,
            ..Verified::default()
        })
    }

    fn id(&self, incoming: &Incoming<'_>) -> Result<Option<String>, Refusal> {
        for name in &self.id_fields {
            if let Some(id) = id_of(incoming, name)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn id_name(&self) -> &str {
        self.id_fields.first().map_or("", String::as_str)
    }

    /// The largest difference of clocks that is accepted, if the time is signed.
    pub fn tolerance_s(&self) -> Option<u32> {
        match &self.proof {
            Proof::Hmac(hmac) => hmac.time.tolerance_s(),
            Proof::Standard(standard) => Some(standard.tolerance_s),
            Proof::Stripe(stripe) => Some(stripe.tolerance_s),
            Proof::Discord(discord) => Some(discord.tolerance_s),
            Proof::Gitlab(gitlab) => Some(gitlab.standard.tolerance_s),
            Proof::Token(_) => None,
        }
    }

    /// Where the tag or the secret is expected, in words.
    pub fn expects(&self) -> String {
        match &self.proof {
            Proof::Hmac(hmac) => hmac.expects(),
            Proof::Standard(_) => {
                "webhook-signature (or svix-signature): v1, HMAC-SHA256 or v1a, Ed25519 of \
                 {id}.{timestamp}.{body}"
                    .to_owned()
            }
            Proof::Stripe(_) => {
                "Stripe-Signature: t=, v1= hex HMAC-SHA256 of {timestamp}.{body}".to_owned()
            }
            Proof::Discord(_) => "X-Signature-Ed25519: hex Ed25519 of {timestamp}{body}".to_owned(),
            Proof::Gitlab(_) => {
                "webhook-signature, if the secret begins with whsec_; else X-Gitlab-Token with the \
                 secret"
                    .to_owned()
            }
            Proof::Token(token) => token.expects(),
        }
    }
}

/// The value of a field that may occur once.
fn once<'a>(incoming: &Incoming<'a>, name: &str) -> Result<Option<&'a [u8]>, Refusal> {
    let value = incoming.fields.get_once(name);
    value.map_err(|_| Refusal::Repeated(name.to_owned()))
}

/// The id in a field; an empty one is none.
fn id_of(incoming: &Incoming<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let Some(value) = once(incoming, name)? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(value).map_err(|_| Refusal::IdMalformed(name.to_owned()))?;
    let text = if name.eq_ignore_ascii_case("Idempotency-Key") {
        unquoted(text)
    } else {
        text
    };
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A key as a structured field has it is in quotes; many senders write it bare.
fn unquoted(text: &str) -> &str {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or(text)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
