//! The trail of a stream that sees a part of the messages: those of its sessions and those for everyone.
//!
//! Its seqs skip the messages of other sessions. Whether a skipped one was its own is known only when another
//! stream has shown it, perhaps later. So a segment spans all seqs between its first and its last message and
//! counts what was shown of them; `summary` compares at the end. A connection says in its `connected` event after
//! which place it begins: a resume. Without a place it replays the history.

use crate::engine::cluster::order::{NONE, Order, Place};
use crate::engine::cluster::trail::{Cause, Segment, Tally, Trail};

/// The present connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Part {
    /// The place after which it has begun, until its first message.
    start: Option<Place>,
    /// The seq before the last one; 0 if there is none.
    before_last: u64,
}

impl Trail {
    /// The trail of a stream that sees a part of the messages.
    pub fn in_part() -> Trail {
        Trail {
            part: Some(Part::default()),
            ..Trail::default()
        }
    }

    /// A `connected` event with a place, or without one.
    pub fn begin(&mut self, start: Option<Place>) {
        if let Some(part) = &mut self.part {
            part.start = start;
        }
    }

    /// Any event of the view.
    pub(super) fn arrive_in_part(&mut self, order: &Order, at: u32, tally: &mut Tally) {
        let place = order.get(at).place;
        if self.is_under_way() {
            self.follow_in_part(order.get(self.last).place, place, tally);
        } else {
            self.resume_in_part(order, place, tally);
        }
        if order.has_twin(at) {
            self.check_twins(order, at, tally);
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.to = place.seq;
            segment.shown.add(place.seq);
        }
        self.gap = 0;
        self.last = at;
    }

    /// An event that is not the first of its connection. The segment that it belongs to is the last one then.
    fn follow_in_part(&mut self, last: Place, place: Place, tally: &mut Tally) {
        let before_last = self.part.as_ref().map_or(0, |part| part.before_last);
        if let Some(part) = &mut self.part {
            part.before_last = last.seq;
        }
        if place.seq <= last.seq || place.epoch < last.epoch {
            let here = &self.segments[self.connection_at..];
            let was_skipped = before_last < place.seq && place.seq < last.seq;
            if !was_skipped && here.iter().any(|segment| segment.contains(place)) {
                tally.repeated += 1;
                tally.note(format!("{place} came again after {last} on one connection"));
            } else {
                tally.out_of_order += 1;
                tally.note(format!("{place} came after {last} on one connection"));
            }
            self.segments.push(Segment::at(place));
        } else if self.gap > 0 {
            self.skip_announced(last, place, tally);
            self.segments.push(Segment::at(place));
        } else if place.epoch != last.epoch {
            self.segments.push(Segment::at(place));
        }
    }

    /// The first event of a connection.
    fn resume_in_part(&mut self, order: &Order, place: Place, tally: &mut Tally) {
        let start = self.part.as_mut().and_then(|part| part.start.take());
        if let Some(part) = &mut self.part {
            part.before_last = 0;
        }
        let mut segment = Segment::at(place);
        if self.last == NONE {
            return self.segments.push(segment);
        }
        let last = order.get(self.last).place;
        match start {
            // What an epoch has not carried over is replaced, under the same seqs.
            _ if place.seq <= last.seq => tally.replays += 1,
            Some(start) if start.seq <= last.seq => {
                tally.resumes += 1;
                if self.gap > 0 {
                    self.skip_announced(last, place, tally);
                } else if start.epoch == place.epoch {
                    segment.from = start.seq + 1;
                }
            }
            _ => {
                tally.replays += 1;
                self.excuse(Cause::Replay, last, place);
            }
        }
        self.segments.push(segment);
    }

