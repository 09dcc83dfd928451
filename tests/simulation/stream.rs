//! What a client of a stream receives, checked byte by byte against the model.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::Write as _;
use std::rc::Rc;

use flate2::write::GzDecoder;
use hookcast::limits::{
    FANOUT_LIFE_LEAST_PERCENT, FANOUT_RETRY_MS, HISTORY_MESSAGES, REPLAY_COPY_BYTES_MAX, RETRY_MS,
    TOKEN_NOTICE_MS,
};
use hookcast::live_log::SharedHistory;
use memchr::memmem;

use super::coverage;
use super::model::{Arrival, LogExtent, Model, View};

/// What a client requested.
#[derive(Debug, Clone, Copy)]
pub struct StreamSpec {
    pub view: View,
    pub is_chunked: bool,
    /// It is compressed. Each chunk decodes to an event, except for the first and the last one.
    pub is_gzip: bool,
    /// The seq of its last event id, if that is of the epoch in use.
    pub resume_after: Option<u64>,
    /// Where it begins, if it has sent no event id.
    pub begin: Begin,
    /// A cache may give it to many clients.
    pub is_shared: bool,
    /// The token that opens it.
    pub token: Option<TokenSpec>,
}

/// A token of a stream.
#[derive(Debug, Clone, Copy)]
pub struct TokenSpec {
    /// Its end, in Unix milliseconds.
    pub expires_ms: u64,
    /// The number of its key.
    pub key: usize,
}

/// Where a client wants a stream to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Begin {
    /// Most messages of the replay.
    pub replay_max: Option<usize>,
    pub since: Option<Since>,
}

/// A time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    At(u64),
    /// Before the stream is opened.
    Ago(u64),
}

/// When a shard opened a stream, and how far its log reached then.
#[derive(Debug, Clone)]
pub struct Subscribed {
    pub mono_ms: u64,
    pub unix_ms: u64,
    /// The shared history for new streams.
    pub shared: Rc<SharedHistory>,
    /// The seq with which the log began.
    pub origin_seq: u64,
    pub tail_seq: u64,
    pub head_seq: u64,
}

impl Subscribed {
    /// The seq of the first message of a time or later, as far as the log has it.
    fn seq_of(&self, since: Since, model: &Model) -> u64 {
        let from_ms = match since {
            Since::At(unix_ms) => unix_ms,
            Since::Ago(ago_ms) => self.unix_ms.saturating_sub(ago_ms),
        };
        let is_since = |seq: &u64| model.get(*seq).is_some_and(|it| it.timestamp_ms >= from_ms);
        let first = (self.origin_seq..self.head_seq).find(is_since);
        first.unwrap_or(self.head_seq).max(self.tail_seq)
    }
}

/// The state of node and model against which bytes are checked.
pub struct Known<'a> {
    pub model: &'a Model,
    pub log: &'a LogExtent,
    pub subscribed: &'a [Subscribed],
    pub is_draining: bool,
    pub now_ms: u64,
    pub unix_ms: u64,
    /// The longest life of a stream that is shared.
    pub fanout_life_ms: u64,
}

/// A possible state of a stream. There are several while it is unknown in which step of a turn it
/// began.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Track {
    /// When it was opened.
    began_ms: u64,
    /// Messages of the shared history, which come before all others.
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
    /// The event `end` has been received; the last chunk follows.
    Ending,
    Over,
}

pub struct StreamCheck {
    pub spec: StreamSpec,
    gzip: Option<GzDecoder<Vec<u8>>>,
    stage: Stage,
    tracks: Vec<Track>,
    /// The head of the log when the first bytes of the incomplete event arrived.
    begun_at: Option<u64>,
    /// As `begun_at`, of a heartbeat that was the last event.
    heartbeat_at: Option<u64>,
    /// Messages received, and how many of them may be copies from the shared history.
    pub messages: u64,
    pub copies: u64,
    pub heartbeats: u64,
    began_ms: u64,
    /// The time of `connected`.
    began_unix_ms: u64,
    /// For how many seconds a cache may add clients to it.
    shared_s: u64,
    pub gaps: u64,
    /// It was warned of the end of its token.
    is_warned: bool,
    /// The key of its token is gone, or was.
    is_revoked: bool,
    key_since_ms: Option<u64>,
    /// Message events: the position of each end in the server's bytes, and its seq.
    pub ids: Vec<(u64, u64)>,
}

