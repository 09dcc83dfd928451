//! What a client of a stream receives, checked byte by byte against the model.

use std::collections::VecDeque;
use std::rc::Rc;

use hookcast::limits::{
    FANOUT_LIFE_LEAST_PERCENT, FANOUT_RETRY_MS, HISTORY_MESSAGES, REPLAY_COPY_BYTES_MAX, RETRY_MS,
};
use hookcast::live_log::SharedHistory;
use memchr::memmem;

use super::coverage;
use super::model::{LogExtent, Model, View};

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub struct StreamSpec {
    pub view: View,
    pub is_chunked: bool,
    /// The seq of its last event id, if that is of the epoch in use.
    pub resume_after: Option<u64>,
    /// A cache may give it to many clients.
    pub is_shared: bool,
}

/// When a shard has taken in a stream, and how far its log reached then.
#[derive(Debug, Clone)]
pub struct Subscribed {
    pub mono_ms: u64,
    pub unix_ms: u64,
    /// What it shows new streams.
    pub shared: Rc<SharedHistory>,
    pub tail_seq: u64,
    pub head_seq: u64,
}

/// What is known while bytes are checked.
pub struct Known<'a> {
    pub model: &'a Model,
    pub log: &'a LogExtent,
    pub subscribed: &'a [Subscribed],
    pub is_draining: bool,
    pub now_ms: u64,
    /// The longest life of a stream that is shared.
    pub fanout_life_ms: u64,
}

/// Where a stream may stand. There are several of these while it is not clear in which of two
/// moments of a turn it began.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Track {
    /// When it began.
    began_ms: u64,
    /// Messages that come before all others: of the shared history.
    ahead: VecDeque<u64>,
    next_seq: u64,
    /// A gap between these bounds has to come next.
    gap: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// `connected` comes first.
    Fresh,
    Live,
    /// It has been told to come back; the last chunk follows.
    Ending,
    Over,
}

pub struct StreamCheck {
    pub spec: StreamSpec,
    stage: Stage,
    tracks: Vec<Track>,
    /// The head of the log when what is not whole yet was begun.
    begun_at: Option<u64>,
    /// The same of a heartbeat, if that came last.
    heartbeat_at: Option<u64>,
    /// Messages received, and how many of these may be copies that came ahead.
    pub messages: u64,
    pub copies: u64,
    pub heartbeats: u64,
    began_ms: u64,
    /// For how many seconds a cache may give it out.
    shared_s: u64,
    pub gaps: u64,
    /// Message events: where each ended in the server's bytes, and its seq.
    pub ids: Vec<(u64, u64)>,
}

