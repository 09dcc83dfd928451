//! One node of the simulation: a live log as long as the process, of which the ring keeps the last N
//! over restarts, and a stream that has been open since the process began.

use std::collections::HashSet;
use std::sync::Arc;

use hookcast::message::{Message, MessageId};
use hookcast::mirror::core::{Mirror, Now};
use hookcast::mirror::reply::Failure;
use hookcast::mirror::schedule::Pace;
use hookcast::mirror::{Replay, Ring};

/// What the node is doing.
#[derive(Clone)]
pub enum Phase {
    Down {
        until_ms: u64,
    },
    Idle,
    /// A read is on its way to KV.
    ReadSent {
        at_ms: u64,
    },
    /// Its answer is on its way back.
    ReadAnswered {
        at_ms: u64,
        value: Result<Option<Vec<u8>>, Failure>,
    },
    WriteSent {
        at_ms: u64,
        value: Vec<u8>,
    },
    WriteAnswered {
        at_ms: u64,
        result: Result<(), Failure>,
    },
}

pub struct Node {
    pub mirror: Mirror,
    pub phase: Phase,
    /// How far the clock on the wall is off.
    pub skew_ms: i64,
    pub content_bytes_max: usize,
    pub last_write_ms: Option<u64>,
    /// Messages that went live again after a restart.
    pub repeats_after_restart: u64,
    pub admitted: u64,
    history_max: usize,
    log: Vec<Arc<Message>>,
    /// The seq of the log's first message.
    tail_seq: u64,
    replay: Replay,
    /// What the stream of this process has shown.
    live: HashSet<MessageId>,
    ever_live: HashSet<MessageId>,
}

impl Node {
    pub fn new(mirror: Mirror, history_max: usize, skew_ms: i64, content_bytes_max: usize) -> Node {
        Node {
            mirror,
            phase: Phase::Idle,
            skew_ms,
            content_bytes_max,
            last_write_ms: None,
            repeats_after_restart: 0,
            admitted: 0,
            history_max,
            log: Vec::new(),
            tail_seq: 1,
            replay: Replay::default(),
            live: HashSet::new(),
            ever_live: HashSet::new(),
        }
    }

    pub fn now(&self, mono_ms: u64, utc_ms: u64) -> Now {
        Now {
            mono_ms,
            wall_ms: utc_ms.saturating_add_signed(self.skew_ms),
        }
    }

    /// The process ends and begins anew: the ring stays, what was known of it goes.
    pub fn restart(&mut self, pace: Pace, now: Now, rng: fastrand::Rng) {
        let kept = self.ring();
        self.mirror = Mirror::new(pace, self.history_max, &kept, now, rng);
        self.tail_seq = kept.first_seq;
        self.log = kept.messages;
        self.live = self.log.iter().map(|message| message.id).collect();
        self.replay = Replay::default();
        self.last_write_ms = None;
    }

    pub fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down { .. })
    }

    /// When it next does something by itself.
    pub fn next_ms(&self) -> u64 {
        match self.phase {
            Phase::Down { until_ms } => until_ms,
            Phase::Idle => self.mirror.next_cycle_ms(),
            Phase::ReadSent { at_ms }
            | Phase::ReadAnswered { at_ms, .. }
            | Phase::WriteSent { at_ms, .. }
            | Phase::WriteAnswered { at_ms, .. } => at_ms,
        }
    }

    pub fn ring(&self) -> Ring {
        let first = self.log.len().saturating_sub(self.history_max);
        Ring {
            first_seq: self.tail_seq + first as u64,
            messages: self.log[first..].to_vec(),
        }
    }

    pub fn can_hold(&self, message: &Message) -> bool {
        message.content.len() <= self.content_bytes_max
    }

    pub fn publish(&mut self, message: Arc<Message>) {
        self.show(&message);
        self.log.push(message);
        self.mirror.handle_publish();
    }

    /// The mirror's messages enter the ring.
    pub fn admit(&mut self, now: Now, messages: &[Arc<Message>]) {
        for message in messages {
            assert!(self.can_hold(message));
            self.show(message);
            self.log.push(Arc::clone(message));
        }
        self.admitted += messages.len() as u64;
        let ring = self.ring();
        self.mirror.handle_admitted(now, messages, &ring);
    }

    pub fn take_replay(&mut self) {
        if let Some(replay) = self.mirror.take_replay() {
            self.replay = replay;
        }
    }

    /// What a stream that connects now is shown: what came after the last word on it, the shared
    /// history, and if there is room, the newest others.
    pub fn replay(&self) -> Vec<Arc<Message>> {
        let numbered: Vec<(u64, &Arc<Message>)> = (self.tail_seq..).zip(&self.log).collect();
        let is_first = |seq: &u64| *seq >= self.replay.until_seq || self.replay.seqs.contains(seq);
        let (first, others): (Vec<_>, Vec<_>) =
            numbered.into_iter().partition(|(seq, _)| is_first(seq));
        let newest = first
            .into_iter()
            .rev()
            .chain(others.into_iter().rev())
            .take(self.history_max);
        newest.map(|(_, message)| Arc::clone(message)).collect()
    }

    pub fn was_shown(&self, id: MessageId) -> bool {
        self.ever_live.contains(&id)
    }

    fn show(&mut self, message: &Message) {
        assert!(
            self.live.insert(message.id),
            "{} went live twice",
            message.id
        );
        if !self.ever_live.insert(message.id) {
            self.repeats_after_restart += 1;
        }
    }
}
