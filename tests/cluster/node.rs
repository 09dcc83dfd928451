//! A node: the real parts of a server on a bus, stepped by hand, and the live log of its only shard, beside a
//! list of what it has to hold.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use hookcast::bus::appender::Appender;
use hookcast::bus::course::SharedCourse;
use hookcast::bus::engine::{Producer, Reader, Writer};
use hookcast::bus::follower::{Follower, FollowerSettings};
use hookcast::bus::start::{self, Obstacle, Retry, RingFate, Start};
use hookcast::bus::stats::BusStats;
use hookcast::clock::Now;
use hookcast::hub::{Batch, BusSettings, FrameRef, Hub, NotStored, SenderId};
use hookcast::live_log::LiveLog;
use hookcast::message::{Draft, Label, Message, MessageId, SessionId};
use hookcast::metrics::Metrics;
use hookcast::ring::{Recovered, Ring};
use hookcast::sse::event_id::EventId;
use hookcast::sse::lineage::Lineage;
use hookcast::testkit::{Link, MemoryEngine, MemoryMedium, outlet};

pub const TIMEOUT_MS: u64 = 2_000;
/// The limit of bodies of a node that has no other.
pub const BODY_BYTES_MAX: usize = 1_000;
/// How many messages a node holds.
pub const MESSAGES_MAX: usize = 1_000;
const INBOX_BATCHES: usize = 256;
/// Bytes of the live log: 100 messages of any size that a test has.
const LIVE_LOG_BYTES: usize = 100 * 16 * 1024;
/// How many sessions there are.
pub const SESSIONS: u64 = 20;

/// Makes a ring with so many messages, and returns their contents.
pub fn fill_ring(medium: &MemoryMedium, messages: usize) -> Vec<String> {
    let (mut ring, _) = open(medium, BODY_BYTES_MAX);
    let append = |number: usize| {
        let message = Message {
            id: MessageId::from_u128(number as u128 + 1),
            timestamp_ms: 1,
            session: None,
            content: format!("before {number}"),
            label: None,
            identity: None,
        };
        ring.append(&message).unwrap();
        message.content
    };
    (0..messages).map(append).collect()
}

fn open(medium: &MemoryMedium, body_bytes_max: usize) -> (Ring, Recovered) {
    Ring::open_with(Box::new(medium.clone()), body_bytes_max, 8).unwrap()
}

/// The label of a message, which it keeps on all nodes: every third webhook is one of a source.
fn label_of(content: &str) -> Option<Arc<Label>> {
    let number: u64 = content.parse().ok()?;
    let label = Label::new("hub", &format!("event.{number}")).map(Arc::new);
    label.filter(|_| number.is_multiple_of(3))
}

/// The session with this number.
pub fn session(number: u64) -> SessionId {
    let name = SessionId::parse(&format!("session {}", number % SESSIONS));
    name.ok().flatten().expect("a short name")
}

/// The session of a message: every fourth webhook is for all. One whose text is no number is, too.
fn session_of(content: &str) -> Option<SessionId> {
    let number: u64 = content.parse().ok()?;
    // 7 is coprime to the number of sessions, so consecutive messages have distant sessions.
    (!number.is_multiple_of(4)).then(|| session(number * 7))
}

/// A frame as a stream gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub id: EventId,
    pub message: MessageId,
    pub content: String,
}

/// Whether a stream of these sessions sees a message. One without sessions sees everything.
pub fn is_visible(content: &str, sessions: &[SessionId]) -> bool {
    let session = session_of(content);
    sessions.is_empty() || session.is_none_or(|session| sessions.contains(&session))
}

impl Shown {
    /// Reads an event from its data on.
    fn parse(text: &str) -> Shown {
        let (data, rest) = text.split_once('\n').unwrap();
        let id = rest.strip_prefix("id: ").unwrap();
        let id = id.split_once('\n').unwrap().0;
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        let label = label_of(data["content"].as_str().unwrap());
        let event = label.as_ref().map(|label| label.event());
        let source = label.as_ref().map(|label| label.source());
        assert_eq!(
            (data["event"].as_str(), data["source"].as_str()),
            (event, source),
            "{data}"
        );
        Shown {
            id: EventId::parse(id.as_bytes()).unwrap(),
            message: data["id"].as_str().unwrap().parse().unwrap(),
            content: data["content"].as_str().unwrap().to_owned(),
        }
    }

