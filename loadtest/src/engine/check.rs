//! Checks that one stream got every message, once, in order.
//!
//! Pure bookkeeping: a few nanoseconds a message while there is no fault. `streams` calls it with message
//! numbers; it knows no bytes, sockets or clock. A stream's numbers are an arithmetic progression: all of
//! them, or every n-th when messages are targeted at sessions in turn. A message without an acknowledgement
//! may arrive or not: neither is a fault.

use serde::{Deserialize, Serialize};

use crate::engine::number_set::NumberSet;

/// Ranges of skipped numbers that a stream remembers, the newest ones. A message of an older range counts as a
/// repeat if it arrives after all.
const HOLES_MAX: usize = 4_096;

/// Faults of one stream, or summed over all streams.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Never arrived.
    pub missing: u64,
    /// Arrived more than once.
    pub duplicate: u64,
    /// Arrived after a later one.
    pub out_of_order: u64,
    /// Belonged to another session.
    pub misdelivered: u64,
}

impl Faults {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.missing + self.duplicate + self.out_of_order + self.misdelivered
    }

    /// Adds the faults of another stream.
    pub fn add(&mut self, other: Faults) {
        self.missing += other.missing;
        self.duplicate += other.duplicate;
        self.out_of_order += other.out_of_order;
        self.misdelivered += other.misdelivered;
    }
}

/// The bookkeeping of one stream.
#[derive(Debug, Clone)]
pub struct Checker {
    /// The next number in order; `None` until a stream that joins midway gets its first.
    next: Option<u32>,
    /// The first number of a stream that joined midway.
    joined_at: u32,
    residue: u32,
    stride: u32,
    /// Skipped numbers as half-open ranges, oldest first. Empty on a stream without faults.
    holes: Vec<(u32, u32)>,
    faults: Faults,
}

impl Checker {
    /// A stream that expects each number from `first` on that leaves `residue` when divided by `stride`.
    pub fn from(first: u32, residue: u32, stride: u32) -> Checker {
        assert!(residue < stride, "residue {residue} of {stride}");
        let next = first + (residue + stride - first % stride) % stride;
        Checker {
            next: Some(next),
            joined_at: 0,
            residue,
            stride,
            holes: Vec::new(),
            faults: Faults::default(),
        }
    }

    /// A stream that joins while messages flow. Its first message sets its first number.
    pub fn joining(residue: u32, stride: u32) -> Checker {
        Checker {
            next: None,
            ..Checker::from(0, residue, stride)
        }
    }

    /// Whether it is a stream that joined while messages flowed, and has got one since.
    pub fn has_joined(&self) -> bool {
        self.joined_at > 0
    }

    /// Notes the arrival of `number`.
    #[inline]
    pub fn arrived(&mut self, number: u32) {
        if self.next == Some(number) {
            self.next = Some(number + self.stride);
        } else {
            self.arrived_unexpectedly(number);
        }
    }

    /// Notes the arrival of `count` messages with consecutive numbers from `first` on.
    #[inline]
    pub fn arrived_in_a_row(&mut self, first: u32, count: u32) {
        if self.next == Some(first) && self.stride == 1 {
            self.next = Some(first + count);
        } else {
            (first..first + count).for_each(|number| self.arrived(number));
        }
    }

    #[cold]
    fn arrived_unexpectedly(&mut self, number: u32) {
        if number % self.stride != self.residue {
            self.faults.misdelivered += 1;
            return;
        }
        match self.next {
            None => {
                self.joined_at = number;
                self.next = Some(number + self.stride);
            }
            Some(next) if number > next => {
                if self.holes.len() == HOLES_MAX {
                    self.holes.remove(0);
                }
                self.holes.push((next, number));
                self.faults.missing += u64::from((number - next) / self.stride);
                self.next = Some(number + self.stride);
            }
            Some(_) => self.arrived_late(number),
        }
    }

