//! The server under simulation: ring, hub and shards, without threads, sockets and clocks.
//!
//! A shard sleeps until a socket has an event, the hub wakes it, or its next deadline is due. No
//! other turns are run, so a lost wake-up shows.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use hookcast::clock::Now;
use hookcast::http::{Access, AllowOrigin};
use hookcast::hub::{Batch, Committer, Hub, NotStored, Outlet, Receipt, Wake};
use hookcast::limits::{DRAIN_IDLE_MS, DRAIN_LEAST_MS, DRAIN_SPREAD_PERCENT, JUDGING_BYTES_MAX};
use hookcast::message::Message;
use hookcast::metrics::{self, Metrics};
use hookcast::ring::{Ring, RingStats};
use hookcast::shard::guesses::Guesses;
use hookcast::shard::{Settings, Shard, Token};
use hookcast::testkit::MemoryMedium;
use hookcast::tokens::TokenKeys;

use super::kernel::SimSocket;
use super::model::LogExtent;
use super::operation::Profile;
use super::poller::{SimCommand, SimTurns};
use super::request::SECRET;
use super::sources::{self, Docketed};
use super::stream::Subscribed;

/// The waker of a shard, in place of an eventfd.
#[derive(Default)]
struct Waker(AtomicBool);

impl Wake for Waker {
    fn wake(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Woken when a batch is sent: notes whether the disk has all of the ring at that moment.
struct Witness {
    medium: MemoryMedium,
    saw_unsynced: AtomicBool,
}

impl Wake for Witness {
    fn wake(&self) {
        let has_unsynced = self.medium.has_unsynced();
        self.saw_unsynced.store(has_unsynced, Ordering::Relaxed);
    }
}

/// The state that a shard's thread owns.
pub struct Running {
    pub shard: Shard<SimSocket>,
    pub turns: SimTurns,
}

pub struct ShardNode {
    /// Absent during a turn, and when the process was killed in one.
    pub running: Option<Running>,
    /// `None` once the shard is drained and its thread has ended.
    inbox: Option<Receiver<Arc<Batch>>>,
    waker: Arc<Waker>,
    pub commands: VecDeque<SimCommand>,
    /// Its requests to sources without a verdict.
    pub judging: Vec<Docketed>,
    /// When it runs if nothing wakes it before.
    due_ms: Option<u64>,
    pub log: LogExtent,
    pub subscribed: Vec<Subscribed>,
    pub metrics: Metrics,
    /// The end of its drain, if it drains.
    pub drain_until_ms: Option<u64>,
    /// Until when connections without a request stay open, if it drains.
    pub idle_until_ms: Option<u64>,
    /// The number of the key of tokens that it uses.
    pub key: usize,
    /// When it was last replaced.
    pub key_since_ms: Option<u64>,
    /// The wall clock was set since its last turn. A shard notices that when it runs.
    pub clock_was_set: bool,
    /// Until when no request is late, because of its last hold.
    pub held_until_ms: u64,
    /// Connections within the limit, with those on their way to the shard.
    pub load: usize,
    /// The tokens of closed connections: epoll may still report events of them.
    pub gone: Vec<Token>,
    /// Messages received on closed streams, and how many of them were copies.
    pub messages_past: u64,
    pub copies_past: u64,
}

pub struct Node {
    pub hub: Arc<Hub>,
    /// The owner of the ring, if messages wait for the disk.
    committer: Option<Committer>,
    /// The metrics of the committer.
    pub metrics: Metrics,
    pub ring_stats: Arc<RingStats>,
    pub settings: Arc<Settings>,
    pub shards: Vec<ShardNode>,
    /// Every batch, for the model.
    observer: Receiver<Arc<Batch>>,
    observed: Vec<Arc<Batch>>,
    witness: Arc<Witness>,
    /// The process is being killed: what it sends is lost.
    pub is_dying: bool,
}

/// A node that has just started, and its history.
pub struct Started {
    pub node: Node,
    pub epoch: String,
    pub first_seq: u64,
    pub history: Batch,
}

/// The secret of the key of tokens with this number, 0 or 1.
pub fn token_secret(key: usize) -> [u8; 32] {
    [b'a' + key as u8; 32]
}

/// The only key of tokens that is in use at a time.
pub fn token_keys(key: usize) -> Arc<TokenKeys> {
    Arc::new(TokenKeys::parse(&token_secret(key), None).expect("a secret of 32 bytes"))
}

pub fn settings(profile: &Profile) -> Settings {
    let access = Access::new(profile.has_secret.then_some(SECRET.as_bytes()));
    let access = if profile.has_tokens {
        access.with_tokens(token_keys(0), false)
    } else {
        access
    };
    Settings {
        heartbeat_interval: Duration::from_millis(profile.heartbeat_ms),
        keep_alive: Duration::from_millis(profile.keep_alive_ms),
        body_bytes_max: profile.body_bytes_max,
        drain: Duration::from_millis(profile.drain_ms),
        // Of the bytes of the queue, each shard has an equal part.
        shards: match profile.judging_bytes_max {
            Some(bytes) => JUDGING_BYTES_MAX / bytes,
            None => profile.shards,
        },
        held_bytes_max: hookcast::limits::HELD_BYTES_MAX,
        fanout_life: profile.fanout_life_ms.map(Duration::from_millis),
        compress_streams: profile.compresses,
        log_bytes_min: profile.log_bytes_min,
        access: match profile.fanout_life_ms {
            Some(_) => access.fanned_out(),
            None => access,
        },
        allow_origin: AllowOrigin::Any,
        guesses: Arc::new(Guesses::new(0)),
    }
}

impl Node {
    /// Opens the ring, as the server does at its start.
    pub fn start(medium: &MemoryMedium, profile: &Profile, now: Now) -> Started {
        let opened = match profile.commit_messages_max {
            None => Ring::open_on(Box::new(medium.clone()), profile.body_bytes_max),
            Some(messages) => {
                Ring::open_with(Box::new(medium.clone()), profile.body_bytes_max, messages)
            }
        };
        let (ring, recovered) = opened.expect("a ring opens");
        let ring_stats = ring.stats();
        let settings = Arc::new(settings(profile));
        let mut inboxes = Vec::new();
        let mut outlets = Vec::new();
        for _ in 0..profile.shards {
            let (sender, inbox) = bounded(profile.inbox_batches_max);
            let waker = Arc::new(Waker::default());
            outlets.push(Outlet {
                batches: sender,
                wake: Arc::clone(&waker) as _,
            });
            inboxes.push((inbox, waker));
        }
        let (sender, observer) = unbounded();
        let witness = Arc::new(Witness {
            medium: medium.clone(),
            saw_unsynced: AtomicBool::new(false),
        });
        outlets.push(Outlet {
            batches: sender,
            wake: Arc::clone(&witness) as _,
        });
        let (hub, committer) = if profile.commit_messages_max.is_some() {
            let (hub, committer) = Hub::with_commits(ring, recovered.messages, outlets, None);
            (hub, Some(committer))
        } else {
            (Hub::new(ring, recovered.messages, outlets, None), None)
        };
        let hub = Arc::new(hub);
        let (first_seq, history) = hub.history_batch();
        let log_bytes = settings.log_bytes_min.max(hub.history_bytes_max(&history));
        let shards = inboxes.into_iter().zip(1..).map(|((inbox, waker), seed)| {
            let mut log = LogExtent::new(first_seq, log_bytes);
            log.append(&history);
            let mut shard = Shard::new(Arc::clone(&settings), &hub, seed, now);
            if profile.judging_bytes_max.is_some() {
                shard.use_sources(sources::table());
            }
            ShardNode {
                running: Some(Running {
                    shard,
                    turns: SimTurns::default(),
                }),
                commands: VecDeque::new(),
                judging: Vec::new(),
                inbox: Some(inbox),
                waker,
                due_ms: None,
                log,
                subscribed: Vec::new(),
                metrics: Metrics::new(Arc::new(AtomicU64::new(0))),
                drain_until_ms: None,
                idle_until_ms: None,
                key: 0,
                key_since_ms: None,
                clock_was_set: false,
                held_until_ms: 0,
                load: 0,
                gone: Vec::new(),
                messages_past: 0,
                copies_past: 0,
            }
        });
        let shards = shards.collect();
        let epoch = hub.lineage().epoch().to_string();
        let node = Node {
            hub,
            committer,
            metrics: Metrics::new(Arc::default()),
            ring_stats,
            settings,
            shards,
            observer,
            observed: Vec::new(),
            witness,
            is_dying: false,
        };
        Started {
            node,
            epoch,
            first_seq,
            history,
        }
    }

    /// Whether messages wait for the disk.
    pub fn has_commits(&self) -> bool {
        self.committer.is_some()
    }

    /// Commits what is queued. Returns whether there was something, and room in the inboxes.
    pub fn commit(&mut self, now: Now) -> bool {
        let Some(committer) = &mut self.committer else {
            return false;
        };
        let has_committed = committer.commit(&self.hub, &self.metrics, || now);
        self.note_batches();
        has_committed
    }

    /// Takes the batches that the hub has sent since the last call.
    pub fn take_observed(&mut self) -> Vec<Arc<Batch>> {
        self.note_batches();
        std::mem::take(&mut self.observed)
    }

    fn note_batches(&mut self) {
        let batches: Vec<_> = self.observer.try_iter().collect();
        let is_shown = batches.iter().any(|batch| batch.frames().next().is_some());
        let saw_unsynced = self.witness.saw_unsynced.load(Ordering::Relaxed);
        assert!(
            !(self.has_commits() && is_shown && saw_unsynced) || self.is_dying,
            "messages are delivered before they are on disk"
        );
        self.observed.extend(batches);
    }

    /// Stores messages of other nodes. Waits for the disk, but not for room.
    pub fn admit(&mut self, messages: Vec<Message>, now: Now) -> Vec<Result<Receipt, NotStored>> {
        let messages: Vec<Arc<Message>> = messages.into_iter().map(Arc::new).collect();
        if !self.has_commits() {
            return self.hub.publish_from_peers(&messages, now, Duration::ZERO);
        }
        // Queued messages are committed first, so that the outcome does not depend on the threads'
        // timing.
        while self.make_room() | self.commit(now) {}
        // `admit` waits for the committer, so it runs on a thread of its own.
        let (queued, all_queued) = bounded(1);
        let hub = Arc::clone(&self.hub);
        let mirror = std::thread::spawn(move || {
            let outcomes = hub.publish_from_peers(&messages, now, Duration::ZERO);
            let _ = queued.send(());
            outcomes
        });
        while all_queued.try_recv().is_err() {
            self.commit(now);
            self.make_room();
            std::thread::yield_now();
        }
        mirror.join().expect("the mirror does not panic")
    }

    /// Empties the inboxes of the shards.
    fn make_room(&mut self) -> bool {
        let mut has_made_room = false;
        for shard in &mut self.shards {
            has_made_room |= shard.take_batches();
        }
        has_made_room
    }

    /// Closes the ring, at the end of a drain.
    pub fn close(&mut self, now: Now) -> io::Result<()> {
        while self.commit(now) {}
        match &mut self.committer {
            Some(committer) => committer.close(&self.hub),
            None => self.hub.close(),
        }
    }

    /// Counts of the ring file's repairs: successful ones and failed ones.
    pub fn repairs(&self) -> [u64; 2] {
        let text = metrics::encode(&self.ring_stats.gather());
        ["done", "failed"].map(|result| {
            let name = format!("hookcast_ring_repairs_total{{result=\"{result}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(&name));
            count.and_then(|count| count.parse().ok()).unwrap_or(0)
        })
    }
}

impl ShardNode {
    pub fn shard(&self) -> &Shard<SimSocket> {
        &self.running.as_ref().expect("it is not in a turn").shard
    }

    /// Sends it a command.
    pub fn send(&mut self, command: SimCommand) {
        self.commands.push_back(command);
        self.waker.wake();
    }

    /// Whether its thread would run now, without an event of a socket.
    pub fn is_awake(&self, now_ms: u64) -> bool {
        self.waker.0.load(Ordering::Relaxed) || self.due_ms.is_some_and(|due_ms| due_ms <= now_ms)
    }

    /// When it runs if nothing wakes it before.
    pub fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    pub fn wake_up(&mut self) {
        self.waker.0.store(false, Ordering::Relaxed);
        self.due_ms = None;
    }

    /// Ends a turn. `accept_ms` is the time of the next accept.
    pub fn sleep(&mut self, now: Now, accept_ms: Option<u64>) {
        let shard = &mut self.running.as_mut().expect("its turn is over").shard;
        shard.tally_mut().flush(&self.metrics);
        if shard.is_drained() && self.commands.is_empty() {
            self.inbox = None;
            self.due_ms = None;
            return;
        }
        let due_ms = shard.idle_ms(now).map(|idle_ms| now.mono_ms + idle_ms);
        let accept_ms = accept_ms.map(|accept_ms| accept_ms.max(now.mono_ms));
        self.due_ms = [due_ms, accept_ms].into_iter().flatten().min();
        // A shard checks its inbox once more after it has announced its sleep.
        let has_batches = self.inbox.as_ref().is_some_and(|inbox| !inbox.is_empty());
        if has_batches || !self.commands.is_empty() {
            self.waker.wake();
        }
    }

    /// Whether its thread has ended.
    pub fn has_ended(&self) -> bool {
        self.inbox.is_none()
    }

    /// Notes that its drain begins.
    pub fn begin_drain(&mut self, now_ms: u64, drain_ms: u64, is_handover: bool) {
        self.drain_until_ms = Some(now_ms + drain_ms.max(DRAIN_LEAST_MS));
        let spread_ms = drain_ms.max(DRAIN_LEAST_MS) * DRAIN_SPREAD_PERCENT / 100;
        let idle_ms = DRAIN_IDLE_MS.min(spread_ms);
        self.idle_until_ms = Some(now_ms + if is_handover { 0 } else { idle_ms });
    }

    /// Takes a batch from the inbox, and appends it to the expected log.
    pub fn next_batch(&mut self) -> Option<Arc<Batch>> {
        let batch = self.inbox.as_ref()?.try_recv().ok()?;
        self.log.append(&batch);
        Some(batch)
    }

    /// Delivers all batches of the inbox. Returns whether there was one.
    pub fn take_batches(&mut self) -> bool {
        let mut has_taken = false;
        while let Some(batch) = self.next_batch() {
            has_taken = true;
            if let Some(running) = &mut self.running {
                running.shard.deliver(&batch);
            }
        }
        has_taken
    }

    /// Notes that a stream has been opened.
    pub fn note_subscribed(&mut self, before: usize, streams: usize, now: Now) {
        if streams > before {
            self.subscribed.push(Subscribed {
                mono_ms: now.mono_ms,
                unix_ms: now.unix_ms,
                shared: Rc::clone(&self.log.shared),
                origin_seq: self.log.origin_seq,
                tail_seq: self.log.tail_seq,
                head_seq: self.log.head_seq(),
            });
        }
    }
}
