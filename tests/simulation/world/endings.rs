//! The ends of processes, and the starts after them: kills, power failures, restarts, handovers.

use crossbeam_channel::bounded;
use hookcast::limits::{ACCEPT_RETRY_MS, DRAIN_LEAST_MS, DRAIN_SPREAD_PERCENT};
use hookcast::metrics::Counter;
use hookcast::shard::HandoverConnection;
use hookcast::shard::poller::Command;

use super::super::client::{Client, NOWHERE};
use super::super::coverage;
use super::super::model::Crash;
use super::super::node::{Node, ShardNode, Started};
use super::super::operation::{Action, pick};
use super::super::poller::{Fuse, SimCommand, Successor};
use super::{ALL, World, listen, pick_mut};

impl World {
    pub fn kill(&mut self) {
        let index = self.rng.usize(..self.node.shards.len());
        if self.rng.bool() {
            let most = *pick(&mut self.rng, &[3, 30, 300]);
            let steps = self.rng.usize(0..=most);
            self.run_turn(index, Fuse::Steps(steps));
        } else {
            self.append_in_part(index);
        }
        self.lose_clients();
        let epoch = self.model.epoch.clone();
        let was_cut = self.ring_is_cut;
        self.start();
        assert!(
            was_cut || self.model.epoch == epoch,
            "the epoch changed in a kill"
        );
    }

    /// Kills the process while it writes messages to the ring. Some are stored, and none was
    /// acknowledged or delivered.
    fn append_in_part(&mut self, index: usize) {
        if self.node.has_commits() {
            return self.commit_in_part(index);
        }
        self.medium.freeze_in(self.rng.u64(0..20));
        coverage::count("kills in an append", 1);
        if !self.run_turn(index, Fuse::Published).is_killed {
            let now = self.now();
            let (messages, _) = self.draw_messages();
            self.node.admit(messages, now);
        }
    }

    /// As [`append_in_part`](World::append_in_part), in the middle of a commit.
    fn commit_in_part(&mut self, index: usize) {
        self.run_turn(index, Fuse::Published);
        self.node.is_dying = true;
        let most = *pick(&mut self.rng, &[10, 50, 700]);
        self.medium.freeze_in(self.rng.u64(0..most));
        self.is_disk_failing |= self.ring_is_failing;
        let now = self.now();
        if self.rng.bool() || !self.node.commit(now) {
            let (messages, _) = self.draw_messages();
            self.node.admit(messages, now);
        }
        coverage::count("ends in the middle of a commit", 1);
    }

    pub fn lose_power(&mut self) {
        if self.ring_is_cut {
            return;
        }
        if self.node.has_commits() && self.rng.bool() {
            let index = self.rng.usize(..self.node.shards.len());
            self.commit_in_part(index);
        }
        self.lose_clients();
        let is_late = self.rng.bool();
        let rng = &mut self.rng;
        self.medium.lose_power(|_, writes| {
            if is_late {
                writes
            } else {
                rng.usize(0..=writes)
            }
        });
        self.start();
    }

    /// Breaks all connections. Bytes in the server's send buffers may still arrive or not.
    fn lose_clients(&mut self) {
        for client in std::mem::take(&mut self.clients) {
            if self.rng.bool() {
                client.link.borrow_mut().take(ALL);
            }
            self.remember(&client);
        }
        self.in_transit.clear();
    }

    fn start(&mut self) {
        self.heal_ring();
        self.is_held = false;
        self.key = 0;
        self.fails_add = false;
        self.listeners = listen(&self.profile);
        let now = self.now();
        // Messages that the old process stored since the last `observe` were neither acknowledged
        // nor delivered.
        let Started {
            node,
            epoch,
            first_seq,
            history,
        } = Node::start(&self.medium, &self.profile, now);
        self.count_lives();
        self.node = node;
        let crash = Crash {
            durable_seq: if self.ring_is_cut {
                0
            } else {
                self.durable_seq
            },
            is_disk_failing: self.is_disk_failing,
        };
        if epoch == self.model.epoch {
            coverage::count("rings recovered", 1);
            self.model.check_recovered(first_seq, &history, crash);
        } else {
            coverage::count("rings under a new epoch", 1);
            self.model.restart(epoch, first_seq, &history, crash);
        }
        self.ring_is_cut = false;
        self.is_disk_failing = false;
        self.durable_seq = self.model.head_seq();
    }

    fn count_lives(&self) {
        for node in &self.node.shards {
            coverage::count_all(&node.metrics);
            coverage::count("messages evicted", node.log.evicted);
        }
        let errors = self.node.metrics.total(Counter::RingSyncErrors);
        coverage::count("commits that the disk failed", errors);
        let [done, failed] = self.node.repairs();
        coverage::count("rings rewritten", done);
        coverage::count("rings that could not be rewritten", failed);
    }