impl StreamCheck {
    pub fn new(spec: StreamSpec, shared_s: u64, now_ms: u64) -> StreamCheck {
        StreamCheck {
            spec,
            stage: Stage::Fresh,
            tracks: Vec::new(),
            begun_at: None,
            heartbeat_at: None,
            messages: 0,
            copies: 0,
            heartbeats: 0,
            began_ms: now_ms,
            shared_s,
            gaps: 0,
            ids: Vec::new(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Fresh
    }

    /// Checks what is whole of `bytes`, of which the first is number `offset` of the connection,
    /// and returns how much that is.
    pub fn feed(&mut self, bytes: &[u8], offset: u64, known: &Known<'_>) -> usize {
        let mut used = 0;
        while let Some(event) = self.next_event(&bytes[used..]) {
            used += event.bytes;
            let payload = &bytes[used - event.bytes..][event.payload];
            self.take(payload, offset + used as u64, known);
            self.begun_at = None;
        }
        if used < bytes.len() {
            self.begun_at.get_or_insert(known.log.head_seq());
        }
        used
    }

    /// Whether a stream that was closed in the middle of something had to be: the log no longer
    /// holds the rest of the frame.
    pub fn is_torn(&self, has_rest: bool, known: &Known<'_>) -> bool {
        let next = |track: &Track| {
            known
                .model
                .visible(self.spec.view, track.next_seq, u64::MAX)
                .next()
        };
        has_rest
            && self
                .tracks
                .iter()
                .any(|track| next(track).is_some_and(|seq| seq < known.log.tail_seq))
    }

    /// Fails unless the stream has received all there is for it.
    pub fn assert_caught_up(&self, known: &Known<'_>) {
        let head_seq = known.log.head_seq();
        assert!(
            self.is_over()
                || self
                    .tracks
                    .iter()
                    .any(|track| self.lacks_nothing(track, head_seq, known)),
            "a stream is left behind: {:?} {:?}, the log ends at {head_seq}",
            self.spec,
            self.tracks,
        );
    }

    /// Heartbeats come once per interval and not more often, whatever else is sent.
    pub fn assert_calm(&self, now_ms: u64, heartbeat_ms: u64) {
        let most = (now_ms - self.began_ms) / heartbeat_ms + 2;
        assert!(
            self.heartbeats <= most,
            "{} heartbeats since {}",
            self.heartbeats,
            self.began_ms
        );
    }

    /// A stream that is shared has its life and no more.
    pub fn assert_alive(&self, slack_ms: u64, known: &Known<'_>) {
        let is_old =
            |track: &Track| known.now_ms > track.began_ms + known.fanout_life_ms + slack_ms;
        assert!(
            !(self.spec.is_shared && !self.is_over() && self.tracks.iter().all(is_old)),
            "a shared stream outlives itself: {:?}",
            self.tracks
        );
    }

    /// Whether the life of a stream that is shared may be over: not before a cache has stopped
    /// giving it out.
    fn may_expire(&self, known: &Known<'_>) -> bool {
        let least_ms = known.fanout_life_ms * FANOUT_LIFE_LEAST_PERCENT / 100;
        let least_ms = least_ms.max((self.shared_s + 1) * 1000);
        let is_old = |track: &Track| known.now_ms >= track.began_ms + least_ms;
        self.spec.is_shared && self.tracks.iter().any(is_old)
    }

    fn lacks_nothing(&self, track: &Track, head_seq: u64, known: &Known<'_>) -> bool {
        let mut lacking = known
            .model
            .visible(self.spec.view, track.next_seq, head_seq);
        track.ahead.is_empty() && track.gap.is_none() && lacking.next().is_none()
    }

    fn next_event(&self, bytes: &[u8]) -> Option<Event> {
        match self.stage {
            Stage::Over => {
                assert!(
                    bytes.is_empty(),
                    "bytes behind the end of a stream: {}",
                    show(bytes)
                );
                None
            }
            Stage::Ending if !self.spec.is_chunked => None,
            _ if self.spec.is_chunked => chunk(bytes),
            _ => block(bytes),
        }
    }

    fn take(&mut self, payload: &[u8], end: u64, known: &Known<'_>) {
        let text = str::from_utf8(payload).expect("a stream is UTF-8");
        if self.stage == Stage::Ending || text.is_empty() {
            assert!(
                self.stage == Stage::Ending && text.is_empty(),
                "a last chunk, and only then"
            );
            self.stage = Stage::Over;
            return;
        }
        assert_eq!(
            block(payload).map(|event| event.bytes),
            Some(payload.len()),
            "one event, or one comment: {}",
            show(payload)
        );
        if text.starts_with("retry: ") {
            self.take_retry(text, known);
            return;
        }
        assert_eq!(
            self.stage,
            Stage::Live,
            "`connected` comes first: {}",
            show(payload)
        );
        let heartbeat_at = self.heartbeat_at.take();
        if text == ": heartbeat\n" {
            self.heartbeats += 1;
            self.heartbeat_at = heartbeat_at
                .or(self.begun_at)
                .or(Some(known.log.head_seq()));
        } else if let Some(missed) = between(text, "data: {\"type\":\"gap\",\"missed\":", "}\n\n") {
            self.gaps += 1;
            self.keep(|track, view| take_gap(track, view, missed, known));
        } else if let Some((_, id)) = text.split_once("\nid: ") {
            let id = id.lines().next().unwrap_or_default();
            let seq = id.strip_prefix(&format!("{}-", known.model.epoch));
            let seq: u64 = seq
                .and_then(|seq| seq.parse().ok())
                .expect("an event id of this epoch");
            let stored = known.model.get(seq).expect("a message that was stored");
            assert!(
                stored.event == payload,
                "not the event of {seq}: {}",
                show(payload)
            );
            self.messages += 1;
            self.ids.push((end, seq));
            let is_ahead = |track: &Track| track.ahead.front() == Some(&seq);
            let may_be_copy = self.tracks.iter().any(is_ahead);
            self.keep(|track, view| take_message(track, view, seq, known));
            if may_be_copy {
                self.copies += 1;
                coverage::count("messages of the shared history that came ahead", 1);
            }
        } else {
            panic!("an event that there is not: {}", show(payload));
        }
    }

    fn take_retry(&mut self, text: &str, known: &Known<'_>) {
        let (line, rest) = text.split_once('\n').unwrap_or_default();
        let retry_ms: u64 = line["retry: ".len()..].parse().expect("a number");
        let range = if self.spec.is_shared {
            FANOUT_RETRY_MS
        } else {
            RETRY_MS
        };
        assert!(range.contains(&retry_ms), "{line}");
        if self.stage == Stage::Fresh {
            self.stage = Stage::Live;
            return self.take_connected(rest, known);
        }
        assert_eq!(rest, "data: {\"type\":\"end\"}\n\n");
        if self.spec.is_shared {
            assert!(
                self.may_expire(known),
                "the end comes too early: {:?}",
                self.tracks
            );
            coverage::count("shared streams that lived out their life", 1);
        } else {
            assert!(known.is_draining, "nobody drains: {text:?}");
        }
        // With a heartbeat that is due the end goes out in one, and so is as old.
        let begun_at = self.heartbeat_at.or(self.begun_at);
        let head_seq = begun_at.unwrap_or(known.log.head_seq());
        let is_served = self
            .tracks
            .iter()
            .any(|track| self.lacks_nothing(track, head_seq, known));
        assert!(
            is_served,
            "a stream ends before it has got what was there: {:?}",
            self.tracks
        );
        self.stage = if self.spec.is_chunked {
            Stage::Ending
        } else {
            Stage::Over
        };
    }

    fn take_connected(&mut self, text: &str, known: &Known<'_>) {
        let start = "data: {\"type\":\"connected\",\"timestamp\":";
        let (data, place) = text.split_once('\n').expect("`connected` is a line");
        let (unix_ms, replay) = data
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix('}'))
            .and_then(|rest| rest.split_once(",\"replay\":"))
            .expect("`connected`");
        let (unix_ms, replay): (u64, u64) = (number(unix_ms), number(replay));
        let candidates: Vec<(Track, u64, Option<u64>)> = known
            .subscribed
            .iter()
            .filter(|subscribed| subscribed.unix_ms == unix_ms)
            .map(|subscribed| {
                let (track, replay) = self.spec.start(subscribed, known.model);
                (track, replay, self.spec.place(subscribed, replay))
            })
            .collect();
        let id = |seq: u64| format!("id: {}-{seq}\n", known.model.epoch);
        self.tracks = candidates
            .iter()
            .filter(|(_, expected, _)| *expected == replay)
            .filter(|(_, _, seq)| place == format!("{}\n", seq.map_or(String::new(), id)))
            .map(|(track, ..)| track.clone())
            .collect();
        self.tracks.dedup();
        assert!(
            !self.tracks.is_empty(),
            "{:?} is promised {replay} messages at {unix_ms} behind {place:?}, expected: {candidates:?}",
            self.spec
        );
    }

    /// Applies an event to every track and keeps those that it fits.
    fn keep(&mut self, mut apply: impl FnMut(&mut Track, View) -> Result<(), String>) {
        let view = self.spec.view;
        let mut reason = String::new();
        let before = self.tracks.clone();
        self.tracks.retain_mut(|track| match apply(track, view) {
            Ok(()) => true,
            Err(error) => {
                reason = error;
                false
            }
        });
        assert!(
            !self.tracks.is_empty(),
            "{reason}; {:?} {before:?}",
            self.spec
        );
    }
}

impl StreamSpec {
    /// Where such a stream begins, and how many messages it is promised from history.
    fn start(&self, at: &Subscribed, model: &Model) -> (Track, u64) {
        let resume_seq = self
            .resume_after
            .filter(|seq| *seq < at.head_seq)
            .map(|seq| seq + 1);
        let mut ahead = VecDeque::new();
        let (next_seq, gap) = match resume_seq {
            Some(seq) if seq < at.tail_seq => {
                // What is gone is not known by session, so only who sees everything is told exactly.
                let gone = at.tail_seq - seq;
                let least = match self.view {
                    View::Everything => gone,
                    view => model.visible(view, seq, at.tail_seq).count() as u64,
                };
                (at.tail_seq, Some((least, gone)))
            }
            Some(seq) => (seq, None),
            None => {
                let next_seq;
                (ahead, next_seq) = self.replay(at, model);
                (next_seq, None)
            }
        };
        let by_cursor = model.visible(self.view, next_seq, at.head_seq).count();
        let replay = (ahead.len() + by_cursor) as u64;
        let track = Track {
            began_ms: at.mono_ms,
            ahead,
            next_seq,
            gap,
        };
        (track, replay)
    }

