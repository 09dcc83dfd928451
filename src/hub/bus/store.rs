//! Stores what comes back from the bus: the owner of the ring with a bus.
//!
//! Called by the follower, on its thread. A message is appended to the ring, and with `--durability disk`
//! synced, before the shards get it. Waits for room in their inboxes, and for the disk. After an error no
//! message was shown. The caller repeats the call.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Now;
use crate::hub::bus::{BusSettings, Outbox};
use crate::hub::history::History;
use crate::hub::repair::{Repairs, log_aside};
use crate::hub::{Batch, Hub, NotStored, State, Turnover};
use crate::limits::HISTORY_MESSAGES;
use crate::message::{Epoch, Message};
use crate::metrics::{Counter, Metrics, Tally, Timing};
use crate::ring::{Aside, Ring, RingError};
use crate::sse::lineage::Lineage;

/// See the module's documentation.
pub struct BusStore {
    ring: Ring,
    run: u64,
    syncs: bool,
    /// The ring holds messages that were not shown, after an error.
    holds_unshown: bool,
    repairs: Repairs,
    tally: Tally,
}

/// What a store has shown of a group of messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The places in the group of this node's own messages that were acknowledged.
    pub own: Vec<usize>,
    /// When each of these was queued, in monotonic microseconds.
    pub queued_us: Vec<u64>,
}

/// Where a history begins that replaces another one.
#[derive(Debug, Clone)]
pub struct HistoryStart {
    /// Its epochs.
    pub lineage: Arc<Lineage>,
    /// The seq of its first message.
    pub first_seq: u64,
}

impl BusStore {
    pub(in crate::hub) fn new(ring: Ring, settings: BusSettings, run: u64) -> BusStore {
        BusStore {
            ring,
            run,
            syncs: settings.syncs,
            holds_unshown: false,
            repairs: Repairs::default(),
            tally: Tally::new(),
        }
    }

    /// A store whose ring was in other hands: its file is written anew from the hub's history.
    pub(in crate::hub) fn taken_back(ring: Ring, settings: BusSettings, run: u64) -> BusStore {
        BusStore {
            holds_unshown: true,
            ..BusStore::new(ring, settings, run)
        }
    }

    /// Which run of the bus's threads this store is for.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// The epoch of the ring.
    pub fn epoch(&self) -> Epoch {
        self.ring.epoch()
    }

    /// The seq of the next message, if all of the ring was shown.
    pub fn next_seq(&self) -> u64 {
        self.ring.next_seq()
    }

    /// How many messages one call of [`BusStore::append`] may have.
    pub fn messages_max(&self) -> usize {
        if self.syncs {
            self.ring.unsynced_max()
        } else {
            HISTORY_MESSAGES
        }
    }

    /// Stores the next messages, sends them to the shards, and acknowledges those of this node.
    pub fn append(
        &mut self,
        hub: &Hub,
        messages: &[Arc<Message>],
        metrics: &Metrics,
        clock: &impl Fn() -> Now,
    ) -> Result<Shown, NotStored> {
        debug_assert!(messages.len() <= self.messages_max());
        self.make_ready(hub, clock().mono_ms)?;
        let mut batch = Batch::with_room(messages);
        let stored = self.append_all(hub, messages, &mut batch).and_then(|()| {
            if self.syncs {
                hub.sync_identities(self.ring.next_seq());
            }
            self.sync(clock)
        });
        if let Err(error) = stored {
            self.holds_unshown = true;
            if let NotStored::Ring(error) = &error {
                let what = "the ring does not take a message of the bus; it is tried again";
                self.repairs.note_failure(error, clock().mono_ms, what);
            }
            return Err(error);
        }
        self.repairs.note_success();
        self.tally
            .count(Counter::RingAppends, messages.len() as u64);
        self.tally.flush(metrics);
        Ok(self.show(hub, batch, messages))
    }

    fn append_all(
        &mut self,
        hub: &Hub,
        messages: &[Arc<Message>],
        batch: &mut Batch,
    ) -> Result<(), NotStored> {
        for message in messages {
            hub.encode(batch, self.ring.epoch(), self.ring.next_seq(), message)?;
            self.ring
                .append(message)
                .map_err(|error| NotStored::Ring(Arc::new(error)))?;
        }
        Ok(())
    }

    fn sync(&mut self, clock: &impl Fn() -> Now) -> Result<(), NotStored> {
        if !self.syncs {
            return Ok(());
        }
        let began_us = clock().mono_us;
        let synced = self.ring.commit();
        let took = Duration::from_micros(clock().mono_us - began_us);
        self.tally.observe(Timing::RingSync, took);
        synced.map_err(|error| {
            self.tally.count(Counter::RingSyncErrors, 1);
            NotStored::Ring(Arc::new(RingError::Unsynced(error)))
        })
    }

    fn show(&mut self, hub: &Hub, batch: Batch, messages: &[Arc<Message>]) -> Shown {
        let mut state = hub.lock_with_room(Duration::MAX).0;
        for message in messages {
            let seq = state.history.next_seq();
            state.history.push(Arc::clone(message));
            state.identities.note_kept(seq, message);
        }
        let shown = state.note_all_shown(messages);
        debug_assert_eq!(state.history.next_seq(), self.ring.next_seq());
        hub.send_to_shards(state, batch);
        hub.wake_mirror();
        shown
    }

