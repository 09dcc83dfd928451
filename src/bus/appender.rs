//! The appender: sends this node's messages to the engine, and begins an epoch when the engine has
//! forgotten something.
//!
//! Driven step by step by a thread of the bus, or by a simulation. One call is under way at a time; messages
//! that arrive meanwhile form the next. Never shows a message: the follower does, when it comes back.
//!
//! After a call without an answer the appender first makes a *fence*: from then on the engine refuses that
//! call, so what it has not appended can be sent again.

use std::time::Duration;

use super::course::{Course, SharedCourse};
use super::engine::{Append, Appended, Fault, FaultKind, Fenced, Keep, Producer, Writer};
use super::log::{self, Begun};
use super::stats::{BusStats, Event};
use crate::clock::Now;
use crate::hub::{AppendBatch, Hub};
use crate::limits::{
    BUS_BEGIN_PATIENCE_MS, BUS_PROBE_INTERVAL_MS, BUS_PROOF_MS_MAX, BUS_RETRY_MS_MAX,
    BUS_RETRY_MS_MIN,
};
use crate::message::Epoch;

/// See the module's documentation.
pub struct Appender {
    /// The run of the bus's threads.
    run: u64,
    producer: Producer,
    body_bytes_max: u64,
    replicas: u32,
    /// The epoch in which messages are sent.
    epoch: Option<Epoch>,
    /// The last call had no answer.
    needs_fence: bool,
    /// An append was refused, because a node has to begin an epoch.
    is_broken: bool,
    /// Since when this node can do nothing before its follower has read more.
    behind_since_ms: Option<u64>,
    /// When the engine is called again after a fault.
    retry_ms: u64,
    delay_ms: u64,
    probe: u64,
    probed_ms: u64,
    /// Since when what this node sends should have come back.
    sending_since_ms: u64,
    /// How often it has not, and the connections were made anew.
    doubts: u32,
    /// The probe that ends the follower's last read was written.
    has_woken_follower: bool,
    rng: fastrand::Rng,
}

/// What the thread does after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// The next step follows at once.
    None,
    /// It waits for messages, up to a time.
    ForMessages(Duration),
    /// It waits for a time, whatever is queued.
    For(Duration),
    /// The follower has ended, so the appender ends.
    End,
}

/// How long the appender waits for the follower to read what another node has changed.
const FOLLOWER_WAIT: Duration = Duration::from_millis(5);

/// How long it waits between two looks while the node has not joined.
const JOIN_WAIT: Duration = Duration::from_millis(50);

impl Appender {
    /// An appender with a random number of its own.
    pub fn new(run: u64, producer: Producer, body_bytes_max: u64, replicas: u32) -> Appender {
        Appender {
            run,
            producer,
            body_bytes_max,
            replicas,
            epoch: None,
            needs_fence: false,
            is_broken: false,
            behind_since_ms: None,
            retry_ms: 0,
            delay_ms: 0,
            probe: 0,
            probed_ms: 0,
            sending_since_ms: 0,
            doubts: 0,
            has_woken_follower: false,
            rng: fastrand::Rng::with_seed(producer.0),
        }
    }

    /// Makes up to one append call, or repairs what stands against it.
    pub fn step(
        &mut self,
        hub: &Hub,
        writer: &mut dyn Writer,
        course: &SharedCourse,
        stats: &BusStats,
        now: Now,
    ) -> Pause {
        let demand = hub.demand(self.run);
        if demand.is_ended {
            return Pause::End;
        }
        if now.mono_ms < self.retry_ms {
            return Pause::For(Duration::from_millis(self.retry_ms - now.mono_ms));
        }
        let stepped = self.try_step(hub, writer, course, stats, now);
        match stepped {
            Ok(pause) => pause,
            Err(fault) => {
                stats.note_write_fault(&fault);
                if fault.kind.is_lasting() {
                    hub.refuse_outgoing(self.run);
                }
                if fault.kind == FaultKind::NotPrimary {
                    // A replica would go on answering the reader.
                    course.lock().reader_doubts += 1;
                }
                self.note_fault(now);
                Pause::For(Duration::from_millis(self.delay_ms))
            }
        }
    }

    fn note_fault(&mut self, now: Now) {
        self.sending_since_ms = now.mono_ms;
        self.delay_ms = (self.delay_ms * 2).clamp(BUS_RETRY_MS_MIN, BUS_RETRY_MS_MAX);
        // Nodes do not call an engine that returns all at once.
        self.retry_ms = now.mono_ms + self.rng.u64(self.delay_ms / 2..=self.delay_ms);
    }

