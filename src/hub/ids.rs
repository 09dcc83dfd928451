//! Ids and times of messages that are published on this node.
//!
//! Called by the hub, under its lock. Never reads a clock.
//!
//! The shared history is ordered by time and then by id, on every node and in KV. So a node's times
//! never decrease and its ids increase: wherever its messages are merged, their order is that of
//! their seqs. An id is a UUID of version 7 (RFC 9562 section 5.7): the message's time in 48 bits, a
//! counter of 42 bits (section 6.2, method 1), and 32 random bits, which make the next id
//! unpredictable.
//!
//! # When the clock does not advance
//!
//! - *Messages of the same millisecond*: the counter is incremented. It starts at a random number in
//!   the lower half of its range, so at least 2^41 messages follow. When it is exhausted, the time
//!   advances to the next millisecond.
//! - *The clock was set back, or another shard read it earlier*: the time stands still until the clock
//!   has caught up, for up to [`CLOCK_SET_BACK_MS_MAX`].
//! - *The clock was set back further*: the time follows it, because a clock that was wrong by so much
//!   has been corrected. Earlier messages are then so far ahead of KV's clock that they rank behind
//!   all others (see the mirror), also behind those that follow.
//! - *A restart or a handover*: the time continues one millisecond after the latest in the ring,
//!   because the counter is not stored.

use crate::limits::CLOCK_SET_BACK_MS_MAX;
use crate::message::MessageId;

/// The id and the time that the hub assigns to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The message's time, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The message's id.
    pub id: MessageId,
}

/// The stamps of one node, each greater than the one before. Without I/O.
#[derive(Debug, Default)]
pub struct Stamps {
    last_ms: u64,
    counter: u64,
    /// Times of messages in the ring that another process or node has stamped. The next stamp, which has
    /// the clock's time, ignores those that are too far in the future.
    found_ms: Vec<u64>,
}

/// Random bytes for one stamp.
pub type StampRandom = [u8; 12];

impl Stamps {
    const COUNTER_BITS: u32 = 42;
    const COUNTER_MAX: u64 = (1 << Self::COUNTER_BITS) - 1;
    /// Bits of the counter behind the UUID's variant.
    const COUNTER_LOW_BITS: u32 = 30;

    /// Makes every following stamp greater than those of messages with these times.
    pub fn continue_after(&mut self, times_ms: impl IntoIterator<Item = u64>) {
        self.found_ms.extend(times_ms);
    }

    /// The next stamp. `unix_ms` is the clock's time.
    pub fn next(&mut self, unix_ms: u64, random: StampRandom) -> Stamp {
        self.skip_found(unix_ms);
        let is_set_back = unix_ms.saturating_add(CLOCK_SET_BACK_MS_MAX) < self.last_ms;
        if unix_ms > self.last_ms || is_set_back {
            self.begin(unix_ms, random);
        } else if self.counter < Self::COUNTER_MAX {
            self.counter += 1;
        } else {
            self.begin(self.last_ms.saturating_add(1), random);
        }
        Stamp {
            timestamp_ms: self.last_ms,
            id: self.id(random),
        }
    }

    /// Advances past the latest time found in the ring. The counter of that millisecond counts as
    /// exhausted.
    fn skip_found(&mut self, unix_ms: u64) {
        let latest_ms = unix_ms.saturating_add(CLOCK_SET_BACK_MS_MAX);
        let is_believed = |time_ms: &u64| *time_ms <= latest_ms;
        let found_ms = std::mem::take(&mut self.found_ms);
        if let Some(found_ms) = found_ms.into_iter().filter(is_believed).max()
            && found_ms >= self.last_ms
        {
            self.last_ms = found_ms;
            self.counter = Self::COUNTER_MAX;
        }
    }

    fn begin(&mut self, time_ms: u64, random: StampRandom) {
        let mut seed = [0; 8];
        seed.copy_from_slice(&random[..8]);
        self.last_ms = time_ms;
        self.counter = u64::from_be_bytes(seed) & (Self::COUNTER_MAX >> 1);
    }

