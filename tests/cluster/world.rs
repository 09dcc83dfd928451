//! The nodes, the engine and the clients of one seed, and what happens to them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use fastrand::Rng;
use hookcast::bus::start::RingFate;
use hookcast::clock::Now;
use hookcast::testkit::{LinkFault, MemoryEngine, MemoryMedium, now_at};

use super::client::Client;
use super::judge::Judge;
use super::node::{self, Delivered, Node};

const NODES: usize = 3;
const CLIENTS: usize = 4;
const STEPS: usize = 400;
/// So that a replay has every message of a run.
const POSTS_MAX: u64 = 75;

/// What has happened in all seeds.
static COVERAGE: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

fn count(what: &'static str, number: u64) {
    *COVERAGE.lock().unwrap().entry(what).or_default() += number;
}

/// Prints what has happened. Fails if something never has.
pub fn report() {
    let coverage = COVERAGE.lock().unwrap();
    for (what, number) in &*coverage {
        println!("{number:9} {what}");
    }
    for what in EXPECTED {
        assert!(coverage.contains_key(what), "never: {what}");
    }
}

const EXPECTED: [&str; 16] = [
    "cold starts",
    "failed disks",
    "acknowledged",
    "refused",
    "in doubt",
    "fail-overs",
    "restarts",
    "flushes",
    "lost logs",
    "lost records",
    "kills",
    "resets",
    "late calls",
    "replays",
    "streams of several sessions",
    "ends of tokens",
];

#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one run"
)]
struct World {
    rng: Rng,
    is_loud: bool,
    now_ms: u64,
    engine: MemoryEngine,
    media: Vec<MemoryMedium>,
    nodes: Vec<Option<Node>>,
    clients: Vec<Client>,
    judge: Judge,
    posts: u64,
    producers: u64,
    syncs: bool,
    /// Two losses at a time may take what was acknowledged: the next waits until the nodes have settled.
    is_fragile: bool,
    /// Another program has changed the log.
    is_tampered: bool,
    may_tamper: bool,
}

/// Runs a seed.
pub fn run(seed: u64, is_loud: bool) {
    let mut world = World::new(seed, is_loud);
    for _ in 0..STEPS {
        world.step();
    }
    world.settle_all();
    world.judge_the_end();
}

/// Clients have a generator of their own, so the nodes of a seed behave as without them.
fn clients(seed: u64) -> Vec<Client> {
    let mut own = Rng::with_seed(!seed);
    (0..CLIENTS)
        .map(|place| Client::new(place, &mut own))
        .collect()
}

impl World {
    fn new(seed: u64, is_loud: bool) -> World {
        let mut rng = Rng::with_seed(seed);
        let mut world = World {
            syncs: rng.bool(),
            may_tamper: rng.u8(..8) == 0,
            rng,
            is_loud,
            now_ms: 1,
            engine: MemoryEngine::default(),
            media: (0..NODES).map(|_| MemoryMedium::default()).collect(),
            nodes: (0..NODES).map(|_| None).collect(),
            clients: clients(seed),
            judge: Judge::default(),
            posts: 0,
            producers: 0,
            is_fragile: false,
            is_tampered: false,
        };
        world.engine.set_time(world.now().unix_ms);
        world.fill_first_ring();
        for index in 0..NODES {
            world.start(index);
        }
        world
    }

    /// The first node may have a history from the time before the bus: the bus begins with it.
    fn fill_first_ring(&mut self) {
        for content in node::fill_ring(&self.media[0], self.rng.usize(..20)) {
            self.judge.acknowledged.insert(content);
        }
    }

    fn say(&self, what: impl Fn() -> String) {
        if self.is_loud {
            println!("{:6} {}", self.now_ms, what());
        }
    }

    fn now(&self) -> Now {
        now_at(self.now_ms)
    }

    fn start(&mut self, index: usize) {
        self.producers += 1;
        let obstacles = self.rng.u32(1..4);
        let (medium, engine) = (&self.media[index], &self.engine);
        let now = self.now();
        let node = Node::start(medium, engine, self.producers, self.syncs, obstacles, now);
        self.say(|| format!("node {index} starts: {:?}", node.fate));
        count("starts alone", u64::from(node.fate == RingFate::Alone));
        for frame in &node.log.frames {
            self.judge.note_frame(frame);
        }
        self.nodes[index] = Some(node);
    }

    fn step(&mut self) {
        let index = self.rng.usize(..NODES);
        match self.rng.u8(..100) {
            0..25 => self.post(index),
            25..45 => self.on(index, "publishes", Node::publish),
            45..65 => self.on(index, "follows", Node::follow),
            65..70 => self.on(index, "expires", Node::expire),
            70..76 => self.pass(200),
            76 => self.pass(3_000),
            77..82 => self.break_link(index),
            82..86 => self.engine.replicate(),
            86..88 => {
                self.say(|| "late calls are executed".into());
                self.engine.execute_late();
            }
            88..93 => self.move_client(),
            93..95 => self.settle(),
            95..98 => self.lose(),
            98 if self.rng.bool() => self.break_disk(index),
            98 if self.rng.bool() => self.start_all_anew(),
            98 => self.kill(index),
            _ => self.tamper(),
        }
        self.reconnect();
    }

