//! Which stream is served next.
//!
//! A publish does not loop over the streams: it marks a round as due, in constant time. The sweep
//! then yields the streams one by one. After a slice of writes the shard polls its sockets. A
//! stream that the sweep has not reached yet gets all newer messages in the same write.
//!
//! There are four sources of streams:
//! - two rounds, one for each kind of view;
//! - sessions with a new message, whose lists of streams the shard walks;
//! - a queue of single streams: new ones, those whose socket is writable again, and those with a
//!   heartbeat due.
//!
//! The sources alternate, so that none starves another. The queue has one turn in five, so a flood of
//! new streams does not delay new messages.
//!
//! Long polls have a sweep of their own, of the same kind but without sessions. `fanout`,
//! `history` and `membership` call this module. It knows slots and sessions, but no sockets, no log
//! and no clock.

use std::collections::VecDeque;

use crate::live_log::SessionKey;

/// The index of a stream in its round, which makes leaving a constant-time operation.
pub type RoundIndex = u32;

/// Which round a stream belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundKind {
    /// Streams that see every message. Targeted messages restart this round too.
    Everything,
    /// Streams that see untargeted messages, and perhaps those of one session.
    Filtered,
}

/// The order of service of a shard's streams.
#[derive(Default)]
pub struct Sweep {
    queue: VecDeque<u32>,
    sessions: VecDeque<SessionKey>,
    everything: Round,
    filtered: Round,
    /// The current turn in a cycle of [`TURNS`].
    turn: u8,
    /// The source that was tried last for a stream that is behind.
    source: u8,
}

/// What the sweep yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    /// From the queue: valid only if the stream in the slot is marked as queued.
    Queued(u32),
    /// From a round.
    InRound(u32),
    /// The next stream of this session, if the log's walk has one. The session then re-enters the
    /// sweep.
    OfSession(SessionKey),
}

/// Turns in a cycle. The last one is the queue's.
const TURNS: u8 = 5;

impl Sweep {
    /// Adds a stream to its round.
    pub fn join(&mut self, kind: RoundKind, slot: u32) -> RoundIndex {
        self.round_mut(kind).join(slot)
    }

    /// Takes a stream out of its round. Returns the slot of the stream that has moved to `index`, if
    /// any. The caller enqueues that stream, because the sweep may have passed the index.
    pub fn leave(&mut self, kind: RoundKind, index: RoundIndex) -> Option<u32> {
        self.round_mut(kind).leave(index)
    }

    /// Marks every stream of a round as due. A round in progress visits all of them again from its
    /// position. An idle round restarts at the oldest stream, so new ones cannot crowd out old ones.
    pub fn restart(&mut self, kind: RoundKind) {
        let round = self.round_mut(kind);
        if round.remaining == 0 {
            round.position = 0;
        }
        round.remaining = round.slots.len();
    }

    /// Puts a single stream into the queue. The caller marks the stream as queued, so that it is
    /// never in the queue twice.
    pub fn enqueue(&mut self, slot: u32) {
        self.queue.push_back(slot);
    }

    /// Puts a session into the sweep. One of its streams is next in the log's walk.
    pub fn enqueue_session(&mut self, key: SessionKey) {
        self.sessions.push_back(key);
    }

    /// Whether no stream can be behind.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.sessions.is_empty()
            && self.everything.remaining == 0
            && self.filtered.remaining == 0
    }

    /// The next stream to visit, from the next source that has one.
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

    /// Streams of the rounds that are next, so many of each round at most.
    pub fn upcoming(&self, count: usize) -> impl Iterator<Item = u32> {
        let rounds = [&self.everything, &self.filtered].into_iter();
        rounds.flat_map(move |round| round.upcoming(count)).copied()
    }

    /// The next stream that may lack a message, from the next non-empty source of three: the rounds
    /// and the sessions.
    fn next_behind(&mut self) -> Option<Candidate> {
        const SOURCES: u8 = 3;
        (0..SOURCES).find_map(|_| {
            self.source = (self.source + 1) % SOURCES;
            match self.source {
                0 => self.everything.next().map(Candidate::InRound),
                1 => self.filtered.next().map(Candidate::InRound),
                _ => self.sessions.pop_front().map(Candidate::OfSession),
            }
        })
    }

    /// The number of streams, or of long polls.
    pub fn members(&self) -> usize {
        self.everything.slots.len() + self.filtered.slots.len()
    }

    fn round_mut(&mut self, kind: RoundKind) -> &mut Round {
        match kind {
            RoundKind::Everything => &mut self.everything,
            RoundKind::Filtered => &mut self.filtered,
        }
    }
}

/// A circle of streams, and the number of them that are still to be visited.
#[derive(Default)]
struct Round {
    slots: Vec<u32>,
    position: usize,
    remaining: usize,
}

impl Round {
    fn join(&mut self, slot: u32) -> RoundIndex {
        let index = self.slots.len();
        self.slots.push(slot);
        // A round in progress has one more stream to pass until it is back at its start.
        self.remaining += usize::from(self.remaining > 0);
        RoundIndex::try_from(index).expect("streams are bounded by file descriptors")
    }

