//! Recent messages, so that their bytes are recognised on other streams.
//!
//! A broadcast sends the same bytes to every stream. A message is parsed on the first stream that reads it. On
//! all others it is compared with those bytes, which checks each byte and costs a third of parsing. Owned by
//! `scanner`; knows bytes only.

use crate::engine::payload::Stamp;

/// Bytes kept: far more than the distance between any two streams, and few compared with a level 3 cache.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// A run of consecutive messages as they were on the wire, framing included.
pub struct History {
    bytes: Vec<u8>,
    /// The end of each message in `bytes`.
    ends: Vec<usize>,
    stamps: Vec<Stamp>,
    /// It remembers nothing.
    is_off: bool,
}

impl Default for History {
    fn default() -> History {
        let bytes = Vec::with_capacity(BYTES_MAX);
        History {
            bytes,
            ends: Vec::new(),
            stamps: Vec::new(),
            is_off: false,
        }
    }
}

impl History {
    /// A history that remembers nothing: each message is parsed.
    pub fn off() -> History {
        History {
            bytes: Vec::new(),
            ends: Vec::new(),
            stamps: Vec::new(),
            is_off: true,
        }
    }

    /// Adds a message whose bytes are `unit`. A message that does not follow the last starts a new run, unless
    /// it is older.
    pub fn learn(&mut self, stamp: Stamp, unit: &[u8]) {
        if self.is_off {
            return;
        }
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

    /// The known messages from `number` on at the start of `bytes`, and their length.
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
    fn known_messages_are_recognised_while_complete_and_equal() {
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
    fn a_skipped_number_starts_a_new_run_and_older_messages_are_ignored() {
        let mut history = History::default();
        history.learn(stamp(5), b"five.");
        history.learn(stamp(5), b"5.");
        history.learn(stamp(9), b"nine.");
        assert_eq!(numbers(history.recognise(5, b"five.")), (vec![], 0));
        history.learn(stamp(8), b"eight.");
        assert_eq!(numbers(history.recognise(9, b"nine.")), (vec![9], 5));
    }

    #[test]
    fn the_history_is_bounded() {
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
