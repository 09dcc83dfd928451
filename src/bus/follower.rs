//! The follower: reads the log of the engine, and gives every message to the hub in the log's order.
//!
//! Driven step by step by a thread of the bus, or by a simulation. The owner of the ring, by way of
//! [`BusStore`]. An entry that is missing or foreign is never skipped silently: then the follower joins
//! anew, and the history begins after it.

use std::sync::Arc;
use std::time::Duration;

use super::course::{Course, SharedCourse};
use super::engine::{Content, Entry, Fault, Reader};
use super::log::{self, Found, Log};
use super::recent::Placed;
use super::stats::{BusStats, Event, Joining};
use crate::clock::Now;
use crate::hub::{BusStore, HistoryStart, Hub, NotStored};
use crate::limits::{BUS_BEGIN_PATIENCE_MS, BUS_RETRY_MS_MAX, BUS_RETRY_MS_MIN, HISTORY_MESSAGES};
use crate::metrics::Metrics;
use crate::ring::Aside;
use crate::sse::lineage::Lineage;

/// See the module's documentation.
pub struct Follower {
    store: BusStore,
    course: SharedCourse,
    settings: FollowerSettings,
    delay_ms: u64,
    /// Since when the node lacks a message that was put back at the beginning of the epoch.
    incomplete_since_ms: Option<u64>,
    rng: fastrand::Rng,
}

/// What a follower needs to know of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct FollowerSettings {
    /// Messages that this node holds.
    pub messages_max: usize,
    /// Its largest body.
    pub body_bytes_max: u64,
    /// Bytes of text that the live logs get when the history is replaced.
    pub log_bytes: usize,
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// The next step follows at once.
    On,
    /// The next step follows after a time.
    After(Duration),
}

/// What a node that accepts less than others says of their messages.
const TOO_LARGE: &str = "it is larger than this node takes: all need the same --max-body-bytes";

/// Why entries could not be stored.
enum StoreError {
    /// The ring does not take them; they are read again.
    Ring,
    /// The place in the log is lost.
    Place,
}

impl From<NotStored> for StoreError {
    fn from(_: NotStored) -> StoreError {
        StoreError::Ring
    }
}

/// The time of the messages of one step.
pub trait Clocked: Fn() -> Now {}
impl<F: Fn() -> Now> Clocked for F {}

impl Follower {
    /// A follower that continues at the course's position.
    pub fn new(store: BusStore, course: SharedCourse, settings: FollowerSettings) -> Follower {
        Follower {
            store,
            course,
            settings,
            delay_ms: 0,
            incomplete_since_ms: None,
            rng: fastrand::Rng::new(),
        }
    }

    /// Reads once, for up to `wait`, and stores what has come.
    pub fn step(
        &mut self,
        hub: &Hub,
        reader: &mut dyn Reader,
        stats: &BusStats,
        metrics: &Metrics,
        wait: Duration,
        clock: &impl Clocked,
    ) -> Followed {
        let (is_joined, position) = {
            let mut course = self.course.lock();
            if std::mem::take(&mut course.reader_doubts) > 0 {
                reader.reconnect();
            }
            (course.is_joined, course.position)
        };
        if !is_joined {
            return self.join(hub, reader, stats, metrics, clock);
        }
        let news = match reader.read(position, wait) {
            Ok(news) => news,
            Err(fault) => return self.note_fault(stats, &fault),
        };
        stats.note_read();
        self.delay_ms = 0;
        let taken = self.take(hub, news.entries, stats, metrics, clock);
        // A probe proves delivery only if everything before it is shown.
        if taken.is_ok() {
            for (producer, probe) in news.probes {
                stats.note_probe_seen(producer, probe, clock());
            }
        }
        match taken {
            Ok(()) => {
                self.check_complete(clock());
                Followed::On
            }
            Err(StoreError::Ring) => self.pause(),
            Err(StoreError::Place) => {
                self.course.lock().is_joined = false;
                Followed::On
            }
        }
    }

    /// Joins anew if messages that were put back do not come: another program has removed them.
    fn check_complete(&mut self, now: Now) {
        let mut course = self.course.lock();
        if course.ready_epoch().is_some() {
            self.incomplete_since_ms = None;
            return;
        }
        let since_ms = *self.incomplete_since_ms.get_or_insert(now.mono_ms);
        if now.mono_ms >= since_ms + BUS_BEGIN_PATIENCE_MS {
            self.incomplete_since_ms = None;
            course.is_joined = false;
        }
    }

    fn note_fault(&mut self, stats: &BusStats, fault: &Fault) -> Followed {
        stats.note_read_fault(fault);
        self.pause()
    }

