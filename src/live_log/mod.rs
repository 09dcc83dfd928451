//! The live log: the newest frames of a shard in one byte ring, and cursors into it.
//!
//! A stream is a cursor. A replay begins with a cursor in the past; a live stream has its cursor at the
//! head. Catching up is one gathering write of all frames in between that the stream may see.
//!
//! Called by the shard, which appends batches and gathers the bytes to write. Never sees a socket, a
//! clock, or the number of streams.
//!
//! The [`View`] of a stream says which frames it may see. Untargeted frames ("broadcasts") have a list
//! of their own, and so have the frames of each session. So finding or counting the frames of a view
//! touches no other frame, and the cost of a targeted message does not grow with other sessions.
//!
//! - `bytes`: the byte ring; `sessions`: the frames of each session, found by `names`; `unions`: the views of several
//!   sessions.
//! - `compressed`: the frames once more, for compressed streams.
//! - `gather`: the extents of one write.
//! - `page`: the messages of one answer with the history.
//! - `shared`: the replay of new streams where several nodes share a history.

mod bytes;
mod compressed;
mod gather;
mod names;
mod page;
mod sessions;
mod shared;
#[cfg(test)]
mod shared_tests;
mod unions;

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::ops::Range;

use crate::limits::HISTORY_MESSAGES;
use crate::message::SessionId;
use crate::sse::frame::{CHUNK_TAIL_BYTES, Chunk, Framing};
use crate::sse::gzip::Checksum;
use bytes::ByteRing;
pub use compressed::CompressedFrame;
use compressed::CompressedFrames;
pub use gather::Gather;
pub use page::Page;
use sessions::Sessions;
pub use sessions::{NO_SLOT, SessionKey};
pub use shared::SharedHistory;
use unions::{Union, Unions};
pub use unions::{UnionKey, union_bytes};

/// The messages that a stream may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Every message.
    Everything,
    /// Messages without a session.
    Public,
    /// Messages without a session and those of this one.
    Session(SessionKey),
    /// Messages without a session and those of several.
    Union(UnionKey),
}

impl View {
    /// The bytes that a stream holds for its view, beside those of any stream.
    pub fn held_bytes(self) -> usize {
        match self {
            View::Everything | View::Public | View::Session(_) => 0,
            View::Union(key) => key.held_bytes(),
        }
    }
}

/// The position of a stream in the log. Valid only with the view it was made for. Packed, because
/// every stream has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub struct Cursor {
    /// The first message that was not sent completely.
    pub next_seq: u64,
    /// How many messages of the view came before `next_seq`. The size of a gap is computed from it
    /// after the frames have left the log.
    seen: u64,
    /// How many bytes of the frame of `next_seq` were sent, in the stream's framing.
    sent_bytes: u32,
}

impl Cursor {
    /// Whether the frame of `next_seq` was sent in part.
    pub fn is_within_frame(&self) -> bool {
        self.sent_bytes > 0
    }

    /// How many messages of the view are between an earlier cursor and this one.
    pub fn messages_since(&self, earlier: &Cursor) -> u64 {
        self.seen - earlier.seen
    }
}

/// The start of a new stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatchUp {
    /// Messages to copy first: messages of the shared history after which the log has a message
    /// that must be left out. Usually none.
    pub ahead: Vec<u64>,
    /// The cursor after these.
    pub cursor: Cursor,
    /// The number of messages to replay, `ahead` included.
    pub replay: u64,
    /// The number of messages that have left the log and are missing. Exact for a stream that sees
    /// everything. An upper bound for others, because the sessions of old messages are not known.
    pub missed: u64,
    /// The seq after which the stream begins, if the stream resumes or has nothing to replay.
    /// `None` with a replay: it may leave out messages, so a resume after this seq could yield
    /// others.
    pub after: Option<u64>,
}

