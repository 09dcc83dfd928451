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
use crate::limits::{HISTORY_MESSAGES, MESSAGE_EXTRA_BYTES_MAX};
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
    /// The engine was not reached, or its history not read, in time.
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

/// Why a node has not taken its place in the log yet.
#[derive(Debug)]
pub enum Obstacle {
    /// A fault of the engine.
    Fault(Fault),
    /// The engine has forgotten something: other nodes begin an epoch.
    Broken,
    /// The history is being read, so many messages so far. Reported before each call.
    Reading(usize),
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

/// Takes a node's place in the log. `retry` decides what follows each obstacle; it may wait. The engine may break off in
/// the middle of the history: the read then begins anew.
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
        let goes_on = &mut |messages| retry(Obstacle::Reading(messages)) != Retry::Alone;
        let obstacle = match log::read(reader, settings.messages_max, goes_on) {
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
            Ok((Found::Unfinished, _)) => return Ok(alone(ring, &own, settings)),
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
    let bytes_max = settings.body_bytes_max as usize + MESSAGE_EXTRA_BYTES_MAX;
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
    course.join();
    Ok(Start {
        course,
        messages: shown,
        ring: fate,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::engine::{Begin, Producer};
    use crate::message::{Epoch, MessageId};
    use crate::testkit::{Link, LinkFault, MemoryEngine, now_at, ring_in_memory};

    const MESSAGES: u64 = 1_000;

    /// An engine whose history takes several calls.
    fn engine() -> MemoryEngine {
        let message = |seq: u64| Message {
            id: MessageId::from_u128(seq.into()),
            timestamp_ms: seq,
            session: None,
            content: "x".into(),
            label: None,
            identity: None,
        };
        let engine = MemoryEngine::default();
        let mut writer = engine.writer(Link::default());
        let put_back: Vec<_> = (1..=MESSAGES)
            .map(|seq| (seq, Arc::new(message(seq))))
            .collect();
        let begun = writer.snapshot().and_then(|seen| {
            writer.begin(&Begin {
                seen: &seen,
                lineage: &Lineage::new(Epoch(1)).next(Epoch(2), MESSAGES),
                put_back: &put_back,
                body_bytes_max: 1_000,
            })
        });
        assert_eq!(begun, Ok(true));
        engine
    }

    fn start(link: &Link, retry: &mut dyn FnMut(Obstacle) -> Retry) -> Start {
        let engine = engine();
        let (mut ring, _) = ring_in_memory(1_000);
        let settings = FollowerSettings {
            messages_max: 10_000,
            body_bytes_max: 1_000,
            log_bytes: 1_000_000,
        };
        let started = join(
            &mut ring,
            Vec::new(),
            &mut *engine.writer(Link::default()),
            &mut *engine.reader(link.clone()),
            settings,
            &BusStats::new(Producer(1), now_at(1)),
            retry,
        );
        started.unwrap_or_else(|error| panic!("{error:?}"))
    }

    #[test]
    fn a_start_ends_in_the_middle_of_a_long_history_if_it_takes_too_long() {
        let mut reported = Vec::new();
        let started = start(&Link::default(), &mut |obstacle| {
            let Obstacle::Reading(messages) = obstacle else {
                panic!("{obstacle:?}");
            };
            reported.push(messages);
            match messages {
                0..512 => Retry::Again,
                _ => Retry::Alone,
            }
        });
        assert_eq!(started.ring, RingFate::Alone);
        assert!(!started.course.is_joined && started.messages.is_empty());
        assert_eq!(reported, [0, 256, 512]);
    }

    #[test]
    fn an_engine_that_breaks_off_in_the_middle_is_read_anew() {
        let (link, mut faults, mut reported) = (Link::default(), 0, Vec::new());
        let started = start(&link, &mut |obstacle| {
            match obstacle {
                Obstacle::Reading(messages) => {
                    if messages == 512 && faults == 0 {
                        link.fail(LinkFault::Refused);
                    }
                    reported.push(messages);
                }
                Obstacle::Fault(_) => faults += 1,
                other => panic!("{other:?}"),
            }
            Retry::Again
        });
        assert_eq!(started.ring, RingFate::Continued);
        assert!(started.course.is_joined);
        assert_eq!(started.course.position.seq, MESSAGES);
        assert_eq!(started.messages.len() as u64, MESSAGES);
        assert_eq!(faults, 1);
        assert_eq!(reported[..4], [0, 256, 512, 0]);
    }
}