/// How long a turn may take if every call takes a millisecond.
const TURN_MS_MAX: u64 = 2_000;

impl StreamCheck {
    pub fn new(spec: StreamSpec, shared_s: u64, now_ms: u64) -> StreamCheck {
        StreamCheck {
            spec,
            gzip: spec.is_gzip.then(|| GzDecoder::new(Vec::new())),
            stage: Stage::Fresh,
            tracks: Vec::new(),
            begun_at: None,
            heartbeat_at: None,
            messages: 0,
            copies: 0,
            heartbeats: 0,
            began_ms: now_ms,
            began_unix_ms: 0,
            shared_s,
            gaps: 0,
            is_warned: false,
            is_revoked: false,
            key_since_ms: None,
            ids: Vec::new(),
        }
    }

    pub fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub fn has_begun(&self) -> bool {
        self.stage != Stage::Fresh
    }

    /// Checks the complete events of `bytes` and returns their length. `offset` is the position of
    /// `bytes` in the connection.
    pub fn feed(&mut self, bytes: &[u8], offset: u64, known: &Known<'_>) -> usize {
        let mut used = 0;
        while let Some(event) = self.next_event(&bytes[used..]) {
            used += event.bytes;
            let payload = &bytes[used - event.bytes..][event.payload];
            if let Some(payload) = self.decoded(payload) {
                self.take(&payload, offset + used as u64, known);
            }
            self.begun_at = None;
        }
        if used < bytes.len() {
            self.begun_at.get_or_insert(known.log.head_seq());
        }
        used
    }

