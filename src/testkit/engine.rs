//! An engine of a bus in memory, with the faults of a real one: it restarts, loses its tail, is emptied,
//! loses calls and answers, and executes a call late.
//!
//! Nothing here runs: a call of a half is executed at once, or as its link says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::{Link, LinkFault};
use crate::bus::engine::{
    Append, Appended, Begin, Content, Entry, Fault, FaultKind, Fenced, Keep, News, Outgoing,
    Producer, Reader, Repeat, Snapshot, Writer,
};
use crate::identities::First;
use crate::limits::BUS_READ_ENTRIES_MAX;
use crate::message::{Epoch, Fingerprint, Message};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// What an engine stores, and its replica.
#[derive(Debug, Clone, Default)]
struct Stored {
    log: Vec<Entry>,
    last: Option<EventId>,
    record: Option<Record>,
    identities: HashMap<Fingerprint, Known>,
}

#[derive(Debug, Clone)]
struct Known {
    first: First,
    body: Option<Fingerprint>,
    end_ms: u64,
}

#[derive(Debug, Clone)]
struct Record {
    lineage: Lineage,
    history: String,
    body_bytes_max: u64,
    /// Of each producer, the last number that was appended, and the last that is refused.
    numbers: HashMap<Producer, (u64, u64)>,
    time_ms: u64,
}

#[derive(Default)]
struct State {
    stored: Stored,
    /// What a replica has, or a disk.
    copy: Stored,
    /// Changes at every restart and promotion.
    generation: u64,
    now_ms: u64,
    probes: Vec<(Producer, u64)>,
    lease: Option<Producer>,
    /// Calls of broken connections that are executed later.
    late: Vec<Late>,
}

enum Refusal {
    Broken,
    OtherEpoch(Epoch),
}

struct Late {
    epoch: Epoch,
    producer: Producer,
    first_number: u64,
    messages: Vec<Outgoing>,
}

/// An engine; clones are the same one.
#[derive(Clone, Default)]
pub struct MemoryEngine(Arc<Mutex<State>>);

impl MemoryEngine {
    /// The half that appends.
    pub fn writer(&self, link: Link) -> Box<dyn Writer> {
        let engine = self.clone();
        link.note_made();
        Box::new(MemoryWriter { engine, link })
    }

    /// The half that reads.
    pub fn reader(&self, link: Link) -> Box<dyn Reader> {
        let (engine, probes_seen) = (self.clone(), self.lock().probes.len());
        Box::new(MemoryReader {
            engine,
            link,
            probes_seen,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under it")
    }

    /// Sets the clock.
    pub fn set_time(&self, now_ms: u64) {
        self.lock().now_ms = now_ms;
    }

    /// Copies everything to the replica.
    pub fn replicate(&self) {
        let mut state = self.lock();
        state.copy = state.stored.clone();
    }

    /// Restarts the engine with all that it has.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.generation += 1;
        state.late.clear();
    }

    /// Continues with what the replica has.
    pub fn fail_over(&self) {
        let mut state = self.lock();
        state.stored = state.copy.clone();
        state.generation += 1;
        state.late.clear();
    }

    /// Removes all keys.
    pub fn flush(&self) {
        let mut state = self.lock();
        state.stored = Stored::default();
        state.lease = None;
    }

    /// Removes the log.
    pub fn delete_log(&self) {
        let mut state = self.lock();
        state.stored.log.clear();
        state.stored.last = None;
    }

    /// Removes the record.
    pub fn delete_record(&self) {
        self.lock().stored.record = None;
    }

    /// Removes the entry that is so many before the last, if there is one.
    pub fn delete_entry(&self, back: usize) {
        let mut state = self.lock();
        let entries = state.stored.log.len();
        if back < entries {
            state.stored.log.remove(entries - 1 - back);
        }
    }

    /// Appends another program's entry.
    pub fn append_foreign(&self) {
        let mut state = self.lock();
        if let Some(last) = state.stored.last {
            let id = EventId {
                seq: last.seq + 1,
                ..last
            };
            state.push(id, Content::Foreign("no fields".into()));
        }
    }

    /// Executes the calls that are late.
    pub fn execute_late(&self) {
        let mut state = self.lock();
        for late in std::mem::take(&mut state.late) {
            let Late {
                epoch,
                producer,
                first_number,
                messages,
            } = late;
            state.append(epoch, producer, first_number, &messages);
        }
    }

    /// The messages of the log.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        let state = self.lock();
        let messages = state
            .stored
            .log
            .iter()
            .filter_map(|entry| match &entry.content {
                Content::Message(message) => Some(Arc::clone(message)),
                _ => None,
            });
        messages.collect()
    }

