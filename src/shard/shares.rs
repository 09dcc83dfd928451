//! The memory that connections share: the bytes that each client's connections hold, and which
//! connection ends when there is no room.
//!
//! Part of the shard. `connections` reports every change of what a connection holds. The account counts bytes that
//! wait for a peer: incomplete requests, unsent answers, and the own bytes of streams. A connection
//! that holds at most [`SMALL_REQUEST_BYTES_MAX`] is not in the table. It takes no room from others
//! and costs no look-up.
//!
//! A client may hold all that the others leave free. When there is no room, the client that holds
//! most loses its longest-stalled connection. So each client is sure of an equal share. A client
//! that would itself hold most is refused, unless one of its connections has been stalled for
//! [`SHARE_STALLED_MS_MIN`]: then that one ends. Never loops over all connections.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Now;
use crate::http::Refusal;
use crate::limits::{
    SHARE_ENDED_MAX, SHARE_ENTRY_BYTES, SHARE_STALLED_MS_MIN, SMALL_REQUEST_BYTES_MAX,
};
use crate::metrics::Counter;
use crate::shard::Shard;
use crate::shard::client::ClientKey;
use crate::shard::connection::State;
use crate::shard::exchange::Stage;
use crate::shard::transport::Transport;

/// See the module's description. B-trees, because they free the memory of removed entries.
pub(super) struct Shares {
    bytes_max: usize,
    bytes: usize,
    /// By slot.
    holds: BTreeMap<u32, Hold>,
    clients: BTreeMap<ClientKey, usize>,
    /// The clients, ordered by the bytes they hold.
    ranking: BTreeSet<(usize, ClientKey)>,
    /// The slots of each client, the longest stalled first.
    stalls: BTreeSet<(ClientKey, u64, u32)>,
    /// The number of the last progress of any connection.
    last_progress: u64,
}

/// What a connection holds.
#[derive(Debug, Clone, Copy)]
struct Hold {
    client: ClientKey,
    /// With [`SHARE_ENTRY_BYTES`].
    bytes: usize,
    /// The number of its last progress: its peer took or sent something.
    progress: u64,
    /// The time of its last progress, in monotonic milliseconds.
    progress_ms: u64,
}

impl Shares {
    pub(super) fn new(bytes_max: usize) -> Shares {
        Shares {
            bytes_max,
            bytes: 0,
            holds: BTreeMap::new(),
            clients: BTreeMap::new(),
            ranking: BTreeSet::new(),
            stalls: BTreeSet::new(),
            last_progress: 0,
        }
    }

    pub(super) fn raise_bytes_max(&mut self, bytes: usize) {
        self.bytes_max = self.bytes_max.max(bytes);
    }

    /// Records the bytes that a connection holds from now on, and its progress.
    pub(super) fn hold(&mut self, slot: u32, client: ClientKey, bytes: usize, now_ms: u64) {
        self.release(slot);
        if bytes <= SMALL_REQUEST_BYTES_MAX {
            return;
        }
        self.last_progress += 1;
        let hold = Hold {
            client,
            bytes: bytes + SHARE_ENTRY_BYTES,
            progress: self.last_progress,
            progress_ms: now_ms,
        };
        self.insert(slot, hold);
    }

    /// Records a change of what a connection holds, without progress.
    pub(super) fn resize(&mut self, slot: u32, bytes: usize) {
        if let Some(hold) = self.remove(slot)
            && bytes > SMALL_REQUEST_BYTES_MAX
        {
            let bytes = bytes + SHARE_ENTRY_BYTES;
            self.insert(slot, Hold { bytes, ..hold });
        }
    }

    /// Records progress of a connection, if it holds anything: its peer took or sent something.
    pub(super) fn note_progress(&mut self, slot: u32, now_ms: u64) {
        if let Some(hold) = self.remove(slot) {
            self.last_progress += 1;
            let hold = Hold {
                progress: self.last_progress,
                progress_ms: now_ms,
                ..hold
            };
            self.insert(slot, hold);
        }
    }

