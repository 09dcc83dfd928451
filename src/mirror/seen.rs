//! What the mirror remembers of messages: their origin, and when KV was last known to hold them.
//!
//! Called by the mirror core. Never holds contents, only a bounded number of ids.

use std::collections::HashMap;

use crate::message::MessageId;

/// What is remembered of one message.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// It was in the ring before it was in KV, so it was published on this node.
    is_ours: bool,
    /// It has been in the ring, so this node's streams have got it.
    is_shown: bool,
    /// Its seq, if it was found in the ring.
    seq: Option<u64>,
    /// It is too large for the ring.
    is_too_large: bool,
    /// When a value with it was last written or read.
    asserted_ms: Option<u64>,
    /// The last turn in which it was in the ring or in the history.
    turn: u64,
}

/// The marks of all messages. A restart begins with none: see the mirror's documentation.
#[derive(Debug)]
pub struct Seen {
    marks: HashMap<MessageId, Mark>,
    marks_max: usize,
    turn: u64,
}

impl Seen {
    /// No marks yet; at most `marks_max`.
    pub fn new(marks_max: usize) -> Seen {
        Seen {
            marks: HashMap::new(),
            marks_max,
            turn: 0,
        }
    }

    /// Notes a message in the ring. If it is new, it was published on this node.
    pub fn note_in_ring(&mut self, id: MessageId, seq: u64) {
        let mark = self.mark(id, true);
        mark.is_shown = true;
        mark.seq = Some(seq);
    }

    /// Notes that a message of the shared history was appended to the ring.
    pub fn note_admitted(&mut self, id: MessageId) {
        self.mark(id, false).is_shown = true;
    }

    /// Notes that a message of the shared history is too large for the ring.
    pub fn note_too_large(&mut self, id: MessageId) {
        self.mark(id, false).is_too_large = true;
    }

    /// Notes a message in the shared history. If it is new, another node or app has published it.
    pub fn note_in_history(&mut self, id: MessageId) {
        self.mark(id, false);
    }

    /// Notes that a value with this message was read or written.
    pub fn note_asserted(&mut self, id: MessageId, now_ms: u64) {
        self.mark(id, false).asserted_ms = Some(now_ms);
    }

    /// Whether a message of the shared history has to be appended to the ring.
    pub fn is_news(&self, id: MessageId) -> bool {
        !self.is_shown(id) && !self.is_too_large(id)
    }

    /// Whether the message is too large for the ring.
    pub fn is_too_large(&self, id: MessageId) -> bool {
        self.marks.get(&id).is_some_and(|mark| mark.is_too_large)
    }

    /// Whether this node's streams have got the message.
    pub fn is_shown(&self, id: MessageId) -> bool {
        self.marks.get(&id).is_some_and(|mark| mark.is_shown)
    }

    /// The seq of a message, if it was found in the ring.
    pub fn seq(&self, id: MessageId) -> Option<u64> {
        self.marks.get(&id).and_then(|mark| mark.seq)
    }

    /// Whether this node published the message, and so has to write it to KV.
    pub fn is_ours(&self, id: MessageId) -> bool {
        self.marks.get(&id).is_some_and(|mark| mark.is_ours)
    }

    /// When KV was last known to hold the message.
    pub fn asserted_ms(&self, id: MessageId) -> Option<u64> {
        self.marks.get(&id).and_then(|mark| mark.asserted_ms)
    }

    /// Ends a turn: if there are too many marks, removes those of messages that have been absent longest.
    pub fn end_turn(&mut self) {
        self.turn += 1;
        if self.marks.len() <= self.marks_max {
            return;
        }
        let mut turns: Vec<u64> = self.marks.values().map(|mark| mark.turn).collect();
        turns.sort_unstable_by(|a, b| b.cmp(a));
        // All marks of a turn are removed together, but never those of the latest turn.
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
    fn a_message_is_ours_if_it_was_in_the_ring_before_kv() {
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
    fn marks_of_the_longest_absent_messages_are_removed_first() {
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
