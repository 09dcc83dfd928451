//! Losses in a certain order, which random steps rarely meet.
//!
//! The nodes and the engine are those of the simulation. Each test states what is lost, and when.

use std::sync::Arc;

use hookcast::bus::engine::Producer;
use hookcast::bus::follower::FollowerSettings;
use hookcast::bus::log::{self, Seed};
use hookcast::bus::start::{self, Obstacle, Retry, RingFate};
use hookcast::bus::stats::BusStats;
use hookcast::clock::Now;
use hookcast::limits::BUS_REPUBLISH_MS;
use hookcast::message::{Draft, Epoch, Identity, Message, MessageId};
use hookcast::sse::lineage::Lineage;
use hookcast::testkit::{Link, LinkFault, MemoryEngine, MemoryMedium, now_at, ring_in_memory};

use super::node::{BODY_BYTES_MAX, Delivered, MESSAGES_MAX, Node};

/// Nodes on an engine, stepped by the test.
struct Rig {
    engine: MemoryEngine,
    nodes: Vec<Node>,
    now_ms: u64,
}

impl Rig {
    /// Nodes with these limits of bodies, started one after the other.
    fn start(limits: &[usize]) -> Rig {
        let mut rig = Rig {
            engine: MemoryEngine::default(),
            nodes: Vec::new(),
            now_ms: 1,
        };
        rig.pass(0);
        for &limit in limits {
            rig.join(limit);
        }
        rig.settle();
        rig
    }

    /// Starts one more node.
    fn join(&mut self, limit: usize) {
        let (medium, now) = (MemoryMedium::default(), self.now());
        let producer = 1 + self.nodes.len() as u64;
        let node = Node::start_with_limit(&medium, &self.engine, producer, false, 9, limit, now);
        self.nodes.push(node);
    }

    fn now(&self) -> Now {
        now_at(self.now_ms)
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.engine.set_time(self.now().unix_ms);
    }

    fn publish(&mut self, index: usize) -> Delivered {
        let now = self.now();
        self.nodes[index].publish(now)
    }

    fn follow(&mut self, index: usize) -> Delivered {
        let now = self.now();
        self.nodes[index].follow(now)
    }

    /// A node posts a webhook and appends it. It has not come back.
    fn append(&mut self, index: usize, number: u64) {
        let now = self.now();
        self.nodes[index].post(number, now);
        self.publish(index);
    }

    /// The other nodes read nothing meanwhile.
    fn append_and_acknowledge(&mut self, index: usize, number: u64) {
        self.append(index, number);
        let delivered = self.follow(index);
        let (_, outcome) = &delivered.outcomes[0];
        assert!(outcome.is_ok(), "{outcome:?}");
    }

    /// Lets a node notice that the engine has forgotten something, and begin an epoch.
    fn begin(&mut self, index: usize) {
        let before = self.engine.epoch();
        self.pass(1_000);
        for _ in 0..4 {
            self.publish(index);
        }
        assert!(self.engine.is_unbroken() && self.engine.epoch() != before);
        self.follow(index);
    }

    /// Lets all nodes work until every webhook has its outcome.
    fn settle(&mut self) {
        for _ in 0..100 {
            let engine = &self.engine;
            let is_settled =
                |node: &Node| node.is_settled(engine, false) && node.hub.outgoing() == 0;
            if self.nodes.iter().all(is_settled) {
                return;
            }
            for index in 0..self.nodes.len() {
                self.publish(index);
                self.follow(index);
            }
            self.pass(100);
        }
        let standings: Vec<String> = self.nodes.iter().map(Node::standing).collect();
        panic!("the nodes do not settle: {standings:#?}");
    }

    fn contents(&self, index: usize) -> Vec<&str> {
        let frames = self.nodes[index].log.frames.iter();
        frames.map(|frame| &*frame.content).collect()
    }
}

/// A node may be idle for long between the acknowledgement and the loss.
#[test]
fn an_acknowledged_message_is_published_again_whatever_its_age() {
    let mut rig = Rig::start(&[BODY_BYTES_MAX; 2]);
    rig.engine.replicate();
    rig.append_and_acknowledge(0, 1);
    rig.pass(100 * BUS_REPUBLISH_MS);
    rig.append_and_acknowledge(0, 2);
    rig.pass(100 * BUS_REPUBLISH_MS);
    rig.engine.fail_over();
    // The second node has read neither of them.
    rig.begin(1);
    rig.append_and_acknowledge(1, 3);
    rig.settle();
    for index in 0..2 {
        assert_eq!(rig.contents(index), ["3", "1", "2"], "node {index}");
    }
}

