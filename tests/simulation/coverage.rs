//! How often the rare things happened, so that a simulation in which nothing happens is noticed.

use std::cell::RefCell;
use std::collections::BTreeMap;

use hookcast::metrics::{Counter, Metrics};

thread_local! {
    static COUNTS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// What a few thousand seeds have to bring about.
const RARE: &[(&str, Counter)] = &[
    ("deliveries", Counter::Deliveries),
    ("heartbeats", Counter::Heartbeats),
    ("gaps told", Counter::Gaps),
    ("streams left by their peer", Counter::StreamsEndedByPeer),
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

/// Adds what a shard has counted in its life.
pub fn count_all(metrics: &Metrics) {
    for &(what, counter) in RARE {
        count(what, metrics.total(counter));
    }
}

/// Prints everything, and fails if something never happened.
pub fn report(must_be_whole: bool) {
    COUNTS.with_borrow(|counts| {
        for (what, times) in counts {
            println!("{times:12} {what}");
            assert!(*times > 0 || !must_be_whole, "{what}: never");
        }
    });
}
