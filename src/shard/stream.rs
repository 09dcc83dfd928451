//! One open SSE response: a cursor into the live log and the few bytes that are its own.
//!
//! Kept and served by `streams`, one gathering write at a time. A stream has no queue: a slow reader's
//! cursor falls back, and when the log has moved on, skips ahead on a frame boundary behind a `gap`
//! event. Never copies a frame of the log.

use std::io::IoSlice;

use crate::log::{Cursor, Gather, Lag, LiveLog, View};
use crate::shard::connection::NO_DEADLINE;
use crate::shard::place::Place;
use crate::shard::socket::{Socket, Transfer};
use crate::sse::frame::{self, Framing};

/// The state of a stream.
pub struct Stream {
    pub(super) place: Place,
    pub(super) cursor: Cursor,
    pub(super) framing: Framing,
    /// Own bytes that go out before anything else: the first events of a new stream, or the rest of
    /// a gap, a heartbeat or the end that the socket did not take whole.
    pub(super) own: Option<Box<OwnBytes>>,
    /// The socket took less than was offered; the reactor will tell when it takes more.
    pub(super) blocked: bool,
    /// A heartbeat goes out with the next write.
    pub(super) heartbeat_due: bool,
    pub(super) ending: Ending,
    /// When a stream that is shared by a cache ends, in monotonic milliseconds; else never.
    pub(super) life_ends_ms: u64,
}

/// Whether a stream is coming to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It goes on.
    No,
    /// What is pending is sent, then the end: come back in `retry_ms`, and the last chunk.
    Due { retry_ms: u16 },
    /// The rest of the end is all there is to send.
    Told,
}

/// What one write has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    /// Messages of which the last byte has gone out.
    pub(super) messages: u64,
    pub(super) heartbeat: bool,
}

/// What became of serving a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// Nothing was to be sent.
    CaughtUp,
    /// Everything that was offered has gone out; true when that was not all there is.
    Wrote(Sent, bool),
    /// The socket is full.
    Blocked(Sent),
    /// The end has gone out whole.
    Ended(Sent),
    /// The log has moved on while a frame was half sent: nothing can follow on this connection.
    Torn,
    /// The connection is over.
    Failed,
}

impl Stream {
    /// A stream that begins at `cursor`, after its own first bytes.
    pub(super) fn new(
        view: View,
        framing: Framing,
        cursor: Cursor,
        first_bytes: Vec<u8>,
        life_ends_ms: u64,
    ) -> Stream {
        Stream {
            place: Place::new(view),
            cursor,
            framing,
            own: Some(Box::new(OwnBytes {
                bytes: first_bytes,
                sent: 0,
            })),
            blocked: false,
            heartbeat_due: false,
            ending: Ending::No,
            life_ends_ms,
        }
    }

    /// Whether a cache may give it to many clients, and keep what ended in good order.
    pub(super) fn is_shared(&self) -> bool {
        self.life_ends_ms != NO_DEADLINE
    }

