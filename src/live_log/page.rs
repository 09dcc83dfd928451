//! A page of the history: the messages of one answer.
//!
//! Called by the shard for requests of the history. A page has the messages that a stream would get, as
//! far as an answer has room for them. Never encodes them.

use super::{Cursor, LiveLog, View};
use crate::sse::frame::Framing;

/// The messages of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The seqs, in the order of the answer.
    pub seqs: Vec<u64>,
    /// The page continues after the requested message. Otherwise it is the newest part of the history.
    pub is_resumed: bool,
    /// The number of messages after the requested one that have left the log. Exact for a view of
    /// everything, an upper bound for others.
    pub missed: u64,
    /// More messages follow this page.
    pub more: bool,
}

impl LiveLog {
    /// Without `after`, or with a seq that was never given out: the newest messages of a new
    /// stream's replay. With it: the first messages after that one. At most `count_max` messages,
    /// which is at least 1. Their frames have at most `bytes_max` bytes, unless it is a single
    /// message.
    pub fn page(&self, view: View, after: Option<u64>, count_max: usize, bytes_max: usize) -> Page {
        let is_resumed = after.is_some_and(|seq| seq < self.head_seq());
        let catch_up = self.catch_up(view, after);
        let seqs = catch_up.ahead.iter().copied();
        let seqs = seqs.chain(self.visible(view, catch_up.cursor.next_seq));
        let mut bytes = 0;
        let mut fits = |seq: &u64| {
            let is_first = bytes == 0;
            bytes += self.entry(*seq).chunk.bytes as usize;
            is_first || bytes <= bytes_max
        };
        if is_resumed {
            let seqs: Vec<u64> = seqs.take(count_max).take_while(&mut fits).collect();
            return Page {
                more: (seqs.len() as u64) < catch_up.replay,
                seqs,
                is_resumed,
                missed: catch_up.missed,
            };
        }
        let mut seqs: Vec<u64> = seqs.collect();
        let newest = seqs.iter().rev().take(count_max);
        let shown = newest.take_while(|seq| fits(seq)).count();
        seqs.drain(..seqs.len() - shown);
        Page {
            seqs,
            is_resumed,
            missed: 0,
            more: false,
        }
    }

    /// The newest message of a view up to this one, if the log has one.
    pub fn last_visible(&self, view: View, seq: u64) -> Option<u64> {
        let up_to = |visible: &u64| *visible <= seq;
        self.visible(view, self.tail_seq()).take_while(up_to).last()
    }

    /// The size of a message's event without chunk framing, in bytes. Its entry in an answer has the same
    /// size ([`push_entry`](crate::sse::frame::push_entry)).
    pub fn event_bytes(&self, seq: u64) -> usize {
        let (start, end) = self.extent(seq, Framing::Bare);
        (end - start) as usize
    }

    /// The cursor of a view at the head of the log.
    pub fn end(&self, view: View) -> Cursor {
        self.cursor_at(view, self.head_seq())
    }

    /// Whether the view has messages after a cursor.
    pub fn has_news(&self, view: View, cursor: &Cursor) -> bool {
        self.end(view).messages_since(cursor) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SessionId;
    use crate::sse::frame::Chunk;

    const FRAME_BYTES: usize = 100;

    /// A log of `messages`, every third of which is for session "a".
    fn log(messages: u64) -> LiveLog {
        let mut log = LiveLog::new(1, 200 * FRAME_BYTES);
        let session = SessionId::parse("a").unwrap();
        let chunk = Chunk {
            bytes: FRAME_BYTES as u32,
            head_bytes: 4,
        };
        for seq in 1..=messages {
            let session = session.as_ref().filter(|_| seq % 3 == 0);
            log.append(seq, seq, session, &[b'x'; FRAME_BYTES], chunk);
        }
        log
    }

    fn page(log: &LiveLog, view: View, after: Option<u64>, count_max: usize) -> Page {
        log.page(view, after, count_max, usize::MAX)
    }

    #[test]
    fn without_a_known_seq_a_page_has_the_newest_messages() {
        let log = log(150);
        let newest = page(&log, View::Everything, None, 100);
        assert_eq!(newest.seqs, (51..151).collect::<Vec<_>>());
        assert!(!newest.is_resumed && !newest.more && newest.missed == 0);
        assert_eq!(page(&log, View::Public, None, 2).seqs, [148, 149]);
        let unknown = page(&log, View::Everything, Some(151), 1);
        assert_eq!((unknown.seqs, unknown.is_resumed), (vec![150], false));
    }

    #[test]
    fn consecutive_pages_have_each_message_once() {
        let log = log(150);
        let (mut seen, mut after) = (Vec::new(), 9);
        loop {
            let page = page(&log, View::Public, Some(after), 7);
            assert!(page.is_resumed && page.missed == 0);
            seen.extend(page.seqs.iter().copied());
            after = *page.seqs.last().unwrap();
            if !page.more {
                break;
            }
        }
        let expected: Vec<u64> = (10..151).filter(|seq| seq % 3 != 0).collect();
        assert_eq!(seen, expected);
        assert!(page(&log, View::Public, Some(150), 7).seqs.is_empty());
    }

    #[test]
    fn messages_that_have_left_the_log_count_as_missed() {
        let log = log(350);
        let page = page(&log, View::Everything, Some(100), 2);
        assert_eq!((page.seqs, page.missed), (vec![151, 152], 50));
        assert!(page.more);
    }

    #[test]
    fn a_page_is_bounded_in_bytes_but_has_at_least_one_message() {
        let log = log(150);
        let newest = log.page(View::Everything, None, 100, 3 * FRAME_BYTES + 1);
        assert_eq!(newest.seqs, [148, 149, 150]);
        let next = log.page(View::Everything, Some(10), 100, 3 * FRAME_BYTES);
        assert_eq!((next.seqs, next.more), (vec![11, 12, 13], true));
        assert_eq!(log.page(View::Everything, Some(10), 100, 1).seqs, [11]);
    }

    #[test]
    fn only_messages_of_the_view_are_news() {
        let mut log = log(149);
        let end = log.end(View::Public);
        let everything = log.end(View::Everything);
        let session = SessionId::parse("a").unwrap();
        let chunk = Chunk {
            bytes: FRAME_BYTES as u32,
            head_bytes: 4,
        };
        log.append(150, 150, session.as_ref(), &[b'x'; FRAME_BYTES], chunk);
        assert!(!log.has_news(View::Public, &end));
        assert!(log.has_news(View::Everything, &everything));
    }
}