    /// The ids of all entries.
    pub fn ids(&self) -> Vec<EventId> {
        self.lock()
            .stored
            .log
            .iter()
            .map(|entry| entry.id)
            .collect()
    }

    /// Whether the engine has forgotten nothing since its epoch began.
    pub fn is_unbroken(&self) -> bool {
        self.lock().snapshot().is_unbroken()
    }

    /// The seq of the last entry.
    pub fn last_seq(&self) -> Option<u64> {
        self.lock().stored.last.map(|last| last.seq)
    }

    /// The current epoch.
    pub fn epoch(&self) -> Option<Epoch> {
        let state = self.lock();
        state
            .stored
            .record
            .as_ref()
            .map(|record| record.lineage.epoch())
    }
}

impl Stored {
    /// The message with the identity of this one, unless it is this one, and its body's fingerprint.
    fn first_of(&self, message: &Message, now_ms: u64) -> Option<(First, Option<Fingerprint>)> {
        let identity = message.identity.as_ref()?;
        let known = |print: Option<Fingerprint>| {
            let known = self.identities.get(&print?)?;
            (known.first.id != message.id && known.end_ms > now_ms).then_some(known)
        };
        known(identity.id)
            .map(|known| (known.first, known.body))
            .or_else(|| known(identity.tag).map(|known| (known.first, None)))
    }

    fn note(&mut self, message: &Message, now_ms: u64) {
        let Some(identity) = &message.identity else {
            return;
        };
        let known = Known {
            first: First {
                id: message.id,
                timestamp_ms: message.timestamp_ms,
            },
            body: identity.body,
            end_ms: now_ms + 1000 * u64::from(identity.window_s),
        };
        for print in [identity.id, identity.tag].into_iter().flatten() {
            self.identities.insert(print, known.clone());
        }
    }
}

impl State {
    fn history(&self) -> String {
        format!("history {}", self.generation)
    }

    fn push(&mut self, id: EventId, content: Content) {
        assert!(self.stored.last.is_none_or(|last| last < id), "{id}");
        if let Content::Message(message) = &content {
            self.stored.note(message, self.now_ms);
        }
        self.stored.log.push(Entry { id, content });
        self.stored.last = Some(id);
    }

    fn snapshot(&self) -> Snapshot {
        let record = self.stored.record.as_ref();
        Snapshot {
            lineage: record.map(|record| record.lineage.clone()),
            recorded_history: record.map(|record| record.history.clone()),
            history: self.history(),
            first: self.stored.log.first().map(|entry| entry.id),
            last: self.stored.last,
            body_bytes_max: record.map(|record| record.body_bytes_max),
            eviction: None,
            unix_ms: self.now_ms,
        }
    }

    /// Why a call of a producer is refused.
    fn refusal(&self, epoch: Epoch) -> Option<Refusal> {
        if !self.snapshot().is_unbroken() {
            return Some(Refusal::Broken);
        }
        let current = self.stored.record.as_ref()?.lineage.epoch();
        (current != epoch).then_some(Refusal::OtherEpoch(current))
    }

