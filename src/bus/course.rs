//! Where this node is in the log, and what it holds of it.
//!
//! Shared by the follower, which advances it, and by the appender, under a lock. While the appender
//! begins an epoch it keeps the lock, so that nothing advances meanwhile. Without I/O.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use super::recent::{Placed, Recent};
use crate::message::{Epoch, Message};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// See the module's documentation.
pub struct Course {
    /// The epoch of the position, and the earlier ones.
    pub lineage: Arc<Lineage>,
    /// The last entry that this node has stored. Its epoch is that of the lineage.
    pub position: EventId,
    /// The newest messages up to the position.
    pub recent: Recent,
    /// The position's epoch is one of a bus, not of a ring from before it.
    pub is_shared: bool,
    /// Whether the position is in the log of the engine, as far as this node knows.
    pub is_joined: bool,
    /// The node has joined before: what it holds is of the bus, not of a ring as it was found.
    pub has_joined: bool,
    /// Since when the follower cannot join because the engine is broken, in monotonic milliseconds.
    pub broken_since_ms: Option<u64>,
    /// How often the follower's connection was doubted: it may lead to a primary that a fail-over has left behind.
    pub reader_doubts: u64,
    /// This node's messages that were acknowledged, as far back as `recent`.
    acknowledged: VecDeque<Acknowledged>,
}

struct Acknowledged {
    id: EventId,
    message: Arc<Message>,
}

impl Course {
    /// The course of a node that has not joined yet. `messages` end at the position.
    pub fn new(
        lineage: Arc<Lineage>,
        last_seq: u64,
        messages: impl IntoIterator<Item = Placed>,
        messages_max: usize,
    ) -> Course {
        let mut recent = Recent::new(messages_max);
        recent.replace(messages);
        Course {
            position: EventId {
                epoch: lineage.epoch(),
                seq: last_seq,
            },
            lineage,
            recent,
            is_shared: true,
            is_joined: false,
            has_joined: false,
            broken_since_ms: None,
            reader_doubts: 0,
            acknowledged: VecDeque::new(),
        }
    }

    /// The epoch, if the node has all that was put back at its beginning. Before that it cannot know which of
    /// its messages the log has.
    pub fn ready_epoch(&self) -> Option<Epoch> {
        let is_ready = self.is_joined && self.position.seq >= self.lineage.begun_after();
        is_ready.then_some(self.position.epoch)
    }

    /// Notes that the position is in the log of the engine.
    pub fn join(&mut self) {
        self.is_joined = true;
        self.has_joined = true;
        self.broken_since_ms = None;
    }

    /// Advances past a message. `id` may have an earlier epoch than the position.
    pub fn advance(&mut self, id: EventId, message: Arc<Message>) {
        self.position.seq = id.seq;
        self.recent.push(id, message);
    }

    /// Continues in another epoch.
    pub fn turn_over(&mut self, lineage: Arc<Lineage>) {
        self.position.epoch = lineage.epoch();
        self.lineage = lineage;
    }

    /// Notes that a message of this node was acknowledged.
    pub fn note_acknowledged(&mut self, id: EventId, message: Arc<Message>) {
        let first_seq = self.recent.first_id().map_or(0, |first| first.seq);
        while let Some(oldest) = self.acknowledged.front()
            && oldest.id.seq < first_seq
        {
            self.acknowledged.pop_front();
        }
        self.acknowledged.push_back(Acknowledged { id, message });
    }

    /// Replaces the history. Returns this node's acknowledged messages that the new one lacks.
    pub fn replace(
        &mut self,
        lineage: Arc<Lineage>,
        last_seq: u64,
        messages: impl IntoIterator<Item = Placed>,
    ) -> Vec<Arc<Message>> {
        self.position = EventId {
            epoch: lineage.epoch(),
            seq: last_seq,
        };
        self.recent.replace(messages);
        self.lineage = lineage;
        let acknowledged = std::mem::take(&mut self.acknowledged);
        let (kept, lost): (VecDeque<_>, VecDeque<_>) = acknowledged
            .into_iter()
            .partition(|own| self.lineage.contains(own.id) || self.recent.contains(own.message.id));
        self.acknowledged = kept;
        lost.into_iter().map(|own| own.message).collect()
    }
}

/// The course of a node, shared by its two threads.
#[derive(Clone)]
pub struct SharedCourse(Arc<Mutex<Course>>);

impl SharedCourse {
    /// A course to share.
    pub fn new(course: Course) -> SharedCourse {
        SharedCourse(Arc::new(Mutex::new(course)))
    }

    /// Locks it.
    pub fn lock(&self) -> MutexGuard<'_, Course> {
        self.0
            .lock()
            .expect("a panic under this lock ends the process")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageId;

    fn message(nth: u64) -> Arc<Message> {
        Arc::new(Message {
            id: MessageId::from_u128(nth.into()),
            timestamp_ms: 1,
            session: None,
            content: "x".into(),
            label: None,
            identity: None,
        })
    }

    fn id(epoch: u64, seq: u64) -> EventId {
        let epoch = Epoch(epoch);
        EventId { epoch, seq }
    }

    fn course(messages: u64) -> Course {
        let lineage = Arc::new(Lineage::new(Epoch(1)));
        let mut course = Course::new(lineage, 0, [], 1_000);
        course.is_joined = true;
        for seq in 1..=messages {
            course.advance(id(1, seq), message(seq));
        }
        course
    }

    #[test]
    fn a_node_is_ready_once_it_has_what_was_put_back() {
        let mut course = course(3);
        assert_eq!(course.ready_epoch(), Some(Epoch(1)));
        // Another node has put back two messages that this one has not read yet.
        let lineage = Arc::new(course.lineage.next(Epoch(2), 5));
        course.turn_over(lineage);
        assert_eq!((course.position, course.ready_epoch()), (id(2, 3), None));
        course.advance(id(2, 4), message(4));
        assert_eq!(course.ready_epoch(), None);
        course.advance(id(2, 5), message(5));
        assert_eq!(course.ready_epoch(), Some(Epoch(2)));
        course.is_joined = false;
        assert_eq!(course.ready_epoch(), None);
    }

    #[test]
    fn only_own_acknowledged_messages_that_are_gone_come_back() {
        let mut course = course(10);
        for seq in [2, 6, 7, 8, 9] {
            course.note_acknowledged(id(1, seq), message(seq));
        }
        // Carried over up to 6; the eighth was published again by its sender.
        let lineage = Arc::new(course.lineage.next(Epoch(2), 6));
        let new = [(id(2, 7), message(77)), (id(2, 8), message(8))];
        let lost = course.replace(lineage, 8, new);
        let ids: Vec<u128> = lost.iter().map(|message| message.id.as_u128()).collect();
        assert_eq!(ids, [7, 9]);
        assert_eq!(course.position, id(2, 8));
        assert_eq!(course.acknowledged.len(), 3, "2, 6 and 8");
    }
}
