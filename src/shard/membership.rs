//! The lists of the connections that a message concerns.
//!
//! Part of the shard. A stream or a long poll has a place in the round of its view, and in the list
//! of each of its sessions. Streams and long polls have a sweep each, so that neither
//! delays the other. The list of a session contains both. This module never serves a connection:
//! `fanout` and `history` do.

use crate::http;
use crate::live_log::{NO_SLOT, SessionKey, View, union_bytes};
use crate::shard::Shard;
use crate::shard::links::{Neighbours, Node, is_link};
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
    /// Its neighbours in the list of its session, if it has one.
    pub(super) neighbours: Neighbours,
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
            neighbours: Neighbours::NONE,
            queued: false,
        }
    }

    /// The first of its links, if it has several sessions. Then it has no neighbours of its own.
    fn first_link(&self) -> Node {
        self.neighbours.next
    }
}

impl RoundKind {
    fn of(view: View) -> RoundKind {
        match view {
            View::Everything => RoundKind::Everything,
            View::Public | View::Session(_) | View::Union(_) => RoundKind::Filtered,
        }
    }
}

impl http::View {
    /// The bytes that a connection holds for its sessions, if it has several: in its request, and as much again in
    /// the log.
    pub(super) fn held_bytes(&self) -> usize {
        match self {
            http::View::Everything | http::View::Public | http::View::Session(_) => 0,
            http::View::Sessions(names) => union_bytes(names),
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
    /// The log's form of a view. The log keeps the view's sessions until [`Shard::release_view`].
    pub(super) fn hold_view(&mut self, view: &http::View) -> View {
        match view {
            http::View::Everything => View::Everything,
            http::View::Public => View::Public,
            http::View::Session(name) => View::Session(self.log.hold_session(name)),
            http::View::Sessions(names) => self.log.hold_sessions(names),
        }
    }

    pub(super) fn release_view(&mut self, view: View) {
        self.log.release_view(view);
    }

    /// Enters a connection into the lists of a view. Its state has a [`Place`] with this view, which
    /// [`Shard::hold_view`] has returned.
    pub(super) fn take_place(&mut self, slot: usize, view: View, holder: Holder) {
        let sweep = self.sweeps.of(holder);
        let round_index = sweep.join(RoundKind::of(view), slot as u32);
        if let Some(place) = self.connections.place_mut(slot) {
            place.round_index = round_index;
        }
        match view {
            View::Everything | View::Public => {}
            View::Session(key) => {
                self.enter_list(slot as u32, key);
                self.note_session(key, holder, true);
            }
            View::Union(key) => {
                for index in 0..self.log.union(key).len() {
                    let session = self.log.union(key)[index];
                    self.add_link(slot, session);
                    self.note_session(session, holder, true);
                }
            }
        }
    }

    /// Takes a place out of all lists, and releases its view. The caller has taken the place out of the
    /// connection's state.
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
        match place.view {
            View::Everything | View::Public => {}
            View::Session(key) => {
                self.leave_list(slot as u32, place.neighbours, key);
                self.note_session(key, place.holder, false);
            }
            View::Union(_) => self.remove_links(place.first_link(), place.holder),
        }
        self.log.release_view(place.view);
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

    /// Notes for presence that a stream or a long poll of a session begins or ends. The log holds the session.
    fn note_session(&mut self, key: SessionKey, holder: Holder, is_begun: bool) {
        match holder {
            Holder::Stream => self.note_change(key),
            Holder::Wait => self.log.note_poll(key, is_begun),
        }
    }

    /// The slot of a node in the list of a session, and the next node.
    pub(super) fn at_node(&mut self, node: Node) -> Option<(usize, Node)> {
        if let Some(link) = self.links.get(node) {
            return Some((link.slot as usize, link.neighbours.next));
        }
        let place = self.connections.place_mut(node as usize)?;
        Some((node as usize, place.neighbours.next))
    }

    /// Adds a connection with several sessions to the list of one.
    fn add_link(&mut self, slot: usize, session: SessionKey) {
        let Some(place) = self.connections.place_mut(slot) else {
            return;
        };
        let link = self.links.insert(slot as u32, session, place.first_link());
        place.neighbours.next = link;
        self.enter_list(link, session);
    }

    /// Removes a connection with several sessions from the lists of all of them.
    fn remove_links(&mut self, mut next: Node, holder: Holder) {
        while let Some(link) = self.links.remove(next) {
            self.leave_list(next, link.neighbours, link.session);
            self.note_session(link.session, holder, false);
            next = link.sibling;
        }
    }

    fn enter_list(&mut self, node: Node, session: SessionKey) {
        let first = self.log.first_slot(session);
        if let Some(neighbours) = self.neighbours_mut(first) {
            neighbours.previous = node;
        }
        if let Some(neighbours) = self.neighbours_mut(node) {
            neighbours.next = first;
        }
        self.log.set_first_slot(session, node);
    }

    /// Takes a node, which is gone already, out of the list of a session. A walk that is at this node moves on.
    fn leave_list(&mut self, node: Node, was: Neighbours, session: SessionKey) {
        let Neighbours { previous, next } = was;
        self.log.walk_past(session, node, next);
        match self.neighbours_mut(previous) {
            Some(neighbours) => neighbours.next = next,
            None => self.log.set_first_slot(session, next),
        }
        if let Some(neighbours) = self.neighbours_mut(next) {
            neighbours.previous = previous;
        }
        debug_assert!(previous != NO_SLOT || self.log.first_slot(session) != node);
    }

    fn neighbours_mut(&mut self, node: Node) -> Option<&mut Neighbours> {
        if is_link(node) {
            return self.links.get_mut(node).map(|link| &mut link.neighbours);
        }
        let place = self.connections.place_mut(node as usize)?;
        Some(&mut place.neighbours)
    }
}
