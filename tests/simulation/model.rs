//! The expected state: every offered message with its fate, the order of the stored messages, and
//! the reach of each shard's live log.
//!
//! The model takes the order of messages from the hub's batches, as shards do. It checks every
//! frame against the offered message. It forgets no message.

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
    /// The messages of one session, by its index in [`session_name`], and all untargeted ones.
    Session(usize),
    /// The messages of several sessions, a bit for each, and all untargeted ones.
    Several(u8),
}

impl View {
    fn sees(self, session: Option<usize>) -> bool {
        match (self, session) {
            (View::Everything, _) | (_, None) => true,
            (View::Public, Some(_)) => false,
            (view, Some(session)) => view.sessions().any(|own| own == session),
        }
    }

    /// The sessions that it names.
    pub fn sessions(self) -> impl Iterator<Item = usize> {
        (0..SESSIONS).filter(move |session| match self {
            View::Everything | View::Public => false,
            View::Session(own) => own == *session,
            View::Several(own) => own & (1 << session) != 0,
        })
    }
}

pub const SESSIONS: usize = 4;

/// Session names that are hard to handle: a prefix of another, special characters, the greatest
/// length.
pub fn session_name(index: usize) -> String {
    match index {
        0 => "alice".into(),
        1 => "alic".into(),
        2 => "a b&c=d%+\u{e9}\u{1f600}\"\\".into(),
        _ => "s".repeat(256),
    }
}

/// The outcome for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not known yet.
    Open,
    /// It was stored in the ring with this seq.
    Stored(u64),
    /// Its sender got an error.
    Refused,
    /// Its sender got an error because the disk failed. It may be in the ring after a kill until
    /// the disk works again.
    Failed,
    /// Lost in a power failure.
    Lost,
}

/// An offered message. Its index in the list is its key, and its content begins with the key.
pub struct Offer {
    pub content: String,
    pub session: Option<usize>,
    /// Id and time of a message of another node.
    pub stamp: Option<(String, u64)>,
    pub fate: Fate,
}

/// A stored message.
pub struct Stored {
    pub key: usize,
    pub session: Option<usize>,
    pub id: String,
    pub timestamp_ms: u64,
    pub arrival: Arrival,
    /// The event, without chunk framing.
    pub event: Vec<u8>,
    /// The length of the event with chunk framing.
    pub frame_bytes: usize,
}

/// When the process had a message, on both clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arrival {
    pub mono_ms: u64,
    pub unix_ms: u64,
}

/// The state of the ring at the end of the process or of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// Messages before this one were on disk.
    pub durable_seq: u64,
    /// A commit has failed, and none succeeded since.
    pub is_disk_failing: bool,
}

#[derive(Default)]
pub struct Model {
    /// The epoch of the ring in use, as event ids write it.
    pub epoch: String,
    /// The seq of `stored[0]`.
    first_seq: u64,
    stored: Vec<Stored>,
    /// The seq of the oldest message in the ring at the last start.
    recalled_seq: u64,
    /// The clock was set back so far that the times of the node's own messages follow it. None was
    /// stored since.
    pub begins_anew: bool,
    pub offers: Vec<Offer>,
}

impl Model {
    /// Records a message that will be offered, and returns its key. `content` makes its content
    /// from the key.
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

    /// The seq of the oldest message in the model.
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

    /// The messages of a view from `start` up to `end`, without `end`.
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

