//! The start of a node: it takes its place in the log before streams are open.
//!
//! Called by `server` with the opened ring, and by simulations. If the engine cannot be reached in time, the
//! node starts with its ring, and the follower joins later.

use std::sync::Arc;

use super::course::Course;
use super::engine::{Fault, Reader, Writer};
use super::follower::{FollowerSettings, newest_within};
use super::log::{self, Found, Log, Seed};
use super::recent::Placed;
use super::stats::{BusStats, Event};
use crate::limits::HISTORY_MESSAGES;
use crate::message::Message;
use crate::ring::{Aside, Ring, RingError};
use crate::sse::event_id::EventId;
use crate::sse::lineage::Lineage;

/// The first contents of a node.
pub struct Start {
    /// Where the node is in the log.
    pub course: Course,
    /// The newest messages, oldest first, for the live logs. The last ones are those of the ring.
    pub messages: Vec<Arc<Message>>,
    /// What became of the ring that was found.
    pub ring: RingFate,
}

/// What became of the ring that a node found at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingFate {
    /// Its history is that of the bus, as far as it goes.
    Continued,
    /// It was the first on this bus: the bus begins with its history.
    Seeded,
    /// Its history is another one: the file is kept aside.
    KeptAside,
    /// The engine was not reached.
    Alone,
}

/// Why a node does not start.
#[derive(Debug)]
pub enum StartError {
    /// Other nodes accept bodies of so many bytes, this one fewer.
    BodyLimit(u64),
    /// The ring cannot be written.
    Ring(RingError),
}

/// Why the log cannot be read now.
pub enum Obstacle {
    /// A fault of the engine.
    Fault(Fault),
    /// The engine has forgotten something: other nodes begin an epoch.
    Broken,
    /// The engine is empty. Either it is new, or it has forgotten everything, and other nodes have it.
    Empty,
}

/// What follows an obstacle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It is tried again.
    Again,
    /// This node fills the empty engine. Other nodes would have done it by now.
    Seed,
    /// The node starts without the bus.
    Alone,
}

/// Takes a node's place in the log. `retry` decides what follows each obstacle; it may wait.
pub fn join(
    ring: &mut Ring,
    found: Vec<(u64, Message)>,
    writer: &mut dyn Writer,
    reader: &mut dyn Reader,
    settings: FollowerSettings,
    stats: &BusStats,
    retry: &mut dyn FnMut(Obstacle) -> Retry,
) -> Result<Start, StartError> {
    let own: Vec<(u64, Arc<Message>)> = found
        .into_iter()
        .map(|(seq, message)| (seq, Arc::new(message)))
        .collect();
    let mut has_seeded = false;
    loop {
        let obstacle = match log::read(reader, settings.messages_max) {
            Ok((_, facts)) if facts.body_bytes_max > Some(settings.body_bytes_max) => {
                return Err(StartError::BodyLimit(facts.body_bytes_max.unwrap_or(0)));
            }
            Ok((Found::Log(log), facts)) => {
                if let Some(policy) = facts.eviction {
                    stats.note(&Event::Evicts { policy });
                }
                raise_body_limit(writer, facts.body_bytes_max, settings);
                let mut start = take_place(ring, &own, log, settings)?;
                if has_seeded {
                    start.ring = RingFate::Seeded;
                }
                return Ok(start);
            }
            Ok((Found::Nothing(seen), _)) => {
                match retry(Obstacle::Empty) {
                    Retry::Again => continue,
                    Retry::Alone => return Ok(alone(ring, &own, settings)),
                    Retry::Seed => {}
                }
                let own_history = Seed {
                    lineage: &Lineage::of(ring.epoch(), ring.earlier()),
                    is_shared: ring.is_shared(),
                    last_seq: ring.next_seq() - 1,
                    messages: &own,
                };
                let random = fastrand::u64(..);
                match log::seed(writer, &seen, own_history, settings.body_bytes_max, random) {
                    Ok(is_first) => {
                        has_seeded |= is_first;
                        continue;
                    }
                    Err(fault) => Obstacle::Fault(fault),
                }
            }
            Ok((Found::Broken(_), _)) => Obstacle::Broken,
            Err(fault) => Obstacle::Fault(fault),
        };
        if retry(obstacle) == Retry::Alone {
            return Ok(alone(ring, &own, settings));
        }
    }
}

/// Tells later nodes that this one accepts larger bodies than the record says. If that fails, the next node
/// that joins does it.
fn raise_body_limit(writer: &mut dyn Writer, recorded: Option<u64>, settings: FollowerSettings) {
    if recorded < Some(settings.body_bytes_max) {
        let _ = writer.raise_body_bytes_max(settings.body_bytes_max);
    }
}

/// The start without the engine.
fn alone(ring: &Ring, own: &[(u64, Arc<Message>)], settings: FollowerSettings) -> Start {
    let lineage = Arc::new(Lineage::of(ring.epoch(), ring.earlier()));
    let placed = placed(own, &lineage);
    let mut course = Course::new(lineage, ring.next_seq() - 1, placed, settings.messages_max);
    course.is_shared = ring.is_shared();
    Start {
        course,
        messages: own.iter().map(|(_, message)| Arc::clone(message)).collect(),
        ring: RingFate::Alone,
    }
}

fn placed(own: &[(u64, Arc<Message>)], lineage: &Lineage) -> Vec<Placed> {
    let epoch = lineage.epoch();
    let place = |(seq, message): &(u64, Arc<Message>)| {
        let id = EventId { epoch, seq: *seq };
        (id, Arc::clone(message))
    };
    own.iter().map(place).collect()
}

/// Writes the ring anew with the history of the log.
fn take_place(
    ring: &mut Ring,
    own: &[(u64, Arc<Message>)],
    mut log: Log,
    settings: FollowerSettings,
) -> Result<Start, StartError> {
    let last = EventId {
        epoch: ring.epoch(),
        seq: ring.next_seq() - 1,
    };
    let bytes_max = settings.body_bytes_max as usize;
    log.drop_unfit(|message| message.text_bytes() <= bytes_max);
    let is_known = log.lineage.contains(last) && last.seq <= log.last_seq;
    let continues = is_known && log.first_seq <= last.seq + 1;
    let mut messages = log.messages;
    if continues {
        // The log may have been trimmed to less than the ring has.
        let older = placed(own, &log.lineage).into_iter();
        let older = older.filter(|(id, _)| id.seq < log.first_seq);
        messages = older.chain(messages).collect();
    }
    let (aside, fate) = if is_known || own.is_empty() {
        (Aside::Drop, RingFate::Continued)
    } else {
        (Aside::Keep, RingFate::KeptAside)
    };
    let newest = newest_within(&messages, settings.log_bytes);
    let in_ring = &messages[messages.len().saturating_sub(HISTORY_MESSAGES)..];
    let first_seq = log.last_seq + 1 - in_ring.len() as u64;
    let history = in_ring.iter().map(|(_, message)| &**message);
    let kept = ring
        .renew(
            log.lineage.epoch(),
            log.lineage.earlier().to_vec(),
            first_seq,
            history,
            aside,
        )
        .map_err(StartError::Ring)?;
    if let Some(path) = kept {
        let kept = path.display();
        tracing::warn!(%kept, "the ring's history is not that of the bus; its file is kept");
    }
    let shown = newest
        .iter()
        .map(|(_, message)| Arc::clone(message))
        .collect();
    let mut course = Course::new(
        Arc::clone(&log.lineage),
        log.last_seq,
        messages,
        settings.messages_max,
    );
    course.is_joined = true;
    Ok(Start {
        course,
        messages: shown,
        ring: fate,
    })
}
