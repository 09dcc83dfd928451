//! The queues to the threads that judge requests to sources, one for each lane.
//!
//! The reactors add requests, `control` adds sources that were read again, and the threads (`server`) take
//! both. Never judges.

use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::limits::{JUDGING_LANES, JUDGING_REQUESTS_MAX};
use crate::metrics::SourceStats;
use crate::net::handle::ShardHandle;
use crate::shard::judging::{Lane, SourceRequest};
use crate::sources::{Source, Sources};

/// A task of a thread that judges.
pub enum JudgeTask {
    /// Judge this request, and send the verdict to this shard.
    Judge(SourceRequest, ShardHandle),
    /// Judge later requests by these sources.
    Replace(Arc<Sources>),
}

/// Replacements of the sources in a queue.
const REPLACEMENTS_MAX: usize = 4;

/// The end of the queues for the reactors and for `control`.
#[derive(Clone)]
pub struct JudgeQueue {
    /// By the number of the lane.
    lanes: [Sender<JudgeTask>; JUDGING_LANES],
    stats: Arc<SourceStats>,
}

impl JudgeQueue {
    /// Queues with room for all that so many shards add, and their other ends.
    pub fn new(
        shards: usize,
        stats: Arc<SourceStats>,
    ) -> (JudgeQueue, [Receiver<JudgeTask>; JUDGING_LANES]) {
        let queues = Lane::ALL.map(|_| bounded(shards * JUDGING_REQUESTS_MAX + REPLACEMENTS_MAX));
        let [(small, of_small), (large, of_large)] = queues;
        let lanes = [small, large];
        (JudgeQueue { lanes, stats }, [of_small, of_large])
    }

    /// Adds a request. False if there is no room, or the thread has ended.
    pub(super) fn judge(&self, request: SourceRequest, shard: &ShardHandle) -> bool {
        // Counted first: the thread may have judged it when the send returns.
        self.stats.note_queued();
        let lane = Lane::of(request.request.body().len());
        let task = JudgeTask::Judge(request, shard.clone());
        let is_sent = self.lanes[lane as usize].try_send(task).is_ok();
        if !is_sent {
            self.stats.note_judged();
        }
        is_sent
    }

    /// Replaces the sources, for all requests that are not yet in a queue. Waits for room.
    pub fn replace(&self, sources: &Arc<Sources>) -> io::Result<()> {
        self.stats.set_names(sources.iter().map(Source::name));
        for tasks in &self.lanes {
            let sent = tasks.send(JudgeTask::Replace(Arc::clone(sources)));
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::JUDGING_SMALL_BODY_BYTES_MAX;
    use crate::net::reactor::Reactor;
    use crate::testkit::source_request;

    #[test]
    fn large_bodies_go_to_the_thread_for_large_ones() {
        let (_reactor, _outlet, shard) = Reactor::new().unwrap();
        let (queue, [small, large]) = JudgeQueue::new(1, Arc::default());
        for (body_bytes, expected) in [
            (2, [1, 0]),
            (JUDGING_SMALL_BODY_BYTES_MAX, [2, 0]),
            (JUDGING_SMALL_BODY_BYTES_MAX + 1, [2, 1]),
        ] {
            assert!(queue.judge(source_request("hub", body_bytes), &shard));
            assert_eq!([small.len(), large.len()], expected, "{body_bytes} bytes");
        }
    }
}
