//! The scenarios: which load each one is, with its defaults.
//!
//! Called by `main` for a single run and by `compare` for many. Each scenario is a constructor of
//! [`Load`]s; what is special to one (two runs to compare, a ladder of rates) stands in its function.

use std::time::Duration;

use clap::ValueEnum;

use crate::load::{Load, Rate};

/// Which load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Every message to every stream, at a constant rate.
    Fanout,
    /// Every message to every stream, one publisher posting again as soon as it is answered.
    Saturate,
    /// Messages in on many connections, no streams.
    Ingest,
    /// Open streams and nothing to send: memory and heartbeats.
    Idle,
    /// Everyone connects at once and is shown the last 100 messages.
    Storm,
    /// A session for each stream, each message for one session.
    Targeted,
    /// A tenth of the readers stop reading.
    Stalled,
    /// Streams come and go, and resume by their last event id.
    Churn,
    /// Churn for a long time: memory and descriptors must not grow.
    Soak,
}

/// Sizes that a flag may change.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// How many streams.
    pub streams: Option<usize>,
    /// How many sessions.
    pub sessions: Option<u32>,
    /// Bytes of each message's text.
    pub message_bytes: Option<usize>,
    /// Messages per second.
    pub rate: Option<f64>,
    /// Publishing connections of a closed loop.
    pub connections: Option<usize>,
    /// The measured window.
    pub duration: Option<Duration>,
    /// Before the window.
    pub warmup: Option<Duration>,
    /// Handshakes under way at once.
    pub opening_max: Option<usize>,
    /// Streams closed and opened again per second.
    pub churn_per_second: Option<f64>,
}

/// Handshakes under way at once while a scenario merely gets ready: far below any listen backlog.
const OPENING_MAX: usize = 256;

/// Handshakes under way at once in a storm: half of the usual `somaxconn`, so that a lost SYN and
/// its retry after a second are the exception.
const STORM_OPENING_MAX: usize = 2_048;

/// Messages that a storm is shown: what hookcast keeps.
const REPLAYED: u32 = 100;

const MESSAGE_BYTES: usize = 128;

impl Scenario {
    /// The load with its defaults, changed by `sizes`.
    pub fn load(self, sizes: &Sizes) -> Load {
        let (streams, rate, window_s) = match self {
            Scenario::Fanout => (10_000, Rate::Open(10.0), 10),
            Scenario::Saturate => (10_000, Rate::Closed(1), 10),
            Scenario::Ingest => (0, Rate::Closed(64), 10),
            Scenario::Idle => (15_000, Rate::Idle, 10),
            Scenario::Storm => (10_000, Rate::Idle, 1),
            Scenario::Targeted => (10_000, Rate::Open(5_000.0), 10),
            Scenario::Stalled => (10_000, Rate::Open(20.0), 20),
            Scenario::Churn => (10_000, Rate::Open(20.0), 20),
            Scenario::Soak => (5_000, Rate::Open(20.0), 600),
        };
        let streams = sizes.streams.unwrap_or(streams);
        let rate = match rate {
            Rate::Open(rate) => Rate::Open(sizes.rate.unwrap_or(rate)),
            Rate::Closed(connections) => Rate::Closed(sizes.connections.unwrap_or(connections)),
            Rate::Idle => Rate::Idle,
        };
        let churn = match self {
            Scenario::Churn => 500.0,
            Scenario::Soak => 100.0,
            _ => 0.0,
        };
        let warmup_s = if self == Scenario::Storm { 0 } else { 1 };
        let opening_max = if self == Scenario::Storm {
            STORM_OPENING_MAX
        } else {
            OPENING_MAX
        };
        Load {
            scenario: self.name(),
            streams,
            sessions: match self {
                Scenario::Targeted => sizes.sessions.unwrap_or(streams as u32),
                _ => 0,
            },
            message_bytes: sizes.message_bytes.unwrap_or(MESSAGE_BYTES),
            rate,
            warmup: sizes.warmup.unwrap_or(Duration::from_secs(warmup_s)),
            window: sizes.duration.unwrap_or(Duration::from_secs(window_s)),
            opening_max: sizes.opening_max.unwrap_or(opening_max).max(1),
            stalled: if self == Scenario::Stalled {
                streams / 10
            } else {
                0
            },
            churn_per_second: if churn > 0.0 {
                sizes.churn_per_second.unwrap_or(churn)
            } else {
                0.0
            },
            replayed: if self == Scenario::Storm { REPLAYED } else { 0 },
        }
    }

    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
