//! One node's mirror without I/O: its state, and the decision what to do next.
//!
//! Called by the mirror thread with the real KV, and by the simulation with a model of one. Takes replies
//! and times, returns actions. Never holds a socket, a clock or a lock.
//!
//! # A cycle
//!
//! 1. [`Mirror::begin_read`], then the call.
//! 2. [`Mirror::handle_read`] with a fresh view of the ring returns the messages to append to the ring.
//! 3. [`Mirror::handle_admitted`] after the append, with another view of the ring.
//! 4. [`Mirror::shared_history`] returns what new streams replay.
//! 5. [`Mirror::begin_write`] returns the value to write, if there is one. Then the call, and
//!    [`Mirror::handle_write`].
//!
//! # When a difference is written
//!
//! KV has no compare-and-swap, so another node's write can overwrite this node's. An answer may be a
//! minute old, so a message that it lacks may not be lost. After a read that lacks a part of the history:
//!
//! - *Write at once* if it lacks a message of this node that KV was never known to hold. Also if it lacks
//!   any message of this node, and the value is a new one: then another node has overwritten it.
//! - *Wait for a minute* if it lacks a message of this node that KV did hold, and the value was read or
//!   written here before. It is probably a stale answer. Write if the message is still missing a minute
//!   after it was last seen in KV.
//! - *Wait for one to two minutes* if it lacks only messages of other nodes or of the Pages app, or has
//!   more than 100 entries, or has them out of order. Other nodes should correct that first. Each node
//!   draws its own delay, so that mostly one of them writes.
//!
//! So nothing is written once all nodes agree. An isolated message costs one write, also when answers are
//! stale. A message is not lost while at least one node that knows it is running.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;

use crate::clock::Now;
use crate::hub::RingView;
use crate::limits::{KV_AHEAD_MS_MAX, KV_PROPAGATION_MS, KV_SEEN_HISTORIES, KV_STALE_VALUES};
use crate::live_log::SharedHistory;
use crate::message::{Message, MessageId};
use crate::mirror::entry::{self, Entry, Fault};
use crate::mirror::merge::join;
use crate::mirror::reply::Reply;
use crate::mirror::schedule::{Pace, Schedule};
use crate::mirror::seen::Seen;
use crate::mirror::value::{self, Stored};

/// The condition of the value at the last successful read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// A list of messages.
    #[default]
    Good,
    /// A list with foreign entries.
    Foreign {
        /// Their number.
        count: usize,
        /// The position of the first, from 0.
        first: usize,
        /// Why the first is foreign.
        fault: Fault,
    },
    /// Not a list. It is not overwritten.
    Unreadable,
}

/// Whether the value should be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// The value is unknown, or must not be overwritten.
    Unknown,
    Nothing,
    Write,
    WriteFrom(u64),
}

/// One node's mirror; see the module's documentation.
#[derive(Debug)]
pub struct Mirror {
    history_max: usize,
    schedule: Schedule,
    jitter: Rng,
    /// The shared history as far as this node knows it, least first.
    history: Vec<Entry>,
    seen: Seen,
    /// Fingerprints of values read or written, the oldest first.
    values: VecDeque<u64>,
    /// The fingerprint of a value that a write has to replace.
    unanswered_value: Option<u64>,
    want: Want,
    /// When to correct a difference that other nodes should correct; drawn when it is first noticed.
    mend_others_from_ms: Option<u64>,
    /// How far KV's clock is ahead of this node's.
    clock_ahead_ms: Option<i64>,
    condition: Condition,
    /// One more than the seq of the newest message in the last view of the ring.
    next_seq: u64,
    /// How many messages in the last view of the ring are too large to be shared.
    unshared: usize,
    /// The shared history that was sent to the shards last.
    shared: SharedHistory,
}