    /// Adds a batch of newly stored messages. Messages of this node have a time of `accepted_ms`,
    /// or were held back by a clock set back. Their ids rise in the order of storage.
    pub fn store(&mut self, batch: &Batch, accepted_ms: &BTreeSet<u64>, arrival: Arrival) {
        for frame in batch.frames() {
            assert_eq!(frame.seq, self.head_seq(), "seqs have no holes");
            let mut stored = self.read_frame(&frame);
            stored.arrival = arrival;
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

    /// Checks the time of a message of this node. It is the time of the clock, or an earlier time
    /// of a clock that was then set back by minutes. After a larger step, times follow the clock.
    fn check_stamp(&self, stored: &Stored, accepted_ms: &BTreeSet<u64>) {
        let at_ms = stored.timestamp_ms;
        let earliest_ms = at_ms - CLOCK_SET_BACK_MS_MAX - 1;
        let accepted = accepted_ms.range(earliest_ms..=at_ms).next();
        assert!(accepted.is_some(), "no message was accepted at this time");
        let is_own = |stored: &&Stored| self.offers[stored.key].stamp.is_none();
        // Messages of other nodes may have evicted the node's own before a restart. Then it does
        // not know their times.
        let forgotten = self.recalled_seq.saturating_sub(self.first_seq) as usize;
        let recalled = self.stored.get(forgotten..).unwrap_or_default();
        if let Some(last) = recalled.iter().rev().find(is_own) {
            let is_behind = (last.timestamp_ms, &last.id) < (at_ms, &stored.id);
            let is_set_back = self.begins_anew || at_ms + CLOCK_SET_BACK_MS_MAX < last.timestamp_ms;
            assert!(
                is_behind || is_set_back,
                "out of order: {} at {at_ms} after {} at {}",
                stored.id,
                last.id,
                last.timestamp_ms
            );
        }
    }

    /// Checks a ring after a crash of the process. It holds the last of the stored messages, and
    /// perhaps newer ones that were neither acknowledged nor delivered.
    pub fn check_recovered(&mut self, first_seq: u64, history: &Batch, crash: Crash) {
        let head_seq = self.head_seq();
        if first_seq > head_seq {
            // Messages on their way to the disk fill the whole history.
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
            "the last {kept} messages are not all there"
        );
        let mut seqs = first_seq..self.head_seq();
        for frame in history.frames() {
            assert_eq!(Some(frame.seq), seqs.next(), "out of order, or twice");
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

    /// Adds a message that is in the ring and was never delivered.
    fn take_back(&mut self, stored: Stored, seq: u64, crash: Crash) {
        match self.offers[stored.key].fate {
            Fate::Open => {}
            Fate::Failed if crash.is_disk_failing => {
                coverage::count("refused messages found in the ring", 1);
            }
            fate => panic!("message {} was {fate:?} and is in the ring", stored.key),
        }
        assert_eq!(seq, self.head_seq(), "seqs have no holes");
        self.offers[stored.key].fate = Fate::Stored(seq);
        self.stored.push(stored);
    }

    /// Checks a ring after a power failure. It has a new epoch and new seqs. It holds, in order, at
    /// least the messages that were on disk, and perhaps newer ones that were neither acknowledged
    /// nor delivered.
    pub fn restart(&mut self, epoch: String, first_seq: u64, history: &Batch, crash: Crash) {
        assert_ne!(
            epoch, self.epoch,
            "the epoch is the same, so seqs may be used twice"
        );
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
            "messages kept because they were on disk",
            crash.durable_seq.saturating_sub(oldest),
        );
    }

    /// Begins with a new ring.
    pub fn start(&mut self, epoch: String, first_seq: u64) {
        self.epoch = epoch;
        self.first_seq = first_seq;
    }

    /// Checks a frame byte by byte against the offered message.
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
        assert_eq!(text, expected, "message {key} differs from the offered one");
        Stored {
            key,
            session: offer.session,
            id,
            timestamp_ms,
            arrival: Arrival::default(),
            event: event.to_vec(),
            frame_bytes: frame.bytes.len(),
        }
    }
}

/// A text as JSON. Characters that some clients take for the end of a line are escaped.
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

/// The expected reach of a shard's live log, from its capacity and the sizes of the frames.
pub struct LogExtent {
    capacity: usize,
    bytes: usize,
    frames: VecDeque<usize>,
    /// The seq with which the log began.
    pub origin_seq: u64,
    pub tail_seq: u64,
    /// The shared history for new streams.
    pub shared: Rc<SharedHistory>,
    /// Frames that were evicted.
    pub evicted: u64,
}

impl LogExtent {
    pub fn new(first_seq: u64, capacity: usize) -> LogExtent {
        LogExtent {
            capacity,
            bytes: 0,
            frames: VecDeque::new(),
            origin_seq: first_seq,
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
