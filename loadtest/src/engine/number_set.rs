//! A set of message numbers, a bit each: messages sent and not acknowledged.
//!
//! `publisher` fills it. `check` reads it, because a stream may lack these messages. Pure data.

use serde::{Deserialize, Serialize};

/// Bits of a word.
const WORD: u32 = u64::BITS;

/// Message numbers. Costs an eighth of a byte for each number up to the highest in it.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct NumberSet {
    words: Vec<u64>,
}

impl NumberSet {
    /// Adds a number.
    pub fn insert(&mut self, number: u32) {
        let at = (number / WORD) as usize;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (number % WORD);
    }

    fn contains(&self, number: u32) -> bool {
        let word = self.words.get((number / WORD) as usize);
        word.is_some_and(|word| word & 1 << (number % WORD) != 0)
    }

    /// The number of members among `from`, `from + stride`, … below `to`.
    pub fn count(&self, from: u32, to: u32, stride: u32) -> u64 {
        let end = u64::from(to).min(self.words.len() as u64 * u64::from(WORD));
        let numbers = (u64::from(from)..end).step_by(stride as usize);
        if u64::from(from) >= end {
            return 0;
        }
        if stride > 1 {
            return numbers
                .filter(|&number| self.contains(number as u32))
                .count() as u64;
        }
        let (first, last) = (from / WORD, ((end - 1) as u32) / WORD);
        let bits = (first..=last).map(|at| {
            let mut word = self.words[at as usize];
            if at == first {
                word &= u64::MAX << (from % WORD);
            }
            if at == last {
                word &= u64::MAX >> (WORD - 1 - ((end - 1) as u32) % WORD);
            }
            u64::from(word.count_ones())
        });
        bits.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_agree_with_a_plain_model() {
        let numbers = [0, 1, 63, 64, 65, 127, 128, 200, 300];
        let mut set = NumberSet::default();
        assert_eq!(set.count(0, u32::MAX, 1), 0);
        for number in numbers {
            set.insert(number);
        }
        for from in 0..320_u32 {
            for to in [0, 1, 2, 63, 64, 65, 128, 129, 299, 300, 301, 10_000] {
                for stride in [1, 2, 7] {
                    let model = numbers
                        .iter()
                        .filter(|&&n| n >= from && n < to && (n - from) % stride == 0);
                    let model = model.count() as u64;
                    assert_eq!(
                        set.count(from, to, stride),
                        model,
                        "{from}..{to} by {stride}"
                    );
                }
            }
        }
    }
}
