//! What ought to be true: every message that was offered, what became of it, and the order of those
//! that were stored; and how far each shard's live log reaches.
//!
//! The model learns the order of the messages where the shards learn it, from the hub's batches,
//! and checks every frame against what was offered. It keeps every message for ever.

use std::collections::{BTreeSet, VecDeque};

use std::rc::Rc;

use hookcast::hub::{Batch, FrameRef};
use hookcast::limits::{CLOCK_SET_BACK_MS_MAX, HISTORY_MESSAGES};
use hookcast::live_log::SharedHistory;
use hookcast::message::SessionId;
use hookcast::sse::frame::CHUNK_TAIL_BYTES;

use super::coverage;

/// Which messages a stream may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    Everything,
    Public,
    /// Those of one session, by its place in [`session_name`], and those for everyone.
    Session(usize),
}

impl View {
    fn sees(self, session: Option<usize>) -> bool {
        match (self, session) {
            (View::Everything, _) | (_, None) => true,
            (View::Public, Some(_)) => false,
            (View::Session(own), Some(session)) => own == session,
        }
    }
}

pub const SESSIONS: usize = 4;

/// Session names with what is hard about them.
pub fn session_name(index: usize) -> String {
    match index {
        0 => "alice".into(),
        1 => "alic".into(),
        2 => "a b&c=d%+\u{e9}\u{1f600}\"\\".into(),
        _ => "s".repeat(256),
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows yet.
    Open,
    /// It is, or was, in the ring under this seq.
    Stored(u64),
    /// Its sender was told that it is not.
    Refused,
    /// The same, because the disk did not take it. It may be there after a kill, as long as the disk
    /// does not work again.
    Failed,
    /// A power failure took it.
    Lost,
}

/// A message as it was offered; its place in the list is its key, and its content begins with that.
pub struct Offer {
    pub content: String,
    pub session: Option<usize>,
    /// Its id and time, if it came from another node.
    pub stamp: Option<(String, u64)>,
    pub fate: Fate,
}

/// A message in the order of all.
pub struct Stored {
    pub key: usize,
    pub session: Option<usize>,
    pub id: String,
    pub timestamp_ms: u64,
    /// The event, without chunk framing.
    pub event: Vec<u8>,
    /// How long it is with chunk framing.
    pub frame_bytes: usize,
}

/// What is known of the ring when a process or the machine ends.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// Messages before this one were on disk.
    pub durable_seq: u64,
    /// The disk fails commits, and has not worked since.
    pub is_disk_failing: bool,
}

#[derive(Default)]
pub struct Model {
    /// The epoch of the ring in use, as event ids write it.
    pub epoch: String,
    /// The seq of `stored[0]`.
    first_seq: u64,
    stored: Vec<Stored>,
    /// The seq of the oldest message that the ring held when the node was last started.
    recalled_seq: u64,
    /// The clock was set back so far that the order of the node's own messages begins anew, and none
    /// was stored since.
    pub begins_anew: bool,
    pub offers: Vec<Offer>,
}

impl Model {
    /// Notes a message that is going to be offered, and returns its key. `content` gets the key.
    pub fn offer(
        &mut self,
        session: Option<usize>,
        stamp: Option<(String, u64)>,
        content: impl FnOnce(usize) -> String,
    ) -> usize {
        let key = self.offers.len();
        self.offers.push(Offer {
            content: content(key),
            session,
            stamp,
            fate: Fate::Open,
        });
        key
    }

    /// The seq of the oldest message that is known.
    pub fn first_seq(&self) -> u64 {
        self.first_seq
    }

    /// The seq of the next message.
    pub fn head_seq(&self) -> u64 {
        self.first_seq + self.stored.len() as u64
    }

    pub fn get(&self, seq: u64) -> Option<&Stored> {
        self.stored
            .get(usize::try_from(seq.checked_sub(self.first_seq)?).ok()?)
    }

    /// The messages that a view sees from `start` to before `end`.
    pub fn visible(
        &self,
        view: View,
        start: u64,
        end: u64,
    ) -> impl DoubleEndedIterator<Item = u64> {
        (start.max(self.first_seq)..end.min(self.head_seq())).filter(move |seq| {
            self.get(*seq)
                .is_some_and(|message| view.sees(message.session))
        })
    }