    fn pass(&mut self, ms_max: u64) {
        self.now_ms += self.rng.u64(1..=ms_max);
        self.engine.set_time(self.now().unix_ms);
    }

    fn post(&mut self, index: usize) {
        if self.posts == POSTS_MAX {
            return;
        }
        self.posts += 1;
        let (number, now) = (self.posts, self.now());
        self.say(|| format!("node {index} gets {number}"));
        self.with(index, |node| node.post(number, now));
    }

    fn on(&mut self, index: usize, what: &str, step: impl Fn(&mut Node, Now) -> Delivered) {
        self.say(|| format!("node {index} {what}"));
        let now = self.now();
        self.with(index, |node| step(node, now));
    }

    /// Steps a node, and gives what it delivers to judge and clients.
    fn with(&mut self, index: usize, step: impl FnOnce(&mut Node) -> Delivered) {
        let Some(node) = &mut self.nodes[index] else {
            return;
        };
        let delivered = step(node);
        if delivered.is_reset {
            count("resets", 1);
            self.say(|| format!("node {index} resets"));
        }
        for frame in &delivered.frames {
            self.say(|| format!("node {index} shows {} as {}", frame.content, frame.id));
            self.judge.note_frame(frame);
        }
        let clients = self.clients.iter_mut();
        for client in clients.filter(|client| client.node == Some(index)) {
            let log = self.nodes[index].as_mut().map(|node| &mut node.log);
            match log {
                Some(log) if !delivered.is_reset => {
                    client.read(log);
                }
                log => client.disconnect(log),
            }
        }
        for outcome in delivered.outcomes {
            self.say(|| format!("node {index}: {outcome:?}"));
            self.judge.note_outcome(outcome);
        }
    }

    fn break_link(&mut self, index: usize) {
        let faults = [
            LinkFault::Refused,
            LinkFault::LostCall,
            LinkFault::LostAnswer,
            LinkFault::Late,
            LinkFault::Full,
        ];
        let fault = faults[self.rng.usize(..faults.len())];
        let Some(node) = &self.nodes[index] else {
            return;
        };
        let is_writer = self.rng.bool();
        self.say(|| format!("node {index}: {fault:?} of its writer: {is_writer}"));
        count("late calls", u64::from(fault == LinkFault::Late));
        for _ in 0..self.rng.u8(1..4) {
            if is_writer {
                node.writer_link.fail(fault);
            } else {
                node.reader_link.fail(fault);
            }
        }
    }

    /// The disk of a node fails after some operations, until the nodes settle.
    fn break_disk(&mut self, index: usize) {
        let operations = self.rng.u64(..40);
        self.say(|| format!("the disk of node {index} fails after {operations} operations"));
        count("failed disks", 1);
        self.media[index].fail_in(operations);
    }

    fn heal_disks(&self) {
        self.media.iter().for_each(MemoryMedium::heal);
    }

    fn move_client(&mut self) {
        let client = self.rng.usize(..CLIENTS);
        self.disconnect(client);
    }

    fn disconnect(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let node = client.node.and_then(|index| self.nodes[index].as_mut());
        client.disconnect(node.map(|node| &mut node.log));
    }

    /// Ends the streams whose token has ended.
    fn end_tokens(&mut self) {
        for client in 0..CLIENTS {
            if self.clients[client].is_expired(self.now_ms) {
                self.say(|| format!("the token of client {client} ends"));
                count("ends of tokens", 1);
                self.disconnect(client);
            }
        }
    }

    /// Connects clients that are not, each to a random node.
    fn reconnect(&mut self) {
        self.end_tokens();
        for client in &mut self.clients {
            let index = self.rng.usize(..NODES);
            if client.node.is_none()
                && let Some(node) = &mut self.nodes[index]
            {
                client.connect(index, &mut node.log, self.now_ms);
                if client.node.is_some() && client.sessions.len() > 1 {
                    count("streams of several sessions", 1);
                }
            }
        }
    }

    /// The engine forgets something, or may have.
    fn lose(&mut self) {
        if self.is_fragile {
            return;
        }
        self.is_fragile = true;
        let what = match self.rng.u8(..6) {
            0 | 1 => {
                self.engine.fail_over();
                "fail-overs"
            }
            2 => {
                self.engine.restart();
                "restarts"
            }
            3 => {
                self.engine.flush();
                "flushes"
            }
            4 => {
                self.engine.delete_log();
                "lost logs"
            }
            _ => {
                self.engine.delete_record();
                "lost records"
            }
        };
        self.say(|| {
            let ids = self.engine.ids();
            let ends = (ids.first(), ids.last());
            format!("the engine: {what}; {} entries: {ends:?}", ids.len())
        });
        count(what, 1);
    }