    fn try_step(
        &mut self,
        hub: &Hub,
        writer: &mut dyn Writer,
        course: &SharedCourse,
        stats: &BusStats,
        now: Now,
    ) -> Result<Pause, Fault> {
        if self.is_broken {
            return self.begin(writer, course, stats, now);
        }
        let (ready, keep) = {
            let course = course.lock();
            (course.ready_epoch(), keep(&course))
        };
        let Some(epoch) = ready else {
            self.sending_since_ms = now.mono_ms;
            return self.help_to_join(writer, course, stats, now);
        };
        self.enter(epoch, hub, now);
        self.check_return(writer, course, stats, now);
        if self.needs_fence {
            let Some(last_number) = hub.last_number(self.run) else {
                return Ok(Pause::End);
            };
            match writer.fence(epoch, self.producer, last_number)? {
                Fenced::At(last_stored) => hub.requeue_after(self.run, last_stored),
                Fenced::Broken => return Ok(self.note_broken(course)),
                Fenced::OtherEpoch(other) => {
                    return Ok(self.await_epoch(other, writer, course, now));
                }
            }
            self.needs_fence = false;
        }
        let Some(batch) = hub.take_outgoing(self.run, epoch) else {
            return Ok(Pause::End);
        };
        let probe = self.next_probe(hub, &batch, now);
        if batch.messages.is_empty() && probe.is_none() {
            let left_ms = (self.probed_ms + BUS_PROBE_INTERVAL_MS).saturating_sub(now.mono_ms);
            return Ok(Pause::ForMessages(Duration::from_millis(left_ms.max(1))));
        }
        let has_waiting = !batch.messages.is_empty() || hub.awaits_replicas(self.run);
        let replicas = if has_waiting { self.replicas } else { 0 };
        let append = Append {
            epoch,
            producer: self.producer,
            first_number: batch.first_number,
            messages: &batch.messages,
            probe,
            keep,
            replicas,
        };
        if let Some(probe) = probe {
            stats.note_probe_sent(probe, now);
        }
        let appended = writer.append(&append);
        stats.set_outgoing(hub.outgoing());
        let before_first = batch.first_number - 1;
        match appended {
            Ok(Appended::Stored {
                messages,
                replicas,
                repeats,
                fault,
            }) => {
                if !repeats.is_empty() {
                    hub.note_repeats(self.run, &repeats);
                }
                hub.requeue_after(self.run, before_first + messages as u64);
                self.note_stored(hub, stats, replicas, fault)
            }
            Ok(Appended::Broken) => {
                hub.requeue_after(self.run, before_first);
                Ok(self.note_broken(course))
            }
            Ok(Appended::OtherEpoch(other)) => {
                hub.requeue_after(self.run, before_first);
                Ok(self.await_epoch(other, writer, course, now))
            }
            Err(fault) => {
                if fault.kind.is_certain() {
                    hub.requeue_after(self.run, before_first);
                } else {
                    self.needs_fence = true;
                }
                Err(fault)
            }
        }
    }

    /// Begins to send in an epoch. Messages of an earlier one that have not come back are sent again.
    fn enter(&mut self, epoch: Epoch, hub: &Hub, now: Now) {
        if self.epoch != Some(epoch) {
            self.sending_since_ms = now.mono_ms;
            hub.requeue_before(self.run, epoch);
            self.epoch = Some(epoch);
            self.needs_fence = false;
        }
    }

    /// Makes both connections anew if they work and nothing of what this node sends comes back: after a fail-over
    /// one of them may lead to the old primary.
    fn check_return(
        &mut self,
        writer: &mut dyn Writer,
        course: &SharedCourse,
        stats: &BusStats,
        now: Now,
    ) {
        if stats.proven_ms() > self.sending_since_ms {
            self.doubts = 0;
        }
        let since_ms = self.sending_since_ms.max(stats.proven_ms());
        if !stats.halves_work() || now.mono_ms <= since_ms + BUS_PROOF_MS_MAX {
            return;
        }
        if self.doubts == 0 {
            stats.note(&Event::NothingReturns);
        }
        self.doubts = self.doubts.saturating_add(1);
        self.sending_since_ms = now.mono_ms;
        writer.reconnect();
        course.lock().reader_doubts += 1;
    }

    /// The number of the next probe, if one is due: while nothing is sent, before replicas are asked again,
    /// and to end the follower's last read.
    fn next_probe(&mut self, hub: &Hub, batch: &AppendBatch, now: Now) -> Option<u64> {
        let is_closing = hub.demand(self.run).is_closing;
        let is_due = now.mono_ms >= self.probed_ms + BUS_PROBE_INTERVAL_MS
            || (is_closing && !self.has_woken_follower)
            || (batch.messages.is_empty() && self.replicas > 0 && hub.awaits_replicas(self.run));
        if !is_due {
            return None;
        }
        self.has_woken_follower = is_closing;
        self.probed_ms = now.mono_ms;
        self.probe += 1;
        Some(self.probe)
    }