    /// A batch of newly stored messages. Those of this node were accepted at one of the times of the
    /// wall clock in `accepted_ms`, and sort as they were stored.
    pub fn store(&mut self, batch: &Batch, accepted_ms: &BTreeSet<u64>) {
        for frame in batch.frames() {
            assert_eq!(frame.seq, self.head_seq(), "seqs have no holes");
            let stored = self.read_frame(&frame);
            let offer = &mut self.offers[stored.key];
            assert_eq!(
                offer.fate,
                Fate::Open,
                "message {} is stored twice",
                stored.key
            );
            offer.fate = Fate::Stored(frame.seq);
            match &offer.stamp {
                Some((id, timestamp_ms)) => {
                    assert_eq!((id, *timestamp_ms), (&stored.id, stored.timestamp_ms));
                }
                None => {
                    self.check_stamp(&stored, accepted_ms);
                    self.begins_anew = false;
                }
            }
            self.stored.push(stored);
        }
    }

    /// The time of a message of this node is that of the clock, or of one that was set back by minutes
    /// since. Where it was set back further, the order begins anew.
    fn check_stamp(&self, stored: &Stored, accepted_ms: &BTreeSet<u64>) {
        let at_ms = stored.timestamp_ms;
        let earliest_ms = at_ms - CLOCK_SET_BACK_MS_MAX - 1;
        let accepted = accepted_ms.range(earliest_ms..=at_ms).next();
        assert!(accepted.is_some(), "accepted then");
        let is_own = |stored: &&Stored| self.offers[stored.key].stamp.is_none();
        // What others had published may have pushed a node's own messages out of its ring before a
        // restart. Then it does not know their times.
        let forgotten = self.recalled_seq.saturating_sub(self.first_seq) as usize;
        let recalled = self.stored.get(forgotten..).unwrap_or_default();
        if let Some(last) = recalled.iter().rev().find(is_own) {
            let is_behind = (last.timestamp_ms, &last.id) < (at_ms, &stored.id);
            let is_set_back = self.begins_anew || at_ms + CLOCK_SET_BACK_MS_MAX < last.timestamp_ms;
            assert!(
                is_behind || is_set_back,
                "out of order: {} at {at_ms} behind {} at {}",
                stored.id,
                last.id,
                last.timestamp_ms
            );
        }
    }

    /// What a ring says after a crash of the process: all that was stored, as far as it reaches, and
    /// maybe something behind it that nobody was told of.
    pub fn check_recovered(&mut self, first_seq: u64, history: &Batch, crash: Crash) {
        let head_seq = self.head_seq();
        if first_seq > head_seq {
            // So much was on its way to the disk that it fills the whole history.
            self.stored.clear();
            self.first_seq = first_seq;
        }
        self.recalled_seq = first_seq;
        for frame in history.frames().filter(|frame| frame.seq >= head_seq) {
            let stored = self.read_frame(&frame);
            self.take_back(stored, frame.seq, crash);
        }
        let kept = HISTORY_MESSAGES.min(self.stored.len()) as u64;
        assert_eq!(
            first_seq,
            self.head_seq() - kept,
            "the last {kept} messages are there"
        );
        let mut seqs = first_seq..self.head_seq();
        for frame in history.frames() {
            assert_eq!(Some(frame.seq), seqs.next(), "in order, none twice");
            let stored = self.get(frame.seq).expect("it is one of the last");
            assert_eq!(
                event_of(&frame),
                stored.event,
                "message {} has changed",
                stored.key
            );
        }
        assert_eq!(seqs.next(), None, "the newest messages are missing");
    }

    /// A message is in the ring that nobody was shown.
    fn take_back(&mut self, stored: Stored, seq: u64, crash: Crash) {
        match self.offers[stored.key].fate {
            Fate::Open => {}
            Fate::Failed if crash.is_disk_failing => {
                coverage::count("refused messages that are back", 1);
            }
            fate => panic!("message {} was {fate:?} and is in the ring", stored.key),
        }
        assert_eq!(seq, self.head_seq(), "seqs have no holes");
        self.offers[stored.key].fate = Fate::Stored(seq);
        self.stored.push(stored);
    }