    fn append(
        &mut self,
        epoch: Epoch,
        producer: Producer,
        first_number: u64,
        messages: &[Outgoing],
    ) -> Appended {
        match self.refusal(epoch) {
            Some(Refusal::Broken) => return Appended::Broken,
            Some(Refusal::OtherEpoch(current)) => return Appended::OtherEpoch(current),
            None => {}
        }
        let now_ms = self.now_ms;
        let mut repeats = Vec::new();
        for (number, outgoing) in (first_number..).zip(messages) {
            let first = self.stored.first_of(&outgoing.message, now_ms);
            let Some(record) = &mut self.stored.record else {
                return Appended::Broken;
            };
            let (stored, refused) = record.numbers.entry(producer).or_default();
            if number <= *refused {
                continue;
            }
            (*stored, *refused) = (number, number);
            if let Some((first, body)) = first {
                repeats.push(Repeat {
                    number,
                    first,
                    body,
                });
                continue;
            }
            record.time_ms = record.time_ms.max(now_ms);
            let mut message = (*outgoing.message).clone();
            if !outgoing.keeps_time {
                message.timestamp_ms = record.time_ms;
            }
            let last = self.stored.last.unwrap_or(EventId { epoch, seq: 0 });
            let id = EventId {
                epoch,
                seq: last.seq + 1,
            };
            self.push(id, Content::Message(Arc::new(message)));
        }
        Appended::Stored {
            messages: messages.len(),
            replicas: 1,
            repeats,
            fault: None,
        }
    }
}

fn fault(kind: FaultKind) -> Fault {
    let text = kind.name().to_owned();
    Fault { kind, text }
}

/// Fails a call before it is executed, if its link says so.
fn arrive(next: Option<LinkFault>) -> Result<Option<LinkFault>, Fault> {
    match next {
        Some(LinkFault::Refused) => Err(fault(FaultKind::Unreachable)),
        Some(LinkFault::Full) => Err(fault(FaultKind::Full)),
        Some(LinkFault::LostCall) => Err(fault(FaultKind::Lost)),
        other => Ok(other),
    }
}

/// Loses the answer, if the link says so.
fn answer<T>(next: Option<LinkFault>, answer: T) -> Result<T, Fault> {
    match next {
        Some(LinkFault::LostAnswer | LinkFault::Late) => Err(fault(FaultKind::Lost)),
        _ => Ok(answer),
    }
}

struct MemoryWriter {
    engine: MemoryEngine,
    link: Link,
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        self.link.note_dropped();
    }
}

impl Writer for MemoryWriter {
    fn append(&mut self, append: &Append<'_>) -> Result<Appended, Fault> {
        let next = arrive(self.link.next())?;
        let mut state = self.engine.lock();
        if next == Some(LinkFault::Late) {
            state.late.push(Late {
                epoch: append.epoch,
                producer: append.producer,
                first_number: append.first_number,
                messages: append.messages.to_vec(),
            });
            return Err(fault(FaultKind::Lost));
        }
        let appended = state.append(
            append.epoch,
            append.producer,
            append.first_number,
            append.messages,
        );
        if matches!(appended, Appended::Stored { .. }) {
            let probe = append.probe.map(|probe| (append.producer, probe));
            state.probes.extend(probe);
            let entries = state.stored.log.len();
            let from = match append.keep {
                Keep::All => 0,
                Keep::From(id) => state.stored.log.partition_point(|entry| entry.id < id),
                Keep::Newest(kept) => entries.saturating_sub(kept as usize),
            };
            state.stored.log.drain(..from);
        }
        answer(next, appended)
    }

    fn fence(&mut self, epoch: Epoch, producer: Producer, number: u64) -> Result<Fenced, Fault> {
        let next = arrive(self.link.next())?;
        let mut state = self.engine.lock();
        let fenced = match state.refusal(epoch) {
            Some(Refusal::Broken) => Fenced::Broken,
            Some(Refusal::OtherEpoch(current)) => Fenced::OtherEpoch(current),
            None => {
                let record = state.stored.record.as_mut();
                let numbers = record.map(|record| record.numbers.entry(producer).or_default());
                numbers.map_or(Fenced::Broken, |(stored, refused)| {
                    *refused = number.max(*refused);
                    Fenced::At(*stored)
                })
            }
        };
        answer(next, fenced)
    }