    /// Notes an append call that the engine has executed, perhaps not for all of its messages.
    fn note_stored(
        &mut self,
        hub: &Hub,
        stats: &BusStats,
        replicas: u32,
        fault: Option<Fault>,
    ) -> Result<Pause, Fault> {
        self.behind_since_ms = None;
        if self.replicas > 0 && replicas >= self.replicas {
            hub.note_replicated(self.run);
        }
        if let Some(fault) = fault {
            return Err(fault);
        }
        stats.note_written();
        self.delay_ms = 0;
        Ok(Pause::None)
    }

    /// Waits until the follower has read the beginning of another epoch. An engine whose epoch is earlier was left
    /// behind by a fail-over.
    fn await_epoch(
        &mut self,
        other: Epoch,
        writer: &mut dyn Writer,
        course: &SharedCourse,
        now: Now,
    ) -> Pause {
        if self.epoch.is_some_and(|own| other.0 < own.0) {
            writer.reconnect();
            self.note_fault(now);
            return Pause::For(Duration::from_millis(self.delay_ms));
        }
        if self.is_overdue(now) {
            self.behind_since_ms = None;
            let mut course = course.lock();
            course.is_joined = false;
            course.reader_doubts += 1;
        }
        Pause::For(FOLLOWER_WAIT)
    }

    /// Whether the follower should have read what this node waits for: if not, another program has removed
    /// it, and the node has to join anew.
    fn is_overdue(&mut self, now: Now) -> bool {
        let since_ms = *self.behind_since_ms.get_or_insert(now.mono_ms);
        now.mono_ms >= since_ms + BUS_BEGIN_PATIENCE_MS
    }

    /// Begins an epoch next. After a fail-over, the reader's connection may lead to the old primary.
    fn note_broken(&mut self, course: &SharedCourse) -> Pause {
        self.is_broken = true;
        course.lock().reader_doubts += 1;
        Pause::None
    }

    /// Begins an epoch, unless another node was first or holds what this one has to read before.
    fn begin(
        &mut self,
        writer: &mut dyn Writer,
        course: &SharedCourse,
        stats: &BusStats,
        now: Now,
    ) -> Result<Pause, Fault> {
        let random = self.rng.u64(..);
        let mut course = course.lock();
        if !course.is_joined {
            self.is_broken = false;
            self.behind_since_ms = None;
            return Ok(Pause::For(FOLLOWER_WAIT));
        }
        let begun = log::begin(writer, &course, self.body_bytes_max, random)?;
        if begun == Begun::Behind {
            if self.is_overdue(now) {
                course.is_joined = false;
                course.broken_since_ms = self.behind_since_ms.take();
            }
            return Ok(Pause::For(FOLLOWER_WAIT));
        }
        if let Begun::Now(put_back) = begun {
            stats.note_begun(put_back);
        }
        self.is_broken = false;
        self.behind_since_ms = None;
        // Until the follower has read the beginning, the old epoch is the current one here.
        Ok(Pause::For(FOLLOWER_WAIT))
    }

    /// Begins an epoch with what the engine and this node's ring have, if no node does that although the
    /// follower cannot join.
    fn help_to_join(
        &mut self,
        writer: &mut dyn Writer,
        course: &SharedCourse,
        stats: &BusStats,
        now: Now,
    ) -> Result<Pause, Fault> {
        let mut course = course.lock();
        let broken_since_ms = course.broken_since_ms;
        let is_overdue =
            broken_since_ms.is_some_and(|since_ms| now.mono_ms >= since_ms + BUS_BEGIN_PATIENCE_MS);
        if is_overdue {
            let random = self.rng.u64(..);
            let begun = log::begin_unjoined(writer, &course, self.body_bytes_max, random)?;
            if let Begun::Now(put_back) = begun {
                stats.note_begun(put_back);
            }
            course.broken_since_ms = None;
        }
        Ok(Pause::For(JOIN_WAIT))
    }
}

/// The entries that this node needs in the engine. An entry of an earlier epoch may have another id by now, if
/// the engine lost it meanwhile. So until the oldest is of this epoch, a number is given, with a margin.
fn keep(course: &Course) -> Keep {
    match course.recent.first_id() {
        None => Keep::All,
        Some(first) if first.epoch == course.position.epoch => Keep::From(first),
        Some(_) => Keep::Newest(2 * course.recent.messages_max() as u64),
    }
}

impl FaultKind {
    /// All kinds, for metrics.
    pub const ALL: [FaultKind; 6] = [
        FaultKind::Unreachable,
        FaultKind::Lost,
        FaultKind::Full,
        FaultKind::NotPrimary,
        FaultKind::Denied,
        FaultKind::Unusable,
    ];
}
