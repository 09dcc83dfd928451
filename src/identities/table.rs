//! The identities in memory: the newest [`IDENTITIES_MAX`], by their fingerprints.
//!
//! Called by the parent module. Without I/O and without a clock.

use std::collections::{HashMap, VecDeque};

use super::{First, Known};
use crate::limits::IDENTITIES_MAX;
use crate::message::{Fingerprint, Identity};

/// An identity and its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The message's seq in the ring.
    pub seq: u64,
    pub first: First,
    pub identity: Identity,
}

impl Record {
    /// Whether its window has ended. A clock that was set back ends none.
    fn is_over(&self, now_ms: u64) -> bool {
        let window_ms = u64::from(self.identity.window_s) * 1000;
        now_ms >= self.first.timestamp_ms.saturating_add(window_ms)
    }

    fn prints(&self) -> impl Iterator<Item = Fingerprint> {
        [self.identity.id, self.identity.tag].into_iter().flatten()
    }
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Table {
    /// The oldest first.
    records: VecDeque<Record>,
    /// The number of the oldest. Each further record has the next number.
    start: u64,
    /// The number of the newest record with a fingerprint. An id and a tag never have the same one.
    numbers: HashMap<Fingerprint, u64>,
}

impl Table {
    /// Sets the number of the first record.
    pub fn begin_at(&mut self, start: u64) {
        debug_assert!(self.records.is_empty());
        self.start = start;
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The number of the oldest record.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The number of the next record.
    pub fn end(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    pub fn find(&self, identity: &Identity, now_ms: u64) -> Known {
        if let Some(record) = self.by_print(identity.id, now_ms) {
            return match (record.identity.body, identity.body) {
                (Some(first), Some(second)) if first != second => Known::KeyReused,
                _ => Known::Repeat(record.first),
            };
        }
        match self.by_print(identity.tag, now_ms) {
            Some(record) => Known::Repeat(record.first),
            None => Known::Nothing,
        }
    }

    fn by_print(&self, print: Option<Fingerprint>, now_ms: u64) -> Option<&Record> {
        let number = *self.numbers.get(&print?)?;
        self.get(number).filter(|record| !record.is_over(now_ms))
    }

    pub fn get(&self, number: u64) -> Option<&Record> {
        let index = number.checked_sub(self.start)?;
        self.records.get(usize::try_from(index).ok()?)
    }

    /// The record whose number has this place in the file.
    pub fn at_place(&self, place: usize) -> Option<(u64, &Record)> {
        let places = IDENTITIES_MAX as u64;
        let ahead = (place as u64 + places - self.start % places) % places;
        let number = self.start + ahead;
        self.get(number).map(|record| (number, record))
    }

    /// Adds a record, and forgets the oldest if there are too many.
    pub fn push(&mut self, record: Record) {
        if self.records.len() == IDENTITIES_MAX
            && let Some(oldest) = self.records.pop_front()
        {
            self.forget(&oldest, self.start);
            self.start += 1;
        }
        let number = self.end();
        for print in record.prints() {
            self.numbers.insert(print, number);
        }
        self.records.push_back(record);
    }

    /// Forgets the newest record.
    pub fn pop(&mut self) {
        if let Some(newest) = self.records.pop_back() {
            self.forget(&newest, self.end());
        }
    }

    /// Removes the fingerprints of a record, as far as no newer one has them.
    fn forget(&mut self, record: &Record, number: u64) {
        for print in record.prints() {
            if self.numbers.get(&print) == Some(&number) {
                self.numbers.remove(&print);
            }
        }
    }

    /// The seq of the newest record.
    pub fn last_seq(&self) -> Option<u64> {
        self.records.back().map(|record| record.seq)
    }

    /// The time of the newest record's message.
    pub fn last_time_ms(&self) -> u64 {
        let newest = self.records.back();
        newest.map_or(0, |record| record.first.timestamp_ms)
    }

    /// The records with their numbers, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Record)> {
        (self.start..).zip(&self.records)
    }

    /// The records from this number on.
    pub fn iter_from(&self, number: u64) -> impl Iterator<Item = (u64, &Record)> {
        let skipped = number.saturating_sub(self.start) as usize;
        (self.start + skipped as u64..).zip(self.records.range(skipped.min(self.records.len())..))
    }
}
