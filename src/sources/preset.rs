//! What hookcast knows of each provider.
//!
//! A preset is a table entry: how a request is verified, the type of its event, its identity and for
//! how long it is known, the handshake, the answer to a success. Called by a source.

mod settings;
mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use crate::message::Identity;

pub use self::settings::{SettingError, Settings};

use super::{Fields, Incoming, Key, Reply, Scheme, Success, Verified};
use super::{event, handshake, identity};

/// What hookcast knows of a provider.
#[derive(Debug)]
pub struct Preset {
    /// The name in the operator's file.
    pub name: &'static str,
    /// The provider's own name.
    pub title: &'static str,
    /// For how long a request's identity is known, in seconds, unless the file says else: as long as
    /// the provider retries. Three days where nothing signs the time, since a captured request never
    /// becomes too old there.
    pub dedupe_s: u32,
    scheme: fn() -> Scheme,
    /// The keys of [`Settings`] that it takes.
    takes: &'static [&'static str],
    event: fn(&Incoming<'_>, &Value) -> Option<String>,
    id: fn(&Verified, &Incoming<'_>, &Value) -> Option<Vec<u8>>,
    /// Whether what [`Preset::id`] returns is signed as a part of the body: then a copy cannot have another
    /// id. An id that is joined to other parts can be cut elsewhere.
    is_id_signed: bool,
    /// The events of a body that is a batch of them; none if it is one event.
    batch: fn(&Value) -> &[Value],
    /// What tells two events with the same signed bytes apart. It is not signed, so it is one of few, each
    /// of which the signed bytes bear out.
    variant: fn(&Incoming<'_>, &Value) -> &'static str,
    /// Whether equal requests are sent on purpose, such as an alert that is still firing.
    repeats_itself: bool,
    handshake: fn(&[Key], &Verified, &Incoming<'_>, &Value) -> Option<Reply>,
    /// Whether `OPTIONS` may ask for permission to deliver.
    asks_permission: bool,
    success: fn(&Value) -> Success,
}

impl Preset {
    /// The preset of a name.
    pub fn by_name(name: &str) -> Option<&'static Preset> {
        Preset::all().iter().find(|preset| preset.name == name)
    }

    /// All presets, in the order of the manual.
    pub fn all() -> &'static [Preset] {
        &table::PRESETS
    }

    /// The scheme with the settings of a source. All errors at once.
    pub fn scheme_with(&self, settings: &Settings) -> Result<Scheme, Vec<SettingError>> {
        settings::apply(self, (self.scheme)(), settings)
    }

    /// The event's type in the provider's words, such as `push`, `pull_request.opened` or
    /// `invoice.paid`; empty if the request names none. Fits into a label: bounded, without control
    /// characters.
    pub fn event(&self, incoming: &Incoming<'_>, body: &Value) -> String {
        let name = (self.event)(incoming, body).unwrap_or_default();
        event::bounded(&name)
    }

    /// The events of a body that is a batch of them, in its order; none if it is one event.
    pub fn batch<'a>(&self, body: &'a Value) -> &'a [Value] {
        (self.batch)(body)
    }

    /// By what a repeat of a request to `source` is recognised, for `window_s` seconds. `None` if by
    /// nothing, or if the window is zero.
    ///
    /// The window is never shorter than the time for which a copy passes the check of its time.
    pub fn identity(
        &self,
        source: &str,
        verified: &Verified,
        incoming: &Incoming<'_>,
        body: &Value,
        window_s: u32,
    ) -> Option<Arc<Identity>> {
        let id = (self.id)(verified, incoming, body);
        let is_tag_needed = id.is_none() || !self.is_id_signed;
        let is_tag_unique = !self.repeats_itself || verified.skew_s.is_some();
        let tag = verified.tag.filter(|_| is_tag_needed && is_tag_unique);
        let tag = tag.map(|tag| identity::of_variant(tag, (self.variant)(incoming, body)));
        // Times are compared in whole seconds, which adds one.
        let passes_s = match verified.tolerance_s {
            0 => 0,
            tolerance_s => tolerance_s.saturating_mul(2).saturating_add(1),
        };
        let window_s = match window_s {
            0 => return None,
            _ => window_s.max(passes_s),
        };
        identity::of(source, id.as_deref(), tag, window_s).map(Arc::new)
    }

    /// The answer to a verified request that proves the address. `None`: it is an event.
    pub fn handshake(
        &self,
        keys: &[Key],
        verified: &Verified,
        incoming: &Incoming<'_>,
        body: &Value,
    ) -> Option<Reply> {
        (self.handshake)(keys, verified, incoming, body)
    }

    /// The answer to `OPTIONS`, if it is a handshake of `CloudEvents` and not a preflight of CORS.
    pub fn preflight(&self, fields: &Fields<'_>) -> Option<Reply> {
        self.asks_permission
            .then(|| handshake::permission(fields))?
    }

    /// The answer to a published event.
    pub fn success(&self, body: &Value) -> Success {
        (self.success)(body)
    }
}