    /// Continues the history in another epoch. The seqs go on.
    pub fn turn_over(
        &mut self,
        hub: &Hub,
        lineage: Arc<Lineage>,
        now: Now,
    ) -> Result<(), NotStored> {
        let view = hub.ring_view();
        self.renew(
            &lineage,
            view.first_seq,
            &view.messages,
            Aside::Drop,
            now.mono_ms,
        )?;
        let mut state = hub.lock_with_room(Duration::MAX).0;
        state.lineage = Arc::clone(&lineage);
        let batch = Batch {
            turnover: Some(Turnover {
                lineage,
                replaced_from: None,
            }),
            ..Batch::default()
        };
        hub.send_to_shards(state, batch);
        Ok(())
    }

    /// Replaces the history by another one: its newest messages, oldest first. Streams that have shown the
    /// old one end. `known` are all messages of the other history that this node has read: those of its own
    /// are acknowledged. `aside` says whether the ring's file is kept.
    pub fn replace(
        &mut self,
        hub: &Hub,
        start: HistoryStart,
        messages: &[Arc<Message>],
        known: &[Arc<Message>],
        aside: Aside,
        now: Now,
    ) -> Result<Shown, NotStored> {
        let HistoryStart { lineage, first_seq } = start;
        let mut batch = Batch {
            turnover: Some(Turnover {
                lineage: Arc::clone(&lineage),
                replaced_from: Some(first_seq),
            }),
            ..Batch::default()
        };
        for (seq, message) in (first_seq..).zip(messages) {
            hub.encode(&mut batch, lineage.epoch(), seq, message)?;
        }
        self.renew(&lineage, first_seq, messages, aside, now.mono_ms)?;
        let mut state = hub.lock_with_room(Duration::MAX).0;
        state.lineage = lineage;
        state.history = History::with_backlog(first_seq, messages.to_vec());
        state.history.drop_backlog();
        state.note_history();
        let shown = state.note_all_shown(known);
        hub.send_to_shards(state, batch);
        hub.wake_mirror();
        Ok(shown)
    }

    /// Writes the ring anew, with the last of these messages.
    fn renew(
        &mut self,
        lineage: &Lineage,
        first_seq: u64,
        messages: &[Arc<Message>],
        aside: Aside,
        now_ms: u64,
    ) -> Result<(), NotStored> {
        if let Some(error) = self.repairs.refusal(now_ms) {
            return Err(NotStored::Ring(error));
        }
        let surplus = messages.len().saturating_sub(HISTORY_MESSAGES);
        let newest = messages[surplus..].iter().map(|message| &**message);
        let renewed = self.ring.renew(
            lineage.epoch(),
            lineage.earlier().to_vec(),
            first_seq + surplus as u64,
            newest,
            aside,
        );
        match renewed {
            Ok(aside) => {
                log_aside(aside.as_deref());
                self.holds_unshown = false;
                self.repairs.note_success();
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                let what = "the ring cannot be written anew for the bus; it is tried again";
                self.repairs.note_failure(&error, now_ms, what);
                Err(NotStored::Ring(error))
            }
        }
    }

    /// Checks the ring before messages are appended, and repairs it if that is needed and due.
    fn make_ready(&mut self, hub: &Hub, now_ms: u64) -> Result<(), NotStored> {
        if !self.holds_unshown && self.repairs.is_sound(&self.ring, now_ms) {
            return Ok(());
        }
        let view = hub.ring_view();
        if !self.holds_unshown {
            let mended = self.repairs.mend(&mut self.ring, &view.messages, now_ms);
            return mended.map_err(NotStored::Ring);
        }
        self.renew(
            &hub.lineage(),
            view.first_seq,
            &view.messages,
            Aside::Drop,
            now_ms,
        )
    }

    /// Marks the ring as cleanly closed, unlocks it, and reports that to the hub. Returns the store if the
    /// follower is to continue.
    pub fn close(mut self, hub: &Hub) -> Option<BusStore> {
        let closed = self.try_close(hub);
        match hub.settle_close(closed) {
            Some(closed) => {
                // Unlocked before the report, because after it another process may open the ring.
                hub.close_identities();
                drop(self);
                hub.report_closed(closed);
                hub.queued.notify_all();
                hub.deadlines.notify_all();
                None
            }
            None => Some(self),
        }
    }

    fn try_close(&mut self, hub: &Hub) -> io::Result<()> {
        let history = hub.ring_view().messages;
        if self.holds_unshown {
            self.make_ready(hub, u64::MAX).map_err(io::Error::other)?;
        }
        self.repairs.close(&mut self.ring, &history)
    }
}

impl State {
    /// Notes the identities of a history that has replaced another one.
    fn note_history(&mut self) {
        let messages = self.history.numbered();
        (self.identities).note_all(messages.map(|(seq, message)| (seq, &**message)));
        self.identities.keep();
    }

    /// Notes that messages have come back, and which of them are of this node.
    fn note_all_shown(&mut self, messages: &[Arc<Message>]) -> Shown {
        let mut shown = Shown::default();
        for (place, message) in messages.iter().enumerate() {
            if let Some(queued_us) = self.note_shown(message) {
                shown.own.push(place);
                shown.queued_us.push(queued_us);
            }
        }
        shown
    }

    /// Notes that a message has come back. Returns when it was queued, if it is one of this node that waited for
    /// that.
    fn note_shown(&mut self, message: &Message) -> Option<u64> {
        let outboxes: Option<[&mut Outbox; 2]> = self.bus().map(super::BusQueue::outboxes);
        let queued_us = |outbox: &mut Outbox| outbox.note_shown(message);
        outboxes.into_iter().flatten().find_map(queued_us)
    }
}
