//! The live log: the newest frames of a shard in one byte ring, and cursors into it.
//!
//! A stream is a cursor. Replay is a cursor set back, live is a cursor at the head, and catching up
//! is one gathering write of everything between that the stream may see. The shard appends batches
//! and asks for gathers; nothing here knows a socket, a clock, or how many streams there are.
//!
//! What a stream may see is its [`View`]. Untargeted frames ("broadcasts") are listed apart, and so
//! are the frames of each session, so that neither finding nor counting the frames of a view looks
//! at a frame outside it: the cost of a targeted message does not grow with the other sessions.
//!
//! - `bytes`: the byte ring; `sessions`: the frames of each session.
//! - `gather`: what one write takes of both.
//! - `page`: the same for who asks instead of keeping a stream.
//! - `shared`: what a new stream begins with where several nodes share a history.

mod bytes;
mod gather;
mod page;
mod sessions;
mod shared;
#[cfg(test)]
mod shared_tests;

use std::collections::VecDeque;
use std::collections::vec_deque;

use crate::limits::HISTORY_MESSAGES;
use crate::message::SessionId;
use crate::sse::frame::{CHUNK_TAIL_BYTES, Chunk, Framing};
use bytes::ByteRing;
pub use gather::Gather;
pub use page::Page;
use sessions::Sessions;
pub use sessions::{NO_SLOT, SessionKey};
pub use shared::SharedHistory;

/// What a stream may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Every message.
    Everything,
    /// Messages without a session.
    Public,
    /// Messages without a session and those of this one.
    Session(SessionKey),
}

/// Where a stream stands in the log. Plain data; valid only with the view it was made for. Packed,
/// because every stream has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub struct Cursor {
    /// The first message that was not sent whole.
    pub next_seq: u64,
    /// How many visible messages came before `next_seq`: what tells the size of a gap when the
    /// frames themselves are gone.
    seen: u64,
    /// Bytes of `next_seq`'s frame that were sent, in the stream's framing.
    sent_bytes: u32,
}

impl Cursor {
    /// How many messages of the view lie between an earlier cursor and this one.
    pub fn messages_since(&self, earlier: &Cursor) -> u64 {
        self.seen - earlier.seen
    }
}

/// What a new stream has before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// Messages that come first, to be copied: those of the shared history that stand in the log
    /// before one that is not of it. Mostly none.
    pub ahead: Vec<u64>,
    /// Where it starts after them.
    pub cursor: Cursor,
    /// Messages that follow from history, those ahead among them.
    pub replay: u64,
    /// Messages that it should have seen and that are gone. Exact for a stream that sees
    /// everything; an upper bound for others, since what is gone is not known by session.
    pub missed: u64,
    /// The seq that it begins behind, if resuming there shows the same: it resumes, or there is
    /// nothing to replay. A replay need not be all that follows a seq.
    pub after: Option<u64>,
}

/// What became of a cursor whose messages were overtaken by the log's tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// Nothing: all it needs is there.
    Within,
    /// It skips ahead to this cursor; `missed` messages of its view are gone.
    Skips {
        /// The oldest message that is left.
        cursor: Cursor,
        /// Exactly how many it will not see.
        missed: u64,
    },
    /// It stands in the middle of a frame that is gone; nothing can follow on this connection.
    Torn,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u64,
    broadcasts_before: u64,
    chunk: Chunk,
    session: Option<SessionKey>,
}

/// The newest frames, at least the last [`HISTORY_MESSAGES`], and where each begins.
pub struct LiveLog {
    bytes: ByteRing,
    /// `entries[i]` is the frame of `tail_seq + i`: seqs have no holes.
    entries: VecDeque<Entry>,
    tail_seq: u64,
    /// The seqs of the untargeted frames, ascending.
    broadcasts: VecDeque<u64>,
    broadcasts_evicted: u64,
    sessions: Sessions,
    shared: SharedHistory,
}

impl LiveLog {
    /// An empty log whose first message will be `first_seq`. `bytes_max` is what it holds at most
    /// and at least [`HISTORY_MESSAGES`] times the largest frame.
    pub fn new(first_seq: u64, bytes_max: usize) -> LiveLog {
        LiveLog {
            bytes: ByteRing::new(bytes_max),
            entries: VecDeque::new(),
            tail_seq: first_seq,
            broadcasts: VecDeque::new(),
            broadcasts_evicted: 0,
            sessions: Sessions::default(),
            shared: SharedHistory::default(),
        }
    }

