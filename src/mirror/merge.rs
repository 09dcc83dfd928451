//! The merge of several nodes' histories.
//!
//! Called by the mirror core. Never does I/O, has no clock and no state.
//!
//! The shared history is the greatest 100 entries of the union of all histories, in the order of
//! [`Entry::rank`]: by time, then by id. The order is total and the same on every node, whatever its clock
//! says. Taking the greatest 100 of a union is commutative, associative and idempotent. So it does not
//! matter in which order, how often or how late nodes read each other's values: all reach the same
//! history. For a message that is dropped there are 100 greater ones, so it never returns.
//!
//! Two kinds of entries are not ranked by time: foreign ones, whose size is not bounded, and messages far
//! in the future, which would otherwise stay in the history until their time comes. They rank behind all
//! others. They are kept while there is room, because their writers may need them; a hundred messages push
//! them out.

use std::collections::HashSet;

use crate::limits::KV_VALUE_BYTES_MAX;
use crate::mirror::entry::Entry;
use crate::mirror::value;

/// The greatest `history_max` entries that fit into a KV value together, one for each identity, least
/// first. `horizon_ms` is the latest plausible time.
pub fn join(
    entries: impl IntoIterator<Item = Entry>,
    history_max: usize,
    horizon_ms: u64,
) -> Vec<Entry> {
    let mut all: Vec<Entry> = entries.into_iter().collect();
    all.sort_by(|a, b| b.rank(a, horizon_ms));

    let mut identities = HashSet::new();
    let mut greatest: Vec<&Entry> = Vec::with_capacity(history_max);
    let mut bytes = 0;
    for entry in &all {
        // Of two versions of an entry the greater one comes first.
        if greatest.len() == history_max || !identities.insert(entry.identity()) {
            continue;
        }
        bytes += entry.bytes();
        if value::value_bytes(greatest.len() + 1, bytes) > KV_VALUE_BYTES_MAX {
            break;
        }
        greatest.push(entry);
    }
    greatest.into_iter().rev().cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::KV_ENTRY_BYTES_MAX;
    use crate::message::{Message, MessageId};

    const HISTORY: usize = 6;
    const HORIZON: u64 = 30;

    fn message(id: u128, timestamp_ms: u64) -> Message {
        let content = format!("{id} at {timestamp_ms}");
        Message {
            id: MessageId::from_u128(id),
            timestamp_ms,
            session: None,
            content,
            label: None,
            identity: None,
        }
    }

    fn entry(id: u128, timestamp_ms: u64) -> Entry {
        Entry::of(&message(id, timestamp_ms)).unwrap()
    }

    fn foreign(text: &str) -> Entry {
        let value = format!("[{text}]");
        value::parse(Some(value.as_bytes()), 10, &|all| all)
            .unwrap()
            .entries
            .remove(0)
    }

    fn join2(a: &[Entry], b: &[Entry]) -> Vec<Entry> {
        join(a.iter().chain(b).cloned(), HISTORY, HORIZON)
    }

    /// Messages with unique ids at few different times, some beyond the horizon, and foreign entries.
    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let any = (0u8..40).prop_map(|n| match n {
            0..=3 => foreign(&n.to_string()),
            _ => entry(u128::from(n), u64::from(n) * 7 % 11 * 4),
        });
        prop::collection::vec(any, 0..14)
    }

    proptest! {
        #[test]
        fn join_is_commutative(a in entries(), b in entries()) {
            prop_assert_eq!(join2(&a, &b), join2(&b, &a));
        }

        #[test]
        fn join_is_associative(a in entries(), b in entries(), c in entries()) {
            prop_assert_eq!(join2(&join2(&a, &b), &c), join2(&a, &join2(&b, &c)));
        }

        #[test]
        fn join_is_idempotent(a in entries(), b in entries()) {
            let once = join2(&a, &b);
            prop_assert_eq!(&join2(&once, &once), &once);
            prop_assert_eq!(&join2(&once, &a), &once);
        }

        #[test]
        fn join_is_the_greatest_of_the_union(a in entries()) {
            let joined = join2(&a, &[]);
            prop_assert!(joined.len() <= HISTORY);
            prop_assert!(joined.is_sorted_by(|x, y| x.rank(y, HORIZON).is_lt()));
            for entry in &a {
                let missing = !joined.contains(entry);
                prop_assert!(!missing || joined.len() == HISTORY);
                prop_assert!(!missing || entry.rank(&joined[0], HORIZON).is_lt());
            }
        }
    }

    #[test]
    fn equal_times_are_ordered_by_id() {
        assert_eq!(
            join2(&[entry(3, 5), entry(1, 5)], &[entry(2, 5)]),
            [entry(1, 5), entry(2, 5), entry(3, 5)]
        );
    }

    #[test]
    fn every_node_keeps_the_same_of_two_versions() {
        let (early, late) = (entry(1, 5), entry(1, 6));
        let (early, late) = ([early], [late]);
        assert_eq!(join2(&early, &late), late);
        assert_eq!(join2(&late, &early), late);
    }

    #[test]
    fn foreign_and_future_entries_are_pushed_out_by_messages() {
        let strange = [foreign("1"), entry(50, HORIZON + 1)];
        let proper: Vec<Entry> = (0..5).map(|n| entry(n, n as u64)).collect();
        let joined = join2(&strange, &proper);
        assert_eq!(joined[0], strange[1]);
        assert_eq!(joined[1..], proper[..]);
        assert_eq!(join2(&strange, &proper[..2])[..2], strange);
    }

    #[test]
    fn huge_entries_never_make_the_value_too_large() {
        let huge = |letter: &str| {
            let text = letter.repeat(KV_ENTRY_BYTES_MAX * 45);
            foreign(&format!("\"{text}\""))
        };
        let joined = join(
            [huge("a"), huge("b"), huge("c"), entry(4, 1)],
            HISTORY,
            HORIZON,
        );
        assert_eq!(joined, [huge("b"), huge("c"), entry(4, 1)]);
        assert!(value::serialise(&joined).len() <= KV_VALUE_BYTES_MAX);
    }

    #[test]
    fn a_full_history_of_the_largest_entries_fits_the_value() {
        let largest = |id: u128| {
            let bare = entry(id, 20).bytes();
            let content = format!("{id} at 20{}", "x".repeat(KV_ENTRY_BYTES_MAX - bare));
            Entry::of(&Message {
                content,
                ..message(id, 20)
            })
        };
        let joined = join((100..200).filter_map(largest), 100, HORIZON);
        assert_eq!((joined.len(), joined[0].bytes()), (100, KV_ENTRY_BYTES_MAX));
        assert!(joined[0].is_first_class(HORIZON));
        assert!(value::serialise(&joined).len() <= KV_VALUE_BYTES_MAX);
    }
}
