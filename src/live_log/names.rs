//! The numbers of sessions by name.
//!
//! Used by the table of sessions (`sessions`). An entry keeps a hash of its name, in bytes that would be padding.
//! So a map that grows moves its entries without a look at any name: with a million sessions, those looks held up
//! all streams for 0.2 s.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use crate::message::SessionId;

/// See the module's description. `B` is the keyed hash.
#[derive(Default)]
pub(super) struct Names<B = RandomState> {
    hash: B,
    entries: HashSet<Entry, BuildHasherDefault<Spread>>,
}

struct Entry {
    name: SessionId,
    hash: u32,
    key: u32,
}

/// A name with its hash: what an entry is looked up by.
trait Hashed {
    fn name(&self) -> &SessionId;
    fn name_hash(&self) -> u32;
}

impl<B: BuildHasher> Names<B> {
    /// The number of a session.
    pub(super) fn get(&self, name: &SessionId) -> Option<u32> {
        let sought: &dyn Hashed = &(name, self.hash(name));
        self.entries.get(sought).map(|entry| entry.key)
    }

    /// Adds a session whose name is not in the map.
    pub(super) fn insert(&mut self, name: SessionId, key: u32) {
        let hash = self.hash(&name);
        self.entries.insert(Entry { name, hash, key });
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, name: &SessionId) {
        let sought: &dyn Hashed = &(name, self.hash(name));
        self.entries.remove(sought);
    }

    fn hash(&self, name: &SessionId) -> u32 {
        self.hash.hash_one(name) as u32
    }
}

impl Hashed for Entry {
    fn name(&self) -> &SessionId {
        &self.name
    }

    fn name_hash(&self) -> u32 {
        self.hash
    }
}

impl Hashed for (&SessionId, u32) {
    fn name(&self) -> &SessionId {
        self.0
    }

    fn name_hash(&self) -> u32 {
        self.1
    }
}

impl<'a> Borrow<dyn Hashed + 'a> for Entry {
    fn borrow(&self) -> &(dyn Hashed + 'a) {
        self
    }
}

impl Hash for dyn Hashed + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.name_hash());
    }
}

impl PartialEq for dyn Hashed + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name_hash() == other.name_hash() && self.name() == other.name()
    }
}

impl Eq for dyn Hashed + '_ {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.hash);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}

impl Eq for Entry {}

/// Spreads 32 bits that are a hash already over 64: the map uses the upper and the lower ones.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, _: &[u8]) {
        unreachable!("entries are hashed by their hash");
    }

    fn write_u32(&mut self, hash: u32) {
        // The lower bits choose the bucket. The upper ones tell its entries apart: they are those of a product.
        self.0 = (u64::from(hash).wrapping_mul(0x9e37_79b9) << 32) | u64::from(hash);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Bytes of a bucket: an entry and its control byte.
#[cfg(test)]
pub(super) const BUCKET_BYTES: usize = size_of::<Entry>() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash that all names share.
    #[derive(Default)]
    struct Constant;

    impl Hasher for Constant {
        fn write(&mut self, _: &[u8]) {}

        fn finish(&self) -> u64 {
            7
        }
    }

    fn check_all_orders<B: BuildHasher + Default>() {
        let ids = ["a", "b", "c"].map(|name| SessionId::parse(name).unwrap().unwrap());
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut names = Names::<B>::default();
            let mut expected = [None; 3];
            for (key, id) in (0..).zip(&ids) {
                assert_eq!(names.get(id), None);
                names.insert(id.clone(), key);
                expected[key as usize] = Some(key);
            }
            for removed in order {
                names.remove(&ids[removed]);
                expected[removed] = None;
                assert_eq!([0, 1, 2].map(|at: usize| names.get(&ids[at])), expected);
            }
        }
    }

    #[test]
    fn a_session_is_found_until_it_is_removed() {
        check_all_orders::<RandomState>();
    }

    #[test]
    fn names_with_one_hash_are_sessions_of_their_own() {
        check_all_orders::<BuildHasherDefault<Constant>>();
    }
}
