//! What becomes of a message that is published: a receipt, or the reason why it is not stored.
//!
//! Made by the hub and by the committer, read by shards and by the mirror. Without I/O.

use std::sync::Arc;

use crate::identities::{First, Known};
use crate::message::{Message, MessageId};
use crate::ring::RingError;

/// The acknowledgement of a message that is in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The message's id.
    pub id: MessageId,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The message is that of an earlier request with the same identity.
    pub is_repeat: bool,
}

/// What became of a message.
pub(super) type Outcome = Result<Receipt, NotStored>;

impl Receipt {
    pub(super) fn of(message: &Message) -> Receipt {
        Receipt {
            id: message.id,
            timestamp_ms: message.timestamp_ms,
            is_repeat: false,
        }
    }

    pub(super) fn of_first(first: First) -> Receipt {
        Receipt {
            id: first.id,
            timestamp_ms: first.timestamp_ms,
            is_repeat: true,
        }
    }
}

/// The outcome of a request whose identity is known; `None` if it is new.
pub(super) fn outcome_of(known: Known) -> Option<Outcome> {
    match known {
        Known::Nothing => None,
        Known::Repeat(first) => Some(Ok(Receipt::of_first(first))),
        Known::KeyReused => Some(Err(NotStored::KeyReused)),
    }
}

/// Why a webhook has no receipt. Only the message of [`NotStored::InDoubt`] may still be delivered.
#[derive(Debug, Clone)]
pub enum NotStored {
    /// The ring or the disk failed.
    Ring(Arc<RingError>),
    /// The kernel returned no random bytes for its id.
    Entropy(getrandom::Error),
    /// Its frame would be larger than this many bytes.
    FrameTooLarge(usize),
    /// A shard's inbox stayed full until the deadline.
    Busy,
    /// The bus has not taken it in time. It is certainly not there.
    NoBus,
    /// Another body has had its key.
    KeyReused,
    /// It was sent to the bus, and has not come back in time: it may be there, and may yet be shown.
    InDoubt,
}

impl std::fmt::Display for NotStored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotStored::Ring(error) => write!(f, "{error}"),
            NotStored::Entropy(error) => write!(f, "no random bytes for a message id: {error}"),
            NotStored::FrameTooLarge(limit) => write!(f, "its event is over {limit} bytes"),
            NotStored::Busy => f.write_str("the shards are busy"),
            NotStored::KeyReused => f.write_str("another body has had its key"),
            NotStored::NoBus => f.write_str("the bus does not take it"),
            NotStored::InDoubt => f.write_str("it has not come back from the bus"),
        }
    }
}

impl std::error::Error for NotStored {}

impl NotStored {
    /// Whether the request is at fault, and the store works.
    pub fn is_of_sender(&self) -> bool {
        self.is_too_large() || matches!(self, NotStored::KeyReused)
    }

    /// Whether the message is too large, so that a retry fails as well.
    pub fn is_too_large(&self) -> bool {
        match self {
            NotStored::FrameTooLarge(_) => true,
            NotStored::Ring(error) => matches!(**error, RingError::MessageTooLarge { .. }),
            NotStored::Entropy(_)
            | NotStored::Busy
            | NotStored::KeyReused
            | NotStored::NoBus
            | NotStored::InDoubt => false,
        }
    }
}
