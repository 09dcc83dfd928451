//! What has already been read and checked on one stream, to recognise it on all the others.
//!
//! A broadcast brings every stream the same bytes. The first stream to read a message has it
//! parsed; on every other one the message is known by comparing it with those bytes, which costs a
//! third of parsing it again and checks every byte of it. Owned by `scanner`; knows bytes alone.

use crate::payload::Stamp;

/// Bytes kept: far more than streams lie apart at any moment, and little beside a level 3 cache.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A run of consecutive messages as they stood on the wire, framing included.
pub struct History {
    bytes: Vec<u8>,
    /// Where each message ends in `bytes`.
    ends: Vec<usize>,
    stamps: Vec<Stamp>,
}

impl Default for History {
    fn default() -> History {
        let bytes = Vec::with_capacity(BYTES_MAX);
        History {
            bytes,
            ends: Vec::new(),
            stamps: Vec::new(),
        }
    }
}

impl History {
    /// Remembers a message that was read as `unit`. One that does not follow the last begins the
    /// run anew, unless it is older.
    pub fn learn(&mut self, stamp: Stamp, unit: &[u8]) {
        match self.stamps.last() {
            Some(last) if stamp.number <= last.number => return,
            Some(last) if stamp.number > last.number + 1 => self.forget(self.stamps.len()),
            _ => {}
        }
        if unit.len() > BYTES_MAX / 4 {
            return self.forget(self.stamps.len());
        }
        if self.bytes.len() + unit.len() > BYTES_MAX {
            self.forget(self.stamps.len() / 2);
        }
        self.bytes.extend_from_slice(unit);
        self.ends.push(self.bytes.len());
        self.stamps.push(stamp);
    }

    /// The messages from `number` on with which `bytes` begins, and how many bytes they are.
    #[inline]
    pub fn recognise(&self, number: u32, bytes: &[u8]) -> (&[Stamp], usize) {
        let Some(first) = self.stamps.first() else {
            return (&[], 0);
        };
        let at = number.wrapping_sub(first.number) as usize;
        if at >= self.stamps.len() {
            return (&[], 0);
        }
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        let mut from = start;
        let mut count = 0;
        for &end in &self.ends[at..] {
            let unit = &self.bytes[from..end];
            if bytes.get(from - start..end - start) != Some(unit) {
                break;
            }
            from = end;
            count += 1;
        }
        (&self.stamps[at..at + count], from - start)
    }

    /// Drops the oldest `count` messages.
    fn forget(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let cut = self.ends[count - 1];
        self.bytes.drain(..cut);
        self.ends.drain(..count);
        self.stamps.drain(..count);
        self.ends.iter_mut().for_each(|end| *end -= cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u32) -> Stamp {
        Stamp {
            number,
            sent_ns: u64::from(number) * 10,
        }
    }

    fn numbers(found: (&[Stamp], usize)) -> (Vec<u32>, usize) {
        (found.0.iter().map(|stamp| stamp.number).collect(), found.1)
    }

    #[test]
    fn what_was_learnt_is_recognised_as_far_as_it_is_whole_and_the_same() {
        let mut history = History::default();
        history.learn(stamp(5), b"five.");
        history.learn(stamp(6), b"six.");
        history.learn(stamp(7), b"seven.");
        assert_eq!(
            numbers(history.recognise(5, b"five.six.seven.more")),
            (vec![5, 6, 7], 15)
        );
        assert_eq!(numbers(history.recognise(6, b"six.seven")), (vec![6], 4));
        assert_eq!(numbers(history.recognise(6, b"six.sEven.")), (vec![6], 4));
        for (number, bytes) in [(4, &b"four."[..]), (8, b"eight."), (5, b"fivE."), (5, b"")] {
            assert_eq!(numbers(history.recognise(number, bytes)), (vec![], 0));
        }
    }

    #[test]
    fn a_leap_begins_anew_and_the_past_is_not_learnt_again() {
        let mut history = History::default();
        history.learn(stamp(5), b"five.");
        history.learn(stamp(5), b"5.");
        history.learn(stamp(9), b"nine.");
        assert_eq!(numbers(history.recognise(5, b"five.")), (vec![], 0));
        history.learn(stamp(8), b"eight.");
        assert_eq!(numbers(history.recognise(9, b"nine.")), (vec![9], 5));
    }

    #[test]
    fn it_is_bounded() {
        let mut history = History::default();
        let unit = vec![b'x'; 1024];
        for number in 0..20_000 {
            history.learn(stamp(number), &unit);
            assert!(history.bytes.len() <= BYTES_MAX);
        }
        assert_eq!(
            numbers(history.recognise(19_999, &unit)),
            (vec![19_999], 1024)
        );
        history.learn(stamp(20_000), &vec![b'y'; BYTES_MAX]);
        assert_eq!(numbers(history.recognise(20_000, b"y")), (vec![], 0));
    }
}
