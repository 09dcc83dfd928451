//! The log of an engine as a node that joins reads it, and the beginning of an epoch.
//!
//! Called by the start of the server, by the follower when it has lost its place, and by the appender. Every
//! call of an engine here is one of the seam's; nothing waits otherwise.

use std::sync::Arc;

use super::course::Course;
use super::engine::{Begin, Content, Fault, Reader, Snapshot, Writer};
use super::recent::Placed;
use crate::limits::{BUS_HISTORY_BYTES_MAX, BUS_READ_ENTRIES_MAX, HISTORY_MESSAGES};
use crate::message::{Epoch, Message};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// Random bits behind the time in an epoch.
const EPOCH_RANDOM_BITS: u32 = 20;

/// The newest messages of a log, without holes.
pub struct Log {
    /// The current epoch.
    pub lineage: Arc<Lineage>,
    /// The seq of the first message; one more than `last_seq` if there are none.
    pub first_seq: u64,
    /// The seq of the last message that was appended.
    pub last_seq: u64,
    /// The oldest first.
    pub messages: Vec<Placed>,
}

impl Log {
    /// Drops the last message that does not fit this node, and all before it.
    pub fn drop_unfit(&mut self, fits: impl Fn(&Message) -> bool) {
        let unfit = self
            .messages
            .iter()
            .rposition(|(_, message)| !fits(message));
        let Some(place) = unfit else {
            return;
        };
        self.messages.drain(..=place);
        self.first_seq = self.last_seq + 1 - self.messages.len() as u64;
    }
}

/// What a node that joins finds.
pub enum Found {
    /// The engine's log.
    Log(Log),
    /// The engine is empty: it has neither a log nor a record.
    Nothing(Snapshot),
    /// The engine has forgotten something, or nodes change it just now.
    Broken(Snapshot),
}

/// What a node has to know of the engine before it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The largest body that other nodes accept.
    pub body_bytes_max: Option<u64>,
    /// How the engine removes keys when its memory is full, if it does.
    pub eviction: Option<String>,
}

/// Reads the newest messages of the log, up to a number.
pub fn read(reader: &mut dyn Reader, messages_max: usize) -> Result<(Found, Facts), Fault> {
    let mut snapshot = reader.snapshot()?;
    let facts = Facts {
        body_bytes_max: snapshot.body_bytes_max,
        eviction: snapshot.eviction.take(),
    };
    let (Some(lineage), Some(last), true) =
        (&snapshot.lineage, snapshot.last, snapshot.is_unbroken())
    else {
        let is_empty = snapshot.lineage.is_none() && snapshot.last.is_none();
        let found = if is_empty {
            Found::Nothing(snapshot)
        } else {
            Found::Broken(snapshot)
        };
        return Ok((found, facts));
    };
    if last.epoch != lineage.epoch() {
        return Ok((Found::Broken(snapshot), facts));
    }
    let messages = read_messages(reader, lineage, messages_max)?;
    // Messages may have been appended since the snapshot.
    let newest = messages.last().map_or(last, |(id, _)| (*id).max(last));
    if newest.epoch != last.epoch {
        return Ok((Found::Broken(snapshot), facts));
    }
    let is_whole = messages.last().is_some_and(|(id, _)| id.seq == newest.seq);
    let messages = if is_whole { messages } else { Vec::new() };
    let log = Log {
        lineage: Arc::new(lineage.clone()),
        first_seq: messages.first().map_or(newest.seq + 1, |(id, _)| id.seq),
        last_seq: newest.seq,
        messages,
    };
    Ok((Found::Log(log), facts))
}

/// The newest messages without a hole, oldest first. Entries that another history has replaced may stand
/// between them, after a fail-over to an engine that had more of an earlier epoch than was carried over.
fn read_messages(
    reader: &mut dyn Reader,
    lineage: &Lineage,
    messages_max: usize,
) -> Result<Vec<Placed>, Fault> {
    let mut messages: Vec<Placed> = Vec::new();
    let (mut before, mut bytes) = (None, 0);
    loop {
        let page = reader.read_back(before, BUS_READ_ENTRIES_MAX)?;
        let Some(oldest) = page.last() else {
            break;
        };
        before = Some(oldest.id);
        for entry in page {
            let is_enough = messages.len() >= messages_max
                || (bytes > BUS_HISTORY_BYTES_MAX && messages.len() >= HISTORY_MESSAGES);
            let message = match entry.content {
                Content::Message(message) if !is_enough => message,
                Content::Begin(_) if !is_enough => continue,
                _ => return Ok(in_order(messages)),
            };
            let next = messages.last().map(|(id, _)| id.seq);
            let carried = lineage.carried(entry.id.epoch);
            let is_replaced = carried.is_some_and(|last| entry.id.seq > last)
                || next.is_some_and(|next| entry.id.seq >= next);
            if is_replaced {
                continue;
            }
            if next.is_some_and(|next| entry.id.seq + 1 != next) {
                return Ok(in_order(messages));
            }
            bytes += message.text_bytes();
            messages.push((entry.id, message));
        }
    }
    Ok(in_order(messages))
}

fn in_order(mut newest_first: Vec<Placed>) -> Vec<Placed> {
    newest_first.reverse();
    newest_first
}

/// What came of the beginning of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// An epoch has begun, with so many messages put back.
    Now(usize),
    /// Another node was first, or nothing was to be done.
    Already,
    /// This node has to read what the engine still has first.
    Behind,
}

