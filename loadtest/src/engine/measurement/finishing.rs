//! The end of a run: the drain, and what a signal or the loss of the server left open.

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{DRAIN_MAX, Early, LOOK_INTERVAL, PATIENCE, Run};
use crate::engine::clock::now_ns;
use crate::engine::ending::{CutOff, Lost};
use crate::engine::load::Rate;
use crate::engine::patience::Patience;
use crate::engine::proc_stats;
use crate::engine::publisher::PublisherOutcome;
use crate::engine::streams_outcome::StreamsOutcome;
use crate::engine::window::seconds;

/// The limit without progress after an early end: messages in flight on a living connection arrive within it.
const EARLY_PATIENCE: Duration = Duration::from_millis(500);

/// The upper limit after an early end.
const EARLY_DRAIN_MAX: Duration = Duration::from_secs(2);

/// The limit without progress after the loss of a server. A server that got SIGTERM still closes its streams:
/// hookcast within 5 s. The wait ends once all are closed.
const LOST_PATIENCE: Duration = Duration::from_secs(2);

/// The upper limit after the loss of a server.
const LOST_DRAIN_MAX: Duration = Duration::from_secs(8);

/// Time for a server to close the descriptors of streams that have ended.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// Waits until every stream is complete, while there is progress.
    pub(super) fn drain(&mut self, reader: &JoinHandle<io::Result<StreamsOutcome>>) {
        let mut is_early = false;
        // Another publisher goes on: there is always progress.
        let longest = if self.load.rate == Rate::Elsewhere {
            PATIENCE
        } else {
            DRAIN_MAX
        };
        let mut patience = Patience::new(now_ns(), PATIENCE, longest);
        while !reader.is_finished() {
            if !is_early && self.ends_early() {
                is_early = true;
                patience = if self.is_lost() {
                    Patience::new(now_ns(), LOST_PATIENCE, LOST_DRAIN_MAX)
                } else {
                    Patience::new(now_ns(), EARLY_PATIENCE, EARLY_DRAIN_MAX)
                };
            }
            let complete = self.control.complete.load(Relaxed);
            let share = complete as f64 / self.load.streams.max(1) as f64;
            self.progress
                .update(share, &format!("draining, {complete} streams complete"));
            let moved =
                self.control.deliveries.load(Relaxed) + self.control.failed.load(Relaxed) as u64;
            if patience.is_over(moved, now_ns()) {
                break;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        self.ends_early();
        self.control.stop.store(true, Relaxed);
    }

    pub(super) fn record_early(
        &mut self,
        posted: &PublisherOutcome,
        seen: Option<&StreamsOutcome>,
    ) {
        let ended = seen.map_or(0, |seen| seen.ended);
        let outcome = &mut self.outcome;
        match self.early.take() {
            None if ended > 0 => {
                let first_ns = self.control.first_end_ns.load(Relaxed);
                outcome.notes.push(format!(
                    "{ended} streams ended before the run did, the first after {:.2} s",
                    seconds(first_ns.saturating_sub(self.start_ns))
                ));
            }
            None => {}
            Some(Early::Interrupted(moment)) => {
                outcome.cut_off = Some(CutOff {
                    moment,
                    unanswered: posted.unanswered,
                    in_flight: seen.map_or(0, |seen| seen.in_flight),
                });
            }
            Some(Early::Lost(moment)) => {
                let by_streams = || format!("{ended} of {} streams ended", self.load.streams);
                let lost = self.control.lost_target.load(Relaxed);
                let target = self.setup.targets.get(lost).unwrap_or(self.target);
                let (address, how) = match &posted.lost {
                    Some(error) => (target.publish.address, error.clone()),
                    None => (target.streams.address, by_streams()),
                };
                outcome.lost = Some(Lost {
                    moment,
                    address: address.to_string(),
                    how,
                    streams_cut: ended,
                    unanswered: posted.unanswered,
                    deliveries_missing: seen.map_or(0, |seen| seen.faults.missing),
                    process: None,
                    last_lines: Vec::new(),
                });
            }
        }
    }

    /// Waits a moment for the server to close its streams. Returns its open descriptors after that.
    pub(super) fn await_closed(&self, descriptors_start: u64) -> u64 {
        let end_ns = now_ns() + CLOSE_PATIENCE.as_nanos() as u64;
        loop {
            let descriptors = proc_stats::descriptors(&self.pids);
            if descriptors <= descriptors_start || now_ns() > end_ns {
                return descriptors;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