    /// A number behind the cursor: it fills a hole, or is a repeat.
    fn arrived_late(&mut self, number: u32) {
        let Some(at) = self
            .holes
            .iter()
            .position(|&(from, to)| from <= number && number < to)
        else {
            // A message from before the first one was not read before.
            if number < self.joined_at {
                self.faults.out_of_order += 1;
            } else {
                self.faults.duplicate += 1;
            }
            return;
        };
        let (from, to) = self.holes.remove(at);
        let rest = [(from, number), (number + self.stride, to)];
        for hole in rest.into_iter().rev().filter(|(from, to)| from < to) {
            self.holes.insert(at, hole);
        }
        self.faults.missing -= 1;
        self.faults.out_of_order += 1;
    }

    /// Whether the cursor is past every expected number below `total`; holes do not matter.
    pub fn reached(&self, total: u32) -> bool {
        self.next.map_or(total == 0, |next| next >= total)
    }

    /// Messages below `total` that this stream lacks, if its first should have been `first` at the latest.
    pub fn lacks_all_from(&self, first: u32, total: u32) -> u64 {
        match self.next {
            None => u64::from(total.saturating_sub(first)),
            Some(_) => 0,
        }
    }

    /// The faults so far.
    pub fn faults_so_far(&self) -> Faults {
        self.faults
    }

    /// The faults among the first `total` messages, without those in `unacknowledged`. `missing` counts
    /// messages that later ones overtook; [`Checker::outstanding`] counts the rest.
    pub fn faults(&self, unacknowledged: &NumberSet) -> Faults {
        let excused = |&(from, to): &(u32, u32)| unacknowledged.count(from, to, self.stride);
        let excused: u64 = self.holes.iter().map(excused).sum();
        Faults {
            missing: self.faults.missing.saturating_sub(excused),
            ..self.faults
        }
    }

