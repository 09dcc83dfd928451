//! What the mirror remembers about messages: who brought them, and whether KV ever held them.
//!
//! Called by the mirror core. Holds ids alone, a bounded number of them.

use std::collections::HashMap;

use crate::message::MessageId;

/// What is remembered about one message.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// It was found in the ring before it was found in KV: this node vouches for it.
    is_ours: bool,
    /// It has been in the ring, so this node's streams were shown it.
    is_shown: bool,
    /// Its seq, once it was found there.
    seq: Option<u64>,
    /// The ring cannot hold it.
    is_too_large: bool,
    /// When a value with it was last written or read.
    asserted_ms: Option<u64>,
    /// The last turn it was part of the ring or the history.
    turn: u64,
}

/// The memory of one process. A restart forgets it: see the mirror's documentation.
#[derive(Debug)]
pub struct Seen {
    marks: HashMap<MessageId, Mark>,
    marks_max: usize,
    turn: u64,
}

impl Seen {
    /// An empty memory for at most `marks_max` messages.
    pub fn new(marks_max: usize) -> Seen {
        Seen {
            marks: HashMap::new(),
            marks_max,
            turn: 0,
        }
    }

    /// A message is in the ring, and if this is news then because it was published here.
    pub fn note_in_ring(&mut self, id: MessageId, seq: u64) {
        let mark = self.mark(id, true);
        mark.is_shown = true;
        mark.seq = Some(seq);
    }

    /// A message of the shared history has been appended to the ring.
    pub fn note_admitted(&mut self, id: MessageId) {
        self.mark(id, false).is_shown = true;
    }

    /// A message of the shared history cannot be appended to the ring.
    pub fn note_too_large(&mut self, id: MessageId) {
        self.mark(id, false).is_too_large = true;
    }

    /// A message is in the shared history, and if this is news then because another node or app
    /// put it there.
    pub fn note_in_history(&mut self, id: MessageId) {
        self.mark(id, false);
    }

    /// A value with this message was read, or written.
    pub fn note_asserted(&mut self, id: MessageId, now_ms: u64) {
        self.mark(id, false).asserted_ms = Some(now_ms);
    }

    /// Whether a message of the shared history should be appended to the ring.
    pub fn is_news(&self, id: MessageId) -> bool {
        !self.is_shown(id) && !self.is_too_large(id)
    }

    /// Whether the ring cannot hold the message.
    pub fn is_too_large(&self, id: MessageId) -> bool {
        self.marks.get(&id).is_some_and(|mark| mark.is_too_large)
    }

    /// Whether this node's streams have been shown the message.
    pub fn is_shown(&self, id: MessageId) -> bool {
        self.marks.get(&id).is_some_and(|mark| mark.is_shown)
    }

    /// The seq of a message that has been found in the ring.
    pub fn seq(&self, id: MessageId) -> Option<u64> {
        self.marks.get(&id).and_then(|mark| mark.seq)
    }

    /// Whether it is for this node to see that KV holds the message.
    pub fn is_ours(&self, id: MessageId) -> bool {
        self.marks.get(&id).is_some_and(|mark| mark.is_ours)
    }

    /// When KV was last known to hold the message.
    pub fn asserted_ms(&self, id: MessageId) -> Option<u64> {
        self.marks.get(&id).and_then(|mark| mark.asserted_ms)
    }

    /// Ends a turn: forgets the longest absent where there are too many.
    pub fn end_turn(&mut self) {
        self.turn += 1;
        if self.marks.len() <= self.marks_max {
            return;
        }
        let mut turns: Vec<u64> = self.marks.values().map(|mark| mark.turn).collect();
        turns.sort_unstable_by(|a, b| b.cmp(a));
        // Those of the turn that the limit cuts through go as well, but never the latest turn's.
        let oldest_kept = (turns[self.marks_max] + 1).min(turns[0]);
        self.marks.retain(|_, mark| mark.turn >= oldest_kept);
    }

    fn mark(&mut self, id: MessageId, is_ours: bool) -> &mut Mark {
        let fresh = Mark {
            is_ours,
            is_shown: false,
            seq: None,
            is_too_large: false,
            asserted_ms: None,
            turn: 0,
        };
        let mark = self.marks.entry(id).or_insert(fresh);
        mark.turn = self.turn;
        mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> MessageId {
        MessageId::from_u128(n)
    }

    #[test]
    fn who_came_first_vouches_for_a_message() {
        let mut seen = Seen::new(10);
        seen.note_in_ring(id(1), 7);
        seen.note_asserted(id(1), 5);
        seen.note_in_history(id(2));
        seen.note_in_ring(id(2), 8);
        assert!(seen.is_ours(id(1)) && !seen.is_ours(id(2)) && !seen.is_ours(id(3)));
        assert!(seen.is_shown(id(2)) && !seen.is_shown(id(3)));
        assert_eq!((seen.seq(id(1)), seen.seq(id(3))), (Some(7), None));
        assert_eq!(
            (seen.asserted_ms(id(1)), seen.asserted_ms(id(2))),
            (Some(5), None)
        );
    }

    #[test]
    fn the_longest_absent_is_forgotten_first_and_what_is_present_never() {
        let mut seen = Seen::new(10);
        for turn in 0..1000 {
            for n in 0..5 {
                seen.note_in_ring(id(turn + n), 0);
            }
            seen.note_in_history(id(u128::MAX));
            seen.end_turn();
            assert!(seen.is_shown(id(turn)) && seen.marks.len() <= 10);
        }
        assert!(seen.marks.contains_key(&id(u128::MAX)));
        assert!(seen.is_shown(id(998)) && !seen.is_shown(id(900)));

        for n in 0..50 {
            seen.note_in_ring(id(n), 0);
        }
        seen.end_turn();
        assert_eq!(seen.marks.len(), 50);
    }
}
