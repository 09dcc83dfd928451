//! Keys of a source's table that change its scheme.
//!
//! Called when the file is read. Every fault is found at once, with the key it belongs to.

use std::fmt;

use crate::limits::CLOCK_TOLERANCE_S_RANGE;

use super::super::scheme::{
    Algorithm, Encoding, Gitlab, Hmac, KeyForm, Part, Proof, Scheme, Standard, TagField, Time,
};
use super::Preset;

/// Keys of a source's table that change its scheme. Most presets take only `tolerance_s`.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `header`: the field with the tag or the secret.
    pub header: Option<String>,
    /// `prefix`: what stands before the tag, such as `sha256=`.
    pub prefix: Option<String>,
    /// `algorithm`: sha1, sha256, sha384 or sha512.
    pub algorithm: Option<String>,
    /// `encoding`: hex or base64.
    pub encoding: Option<String>,
    /// `signed`: such as `{timestamp}.{body}`.
    pub signed: Option<String>,
    /// `timestamp_header`: the field with the time.
    pub timestamp_header: Option<String>,
    /// `tolerance`: the largest difference of clocks, in seconds.
    pub tolerance_s: Option<u32>,
    /// `id_header`: the field with the id that all attempts share.
    pub id_header: Option<String>,
    /// `query`: the parameter of the address that may carry the secret.
    pub query: Option<String>,
    /// `key`: how the secret is written: text, base64 or hex.
    pub key: Option<String>,
}

/// A setting that the preset does not take, or whose value is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The key in the file.
    pub key: &'static str,
    /// What is wrong, and what to write instead.
    pub why: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl Settings {
    /// The keys that are written.
    fn written(&self) -> Vec<&'static str> {
        let keys = [
            ("header", self.header.is_some()),
            ("prefix", self.prefix.is_some()),
            ("algorithm", self.algorithm.is_some()),
            ("encoding", self.encoding.is_some()),
            ("signed", self.signed.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
            ("tolerance", self.tolerance_s.is_some()),
            ("id_header", self.id_header.is_some()),
            ("query", self.query.is_some()),
            ("key", self.key.is_some()),
        ];
        let written = keys.into_iter().filter(|(_, is_written)| *is_written);
        written.map(|(key, _)| key).collect()
    }
}

/// The faults found so far.
struct Faults(Vec<SettingError>);

impl Faults {
    fn add(&mut self, key: &'static str, why: impl Into<String>) {
        self.0.push(SettingError {
            key,
            why: why.into(),
        });
    }

