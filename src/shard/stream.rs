//! One open SSE response: a cursor into the live log, and the few bytes of its own.
//!
//! Kept and served by `subscription`, one gathering write at a time. A stream has no queue. The
//! cursor of a slow reader falls behind. When the log drops frames that the stream lacks, the
//! cursor skips ahead to a frame boundary, and the stream sends a `gap` event. Never copies a frame
//! of the log.

use std::io::IoSlice;
use std::ops::Range;

use crate::live_log::{Cursor, Gather, Lag, LiveLog, View};
use crate::shard::membership::{Holder, Place};
use crate::shard::transport::{Transfer, Transport};
use crate::sse::frame::{self, Framing};
use crate::sse::gzip::Checksum;

/// The state of a stream.
pub struct Stream {
    pub(super) place: Place,
    pub(super) cursor: Cursor,
    pub(super) framing: Framing,
    /// Own bytes, which are sent first: the first events of a new stream, or the rest of a gap, a
    /// heartbeat or the end that the socket did not take whole.
    pub(super) own: Option<Box<OwnBytes>>,
    /// The socket took less than was offered. An event follows when it is writable again.
    pub(super) blocked: bool,
    /// The next write includes a heartbeat.
    pub(super) heartbeat_due: bool,
    pub(super) ending: Ending,
    pub(super) life: Life,
    /// The time that belongs to `life`, in monotonic milliseconds.
    pub(super) life_ms: u64,
}

/// For how long a stream stays open. Without its time, which would make every stream 8 bytes larger here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Until its client or the server ends it.
    Endless,
    /// A cache may share it until `life_ms`.
    Shared,
    /// A token has opened it. It is in the table of `expiry` under `life_ms`.
    Token,
}

/// Whether a stream is ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The stream stays open.
    No,
    /// The end follows the pending frames: a `retry` of this many milliseconds, and the last chunk.
    Due { retry_ms: u16 },
    /// Its token has ended. The own bytes, the event `token_expired` and the last chunk follow, and no frame.
    Expired,
    /// A part of the end is sent, or about to be. Only its rest follows.
    Begun { reason: EndReason },
    /// Another history has replaced the log's, so the cursor is not valid. The end follows the own bytes;
    /// no frame is sent any more.
    Reset { retry_ms: u16 },
    /// As `Reset`, but an orderly end is not possible.
    Cut,
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// The server drains, or the life of a shared stream is over.
    Due,
    /// The end of its token.
    Token,
    /// Another history has replaced the log's.
    Reset,
}

/// The result of one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) bytes: usize,
    /// Messages whose last byte is sent.
    pub(super) messages: u64,
    pub(super) heartbeat: bool,
}

/// The result of serving a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// There was nothing to send.
    CaughtUp,
    /// The socket took the whole write; true if the log has more frames for the stream.
    Wrote(Sent, bool),
    /// The socket is full.
    Blocked(Sent),
    /// The end is sent.
    Ended(Sent),
    /// The log has dropped a frame that is partly sent. Nothing can follow on this connection.
    Torn,
    /// See [`Ending::Cut`].
    Cut,
    /// The connection is broken.
    Failed,
}

impl Stream {
    /// A stream that sends `first_bytes`, and then the log from `cursor`.
    pub(super) fn new(
        view: View,
        framing: Framing,
        cursor: Cursor,
        first_bytes: FirstBytes,
        shared_until_ms: Option<u64>,
    ) -> Stream {
        Stream {
            place: Place::new(view, Holder::Stream),
            cursor,
            framing,
            own: Some(Box::new(OwnBytes {
                bytes: first_bytes.bytes,
                copies: first_bytes.copies,
                ..OwnBytes::default()
            })),
            blocked: false,
            heartbeat_due: false,
            ending: Ending::No,
            life: shared_until_ms.map_or(Life::Endless, |_| Life::Shared),
            life_ms: shared_until_ms.unwrap_or_default(),
        }
    }

    /// Whether a cache may share it among clients.
    pub(super) fn is_shared(&self) -> bool {
        self.life == Life::Shared
    }