    /// What a ring says after a power failure: of what was stored, in order, at least what was on
    /// disk, and maybe something behind it that nobody was told of; under a new epoch and with new
    /// seqs.
    pub fn restart(&mut self, epoch: String, first_seq: u64, history: &Batch, crash: Crash) {
        assert_ne!(epoch, self.epoch, "seqs may be given out again");
        self.epoch = epoch;
        let (before_seq, head_seq) = (self.first_seq, self.head_seq());
        let before = std::mem::take(&mut self.stored);
        for message in &before {
            self.offers[message.key].fate = Fate::Lost;
        }
        self.first_seq = first_seq;
        let mut newest = None;
        let mut newer = 0;
        for frame in history.frames() {
            let stored = self.read_frame(&frame);
            let Some(place) = before.iter().position(|message| message.id == stored.id) else {
                newer += 1;
                self.take_back(stored, frame.seq, crash);
                continue;
            };
            assert!(
                newer == 0 && Some(place) > newest,
                "message {} is out of order",
                stored.key
            );
            assert_eq!(frame.seq, self.head_seq(), "seqs have no holes");
            newest = Some(place);
            self.offers[stored.key].fate = Fate::Stored(frame.seq);
            self.stored.push(stored);
        }
        let kept = (HISTORY_MESSAGES - newer) as u64;
        let oldest = head_seq.saturating_sub(kept).max(before_seq);
        for seq in oldest..crash.durable_seq {
            let key = before[(seq - before_seq) as usize].key;
            let fate = self.offers[key].fate;
            assert_ne!(fate, Fate::Lost, "message {key} was on disk and is lost");
        }
        coverage::count(
            "messages kept for being on disk",
            crash.durable_seq.saturating_sub(oldest),
        );
    }

    /// A ring that is new.
    pub fn start(&mut self, epoch: String, first_seq: u64) {
        self.epoch = epoch;
        self.first_seq = first_seq;
    }

    /// Checks a frame byte by byte against the message that was offered.
    fn read_frame(&self, frame: &FrameRef<'_>) -> Stored {
        let event = event_of(frame);
        let text = str::from_utf8(event).expect("an event is UTF-8");
        let within = |before: &str, after: &str| {
            let start = text.find(before).expect("a member is there") + before.len();
            let length = text[start..].find(after).expect("a member has an end");
            text[start..start + length].to_owned()
        };
        let id = within("\"id\":\"", "\"");
        let key: usize = within("\"content\":\"m", ":")
            .parse()
            .expect("contents begin with a key");
        let tail = &text[text.rfind("\"timestamp\":").expect("a time is there") + 12..];
        let digits = tail
            .find(|c: char| !c.is_ascii_digit())
            .expect("an object ends");
        let timestamp_ms = tail[..digits].parse().expect("a number");

        let offer = &self.offers[key];
        let session = offer.session.map(session_name);
        assert_eq!(frame.session.map(SessionId::as_str), session.as_deref());
        let session = session.map_or(String::new(), |name| {
            format!(",\"sessionId\":{}", one_line(&name))
        });
        let expected = format!(
            "data: {{\"type\":\"webhook_message\",\"id\":\"{id}\",\"content\":{},\"timestamp\":{timestamp_ms}{session}}}\nid: {}-{}\n\n",
            one_line(&offer.content),
            self.epoch,
            frame.seq,
        );
        assert_eq!(text, expected, "message {key} is not what was offered");
        Stored {
            key,
            session: offer.session,
            id,
            timestamp_ms,
            event: event.to_vec(),
            frame_bytes: frame.bytes.len(),
        }
    }
}

/// A text as JSON without what some clients take for the end of a line.
pub fn one_line(text: &str) -> String {
    let json = serde_json::to_string(text).expect("text is JSON");
    json.replace('\u{85}', "\\u0085")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn event_of<'a>(frame: &FrameRef<'a>) -> &'a [u8] {
    let head_bytes = usize::from(frame.chunk.head_bytes);
    &frame.bytes[head_bytes..frame.bytes.len() - CHUNK_TAIL_BYTES]
}

/// How far a shard's live log reaches: what its capacity and the frames' sizes make of it.
pub struct LogExtent {
    capacity: usize,
    bytes: usize,
    frames: VecDeque<usize>,
    pub tail_seq: u64,
    /// What new streams are shown.
    pub shared: Rc<SharedHistory>,
    /// How many frames have left it.
    pub evicted: u64,
}

impl LogExtent {
    pub fn new(first_seq: u64, capacity: usize) -> LogExtent {
        LogExtent {
            capacity,
            bytes: 0,
            frames: VecDeque::new(),
            tail_seq: first_seq,
            shared: Rc::default(),
            evicted: 0,
        }
    }

    pub fn append(&mut self, batch: &Batch) {
        if let Some(shared) = batch.shared_history() {
            self.shared = Rc::new(shared.clone());
        }
        for frame in batch.frames() {
            assert_eq!(frame.seq, self.head_seq(), "a shard gets every message");
            self.bytes += frame.bytes.len();
            self.frames.push_back(frame.bytes.len());
            while self.bytes > self.capacity {
                self.bytes -= self.frames.pop_front().expect("it holds the newest");
                self.tail_seq += 1;
                self.evicted += 1;
            }
        }
    }

    pub fn head_seq(&self) -> u64 {
        self.tail_seq + self.frames.len() as u64
    }
}