impl Mirror {
    /// The mirror of a process that starts with this ring. Its first read is due at once.
    pub fn new(
        pace: Pace,
        history_max: usize,
        ring: &RingView,
        now: Now,
        mut jitter: Rng,
    ) -> Mirror {
        let mut mirror = Mirror {
            history_max,
            schedule: Schedule::new(pace, now.mono_ms, jitter.fork()),
            jitter,
            history: Vec::new(),
            seen: Seen::new(history_max * KV_SEEN_HISTORIES),
            values: VecDeque::new(),
            unanswered_value: None,
            want: Want::Unknown,
            mend_others_from_ms: None,
            clock_ahead_ms: None,
            condition: Condition::Good,
            next_seq: 0,
            unshared: 0,
            shared: SharedHistory::default(),
        };
        mirror.note_ring(ring);
        mirror
    }

    /// Notes messages that this node's streams have got, so that they are not news.
    pub fn note_shown(&mut self, ids: Vec<MessageId>) {
        for id in ids {
            self.seen.note_admitted(id);
        }
    }

    /// When the next cycle is due, by the monotonic clock.
    pub fn next_cycle_ms(&self) -> u64 {
        self.schedule.next_cycle_ms()
    }

    /// Notes that a message was published on this node.
    pub fn handle_publish(&mut self) {
        self.schedule.want_write();
    }

    /// Whether a write is already wanted. Further publishes then cause no other action.
    pub fn write_is_wanted(&self) -> bool {
        self.schedule.write_is_wanted()
    }

    /// Begins the end of the process: the last cycle is due at once.
    pub fn begin_closing(&mut self, now: Now) {
        self.schedule.begin_closing(now.mono_ms);
    }

    /// Notes that a read begins, which is the start of a cycle.
    pub fn begin_read(&mut self, now: Now) {
        self.schedule.begin_read(now.mono_ms);
    }

    /// Handles the reply to a read, with the present view of the ring. Returns the messages to append to
    /// the ring, in the order of the history.
    pub fn handle_read(
        &mut self,
        now: Now,
        reply: Reply<Option<Vec<u8>>>,
        ring: &RingView,
    ) -> Vec<Arc<Message>> {
        self.note_date(now, reply.date_ms);
        self.note_ring(ring);
        let horizon_ms = self.horizon_ms(now);
        let bytes = match reply.result {
            Ok(bytes) => bytes,
            Err(failure) => {
                self.schedule
                    .handle_read_failure(now.mono_ms, self.utc_ms(now), &failure);
                self.extend_history(&ring.messages, &[], horizon_ms);
                self.want = Want::Unknown;
                return Vec::new();
            }
        };
        self.schedule.handle_read(now.mono_ms);

        let newest = |entries| join(entries, self.history_max, horizon_ms);
        let stored = value::parse(bytes.as_deref(), 4 * self.history_max, &newest).ok();
        // The bytes and the parsed value are dropped as early as possible: each may be as large as a
        // value.
        drop(bytes);
        let entries = stored.as_ref().map_or(&[][..], |stored| &stored.entries);
        for id in entries.iter().filter_map(Entry::id) {
            self.seen.note_asserted(id, now.mono_ms);
        }
        self.extend_history(&ring.messages, entries, horizon_ms);
        self.decide(now, stored.as_ref());
        drop(stored);
        self.seen.end_turn();

        let is_news = |entry: &&Entry| entry.id().is_some_and(|id| self.seen.is_news(id));
        let news = self.history.iter().filter(is_news);
        news.filter_map(Entry::to_message).map(Arc::new).collect()
    }

    /// Notes that messages were appended to the ring. Its present view may contain others as well.
    pub fn handle_admitted(&mut self, now: Now, admitted: &[MessageId], ring: &RingView) {
        for id in admitted {
            self.seen.note_admitted(*id);
        }
        self.note_ring(ring);
        let horizon_ms = self.horizon_ms(now);
        self.extend_history(&ring.messages, &[], horizon_ms);
        if self.want != Want::Unknown && self.lag(ring) > 0 {
            self.want = Want::Write;
        }
    }

    /// Notes that a message is too large for this node's ring. It is not returned again.
    pub fn handle_too_large(&mut self, id: MessageId) {
        self.seen.note_too_large(id);
    }

