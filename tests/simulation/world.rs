//! All there is: the node, its clients, the network and the disk, and what happens to them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use crossbeam_channel::bounded;
use fastrand::Rng;
use hookcast::clock::Now;
use hookcast::hub::NotStored;
use hookcast::limits::{
    ACCEPT_RETRY_MS, CLOCK_SET_BACK_MS_MAX, DRAIN_LEAST_MS, DRAIN_SPREAD_PERCENT, HISTORY_MESSAGES,
};
use hookcast::live_log::SharedHistory;
use hookcast::message::{Message, MessageId, SessionId};
use hookcast::metrics::Counter;
use hookcast::shard::HandoverConnection;
use hookcast::shard::turn::Command;
use hookcast::testkit::MemoryMedium;

use super::client::{Client, NOWHERE, RETRY_SLACK_MS};
use super::coverage;
use super::kernel::{Kernel, Link, SimSocket};
use super::model::{Crash, Fate, Model, SESSIONS, session_name};
use super::node::{Node, Started};
use super::operation::{Action, Operation, Profile, pick};
use super::poller::{Fuse, Listening, SimCommand, Successor};
use super::request::{self, Request, Resumption, Setting};

/// The wall clock at the start: some day in 2023.
const UNIX_MS: u64 = 1_700_000_000_000;

/// Clients that ask for the history at once: more than a turn answers where messages are large.
pub const POLLERS_MAX: usize = 16;

/// A bound no run of the network comes near.
const ALL: usize = usize::MAX;

#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
pub struct World {
    pub profile: Profile,
    setting: Setting,
    pub kernel: Rc<Kernel>,
    medium: MemoryMedium,
    pub model: Model,
    pub node: Node,
    pub clients: Vec<Client>,
    /// None when the node accepts no more.
    pub listeners: Vec<Listening>,
    /// Connections that were handed over to the next process.
    pub in_transit: Vec<HandoverConnection<SimSocket>>,
    /// The kernel refuses to poll the next socket.
    pub fails_add: bool,
    /// All shards have said that nothing of them needs the ring.
    pub is_held: bool,
    clients_ever: usize,
    pub mono_ms: u64,
    /// What the wall clock is ahead of the monotonic one.
    wall_ahead_ms: u64,
    pub rng: Rng,
    resumptions: Vec<Resumption>,
    /// The ring's storage has been told to fail.
    pub ring_is_failing: bool,
    pub ring_failed_ms: Option<u64>,
    /// A commit has failed, and none succeeded since: the ring may hold what was refused.
    pub is_disk_failing: bool,
    /// Messages before this one are on disk.
    durable_seq: u64,
    /// The times of the wall clock at which webhooks were accepted.
    pub accepted_ms: BTreeSet<u64>,
    /// The ring's file has been cut or removed, and no message stored since.
    pub ring_is_cut: bool,
    /// Clients whose streams were ended in an orderly way.
    pub ended: Vec<usize>,
}

impl World {
    pub fn new(profile: &Profile) -> World {
        let kernel = Kernel::new(profile.mischief, profile.call_us);
        let medium = MemoryMedium::default();
        let now = Now {
            mono_ms: 0,
            mono_us: 0,
            unix_ms: UNIX_MS,
        };
        let Started {
            node,
            epoch,
            first_seq,
            ..
        } = Node::start(&medium, profile, now);
        let mut model = Model::default();
        model.start(epoch, first_seq);
        World {
            profile: profile.clone(),
            setting: Setting {
                has_secret: profile.has_secret,
                is_fanned_out: profile.fanout_life_ms.is_some(),
                body_bytes_max: profile.body_bytes_max,
                message_bytes_usual: profile.message_bytes_usual,
            },
            kernel,
            medium,
            model,
            node,
            clients: Vec::new(),
            listeners: listen(profile),
            in_transit: Vec::new(),
            fails_add: false,
            is_held: false,
            clients_ever: 0,
            mono_ms: 0,
            wall_ahead_ms: UNIX_MS,
            rng: Rng::with_seed(0),
            resumptions: Vec::new(),
            ring_is_failing: false,
            ring_failed_ms: None,
            is_disk_failing: false,
            durable_seq: 0,
            accepted_ms: BTreeSet::new(),
            ring_is_cut: false,
            ended: Vec::new(),
        }
    }

