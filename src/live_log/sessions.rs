//! The sessions that have an open stream or a frame in the live log.
//!
//! Called by the live log, which indexes targeted frames here. For each session the shard keeps the
//! head of its list of streams here, too. Never keeps a session without streams and frames, nor
//! much more capacity for a session's frames than they need.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use slab::Slab;

use crate::limits::{SESSION_FRAMES_LEAST, SESSION_FRAMES_SPREAD};
use crate::live_log::names::Names;
use crate::message::SessionId;

/// The number of a session in this table. Valid while the session has a stream or a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(u32);

/// The end of a list of slots.
pub const NO_SLOT: u32 = u32::MAX;

pub(super) struct Session {
    name: SessionId,
    /// The seqs of the session's frames in the log, ascending.
    pub(super) frames: VecDeque<u64>,
    /// How many of the session's frames have left the log since it entered this table.
    pub(super) frames_evicted: u64,
    streams: u32,
    first_slot: u32,
    walk: Walk,
}

/// The position of the sweep in a session's list of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    /// No stream of the session is behind.
    Idle,
    /// `slot` is next. If another message for the session has arrived, the walk begins `again` at the
    /// end of the list.
    At { slot: u32, again: bool },
}

impl Session {
    /// How many of the session's frames come before `seq`, counted since it entered this table.
    pub(super) fn frames_before(&self, seq: u64) -> u64 {
        self.frames_evicted + self.frames.partition_point(|&frame| frame < seq) as u64
    }

    /// Frees the capacity of evicted frames, because a stream may hold the session for ever.
    fn shrink_frames(&mut self) {
        let (room, frames) = (self.frames.capacity(), self.frames.len());
        if room > SESSION_FRAMES_LEAST.max(frames * SESSION_FRAMES_SPREAD) {
            self.frames
                .shrink_to(SESSION_FRAMES_LEAST.max(frames * SESSION_FRAMES_SPREAD / 2));
        }
    }

    fn is_idle(&self) -> bool {
        self.streams == 0 && self.frames.is_empty()
    }
}

/// Bytes of the table for each session. A slab's entry is either the value or the index of the next free
/// entry. A niche in the value holds the discriminant, so it takes no space.
#[cfg(test)]
pub(super) const RECORD_BYTES: usize = size_of::<Result<Session, usize>>();

#[derive(Default)]
pub(super) struct Sessions {
    names: Names,
    table: Slab<Session>,
    /// How many connections of a session are long polls; only of sessions with some. Not in the record, which
    /// each session with a stream has.
    polls: HashMap<u32, u32>,
}

impl Sessions {
    pub(super) fn find(&self, name: &SessionId) -> Option<SessionKey> {
        self.names.get(name).map(SessionKey)
    }

    /// Adds a frame to the index of its session.
    pub(super) fn push_frame(&mut self, name: &SessionId, seq: u64) -> SessionKey {
        let key = self.intern(name);
        self.session_mut(key).frames.push_back(seq);
        key
    }

    /// Removes a session's oldest frame from the index.
    pub(super) fn evict_frame(&mut self, key: SessionKey, seq: u64) {
        let session = self.session_mut(key);
        let evicted = session.frames.pop_front();
        assert_eq!(evicted, Some(seq), "frames are evicted in order");
        session.frames_evicted += 1;
        session.shrink_frames();
        self.forget_if_idle(key);
    }

    /// Removes all frames from the index. Sessions with streams keep their keys, lists and walks.
    pub(super) fn forget_frames(&mut self) {
        let names = &mut self.names;
        self.table.retain(|_, session| {
            session.frames = VecDeque::new();
            session.frames_evicted = 0;
            if session.is_idle() {
                names.remove(&session.name);
            }
            !session.is_idle()
        });
    }

    /// Counts one more stream of a session.
    pub(super) fn hold(&mut self, name: &SessionId) -> SessionKey {
        let key = self.intern(name);
        self.session_mut(key).streams += 1;
        key
    }

    /// Counts one stream less. Its slot has already left the list.
    pub(super) fn release(&mut self, key: SessionKey) {
        let session = self.session_mut(key);
        session.streams -= 1;
        self.forget_if_idle(key);
    }

