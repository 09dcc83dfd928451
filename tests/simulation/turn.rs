//! Turns, and what is checked after each and when everything is at rest.

use hookcast::clock::Now;
use std::collections::BTreeSet;

use hookcast::limits::{HISTORY_TURN_BYTES, REPLAY_COPY_BYTES_MAX};
use hookcast::metrics::{Counter, Gauge};
use hookcast::shard::{Holdings, Readiness, Role};

use super::client::{Client, Surroundings};
use super::coverage;
use super::model::View;
use super::node::ShardNode;
use super::operation::pick;
use super::stream::StreamCheck;
use super::world::World;

/// The phases of a turn, in the order in which the reactor calls them.
const PHASES: usize = 8;

/// Those that come before the hub is given the webhooks of the turn.
pub const PHASES_BEFORE_PUBLISH: usize = 3;

/// Turns in a row that may come to nothing: a sweep that finds everybody served, a tick.
const IDLE_TURNS_MAX: usize = 8;

/// Most requests for the history that are gone on with in a turn.
const HISTORIES_MAX: usize = 8;

/// What a stream's first events, and some gaps behind them, take at most, as a `Vec` doubles.
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
            self.run_phases(index, PHASES);
        }
    }

    /// Makes one commit of what waits for the disk; whether there was something.
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
        !node.has_ended() && (node.is_awake(self.mono_ms) || self.clients.iter().any(has_event))
    }

    /// Runs a part of a turn, or all of it: what a process does before it is killed.
    pub fn run_in_part(&mut self, index: usize) {
        let phases = self.rng.usize(0..=PHASES);
        self.run_phases(index, phases);
    }

    /// Goes on with connections that have more to read, as many as there is time for: one at least.
    fn resume_some(&mut self, index: usize, now: Now) {
        let node = &mut self.node.shards[index];
        let unfinished = node.shard.unfinished();
        for _ in 0..unfinished.min(self.rng.usize(1..=unfinished.max(1))) {
            // One may end where another begins: noted one by one.
            let streams = node.shard.streams();
            node.shard.resume_next(now);
            node.note_subscribed(streams, now);
        }
    }

    /// Answers requests for the history that were put off or have waited, as many as there is time for.
    fn answer_some_histories(&mut self, index: usize, now: Now) {
        let mut bytes = 0;
        for _ in 0..self.rng.usize(1..=HISTORIES_MAX) {
            let node = &mut self.node.shards[index];
            let streams = node.shard.streams();
            let Some(made) = node.shard.answer_next_history(now) else {
                return;
            };
            node.note_subscribed(streams, now);
            bytes += made;
            if bytes >= HISTORY_TURN_BYTES {
                return;
            }
        }
    }

    /// Runs a turn up to a phase: a process may be killed behind any. Whether anything came of it.
    pub fn run_phases(&mut self, index: usize, phases: usize) -> bool {
        if self.node.shards[index].has_ended() {
            return false;
        }
        let now = self.now();
        self.note_failing();
        let progress = self.kernel.progress();
        let mut has_news = false;
        self.node.shards[index].wake_up();
        coverage::count("turns", 1);
        for phase in 0..phases {
            let streams = self.node.shards[index].shard.streams();
            match phase {
                0 | 4 => has_news |= self.node.shards[index].take_batches(),
                1 => has_news |= self.dispatch(index),
                2 => {
                    self.resume_some(index, now);
                    self.answer_some_histories(index, now);
                }
                3 => {
                    let node = &mut self.node;
                    self.accepted_ms.insert(now.unix_ms);
                    node.shards[index].shard.publish(&node.hub, now);
                    self.observe();
                }
                5 => has_news |= self.node.shards[index].shard.answer_webhooks(now) > 0,
                6 => self.node.shards[index].shard.tick(now),
                _ => {
                    let shard = &mut self.node.shards[index].shard;
                    shard.sweep(now);
                    shard.end_sweep(now);
                }
            }
            self.node.shards[index].note_subscribed(streams, now);
            self.audit(index);
        }
        if phases == PHASES {
            self.node.shards[index].sleep(now);
        }
        has_news || self.kernel.progress() > progress
    }

    /// Tells the shard what `epoll_wait(2)` would; in any order.
    fn dispatch(&mut self, index: usize) -> bool {
        let now = self.now();
        self.tell_of_the_gone(index);
        let start = self.rng.usize(..self.clients.len().max(1));
        let (before, after) = self.clients.split_at(start);
        let mut has_news = false;
        for client in after
            .iter()
            .chain(before)
            .filter(|client| client.shard == index)
        {
            let event = client.link.borrow_mut().take_event();
            if let Some(readiness) = event {
                let node = &mut self.node.shards[index];
                let streams = node.shard.streams();
                node.shard.ready(client.token, readiness, now);
                node.note_subscribed(streams, now);
                has_news = true;
            }
        }
        has_news
    }

    /// Now and then, news of a connection that is gone, and whose slot may have another.
    fn tell_of_the_gone(&mut self, index: usize) {
        let now = self.now();
        let node = &mut self.node.shards[index];
        if node.gone.is_empty() || self.rng.u8(..8) > 0 {
            return;
        }
        let token = *pick(&mut self.rng, &node.gone);
        let readiness = Readiness {
            readable: self.rng.bool(),
            writable: self.rng.bool(),
            hung_up: self.rng.bool(),
        };
        let progress = self.kernel.progress();
        node.shard.ready(token, readiness, now);
        assert_eq!(
            self.kernel.progress(),
            progress,
            "stale news are acted upon"
        );
    }

    /// Checks what a shard has written, and which connections it has let go of.
    pub fn audit(&mut self, index: usize) {
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

    /// Everybody goes on until nobody has anything to do; then everybody has to have got what is
    /// his.
    pub fn settle(&mut self) {
        let mut idle_turns = 0;
        loop {
            let mut is_quiet = true;
            for client in &mut self.clients {
                is_quiet &= !client.go_on();
            }
            for index in 0..self.node.shards.len() {
                if self.is_awake(index) {
                    is_quiet = false;
                    let has_come_to_something = self.run_phases(index, PHASES);
                    idle_turns = if has_come_to_something {
                        0
                    } else {
                        idle_turns + 1
                    };
                    assert!(
                        idle_turns <= IDLE_TURNS_MAX,
                        "shard {index} runs and does nothing"
                    );
                }
            }
            if is_quiet {
                if self.commit() {
                    idle_turns = 0;
                    continue;
                }
                let waits = |node: &ShardNode| node.shard.has_drafts() && !node.has_ended();
                if !self.node.shards.iter().any(waits) {
                    break;
                }
                coverage::count("webhooks that waited for room", 1);
                // The hub had no room; it is tried again a little later.
                self.pass(1);
                idle_turns += 1;
            }
        }
        self.check_rest();
    }

    /// Some time in which nothing happens but what the node itself has to do.
    pub fn rest(&mut self, ms: u64) {
        let end_ms = self.mono_ms + ms;
        self.settle();
        let before: Vec<(usize, u64)> = self
            .clients
            .iter()
            .filter(|c| c.is_well())
            .map(heartbeats_of)
            .collect();
        let start_ms = self.mono_ms;
        let mut wakes = 0;
        loop {
            let due_ms = self.node.shards.iter().filter_map(ShardNode::due_ms).min();
            let Some(due_ms) = due_ms.filter(|due_ms| *due_ms <= end_ms) else {
                break;
            };
            assert!(due_ms > self.mono_ms, "a shard that rests wants to run");
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

    /// Heartbeats for as many phases as there are slots, eight patrols a second, and the phases of
    /// a drain.
    fn wakes_max(&self, ms: u64) -> u64 {
        let slots = self.profile.clients_max as u64;
        let per_shard =
            (ms / self.profile.heartbeat_ms + 2) * slots.min(128) + (ms / 1000 + 2) * 8 + 2 * 128;
        self.node.shards.len() as u64 * per_shard
    }

    fn check_heartbeats(&self, before: &[(usize, u64)], ms: u64) {
        let expected = ms / self.profile.heartbeat_ms;
        for client in self.clients.iter().filter(|client| client.is_well()) {
            let (number, heartbeats) = heartbeats_of(client);
            if let Some((_, past)) = before.iter().find(|(known, _)| *known == number) {
                let count = heartbeats - past;
                let is_right = (expected.saturating_sub(1)..=expected + 1).contains(&count);
                assert!(
                    is_right,
                    "{count} heartbeats in {ms} ms for {}",
                    client.describe()
                );
            }
        }
    }

    fn check_rest(&mut self) {
        for client in &self.clients {
            let around = Surroundings {
                model: &mut self.model,
                node: &self.node.shards[client.shard],
                now_ms: self.mono_ms,
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

    /// What a shard holds is what its clients account for.
    fn check_shard(&self, index: usize) {
        let node = &self.node.shards[index];
        let own = || self.clients.iter().filter(|client| client.shard == index);
        let connections = own().count();
        assert_eq!(node.shard.connections(), connections, "connections");
        let level = |gauge| usize::try_from(node.metrics.level(gauge));
        assert_eq!(level(Gauge::Connections), Ok(connections));
        let guests = own().filter(|client| client.role == Role::Standard).count();
        assert_eq!(node.guests - node.standard_closed, guests, "guests");
        assert_eq!(node.shard.surplus(), connections - guests, "surplus");

        let streams = own().filter(|client| client.is_streaming()).count();
        let streams_max = own().filter(|client| client.may_stream()).count();
        let counted = node.shard.streams();
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
        let asking = own().filter(|client| client.may_hold_reader()).count();
        let Holdings {
            readers,
            answer_bytes,
            own_bytes,
        } = node.shard.holdings();
        assert!(readers <= asking, "{readers} readers for {asking} requests");
        assert!(
            answer_bytes == 0 || short_answers > 0,
            "{answer_bytes} bytes of answers"
        );
        assert!(
            own_bytes <= short_streams * self.own_bytes_max(),
            "{own_bytes} own bytes of {short_streams} streams"
        );
    }

    /// What a stream may hold: copies of the shared history as well, where there is one.
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
            if let Some(View::Session(session)) = client.stream().map(|stream| stream.spec.view) {
                sessions.insert(session);
            }
        }
        assert_eq!(node.shard.sessions(), sessions.len(), "sessions");
    }
}

fn heartbeats_of(client: &Client) -> (usize, u64) {
    (
        client.number,
        client.stream().map_or(0, |stream| stream.heartbeats),
    )
}
