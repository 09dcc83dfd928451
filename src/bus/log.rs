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
    /// The caller has ended the read.
    Unfinished,
}

/// What a node has to know of the engine before it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The largest body that other nodes accept.
    pub body_bytes_max: Option<u64>,
    /// How the engine removes keys when its memory is full, if it does.
    pub eviction: Option<String>,
}

/// Reads the newest messages of the log, up to a number. That takes several calls. Before each of them `goes_on` gets
/// the number of messages so far, and ends the read if it returns false.
pub fn read(
    reader: &mut dyn Reader,
    messages_max: usize,
    goes_on: &mut dyn FnMut(usize) -> bool,
) -> Result<(Found, Facts), Fault> {
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
    let Some(messages) = read_messages(reader, lineage, messages_max, goes_on)? else {
        return Ok((Found::Unfinished, facts));
    };
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
/// between them, after a fail-over to an engine that had more of an earlier epoch than was carried over. `None` if
/// the caller has ended the read.
fn read_messages(
    reader: &mut dyn Reader,
    lineage: &Lineage,
    messages_max: usize,
    goes_on: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Vec<Placed>>, Fault> {
    let mut messages: Vec<Placed> = Vec::new();
    let (mut before, mut bytes) = (None, 0);
    loop {
        if !goes_on(messages.len()) {
            return Ok(None);
        }
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
                _ => return Ok(Some(in_order(messages))),
            };
            let next = messages.last().map(|(id, _)| id.seq);
            let carried = lineage.carried(entry.id.epoch);
            let is_replaced = carried.is_some_and(|last| entry.id.seq > last)
                || next.is_some_and(|next| entry.id.seq >= next);
            if is_replaced {
                continue;
            }
            if next.is_some_and(|next| entry.id.seq + 1 != next) {
                return Ok(Some(in_order(messages)));
            }
            bytes += message.text_bytes();
            messages.push((entry.id, message));
        }
    }
    Ok(Some(in_order(messages)))
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

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM_MAX: u64 = (1 << EPOCH_RANDOM_BITS) - 1;

    /// An engine whose clock shows this time, with a record of this epoch.
    fn seen(unix_ms: u64, recorded: Option<u64>) -> Snapshot {
        Snapshot {
            lineage: recorded.map(|epoch| Lineage::new(Epoch(epoch))),
            unix_ms,
            ..Snapshot::default()
        }
    }

    /// Two nodes that have forgotten each other's epochs must not choose the same one.
    #[test]
    fn an_epoch_has_random_bits_whatever_the_clock_of_the_engine_says() {
        let clock_ms = 1_000_000;
        let at_clock = clock_ms << EPOCH_RANDOM_BITS;
        for known in [
            0,
            7,
            at_clock - 1,
            at_clock,
            at_clock + RANDOM_MAX,
            at_clock << 3,
        ] {
            for (own, recorded) in [(known, None), (0, Some(known))] {
                let seen = seen(clock_ms, recorded);
                let epoch = |random| next_epoch(&seen, Epoch(own), random).0;
                let epochs: Vec<u64> = [3, 5, RANDOM_MAX].map(epoch).to_vec();
                assert!(
                    epochs.is_sorted() && epochs[0] > known,
                    "{known}: {epochs:?}"
                );
                assert!(epochs[0] != known + 1, "{known}: {epochs:?}");
                if known >= at_clock + RANDOM_MAX {
                    let above: Vec<u64> = epochs.iter().map(|epoch| epoch - known).collect();
                    assert_eq!(above, [4, 6, RANDOM_MAX + 1]);
                } else if known < at_clock {
                    assert_eq!(epochs[1] - epochs[0], 2);
                }
                // Bits beyond the random ones are not taken.
                assert_eq!(epoch(u64::MAX), epochs[2]);
            }
        }
    }

    #[test]
    fn messages_up_to_the_last_one_that_does_not_fit_are_dropped() {
        let log = |contents: &[&str]| {
            let message = |(seq, content): (u64, &&str)| {
                let message = Message {
                    id: crate::message::MessageId::from_u128(seq.into()),
                    timestamp_ms: 1,
                    session: None,
                    content: (*content).into(),
                    label: None,
                    identity: None,
                };
                let epoch = Epoch(1);
                (EventId { epoch, seq }, Arc::new(message))
            };
            Log {
                lineage: Arc::new(Lineage::new(Epoch(1))),
                first_seq: 5,
                last_seq: 4 + contents.len() as u64,
                messages: (5..).zip(contents).map(message).collect(),
            }
        };
        let left = |contents: &[&str]| {
            let mut log = log(contents);
            log.drop_unfit(|message| message.content.len() < 3);
            let first = log.messages.first().map(|(id, _)| id.seq);
            assert_eq!(log.last_seq, 4 + contents.len() as u64);
            (log.first_seq, first)
        };
        assert_eq!(left(&["a", "b"]), (5, Some(5)));
        assert_eq!(left(&["a", "too large", "b", "large", "c"]), (9, Some(9)));
        assert_eq!(left(&["a", "too large"]), (7, None));
    }
}