/// The state of a cursor relative to the log's tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    /// All frames from the cursor on are in the log.
    Within,
    /// Frames have left the log: the stream continues at a new cursor.
    Skips {
        /// The cursor at the oldest message in the log.
        cursor: Cursor,
        /// The exact number of messages of the view that are skipped.
        missed: u64,
    },
    /// A frame that was sent in part has left the log. The connection must end.
    Torn,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u64,
    broadcasts_before: u64,
    /// The latest time of this message and all before it: times may decrease, because clocks are set back and
    /// messages of other nodes arrive late.
    latest_ms: u64,
    chunk: Chunk,
    session: Option<SessionKey>,
}

/// The newest frames, at least the last [`HISTORY_MESSAGES`], and an index of them.
pub struct LiveLog {
    bytes: ByteRing,
    /// Only in a server that compresses streams.
    compressed: Option<Box<CompressedFrames>>,
    /// `entries[i]` is the frame of `tail_seq + i`: seqs have no holes.
    entries: VecDeque<Entry>,
    tail_seq: u64,
    /// The seqs of the untargeted frames, ascending.
    broadcasts: VecDeque<u64>,
    broadcasts_evicted: u64,
    sessions: Sessions,
    unions: Unions,
    shared: SharedHistory,
}

impl LiveLog {
    /// An empty log whose first message will be `first_seq`. Its capacity, `bytes_max`, must be at least
    /// [`HISTORY_MESSAGES`] times the largest frame.
    pub fn new(first_seq: u64, bytes_max: usize) -> LiveLog {
        LiveLog {
            bytes: ByteRing::new(bytes_max),
            compressed: None,
            entries: VecDeque::new(),
            tail_seq: first_seq,
            broadcasts: VecDeque::new(),
            broadcasts_evicted: 0,
            sessions: Sessions::default(),
            unions: Unions::default(),
            shared: SharedHistory::default(),
        }
    }

    /// An empty log that also holds each frame compressed. See [`LiveLog::new`].
    pub fn with_compression(first_seq: u64, bytes_max: usize) -> LiveLog {
        LiveLog {
            compressed: Some(Box::new(CompressedFrames::new(bytes_max))),
            ..LiveLog::new(first_seq, bytes_max)
        }
    }

    /// Empties the log for another history, whose first message will be `first_seq`. Keeps the capacity and
    /// the sessions with streams. No cursor of before is valid any more.
    pub fn restart(&mut self, first_seq: u64) {
        self.bytes.clear();
        if let Some(compressed) = &mut self.compressed {
            compressed.clear();
        }
        self.entries.clear();
        self.tail_seq = first_seq;
        self.broadcasts.clear();
        self.broadcasts_evicted = 0;
        self.sessions.forget_frames();
        self.shared = SharedHistory::default();
    }

    /// One more than the seq of the newest message.
    pub fn head_seq(&self) -> u64 {
        self.tail_seq + self.entries.len() as u64
    }

    /// The seq of the oldest message in the log.
    pub fn tail_seq(&self) -> u64 {
        self.tail_seq
    }

    /// Appends the frame of the next message, and evicts the oldest frames to make room. Returns the key
    /// of the message's session.
    pub fn append(
        &mut self,
        seq: u64,
        timestamp_ms: u64,
        session: Option<&SessionId>,
        frame: &[u8],
        chunk: Chunk,
    ) -> Option<SessionKey> {
        assert!(
            self.compressed.is_none(),
            "this log needs both forms of a frame"
        );
        while self.bytes.free() < frame.len() {
            self.evict_oldest();
        }
        self.push(seq, timestamp_ms, session, frame, chunk)
    }

    /// As [`LiveLog::append`], for a log with compression.
    pub fn append_both(
        &mut self,
        seq: u64,
        timestamp_ms: u64,
        session: Option<&SessionId>,
        (frame, chunk): (&[u8], Chunk),
        compressed: &CompressedFrame<'_>,
    ) -> Option<SessionKey> {
        while self.bytes.free() < frame.len() || !self.compressed().has_room(compressed) {
            self.evict_oldest();
        }
        if let Some(frames) = &mut self.compressed {
            frames.push(compressed);
        }
        self.push(seq, timestamp_ms, session, frame, chunk)
    }