    fn snapshot(&mut self) -> Result<Snapshot, Fault> {
        let next = arrive(self.link.next())?;
        answer(next, self.engine.lock().snapshot())
    }

    fn begin(&mut self, begin: &Begin<'_>) -> Result<bool, Fault> {
        let next = arrive(self.link.next())?;
        let mut state = self.engine.lock();
        let now = state.snapshot();
        let seen = begin.seen;
        let is_as_seen = (&now.lineage, &now.recorded_history, now.last)
            == (&seen.lineage, &seen.recorded_history, seen.last);
        if !is_as_seen || now.is_unbroken() {
            return answer(next, false);
        }
        let epoch = begin.lineage.epoch();
        let lineage = begin.lineage.clone();
        state.push(EventId { epoch, seq: 0 }, Content::Begin(lineage.clone()));
        for (seq, message) in begin.put_back {
            let id = EventId { epoch, seq: *seq };
            state.push(id, Content::Message(Arc::clone(message)));
        }
        state.stored.last = Some(EventId {
            epoch,
            seq: begin.lineage.begun_after(),
        });
        let times_ms = begin
            .put_back
            .iter()
            .map(|(_, message)| message.timestamp_ms);
        state.stored.record = Some(Record {
            lineage,
            history: state.history(),
            body_bytes_max: begin.body_bytes_max,
            numbers: HashMap::new(),
            time_ms: times_ms.max().unwrap_or(0),
        });
        answer(next, true)
    }

    fn raise_body_bytes_max(&mut self, bytes: u64) -> Result<(), Fault> {
        let mut state = self.engine.lock();
        if let Some(record) = &mut state.stored.record {
            record.body_bytes_max = record.body_bytes_max.max(bytes);
        }
        Ok(())
    }

    fn lease(&mut self, producer: Producer, _time: Duration) -> Result<bool, Fault> {
        let next = arrive(self.link.next())?;
        let mut state = self.engine.lock();
        let holder = *state.lease.get_or_insert(producer);
        answer(next, holder == producer)
    }

    fn end_lease(&mut self, producer: Producer) -> Result<(), Fault> {
        let mut state = self.engine.lock();
        state.lease = state.lease.filter(|holder| *holder != producer);
        Ok(())
    }

    fn reconnect(&mut self) {}
}

struct MemoryReader {
    engine: MemoryEngine,
    link: Link,
    probes_seen: usize,
}

impl Reader for MemoryReader {
    fn snapshot(&mut self) -> Result<Snapshot, Fault> {
        let next = arrive(self.link.next())?;
        answer(next, self.engine.lock().snapshot())
    }

    fn read(&mut self, after: EventId, wait: Duration) -> Result<News, Fault> {
        let next = arrive(self.link.next())?;
        let state = self.engine.lock();
        let entries = state.stored.log.iter().filter(|entry| entry.id > after);
        let probes = state.probes.get(self.probes_seen..).unwrap_or_default();
        let news = News {
            entries: entries.take(BUS_READ_ENTRIES_MAX).cloned().collect(),
            probes: probes.to_vec(),
        };
        self.probes_seen = state.probes.len();
        drop(state);
        if news == News::default() && !wait.is_zero() {
            // A thread that reads in a loop leaves time for others.
            thread::sleep(Duration::from_millis(1));
        }
        answer(next, news)
    }

    fn read_back(
        &mut self,
        before: Option<EventId>,
        entries_max: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let next = arrive(self.link.next())?;
        let state = self.engine.lock();
        let entries = state.stored.log.iter().rev();
        let earlier = entries.filter(|entry| before.is_none_or(|before| entry.id < before));
        answer(next, earlier.take(entries_max).cloned().collect())
    }

    fn reconnect(&mut self) {}
}
