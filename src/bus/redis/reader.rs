//! The half that reads, for Redis and Valkey.
//!
//! Made by [`halves`](super::halves), owned by the follower. Keeps the place up to which it has read the probes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Engine;
use super::cursor::Cursor;
use super::entries::{entries, probe, range, streams};
use super::fault::unexpected;

use super::scripts::{Scripts, entry_id};
use super::tls::BusTlsError;
use super::wire::Command;
use super::writer::take_snapshot;
use crate::bus::engine::{Entry, Fault, News, Reader, Snapshot};
use crate::config::BusConfig;
use crate::limits::{
    BUS_ANSWER_OVERHEAD_BYTES, BUS_READ_BYTES_MAX, BUS_READ_ENTRIES_MAX, BUS_READ_GRACE_MS,
    KV_ENTRY_BYTES_MAX,
};
use crate::message::Epoch;
use crate::sse::event_id::EventId;

/// Bytes of an entry beside its text: id, time, session and lengths.
const ENTRY_OVERHEAD_BYTES: usize = 1024;

/// The id before all others.
const START: EventId = EventId {
    epoch: Epoch(0),
    seq: 0,
};

/// The reader of one node.
pub(super) struct RedisReader {
    engine: Engine,
    scripts: Arc<Scripts>,
    timeout: Duration,
    /// Entries of one call.
    entries_max: usize,
    bytes_max: usize,
    /// The last probe that was read, and the epoch in which that was. `None`: the next read begins at the end.
    probed: Option<(EventId, Epoch)>,
}

impl RedisReader {
    pub(super) fn new(
        config: &BusConfig,
        scripts: Arc<Scripts>,
    ) -> Result<RedisReader, BusTlsError> {
        let entries_max =
            (BUS_READ_BYTES_MAX / config.body_bytes_max.max(1)).clamp(1, BUS_READ_ENTRIES_MAX);
        // Messages from KV may be longer than a body.
        let entry_bytes_max = config.body_bytes_max.max(KV_ENTRY_BYTES_MAX) + ENTRY_OVERHEAD_BYTES;
        Ok(RedisReader {
            engine: Engine::new(config)?,
            scripts,
            timeout: config.timeout,
            entries_max,
            bytes_max: entries_max * entry_bytes_max + BUS_ANSWER_OVERHEAD_BYTES,
            probed: None,
        })
    }

    /// The place of the last probe for a read in this epoch. At first it is the end. A new epoch may have smaller
    /// ids than one that was lost.
    fn probed(&mut self, epoch: Epoch) -> Result<EventId, Fault> {
        match self.probed {
            Some((at, read_in)) if read_in == epoch => Ok(at),
            earlier => {
                let end = self.last_probe()?.unwrap_or(START);
                let at = match earlier {
                    Some((at, _)) if is_before(at, end) => at,
                    _ => end,
                };
                self.probed = Some((at, epoch));
                Ok(at)
            }
        }
    }

    fn last_probe(&mut self) -> Result<Option<EventId>, Fault> {
        let mut command = Command::new("XREVRANGE");
        command
            .arg(&self.engine.keys.probes)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .number(1);
        let deadline = Instant::now() + self.timeout;
        let last = |answer: &[u8]| {
            let mut cursor = Cursor::new(answer);
            match cursor.array() {
                Some(0) => Ok(None),
                Some(_) => probe(&mut cursor).map(|(id, _)| Some(id)),
                None => Err(unexpected("the last probe")),
            }
        };
        self.engine
            .ask_for(&command, deadline, BUS_ANSWER_OVERHEAD_BYTES, last)
    }

    fn read_command(&self, after: EventId, probed: EventId, wait: Duration) -> Command {
        let mut command = Command::new("XREAD");
        command.arg("COUNT").number(self.entries_max as u64);
        // Zero would mean for ever.
        command.arg("BLOCK").number(wait.as_millis().max(1) as u64);
        command
            .arg("STREAMS")
            .arg(&self.engine.keys.log)
            .arg(&self.engine.keys.probes)
            .arg(entry_id(after))
            .arg(entry_id(probed));
        command
    }
}

impl Reader for RedisReader {
    fn snapshot(&mut self) -> Result<Snapshot, Fault> {
        let deadline = Instant::now() + self.timeout;
        take_snapshot(&mut self.engine, &self.scripts, deadline)
    }

    fn read(&mut self, after: EventId, wait: Duration) -> Result<News, Fault> {
        let probed = self.probed(after.epoch)?;
        let command = self.read_command(after, probed, wait);
        let deadline = Instant::now() + wait + Duration::from_millis(BUS_READ_GRACE_MS);
        let log = self.engine.keys.log.clone();
        let mut probed = None;
        let mut news = News::default();
        let read = |answer: &[u8]| {
            streams(answer, |key, count, cursor| {
                if key == log.as_bytes() {
                    news.entries = entries(count, cursor)?;
                    return Ok(());
                }
                for _ in 0..count {
                    let (at, probe) = probe(cursor)?;
                    probed = Some((at, after.epoch));
                    news.probes.extend(probe);
                }
                Ok(())
            })
        };
        self.engine
            .ask_for(&command, deadline, self.bytes_max, read)?;
        self.probed = probed.or(self.probed);
        Ok(news)
    }

    fn read_back(
        &mut self,
        before: Option<EventId>,
        entries_max: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let mut before = before;
        let mut found: Vec<Entry> = Vec::new();
        while found.len() < entries_max {
            let count = self.entries_max.min(entries_max - found.len());
            let mut command = Command::new("XREVRANGE");
            command.arg(&self.engine.keys.log);
            match before {
                Some(id) => command.arg(format!("({}", entry_id(id))),
                None => command.arg("+"),
            };
            command.arg("-").arg("COUNT").number(count as u64);
            let deadline = Instant::now() + self.timeout;
            let some = self
                .engine
                .ask_for(&command, deadline, self.bytes_max, range)?;
            let is_end = some.len() < count;
            before = some.last().map(|entry| entry.id).or(before);
            found.extend(some);
            if is_end || before == Some(START) {
                break;
            }
        }
        Ok(found)
    }

    fn reconnect(&mut self) {
        self.engine.disconnect();
    }
}

fn is_before(a: EventId, b: EventId) -> bool {
    (a.epoch.0, a.seq) <= (b.epoch.0, b.seq)
}