    fn pause(&mut self) -> Followed {
        self.delay_ms = (self.delay_ms * 2).clamp(BUS_RETRY_MS_MIN, BUS_RETRY_MS_MAX);
        let pause_ms = self.rng.u64(self.delay_ms / 2..=self.delay_ms);
        Followed::After(Duration::from_millis(pause_ms))
    }

    /// Stores entries, in groups.
    fn take(
        &mut self,
        hub: &Hub,
        entries: Vec<Entry>,
        stats: &BusStats,
        metrics: &Metrics,
        clock: &impl Clocked,
    ) -> Result<(), StoreError> {
        let shared = self.course.clone();
        let mut course = shared.lock();
        let mut group: Vec<Placed> = Vec::new();
        for entry in entries {
            let next_seq = course.position.seq + 1 + group.len() as u64;
            match entry.content {
                Content::Begin(lineage) => {
                    self.store_group(hub, &mut course, &mut group, stats, metrics, clock)?;
                    self.turn_over(hub, &mut course, lineage, stats, clock())?;
                }
                Content::Message(_) if entry.id.epoch != course.position.epoch => {
                    // The beginning of its epoch was dropped before this node has read it.
                    self.store_group(hub, &mut course, &mut group, stats, metrics, clock)?;
                    return Err(StoreError::Place);
                }
                // It was put back, and this node has it.
                Content::Message(_) if entry.id.seq < next_seq => {}
                Content::Message(message) if !hub.takes(&message) => {
                    self.store_group(hub, &mut course, &mut group, stats, metrics, clock)?;
                    stats.note(&Event::Foreign {
                        id: entry.id,
                        what: TOO_LARGE.into(),
                    });
                    return Err(StoreError::Place);
                }
                Content::Message(message) if entry.id.seq == next_seq => {
                    group.push((entry.id, message));
                    if group.len() >= self.store.messages_max() {
                        self.store_group(hub, &mut course, &mut group, stats, metrics, clock)?;
                    }
                }
                Content::Message(_) => {
                    self.store_group(hub, &mut course, &mut group, stats, metrics, clock)?;
                    stats.note(&Event::Hole {
                        missing: entry.id.seq - next_seq,
                    });
                    return Err(StoreError::Place);
                }
                Content::Foreign(what) => {
                    self.store_group(hub, &mut course, &mut group, stats, metrics, clock)?;
                    stats.note(&Event::Foreign { id: entry.id, what });
                    return Err(StoreError::Place);
                }
            }
        }
        self.store_group(hub, &mut course, &mut group, stats, metrics, clock)
    }

