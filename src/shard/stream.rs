//! One open SSE response: a cursor into the live log and the few bytes that are its own.
//!
//! Kept and served by `streams`, one gathering write at a time. A stream has no queue: a slow reader's
//! cursor falls back, and when the log has moved on, skips ahead on a frame boundary behind a `gap`
//! event. Never copies a frame of the log.

use std::io::IoSlice;

use crate::live_log::{Cursor, Gather, Lag, LiveLog, View};
use crate::shard::connection::NO_DEADLINE;
use crate::shard::membership::{Holder, Place};
use crate::shard::transport::{Transfer, Transport};
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
            place: Place::new(view, Holder::Stream),
            cursor,
            framing,
            own: Some(OwnBytes::boxed(first_bytes, 0)),
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
        socket: &mut impl Transport,
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
                if missed > 0 {
                    let own = self.own.get_or_insert_default();
                    *gaps += u64::from(own.tell_gap(self.framing, missed));
                }
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
            self.own = Some(OwnBytes::boxed(bytes, sent));
        }
    }

    fn skip_own(&mut self, bytes: usize) {
        if let Some(own) = &mut self.own {
            own.sent += bytes;
        }
    }

    /// Sends the rest of the end.
    fn finish(&mut self, socket: &mut impl Transport) -> Served {
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

/// Bytes that belong to one stream alone: its first events, and a gap or two behind them however
/// often it falls back.
#[derive(Default)]
pub(super) struct OwnBytes {
    bytes: Vec<u8>,
    sent: usize,
    gap: Option<Gap>,
}

/// The gap that ends a stream's own bytes.
#[derive(Clone, Copy)]
struct Gap {
    begin: usize,
    missed: u64,
}

impl OwnBytes {
    fn boxed(bytes: Vec<u8>, sent: usize) -> Box<OwnBytes> {
        Box::new(OwnBytes {
            bytes,
            sent,
            gap: None,
        })
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Tells of so many missed messages at the end. A gap that stands there and is not begun tells
    /// of these as well: else a reader that takes a few bytes between two gaps would let them pile
    /// up. Whether it is one gap more.
    fn tell_gap(&mut self, framing: Framing, missed: u64) -> bool {
        let earlier = self.gap.filter(|gap| self.sent <= gap.begin);
        match earlier {
            Some(gap) => self.bytes.truncate(gap.begin),
            None => drop(self.bytes.drain(..std::mem::take(&mut self.sent))),
        }
        let gap = Gap {
            begin: self.bytes.len(),
            missed: missed + earlier.map_or(0, |gap| gap.missed),
        };
        frame::push_gap(&mut self.bytes, framing, gap.missed);
        self.gap = Some(gap);
        earlier.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of gaps in so many bytes.
    fn gaps(bytes: &[u8]) -> Vec<u64> {
        let text = String::from_utf8_lossy(bytes);
        let numbers = text.split("\"missed\":").skip(1);
        numbers
            .map(|rest| rest.split('}').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn a_gap_that_is_not_begun_tells_of_what_is_missed_after_it() {
        let mut own = OwnBytes::boxed(b"first".to_vec(), 0);
        assert!(own.tell_gap(Framing::Chunked, 3));
        own.sent = 5;
        assert!(!own.tell_gap(Framing::Chunked, 4));
        assert_eq!(gaps(own.left()), [7]);
        own.sent += 1;
        assert!(own.tell_gap(Framing::Chunked, 5));
        assert_eq!(gaps(own.left()), [7, 5]);
    }

    #[test]
    fn gaps_do_not_pile_up_before_a_reader_that_takes_a_few_bytes_between_them() {
        let mut own = OwnBytes::default();
        let (mut taken, mut told) = (Vec::new(), 0);
        for missed in 1..=10_000 {
            own.tell_gap(Framing::Chunked, missed);
            told += missed;
            taken.push(own.left()[0]);
            own.sent += 1;
            assert!(own.bytes.capacity() < 512, "{} bytes", own.bytes.capacity());
        }
        taken.extend_from_slice(own.left());
        assert_eq!(gaps(&taken).iter().sum::<u64>(), told);
    }
}
