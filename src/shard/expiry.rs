//! Ends the streams of tokens: a warning, then an event and the end.
//!
//! Part of the shard. `subscription` enters a stream that a token has opened, and takes it out when it is
//! closed. [`Shard::tick`] calls [`Shard::tick_tokens`], before the sweep: no message that is published after
//! the end reaches the stream. A token ends at a time of the wall clock, so a clock that is set counts at once.
//! Never verifies a token.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Now;
use crate::http::TokenLife;
use crate::limits::TOKEN_NOTICE_MS;
use crate::metrics::Counter;
use crate::shard::Shard;
use crate::shard::stream::Life;
use crate::shard::transport::Transport;
use crate::shard::waiting::Waiting;
use crate::sse::gzip::Checksum;
use crate::tokens::{TokenFault, TokenKeys};

/// The streams of tokens, by what is due next. Costs nothing for other streams.
#[derive(Default)]
pub(super) struct Expiry {
    /// By Unix milliseconds and slot.
    due: BTreeMap<(u64, u32), Due>,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    life: TokenLife,
    /// The warning is sent, so the end is next.
    is_warned: bool,
}

/// Bytes of a stream in the table, without its key.
#[cfg(test)]
pub(super) const DUE_BYTES: usize = size_of::<Due>();

/// After how long a warning is tried again, in milliseconds.
const RETRY_WARNING_MS: u64 = 1_000;

impl Expiry {
    /// In how many milliseconds the next stream is due.
    pub(super) fn left_ms(&self, now: Now) -> Option<u64> {
        let ((due_ms, _), _) = self.due.first_key_value()?;
        Some(due_ms.saturating_sub(now.unix_ms))
    }

    /// Takes a stream out. `due_ms` is the time of its life.
    pub(super) fn remove(&mut self, slot: usize, due_ms: u64) {
        let removed = self.due.remove(&(due_ms, slot as u32));
        debug_assert!(removed.is_some(), "a stream of a token is in the table");
    }

    /// Takes out the first stream that is due.
    fn next(&mut self, now: Now) -> Option<(usize, Due)> {
        let first = self.due.first_entry()?;
        let (due_ms, slot) = *first.key();
        (due_ms <= now.unix_ms).then(|| (slot as usize, first.remove()))
    }

    /// Takes out the streams whose key is gone.
    fn take_orphans(&mut self, has_key: impl Fn(TokenLife) -> bool) -> Vec<usize> {
        let mut orphans = Vec::new();
        self.due.retain(|(_, slot), due| {
            let has_key = has_key(due.life);
            if !has_key {
                orphans.push(*slot as usize);
            }
            has_key
        });
        orphans
    }
}

impl<S: Transport> Shard<S> {
    /// Verifies tokens with these keys from now on. Streams and long polls of another key end.
    pub fn use_token_keys(&mut self, keys: Arc<TokenKeys>) {
        self.access.use_token_keys(keys);
        let access = &self.access;
        for slot in self.expiry.take_orphans(|life| access.has_key(life.key)) {
            self.end_token(slot);
        }
        // Once for each reload: long polls are in no table.
        for slot in 0..self.connections.slots() {
            let connection = self.connections.get(slot);
            let waiting = connection.and_then(|connection| connection.state.waiting());
            let life = waiting.and_then(Waiting::token);
            if life.is_some_and(|life| !self.access.has_key(life.key)) {
                self.wake(slot);
            }
        }
    }

    /// Why a token that was valid opens nothing any more, if so.
    pub(super) fn token_fault(&self, life: TokenLife, now: Now) -> Option<TokenFault> {
        if now.unix_ms >= life.expires_ms {
            return Some(TokenFault::Expired);
        }
        (!self.access.has_key(life.key)).then_some(TokenFault::Signature)
    }

    /// Enters a new stream of a valid token. The warning comes [`TOKEN_NOTICE_MS`] before the end, or after half of
    /// the remaining time if that is later: a client that connects anew at the warning must not do so at once.
    pub(super) fn expire_later(&mut self, slot: usize, life: TokenLife, now: Now) {
        let left_ms = life.expires_ms.saturating_sub(now.unix_ms);
        let notice_ms = TOKEN_NOTICE_MS.min(left_ms / 2);
        let due = Due {
            life,
            is_warned: false,
        };
        self.schedule(slot, life.expires_ms - notice_ms, due);
    }

    fn schedule(&mut self, slot: usize, due_ms: u64, due: Due) {
        if let Some(stream) = self.connections.stream_mut(slot) {
            (stream.life, stream.life_ms) = (Life::Token, due_ms);
            self.expiry.due.insert((due_ms, slot as u32), due);
        }
    }

    /// Warns and ends the streams that are due. All of them in one turn, because a stream that waits for its
    /// end would see further messages. Nothing is written here: that is the sweep's work.
    pub(super) fn tick_tokens(&mut self, now: Now) {
        while let Some((slot, due)) = self.expiry.next(now) {
            if now.unix_ms >= due.life.expires_ms {
                self.end_token(slot);
            } else {
                self.warn_of_end(slot, due, now);
            }
        }
    }

    /// Sends `token_expiring`. It does not fit into a frame that is sent in part, so a stream that is blocked
    /// there gets it once its socket has taken more, or only the end.
    fn warn_of_end(&mut self, slot: usize, mut due: Due, now: Now) {
        let Some(stream) = self.connections.stream_mut(slot) else {
            return;
        };
        let mut none = Checksum::default();
        let sum = self.compression.sum_of(slot, &mut none);
        due.is_warned = due.is_warned || stream.add_warning(sum, due.life.expires_ms);
        let next_ms = if due.is_warned {
            due.life.expires_ms
        } else {
            (now.unix_ms + RETRY_WARNING_MS).min(due.life.expires_ms)
        };
        self.schedule(slot, next_ms, due);
        self.enqueue(slot);
    }

    /// Ends a stream: its own bytes follow, `token_expired` and the last chunk, and no message. The client
    /// resumes with another token. Inside a frame, and while its socket takes nothing, it is closed.
    fn end_token(&mut self, slot: usize) {
        let Some(stream) = self.connections.stream_mut(slot) else {
            return;
        };
        stream.life = Life::Endless;
        if stream.expire() {
            self.enqueue(slot);
        } else {
            self.close_stream(slot, Counter::StreamsTokenEnded);
        }
    }
}
