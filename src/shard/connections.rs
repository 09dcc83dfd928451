//! The connections of a shard by slot, and the only account of what they hold.
//!
//! Used by all of the shard. A change of a connection's state goes through here, so that the bytes
//! that it holds, and the numbers of connections, are counted in one place. Never reads or writes a
//! socket.

use std::ops::{Index, IndexMut};

use slab::Slab;

use crate::clock::Now;
use crate::limits::SMALL_REQUEST_BYTES_MAX;
use crate::shard::client::ClientKey;
use crate::shard::connection::{Connection, Role, State, Token};
use crate::shard::exchange::{Exchange, Stage};
use crate::shard::membership::Place;
use crate::shard::shares::Shares;
use crate::shard::stream::Stream;
use crate::shard::transport::Transport;

/// See the module's description.
pub(super) struct Connections<S> {
    slab: Slab<Connection<S>>,
    /// Slots at or above this one are not in use.
    slots_used: usize,
    last_generation: u32,
    /// Open connections over the limit.
    surplus: usize,
    /// Connections within the limit that were removed since the last [`Connections::take_removed`].
    removed_within_limit: usize,
    /// What the connections hold, as [`State::held_bytes`] has it.
    shares: Shares,
}

/// What connections hold beyond their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Exchanges: requests that are incomplete or not fully answered.
    pub exchanges: usize,
    /// Readers with bytes, or whose request is incomplete or waits for the hub.
    pub readers: usize,
    /// Bytes allocated for answers of which a part is not sent.
    pub answer_bytes: usize,
    /// Bytes allocated for a stream alone: its first events, a gap, its end.
    pub own_bytes: usize,
}

impl<S: Transport> Connections<S> {
    /// None yet. They may hold `held_bytes_max` bytes together.
    pub(super) fn new(held_bytes_max: usize) -> Connections<S> {
        Connections {
            slab: Slab::new(),
            slots_used: 0,
            last_generation: 0,
            surplus: 0,
            removed_within_limit: 0,
            shares: Shares::new(held_bytes_max),
        }
    }

    /// Adds an idle connection.
    pub(super) fn insert(&mut self, socket: S, role: Role, deadline_ms: u64) -> Token {
        self.last_generation = self.last_generation.wrapping_add(1).max(1);
        let generation = self.last_generation;
        self.surplus += usize::from(role == Role::Surplus);
        let connection = Connection::new(socket, generation, role, deadline_ms);
        let slot = self.slab.insert(connection);
        self.slots_used = self.slots_used.max(slot + 1);
        Token {
            slot: u32::try_from(slot).expect("connections are bounded by file descriptors"),
            generation,
        }
    }

    /// Removes a connection and its account. The caller takes its state out of all lists.
    pub(super) fn remove(&mut self, slot: usize) -> Connection<S> {
        let connection = self.slab.remove(slot);
        self.release(slot, &connection.state);
        match connection.role {
            Role::Standard | Role::Priority => self.removed_within_limit += 1,
            Role::Surplus => self.surplus -= 1,
        }
        if self.slab.is_empty() {
            self.slots_used = 0;
        }
        connection
    }

    /// The slot of a connection that is still open.
    pub(super) fn slot_of(&self, token: Token) -> Option<usize> {
        let slot = token.slot as usize;
        let connection = self.slab.get(slot)?;
        (connection.generation == token.generation).then_some(slot)
    }

