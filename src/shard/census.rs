//! What a shard tells the thread that shares presence with other nodes: which sessions have changed, which have
//! streams, and how many.
//!
//! Part of the shard, called by `turn` with a task of that thread; only with a bus. Without one nothing is noted.
//! Never waits for the other side.

use std::collections::HashSet;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::limits::{PRESENCE_PAGE_SLOTS, presence_changes_max};
use crate::live_log::SessionKey;
use crate::message::SessionId;
use crate::shard::Shard;
use crate::shard::transport::Transport;

/// A task of the thread that shares presence, with the way of the result.
pub enum CensusTask {
    /// Send the changes since the last time.
    Changes(Sender<Changes>),
    /// Send sessions that have streams, from this place in the table of sessions on.
    Sessions(usize, Sender<SessionPage>),
    /// Send the number of streams of each.
    Counts(Arc<[SessionId]>, Sender<Vec<u64>>),
}

/// Sessions whose number of streams may have changed.
#[derive(Default)]
pub struct Changes {
    /// Empty if there were too many.
    pub sessions: HashSet<SessionId>,
    /// There were too many to note: any session may have changed.
    pub is_overflown: bool,
}

/// A part of the sessions that have streams.
pub struct SessionPage {
    /// Some sessions.
    pub sessions: Vec<SessionId>,
    /// Where the next part begins, if there is one.
    pub next: Option<usize>,
}

impl Changes {
    /// Notes a session. It stays noted after its end.
    fn note(&mut self, session: &SessionId, most: usize) {
        if self.is_overflown || self.sessions.contains(session) {
            return;
        }
        if self.sessions.len() < most {
            self.sessions.insert(session.clone());
        } else {
            self.is_overflown = true;
            self.sessions = HashSet::new();
        }
    }

    /// Adds those of another shard.
    pub fn add(&mut self, other: Changes) {
        self.sessions.extend(other.sessions);
        self.is_overflown |= other.is_overflown;
    }
}

impl<S: Transport> Shard<S> {
    /// Notes from now on which sessions change.
    pub fn note_changes(&mut self) {
        self.presence.changes = Some(Changes::default());
    }

    /// Notes that a session begins or ceases to have a stream. The log holds it.
    pub(super) fn note_change(&mut self, key: SessionKey) {
        if let Some(changes) = &mut self.presence.changes {
            let most = presence_changes_max(self.settings.shards);
            changes.note(self.log.session_name(key), most);
        }
    }

    /// Does a task of the thread that shares presence. It may have given up.
    pub fn run_census(&mut self, task: &CensusTask) {
        match task {
            CensusTask::Changes(to) => {
                let changes = self.presence.changes.as_mut().map(std::mem::take);
                let _ = to.send(changes.unwrap_or_default());
            }
            CensusTask::Sessions(from, to) => {
                let slots = *from..*from + PRESENCE_PAGE_SLOTS;
                let (sessions, has_more) = self.log.sessions_with_streams(slots.clone());
                let next = has_more.then_some(slots.end);
                let _ = to.send(SessionPage { sessions, next });
            }
            CensusTask::Counts(sessions, to) => {
                let count = |session| u64::from(self.log.streams_of(session));
                let _ = to.send(sessions.iter().map(count).collect());
            }
        }
    }
}