    /// The seq behind the newest message.
    pub fn head_seq(&self) -> u64 {
        self.tail_seq + self.entries.len() as u64
    }

    /// The oldest message that is still there.
    pub fn tail_seq(&self) -> u64 {
        self.tail_seq
    }

    /// Appends the frame of the next message, forgetting the oldest ones to make room, and tells
    /// the session that it is filed under.
    pub fn append(
        &mut self,
        seq: u64,
        session: Option<&SessionId>,
        frame: &[u8],
        chunk: Chunk,
    ) -> Option<SessionKey> {
        assert_eq!(seq, self.head_seq(), "the hub numbers without holes");
        debug_assert_eq!(frame.len(), chunk.bytes as usize);
        assert!(
            frame.len() <= self.bytes.capacity() / HISTORY_MESSAGES,
            "a log holds {HISTORY_MESSAGES} frames of any size"
        );
        while self.bytes.free() < frame.len() {
            self.evict_oldest();
        }
        let entry = Entry {
            start: self.bytes.head(),
            broadcasts_before: self.broadcasts_total(),
            chunk,
            session: session.map(|name| self.sessions.push_frame(name, seq)),
        };
        if entry.session.is_none() {
            self.broadcasts.push_back(seq);
        }
        self.bytes.push(frame);
        self.entries.push_back(entry);
        entry.session
    }

    /// Where a new stream begins. Without `resume_after`: at the last [`HISTORY_MESSAGES`] that it
    /// may see, the shared history before others. With it: behind that message, from as far back as
    /// the log reaches; a seq that was never given out is nonsense and gets the full replay.
    pub fn catch_up(&self, view: View, resume_after: Option<u64>) -> CatchUp {
        let resume = resume_after
            .filter(|&seq| seq < self.head_seq())
            .map(|seq| seq + 1);
        let (ahead, start) = match resume {
            Some(seq) => (Vec::new(), seq),
            None => self.replay(view),
        };
        let (next_seq, missed) = match self.tail_seq.checked_sub(start) {
            Some(gone) => (self.tail_seq, gone),
            None => (start, 0),
        };
        let cursor = self.cursor_at(view, next_seq);
        let replay = ahead.len() as u64 + self.visible_before(view, self.head_seq()) - cursor.seen;
        let end = (replay == 0).then_some(self.head_seq());
        CatchUp {
            cursor,
            replay,
            missed,
            after: resume.or(end).and_then(|seq| seq.checked_sub(1)),
            ahead,
        }
    }

    /// Whether the tail has overtaken a cursor, and where it goes on if so.
    pub fn lag(&self, view: View, cursor: &Cursor) -> Lag {
        if cursor.next_seq >= self.tail_seq {
            return Lag::Within;
        }
        if cursor.sent_bytes > 0 {
            return Lag::Torn;
        }
        let ahead = self.cursor_at(view, self.tail_seq);
        Lag::Skips {
            cursor: ahead,
            missed: ahead.seen - cursor.seen,
        }
    }

