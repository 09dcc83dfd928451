//! The cases of a comparison: their loads, servers and figures.
//!
//! Every server of a case gets the same streams, messages and heartbeats. A server is left out of what it
//! cannot do. Pushpin keeps no history to replay. It takes many messages a second through `ZeroMQ` only; its
//! HTTP control port ends each connection after one message. Sessions are measured on hookcast alone.

use std::time::Duration;

use crate::engine::load::{Load, Rate};
use crate::scenarios::comparison::{Case, Metric};
use crate::scenarios::metrics::{
    ACK_P99, ACKS, BYTES_PER_DELIVERY, BYTES_PER_STREAM, CPU_PER_ACK, CPU_PER_DELIVERY,
    CPU_PER_HEARTBEAT, DELIVERIES, DELIVERY_P50, DELIVERY_P99, FAULTS, GENERATOR_PER_DELIVERY,
    HEARTBEATS, MEMORY_GROWTH, STORM_SECONDS,
};
use crate::scenarios::{Scenario, Sizes};
use crate::servers::ServerKind;

use ServerKind::{Axum, Floor, Hookcast, Nchan, Pushpin};

/// How large a comparison is.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Streams of the fan-out cases; other cases take a share of it.
    pub streams: usize,
    /// The measured window of each measurement.
    pub window: Duration,
    /// Time under load before the window.
    pub warmup: Duration,
    /// Heartbeat interval of the servers; zero: none.
    pub heartbeat: Duration,
    /// Only the cases that the README's table shows.
    pub quick: bool,
}

const FANOUT_METRICS: &[Metric] = &[
    CPU_PER_DELIVERY,
    DELIVERY_P50,
    DELIVERY_P99,
    ACK_P99,
    GENERATOR_PER_DELIVERY,
    FAULTS,
];
const SATURATE_METRICS: &[Metric] = &[
    DELIVERIES,
    CPU_PER_DELIVERY,
    DELIVERY_P99,
    ACK_P99,
    GENERATOR_PER_DELIVERY,
    FAULTS,
];
const INGEST_METRICS: &[Metric] = &[ACKS, CPU_PER_ACK, ACK_P99, FAULTS];
const IDLE_METRICS: &[Metric] = &[BYTES_PER_STREAM, CPU_PER_HEARTBEAT, HEARTBEATS, FAULTS];
const STORM_METRICS: &[Metric] = &[STORM_SECONDS, FAULTS];
const TLS_METRICS: &[Metric] = &[CPU_PER_DELIVERY, BYTES_PER_STREAM, DELIVERY_P99, FAULTS];
const GZIP_METRICS: &[Metric] = &[CPU_PER_DELIVERY, BYTES_PER_DELIVERY, DELIVERY_P99, FAULTS];
const STALLED_METRICS: &[Metric] = &[DELIVERY_P99, MEMORY_GROWTH, CPU_PER_DELIVERY, FAULTS];

/// Rates of the ladder, in messages per second. The first is the reference for latencies.
pub const LADDER_RATES: [(&str, f64); 5] = [
    ("fanout", 10.0),
    ("fanout-20", 20.0),
    ("fanout-100", 100.0),
    ("fanout-500", 500.0),
    ("fanout-2000", 2_000.0),
];

/// Plain and compressed cases, with the bytes of their messages: a provider's payload, and a short text.
const COMPRESSION_PAIRS: [([&str; 2], usize); 2] = [
    (["plain-5000", "gzip-5000"], 5_000),
    (["plain-128", "gzip-128"], 128),
];

/// Messages per second of these cases: many enough that the time between messages costs little.
const COMPRESSION_RATE: f64 = 50.0;

/// hookcast's longest heartbeat interval.
const HEARTBEAT_RARELY: Duration = Duration::from_secs(60);

/// Sizes of the growth cases, as shares of the comparison's streams.
pub const GROWTH_SHARES: [(&str, f64); 4] = [
    ("grow-1", 0.01),
    ("grow-10", 0.1),
    ("grow-100", 1.0),
    ("grow-190", 1.9),
];

