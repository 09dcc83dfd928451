//! The replay of new streams where several nodes share a history.
//!
//! The log is in the order of arrival; the shared history is the last [`HISTORY_MESSAGES`] by time. The
//! two differ if a message arrived late at this node. Then one of the last arrivals is not in the shared
//! history, and an earlier arrival is.
//!
//! The mirror sends the seqs of the shared history. A new stream gets these messages in the order of
//! arrival. A cursor cannot leave out a message. So the cursor begins after the last one to leave out, and
//! the messages before that are copied to the stream.
//!
//! Called by the live log for a new stream. Never affects open streams, nor a resume by event id.

use super::{Framing, LiveLog, View};
use crate::limits::{HISTORY_MESSAGES, REPLAY_COPY_BYTES_MAX};

/// The messages of the shared history at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SharedHistory {
    /// Their seqs, ascending; at most [`HISTORY_MESSAGES`]. Some may have left the log.
    pub seqs: Vec<u64>,
    /// One more than the newest seq that was considered.
    pub until_seq: u64,
}

impl LiveLog {
    /// Sets the shared history for the replay of new streams. Messages from `until_seq` on are replayed
    /// in any case.
    pub fn set_shared_history(&mut self, shared: SharedHistory) {
        self.shared = shared;
    }

    /// Appends a copy of a message in the log to `out`, in a framing.
    pub fn copy_message(&self, seq: u64, framing: Framing, out: &mut Vec<u8>) {
        let (start, end) = self.extent(seq, framing);
        let (first, wrapped) = self.ring(framing).pieces(start, end);
        out.extend_from_slice(first);
        out.extend_from_slice(wrapped);
    }

    /// The replay of a new stream: the seqs to copy first, and the seq at which its cursor starts.
    pub(super) fn replay(&self, view: View) -> (Vec<u64>, u64) {
        let plain = self.history_start(view);
        let until = self.shared.until_seq.clamp(self.tail_seq, self.head_seq());
        let after = self.visible_before(view, self.head_seq()) - self.visible_before(view, until);
        let room = HISTORY_MESSAGES.saturating_sub(after as usize);
        if room == 0 {
            return (Vec::new(), plain);
        }
        let is_shown = |seq: &u64| (self.tail_seq..until).contains(seq) && self.sees(view, *seq);
        let shared = self.shared.seqs.iter().copied().filter(is_shown);
        let mut chosen: Vec<u64> = shared.rev().take(room).collect();
        let others: Vec<u64> = self
            .visible(view, plain)
            .take_while(|seq| *seq < until)
            .filter(|seq| self.shared.seqs.binary_search(seq).is_err())
            .collect();
        let fill = others.iter().rev().take(room - chosen.len());
        chosen.extend(fill);
        chosen.sort_unstable();
        // Finds the place from which the view has no other messages: the cursor covers the rest.
        let total = self.visible_before(view, until);
        let is_whole = |&place: &usize| match chosen.get(place) {
            Some(&seq) => total - self.visible_before(view, seq) == (chosen.len() - place) as u64,
            None => true,
        };
        let place = (0..=chosen.len()).find(is_whole).unwrap_or(chosen.len());
        let start = chosen.get(place).copied().unwrap_or(until);
        chosen.truncate(place);
        self.drop_surplus(&mut chosen);
        (chosen, start)
    }

    /// Keeps the newest of the messages to copy, up to [`REPLAY_COPY_BYTES_MAX`].
    fn drop_surplus(&self, ahead: &mut Vec<u64>) {
        let mut bytes = 0;
        let fits = |seq: &&u64| {
            bytes += self.entry(**seq).chunk.bytes as usize;
            bytes <= REPLAY_COPY_BYTES_MAX
        };
        let kept = ahead.iter().rev().take_while(fits).count();
        ahead.drain(..ahead.len() - kept);
    }

    fn sees(&self, view: View, seq: u64) -> bool {
        match (view, self.entry(seq).session) {
            (View::Everything, _) | (_, None) => true,
            (View::Public, Some(_)) => false,
            (View::Session(own), Some(session)) => own == session,
            (View::Union(key), Some(session)) => self.unions.sessions(key).contains(&session),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live_log::SessionKey;
    use crate::message::SessionId;
    use crate::sse::frame::Chunk;

    fn append(log: &mut LiveLog, session: Option<&str>, bytes: usize) -> u64 {
        let seq = log.head_seq();
        let session = session.and_then(|name| SessionId::parse(name).unwrap());
        let frame = format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes));
        let head_bytes = (frame.len() - bytes - 2) as u8;
        let chunk = Chunk {
            bytes: frame.len() as u32,
            head_bytes,
        };
        log.append(seq, seq, session.as_ref(), frame.as_bytes(), chunk);
        seq
    }