    /// Counts one long poll more or less of a session that is held.
    pub(super) fn note_poll(&mut self, key: SessionKey, is_begun: bool) {
        let polls = self.polls.entry(key.0).or_default();
        if is_begun {
            *polls += 1;
        } else {
            *polls -= 1;
            if *polls == 0 {
                self.polls.remove(&key.0);
            }
        }
    }

    /// How many of those that hold a session are no long polls.
    pub(super) fn streams_of(&self, name: &SessionId) -> u32 {
        self.find(name).map_or(0, |key| {
            let polls = self.polls.get(&key.0).copied().unwrap_or_default();
            self.session(key).streams - polls
        })
    }

    pub(super) fn name(&self, key: SessionKey) -> &SessionId {
        &self.session(key).name
    }

    /// The sessions in these slots of the table that are held, and whether there are further slots.
    pub(super) fn with_streams(&self, slots: Range<usize>) -> (Vec<SessionId>, bool) {
        let has_more = slots.end < self.table.capacity();
        let sessions = slots.filter_map(|slot| self.table.get(slot));
        let held = sessions.filter(|session| session.streams > 0);
        (held.map(|session| session.name.clone()).collect(), has_more)
    }

    pub(super) fn first_slot(&self, key: SessionKey) -> u32 {
        self.session(key).first_slot
    }

    pub(super) fn set_first_slot(&mut self, key: SessionKey, slot: u32) {
        self.session_mut(key).first_slot = slot;
    }

    /// Starts a walk over a session's streams, or makes the one in progress begin again at its end.
    /// Returns whether the walk is new.
    pub(super) fn begin_walk(&mut self, key: SessionKey) -> bool {
        let session = self.session_mut(key);
        let is_new = session.walk == Walk::Idle && session.first_slot != NO_SLOT;
        session.walk = match session.walk {
            Walk::At { slot, .. } => Walk::At { slot, again: true },
            Walk::Idle if is_new => Walk::At {
                slot: session.first_slot,
                again: false,
            },
            Walk::Idle => Walk::Idle,
        };
        is_new
    }

    /// The next slot of a walk; `None` when the walk is over or the session was removed.
    pub(super) fn walk_slot(&mut self, key: SessionKey) -> Option<u32> {
        let session = self.table.get_mut(key.0 as usize)?;
        if let Walk::At {
            slot: NO_SLOT,
            again,
        } = session.walk
        {
            session.walk = if again && session.first_slot != NO_SLOT {
                Walk::At {
                    slot: session.first_slot,
                    again: false,
                }
            } else {
                Walk::Idle
            };
        }
        match session.walk {
            Walk::At { slot, .. } => Some(slot),
            Walk::Idle => None,
        }
    }

    /// Moves a walk that is at `slot` to `next`.
    pub(super) fn walk_past(&mut self, key: SessionKey, slot: u32, next: u32) {
        let session = self.session_mut(key);
        if let Walk::At { slot: at, again } = session.walk
            && at == slot
        {
            session.walk = Walk::At { slot: next, again };
        }
    }

    pub(super) fn session(&self, key: SessionKey) -> &Session {
        &self.table[key.0 as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn session_mut(&mut self, key: SessionKey) -> &mut Session {
        &mut self.table[key.0 as usize]
    }

    fn intern(&mut self, name: &SessionId) -> SessionKey {
        if let Some(key) = self.find(name) {
            return key;
        }
        let key = self.table.insert(Session {
            name: name.clone(),
            frames: VecDeque::new(),
            frames_evicted: 0,
            streams: 0,
            first_slot: NO_SLOT,
            walk: Walk::Idle,
        });
        let key = u32::try_from(key).expect("sessions are bounded by streams and frames");
        self.names.insert(name.clone(), key);
        SessionKey(key)
    }

    fn forget_if_idle(&mut self, key: SessionKey) {
        if self.session(key).is_idle() {
            let session = self.table.remove(key.0 as usize);
            debug_assert_eq!(session.first_slot, NO_SLOT);
            self.names.remove(&session.name);
        }
    }
}
