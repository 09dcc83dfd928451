//! The scenarios: the load of each, with its defaults.
//!
//! Called by `main` for a single run and by `compare` for many. Each scenario is a constructor of [`Load`]s.

pub mod attack;
pub mod cases;
pub mod claims;
pub mod comparison;
pub mod faults;
pub mod long_polls;
pub mod metrics;
pub mod thresholds;

use std::time::Duration;

use clap::ValueEnum;

use crate::engine::load::{Load, Rate};

/// The scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Every message to every stream, at a constant rate.
    Fanout,
    /// Every message to every stream; one publisher posts as soon as it is answered.
    Saturate,
    /// Messages on many connections, no streams.
    Ingest,
    /// Open streams, only heartbeats: memory and CPU.
    Idle,
    /// All streams connect at once and get the last 100 messages.
    Storm,
    /// A session for each stream, each message for one session.
    Targeted,
    /// A tenth of the readers stop reading.
    Stalled,
    /// Streams come and go, and resume by their last event id.
    Churn,
    /// Churn for a long time: memory and descriptors must not grow.
    Soak,
    /// Messages of another publisher.
    Watch,
}

/// Sizes that a flag may change.
#[derive(Debug, Clone, Default)]
pub struct Sizes {
    /// How many streams.
    pub streams: Option<usize>,
    /// How many sessions.
    pub sessions: Option<u32>,
    /// Sessions of each stream.
    pub sessions_per_stream: Option<u32>,
    /// Bytes of each message's text.
    pub message_bytes: Option<usize>,
    /// Messages per second.
    pub rate: Option<f64>,
    /// Publishing connections of a closed loop.
    pub connections: Option<usize>,
    /// The measured window.
    pub duration: Option<Duration>,
    /// Time under load before the window.
    pub warmup: Option<Duration>,
    /// Handshakes in progress at once.
    pub opening_max: Option<usize>,
    /// Streams closed and opened again per second.
    pub churn_per_second: Option<f64>,
}

/// Handshakes in progress at once while a scenario opens its streams: far below any listen backlog.
const OPENING_MAX: usize = 256;

/// Handshakes in progress at once in a storm: half of the usual `somaxconn`, so that lost SYNs, which are
/// retried after a second, are rare.
const STORM_OPENING_MAX: usize = 2_048;

/// Messages published before a soak: with 128 bytes each they fill hookcast's live log of 16 MiB, so that
/// later growth is a leak.
const SOAK_PUBLISHED_BEFORE: u32 = 80_000;

/// Length of hookcast's replay.
pub const REPLAYED: u32 = 100;

impl Scenario {
    /// The load with its defaults, changed by `sizes`.
    pub fn load(self, sizes: &Sizes) -> Load {
        let load = self.defaults();
        let streams = sizes.streams.unwrap_or(load.streams);
        let per_stream = sizes.sessions_per_stream.unwrap_or(1);
        let keep_or = |default: f64, size: Option<f64>| {
            if default > 0.0 {
                size.unwrap_or(default)
            } else {
                default
            }
        };
        Load {
            streams,
            sessions: match self {
                _ if !self.has_sessions(sizes) => 0,
                _ => sizes
                    .sessions
                    .unwrap_or((streams as u32).saturating_mul(per_stream)),
            },
            sessions_per_stream: per_stream,
            message_bytes: sizes.message_bytes.unwrap_or(load.message_bytes),
            rate: match load.rate {
                Rate::Open(rate) => Rate::Open(sizes.rate.unwrap_or(rate)),
                Rate::Closed(connections) => Rate::Closed(sizes.connections.unwrap_or(connections)),
                other => other,
            },
            warmup: sizes.warmup.unwrap_or(load.warmup),
            window: sizes.duration.unwrap_or(load.window),
            opening_max: sizes.opening_max.unwrap_or(load.opening_max).max(1),
            stalled: if self == Scenario::Stalled {
                streams / 10
            } else {
                0
            },
            churn_per_second: keep_or(load.churn_per_second, sizes.churn_per_second),
            ..load
        }
    }

