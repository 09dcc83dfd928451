//! Turns of the shards, and the checks after each turn and on an idle node.

use std::collections::BTreeSet;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use hookcast::limits::{ACCEPT_RETRY_MS, REPLAY_COPY_BYTES_MAX};
use hookcast::metrics::{Counter, Gauge};
use hookcast::shard::{Holdings, Role};

use super::client::{Client, Surroundings};
use super::coverage;
use super::node::{Running, ShardNode};
use super::poller::{Fuse, Killed, Listening, SimPoller};
use super::stream::StreamCheck;
use super::world::{POLLERS_MAX, World};

/// Turns in a row that may do nothing, such as a sweep without a stream behind, or a tick.
const IDLE_TURNS_MAX: usize = 8;

/// The result of a turn.
pub struct Outcome {
    pub is_killed: bool,
    has_news: bool,
}

/// Most own bytes of a stream: its first events and some gaps, in a `Vec` that doubles.
const OWN_BYTES_MAX: usize = 2048;

impl World {
    pub fn turn_somewhere(&mut self) {
        let is_first = self.rng.u8(..) < self.profile.first_shard_bias;
        let index = if is_first {
            0
        } else {
            self.rng.usize(..self.node.shards.len())
        };
        if self.is_awake(index) {
            self.run_turn(index, Fuse::Never);
        }
    }

    /// Commits what waits for the disk. Returns whether there was something.
    pub fn commit(&mut self) -> bool {
        if self.node.has_commits() {
            self.note_failing();
        }
        let now = self.now();
        let has_committed = self.node.commit(now);
        if has_committed {
            coverage::count("commits", 1);
            self.is_disk_failing |= self.ring_is_failing;
            self.observe();
        }
        has_committed
    }

    pub fn note_failing(&mut self) {
        if self.ring_is_failing {
            self.ring_failed_ms = Some(self.mono_ms);
        }
    }

    fn is_awake(&self, index: usize) -> bool {
        let node = &self.node.shards[index];
        let has_event = |client: &Client| client.shard == index && client.link.borrow().has_event();
        let accepts = index == 0 && self.listeners.iter().any(|listener| listener.edge);
        let is_woken = node.is_awake(self.mono_ms) || accepts;
        !node.has_ended() && (is_woken || self.clients.iter().any(has_event))
    }

    /// Runs a poll and a turn of a shard, to its end or until the process is killed.
    pub fn run_turn(&mut self, index: usize, fuse: Fuse) -> Outcome {
        let mut outcome = Outcome {
            is_killed: false,
            has_news: false,
        };
        if self.node.shards[index].has_ended() {
            return outcome;
        }
        self.note_failing();
        self.node.shards[index].wake_up();
        coverage::count("turns", 1);
        let (hub, clock) = (Arc::clone(&self.node.hub), self.clock());
        let running = self.node.shards[index].running.take();
        let Running {
            mut shard,
            mut turns,
        } = running.expect("it is not in a turn");
        let progress = self.kernel.progress();
        let mut poller = SimPoller::new(self, index, &shard, fuse);
        poller.poll(&mut turns.priority, true);
        poller.poll(&mut turns.standard, false);
        let run = AssertUnwindSafe(|| turns.run(&mut poller, &mut shard, &hub, clock));
        if let Err(reason) = panic::catch_unwind(run) {
            if !reason.is::<Killed>() {
                panic::resume_unwind(reason);
            }
            coverage::count("kills in a turn", 1);
            outcome.is_killed = true;
            return outcome;
        }
        outcome.has_news = poller.has_news || self.kernel.progress() > progress;
        let accept_ms = self.accept_ms(index);
        let now = self.now();
        let node = &mut self.node.shards[index];
        node.running = Some(Running { shard, turns });
        node.clock_was_set = false;
        node.sleep(now, accept_ms);
        outcome
    }

    /// The time of a shard's next accept.
    fn accept_ms(&self, index: usize) -> Option<u64> {
        let listeners = self.listeners.iter().filter(|_| index == 0);
        listeners.filter_map(Listening::due_ms).min()
    }