    /// Adds to `gather` what the view has between the cursor and the head, and tells where the
    /// cursor stands when all of it has been sent: at the head, unless the extents ran out.
    pub fn gather<'a>(
        &'a self,
        view: View,
        framing: Framing,
        cursor: &Cursor,
        gather: &mut Gather<'a>,
    ) -> Cursor {
        debug_assert!(self.lag(view, cursor) == Lag::Within);
        if view == View::Everything && framing == Framing::Chunked {
            return self.gather_all(cursor, gather);
        }
        let mut run = 0..0;
        let mut sent_bytes = u64::from(cursor.sent_bytes);
        for seq in self.visible(view, cursor.next_seq) {
            let (start, end) = self.extent(seq, framing);
            if run.end == start && !run.is_empty() {
                run.end = end;
                continue;
            }
            // Two for this run and two for the next, either of which may wrap; two for the caller.
            if gather.room() < 6 {
                self.push_run(&run, gather);
                return self.cursor_at(view, seq);
            }
            self.push_run(&run, gather);
            run = start + std::mem::take(&mut sent_bytes)..end;
        }
        self.push_run(&run, gather);
        self.cursor_at(view, self.head_seq())
    }

    /// The cursor after `bytes` of what `gather` offered were sent.
    pub fn advance(&self, view: View, framing: Framing, cursor: &Cursor, bytes: usize) -> Cursor {
        let mut left = bytes as u64 + u64::from(cursor.sent_bytes);
        for seq in self.visible(view, cursor.next_seq) {
            let (start, end) = self.extent(seq, framing);
            if left < end - start {
                return Cursor {
                    sent_bytes: left as u32,
                    ..self.cursor_at(view, seq)
                };
            }
            left -= end - start;
        }
        assert_eq!(left, 0, "no more was sent than was offered");
        self.cursor_at(view, self.head_seq())
    }

    /// Counts a stream of this session until [`LiveLog::release_session`].
    pub fn hold_session(&mut self, name: &SessionId) -> SessionKey {
        self.sessions.hold(name)
    }

    /// Counts a stream of this session no longer.
    pub fn release_session(&mut self, key: SessionKey) {
        self.sessions.release(key);
    }

    /// The first slot of a session's streams: the head of the list that the shard keeps, or
    /// [`NO_SLOT`].
    pub fn first_slot(&self, key: SessionKey) -> u32 {
        self.sessions.first_slot(key)
    }

    /// Sets what [`LiveLog::first_slot`] tells.
    pub fn set_first_slot(&mut self, key: SessionKey, slot: u32) {
        self.sessions.set_first_slot(key, slot);
    }

    /// Something was sent to a session: its streams are to be walked along. False when they are
    /// already, or when there are none; true when the caller has to see to it.
    pub fn begin_walk(&mut self, key: SessionKey) -> bool {
        self.sessions.begin_walk(key)
    }

    /// The next stream of a session's walk; none when it is over. A key whose session is gone, or
    /// whose place another has taken, is no error.
    pub fn walk_slot(&mut self, key: SessionKey) -> Option<u32> {
        self.sessions.walk_slot(key)
    }

    /// The walk has been at `slot`, or that stream leaves the list: `next` follows.
    pub fn walk_past(&mut self, key: SessionKey, slot: u32, next: u32) {
        self.sessions.walk_past(key, slot, next);
    }

    /// Sessions with a stream or a frame here.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    fn gather_all<'a>(&'a self, cursor: &Cursor, gather: &mut Gather<'a>) -> Cursor {
        let head = self.cursor_at(View::Everything, self.head_seq());
        if cursor.next_seq < head.next_seq {
            let start = self.entry(cursor.next_seq).start + u64::from(cursor.sent_bytes);
            self.push_run(&(start..self.bytes.head()), gather);
        }
        head
    }

    fn push_run<'a>(&'a self, run: &std::ops::Range<u64>, gather: &mut Gather<'a>) {
        if !run.is_empty() {
            let (first, wrapped) = self.bytes.pieces(run.start, run.end);
            gather.push(first);
            gather.push(wrapped);
        }
    }

    /// The bytes of a message in a framing, as offsets.
    fn extent(&self, seq: u64, framing: Framing) -> (u64, u64) {
        let entry = self.entry(seq);
        let end = entry.start + u64::from(entry.chunk.bytes);
        match framing {
            Framing::Chunked => (entry.start, end),
            Framing::Bare => (
                entry.start + u64::from(entry.chunk.head_bytes),
                end - CHUNK_TAIL_BYTES as u64,
            ),
        }
    }

    fn evict_oldest(&mut self) {
        let entry = self
            .entries
            .pop_front()
            .expect("a log without frames has room for one");
        let seq = self.tail_seq;
        self.tail_seq += 1;
        self.bytes
            .forget_before(entry.start + u64::from(entry.chunk.bytes));
        match entry.session {
            Some(key) => self.sessions.evict_frame(key, seq),
            None => {
                let evicted = self.broadcasts.pop_front();
                assert_eq!(evicted, Some(seq), "frames leave in the order they came");
                self.broadcasts_evicted += 1;
            }
        }
    }

    fn history_start(&self, view: View) -> u64 {
        let oldest_of = |seqs: &VecDeque<u64>, count: usize| match count {
            0 => self.head_seq(),
            _ => seqs[seqs.len() - count],
        };
        match view {
            View::Everything => self
                .head_seq()
                .saturating_sub(HISTORY_MESSAGES as u64)
                .max(self.tail_seq),
            View::Public => oldest_of(
                &self.broadcasts,
                self.broadcasts.len().min(HISTORY_MESSAGES),
            ),
            View::Session(key) => {
                let own = &self.sessions.session(key).frames;
                let (public_count, own_count) = newest_of_two(&self.broadcasts, own);
                oldest_of(&self.broadcasts, public_count).min(oldest_of(own, own_count))
            }
        }
    }

    fn cursor_at(&self, view: View, seq: u64) -> Cursor {
        Cursor {
            next_seq: seq,
            seen: self.visible_before(view, seq),
            sent_bytes: 0,
        }
    }

    /// How many messages of a view come before `seq`, counted from a base that does not change
    /// while the view's session is held.
    fn visible_before(&self, view: View, seq: u64) -> u64 {
        match view {
            View::Everything => seq,
            View::Public => self.broadcasts_before(seq),
            View::Session(key) => {
                self.broadcasts_before(seq) + self.sessions.session(key).frames_before(seq)
            }
        }
    }

    fn broadcasts_before(&self, seq: u64) -> u64 {
        if seq == self.head_seq() {
            self.broadcasts_total()
        } else {
            self.entry(seq).broadcasts_before
        }
    }

    fn broadcasts_total(&self) -> u64 {
        self.broadcasts_evicted + self.broadcasts.len() as u64
    }

    fn entry(&self, seq: u64) -> &Entry {
        &self.entries[(seq - self.tail_seq) as usize]
    }

    /// The messages of a view from `seq` on.
    fn visible(&self, view: View, seq: u64) -> Visible<'_> {
        let broadcasts_from = || {
            let passed = self.broadcasts_before(seq) - self.broadcasts_evicted;
            self.broadcasts.range(passed as usize..)
        };
        match view {
            View::Everything => Visible::All(seq..self.head_seq()),
            View::Public => Visible::Listed(broadcasts_from()),
            View::Session(key) => {
                let own = &self.sessions.session(key).frames;
                let passed = own.partition_point(|&frame| frame < seq);
                Visible::Merged(Merged {
                    left: broadcasts_from(),
                    right: own.range(passed..),
                })
            }
        }
    }
}