    fn log(messages: u64) -> LiveLog {
        let mut log = LiveLog::new(1, 100_000);
        for _ in 0..messages {
            append(&mut log, None, 10);
        }
        log
    }

    fn share(log: &mut LiveLog, seqs: impl IntoIterator<Item = u64>) {
        let until_seq = log.head_seq();
        log.set_shared_history(SharedHistory {
            seqs: seqs.into_iter().collect(),
            until_seq,
        });
    }

    /// The seqs of a new stream's replay.
    fn shown(log: &LiveLog, view: View) -> Vec<u64> {
        let catch_up = log.catch_up(view, None);
        let by_cursor = log.visible(view, catch_up.cursor.next_seq);
        let shown: Vec<u64> = catch_up.ahead.iter().copied().chain(by_cursor).collect();
        assert_eq!(shown.len() as u64, catch_up.replay);
        assert!(shown.is_sorted_by(|a, b| a < b));
        shown
    }

    #[test]
    fn a_replay_has_the_shared_history_and_skips_messages_in_between() {
        let mut log = log(150);
        // 60 and 70 are among the last 100 arrivals but not shared. The earlier 48 and 50 are shared.
        let shared: Vec<u64> = [48, 50]
            .into_iter()
            .chain(51..60)
            .chain(61..70)
            .chain(71..151)
            .collect();
        assert_eq!(shared.len(), 100);
        share(&mut log, shared.clone());
        assert_eq!(shown(&log, View::Everything), shared);
        assert_eq!(shown(&log, View::Public), shared);
        let cursor = log.catch_up(View::Everything, None).cursor;
        assert_eq!({ cursor.next_seq }, 71);
        // A new message pushes out the oldest. A resume does not use the shared history.
        let new = append(&mut log, None, 10);
        assert_eq!(shown(&log, View::Everything)[..2], [50, 51]);
        assert_eq!(shown(&log, View::Everything).last(), Some(&new));
        let resumed = log.catch_up(View::Everything, Some(55));
        assert_eq!((resumed.ahead.len(), resumed.replay), (0, new - 55));
    }

    #[test]
    fn a_history_in_the_order_of_arrival_is_not_copied() {
        let mut log = log(150);
        share(&mut log, 51..151);
        let catch_up = log.catch_up(View::Everything, None);
        assert_eq!((catch_up.ahead.len(), catch_up.cursor.next_seq), (0, 51));
        for _ in 0..200 {
            append(&mut log, None, 10);
        }
        assert_eq!(
            shown(&log, View::Everything),
            (251..351).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_short_shared_history_is_filled_up_with_the_newest_others() {
        let mut log = log(150);
        share(&mut log, [10, 20, 120]);
        let expected: Vec<u64> = [10, 20].into_iter().chain(53..151).collect();
        assert_eq!(shown(&log, View::Everything), expected);
    }

    #[test]
    fn each_view_gets_its_part_of_the_shared_history() {
        let mut log = LiveLog::new(1, 100_000);
        for _ in 0..50 {
            append(&mut log, None, 10);
            append(&mut log, Some("mine"), 10);
            append(&mut log, Some("other"), 10);
        }
        let mine: SessionKey = log.hold_session(&SessionId::parse("mine").unwrap().unwrap());
        // 100 (public) and 101 (mine) are not shared; 49 (public) and 50 (mine) are.
        share(&mut log, (49..151).filter(|seq| ![100, 101].contains(seq)));
        let all = shown(&log, View::Everything);
        assert_eq!((all.len(), all[0], all.contains(&100)), (100, 49, false));
        // These views have fewer shared messages, so the other messages of the log are replayed as
        // well.
        assert_eq!(shown(&log, View::Public).len(), 50);
        let session = shown(&log, View::Session(mine));
        assert_eq!((session.len(), session[0]), (100, 1));
    }

    #[test]
    fn copies_are_bounded_and_skip_messages_that_have_left_the_log() {
        let mut log = LiveLog::new(1, 100 * 70_000);
        for _ in 0..130 {
            append(&mut log, None, 60_000);
        }
        let tail = log.tail_seq();
        // 129 is not shared, so all messages before it have to be copied.
        share(&mut log, (tail - 5..131).filter(|seq| *seq != 129));
        let catch_up = log.catch_up(View::Everything, None);
        assert_eq!(
            (catch_up.ahead, catch_up.cursor.next_seq),
            (vec![125, 126, 127, 128], 130)
        );
        assert_eq!(catch_up.replay, 5);
    }

    #[test]
    fn a_copy_has_the_bytes_that_a_cursor_would_send() {
        let mut log = log(3);
        append(&mut log, None, 5);
        let mut copy = Vec::new();
        log.copy_message(4, Framing::Chunked, &mut copy);
        log.copy_message(4, Framing::Bare, &mut copy);
        assert_eq!(copy, b"5\r\nxxxxx\r\nxxxxx");
    }
}