    fn id(&self, random: StampRandom) -> MessageId {
        const TIME_BITS: u32 = 48;
        const VERSION: u128 = 7;
        const VARIANT: u128 = 0b10;
        let mut tail = [0; 4];
        tail.copy_from_slice(&random[8..]);
        let tail = u128::from(u32::from_be_bytes(tail));
        let time_ms = u128::from(self.last_ms & ((1 << TIME_BITS) - 1));
        let high = u128::from(self.counter >> Self::COUNTER_LOW_BITS);
        let low = u128::from(self.counter & ((1 << Self::COUNTER_LOW_BITS) - 1));
        let high = (time_ms << 80) | (VERSION << 76) | (high << 64);
        let low = (VARIANT << 62) | (low << 32) | tail;
        let id = high | low;
        MessageId::from_u128(id)
    }
}

/// Stamps with random bytes of the kernel. They are read a page at a time, because a system call per
/// message would cost more than the rest of a publish.
pub(super) struct MessageIds {
    stamps: Stamps,
    bytes: [u8; MessageIds::BYTES],
    used: usize,
}

impl MessageIds {
    const BYTES: usize = 341 * size_of::<StampRandom>();

    pub(super) fn new() -> MessageIds {
        MessageIds {
            stamps: Stamps::default(),
            bytes: [0; Self::BYTES],
            used: Self::BYTES,
        }
    }

    /// See [`Stamps::continue_after`].
    pub(super) fn continue_after(&mut self, times_ms: impl IntoIterator<Item = u64>) {
        self.stamps.continue_after(times_ms);
    }

