//! The threads of the bus: `bus-out` sends, `bus-in` reads and owns the ring, `bus-deadlines` ends the wait
//! of webhooks.
//!
//! Started by `server`, and again by `control` when a handover has failed. They end when the hub closes or
//! releases the ring.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::appender::{Appender, Pause};
use super::course::SharedCourse;
use super::engine::{Producer, Reader, Writer};
use super::follower::{Followed, Follower, FollowerSettings};
use super::stats::BusStats;
use crate::clock::Clock;
use crate::hub::{BusStore, Hub};
use crate::limits::BUS_READ_WAIT_MS;
use crate::metrics::Metrics;

/// The two halves of an engine: for `bus-out` and for `bus-in`.
pub type Halves = (Box<dyn Writer>, Box<dyn Reader>);

/// What the threads share, for every run of them.
pub struct Bus {
    /// The node's random number.
    pub producer: Producer,
    /// Makes the halves; they connect at their first call.
    pub connect: Box<dyn Fn() -> io::Result<Halves> + Send + Sync>,
    /// Where the node is in the log.
    pub course: SharedCourse,
    /// What the follower needs of the configuration.
    pub settings: FollowerSettings,
    /// How many replicas an acknowledgement waits for.
    pub replicas: u32,
    /// Counters and log lines.
    pub stats: Arc<BusStats>,
    /// Called once when the node has joined the bus.
    pub on_joined: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// The server's metrics, for appends to the ring.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
}

impl Bus {
    /// Starts the threads.
    pub fn start(self: &Arc<Bus>, hub: &Arc<Hub>, store: BusStore) -> io::Result<()> {
        let (writer, reader) = (self.connect)()?;
        let run = store.run();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map(drop)
        };
        let (bus, shared) = (Arc::clone(self), Arc::clone(hub));
        spawn(
            "bus-out",
            Box::new(move || bus.publish(&shared, writer, run)),
        )?;
        let (bus, shared) = (Arc::clone(self), Arc::clone(hub));
        spawn(
            "bus-in",
            Box::new(move || bus.follow(&shared, reader, store)),
        )?;
        let (bus, shared) = (Arc::clone(self), Arc::clone(hub));
        spawn("bus-deadlines", Box::new(move || bus.expire(&shared, run)))
    }

    fn publish(&self, hub: &Hub, mut writer: Box<dyn Writer>, run: u64) {
        let mut appender = Appender::new(
            run,
            self.producer,
            self.settings.body_bytes_max,
            self.replicas,
        );
        loop {
            let now = self.clock.now();
            match appender.step(hub, &mut *writer, &self.course, &self.stats, now) {
                Pause::None => {}
                Pause::ForMessages(time) | Pause::For(time) if hub.demand(run).is_closing => {
                    hub.await_closed(run, time);
                }
                Pause::ForMessages(time) => {
                    hub.await_demand(run, time);
                }
                Pause::For(time) => {
                    hub.await_close(run, time);
                }
                Pause::End => return,
            }
        }
    }

    fn follow(&self, hub: &Hub, mut reader: Box<dyn Reader>, store: BusStore) {
        let run = store.run();
        let mut follower = Follower::new(store, self.course.clone(), self.settings);
        let wait = Duration::from_millis(BUS_READ_WAIT_MS);
        let clock = || self.clock.now();
        loop {
            if hub.demand(run).is_closing {
                match follower.close(hub) {
                    Some(continued) => follower = continued,
                    None => return,
                }
            }
            let result = follower.step(hub, &mut *reader, &self.stats, &self.metrics, wait, &clock);
            self.report_joined();
            if let Followed::After(time) = result {
                hub.await_close(run, time);
            }
        }
    }

    fn report_joined(&self) {
        let mut on_joined = self.on_joined.lock().expect("no panic under it");
        if on_joined.is_some()
            && self.course.lock().ready_epoch().is_some()
            && let Some(report) = on_joined.take()
        {
            report();
        }
    }

    fn expire(&self, hub: &Hub, run: u64) {
        loop {
            let now = self.clock.now();
            let next_ms = hub.expire_outgoing(run, now.mono_ms);
            self.stats.set_outgoing(hub.outgoing());
            if !hub.await_deadline(run, next_ms, now.mono_ms) {
                return;
            }
        }
    }

    /// Starts the threads again, with a ring that was taken back after a failed handover. They join anew: the
    /// messages since the release are in the log.
    pub fn start_again(self: &Arc<Bus>, hub: &Arc<Hub>, store: BusStore) -> io::Result<()> {
        self.course.lock().is_joined = false;
        self.start(hub, store)
    }
}

#[cfg(test)]
mod tests;