    /// Lets everything happen, and then the end. `step` tells how far it has come.
    pub fn run(&mut self, operations: &[Operation], step: &Cell<usize>) {
        for (number, operation) in operations.iter().enumerate() {
            step.set(number);
            self.reseed(operation.salt);
            let pause_ms = self.rng.u64(0..=self.profile.step_ms_max);
            self.pass(pause_ms);
            self.apply(operation.action);
        }
        step.set(operations.len());
        self.reseed(operations.len() as u64);
        self.finish();
    }

    pub fn now(&self) -> Now {
        self.kernel.now(self.wall_ahead_ms)
    }

    /// What a turn reads the time from.
    pub fn clock(&self) -> impl Fn() -> Now + use<> {
        let (kernel, wall_ahead_ms) = (Rc::clone(&self.kernel), self.wall_ahead_ms);
        move || kernel.now(wall_ahead_ms)
    }

    /// Now and then, the network moves between two steps of a turn.
    pub fn stir(&mut self) {
        if !self.clients.is_empty() && self.kernel.is_mischievous() {
            let place = self.kernel.up_to(self.clients.len() - 1);
            self.clients[place].link.borrow_mut().stir();
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: u64) {
        self.mono_ms += ms;
        self.kernel.now_ms.set(self.mono_ms);
    }

    fn reseed(&mut self, salt: u64) {
        self.rng = Rng::with_seed(salt);
        self.kernel.reseed(!salt);
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Connect => self.connect(),
            Action::Crowd => self.gather_crowd(),
            Action::Scatter => self.scatter(),
            Action::Abandon => self.abandon(),
            Action::Ask => self.ask(),
            Action::Pipeline => self.pipeline(),
            Action::Poll => self.poll(),
            Action::Deliver => {
                let most = self.some_bytes();
                self.with_client(|client| client.link.borrow_mut().deliver(most));
            }
            Action::Take => {
                let most = self.some_bytes();
                self.with_client(|client| client.link.borrow_mut().take(most));
            }
            Action::Pause => {
                self.with_client(|client| client.link.borrow_mut().client_reads ^= true);
            }
            Action::HalfClose => self.with_client(|client| client.link.borrow_mut().half_close()),
            Action::Close => self.with_client(|client| client.link.borrow_mut().close()),
            Action::Reset => self.with_client(|client| client.link.borrow_mut().reset()),
            Action::Nudge => self.nudge(),
            Action::Turn => self.turn_somewhere(),
            Action::Commit => {
                self.commit();
            }
            Action::Share => self.share(),
            Action::Settle => self.settle(),
            Action::Rest => {
                let heartbeat_ms = self.profile.heartbeat_ms;
                let ms = *pick(&mut self.rng, &[0, 1, 2, 3, 12]) * heartbeat_ms + 50;
                // Often as long as it takes streams of a short life to end by themselves.
                let lives_ms = self.profile.fanout_life_ms.map(|life_ms| life_ms + 1_100);
                let lives_ms = lives_ms.filter(|ms| *ms < 10_000 && self.rng.bool());
                self.rest(lives_ms.unwrap_or(ms));
            }
            Action::Freeze => {
                let ms = *pick(&mut self.rng, &[30, 1500, 11_000, 31_000, 100_000]);
                self.pass(ms);
            }
            Action::SetClock => {
                let by_ms = *pick(&mut self.rng, &[1, 900, 3_600_000, 86_400_000]);
                if self.rng.bool() {
                    self.wall_ahead_ms += by_ms;
                } else {
                    self.wall_ahead_ms -= by_ms;
                    self.model.begins_anew |= by_ms > CLOCK_SET_BACK_MS_MAX;
                    // A ring in trouble is tried again by that clock, which may now take longer.
                    let in_trouble = |ms: u64| ms + RETRY_SLACK_MS >= self.mono_ms;
                    if self.ring_failed_ms.is_some_and(in_trouble) {
                        self.ring_failed_ms = Some(self.mono_ms);
                    }
                }
            }
            Action::Admit => self.admit(),
            Action::FailRing => {
                self.medium.fail_in(self.rng.u64(0..20));
                self.ring_is_failing = true;
            }
            Action::HealRing => self.heal_ring(),
            Action::CutRing => self.cut_ring(),
            Action::Kill => self.kill(),
            Action::LosePower => self.lose_power(),
            Action::Restart => self.restart(),
            Action::Hold => self.hold(),
        }
    }

