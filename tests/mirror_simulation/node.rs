//! One node of the simulation: a live log for the life of the process, whose last N messages the ring keeps
//! over restarts, and a stream from the start of the process.

use std::collections::HashSet;
use std::sync::Arc;

use hookcast::clock::Now;
use hookcast::hub::{RingView, Stamps};
use hookcast::live_log::SharedHistory;
use hookcast::message::{Message, MessageId};
use hookcast::mirror::core::Mirror;
use hookcast::mirror::reply::Failure;
use hookcast::mirror::schedule::Pace;

/// The state of the node.
#[derive(Clone)]
pub enum Phase {
    Down {
        until_ms: u64,
    },
    Idle,
    /// The request of a read is in flight.
    ReadSent {
        at_ms: u64,
    },
    /// The answer to a read is in flight.
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
    pub stamps: Stamps,
    pub phase: Phase,
    /// Offset of the node's wall clock.
    pub skew_ms: i64,
    pub content_bytes_max: usize,
    pub last_write_ms: Option<u64>,
    /// The time of the write before that, in case the last one is refused.
    pub write_before_ms: Option<u64>,
    /// Messages that went live again after a restart.
    pub repeats_after_restart: u64,
    pub admitted: u64,
    history_max: usize,
    log: Vec<Arc<Message>>,
    /// The seq of the log's first message.
    tail_seq: u64,
    shared: SharedHistory,
    /// Messages that the stream of this process has shown.
    live: HashSet<MessageId>,
    ever_live: HashSet<MessageId>,
}

impl Node {
    pub fn new(mirror: Mirror, history_max: usize, skew_ms: i64, content_bytes_max: usize) -> Node {
        Node {
            mirror,
            stamps: Stamps::default(),
            phase: Phase::Idle,
            skew_ms,
            content_bytes_max,
            last_write_ms: None,
            write_before_ms: None,
            repeats_after_restart: 0,
            admitted: 0,
            history_max,
            log: Vec::new(),
            tail_seq: 1,
            shared: SharedHistory::default(),
            live: HashSet::new(),
            ever_live: HashSet::new(),
        }
    }

    pub fn now(&self, mono_ms: u64, utc_ms: u64) -> Now {
        Now {
            mono_ms,
            mono_us: mono_ms * 1000,
            unix_ms: utc_ms.saturating_add_signed(self.skew_ms),
        }
    }

    /// Restarts the process: the ring stays, the rest of the state is lost.
    pub fn restart(&mut self, pace: Pace, now: Now, rng: fastrand::Rng) {
        let kept = self.ring();
        self.mirror = Mirror::new(pace, self.history_max, &kept, now, rng);
        self.tail_seq = kept.first_seq;
        self.log = kept.messages;
        self.stamps = Stamps::default();
        let times_ms = self.log.iter().map(|message| message.timestamp_ms);
        self.stamps.continue_after(times_ms);
        self.live = self.log.iter().map(|message| message.id).collect();
        self.shared = SharedHistory::default();
        self.last_write_ms = None;
    }

    pub fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down { .. })
    }

    /// The time of the node's next action of its own.
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

    pub fn ring(&self) -> RingView {
        let first = self.log.len().saturating_sub(self.history_max);
        RingView {
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

    /// Appends messages of the mirror to the ring, except those that are too large for it.
    pub fn admit(&mut self, now: Now, messages: &[Arc<Message>]) {
        let mut admitted = Vec::new();
        for message in messages {
            if self.can_hold(message) {
                self.show(message);
                self.log.push(Arc::clone(message));
                admitted.push(message.id);
            } else {
                self.mirror.handle_too_large(message.id);
            }
        }
        self.admitted += admitted.len() as u64;
        let ring = self.ring();
        self.mirror.handle_admitted(now, &admitted, &ring);
    }

    pub fn take_shared_history(&mut self) {
        if let Some(shared) = self.mirror.shared_history() {
            self.shared = shared.clone();
            self.mirror.handle_shared_history(shared);
        }
    }

    /// The replay of a new stream: messages newer than the shared history, the shared history, and if there is
    /// room, the newest others.
    pub fn replay(&self) -> Vec<Arc<Message>> {
        let numbered: Vec<(u64, &Arc<Message>)> = (self.tail_seq..).zip(&self.log).collect();
        let is_first = |seq: &u64| *seq >= self.shared.until_seq || self.shared.seqs.contains(seq);
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
