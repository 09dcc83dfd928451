//! A request for the history: what it asks for, and what is kept of it while it waits.
//!
//! Made by `requests`, answered by `history`. Costs its place and its few parameters while it waits.
//! Never looks at the log.

use crate::http::{self, HistoryQuery, ReplyTo, RequestReader};
use crate::live_log::Cursor;
use crate::message::Epoch;
use crate::shard::membership::Place;
use crate::sse::event_id::EventId;

/// A request for the history, free of its bytes.
pub(super) struct HistoryRequest {
    pub(super) view: http::View,
    pub(super) is_public: bool,
    pub(super) since: Since,
    pub(super) limit: usize,
    pub(super) wait_ms: u64,
    pub(super) if_none_match: Option<Box<str>>,
    pub(super) to: ReplyTo,
}

/// What a request goes on from.
#[derive(Clone, Copy)]
pub(super) enum Since {
    Start,
    /// An event id of another ring, or nonsense.
    Unknown,
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

/// A request that waits for something to tell.
pub(super) struct Waiting {
    pub(super) place: Place,
    /// Behind what there was when it began to wait.
    pub(super) end: Cursor,
    /// It is to be answered whether there is news or not: its time is over, or its peer's side, or
    /// the server's.
    pub(super) is_due: bool,
    pub(super) request: HistoryRequest,
    /// There only if something is pipelined behind the request.
    pub(super) reader: Option<Box<RequestReader>>,
}

impl Waiting {
    /// Bytes allocated for it.
    pub(super) fn held_bytes(&self) -> usize {
        let tags = self.request.if_none_match.as_ref();
        let reader = self.reader.as_ref();
        size_of::<Waiting>()
            + tags.map_or(0, |tags| tags.len())
            + reader.map_or(0, |reader| reader.held_bytes())
    }
}
