//! The lists of the connections that a message concerns.
//!
//! Part of the shard. A stream or a long poll has a place in the round of its view, and in the list
//! of its session if the view has one. Streams and long polls have a sweep each, so that neither
//! delays the other. The list of a session contains both. This module never serves a connection:
//! `fanout` and `history` do.

use crate::http;
use crate::live_log::{NO_SLOT, SessionKey, View};
use crate::shard::Shard;
use crate::shard::sweep::{RoundIndex, RoundKind, Sweep};
use crate::shard::transport::Transport;

/// What has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// A stream.
    Stream,
    /// A long poll: a request for the history that waits for a message.
    Wait,
}

/// See the module's description.
pub(super) struct Place {
    pub(super) view: View,
    pub(super) holder: Holder,
    /// Its index in the sweep's round.
    pub(super) round_index: RoundIndex,
    /// Its neighbours in the list of its session.
    pub(super) session_previous: u32,
    pub(super) session_next: u32,
    /// It is in the sweep's queue.
    pub(super) queued: bool,
}

impl Place {
    /// A place in no list yet.
    pub(super) fn new(view: View, holder: Holder) -> Place {
        Place {
            view,
            holder,
            round_index: 0,
            session_previous: NO_SLOT,
            session_next: NO_SLOT,
            queued: false,
        }
    }
}

impl RoundKind {
    fn of(view: View) -> RoundKind {
        match view {
            View::Everything => RoundKind::Everything,
            View::Public | View::Session(_) => RoundKind::Filtered,
        }
    }
}

/// The sweeps of a shard.
#[derive(Default)]
pub(super) struct Sweeps {
    /// Streams that may be behind.
    pub(super) streams: Sweep,
    /// Long polls that may be answered.
    pub(super) waits: Sweep,
}

impl Sweeps {
    pub(super) fn of(&mut self, holder: Holder) -> &mut Sweep {
        match holder {
            Holder::Stream => &mut self.streams,
            Holder::Wait => &mut self.waits,
        }
    }
}

impl<S: Transport> Shard<S> {
    /// The log's form of a view. The log keeps the view's session until [`Shard::release_view`].
    pub(super) fn hold_view(&mut self, view: &http::View) -> View {
        match view {
            http::View::Everything => View::Everything,
            http::View::Public => View::Public,
            http::View::Session(name) => View::Session(self.log.hold_session(name)),
        }
    }

    pub(super) fn release_view(&mut self, view: View) {
        if let View::Session(key) = view {
            self.log.release_session(key);
        }
    }

    /// Enters a connection into the lists of a view. Its state has a [`Place`] with this view, which
    /// [`Shard::hold_view`] has returned.
    pub(super) fn take_place(&mut self, slot: usize, view: View, holder: Holder) {
        let sweep = self.sweeps.of(holder);
        let round_index = sweep.join(RoundKind::of(view), slot as u32);
        if let Some(place) = self.connections.place_mut(slot) {
            place.round_index = round_index;
        }
        if let View::Session(key) = view {
            self.link_session(slot, key);
        }
    }

    /// Takes a place out of all lists, and releases its view. No state holds the place any more.
    pub(super) fn forget_place(&mut self, slot: usize, place: &Place) {
        let round = RoundKind::of(place.view);
        let sweep = self.sweeps.of(place.holder);
        let moved = sweep.leave(round, place.round_index);
        if let Some(moved) = moved
            && let Some(other) = self.connections.place_mut(moved as usize)
        {
            other.round_index = place.round_index;
            // The other connection has moved to an index that the sweep may have passed.
            self.enqueue(moved as usize);
        }
        if let View::Session(key) = place.view {
            self.unlink_session(slot, place, key);
            self.log.release_session(key);
        }
    }

    /// Puts a connection into the queue of its sweep.
    pub(super) fn enqueue(&mut self, slot: usize) {
        if let Some(place) = self.connections.place_mut(slot)
            && !place.queued
        {
            place.queued = true;
            let holder = place.holder;
            self.sweeps.of(holder).enqueue(slot as u32);
        }
    }

    fn link_session(&mut self, slot: usize, key: SessionKey) {
        let first = self.log.first_slot(key);
        if let Some(neighbour) = self.connections.place_mut(first as usize) {
            neighbour.session_previous = slot as u32;
        }
        if let Some(place) = self.connections.place_mut(slot) {
            place.session_next = first;
        }
        self.log.set_first_slot(key, slot as u32);
    }

    fn unlink_session(&mut self, slot: usize, place: &Place, key: SessionKey) {
        let (previous, next) = (place.session_previous, place.session_next);
        self.log.walk_past(key, slot as u32, next);
        match self.connections.place_mut(previous as usize) {
            Some(neighbour) => neighbour.session_next = next,
            None => self.log.set_first_slot(key, next),
        }
        if let Some(neighbour) = self.connections.place_mut(next as usize) {
            neighbour.session_previous = previous;
        }
        debug_assert!(previous != NO_SLOT || self.log.first_slot(key) != slot as u32);
    }
}
