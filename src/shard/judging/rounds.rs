//! Items of several sources in rounds: one of each source in turn, in order of arrival within a source.
//!
//! Used by the docket of a shard and by the threads that judge, so that a sender delays no other source for
//! longer than one item takes.

use std::collections::{BTreeMap, VecDeque};

/// See the module's description.
#[derive(Debug)]
pub struct Rounds<T> {
    by_source: BTreeMap<Box<str>, VecDeque<T>>,
    /// The sources that have items, each once.
    turns: VecDeque<Box<str>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Rounds<T> {
        Rounds {
            by_source: BTreeMap::new(),
            turns: VecDeque::new(),
        }
    }
}

impl<T> Rounds<T> {
    /// Adds an item as the last one of its source.
    pub fn push(&mut self, source: &str, item: T) {
        if let Some(items) = self.by_source.get_mut(source) {
            items.push_back(item);
            return;
        }
        self.by_source.insert(source.into(), VecDeque::from([item]));
        self.turns.push_back(source.into());
    }

    /// Takes the first item of the source whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let source = self.turns.pop_front()?;
        let items = self.by_source.get_mut(&source)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.by_source.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        item
    }

    /// The number of items.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.by_source.values().map(VecDeque::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_take_turns() {
        let mut rounds = Rounds::default();
        for (source, item) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("b", 6)] {
            rounds.push(source, item);
        }
        assert_eq!([rounds.pop(), rounds.pop()], [Some(1), Some(4)]);
        // A source that comes anew is the last of the round.
        rounds.push("d", 7);
        rounds.push("a", 8);
        let rest: Vec<_> = std::iter::from_fn(|| rounds.pop()).collect();
        assert_eq!(rest, [5, 2, 6, 7, 3, 8]);
        assert_eq!((rounds.count(), rounds.turns.len()), (0, 0));
        assert_eq!(rounds.by_source.len(), 0, "names of sources are not kept");
    }
}
