//! A request that waits: what for, and what it keeps meanwhile.
//!
//! A long poll waits for news. A request whose event id is ahead of this node waits until the node gets there.
//! `history` and `subscription` let requests wait. A message, a turnover, a deadline, a hang-up or a drain ends
//! the wait, and `history` continues with the request. Never sends anything.

use crate::clock::Now;
use crate::http::{self, HistoryQuery, Moment, ReplyTo, Since, TokenLife};
use crate::limits::RESUME_AHEAD_MS_MAX;
use crate::live_log::{Cursor, View};
use crate::metrics::{Counter, Endpoint};
use crate::shard::Shard;
use crate::shard::exchange::{Exchange, Next, Stage, Then};
use crate::shard::membership::{Holder, Place};
use crate::shard::resumption::{ResumePoint, SentId};
use crate::shard::subscription::Subscriber;
use crate::shard::transport::Transport;

/// A request for the history that borrows nothing from the reader.
pub(super) struct HistoryRequest {
    pub(super) view: http::View,
    pub(super) is_public: bool,
    /// Looked up anew for each answer, because a wait may outlast an epoch.
    pub(super) since: SentId,
    /// The time from which it asks for messages.
    pub(super) from: Option<Moment>,
    pub(super) limit: usize,
    pub(super) wait_ms: u64,
    pub(super) if_none_match: Option<Box<str>>,
    /// The token that has opened it.
    pub(super) token: Option<TokenLife>,
    pub(super) to: ReplyTo,
}

impl HistoryRequest {
    pub(super) fn new(
        query: HistoryQuery,
        if_none_match: Option<&str>,
        to: ReplyTo,
    ) -> HistoryRequest {
        let (since, from) = match query.since {
            None => (SentId::None, None),
            Some(Since::Event(id)) => (SentId::Id(id), None),
            Some(Since::Time(moment)) => (SentId::None, Some(moment)),
        };
        HistoryRequest {
            view: query.view,
            is_public: query.is_public,
            since,
            from,
            limit: query.limit,
            wait_ms: query.wait_s * 1000,
            if_none_match: if_none_match.map(Box::from),
            token: query.token,
            to,
        }
    }

    /// The bytes allocated for its entity tags and its sessions.
    pub(super) fn held_bytes(&self) -> usize {
        let tags = self.if_none_match.as_ref().map_or(0, |tags| tags.len());
        tags + self.view.held_bytes()
    }
}

/// A request that waits.
pub(super) struct Waiting {
    pub(super) place: Place,
    /// It is answered in any case: its wait is over, its peer has hung up, another history has replaced
    /// that of the log, or the server drains.
    pub(super) is_due: bool,
    pub(super) awaited: Awaited,
}

/// What a request waits for.
pub(super) enum Awaited {
    /// A message of its view after `end`, which was the end of the view when the wait began: a long poll.
    News {
        end: Cursor,
        request: HistoryRequest,
    },
    /// That this node reaches the event id of the request.
    Reach(AheadRequest),
}

/// A request whose event id is ahead of this node.
pub(super) enum AheadRequest {
    History(HistoryRequest),
    Stream(Subscriber),
}

impl AheadRequest {
    pub(super) fn sent_id(&self) -> SentId {
        match self {
            AheadRequest::History(request) => request.since,
            AheadRequest::Stream(subscriber) => subscriber.last_id,
        }
    }
}

impl Waiting {
    /// How it is answered, and as what it counts.
    pub(super) fn reply_to(&self) -> (ReplyTo, Endpoint) {
        match &self.awaited {
            Awaited::News { request, .. } | Awaited::Reach(AheadRequest::History(request)) => {
                (request.to, Endpoint::Messages)
            }
            Awaited::Reach(AheadRequest::Stream(subscriber)) => (subscriber.to, Endpoint::Stream),
        }
    }

    /// The token that has opened it.
    pub(super) fn token(&self) -> Option<TokenLife> {
        match &self.awaited {
            Awaited::News { request, .. } | Awaited::Reach(AheadRequest::History(request)) => {
                request.token
            }
            Awaited::Reach(AheadRequest::Stream(subscriber)) => subscriber.token,
        }
    }

    /// The bytes allocated for it.
    pub(super) fn held_bytes(&self) -> usize {
        let request_bytes = match &self.awaited {
            Awaited::News { request, .. } | Awaited::Reach(AheadRequest::History(request)) => {
                request.held_bytes()
            }
            Awaited::Reach(AheadRequest::Stream(subscriber)) => subscriber.view.held_bytes(),
        };
        size_of::<Waiting>() + request_bytes + self.place.view.held_bytes()
    }
}

impl<S: Transport> Shard<S> {
    /// Lets a request wait until this node has reached its event id. Every message ends the wait, whatever
    /// the view of the request, so its place is among those that see everything.
    pub(super) fn await_reach(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        request: AheadRequest,
        now: Now,
    ) -> Next {
        let deadline_ms = now.mono_ms + RESUME_AHEAD_MS_MAX;
        let awaited = Awaited::Reach(request);
        self.wait(slot, exchange, View::Everything, awaited, deadline_ms)
    }

    /// Lets a request wait. Its view is held, and there is room for it.
    pub(super) fn wait(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        view: View,
        awaited: Awaited,
        deadline_ms: u64,
    ) -> Next {
        self.connections[slot].deadline_ms = deadline_ms;
        exchange.stage = Stage::Waiting(Box::new(Waiting {
            place: Place::new(view, Holder::Wait),
            is_due: false,
            awaited,
        }));
        Next::Wait
    }

    /// How long a request has waited for its event id.
    pub(super) fn waited_ms(&self, slot: usize, now: Now) -> u64 {
        let deadline_ms = self.connections[slot].deadline_ms;
        (now.mono_ms + RESUME_AHEAD_MS_MAX).saturating_sub(deadline_ms)
    }

    /// Counts the end of a wait for an event id, unless a hang-up or a drain has ended it early.
    pub(super) fn count_reach(&mut self, slot: usize, sent: SentId, now: Now) {
        let is_over = self.waited_ms(slot, now) >= RESUME_AHEAD_MS_MAX;
        let counter = match self.resume_point(sent) {
            ResumePoint::After(_) => Counter::ResumesReached,
            ResumePoint::Ahead if !is_over => return,
            _ => Counter::ResumesExpired,
        };
        self.tally.count(counter, 1);
    }

    /// Whether a request may wait: its peer is there, the server does not drain, and there is room for what
    /// a wait keeps. Making room may end other connections, so it is asked for nothing else.
    pub(super) fn may_wait(
        &mut self,
        slot: usize,
        exchange: &mut Exchange,
        request_bytes: usize,
        then: Then,
        now: Now,
    ) -> bool {
        let connection = &self.connections[slot];
        if self.shutdown.is_draining() || connection.hung_up || connection.socket.has_end() {
            return false;
        }
        exchange.shrink_reader(then);
        let held_bytes = exchange.reader.held_bytes() + size_of::<Waiting>() + request_bytes;
        self.make_room(slot, held_bytes, now)
    }
}