    /// Reads fields from all over the stream. The result means nothing.
    pub(super) fn read_through(&self) -> u64 {
        let next_seq = self.cursor.next_seq;
        next_seq ^ self.life_ms ^ u64::from(self.place.round_index) ^ u64::from(self.blocked)
    }

    /// Bytes allocated for the stream alone.
    pub(super) fn own_bytes(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.bytes.capacity())
    }

    /// Bytes allocated for the stream alone, and those of its sessions if it has several.
    pub(super) fn held_bytes(&self) -> usize {
        self.own_bytes() + self.place.view.held_bytes()
    }

    /// Sends all that the stream lacks in one write: its own bytes, a gap if there is one, the
    /// frames of its view up to the head, a heartbeat if one is due, and its end if that is due.
    /// Adds new gap events to `gaps`. `sum` is the checksum of the stream, if it is compressed: that of the own
    /// bytes, and of everything before the cursor.
    pub(super) fn serve(
        &mut self,
        socket: &mut impl Transport,
        log: &LiveLog,
        sum: &mut Checksum,
        gaps: &mut u64,
    ) -> Served {
        match self.ending {
            Ending::No | Ending::Due { .. } => {}
            Ending::Expired => return self.finish_expired(socket, *sum),
            Ending::Begun { .. } => return self.finish(socket),
            Ending::Reset { retry_ms } => return self.finish_reset(socket, *sum, retry_ms),
            Ending::Cut => return Served::Cut,
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
                    *gaps += u64::from(own.add_gap(self.framing, sum, missed));
                }
            }
        }

        let own = self.own.as_deref().map_or(&[][..], OwnBytes::left);
        let mut gather = Gather::new();
        gather.push(own);
        let after = log.gather(self.place.view, self.framing, &self.cursor, &mut gather);
        let frames_end = gather.bytes();
        let more = after.next_seq < log.head_seq();
        let tail = if more {
            Tail::default()
        } else {
            self.tail(log, &after, *sum)
        };
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
        let before = self.cursor;
        let served = if sent < offered.end {
            self.keep_rest(log, &offered, &tail, sent)
        } else {
            self.keep_nothing(&offered, &tail)
        };
        if self.framing == Framing::Gzip {
            log.add_frames(self.place.view, &before, &self.cursor, sum);
            if sent > offered.frames_end {
                frame::add_events(sum, self.framing, tail.heartbeat);
            }
        }
        served
    }

    /// Ends the stream because another history has replaced the log's. Its own bytes are sent first. The
    /// peer cannot use an end inside a frame, so the stream is cut off there. So is a shared one: a cache
    /// would keep a complete response, and replay it to clients that reconnect at once.
    pub(super) fn reset(&mut self, retry_ms: u16) {
        let (retry_ms, is_shared) = match self.ending {
            Ending::No => (retry_ms, self.is_shared()),
            // The life of a shared one is over, and no cache gives it to further clients.
            Ending::Due { retry_ms } => (retry_ms, false),
            // The rest contains no frame.
            Ending::Expired | Ending::Begun { .. } | Ending::Reset { .. } | Ending::Cut => return,
        };
        let is_within_frame = self.cursor.is_within_frame()
            || self.own.as_deref().is_some_and(OwnBytes::is_within_copies);
        // The checksum of a compressed stream already counts the copies.
        let has_counted_copies =
            self.framing == Framing::Gzip && self.own.as_deref().is_some_and(OwnBytes::has_copies);
        self.ending = if is_shared || is_within_frame || has_counted_copies {
            Ending::Cut
        } else {
            Ending::Reset { retry_ms }
        };
        if let Some(own) = &mut self.own {
            own.drop_copies();
        }
    }

    /// Adds the event that its token ends at this Unix time in milliseconds. Returns false inside a frame,
    /// where no event fits.
    pub(super) fn add_warning(&mut self, sum: &mut Checksum, expires_ms: u64) -> bool {
        if self.cursor.is_within_frame() {
            return false;
        }
        if self.ending == Ending::No {
            let own = self.own.get_or_insert_default();
            own.drop_sent();
            own.gap = None;
            let start = own.bytes.len();
            frame::push_token_warning(&mut own.bytes, self.framing, expires_ms);
            frame::add_events(sum, self.framing, &own.bytes[start..]);
        }
        true
    }

    /// Ends the stream because its token does. Returns false if it cannot be ended in order.
    pub(super) fn expire(&mut self) -> bool {
        let is_within_frame = self.cursor.is_within_frame()
            || self.own.as_deref().is_some_and(OwnBytes::is_within_copies);
        match self.ending {
            _ if self.blocked => false,
            Ending::No | Ending::Due { .. } if is_within_frame => false,
            Ending::No | Ending::Due { .. } => {
                self.ending = Ending::Expired;
                true
            }
            // The rest contains no frame.
            _ => true,
        }
    }

    /// Sends the own bytes and the end of a stream whose token has ended.
    fn finish_expired(&mut self, socket: &mut impl Transport, sum: Checksum) -> Served {
        let own = self.own.get_or_insert_default();
        frame::push_token_end(&mut own.bytes, self.framing, sum);
        self.ending = Ending::Begun {
            reason: EndReason::Token,
        };
        self.finish(socket)
    }

    /// Sends the own bytes and the end, without a look at the log.
    fn finish_reset(
        &mut self,
        socket: &mut impl Transport,
        sum: Checksum,
        retry_ms: u16,
    ) -> Served {
        let own = self.own.get_or_insert_default();
        frame::push_end(&mut own.bytes, self.framing, sum, u64::from(retry_ms));
        self.ending = Ending::Begun {
            reason: EndReason::Reset,
        };
        self.finish(socket)
    }

    /// Updates the stream after a write that the socket took whole.
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

    /// Updates the stream after a write of which the socket took only `sent` bytes.
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

    /// Whether there is nothing to send: the common case of a visit, checked before anything is
    /// gathered.
    fn has_nothing_to_send(&self, log: &LiveLog) -> bool {
        self.cursor.next_seq == log.head_seq()
            && self.own.is_none()
            && !self.heartbeat_due
            && self.ending == Ending::No
    }

    /// The part of a write behind the frames up to the cursor `after`.
    fn tail(&self, log: &LiveLog, after: &Cursor, mut sum: Checksum) -> Tail {
        let heartbeat: &[u8] = if self.heartbeat_due {
            frame::heartbeat(self.framing)
        } else {
            b""
        };
        let mut end = Vec::new();
        if let Ending::Due { retry_ms } = self.ending {
            if self.framing == Framing::Gzip {
                log.add_frames(self.place.view, &self.cursor, after, &mut sum);
                frame::add_events(&mut sum, self.framing, heartbeat);
            }
            frame::push_end(&mut end, self.framing, sum, u64::from(retry_ms));
        }
        Tail { heartbeat, end }
    }

    /// Keeps the unsent rest of a tail, which must be sent before anything else. A tail of which
    /// nothing is sent is made anew for the next write.
    fn keep_rest_of(&mut self, tail: &Tail, sent: usize) {
        self.own = None;
        if sent == 0 {
            return;
        }
        self.heartbeat_due = false;
        if !tail.end.is_empty() {
            self.ending = Ending::Begun {
                reason: EndReason::Due,
            };
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

    /// Sends the own bytes, which are the rest of the end.
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

/// The layout of one write: the byte offset at which each part ends, and the cursor once all of it
/// is sent.
struct Offered {
    own_end: usize,
    frames_end: usize,
    end: usize,
    /// The cursor behind its frames.
    after: Cursor,
    /// The log has more frames than fit one write.
    more: bool,
}

/// The part of a write behind the frames.
#[derive(Default)]
struct Tail {
    heartbeat: &'static [u8],
    end: Vec<u8>,
}

/// Bytes of one stream alone: its first events, and at most two gaps behind them, however often it
/// falls behind.
#[derive(Default)]
pub(super) struct OwnBytes {
    bytes: Vec<u8>,
    sent: usize,
    /// Where copies of messages are.
    copies: Range<usize>,
    gap: Option<Gap>,
}

/// What a stream sends before the frames of the log.
#[derive(Default)]
pub(super) struct FirstBytes {
    pub(super) bytes: Vec<u8>,
    /// Where messages are copied into it.
    pub(super) copies: Range<usize>,
}

/// A gap event at the end of a stream's own bytes.
#[derive(Clone, Copy)]
struct Gap {
    begin: usize,
    missed: u64,
    /// The checksum of the stream without it.
    sum_before: Checksum,
}

impl OwnBytes {
    fn boxed(bytes: Vec<u8>, sent: usize) -> Box<OwnBytes> {
        Box::new(OwnBytes {
            bytes,
            sent,
            ..OwnBytes::default()
        })
    }

    /// Whether a copied message may be sent in part.
    fn is_within_copies(&self) -> bool {
        self.copies.start < self.sent && self.sent < self.copies.end
    }

    fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Takes copied messages out, if none of them is sent.
    fn drop_copies(&mut self) {
        if self.sent <= self.copies.start {
            self.bytes.drain(std::mem::take(&mut self.copies));
            self.gap = None;
        }
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn drop_sent(&mut self) {
        let sent = std::mem::take(&mut self.sent);
        drop(self.bytes.drain(..sent));
        let left = |end: usize| end.saturating_sub(sent);
        self.copies = left(self.copies.start)..left(self.copies.end);
    }

    /// Appends a gap of `missed` messages. If the last gap is entirely unsent, the new one is added
    /// to it: otherwise gaps would accumulate for a reader that takes a few bytes between two of
    /// them. Returns whether this makes one gap more.
    fn add_gap(&mut self, framing: Framing, sum: &mut Checksum, missed: u64) -> bool {
        let earlier = self.gap.filter(|gap| self.sent <= gap.begin);
        match earlier {
            Some(gap) => {
                self.bytes.truncate(gap.begin);
                *sum = gap.sum_before;
            }
            None => self.drop_sent(),
        }
        let gap = Gap {
            begin: self.bytes.len(),
            missed: missed + earlier.map_or(0, |gap| gap.missed),
            sum_before: *sum,
        };
        frame::push_gap(&mut self.bytes, framing, gap.missed);
        frame::add_events(sum, framing, &self.bytes[gap.begin..]);
        self.gap = Some(gap);
        earlier.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of missed messages in the gap events of these bytes.
    fn gaps(bytes: &[u8]) -> Vec<u64> {
        let text = String::from_utf8_lossy(bytes);
        let numbers = text.split("\"missed\":").skip(1);
        numbers
            .map(|rest| rest.split('}').next().unwrap().parse().unwrap())
            .collect()
    }

    #[test]
    fn an_unsent_gap_absorbs_the_next_one() {
        let mut own = OwnBytes::boxed(b"first".to_vec(), 0);
        assert!(own.add_gap(Framing::Chunked, &mut Checksum::default(), 3));
        own.sent = 5;
        assert!(!own.add_gap(Framing::Chunked, &mut Checksum::default(), 4));
        assert_eq!(gaps(own.left()), [7]);
        own.sent += 1;
        assert!(own.add_gap(Framing::Chunked, &mut Checksum::default(), 5));
        assert_eq!(gaps(own.left()), [7, 5]);
    }

    #[test]
    fn gaps_do_not_accumulate_for_a_reader_that_takes_a_few_bytes_at_a_time() {
        let mut own = OwnBytes::default();
        let (mut taken, mut missed_in_all) = (Vec::new(), 0);
        for missed in 1..=10_000 {
            own.add_gap(Framing::Chunked, &mut Checksum::default(), missed);
            missed_in_all += missed;
            taken.push(own.left()[0]);
            own.sent += 1;
            assert!(own.bytes.capacity() < 512, "{} bytes", own.bytes.capacity());
        }
        taken.extend_from_slice(own.left());
        assert_eq!(gaps(&taken).iter().sum::<u64>(), missed_in_all);
    }
}