    /// Whether its streams have sessions. Those of `idle` have some if a flag says how many: for their memory.
    pub fn has_sessions(self, sizes: &Sizes) -> bool {
        match self {
            Scenario::Targeted => true,
            Scenario::Idle => sizes.sessions_per_stream.is_some(),
            _ => false,
        }
    }

    fn defaults(self) -> Load {
        let load = Load {
            scenario: self.name(),
            streams: 10_000,
            sessions: 0,
            sessions_per_stream: 1,
            message_bytes: 128,
            rate: Rate::Open(10.0),
            warmup: Duration::from_secs(1),
            window: Duration::from_secs(10),
            opening_max: OPENING_MAX,
            stalled: 0,
            churn_per_second: 0.0,
            published_before: 0,
            replayed: 0,
        };
        match self {
            Scenario::Fanout => load,
            Scenario::Saturate => Load {
                rate: Rate::Closed(1),
                ..load
            },
            Scenario::Ingest => Load {
                streams: 0,
                rate: Rate::Closed(64),
                ..load
            },
            Scenario::Idle => Load {
                streams: 15_000,
                rate: Rate::Idle,
                ..load
            },
            Scenario::Storm => Load {
                rate: Rate::Idle,
                warmup: Duration::ZERO,
                window: Duration::from_secs(1),
                opening_max: STORM_OPENING_MAX,
                published_before: REPLAYED,
                replayed: REPLAYED,
                ..load
            },
            Scenario::Targeted => Load {
                rate: Rate::Open(5_000.0),
                ..load
            },
            Scenario::Stalled => Load {
                rate: Rate::Open(20.0),
                window: Duration::from_secs(20),
                ..load
            },
            Scenario::Churn => Load {
                rate: Rate::Open(20.0),
                window: Duration::from_secs(20),
                churn_per_second: 500.0,
                ..load
            },
            Scenario::Soak => Load {
                streams: 5_000,
                rate: Rate::Open(20.0),
                window: Duration::from_secs(600),
                churn_per_second: 100.0,
                published_before: SOAK_PUBLISHED_BEFORE,
                replayed: REPLAYED,
                ..load
            },
            Scenario::Watch => Load {
                streams: 100,
                rate: Rate::Elsewhere,
                ..load
            },
        }
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_change_what_a_scenario_has_and_nothing_else() {
        let sizes = Sizes {
            streams: Some(50),
            rate: Some(7.0),
            connections: Some(3),
            churn_per_second: Some(9.0),
            ..Sizes::default()
        };
        let fanout = Scenario::Fanout.load(&sizes);
        assert_eq!((fanout.streams, fanout.rate), (50, Rate::Open(7.0)));
        assert!(fanout.churn_per_second.abs() < f64::EPSILON);
        assert_eq!(Scenario::Ingest.load(&sizes).rate, Rate::Closed(3));
        assert_eq!(Scenario::Targeted.load(&sizes).sessions, 50);
        assert_eq!(Scenario::Idle.load(&sizes).sessions, 0);
        let shared = Sizes {
            sessions_per_stream: Some(4),
            ..sizes.clone()
        };
        for scenario in [Scenario::Targeted, Scenario::Idle] {
            let load = scenario.load(&shared);
            assert_eq!((load.sessions, load.sessions_per_stream), (200, 4));
        }
        assert_eq!(Scenario::Stalled.load(&sizes).stalled, 5);
        assert!((Scenario::Churn.load(&sizes).churn_per_second - 9.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_stream_is_never_shown_more_than_was_published() {
        for scenario in Scenario::value_variants() {
            let load = scenario.load(&Sizes::default());
            assert!(load.replayed <= load.published_before, "{scenario:?}");
            assert_eq!(load.scenario, scenario.name());
        }
    }
}
