//! Which stream is served next.
//!
//! Fan-out is not a loop over all streams inside a publish. A publish only says "everyone is
//! behind", in constant time; the sweep then goes round and yields the streams one by one, and the
//! shard stops after a slice of writes to look at its sockets. A stream that the sweep has not
//! reached yet picks up whatever came in the meantime, in the same single write.
//!
//! Two rounds, by what their streams may see; sessions that were sent something, whose lists of
//! streams the shard walks; and a queue for single streams: new ones, those whose socket takes
//! bytes again, those with a heartbeat due. These take turns, so that none starves another; the queue
//! has one turn in five: what a flood of new streams is shown does not hold up what is new to all.
//!
//! Requests for the history that wait for a message have a sweep of their own, of the same kind but
//! without sessions. Driven by `fanout` and `history`. Knows slots and sessions only: no sockets, no
//! log, no clock.

use std::collections::VecDeque;

use crate::live_log::SessionKey;

/// The place of a stream in its round, so that leaving is done in constant time.
pub type LapIndex = u32;

/// Which round a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LapKind {
    /// Streams that see every message: targeted ones set this round going, too.
    Everything,
    /// Streams that see the untargeted messages, and perhaps one session's.
    Filtered,
}

/// The order of service of a shard's streams.
#[derive(Default)]
pub struct Sweep {
    queue: VecDeque<u32>,
    sessions: VecDeque<SessionKey>,
    everything: Round,
    filtered: Round,
    /// Whose turn it was last.
    turn: u8,
    /// Which source of streams that are behind was asked last.
    source: u8,
}

/// What the sweep yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// From the queue: valid only if the stream in the slot is marked as queued.
    Queued(u32),
    /// From a round.
    Lapped(u32),
    /// The next stream of this session, if the log's walk has one; then the session goes back into
    /// the sweep.
    OfSession(SessionKey),
}

/// Turns until all have had theirs, the last of them the queue's.
const TURNS: u8 = 5;

impl Sweep {
    /// Adds a stream to its round.
    pub fn join(&mut self, kind: LapKind, slot: u32) -> LapIndex {
        self.lap_mut(kind).join(slot)
    }

    /// Takes a stream out of its round. The stream in the slot that is returned has moved to `index`;
    /// as the sweep may have passed there, the caller enqueues it.
    pub fn leave(&mut self, kind: LapKind, index: LapIndex) -> Option<u32> {
        self.lap_mut(kind).leave(index)
    }

    /// Every stream of a round may be behind: the sweep goes round once more from where it is; if
    /// nobody waits, from those who have been there longest, as a crowd of newcomers may be up to no
    /// good.
    pub fn restart(&mut self, kind: LapKind) {
        let round = self.lap_mut(kind);
        if round.remaining == 0 {
            round.position = 0;
        }
        round.remaining = round.slots.len();
    }

    /// Puts a single stream into the queue. The caller keeps a mark in the stream, so that none is
    /// in it twice.
    pub fn enqueue(&mut self, slot: u32) {
        self.queue.push_back(slot);
    }

    /// Puts a session into the sweep, one of whose streams is next in the log's walk.
    pub fn enqueue_session(&mut self, key: SessionKey) {
        self.sessions.push_back(key);
    }

    /// Whether anybody may be behind.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.sessions.is_empty()
            && self.everything.remaining == 0
            && self.filtered.remaining == 0
    }

    /// The next stream to look at: from the next source that has one.
    pub fn next(&mut self) -> Option<Candidate> {
        self.turn = (self.turn + 1) % TURNS;
        if self.turn == 0
            && let Some(slot) = self.queue.pop_front()
        {
            return Some(Candidate::Queued(slot));
        }
        let behind = self.next_behind();
        behind.or_else(|| self.queue.pop_front().map(Candidate::Queued))
    }

    /// The next stream that a message has left behind: from the next of those three sources that has
    /// one.
    fn next_behind(&mut self) -> Option<Candidate> {
        const SOURCES: u8 = 3;
        (0..SOURCES).find_map(|_| {
            self.source = (self.source + 1) % SOURCES;
            match self.source {
                0 => self.everything.next().map(Candidate::Lapped),
                1 => self.filtered.next().map(Candidate::Lapped),
                _ => self.sessions.pop_front().map(Candidate::OfSession),
            }
        })
    }

    /// How many streams, or requests that wait, there are.
    pub fn members(&self) -> usize {
        self.everything.slots.len() + self.filtered.slots.len()
    }

    fn lap_mut(&mut self, kind: LapKind) -> &mut Round {
        match kind {
            LapKind::Everything => &mut self.everything,
            LapKind::Filtered => &mut self.filtered,
        }
    }
}

/// A circle of streams and how many of them are still to be visited.
#[derive(Default)]
struct Round {
    slots: Vec<u32>,
    position: usize,
    remaining: usize,
}

impl Round {
    fn join(&mut self, slot: u32) -> LapIndex {
        let index = self.slots.len();
        self.slots.push(slot);
        // A round that is under way has one more to pass before it is where it began.
        self.remaining += usize::from(self.remaining > 0);
        LapIndex::try_from(index).expect("streams are bounded by file descriptors")
    }