    fn leave(&mut self, index: RoundIndex) -> Option<u32> {
        let index = index as usize;
        self.slots.swap_remove(index);
        self.remaining = self.remaining.min(self.slots.len());
        self.slots.get(index).copied()
    }

    /// The next ones before the end of the circle.
    fn upcoming(&self, count: usize) -> &[u32] {
        let rest = self.slots.get(self.position..).unwrap_or_default();
        &rest[..rest.len().min(count).min(self.remaining)]
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
                Candidate::Queued(slot) | Candidate::InRound(slot) => slot,
                Candidate::OfSession(key) => panic!("{key:?} was never enqueued"),
            })
            .collect()
    }

    #[test]
    fn an_idle_round_restarts_at_the_oldest_stream() {
        let mut sweep = Sweep::default();
        for slot in 0..10 {
            sweep.join(RoundKind::Everything, slot);
            sweep.restart(RoundKind::Everything);
            assert!(drain(&mut sweep).into_iter().eq(0..=slot));
        }
    }

    #[test]
    fn a_restart_mid_round_visits_every_stream_again_from_there() {
        let mut sweep = Sweep::default();
        for slot in 0..10 {
            sweep.join(RoundKind::Everything, slot);
        }
        sweep.restart(RoundKind::Everything);
        for slot in 0..4 {
            assert_eq!(sweep.next(), Some(Candidate::InRound(slot)));
        }
        sweep.restart(RoundKind::Everything);
        assert_eq!(drain(&mut sweep), [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]);
        assert!(sweep.is_idle());
    }

    #[test]
    fn the_queue_has_one_turn_in_five() {
        let mut sweep = Sweep::default();
        for slot in 0..6 {
            sweep.join(RoundKind::Filtered, slot);
        }
        for slot in 100..104 {
            sweep.enqueue(slot);
        }
        sweep.restart(RoundKind::Filtered);
        let served = drain(&mut sweep);
        assert_eq!(served, [0, 1, 2, 3, 100, 4, 5, 101, 102, 103]);
    }

    #[test]
    fn a_busy_round_does_not_starve_the_other() {
        let mut sweep = Sweep::default();
        for slot in 0..100 {
            sweep.join(RoundKind::Everything, slot);
        }
        for slot in 100..105 {
            sweep.join(RoundKind::Filtered, slot);
        }
        let mut filtered = 0;
        for _ in 0..20 {
            sweep.restart(RoundKind::Everything);
            sweep.restart(RoundKind::Filtered);
            let candidate = sweep.next();
            filtered += usize::from(matches!(candidate, Some(Candidate::InRound(100..))));
        }
        assert!(filtered >= 9, "{filtered}");
    }

    #[test]
    fn a_restart_of_one_round_leaves_the_other_alone() {
        let mut sweep = Sweep::default();
        sweep.join(RoundKind::Filtered, 1);
        sweep.join(RoundKind::Everything, 2);
        sweep.restart(RoundKind::Everything);
        assert_eq!(drain(&mut sweep), [2]);
    }

    #[test]
    fn a_stream_that_joins_mid_round_displaces_no_other() {
        let mut sweep = Sweep::default();
        for slot in 0..3 {
            sweep.join(RoundKind::Everything, slot);
        }
        sweep.restart(RoundKind::Everything);
        assert_eq!(sweep.next(), Some(Candidate::InRound(0)));
        sweep.restart(RoundKind::Everything);
        sweep.join(RoundKind::Everything, 3);
        assert_eq!(drain(&mut sweep), [1, 2, 3, 0]);
    }

    /// Streams join and leave at random mid-round. A stream that was present at the restart and has
    /// not left is visited, by the round or by the queue.
    #[test]
    fn joins_and_leaves_mid_round_skip_no_stream() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let mut sweep = Sweep::default();
            let count = rng.u32(1..40);
            let mut index_of: Vec<Option<u32>> = (0..count)
                .map(|slot| Some(sweep.join(RoundKind::Everything, slot)))
                .collect();
            for _ in 0..rng.u32(0..50) {
                sweep.restart(RoundKind::Everything);
                sweep.next();
            }
            sweep.restart(RoundKind::Everything);
            let mut visited = HashSet::new();
            let mut newest = count;
            while let Some(Candidate::InRound(slot) | Candidate::Queued(slot)) = sweep.next() {
                visited.insert(slot);
                if rng.u8(0..8) == 0 {
                    // The queue serves a new stream. The round must not end early because of it.
                    index_of.push(Some(sweep.join(RoundKind::Everything, newest)));
                    visited.insert(newest);
                    newest += 1;
                }
                let leaving = rng.u32(0..newest);
                if rng.bool()
                    && let Some(index) = index_of[leaving as usize].take()
                    && let Some(moved) = sweep.leave(RoundKind::Everything, index)
                {
                    sweep.enqueue(moved);
                    if let Some(index_of_moved) = index_of.get_mut(moved as usize) {
                        *index_of_moved = Some(index);
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