#[test]
fn a_message_that_is_acknowledged_by_a_reset_is_published_again_after_the_next() {
    let mut rig = Rig::start(&[BODY_BYTES_MAX; 2]);
    rig.append_and_acknowledge(1, 1);
    rig.engine.replicate();
    // It is in the log, and the first node has not read it.
    rig.append(0, 2);
    // The first node meets a hole and takes over the history behind it.
    rig.engine.delete_entry(1);
    rig.follow(0);
    let joined = rig.follow(0);
    assert!(joined.is_reset);
    assert!(joined.outcomes[0].1.is_ok(), "{:?}", joined.outcomes);
    assert_eq!(rig.contents(0), ["2"]);
    rig.engine.fail_over();
    rig.begin(1);
    rig.settle();
    for index in 0..2 {
        assert_eq!(rig.contents(index), ["1", "2"], "node {index}");
    }
}

/// The oldest message that a node holds is then never of the current epoch.
#[test]
fn the_log_is_trimmed_although_every_epoch_is_shorter_than_the_history() {
    const EPOCHS: u64 = 60;
    const MESSAGES: u64 = 50;
    let mut rig = Rig::start(&[BODY_BYTES_MAX]);
    for number in 0..EPOCHS * MESSAGES {
        if number % MESSAGES == 0 {
            rig.engine.restart();
            rig.begin(0);
            rig.settle();
        }
        rig.append_and_acknowledge(0, number);
    }
    let entries = rig.engine.ids().len();
    assert!(entries <= 2 * MESSAGES_MAX, "{entries} entries");
    // A node that joins needs the newest.
    let kept = rig.engine.messages();
    let newest = kept[kept.len() - MESSAGES_MAX..].iter();
    let first = EPOCHS * MESSAGES - MESSAGES_MAX as u64;
    assert!(
        (first..)
            .zip(newest)
            .all(|(number, message)| message.content == number.to_string())
    );
}

/// The limit is raised by starting the nodes anew, one by one.
#[test]
fn a_message_that_is_too_large_for_a_node_is_a_hole_and_the_node_goes_on() {
    let mut rig = Rig::start(&[BODY_BYTES_MAX, 16 * BODY_BYTES_MAX]);
    rig.append(0, 1);
    rig.settle();
    let now = rig.now();
    rig.nodes[1].post_text(2, "x".repeat(8 * BODY_BYTES_MAX), now);
    rig.settle();
    rig.append(1, 3);
    rig.settle();
    rig.append(0, 4);
    rig.settle();
    assert_eq!(rig.contents(0), ["3", "4"]);
    let contents = rig.contents(1);
    assert_eq!((contents.len(), contents[0], contents[2]), (4, "1", "3"));
    // The seqs of both are the same.
    let log = &rig.nodes[0].log;
    assert_eq!(log.frames[0], rig.nodes[1].log.frames[2]);
    assert_eq!(log.frames[1], rig.nodes[1].log.frames[3]);
}

/// A fail-over to an engine that has more of an earlier epoch than was carried over.
#[test]
fn a_node_that_joins_passes_over_entries_that_another_history_has_replaced() {
    let mut rig = Rig::start(&[BODY_BYTES_MAX; 2]);
    for number in 1..=3 {
        rig.append_and_acknowledge(0, number);
    }
    rig.settle();
    // The second node does not read these.
    for number in 4..=5 {
        rig.append_and_acknowledge(0, number);
    }
    rig.engine.replicate();
    rig.engine.flush();
    rig.begin(1);
    rig.append_and_acknowledge(1, 6);
    rig.settle();
    rig.engine.fail_over();
    rig.settle();
    rig.join(BODY_BYTES_MAX);
    for index in 0..3 {
        let contents = rig.contents(index);
        assert_eq!(contents, ["1", "2", "3", "6", "4", "5"], "node {index}");
    }
    let seqs = rig.engine.ids().into_iter().map(|id| id.seq);
    assert_eq!(seqs.filter(|seq| *seq == 4).count(), 2, "one is replaced");
}

/// Every node waits for an entry that none can read. One of them has to begin an epoch nevertheless.
#[test]
fn an_epoch_begins_although_the_last_entry_was_removed_before_a_node_has_read_it() {
    let mut rig = Rig::start(&[BODY_BYTES_MAX; 2]);
    rig.append(0, 1);
    rig.engine.delete_entry(0);
    rig.engine.restart();
    rig.settle();
    for index in 0..2 {
        assert_eq!(rig.contents(index), ["1"], "node {index}");
    }
}

