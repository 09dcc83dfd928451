//! A source: the way of a request from its bytes to a verdict.
//!
//! Made by `file`. Called by the thread `sources`, and by `source-check`, which sees each step. The order
//! matters: nothing looks at a body before it is verified. Never fails for what a template does.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::Value;

use super::body::{self, Body, BodyBounds, BodyFault, BodyForm};
use super::pattern::Pattern;
use super::template::{self, RenderFault, SESSION_RENDER_BYTES_MAX, Templates};
use super::texts::{Origin, Texts};
use super::{
    Fields, Incoming, Key, Preset, Refusal, Repeated, Reply, Scheme, Unpublished, Verdict, Verified,
};
use crate::limits::{GZIP_RATIO_MAX, SESSION_BYTES_MAX, SOURCE_FAULT_LOG_INTERVAL_MS};
use crate::message::{Draft, Identity, Label, SessionId};

/// An address for the requests of one provider.
pub struct Source {
    pub(super) name: String,
    pub(super) preset: &'static Preset,
    pub(super) scheme: Scheme,
    /// Any of them verifies a request. Empty if the source is open.
    pub(super) keys: Vec<Key>,
    pub(super) is_open: bool,
    pub(super) bounds: BodyBounds,
    /// For how long an identity is known.
    pub(super) window_s: u32,
    /// The events that are published. Empty: all.
    pub(super) events: Vec<Pattern>,
    pub(super) session: Session,
    pub(super) texts: Texts,
    pub(super) content_bytes_max: usize,
    pub(super) faults: Faults,
}

/// For which streams a source's messages are.
pub enum Session {
    /// For all.
    Everybody,
    /// For those of one session.
    Named(SessionId),
    /// For those of the session that a template prints. A strict one: a missing member is a fault.
    Template(Box<Templates>),
}

/// The name of the template of a session, in [`Session::Template`].
pub const SESSION_TEMPLATE: &str = "session";

/// Template faults of a source, for the metric and the log.
#[derive(Default)]
pub struct Faults {
    count: AtomicU64,
    logged_unix_ms: AtomicU64,
}

/// A step of a request, for `source-check`.
#[derive(Debug)]
pub enum Step<'a> {
    /// The request is from the provider; or nothing was checked.
    Verified {
        /// What was found.
        verified: &'a Verified,
        /// Whether nothing was checked.
        is_open: bool,
    },
    /// The body was decoded.
    Decoded {
        /// How it was understood.
        form: BodyForm,
        /// Its size, inflated.
        bytes: usize,
    },
    /// The request proves the address, and is no event.
    Handshake,
    /// The event's type.
    Event {
        /// The type; of a batch, that of its first event that is published.
        event: &'a str,
        /// How many events of the request are among the source's `events`.
        wanted: usize,
        /// How many events the request has.
        of: usize,
    },
    /// By what a repeat would be recognised.
    Identified(Option<&'a Identity>),
    /// The session; `None` for all streams.
    Routed(Option<&'a SessionId>),
    /// The session's template gave no session.
    Unroutable(SessionFault),
    /// A template gave no text.
    TemplateFault(&'a Origin, RenderFault),
    /// The text of the message.
    Rendered(&'a str, &'a Origin),
}

/// Why a session's template gave no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFault {
    /// It failed, or printed nothing.
    Render(RenderFault),
    /// Its text is too long.
    TooLong,
}

impl fmt::Display for SessionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionFault::Render(fault) => write!(f, "{fault}"),
            SessionFault::TooLong => write!(f, "its text is over {SESSION_BYTES_MAX} bytes"),
        }
    }
}