    pub fn restart(&mut self) {
        self.drain(|| Command::Drain);
        self.start_again();
    }

    /// Closes the ring and starts another process on it.
    fn start_again(&mut self) {
        self.heal_ring();
        let now = self.now();
        self.node.close(now).expect("the ring is written");
        let epoch = self.model.epoch.clone();
        self.start();
        assert_eq!(self.model.epoch, epoch, "the epoch changed in a restart");
    }

    /// Holds the shards: they read no further request. Then they resume, or hand over to a new
    /// process.
    pub fn hold(&mut self) {
        let (held, all_held) = bounded(self.node.shards.len());
        for shard in &mut self.node.shards {
            shard.send(Command::Hold(held.clone()));
        }
        self.act(6);
        for index in 0..self.node.shards.len() {
            self.run_turn(index, Fuse::Never);
        }
        assert!(
            !(all_held.is_full() && self.may_verdicts_publish()),
            "a hold is acknowledged before the verdicts"
        );
        self.go_on();
        assert!(all_held.is_full(), "a hold is not acknowledged");
        self.is_held = true;
        coverage::count("holds", 1);
        for _ in 0..self.rng.usize(0..3) {
            self.act(6);
            let ms = *pick(&mut self.rng, &[1, 100, 3000, 11_000]);
            self.pass(ms);
            self.go_on();
        }
        if self.rng.bool() {
            self.is_held = false;
            for shard in &mut self.node.shards {
                shard.send(Command::Resume);
            }
            return self.settle();
        }
        self.drain(|| Command::HandOver(Successor));
        let connections = std::mem::take(&mut self.in_transit);
        self.start_again();
        for HandoverConnection { socket, bytes } in connections {
            let shard = pick_mut(&mut self.rng, &mut self.node.shards);
            shard.load += 1;
            shard.send(Command::TakeOver(socket, bytes));
        }
        self.settle();
    }

    /// Applies a few operations of clients, network and shards.
    fn act(&mut self, actions_max: usize) {
        for _ in 0..self.rng.usize(0..actions_max) {
            let action = *pick(
                &mut self.rng,
                &[
                    Action::Ask,
                    Action::Deliver,
                    Action::Take,
                    Action::Turn,
                    Action::Turn,
                ],
            );
            self.apply(action);
        }
    }

    /// Ends the node's shards by a command. Clients continue meanwhile.
    fn drain(&mut self, command: impl Fn() -> SimCommand) {
        let drain_ms = self.profile.drain_ms.max(DRAIN_LEAST_MS);
        let healthy: Vec<usize> = self
            .clients
            .iter()
            .filter(|client| client.is_healthy() && !client.may_be_shared() && !client.has_token())
            .map(|client| client.number)
            .collect();
        self.ended.clear();
        for shard in &mut self.node.shards {
            shard.send(command());
        }
        if self.rng.bool() {
            // Clients that had paused now have much to read.
            for client in &self.clients {
                client.link.borrow_mut().client_reads = true;
            }
        }
        self.act(20);
        self.rest(drain_ms);
        let has_ended = |world: &World| {
            let shards = &world.node.shards;
            shards.iter().all(ShardNode::has_ended)
        };
        if !has_ended(self) {
            // Streams that ended late still have time for their last bytes.
            self.rest(drain_ms - drain_ms * DRAIN_SPREAD_PERCENT / 100);
        }
        let is_kept = |client: &Client| client.shard != NOWHERE;
        assert!(
            has_ended(self) && !self.clients.iter().any(is_kept),
            "the drain is over, and connections are left"
        );
        assert_eq!(self.clients.len(), self.in_transit.len());
        for number in healthy {
            assert!(
                self.ended.contains(&number),
                "client {number} read everything and got no end of its stream"
            );
        }
    }

    /// Ends the run: all clients receive everything, then either the clients disconnect or the node
    /// is restarted.
    pub fn finish(&mut self) {
        self.heal_ring();
        for client in &self.clients {
            client.link.borrow_mut().client_reads = true;
        }
        self.settle();
        let is_waiting = self
            .clients
            .iter()
            .any(|client| client.link.borrow().is_short);
        assert!(
            !is_waiting,
            "clients take everything, and the server still has unsent bytes"
        );
        if self.rng.bool() {
            return self.restart();
        }
        for client in &self.clients {
            match self.rng.u8(..3) {
                0 => client.link.borrow_mut().half_close(),
                1 => client.link.borrow_mut().close(),
                _ => client.link.borrow_mut().reset(),
            }
        }
        self.settle();
        while self
            .listeners
            .iter()
            .any(|listener| !listener.queue.is_empty())
        {
            self.rest(ACCEPT_RETRY_MS);
        }
        let kept: Vec<String> = self.clients.iter().map(Client::describe).collect();
        assert!(
            kept.is_empty(),
            "connections are kept after their clients disconnected: {kept:?}"
        );
        self.count_lives();
    }
}
