//! The start of a run: messages for the history, and streams.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{DRAIN_MAX, LOOK_INTERVAL, PATIENCE, Run, join};
use crate::engine::clock::now_ns;
use crate::engine::load::LoadError;
use crate::engine::patience::Patience;
use crate::engine::publisher::{self, Pace, PublisherOutcome, PublisherPlan};
use crate::engine::reading;
use crate::engine::streams::{self, StreamsPlan};
use crate::engine::streams_outcome::StreamsOutcome;
use crate::engine::window::seconds;

impl Run<'_> {
    /// Publishes the history that streams get when they open.
    pub(super) fn publish_history(&mut self) -> Result<PublisherOutcome, LoadError> {
        let plan = PublisherPlan {
            targets: vec![self.target.clone()],
            format: self.format.clone(),
            sessions: 0,
            pace: Pace::Closed { connections: 1 },
            first: 0,
            end_ns: u64::MAX,
            window: self.load.window,
            messages_max: self.load.published_before,
            pipelining: false,
        };
        let all = self.load.published_before;
        let publisher = publisher::start(plan, &self.control)?;
        while !publisher.is_finished() && !self.ends_early() {
            let acked = self.control.acked.load(Relaxed);
            let share = acked as f64 / f64::from(all);
            self.progress
                .update(share, &format!("{acked} messages in the history"));
            thread::sleep(LOOK_INTERVAL);
        }
        let outcome = join(publisher)??;
        self.control.acked.store(0, Relaxed);
        let is_begun = outcome.acked > 0 && self.ends_early();
        if outcome.acked == u64::from(all) || is_begun || self.interrupted.load(Relaxed) {
            return Ok(outcome);
        }
        let why = outcome.lost.unwrap_or_else(|| {
            let errors = outcome.errors.iter();
            let errors: Vec<String> = errors.map(|(text, n)| format!("{n} x {text}")).collect();
            errors.join(", ")
        });
        Err(LoadError(format!(
            "{}: the messages for the history failed: {why}",
            self.target.publish.address
        )))
    }

    pub(super) fn open_streams(
        &mut self,
    ) -> Result<JoinHandle<io::Result<StreamsOutcome>>, LoadError> {
        let control = Arc::clone(&self.control);
        let start_ns = now_ns();
        let mut plans = self.plans();
        let reader = thread::Builder::new().name("streams".into());
        let reader = if self.setup.processes == 1 {
            let plan = plans.remove(0);
            reader.spawn(move || streams::run(plan, &control))?
        } else {
            let processes = plans
                .iter()
                .map(|_| (self.setup.spawn)())
                .collect::<Result<_, _>>();
            let processes = processes.map_err(LoadError)?;
            reader.spawn(move || reading::run(plans, processes, &control))?
        };
        let all = self.load.streams;
        let mut patience = Patience::new(now_ns(), PATIENCE, Duration::MAX);
        loop {
            let opened = self.control.opened.load(Relaxed);
            let failed = self.control.failed.load(Relaxed);
            self.progress.update(
                opened as f64 / all as f64,
                &format!("{opened} streams open"),
            );
            if all > 0 && failed == all && self.control.first_end_ns.load(Relaxed) == u64::MAX {
                return Err(self.none_opened(reader));
            }
            if opened + failed >= all {
                self.outcome.open_all_s = seconds(now_ns() - start_ns);
                break;
            }
            if reader.is_finished() || self.ends_early() {
                return Ok(reader);
            }
            if patience.is_over((opened + failed) as u64, now_ns()) {
                let note = format!("only {opened} of {all} streams opened");
                self.outcome.notes.push(note);
                break;
            }
            thread::sleep(LOOK_INTERVAL);
        }
        if self.load.replayed > 0 {
            self.await_replay(start_ns);
        }
        Ok(reader)
    }

    /// The task of each reading process: an equal share of the streams, on one server.
    fn plans(&self) -> Vec<StreamsPlan> {
        let (processes, targets) = (self.setup.processes, self.setup.targets);
        let share = |at: usize| self.load.streams * at / processes;
        let plan = |at: usize| {
            let target = &targets[at % targets.len()];
            StreamsPlan {
                target: target.clone(),
                target_at: at % targets.len(),
                format: self.format.clone(),
                count: share(at + 1) - share(at),
                first: share(at),
                observed: self.setup.observed.clone(),
                sessions: self.load.sessions,
                sessions_per_stream: self.load.sessions_per_stream,
                opening_max: (self.load.opening_max / processes)
                    .max(1)
                    .min(target.protocol.opening_max),
                open_retries: target.protocol.open_retries,
                stalled: self.load.stalled * (at + 1) / processes
                    - self.load.stalled * at / processes,
                churn_per_second: self.load.churn_per_second / processes as f64,
                published_before: self.load.published_before,
                replayed: self.load.replayed,
                window: self.load.window,
            }
        };
        (0..processes).map(plan).collect()
    }

    fn none_opened(&self, reader: JoinHandle<io::Result<StreamsOutcome>>) -> LoadError {
        self.control.stop.store(true, Relaxed);
        let address = self.target.streams.address;
        match join(reader) {
            Err(error) => error,
            Ok(Err(error)) => error.into(),
            Ok(Ok(seen)) => {
                let most = seen.errors.iter().max_by_key(|(_, count)| **count);
                let most = most.map_or("", |(error, _)| error);
                LoadError(format!("{address}: no stream could be opened: {most}"))
            }
        }
    }

    /// Waits until every stream has the whole replay.
    fn await_replay(&mut self, start_ns: u64) {
        let due = self.load.streams as u64 * u64::from(self.load.replayed);
        let mut patience = Patience::new(now_ns(), PATIENCE, DRAIN_MAX);
        loop {
            let deliveries = self.control.deliveries.load(Relaxed);
            if deliveries >= due {
                self.outcome.replay_all_s = Some(seconds(now_ns() - start_ns));
                return;
            }
            if patience.is_over(deliveries, now_ns()) || self.ends_early() {
                self.outcome
                    .notes
                    .push(format!("only {deliveries} of {due} messages replayed"));
                return;
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}