/// Begins an epoch with what this node holds and the engine lacks. The caller keeps the course locked.
pub fn begin(
    writer: &mut dyn Writer,
    course: &Course,
    body_bytes_max: u64,
    random: u64,
) -> Result<Begun, Fault> {
    let seen = writer.snapshot()?;
    if seen.is_unbroken() {
        return Ok(Begun::Already);
    }
    let is_later = |epoch: Epoch| epoch.0 > course.lineage.epoch().0;
    let recorded = seen.lineage.as_ref().map(Lineage::epoch);
    if recorded.is_some_and(is_later) || seen.last.is_some_and(|last| is_later(last.epoch)) {
        return Ok(Begun::Behind);
    }
    let survived = match seen.last {
        None => 0,
        // Of an earlier epoch, only what was carried over counts.
        Some(last) => last
            .seq
            .min(course.lineage.carried(last.epoch).unwrap_or(0)),
    };
    if survived > course.position.seq {
        return Ok(Begun::Behind);
    }
    let put_back = course.recent.after(survived);
    let epoch = next_epoch(&seen, course.lineage.epoch(), random);
    let lineage = course.lineage.next(epoch, course.position.seq);
    begin_as(writer, &seen, &lineage, &put_back, body_bytes_max)
}

/// Begins an epoch with what the engine still has, and with what the ring of this node has beyond that. For a
/// node that has not joined, when no other begins one.
pub fn begin_unjoined(
    writer: &mut dyn Writer,
    course: &Course,
    body_bytes_max: u64,
    random: u64,
) -> Result<Begun, Fault> {
    let seen = writer.snapshot()?;
    if seen.is_unbroken() {
        return Ok(Begun::Already);
    }
    let last_epoch = seen.last.map_or(Epoch(0), |last| last.epoch);
    let knows = |lineage: &Lineage, epoch: Epoch| lineage.carried(epoch).is_some();
    let knows_last = |lineage: &&Lineage| seen.last.is_none() || knows(lineage, last_epoch);
    let recorded = seen.lineage.as_ref();
    // The engine may be back in a time before the ring's epoch.
    let is_later = |own: &&Lineage| recorded.is_none_or(|lineage| knows(own, lineage.epoch()));
    let own = Some(&*course.lineage).filter(is_later).filter(knows_last);
    let chosen = own.or(recorded.filter(knows_last));
    let before = chosen.cloned().unwrap_or(Lineage::new(last_epoch));
    // Of an earlier epoch, only what was carried over counts.
    let carried = |last: EventId| last.seq.min(before.carried(last.epoch).unwrap_or(last.seq));
    let survived = seen.last.map_or(0, carried);
    // The ring of another history is put aside when this node joins.
    let put_back = if before.contains(course.position) {
        course.recent.after(survived)
    } else {
        Vec::new()
    };
    let newest = put_back.last().map_or(0, |(seq, _)| *seq);
    let last_seq = match survived.max(newest) {
        0 => before.begun_after(),
        last_seq => last_seq,
    };
    // The epoch of a ring from before the bus is any number.
    let is_of_bus = recorded.is_some() || course.is_shared;
    let used = if is_of_bus { before.epoch() } else { Epoch(0) };
    let epoch = next_epoch(&seen, used, random);
    let lineage = before.next(epoch, last_seq);
    begin_as(writer, &seen, &lineage, &put_back, body_bytes_max)
}

/// Begins an epoch of this lineage, if the engine is still as it was seen.
fn begin_as(
    writer: &mut dyn Writer,
    seen: &Snapshot,
    lineage: &Lineage,
    put_back: &[(u64, Arc<Message>)],
    body_bytes_max: u64,
) -> Result<Begun, Fault> {
    let is_begun = writer.begin(&Begin {
        seen,
        lineage,
        put_back,
        body_bytes_max,
    })?;
    Ok(if is_begun {
        Begun::Now(put_back.len())
    } else {
        Begun::Already
    })
}

/// Begins the first epoch of an engine with the messages of this node's ring, oldest first, which end at
/// `last_seq`. `is_shared` says whether the ring's epoch is one of a bus.
pub fn seed(
    writer: &mut dyn Writer,
    seen: &Snapshot,
    own: Seed<'_>,
    body_bytes_max: u64,
    random: u64,
) -> Result<bool, Fault> {
    let own_epoch = own.lineage.epoch();
    let known = if own.is_shared { own_epoch } else { Epoch(0) };
    let epoch = next_epoch(seen, known, random);
    writer.begin(&Begin {
        seen,
        lineage: &own.lineage.next(epoch, own.last_seq),
        put_back: own.messages,
        body_bytes_max,
    })
}

/// The ring of the node that fills an engine for the first time.
#[derive(Clone, Copy)]
pub struct Seed<'a> {
    /// The ring's epoch, and the earlier ones.
    pub lineage: &'a Lineage,
    /// The ring's epoch is one of a bus.
    pub is_shared: bool,
    /// The seq of its last message.
    pub last_seq: u64,
    /// Its messages with their seqs, oldest first.
    pub messages: &'a [(u64, Arc<Message>)],
}

/// An epoch that was never used: it is greater than every known one, and has the engine's time and random
/// bits, in case all others have been forgotten.
fn next_epoch(seen: &Snapshot, own: Epoch, random: u64) -> Epoch {
    let recorded = seen.lineage.as_ref().map_or(0, |lineage| lineage.epoch().0);
    let last = seen.last.map_or(0, |last| last.epoch.0);
    let known = recorded.max(last).max(own.0);
    let random = random & ((1 << EPOCH_RANDOM_BITS) - 1);
    let timed = (seen.unix_ms << EPOCH_RANDOM_BITS) | random;
    Epoch(timed.max(known.saturating_add(1 + random)))
}
