//! A request for the history: its parameters, and what a long poll keeps while it waits.
//!
//! Made by `requests`, answered by `history`. A long poll keeps its place in the lists and its
//! parameters. Never looks at the log.

use crate::http::{self, HistoryQuery, ReplyTo};
use crate::live_log::Cursor;
use crate::message::Epoch;
use crate::shard::membership::Place;
use crate::sse::event_id::EventId;

/// A request for the history that borrows nothing from the reader.
pub(super) struct HistoryRequest {
    pub(super) view: http::View,
    pub(super) is_public: bool,
    pub(super) since: Since,
    pub(super) limit: usize,
    pub(super) wait_ms: u64,
    pub(super) if_none_match: Option<Box<str>>,
    pub(super) to: ReplyTo,
}

/// The message after which the answer begins.
#[derive(Clone, Copy)]
pub(super) enum Since {
    /// None: the answer begins with the history.
    Start,
    /// An event id of another ring, or malformed.
    Unknown,
    /// A message of this ring.
    Seq(u64),
}

impl HistoryRequest {
    pub(super) fn new(
        query: HistoryQuery<'_>,
        if_none_match: Option<&str>,
        epoch: Epoch,
        to: ReplyTo,
    ) -> HistoryRequest {
        let since = match query.since.map(|id| EventId::parse(id.as_bytes())) {
            None => Since::Start,
            Some(Some(id)) if id.epoch == epoch => Since::Seq(id.seq),
            Some(_) => Since::Unknown,
        };
        HistoryRequest {
            view: query.view,
            is_public: query.is_public,
            since,
            limit: query.limit,
            wait_ms: query.wait_s * 1000,
            if_none_match: if_none_match.map(Box::from),
            to,
        }
    }
}

/// A long poll: a request that waits for news.
pub(super) struct Waiting {
    pub(super) place: Place,
    /// The end of its view when the wait began.
    pub(super) end: Cursor,
    /// It is answered even without news: its wait is over, its peer has hung up, or the server
    /// drains.
    pub(super) is_due: bool,
    pub(super) request: HistoryRequest,
}

impl Waiting {
    /// The bytes allocated for it.
    pub(super) fn held_bytes(&self) -> usize {
        let tags = self.request.if_none_match.as_ref();
        size_of::<Waiting>() + tags.map_or(0, |tags| tags.len())
    }
}
