//! A keyed hash in a header field: GitHub, Slack, Shopify and most others.
//!
//! The providers differ in the field, in what stands before the tag, in its encoding, and in what is
//! signed beside the body. A value of [`Hmac`] says all of that, so a provider is a table entry.

use serde::Deserialize;

use crate::limits::SIGNATURES_MAX;

use crate::message;

use super::super::{Incoming, Refusal};
use super::key::{Key, KeyForm};
use super::tag::{Encoding, key_that_fits};
use super::{Verified, once, window};

/// A keyed hash over parts of the request.
#[derive(Debug, Clone)]
pub struct Hmac {
    /// The hash.
    pub algorithm: Algorithm,
    /// How the tag is written.
    pub encoding: Encoding,
    /// How the secret is written.
    pub key: KeyForm,
    /// The fields that can carry the tag. The first one that is there counts.
    pub tags: Vec<TagField>,
    /// Whether the field is a list with commas. Items without the prefix are other versions.
    pub is_list: bool,
    /// What is signed.
    pub signed: Vec<Part>,
    /// Where the time is.
    pub time: Time,
    /// Whether a form's decoded `payload` can be what is signed, instead of the body.
    pub signs_form_payload: bool,
}

/// A field with a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagField {
    /// Its name.
    pub name: String,
    /// What stands before the tag.
    pub prefix: String,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1: weak as a hash, still sound in an HMAC.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// A part of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A text of the scheme.
    Text(String),
    /// The id, as the field has it.
    Id,
    /// The time, as the field has it.
    Time,
    /// The body.
    Body,
}

/// Where the time of a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Time {
    /// Nowhere: a copy can be recognised, but never becomes too old.
    None,
    /// In a field, which is signed.
    Field {
        /// Its name.
        name: String,
        /// How far it may be from this server's clock.
        tolerance_s: u32,
    },
    /// In the member `webhookTimestamp` of the body.
    Member {
        /// How far it may be from this server's clock.
        tolerance_s: u32,
    },
}

impl Time {
    /// How far it may be from this server's clock.
    pub fn tolerance_s(&self) -> Option<u32> {
        match self {
            Time::None => None,
            Time::Field { tolerance_s, .. } | Time::Member { tolerance_s } => Some(*tolerance_s),
        }
    }
}

impl Algorithm {
    /// The hash of ring.
    pub(super) fn of_ring(self) -> ring::hmac::Algorithm {
        match self {
            Algorithm::Sha1 => ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha256 => ring::hmac::HMAC_SHA256,
            Algorithm::Sha384 => ring::hmac::HMAC_SHA384,
            Algorithm::Sha512 => ring::hmac::HMAC_SHA512,
        }
    }

    fn tag_bytes(self) -> usize {
        self.of_ring().digest_algorithm().output_len()
    }

    fn title(self) -> &'static str {
        match self {
            Algorithm::Sha1 => "HMAC-SHA1",
            Algorithm::Sha256 => "HMAC-SHA256",
            Algorithm::Sha384 => "HMAC-SHA384",
            Algorithm::Sha512 => "HMAC-SHA512",
        }
    }
}

/// The member with Linear's time.
#[derive(Deserialize)]
struct Stamped {
    #[serde(rename = "webhookTimestamp")]
    time: u64,
}

impl Hmac {
    /// HMAC-SHA256 of the body in hexadecimal digits, in one field.
    pub fn of_body(name: &str, prefix: &str) -> Hmac {
        Hmac {
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            key: KeyForm::Text,
            tags: vec![TagField {
                name: name.to_owned(),
                prefix: prefix.to_owned(),
            }],
            is_list: false,
            signed: vec![Part::Body],
            time: Time::None,
            signs_form_payload: false,
        }
    }

    pub(super) fn verify(
        &self,
        keys: &[Key],
        incoming: &Incoming<'_>,
        id: Option<String>,
        id_name: &str,
        now_unix_ms: u64,
    ) -> Result<Verified, Refusal> {
        let (field, value) = self.tag_field(incoming)?;
        let tags = self.tags_of(field, value)?;
        let (time, mut skew_s) = self.time_of(incoming, now_unix_ms)?;
        let signs_id = self.signed.contains(&Part::Id);
        if signs_id && id.is_none() {
            return Err(Refusal::IdMissing(id_name.to_owned()));
        }
        let signed_id = id.as_deref().unwrap_or("").as_bytes();
        let fits = |body: &[u8]| {
            let parts = self.parts(signed_id, time, body);
            let key = key_that_fits(keys, &parts, &tags)?;
            Some((key, message::fingerprint(&parts)))
        };
        let mut payload = None;
        let mut found = fits(incoming.body);
        if found.is_none() && self.signs_form_payload {
            payload = form_payload(incoming.body);
            found = payload.as_deref().and_then(fits);
        }
        let (key, tag) = found.ok_or_else(|| Refusal::TagMismatch(field.name.clone()))?;
        if let Time::Member { tolerance_s } = self.time {
            skew_s = Some(check_member(incoming.body, now_unix_ms, tolerance_s)?);
        }
        Ok(Verified {
            tag: Some(tag),
            id,
            payload,
            key: Some(key),
            skew_s,
            tolerance_s: self.time.tolerance_s().unwrap_or(0),
        })
    }