    /// Adds a frame for which there is room.
    fn push(
        &mut self,
        seq: u64,
        timestamp_ms: u64,
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
        let earlier_ms = self.entries.back().map_or(0, |entry| entry.latest_ms);
        let entry = Entry {
            start: self.bytes.head(),
            broadcasts_before: self.broadcasts_total(),
            latest_ms: timestamp_ms.max(earlier_ms),
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

    /// The start of a new stream. Without `resume_after` it replays the last [`HISTORY_MESSAGES`]
    /// messages of its view; messages of the shared history have priority. With `resume_after`, the
    /// stream begins after that message, or at the tail if that is later. A seq that was never given out
    /// counts as none.
    pub fn catch_up(&self, view: View, resume_after: Option<u64>) -> CatchUp {
        let resume = resume_after
            .filter(|&seq| seq < self.head_seq())
            .map(|seq| seq + 1);
        let (ahead, start) = match resume {
            Some(seq) => (Vec::new(), seq),
            None => self.replay(view),
        };
        self.start(view, resume, ahead, start)
    }

    /// The start of a new stream that replays less: at most the newest `count_max` messages, and none before
    /// `from_seq`.
    pub fn catch_up_newest(&self, view: View, count_max: usize, from_seq: u64) -> CatchUp {
        let (mut ahead, mut start) = self.replay(view);
        let by_cursor =
            self.visible_before(view, self.head_seq()) - self.visible_before(view, start);
        let surplus = (ahead.len() + by_cursor as usize).saturating_sub(count_max);
        if let Some(passed) = surplus.checked_sub(ahead.len()) {
            ahead.clear();
            let first = self.visible(view, start).nth(passed);
            start = first.unwrap_or(self.head_seq());
        } else {
            ahead.drain(..surplus);
        }
        ahead.retain(|seq| *seq >= from_seq);
        self.start(view, None, ahead, start.max(from_seq))
    }

    /// The seq of the first message that has this time or a later one. If that has left the log, the oldest
    /// message's; if there is none, that of the next message.
    pub fn seq_at(&self, unix_ms: u64) -> u64 {
        let is_before = |entry: &Entry| entry.latest_ms < unix_ms;
        self.tail_seq + self.entries.partition_point(is_before) as u64
    }

    /// The start of a stream that copies the messages `ahead`, and whose cursor begins at `start`, or at the tail
    /// if that is later.
    fn start(&self, view: View, resume: Option<u64>, ahead: Vec<u64>, start: u64) -> CatchUp {
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

    /// Whether the tail has passed a cursor, and where the stream continues if so.
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

    /// Adds the frames of the view between the cursor and the head to `gather`, until its extents run
    /// out. Returns the cursor after all gathered bytes.
    pub fn gather<'a>(
        &'a self,
        view: View,
        framing: Framing,
        cursor: &Cursor,
        gather: &mut Gather<'a>,
    ) -> Cursor {
        debug_assert!(self.lag(view, cursor) == Lag::Within);
        if view == View::Everything && framing != Framing::Bare {
            return self.gather_all(framing, cursor, gather);
        }
        let mut run = 0..0;
        let mut sent_bytes = u64::from(cursor.sent_bytes);
        for seq in self.visible(view, cursor.next_seq) {
            let (start, end) = self.extent(seq, framing);
            if run.end == start && !run.is_empty() {
                run.end = end;
                continue;
            }
            // Room for two extents of this run and two of the next, since each may wrap, and for two
            // of the caller.
            if gather.room() < 6 {
                self.push_run(framing, &run, gather);
                return self.cursor_at(view, seq);
            }
            self.push_run(framing, &run, gather);
            run = start + std::mem::take(&mut sent_bytes)..end;
        }
        self.push_run(framing, &run, gather);
        self.cursor_at(view, self.head_seq())
    }

    /// The cursor after the first `bytes` of the gathered bytes were sent.
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
        assert_eq!(left, 0, "more bytes sent than gathered");
        self.cursor_at(view, self.head_seq())
    }

    /// Counts one more stream of this session, until [`LiveLog::release_session`].
    pub fn hold_session(&mut self, name: &SessionId) -> SessionKey {
        self.sessions.hold(name)
    }

    /// Counts one stream of this session less.
    pub fn release_session(&mut self, key: SessionKey) {
        self.sessions.release(key);
    }

    /// Counts one more stream of these sessions, which differ, until [`LiveLog::release_view`]. Returns the
    /// stream's view.
    pub fn hold_sessions(&mut self, names: &[SessionId]) -> View {
        if let [name] = names {
            return View::Session(self.hold_session(name));
        }
        let sessions = names.iter().map(|name| self.sessions.hold(name)).collect();
        View::Union(self.unions.insert(sessions, union_bytes(names)))
    }

    /// Counts one stream of a view's sessions less. Its slots have already left the lists.
    pub fn release_view(&mut self, view: View) {
        match view {
            View::Everything | View::Public => {}
            View::Session(key) => self.release_session(key),
            View::Union(key) => {
                for &session in &self.unions.remove(key) {
                    self.sessions.release(session);
                }
            }
        }
    }

    /// The sessions of a union.
    pub fn union(&self, key: UnionKey) -> &[SessionKey] {
        self.unions.sessions(key)
    }

    /// Counts one more, or one less, of the connections of a session that are long polls.
    pub fn note_poll(&mut self, key: SessionKey, is_begun: bool) {
        self.sessions.note_poll(key, is_begun);
    }

    /// How many of the connections of a session are streams.
    pub fn streams_of(&self, name: &SessionId) -> u32 {
        self.sessions.streams_of(name)
    }

    /// The name of a session that is held.
    pub fn session_name(&self, key: SessionKey) -> &SessionId {
        self.sessions.name(key)
    }

    /// The sessions with streams in these slots of the table of sessions, and whether there are further slots.
    pub fn sessions_with_streams(&self, slots: Range<usize>) -> (Vec<SessionId>, bool) {
        self.sessions.with_streams(slots)
    }

    /// The first slot of a session's streams: the head of the list that the shard keeps, or
    /// [`NO_SLOT`].
    pub fn first_slot(&self, key: SessionKey) -> u32 {
        self.sessions.first_slot(key)
    }

    /// Sets the value of [`LiveLog::first_slot`].
    pub fn set_first_slot(&mut self, key: SessionKey, slot: u32) {
        self.sessions.set_first_slot(key, slot);
    }

    /// Starts a walk over a session's streams after a message for it. True if the caller has to do
    /// the walk. False if one is in progress, which then begins again, or if there are no streams.
    pub fn begin_walk(&mut self, key: SessionKey) -> bool {
        self.sessions.begin_walk(key)
    }

    /// The slot of the next stream of a session's walk; `None` when the walk is over. A key is valid
    /// also after its session was removed or its entry was reused.
    pub fn walk_slot(&mut self, key: SessionKey) -> Option<u32> {
        self.sessions.walk_slot(key)
    }

    /// Moves a walk from `slot` to `next`: `slot` was visited, or its stream leaves the list.
    pub fn walk_past(&mut self, key: SessionKey, slot: u32, next: u32) {
        self.sessions.walk_past(key, slot, next);
    }

    /// The number of sessions with a stream or a frame in this log.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Adds the frames of a view from one cursor to a later one to the checksum of a compressed stream.
    pub fn add_frames(&self, view: View, from: &Cursor, to: &Cursor, sum: &mut Checksum) {
        let is_passed = |seq: &u64| *seq < to.next_seq;
        for seq in self.visible(view, from.next_seq).take_while(is_passed) {
            self.add_frame(seq, sum);
        }
    }

    /// Adds a frame to the checksum of a compressed stream.
    pub fn add_frame(&self, seq: u64, sum: &mut Checksum) {
        self.compressed().add(self.place_of(seq), sum);
    }

    fn gather_all<'a>(
        &'a self,
        framing: Framing,
        cursor: &Cursor,
        gather: &mut Gather<'a>,
    ) -> Cursor {
        let head = self.cursor_at(View::Everything, self.head_seq());
        if cursor.next_seq < head.next_seq {
            let start = self.extent(cursor.next_seq, framing).0 + u64::from(cursor.sent_bytes);
            self.push_run(framing, &(start..self.ring(framing).head()), gather);
        }
        head
    }

