//! The bus of a server: its start before the hub is made, and the hub on it.
//!
//! Called by [`run`](super::run) with `--bus`. The start waits for the engine, for the time of `--bus-timeout`
//! at most. Without it the server starts with its ring and is not ready until it has joined.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::{ServerError, Start, Store};
use crate::bus::course::SharedCourse;
use crate::bus::engine::{Producer, Writer};
use crate::bus::follower::FollowerSettings;
use crate::bus::redis;
use crate::bus::run::Bus;
use crate::bus::start::{self, Obstacle, Retry, RingFate, StartError};
use crate::bus::stats::BusStats;
use crate::config::{BusConfig, Durability};
use crate::hub::{BusSettings, BusStore, Hub, Outlet};
use crate::limits::{BUS_BEGIN_PATIENCE_MS, BUS_LEASE_MS, BUS_RETRY_MS_MIN, LOG_BYTES_MIN};
use crate::message::MessageId;
use crate::mirror::Lease;

/// A hub on a bus, and what runs the bus.
pub(super) struct OnBus {
    pub hub: Hub,
    pub store: BusStore,
    pub bus: Arc<Bus>,
    /// The node has its place in the log.
    pub is_joined: bool,
}

/// Takes this node's place in the log, and makes its hub.
pub(super) fn make_hub(
    start: &Start<'_>,
    config: &BusConfig,
    store: Store,
    outlets: Vec<Outlet>,
    publish_signal: Option<Sender<()>>,
) -> Result<OnBus, ServerError> {
    let Store {
        mut ring,
        recovered,
    } = store;
    let (mut writer, mut reader) = redis::halves(config).map_err(ServerError::BusTls)?;
    let settings = FollowerSettings {
        messages_max: config.history_messages,
        body_bytes_max: config.body_bytes_max as u64,
        log_bytes: LOG_BYTES_MIN,
    };
    let producer = Producer(getrandom::u64().map_err(|error| {
        ServerError::Start("a random number", io::Error::other(error.to_string()))
    })?);
    let stats = Arc::new(BusStats::new(producer, start.clock.now()));
    let deadline = Instant::now() + config.timeout;
    let mut empty_since = None;
    let mut retry = |obstacle| {
        let now = Instant::now();
        let mut is_over = now >= deadline;
        match obstacle {
            Obstacle::Fault(fault) => stats.note_read_fault(&fault),
            Obstacle::Broken => {}
            Obstacle::Empty => {
                let since = *empty_since.get_or_insert(now);
                if now >= since + Duration::from_millis(BUS_BEGIN_PATIENCE_MS) {
                    return Retry::Seed;
                }
                is_over = false;
            }
        }
        if is_over {
            return Retry::Alone;
        }
        thread::sleep(Duration::from_millis(BUS_RETRY_MS_MIN));
        Retry::Again
    };
    let started = start::join(
        &mut ring,
        recovered.messages,
        &mut *writer,
        &mut *reader,
        settings,
        &stats,
        &mut retry,
    );
    let started = started.map_err(|error| match error {
        StartError::BodyLimit(bytes) => ServerError::BusBodyLimit(bytes),
        StartError::Ring(error) => ServerError::Ring(start.config.ring.clone(), error),
    })?;
    if started.course.is_joined {
        stats.set_joined();
    }
    log_start(config, started.ring);
    let hub_settings = BusSettings {
        timeout_ms: config.timeout.as_millis() as u64,
        needs_replicas: config.replicas > 0,
        syncs: start.config.durability == Durability::Disk,
    };
    let lineage = Arc::clone(&started.course.lineage);
    let is_joined = started.course.ready_epoch().is_some();
    let messages = started.messages;
    let (hub, store) = Hub::with_bus(
        ring,
        lineage,
        messages,
        outlets,
        publish_signal,
        hub_settings,
    );
    let lifecycle = Arc::clone(&start.lifecycle);
    let on_joined: Box<dyn FnOnce() + Send> = Box::new(move || lifecycle.set_ready());
    let connect = config.clone();
    let bus = Bus {
        producer,
        connect: Box::new(move || redis::halves(&connect).map_err(io::Error::other)),
        course: SharedCourse::new(started.course),
        settings,
        replicas: config.replicas,
        stats,
        on_joined: Mutex::new((!is_joined).then_some(on_joined)),
        metrics: Arc::clone(start.metrics),
        clock: start.clock,
    };
    Ok(OnBus {
        hub,
        store,
        bus: Arc::new(bus),
        is_joined,
    })
}

/// The lease of the node that mirrors to KV, with a connection of its own.
pub(super) fn lease(bus: &Arc<Bus>) -> Result<Box<dyn Lease>, ServerError> {
    let connected = (bus.connect)();
    let (writer, _) = connected.map_err(|error| ServerError::Start("the lease of KV", error))?;
    Ok(Box::new(BusLease {
        bus: Arc::clone(bus),
        writer,
    }))
}

struct BusLease {
    bus: Arc<Bus>,
    writer: Box<dyn Writer>,
}

impl Lease for BusLease {
    fn hold(&mut self) -> bool {
        let time = Duration::from_millis(BUS_LEASE_MS);
        let is_joined = self.bus.course.lock().ready_epoch().is_some();
        // A fault is logged by the threads of the bus.
        is_joined && self.writer.lease(self.bus.producer, time).unwrap_or(false)
    }

    fn shown(&self) -> Vec<MessageId> {
        self.bus.course.lock().recent.ids()
    }

    fn release(&mut self) {
        // Otherwise the lease ends by itself.
        let _ = self.writer.end_lease(self.bus.producer);
    }
}

fn log_start(config: &BusConfig, ring: RingFate) {
    let bus = &config.address;
    match ring {
        RingFate::Continued => tracing::info!(%bus, "joined the bus"),
        RingFate::Seeded => {
            let what = "joined the bus as its first node; it begins with the ring's history";
            tracing::info!(%bus, "{what}");
        }
        RingFate::KeptAside => {
            let what = "joined the bus; the ring had another history, which is kept aside";
            tracing::warn!(%bus, "{what}");
        }
        RingFate::Alone => tracing::warn!(
            %bus,
            "the bus is not reached yet: streams get the ring's history, webhooks are refused, and /readyz says 503 \
             until it is"
        ),
    }
}
