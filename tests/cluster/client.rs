//! A client of the cluster: it resumes at any node by its last event id.

use std::collections::HashSet;

use hookcast::limits::{HISTORY_MESSAGES, RESUME_AHEAD_MS_MAX};
use hookcast::message::MessageId;
use hookcast::sse::event_id::EventId;

use super::node::{Log, Shown};

#[derive(Default)]
pub struct Client {
    /// The node that it is connected to.
    pub node: Option<usize>,
    last_id: Option<EventId>,
    on_connection: HashSet<MessageId>,
    last_seq: u64,
    pub seen: HashSet<String>,
    /// Messages were missed, and an event has said so.
    pub has_gap: bool,
    /// Replays of the whole history after the first connection.
    pub replays: u64,
    ahead_since_ms: Option<u64>,
    /// Another program has removed entries: a message whose entry is gone is published again by the node
    /// that has not read it, although others have.
    pub is_lenient: bool,
}

impl Client {
    /// Connects to a node, unless its last id is ahead of it.
    pub fn connect(&mut self, node: usize, log: &Log, now_ms: u64) {
        let start = match self.last_id {
            None => None,
            Some(id) if is_ahead(id, log) => {
                let since_ms = *self.ahead_since_ms.get_or_insert(now_ms);
                if now_ms < since_ms + RESUME_AHEAD_MS_MAX {
                    return;
                }
                None
            }
            Some(id) => {
                let carried = log.lineage.carried(id.epoch);
                carried.map(|last| id.seq.min(last) + 1)
            }
        };
        self.ahead_since_ms = None;
        let oldest = log.head_seq().saturating_sub(HISTORY_MESSAGES as u64);
        self.replays += u64::from(start.is_none() && self.last_id.is_some());
        let start = start.unwrap_or(oldest.max(log.first_seq));
        self.has_gap |= start < log.first_seq;
        self.node = Some(node);
        self.on_connection.clear();
        self.last_seq = 0;
        let frames: Vec<Shown> = log
            .frames
            .iter()
            .filter(|frame| frame.id.seq >= start)
            .cloned()
            .collect();
        for frame in &frames {
            self.receive(frame);
        }
    }

    pub fn disconnect(&mut self) {
        self.node = None;
    }

    pub fn receive(&mut self, frame: &Shown) {
        assert!(
            self.on_connection.insert(frame.message) || self.is_lenient,
            "{} comes twice on a connection",
            frame.content
        );
        assert!(
            self.last_seq == 0 || frame.id.seq == self.last_seq + 1,
            "{} comes after seq {}",
            frame.id,
            self.last_seq
        );
        self.last_seq = frame.id.seq;
        self.last_id = Some(frame.id);
        self.seen.insert(frame.content.clone());
    }
}

fn is_ahead(id: EventId, log: &Log) -> bool {
    let is_later = id.epoch > log.lineage.epoch();
    let carried = log.lineage.carried(id.epoch);
    is_later || carried.is_some_and(|last| id.seq.min(last) >= log.head_seq())
}
