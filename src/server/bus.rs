//! The bus of a server: its start before the hub is made, and the hub on it.
//!
//! Called by [`run`](super::run) with `--bus`. The start waits for the engine, for the time of `--bus-timeout`
//! at most, and for the whole history no longer than [`BUS_START_MS_MAX`]. Without them the server starts with its ring.
//! The follower joins then, and the node is not ready until it has.

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
use crate::bus::stats::{BusStats, Joining};
use crate::config::{BusConfig, Durability};
use crate::hub::{BusSettings, BusStore, Hub, Outlet};
use crate::limits::{
    BUS_BEGIN_PATIENCE_MS, BUS_LEASE_MS, BUS_RETRY_MS_MIN, BUS_START_MS_MAX, LOG_BYTES_MIN,
};
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
        ..
    } = store;
    let longest = Duration::from_millis(BUS_START_MS_MAX);
    let hasty = BusConfig {
        timeout: config.timeout.min(longest),
        ..config.clone()
    };
    let (mut writer, mut reader) = redis::halves(&hasty).map_err(ServerError::BusTls)?;
    let settings = FollowerSettings {
        messages_max: config.history_messages,
        body_bytes_max: config.body_bytes_max as u64,
        log_bytes: LOG_BYTES_MIN,
    };
    let producer = Producer(getrandom::u64().map_err(|error| {
        ServerError::Start("a random number", io::Error::other(error.to_string()))
    })?);
    let stats = Arc::new(BusStats::new(producer, start.clock.now()));
    start.admin.add_bus(Arc::clone(&stats), start.clock);
    let mut patience = Patience::new(hasty.timeout, longest);
    let mut retry = |obstacle| patience.decide(obstacle, &stats);
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
    log_start(config, started.ring, &stats);
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

/// For how long a start waits.
struct Patience {
    /// For an engine that fails, or in which an epoch has to begin.
    engine_until: Instant,
    /// For the end of a history that is being read.
    history_until: Instant,
    /// Since when the engine is known to be empty.
    empty_since: Option<Instant>,
}

impl Patience {
    fn new(engine: Duration, history: Duration) -> Patience {
        let now = Instant::now();
        Patience {
            engine_until: now + engine,
            history_until: now + history,
            empty_since: None,
        }
    }

    /// What follows an obstacle, after a pause if it is tried again.
    fn decide(&mut self, obstacle: Obstacle, stats: &BusStats) -> Retry {
        let now = Instant::now();
        let until = match obstacle {
            Obstacle::Reading(messages) => {
                stats.note_joining(Joining::Reading(messages));
                return if now < self.history_until {
                    Retry::Again
                } else {
                    Retry::Alone
                };
            }
            Obstacle::Fault(fault) => {
                stats.note_read_fault(&fault);
                stats.note_joining(Joining::Unreached);
                self.engine_until
            }
            Obstacle::Broken => {
                stats.note_joining(Joining::Broken);
                self.engine_until
            }
            Obstacle::Empty => {
                stats.note_joining(Joining::Broken);
                let since = *self.empty_since.get_or_insert(now);
                if now >= since + Duration::from_millis(BUS_BEGIN_PATIENCE_MS) {
                    return Retry::Seed;
                }
                now + Duration::from_millis(BUS_RETRY_MS_MIN)
            }
        };
        if now >= until {
            return Retry::Alone;
        }
        thread::sleep(Duration::from_millis(BUS_RETRY_MS_MIN));
        Retry::Again
    }
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

fn log_start(config: &BusConfig, ring: RingFate, stats: &BusStats) {
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
            reason = stats.why_not_joined().unwrap_or_default(),
            "not joined the bus yet: streams get the ring's history, webhooks are refused, and /readyz says 503 until \
             it has"
        ),
    }
}
