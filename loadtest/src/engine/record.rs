//! Copies the results of a run's threads into its outcome.
//!
//! Used by `measurement` at the end of a run.

use crate::engine::load::Rate;
use crate::engine::outcome::{Observed, Outcome};
use crate::engine::publisher::PublisherOutcome;
use crate::engine::streams_outcome::StreamsOutcome;

/// Records the results of the publisher.
pub fn published(
    outcome: &mut Outcome,
    published: PublisherOutcome,
    rate: Rate,
    message_bytes: usize,
) {
    outcome.messages = published.sent;
    outcome.acked = published.acked;
    outcome.ack = published.ack.summary();
    outcome.ack_over_time = published.ack.points();
    outcome.message_bytes = message_bytes;
    if let Rate::Open(rate) = rate {
        outcome.rate = Some(rate);
        outcome.generator.schedule_lag = published.lag.summary();
    }
    outcome.errors.extend(published.errors);
}

/// Records the results of the streams.
pub fn seen(outcome: &mut Outcome, seen: StreamsOutcome) {
    if seen.deliveries == 0 && seen.expected > 0 {
        outcome.notes.push(format!(
            "no message was recognised, {} other events were read: --message-in says how a message stands in an \
             event",
            seen.others
        ));
    }
    outcome.deliveries = seen.deliveries;
    outcome.deliveries_expected = seen.expected;
    outcome.missing += seen.faults.missing;
    outcome.duplicate = seen.faults.duplicate;
    outcome.out_of_order = seen.faults.out_of_order;
    outcome.misdelivered = seen.faults.misdelivered;
    outcome.gaps = seen.gaps;
    outcome.gap_messages = seen.gap_messages;
    outcome.heartbeats = seen.heartbeats;
    outcome.bytes = seen.bytes;
    outcome.delivery = seen.delivery.summary();
    outcome.delivery_over_time = seen.delivery.points();
    outcome.open = seen.open.summary();
    outcome.replay = seen.replay.summary();
    outcome.churned = seen.churned;
    outcome.reopened = seen.reopened;
    outcome.stalled_closed = seen.stalled_closed;
    outcome.processes = seen.processes;
    outcome.errors.extend(seen.errors);
}

/// The messages of another publisher.
pub fn observed(seen: &StreamsOutcome) -> Observed {
    Observed {
        messages: seen.observed,
        earliest_us: seen.earliest_ns.map(|ns| ns.div_euclid(1_000)),
        untimed_events: seen.untimed,
    }
}
