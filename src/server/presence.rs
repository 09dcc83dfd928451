//! The thread `presence`: shares the counts of this node's streams with the other nodes of a bus, and answers questions
//! with theirs.
//!
//! Started by `server` with a bus. The shards send it each question, to which it adds the streams of the other nodes.
//! It asks the shards for their changes by commands. It has a connection to the engine of its own, so that nothing of
//! this delays a message. Never touches a connection of a client.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::bus::census::{Census, Place, Shards};
use crate::bus::redis;
use crate::bus::run::Bus;
use crate::config::BusConfig;
use crate::limits::{
    PRESENCE_BEAT_MS, PRESENCE_CALL_QUESTIONS_MAX, PRESENCE_QUESTIONS_MAX, PRESENCE_SHARDS_MS_MAX,
};
use crate::message::SessionId;
use crate::net::handle::{Asked, Given, ShardHandle};
use crate::shard::census::{CensusTask, Changes};

/// The thread, as the rest of the server sees it.
pub(super) struct PresenceThread {
    /// For the reactors. The thread ends when all of them have ended.
    pub questions: Sender<Asked>,
    /// Disconnected when the thread has ended.
    pub ended: Receiver<()>,
}

/// Starts the thread.
pub(super) fn start(
    config: &BusConfig,
    bus: &Arc<Bus>,
    shards: &[ShardHandle],
) -> io::Result<PresenceThread> {
    let engine = redis::census(config).map_err(io::Error::other)?;
    let census = Census::new(engine, bus.producer, Arc::clone(&bus.stats));
    let (questions, asked) = bounded(shards.len() * PRESENCE_QUESTIONS_MAX);
    let (end, ended) = bounded(0);
    let node = NodeShards::new(shards.to_vec());
    let bus = Arc::clone(bus);
    thread::Builder::new()
        .name("presence".into())
        .spawn(move || {
            run(census, node, &asked, &bus);
            drop(end);
        })?;
    Ok(PresenceThread { questions, ended })
}

fn run(mut census: Census, mut shards: NodeShards, asked: &Receiver<Asked>, bus: &Bus) {
    let beat = Duration::from_millis(PRESENCE_BEAT_MS);
    let mut next_beat = Instant::now();
    loop {
        match asked.recv_deadline(next_beat) {
            Ok(first) => {
                let others = asked.try_iter().take(PRESENCE_CALL_QUESTIONS_MAX - 1);
                let batch: Vec<Asked> = std::iter::once(first).chain(others).collect();
                answer(&mut census, &shards.handles, batch);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return census.end(),
        }
        if Instant::now() >= next_beat {
            // Before the node has joined, its log says why the bus does not work.
            if bus.stats.has_joined() {
                census.beat(&mut shards);
            }
            next_beat = Instant::now() + beat;
        }
    }
}

fn answer(census: &mut Census, shards: &[ShardHandle], batch: Vec<Asked>) {
    let sessions: Vec<SessionId> = batch
        .iter()
        .map(|(question, _)| question.session().clone())
        .collect();
    let sums = census.others(&sessions);
    for (nth, (question, asker)) in batch.into_iter().enumerate() {
        let is_last = match &sums {
            Some(sums) => question.add(sums[nth]),
            None => question.give_up(),
        };
        if is_last {
            shards[asker].counted(question);
        }
    }
}

/// The shards of this node.
struct NodeShards {
    handles: Vec<ShardHandle>,
    /// Which of them have ended. What they had counted is no longer there.
    ended: Vec<bool>,
}

/// The answer of one shard.
enum Answer<T> {
    Given(T),
    /// It has ended, so it has no streams.
    Ended,
}

impl NodeShards {
    fn new(handles: Vec<ShardHandle>) -> NodeShards {
        NodeShards {
            ended: vec![false; handles.len()],
            handles,
        }
    }

    /// Gives these shards a task, and waits for the answer of each; `None` if one does not answer in time.
    fn ask<T>(
        &self,
        shards: impl Iterator<Item = usize>,
        task: impl Fn(Sender<T>) -> CensusTask,
    ) -> Option<Vec<Answer<T>>> {
        let mut waits = Vec::new();
        for shard in shards {
            let (answer, wait) = bounded(1);
            match self.handles[shard].census(task(answer)) {
                Given::Taken | Given::Ended => waits.push(wait),
                Given::Full => return None,
            }
        }
        let deadline = Instant::now() + Duration::from_millis(PRESENCE_SHARDS_MS_MAX);
        let answers = waits.iter().map(|wait| match wait.recv_deadline(deadline) {
            Ok(answer) => Some(Answer::Given(answer)),
            Err(RecvTimeoutError::Disconnected) => Some(Answer::Ended),
            Err(RecvTimeoutError::Timeout) => None,
        });
        answers.collect()
    }
}

impl Shards for NodeShards {
    fn take_changes(&mut self) -> Option<Changes> {
        let answers = self.ask(0..self.handles.len(), CensusTask::Changes)?;
        let mut changes = Changes::default();
        for (answer, has_ended) in answers.into_iter().zip(&mut self.ended) {
            match answer {
                Answer::Given(own) => changes.add(own),
                Answer::Ended => changes.is_overflown |= !std::mem::replace(has_ended, true),
            }
        }
        Some(changes)
    }

    fn sessions(&mut self, from: Place) -> Option<(Vec<SessionId>, Option<Place>)> {
        let task = |answer| CensusTask::Sessions(from.slot, answer);
        let answer = self.ask(std::iter::once(from.shard), task)?.pop()?;
        let next_shard = Place {
            shard: from.shard + 1,
            slot: 0,
        };
        let next_shard = (next_shard.shard < self.handles.len()).then_some(next_shard);
        Some(match answer {
            Answer::Given(page) => {
                let next = page.next.map(|slot| Place { slot, ..from });
                (page.sessions, next.or(next_shard))
            }
            Answer::Ended => (Vec::new(), next_shard),
        })
    }

    fn count(&mut self, sessions: &Arc<[SessionId]>) -> Option<Vec<u64>> {
        let task = |answer| CensusTask::Counts(Arc::clone(sessions), answer);
        let answers = self.ask(0..self.handles.len(), task)?;
        let mut sums = vec![0; sessions.len()];
        for answer in answers {
            if let Answer::Given(counts) = answer {
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
        }
        Some(sums)
    }
}