    fn tag_field<'a>(&self, incoming: &Incoming<'a>) -> Result<(&TagField, &'a [u8]), Refusal> {
        for field in &self.tags {
            if let Some(value) = once(incoming, &field.name)? {
                return Ok((field, value));
            }
        }
        let first = self.tags.first().map_or("", |field| &field.name);
        Err(Refusal::TagMissing(first.to_owned()))
    }

    /// The tags in a field, each as long as the hash. So an empty one is none.
    fn tags_of(&self, field: &TagField, value: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
        let decode = |item: &[u8]| {
            let text = item.trim_ascii().strip_prefix(field.prefix.as_bytes())?;
            let tag = self.encoding.decode(text)?;
            (tag.len() == self.algorithm.tag_bytes()).then_some(tag)
        };
        let tags: Vec<_> = if self.is_list {
            let items = value.split(|&byte| byte == b',');
            items.filter_map(decode).take(SIGNATURES_MAX + 1).collect()
        } else {
            decode(value).into_iter().collect()
        };
        match tags.len() {
            0 => Err(Refusal::TagMalformed(field.name.clone())),
            1..=SIGNATURES_MAX => Ok(tags),
            _ => Err(Refusal::TooManyTags(field.name.clone())),
        }
    }

    fn time_of<'a>(
        &self,
        incoming: &Incoming<'a>,
        now_unix_ms: u64,
    ) -> Result<(&'a [u8], Option<i64>), Refusal> {
        let Time::Field { name, tolerance_s } = &self.time else {
            return Ok((b"", None));
        };
        let time = once(incoming, name)?.ok_or_else(|| Refusal::TimeMissing(name.clone()))?;
        let skew_s = window::check(time, name, now_unix_ms, *tolerance_s)?;
        Ok((time, Some(skew_s)))
    }

    fn parts<'a>(&'a self, id: &'a [u8], time: &'a [u8], body: &'a [u8]) -> Vec<&'a [u8]> {
        let bytes = |part: &'a Part| match part {
            Part::Text(text) => text.as_bytes(),
            Part::Id => id,
            Part::Time => time,
            Part::Body => body,
        };
        self.signed.iter().map(bytes).collect()
    }

    pub(super) fn expects(&self) -> String {
        let signed: String = self.signed.iter().map(Part::in_words).collect();
        let names: Vec<_> = self.tags.iter().map(|field| field.name.as_str()).collect();
        let prefix = self.tags.first().map_or("", |field| field.prefix.as_str());
        format!(
            "{}: {prefix}{} {} of {signed}",
            names.join(" or "),
            self.encoding.name(),
            self.algorithm.title(),
        )
    }
}

impl Part {
    fn in_words(&self) -> &str {
        match self {
            Part::Text(text) => text,
            Part::Id => "{id}",
            Part::Time => "{timestamp}",
            Part::Body => "{body}",
        }
    }
}

/// Where Linear's time is, in words.
const MEMBER: &str = "the body's webhookTimestamp";

fn check_member(body: &[u8], now_unix_ms: u64, tolerance_s: u32) -> Result<i64, Refusal> {
    match serde_json::from_slice::<Stamped>(body) {
        Ok(stamped) => window::check_number(stamped.time, now_unix_ms, tolerance_s),
        // serde_json has no kind for it.
        Err(error) if error.to_string().starts_with("duplicate field") => {
            Err(Refusal::Repeated(MEMBER.to_owned()))
        }
        Err(_) => Err(Refusal::TimeMissing(MEMBER.to_owned())),
    }
}

/// The decoded value of a form's `payload`, if it occurs once: of two, the other could be read later.
fn form_payload(body: &[u8]) -> Option<Vec<u8>> {
    let mut values = body
        .split(|&byte| byte == b'&')
        .filter_map(|pair| pair.strip_prefix(b"payload="));
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let spaced: Vec<u8> = value
        .iter()
        .map(|&byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    Some(percent_encoding::percent_decode(&spaced).collect())
}