    /// Bytes allocated for what is its own.
    pub(super) fn own_bytes(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.bytes.capacity())
    }

    /// Sends all that the stream lacks, in one write: its own bytes, a gap if there is one, the
    /// frames of its view up to the head, a heartbeat if one is due, its end if that has come.
    /// Counts in `gaps` what it had to tell of.
    pub(super) fn serve(
        &mut self,
        socket: &mut impl Socket,
        log: &LiveLog,
        gaps: &mut u64,
    ) -> Served {
        if self.ending == Ending::Told {
            return self.finish(socket);
        }
        if self.has_nothing_to_send(log) {
            return Served::CaughtUp;
        }
        match log.lag(self.place.view, &self.cursor) {
            Lag::Within => {}
            Lag::Torn => return Served::Torn,
            Lag::Skips { cursor, missed } => {
                self.cursor = cursor;
                *gaps += u64::from(missed > 0);
                self.tell_gap(missed);
            }
        }

        let own = self.own.as_deref().map_or(&[][..], OwnBytes::left);
        let mut gather = Gather::new();
        gather.push(own);
        let after = log.gather(self.place.view, self.framing, &self.cursor, &mut gather);
        let frames_end = gather.bytes();
        let more = after.next_seq < log.head_seq();
        let tail = if more { Tail::default() } else { self.tail() };
        gather.push(tail.heartbeat);
        gather.push(&tail.end);
        if gather.bytes() == 0 {
            self.cursor = after;
            return Served::CaughtUp;
        }

        let sent = match Transfer::of(|| socket.write(gather.extents())) {
            Transfer::Bytes(bytes) => bytes,
            Transfer::WouldBlock => 0,
            Transfer::Failed => return Served::Failed,
        };
        let offered = Offered {
            own_end: own.len(),
            frames_end,
            end: gather.bytes(),
            after,
            more,
        };
        if sent < offered.end {
            self.keep_rest(log, &offered, &tail, sent)
        } else {
            self.keep_nothing(&offered, &tail)
        }
    }

    /// The socket has taken all that was offered.
    fn keep_nothing(&mut self, offered: &Offered, tail: &Tail) -> Served {
        let sent = Sent {
            bytes: offered.end,
            messages: offered.after.messages_since(&self.cursor),
            heartbeat: !tail.heartbeat.is_empty(),
        };
        self.own = None;
        self.cursor = offered.after;
        self.heartbeat_due &= offered.more;
        if tail.end.is_empty() {
            Served::Wrote(sent, offered.more)
        } else {
            Served::Ended(sent)
        }
    }

    /// The socket has taken only so many bytes of what was offered.
    fn keep_rest(&mut self, log: &LiveLog, offered: &Offered, tail: &Tail, sent: usize) -> Served {
        let before = self.cursor;
        self.blocked = true;
        if sent < offered.own_end {
            self.skip_own(sent);
        } else if sent < offered.frames_end {
            self.own = None;
            let frame_bytes = sent - offered.own_end;
            self.cursor = log.advance(self.place.view, self.framing, &before, frame_bytes);
        } else {
            self.cursor = offered.after;
            self.keep_rest_of(tail, sent - offered.frames_end);
        }
        Served::Blocked(Sent {
            bytes: sent,
            messages: self.cursor.messages_since(&before),
            heartbeat: false,
        })
    }

    /// Puts a gap among its own bytes, if messages are missing.
    fn tell_gap(&mut self, missed: u64) {
        if missed > 0 {
            let own = self.own.get_or_insert_default();
            frame::push_gap(&mut own.bytes, self.framing, missed);
        }
    }

    /// The common case of a visit, told apart before anything is gathered.
    fn has_nothing_to_send(&self, log: &LiveLog) -> bool {
        self.cursor.next_seq == log.head_seq()
            && self.own.is_none()
            && !self.heartbeat_due
            && self.ending == Ending::No
    }

    fn tail(&self) -> Tail {
        let mut end = Vec::new();
        if let Ending::Due { retry_ms } = self.ending {
            frame::push_end(&mut end, self.framing, u64::from(retry_ms));
        }
        let heartbeat: &[u8] = if self.heartbeat_due {
            frame::heartbeat(self.framing)
        } else {
            b""
        };
        Tail { heartbeat, end }
    }

    /// Of the tail, `sent` bytes have gone out: what was begun must be finished before anything
    /// else, what was not begun is made anew next time.
    fn keep_rest_of(&mut self, tail: &Tail, sent: usize) {
        self.own = None;
        if sent == 0 {
            return;
        }
        self.heartbeat_due = false;
        if !tail.end.is_empty() {
            self.ending = Ending::Told;
        }
        let bytes = [tail.heartbeat, &tail.end].concat();
        if sent < bytes.len() {
            self.own = Some(Box::new(OwnBytes { bytes, sent }));
        }
    }

    fn skip_own(&mut self, bytes: usize) {
        if let Some(own) = &mut self.own {
            own.sent += bytes;
        }
    }

    /// Sends the rest of the end.
    fn finish(&mut self, socket: &mut impl Socket) -> Served {
        let left = self.own.as_deref().map_or(&[][..], OwnBytes::left);
        let offered = left.len();
        let bytes = match Transfer::of(|| socket.write(&[IoSlice::new(left)])) {
            Transfer::Bytes(bytes) => bytes,
            Transfer::WouldBlock => 0,
            Transfer::Failed => return Served::Failed,
        };
        let sent = Sent {
            bytes,
            messages: 0,
            heartbeat: false,
        };
        if bytes == offered {
            return Served::Ended(sent);
        }
        self.blocked = true;
        self.skip_own(bytes);
        Served::Blocked(sent)
    }
}

/// Where the parts of one write end, in bytes, and what follows if all of it is taken.
struct Offered {
    own_end: usize,
    frames_end: usize,
    end: usize,
    /// The cursor behind its frames.
    after: Cursor,
    /// The log has more than fits one write.
    more: bool,
}

/// What goes behind the frames of a write.
#[derive(Default)]
struct Tail {
    heartbeat: &'static [u8],
    end: Vec<u8>,
}

/// Bytes that belong to one stream alone; some hundred at most.
#[derive(Default)]
pub(super) struct OwnBytes {
    bytes: Vec<u8>,
    sent: usize,
}

impl OwnBytes {
    fn left(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }
}
