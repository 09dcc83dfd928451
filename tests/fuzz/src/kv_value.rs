//! Values of the shared key: reading and writing changes no accepted entry. The result of a merge is neither
//! too large nor out of order.

use hookcast::limits::{HISTORY_MESSAGES, KV_VALUE_BYTES_MAX};
use hookcast::mirror::entry::{self, Entry};
use hookcast::mirror::merge::join;
use hookcast::mirror::value::{self, Stored};

const HORIZON_MS: u64 = 2_000_000_000_000;

pub fn run(bytes: &[u8]) {
    let Ok(stored) = read(bytes) else {
        return;
    };
    assert_eq!(stored.entries.len(), stored.count);
    let foreign = stored.entries.iter().filter(|entry| entry.id().is_none());
    assert_eq!(foreign.count(), stored.foreign);
    assert_eq!(stored.first_fault.is_some(), stored.foreign > 0);

    let written = value::serialise(&stored.entries);
    let again = read(&written).expect("a written value is readable");
    assert_eq!(again.entries, stored.entries);
    assert_eq!(value::serialise(&again.entries), written);
    assert!(
        written.len() <= bytes.len().max(2),
        "entries take more than their text"
    );
    let entries_bytes = stored.entries.iter().map(Entry::bytes).sum();
    assert!(written.len() <= value::value_bytes(stored.count, entries_bytes) + 1);
    for entry in stored.entries.iter().filter(|entry| entry.id().is_some()) {
        let message = entry.to_message().expect("the entry is readable again");
        assert_eq!(Entry::of(&message).is_some(), entry::is_shareable(&message));
        assert!(!message.content.trim().is_empty());
        assert!(
            message
                .session
                .as_ref()
                .is_none_or(|id| !id.as_str().is_empty())
        );
    }

    let joined = join(stored.entries.iter().cloned(), HISTORY_MESSAGES, HORIZON_MS);
    assert!(joined.len() <= HISTORY_MESSAGES);
    assert!(value::serialise(&joined).len() <= KV_VALUE_BYTES_MAX);
    let is_in_order = |pair: &[Entry]| pair[0].rank(&pair[1], HORIZON_MS).is_lt();
    assert!(joined.windows(2).all(is_in_order));
    let (one, other) = stored.entries.split_at(stored.count / 2);
    let one = join(one.iter().cloned(), HISTORY_MESSAGES, HORIZON_MS);
    let both = join(
        other.iter().cloned().chain(one),
        HISTORY_MESSAGES,
        HORIZON_MS,
    );
    assert_eq!(both, joined, "the order of merging makes a difference");
}

fn read(bytes: &[u8]) -> Result<Stored, value::Unreadable> {
    value::parse(Some(bytes), usize::MAX, &|entries| entries)
}
