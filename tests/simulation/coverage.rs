//! Counts of rare events. A simulation that no longer brings them about fails.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hookcast::metrics::{Counter, Metrics};

thread_local! {
    static COUNTS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Counters that must rise within a few thousand seeds.
const RARE: &[(&str, Counter)] = &[
    ("deliveries", Counter::Deliveries),
    ("heartbeats", Counter::Heartbeats),
    ("gaps sent", Counter::Gaps),
    ("streams closed by the peer", Counter::StreamsEndedByPeer),
    ("streams stalled", Counter::StreamsStalled),
    ("streams torn", Counter::StreamsOverrun),
    ("streams drained", Counter::StreamsDrained),
    ("refused: malformed", Counter::RefusedMalformed),
    ("refused: too large", Counter::RefusedTooLarge),
    ("refused: too slow", Counter::RefusedTooSlow),
    ("refused: unauthorized", Counter::RefusedUnauthorized),
    ("refused: invalid message", Counter::RefusedInvalidMessage),
    ("refused: at the limit", Counter::RefusedAtLimit),
    ("refused: storage", Counter::RefusedStorage),
    ("messages acknowledged", Counter::MessagesLocal),
];

pub fn count(what: &'static str, times: u64) {
    COUNTS.with_borrow_mut(|counts| *counts.entry(what).or_default() += times);
}

/// Adds the counters of a shard at its end.
pub fn count_all(metrics: &Metrics) {
    for &(what, counter) in RARE {
        count(what, metrics.total(counter));
    }
}

/// Prints all counts. If `must_be_complete`, fails if one is zero.
pub fn report(must_be_complete: bool) {
    COUNTS.with_borrow(|counts| {
        for (what, times) in counts {
            println!("{times:12} {what}");
            assert!(*times > 0 || !must_be_complete, "{what}: never");
        }
    });
}