    /// A `gap` counts messages of the view, and at most as many as there are seqs.
    fn skip_announced(&mut self, last: Place, place: Place, tally: &mut Tally) {
        if self.gap > place.seq - last.seq - 1 {
            tally.wrong_gaps += 1;
            let gap = self.gap;
            tally.note(format!("{place} came after {last} and a gap of {gap}"));
        }
        self.excuse(Cause::Gap, last, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cluster::order::frame;
    use crate::engine::cluster::trail::Shown;
    use crate::engine::payload::Stamp;

    /// A stream with a view; messages whose number is their seq.
    struct Rig {
        order: Order,
        trail: Trail,
        tally: Tally,
    }

    impl Rig {
        fn new() -> Rig {
            Rig {
                order: Order::default(),
                trail: Trail::in_part(),
                tally: Tally::default(),
            }
        }

        fn arrive(&mut self, epoch: u64, seqs: &[u64]) {
            for &seq in seqs {
                let number = seq as u32;
                let frame = frame(Place { epoch, seq }, number, seq.into());
                let stamp = Stamp { number, sent_ns: 0 };
                let at = self.order.meet(stamp, &frame, Some(&frame)).unwrap();
                self.trail.arrive(&mut self.order, at, &mut self.tally);
            }
        }

        fn connect(&mut self, epoch: u64, seq: Option<u64>) {
            self.trail.connect();
            self.trail.begin(seq.map(|seq| Place { epoch, seq }));
        }

        /// Repeated, out of order, holes, resumes, replays.
        fn counts(&mut self) -> [u64; 5] {
            let tally = std::mem::take(&mut self.tally);
            assert_eq!(tally.wrong_gaps, 0);
            [
                tally.repeated,
                tally.out_of_order,
                tally.holes,
                tally.resumes,
                tally.replays,
            ]
        }
    }

    #[test]
    fn skipped_seqs_are_spanned_and_what_was_shown_is_counted() {
        let mut rig = Rig::new();
        rig.arrive(1, &[3, 4, 9]);
        rig.connect(1, Some(9));
        rig.arrive(1, &[12, 20]);
        assert_eq!(rig.counts(), [0, 0, 0, 1, 0]);
        let segment = |from, to, count, seq_sum| Segment {
            epoch: 1,
            from,
            to,
            shown: Shown { count, seq_sum },
        };
        let expected = [segment(3, 9, 3, 16), segment(10, 20, 2, 32)];
        assert_eq!(rig.trail.segments(), expected);
        assert!(!rig.trail.may_advance());
    }

    #[test]
    fn a_repeat_and_an_older_event_are_faults_on_one_connection() {
        for (seqs, expected) in [
            ([2, 5, 5], [1, 0, 0, 0, 0]),
            ([2, 5, 2], [1, 0, 0, 0, 0]),
            ([2, 5, 4], [0, 1, 0, 0, 0]),
            ([2, 5, 1], [0, 1, 0, 0, 0]),
        ] {
            let mut rig = Rig::new();
            rig.arrive(1, &seqs);
            assert_eq!(rig.counts(), expected, "{seqs:?}");
        }
        let mut rig = Rig::new();
        rig.arrive(1, &[2, 5]);
        rig.connect(1, None);
        rig.arrive(1, &[2, 5, 7]);
        assert_eq!(rig.counts(), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_connection_without_a_place_is_a_replay_that_may_begin_later() {
        let mut rig = Rig::new();
        rig.arrive(1, &[2, 5]);
        rig.connect(1, None);
        rig.arrive(1, &[9]);
        // The history had nothing of the view, so the place is that of its end.
        rig.connect(1, Some(20));
        rig.arrive(1, &[22]);
        assert_eq!(rig.counts(), [0, 0, 0, 0, 2]);
        let spans: Vec<_> = rig
            .trail
            .excuses()
            .iter()
            .map(|one| (one.after, one.before))
            .collect();
        assert_eq!(spans, [(5, 9), (9, 22)]);
    }

    #[test]
    fn a_resume_under_another_epoch_claims_nothing_of_it() {
        let mut rig = Rig::new();
        rig.arrive(1, &[2, 5]);
        rig.connect(3, Some(4));
        rig.arrive(2, &[6]);
        rig.arrive(3, &[9]);
        assert_eq!(rig.counts(), [0, 0, 0, 1, 0]);
        let spans: Vec<_> = rig
            .trail
            .segments()
            .iter()
            .map(|one| (one.epoch, one.from, one.to))
            .collect();
        assert_eq!(spans, [(1, 2, 5), (2, 6, 6), (3, 9, 9)]);
    }

    #[test]
    fn a_gap_is_an_excuse_and_counts_no_more_than_was_skipped() {
        let mut rig = Rig::new();
        rig.arrive(1, &[2]);
        rig.trail.gap(3, &mut rig.tally);
        rig.arrive(1, &[9]);
        rig.connect(1, Some(9));
        rig.trail.gap(1, &mut rig.tally);
        rig.arrive(1, &[11]);
        assert_eq!(rig.counts(), [0, 0, 0, 1, 0]);
        let announced: Vec<_> = rig
            .trail
            .excuses()
            .iter()
            .map(|one| (one.cause, one.announced))
            .collect();
        assert_eq!(announced, [(Cause::Gap, 3), (Cause::Gap, 1)]);
        rig.trail.gap(3, &mut rig.tally);
        rig.arrive(1, &[14]);
        assert_eq!(rig.tally.wrong_gaps, 1);
    }
}