    /// Checks what a shard has written, and the connections that it has closed.
    pub fn audit(&mut self, index: usize) {
        let unix_ms = self.now().unix_ms;
        let mut place = 0;
        while place < self.clients.len() {
            if self.clients[place].shard != index {
                place += 1;
                continue;
            }
            let mut around = Surroundings {
                model: &mut self.model,
                node: &self.node.shards[index],
                now_ms: self.mono_ms,
                unix_ms,
                settings: &self.node.settings,
                ring_failed_ms: self.ring_failed_ms,
                has_commits: self.profile.commit_messages_max.is_some(),
            };
            let client = &mut self.clients[place];
            client.absorb(&mut around);
            if !client.link.borrow().is_closed {
                place += 1;
                continue;
            }
            client.assert_closed_for_a_reason(&around);
            let client = self.clients.swap_remove(place);
            self.node.shards[index].gone.push(client.token);
            let stream = client.stream();
            self.node.shards[index].messages_past += stream.map_or(0, |stream| stream.messages);
            self.node.shards[index].copies_past += stream.map_or(0, |stream| stream.copies);
            if stream.is_some_and(StreamCheck::is_over) {
                self.ended.push(client.number);
            }
            self.remember(&client);
        }
    }

    /// Runs clients and shards until none has anything to do, then checks that every client has
    /// what it must have.
    pub fn settle(&mut self) {
        self.go_on();
        self.check_rest();
    }

    /// Runs clients and shards until none has anything to do.
    pub fn go_on(&mut self) {
        let mut idle_turns = 0;
        loop {
            let mut is_quiet = true;
            for client in &mut self.clients {
                is_quiet &= !client.go_on();
            }
            for index in 0..self.node.shards.len() {
                if self.is_awake(index) {
                    is_quiet = false;
                    let has_news = self.run_turn(index, Fuse::Never).has_news;
                    idle_turns = if has_news { 0 } else { idle_turns + 1 };
                    assert!(
                        idle_turns <= IDLE_TURNS_MAX,
                        "shard {index} runs and does nothing"
                    );
                }
            }
            if is_quiet {
                if self.judge() || self.commit() {
                    idle_turns = 0;
                    continue;
                }
                let waits = |node: &ShardNode| node.shard().has_drafts() && !node.has_ended();
                if !self.node.shards.iter().any(waits) {
                    break;
                }
                coverage::count("webhooks that waited for room", 1);
                // The inboxes had no room; the shard retries a little later.
                self.pass(1);
                idle_turns += 1;
            }
        }
    }

