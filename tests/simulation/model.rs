//! What ought to be true: every message that was offered, what became of it, and the order of those
//! that were stored; and how far each shard's live log reaches.
//!
//! The model learns the order of the messages where the shards learn it, from the hub's batches,
//! and checks every frame against what was offered. It keeps every message for ever.

use std::collections::VecDeque;

use hookcast::hub::{Batch, FrameRef};
use hookcast::limits::HISTORY_MESSAGES;
use hookcast::message::SessionId;
use hookcast::sse::frame::CHUNK_TAIL_BYTES;

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
}

#[derive(Default)]
pub struct Model {
    /// The epoch of the ring in use, as event ids write it.
    pub epoch: String,
    /// The seq of `stored[0]`.
    first_seq: u64,
    stored: Vec<Stored>,
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

    /// A batch of newly stored messages, those before `end`. `unix_ms` is when those of this node
    /// were accepted.
    pub fn store(&mut self, batch: &Batch, end: u64, unix_ms: u64) {
        for frame in batch.frames().filter(|frame| frame.seq < end) {
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
                None => assert_eq!(stored.timestamp_ms, unix_ms, "accepted now"),
            }
            self.stored.push(stored);
        }
    }

    /// What a ring says after a crash of the process: all that was stored, as far as it reaches.
    pub fn check_recovered(&self, first_seq: u64, history: &Batch) {
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

    /// What a ring says after a power failure: some of what was stored, in order, under a new
    /// epoch and with new seqs.
    pub fn restart(&mut self, epoch: String, first_seq: u64, history: &Batch) {
        assert_ne!(epoch, self.epoch, "seqs may be given out again");
        self.epoch = epoch;
        let before = std::mem::take(&mut self.stored);
        for message in &before {
            self.offers[message.key].fate = Fate::Lost;
        }
        self.first_seq = first_seq;
        let mut newest = None;
        for frame in history.frames() {
            assert_eq!(frame.seq, self.head_seq(), "seqs have no holes");
            let stored = self.read_frame(&frame);
            let place = before.iter().position(|message| message.id == stored.id);
            assert!(
                place.is_some() && place > newest,
                "message {} is out of order",
                stored.key
            );
            newest = place;
            self.offers[stored.key].fate = Fate::Stored(frame.seq);
            self.stored.push(stored);
        }
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
        let json = |text: &str| serde_json::to_string(text).expect("text is JSON");
        let session = offer.session.map(session_name);
        assert_eq!(frame.session.map(SessionId::as_str), session.as_deref());
        let session = session.map_or(String::new(), |name| {
            format!(",\"sessionId\":{}", json(&name))
        });
        let expected = format!(
            "id: {}-{}\ndata: {{\"type\":\"webhook_message\",\"id\":\"{id}\",\"content\":{},\"timestamp\":{timestamp_ms}{session}}}\n\n",
            self.epoch,
            frame.seq,
            json(&offer.content),
        );
        assert_eq!(text, expected, "message {key} is not what was offered");
        Stored {
            key,
            session: offer.session,
            id,
            timestamp_ms,
            event: event.to_vec(),
        }
    }
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
            evicted: 0,
        }
    }

    pub fn append(&mut self, batch: &Batch) {
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