    // Clients.

    fn connect(&mut self) {
        if let Some(mut client) = self.open() {
            let request = match self.rng.u8(..8) {
                0..=4 => self.draw_subscription(),
                5 | 6 => request::webhook(&mut self.rng, &self.setting, &mut self.model),
                _ => request::other(&mut self.rng, &self.setting),
            };
            client.ask(request, &mut self.model);
            if self.rng.bool() {
                client.link.borrow_mut().deliver(ALL);
            }
            self.clients.push(client);
        }
    }

    fn gather_crowd(&mut self) {
        for _ in 0..self.rng.usize(0..=self.profile.clients_max) {
            let Some(mut client) = self.open() else {
                return;
            };
            client.ask(self.draw_subscription(), &mut self.model);
            client.link.borrow_mut().deliver(ALL);
            self.clients.push(client);
        }
    }

    fn scatter(&mut self) {
        let share = self.rng.u8(1..128);
        for client in &self.clients {
            if self.rng.u8(..) < share {
                client.link.borrow_mut().close();
            }
        }
    }

    fn nudge(&mut self) {
        if self.rng.u8(..8) > 0 {
            return self.with_client(|client| client.link.borrow_mut().nudge());
        }
        for client in &self.clients {
            client.link.borrow_mut().nudge();
        }
    }

    fn abandon(&mut self) {
        if let Some(client) = self.open() {
            self.fails_add = true;
            self.clients.push(client);
        }
    }

    /// A client connects: it stands in a listener's queue.
    fn open(&mut self) -> Option<Client> {
        self.open_beyond(0)
    }

    /// The same, with so many clients more than there usually are.
    fn open_beyond(&mut self, more: usize) -> Option<Client> {
        if self.clients.len() >= self.profile.clients_max + more || self.listeners.is_empty() {
            return None;
        }
        let most = self.profile.buffer_bytes_max;
        let (receive_max, send_max) = (self.rng.usize(32..=most), self.rng.usize(32..=most));
        let link = Link::new(&self.kernel, receive_max, send_max);
        link.borrow_mut().client_reads = self.rng.u8(..8) != 0;
        let listener = pick_mut(&mut self.rng, &mut self.listeners);
        listener.queue.push_back(Rc::clone(&link));
        listener.edge = true;
        self.clients_ever += 1;
        Some(Client::new(self.clients_ever, link))
    }

    /// The listening sockets are closed, and connections that were not accepted are reset.
    pub fn stop_listening(&mut self) {
        self.listeners.clear();
        let held: Vec<_> = self.in_transit.iter().map(|held| &held.socket.0).collect();
        let is_held = |client: &Client| held.iter().any(|link| Rc::ptr_eq(link, &client.link));
        let is_handed = |client: &Client| {
            let shards = self.node.shards.iter();
            let mut commands = shards.flat_map(|shard| &shard.commands);
            commands.any(|command| match command {
                Command::Connection(socket) | Command::TakeOver(socket, _) => {
                    Rc::ptr_eq(&socket.0, &client.link)
                }
                _ => false,
            })
        };
        self.clients
            .retain(|client| client.shard != NOWHERE || is_held(client) || is_handed(client));
    }

