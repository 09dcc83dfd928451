//! The world of one seed: nodes, writers, the KV, the virtual clock, and the checks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fastrand::Rng;
use hookcast::clock::Now;
use hookcast::hub::{RingView, StampRandom};
use hookcast::limits::{KV_AHEAD_MS_MAX, KV_WRITE_GAP_MS_MIN};
use hookcast::message::{Label, Message, MessageId};
use hookcast::mirror::core::Mirror;
use hookcast::mirror::entry::Entry;
use hookcast::mirror::merge::join;
use hookcast::mirror::reply::{Failure, FailureKind, Reply};
use hookcast::mirror::schedule::Pace;
use hookcast::mirror::value;

use crate::kv::{Kv, failure};
use crate::node::{Node, Phase};

/// Start of the virtual clock, UTC.
const BEGIN_UTC_MS: u64 = 1_800_000_000_000;
/// Length of the quiet phase. It includes a minute of stale reads, and two rounds of two minutes in which nodes
/// repair lost messages: two, because a repair may overwrite another. It ends with [`SILENT_MS`].
const QUIET_MS: u64 = 12 * 60_000;
/// Length of the time at the end in which no node may write.
const SILENT_MS: u64 = 3 * 60_000;

/// Counts of events in a run, or in all runs.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub steps: u64,
    messages: u64,
    writes: u64,
    overwrites: u64,
    lost_writes: u64,
    refused_writes: u64,
    failures: u64,
    restarts: u64,
    live: u64,
    repeats_after_restart: u64,
    converged_ms_max: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.messages += other.messages;
        self.writes += other.writes;
        self.overwrites += other.overwrites;
        self.lost_writes += other.lost_writes;
        self.refused_writes += other.refused_writes;
        self.failures += other.failures;
        self.restarts += other.restarts;
        self.live += other.live;
        self.repeats_after_restart += other.repeats_after_restart;
        self.converged_ms_max = self.converged_ms_max.max(other.converged_ms_max);
    }

    /// Fails if some kind of event never happened: the simulation would prove nothing.
    pub fn check_coverage(&self, seeds: u64) {
        if seeds < 500 {
            return;
        }
        for (what, count) in [
            ("messages", self.messages),
            ("writes", self.writes),
            ("overwrites", self.overwrites),
            ("lost writes", self.lost_writes),
            ("refused writes", self.refused_writes),
            ("failures", self.failures),
            ("restarts", self.restarts),
            ("live arrivals", self.live),
        ] {
            assert!(count >= seeds / 2, "only {count} {what} in {seeds} seeds");
        }
    }
}

/// Events that happen to nodes.
enum Event {
    Publish { node: usize },
    Restart { node: usize },
    SetClock { node: usize, by_ms: i64 },
    PagesRead { writer: usize },
    PagesWrite { value: Vec<u8> },
    Delete,
    Garbage,
}

