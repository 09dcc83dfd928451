//! The hub's part with identities: what each owner of the ring does with them.
//!
//! The table is behind the hub's lock. Its file is written under the lock, and synced without it. Called by
//! the committer, by the store of a bus, and at the start.

use std::sync::Arc;

use super::outcome::{Outcome, outcome_of};
use super::{Hub, Store};
use crate::identities::{Identities, IdentityStats};
use crate::message::Message;

impl Hub {
    /// Recognises repeats by these identities, too: those of a file beside the ring. Called before the
    /// first message is published.
    pub fn set_identities(&self, mut identities: Identities) {
        let mut state = self.lock();
        let messages = state.history.numbered();
        identities.note_all(messages.map(|(seq, message)| (seq, &**message)));
        identities.keep();
        state.identities = identities;
    }

    /// Levels and counters for the metrics.
    pub fn identity_stats(&self) -> Arc<IdentityStats> {
        self.lock().identities.stats()
    }

    /// The outcome of a message that repeats another one, which may be in the same commit.
    pub(super) fn outcome_of_repeat(&self, message: &Message, unix_ms: u64) -> Option<Outcome> {
        let identity = message.identity.as_ref()?;
        outcome_of(self.lock().identities.find(identity, unix_ms))
    }

    /// Notes the identity of a message that was appended, before it is on disk.
    pub(super) fn note_identity(&self, seq: u64, message: &Message) {
        if message.identity.is_some() {
            self.lock().identities.note(seq, message);
        }
    }

    /// Forgets the identities of a commit that has failed.
    pub(super) fn take_back_identities(&self, seq: u64) {
        self.lock().identities.take_back(seq);
    }

    /// Writes the identities of a commit to the file: it is on disk.
    pub(super) fn keep_identities(&self) {
        self.lock().identities.keep();
    }

    /// Syncs the file, if messages before `next_seq` push others out of the last 100 whose identities are not
    /// on disk.
    pub(super) fn sync_identities(&self, next_seq: u64) {
        let due = self.lock().identities.due_sync(next_seq);
        if let Some(sync) = due {
            let synced = sync.run();
            self.lock().identities.note_synced(synced);
        }
    }

    /// Syncs and closes the file, before the ring is unlocked.
    pub(super) fn close_identities(&self) {
        let mut state = self.lock();
        if !matches!(state.store, Store::Released(_)) {
            state.identities.close();
        }
    }
}
