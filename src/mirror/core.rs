//! One node's mirror without its I/O: what it knows, and what it does next.
//!
//! Driven by the mirror thread against the real KV, and by the simulator against a model of one.
//! Takes replies and times, returns actions; holds no socket, no clock and no lock.
//!
//! # A cycle
//!
//! [`Mirror::begin_read`], the call, [`Mirror::handle_read`] with a fresh view of the ring, which
//! says what enters the ring; [`Mirror::handle_admitted`] once it has, with another view of it;
//! [`Mirror::shared_history`]; [`Mirror::begin_write`], which says what to write if anything; the
//! call, [`Mirror::handle_write`].
//!
//! # When a difference is written
//!
//! KV has no compare-and-swap, so a write can be lost to another one, and a read may be a minute
//! old, so what looks lost may not be. After a read that lacks something of the history:
//!
//! - It lacks a message of this node's own that KV was never known to hold, or the value is one this
//!   node has not read or written before, so somebody wrote it without ours: write at once.
//! - It lacks one of our own that KV did hold, and the value is an old acquaintance: most likely a
//!   stale answer. Write if it is still so a minute after the message was last seen there.
//! - It lacks only what other nodes or the Pages app brought, or has more than its 100 entries, or
//!   has them out of order: that is first of all for others to mend. Write if it is still so after
//!   one to two minutes, drawn by each node for itself, so that mostly one does.
//!
//! So once all agree nothing is written, an isolated message costs one write even where reads are
//! stale, and nothing is lost for good while one node that knows it is alive.

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

/// What the last successful read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Condition {
    /// A list, every entry a message.
    #[default]
    Good,
    /// A list, some of whose entries are foreign; the first of them by place, and why.
    Foreign {
        /// How many.
        count: usize,
        /// The place of the first, from nought.
        first: usize,
        /// Why it is one.
        fault: Fault,
    },
    /// Not a list. Nothing is written over it.
    Unreadable,
}

/// Whether the value should be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// The value is not known, or must not be written over.
    Unknown,
    Nothing,
    Write,
    WriteFrom(u64),
}

/// See the module's documentation.
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
    /// The fingerprint of a value that is to be written over.
    unanswered_value: Option<u64>,
    want: Want,
    /// When to mend what others should have mended; drawn when first noticed.
    mend_others_from_ms: Option<u64>,
    /// How far KV's clock is ahead of this node's.
    clock_ahead_ms: Option<i64>,
    condition: Condition,
    /// The seq behind the newest message of the ring, as last looked at.
    next_seq: u64,
    /// Messages of the ring that are too large to be shared, as last looked at.
    unshared: usize,
    /// What the shards were told last.
    shared: SharedHistory,
}

impl Mirror {
    /// The mirror of a process that begins with this ring. Its first read is due at once.
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
        mirror.look_at(ring);
        mirror
    }

    /// When the next cycle is due, by the monotonic clock.
    pub fn next_cycle_ms(&self) -> u64 {
        self.schedule.next_cycle_ms()
    }

    /// A message was published on this node.
    pub fn handle_publish(&mut self) {
        self.schedule.want_write();
    }

    /// Whether it knows already that there is something to write, so that further publishes are no
    /// news.
    pub fn write_is_wanted(&self) -> bool {
        self.schedule.write_is_wanted()
    }

    /// The process is about to end; the last cycle is due at once.
    pub fn begin_closing(&mut self, now: Now) {
        self.schedule.begin_closing(now.mono_ms);
    }

    /// A cycle begins with a read.
    pub fn begin_read(&mut self, now: Now) {
        self.schedule.begin_read(now.mono_ms);
    }

    /// Takes what was read and the ring as it is now, and says what to append to the ring, in the
    /// order of the history.
    pub fn handle_read(
        &mut self,
        now: Now,
        reply: Reply<Option<Vec<u8>>>,
        ring: &RingView,
    ) -> Vec<Arc<Message>> {
        self.note_date(now, reply.date_ms);
        self.look_at(ring);
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

        let crowd = |entries| join(entries, self.history_max, horizon_ms);
        let stored = value::parse(bytes.as_deref(), 4 * self.history_max, &crowd).ok();
        // Both the bytes and what was made of them are let go of as soon as can be: either may be as
        // large as a value.
        drop(bytes);
        let entries = stored.as_ref().map_or(&[][..], |stored| &stored.entries);
        for id in entries.iter().filter_map(Entry::id) {
            self.seen.note_asserted(id, now.mono_ms);
        }
        self.extend_history(&ring.messages, entries, horizon_ms);
        self.judge(now, stored.as_ref());
        drop(stored);
        self.seen.end_turn();

        let is_news = |entry: &&Entry| entry.id().is_some_and(|id| self.seen.is_news(id));
        let news = self.history.iter().filter(is_news);
        news.filter_map(Entry::to_message).map(Arc::new).collect()
    }

    /// Messages were appended to the ring, which is like this now: it may have got others in
    /// between.
    pub fn handle_admitted(&mut self, now: Now, admitted: &[MessageId], ring: &RingView) {
        for id in admitted {
            self.seen.note_admitted(*id);
        }
        self.look_at(ring);
        let horizon_ms = self.horizon_ms(now);
        self.extend_history(&ring.messages, &[], horizon_ms);
        if self.want != Want::Unknown && self.lag(ring) > 0 {
            self.want = Want::Write;
        }
    }

    /// A message is too large for this node's ring: it is not offered again.
    pub fn handle_too_large(&mut self, id: MessageId) {
        self.seen.note_too_large(id);
    }

    /// What streams that connect from now on should be shown, if that has changed since
    /// [`Mirror::handle_shared_history`].
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

    /// The shards have been told.
    pub fn handle_shared_history(&mut self, shared: SharedHistory) {
        self.shared = shared;
    }

    /// The value to write now, if one is to be written and one may be.
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

    /// The write came to an end.
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

    /// How many messages of the ring KV should hold and was never known to.
    pub fn lag(&self, ring: &RingView) -> usize {
        let never_asserted = |id: &MessageId| self.seen.asserted_ms(*id).is_none();
        // What the mirror has not looked at yet counts too.
        let belongs = |id: &MessageId| !self.seen.is_shown(*id) || self.is_in_history(*id);
        let ids = ring.messages.iter().map(|message| message.id);
        ids.filter(never_asserted).filter(belongs).count()
    }

    /// What the last successful read found.
    pub fn condition(&self) -> Condition {
        self.condition
    }

    /// Messages of the shared history that the ring cannot hold.
    pub fn unheld(&self) -> usize {
        let ids = self.history.iter().filter_map(Entry::id);
        ids.filter(|id| self.seen.is_too_large(*id)).count()
    }

    /// Messages of the ring whose entries would be larger than their share of the value: they stay on
    /// this node.
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

    fn look_at(&mut self, ring: &RingView) {
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

    /// Decides whether the value is to be written.
    fn judge(&mut self, now: Now, stored: Option<&Stored>) {
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
            // It is answered by a write, however many reads there are until then.
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
            // One of ours was never there.
            None => Want::Write,
            // All of ours that are not there were once.
            Some(Some(_)) if !is_known => Want::Write,
            Some(Some(last_ms)) => Want::WriteFrom(last_ms + KV_PROPAGATION_MS),
            // All of ours are there.
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
            // The header is cut to the second; half of one is the best guess.
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

    /// The latest time that is believed. Without KV's clock every time is: a node whose own clock
    /// stands still in 1970 must not take all others' messages for messages from the future.
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