    fn store_group(
        &mut self,
        hub: &Hub,
        course: &mut Course,
        group: &mut Vec<Placed>,
        stats: &BusStats,
        metrics: &Metrics,
        clock: &impl Clocked,
    ) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let placed = std::mem::take(group);
        let messages: Vec<_> = placed
            .iter()
            .map(|(_, message)| Arc::clone(message))
            .collect();
        let shown = self.store.append(hub, &messages, metrics, clock)?;
        let now = clock();
        stats.note_shown(&messages, &shown, now);
        let mut own = shown.own.into_iter().peekable();
        for (place, (id, message)) in placed.into_iter().enumerate() {
            course.advance(id, Arc::clone(&message));
            if own.next_if_eq(&place).is_some() {
                course.note_acknowledged(id, message);
            }
        }
        Ok(())
    }

    /// Continues in the epoch that begins here, if the history of this node was carried over.
    fn turn_over(
        &mut self,
        hub: &Hub,
        course: &mut Course,
        lineage: Lineage,
        stats: &BusStats,
        now: Now,
    ) -> Result<(), StoreError> {
        if lineage.epoch() == course.position.epoch {
            return Ok(());
        }
        if !lineage.contains(course.position) {
            return Err(StoreError::Place);
        }
        let lineage = Arc::new(lineage);
        self.store.turn_over(hub, Arc::clone(&lineage), now)?;
        course.turn_over(lineage);
        stats.note(&Event::Epoch);
        Ok(())
    }

    /// Finds the place of this node in the log, or takes over the log's history.
    fn join(
        &mut self,
        hub: &Hub,
        reader: &mut dyn Reader,
        stats: &BusStats,
        metrics: &Metrics,
        clock: &impl Clocked,
    ) -> Followed {
        let run = self.store.run();
        // The end of the process does not wait for the end of a long history.
        let goes_on = &mut |messages| {
            stats.note_joining(Joining::Reading(messages));
            !hub.demand(run).is_closing
        };
        let (found, facts) = match log::read(reader, self.settings.messages_max, goes_on) {
            Ok(read) => read,
            Err(fault) => {
                let followed = self.note_fault(stats, &fault);
                stats.note_joining(Joining::Unreached);
                return followed;
            }
        };
        stats.note_read();
        if let Some(bytes) = facts.body_bytes_max
            && bytes > self.settings.body_bytes_max
            // A node that was on the bus before others got a larger limit stays on it.
            && !self.course.lock().has_joined
        {
            stats.note(&Event::BodyLimit { bytes });
            stats.note_joining(Joining::BodyLimit(bytes));
            return self.pause();
        }
        if let Some(policy) = facts.eviction {
            stats.note(&Event::Evicts { policy });
        }
        let shared = self.course.clone();
        let mut course = shared.lock();
        let joined = match found {
            Found::Log(log) => self.join_log(hub, &mut course, log, stats, metrics, clock),
            Found::Unfinished => return Followed::On,
            Found::Nothing(_) | Found::Broken(_) => {
                stats.note_joining(Joining::Broken);
                let now_ms = clock().mono_ms;
                course.broken_since_ms.get_or_insert(now_ms);
                return self.pause();
            }
        };
        match joined {
            Ok(()) => {
                self.delay_ms = 0;
                course.join();
                stats.note(&Event::Joined);
                Followed::On
            }
            Err(_) => self.pause(),
        }
    }

    fn join_log(
        &mut self,
        hub: &Hub,
        course: &mut Course,
        mut log: Log,
        stats: &BusStats,
        metrics: &Metrics,
        clock: &impl Clocked,
    ) -> Result<(), StoreError> {
        log.drop_unfit(|message| hub.takes(message));
        let own = course.position;
        let continues =
            log.lineage.contains(own) && log.first_seq <= own.seq + 1 && own.seq <= log.last_seq;
        if !continues {
            return self.replace(hub, course, log, stats, clock());
        }
        if log.lineage.epoch() != own.epoch {
            self.store
                .turn_over(hub, Arc::clone(&log.lineage), clock())?;
            course.turn_over(log.lineage);
            stats.note(&Event::Epoch);
        }
        let mut new = log.messages.into_iter();
        new.by_ref()
            .take((own.seq + 1 - log.first_seq) as usize)
            .for_each(drop);
        let mut group = Vec::new();
        for (id, message) in new {
            group.push((id, message));
            if group.len() >= self.store.messages_max() {
                self.store_group(hub, course, &mut group, stats, metrics, clock)?;
            }
        }
        self.store_group(hub, course, &mut group, stats, metrics, clock)
    }

    /// Takes over the log's history. Acknowledged messages of this node that it lacks are published again.
    fn replace(
        &mut self,
        hub: &Hub,
        course: &mut Course,
        log: Log,
        stats: &BusStats,
        now: Now,
    ) -> Result<(), StoreError> {
        let newest = newest_within(&log.messages, self.settings.log_bytes);
        let first_seq = log.last_seq + 1 - newest.len() as u64;
        let messages: Vec<_> = newest
            .iter()
            .map(|(_, message)| Arc::clone(message))
            .collect();
        let known: Vec<_> = log
            .messages
            .iter()
            .map(|(_, message)| Arc::clone(message))
            .collect();
        let lineage = Arc::clone(&log.lineage);
        // What was in the ring at the start may be nowhere else.
        let aside = if course.has_joined || course.recent.first_id().is_none() {
            Aside::Drop
        } else {
            Aside::Keep
        };
        let start = HistoryStart { lineage, first_seq };
        let shown = self
            .store
            .replace(hub, start, &messages, &known, aside, now)?;
        let own: Vec<Placed> = shown
            .own
            .iter()
            .map(|&place| log.messages[place].clone())
            .collect();
        let again = course.replace(log.lineage, log.last_seq, log.messages);
        course.is_shared = true;
        for (id, message) in own {
            course.note_acknowledged(id, message);
        }
        stats.note(&Event::Reset { again: again.len() });
        hub.publish_again(again, now);
        Ok(())
    }

    /// Closes the ring, at the end of the process or for a handover. Returns the follower if it is to
    /// continue.
    pub fn close(self, hub: &Hub) -> Option<Follower> {
        let store = self.store.close(hub)?;
        Some(Follower { store, ..self })
    }
}

/// The newest messages with so many bytes of text, and at least those of a ring.
pub(super) fn newest_within(messages: &[Placed], bytes_max: usize) -> &[Placed] {
    let mut bytes = 0;
    let fits = |(_, message): &&Placed| {
        bytes += message.text_bytes();
        bytes <= bytes_max
    };
    let kept = messages.iter().rev().take_while(fits).count();
    let kept = kept.max(HISTORY_MESSAGES.min(messages.len()));
    &messages[messages.len() - kept..]
}