    fn leave(&mut self, index: LapIndex) -> Option<u32> {
        let index = index as usize;
        self.slots.swap_remove(index);
        self.remaining = self.remaining.min(self.slots.len());
        self.slots.get(index).copied()
    }

    fn next(&mut self) -> Option<u32> {
        if self.remaining == 0 {
            return None;
        }
        self.remaining -= 1;
        if self.position >= self.slots.len() {
            self.position = 0;
        }
        let slot = self.slots[self.position];
        self.position += 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn drain(sweep: &mut Sweep) -> Vec<u32> {
        std::iter::from_fn(|| sweep.next())
            .map(|candidate| match candidate {
                Candidate::Queued(slot) | Candidate::Lapped(slot) => slot,
                Candidate::OfSession(key) => panic!("{key:?} was never put in"),
            })
            .collect()
    }

    #[test]
    fn those_who_have_been_there_longest_go_first() {
        let mut sweep = Sweep::default();
        for slot in 0..10 {
            sweep.join(LapKind::Everything, slot);
            sweep.restart(LapKind::Everything);
            assert!(drain(&mut sweep).into_iter().eq(0..=slot));
        }
    }

    #[test]
    fn a_restart_in_the_middle_visits_everyone_again_from_there() {
        let mut sweep = Sweep::default();
        for slot in 0..10 {
            sweep.join(LapKind::Everything, slot);
        }
        sweep.restart(LapKind::Everything);
        for slot in 0..4 {
            assert_eq!(sweep.next(), Some(Candidate::Lapped(slot)));
        }
        sweep.restart(LapKind::Everything);
        assert_eq!(drain(&mut sweep), [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]);
        assert!(sweep.is_idle());
    }

    #[test]
    fn the_queue_has_one_turn_in_five() {
        let mut sweep = Sweep::default();
        for slot in 0..6 {
            sweep.join(LapKind::Filtered, slot);
        }
        for slot in 100..104 {
            sweep.enqueue(slot);
        }
        sweep.restart(LapKind::Filtered);
        let served = drain(&mut sweep);
        assert_eq!(served, [0, 1, 2, 3, 100, 4, 5, 101, 102, 103]);
    }

    #[test]
    fn a_busy_lap_does_not_starve_the_other() {
        let mut sweep = Sweep::default();
        for slot in 0..100 {
            sweep.join(LapKind::Everything, slot);
        }
        for slot in 100..105 {
            sweep.join(LapKind::Filtered, slot);
        }
        let mut filtered = 0;
        for _ in 0..20 {
            sweep.restart(LapKind::Everything);
            sweep.restart(LapKind::Filtered);
            let candidate = sweep.next();
            filtered += usize::from(matches!(candidate, Some(Candidate::Lapped(100..))));
        }
        assert!(filtered >= 9, "{filtered}");
    }

    #[test]
    fn a_targeted_message_leaves_the_filtered_lap_alone() {
        let mut sweep = Sweep::default();
        sweep.join(LapKind::Filtered, 1);
        sweep.join(LapKind::Everything, 2);
        sweep.restart(LapKind::Everything);
        assert_eq!(drain(&mut sweep), [2]);
    }

    #[test]
    fn one_who_joins_in_the_middle_takes_nobodys_place() {
        let mut sweep = Sweep::default();
        for slot in 0..3 {
            sweep.join(LapKind::Everything, slot);
        }
        sweep.restart(LapKind::Everything);
        assert_eq!(sweep.next(), Some(Candidate::Lapped(0)));
        sweep.restart(LapKind::Everything);
        sweep.join(LapKind::Everything, 3);
        assert_eq!(drain(&mut sweep), [1, 2, 3, 0]);
    }

    /// Joins and leaves at random in the middle of rounds: whoever was there at the restart and is
    /// still there is visited, by the round or by the queue.
    #[test]
    fn nobody_is_skipped_by_those_who_come_and_go() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let mut sweep = Sweep::default();
            let count = rng.u32(1..40);
            let mut index_of: Vec<Option<u32>> = (0..count)
                .map(|slot| Some(sweep.join(LapKind::Everything, slot)))
                .collect();
            for _ in 0..rng.u32(0..50) {
                sweep.restart(LapKind::Everything);
                sweep.next();
            }
            sweep.restart(LapKind::Everything);
            let mut visited = HashSet::new();
            let mut newest = count;
            while let Some(Candidate::Lapped(slot) | Candidate::Queued(slot)) = sweep.next() {
                visited.insert(slot);
                if rng.u8(0..8) == 0 {
                    // A new stream is served by the queue; the round must not end early for it.
                    index_of.push(Some(sweep.join(LapKind::Everything, newest)));
                    visited.insert(newest);
                    newest += 1;
                }
                let gone = rng.u32(0..newest);
                if rng.bool()
                    && let Some(index) = index_of[gone as usize].take()
                    && let Some(moved) = sweep.leave(LapKind::Everything, index)
                {
                    sweep.enqueue(moved);
                    if let Some(its) = index_of.get_mut(moved as usize) {
                        *its = Some(index);
                    }
                }
            }
            for (slot, index) in index_of.iter().enumerate() {
                assert!(
                    index.is_none() || visited.contains(&(slot as u32)),
                    "slot {slot}"
                );
            }
        }
    }
}