    /// Kills a node, and starts it again on its ring.
    fn kill(&mut self, index: usize) {
        if self.is_fragile {
            return;
        }
        self.is_fragile = true;
        self.heal_disks();
        self.say(|| format!("node {index} is killed"));
        count("kills", 1);
        for client in 0..CLIENTS {
            if self.clients[client].node == Some(index) {
                self.disconnect(client);
            }
        }
        if let Some(node) = self.nodes[index].take() {
            node.kill();
        }
        self.start(index);
    }

    /// All nodes end, the engine loses its tail meanwhile, and all start again.
    fn start_all_anew(&mut self) {
        if self.is_fragile {
            return;
        }
        self.settle();
        if !self.is_settled() {
            return;
        }
        self.say(|| "all end, and the engine fails over".into());
        count("cold starts", 1);
        self.is_fragile = true;
        (0..CLIENTS).for_each(|client| self.disconnect(client));
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.kill();
        }
        self.engine.fail_over();
        (0..NODES).for_each(|index| self.start(index));
    }

    fn tamper(&mut self) {
        if !self.may_tamper {
            return;
        }
        self.is_tampered = true;
        self.clients
            .iter_mut()
            .for_each(|client| client.is_lenient = true);
        if self.rng.bool() {
            self.say(|| "a foreign entry".into());
            self.engine.append_foreign();
        } else {
            let back = self.rng.usize(..5);
            self.say(|| format!("the entry {back} before the last is removed"));
            self.engine.delete_entry(back);
        }
    }

    /// Lets all nodes work until they have nothing to do.
    fn settle(&mut self) {
        self.heal_disks();
        for _ in 0..30 {
            if self.is_settled() {
                self.is_fragile = false;
                return;
            }
            self.round();
        }
    }

    fn round(&mut self) {
        for index in 0..NODES {
            self.on(index, "publishes", Node::publish);
            self.on(index, "follows", Node::follow);
            self.on(index, "expires", Node::expire);
        }
        self.pass(100);
    }

    fn is_settled(&self) -> bool {
        let nodes = self.nodes.iter().flatten();
        nodes.clone().count() == NODES
            && nodes
                .clone()
                .all(|node| node.is_settled(&self.engine, self.is_tampered))
    }

    fn settle_all(&mut self) {
        for node in self.nodes.iter().flatten() {
            node.writer_link.heal();
            node.reader_link.heal();
        }
        self.heal_disks();
        self.say(|| "all is healed".into());
        // A node may notice only now that another program has removed what it waits for.
        let mut quiet_rounds = 0;
        for _ in 0..300 {
            self.round();
            // The ring of a disk that failed is written anew after ever longer times.
            self.pass(500);
            self.reconnect();
            let mut nodes = self.nodes.iter().flatten();
            let is_quiet = self.is_settled() && nodes.all(|node| node.hub.outgoing() == 0);
            quiet_rounds = if is_quiet { quiet_rounds + 1 } else { 0 };
            if quiet_rounds == 6 {
                break;
            }
        }
        let standings: Vec<String> = self.nodes.iter().flatten().map(Node::standing).collect();
        assert!(
            self.is_settled(),
            "the nodes do not settle; the engine is at {:?}, seq {:?}: {standings:#?}",
            self.engine.epoch(),
            self.engine.last_seq()
        );
        for _ in 0..100 {
            self.pass(100);
            self.reconnect();
        }
    }

    fn judge_the_end(&mut self) {
        let histories: Vec<Vec<String>> = self
            .nodes
            .iter()
            .flatten()
            .map(|node| {
                node.log
                    .frames
                    .iter()
                    .map(|frame| frame.content.clone())
                    .collect()
            })
            .collect();
        let shortest = histories.iter().map(Vec::len).min().unwrap_or(0);
        for history in &histories {
            let once: HashSet<&String> = history.iter().collect();
            let is_once = once.len() == history.len() || self.is_tampered;
            assert!(is_once, "a message is twice in {history:?}");
            if self.is_tampered {
                continue;
            }
            let tail = |history: &Vec<String>| history[history.len() - shortest..].to_vec();
            assert_eq!(tail(history), tail(&histories[0]), "the nodes differ");
        }
        count("acknowledged", self.judge.acknowledged.len() as u64);
        count("refused", self.judge.refusals() as u64);
        count("in doubt", self.judge.in_doubt);
        count(
            "replays",
            self.clients.iter().map(|client| client.replays).sum(),
        );
        if self.is_tampered {
            return;
        }
        for content in &self.judge.acknowledged {
            for history in &histories {
                assert!(
                    history.contains(content),
                    "{content} was acknowledged and is lost"
                );
            }
            for client in &self.clients {
                assert!(client.node.is_some(), "a client cannot connect");
                assert!(!client.has_gap, "a gap");
                let is_seen = client.seen.contains(content);
                let may_see = node::is_visible(content, &client.sessions);
                assert_eq!(is_seen, may_see, "{content} at {:?}", client.sessions);
            }
        }
    }
}
