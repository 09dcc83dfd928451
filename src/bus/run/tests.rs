use std::collections::VecDeque;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::*;
use crate::bus::engine::{Append, Appended, Keep, Outgoing};
use crate::bus::start::{self, Retry, RingFate};
use crate::hub::{Batch, BusSettings, RingThread};
use crate::limits::COMMIT_MESSAGES_MAX;
use crate::message::{Epoch, Message, MessageId};
use crate::ring::{Aside, Recovered, Ring};
use crate::testkit::{Link, LinkState, MemoryEngine, MemoryMedium, UNIX_MS, draft, outlet};

const PATIENCE: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: usize = 100;
const SETTINGS: FollowerSettings = FollowerSettings {
    messages_max: 1_000,
    body_bytes_max: BODY_BYTES_MAX as u64,
    log_bytes: 1_000_000,
};

/// A node with its threads.
struct Node {
    engine: MemoryEngine,
    medium: MemoryMedium,
    /// The way of all appenders of this node.
    link: Link,
    hub: Arc<Hub>,
    bus: Arc<Bus>,
    clock: Clock,
    inbox: Receiver<Arc<Batch>>,
}

fn open(medium: &MemoryMedium) -> (Ring, Recovered) {
    let medium = Box::new(medium.clone());
    Ring::open_with(medium, BODY_BYTES_MAX, COMMIT_MESSAGES_MAX).unwrap()
}

impl Node {
    fn start() -> Node {
        let (engine, medium, clock) = (
            MemoryEngine::default(),
            MemoryMedium::default(),
            Clock::start(),
        );
        engine.set_time(UNIX_MS);
        let (mut ring, recovered) = open(&medium);
        let producer = Producer(7);
        let stats = Arc::new(BusStats::new(producer, clock.now()));
        let started = start::join(
            &mut ring,
            recovered.messages,
            &mut *engine.writer(Link::default()),
            &mut *engine.reader(Link::default()),
            SETTINGS,
            &stats,
            &mut |_| Retry::Seed,
        )
        .unwrap();
        assert_eq!(started.ring, RingFate::Seeded);
        let (outlet, inbox) = outlet(64);
        let settings = BusSettings {
            timeout_ms: PATIENCE.as_millis() as u64,
            needs_replicas: false,
            syncs: false,
        };
        let lineage = Arc::clone(&started.course.lineage);
        let (hub, store) = Hub::with_bus(
            ring,
            lineage,
            started.messages,
            vec![outlet],
            None,
            settings,
        );
        let hub = Arc::new(hub);
        let link = Link::default();
        let (of_engine, of_link) = (engine.clone(), link.clone());
        let connect = move || {
            let halves: Halves = (
                of_engine.writer(of_link.clone()),
                of_engine.reader(Link::default()),
            );
            Ok(halves)
        };
        let bus = Arc::new(Bus {
            producer,
            connect: Box::new(connect),
            course: SharedCourse::new(started.course),
            settings: SETTINGS,
            replicas: 0,
            stats,
            on_joined: Mutex::new(None),
            metrics: Arc::new(Metrics::new(Arc::default())),
            clock,
        });
        bus.start(&hub, store).unwrap();
        Node {
            engine,
            medium,
            link,
            hub,
            bus,
            clock,
            inbox,
        }
    }

    fn publish(&self, contents: &[&str]) {
        let mut drafts: VecDeque<_> = contents.iter().map(|content| draft(*content)).collect();
        let sender = self.hub.new_sender();
        self.hub
            .publish(sender, &mut drafts, self.clock.now(), &mut Vec::new());
        assert!(drafts.is_empty(), "there is room");
    }

    /// Waits until the shard has got messages with these seqs, in order.
    fn expect_shown(&self, seqs: std::ops::RangeInclusive<u64>) {
        let mut expected = seqs.peekable();
        while expected.peek().is_some() {
            let batch = self
                .inbox
                .recv_timeout(PATIENCE)
                .expect("a message is missing");
            for frame in batch.frames() {
                assert_eq!(Some(frame.seq), expected.next());
            }
        }
    }

    /// The log of the engine.
    fn contents(&self) -> Vec<String> {
        let messages = self.engine.messages().into_iter();
        messages.map(|message| message.content.clone()).collect()
    }
}

/// Appends a message as another node, which is in the current epoch.
fn append_as_successor(engine: &MemoryEngine, content: &str) {
    let message = Message {
        id: MessageId::from_u128(1),
        timestamp_ms: 1,
        session: None,
        content: content.into(),
        label: None,
        identity: None,
    };
    let appended = engine.writer(Link::default()).append(&Append {
        epoch: engine.epoch().unwrap(),
        producer: Producer(8),
        first_number: 1,
        messages: &[Outgoing {
            message: Arc::new(message),
            keeps_time: false,
        }],
        probe: None,
        keep: Keep::All,
        replicas: 0,
    });
    assert!(matches!(appended, Ok(Appended::Stored { messages: 1, .. })));
}

/// The appender of the first run is in a call while the ring is given away and taken back.
#[test]
fn after_a_failed_handover_one_appender_runs_and_its_numbers_go_on() {
    let node = Node::start();
    node.publish(&["a", "b"]);
    node.expect_shown(1..=2);
    // Its next probe is held.
    node.link.hold(true);
    assert!(node.link.wait_until(PATIENCE, |link| link.waiting == 1));
    node.hub.release(Instant::now() + PATIENCE).unwrap();

    // The successor publishes, begins another history in the ring, and fails.
    append_as_successor(&node.engine, "c");
    let (mut ring, _) = open(&node.medium);
    let renewed = ring.renew(Epoch(5), Vec::new(), 900, [], Aside::Drop);
    assert!(renewed.is_ok());
    drop(ring);

    let (ring, recovered) = open(&node.medium);
    assert_eq!(ring.epoch(), Epoch(5));
    assert!(node.hub.can_take_back(&ring, &recovered.messages));
    let taken = node.hub.take_back(ring, recovered.messages, Instant::now());
    let Ok(Some(RingThread::Bus(store))) = taken else {
        panic!("the bus continues");
    };
    node.bus.start_again(&node.hub, store).unwrap();
    node.publish(&["d"]);
    node.link.hold(false);
    // The first appender has ended.
    assert!(node.link.wait_until(PATIENCE, |link| link.dropped == 1));
    node.expect_shown(3..=4);
    node.publish(&["e"]);
    node.expect_shown(5..=5);
    assert_eq!(node.contents(), ["a", "b", "c", "d", "e"]);
    let has_one = |link: &LinkState| link.made - link.dropped == 1;
    assert!(
        node.link.wait_until(Duration::ZERO, has_one),
        "one appender"
    );

    node.hub.close().unwrap();
    assert!(node.link.wait_until(PATIENCE, |link| link.dropped == 2));
    let (ring, recovered) = open(&node.medium);
    assert_eq!(Some(ring.epoch()), node.engine.epoch());
    let seqs: Vec<u64> = recovered.messages.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5]);
}