/// How many of the newest [`HISTORY_MESSAGES`] of two ascending lists are in the one and in the
/// other.
fn newest_of_two(left: &VecDeque<u64>, right: &VecDeque<u64>) -> (usize, usize) {
    let (mut from_left, mut from_right) = (0, 0);
    let mut lefts = left.iter().rev().peekable();
    let mut rights = right.iter().rev().peekable();
    while from_left + from_right < HISTORY_MESSAGES {
        match (lefts.peek(), rights.peek()) {
            (None, None) => break,
            (Some(l), Some(r)) if l < r => {
                from_right += 1;
                rights.next();
            }
            (None, Some(_)) => {
                from_right += 1;
                rights.next();
            }
            (Some(_), _) => {
                from_left += 1;
                lefts.next();
            }
        }
    }
    (from_left, from_right)
}

enum Visible<'a> {
    All(std::ops::Range<u64>),
    Listed(vec_deque::Iter<'a, u64>),
    Merged(Merged<'a>),
}

impl Iterator for Visible<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Visible::All(range) => range.next(),
            Visible::Listed(seqs) => seqs.next().copied(),
            Visible::Merged(merged) => merged.next(),
        }
    }
}

/// Two ascending lists with nothing in common, as one.
struct Merged<'a> {
    left: vec_deque::Iter<'a, u64>,
    right: vec_deque::Iter<'a, u64>,
}

impl Merged<'_> {
    fn next(&mut self) -> Option<u64> {
        let first = |seqs: &vec_deque::Iter<'_, u64>| seqs.clone().next().copied();
        match (first(&self.left), first(&self.right)) {
            (Some(left), Some(right)) if right < left => self.right.next().copied(),
            (None, _) => self.right.next().copied(),
            _ => self.left.next().copied(),
        }
    }
}

#[cfg(test)]
mod tests;