    /// Advances the time without operations, up to each deadline of the shards.
    pub fn rest(&mut self, ms: u64) {
        let end_ms = self.mono_ms + ms;
        self.settle();
        let before: Vec<(usize, u64)> = self
            .clients
            .iter()
            .filter(|c| c.is_healthy())
            .map(heartbeats_of)
            .collect();
        let start_ms = self.mono_ms;
        let mut wakes = 0;
        loop {
            let due_ms = self.node.shards.iter().filter_map(ShardNode::due_ms).min();
            let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= end_ms) else {
                break;
            };
            assert!(
                due_ms > self.mono_ms,
                "a shard that is at rest has a due deadline"
            );
            self.pass(due_ms - self.mono_ms);
            self.settle();
            wakes += 1;
        }
        self.pass(end_ms.saturating_sub(self.mono_ms));
        self.settle();
        assert!(
            wakes <= self.wakes_max(ms),
            "{wakes} wake-ups in {ms} ms of rest"
        );
        self.check_heartbeats(&before, self.mono_ms - start_ms);
    }

    /// Most wake-ups: heartbeats in as many phases as there are slots, eight deadline scans a
    /// second, and the phases of a drain.
    fn wakes_max(&self, ms: u64) -> u64 {
        let slots = (self.profile.clients_max + POLLERS_MAX) as u64;
        let per_shard = (ms / self.profile.heartbeat_ms + 2) * slots.min(128)
            + (ms / 1000 + 2) * 8
            + 2 * 128
            + ms / ACCEPT_RETRY_MS;
        self.node.shards.len() as u64 * per_shard
    }

    fn check_heartbeats(&self, before: &[(usize, u64)], ms: u64) {
        let expected = ms / self.profile.heartbeat_ms;
        for client in self.clients.iter().filter(|client| client.is_healthy()) {
            let (number, heartbeats) = heartbeats_of(client);
            if let Some((_, past)) = before.iter().find(|(known, _)| *known == number) {
                let count = heartbeats - past;
                let is_right = (expected.saturating_sub(1)..=expected + 1).contains(&count);
                assert!(
                    is_right,
                    "{count} heartbeats in {ms} ms: {}",
                    client.describe()
                );
            }
        }
    }

    fn check_rest(&mut self) {
        let unix_ms = self.now().unix_ms;
        for listener in &self.listeners {
            assert!(
                listener.queue.is_empty() || listener.is_postponed(),
                "connections are not accepted"
            );
        }
        for client in &self.clients {
            let Some(node) = self.node.shards.get(client.shard) else {
                continue;
            };
            let around = Surroundings {
                model: &mut self.model,
                node,
                now_ms: self.mono_ms,
                unix_ms,
                settings: &self.node.settings,
                ring_failed_ms: self.ring_failed_ms,
                has_commits: self.profile.commit_messages_max.is_some(),
            };
            client.assert_at_rest(&around);
        }
        for index in 0..self.node.shards.len() {
            self.check_shard(index);
        }
    }

    /// Checks the counts and the memory of a shard against its clients.
    fn check_shard(&self, index: usize) {
        let node = &self.node.shards[index];
        let own = || self.clients.iter().filter(|client| client.shard == index);
        let connections = own().count();
        assert_eq!(node.shard().connections(), connections, "connections");
        let level = |gauge| usize::try_from(node.metrics.level(gauge));
        assert_eq!(level(Gauge::Connections), Ok(connections));
        let standard = own().filter(|client| client.role == Role::Standard).count();
        assert_eq!(node.load, standard, "connections within the limit");
        assert_eq!(node.shard().surplus(), connections - standard, "surplus");

        let streams = own().filter(|client| client.is_streaming()).count();
        let streams_max = own().filter(|client| client.may_stream()).count();
        let counted = node.shard().streams();
        assert!(
            (streams..=streams_max).contains(&counted),
            "{counted} streams, not {streams}"
        );
        assert_eq!(level(Gauge::Streams), Ok(counted));
        if streams == streams_max {
            self.check_sessions(index);
        }

        let messages: u64 = own()
            .filter_map(Client::stream)
            .map(|stream| stream.messages)
            .sum();
        let copies: u64 = own()
            .filter_map(Client::stream)
            .map(|stream| stream.copies)
            .sum();
        let received = messages + node.messages_past;
        let copies = copies + node.copies_past;
        let deliveries = node.metrics.total(Counter::Deliveries);
        assert!(
            (received - copies..=received).contains(&deliveries),
            "{deliveries} deliveries instead of {received}, {copies} of them copies"
        );

        let is_short = |client: &&Client| client.link.borrow().is_short;
        let short_streams = own()
            .filter(|client| client.may_stream())
            .filter(is_short)
            .count();
        let short_answers = own()
            .filter(|client| !client.is_streaming())
            .filter(is_short)
            .count();
        let requesting = own().filter(|client| client.may_hold_reader()).count();
        let Holdings {
            exchanges,
            readers,
            answer_bytes,
            own_bytes,
        } = node.shard().holdings();
        assert!(
            readers <= requesting,
            "{readers} readers for {requesting} requests"
        );
        let unanswered = requesting + short_answers;
        assert!(
            exchanges <= unanswered,
            "{exchanges} exchanges for {unanswered} requests and answers"
        );
        assert!(
            answer_bytes == 0 || short_answers > 0,
            "{answer_bytes} bytes of answers"
        );
        assert!(
            own_bytes <= short_streams * self.own_bytes_max(),
            "{own_bytes} own bytes of {short_streams} streams"
        );
    }

    /// Most own bytes of a stream, with copies of the shared history if there is one.
    fn own_bytes_max(&self) -> usize {
        let copies = if self.profile.has_shared_history {
            2 * REPLAY_COPY_BYTES_MAX
        } else {
            0
        };
        OWN_BYTES_MAX + copies
    }

    fn check_sessions(&self, index: usize) {
        let node = &self.node.shards[index];
        let frames = node.log.tail_seq..node.log.head_seq();
        let mut sessions: BTreeSet<usize> = frames
            .filter_map(|seq| self.model.get(seq)?.session)
            .collect();
        for client in self
            .clients
            .iter()
            .filter(|c| c.shard == index && c.is_streaming())
        {
            sessions.extend(
                client
                    .stream()
                    .map(|stream| stream.spec.view.sessions())
                    .into_iter()
                    .flatten(),
            );
        }
        assert_eq!(node.shard().sessions(), sessions.len(), "sessions");
    }
}

fn heartbeats_of(client: &Client) -> (usize, u64) {
    (
        client.number,
        client.stream().map_or(0, |stream| stream.heartbeats),
    )
}