    /// The shared history for new streams, if it has changed since [`Mirror::handle_shared_history`].
    pub fn shared_history(&self) -> Option<SharedHistory> {
        let ids = self.history.iter().filter_map(Entry::id);
        let mut seqs: Vec<u64> = ids.filter_map(|id| self.seen.seq(id)).collect();
        seqs.sort_unstable();
        let shared = SharedHistory {
            seqs,
            until_seq: self.next_seq,
        };
        (shared != self.shared).then_some(shared)
    }

    /// Notes that the shared history was sent to the shards.
    pub fn handle_shared_history(&mut self, shared: SharedHistory) {
        self.shared = shared;
    }

    /// The value to write now, if a write is wanted and allowed.
    pub fn begin_write(&mut self, now: Now) -> Option<Vec<u8>> {
        let is_due = match self.want {
            Want::Unknown => return None,
            Want::Nothing => false,
            Want::Write => true,
            Want::WriteFrom(from_ms) => now.mono_ms >= from_ms,
        };
        if !is_due {
            self.schedule.want_no_write();
            return None;
        }
        self.schedule.want_write();
        if !self.schedule.may_write(now.mono_ms) {
            return None;
        }
        self.schedule.begin_write(now.mono_ms);
        let value = value::serialise(&self.history);
        self.note_value(value::fingerprint(&value));
        Some(value)
    }

    /// Handles the reply to a write.
    pub fn handle_write(&mut self, now: Now, reply: &Reply<()>) {
        self.note_date(now, reply.date_ms);
        match &reply.result {
            Ok(()) => {
                self.schedule.handle_write();
                self.want = Want::Nothing;
                self.mend_others_from_ms = None;
                if let Some(value) = self.unanswered_value.take() {
                    self.note_value(value);
                }
                for id in self.history.iter().filter_map(Entry::id) {
                    self.seen.note_asserted(id, now.mono_ms);
                }
            }
            Err(failure) => {
                self.schedule
                    .handle_write_failure(now.mono_ms, self.utc_ms(now), failure);
            }
        }
    }

    /// The shared history as this node knows it, least first.
    pub fn history(&self) -> &[Entry] {
        &self.history
    }

    /// How many messages of the ring KV should hold, but was never known to hold.
    pub fn lag(&self, ring: &RingView) -> usize {
        let never_asserted = |id: &MessageId| self.seen.asserted_ms(*id).is_none();
        // Messages after the last view of the ring count, too.
        let belongs = |id: &MessageId| !self.seen.is_shown(*id) || self.is_in_history(*id);
        let ids = ring.messages.iter().map(|message| message.id);
        ids.filter(never_asserted).filter(belongs).count()
    }

    /// The condition of the value at the last successful read.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// How many messages of the shared history are too large for the ring.
    pub fn unheld(&self) -> usize {
        let ids = self.history.iter().filter_map(Entry::id);
        ids.filter(|id| self.seen.is_too_large(*id)).count()
    }

    /// How many messages of the ring have entries over their share of the value. They stay on this node.
    pub fn unshared(&self) -> usize {
        self.unshared
    }

    /// How far KV's clock is ahead of this node's, within a second; `None` before the first answer
    /// with a date.
    pub fn clock_ahead_ms(&self) -> Option<i64> {
        self.clock_ahead_ms
    }

    /// See [`Schedule::calls_left`].
    pub fn calls_left(&self, now: Now) -> usize {
        self.schedule.calls_left(now.mono_ms)
    }

    fn note_ring(&mut self, ring: &RingView) {
        for (seq, message) in (ring.first_seq..).zip(&ring.messages) {
            self.seen.note_in_ring(message.id, seq);
        }
        self.next_seq = ring.first_seq + ring.messages.len() as u64;
        let messages = ring.messages.iter();
        self.unshared = messages.filter(|m| !entry::is_shareable(m)).count();
    }

    fn is_in_history(&self, id: MessageId) -> bool {
        self.history.iter().any(|entry| entry.id() == Some(id))
    }

