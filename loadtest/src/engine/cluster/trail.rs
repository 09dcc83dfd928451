//! The way of one stream through the order, over all its connections, and the faults on it.
//!
//! On one connection seqs increase by one, a `gap` event announces each hole with its length, and no message
//! comes twice. From one connection to the next the order goes on after the last event id. If that id is no
//! longer valid, the history is replayed, and repeats are no fault. Called by `reader`. Pure bookkeeping: an
//! addition for each message while there is no fault. `partial` does the same for a stream that sees a part of the
//! messages.

mod partial;

use serde::{Deserialize, Serialize};

use crate::engine::cluster::order::{NONE, Order, Place};

/// Descriptions of faults that are kept.
const DETAILS_MAX: usize = 20;

/// What streams have seen, summed.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Messages that came again on one connection.
    pub repeated: u64,
    /// Messages on one connection that came after one with a greater event id.
    pub out_of_order: u64,
    /// Seqs that were skipped without a `gap` event that says so.
    pub holes: u64,
    /// `gap` events with another number than that of the skipped seqs.
    pub wrong_gaps: u64,
    /// `gap` events.
    pub gaps: u64,
    /// Messages that they announced as missed.
    pub gap_messages: u64,
    /// Messages of other sessions.
    pub foreign: u64,
    /// Connections that went on exactly after the last event id.
    pub resumes: u64,
    /// Connections that began with messages before the last event id, or under another epoch elsewhere.
    pub replays: u64,
    /// Descriptions of the first faults.
    pub details: Vec<String>,
}

impl Tally {
    /// Keeps a description, if there is room.
    pub fn note(&mut self, detail: String) {
        if self.details.len() < DETAILS_MAX {
            self.details.push(detail);
        }
    }
}

/// Seqs of one epoch that a connection has shown, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The epoch.
    pub epoch: u64,
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
    /// What was shown of them, on a stream that sees a part of the messages.
    pub shown: Shown,
}

/// Messages that a stream was shown: as many as their view has in the same seqs, if it lacks none.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Their number.
    pub count: u64,
    /// The sum of their seqs: it says which one is missing, if one is.
    pub seq_sum: u64,
}

impl Shown {
    /// One more.
    pub fn add(&mut self, seq: u64) {
        self.count += 1;
        self.seq_sum = self.seq_sum.wrapping_add(seq);
    }
}

impl Segment {
    fn at(place: Place) -> Segment {
        Segment {
            epoch: place.epoch,
            from: place.seq,
            to: place.seq,
            shown: Shown::default(),
        }
    }

    /// The one of these seqs, all of its view, that was not shown. `None` if all were, if several were not, or on a
    /// stream that sees all messages.
    pub fn missing_seq(&self, seqs: impl ExactSizeIterator<Item = u64>) -> Option<u64> {
        let is_one_missing = self.shown.count > 0 && seqs.len() as u64 == self.shown.count + 1;
        is_one_missing.then(|| {
            let sum = seqs.fold(0, u64::wrapping_add);
            sum.wrapping_sub(self.shown.seq_sum)
        })
    }

    fn contains(&self, place: Place) -> bool {
        self.epoch == place.epoch && (self.from..=self.to).contains(&place.seq)
    }
}

/// Why a stream may lack messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A `gap` event announced it.
    Gap,
    /// Its id was not valid any more, and the history that it got began later.
    Replay,
}

/// Seqs that a stream may lack: those between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excuse {
    /// Why.
    pub cause: Cause,
    /// The epoch of the seq behind.
    pub epoch: u64,
    /// How many messages the server has announced as missed, for [`Cause::Gap`].
    pub announced: u64,
    /// The last seq before.
    pub after: u64,
    /// The first seq behind.
    pub before: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Trail {
    segments: Vec<Segment>,
    /// The first segment of the present connection.
    connection_at: usize,
    /// The last event; [`NONE`] before the first.
    last: u32,
    /// Messages that the server has announced as missed since then.
    gap: u64,
    excuses: Vec<Excuse>,
    /// What only a stream has that sees a part of the messages.
    part: Option<partial::Part>,
}