    /// The event in a chunk. None in the header and the trailer of gzip. Fails unless the trailer fits the events.
    fn decoded<'a>(&mut self, payload: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let Some(gzip) = &mut self.gzip else {
            return Some(Cow::Borrowed(payload));
        };
        if payload.is_empty() {
            assert_eq!(self.stage, Stage::Ending, "an empty chunk before the end");
            gzip.try_finish().expect("the trailer fits the events");
            coverage::count("compressed streams that ended in order", 1);
            return Some(Cow::Borrowed(payload));
        }
        let is_first = gzip.header().is_none();
        gzip.write_all(payload).expect("valid gzip");
        gzip.flush().expect("valid gzip");
        let event = std::mem::take(gzip.get_mut());
        let is_none = is_first || self.stage == Stage::Ending;
        assert_eq!(event.is_empty(), is_none, "{}", show(&event));
        (!is_none).then_some(Cow::Owned(event))
    }

    /// Whether a stream closed in the middle of a frame had to be closed, because the log has
    /// evicted the rest of the frame.
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

    /// Fails unless the stream has received every message for it.
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

    /// Fails if there were more heartbeats than intervals.
    pub fn assert_calm(&self, now_ms: u64, heartbeat_ms: u64) {
        let most = (now_ms - self.began_ms) / heartbeat_ms + 2;
        assert!(
            self.heartbeats <= most,
            "{} heartbeats since {}",
            self.heartbeats,
            self.began_ms
        );
    }

    /// Fails if a shared stream is older than its longest life.
    pub fn assert_alive(&self, slack_ms: u64, known: &Known<'_>) {
        let is_old =
            |track: &Track| known.now_ms > track.began_ms + known.fanout_life_ms + slack_ms;
        assert!(
            !(self.spec.is_shared && !self.is_over() && self.tracks.iter().all(is_old)),
            "a shared stream is older than its longest life: {:?}",
            self.tracks
        );
    }

    /// Notes the key in use, and when it was replaced.
    pub fn note_key(&mut self, key: usize, since_ms: Option<u64>) {
        self.is_revoked |= self.spec.token.is_some_and(|token| token.key != key);
        self.key_since_ms = since_ms;
    }

    /// Whether its token has ended, or may have.
    pub fn may_have_expired(&self, unix_ms: u64) -> bool {
        // Its key may have been replaced, and been put back, before its first byte.
        let is_replaced = |track: &Track| self.key_since_ms.is_some_and(|ms| track.began_ms <= ms);
        let is_past = self
            .spec
            .token
            .is_some_and(|token| token.expires_ms <= unix_ms);
        self.is_revoked || is_past || self.tracks.iter().any(is_replaced)
    }

    /// Fails if it is open although its token has certainly ended.
    pub fn assert_valid(&self, known: &Known<'_>) {
        let is_past = self
            .spec
            .token
            .is_some_and(|token| token.expires_ms <= known.unix_ms);
        assert!(
            self.is_over() || !(is_past || self.is_revoked),
            "a stream outlives its token, revoked: {}, {:?}, now {}",
            self.is_revoked,
            self.spec,
            known.unix_ms
        );
    }

    /// Fails if a message has arrived after the end of the token, and while the stream was open.
    fn assert_before_end(&self, arrived: Arrival) {
        let Some(token) = self.spec.token else {
            return;
        };
        let is_late = arrived.unix_ms > token.expires_ms + TURN_MS_MAX;
        let is_new = |track: &Track| arrived.mono_ms > track.began_ms + TURN_MS_MAX;
        assert!(
            !(is_late && self.tracks.iter().all(is_new)),
            "a message of {arrived:?}, after the end of the token: {:?} {:?}",
            self.spec,
            self.tracks
        );
    }

    /// The event that its token ends soon.
    fn take_warning(&mut self, expires_ms: u64, known: &Known<'_>) {
        let token = self.spec.token.expect("only streams of tokens are warned");
        assert_eq!(token.expires_ms, expires_ms);
        let is_repeated = std::mem::replace(&mut self.is_warned, true);
        assert!(!is_repeated, "warned twice");
        coverage::count("warnings of the end of a token", 1);
        let left_ms = expires_ms.saturating_sub(self.began_unix_ms);
        let notice_ms = TOKEN_NOTICE_MS.min(left_ms / 2);
        assert!(
            known.unix_ms + notice_ms >= expires_ms,
            "a warning at {}: {:?}",
            known.unix_ms,
            self.spec
        );
    }

    /// The event that its token has ended.
    fn take_expiry(&mut self, known: &Known<'_>) {
        assert!(
            self.may_have_expired(known.unix_ms),
            "the token has not ended at {}: {:?} {:?}",
            known.unix_ms,
            self.spec,
            self.tracks
        );
        coverage::count("streams ended with their token", 1);
        let is_revoked = u64::from(self.is_revoked);
        coverage::count("streams ended with the key of their token", is_revoked);
        self.end();
    }

    /// Whether a shared stream may end: not before its cache has stopped adding clients to it.
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
                    "bytes after the end of a stream: {}",
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
                "an empty chunk, though not after the end"
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
        } else if let Some(ms) = between(
            text,
            "data: {\"type\":\"token_expiring\",\"expiresAt\":",
            "}\n\n",
        ) {
            self.take_warning(ms, known);
        } else if text == "data: {\"type\":\"token_expired\"}\n\n" {
            self.take_expiry(known);
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
            self.assert_before_end(stored.arrival);
            self.messages += 1;
            self.ids.push((end, seq));
            let is_ahead = |track: &Track| track.ahead.front() == Some(&seq);
            let may_be_copy = self.tracks.iter().any(is_ahead);
            self.keep(|track, view| take_message(track, view, seq, known));
            if may_be_copy {
                self.copies += 1;
                coverage::count("messages of the shared history, before all others", 1);
            }
        } else {
            panic!("an unknown event: {}", show(payload));
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
            coverage::count("shared streams that ended at their age", 1);
        } else {
            assert!(known.is_draining, "an end without a drain: {text:?}");
        }
        // A due heartbeat and the end are sent together, so the end is as old as the heartbeat.
        let begun_at = self.heartbeat_at.or(self.begun_at);
        let head_seq = begun_at.unwrap_or(known.log.head_seq());
        let is_complete = self
            .tracks
            .iter()
            .any(|track| self.lacks_nothing(track, head_seq, known));
        assert!(
            is_complete,
            "a stream ends before its last message: {:?}",
            self.tracks
        );
        self.end();
    }

    /// The last event has been received.
    fn end(&mut self) {
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
        self.began_unix_ms = unix_ms;
        let candidates: Vec<(Track, u64, Option<u64>)> = known
            .subscribed
            .iter()
            .filter(|subscribed| subscribed.unix_ms == unix_ms)
            .map(|subscribed| {
                let (track, replay) = self.spec.start(subscribed, known.model);
                (
                    track,
                    replay,
                    self.spec.place(subscribed, replay, known.model),
                )
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
            "{:?}: `connected` states {replay} messages at {unix_ms} after {place:?}, expected: {candidates:?}",
            self.spec
        );
    }

    /// Applies an event to every track and keeps the tracks that allow it.
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
    /// Where such a stream begins, and how many messages of the history `connected` states.
    fn start(&self, at: &Subscribed, model: &Model) -> (Track, u64) {
        let resume_seq = self
            .resume_after
            .filter(|seq| *seq < at.head_seq)
            .map(|seq| seq + 1);
        let mut ahead = VecDeque::new();
        let (next_seq, gap) = match resume_seq {
            Some(seq) if seq < at.tail_seq => {
                // Evicted messages are not counted by session, so the gap is exact only for streams
                // that see everything.
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
                (ahead, next_seq) = self.begin(at, model);
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

    /// The seq in the event id of `connected`.
    fn place(&self, at: &Subscribed, replay: u64, model: &Model) -> Option<u64> {
        let since = match (self.begin.replay_max, self.begin.since) {
            (None, Some(since)) => Some(at.seq_of(since, model) - 1),
            _ => None,
        };
        self.resume_after
            .filter(|seq| *seq < at.head_seq)
            .or(since)
            .or((replay == 0).then_some(at.head_seq - 1))
    }

    /// The copied messages of a stream that does not resume, and the seq from which the rest follows.
    fn begin(&self, at: &Subscribed, model: &Model) -> (VecDeque<u64>, u64) {
        let since_seq = self.begin.since.map(|since| at.seq_of(since, model));
        let (ahead, next_seq) = match (self.begin.replay_max, since_seq) {
            (None, Some(seq)) => return (VecDeque::new(), seq),
            _ => self.replay(at, model),
        };
        let by_cursor = model.visible(self.view, next_seq, at.head_seq);
        let mut shown: VecDeque<u64> = ahead.into_iter().chain(by_cursor).collect();
        let count_max = self.begin.replay_max.unwrap_or(HISTORY_MESSAGES);
        shown.drain(..shown.len().saturating_sub(count_max));
        shown.retain(|seq| Some(*seq) >= since_seq);
        let copied = shown.iter().filter(|seq| **seq < next_seq).count();
        let next_seq = shown.get(copied).copied().unwrap_or(at.head_seq);
        shown.truncate(copied);
        (shown, next_seq)
    }

    /// The history of a new stream: the copied messages, and the seq from which the rest follows.
    /// Preferred are messages newer than the shared history, then the shared history, then other
    /// recent messages; of each kind, the newest.
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
        // The last messages without an omission before the head are not copied.
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
        return Err(format!("a gap, without {seq} before it"));
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
        return Err(format!("{seq}, without a gap before it"));
    }
    if let Some(ahead) = track.ahead.pop_front() {
        return if ahead == seq {
            Ok(())
        } else {
            Err(format!("{seq} instead of {ahead} of the shared history"))
        };
    }
    let expected = known.model.visible(view, track.next_seq, u64::MAX).next();
    if expected != Some(seq) {
        return Err(format!("{seq} instead of {expected:?}"));
    }
    track.next_seq = seq + 1;
    Ok(())
}

/// An event in the bytes of a stream.
struct Event {
    /// Its length with the framing.
    bytes: usize,
    payload: std::ops::Range<usize>,
}

/// The first chunk, if it is complete (RFC 9112 section 7.1).
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
        "a chunk without its end: {}",
        show(bytes)
    );
    Some(Event {
        bytes: end,
        payload,
    })
}

/// The first event up to its empty line, or the first comment, if it is complete (HTML standard,
/// 9.2.5).
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

/// A decimal number without leading zeros.
pub fn number(text: &str) -> u64 {
    let number: u64 = text
        .parse()
        .unwrap_or_else(|_| panic!("no number: {text:?}"));
    assert_eq!(number.to_string(), text);
    number
}

/// The beginning of `bytes`, for the texts of failures.
pub fn show(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(200)].escape_ascii().to_string()
}