    fn extend_history(&mut self, messages: &[Arc<Message>], entries: &[Entry], horizon_ms: u64) {
        let news: Vec<Entry> = messages
            .iter()
            .filter(|message| !self.is_in_history(message.id))
            .filter_map(|message| Entry::of(message))
            .collect();
        let known = std::mem::take(&mut self.history);
        let all = known.into_iter().chain(news).chain(entries.iter().cloned());
        self.history = join(all, self.history_max, horizon_ms);
        for id in self.history.iter().filter_map(Entry::id) {
            self.seen.note_in_history(id);
        }
    }

    /// Decides whether to write the value.
    fn decide(&mut self, now: Now, stored: Option<&Stored>) {
        let Some(stored) = stored else {
            self.condition = Condition::Unreadable;
            self.want = Want::Unknown;
            return;
        };
        self.condition = condition(stored);
        let is_known = self.values.contains(&stored.fingerprint);
        let is_whole = stored.count == stored.entries.len() && stored.entries == self.history;
        if is_whole {
            self.want = Want::Nothing;
            self.mend_others_from_ms = None;
        } else {
            self.want = self.want_for(now, stored, is_known);
        }
        if self.want == Want::Write {
            // The value counts as new until a write has succeeded, however often it is read before.
            self.unanswered_value = Some(stored.fingerprint);
        } else {
            self.note_value(stored.fingerprint);
        }
    }

    fn want_for(&mut self, now: Now, stored: &Stored, is_known: bool) -> Want {
        let is_lacking =
            |id: &MessageId| !stored.entries.iter().any(|entry| entry.id() == Some(*id));
        let ours = self
            .history
            .iter()
            .filter_map(Entry::id)
            .filter(|id| self.seen.is_ours(*id));
        let asserted_ms: Option<Vec<u64>> = ours
            .filter(is_lacking)
            .map(|id| self.seen.asserted_ms(id))
            .collect();
        match asserted_ms.map(|times| times.into_iter().max()) {
            // KV was never known to hold one of this node's messages.
            None => Want::Write,
            // It lacks messages of this node, but KV has held each of them before.
            Some(Some(_)) if !is_known => Want::Write,
            Some(Some(last_ms)) => Want::WriteFrom(last_ms + KV_PROPAGATION_MS),
            // KV holds all of this node's messages.
            Some(None) => {
                let delay_ms = self.jitter.u64(KV_PROPAGATION_MS..=KV_PROPAGATION_MS * 2);
                Want::WriteFrom(
                    *self
                        .mend_others_from_ms
                        .get_or_insert(now.mono_ms + delay_ms),
                )
            }
        }
    }

    fn note_value(&mut self, fingerprint: u64) {
        if self.values.contains(&fingerprint) {
            return;
        }
        if self.values.len() == KV_STALE_VALUES {
            self.values.pop_front();
        }
        self.values.push_back(fingerprint);
    }

    fn note_date(&mut self, now: Now, date_ms: Option<u64>) {
        if let Some(date_ms) = date_ms {
            // The header is cut to whole seconds, which loses half a second on average.
            self.clock_ahead_ms = Some(
                date_ms
                    .saturating_add(500)
                    .wrapping_sub(now.unix_ms)
                    .cast_signed(),
            );
        }
    }

    /// The time of day by KV's clock if it is known, else by this node's.
    fn utc_ms(&self, now: Now) -> u64 {
        now.unix_ms
            .saturating_add_signed(self.clock_ahead_ms.unwrap_or(0))
    }

    /// The latest plausible time of a message. Without KV's clock every time is plausible: otherwise a node
    /// whose clock is in 1970 would rank all other messages as future ones.
    fn horizon_ms(&self, now: Now) -> u64 {
        match self.clock_ahead_ms {
            Some(_) => self.utc_ms(now).saturating_add(KV_AHEAD_MS_MAX),
            None => u64::MAX,
        }
    }
}

fn condition(stored: &Stored) -> Condition {
    match stored.first_fault {
        None => Condition::Good,
        Some((first, fault)) => Condition::Foreign {
            count: stored.foreign,
            first,
            fault,
        },
    }
}

#[cfg(test)]
mod tests;