    /// Acknowledged messages below `total` and after the last arrival: in flight while the server lives,
    /// otherwise lost.
    pub fn outstanding(&self, total: u32, unacknowledged: &NumberSet) -> u64 {
        let Some(next) = self.next.filter(|&next| next < total) else {
            return 0;
        };
        let all = u64::from((total - next).div_ceil(self.stride));
        all - unacknowledged.count(next, total, self.stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(checker: &mut Checker, numbers: &[u32]) -> Faults {
        for &number in numbers {
            checker.arrived(number);
        }
        finish(checker, 6)
    }

    /// All faults, given that nothing is in flight and everything was acknowledged.
    fn finish(checker: &Checker, total: u32) -> Faults {
        let none = NumberSet::default();
        let mut faults = checker.faults(&none);
        faults.missing += checker.outstanding(total, &none);
        faults
    }

    #[test]
    fn messages_without_an_acknowledgement_are_never_faults() {
        let mut unacknowledged = NumberSet::default();
        for number in [2, 3, 7, 9] {
            unacknowledged.insert(number);
        }
        let mut checker = Checker::from(0, 0, 1);
        for number in [0, 3, 4, 6] {
            checker.arrived(number);
        }
        // 1 and 5 are missing. 2 and 3 were not acknowledged: either outcome is right.
        assert_eq!(checker.faults(&unacknowledged).missing, 2);
        // 8 is outstanding. 7 and 9 were not acknowledged.
        assert_eq!(checker.outstanding(10, &unacknowledged), 1);
        assert_eq!(checker.outstanding(7, &unacknowledged), 0);
        let session = Checker::from(0, 1, 2);
        assert_eq!(session.outstanding(10, &unacknowledged), 2);
    }

    #[test]
    fn every_message_once_in_order_is_no_fault() {
        let mut checker = Checker::from(0, 0, 1);
        assert_eq!(after(&mut checker, &[0, 1, 2, 3, 4, 5]), Faults::default());
        assert!(checker.reached(6) && !checker.reached(7));
    }

    #[test]
    fn a_run_of_numbers_counts_as_each_of_them() {
        let mut checker = Checker::from(0, 0, 1);
        checker.arrived_in_a_row(0, 3);
        checker.arrived_in_a_row(2, 4);
        assert_eq!(finish(&checker, 6).duplicate, 1);
        assert!(checker.reached(6));
    }

    #[test]
    fn messages_that_never_arrive_are_missing() {
        let faults = after(&mut Checker::from(0, 0, 1), &[0, 3, 4]);
        assert_eq!(
            faults,
            Faults {
                missing: 3,
                ..Faults::default()
            }
        );
        assert_eq!(finish(&Checker::from(0, 0, 1), 6).missing, 6);
    }

    #[test]
    fn late_messages_are_out_of_order_and_repeats_are_duplicates() {
        let faults = after(&mut Checker::from(0, 0, 1), &[0, 4, 2, 2, 1, 3, 3, 5]);
        assert_eq!(
            faults,
            Faults {
                out_of_order: 3,
                duplicate: 2,
                ..Faults::default()
            }
        );
    }

    #[test]
    fn a_session_expects_only_its_own_numbers() {
        let mut checker = Checker::from(0, 1, 3);
        assert_eq!(after(&mut checker, &[1, 4]), Faults::default());
        assert!(checker.reached(6));
        checker.arrived(5);
        assert_eq!(finish(&checker, 8).misdelivered, 1);
        assert_eq!(finish(&checker, 8).missing, 1);
    }

    #[test]
    fn a_session_that_starts_late_expects_its_next_number() {
        assert_eq!(Checker::from(5, 1, 3).next, Some(7));
        assert_eq!(Checker::from(7, 1, 3).next, Some(7));
    }

    #[test]
    fn a_joining_stream_begins_with_its_first_message() {
        let mut checker = Checker::joining(0, 1);
        assert_eq!(finish(&checker, 6).missing, 0);
        assert_eq!(after(&mut checker, &[3, 4, 5]), Faults::default());
        checker.arrived(2);
        checker.arrived(3);
        let faults = finish(&checker, 6);
        assert_eq!((faults.out_of_order, faults.duplicate), (1, 1));
    }

    #[test]
    fn remembered_holes_are_bounded() {
        let mut checker = Checker::from(0, 0, 1);
        for number in 0..10_000 {
            checker.arrived(number * 2 + 1);
        }
        assert_eq!(
            (checker.holes.len(), finish(&checker, 20_000).missing),
            (HOLES_MAX, 10_000)
        );
        checker.arrived(0);
        checker.arrived(19_998);
        let faults = finish(&checker, 20_000);
        assert_eq!((faults.duplicate, faults.out_of_order), (1, 1));
        assert_eq!(Checker::joining(0, 1).lacks_all_from(3, 10), 7);
        assert_eq!(checker.lacks_all_from(3, 10), 0);
    }

    #[test]
    fn random_orders_agree_with_a_plain_model() {
        let seed = random_seed();
        let mut random = seed;
        for _ in 0..200 {
            let numbers: Vec<u32> = (0..40).map(|_| (step(&mut random) % 24) as u32).collect();
            let mut checker = Checker::from(0, 0, 1);
            let mut arrived = std::collections::HashSet::new();
            let (mut duplicate, mut late, mut highest) = (0, 0, None);
            for &number in &numbers {
                checker.arrived_in_a_row(number, 1);
                if !arrived.insert(number) {
                    duplicate += 1;
                } else if highest > Some(number) {
                    late += 1;
                }
                highest = highest.max(Some(number));
            }
            let faults = finish(&checker, 24);
            let missing = 24 - arrived.len() as u64;
            let model = Faults {
                missing,
                duplicate,
                out_of_order: late,
                misdelivered: 0,
            };
            assert_eq!(faults, model, "seed {seed}, {numbers:?}");
        }
    }

    fn random_seed() -> u64 {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0) | 1
    }

    fn step(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state >> 16
    }
}