    fn draw_subscription(&mut self) -> Request {
        let comes_back = match self.resumptions.len() {
            0 => None,
            count if self.rng.bool() => Some(&self.resumptions[self.rng.usize(..count)]),
            _ => None,
        };
        request::subscription(&mut self.rng, &self.setting, &self.model, comes_back)
    }

    fn ask(&mut self) {
        let request = match self.rng.u8(..16) {
            0..=8 => request::webhook(&mut self.rng, &self.setting, &mut self.model),
            9..=12 => request::other(&mut self.rng, &self.setting),
            13 => request::bad(&mut self.rng, &self.setting),
            _ => self.draw_subscription(),
        };
        let (salt, goes_past) = (self.rng.u8(..), self.rng.u8(..8) == 0);
        let asks = |client: &Client| client.may_ask() && (goes_past || !client.is_terminal);
        let Some(place) = self.some_client(asks) else {
            return self.with_client(Client::lose_patience);
        };
        let client = &mut self.clients[place];
        if salt < 20 {
            client.send_empty_line();
        }
        client.ask(request, &mut self.model);
        if salt >= 128 {
            client.link.borrow_mut().deliver(ALL);
        }
    }

    fn pipeline(&mut self) {
        let Some(place) = self.some_client(|client| client.may_ask() && !client.is_terminal) else {
            return;
        };
        let is_plain = self.rng.u8(..3) == 0;
        for _ in 0..self.rng.usize(1..40) {
            if !self.clients[place].may_ask() {
                return;
            }
            let request = match self.rng.u8(..32) {
                _ if is_plain => request::status(),
                0..=15 => request::webhook(&mut self.rng, &self.setting, &mut self.model),
                16 => request::bad(&mut self.rng, &self.setting),
                _ => request::other(&mut self.rng, &self.setting),
            };
            self.clients[place].ask(request, &mut self.model);
        }
        if self.rng.bool() && !self.clients[place].is_terminal && self.clients[place].may_ask() {
            // A stream, and something behind it that nobody will answer.
            let request = self.draw_subscription();
            self.clients[place].ask(request, &mut self.model);
            for _ in 0..self.rng.usize(0..40) {
                self.clients[place].ask(request::status(), &mut self.model);
            }
        }
    }

    fn poll(&mut self) {
        for _ in 0..self.rng.usize(0..=POLLERS_MAX) {
            let Some(mut client) = self.open_beyond(POLLERS_MAX) else {
                return;
            };
            client.ask(request::history(), &mut self.model);
            client.link.borrow_mut().deliver(ALL);
            self.clients.push(client);
        }
    }

    fn some_client(&mut self, is_fit: impl Fn(&Client) -> bool) -> Option<usize> {
        let fit: Vec<usize> = (0..self.clients.len())
            .filter(|&place| is_fit(&self.clients[place]))
            .collect();
        (!fit.is_empty()).then(|| *pick(&mut self.rng, &fit))
    }

    fn with_client<T>(&mut self, act: impl FnOnce(&mut Client) -> T) {
        if let Some(place) = self.some_client(|_| true) {
            act(&mut self.clients[place]);
        }
    }

    fn some_bytes(&mut self) -> usize {
        *pick(&mut self.rng, &[1, 7, 100, 1000, 20_000, ALL])
    }

    /// What a client has seen when its connection ends: it may come back for the rest.
    pub fn remember(&mut self, client: &Client) {
        if let (Some(stream), Some(seq)) = (client.stream(), client.last_seq_taken()) {
            self.resumptions.push(Resumption {
                view: stream.spec.view,
                epoch: self.model.epoch.clone(),
                seq,
            });
        }
    }

    // Other nodes and the disk.

