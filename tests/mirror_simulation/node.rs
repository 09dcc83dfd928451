//! One node of the simulation: a ring that outlives restarts, a mirror that does not, and a stream
//! that has been open since the process began.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use hookcast::message::{Message, MessageId};
use hookcast::mirror::core::{Mirror, Now};
use hookcast::mirror::schedule::Pace;
use hookcast::mirror::{Arrival, Audience};

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
        value: Result<Option<Vec<u8>>, hookcast::mirror::reply::Failure>,
    },
    WriteSent {
        at_ms: u64,
        value: Vec<u8>,
    },
    WriteAnswered {
        at_ms: u64,
        result: Result<(), hookcast::mirror::reply::Failure>,
    },
}

pub struct Node {
    pub mirror: Mirror,
    pub phase: Phase,
    pub ring: VecDeque<Arc<Message>>,
    /// How far the clock on the wall is off.
    pub skew_ms: i64,
    pub content_bytes_max: usize,
    pub last_write_ms: Option<u64>,
    /// What the stream of this process has shown.
    live: HashSet<MessageId>,
    /// What streams of any process of this node have shown, and of which a restart could repeat.
    pub ever_live: HashSet<MessageId>,
    pub repeats_after_restart: u64,
    history_max: usize,
}

impl Node {
    pub fn new(mirror: Mirror, history_max: usize, skew_ms: i64, content_bytes_max: usize) -> Node {
        Node {
            mirror,
            phase: Phase::Idle,
            ring: VecDeque::new(),
            skew_ms,
            content_bytes_max,
            last_write_ms: None,
            live: HashSet::new(),
            ever_live: HashSet::new(),
            repeats_after_restart: 0,
            history_max,
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
        self.mirror = Mirror::new(pace, self.history_max, now, rng);
        self.live = self.ring.iter().map(|message| message.id).collect();
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

    pub fn can_hold(&self, message: &Message) -> bool {
        message.content.len() <= self.content_bytes_max
    }

    pub fn publish(&mut self, message: Arc<Message>) {
        self.show(&message);
        self.append(message);
        self.mirror.handle_publish();
    }

    /// Puts arrivals into the ring; refuses at the `refused_at`th.
    pub fn admit(&mut self, now: Now, arrivals: &[Arrival], refused_at: usize) {
        let arrivals = &arrivals[..refused_at.min(arrivals.len())];
        let mut evicted = Vec::new();
        for arrival in arrivals {
            assert!(self.can_hold(&arrival.message));
            match arrival.audience {
                Audience::Live => self.show(&arrival.message),
                Audience::ReplayOnly => assert!(self.live.contains(&arrival.message.id)),
            }
            evicted.extend(self.append(Arc::clone(&arrival.message)));
        }
        // A message may be pushed out by arrivals of which it is one itself, later on.
        evicted.retain(|out| !self.ring.iter().any(|message| message.id == out.id));
        self.mirror.handle_admitted(now, arrivals, &evicted);
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

    fn append(&mut self, message: Arc<Message>) -> Option<Arc<Message>> {
        let evicted = if self.ring.len() == self.history_max {
            self.ring.pop_front()
        } else {
            None
        };
        self.ring.push_back(message);
        evicted
    }
}