    /// The seq behind which such a stream says that it begins.
    fn place(&self, at: &Subscribed, replay: u64) -> Option<u64> {
        self.resume_after
            .filter(|seq| *seq < at.head_seq)
            .or((replay == 0).then_some(at.head_seq - 1))
    }

    /// The history as a new stream is shown it: what comes ahead, and where the rest begins. News
    /// first, then what is shared, then others of the last arrivals; of each, the newest.
    fn replay(&self, at: &Subscribed, model: &Model) -> (VecDeque<u64>, u64) {
        let seen: Vec<u64> = model.visible(self.view, at.tail_seq, at.head_seq).collect();
        let last_arrivals = seen.len().saturating_sub(HISTORY_MESSAGES);
        let rank = |(place, &seq): (usize, &u64)| {
            if seq >= at.shared.until_seq {
                Some((2, seq))
            } else if at.shared.seqs.contains(&seq) {
                Some((1, seq))
            } else {
                (place >= last_arrivals).then_some((0, seq))
            }
        };
        let mut ranked: Vec<(u8, u64)> = seen.iter().enumerate().filter_map(rank).collect();
        ranked.sort_unstable();
        let surplus = ranked.len().saturating_sub(HISTORY_MESSAGES);
        let mut shown: VecDeque<u64> = ranked[surplus..].iter().map(|(_, seq)| *seq).collect();
        shown.make_contiguous().sort_unstable();
        // Where nothing is left out up to the head it is not copied.
        let mut next_seq = at.head_seq;
        for seq in seen.iter().rev() {
            if shown.back() != Some(seq) {
                break;
            }
            shown.pop_back();
            next_seq = *seq;
        }
        let mut bytes = 0;
        let fits = |seq: &&u64| {
            bytes += model.get(**seq).map_or(0, |stored| stored.frame_bytes);
            bytes <= REPLAY_COPY_BYTES_MAX
        };
        let kept = shown.iter().rev().take_while(fits).count();
        shown.drain(..shown.len() - kept);
        (shown, next_seq)
    }
}

fn take_gap(track: &mut Track, view: View, missed: u64, known: &Known<'_>) -> Result<(), String> {
    if let Some(seq) = track.ahead.front() {
        return Err(format!("a gap, and {seq} not before it"));
    }
    if let Some((least, most)) = track.gap.take() {
        coverage::count("gaps at a resumption", 1);
        let is_right = (least.max(1)..=most).contains(&missed);
        return if is_right {
            Ok(())
        } else {
            Err(format!("a gap of {missed} instead of {least} to {most}"))
        };
    }
    let mut skipped = known
        .model
        .visible(view, track.next_seq, known.log.tail_seq);
    let last = missed
        .checked_sub(1)
        .and_then(|last| skipped.nth(last as usize));
    let Some(seq) = last else {
        return Err(format!(
            "a gap of {missed}, but the log begins at {}",
            known.log.tail_seq
        ));
    };
    track.next_seq = seq + 1;
    Ok(())
}

fn take_message(track: &mut Track, view: View, seq: u64, known: &Known<'_>) -> Result<(), String> {
    if track.gap.is_some() {
        return Err(format!("{seq} comes, and no gap before it"));
    }
    if let Some(ahead) = track.ahead.pop_front() {
        return if ahead == seq {
            Ok(())
        } else {
            Err(format!("{seq} comes instead of {ahead}, which is ahead"))
        };
    }
    let expected = known.model.visible(view, track.next_seq, u64::MAX).next();
    if expected != Some(seq) {
        return Err(format!("{seq} comes instead of {expected:?}"));
    }
    track.next_seq = seq + 1;
    Ok(())
}

/// One event in a stream's bytes.
struct Event {
    /// All of it, framing included.
    bytes: usize,
    payload: std::ops::Range<usize>,
}

/// The chunk at the front, once it is whole (RFC 9112 section 7.1).
fn chunk(bytes: &[u8]) -> Option<Event> {
    let Some(line_end) = memmem::find(bytes, b"\r\n") else {
        assert!(
            bytes.len() < 10,
            "a chunk size without end: {}",
            show(bytes)
        );
        return None;
    };
    let digits = str::from_utf8(&bytes[..line_end]).unwrap_or("?");
    let is_plain = digits
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let size = usize::from_str_radix(digits, 16).ok().filter(|_| is_plain);
    let size = size.unwrap_or_else(|| panic!("no chunk size: {}", show(bytes)));
    let payload = line_end + 2..line_end + 2 + size;
    let end = payload.end + 2;
    if bytes.len() < end {
        return None;
    }
    assert_eq!(
        &bytes[payload.end..end],
        b"\r\n",
        "a chunk ends: {}",
        show(bytes)
    );
    Some(Event {
        bytes: end,
        payload,
    })
}

/// The event at the front, once it is whole (HTML standard, 9.2.5): up to the empty line. A comment
/// is a line.
fn block(bytes: &[u8]) -> Option<Event> {
    let end = if bytes.starts_with(b":") {
        memchr::memchr(b'\n', bytes)? + 1
    } else {
        memmem::find(bytes, b"\n\n")? + 2
    };
    Some(Event {
        bytes: end,
        payload: 0..end,
    })
}

fn between(text: &str, before: &str, after: &str) -> Option<u64> {
    text.strip_prefix(before)?.strip_suffix(after).map(number)
}

/// A decimal number as this server writes it.
pub fn number(text: &str) -> u64 {
    let number: u64 = text
        .parse()
        .unwrap_or_else(|_| panic!("no number: {text:?}"));
    assert_eq!(number.to_string(), text);
    number
}

/// The beginning of some bytes, for messages.
pub fn show(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}