    fn push_run<'a>(&'a self, framing: Framing, run: &Range<u64>, gather: &mut Gather<'a>) {
        if !run.is_empty() {
            let (first, wrapped) = self.ring(framing).pieces(run.start, run.end);
            gather.push(first);
            gather.push(wrapped);
        }
    }

    /// The bytes of the frames in a framing.
    fn ring(&self, framing: Framing) -> &ByteRing {
        match framing {
            Framing::Chunked | Framing::Bare => &self.bytes,
            Framing::Gzip => self.compressed().ring(),
        }
    }

    fn compressed(&self) -> &CompressedFrames {
        let frames = self.compressed.as_deref();
        frames.expect("streams are compressed only with this log")
    }

    /// The start and end offsets of a message in a framing.
    fn extent(&self, seq: u64, framing: Framing) -> (u64, u64) {
        let entry = self.entry(seq);
        let end = entry.start + u64::from(entry.chunk.bytes);
        match framing {
            Framing::Chunked => (entry.start, end),
            Framing::Gzip => self.compressed().extent(self.place_of(seq)),
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
            .expect("an empty log has room for a frame");
        let seq = self.tail_seq;
        self.tail_seq += 1;
        self.bytes
            .forget_before(entry.start + u64::from(entry.chunk.bytes));
        if let Some(compressed) = &mut self.compressed {
            compressed.evict_oldest();
        }
        match entry.session {
            Some(key) => self.sessions.evict_frame(key, seq),
            None => {
                let evicted = self.broadcasts.pop_front();
                assert_eq!(evicted, Some(seq), "frames are evicted in order");
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
            View::Union(key) => {
                let oldest = self.union_lists(key).newest(HISTORY_MESSAGES);
                oldest.unwrap_or(self.head_seq())
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

    /// How many messages of a view come before `seq`. The base of the count does not change while the
    /// view's session is held.
    fn visible_before(&self, view: View, seq: u64) -> u64 {
        match view {
            View::Everything => seq,
            View::Public => self.broadcasts_before(seq),
            View::Session(key) => {
                self.broadcasts_before(seq) + self.sessions.session(key).frames_before(seq)
            }
            View::Union(key) => {
                let sessions = self.unions.sessions(key).iter();
                let before = |&session| self.sessions.session(session).frames_before(seq);
                self.broadcasts_before(seq) + sessions.map(before).sum::<u64>()
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
        &self.entries[self.place_of(seq)]
    }

    fn place_of(&self, seq: u64) -> usize {
        (seq - self.tail_seq) as usize
    }

    fn union_lists(&self, key: UnionKey) -> Union<'_> {
        Union::new(&self.broadcasts, &self.sessions, self.unions.sessions(key))
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
            View::Union(key) => Visible::OfUnion(self.union_lists(key).from(seq)),
        }
    }
}

/// The newest [`HISTORY_MESSAGES`] of two ascending lists together: how many come from each list.
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
    OfUnion(Union<'a>),
}

impl Iterator for Visible<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Visible::All(range) => range.next(),
            Visible::Listed(seqs) => seqs.next().copied(),
            Visible::Merged(merged) => merged.next(),
            Visible::OfUnion(union) => union.next(),
        }
    }
}

/// The merge of two ascending lists without common elements.
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
