//! Operations of other nodes and of the ring's storage: messages arrive, and the storage fails.

use hookcast::hub::NotStored;
use hookcast::limits::HISTORY_MESSAGES;
use hookcast::live_log::SharedHistory;
use hookcast::message::{Message, MessageId, SessionId};

use super::super::coverage;
use super::super::model::{Arrival, Fate, SESSIONS, session_name};
use super::super::operation::pick;
use super::super::request;
use super::{UNIX_MS, World};

impl World {
    /// Draws messages of other nodes; returns them with their keys.
    pub fn draw_messages(&mut self) -> (Vec<Message>, Vec<usize>) {
        let is_flood = self.profile.is_flood;
        let most = *pick(&mut self.rng, if is_flood { &[100] } else { &[1, 5, 100] });
        let mut messages = Vec::new();
        let mut keys = Vec::new();
        for _ in 0..self.rng.usize(1..=most) {
            let usual = self.profile.message_bytes_usual;
            let bytes = self
                .rng
                .usize(if is_flood { usual..=usual } else { 1..=usual });
            let is_plain = is_flood || self.rng.bool();
            let session = self.rng.bool().then(|| self.rng.usize(..SESSIONS));
            let nth = self.model.offers.len() as u64;
            let id = MessageId::from_u64_pair(self.rng.u64(..), nth);
            let timestamp_ms = self.rng.u64(..UNIX_MS);
            let stamp = Some((id.to_string(), timestamp_ms));
            let key = self
                .model
                .offer(session, stamp, |key| request::filler(key, bytes, is_plain));
            let name = session.map(session_name).unwrap_or_default();
            messages.push(Message {
                id,
                timestamp_ms,
                session: SessionId::parse(&name).expect("a session's name fits"),
                content: self.model.offers[key].content.clone(),
                label: None,
                identity: None,
            });
            keys.push(key);
        }
        (messages, keys)
    }

    pub fn admit(&mut self) {
        let (messages, keys) = self.draw_messages();
        let now = self.now();
        self.note_failing();
        let outcomes = self.node.admit(messages, now);
        if self.node.has_commits() {
            self.is_disk_failing |= self.ring_is_failing;
        }
        self.observe();
        assert_eq!(outcomes.len(), keys.len(), "an outcome for each message");
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            let is_stored = matches!(self.model.offers[key].fate, Fate::Stored(_));
            assert_eq!(is_stored, outcome.is_ok(), "{outcome:?}");
            if !is_stored {
                self.model.offers[key].fate = match outcome {
                    Err(NotStored::Ring(_)) if self.node.has_commits() => Fate::Failed,
                    _ => Fate::Refused,
                };
            }
        }
    }

    /// Sets the shared history, as the mirror does: most of the last messages, and some earlier
    /// ones.
    pub fn share(&mut self) {
        let head_seq = self.model.head_seq();
        let until_seq = head_seq - self.rng.u64(0..4).min(head_seq);
        let oldest = until_seq.saturating_sub(*pick(&mut self.rng, &[50, 103, 140]));
        let lacks = *pick(&mut self.rng, &[0, 1, 10, 128]);
        let known = oldest.max(self.model.first_seq())..until_seq;
        let mut seqs: Vec<u64> = known.filter(|_| self.rng.u8(..) >= lacks).collect();
        let surplus = seqs.len().saturating_sub(HISTORY_MESSAGES);
        seqs.drain(..surplus);
        let is_sent = self
            .node
            .hub
            .set_shared_history(SharedHistory { seqs, until_seq });
        coverage::count("shared histories sent", u64::from(is_sent));
        self.observe();
    }

    /// Passes the batches that the hub has sent to the model.
    pub fn observe(&mut self) {
        let arrival = Arrival {
            mono_ms: self.mono_ms,
            unix_ms: self.now().unix_ms,
        };
        for batch in self.node.take_observed() {
            if batch.frames().next().is_none() {
                continue;
            }
            if self.ring_is_cut {
                // The hub has rewritten the file first.
                self.durable_seq = self.model.head_seq();
                self.ring_is_cut = false;
            }
            self.model.store(&batch, &self.accepted_ms, arrival);
            if self.node.has_commits() {
                self.durable_seq = self.model.head_seq();
                self.is_disk_failing &= self.ring_is_failing;
            }
        }
    }

    pub fn heal_ring(&mut self) {
        self.medium.heal();
        self.ring_is_failing = false;
    }

    pub fn cut_ring(&mut self) {
        let bytes = self.medium.image().len();
        if self.rng.bool() && bytes > 0 {
            self.medium.truncate(self.rng.usize(..bytes));
        } else {
            self.medium.remove();
        }
        self.ring_is_cut = true;
        if self.rng.u8(..3) == 0 {
            // Rewriting the file fails as well.
            self.medium.fail_in(0);
            self.ring_is_failing = true;
        }
    }
}
