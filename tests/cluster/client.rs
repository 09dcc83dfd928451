//! A client of the cluster: it resumes at any node by its last event id. Its streams see everything, or one
//! session, or several; and they end when their token does.

use std::collections::HashSet;

use fastrand::Rng;
use hookcast::limits::{HISTORY_MESSAGES, RESUME_AHEAD_MS_MAX, SESSIONS_PER_STREAM_MAX};
use hookcast::live_log::{Cursor, Gather, Lag, View};
use hookcast::message::{MessageId, SessionId};
use hookcast::sse::event_id::EventId;
use hookcast::sse::frame::Framing;

use super::node::{self, Log, SESSIONS, Shown};

/// A token ends after at most so many milliseconds.
const TOKEN_MS_MAX: u64 = 3_000;

#[derive(Default)]
pub struct Client {
    /// The node that it is connected to.
    pub node: Option<usize>,
    /// The sessions of its streams. Without any, they see everything.
    pub sessions: Vec<SessionId>,
    /// The lives of its tokens; `None`: it has none.
    lives: Option<Rng>,
    /// The end of the token of its stream.
    ends_ms: Option<u64>,
    stream: Option<Stream>,
    last_id: Option<EventId>,
    on_connection: HashSet<MessageId>,
    pub seen: HashSet<String>,
    /// Messages were missed, and an event has said so.
    pub has_gap: bool,
    /// Replays of the whole history after the first connection.
    pub replays: u64,
    ahead_since_ms: Option<u64>,
    /// Another program has removed entries: a message whose entry is gone is published again by the node
    /// that has not read it, although others have.
    pub is_lenient: bool,
}

/// An open stream.
struct Stream {
    view: View,
    cursor: Cursor,
    /// The seq up to which its messages have been compared with the list of the node.
    judged_seq: u64,
}

impl Client {
    /// The first sees everything, the second one session, the others several. All but the first have tokens.
    pub fn new(place: usize, own: &mut Rng) -> Client {
        let count = match place {
            0 => 0,
            1 => 1,
            _ => own.usize(2..=SESSIONS_PER_STREAM_MAX),
        };
        let mut numbers: Vec<u64> = (0..SESSIONS).collect();
        own.shuffle(&mut numbers);
        Client {
            sessions: numbers[..count]
                .iter()
                .copied()
                .map(node::session)
                .collect(),
            lives: (place > 0).then(|| own.fork()),
            ..Client::default()
        }
    }

    /// Connects to a node, unless its last id is ahead of it.
    pub fn connect(&mut self, node: usize, log: &mut Log, now_ms: u64) {
        let start = match self.last_id {
            None => None,
            Some(id) if is_ahead(id, log) => {
                let since_ms = *self.ahead_since_ms.get_or_insert(now_ms);
                if now_ms < since_ms + RESUME_AHEAD_MS_MAX {
                    return;
                }
                None
            }
            Some(id) => {
                let carried = log.lineage.carried(id.epoch);
                carried.map(|last| id.seq.min(last) + 1)
            }
        };
        self.ahead_since_ms = None;
        self.replays += u64::from(start.is_none() && self.last_id.is_some());
        let view = if self.sessions.is_empty() {
            View::Everything
        } else {
            log.live.hold_sessions(&self.sessions)
        };
        let begun = log.live.catch_up(view, start.map(|seq| seq - 1));
        self.has_gap |= start.is_some() && begun.missed > 0;
        self.stream = Some(Stream {
            view,
            cursor: begun.cursor,
            judged_seq: start.map_or(log.first_seq, |seq| seq.max(log.first_seq)),
        });
        self.node = Some(node);
        self.ends_ms = self
            .lives
            .as_mut()
            .map(|lives| now_ms + lives.u64(1..=TOKEN_MS_MAX));
        self.on_connection.clear();
        // What `connected` says.
        if let Some(seq) = begun.after {
            let epoch = log.lineage.epoch();
            self.last_id = Some(EventId { epoch, seq });
        }
        let received = self.read(log);
        assert_eq!(received, begun.replay, "the replay that `connected` states");
    }

    /// Ends its stream, if it has one.
    pub fn disconnect(&mut self, log: Option<&mut Log>) {
        self.node = None;
        if let (Some(stream), Some(log)) = (self.stream.take(), log) {
            log.live.release_view(stream.view);
        }
    }

    /// Whether its stream ends now, with its token.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.node.is_some() && self.ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms)
    }

    /// Reads what its stream has got: every message that it may see, once and in order. Returns how many these
    /// are.
    pub fn read(&mut self, log: &Log) -> u64 {
        let stream = self.stream.as_mut().expect("it is connected");
        let received = stream.take(log);
        let expected = log.frames.iter().filter(|frame| {
            frame.id.seq >= stream.judged_seq && node::is_visible(&frame.content, &self.sessions)
        });
        let expected: Vec<&Shown> = expected.collect();
        // A replay has the last messages only.
        let surplus = expected.len().saturating_sub(HISTORY_MESSAGES);
        assert_eq!(
            received.iter().collect::<Vec<_>>(),
            expected[surplus..],
            "of {:?}",
            self.sessions
        );
        stream.judged_seq = log.head_seq();
        for frame in &received {
            assert!(
                self.on_connection.insert(frame.message) || self.is_lenient,
                "{} comes twice on a connection",
                frame.content
            );
            self.last_id = Some(frame.id);
            self.seen.insert(frame.content.clone());
        }
        received.len() as u64
    }
}

impl Stream {
    /// Takes everything up to the head of the log.
    fn take(&mut self, log: &Log) -> Vec<Shown> {
        let mut received = Vec::new();
        loop {
            assert_eq!(log.live.lag(self.view, &self.cursor), Lag::Within);
            let mut gather = Gather::new();
            let framing = Framing::Chunked;
            let cursor = log
                .live
                .gather(self.view, framing, &self.cursor, &mut gather);
            if gather.bytes() == 0 {
                return received;
            }
            let extents = gather.extents().iter();
            let bytes: Vec<u8> = extents.flat_map(|extent| extent.iter().copied()).collect();
            received.extend(Shown::parse_all(&bytes));
            self.cursor = cursor;
            assert!(
                received.len() <= log.frames.len(),
                "more messages than the node has: {received:?}"
            );
        }
    }
}

fn is_ahead(id: EventId, log: &Log) -> bool {
    let is_later = id.epoch > log.lineage.epoch();
    let carried = log.lineage.carried(id.epoch);
    is_later || carried.is_some_and(|last| id.seq.min(last) >= log.head_seq())
}