/// All cases of a comparison.
pub fn cases(extent: &Extent) -> Vec<Case> {
    let mut cases = vec![
        fanout(
            "fanout",
            10.0,
            &[Hookcast, Floor, Axum, Nchan, Pushpin],
            extent,
        ),
        fanout("fanout-500", 500.0, &[Hookcast], extent),
        saturate(extent),
        ingest(extent),
        idle(extent),
        storm(extent),
    ];
    if extent.quick {
        return cases;
    }
    for (key, rate) in LADDER_RATES {
        match key {
            "fanout" | "fanout-500" => {}
            _ => cases.push(fanout(key, rate, &[Hookcast, Axum], extent)),
        }
    }
    for (key, share) in GROWTH_SHARES {
        let streams = ((extent.streams as f64 * share) as usize).max(1);
        let extent = Extent {
            streams,
            ..extent.clone()
        };
        cases.push(fanout(key, 10.0, &[Hookcast, Floor], &extent));
    }
    let two_shards = Case {
        shards: 2,
        ..fanout("shards-2", 10.0, &[Hookcast], extent)
    };
    let two_shards_full = Case {
        shards: 2,
        key: "saturate-shards-2",
        ..saturate(extent)
    };
    cases.extend([
        two_shards,
        two_shards_full,
        targeted("targeted", 1.0, extent),
    ]);
    cases.extend([
        targeted("targeted-tenth", 0.1, extent),
        healthy(extent),
        stalled(extent),
        encryption("plain", false, extent),
        encryption("tls", true, extent),
    ]);
    for (keys, message_bytes) in COMPRESSION_PAIRS {
        for (key, gzip) in keys.into_iter().zip([false, true]) {
            cases.push(compression(key, gzip, message_bytes, extent));
        }
    }
    cases
}

fn sizes(extent: &Extent) -> Sizes {
    Sizes {
        streams: Some(extent.streams),
        duration: Some(extent.window),
        warmup: Some(extent.warmup),
        ..Sizes::default()
    }
}

fn case(
    key: &'static str,
    title: String,
    servers: &[ServerKind],
    load: &Load,
    metrics: &'static [Metric],
) -> Case {
    let entries = servers
        .iter()
        .map(|&server| (server, load.clone()))
        .collect();
    Case {
        key,
        title,
        entries,
        shards: 0,
        heartbeat: None,
        tls: false,
        gzip: false,
        metrics,
    }
}

fn fanout(key: &'static str, rate: f64, servers: &[ServerKind], extent: &Extent) -> Case {
    let load = Scenario::Fanout.load(&Sizes {
        rate: Some(rate),
        ..sizes(extent)
    });
    let title = format!(
        "{} streams, {rate} messages per second to all",
        load.streams
    );
    case(key, title, servers, &load, FANOUT_METRICS)
}

fn saturate(extent: &Extent) -> Case {
    let load = Scenario::Saturate.load(&sizes(extent));
    let title = format!("{} streams, one publisher in a closed loop", load.streams);
    case(
        "saturate",
        title,
        &[Hookcast, Floor, Axum, Nchan, Pushpin],
        &load,
        SATURATE_METRICS,
    )
}

fn ingest(extent: &Extent) -> Case {
    let load = Scenario::Ingest.load(&Sizes {
        streams: None,
        ..sizes(extent)
    });
    let title = match load.rate {
        Rate::Closed(connections) => {
            format!("{connections} publishers in closed loops, no streams")
        }
        _ => "publishers, no streams".into(),
    };
    case(
        "ingest",
        title,
        &[Hookcast, Floor, Axum, Nchan],
        &load,
        INGEST_METRICS,
    )
}

/// Idle streams. The window is a whole number of heartbeat intervals, because not every server spreads its
/// heartbeats over an interval: each must send the same number in the window.
fn idle(extent: &Extent) -> Case {
    let streams = extent.streams + extent.streams / 2;
    let intervals = extent.window.div_duration_f64(extent.heartbeat).ceil();
    let window = if extent.heartbeat.is_zero() {
        extent.window
    } else {
        extent.heartbeat.mul_f64(intervals)
    };
    let load = Scenario::Idle.load(&Sizes {
        streams: Some(streams),
        duration: Some(window),
        ..sizes(extent)
    });
    let title = format!("{streams} idle streams with heartbeats");
    case(
        "idle",
        title,
        &[Hookcast, Floor, Axum, Nchan, Pushpin],
        &load,
        IDLE_METRICS,
    )
}

/// Many streams at once. The floor has no history: its figure is the time of bare connects.
fn storm(extent: &Extent) -> Case {
    let window = Duration::from_millis(200).min(extent.window);
    let load = Scenario::Storm.load(&Sizes {
        duration: Some(window),
        warmup: None,
        ..sizes(extent)
    });
    let title = format!(
        "{} streams connect at once and get {} messages each (floor: connects only)",
        load.streams, load.replayed
    );
    let mut case = case(
        "storm",
        title,
        &[Hookcast, Floor, Axum, Nchan],
        &load,
        STORM_METRICS,
    );
    for (_, load) in case
        .entries
        .iter_mut()
        .filter(|(server, _)| *server == Floor)
    {
        (load.published_before, load.replayed) = (0, 0);
    }
    case
}