    /// Removes what a connection holds, if anything.
    pub(super) fn release(&mut self, slot: u32) {
        self.remove(slot);
    }

    fn remove(&mut self, slot: u32) -> Option<Hold> {
        let hold = self.holds.remove(&slot)?;
        self.stalls.remove(&(hold.client, hold.progress, slot));
        self.shift(hold.client, 0, hold.bytes);
        Some(hold)
    }

    fn insert(&mut self, slot: u32, hold: Hold) {
        self.holds.insert(slot, hold);
        self.stalls.insert((hold.client, hold.progress, slot));
        self.shift(hold.client, hold.bytes, 0);
    }

    fn shift(&mut self, client: ClientKey, more: usize, less: usize) {
        self.bytes = self.bytes + more - less;
        let before = self.clients.get(&client).copied().unwrap_or(0);
        let after = before + more - less;
        self.ranking.remove(&(before, client));
        if after > 0 {
            self.ranking.insert((after, client));
            self.clients.insert(client, after);
        } else {
            self.clients.remove(&client);
        }
    }

    /// Whether there is room for that many more bytes.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        bytes <= SMALL_REQUEST_BYTES_MAX || self.bytes + bytes + SHARE_ENTRY_BYTES <= self.bytes_max
    }

    /// The connection that has to end first so that `client` can hold that many more bytes; none if
    /// the client is refused.
    pub(super) fn first_to_end(
        &self,
        client: ClientKey,
        bytes: usize,
        now_ms: u64,
    ) -> Option<usize> {
        let own = self.clients.get(&client).copied().unwrap_or(0) + bytes + SHARE_ENTRY_BYTES;
        let &(most, largest) = self.ranking.last()?;
        if most > own && largest != client {
            let (slot, _) = self.longest_stalled(largest)?;
            return Some(slot as usize);
        }
        let (slot, hold) = self.longest_stalled(client)?;
        (now_ms >= hold.progress_ms + SHARE_STALLED_MS_MIN).then_some(slot as usize)
    }

    fn longest_stalled(&self, client: ClientKey) -> Option<(u32, &Hold)> {
        let from = (client, 0, 0);
        let &(of, _, slot) = self.stalls.range(from..).next()?;
        let hold = self.holds.get(&slot).filter(|_| of == client)?;
        Some((slot, hold))
    }

    /// The bytes that a connection holds, for assertions.
    pub(super) fn held_bytes(&self, slot: usize) -> usize {
        let hold = self.holds.get(&(slot as u32));
        hold.map_or(0, |hold| hold.bytes - SHARE_ENTRY_BYTES)
    }

    /// The number of connections in the table.
    pub(super) fn connections(&self) -> usize {
        self.holds.len()
    }
}

impl<S: Transport> Shard<S> {
    /// Makes room for the bytes of a connection that holds nothing, if necessary by ending others.
    /// Returns whether there is room.
    pub(super) fn make_room(&mut self, slot: usize, bytes: usize, now: Now) -> bool {
        for _ in 0..SHARE_ENDED_MAX {
            if self.connections.has_room_for(bytes) {
                return true;
            }
            let Some(other) = self.connections.first_to_end(slot, bytes, now) else {
                return false;
            };
            self.end_for_room(other, now);
        }
        self.connections.has_room_for(bytes)
    }

    /// Ends a connection to free what it holds. An upload gets a 503. An answer or a stream that
    /// has begun can only be cut off.
    fn end_for_room(&mut self, slot: usize, now: Now) {
        // `Shard::answer` may contain the answer of the connection that needs the room.
        let answer = std::mem::take(&mut self.answer);
        let state = &self.connections[slot].state;
        if let State::Streaming(_) = state {
            self.close_stream(slot, Counter::StreamsStalled);
        } else if let Some(Stage::Reading) = state.stage() {
            self.refuse_upload(slot, Refusal::Overloaded, now);
        } else {
            self.tally.count(Counter::RefusedOverload, 1);
            self.close(slot);
        }
        self.answer = answer;
    }
}

#[cfg(test)]
mod tests;
