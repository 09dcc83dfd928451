//! Requests to sources without a verdict, and connections whose request waits for room among them.
//!
//! The requests of a lane share its bounds. When a lane is full, its sources take turns in what a verdict
//! makes room for.

use std::sync::Arc;

use slab::Slab;

use super::{Lane, Rounds, SourceRequest, SourceTable, Ticket};
use crate::clock::Now;
use crate::http::WholeRequest;
use crate::limits::{JUDGING_REQUESTS_MAX, judging_bytes_max};
use crate::shard::connection::Token;
use crate::sources::Sources;

/// See the module's description.
pub(in crate::shard) struct Docket {
    /// None unless the server has sources.
    pub(super) table: Option<Arc<SourceTable>>,
    /// Requests that the turn has not yet passed on.
    pub(super) outgoing: Vec<SourceRequest>,
    /// The connections of all requests without a verdict.
    pub(super) waiting: Slab<Waiter>,
    lanes: [Load; Lane::ALL.len()],
    bytes_max: usize,
}

/// What is in a lane.
struct Load {
    requests: usize,
    bytes: usize,
    /// Connections whose next request is to a source, and was put off.
    put_off: Rounds<Token>,
}

/// The connection of a request without a verdict. It may be closed by now.
pub(super) struct Waiter {
    pub token: Token,
    /// When the request was read, in monotonic microseconds.
    pub read_us: u64,
    pub lane: Lane,
    bytes: usize,
    /// The wait has ended with a 503, so the request must have no effect.
    pub is_overdue: bool,
}

impl Docket {
    pub(in crate::shard) fn new(shards: usize) -> Docket {
        let empty = || Load {
            requests: 0,
            bytes: 0,
            put_off: Rounds::default(),
        };
        Docket {
            table: None,
            outgoing: Vec::new(),
            waiting: Slab::new(),
            lanes: Lane::ALL.map(|_| empty()),
            bytes_max: judging_bytes_max(shards),
        }
    }

    pub(super) fn sources(&self) -> Option<&Sources> {
        self.table.as_ref().map(|table| &*table.sources)
    }

    /// Whether requests of a lane are put off.
    pub(super) fn is_full(&self, lane: Lane) -> bool {
        let load = &self.lanes[lane as usize];
        load.requests >= JUDGING_REQUESTS_MAX || load.bytes >= self.bytes_max
    }

    pub(super) fn add(
        &mut self,
        name: Box<str>,
        request: WholeRequest,
        token: Token,
        now: Now,
    ) -> Ticket {
        let bytes = request.held_bytes();
        let lane = Lane::of(request.body().len());
        let key = self.waiting.insert(Waiter {
            token,
            read_us: now.mono_us,
            lane,
            bytes,
            is_overdue: false,
        });
        let load = &mut self.lanes[lane as usize];
        load.requests += 1;
        load.bytes += bytes;
        let ticket = Ticket(key as u32);
        self.outgoing.push(SourceRequest {
            ticket,
            name,
            request,
        });
        ticket
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.waiting.try_remove(ticket.0 as usize)?;
        let load = &mut self.lanes[waiter.lane as usize];
        load.requests -= 1;
        load.bytes -= waiter.bytes;
        Some(waiter)
    }

    pub(super) fn put_off(&mut self, lane: Lane, source: &str, token: Token) {
        self.lanes[lane as usize].put_off.push(source, token);
    }

    /// Takes as many connections that were put off as the lane has room for requests.
    pub(super) fn take_put_off(&mut self, lane: Lane) -> Vec<Token> {
        if self.is_full(lane) {
            return Vec::new();
        }
        let load = &mut self.lanes[lane as usize];
        let room = JUDGING_REQUESTS_MAX - load.requests;
        let tokens = std::iter::from_fn(|| load.put_off.pop());
        tokens.take(room).collect()
    }

    /// Whether the turn has yet to pass requests on.
    pub(in crate::shard) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether a verdict may still publish a message.
    pub(super) fn may_publish(&self) -> bool {
        self.waiting.iter().any(|(_, waiter)| !waiter.is_overdue)
    }

    /// The numbers of requests without a verdict, of their bytes, and of connections that were put off.
    #[cfg(test)]
    pub(in crate::shard) fn counts(&self) -> [usize; 3] {
        let bytes = self.lanes.iter().map(|load| load.bytes).sum();
        let put_off = self.lanes.iter().map(|load| load.put_off.count()).sum();
        [self.waiting.len(), bytes, put_off]
    }
}