    /// Reads the events of a stream.
    pub fn parse_all(bytes: &[u8]) -> Vec<Shown> {
        let text = str::from_utf8(bytes).unwrap();
        text.split("data: ").skip(1).map(Shown::parse).collect()
    }
}

/// What a node's shards know.
pub struct Log {
    pub lineage: Arc<Lineage>,
    pub first_seq: u64,
    pub frames: VecDeque<Shown>,
    /// What streams read.
    pub live: LiveLog,
}

impl Log {
    pub fn head_seq(&self) -> u64 {
        self.first_seq + self.frames.len() as u64
    }

    /// Appends the frames of a batch, and returns them.
    fn append(&mut self, batch: &Batch) -> Vec<Shown> {
        let append = |frame: FrameRef<'_>| {
            assert_eq!(frame.seq, self.head_seq(), "seqs have no holes");
            let shown = Shown::parse_all(frame.bytes).pop().expect("one event");
            assert_eq!(shown.id.seq, frame.seq);
            assert_eq!(frame.session, session_of(&shown.content).as_ref());
            let (at_ms, session) = (frame.timestamp_ms, frame.session);
            self.live
                .append(frame.seq, at_ms, session, frame.bytes, frame.chunk);
            self.frames.push_back(shown.clone());
            shown
        };
        batch.frames().map(append).collect()
    }

    /// Begins anew with another history.
    fn restart(&mut self, first_seq: u64) {
        self.first_seq = first_seq;
        self.frames.clear();
        self.live.restart(first_seq);
    }
}

/// What became of a webhook.
pub type Outcome = (u64, Result<MessageId, NotStored>);

/// What a node's shards got in one go.
#[derive(Default)]
pub struct Delivered {
    pub frames: Vec<Shown>,
    /// Streams ended before these frames.
    pub is_reset: bool,
    pub outcomes: Vec<Outcome>,
}

pub struct Node {
    pub hub: Hub,
    pub log: Log,
    pub writer_link: Link,
    pub reader_link: Link,
    pub course: SharedCourse,
    pub fate: RingFate,
    inbox: Receiver<Arc<Batch>>,
    sender: SenderId,
    /// The run of its threads.
    run: u64,
    appender: Appender,
    follower: Follower,
    writer: Box<dyn Writer>,
    reader: Box<dyn Reader>,
    stats: BusStats,
    metrics: Metrics,
    drafts: VecDeque<Draft>,
    /// The numbers of the webhooks without an outcome.
    pending: VecDeque<u64>,
}

impl Node {
    /// Starts a node on a disk. `obstacles` is how often it tries to reach the engine.
    pub fn start(
        medium: &MemoryMedium,
        engine: &MemoryEngine,
        producer: u64,
        syncs: bool,
        obstacles: u32,
        now: Now,
    ) -> Node {
        let limit = BODY_BYTES_MAX;
        Node::start_with_limit(medium, engine, producer, syncs, obstacles, limit, now)
    }

    /// The same with a limit of bodies.
    pub fn start_with_limit(
        medium: &MemoryMedium,
        engine: &MemoryEngine,
        producer: u64,
        syncs: bool,
        mut obstacles: u32,
        body_bytes_max: usize,
        now: Now,
    ) -> Node {
        let (mut ring, recovered) = open(medium, body_bytes_max);
        let (writer_link, reader_link) = (Link::default(), Link::default());
        let mut writer = engine.writer(writer_link.clone());
        let mut reader = engine.reader(reader_link.clone());
        let settings = FollowerSettings {
            messages_max: MESSAGES_MAX,
            body_bytes_max: body_bytes_max as u64,
            log_bytes: 1_000_000,
        };
        let producer = Producer(producer);
        let stats = BusStats::new(producer, now);
        let retry = &mut |obstacle| {
            if matches!(obstacle, Obstacle::Reading(_)) {
                return Retry::Again;
            }
            obstacles = obstacles.saturating_sub(1);
            match obstacle {
                Obstacle::Empty => Retry::Seed,
                _ if obstacles == 0 => Retry::Alone,
                _ => Retry::Again,
            }
        };
        let (writing, reading) = (&mut *writer, &mut *reader);
        let started = start::join(
            &mut ring,
            recovered.messages,
            writing,
            reading,
            settings,
            &stats,
            retry,
        );
        let Start {
            course,
            messages,
            ring: fate,
        } = started.unwrap();
        let (outlet, inbox) = outlet(INBOX_BATCHES);
        let bus_settings = BusSettings {
            timeout_ms: TIMEOUT_MS,
            needs_replicas: false,
            syncs,
        };
        let lineage = Arc::clone(&course.lineage);
        let (hub, store) = Hub::with_bus(
            ring,
            Arc::clone(&lineage),
            messages,
            vec![outlet],
            None,
            bus_settings,
        );
        let (first_seq, batch) = hub.history_batch();
        hub.drop_backlog();
        let course = SharedCourse::new(course);
        let mut log = Log {
            lineage,
            first_seq,
            frames: VecDeque::new(),
            live: LiveLog::new(first_seq, LIVE_LOG_BYTES),
        };
        log.append(&batch);
        Node {
            sender: hub.new_sender(),
            log,
            run: store.run(),
            appender: Appender::new(store.run(), producer, body_bytes_max as u64, 0),
            follower: Follower::new(store, course.clone(), settings),
            stats,
            metrics: Metrics::new(Arc::default()),
            drafts: VecDeque::new(),
            pending: VecDeque::new(),
            hub,
            writer_link,
            reader_link,
            course,
            fate,
            inbox,
            writer,
            reader,
        }
    }