    /// Messages of other nodes, and their keys.
    fn draw_messages(&mut self) -> (Vec<Message>, Vec<usize>) {
        let is_flood = self.profile.is_flood;
        let most = *pick(&mut self.rng, if is_flood { &[100] } else { &[1, 5, 100] });
        let mut messages = Vec::new();
        let mut keys = Vec::new();
        for _ in 0..self.rng.usize(1..=most) {
            let usual = self.profile.message_bytes_usual;
            let bytes = self
                .rng
                .usize(if is_flood { usual..=usual } else { 1..=usual });
            let is_plain = is_flood || self.rng.bool();
            let session = self.rng.bool().then(|| self.rng.usize(..SESSIONS));
            let nth = self.model.offers.len() as u64;
            let id = MessageId::from_u64_pair(self.rng.u64(..), nth);
            let timestamp_ms = self.rng.u64(..UNIX_MS);
            let stamp = Some((id.to_string(), timestamp_ms));
            let key = self
                .model
                .offer(session, stamp, |key| request::filler(key, bytes, is_plain));
            let name = session.map(session_name).unwrap_or_default();
            messages.push(Message {
                id,
                timestamp_ms,
                session: SessionId::parse(&name).expect("a session's name fits"),
                content: self.model.offers[key].content.clone(),
            });
            keys.push(key);
        }
        (messages, keys)
    }

    fn admit(&mut self) {
        let (messages, keys) = self.draw_messages();
        let now = self.now();
        self.note_failing();
        let outcomes = self.node.admit(messages, now);
        if self.node.has_commits() {
            self.is_disk_failing |= self.ring_is_failing;
        }
        self.observe();
        assert_eq!(outcomes.len(), keys.len(), "an outcome for each message");
        for (key, outcome) in keys.into_iter().zip(outcomes) {
            let is_stored = matches!(self.model.offers[key].fate, Fate::Stored(_));
            assert_eq!(is_stored, outcome.is_ok(), "{outcome:?}");
            if !is_stored {
                self.model.offers[key].fate = match outcome {
                    Err(NotStored::Ring(_)) if self.node.has_commits() => Fate::Failed,
                    _ => Fate::Refused,
                };
            }
        }
    }

    /// The mirror says which messages are the history that several nodes share: most of the last
    /// ones, and some that came earlier.
    fn share(&mut self) {
        let head_seq = self.model.head_seq();
        let until_seq = head_seq - self.rng.u64(0..4).min(head_seq);
        let oldest = until_seq.saturating_sub(*pick(&mut self.rng, &[50, 103, 140]));
        let lacks = *pick(&mut self.rng, &[0, 1, 10, 128]);
        let known = oldest.max(self.model.first_seq())..until_seq;
        let mut seqs: Vec<u64> = known.filter(|_| self.rng.u8(..) >= lacks).collect();
        let surplus = seqs.len().saturating_sub(HISTORY_MESSAGES);
        seqs.drain(..surplus);
        let is_told = self
            .node
            .hub
            .set_shared_history(SharedHistory { seqs, until_seq });
        coverage::count("shared histories told", u64::from(is_told));
        self.observe();
    }

    /// Lets the model see what the hub has sent.
    pub fn observe(&mut self) {
        for batch in self.node.take_observed() {
            if batch.frames().next().is_none() {
                continue;
            }
            if self.ring_is_cut {
                // It was written anew first.
                self.durable_seq = self.model.head_seq();
                self.ring_is_cut = false;
            }
            self.model.store(&batch, &self.accepted_ms);
            if self.node.has_commits() {
                self.durable_seq = self.model.head_seq();
                self.is_disk_failing &= self.ring_is_failing;
            }
        }
    }

    fn heal_ring(&mut self) {
        self.medium.heal();
        self.ring_is_failing = false;
    }

    fn cut_ring(&mut self) {
        let bytes = self.medium.image().len();
        if self.rng.bool() && bytes > 0 {
            self.medium.truncate(self.rng.usize(..bytes));
        } else {
            self.medium.remove();
        }
        self.ring_is_cut = true;
        if self.rng.u8(..3) == 0 {
            // Nor can it be written anew.
            self.medium.fail_in(0);
            self.ring_is_failing = true;
        }
    }

    // The ends of processes.

