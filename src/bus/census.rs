//! Presence on a bus: writes this node's counts to the engine, and reads the sums of the other nodes.
//!
//! Owned by the thread `presence` (`server`), which calls [`Census::beat`] at an interval and [`Census::others`] for
//! questions. A node has a table of counts in the engine. A beat writes what has changed, and is the node's sign of
//! life: without it the engine drops the table. If the engine lacks a part of the table, or may do so, the node
//! writes a new one, which takes the place of the old one when it is whole. Never repeats a call, never names a
//! session: the engine gets fingerprints.

use std::sync::Arc;

use super::engine::{CensusStep, CensusTable, CensusWrite, Fault, Producer};
use super::stats::BusStats;
use crate::limits::PRESENCE_CALL_SESSIONS_MAX;
use crate::message::{Fingerprint, SessionId, fingerprint};
use crate::shard::census::Changes;

/// The shards of this node, as the census needs them. `None` means that one has not answered in time.
pub trait Shards {
    /// The changes since the last call. After `None`, some may be lost.
    fn take_changes(&mut self) -> Option<Changes>;

    /// Some of the sessions that have streams, and the place of the next ones. A session may be in several parts.
    fn sessions(&mut self, from: Place) -> Option<(Vec<SessionId>, Option<Place>)>;

    /// The number of streams of each session, over all shards.
    fn count(&mut self, sessions: &Arc<[SessionId]>) -> Option<Vec<u64>>;
}

/// A place among the sessions of all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The number of the shard.
    pub shard: usize,
    /// The place in its table of sessions.
    pub slot: usize,
}

/// See the module's description.
pub struct Census {
    engine: Box<dyn CensusTable>,
    node: Producer,
    stats: Arc<BusStats>,
    /// The number of the node's table, which is written or is in the engine.
    table: u64,
    /// The number of the last write to it.
    written: u64,
    /// The engine has the table, as far as is known.
    is_whole: bool,
    /// The last call has failed.
    is_away: bool,
}

/// Why a beat has not written everything.
enum Stop {
    /// The engine.
    Fault(Fault),
    /// The engine lacks earlier writes.
    Lacking,
    /// A shard has not answered.
    Shards,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl Census {
    /// The census of a node that has written nothing yet.
    pub fn new(engine: Box<dyn CensusTable>, node: Producer, stats: Arc<BusStats>) -> Census {
        Census {
            engine,
            node,
            stats,
            table: 0,
            written: 0,
            is_whole: false,
            is_away: false,
        }
    }

    /// Writes what has changed since the last beat, or the whole table.
    pub fn beat(&mut self, shards: &mut dyn Shards) {
        match self.write_all(shards) {
            Ok(()) => {
                self.is_away = false;
                self.stats.note_presence_works();
            }
            Err(Stop::Fault(fault)) => self.note_fault(&fault),
            // The next beat writes the whole table.
            Err(Stop::Lacking | Stop::Shards) => {}
        }
    }

    /// The number of streams of each session on all other nodes; `None` if it is not known.
    pub fn others(&mut self, sessions: &[SessionId]) -> Option<Vec<u64>> {
        if self.is_away || !self.is_whole {
            return None;
        }
        let marks: Vec<Fingerprint> = sessions.iter().map(mark).collect();
        match self.engine.read(self.node, &marks) {
            Ok(sums) => sums,
            Err(fault) => {
                self.note_fault(&fault);
                None
            }
        }
    }

    /// Removes the node's table. Without this the engine drops it a little later.
    pub fn end(mut self) {
        let _ = self.engine.end(self.node, self.table);
    }

    fn write_all(&mut self, shards: &mut dyn Shards) -> Result<(), Stop> {
        // What is not written now is part of a whole table.
        let was_whole = std::mem::take(&mut self.is_whole);
        let changes = shards.take_changes().ok_or(Stop::Shards)?;
        if was_whole && !changes.is_overflown {
            match self.write_changes(changes, shards) {
                Err(Stop::Lacking) => {}
                other => return other,
            }
        }
        self.write_table(shards)
    }

    fn write_changes(&mut self, changes: Changes, shards: &mut dyn Shards) -> Result<(), Stop> {
        let sessions: Vec<SessionId> = changes.sessions.into_iter().collect();
        let mut parts = sessions.chunks(PRESENCE_CALL_SESSIONS_MAX);
        // The first part may be empty: then it is only a sign of life.
        self.write_part(CensusStep::Change, parts.next().unwrap_or(&[]), shards)?;
        for part in parts {
            self.write_part(CensusStep::Change, part, shards)?;
        }
        self.is_whole = true;
        Ok(())
    }

    fn write_table(&mut self, shards: &mut dyn Shards) -> Result<(), Stop> {
        self.table += 1;
        self.written = 0;
        let mut place = Some(Place::default());
        while let Some(from) = place {
            let (sessions, next) = shards.sessions(from).ok_or(Stop::Shards)?;
            for part in sessions.chunks(PRESENCE_CALL_SESSIONS_MAX) {
                self.write_part(CensusStep::Build, part, shards)?;
            }
            place = next;
        }
        self.write_part(CensusStep::Publish, &[], shards)?;
        self.is_whole = true;
        Ok(())
    }

    /// Counts some sessions and writes the result.
    fn write_part(
        &mut self,
        step: CensusStep,
        sessions: &[SessionId],
        shards: &mut dyn Shards,
    ) -> Result<(), Stop> {
        let mut counts = Vec::new();
        if !sessions.is_empty() {
            let sessions: Arc<[SessionId]> = sessions.into();
            let streams = shards.count(&sessions).ok_or(Stop::Shards)?;
            counts = sessions.iter().map(mark).zip(streams).collect();
        }
        self.written += 1;
        let write = CensusWrite {
            node: self.node,
            table: self.table,
            number: self.written,
            step,
            counts: &counts,
        };
        if self.engine.write(&write)? {
            Ok(())
        } else {
            Err(Stop::Lacking)
        }
    }

    fn note_fault(&mut self, fault: &Fault) {
        self.is_away = true;
        self.stats.note_presence_fault(fault);
    }
}

/// What the engine has instead of a session's name: the size is the same for all, and the name stays here.
fn mark(session: &SessionId) -> Fingerprint {
    fingerprint(&[session.as_str().as_bytes()])
}

#[cfg(test)]
mod tests;