    pub(super) fn token_of(&self, slot: usize) -> Token {
        Token {
            slot: slot as u32,
            generation: self.slab[slot].generation,
        }
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Connection<S>> {
        self.slab.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Connection<S>> {
        self.slab.get_mut(slot)
    }

    pub(super) fn stream_mut(&mut self, slot: usize) -> Option<&mut Stream> {
        match &mut self.slab.get_mut(slot)?.state {
            State::Streaming(stream) => Some(stream),
            _ => None,
        }
    }

    /// Reads a field in each cache line of a stream. The result means nothing.
    pub(super) fn read_through(&self, slot: usize) -> u64 {
        let Some(connection) = self.slab.get(slot) else {
            return 0;
        };
        let of_state = match &connection.state {
            State::Streaming(stream) => stream.read_through(),
            _ => 0,
        };
        u64::from(connection.generation) ^ connection.deadline_ms ^ of_state
    }

    pub(super) fn place_mut(&mut self, slot: usize) -> Option<&mut Place> {
        self.slab.get_mut(slot)?.state.place_mut()
    }

    /// Open connections, in any state.
    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Every open connection is in a slot below this one.
    pub(super) fn slots(&self) -> usize {
        self.slots_used
    }

    /// Open connections over the limit.
    pub(super) fn surplus(&self) -> usize {
        self.surplus
    }

    /// The number of connections within the limit that were removed since the last call.
    pub(super) fn take_removed(&mut self) -> usize {
        std::mem::take(&mut self.removed_within_limit)
    }

    /// Gives priority to a connection of which a webhook was stored.
    pub(super) fn note_published(&mut self, slot: usize) {
        let role = &mut self.slab[slot].role;
        if *role == Role::Standard {
            *role = Role::Priority;
        }
    }

    // States and what they hold.

    /// Sets the state of an idle connection.
    pub(super) fn set_state(&mut self, slot: usize, state: State, now: Now) {
        debug_assert!(matches!(self.slab[slot].state, State::Idle));
        self.slab[slot].state = state;
        self.hold(slot, now);
    }

    /// Takes the state of a connection, which is idle after that.
    pub(super) fn take_state(&mut self, slot: usize) -> State {
        let state = std::mem::replace(&mut self.slab[slot].state, State::Idle);
        self.release(slot, &state);
        state
    }

    /// Takes the exchange out of a connection, if there is one.
    pub(super) fn take_exchange(&mut self, slot: usize) -> Option<Box<Exchange>> {
        if !matches!(self.slab[slot].state, State::Exchange(_)) {
            return None;
        }
        match self.take_state(slot) {
            State::Exchange(exchange) => Some(exchange),
            _ => None,
        }
    }

    /// Restarts the stall time of what a connection holds.
    pub(super) fn note_progress(&mut self, slot: usize, now: Now) {
        self.shares.note_progress(slot as u32, now.mono_ms);
    }

    /// Records a change of the bytes that a state holds, with or without progress of the peer.
    pub(super) fn note_change(&mut self, slot: usize, has_progress: bool, now: Now) {
        if has_progress {
            self.shares.release(slot as u32);
            self.hold(slot, now);
        } else {
            let bytes = self.slab[slot].state.held_bytes();
            self.shares.resize(slot as u32, bytes);
        }
    }

    /// Gives the connections that wait for a request, or for the rest of one, a deadline that is at
    /// least this one.
    pub(super) fn extend_deadlines(&mut self, deadline_ms: u64, now: Now) {
        for (slot, connection) in &mut self.slab {
            if connection.state.awaits_bytes() {
                connection.deadline_ms = connection.deadline_ms.max(deadline_ms);
                self.shares.note_progress(slot as u32, now.mono_ms);
            }
        }
    }

    /// Lets the connections hold at least that many bytes together.
    pub(super) fn raise_held_bytes_max(&mut self, bytes: usize) {
        self.shares.raise_bytes_max(bytes);
    }

    /// Whether the connections may hold that many more bytes.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        self.shares.has_room_for(bytes)
    }

    /// The connection to end so that the one in `slot`, which holds nothing, can hold `bytes`; none if
    /// its client is refused.
    pub(super) fn first_to_end(&self, slot: usize, bytes: usize, now: Now) -> Option<usize> {
        debug_assert_eq!(self.shares.held_bytes(slot), 0);
        let client = ClientKey::of(self.slab[slot].socket.client());
        self.shares.first_to_end(client, bytes, now.mono_ms)
    }

    fn hold(&mut self, slot: usize, now: Now) {
        let connection = &self.slab[slot];
        let bytes = connection.state.held_bytes();
        if bytes > SMALL_REQUEST_BYTES_MAX {
            let client = ClientKey::of(connection.socket.client());
            self.shares.hold(slot as u32, client, bytes, now.mono_ms);
        }
    }

    fn release(&mut self, slot: usize, state: &State) {
        if state.held_bytes() > SMALL_REQUEST_BYTES_MAX {
            self.shares.release(slot as u32);
        }
    }

    /// What the connections hold beyond their slots. Looks at every connection: for tests and
    /// simulations, which compare it with the account.
    pub(super) fn holdings(&self) -> Holdings {
        let mut holdings = Holdings::default();
        let mut holding = 0;
        for (slot, connection) in &self.slab {
            let held_bytes = connection.state.held_bytes();
            let is_small = held_bytes <= SMALL_REQUEST_BYTES_MAX;
            let counted_bytes = if is_small { 0 } else { held_bytes };
            debug_assert_eq!(self.shares.held_bytes(slot), counted_bytes);
            holding += usize::from(!is_small);
            match &connection.state {
                State::Idle | State::Lingering { .. } => {}
                State::Exchange(exchange) => {
                    let has_bytes = exchange.reader.held_bytes() > 0;
                    let is_unanswered = matches!(
                        exchange.stage,
                        Stage::Reading
                            | Stage::Judging(_)
                            | Stage::Counting(_)
                            | Stage::Publishing(_)
                    );
                    holdings.exchanges += 1;
                    holdings.readers += usize::from(has_bytes || is_unanswered);
                    if let Stage::Answering(unsent) = &exchange.stage {
                        holdings.answer_bytes += unsent.bytes.capacity();
                    }
                }
                State::Streaming(stream) => holdings.own_bytes += stream.own_bytes(),
            }
        }
        debug_assert_eq!(self.shares.connections(), holding);
        holdings
    }

    /// The number of connections that hold more than [`SMALL_REQUEST_BYTES_MAX`].
    #[cfg(test)]
    pub(super) fn holding(&self) -> usize {
        self.shares.connections()
    }
}

impl<S> Index<usize> for Connections<S> {
    type Output = Connection<S>;

    fn index(&self, slot: usize) -> &Connection<S> {
        &self.slab[slot]
    }
}

impl<S> IndexMut<usize> for Connections<S> {
    fn index_mut(&mut self, slot: usize) -> &mut Connection<S> {
        &mut self.slab[slot]
    }
}