    fn kill(&mut self) {
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
            "event ids outlive a kill"
        );
    }

    /// The process dies while it writes messages to its ring: some are there, and nobody has been
    /// told of any.
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

    /// The same in the middle of a commit.
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

    fn lose_power(&mut self) {
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

    /// All connections break. What the kernel still has of the server's bytes may arrive or not.
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
        self.fails_add = false;
        self.listeners = listen(&self.profile);
        let now = self.now();
        // What the dead process has done since is not seen: nobody was told of it.
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
            coverage::count("rings begun anew", 1);
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
        coverage::count("rings written anew", done);
        coverage::count("rings that could not be written anew", failed);
    }

    fn restart(&mut self) {
        self.drain(|| Command::Drain);
        self.start_again();
    }

    /// The ring is closed, and another process goes on with it.
    fn start_again(&mut self) {
        self.heal_ring();
        let now = self.now();
        self.node.close(now).expect("the ring is written");
        let epoch = self.model.epoch.clone();
        self.start();
        assert_eq!(self.model.epoch, epoch, "event ids outlive a restart");
    }

    /// The shards read no further request; then they go on, or hand over to a new process.
    fn hold(&mut self) {
        let (held, all_held) = bounded(self.node.shards.len());
        for shard in &mut self.node.shards {
            shard.tell(Command::Hold(held.clone()));
        }
        self.act(6);
        self.go_on();
        assert!(all_held.is_full(), "a hold is not answered");
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
                shard.tell(Command::Resume);
            }
            return self.settle();
        }
        self.drain(|| Command::HandOver(Successor));
        let connections = std::mem::take(&mut self.in_transit);
        self.start_again();
        for HandoverConnection { socket, bytes } in connections {
            let shard = pick_mut(&mut self.rng, &mut self.node.shards);
            shard.load += 1;
            shard.tell(Command::TakeOver(socket, bytes));
        }
        self.settle();
    }

    /// Clients, network and shards go on for a moment.
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

    /// Ends the node's shards by a command, with clients that go on meanwhile.
    fn drain(&mut self, command: impl Fn() -> SimCommand) {
        let drain_ms = self.profile.drain_ms.max(DRAIN_LEAST_MS);
        let well: Vec<usize> = self
            .clients
            .iter()
            .filter(|client| client.is_well() && !client.may_be_shared())
            .map(|client| client.number)
            .collect();
        self.ended.clear();
        for shard in &mut self.node.shards {
            shard.tell(command());
        }
        if self.rng.bool() {
            // Those who did not read have much to read now.
            for client in &self.clients {
                client.link.borrow_mut().client_reads = true;
            }
        }
        self.act(20);
        self.rest(drain_ms);
        let has_ended = |world: &World| {
            let shards = &world.node.shards;
            shards.iter().all(super::node::ShardNode::has_ended)
        };
        if !has_ended(self) {
            // Streams that were told late have their time for the last bytes from then on.
            self.rest(drain_ms - drain_ms * DRAIN_SPREAD_PERCENT / 100);
        }
        let is_kept = |client: &Client| client.shard != NOWHERE;
        assert!(
            has_ended(self) && !self.clients.iter().any(is_kept),
            "the drain is over, and not all is"
        );
        assert_eq!(self.clients.len(), self.in_transit.len());
        for number in well {
            assert!(
                self.ended.contains(&number),
                "client {number} was well and not told of the end"
            );
        }
    }

    /// The end: everybody gets what there is, and then either the clients leave or the node does.
    fn finish(&mut self) {
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
            "everybody takes everything, and the server waits"
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
        assert!(kept.is_empty(), "they have left and are kept: {kept:?}");
        self.count_lives();
    }
}

fn listen(profile: &Profile) -> Vec<Listening> {
    (0..profile.listeners)
        .map(|_| Listening::default())
        .collect()
}

fn pick_mut<'a, T>(rng: &mut Rng, choices: &'a mut [T]) -> &'a mut T {
    let index = rng.usize(..choices.len());
    &mut choices[index]
}