    pub(super) fn next(&mut self, unix_ms: u64) -> Result<Stamp, getrandom::Error> {
        if self.used == Self::BYTES {
            getrandom::fill(&mut self.bytes)?;
            self.used = 0;
        }
        let mut random = StampRandom::default();
        let end = self.used + random.len();
        random.copy_from_slice(&self.bytes[self.used..end]);
        self.used = end;
        Ok(self.stamps.next(unix_ms, random))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use fastrand::Rng;

    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    struct Node {
        stamps: Stamps,
        rng: Rng,
    }

    impl Node {
        fn new(seed: u64) -> Node {
            Node {
                stamps: Stamps::default(),
                rng: Rng::with_seed(seed),
            }
        }

        fn next(&mut self, unix_ms: u64) -> Stamp {
            let mut random = StampRandom::default();
            self.rng.fill(&mut random);
            self.stamps.next(unix_ms, random)
        }
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_of_its_time() {
        let mut node = Node::new(1);
        for unix_ms in [0, 1, NOW_MS, NOW_MS, (1 << 48) - 1] {
            let Stamp { timestamp_ms, id } = node.next(unix_ms);
            assert_eq!(timestamp_ms, unix_ms);
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert_eq!(id.as_u128() >> 80, u128::from(unix_ms));
        }
    }

    /// Ten million are more than the server accepts in a second.
    #[test]
    fn ten_million_messages_of_one_millisecond_have_rising_ids() {
        let mut node = Node::new(2);
        let mut last = node.next(NOW_MS);
        for _ in 0..10_000_000 {
            let next = node.next(NOW_MS);
            assert!(next.id > last.id && next.timestamp_ms == NOW_MS);
            last = next;
        }
    }

    #[test]
    fn an_exhausted_counter_advances_the_time_by_a_millisecond() {
        let mut node = Node::new(3);
        let first = node.next(NOW_MS);
        node.stamps.counter = Stamps::COUNTER_MAX - 1;
        let last = node.next(NOW_MS);
        let over = node.next(NOW_MS);
        assert_eq!((last.timestamp_ms, over.timestamp_ms), (NOW_MS, NOW_MS + 1));
        assert!(first < last && last < over && last.id < over.id);
        // The clock is still a millisecond behind.
        let next = node.next(NOW_MS);
        assert!(next > over && next.timestamp_ms == NOW_MS + 1);
        assert!(node.next(NOW_MS + 2).timestamp_ms == NOW_MS + 2);
    }

    #[test]
    fn a_clock_set_back_stops_the_time_and_one_set_far_back_is_followed() {
        let mut node = Node::new(4);
        let before = node.next(NOW_MS);
        let during = node.next(NOW_MS - CLOCK_SET_BACK_MS_MAX);
        assert!(during > before && during.timestamp_ms == NOW_MS);
        let far = node.next(NOW_MS - CLOCK_SET_BACK_MS_MAX - 1);
        assert_eq!(far.timestamp_ms, NOW_MS - CLOCK_SET_BACK_MS_MAX - 1);
        // After a clock that was years ahead is corrected, the time follows it back.
        node.next(NOW_MS + 1_000_000_000_000);
        assert_eq!(node.next(NOW_MS).timestamp_ms, NOW_MS);
    }

    #[test]
    fn after_a_restart_stamps_are_greater_than_those_in_the_ring() {
        for found_ms in [
            NOW_MS - 1,
            NOW_MS,
            NOW_MS + 1,
            NOW_MS + CLOCK_SET_BACK_MS_MAX,
        ] {
            let mut before = Node::new(5);
            let last = before.next(found_ms);
            let mut node = Node::new(6);
            // A time of another node may be years ahead: it is ignored.
            node.stamps.continue_after([7, last.timestamp_ms, u64::MAX]);
            let stamp = node.next(NOW_MS);
            assert!(stamp > last && stamp.id > last.id, "{found_ms}");
            assert_eq!(stamp.timestamp_ms, NOW_MS.max(found_ms + 1));
        }
    }

    #[test]
    fn a_predecessor_that_continues_stamps_after_its_successor() {
        let mut predecessor = Node::new(7);
        let first = predecessor.next(NOW_MS);
        let mut successor = Node::new(8);
        successor.stamps.continue_after([first.timestamp_ms]);
        let theirs: Vec<Stamp> = (0..3).map(|_| successor.next(NOW_MS)).collect();
        let times = theirs.iter().map(|stamp| stamp.timestamp_ms);
        predecessor.stamps.continue_after(times);
        let next = predecessor.next(NOW_MS);
        assert!(first < theirs[0] && theirs[2] < next);
    }

    #[test]
    fn stamps_rise_on_random_walks_of_the_clock() {
        for seed in 0..200 {
            let mut rng = Rng::with_seed(seed);
            let mut node = Node::new(seed);
            let (mut unix_ms, mut last) = (NOW_MS, node.next(NOW_MS));
            let mut stored = vec![last.timestamp_ms];
            for _ in 0..1_000 {
                unix_ms = match rng.u8(..20) {
                    0 => unix_ms - rng.u64(..CLOCK_SET_BACK_MS_MAX / 100),
                    1 => unix_ms + rng.u64(..10_000),
                    2..=5 => unix_ms + 1,
                    _ => unix_ms,
                };
                if rng.u8(..50) == 0 {
                    node.stamps = Stamps::default();
                    node.stamps.continue_after(stored.iter().copied());
                }
                let next = node.next(unix_ms);
                assert!(next > last && next.id > last.id, "seed {seed}");
                stored.push(next.timestamp_ms);
                if stored.len() > 100 {
                    stored.remove(0);
                }
                last = next;
            }
        }
    }

    #[test]
    fn an_id_does_not_predict_the_next() {
        let mut node = Node::new(9);
        let tails: HashSet<u32> = (0..1_000)
            .map(|_| node.next(NOW_MS).id.as_u128() as u32)
            .collect();
        assert!(tails.len() > 990, "{}", tails.len());
        let seeds: HashSet<u64> = (1..1_000)
            .map(|ms| {
                node.next(NOW_MS + ms);
                node.stamps.counter
            })
            .collect();
        assert!(seeds.len() > 990, "{}", seeds.len());
    }
}
