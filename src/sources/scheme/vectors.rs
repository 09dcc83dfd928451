//! Signed requests with known signatures: the providers' own, and values that were computed with another
//! implementation (Python's `hmac`, and the key of RFC 8032).

mod table;

use super::super::{Fields, Incoming, Key, Preset, Refusal, Scheme, Settings, Verified};

pub(super) use self::table::VECTORS;

/// A request that verifies.
#[derive(Clone)]
pub(super) struct Vector {
    /// Where it is from.
    pub source: &'static str,
    pub preset: &'static str,
    pub settings: fn(&mut Settings),
    pub secret: &'static str,
    pub body: &'static str,
    pub fields: &'static [(&'static str, &'static str)],
    /// The time of verification in seconds.
    pub now_s: u64,
    /// The field with the only tag; empty if there are several, of which one may be wrong.
    pub tag: &'static str,
    /// The field with the time, if it is signed.
    pub time: &'static str,
}

impl Vector {
    pub(super) fn scheme(&self) -> Scheme {
        let mut settings = Settings::default();
        (self.settings)(&mut settings);
        let preset = Preset::by_name(self.preset).unwrap();
        preset.scheme_with(&settings).unwrap()
    }

    pub(super) fn key(&self) -> Key {
        let key = self.scheme().key_of_any_length(self.secret.as_bytes());
        key.unwrap_or_else(|error| panic!("{}: {error}", self.source))
    }

    /// Verifies it with another key, body, fields or time.
    pub(super) fn verify_with(
        &self,
        keys: &[Key],
        body: &[u8],
        fields: &[(&str, &[u8])],
        now_s: u64,
    ) -> Result<Verified, Refusal> {
        let fields = Fields::from_pairs(fields.iter().copied());
        let incoming = Incoming {
            query: None,
            fields: &fields,
            body,
        };
        self.scheme().verify(keys, &incoming, now_s * 1000)
    }

    pub(super) fn verify(&self) -> Result<Verified, Refusal> {
        let (body, fields) = (self.body.as_bytes(), self.pairs());
        self.verify_with(&[self.key()], body, &fields, self.now_s)
    }

    pub(super) fn pairs(&self) -> Vec<(&'static str, &'static [u8])> {
        let pairs = self.fields.iter();
        pairs
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect()
    }

    /// Its fields with another value for one of them.
    pub(super) fn pairs_with<'a>(
        &self,
        name: &str,
        value: &'a [u8],
    ) -> Vec<(&'static str, &'a [u8])> {
        let mut pairs: Vec<(&'static str, &'a [u8])> = self.pairs();
        for pair in &mut pairs {
            if pair.0 == name {
                pair.1 = value;
            }
        }
        pairs
    }

    pub(super) fn value(&self, name: &str) -> &'static str {
        let found = self.fields.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }
}

#[test]
fn each_vector_verifies() {
    for vector in VECTORS {
        let found = vector.verify();
        let found = found.unwrap_or_else(|refusal| panic!("{}: {refusal}", vector.source));
        assert_eq!(found.key, Some(0), "{}", vector.source);
    }
}

#[test]
fn a_form_yields_the_json_that_is_signed() {
    let form = VECTORS.iter().find(|vector| vector.preset == "gitea");
    let verified = form.unwrap().verify().unwrap();
    assert_eq!(verified.payload.unwrap(), br#"{"zen":"a b"}"#);
}

#[test]
fn what_is_signed_is_known_beside_a_signed_id() {
    for vector in VECTORS {
        let verified = vector.verify().unwrap();
        assert!(verified.tag.is_some(), "{}", vector.source);
        let has_signed_id = !vector.value("X-Id").is_empty();
        if has_signed_id || ["standard", "gitlab"].contains(&vector.preset) {
            assert!(verified.id.is_some(), "{}", vector.source);
        }
    }
}
