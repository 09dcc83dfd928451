//! Sources: requests of webhook providers, verified and turned into drafts.
//!
//! Called by the thread `sources` with one complete request at a time. A source verifies it, recognises
//! its event and its identity, and renders its text. Imports only `message`, `limits` and crates. Never
//! opens a socket, never reads a clock, and knows nothing of HTTP but header fields and a query.

mod body;
mod defaults;
mod escape;
mod event;
pub mod explain;
mod fields;
mod file;
mod handshake;
mod identity;
mod pattern;
mod preset;
mod refusal;
mod scheme;
mod shopify;
mod source;
mod template;
mod texts;

pub use self::body::BodyForm;
pub use self::fields::{Fields, Repeated};
pub use self::file::{Loaded, Sources, SourcesError};
pub use self::preset::{Preset, SettingError, Settings};
pub use self::refusal::Refusal;
pub use self::scheme::{Key, KeyError, Scheme, Verified};
pub use self::source::{SessionFault, Source, Step};
pub use self::template::RenderFault;
pub use self::texts::Origin;

use crate::message::Draft;

/// A complete request to a source.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// What follows `?` in the target, still percent-encoded.
    pub query: Option<&'a str>,
    /// The header fields.
    pub fields: &'a Fields<'a>,
    /// The body as received, de-chunked, before any other decoding.
    pub body: &'a [u8],
}

/// What a source makes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// A message. After its outcome the provider gets `success`.
    Publish {
        /// The message, with its label and its identity.
        draft: Draft,
        /// The answer if it was published, now or by an earlier attempt.
        success: Success,
    },
    /// An answer without a message.
    Reply {
        /// The answer.
        reply: Reply,
        /// Why nothing is published.
        why: Unpublished,
    },
    /// An error answer.
    Refuse(Refusal),
}

/// Why a request that is answered with a success is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpublished {
    /// The provider proves that the address answers.
    Handshake,
    /// The file's `events` does not name the event.
    Unwanted,
    /// The session's template gave no usable session. Publishing it would make it public.
    Unroutable,
}

/// The answer to a published message. Some providers read it: Telegram executes it, Slack shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Success {
    /// 200 with the receipt, like a native webhook.
    Receipt,
    /// 200 without a body.
    Empty,
    /// 204.
    NoContent,
    /// 200 `{"type":4}` with a short text, which Discord shows to the user of a command alone.
    Noted,
    /// 200 `{"type":6}`: Discord leaves the message with the component as it is.
    Unchanged,
}

impl Success {
    /// The answer if there is no receipt, because nothing was published.
    pub fn reply(self) -> Reply {
        match self {
            Success::Receipt => Reply::json(br#"{"success":true}"#.to_vec()),
            Success::Empty => Reply::empty(200),
            Success::NoContent => Reply::empty(204),
            Success::Noted => {
                let body = br#"{"type":4,"data":{"content":"Received","flags":64}}"#;
                Reply::json(body.to_vec())
            }
            Success::Unchanged => Reply::json(br#"{"type":6}"#.to_vec()),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`, if there is one.
    pub content_type: Option<&'static str>,
    /// Further header fields. Their values are safe to send: visible ASCII and spaces.
    pub fields: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer without a body.
    pub fn empty(status: u16) -> Reply {
        Reply {
            status,
            content_type: None,
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    /// 200 with a JSON body.
    pub fn json(body: Vec<u8>) -> Reply {
        Reply {
            content_type: Some("application/json"),
            body,
            ..Reply::empty(200)
        }
    }

    /// 200 with a plain text.
    pub fn text(body: Vec<u8>) -> Reply {
        Reply {
            content_type: Some("text/plain; charset=utf-8"),
            body,
            ..Reply::empty(200)
        }
    }
}