    /// The value of a key with few values.
    fn one_of<T: Copy>(
        &mut self,
        key: &'static str,
        value: Option<&str>,
        known: &[(&str, T)],
    ) -> Option<T> {
        let value = value?;
        let found = known.iter().find(|(name, _)| *name == value);
        if found.is_none() {
            let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            self.add(key, format!("is one of {}", names.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// The name of a header field.
    fn field_name(&mut self, key: &'static str, value: Option<&str>) -> Option<String> {
        let value = value?;
        let is_name = !value.is_empty()
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_name {
            self.add(key, "is the name of a header field, such as X-Signature");
        }
        is_name.then(|| value.to_owned())
    }
}

/// Applies the settings of a source to the scheme of its preset.
pub(super) fn apply(
    preset: &Preset,
    mut scheme: Scheme,
    settings: &Settings,
) -> Result<Scheme, Vec<SettingError>> {
    let mut faults = Faults(Vec::new());
    for key in settings.written() {
        if !preset.takes.contains(&key) {
            let why = match preset.takes {
                [] => format!("the preset {} takes no such key", preset.name),
                keys => format!("the preset {} takes only {}", preset.name, keys.join(", ")),
            };
            faults.add(key, why);
        }
    }
    if !faults.0.is_empty() {
        return Err(faults.0);
    }
    if let Some(name) = faults.field_name("id_header", settings.id_header.as_deref()) {
        scheme.id_fields = vec![name];
    }
    match &mut scheme.proof {
        Proof::Hmac(hmac) => {
            let takes_signed = preset.takes.contains(&"signed");
            apply_to_hmac(hmac, settings, takes_signed, &mut faults);
        }
        Proof::Standard(standard) | Proof::Gitlab(Gitlab { standard, .. }) => {
            apply_to_standard(standard, settings, &mut faults);
        }
        Proof::Stripe(stripe) => apply_tolerance(&mut stripe.tolerance_s, settings, &mut faults),
        Proof::Discord(discord) => {
            apply_tolerance(&mut discord.tolerance_s, settings, &mut faults);
        }
        Proof::Token(token) => {
            let field = faults.field_name("header", settings.header.as_deref());
            let query = settings.query.as_deref();
            if query.is_some_and(|name| !is_parameter(name)) {
                faults.add("query", "is the name of a parameter, such as access_token");
            }
            if preset.name == "token" && query.is_some() && settings.header.is_none() {
                token.field = None;
            }
            token.field = field.or(token.field.take());
            token.query = query.map(str::to_owned).or(token.query.take());
        }
    }
    if faults.0.is_empty() {
        Ok(scheme)
    } else {
        Err(faults.0)
    }
}

fn is_parameter(name: &str) -> bool {
    let mut bytes = name.bytes();
    !name.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn apply_to_standard(standard: &mut Standard, settings: &Settings, faults: &mut Faults) {
    let forms = [("text", KeyForm::Text), ("base64", KeyForm::Standard)];
    if let Some(form) = faults.one_of("key", settings.key.as_deref(), &forms) {
        standard.key = form;
    }
    apply_tolerance(&mut standard.tolerance_s, settings, faults);
}

fn apply_tolerance(tolerance_s: &mut u32, settings: &Settings, faults: &mut Faults) {
    let Some(wanted_s) = settings.tolerance_s else {
        return;
    };
    if CLOCK_TOLERANCE_S_RANGE.contains(&wanted_s) {
        *tolerance_s = wanted_s;
        return;
    }
    let (least, most) = (
        CLOCK_TOLERANCE_S_RANGE.start(),
        CLOCK_TOLERANCE_S_RANGE.end(),
    );
    faults.add("tolerance", format!("is from {least}s to {most}s"));
}

fn apply_to_hmac(hmac: &mut Hmac, settings: &Settings, takes_signed: bool, faults: &mut Faults) {
    let algorithms = [
        ("sha256", Algorithm::Sha256),
        ("sha1", Algorithm::Sha1),
        ("sha384", Algorithm::Sha384),
        ("sha512", Algorithm::Sha512),
    ];
    if let Some(algorithm) = faults.one_of("algorithm", settings.algorithm.as_deref(), &algorithms)
    {
        hmac.algorithm = algorithm;
    }
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    if let Some(encoding) = faults.one_of("encoding", settings.encoding.as_deref(), &encodings) {
        hmac.encoding = encoding;
    }
    let forms = [
        ("text", KeyForm::Text),
        ("base64", KeyForm::Base64),
        ("hex", KeyForm::Hex),
    ];
    if let Some(form) = faults.one_of("key", settings.key.as_deref(), &forms) {
        hmac.key = form;
    }
    apply_field(hmac, settings, faults);
    apply_time(hmac, settings, takes_signed, faults);
}

fn apply_field(hmac: &mut Hmac, settings: &Settings, faults: &mut Faults) {
    let prefix = settings.prefix.clone().unwrap_or_default();
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        faults.add("prefix", "is a text without spaces, such as sha256=");
    }
    if let Some(name) = faults.field_name("header", settings.header.as_deref()) {
        hmac.tags = vec![TagField { name, prefix }];
    } else if hmac.tags.is_empty() && settings.header.is_none() {
        faults.add("header", "is missing: name the field with the signature");
    }
}

fn apply_time(hmac: &mut Hmac, settings: &Settings, takes_signed: bool, faults: &mut Faults) {
    let name = faults.field_name("timestamp_header", settings.timestamp_header.as_deref());
    if let Some(name) = name {
        hmac.time = Time::Field {
            name,
            tolerance_s: crate::limits::CLOCK_TOLERANCE_S,
        };
        if !takes_signed {
            // Grafana's layout, which cannot be changed there either.
            let colon = Part::Text(":".to_owned());
            hmac.signed = vec![Part::Time, colon, Part::Body];
        }
    }
    if let Some(text) = &settings.signed {
        match parse_signed(text) {
            Ok(parts) => hmac.signed = parts,
            Err(why) => faults.add("signed", why),
        }
    }
    let signs_time = hmac.signed.contains(&Part::Time);
    match (signs_time, &hmac.time) {
        (true, Time::None) if settings.timestamp_header.is_none() => {
            faults.add(
                "timestamp_header",
                "is missing: name the field with {timestamp}",
            );
        }
        (false, Time::Field { .. }) => faults.add(
            "signed",
            "has to contain {timestamp}, such as {timestamp}.{body}: a time that is not signed proves \
             nothing",
        ),
        _ => {}
    }
    match &mut hmac.time {
        Time::Field { tolerance_s, .. } | Time::Member { tolerance_s } => {
            apply_tolerance(tolerance_s, settings, faults);
        }
        Time::None if settings.tolerance_s.is_some() && settings.timestamp_header.is_none() => {
            faults.add("tolerance", "needs a timestamp_header");
        }
        Time::None => {}
    }
}

/// Parses a text such as `{timestamp}.{body}`.
fn parse_signed(text: &str) -> Result<Vec<Part>, &'static str> {
    const FORM: &str = "is made of {id}, {timestamp}, {body} and text between, such as \
                        {timestamp}.{body}";
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let open = rest.find(['{', '}']).unwrap_or(rest.len());
        if open > 0 {
            parts.push(Part::Text(rest[..open].to_owned()));
            rest = &rest[open..];
            continue;
        }
        let close = rest.find('}').ok_or(FORM)?;
        parts.push(match &rest[..=close] {
            "{id}" => Part::Id,
            "{timestamp}" => Part::Time,
            "{body}" => Part::Body,
            _ => return Err(FORM),
        });
        rest = &rest[close + 1..];
    }
    let bodies = parts.iter().filter(|part| **part == Part::Body);
    match bodies.count() {
        1 => Ok(parts),
        _ => Err("has to contain {body} once: what is not signed can be forged"),
    }
}