impl Default for Trail {
    fn default() -> Trail {
        Trail {
            segments: Vec::new(),
            connection_at: 0,
            last: NONE,
            gap: 0,
            excuses: Vec::new(),
            part: None,
        }
    }
}

impl Trail {
    /// The position of the last event in the order; [`NONE`] before the first.
    #[inline]
    pub fn last(&self) -> u32 {
        self.last
    }

    /// Whether the present connection has shown a message.
    #[inline]
    pub fn is_under_way(&self) -> bool {
        self.segments.len() > self.connection_at
    }

    /// All that the stream has seen.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What it may lack.
    pub fn excuses(&self) -> &[Excuse] {
        &self.excuses
    }

    /// A new connection begins.
    pub fn connect(&mut self) {
        self.connection_at = self.segments.len();
        self.gap = 0;
        if self.part.is_some() {
            self.part = Some(partial::Part::default());
        }
    }

    /// The server announces missed messages.
    pub fn gap(&mut self, missed: u64, tally: &mut Tally) {
        tally.gaps += 1;
        tally.gap_messages += missed;
        self.gap += missed;
    }

    /// The event that follows the last one on this connection, as [`Order::recognise`] found it. Before, a
    /// connection has to be under way and no gap announced: see [`Trail::may_advance`].
    #[inline]
    pub fn advance(&mut self, at: u32) {
        self.last = at;
        if let Some(segment) = self.segments.last_mut() {
            segment.to += 1;
        }
    }

    /// Whether the next event can be recognised.
    #[inline]
    pub fn may_advance(&self) -> bool {
        self.is_under_way() && self.gap == 0 && self.part.is_none()
    }

    /// Any event.
    pub fn arrive(&mut self, order: &mut Order, at: u32, tally: &mut Tally) {
        if self.part.is_some() {
            return self.arrive_in_part(order, at, tally);
        }
        let place = order.get(at).place;
        if self.is_under_way() {
            self.follow(order, at, tally);
        } else if self.last != NONE {
            self.resume(order.get(self.last).place, place, tally);
        }
        if order.has_twin(at) {
            self.check_twins(order, at, tally);
        }
        self.gap = 0;
        self.last = at;
        let is_new = !self.is_under_way();
        match self.segments.last_mut() {
            Some(last) if !is_new && last.epoch == place.epoch && last.to + 1 == place.seq => {
                last.to = place.seq;
            }
            _ => self.segments.push(Segment::at(place)),
        }
    }

    /// An event that is not the first of its connection.
    fn follow(&mut self, order: &mut Order, at: u32, tally: &mut Tally) {
        let last = order.get(self.last).place;
        let place = order.get(at).place;
        if place.seq <= last.seq || place.epoch < last.epoch {
            let here = &self.segments[self.connection_at..];
            if here.iter().any(|segment| segment.contains(place)) {
                tally.repeated += 1;
                tally.note(format!("{place} came again after {last} on one connection"));
            } else {
                tally.out_of_order += 1;
                tally.note(format!("{place} came after {last} on one connection"));
            }
            return;
        }
        let skipped = place.seq - last.seq - 1;
        if skipped == 0 && self.gap == 0 {
            if place.epoch == last.epoch {
                order.link(self.last, at);
            }
            return;
        }
        self.check_gap(last, place, skipped, tally);
    }

    /// The first event of a connection that resumes after `last`.
    fn resume(&mut self, last: Place, place: Place, tally: &mut Tally) {
        if place.seq <= last.seq {
            tally.replays += 1;
            return;
        }
        let skipped = place.seq - last.seq - 1;
        if skipped == 0 && self.gap == 0 {
            tally.resumes += 1;
        } else if self.gap == 0 && place.epoch != last.epoch {
            tally.replays += 1;
            self.excuse(Cause::Replay, last, place);
        } else {
            tally.resumes += 1;
            self.check_gap(last, place, skipped, tally);
        }
    }