/// A message to one session each. `share` is the share of all sessions and streams.
fn targeted(key: &'static str, share: f64, extent: &Extent) -> Case {
    let streams = ((extent.streams as f64 * share) as usize).max(1);
    let load = Scenario::Targeted.load(&Sizes {
        streams: Some(streams),
        ..sizes(extent)
    });
    let title = format!("{streams} sessions of one stream each, each message to one");
    Case {
        // Heartbeats are rare, because ten times the streams also have ten times the heartbeats, which are no
        // deliveries.
        heartbeat: Some(HEARTBEAT_RARELY),
        ..case(key, title, &[Hookcast], &load, FANOUT_METRICS)
    }
}

fn stalled(extent: &Extent) -> Case {
    let load = Scenario::Stalled.load(&sizes(extent));
    let title = format!("{} streams, a tenth of which stop reading", load.streams);
    case("stalled", title, &[Hookcast], &load, STALLED_METRICS)
}

/// The reference for `stalled`: as many reading streams, none stalled.
fn healthy(extent: &Extent) -> Case {
    let load = Scenario::Stalled.load(&sizes(extent));
    let load = Load {
        stalled: 0,
        scenario: "healthy".into(),
        ..load
    };
    let title = format!("{} streams, all reading", load.streams);
    case("healthy", title, &[Hookcast], &load, STALLED_METRICS)
}

/// A fan-out over TLS, or the same without TLS as its reference. Few streams, so that no CPU is full while the
/// reader decrypts.
fn encryption(key: &'static str, tls: bool, extent: &Extent) -> Case {
    let extent = Extent {
        streams: (extent.streams / 5).max(1),
        ..extent.clone()
    };
    let case = fanout(key, 10.0, &[Hookcast], &extent);
    let how = if tls { "over TLS" } else { "plain" };
    Case {
        title: format!("{}, {how}", case.title),
        tls,
        metrics: TLS_METRICS,
        ..case
    }
}

/// A fan-out with compressed streams, or the same without compression as its reference. Few streams, so that
/// no CPU is full.
fn compression(key: &'static str, gzip: bool, message_bytes: usize, extent: &Extent) -> Case {
    let load = Scenario::Fanout.load(&Sizes {
        streams: Some((extent.streams / 5).max(1)),
        rate: Some(COMPRESSION_RATE),
        message_bytes: Some(message_bytes),
        ..sizes(extent)
    });
    let how = if gzip { "compressed" } else { "plain" };
    let title = format!(
        "{} streams, {COMPRESSION_RATE} messages of {message_bytes} bytes per second to all, {how}",
        load.streams
    );
    Case {
        gzip,
        ..case(key, title, &[Hookcast], &load, GZIP_METRICS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn extent(quick: bool) -> Extent {
        let second = Duration::from_secs(1);
        Extent {
            streams: 10_000,
            window: second,
            warmup: second,
            heartbeat: 2 * second,
            quick,
        }
    }

    #[test]
    fn keys_are_unique_and_every_server_of_a_case_has_the_same_load() {
        for quick in [true, false] {
            let cases = cases(&extent(quick));
            let keys: BTreeSet<&str> = cases.iter().map(|case| case.key).collect();
            assert_eq!(keys.len(), cases.len());
            for case in &cases {
                let (_, first) = &case.entries[0];
                for (server, load) in &case.entries {
                    assert_eq!(
                        (load.streams, load.message_bytes),
                        (first.streams, first.message_bytes)
                    );
                    assert_eq!(load.rate, first.rate, "{} {server:?}", case.key);
                    assert_eq!(load.window, first.window);
                }
            }
        }
    }

    #[test]
    fn idle_is_measured_over_whole_heartbeat_intervals() {
        let mut extent = extent(true);
        extent.window = Duration::from_secs(3);
        assert_eq!(idle(&extent).entries[0].1.window, Duration::from_secs(4));
        extent.heartbeat = Duration::ZERO;
        assert_eq!(idle(&extent).entries[0].1.window, Duration::from_secs(3));
    }

    #[test]
    fn the_largest_case_fits_a_usual_descriptor_limit() {
        let largest = cases(&extent(false))
            .into_iter()
            .flat_map(|case| case.entries);
        assert!(largest.map(|(_, load)| load.streams).max().unwrap() <= 19_000);
    }
}
