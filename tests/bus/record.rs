//! What a client of the stream has received, connection by connection.

use std::collections::HashSet;

use crate::view::View;

/// An event id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub epoch: u64,
    pub seq: u64,
}

impl Id {
    pub fn parse(text: &str) -> Option<Id> {
        let (epoch, seq) = text.split_once('-')?;
        let epoch = u64::from_str_radix(epoch, 16).ok()?;
        let seq = seq.parse().ok()?;
        Some(Id { epoch, seq })
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.seq)
    }
}

impl std::fmt::Debug for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// A message as a stream has shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub id: Id,
    pub message_id: String,
    pub content: String,
    pub session: Option<String>,
    pub timestamp: u64,
}

/// An event other than `connected` and heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Message(Shown),
    /// So many messages are missing here.
    Gap(u64),
}

/// One connection.
#[derive(Debug, Clone, Default)]
pub struct Visit {
    pub node: usize,
    /// The last event id that was sent.
    pub resumed: Option<Id>,
    /// The announced length of the replay, once `connected` has arrived.
    pub replay: Option<u64>,
    /// `connected` had an event id: the stream continues after `resumed`, or there was no history.
    pub continues: bool,
    /// The last event id of any event.
    pub last: Option<Id>,
    pub seen: Vec<Seen>,
    pub heartbeats: u64,
    /// The token of its request, and what the stream has said of its end.
    pub token: Option<TokenUse>,
    pub has_ended: bool,
    /// It ended with its last chunk, not with the connection.
    pub ended_well: bool,
}

impl Visit {
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Shown> {
        self.seen.iter().filter_map(|seen| match seen {
            Seen::Message(shown) => Some(shown),
            Seen::Gap(_) => None,
        })
    }

    /// Whether it ended with its token.
    pub fn has_expired(&self) -> bool {
        let token = self.token.as_ref();
        token.is_some_and(|token| token.ended_ms.is_some())
    }

    /// Counts an event or a heartbeat, if it is behind the end of the token.
    pub fn note_after_end(&mut self) {
        if let Some(token) = &mut self.token {
            token.after_end += u64::from(token.ended_ms.is_some());
        }
    }

    pub fn gaps(&self) -> Vec<u64> {
        let gap = |seen: &Seen| match seen {
            Seen::Gap(missed) => Some(*missed),
            Seen::Message(_) => None,
        };
        self.seen.iter().filter_map(gap).collect()
    }
}

/// A token on a connection. Times are in Unix milliseconds; all processes of a test have one clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// Its `exp`.
    pub expires_ms: u64,
    /// When the request with it was sent.
    pub sent_ms: u64,
    /// Each `token_expiring`: the end that it states, and when it came.
    pub warnings: Vec<(u64, u64)>,
    /// When `token_expired` came.
    pub ended_ms: Option<u64>,
    /// Events and heartbeats behind `token_expired`.
    pub after_end: u64,
}

/// What a client has received.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// What its streams may show.
    pub view: View,
    pub visits: Vec<Visit>,
    /// Message ids on any connection.
    pub known: HashSet<String>,
    /// Requests with a token that had ended, each refused with a 401.
    pub dead_tokens: usize,
    /// What no client should receive.
    pub failures: Vec<String>,
}

impl Record {
    /// All messages, in the order of their arrival.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Shown> {
        self.visits.iter().flat_map(Visit::messages)
    }

    pub fn contents(&self) -> Vec<&str> {
        self.messages()
            .map(|shown| shown.content.as_str())
            .collect()
    }

    pub fn current(&self) -> &Visit {
        self.visits.last().expect("it has connected")
    }

    /// The connections that ended with their token.
    pub fn token_ends(&self) -> usize {
        let visits = self.visits.iter();
        visits.filter(|visit| visit.has_expired()).count()
    }

    /// The id that a reconnection sends.
    pub fn last_id(&self) -> Option<Id> {
        self.visits.iter().rev().find_map(|visit| visit.last)
    }
}
