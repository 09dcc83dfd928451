//! The views of several sessions, and the merge of their frames.
//!
//! Called by the live log. A view is a key into this table, so a stream with one session pays nothing for
//! streams with several. Never counts the streams of a session: `sessions` does.

use std::collections::VecDeque;

use slab::Slab;

use super::sessions::{SessionKey, Sessions};
use crate::limits::{SESSIONS_PER_STREAM_MAX, UNION_SESSION_BYTES};
use crate::message::SessionId;

/// The number of a union in this table, and what its stream holds for it. Valid until the union is removed.
/// Packed, so that a view takes 8 bytes: every stream has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(Rust, packed(2))]
pub struct UnionKey {
    index: u32,
    held_bytes: u16,
}

impl UnionKey {
    /// The bytes that the union takes, as [`union_bytes`] has them.
    pub fn held_bytes(self) -> usize {
        usize::from(self.held_bytes)
    }
}

/// The bytes that a union of these sessions takes.
pub fn union_bytes(names: &[SessionId]) -> usize {
    let bytes = |name: &SessionId| name.as_str().len() + UNION_SESSION_BYTES;
    names.iter().map(bytes).sum()
}

/// The sessions of each stream that has several.
#[derive(Default)]
pub(super) struct Unions {
    table: Slab<Box<[SessionKey]>>,
}

impl Unions {
    /// Adds a union of different sessions, which takes `held_bytes`.
    pub(super) fn insert(&mut self, sessions: Box<[SessionKey]>, held_bytes: usize) -> UnionKey {
        assert!(
            sessions.len() <= SESSIONS_PER_STREAM_MAX,
            "requests with more sessions are refused"
        );
        let index = self.table.insert(sessions);
        UnionKey {
            index: u32::try_from(index).expect("unions are bounded by connections"),
            held_bytes: u16::try_from(held_bytes).expect("16 sessions take less than 64 KiB"),
        }
    }

    /// Removes a union. The last one frees the table.
    pub(super) fn remove(&mut self, key: UnionKey) -> Box<[SessionKey]> {
        let sessions = self.table.remove(key.index as usize);
        if self.table.is_empty() {
            self.table = Slab::new();
        }
        sessions
    }

    pub(super) fn sessions(&self, key: UnionKey) -> &[SessionKey] {
        &self.table[key.index as usize]
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }
}

/// The lists of a union: that of the untargeted frames, and one for each session.
const LISTS_MAX: usize = SESSIONS_PER_STREAM_MAX + 1;

/// The merge of a union's lists: ascending, without common elements. Each list has a position, and everything
/// before it is passed. Positions take 68 bytes, so that the merge needs no allocation.
pub(super) struct Union<'a> {
    broadcasts: &'a VecDeque<u64>,
    sessions: &'a Sessions,
    keys: &'a [SessionKey],
    positions: [u32; LISTS_MAX],
}

impl<'a> Union<'a> {
    /// The lists, with nothing passed.
    pub(super) fn new(
        broadcasts: &'a VecDeque<u64>,
        sessions: &'a Sessions,
        keys: &'a [SessionKey],
    ) -> Union<'a> {
        Union {
            broadcasts,
            sessions,
            keys,
            positions: [0; LISTS_MAX],
        }
    }

    /// Passes everything before `seq`.
    pub(super) fn from(mut self, seq: u64) -> Union<'a> {
        for list in 0..self.lists() {
            let passed = self.list(list).partition_point(|&frame| frame < seq);
            self.positions[list] = passed as u32;
        }
        self
    }

    /// The oldest of the newest `count` seqs; `None` without any.
    pub(super) fn newest(mut self, count: usize) -> Option<u64> {
        for list in 0..self.lists() {
            self.positions[list] = self.list(list).len() as u32;
        }
        let mut oldest = None;
        for _ in 0..count {
            let newest_of = |list: usize| {
                let position = self.positions[list].checked_sub(1)?;
                Some((*self.list(list).get(position as usize)?, list))
            };
            let Some((seq, list)) = (0..self.lists()).filter_map(newest_of).max() else {
                break;
            };
            self.positions[list] -= 1;
            oldest = Some(seq);
        }
        oldest
    }

    /// The next seq.
    pub(super) fn next(&mut self) -> Option<u64> {
        let oldest_of = |list: usize| {
            let seq = self.list(list).get(self.positions[list] as usize)?;
            Some((*seq, list))
        };
        let (seq, list) = (0..self.lists()).filter_map(oldest_of).min()?;
        self.positions[list] += 1;
        Some(seq)
    }

    fn lists(&self) -> usize {
        self.keys.len() + 1
    }

    fn list(&self, list: usize) -> &'a VecDeque<u64> {
        match list.checked_sub(1) {
            None => self.broadcasts,
            Some(session) => &self.sessions.session(self.keys[session]).frames,
        }
    }
}