pub struct World {
    rng: Rng,
    now_ms: u64,
    active_until_ms: u64,
    history_max: usize,
    pace: Pace,
    has_date: bool,
    fails: f64,
    kv: Kv,
    nodes: Vec<Node>,
    pages_skew_ms: i64,
    pages_content: usize,
    events: Vec<(u64, Event)>,
    /// Every message ever published, by id.
    all: HashSet<MessageId>,
    /// For messages of nodes: the node, and the number of earlier messages.
    published: HashMap<MessageId, (usize, usize)>,
    last_write_ms: u64,
    tally: Tally,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::with_seed(seed);
        let history_max = if rng.u8(..) < 4 {
            100
        } else {
            rng.usize(2..12)
        };
        let write_interval_ms = *pick(&mut rng, &[1_000, 5_000, 5_000, 20_000]);
        let pace = Pace {
            poll_ms: *pick(&mut rng, &[1_000, 5_000, 5_000, 30_000]),
            write_interval_ms,
        };
        let kv = Kv::new(*pick(&mut rng, &[0, 0, 2_000, 20_000, 60_000]));
        let nodes = (0..rng.usize(1..=5))
            .map(|_| {
                let skew_ms = match rng.u8(..8) {
                    0 => far_off(&mut rng),
                    1..=4 => rng.i64(-3_000..3_000),
                    _ => 0,
                };
                let content_bytes_max = if rng.u8(..8) == 0 { 30 } else { 1_000 };
                let mirror = Mirror::new(
                    pace,
                    history_max,
                    &RingView::default(),
                    now(0, skew_ms),
                    rng.fork(),
                );
                Node::new(mirror, history_max, skew_ms, content_bytes_max)
            })
            .collect();
        let mut world = World {
            now_ms: 0,
            active_until_ms: rng.u64(20_000..300_000),
            history_max,
            pace,
            has_date: rng.u8(..8) != 0,
            fails: if rng.bool() { 0.0 } else { rng.f64() * 0.5 },
            kv,
            nodes,
            pages_skew_ms: rng.i64(-2_000..2_000),
            pages_content: 0,
            events: Vec::new(),
            all: HashSet::new(),
            published: HashMap::new(),
            last_write_ms: 0,
            tally: Tally::default(),
            rng,
        };
        world.plan();
        world
    }

    /// Draws all events of the active phase.
    fn plan(&mut self) {
        let busy = self.rng.u64(1..80);
        let until_ms = self.active_until_ms;
        for _ in 0..busy {
            let at_ms = self.rng.u64(0..until_ms);
            let node = self.rng.usize(..self.nodes.len());
            // Sometimes a burst: many messages within a moment or a millisecond, perhaps more than a ring
            // holds.
            let gap_ms = if self.rng.bool() { 7 } else { 0 };
            let burst = if self.rng.u8(..10) == 0 {
                self.rng.u64(2..30)
            } else {
                1
            };
            for n in 0..burst {
                self.events
                    .push((at_ms + n * gap_ms, Event::Publish { node }));
            }
        }
        for _ in 0..self.rng.u64(..4) {
            let node = self.rng.usize(..self.nodes.len());
            self.events
                .push((self.rng.u64(0..until_ms), Event::Restart { node }));
        }
        for _ in 0..self.rng.u64(..4) {
            let node = self.rng.usize(..self.nodes.len());
            let by_ms = self.rng.i64(-5_000..5_000);
            let at_ms = self.rng.u64(0..until_ms);
            self.events.push((at_ms, Event::SetClock { node, by_ms }));
        }
        if self.rng.bool() {
            for writer in 0..self.rng.usize(1..30) {
                self.events
                    .push((self.rng.u64(0..until_ms), Event::PagesRead { writer }));
            }
        }
        if self.rng.u8(..10) == 0 {
            self.events.push((self.rng.u64(0..until_ms), Event::Delete));
        }
        if self.rng.u8(..10) == 0 {
            let at_ms = self.rng.u64(0..until_ms);
            self.events.push((at_ms, Event::Garbage));
            self.events
                .push((at_ms + self.rng.u64(0..until_ms - at_ms), Event::Delete));
        }
    }

    pub fn run(mut self) -> Tally {
        while self.now_ms < self.active_until_ms {
            self.step(self.active_until_ms);
        }
        self.begin_quiet();
        let must_hold = self.must_hold();
        let quiet_until_ms = self.now_ms + QUIET_MS;
        while self.now_ms < quiet_until_ms {
            self.step(quiet_until_ms);
        }
        self.check_converged(&must_hold, quiet_until_ms);
        for node in &self.nodes {
            self.tally.live += node.admitted;
            self.tally.repeats_after_restart += node.repeats_after_restart;
        }
        self.tally
    }

    /// The start of the quiet phase: nodes come up, calls succeed, and an operator removes values that are not
    /// a history.
    fn begin_quiet(&mut self) {
        self.events.clear();
        self.fails = 0.0;
        for index in 0..self.nodes.len() {
            if self.nodes[index].is_down() {
                self.nodes[index].phase = Phase::Down {
                    until_ms: self.now_ms,
                };
            }
        }
        if value::parse(self.kv.latest(), 400, &|all| all).is_err() {
            self.kv.write(self.now_ms, None);
        }
    }

    /// Runs the next event or the next node's turn, or advances the clock.
    fn step(&mut self, until_ms: u64) {
        self.tally.steps += 1;
        let event = (0..self.events.len()).min_by_key(|index| self.events[*index].0);
        let event_ms = event.map_or(u64::MAX, |index| self.events[index].0);
        let node = (0..self.nodes.len())
            .min_by_key(|index| self.nodes[*index].next_ms())
            .expect("there is a node");
        let node_ms = self.nodes[node].next_ms();
        let next_ms = event_ms.min(node_ms).max(self.now_ms);
        if next_ms >= until_ms {
            self.now_ms = until_ms;
            return;
        }
        self.now_ms = next_ms;
        match event.filter(|_| event_ms <= node_ms) {
            Some(index) => {
                let (_, event) = self.events.swap_remove(index);
                self.happen(event);
            }
            None => self.act(node),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Publish { node } if !self.nodes[node].is_down() => self.publish(node),
            Event::Publish { .. } => {}
            Event::Restart { node } => {
                self.tally.restarts += 1;
                let until_ms = self.now_ms + self.rng.u64(1..60_000);
                self.nodes[node].phase = Phase::Down { until_ms };
            }
            Event::SetClock { node, by_ms } => self.nodes[node].skew_ms += by_ms,
            Event::PagesRead { writer } => self.pages_append(writer),
            Event::PagesWrite { value } => self.kv.write(self.now_ms, Some(value)),
            Event::Delete => self.kv.write(self.now_ms, None),
            Event::Garbage => self.kv.write(self.now_ms, Some(b"{\"oops\":".to_vec())),
        }
    }

    fn publish(&mut self, index: usize) {
        let mut random = StampRandom::default();
        self.rng.fill(&mut random);
        let node = &mut self.nodes[index];
        let unix_ms = now(self.now_ms, node.skew_ms).unix_ms;
        let stamp = node.stamps.next(unix_ms, random);
        let message = self.message(stamp.id, stamp.timestamp_ms, label_of(stamp.id));
        if self.nodes[index].can_hold(&message) {
            self.tally.messages += 1;
            self.published
                .insert(message.id, (index, self.published.len()));
            self.nodes[index].publish(message);
        }
    }

    fn message(
        &mut self,
        id: MessageId,
        timestamp_ms: u64,
        label: Option<Arc<Label>>,
    ) -> Arc<Message> {
        assert!(self.all.insert(id));
        let content = "x".repeat(self.rng.usize(1..60));
        Arc::new(Message {
            id,
            timestamp_ms,
            session: None,
            content,
            label,
            identity: None,
        })
    }

    /// A write of the Pages app: it reads, appends, cuts and writes, with time in between.
    fn pages_append(&mut self, writer: usize) {
        let read = self.kv.read(self.now_ms, &mut self.rng);
        let mut list: Vec<serde_json::Value> = match read.as_deref().map(serde_json::from_slice) {
            None => Vec::new(),
            Some(Ok(list)) => list,
            Some(Err(_)) => return,
        };
        self.pages_content += 1;
        match self.rng.u8(..20) {
            0 => {
                list.push(
                    serde_json::json!({ "id": writer, "content": "no uuid", "timestamp": 1 }),
                );
            }
            1 => list.push(serde_json::json!("not even an object")),
            2 => {
                // More entries than fit.
                let first = list.first().cloned();
                list.extend(std::iter::repeat_n(first, self.history_max * 5).flatten());
            }
            kind => {
                let far_ms = KV_AHEAD_MS_MAX.cast_signed();
                let skew_ms = match kind {
                    3 => far_ms * 100,
                    4 => far_ms + self.rng.i64(0..60_000),
                    _ => self.pages_skew_ms,
                };
                let id = MessageId::from_u128(self.rng.u128(..));
                let message = self.message(id, now(self.now_ms, skew_ms).unix_ms, None);
                list.push(serde_json::json!({
                    "id": message.id.to_string(), "content": message.content, "timestamp": message.timestamp_ms,
                    "by": "pages",
                }));
            }
        }
        if self.rng.u8(..10) != 0 {
            list.drain(..list.len().saturating_sub(self.history_max));
        }
        let value = serde_json::to_vec(&list).expect("values are JSON");
        self.events.push((
            self.now_ms + self.rng.u64(1..500),
            Event::PagesWrite { value },
        ));
    }

    /// A node's turn.
    fn act(&mut self, index: usize) {
        let now = self.nodes[index].now(self.now_ms, utc(self.now_ms));
        let later_ms = self.now_ms + self.latency_ms();
        let phase = std::mem::replace(&mut self.nodes[index].phase, Phase::Idle);
        let node = &mut self.nodes[index];
        match phase {
            Phase::Down { .. } => node.restart(self.pace, now, self.rng.fork()),
            Phase::Idle => {
                node.mirror.begin_read(now);
                node.phase = Phase::ReadSent { at_ms: later_ms };
            }
            Phase::ReadSent { .. } => {
                let value = if self.rng.f64() < self.fails {
                    self.tally.failures += 1;
                    Err(failure(&mut self.rng))
                } else {
                    Ok(self.kv.read(self.now_ms, &mut self.rng))
                };
                node.phase = Phase::ReadAnswered {
                    at_ms: later_ms,
                    value,
                };
            }
            Phase::ReadAnswered { value, .. } => self.take_read(index, value, later_ms),
            Phase::WriteSent { value, .. } => {
                let result = self.take_write(value);
                self.nodes[index].phase = Phase::WriteAnswered {
                    at_ms: later_ms,
                    result,
                };
            }
            Phase::WriteAnswered { result, .. } => {
                if result
                    .as_ref()
                    .is_err_and(|failure| failure.kind == FailureKind::RateLimited)
                {
                    // It was not a write.
                    node.last_write_ms = node.write_before_ms;
                }
                let reply = self.reply(result);
                self.nodes[index].mirror.handle_write(now, &reply);
            }
        }
    }

    fn take_read(&mut self, index: usize, value: Result<Option<Vec<u8>>, Failure>, later_ms: u64) {
        let reply = self.reply(value);
        let node = &mut self.nodes[index];
        let now = node.now(self.now_ms, utc(self.now_ms));
        let ring = node.ring();
        let news = node.mirror.handle_read(now, reply, &ring);
        for some in news.chunks((self.history_max / 2).max(1)) {
            // Webhooks may arrive between the read of the ring and the arrivals.
            if self.now_ms < self.active_until_ms && self.rng.u8(..4) == 0 {
                for _ in 0..self.rng.usize(1..4).min(self.history_max.div_ceil(2)) {
                    self.publish(index);
                }
            }
            let refuses = self.fails > 0.0 && self.rng.u8(..20) == 0;
            let taken = if refuses {
                self.rng.usize(..some.len())
            } else {
                some.len()
            };
            self.nodes[index].admit(now, &some[..taken]);
            if refuses {
                break;
            }
        }
        let node = &mut self.nodes[index];
        node.take_shared_history();
        let ids: HashSet<MessageId> = node
            .ring()
            .messages
            .iter()
            .map(|message| message.id)
            .collect();
        assert_eq!(
            ids.len(),
            node.ring().messages.len(),
            "a ring holds a message twice"
        );
        assert!(ids.is_subset(&self.all), "a ring holds what is no message");
        for message in &node.ring().messages {
            let is_own = self.published.contains_key(&message.id);
            let label = label_of(message.id).filter(|_| is_own);
            assert_eq!(message.label, label, "a label was lost on the way");
        }

        if let Some(value) = node.mirror.begin_write(now) {
            if let Some(last_ms) = node.last_write_ms {
                let gap_ms = self.pace.write_interval_ms.max(KV_WRITE_GAP_MS_MIN);
                assert!(
                    self.now_ms - last_ms >= gap_ms,
                    "two writes within the interval"
                );
            }
            let before_ms = node.last_write_ms.replace(self.now_ms);
            node.write_before_ms = before_ms;
            node.phase = Phase::WriteSent {
                at_ms: later_ms,
                value,
            };
        }
    }

    /// Writes to KV. The result may be wrong: a successful write may be lost, and a failed one may be stored.
    fn take_write(&mut self, value: Vec<u8>) -> Result<(), Failure> {
        self.tally.writes += 1;
        self.last_write_ms = self.now_ms;
        if !self.kv.takes_write(self.now_ms) {
            self.tally.refused_writes += 1;
            let detail = "one write a second".to_owned();
            return Err(Failure {
                kind: FailureKind::RateLimited,
                retry_after_ms: None,
                detail,
            });
        }
        if self.rng.f64() < self.fails {
            self.tally.failures += 1;
            if self.rng.bool() {
                self.kv.write(self.now_ms, Some(value));
            }
            return Err(failure(&mut self.rng));
        }
        if self.rng.f64() < self.fails {
            self.tally.lost_writes += 1;
            return Ok(());
        }
        let before = value::parse(self.kv.latest(), 400, &|all| all).unwrap_or_default();
        let after = value::parse(Some(&value), 400, &|all| all).expect("a mirror writes a list");
        let both = before
            .entries
            .into_iter()
            .chain(after.entries.iter().cloned());
        let both = join(both, self.history_max, self.horizon_ms());
        self.tally.overwrites += u64::from(both != after.entries);
        self.kv.write(self.now_ms, Some(value));
        Ok(())
    }

    fn reply<T>(&self, result: Result<T, Failure>) -> Reply<T> {
        let date_ms = self.has_date.then(|| utc(self.now_ms) / 1000 * 1000);
        Reply { result, date_ms }
    }

    fn latency_ms(&mut self) -> u64 {
        match self.rng.u8(..20) {
            0 if self.fails > 0.0 => self.rng.u64(..10_000),
            _ => self.rng.u64(..150),
        }
    }

    /// The latest time that counts as plausible now.
    fn horizon_ms(&self) -> u64 {
        if self.has_date {
            utc(self.now_ms) + KV_AHEAD_MS_MAX
        } else {
            u64::MAX
        }
    }

    /// Entries that the shared history must hold once publishing has stopped: those of all rings, and all that
    /// a node knows. A message from the future may lose its place before its time is plausible.
    fn must_hold(&self) -> Vec<Entry> {
        let horizon_ms = self.horizon_ms();
        let rings = self
            .nodes
            .iter()
            .flat_map(|node| node.ring().messages)
            .filter_map(|message| Entry::of(&message));
        let known = self.nodes.iter().filter(|node| !node.is_down());
        rings
            .chain(known.flat_map(|node| node.mirror.history().to_vec()))
            .filter(|entry| entry.is_first_class(horizon_ms))
            .collect()
    }

    fn check_converged(&mut self, must_hold: &[Entry], end_ms: u64) {
        let horizon_ms = self.horizon_ms();
        let history = self.nodes[0].mirror.history().to_vec();
        assert!(history.is_sorted_by(|a, b| a.rank(b, horizon_ms).is_lt()));
        assert!(history.len() <= self.history_max);

        // Nodes and KV agree.
        for node in &self.nodes {
            assert_eq!(node.mirror.history(), history, "nodes differ");
        }
        let stored = value::parse(self.kv.latest(), 400, &|all| all).expect("KV holds a list");
        assert_eq!(stored.entries, history, "KV differs");

        // The history is complete.
        let of_both = must_hold.iter().chain(&history).cloned();
        let ids = |entries: &[Entry]| entries.iter().map(Entry::id).collect::<Vec<_>>();
        let expected = join(of_both, self.history_max, horizon_ms);
        assert_eq!(ids(&history), ids(&expected), "a message is missing");

        // The messages of each node are in its order.
        for node in 0..self.nodes.len() {
            let published = history.iter().filter_map(Entry::id).filter_map(|id| {
                let (by, place) = self.published.get(&id)?;
                (*by == node).then_some(*place)
            });
            assert!(published.is_sorted(), "out of the order of publishing");
        }

        // Every node and every new stream show it.
        for node in &self.nodes {
            let replay = node.replay();
            let replay = replay.iter().filter_map(|message| Entry::of(message));
            let mut replay: Vec<Entry> = replay.collect();
            for message in history.iter().filter_map(Entry::to_message) {
                assert!(
                    node.was_shown(message.id) || !node.can_hold(&message),
                    "never shown"
                );
            }
            let held = history
                .iter()
                .filter(|entry| entry.to_message().is_some_and(|m| node.can_hold(&m)));
            let held: Vec<Option<MessageId>> = held.map(Entry::id).collect();
            replay.sort_by(|a, b| a.rank(b, horizon_ms));
            // If the history has fewer messages, or some cannot be shown, others fill the replay.
            let newest = &replay[replay.len() - held.len().min(replay.len())..];
            assert_eq!(ids(newest), held, "a new stream is shown another history");
            assert_eq!(node.mirror.lag(&node.ring()), 0);
        }

        // No node writes any more.
        let quiet_since_ms = end_ms - QUIET_MS;
        assert!(
            self.last_write_ms < end_ms - SILENT_MS,
            "still writing at the end"
        );
        self.tally.converged_ms_max = self.last_write_ms.saturating_sub(quiet_since_ms);
    }
}

/// The label of a message that a node publishes: every third is one of a source.
fn label_of(id: MessageId) -> Option<Arc<Label>> {
    let number = id.as_u128();
    let label = Label::new("hub", &format!("event.{}", number % 100)).map(Arc::new);
    label.filter(|_| number.is_multiple_of(3))
}

fn utc(now_ms: u64) -> u64 {
    BEGIN_UTC_MS + now_ms
}

fn now(mono_ms: u64, skew_ms: i64) -> Now {
    let unix_ms = utc(mono_ms).saturating_add_signed(skew_ms);
    Now {
        mono_ms,
        mono_us: mono_ms * 1000,
        unix_ms,
    }
}

/// A wrong clock whose messages do not become plausible within the run: they would then move in the history,
/// which costs another write.
fn far_off(rng: &mut Rng) -> i64 {
    match rng.u8(..3) {
        0 => rng.i64(-3_600_000..0),
        1 => rng.i64(0..KV_AHEAD_MS_MAX.cast_signed() - 10_000),
        _ => rng.i64(1_800_000..3_600_000),
    }
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