    /// Posts the webhook with this number.
    pub fn post(&mut self, number: u64, now: Now) -> Delivered {
        self.post_text(number, number.to_string(), now)
    }

    /// The same with another text.
    pub fn post_text(&mut self, number: u64, content: String, now: Now) -> Delivered {
        let draft = Draft {
            session: session_of(&content),
            label: label_of(&content),
            content,
            identity: None,
        };
        self.post_draft(number, draft, now)
    }

    /// The same with a whole draft.
    pub fn post_draft(&mut self, number: u64, draft: Draft, now: Now) -> Delivered {
        self.drafts.push_back(draft);
        self.pending.push_back(number);
        self.hub
            .publish(self.sender, &mut self.drafts, now, &mut Vec::new());
        self.deliver()
    }

    pub fn publish(&mut self, now: Now) -> Delivered {
        let writer = &mut *self.writer;
        self.appender
            .step(&self.hub, writer, &self.course, &self.stats, now);
        self.deliver()
    }

    pub fn follow(&mut self, now: Now) -> Delivered {
        let reader = &mut *self.reader;
        self.follower.step(
            &self.hub,
            reader,
            &self.stats,
            &self.metrics,
            Duration::ZERO,
            &|| now,
        );
        self.deliver()
    }

    pub fn expire(&mut self, now: Now) -> Delivered {
        self.hub.expire_outgoing(self.run, now.mono_ms);
        self.deliver()
    }

    /// Whether the node is at the end of the log and owes it nothing. If entries were removed, the node may
    /// wait for one of them, until the next one or for a time.
    pub fn is_settled(&self, engine: &MemoryEngine, is_tampered: bool) -> bool {
        let course = self.course.lock();
        course.ready_epoch() == engine.epoch()
            && engine.is_unbroken()
            && (is_tampered
                || self.hub.outgoing_again() == 0 && engine.last_seq() == Some(course.position.seq))
    }

    /// Where the node is, for a failure.
    pub fn standing(&self) -> String {
        let course = self.course.lock();
        format!(
            "{} joined {} ready {:?} outgoing {} again {}",
            course.position,
            course.is_joined,
            course.ready_epoch(),
            self.hub.outgoing(),
            self.hub.outgoing_again()
        )
    }

    /// The webhooks whose senders get no answer, because the node is killed.
    pub fn kill(self) -> Vec<u64> {
        self.pending.into()
    }

    fn deliver(&mut self) -> Delivered {
        let mut delivered = Delivered::default();
        for batch in self.inbox.try_iter() {
            if let Some(turnover) = batch.turnover() {
                self.log.lineage = Arc::clone(&turnover.lineage);
                if let Some(first_seq) = turnover.replaced_from {
                    self.log.restart(first_seq);
                    delivered.frames.clear();
                    delivered.is_reset = true;
                }
            }
            delivered.frames.extend(self.log.append(&batch));
            for outcome in batch.outcomes_for(self.sender) {
                let number = self.pending.pop_front().expect("an outcome has a webhook");
                let outcome = outcome.clone().map(|receipt| receipt.id);
                delivered.outcomes.push((number, outcome));
            }
        }
        delivered
    }
}
