//! The newest messages of the bus, as this node holds them.
//!
//! Filled by the follower. The appender puts them back into an engine that has lost them. The engine trims its
//! log to this range. Without I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::limits::{BUS_HISTORY_BYTES_MAX, HISTORY_MESSAGES};
use crate::message::{Message, MessageId};
use crate::sse::event_id::EventId;

/// A message and its place in the log. If it was put back, its place in an earlier epoch.
pub type Placed = (EventId, Arc<Message>);

/// Up to `messages_max` messages and [`BUS_HISTORY_BYTES_MAX`] bytes of text, but at least
/// [`HISTORY_MESSAGES`]; without holes.
pub struct Recent {
    messages: VecDeque<Placed>,
    bytes: usize,
    messages_max: usize,
}

impl Recent {
    /// None yet.
    pub fn new(messages_max: usize) -> Recent {
        Recent {
            messages: VecDeque::new(),
            bytes: 0,
            messages_max: messages_max.max(HISTORY_MESSAGES),
        }
    }

    /// Adds the next message, and drops the oldest if there are too many.
    pub fn push(&mut self, id: EventId, message: Arc<Message>) {
        debug_assert!(
            self.messages
                .back()
                .is_none_or(|(last, _)| last.seq + 1 == id.seq)
        );
        self.bytes += message.text_bytes();
        self.messages.push_back((id, message));
        while self.is_over() {
            let oldest = self.messages.pop_front();
            self.bytes -= oldest.map_or(0, |(_, message)| message.text_bytes());
        }
    }

    /// Replaces all messages.
    pub fn replace(&mut self, messages: impl IntoIterator<Item = Placed>) {
        self.messages.clear();
        self.bytes = 0;
        for (id, message) in messages {
            self.push(id, message);
        }
    }

    fn is_over(&self) -> bool {
        let is_over = self.messages.len() > self.messages_max || self.bytes > BUS_HISTORY_BYTES_MAX;
        is_over && self.messages.len() > HISTORY_MESSAGES
    }

    /// The largest number of messages.
    pub fn messages_max(&self) -> usize {
        self.messages_max
    }

    /// The place of the oldest.
    pub fn first_id(&self) -> Option<EventId> {
        self.messages.front().map(|(id, _)| *id)
    }

    /// The messages after a seq, with theirs.
    pub fn after(&self, seq: u64) -> Vec<(u64, Arc<Message>)> {
        let passed = self.messages.partition_point(|(id, _)| id.seq <= seq);
        let messages = self.messages.range(passed..);
        messages
            .map(|(id, message)| (id.seq, Arc::clone(message)))
            .collect()
    }

    /// Their message ids, the oldest first.
    pub fn ids(&self) -> Vec<MessageId> {
        self.messages
            .iter()
            .map(|(_, message)| message.id)
            .collect()
    }

    /// Whether a message is among them. Looks at all.
    pub fn contains(&self, id: MessageId) -> bool {
        self.messages.iter().any(|(_, message)| message.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Epoch;

    fn message(nth: u64, bytes: usize) -> Arc<Message> {
        Arc::new(Message {
            id: MessageId::from_u128(nth.into()),
            timestamp_ms: 1,
            session: None,
            content: "x".repeat(bytes),
            label: None,
            identity: None,
        })
    }

    fn recent(messages_max: usize, count: u64, bytes: usize) -> Recent {
        let mut recent = Recent::new(messages_max);
        for seq in 1..=count {
            let epoch = Epoch(1);
            recent.push(EventId { epoch, seq }, message(seq, bytes));
        }
        recent
    }

    fn span(recent: &Recent) -> (u64, usize) {
        (recent.first_id().unwrap().seq, recent.after(0).len())
    }

    #[test]
    fn the_oldest_are_dropped_by_number_and_by_bytes_but_never_one_of_the_last_100() {
        assert_eq!(span(&recent(150, 400, 1)), (251, 150));
        assert_eq!(span(&recent(1, 400, 1)), (301, 100));
        let half = BUS_HISTORY_BYTES_MAX / 200;
        assert_eq!(span(&recent(1_000, 400, half)).1, 200);
        let huge = BUS_HISTORY_BYTES_MAX / 50;
        assert_eq!(span(&recent(1_000, 120, huge)), (21, 100));
    }

    #[test]
    fn messages_after_a_seq_are_those_that_an_engine_lacks() {
        let recent = recent(150, 200, 1);
        let seqs = |seq| recent.after(seq).into_iter().map(|(seq, _)| seq);
        assert!(seqs(197).eq([198, 199, 200]));
        assert_eq!(seqs(200).count(), 0);
        assert_eq!(seqs(10).next(), Some(51), "from the first that is held");
        assert!(recent.contains(MessageId::from_u128(51)));
        assert!(!recent.contains(MessageId::from_u128(50)));
    }

    #[test]
    fn another_history_replaces_all() {
        let mut recent = recent(150, 200, 10);
        let id = EventId {
            epoch: Epoch(2),
            seq: 7,
        };
        recent.replace([(id, message(7, 3))]);
        assert_eq!((span(&recent), recent.bytes), ((7, 1), 3));
    }
}
