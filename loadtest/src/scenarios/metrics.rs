//! The figures that servers are compared by, each taken from an outcome.

use crate::scenarios::comparison::Metric;

fn latency_ms(us: u64) -> f64 {
    us as f64 / 1e3
}

/// CPU time of the server per delivery.
pub const CPU_PER_DELIVERY: Metric = Metric {
    name: "CPU per delivery (us)",
    digits: 2,
    of: |outcome| outcome.cost.as_ref()?.cpu_us_per_delivery,
};
/// Median delivery latency.
pub const DELIVERY_P50: Metric = Metric {
    name: "delivery p50 (ms)",
    digits: 1,
    of: |outcome| Some(latency_ms(outcome.delivery.as_ref()?.p50_us)),
};
/// 99th percentile of delivery latency.
pub const DELIVERY_P99: Metric = Metric {
    name: "delivery p99 (ms)",
    digits: 1,
    of: |outcome| Some(latency_ms(outcome.delivery.as_ref()?.p99_us)),
};
/// 99th percentile of acknowledgement latency.
pub const ACK_P99: Metric = Metric {
    name: "ack p99 (ms)",
    digits: 2,
    of: |outcome| Some(latency_ms(outcome.ack.as_ref()?.p99_us)),
};
/// Deliveries per second.
pub const DELIVERIES: Metric = Metric {
    name: "deliveries/s",
    digits: 0,
    of: |outcome| Some(outcome.deliveries_per_second),
};
/// Acknowledgements per second.
pub const ACKS: Metric = Metric {
    name: "acks/s",
    digits: 0,
    of: |outcome| Some(outcome.acks_per_second),
};
/// CPU time of the server per acknowledgement.
pub const CPU_PER_ACK: Metric = Metric {
    name: "CPU per ack (us)",
    digits: 2,
    of: |outcome| outcome.cost.as_ref()?.cpu_us_per_ack,
};
/// The server's memory per idle stream.
pub const BYTES_PER_STREAM: Metric = Metric {
    name: "bytes per stream",
    digits: 0,
    of: |outcome| {
        let cost = outcome.cost.as_ref()?;
        let grown = cost.memory_open.saturating_sub(cost.memory_start);
        (outcome.streams > 0).then(|| grown as f64 / outcome.streams as f64)
    },
};
/// CPU time of the server per heartbeat.
pub const CPU_PER_HEARTBEAT: Metric = Metric {
    name: "CPU per heartbeat (us)",
    digits: 2,
    of: |outcome| outcome.cost.as_ref()?.cpu_us_per_heartbeat,
};
/// Heartbeats read per second: all servers must send equally many.
pub const HEARTBEATS: Metric = Metric {
    name: "heartbeats/s",
    digits: 0,
    of: |outcome| Some(outcome.heartbeats_per_second),
};
/// Time until all streams have the replay, or are connected if there is none.
pub const STORM_SECONDS: Metric = Metric {
    name: "all served after (s)",
    digits: 2,
    of: |outcome| {
        let served = outcome
            .replay_all_s
            .or((outcome.replay_messages == 0).then_some(outcome.open_all_s));
        served.filter(|&seconds| seconds > 0.0)
    },
};
/// Bytes of a stream per delivery, before decompression and decryption.
pub const BYTES_PER_DELIVERY: Metric = Metric {
    name: "bytes per delivery",
    digits: 0,
    of: |outcome| {
        let deliveries = outcome.deliveries;
        (deliveries > 0).then(|| outcome.bytes as f64 / deliveries as f64)
    },
};
/// Messages missing, repeated or out of order.
pub const FAULTS: Metric = Metric {
    name: "faults",
    digits: 0,
    of: |outcome| Some(outcome.faults() as f64),
};
/// Growth of the server's memory, from open streams to its peak.
pub const MEMORY_GROWTH: Metric = Metric {
    name: "memory growth (MiB)",
    digits: 1,
    of: |outcome| {
        let cost = outcome.cost.as_ref()?;
        let grown = cost.memory_max.saturating_sub(cost.memory_open);
        Some(grown as f64 / f64::from(1 << 20))
    },
};
/// CPU time of the generator per delivery.
pub const GENERATOR_PER_DELIVERY: Metric = Metric {
    name: "generator CPU per delivery (us)",
    digits: 2,
    of: |outcome| outcome.generator.reader_us_per_delivery,
};