impl Source {
    /// The name in the file and in the address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The provider.
    pub fn preset(&self) -> &'static Preset {
        self.preset
    }

    /// Whether everybody who knows the address may publish.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whether the secret itself may be sent, so that each request is a try to guess it.
    pub fn compares_secret(&self) -> bool {
        self.scheme.sends_secret() && self.keys.iter().any(|key| key.mac().is_none())
    }

    /// Where the signature or the secret is expected, in words.
    pub fn expects(&self) -> String {
        self.scheme.expects()
    }

    /// The largest body, in bytes.
    pub fn body_bytes_max(&self) -> usize {
        self.bounds.bytes_max
    }

    /// How often a template gave no text or no session since the file was read.
    pub fn template_faults(&self) -> u64 {
        self.faults.count.load(Relaxed)
    }

    /// The answer to `OPTIONS`, if it is the provider's handshake and no preflight of CORS.
    pub fn preflight(&self, fields: &Fields<'_>) -> Option<Reply> {
        self.preset.preflight(fields)
    }

    /// What becomes of a request.
    pub fn receive(&self, incoming: &Incoming<'_>, now_unix_ms: u64) -> Verdict {
        self.explain(incoming, now_unix_ms, &mut |step| match step {
            Step::TemplateFault(origin, fault) => {
                self.note_fault(now_unix_ms, &format!("{origin}: {fault}"));
            }
            Step::Unroutable(fault) => self.note_fault(now_unix_ms, &format!("session: {fault}")),
            _ => (),
        })
    }

    /// The same, with each step.
    pub fn explain(
        &self,
        incoming: &Incoming<'_>,
        now_unix_ms: u64,
        step: &mut dyn FnMut(Step<'_>),
    ) -> Verdict {
        self.judge(incoming, now_unix_ms, step)
            .unwrap_or_else(Verdict::Refuse)
    }

    fn judge(
        &self,
        incoming: &Incoming<'_>,
        now_unix_ms: u64,
        step: &mut dyn FnMut(Step<'_>),
    ) -> Result<Verdict, Refusal> {
        if incoming.body.len() > self.bounds.bytes_max {
            let bytes_max = self.bounds.bytes_max;
            return Err(Refusal::BodyTooLarge { bytes_max });
        }
        let is_open = self.is_open;
        let verified = if is_open {
            self.scheme.unverified(incoming)?
        } else {
            self.scheme.verify(&self.keys, incoming, now_unix_ms)?
        };
        step(Step::Verified {
            verified: &verified,
            is_open,
        });
        let mut body = self.decode(incoming, &verified)?;
        step(Step::Decoded {
            form: body.form,
            bytes: body.bytes.len(),
        });

        if let Some(reply) = self
            .preset
            .handshake(&self.keys, &verified, incoming, &body.value)
        {
            step(Step::Handshake);
            return Ok(Verdict::Reply {
                reply,
                why: Unpublished::Handshake,
            });
        }
        let success = self.preset.success(&body.value);
        let identity =
            self.preset
                .identity(&self.name, &verified, incoming, &body.value, self.window_s);
        let event = self.select(incoming, &mut body.value, step);
        let Some(event) = event else {
            return Ok(Verdict::Reply {
                reply: success.reply(),
                why: Unpublished::Unwanted,
            });
        };
        step(Step::Identified(identity.as_deref()));

        Ok(match self.message(&event, body, step) {
            None => Verdict::Reply {
                reply: success.reply(),
                why: Unpublished::Unroutable,
            },
            Some((session, content)) => {
                let label = Label::new(&self.name, &event).or_else(|| Label::new(&self.name, ""));
                let label = label.map(Into::into);
                Verdict::Publish {
                    draft: Draft {
                        session,
                        content,
                        label,
                        identity,
                    },
                    success,
                }
            }
        })
    }

    /// Decodes what is signed: the body, or the part of it that the scheme names.
    fn decode<'a>(
        &self,
        incoming: &Incoming<'a>,
        verified: &'a Verified,
    ) -> Result<Body<'a>, Refusal> {
        if let Some(payload) = &verified.payload {
            return self.refused(body::decode(payload, None, None, self.bounds), b"");
        }
        let repeated = |Repeated| Refusal::Repeated("Content-Encoding".to_owned());
        let encoding = incoming
            .fields
            .get_once("Content-Encoding")
            .map_err(repeated)?;
        let content_type = incoming.fields.text("Content-Type").map(str::as_bytes);
        let body = body::decode(incoming.body, encoding, content_type, self.bounds);
        self.refused(body, encoding.unwrap_or_default())
    }

    fn refused<'a>(
        &self,
        body: Result<Body<'a>, BodyFault>,
        encoding: &[u8],
    ) -> Result<Body<'a>, Refusal> {
        let bytes_max = self.bounds.bytes_max;
        body.map_err(|fault| match fault {
            BodyFault::Encoding => {
                let name = String::from_utf8_lossy(&encoding[..encoding.len().min(40)]);
                let is_gzip = name.eq_ignore_ascii_case("gzip");
                let remedy = if is_gzip {
                    ", which needs gzip = true"
                } else {
                    ""
                };
                Refusal::EncodingRefused(format!("{name:?}{remedy}"))
            }
            BodyFault::Gzip => Refusal::BodyMalformed("it is no whole gzip stream".to_owned()),
            BodyFault::TooLarge => Refusal::BodyTooLarge { bytes_max },
            BodyFault::Ratio => {
                let what = format!("it inflates to over {GZIP_RATIO_MAX} times its size");
                Refusal::BodyMalformed(what)
            }
        })
    }

    /// The type of the event, if it is published. Of a batch, the first such type; the body keeps only the
    /// events that are published, so that its text names no other.
    fn select(
        &self,
        incoming: &Incoming<'_>,
        body: &mut Value,
        step: &mut dyn FnMut(Step<'_>),
    ) -> Option<String> {
        let batch = self.preset.batch(body);
        let first = batch.first().unwrap_or(body);
        let mut event = self.preset.event(incoming, first);
        let (mut wanted, of) = (usize::from(self.wants(&event)), batch.len().max(1));
        if let Value::Array(events) = body
            && of > 1
        {
            let type_of = |it: &Value| self.preset.event(incoming, it);
            events.retain(|it| self.wants(&type_of(it)));
            wanted = events.len();
            event = events.first().map_or(event, type_of);
        }
        step(Step::Event {
            event: &event,
            wanted,
            of,
        });
        (wanted > 0).then_some(event)
    }

    fn wants(&self, event: &str) -> bool {
        self.events.is_empty() || self.events.iter().any(|pattern| pattern.matches(event))
    }

    /// The session and the text of an event. `None` if there is no session: without one, all streams would
    /// see the message.
    fn message(
        &self,
        event: &str,
        body: Body<'_>,
        step: &mut dyn FnMut(Step<'_>),
    ) -> Option<(Option<SessionId>, String)> {
        let Body { bytes, value, .. } = body;
        let values = template::context(&self.name, event, self.context_of(value));
        let session = match self.session_of(&values) {
            Ok(session) => session,
            Err(fault) => {
                step(Step::Unroutable(fault));
                return None;
            }
        };
        step(Step::Routed(session.as_ref()));
        let session_bytes = session.as_ref().map_or(0, |session| session.as_str().len());
        let bytes_max = self.content_bytes_max.saturating_sub(session_bytes);

        let mut on_fault = |origin, fault| step(Step::TemplateFault(&origin, fault));
        let rendered = self.texts.render(event, &values, bytes_max, &mut on_fault);
        let (content, origin) = rendered
            .or_else(|| Some((self.as_it_came(&bytes, bytes_max)?, Origin::Body)))
            .unwrap_or_else(|| (self.plain_text(event, bytes_max), Origin::Plain));
        step(Step::Rendered(&content, &origin));
        Some((session, content))
    }

    /// The values for templates, if there are any templates.
    fn context_of(&self, value: Value) -> Value {
        match (self.texts.is_empty(), &self.session) {
            (true, Session::Everybody | Session::Named(_)) => Value::Null,
            _ => value,
        }
    }

    fn session_of(
        &self,
        values: &minijinja::value::Value,
    ) -> Result<Option<SessionId>, SessionFault> {
        let templates = match &self.session {
            Session::Everybody => return Ok(None),
            Session::Named(session) => return Ok(Some(session.clone())),
            Session::Template(templates) => templates,
        };
        let text = templates.render(SESSION_TEMPLATE, values, SESSION_RENDER_BYTES_MAX);
        let text = text.map_err(SessionFault::Render)?;
        let session = SessionId::parse(&text).map_err(|_| SessionFault::TooLong)?;
        // A text is never blank, so this is no message for all streams.
        session.map(Some).ok_or(SessionFault::TooLong)
    }

    /// The body as the text of a message, where no template makes one.
    fn as_it_came(&self, bytes: &[u8], bytes_max: usize) -> Option<String> {
        let text = std::str::from_utf8(bytes).ok()?;
        // The frame of a message has room for twice its bytes.
        let fits = text.len() <= bytes_max && escaped_bytes(text) <= 2 * bytes_max;
        let is_message = !text.trim().is_empty() && fits;
        (self.texts.is_empty() && is_message).then(|| text.to_owned())
    }

    fn plain_text(&self, event: &str, bytes_max: usize) -> String {
        let text = format!("{} {event}", self.name);
        template::cut(text.trim_end(), bytes_max).into_owned()
    }

    /// Counts a fault, and logs the first one and then one in each interval.
    fn note_fault(&self, now_unix_ms: u64, what: &str) {
        let count = self.faults.count.fetch_add(1, Relaxed) + 1;
        let logged = self.faults.logged_unix_ms.load(Relaxed);
        if count > 1 && now_unix_ms.abs_diff(logged) < SOURCE_FAULT_LOG_INTERVAL_MS {
            return;
        }
        self.faults.logged_unix_ms.store(now_unix_ms, Relaxed);
        let source = self.name.as_str();
        tracing::warn!(
            source,
            count,
            "a template of the source gave no text: {what}"
        );
    }
}

/// Bytes of a text in the JSON of an event. Controls take six, which templates never print.
fn escaped_bytes(text: &str) -> usize {
    let bytes = |c: char| match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\u{0}'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => 6,
        c => c.len_utf8(),
    };
    text.chars().map(bytes).sum()
}

#[cfg(test)]
mod tests;
