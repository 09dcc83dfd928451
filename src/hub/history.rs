//! The history: the messages that are in the ring and were sent to the shards.
//!
//! Owned by the hub, under its lock. The one owner of the next seq to be sent. With `--durability disk`
//! the ring may be ahead of it, by the messages of the commit under way. Without I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Batch;
use crate::limits::HISTORY_MESSAGES;
use crate::message::{Epoch, Message};

/// A copy of the history: the messages in the ring.
#[derive(Debug, Clone, Default)]
pub struct RingView {
    /// The seq of the first.
    pub first_seq: u64,
    /// The oldest first, without holes.
    pub messages: Vec<Arc<Message>>,
}

/// See the module's documentation.
pub(super) struct History {
    /// Messages before these, for the first contents of the live logs; empty after the start.
    backlog: Vec<Arc<Message>>,
    /// The oldest first, without holes.
    messages: VecDeque<Arc<Message>>,
    next_seq: u64,
}

impl History {
    /// The history that recovery found in a ring, oldest first, and the ring's next seq.
    pub(super) fn new(messages: Vec<(u64, Message)>, next_seq: u64) -> History {
        let messages = messages.into_iter();
        History {
            backlog: Vec::new(),
            messages: messages.map(|(_, message)| Arc::new(message)).collect(),
            next_seq,
        }
    }

    /// A history and what came before it: the last of these messages and those that do not fit, oldest
    /// first.
    pub(super) fn with_backlog(first_seq: u64, mut messages: Vec<Arc<Message>>) -> History {
        let next_seq = first_seq + messages.len() as u64;
        let surplus = messages.len().saturating_sub(HISTORY_MESSAGES);
        let newest = messages.split_off(surplus);
        History {
            backlog: messages,
            messages: newest.into(),
            next_seq,
        }
    }

    /// Drops what came before the history.
    pub(super) fn drop_backlog(&mut self) {
        self.backlog = Vec::new();
    }

    /// The seq of the first message.
    pub(super) fn first_seq(&self) -> u64 {
        self.next_seq - self.messages.len() as u64
    }

    /// One more than the seq of the newest message.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The messages with their seqs, the oldest first.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u64, &Arc<Message>)> {
        (self.first_seq()..).zip(&self.messages)
    }

    /// The oldest first.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.messages.iter()
    }

    /// Appends the message with the next seq, and drops the oldest if there are too many.
    pub(super) fn push(&mut self, message: Arc<Message>) {
        if self.messages.len() == HISTORY_MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(message);
        self.next_seq += 1;
    }

    /// A copy.
    pub(super) fn view(&self) -> RingView {
        RingView {
            first_seq: self.first_seq(),
            messages: self.messages.iter().cloned().collect(),
        }
    }

    /// All messages as frames, the backlog included, and the seq of the first.
    pub(super) fn batch(&self, epoch: Epoch) -> (u64, Batch) {
        let first_seq = self.first_seq() - self.backlog.len() as u64;
        let mut batch = Batch::default();
        for (seq, message) in (first_seq..).zip(self.backlog.iter().chain(&self.messages)) {
            batch.push(epoch, seq, message);
        }
        (first_seq, batch)
    }
}