#[test]
fn a_node_joins_anew_if_the_beginning_of_an_epoch_was_removed_before_it_has_read_it() {
    let mut rig = Rig::start(&[BODY_BYTES_MAX; 2]);
    rig.append_and_acknowledge(0, 1);
    rig.settle();
    rig.engine.restart();
    rig.begin(0);
    rig.engine.delete_entry(0);
    rig.settle();
    rig.append_and_acknowledge(1, 2);
    rig.settle();
    for index in 0..2 {
        assert_eq!(rig.contents(index), ["1", "2"], "node {index}");
    }
}

/// The engine has forgotten everything. Another node, which holds more, fills it meanwhile.
#[test]
fn a_node_that_waits_before_it_fills_an_engine_takes_over_what_another_one_has_put_back() {
    let message = |nth: u128, content: &str| Message {
        id: MessageId::from_u128(nth),
        timestamp_ms: 1,
        session: None,
        content: content.into(),
        label: None,
        identity: None,
    };
    let engine = MemoryEngine::default();
    let (mut ring, _) = ring_in_memory(BODY_BYTES_MAX);
    ring.append(&message(999, "own")).unwrap();
    let found = ring.history();
    let of_other = (1..=200).map(|seq| (seq, Arc::new(message(seq.into(), "of the other"))));
    let of_other: Vec<(u64, Arc<Message>)> = of_other.collect();
    let mut waits = 0;
    let mut retry = |obstacle| {
        if matches!(obstacle, Obstacle::Empty) {
            waits += 1;
        }
        if waits == 3 {
            let mut other = engine.writer(Link::default());
            let seen = other.snapshot().unwrap();
            let history = Seed {
                lineage: &Lineage::new(Epoch(9)),
                is_shared: true,
                last_seq: 200,
                messages: &of_other,
            };
            // Only the first attempt finds it empty.
            log::seed(&mut *other, &seen, history, BODY_BYTES_MAX as u64, 5).unwrap();
        }
        Retry::Again
    };
    let started = start::join(
        &mut ring,
        found,
        &mut *engine.writer(Link::default()),
        &mut *engine.reader(Link::default()),
        FollowerSettings {
            messages_max: MESSAGES_MAX,
            body_bytes_max: BODY_BYTES_MAX as u64,
            log_bytes: 1_000_000,
        },
        &BusStats::new(Producer(1), now_at(1)),
        &mut retry,
    );
    let started = started.unwrap();
    assert_eq!((started.ring, waits), (RingFate::KeptAside, 3));
    assert_eq!(started.messages.len(), 200);
    let mut all = engine.messages().into_iter();
    assert!(all.all(|message| message.content != "own"));
    assert!(started.course.is_joined);
}

/// A request and its retry are under way on two nodes at the same time, and the answer to the first append is lost.
#[test]
fn a_retry_on_another_node_is_not_published() {
    let identified = || Draft {
        session: None,
        content: "once".into(),
        label: None,
        identity: Some(Arc::new(Identity {
            id: Some([1; 16]),
            tag: None,
            body: None,
            window_s: 3_600,
        })),
    };
    let mut rig = Rig::start(&[BODY_BYTES_MAX; 2]);
    let now = rig.now();
    for index in 0..2 {
        rig.nodes[index].post_draft(1 + index as u64, identified(), now);
    }
    rig.nodes[0].writer_link.fail(LinkFault::LostAnswer);
    rig.publish(0);
    let repeated = rig.publish(1);
    let (_, outcome) = &repeated.outcomes[0];
    let first = *outcome.as_ref().expect("a receipt");
    rig.settle();
    for index in 0..2 {
        let frames = &rig.nodes[index].log.frames;
        let shown: Vec<_> = frames.iter().map(|frame| frame.message).collect();
        assert_eq!(shown, [first], "node {index}");
    }
    // Also after a node has put back everything, and at a node that knows it from its own ring.
    rig.engine.flush();
    rig.begin(1);
    rig.settle();
    for index in 0..2 {
        let now = rig.now();
        let delivered = rig.nodes[index].post_draft(9, identified(), now);
        let outcomes = [
            delivered.outcomes,
            rig.publish(index).outcomes,
            rig.nodes[index].expire(now).outcomes,
        ];
        let outcome = outcomes.iter().flatten().next().expect("an outcome");
        assert_eq!(outcome.1.as_ref().ok(), Some(&first), "node {index}");
    }
    rig.settle();
    assert_eq!(rig.contents(0), ["once"]);
}