    fn check_gap(&mut self, last: Place, place: Place, skipped: u64, tally: &mut Tally) {
        if self.gap == 0 {
            tally.holes += skipped;
            tally.note(format!("{place} came after {last} without a gap event"));
            return;
        }
        if self.gap != skipped {
            tally.wrong_gaps += 1;
            let gap = self.gap;
            tally.note(format!("{place} came after {last} and a gap of {gap}"));
        }
        self.excuse(Cause::Gap, last, place);
    }

    fn excuse(&mut self, cause: Cause, last: Place, place: Place) {
        self.excuses.push(Excuse {
            cause,
            epoch: place.epoch,
            announced: self.gap,
            after: last.seq,
            before: place.seq,
        });
    }

    /// A message with several places must come once on a connection.
    fn check_twins(&self, order: &Order, at: u32, tally: &mut Tally) {
        let entry = order.get(at);
        let here = &self.segments[self.connection_at..];
        let other = order.places_of(entry.number).find(|&other| {
            other != entry.place && here.iter().any(|segment| segment.contains(other))
        });
        if let Some(other) = other {
            tally.repeated += 1;
            tally.note(format!(
                "message {} came at {other} and again at {} on one connection",
                entry.number, entry.place
            ));
        }
    }

    /// Whether the stream has seen one of these places.
    pub fn has(&self, places: &[Place]) -> bool {
        let has = |place: &Place| self.segments.iter().rev().any(|one| one.contains(*place));
        places.iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::order::frame;
    use crate::engine::payload::Stamp;

    /// Streams of one process.
    #[derive(Default)]
    struct Rig {
        order: Order,
        tally: Tally,
    }

    impl Rig {
        /// The message `number` at a place arrives.
        fn arrive(&mut self, trail: &mut Trail, epoch: u64, seq: u64, number: u32) {
            let stamp = Stamp { number, sent_ns: 0 };
            let frame = frame(Place { epoch, seq }, number, u128::from(number));
            if trail.may_advance()
                && let Some((at, _)) = self.order.recognise(trail.last(), &frame)
            {
                if self.order.has_twin(at) {
                    return trail.arrive(&mut self.order, at, &mut self.tally);
                }
                return trail.advance(at);
            }
            let at = self.order.meet(stamp, &frame, Some(&frame)).unwrap();
            trail.arrive(&mut self.order, at, &mut self.tally);
        }

        /// Messages whose number is their seq.
        fn run(&mut self, trail: &mut Trail, epoch: u64, seqs: impl IntoIterator<Item = u64>) {
            for seq in seqs {
                self.arrive(trail, epoch, seq, seq as u32);
            }
        }

        fn counts(&mut self) -> (u64, u64, u64, u64, u64) {
            let tally = std::mem::take(&mut self.tally);
            let faults = (tally.repeated, tally.out_of_order, tally.holes);
            (faults.0, faults.1, faults.2, tally.resumes, tally.replays)
        }
    }

    #[test]
    fn one_order_over_connections_and_epochs_is_no_fault() {
        let mut rig = Rig::default();
        for _ in 0..3 {
            let mut trail = Trail::default();
            rig.run(&mut trail, 1, 1..=20);
            rig.run(&mut trail, 2, 21..=30);
            trail.connect();
            rig.run(&mut trail, 2, 31..=40);
            trail.connect();
            rig.run(&mut trail, 3, 41..=50);
            assert_eq!(rig.counts(), (0, 0, 0, 2, 0));
            let lengths = trail.segments().iter().map(|one| one.to - one.from + 1);
            assert_eq!(lengths.sum::<u64>(), 50);
            assert_eq!(trail.segments().len(), 4);
            assert!(trail.excuses().is_empty());
        }
    }

    #[test]
    fn a_repeat_on_one_connection_is_a_fault_and_on_the_next_a_replay() {
        let mut rig = Rig::default();
        let mut trail = Trail::default();
        rig.run(&mut trail, 1, [1, 2, 3, 2]);
        assert_eq!(rig.counts(), (1, 0, 0, 0, 0));
        let mut trail = Trail::default();
        rig.run(&mut trail, 1, [1, 2, 3]);
        trail.connect();
        rig.run(&mut trail, 1, [2, 3, 4]);
        assert_eq!(rig.counts(), (0, 0, 0, 0, 1));
    }

    #[test]
    fn a_message_at_two_places_is_a_repeat_on_one_connection_only() {
        let mut rig = Rig::default();
        let mut trail = Trail::default();
        rig.run(&mut trail, 1, [1, 2, 3]);
        rig.arrive(&mut trail, 2, 4, 2);
        assert_eq!(rig.counts(), (1, 0, 0, 0, 0));
        // A stream that was elsewhere when the other one met both.
        let mut later = Trail::default();
        rig.run(&mut later, 1, [1, 2, 3]);
        rig.arrive(&mut later, 2, 4, 2);
        assert_eq!(rig.counts(), (1, 0, 0, 0, 0));
        let mut moved = Trail::default();
        rig.run(&mut moved, 1, [1, 2, 3]);
        moved.connect();
        rig.arrive(&mut moved, 2, 4, 2);
        assert_eq!(rig.counts(), (0, 0, 0, 1, 0));
    }

    #[test]
    fn an_older_event_on_one_connection_is_out_of_order() {
        let mut rig = Rig::default();
        let mut trail = Trail::default();
        rig.run(&mut trail, 5, [1, 2, 4, 3]);
        assert_eq!(rig.counts(), (0, 1, 1, 0, 0));
        let mut trail = Trail::default();
        rig.run(&mut trail, 5, [1, 2]);
        rig.run(&mut trail, 4, [3]);
        assert_eq!(rig.counts(), (0, 1, 0, 0, 0));
        // The node goes on under another history, in place of a reset.
        rig.arrive(&mut trail, 6, 2, 77);
        assert_eq!(rig.counts(), (0, 1, 0, 0, 0));
    }

    #[test]
    fn a_hole_needs_a_gap_event_of_its_length() {
        let mut rig = Rig::default();
        let mut trail = Trail::default();
        rig.run(&mut trail, 1, [1, 2, 5]);
        assert_eq!(rig.counts(), (0, 0, 2, 0, 0));
        trail.gap(3, &mut rig.tally);
        rig.run(&mut trail, 1, [9]);
        assert_eq!(rig.tally.wrong_gaps, 0);
        assert_eq!(rig.counts(), (0, 0, 0, 0, 0));
        let excuse = Excuse {
            cause: Cause::Gap,
            epoch: 1,
            announced: 3,
            after: 5,
            before: 9,
        };
        assert_eq!(trail.excuses(), [excuse]);
        trail.gap(3, &mut rig.tally);
        rig.run(&mut trail, 1, [10]);
        assert_eq!(rig.tally.wrong_gaps, 1);
        // Another stream that skips what the first has not: the link leads nowhere else.
        let mut other = Trail::default();
        rig.run(&mut other, 1, [1, 2, 9]);
        assert_eq!(rig.counts(), (0, 0, 6, 0, 0));
    }

    #[test]
    fn a_connection_that_skips_is_a_hole_unless_its_id_was_lost() {
        let mut rig = Rig::default();
        let mut trail = Trail::default();
        rig.run(&mut trail, 1, [1, 2]);
        trail.connect();
        rig.run(&mut trail, 1, [4]);
        assert_eq!(rig.counts(), (0, 0, 1, 1, 0));
        trail.connect();
        trail.gap(2, &mut rig.tally);
        rig.run(&mut trail, 1, [7]);
        assert_eq!(rig.counts(), (0, 0, 0, 1, 0));
        trail.connect();
        rig.run(&mut trail, 2, [20]);
        assert_eq!(rig.counts(), (0, 0, 0, 0, 1));
        assert_eq!(trail.excuses().last().unwrap().cause, Cause::Replay);
    }
}
